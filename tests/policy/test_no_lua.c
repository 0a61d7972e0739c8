/* Rules without `when` are decided by `on` alone: Lua is not entered. Every way from C into Lua
 * code is counted: this program's lua_pcallk and lua_callk stand before the library's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>
#include <dlfcn.h>
#include <lua.h>

#include "tests/policy/policy_help.h"

static size_t calls;

typedef int pcallk_function(lua_State *, int, int, int, lua_KContext, lua_KFunction);
typedef void callk_function(lua_State *, int, int, lua_KContext, lua_KFunction);

static void *library(const char *name)
{
	void *f = dlsym(RTLD_NEXT, name);

	assert_non_null(f);
	return f;
}

int lua_pcallk(lua_State *L, int nargs, int nresults, int handler, lua_KContext ctx,
	       lua_KFunction k)
{
	union {
		void *p;
		pcallk_function *f;
	} real = { library("lua_pcallk") };

	calls++;
	return real.f(L, nargs, nresults, handler, ctx, k);
}

void lua_callk(lua_State *L, int nargs, int nresults, lua_KContext ctx, lua_KFunction k)
{
	union {
		void *p;
		callk_function *f;
	} real = { library("lua_callk") };

	calls++;
	real.f(L, nargs, nresults, ctx, k);
}

#define CALL(tool)                                                                     \
	"{\"subject\":{\"type\":\"agent\",\"id\":\"spiffe://e/a\"},\"agent\":{\"id\":" \
	"\"spiffe://e/a\",\"team\":\"finance\"},\"action\":{\"name\":\"tools/call\"}," \
	"\"resource\":{\"type\":\"tool\",\"id\":\"" tool "\"}}"

static const struct {
	const char *why, *rules, *answer;
	bool lua;
} cases[] = {
	{ "a permit", "permit \"a\" { on = { tool = \"ledger/query\" } }", "permit permitted p/a",
	  false },
	{ "an ask above it",
	  "permit \"a\" { on = { tool = \"ledger/query\" } }, ask \"b\" { on = { effect = \"read\" } }",
	  "ask approval_required p/b", false },
	{ "a deny by the agent's attribute",
	  "permit \"a\" { on = { tool = \"ledger/query\" } },"
	  "deny \"b\" { on = { agent = { team = \"finance\" } } }",
	  "deny denied p/b", false },
	{ "no rule", "permit \"a\" { on = { tool = \"payments/create\" } }", "deny no_rule",
	  false },
	{ "a when of a rule that does not apply",
	  "permit \"a\" { on = { tool = \"ledger/query\" } },"
	  "deny \"b\" { on = { tool = \"payments/create\" }, when = function(q) return q.now > 0 end }",
	  "permit permitted p/a", false },
	{ "a when behind a deny that decides",
	  "deny \"a\" { on = { tool = \"ledger/query\" } },"
	  "permit \"b\" { on = { tool = \"ledger/query\" }, when = function(q) return q.now > 0 end }",
	  "deny denied p/a", false },
	{ "a when that applies",
	  "permit \"b\" { on = { tool = \"ledger/query\" }, when = function(q) return q.now > 0 end }",
	  "permit permitted p/b", true },
};

static void on_alone_enters_no_lua(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, (size_t)1 << 20);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct policy_result r;
		struct policy_state *st;
		struct policy_set *set;
		char rules[1000];

		calls = 0;
		snprintf(rules, sizeof(rules), "policy \"p\" { %s }\n", cases[i].rules);
		set = policy_help_rules(rules);
		st = policy_state_new(set, &mem_system, &clock_system, NULL);
		assert_non_null(st);
		assert_true(calls > 0); /* loading counted: the counter works */
		arena_reset(&a);
		calls = 0;
		r = policy_help_ask(st, CALL("ledger/query"), &a);
		if (strcmp(policy_help_text(&r, &a), cases[i].answer) != 0 ||
		    (calls > 0) != cases[i].lua)
			fail_msg("%s: %s, with %zu calls into Lua", cases[i].why,
				 policy_help_text(&r, &a), calls);
		policy_state_free(st);
		shared_release(&set->shared);
	}
	arena_clear(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(on_alone_enters_no_lua) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
