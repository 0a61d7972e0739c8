#include "authz/policy/state.h"

#include <lauxlib.h>
#include <stdio.h>

#include "authz/base/text.h"
#include "authz/policy/rules.h"

#define OPEN_STEPS 1000000
#define OPEN_MS 1000
#define BIND_STEPS 20000000
#define BIND_MS 2000
#define NODES_MAX 4096 /* members of a table that a `when` makes */
#define BIND_MEMORY ((size_t)64 * 1024 * 1024)

bool state_where(const struct set *set, const char *why, struct str *path, int *line,
		 const char **text)
{
	struct str s = str_c(why), file, number, rest;
	uint64_t f, l;

	if (!str_cut(s, ':', &file, &rest) || !str_cut(rest, ':', &number, &rest) ||
	    !text_u64(file, UINT32_MAX, &f) || f >= set->nfiles || !text_u64(number, INT32_MAX, &l))
		return false;
	*path = set->files[f].path;
	*line = (int)l;
	*text = rest.n && rest.p[0] == ' ' ? rest.p + 1 : rest.p;
	return true;
}

static int open_words(lua_State *L)
{
	lua_gc(L, LUA_GCGEN, 0, 0);
	prelude_push(L, rules_words);
	lua_rawseti(L, LUA_REGISTRYINDEX, STATE_WORDS);
	lua_newtable(L);
	lua_rawseti(L, LUA_REGISTRYINDEX, STATE_WHENS);
	input_push_meta(L);
	lua_rawseti(L, LUA_REGISTRYINDEX, STATE_META);
	input_push_later(L);
	lua_rawseti(L, LUA_REGISTRYINDEX, STATE_LATER);
	return 0;
}

void state_close(struct policy_state *st)
{
	sandbox_close(&st->sb);
	st->open = false;
}

bool state_open(struct policy_state *st, char why[static WHY_MAX])
{
	struct err e = { 0 };

	if (st->open)
		return true;
	memset(st->bound, 0, st->set->nfiles);
	memset(&st->agents, 0, sizeof(st->agents));
	if (!sandbox_open(&st->sb, st->alloc, st->clock, BIND_MEMORY, &e)) {
		snprintf(why, WHY_MAX, "%s", e.msg);
		return false;
	}
	st->sb.set = st->set;
	if (st->watch) {
		st->sb.step = st->watch->step ? st->watch->step : SANDBOX_STEP;
		st->sb.line = st->watch->line;
		st->sb.line_ctx = st->watch->ctx;
	}
	if (!sandbox_call(&st->sb, open_words, NULL, OPEN_STEPS, OPEN_MS, why, WHY_MAX)) {
		state_close(st);
		return false;
	}
	st->resident = st->sb.used;
	st->open = true;
	return true;
}

/* Run one file and freeze what its `when` functions hold on to. */
static int bind_file(lua_State *L)
{
	struct job *j = lua_touserdata(L, 1);
	const struct source_file *f = &j->set->files[j->file];
	char name[16];

	snprintf(name, sizeof(name), "=%u", j->file);
	lua_rawgeti(L, LUA_REGISTRYINDEX, STATE_WHENS); /* 2 */
	j->whens = STATE_WHENS;
	lua_rawgeti(L, LUA_REGISTRYINDEX, STATE_WORDS); /* 3 */
	/* Binary, but our own: it never left this process. */
	if (luaL_loadbufferx(L, f->dump.p, f->dump.n, name, "b") != LUA_OK)
		return lua_error(L);
	prelude_push_env(L, 3);
	if (!lua_setupvalue(L, -2, 1))
		return luaL_error(L, "the chunk has no environment");
	lua_call(L, 0, 0);
	lua_newtable(L); /* 4: what is frozen already */
	for (uint32_t i = 0; i < j->set->nrules; i++) {
		if (j->set->rules[i].file != j->file || !j->set->rules[i].has_when)
			continue;
		if (lua_rawgeti(L, 2, (lua_Integer)i + 1) != LUA_TFUNCTION)
			return luaL_error(L, "rule \"%s\" came out without its when",
					  j->set->rules[i].full.p);
		j->line = j->set->rules[i].line;
		prelude_freeze(L, -1, 4);
		lua_pop(L, 1);
	}
	return 0;
}

