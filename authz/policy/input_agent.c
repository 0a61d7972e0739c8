/* q.agent. Most requests are about agents that were asked about a moment ago, so a state keeps what
 * q.agent shows of some of them: a table of texts, which no policy ever holds. What a policy gets
 * is a table of its own, fresh for every evaluation, that shows the kept one until somebody writes
 * into it or wants all of it (pairs): then the members are copied, and the kept table is out of
 * sight. So whatever a policy does to q.agent ends with the evaluation, as with the other members
 * of q.
 *
 * Kept facts are known again by their bytes, never by where they stand: an entry of the registry
 * may be gone, and another in its place. */
#include <lauxlib.h>

#include "authz/policy/state.h"

#define BYTES_MAX 2048 /* of texts; what is larger is made each time */
#define ATTRIBUTES_MAX 32

/* Of an agent whose table is kept: a copy of all that is in it. */
struct known_agent {
	size_t n; /* texts: id, owner, state, then names and values of attributes */
	struct str texts[];
};

enum { ID, OWNER, STATE, FIRST_NAME };

static uint64_t tag_of(struct str id)
{
	uint64_t tail = 0;

	if (id.n >= 8)
		memcpy(&tail, id.p + id.n - 8, 8);
	else
		memcpy(&tail, id.p, id.n);
	return (tail ^ id.n) * UINT64_C(0x9e3779b97f4a7c15);
}

static bool same(const struct known_agent *k, const struct policy_request *q)
{
	const struct str *t = k->texts + FIRST_NAME;

	if (k->n != FIRST_NAME + 2 * q->nattributes || !str_eq(k->texts[ID], q->agent_id) ||
	    !str_eq_short(k->texts[OWNER], q->agent_owner) ||
	    !str_eq_short(k->texts[STATE], q->agent_state))
		return false;
	for (size_t i = 0; i < q->nattributes; i++, t += 2)
		if (!str_eq_short(t[0], q->attributes[i].name) ||
		    !str_eq_short(t[1], q->attributes[i].value))
			return false;
	return true;
}

static void put(lua_State *L, const char *name, struct str s)
{
	lua_pushlstring(L, s.p ? s.p : "", s.n);
	lua_setfield(L, -2, name);
}

static void push_whole(lua_State *L, const struct policy_request *q)
{
	lua_createtable(L, 0, (int)q->nattributes + 3);
	for (size_t i = 0; i < q->nattributes; i++) {
		const struct policy_attribute *a = &q->attributes[i];

		lua_pushlstring(L, a->name.p, a->name.n);
		lua_pushlstring(L, a->value.p ? a->value.p : "", a->value.n);
		lua_rawset(L, -3);
	}
	put(L, "id", q->agent_id); /* last: an attribute cannot stand in for them */
	put(L, "owner", q->agent_owner);
	put(L, "state", q->agent_state);
}

/* Copy what the table at 1 shows into it, and end the showing. */
static int show_no_more(lua_State *L)
{
	if (luaL_getmetafield(L, 1, "__index") != LUA_TTABLE)
		return luaL_error(L, "not an agent");
	for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
		lua_pushvalue(L, -2);
		lua_pushvalue(L, -2);
		lua_rawset(L, 1);
	}
	lua_pop(L, 1);
	lua_pushnil(L);
	lua_setmetatable(L, 1);
	return 0;
}

/* The first time that somebody writes into it. */
static int write_first(lua_State *L)
{
	input_check_key(L);
	lua_settop(L, 3);
	lua_pushcfunction(L, show_no_more);
	lua_pushvalue(L, 1);
	lua_call(L, 1, 0);
	lua_rawset(L, 1);
	return 0;
}

static size_t texts_size(const struct policy_request *q)
{
	size_t n = q->agent_id.n + q->agent_owner.n + q->agent_state.n;

	for (size_t i = 0; i < q->nattributes; i++)
		n += q->attributes[i].name.n + q->attributes[i].value.n;
	return n;
}

static char *copy(struct known_agent *k, char *at, struct str s)
{
	k->texts[k->n++] = (struct str){ at, s.n };
	if (s.n)
		memcpy(at, s.p, s.n);
	return at + s.n;
}

/* A block of Lua's, on the stack, with a copy of the facts. */
static const struct known_agent *push_known(lua_State *L, const struct policy_request *q)
{
	size_t n = FIRST_NAME + 2 * q->nattributes;
	size_t size = sizeof(struct known_agent) + n * sizeof(struct str);
	struct known_agent *k = lua_newuserdatauv(L, size + texts_size(q), 0);
	char *at = (char *)k + size;

	k->n = 0;
	at = copy(k, at, q->agent_id);
	at = copy(k, at, q->agent_owner);
	at = copy(k, at, q->agent_state);
	for (size_t i = 0; i < q->nattributes; i++) {
		at = copy(k, at, q->attributes[i].name);
		at = copy(k, at, q->attributes[i].value);
	}
	return k;
}

/* Put the metatable that shows this agent into the place @at of the list of the upvalue. What it
 * takes stays, so it is not counted as an evaluation's: the collector rests meanwhile, which makes
 * it the difference. Only memory can be lacking, and then the state is thrown away. */
static void keep(lua_State *L, struct agents *all, size_t at, const struct policy_request *q)
{
	struct sandbox *sb = sandbox_of(L);
	struct agent_place *place = &all->places[at];
	const struct known_agent *known;
	size_t before, bytes;

	lua_gc(L, LUA_GCSTOP);
	before = sb->used;
	lua_createtable(L, 1, 3);
	known = push_known(L, q);
	lua_rawseti(L, -2, 1);
	push_whole(L, q);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, write_first);
	lua_setfield(L, -2, "__newindex");
	lua_pushcfunction(L, show_no_more);
	lua_setfield(L, -2, "__pairs");
	lua_rawseti(L, lua_upvalueindex(1), (lua_Integer)at + 1);
	bytes = sb->used - before;
	lua_gc(L, LUA_GCRESTART);
	all->bytes += bytes - place->bytes;
	sb->cap += bytes;
	*place = (struct agent_place){ .tag = place->seen, .known = known, .bytes = bytes };
}

void input_push_agent(lua_State *L, struct agents *all, const struct policy_request *q)
{
	uint64_t tag;
	size_t at;
	struct agent_place *place;

	if (!q->agent_id.p) {
		lua_newtable(L);
		return;
	}
	tag = tag_of(q->agent_id);
	at = tag >> (64 - AGENTS_BITS);
	place = &all->places[at];
	if (!place->known || place->tag != tag || !same(place->known, q)) {
		/* Agents that come once are not worth it: one is kept when it comes again before
		 * others of its place. */
		if (place->seen != tag || q->nattributes > ATTRIBUTES_MAX ||
		    texts_size(q) > BYTES_MAX) {
			place->seen = tag;
			push_whole(L, q);
			return;
		}
		keep(L, all, at, q);
	}
	lua_createtable(L, 0, 0);
	lua_rawgeti(L, lua_upvalueindex(1), (lua_Integer)at + 1);
	lua_setmetatable(L, -2);
}
