/* The vocabulary as a whole: the base functions, environments, frozen constants. */
#include "authz/policy/prelude.h"

#include <lauxlib.h>
#include <lualib.h>

#include "authz/base/text.h"
#include "authz/policy/sandbox.h"

const char *const prelude_globals[] = { "type",	  "tostring", "tonumber", "ipairs", "pairs",
					"select", "assert",   "fail",	  "has",    "any",
					"all",	  "glob",     "cidr",	  "spiffe", "math",
					"str",	  "time",     "path",	  "url",    NULL };

static const char *const math_names[] = { "abs",	"ceil",	     "floor", "max",
					  "min",	"tointeger", "type",  "maxinteger",
					  "mininteger", "huge",	     NULL };
static const char *const str_names[] = { "lower",	"upper",     "sub",	 "len",
					 "starts_with", "ends_with", "contains", "split",
					 "trim",	"join",	     NULL };
static const char *const time_names[] = { "between", "weekday", "minutes", "date", NULL };

static const char *const path_names[] = { "normal", "within", NULL };
static const char *const url_names[] = { "parse", NULL };

const char *const *prelude_members(struct str table)
{
	return str_eq(table, STR("math"))   ? math_names
	       : str_eq(table, STR("str"))  ? str_names
	       : str_eq(table, STR("time")) ? time_names
	       : str_eq(table, STR("path")) ? path_names
	       : str_eq(table, STR("url"))  ? url_names
					    : NULL;
}

struct str prelude_text(lua_State *L, int i, const char *what)
{
	size_t n;
	const char *p;

	if (lua_type(L, i) != LUA_TSTRING) /* no coercion from numbers: "5" and 5 differ here */
		luaL_error(L, "%s: a text was expected, got %s", what, luaL_typename(L, i));
	p = lua_tolstring(L, i, &n);
	sandbox_charge(L, n / 64);
	return (struct str){ p, n };
}

void prelude_set(lua_State *L, const struct prelude_word *words)
{
	for (; words->name; words++) {
		lua_pushcfunction(L, words->fn);
		lua_setfield(L, -2, words->name);
	}
}

static int base_tostring(lua_State *L)
{
	switch (lua_type(L, 1)) {
	case LUA_TSTRING:
		lua_settop(L, 1);
		return 1;
	case LUA_TNUMBER:
		lua_settop(L, 1);
		lua_tostring(L, 1);
		return 1;
	case LUA_TBOOLEAN:
		lua_pushstring(L, lua_toboolean(L, 1) ? "true" : "false");
		return 1;
	default: /* a table's text would be its address */
		return luaL_error(L, "tostring takes a text, a number or a boolean, not %s",
				  luaL_typename(L, 1));
	}
}

static int base_tonumber(lua_State *L)
{
	size_t n;
	const char *p;

	if (lua_gettop(L) > 1)
		return luaL_error(L, "tonumber takes one argument here; other bases do not exist");
	if (lua_type(L, 1) == LUA_TNUMBER)
		return 1;
	if (lua_type(L, 1) != LUA_TSTRING)
		return luaL_error(L, "tonumber takes a text or a number, not %s",
				  luaL_typename(L, 1));
	p = lua_tolstring(L, 1, &n);
	if (n > 64 || lua_stringtonumber(L, p) != n + 1)
		lua_pushnil(L);
	return 1;
}

static int base_fail(lua_State *L)
{
	struct str code = prelude_text(L, 1, "fail");

	if (lua_isnoneornil(L, 2))
		return luaL_error(L, "%s", code.p);
	prelude_text(L, 2, "fail");
	return luaL_error(L, "%s: %s", code.p, lua_tostring(L, 2));
}

static int base_assert(lua_State *L)
{
	if (lua_toboolean(L, 1))
		return lua_gettop(L);
	if (lua_type(L, 2) == LUA_TSTRING)
		return luaL_error(L, "%s", lua_tostring(L, 2));
	return luaL_error(L, "assertion failed");
}

/* select("#", ...) and select(n, ...): the stock one, but a negative n counts from the end. */
static int base_select(lua_State *L)
{
	int n = lua_gettop(L);
	lua_Integer i;

	if (lua_type(L, 1) == LUA_TSTRING && *lua_tostring(L, 1) == '#') {
		lua_pushinteger(L, n - 1);
		return 1;
	}
	i = luaL_checkinteger(L, 1);
	if (i < 0)
		i = n + i;
	else if (i > n)
		i = n;
	luaL_argcheck(L, i >= 1, 1, "index out of range");
	return n - (int)i;
}

static int base_type(lua_State *L)
{
	luaL_checkany(L, 1);
	lua_pushstring(L, luaL_typename(L, 1));
	return 1;
}

static int ipairs_next(lua_State *L)
{
	lua_Integer i = luaL_checkinteger(L, 2) + 1;

	lua_pushinteger(L, i);
	return lua_geti(L, 1, i) == LUA_TNIL ? 1 : 2;
}

static int base_ipairs(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_pushcfunction(L, ipairs_next);
	lua_pushvalue(L, 1);
	lua_pushinteger(L, 0);
	return 3;
}

static const struct prelude_word base_words[] = {
	{ "type", base_type },	       { "tostring", base_tostring },
	{ "tonumber", base_tonumber }, { "fail", base_fail },
	{ "assert", base_assert },     { "select", base_select },
	{ "ipairs", base_ipairs },     { NULL, NULL },
};

/* Environments */

