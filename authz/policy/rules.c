#include "authz/policy/rules.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "authz/base/text.h"
#include "authz/policy/sandbox.h"
#include "authz/policy/value.h"

#define NAME_MAX_BYTES 128

const char *const rules_word_names[] = { "policy", "permit", "deny", "ask", NULL };

static const char rule_tag; /* its address marks tables that are rules */

struct job *job_of(lua_State *L)
{
	return sandbox_of(L)->work;
}

int job_line(lua_State *L)
{
	lua_Debug ar;

	if (!lua_getstack(L, 1, &ar) || !lua_getinfo(L, "l", &ar) || ar.currentline < 0)
		return 0;
	return ar.currentline;
}

bool job_room(struct job *j, void **items, uint32_t n, uint32_t *room, size_t size)
{
	uint32_t wanted = *room ? *room * 2 : 16;
	void *more;

	if (n < *room)
		return true;
	more = arena_alloc(&j->set->arena, wanted * size);
	if (!more) {
		j->out_of_memory = true;
		return false;
	}
	if (n)
		memcpy(more, *items, n * size);
	*items = more;
	*room = wanted;
	return true;
}

/* In a state of its own nothing is pending: the load has checked that. */
uint32_t job_begin(struct job *j, const char *word, struct str name, int line)
{
	void *items = j->pending;

	if (j->kind != JOB_LOAD ||
	    !job_room(j, &items, j->npending, &j->room_pending, sizeof(*j->pending)))
		return UINT32_MAX;
	j->pending = items;
	j->pending[j->npending] = (struct pending){ word, arena_dup(&j->set->arena, name), line,
						    false, false };
	return j->npending++;
}

static struct pending *pending_at(struct job *j, lua_Integer i)
{
	return i >= 0 && i < j->npending ? &j->pending[i] : NULL;
}

void rules_check_pending(struct job *j)
{
	for (uint32_t i = 0; i < j->npending; i++) {
		const struct pending *p = &j->pending[i];

		if (!p->built)
			job_error(j, p->line, "%s \"%.*s\" has no table: write %s \"%.*s\" { ... }",
				  p->word, STR_FMT(p->name), p->word, STR_FMT(p->name));
		else if (!p->placed)
			job_error(
				j, p->line,
				"%s \"%.*s\" stands in no policy: put it into policy \"NAME\" { ... }",
				p->word, STR_FMT(p->name));
	}
	j->npending = 0;
}

static bool name_ok(struct str s, bool policy)
{
	if (s.n == 0 || s.n > NAME_MAX_BYTES || !text_is_utf8(s) || !text_is_printable(s))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (c == '/' || (policy && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') &&
				 c != '-' && c != '_'))
			return false;
	}
	return true;
}

static struct str name_argument(lua_State *L, const char *word)
{
	struct str s = { NULL, 0 };

	if (lua_type(L, 1) != LUA_TSTRING)
		luaL_error(L, "%s needs a name: write %s \"NAME\" { ... }", word, word);
	s.p = lua_tolstring(L, 1, &s.n);
	return s;
}

/* The second half of permit "x" { ... }. Upvalues: effect, name, line, pending. */
static int build_rule(lua_State *L)
{
	struct job *j = job_of(L);
	struct pending *p = pending_at(j, lua_tointeger(L, lua_upvalueindex(4)));

	if (!lua_istable(L, 1))
		return luaL_error(L, "a rule is a table: write permit \"NAME\" { ... }");
	if (p && p->built)
		return luaL_error(L, "the rule \"%s\" is built twice",
				  lua_tostring(L, lua_upvalueindex(2)));
	if (p)
		p->built = true;
	lua_createtable(L, 5, 0);
	for (int i = 1; i <= 4; i++) {
		lua_pushvalue(L, lua_upvalueindex(i));
		lua_rawseti(L, -2, i);
	}
	lua_pushvalue(L, 1);
	lua_rawseti(L, -2, 5);
	lua_pushboolean(L, 1);
	lua_rawsetp(L, -2, &rule_tag);
	return 1;
}

