/* Lists and tables: has, any, all, pairs. */
#include <lauxlib.h>
#include <stdlib.h>

#include "authz/policy/prelude.h"
#include "authz/policy/sandbox.h"

static lua_Integer list_len(lua_State *L, const char *what)
{
	if (!lua_istable(L, 1))
		luaL_error(L, "%s: a list was expected, got %s", what, luaL_typename(L, 1));
	return luaL_len(L, 1);
}

/* has(list, x): is x one of the elements? No metamethods, no coercion. */
static int has(lua_State *L)
{
	lua_Integer n = list_len(L, "has");

	luaL_checkany(L, 2);
	for (lua_Integer i = 1; i <= n; i++) {
		sandbox_charge(L, 1);
		if (lua_geti(L, 1, i) == LUA_TSTRING && lua_type(L, 2) == LUA_TSTRING)
			sandbox_charge(L, lua_rawlen(L, -1) / 64);
		if (lua_rawequal(L, -1, 2)) {
			lua_pushboolean(L, 1);
			return 1;
		}
		lua_pop(L, 1);
	}
	lua_pushboolean(L, 0);
	return 1;
}

/* any(list, f) and all(list, f): f answers true or false for each element, as `when` does. */
static int quantify(lua_State *L, bool stop_at, const char *what)
{
	lua_Integer n = list_len(L, what);

	luaL_checktype(L, 2, LUA_TFUNCTION);
	for (lua_Integer i = 1; i <= n; i++) {
		sandbox_charge(L, 2);
		lua_pushvalue(L, 2);
		lua_geti(L, 1, i);
		lua_call(L, 1, 1);
		if (!lua_isboolean(L, -1))
			return luaL_error(L, "%s: the function returned %s, not true or false",
					  what, luaL_typename(L, -1));
		if (lua_toboolean(L, -1) == stop_at) {
			lua_pushboolean(L, stop_at);
			return 1;
		}
		lua_pop(L, 1);
	}
	lua_pushboolean(L, !stop_at);
	return 1;
}

static int any(lua_State *L)
{
	return quantify(L, true, "any");
}

static int all(lua_State *L)
{
	return quantify(L, false, "all");
}

/* pairs */

struct key {
	enum { KEY_BOOLEAN, KEY_NUMBER, KEY_STRING } kind;
	int at; /* in the array of keys */
	bool integer;
	lua_Integer i;
	lua_Number d;
	struct str s;
};

static int compare_keys(const void *pa, const void *pb)
{
	const struct key *a = pa, *b = pb;

	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->kind == KEY_STRING)
		return str_cmp(a->s, b->s);
	if (a->integer && b->integer)
		return (a->i > b->i) - (a->i < b->i);
	return (a->d > b->d) - (a->d < b->d);
}

static void read_key(lua_State *L, struct key *k, int at)
{
	*k = (struct key){ .at = at };
	switch (lua_type(L, -1)) {
	case LUA_TBOOLEAN:
		k->kind = KEY_BOOLEAN;
		k->integer = true;
		k->i = lua_toboolean(L, -1);
		break;
	case LUA_TNUMBER:
		k->kind = KEY_NUMBER;
		k->integer = lua_isinteger(L, -1);
		k->i = k->integer ? lua_tointeger(L, -1) : 0;
		k->d = lua_tonumber(L, -1);
		break;
	case LUA_TSTRING:
		k->kind = KEY_STRING;
		k->s.p = lua_tolstring(L, -1, &k->s.n);
		break;
	default:
		luaL_error(L, "pairs: a table with %s as a key has no order", luaL_typename(L, -1));
	}
}

/* Upvalues: the table; the key that follows each key; the first key. Stateless, so that an
 * iterator kept by a policy keeps nothing. */
static int pairs_next(lua_State *L)
{
	lua_settop(L, 2);
	if (lua_isnil(L, 2)) {
		lua_pushvalue(L, lua_upvalueindex(3));
		lua_replace(L, 2);
	} else {
		lua_rawget(L, lua_upvalueindex(2));
	}
	while (!lua_isnil(L, 2)) {
		lua_pushvalue(L, 2);
		if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL)
			return 2;
		lua_settop(L, 2); /* removed since: go on from there */
		lua_rawget(L, lua_upvalueindex(2));
	}
	return 1;
}

/* With the table at 1 and nothing above. */
static int count_members(lua_State *L)
{
	int n = 0;

	for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1))
		n++;
	sandbox_charge(L, (size_t)n / 4);
	return n;
}

/* With the table at 1, collect its keys: an array of texts and numbers at the top. */
static int collect_keys(lua_State *L)
{
	int n = 0;

	lua_newtable(L);
	lua_pushnil(L);
	while (lua_next(L, 1)) {
		lua_pop(L, 1);
		lua_pushvalue(L, -1);
		lua_rawseti(L, 2, ++n);
		sandbox_charge(L, 8);
	}
	return n;
}

static int list_next(lua_State *L)
{
	lua_Integer i = luaL_checkinteger(L, 2) + 1;

	lua_pushinteger(L, i);
	return lua_rawgeti(L, lua_upvalueindex(1), i) == LUA_TNIL ? 1 : 2;
}

/* pairs(t). What it returns keeps the table as an upvalue, which a policy cannot keep in turn. */
static int sorted_pairs(lua_State *L)
{
	struct key *keys;
	int n;

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	if (luaL_getmetafield(L, 1, "__pairs") == LUA_TFUNCTION) { /* q: fill in what is lazy */
		lua_pushvalue(L, 1);
		lua_call(L, 1, 0);
	} else if (luaL_getmetafield(L, 1, "__index") == LUA_TTABLE) { /* a frozen constant */
		lua_replace(L, 1);
	}
	lua_settop(L, 1);
	n = count_members(L);
	if (n == (lua_Integer)lua_rawlen(L, 1)) { /* 1 to n: in order by themselves */
		lua_pushcclosure(L, list_next, 1);
		lua_pushnil(L);
		lua_pushinteger(L, 0);
		return 3;
	}
	n = collect_keys(L);
	keys = lua_newuserdatauv(L, (size_t)n * sizeof(*keys) + 1, 0);
	for (int i = 0; i < n; i++) {
		lua_rawgeti(L, 2, i + 1);
		read_key(L, &keys[i], i + 1);
		lua_pop(L, 1);
	}
	qsort(keys, (size_t)n, sizeof(*keys), compare_keys);
	lua_pushvalue(L, 1);
	lua_createtable(L, 0, n);
	for (int i = 0; i + 1 < n; i++) {
		lua_rawgeti(L, 2, keys[i].at);
		lua_rawgeti(L, 2, keys[i + 1].at);
		lua_rawset(L, -3);
	}
	if (n)
		lua_rawgeti(L, 2, keys[0].at);
	else
		lua_pushnil(L);
	lua_pushcclosure(L, pairs_next, 3);
	return 1;
}

static const struct prelude_word words[] = {
	{ "has", has }, { "any", any }, { "all", all }, { "pairs", sorted_pairs }, { NULL, NULL },
};

void prelude_open_list(lua_State *L)
{
	prelude_set(L, words);
}