static int refuse_write(lua_State *L)
{
	return luaL_error(L, "assignment to '%s': what outlives a call is read-only; use a local",
			  lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?");
}

static int unknown_global(lua_State *L)
{
	const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?";
	const char *near = text_nearest(str_c(name), prelude_globals);

	if (near)
		return luaL_error(L, "'%s' is not known here; did you mean '%s'?", name, near);
	return luaL_error(L, "'%s' is not known here", name);
}

/* Replace the table on top by an empty one that shows it and refuses writing. */
static void guard(lua_State *L)
{
	lua_newtable(L);
	lua_createtable(L, 0, 2);
	lua_rotate(L, -3, -1); /* proxy, meta, table */
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, refuse_write);
	lua_setfield(L, -2, "__newindex");
	lua_setmetatable(L, -2);
}

void prelude_push(lua_State *L, const struct prelude_word *host)
{
	lua_createtable(L, 0, 32);
	prelude_set(L, base_words);
	prelude_open_list(L);
	prelude_open_net(L);
	prelude_open_math(L);
	guard(L);
	lua_setfield(L, -2, "math");
	prelude_open_time(L);
	guard(L);
	lua_setfield(L, -2, "time");
	prelude_open_path(L);
	guard(L);
	lua_setfield(L, -2, "path");
	prelude_open_url(L);
	guard(L);
	lua_setfield(L, -2, "url");
	prelude_open_str(L);
	/* Methods of texts are those words and no other: the stock library is not loaded. */
	lua_pushliteral(L, "");
	lua_createtable(L, 0, 1);
	lua_pushvalue(L, -3);
	lua_setfield(L, -2, "__index");
	lua_setmetatable(L, -2);
	lua_pop(L, 1);
	guard(L);
	lua_setfield(L, -2, "str");
	if (host)
		prelude_set(L, host);
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, unknown_global);
	lua_setfield(L, -2, "__index");
	lua_setmetatable(L, -2);
}

void prelude_push_env(lua_State *L, int words)
{
	lua_pushvalue(L, words);
	guard(L);
}

/* Frozen constants. A proxy's metatable has the real table in __index; all tables inside are
 * proxies, too, so nothing that a rule can reach lets it write. */

static int frozen_len(lua_State *L)
{
	if (luaL_getmetafield(L, 1, "__index") != LUA_TTABLE)
		return luaL_error(L, "not a constant");
	lua_pushinteger(L, (lua_Integer)lua_rawlen(L, -1));
	return 1;
}

static void freeze_value(lua_State *L, int memo, int depth);

/* Replace the values of the table at @t by frozen ones. */
static void freeze_members(lua_State *L, int t, int memo, int depth)
{
	lua_pushnil(L);
	while (lua_next(L, t)) {
		int type = lua_type(L, -2);

		if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN)
			luaL_error(L, "a constant table has %s as a key; use texts or numbers",
				   luaL_typename(L, -2));
		freeze_value(L, memo, depth + 1);
		lua_pushvalue(L, -2);
		lua_insert(L, -2);
		lua_rawset(L, t); /* an existing key: lua_next bears it */
	}
}

static void freeze_table(lua_State *L, int memo, int depth)
{
	int t = lua_gettop(L);

	if (luaL_getmetafield(L, t, "__newindex") != LUA_TNIL) {
		lua_pop(L, 1);
		return; /* a guard or a proxy already */
	}
	lua_newtable(L);
	lua_createtable(L, 0, 4);
	lua_pushvalue(L, t);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, refuse_write);
	lua_setfield(L, -2, "__newindex");
	lua_pushcfunction(L, frozen_len);
	lua_setfield(L, -2, "__len");
	lua_setmetatable(L, -2);
	lua_pushvalue(L, t); /* before the members: tables may be circular */
	lua_pushvalue(L, -2);
	lua_rawset(L, memo);
	freeze_members(L, t, memo, depth);
	lua_replace(L, t);
}

static void freeze_function(lua_State *L, int memo, int depth)
{
	int f = lua_gettop(L);

	lua_pushvalue(L, f);
	lua_pushvalue(L, f);
	lua_rawset(L, memo);
	for (int i = 1;; i++) {
		const char *name = lua_getupvalue(L, f, i);

		if (!name)
			break;
		if (lua_iscfunction(L, f) && lua_istable(L, -1))
			luaL_error(L, "an iterator must not be kept; call pairs where you need it");
		freeze_value(L, memo, depth + 1);
		if (!lua_setupvalue(L, f, i))
			lua_pop(L, 1);
	}
}

/* Replace the value on top by its frozen form. */
static void freeze_value(lua_State *L, int memo, int depth)
{
	int type = lua_type(L, -1);

	if (type != LUA_TTABLE && type != LUA_TFUNCTION)
		return;
	sandbox_charge(L, 8);
	if (depth > 32)
		luaL_error(L, "constants are nested more than 32 deep");
	luaL_checkstack(L, 10, "constants are nested too deep");
	lua_pushvalue(L, -1);
	if (lua_rawget(L, memo) != LUA_TNIL) {
		lua_replace(L, -2);
		return;
	}
	lua_pop(L, 1);
	if (type == LUA_TTABLE)
		freeze_table(L, memo, depth);
	else
		freeze_function(L, memo, depth);
}

void prelude_freeze(lua_State *L, int index, int memo)
{
	lua_pushvalue(L, index);
	freeze_value(L, memo, 0);
	lua_pop(L, 1);
}
