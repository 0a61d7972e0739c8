/* The table of one rule: `on`, reason, message, approvers, obligations. */
#include <lauxlib.h>
#include <stdlib.h>

#include "authz/base/pattern.h"
#include "authz/base/text.h"
#include "authz/policy/rules.h"
#include "authz/policy/value.h"

static const char *const rule_keys[] = { "on",	      "when",	     "reason", "message",
					 "approvers", "obligations", NULL };
static const char *const on_keys[] = { "action", "resource", "tool",  "model", "id",
				       "effect", "subject",  "agent", NULL };
/* What the design names and a later version builds: refused, never ignored. */
static const char *const later_keys[] = { "budget", "appeal", "user", "chain", NULL };

static const char *key_text(lua_State *L)
{
	return lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
}

static bool listed(const char *const *names, const char *name)
{
	for (; *names; names++)
		if (strcmp(*names, name) == 0)
			return true;
	return false;
}

static void unknown_key(struct job *j, const struct rule *r, const char *where, const char *key,
			const char *const *known)
{
	char near[100];

	if (!key)
		job_error(j, r->line, "rule \"%.*s\": %s holds something without a name",
			  STR_FMT(r->full), where);
	else if (listed(later_keys, key))
		job_error(j, r->line, "rule \"%.*s\": this version of writ has no \"%s\" yet",
			  STR_FMT(r->full), key);
	else
		job_error(j, r->line, "rule \"%.*s\": %s has no \"%s\"%s", STR_FMT(r->full), where,
			  key, did_you_mean(str_c(key), known, near));
}

/* The value on top as json in the set's arena, or false with a finding. */
static bool read_value(lua_State *L, struct job *j, const struct rule *r, const char *what,
		       struct json *out)
{
	const char *why = NULL;

	if (value_from_lua(L, -1, &j->set->arena, out, &why))
		return true;
	job_error(j, r->line, "rule \"%.*s\": %s is %s", STR_FMT(r->full), what, why);
	return false;
}

/* Add a condition from a scalar or a list of scalars; @texts: nothing but texts. */
static void add_condition(struct job *j, struct rule *r, enum dim dim, struct str name,
			  const struct json *v, bool texts, const char *what)
{
	const struct json *values = v->type == JSON_ARRAY ? v->items : v;
	uint32_t n = v->type == JSON_ARRAY ? v->n : 1;
	bool ok = v->type != JSON_OBJECT && n > 0;

	for (uint32_t i = 0; ok && i < n; i++)
		ok = values[i].type == JSON_STRING ||
		     (!texts && values[i].type != JSON_ARRAY && values[i].type != JSON_OBJECT);
	if (!ok) {
		job_error(j, r->line, "rule \"%.*s\": on.%s is neither a %s nor a list of them",
			  STR_FMT(r->full), what, texts ? "text" : "text, number or boolean");
		return;
	}
	if (v->type != JSON_ARRAY) {
		struct json *copy = arena_alloc(&j->set->arena, sizeof(*copy));

		if (!copy) {
			j->out_of_memory = true;
			return;
		}
		*copy = *v;
		values = copy;
	}
	r->on[r->non++] = (struct condition){ dim, name, values, n };
}

/* agent/tool/model = "id", { "id", ... } or { attribute = value or list, ... }, or both. */
static void read_named(lua_State *L, struct job *j, struct rule *r, enum dim dim, const char *what)
{
	int t = lua_gettop(L);
	struct json v;

	if (!lua_istable(L, t)) {
		if (read_value(L, j, r, what, &v))
			add_condition(j, r, dim, STR("id"), &v, true, what);
		return;
	}
	if (lua_rawlen(L, t)) {
		lua_newtable(L); /* the list part alone */
		for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, t); i++) {
			lua_rawgeti(L, t, i);
			lua_rawseti(L, -2, i);
		}
		if (read_value(L, j, r, what, &v))
			add_condition(j, r, dim, STR("id"), &v, true, what);
		lua_pop(L, 1);
	}
	for (lua_pushnil(L); lua_next(L, t); lua_pop(L, 1)) {
		struct str name;

		if (lua_type(L, -2) == LUA_TNUMBER)
			continue;
		if (lua_type(L, -2) != LUA_TSTRING) {
			unknown_key(j, r, what, NULL, on_keys);
			continue;
		}
		name.p = lua_tolstring(L, -2, &name.n);
		name = arena_dup(&j->set->arena, name);
		if (!name.p)
			j->out_of_memory = true;
		else if (read_value(L, j, r, name.p, &v))
			add_condition(j, r, dim, name, &v, dim == DIM_AGENT, name.p);
	}
}