bool state_bind(struct policy_state *st, uint32_t file, char why[static WHY_MAX])
{
	/* The job only reads the set here. */
	struct job j = { .kind = JOB_BIND, .set = (struct set *)st->shared, .file = file };
	char said[WHY_MAX];
	struct str path;
	const char *text;
	int line;
	bool ok;

	if (st->bound[file])
		return true;
	st->sb.cap = st->sb.used + BIND_MEMORY;
	st->sb.work = &j;
	ok = sandbox_call(&st->sb, bind_file, &j, BIND_STEPS, BIND_MS, why, WHY_MAX);
	st->sb.work = NULL;
	if (!ok) {
		state_close(st);
		if (j.line && !state_where(st->set, why, &path, &line, &text)) {
			snprintf(said, sizeof(said), "%s", why);
			snprintf(why, WHY_MAX, "%u:%d: %.480s", file, j.line, said);
		}
		return false;
	}
	st->bound[file] = true;
	st->resident = st->sb.used - st->agents.bytes;
	return true;
}

/* Call a `when`, the function and q on top; measured if somebody wants to know. */
static void call_when(lua_State *L, const struct evaluation *ev, uint32_t rule)
{
	struct sandbox *sb = sandbox_of(L);
	struct watch_cost *cost = ev->watch && ev->watch->cost ? &ev->watch->cost[rule] : NULL;
	uint64_t steps = sb->steps, bytes = sb->asked;
	int64_t start;

	if (!cost) {
		lua_call(L, 1, 1);
		return;
	}
	start = clock_mono_ns(&clock_system);
	lua_call(L, 1, 1);
	cost->ns += (uint64_t)(clock_mono_ns(&clock_system) - start);
	cost->steps += sb->steps - steps;
	cost->bytes += sb->asked - bytes;
	cost->runs++;
}

/* Run all applicable rules, strongest effect first and by name, until one denies or errs. */
static int run_rules(lua_State *L)
{
	struct evaluation *ev = lua_touserdata(L, 1);

	lua_rawgeti(L, LUA_REGISTRYINDEX, STATE_WHENS); /* 2 */
	lua_createtable(L, 0, 6);			/* 3: q */
	lua_rawgeti(L, LUA_REGISTRYINDEX, STATE_META);
	lua_setmetatable(L, 3);
	for (uint32_t i = 0; i < ev->n; i++) {
		const struct rule *r = &ev->set->rules[ev->rules[i]];
		bool hit = true;

		if (r->has_when) {
			ev->current = r;
			lua_rawgeti(L, 2, (lua_Integer)ev->rules[i] + 1);
			lua_pushvalue(L, 3);
			call_when(L, ev, ev->rules[i]);
			/* 0, "" and {} count as true in Lua: return q.args.amount would permit */
			if (!lua_isboolean(L, -1))
				return luaL_error(L, "when returned %s, not true or false",
						  luaL_typename(L, -1));
			hit = lua_toboolean(L, -1);
			lua_pop(L, 1);
		}
		if (ev->watch && ev->watch->seen)
			ev->watch->seen[ev->rules[i]] |= hit ? WATCH_TRUE : WATCH_FALSE;
		if (!hit)
			continue;
		if (r->effect == DECISION_DENY) {
			ev->deny = r;
			return 0;
		}
		if (r->effect == DECISION_ASK && !ev->ask)
			ev->ask = r;
		if (r->effect == DECISION_PERMIT && !ev->permit)
			ev->permit = r;
	}
	return 0;
}

bool state_run(struct policy_state *st, struct evaluation *ev, size_t body,
	       char why[static WHY_MAX])
{
	const struct policy_limits *l = &st->set->limits;
	bool ok;

	st->sb.cap = st->resident + st->agents.bytes + l->memory + 16 * body;
	st->sb.max_nodes = NODES_MAX;
	st->sb.work = ev;
	ev->agents = &st->agents;
	ev->number = ++st->evaluations;
	ok = sandbox_call(&st->sb, run_rules, ev, l->instructions, l->wall_ms, why, WHY_MAX);
	st->sb.work = NULL;
	st->sb.max_nodes = 0;
	return ok;
}
