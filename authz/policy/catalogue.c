/* The catalogue: which tools and models exist, and what they do. */
#include <lauxlib.h>
#include <stdlib.h>

#include "authz/base/text.h"
#include "authz/policy/rules.h"
#include "authz/policy/sandbox.h"
#include "authz/policy/value.h"

const char *const catalogue_word_names[] = { "tool", "model", "attributes", "pins", NULL };

static const char *const effects[] = { "read", "write",	  "delete", "spend",
				       "send", "execute", "admin",  NULL };
static const char *const types[] = {
	[ARG_STRING] = "string",   [ARG_NUMBER] = "number",
	[ARG_INTEGER] = "integer", [ARG_BOOLEAN] = "boolean",
	[ARG_OBJECT] = "object",   [ARG_ARRAY] = "array",
	[ARG_ANY] = "any",	   NULL,
};

/* Upvalues: is a tool, id, line, pending. */
static int build_entry(lua_State *L)
{
	struct job *j = job_of(L);
	lua_Integer pending = lua_tointeger(L, lua_upvalueindex(4));
	struct str id;

	if (!lua_istable(L, 1))
		return luaL_error(L, "an entry is a table: write tool \"SERVER/TOOL\" { ... }");
	if (pending >= 0 && pending < j->npending)
		j->pending[pending].built = j->pending[pending].placed = true;
	id.p = lua_tolstring(L, lua_upvalueindex(2), &id.n);
	catalogue_read(L, j, 1, id, (int)lua_tointeger(L, lua_upvalueindex(3)),
		       lua_toboolean(L, lua_upvalueindex(1)));
	return 0;
}

static int begin_entry(lua_State *L, bool tool, const char *word)
{
	struct job *j = job_of(L);
	int line = job_line(L);
	struct str id;

	if (lua_type(L, 1) != LUA_TSTRING)
		return luaL_error(L, "%s needs an id: write %s \"ID\" { ... }", word, word);
	id.p = lua_tolstring(L, 1, &id.n);
	lua_pushboolean(L, tool);
	lua_pushvalue(L, 1);
	lua_pushinteger(L, line);
	lua_pushinteger(L, job_begin(j, word, id, line));
	lua_pushcclosure(L, build_entry, 4);
	return 1;
}

static int word_tool(lua_State *L)
{
	return begin_entry(L, true, "tool");
}

static int word_model(lua_State *L)
{
	return begin_entry(L, false, "model");
}

const struct prelude_word catalogue_words[] = {
	{ "tool", word_tool }, { "model", word_model }, { "attributes", word_attributes },
	{ "pins", word_pins }, { NULL, NULL },
};

static bool tool_id_ok(struct str id)
{
	struct str server, tool;

	if (!str_cut(id, '/', &server, &tool) || server.n == 0 || tool.n == 0)
		return false;
	for (size_t i = 0; i < server.n; i++) {
		char c = server.p[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && !strchr("_.-", c))
			return false;
	}
	return true;
}

static bool read_type(struct str s, struct arg *arg)
{
	arg->optional = s.n && s.p[s.n - 1] == '?';
	s.n -= arg->optional;
	for (size_t i = 0; types[i]; i++)
		if (str_eq(s, str_c(types[i]))) {
			arg->type = (enum arg_type)i;
			return true;
		}
	return false;
}

static int compare_args(const void *pa, const void *pb)
{
	return str_cmp(((const struct arg *)pa)->name, ((const struct arg *)pb)->name);
}

static void read_args(struct job *j, struct entry *entry, const struct json *v)
{
	char near[100];

	if (v->type != JSON_OBJECT) {
		job_error(j, entry->line,
			  "\"%.*s\": args is a table such as { amount = \"number\" }",
			  STR_FMT(entry->id));
		return;
	}
	entry->args = arena_zero(&j->set->arena, (v->n + 1) * sizeof(*entry->args));
	if (!entry->args) {
		j->out_of_memory = true;
		return;
	}
	entry->has_args = true;
	for (uint32_t i = 0; i < v->n; i++) {
		const struct json *item = &v->items[i];
		struct arg *arg = &entry->args[entry->nargs];
		struct str word = item->type == JSON_STRING ? item->s : STR("?");

		arg->name = item->name;
		if (item->type == JSON_STRING && read_type(word, arg))
			entry->nargs++;
		else
			job_error(
				j, entry->line,
				"\"%.*s\": argument \"%.*s\" has type \"%.*s\"%s; types are string, "
				"number, integer, boolean, object, array, any, each with ? if optional",
				STR_FMT(entry->id), STR_FMT(arg->name), STR_FMT(word),
				did_you_mean(word, types, near));
	}
	if (entry->nargs)
		qsort(entry->args, entry->nargs, sizeof(*entry->args), compare_args);
}