static void read_plain(lua_State *L, struct job *j, struct rule *r, enum dim dim, const char *what)
{
	struct json v;
	struct err e = { 0 };
	const struct condition *c;

	if (!read_value(L, j, r, what, &v))
		return;
	add_condition(j, r, dim, (struct str){ NULL, 0 }, &v, true, what);
	if (dim != DIM_SUBJECT || r->non == 0)
		return;
	c = &r->on[r->non - 1];
	for (uint32_t i = 0; c->dim == DIM_SUBJECT && i < c->n; i++)
		if (!pattern_check(c->values[i].s, &e))
			job_error(j, r->line, "rule \"%.*s\": %s", STR_FMT(r->full), e.msg);
}

static int compare_conditions(const void *pa, const void *pb)
{
	const struct condition *a = pa, *b = pb;
	int c = (int)a->dim - (int)b->dim;

	return c ? c : str_cmp(a->name, b->name);
}

static void write_on(struct job *j, struct rule *r)
{
	static const char *const names[] = {
		[DIM_ACTION] = "action",   [DIM_RESOURCE] = "resource", [DIM_ID] = "id",
		[DIM_SUBJECT] = "subject", [DIM_AGENT] = "agent",	[DIM_TOOL] = "tool",
		[DIM_MODEL] = "model",
	};
	struct buf b;

	buf_in_arena(&b, &j->set->arena, 64 * 1024);
	for (uint32_t i = 0; i < r->non; i++) {
		const struct condition *c = &r->on[i];

		buf_printf(&b, "%s%s", i ? " " : "", names[c->dim]);
		if (c->name.n && !str_eq(c->name, STR("id")))
			buf_printf(&b, ".%.*s", STR_FMT(c->name));
		for (uint32_t k = 0; k < c->n; k++) {
			buf_char(&b, k ? '|' : '=');
			if (c->values[k].type == JSON_STRING)
				buf_add(&b, c->values[k].s);
			else
				json_canonical(&b, &c->values[k]);
		}
	}
	r->on_text = buf_ok(&b) ? buf_str(&b) : STR("...");
}

void on_read(lua_State *L, struct job *j, int index, struct rule *r)
{
	static const struct {
		const char *key;
		enum dim dim;
		bool named;
	} keys[] = {
		{ "action", DIM_ACTION, false }, { "resource", DIM_RESOURCE, false },
		{ "id", DIM_ID, false },	 { "subject", DIM_SUBJECT, false },
		{ "agent", DIM_AGENT, true },	 { "tool", DIM_TOOL, true },
		{ "model", DIM_MODEL, true },
	};
	size_t members = 0;

	if (!lua_istable(L, index)) {
		job_error(j, r->line,
			  "rule \"%.*s\": on is a table such as { action = \"tools/call\" }",
			  STR_FMT(r->full));
		return;
	}
	luaL_checkstack(L, 20, NULL);
	for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
		members++;
		if (lua_istable(L, -1))
			for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
				members++;
	}
	r->on = arena_zero(&j->set->arena, (members + 1) * sizeof(*r->on));
	if (!r->on) {
		j->out_of_memory = true;
		return;
	}
	for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
		const char *key = key_text(L);

		if (!key || !listed(on_keys, key)) {
			unknown_key(j, r, "on", key, on_keys);
			continue;
		}
		if (strcmp(key, "effect") == 0) { /* of the tool: said so often, it has a name */
			struct json v;

			if (read_value(L, j, r, key, &v))
				add_condition(j, r, DIM_TOOL, STR("effect"), &v, true, key);
			continue;
		}
		for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
			if (strcmp(key, keys[i].key) != 0)
				continue;
			if (keys[i].named)
				read_named(L, j, r, keys[i].dim, key);
			else
				read_plain(L, j, r, keys[i].dim, key);
		}
	}
	qsort(r->on, r->non, sizeof(*r->on), compare_conditions);
	write_on(j, r);
}

static struct str read_text(lua_State *L, struct job *j, const struct rule *r, const char *what)
{
	struct json v = { 0 };

