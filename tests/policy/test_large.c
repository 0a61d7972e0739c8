/* Large values of a request are made when they are looked into; no rule can tell. The same request
 * is put compact and with so many blanks in every object and list that each counts as large. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>

#include "tests/policy/policy_help.h"

/* @ stands for nothing, or for 600 blanks. */
static const char request[] =
	"{\"action\":{@\"name\":\"tools/list\",\"properties\":{@\"o\":{@\"a\":1,\"b\":\"x\",\"c\":{@"
	"\"d\":[@1,[@2,{@\"e\":\"deep\"}]]},\"n\":null,\"f\":2.5,\"t\":true},\"l\":[@\"p\",null,\"q\","
	"\"r\"],\"m\":[@{@\"k\":1},{@\"k\":2},{@\"k\":3}],\"none\":{@},\"empty\":[@]}},\"resource\":{@"
	"\"type\":\"doc\",\"id\":\"d\"},\"context\":{@\"o\":{@\"a\":1}}}";

/* What a `when` finds; it says so itself. No @error: it returns true. */
static const struct {
	const char *why, *body, *error;
} rows[] = {
	{ "names",
	  "return q.args.o.a == 1 and q.args.o.b == 'x' and q.args.o.f == 2.5 and q.args.o.t",
	  NULL },
	{ "what is not there, and null", "return q.args.o.nothing == nil and q.args.o.n == nil",
	  NULL },
	{ "far down", "return q.args.o.c.d[2][2].e == 'deep' and q.args.o.c.d[2][1] == 2", NULL },
	{ "a list", "return #q.args.l == 3 and q.args.l[2] == 'q' and q.args.l[4] == nil", NULL },
	{ "its words",
	  "return has(q.args.l, 'r') and not has(q.args.l, 's') and str.join(q.args.l, '-') == 'p-q-r'",
	  NULL },
	{ "its words, of objects",
	  "return any(q.args.m, function(x) return x.k == 3 end) and all(q.args.m, function(x) return "
	  "x.k < 4 end)",
	  NULL },
	{ "walking a list",
	  "local s = '' for i, x in ipairs(q.args.l) do s = s .. i .. x end return s == "
	  "'1p2q3r'",
	  NULL },
	{ "walking a list by pairs",
	  "local s = '' for i, x in pairs(q.args.m) do s = s .. i .. x.k end return s == '112233'",
	  NULL },
	{ "walking names, in order",
	  "local s = '' for k, v in pairs(q.args.o) do s = s .. k .. ' ' .. type(v) .. ' ' end return "
	  "s == 'a number b string c table f number t boolean '",
	  NULL },
	{ "walking all of q",
	  "local n = 0 for k, v in pairs(q) do if type(v) == 'table' then for k, w in pairs(v) do n = n "
	  "+ 1 end end end return n == 11",
	  NULL },
	{ "what is in it",
	  "for k in pairs(q.args.none) do return false end for k in pairs(q.args.empty) "
	  "do return false end return #q.args.none == 0 and #q.args.empty == 0 and "
	  "#q.args.o == 0 and q.args.none.x == nil and q.args.empty[1] == nil",
	  NULL },
	{ "one and the same",
	  "local o = q.args.o return o == q.args.o and o.a == 1 and o == q.args.o and o ~= q.context.o",
	  NULL },
	{ "writing what is there",
	  "local o = q.args.o o.a = 5 return q.args.o.a == 5 and o.b == 'x'", NULL },
	{ "writing what is not there",
	  "local o = q.args.o o.new = 5 local n = 0 for k in pairs(o) do n = n + 1 end return n == 6 and "
	  "q.args.o.new == 5",
	  NULL },
	{ "taking away, unseen",
	  "local o, n = q.args.o, 0 o.a = nil for k in pairs(o) do n = n + 1 end return n == 4 and "
	  "q.args.o.a == nil",
	  NULL },
	{ "adding to a list",
	  "local l = q.args.l l[#l + 1] = 's' return #q.args.l == 4 and q.args.l[4] == 's' and l[1] == 'p'",
	  NULL },
	{ "no name at all", "local o, n = q.args.o o[n] = 1 return true",
	  "rules.lua:2: table index is nil" },
	{ "a name that is no number", "local o = q.args.o o[0/0] = 1 return true",
	  "rules.lua:2: table index is NaN" },
	{ "what is behind what is not there", "return q.args.o.nothing.x == 1",
	  "rules.lua:2: attempt to index a nil value (field 'nothing')" },
	{ "comparing", "return q.args.o < q.args.l",
	  "rules.lua:2: attempt to compare two table values" },
	{ "calling", "return q.args.o()",
	  "rules.lua:2: attempt to call a table value (field 'o')" },
	{ "adding", "return q.args.o + 1 == 2",
	  "rules.lua:2: attempt to perform arithmetic on a table value (field 'o')" },
	{ "as a text", "return q.args.o .. 'x' == 'x'",
	  "rules.lua:2: attempt to concatenate a table value (field 'o')" },
};