static void check_effect(struct job *j, const struct entry *entry, const struct json *effect)
{
	struct str word = effect && effect->type == JSON_STRING ? effect->s : STR("");
	char near[100];

	for (size_t i = 0; effects[i]; i++)
		if (str_eq(word, str_c(effects[i])))
			return;
	job_error(j, entry->line,
		  "\"%.*s\": effect is \"%.*s\"%s; one of read, write, delete, spend, send, "
		  "execute, admin was expected",
		  STR_FMT(entry->id), STR_FMT(word), did_you_mean(word, effects, near));
}

/* Attributes are the entry's table without args and digest, with its id. */
static bool take_attributes(struct job *j, struct entry *entry, struct json *body, bool tool)
{
	struct json *items = arena_zero(&j->set->arena, (body->n + 1) * sizeof(*items));
	struct json *object = arena_zero(&j->set->arena, sizeof(*object));
	struct json id = { .type = JSON_STRING, .s = entry->id, .name = STR("id") };
	uint32_t n = 0;

	if (!items || !object) {
		j->out_of_memory = true;
		return false;
	}
	for (uint32_t i = 0; i < body->n; i++) {
		const struct json *item = &body->items[i];

		if (id.name.p && str_cmp(item->name, id.name) > 0) {
			items[n++] = id;
			id.name.p = NULL;
		}
		if (str_eq(item->name, STR("args")))
			read_args(j, entry, item);
		else if (tool && str_eq(item->name, STR("digest")))
			pin_read(j, entry->id, item, entry->line);
		else if (str_eq(item->name, STR("id")))
			job_error(j, entry->line, "\"%.*s\": id is writ's word",
				  STR_FMT(entry->id));
		else
			items[n++] = *item;
	}
	if (id.name.p)
		items[n++] = id;
	*object = (struct json){ .type = JSON_OBJECT, .n = n, .items = items };
	entry->attributes = object;
	return true;
}

void catalogue_read(lua_State *L, struct job *j, int index, struct str id, int line, bool tool)
{
	struct set *s = j->set;
	struct catalogue *c = tool ? &s->tools : &s->models;
	struct entry entry = { .id = arena_dup(&s->arena, id), .file = j->file, .line = line };
	struct json body = { 0 };
	const char *why = NULL;
	void *items = c->items;

	if (id.n == 0 || id.n > 256 || !text_is_utf8(id) || !text_is_printable(id) ||
	    (tool && !tool_id_ok(id)))
		job_error(
			j, line,
			tool ? "tool \"%.*s\": SERVER/TOOL was expected, with [a-z0-9_.-] in SERVER"
			     : "model \"%.*s\": 1 to 256 printable bytes were expected",
			STR_FMT(str_first(id, 256)));
	if (!value_from_lua(L, index, &s->arena, &body, &why)) {
		job_error(j, line, "\"%.*s\" holds %s", STR_FMT(str_first(id, 256)), why);
		return;
	}
	if (body.type != JSON_OBJECT) {
		job_error(j, line, "\"%.*s\" is a list; attributes have names",
			  STR_FMT(str_first(id, 256)));
		return;
	}
	if (!entry.id.p || !take_attributes(j, &entry, &body, tool))
		return;
	if (tool)
		check_effect(j, &entry, json_get(entry.attributes, STR("effect")));
	if (tool && !entry.has_args)
		job_warn(j, line, "\"%.*s\" declares no args, so its arguments are not checked",
			 STR_FMT(entry.id));
	if (job_room(j, &items, c->n, tool ? &j->room_tools : &j->room_models, sizeof(entry))) {
		c->items = items;
		c->items[c->n++] = entry;
	}
}

static int compare_entries(const void *pa, const void *pb)
{
	const struct entry *a = pa, *b = pb;
	int c = str_cmp(a->id, b->id);

	if (c == 0)
		c = (a->file > b->file) - (a->file < b->file);
	return c ? c : (a->line > b->line) - (a->line < b->line);
}

static uint32_t place_of(const struct catalogue *c, struct str id)
{
	const struct json text = { .type = JSON_STRING, .s = id };
	uint32_t at = (uint32_t)value_hash(0, &text) & c->mask;

	while (c->places[at] && !str_eq(c->items[c->places[at] - 1].id, id))
		at = (at + 1) & c->mask;
	return at;
}

static void file_entries(struct job *j, struct catalogue *c)
{
	uint32_t size = 16;

	while (size < c->n * 2)
		size *= 2;
	c->mask = size - 1;
	c->places = arena_zero(&j->set->arena, size * sizeof(*c->places));
	if (!c->places) {
		j->out_of_memory = true;
		return;
	}
	for (uint32_t i = 0; i < c->n; i++)
		c->places[place_of(c, c->items[i].id)] = i + 1;
}

