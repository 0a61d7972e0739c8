/* str: plain functions over texts. No Lua patterns: their matcher backtracks in C, where the
 * hook never fires, and the text comes from the request. Everything here is linear. */
#include <lauxlib.h>

#include "authz/policy/prelude.h"
#include "authz/policy/sandbox.h"

#define PARTS_MAX 10000 /* of one split or join */

static int change_case(lua_State *L, char from, char to, int shift)
{
	struct str s = prelude_text(L, 1, "str.lower/upper");
	luaL_Buffer b;
	char *p = luaL_buffinitsize(L, &b, s.n);

	for (size_t i = 0; i < s.n; i++)
		p[i] = s.p[i] >= from && s.p[i] <= to ? (char)(s.p[i] + shift) : s.p[i];
	luaL_pushresultsize(&b, s.n);
	return 1;
}

/* ASCII only: what libc calls lower case depends on the locale. */
static int lower(lua_State *L)
{
	return change_case(L, 'A', 'Z', 'a' - 'A');
}

static int upper(lua_State *L)
{
	return change_case(L, 'a', 'z', 'A' - 'a');
}

static int len(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)prelude_text(L, 1, "str.len").n);
	return 1;
}

/* As string.sub: from 1, negative counts from the end. */
static int sub(lua_State *L)
{
	struct str s = prelude_text(L, 1, "str.sub");
	lua_Integer n = (lua_Integer)s.n, from = luaL_checkinteger(L, 2);
	lua_Integer to = luaL_optinteger(L, 3, -1);

	if (from < 0)
		from = from < -n ? 1 : n + from + 1;
	else if (from == 0)
		from = 1;
	if (to < 0)
		to = to < -n ? 0 : n + to + 1;
	else if (to > n)
		to = n;
	if (from > to)
		lua_pushliteral(L, "");
	else
		lua_pushlstring(L, s.p + from - 1, (size_t)(to - from + 1));
	return 1;
}

static int starts_with(lua_State *L)
{
	struct str s = prelude_text(L, 1, "str.starts_with");

	lua_pushboolean(L, str_starts(s, prelude_text(L, 2, "str.starts_with")));
	return 1;
}

static int ends_with(lua_State *L)
{
	struct str s = prelude_text(L, 1, "str.ends_with");

	lua_pushboolean(L, str_ends(s, prelude_text(L, 2, "str.ends_with")));
	return 1;
}

static int contains(lua_State *L)
{
	struct str s = prelude_text(L, 1, "str.contains");
	struct str what = prelude_text(L, 2, "str.contains");

	lua_pushboolean(L, what.n == 0 || memmem(s.p, s.n, what.p, what.n) != NULL);
	return 1;
}

/* split(s, separator): "a,,b" has three parts, "" has one. */
static int split(lua_State *L)
{
	struct str s = prelude_text(L, 1, "str.split"), by = prelude_text(L, 2, "str.split");
	lua_Integer n = 0;

	if (by.n == 0)
		return luaL_error(L, "str.split: the separator is empty");
	lua_newtable(L);
	for (;;) {
		const char *at = s.n >= by.n ? memmem(s.p, s.n, by.p, by.n) : NULL;

		if (++n > PARTS_MAX)
			return luaL_error(L, "str.split: more than %d parts", PARTS_MAX);
		sandbox_charge(L, 4);
		lua_pushlstring(L, s.p, at ? (size_t)(at - s.p) : s.n);
		lua_rawseti(L, -2, n);
		if (!at)
			return 1;
		s.n -= (size_t)(at - s.p) + by.n;
		s.p = at + by.n;
	}
}

static bool blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static int trim(lua_State *L)
{
	struct str s = prelude_text(L, 1, "str.trim");

	while (s.n && blank(s.p[0]))
		s = (struct str){ s.p + 1, s.n - 1 };
	while (s.n && blank(s.p[s.n - 1]))
		s.n--;
	lua_pushlstring(L, s.p, s.n);
	return 1;
}

/* join(list, separator) */
static int join(lua_State *L)
{
	struct str by = prelude_text(L, 2, "str.join");
	lua_Integer n;
	luaL_Buffer b;

	luaL_checktype(L, 1, LUA_TTABLE);
	n = luaL_len(L, 1);
	if (n > PARTS_MAX)
		return luaL_error(L, "str.join: more than %d parts", PARTS_MAX);
	lua_settop(L, 2);
	luaL_buffinit(L, &b);
	for (lua_Integer i = 1; i <= n; i++) {
		if (i > 1)
			luaL_addlstring(&b, by.p, by.n);
		sandbox_charge(L, 4 + by.n / 64);
		if (lua_geti(L, 1, i) != LUA_TSTRING && lua_type(L, -1) != LUA_TNUMBER)
			return luaL_error(L, "str.join: element %d is %s", (int)i,
					  luaL_typename(L, -1));
		sandbox_charge(L, lua_rawlen(L, -1) / 64);
		luaL_addvalue(&b);
	}
	luaL_pushresult(&b);
	return 1;
}

static const struct prelude_word words[] = {
	{ "lower", lower },
	{ "upper", upper },
	{ "sub", sub },
	{ "len", len },
	{ "starts_with", starts_with },
	{ "ends_with", ends_with },
	{ "contains", contains },
	{ "split", split },
	{ "trim", trim },
	{ "join", join },
	{ NULL, NULL },
};

void prelude_open_str(lua_State *L)
{
	lua_createtable(L, 0, ARRAY_LEN(words));
	prelude_set(L, words);
}