	if (!read_value(L, j, r, what, &v))
		return (struct str){ NULL, 0 };
	if (v.type == JSON_STRING && v.s.n > 0 && v.s.n <= 400 && text_is_printable(v.s))
		return v.s;
	job_error(j, r->line, "rule \"%.*s\": %s is one printable text of at most 400 bytes",
		  STR_FMT(r->full), what);
	return (struct str){ NULL, 0 };
}

static void read_reason(lua_State *L, struct job *j, struct rule *r)
{
	struct str s = read_text(L, j, r, "reason");
	bool ok = s.n <= 64;

	for (size_t i = 0; i < s.n; i++)
		ok = ok && ((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= '0' && s.p[i] <= '9') ||
			    s.p[i] == '_');
	if (s.n && !ok)
		job_error(j, r->line, "rule \"%.*s\": a reason is a code of [a-z0-9_], up to 64",
			  STR_FMT(r->full));
	else if (s.n)
		r->reason = s;
}

/* A list of @item, as canonical JSON. A single text stands for a list of one. */
static struct str read_list(lua_State *L, struct job *j, const struct rule *r, const char *what,
			    enum json_type item)
{
	struct json v = { 0 }, list = { .type = JSON_ARRAY, .n = 1, .items = &v };
	struct str text;
	bool ok;

	if (!read_value(L, j, r, what, &v))
		return (struct str){ NULL, 0 };
	if (v.type == JSON_ARRAY)
		list = v;
	else if (v.type == JSON_OBJECT && item == JSON_OBJECT && v.n == 0)
		return (struct str){ NULL, 0 };
	ok = v.type == JSON_ARRAY || (v.type == JSON_STRING && item == JSON_STRING);
	for (uint32_t i = 0; ok && i < list.n; i++)
		ok = list.items[i].type == item;
	if (!ok) {
		job_error(
			j, r->line, "rule \"%.*s\": %s is a list of %s", STR_FMT(r->full), what,
			item == JSON_STRING
				? "names"
				: "tables such as { { id = \"...\", type = \"...\", properties = {} } }");
		return (struct str){ NULL, 0 };
	}
	if (item == JSON_OBJECT)
		obligations_check(j, r, &list);
	text = value_canonical(&list, &j->set->arena);
	if (!text.p)
		job_error(j, r->line, "rule \"%.*s\": %s are longer than 64 KiB", STR_FMT(r->full),
			  what);
	return text;
}

/* Where the function on top begins. */
static int function_line(lua_State *L)
{
	lua_Debug ar;

	lua_pushvalue(L, -1);
	return lua_getinfo(L, ">S", &ar) ? ar.linedefined : 0;
}

static void read_member(lua_State *L, struct job *j, struct rule *r, const char *key)
{
	if (strcmp(key, "on") == 0) {
		on_read(L, j, lua_gettop(L), r);
	} else if (strcmp(key, "when") == 0) {
		r->has_when = true;
		if (!lua_isfunction(L, -1) || lua_iscfunction(L, -1))
			job_error(
				j, r->line,
				"rule \"%.*s\": when is a function: write when = function(q) return "
				"... end",
				STR_FMT(r->full));
		else
			r->when_line = function_line(L);
	} else if (strcmp(key, "reason") == 0) {
		read_reason(L, j, r);
	} else if (strcmp(key, "message") == 0) {
		r->message = read_text(L, j, r, "message");
	} else if (strcmp(key, "obligations") == 0) {
		r->obligations = read_list(L, j, r, "obligations", JSON_OBJECT);
	} else if (r->effect != DECISION_ASK) {
		job_error(j, r->line, "rule \"%.*s\": only an ask has approvers", STR_FMT(r->full));
	} else {
		r->approvers = read_list(L, j, r, "approvers", JSON_STRING);
	}
}

void rule_read(lua_State *L, struct job *j, int index, struct rule *r)
{
	r->reason = r->effect == DECISION_PERMIT ? STR(REASON_PERMITTED)
		    : r->effect == DECISION_ASK	 ? STR(REASON_APPROVAL_REQUIRED)
						 : STR(REASON_DENIED);
	luaL_checkstack(L, 20, NULL);
	for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
		const char *key = key_text(L);

		if (key && listed(rule_keys, key))
			read_member(L, j, r, key);
		else
			unknown_key(j, r, "a rule", key, rule_keys);
	}
	if (r->effect != DECISION_DENY && r->non == 0)
		job_error(j, r->line,
			  "rule \"%.*s\": on is required: say at least which action it speaks of",
			  STR_FMT(r->full));
}