static int begin_rule(lua_State *L, enum decision effect, const char *word)
{
	struct job *j = job_of(L);
	struct str name = name_argument(L, word);
	int line = job_line(L);
	uint32_t pending = job_begin(j, word, name, line);

	lua_pushinteger(L, effect);
	lua_pushvalue(L, 1);
	lua_pushinteger(L, line);
	lua_pushinteger(L, pending);
	lua_pushcclosure(L, build_rule, 4);
	return 1;
}

static int word_permit(lua_State *L)
{
	return begin_rule(L, DECISION_PERMIT, "permit");
}

static int word_deny(lua_State *L)
{
	return begin_rule(L, DECISION_DENY, "deny");
}

static int word_ask(lua_State *L)
{
	return begin_rule(L, DECISION_ASK, "ask");
}

/* With a rule's table on top, load it into the set. */
static void load_rule(lua_State *L, struct job *j, struct str policy)
{
	struct set *s = j->set;
	struct rule r = { .file = j->file };
	int t = lua_gettop(L);
	struct pending *p;
	void *rules = s->rules;
	struct str name;

	lua_rawgeti(L, t, 1);
	r.effect = (enum decision)lua_tointeger(L, -1);
	lua_rawgeti(L, t, 2);
	name.p = lua_tolstring(L, -1, &name.n);
	lua_rawgeti(L, t, 3);
	r.line = (int)lua_tointeger(L, -1);
	lua_rawgeti(L, t, 4);
	p = pending_at(j, lua_tointeger(L, -1));
	if (p && p->placed)
		job_error(j, r.line, "rule \"%.*s\" stands in a policy already", STR_FMT(name));
	if (p)
		p->placed = true;
	if (!name_ok(name, false))
		job_error(j, r.line,
			  "rule name \"%.100s\": 1 to %d printable bytes without '/' were expected",
			  name.p, NAME_MAX_BYTES);
	r.policy = arena_dup(&s->arena, policy);
	r.name = arena_dup(&s->arena, name);
	r.full = arena_printf(&s->arena, "%.*s/%.*s", STR_FMT(policy), STR_FMT(name));
	lua_rawgeti(L, t, 5);
	rule_read(L, j, lua_gettop(L), &r);
	if (!r.full.p || !r.policy.p || !r.name.p)
		j->out_of_memory = true;
	else if (job_room(j, &rules, s->nrules, &j->room_rules, sizeof(r))) {
		s->rules = rules;
		s->rules[s->nrules++] = r;
	}
	lua_settop(L, t);
}

/* With a rule's table on top, keep its `when` under the number of the rule. */
static void bind_rule(lua_State *L, struct job *j, struct str policy)
{
	struct str name;
	int64_t rule;
	int t = lua_gettop(L);

	lua_rawgeti(L, t, 2);
	name.p = lua_tolstring(L, -1, &name.n);
	rule = rules_find(j->set, policy, name);
	if (rule < 0) /* a file came out another way than when it was loaded */
		luaL_error(L, "rule \"%s\" was not there at load", name.p);
	lua_rawgeti(L, LUA_REGISTRYINDEX, j->whens);
	lua_rawgeti(L, t, 5);
	if (lua_getfield(L, -1, "when") == LUA_TFUNCTION)
		lua_rawseti(L, -3, rule + 1);
	lua_settop(L, t);
}