static void finish(struct job *j, struct catalogue *c)
{
	if (c->n)
		qsort(c->items, c->n, sizeof(*c->items), compare_entries);
	for (uint32_t i = 1; i < c->n; i++) {
		const struct entry *a = &c->items[i - 1], *b = &c->items[i];

		j->file = b->file;
		if (str_eq(a->id, b->id))
			job_error(j, b->line, "\"%.*s\" is already at %.*s:%d", STR_FMT(b->id),
				  STR_FMT(j->set->files[a->file].path), a->line);
	}
	file_entries(j, c);
}

void catalogue_finish(struct job *j)
{
	finish(j, &j->set->tools);
	finish(j, &j->set->models);
	pins_finish(j);
}

const struct entry *catalogue_find(const struct catalogue *c, struct str id)
{
	uint32_t entry = c->places ? c->places[place_of(c, id)] : 0;

	return entry ? &c->items[entry - 1] : NULL;
}

bool catalogue_knows(const struct catalogue *c, struct str name)
{
	for (uint32_t i = 0; i < c->n; i++)
		if (json_get(c->items[i].attributes, name))
			return true;
	return false;
}

const char *catalogue_near(const struct catalogue *c, struct str name, struct arena *a)
{
	const char **names;
	uint32_t n = 0, at = 0;

	for (uint32_t i = 0; i < c->n; i++)
		n += c->items[i].attributes->n;
	names = arena_alloc(a, (n + 1) * sizeof(*names));
	if (!names)
		return NULL;
	for (uint32_t i = 0; i < c->n; i++)
		for (uint32_t k = 0; k < c->items[i].attributes->n; k++)
			names[at++] = c->items[i].attributes->items[k].name.p;
	names[at] = NULL;
	return text_nearest(name, names);
}

/* A rule that names a tool which does not exist can never apply: a deny would be lost. */
static void check_ids(struct job *j, const struct rule *r, const struct condition *c,
		      const struct catalogue *in)
{
	const char *what = c->dim == DIM_TOOL ? "tool" : "model";
	const char **names = arena_alloc(&j->set->arena, (in->n + 1) * sizeof(*names));
	char near[100];

	if (!names) {
		j->out_of_memory = true;
		return;
	}
	for (uint32_t i = 0; i < in->n; i++)
		names[i] = in->items[i].id.p;
	names[in->n] = NULL;
	for (uint32_t i = 0; i < c->n; i++)
		if (!catalogue_find(in, c->values[i].s))
			job_error(j, r->line, "rule \"%.*s\": no %s \"%.*s\" in the catalogue%s",
				  STR_FMT(r->full), what, STR_FMT(c->values[i].s),
				  did_you_mean(c->values[i].s, names, near));
}

static void check_condition(struct job *j, const struct rule *r, const struct condition *c)
{
	const struct catalogue *in = c->dim == DIM_TOOL ? &j->set->tools : &j->set->models;
	const char *what = c->dim == DIM_TOOL ? "tool" : "model", *near;
	char text[100];

	if (str_eq(c->name, STR("id"))) {
		check_ids(j, r, c, in);
		return;
	}
	if (c->dim == DIM_TOOL && str_eq(c->name, STR("effect"))) {
		for (uint32_t i = 0; i < c->n; i++) {
			bool known = false;

			for (size_t k = 0; effects[k]; k++)
				known = known || str_eq(c->values[i].s, str_c(effects[k]));
			if (!known)
				job_error(j, r->line, "rule \"%.*s\": no effect \"%.*s\"%s",
					  STR_FMT(r->full), STR_FMT(c->values[i].s),
					  did_you_mean(c->values[i].s, effects, text));
		}
		return;
	}
	if (catalogue_knows(in, c->name))
		return;
	near = catalogue_near(in, c->name, &j->set->arena);
	job_error(j, r->line, "rule \"%.*s\": no %s in the catalogue has \"%.*s\"%s%s%s",
		  STR_FMT(r->full), what, STR_FMT(c->name), near ? "; did you mean \"" : "",
		  near ? near : "", near ? "\"?" : "");
}

void catalogue_check_rules(struct job *j)
{
	for (uint32_t i = 0; i < j->set->nrules; i++) {
		const struct rule *r = &j->set->rules[i];

		j->file = r->file;
		for (uint32_t k = 0; k < r->non; k++)
			if (r->on[k].dim == DIM_TOOL || r->on[k].dim == DIM_MODEL)
				check_condition(j, r, &r->on[k]);
			else if (r->on[k].dim == DIM_AGENT)
				declared_check(j, r->on[k].name, r->line, &r->on[k]);
	}
}
