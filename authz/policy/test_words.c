/* What a test file can say: test "name" { ... } or (function(t) ... end), and skip. */
#include <lauxlib.h>

#include "authz/policy/sandbox.h"
#include "authz/policy/test_inside.h"
#include "authz/policy/value.h"

const char *const test_word_names[] = { "test", "skip", NULL };

static struct test_run *run_of(lua_State *L)
{
	return sandbox_of(L)->work;
}

static int line_of(lua_State *L, int level)
{
	lua_Debug ar;

	if (!lua_getstack(L, level, &ar) || !lua_getinfo(L, "l", &ar) || ar.currentline < 0)
		return 0;
	return ar.currentline;
}

/* The named members of the table at @t, by name, in the scratch of the run. */
static struct test_fields take_fields(lua_State *L, struct test_run *run, int t)
{
	struct test_fields f = { NULL, 0 };
	struct json *items;
	const char *why = NULL;
	uint32_t n = 0;

	for (lua_pushnil(L); lua_next(L, t); lua_pop(L, 1))
		n++;
	sandbox_charge(L, n);
	items = arena_zero(&run->scratch, (n + 1) * sizeof(*items));
	if (!items) {
		luaL_error(L, "this test is too large");
		return f; /* not reached: it raises */
	}
	for (lua_pushnil(L); lua_next(L, t); lua_pop(L, 1)) {
		struct json *v = &items[f.n];
		struct str name;

		if (lua_type(L, -2) != LUA_TSTRING)
			continue;
		if (!value_from_lua(L, -1, &run->scratch, v, &why))
			luaL_error(L, "\"%s\" holds %s", lua_tostring(L, -2), why);
		name.p = lua_tolstring(L, -2, &name.n);
		v->name = arena_dup(&run->scratch, name);
		f.n++;
	}
	f.items = items;
	return f;
}

/* The cases of a table, each a table of its own; without any, the table is the one case. */
static void run_table(lua_State *L, struct test_run *run, int t)
{
	lua_Integer n = (lua_Integer)lua_rawlen(L, t);
	struct test_fields none = { NULL, 0 };
	struct policy_result ignored;

	for (lua_Integer i = 1; i <= n; i++) {
		struct test_fields base, own;

		arena_reset(&run->scratch);
		base = take_fields(L, run, t);
		lua_rawgeti(L, t, i);
		if (!lua_istable(L, -1))
			luaL_error(L, "case %d is no table", (int)i);
		own = take_fields(L, run, lua_gettop(L));
		test_case(run, &base, &own, NULL, test_case_line(run, run->line, (uint32_t)i),
			  &ignored);
		lua_pop(L, 1);
	}
	if (n == 0) {
		struct test_fields own;

		arena_reset(&run->scratch);
		own = take_fields(L, run, t);
		test_case(run, &none, &own, NULL, run->line, &ignored);
	}
}

/* What a function test gets of an evaluation. */
static void push_result(lua_State *L, const struct policy_result *r)
{
	static const char *const names[] = { "deny", "ask", "permit" };
	const struct {
		const char *name;
		struct str s;
	} texts[] = { { "decision", str_c(names[r->decision]) },
		      { "reason", r->reason },
		      { "rule", r->rule },
		      { "message", r->message },
		      { "error", r->error } };

	lua_createtable(L, 0, ARRAY_LEN(texts));
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		if (!texts[i].s.n)
			continue;
		lua_pushlstring(L, texts[i].s.p, texts[i].s.n);
		lua_setfield(L, -2, texts[i].name);
	}
}

/* t.permit { ... } and the others. Upvalue: the expected decision, or nil. */
static int expect(lua_State *L)
{
	struct test_run *run = run_of(L);
	struct test_fields base = { NULL, 0 }, own;
	struct policy_result r = { 0 };

	if (!lua_istable(L, 1))
		return luaL_error(L, "a table was expected: write t.permit { ... }");
	arena_reset(&run->scratch);
	own = take_fields(L, run, 1);
	/* t.expect(base, changes): the second goes before the first */
	if (lua_istable(L, 2)) {
		base = own;
		own = take_fields(L, run, 2);
	}
	test_case(run, &base, &own, lua_tostring(L, lua_upvalueindex(1)), line_of(L, 1), &r);
	push_result(L, &r);
	return 1;
}