/* Upvalues: name, line, pending. */
static int build_policy(lua_State *L)
{
	struct job *j = job_of(L);
	int line = (int)lua_tointeger(L, lua_upvalueindex(2));
	struct pending *p = pending_at(j, lua_tointeger(L, lua_upvalueindex(3)));
	lua_Integer n = 0, listed;
	struct str name;

	if (!lua_istable(L, 1))
		return luaL_error(L, "a policy is a list of rules: write policy \"NAME\" { ... }");
	if (p)
		p->built = p->placed = true;
	name.p = lua_tolstring(L, lua_upvalueindex(1), &name.n);
	if (j->kind == JOB_LOAD && !name_ok(name, true))
		job_error(j, line, "policy name \"%.100s\": [a-z0-9_-] were expected", name.p);
	listed = (lua_Integer)lua_rawlen(L, 1);
	for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1), n++)
		if (j->kind == JOB_LOAD && lua_type(L, -2) == LUA_TSTRING)
			job_error(
				j, line,
				"policy \"%s\" has a key \"%s\"; a policy is a list of rules only",
				name.p, lua_tostring(L, -2));
	if (n != listed) /* a nil between rules would make the rest vanish */
		return luaL_error(L, "policy \"%s\" is no plain list of rules", name.p);
	for (lua_Integer i = 1; i <= listed; i++) {
		lua_rawgeti(L, 1, i);
		if (!lua_istable(L, -1) || lua_rawgetp(L, -1, &rule_tag) == LUA_TNIL)
			return luaL_error(L, "element %d of policy \"%s\" is no rule", (int)i,
					  name.p);
		lua_pop(L, 1);
		if (j->kind == JOB_LOAD)
			load_rule(L, j, name);
		else
			bind_rule(L, j, name);
		lua_pop(L, 1);
	}
	if (j->kind == JOB_LOAD && listed == 0)
		job_warn(j, line, "policy \"%s\" has no rules", name.p);
	return 0;
}

static int word_policy(lua_State *L)
{
	struct job *j = job_of(L);
	struct str name = name_argument(L, "policy");
	int line = job_line(L);

	lua_pushvalue(L, 1);
	lua_pushinteger(L, line);
	lua_pushinteger(L, job_begin(j, "policy", name, line));
	lua_pushcclosure(L, build_policy, 3);
	return 1;
}

const struct prelude_word rules_words[] = {
	{ "policy", word_policy },
	{ "permit", word_permit },
	{ "deny", word_deny },
	{ "ask", word_ask },
	{ NULL, NULL },
};

/* The whole set */

static int compare_rules(const void *pa, const void *pb)
{
	const struct rule *a = pa, *b = pb;
	int c = (int)a->effect - (int)b->effect; /* enum decision: deny, ask, permit */

	if (c == 0)
		c = str_cmp(a->policy, b->policy);
	if (c == 0)
		c = str_cmp(a->name, b->name);
	if (c == 0)
		c = (a->file > b->file) - (a->file < b->file);
	return c ? c : (a->line > b->line) - (a->line < b->line);
}

static int compare_by_name(const void *pa, const void *pb)
{
	const struct rule *a = *(const struct rule *const *)pa,
			  *b = *(const struct rule *const *)pb;
	int c = str_cmp(a->policy, b->policy);

	if (c == 0)
		c = str_cmp(a->name, b->name);
	if (c == 0)
		c = (a->file > b->file) - (a->file < b->file);
	return c ? c : (a->line > b->line) - (a->line < b->line);
}

void rules_finish(struct job *j)
{
	struct set *s = j->set;
	const struct rule **by_name = arena_alloc(&s->arena, (s->nrules + 1) * sizeof(void *));

	if (!by_name) {
		j->out_of_memory = true;
		return;
	}
	if (s->nrules)
		qsort(s->rules, s->nrules, sizeof(*s->rules), compare_rules);
	for (uint32_t i = 0; i < s->nrules; i++)
		by_name[i] = &s->rules[i];
	if (s->nrules)
		qsort(by_name, s->nrules, sizeof(void *), compare_by_name);
	for (uint32_t i = 1; i < s->nrules; i++) {
		const struct rule *a = by_name[i - 1], *b = by_name[i];

		j->file = b->file;
		if (str_eq(a->full, b->full))
			job_error(j, b->line,
				  "rule \"%.*s\" is already at %.*s:%d; names are unique",
				  STR_FMT(b->full), STR_FMT(s->files[a->file].path), a->line);
	}
	s->by_name = by_name;
}

int64_t rules_find(const struct set *s, struct str policy, struct str name)
{
	uint32_t lo = 0, hi = s->nrules;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		const struct rule *r = s->by_name[mid];
		int c = str_cmp(policy, r->policy);

		if (c == 0)
			c = str_cmp(name, r->name);
		if (c == 0)
			return r - s->rules;
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return -1;
}
