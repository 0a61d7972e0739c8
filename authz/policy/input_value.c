/* What the request says, as Lua sees it: plain tables. What is large and lies deeper than a rule
 * looks is not made: in its place stands an empty table that has one secret, the value it is of,
 * and that becomes the table which was meant when it is looked into, written to, measured or
 * walked. No policy can tell: nothing that it can call looks at a table and not at its metatable.
 * So a rule about the path of a file does not pay for the file. */
#include <lauxlib.h>

#include "authz/policy/state.h"

#define LARGE 512 /* bytes in the request: making less costs less than putting it off */

static void push(lua_State *L, const struct json *v, bool whole);

static void put_members(lua_State *L, const struct json *v)
{
	bool list = v->type == JSON_ARRAY;
	lua_Integer at = 0;

	for (uint32_t i = 0; i < v->n; i++) {
		const struct json *item = &v->items[i];

		if (item->type == JSON_NULL)
			continue;
		if (list) {
			push(L, item, false);
			lua_rawseti(L, -2, ++at);
		} else {
			lua_pushlstring(L, item->name.p, item->name.n);
			push(L, item, false);
			lua_rawset(L, -3);
		}
	}
}

/* The secret is a pointer, which no policy has and none can name, and the number of the evaluation,
 * after which the pointer leads nowhere. */
static void push_later(lua_State *L, const struct json *v)
{
	const struct evaluation *ev = sandbox_of(L)->work;
	union {
		const struct json *in;
		void *out;
	} secret = { v };

	lua_createtable(L, 0, 1);
	lua_pushlightuserdata(L, secret.out);
	lua_pushinteger(L, (lua_Integer)ev->number);
	lua_rawset(L, -3);
	lua_rawgeti(L, LUA_REGISTRYINDEX, STATE_LATER);
	lua_setmetatable(L, -2);
}

static void push_table(lua_State *L, const struct json *v, bool whole)
{
	bool list = v->type == JSON_ARRAY;

	if (!whole && v->raw.n >= LARGE) {
		push_later(L, v);
		return;
	}
	lua_createtable(L, list ? (int)v->n : 0, list ? 0 : (int)v->n);
	put_members(L, v);
}

static void push(lua_State *L, const struct json *v, bool whole)
{
	switch (v->type) {
	case JSON_NULL:
		lua_pushnil(L);
		return;
	case JSON_BOOL:
		lua_pushboolean(L, v->b);
		return;
	case JSON_INT:
		lua_pushinteger(L, v->i);
		return;
	case JSON_REAL:
		lua_pushnumber(L, v->d);
		return;
	case JSON_STRING:
		lua_pushlstring(L, v->s.p ? v->s.p : "", v->s.n);
		return;
	case JSON_ARRAY:
	case JSON_OBJECT:
		luaL_checkstack(L, 4, "the request is nested too deep");
		push_table(L, v, whole);
		return;
	}
}

void input_push_value(lua_State *L, const struct json *v)
{
	push(L, v, true);
}

/* The table at 1 becomes what it stands for. */
static int make(lua_State *L)
{
	const struct evaluation *ev = sandbox_of(L)->work;
	const struct json *v;

	lua_pushnil(L);
	if (!lua_next(L, 1) || !lua_islightuserdata(L, -2) || !ev ||
	    lua_tointeger(L, -1) != (lua_Integer)ev->number)
		return luaL_error(L, "q is gone when its evaluation is");
	v = lua_touserdata(L, -2);
	lua_pop(L, 1);
	lua_pushnil(L);
	lua_rawset(L, 1);
	lua_pushnil(L);
	lua_setmetatable(L, 1);
	lua_pushvalue(L, 1);
	put_members(L, v);
	lua_pop(L, 1);
	return 0;
}

static void make_first(lua_State *L)
{
	lua_pushcfunction(L, make);
	lua_pushvalue(L, 1);
	lua_call(L, 1, 0);
}

static int later_index(lua_State *L)
{
	lua_settop(L, 2);
	make_first(L);
	lua_rawget(L, 1);
	return 1;
}

static int later_newindex(lua_State *L)
{
	input_check_key(L);
	lua_settop(L, 3);
	make_first(L);
	lua_rawset(L, 1);
	return 0;
}

static int later_len(lua_State *L)
{
	make_first(L);
	lua_pushinteger(L, (lua_Integer)lua_rawlen(L, 1));
	return 1;
}

void input_push_later(lua_State *L)
{
	lua_createtable(L, 0, 4);
	lua_pushcfunction(L, later_index);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, later_newindex);
	lua_setfield(L, -2, "__newindex");
	lua_pushcfunction(L, later_len);
	lua_setfield(L, -2, "__len");
	lua_pushcfunction(L, make);
	lua_setfield(L, -2, "__pairs");
}