static const char *expand(const char *text, size_t blanks, struct arena *a)
{
	struct buf b;

	buf_in_arena(&b, a, 1 << 20);
	for (; *text; text++)
		for (size_t i = 0; i < (*text == '@' ? blanks : 1); i++)
			buf_char(&b, *text == '@' ? ' ' : *text);
	buf_char(&b, '\0');
	assert_true(buf_ok(&b));
	return b.p;
}

static void check_row(size_t i)
{
	static const size_t blanks[] = { 0, 600, 0, 100, 600, 600 };
	char source[2048];
	struct policy_set *set;
	struct policy_state *st;
	struct arena a;

	snprintf(source, sizeof(source),
		 "policy 'p' { permit 'a' { on = { action = 'tools/list' }, when = function(q)\n%s "
		 "end } }\n",
		 rows[i].body);
	set = policy_help_rules(source);
	st = policy_state_new(set, &mem_system, &clock_system, NULL);
	arena_init(&a, &mem_system, 4 << 20);
	for (size_t n = 0; n < ARRAY_LEN(blanks); n++, arena_reset(&a)) {
		struct policy_result r = policy_help_ask(st, expand(request, blanks[n], &a), &a);

		if (rows[i].error ? !strstr(r.error.n ? r.error.p : "", rows[i].error)
				  : r.decision != DECISION_PERMIT)
			fail_msg("%s, %zu blanks: %s (%.*s)", rows[i].why, blanks[n],
				 policy_help_text(&r, &a), STR_FMT(r.error));
	}
	policy_state_free(st);
	arena_clear(&a);
	shared_release(&set->shared);
}

static void no_rule_can_tell(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		check_row(i);
}

/* A rule about the path does not pay for the content; one that walks it has it whole. */
static void what_is_not_looked_at_is_not_made(void **state)
{
	struct policy_set *set = policy_help_rules(
		"policy 'p' { permit 'a' { on = { action = 'tools/list' }, when = function(q) return "
		"q.args.path == '/srv' end },\n"
		" permit 'b' { on = { action = 'tools/get' }, when = function(q) local n = 0 for _, m in "
		"ipairs(q.args.list) do n = n + m.n end return n == 499500 end } }");
	struct policy_help_alloc pool;
	struct policy_state *st;
	struct arena a;
	struct buf b;
	size_t before;

	(void)state;
	policy_help_alloc_init(&pool);
	st = policy_state_new(set, &pool.alloc, &clock_system, NULL);
	arena_init(&a, &mem_system, 8 << 20);
	assert_int_equal(policy_help_ask(st,
					 "{\"action\":{\"name\":\"tools/list\",\"properties\":{"
					 "\"path\":\"/srv\"}}}",
					 &a)
				 .decision,
			 DECISION_PERMIT);
	before = pool.peak;
	for (int walk = 0; walk < 2; walk++) {
		buf_in_arena(&b, &a, 1 << 20);
		buf_printf(
			&b,
			"{\"action\":{\"name\":\"tools/%s\",\"properties\":{\"path\":\"/srv\",\"list\":[",
			walk ? "get" : "list");
		for (int i = 0; i < 1000; i++)
			buf_printf(&b, "%s{\"n\":%d,\"text\":\"line %d of a text\"}", i ? "," : "",
				   i, i);
		buf_lit(&b, "]}}}");
		buf_char(&b, '\0');
		assert_int_equal(policy_help_ask(st, b.p, &a).decision, DECISION_PERMIT);
		if (!walk)
			assert_true(pool.peak <= before + 32 * 1024);
		else
			assert_true(pool.peak > before + 100 * 1024);
	}
	policy_state_free(st);
	arena_clear(&a);
	shared_release(&set->shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_rule_can_tell),
		cmocka_unit_test(what_is_not_looked_at_is_not_made),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