static void push_t(lua_State *L)
{
	static const char *const decisions[] = { "permit", "ask", "deny" };

	lua_createtable(L, 0, 4);
	for (size_t i = 0; i < ARRAY_LEN(decisions); i++) {
		lua_pushstring(L, decisions[i]);
		lua_pushcclosure(L, expect, 1);
		lua_setfield(L, -2, decisions[i]);
	}
	lua_pushnil(L);
	lua_pushcclosure(L, expect, 1);
	lua_setfield(L, -2, "expect");
}

/* A function test that breaks off fails, and the tests after it still run. */
static void run_function(lua_State *L, struct test_run *run)
{
	struct sandbox *sb = sandbox_of(L);

	lua_pushvalue(L, 1);
	push_t(L);
	if (lua_pcall(L, 1, 0, 0) == LUA_OK)
		return;
	if (sb->trip != TRIP_NONE) /* the budget is everybody's */
		lua_error(L);
	test_say(run, POLICY_TEST_FAILED, run->line, run->cases + 1, STR(""), 0,
		 "the test stopped: %s",
		 lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "no text");
	lua_pop(L, 1);
}

/* The second half. Upvalues: name, line, skip. */
static int body(lua_State *L)
{
	struct test_run *run = run_of(L);
	size_t failed = run->report->failed;

	if (!lua_istable(L, 1) && (!lua_isfunction(L, 1) || lua_iscfunction(L, 1)))
		return luaL_error(
			L, "write test \"NAME\" { ... } or test \"NAME\" (function(t) ... end)");
	run->begun--;
	run->test.p = lua_tolstring(L, lua_upvalueindex(1), &run->test.n);
	run->line = (int)lua_tointeger(L, lua_upvalueindex(2));
	run->skip = lua_toboolean(L, lua_upvalueindex(3));
	run->cases = 0;
	if (test_wanted(run) && run->skip) {
		test_say(run, POLICY_TEST_SKIPPED, run->line, 0, STR(""), 0, "skipped");
	} else if (test_wanted(run)) {
		if (lua_istable(L, 1))
			run_table(L, run, 1);
		else
			run_function(L, run);
		if (run->cases == 0 && run->report->failed == failed)
			test_say(run, POLICY_TEST_FAILED, run->line, 0, STR(""), 0,
				 "the test has no cases: call t.permit, t.ask, t.deny or t.expect");
	}
	run->test = (struct str){ NULL, 0 };
	return 0;
}

static int begin(lua_State *L, bool skip)
{
	struct test_run *run = run_of(L);

	if (lua_type(L, 1) != LUA_TSTRING)
		return luaL_error(L, "a test needs a name: write test \"NAME\" { ... }");
	run->begun++;
	run->begun_line = line_of(L, 1);
	lua_pushvalue(L, 1);
	lua_pushinteger(L, run->begun_line);
	lua_pushboolean(L, skip);
	lua_pushcclosure(L, body, 3);
	return 1;
}

static int word_test(lua_State *L)
{
	return begin(L, false);
}

static int word_skip(lua_State *L)
{
	return begin(L, true);
}

const struct prelude_word test_words[] = {
	{ "test", word_test },
	{ "skip", word_skip },
	{ NULL, NULL },
};

/* A table does not know its line, its source does: the case is the @number-th element that begins
 * with a brace, one brace deep. */
int test_case_line(const struct test_run *run, int line, uint32_t number)
{
	const struct tokens t = run->tokens;
	uint32_t seen = 0;
	size_t i = 0;
	int depth = 0;

	while (i < t.n && !(t.items[i].line >= line && token_is(&t.items[i], "test")))
		i++;
	for (; i < t.n; i++) {
		const struct token *at = &t.items[i];

		if (token_is(at, "{")) {
			if (depth == 1 && !token_is(at - 1, "=") && ++seen == number)
				return at->line;
			depth++;
		} else if (token_is(at, "}") && --depth == 0) {
			break;
		}
	}
	return line;
}
