/* q: what a `when` sees of a request. Its members are built when they are first looked at, as
 * plain tables, fresh for every evaluation: a rule that reads the team of the agent does not pay
 * for a context of a megabyte. Two things only look like that: an agent's table may be kept from
 * one evaluation to the next (input_agent.c), and what is large inside a member is built when that
 * is looked at (input_value.c). */
#include <lauxlib.h>

#include "authz/policy/state.h"

static const struct evaluation *evaluation_of(lua_State *L)
{
	const struct evaluation *ev = sandbox_of(L)->work;

	if (!ev)
		luaL_error(L, "q is gone when its evaluation is");
	return ev;
}

static void push_text(lua_State *L, const char *name, struct str s)
{
	lua_pushlstring(L, s.p ? s.p : "", s.n);
	lua_setfield(L, -2, name);
}

/* Names with one blank between them, as a list. */
static void push_names(lua_State *L, struct str names)
{
	lua_Integer n = 0;

	lua_newtable(L);
	while (names.n) {
		struct str name = names;

		if (!str_cut(names, ' ', &name, &names))
			names.n = 0;
		lua_pushlstring(L, name.p, name.n);
		lua_rawseti(L, -2, ++n);
	}
}

static void push_user(lua_State *L, const struct policy_delegation *d)
{
	lua_newtable(L);
	if (!d)
		return;
	if (d->user.p) {
		push_text(L, "id", d->user);
		push_text(L, "issuer", d->user_issuer);
	}
	push_names(L, d->scope);
	lua_setfield(L, -2, "scope");
}

static void push_chain(lua_State *L, const struct policy_delegation *d)
{
	lua_newtable(L);
	for (size_t i = 0; d && i < d->nchain; i++) {
		lua_pushlstring(L, d->chain[i].p, d->chain[i].n);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
}

static void push_json(lua_State *L, const struct json *v)
{
	if (v)
		input_push_value(L, v);
	else
		lua_pushnil(L);
}

static void push_object(lua_State *L, const struct json *v)
{
	if (v)
		input_push_value(L, v);
	else
		lua_newtable(L);
}

enum member {
	SUBJECT,
	ACTION,
	RESOURCE,
	CONTEXT,
	ARGS,
	AGENT,
	TOOL,
	MODEL,
	PEP,
	NOW,
	HTTP,
	USER,
	CHAIN,
	MEMBERS
};

static const struct str member_names[MEMBERS] = {
	[SUBJECT] = STR_INIT("subject"),   [ACTION] = STR_INIT("action"),
	[RESOURCE] = STR_INIT("resource"), [CONTEXT] = STR_INIT("context"),
	[ARGS] = STR_INIT("args"),	   [AGENT] = STR_INIT("agent"),
	[TOOL] = STR_INIT("tool"),	   [MODEL] = STR_INIT("model"),
	[PEP] = STR_INIT("pep"),	   [NOW] = STR_INIT("now"),
	[HTTP] = STR_INIT("http"),	   [USER] = STR_INIT("user"),
	[CHAIN] = STR_INIT("chain"),
};

static void push_member(lua_State *L, const struct evaluation *ev, enum member m)
{
	const struct facts *f = ev->facts;

	switch (m) {
	case SUBJECT:
		push_json(L, f->q->subject);
		return;
	case ACTION:
		push_json(L, f->q->action);
		return;
	case RESOURCE:
		push_json(L, f->q->resource);
		return;
	case CONTEXT:
		push_json(L, f->q->context);
		return;
	case ARGS:
		push_object(L, json_get_type(f->q->action, STR("properties"), JSON_OBJECT));
		return;
	case AGENT:
		input_push_agent(L, ev->agents, f->q);
		return;
	case TOOL:
		push_json(L, f->tool ? f->tool->attributes : NULL);
		return;
	case MODEL:
		push_json(L, f->model ? f->model->attributes : NULL);
		return;
	case PEP:
		lua_createtable(L, 0, 1);
		push_text(L, "id", f->q->pep);
		return;
	case NOW:
		lua_pushinteger(L, f->q->now_ms);
		return;
	case HTTP: /* empty where nobody speaks of HTTP: rules then meet nil, not an error */
		push_object(L, f->q->http);
		return;
	case USER: /* empty without a token, like q.http */
		push_user(L, f->q->delegation);
		return;
	case CHAIN:
		push_chain(L, f->q->delegation);
		return;
	case MEMBERS:
		break;
	}
	lua_pushnil(L);
}

/* q.name, the first time. */
static int q_index(lua_State *L)
{
	const struct evaluation *ev = evaluation_of(L);
	struct str name = { NULL, 0 };

	if (lua_type(L, 2) == LUA_TSTRING)
		name.p = lua_tolstring(L, 2, &name.n);
	for (int m = 0; m < MEMBERS; m++) {
		if (!str_eq_short(name, member_names[m]))
			continue;
		push_member(L, ev, (enum member)m);
		lua_pushvalue(L, 2);
		lua_pushvalue(L, -2);
		lua_rawset(L, 1);
		return 1;
	}
	/* nil would make `not q.suspendde` true */
	return luaL_error(L, "q has no member '%s'", name.p ? name.p : luaL_typename(L, 2));
}

/* pairs(q): build what was not looked at yet. */
static int q_fill(lua_State *L)
{
	const struct evaluation *ev = evaluation_of(L);

	for (int m = 0; m < MEMBERS; m++) {
		lua_pushlstring(L, member_names[m].p, member_names[m].n);
		lua_pushvalue(L, -1);
		if (lua_rawget(L, 1) == LUA_TNIL) {
			lua_pop(L, 1);
			push_member(L, ev, (enum member)m);
			lua_rawset(L, 1);
		} else {
			lua_pop(L, 2);
		}
	}
	return 0;
}

void input_check_key(lua_State *L)
{
	if (lua_isnil(L, 2))
		luaL_error(L, "table index is nil");
	if (lua_type(L, 2) == LUA_TNUMBER && !lua_rawequal(L, 2, 2))
		luaL_error(L, "table index is NaN");
}

void input_push_meta(lua_State *L)
{
	lua_createtable(L, 0, 2);
	lua_createtable(L, 1 << AGENTS_BITS, 0); /* of both: agents that are kept */
	lua_pushvalue(L, -1);
	lua_pushcclosure(L, q_index, 1);
	lua_setfield(L, -3, "__index");
	lua_pushcclosure(L, q_fill, 1);
	lua_setfield(L, -2, "__pairs");
}
