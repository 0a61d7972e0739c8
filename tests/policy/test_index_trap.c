/* A comparison as an index: whatever this Lua compiles wrongly, a load refuses. The Lua that is
 * linked is asked itself, so the test says more than our memory of its bugs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>
#include <lauxlib.h>
#include <lualib.h>

#include "tests/policy/policy_help.h"

static const struct {
	const char *expression; /* of T, a table outside the function, and a number a */
	bool refused;
} cases[] = {
	{ "T[a < 5]", true },
	{ "T[a > 5]", true },
	{ "T[a <= 5]", true },
	{ "T[a >= 5]", true },
	{ "T[a == 5]", true },
	{ "T[a ~= 5]", true },
	{ "T[5 < a]", true },
	{ "T[(a < 5)]", true },
	{ "T[((a < 5))]", true },
	{ "T[not (a < 5)]", true },
	{ "T[not not (a < 5)]", true },
	{ "T[not(a < 5)]", true },
	{ "T[(a) < 5]", true },
	{ "T[math.abs(a) < 5]", true },
	{ "T[a < math.abs(5)]", true },
	{ "T[(math.abs(a) < 5)]", true },
	{ "T [ a < 5 ]", true },
	{ "(T)[a < 5]", true },
	{ "T[T[a < 5] == 'yes']", true },
	{ "T[has({ 1 }, a) == true]", true },
	/* Compiled well, and refused all the same: telling them apart takes a compiler. */
	{ "T[a and a < 5]", true },
	{ "T[a < 5 or false]", true },
	/* Not an index that is compared, or not by this. */
	{ "T[a]", false },
	{ "T[select(1, a < 5)]", false },
	{ "T[tostring(a < 5)]", false },
	{ "T[not a]", false },
	{ "T[(a)]", false },
	{ "T[a] == (a < 5)", false },
	{ "({ a < 5 })[1]", false },
};

static int l_has(lua_State *L)
{
	lua_pushboolean(L, 1);
	return 1;
}

/* What the expression comes to for @a, with what it should: a local first is never wrong. */
static bool compiled_wrongly(lua_State *L, const char *expression, int a)
{
	char code[400];
	bool wrong;

	snprintf(code, sizeof(code),
		 "local T = { [true] = 'yes', [false] = 'no' }\n"
		 "local function f(a) return %s end\n"
		 "local function g(a, T) return %s end\n"
		 "local ok, x = pcall(f, %d)\n"
		 "local ok2, y = pcall(g, %d, T)\n"
		 "return ok ~= ok2 or x ~= y",
		 expression, expression, a, a);
	if (luaL_dostring(L, code) != LUA_OK) {
		fail_msg("%s: %s", expression, lua_tostring(L, -1));
		return false;
	}
	wrong = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return wrong;
}

static void what_is_compiled_wrongly_is_refused(void **state)
{
	lua_State *L = luaL_newstate();
	size_t wrong = 0;

	(void)state;
	assert_non_null(L);
	luaL_openlibs(L);
	lua_register(L, "has", l_has);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct policy_findings f = { 0 };
		struct policy_set *set;
		bool bad = false, refused;
		char rules[700];

		for (int a = 1; a < 10; a += 4)
			bad = compiled_wrongly(L, cases[i].expression, a) || bad;
		snprintf(rules, sizeof(rules),
			 "local T = { [true] = 'yes', [false] = 'no' }\n"
			 "policy 'p' { permit 'a' { on = { action = 'x' }, when = function(q)\n"
			 "local a = q.context.n\nreturn %s == 1 end } }\n",
			 cases[i].expression);
		set = policy_help_load(&f, "rules.lua", rules, NULL);
		refused = !set && policy_help_finding(&f, "rules.lua", "a comparison as an index");
		if (refused != cases[i].refused || (bad && !refused))
			fail_msg("%s: compiled %s, %s", cases[i].expression,
				 bad ? "wrongly" : "well", refused ? "refused" : "taken");
		if (set)
			shared_release(&set->shared);
		policy_findings_clear(&f);
		wrong += bad;
	}
	print_message("compiled wrongly by %s: %zu of %zu\n", LUA_RELEASE, wrong, ARRAY_LEN(cases));
	lua_close(L);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(what_is_compiled_wrongly_is_refused) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
