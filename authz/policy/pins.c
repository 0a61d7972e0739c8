/* Pins: what the definitions of tools were when somebody reviewed them. */
#include <lauxlib.h>
#include <stdlib.h>

#include "authz/policy/definition.h"
#include "authz/policy/rules.h"
#include "authz/policy/value.h"

#define AS_TEXT "expected \"sha256:\" and 64 hexadecimal digits in lower case"

static const char *const members[] = { "digest", "definition", NULL };

/* The definition beside a digest must be the one that it is of: what is read in review is what
 * holds. */
static bool read_definition(struct job *j, struct policy_pin *pin, struct str text)
{
	struct sha256 *sha = sha256_new(NULL);
	const struct json *v = NULL;
	struct definition d;
	struct err e = { 0 };

	if (!sha) {
		j->out_of_memory = true;
		return false;
	}
	if (!json_parse(text, &json_default_limits, &j->set->arena, &v, &e) ||
	    v->type != JSON_OBJECT) {
		sha256_free(sha);
		job_error(j, pin->line, "pin of \"%.*s\": definition is no JSON object%s%s",
			  STR_FMT(pin->tool), e.msg[0] ? ": " : "", e.msg);
		return false;
	}
	d = definition_of(v, sha, &j->set->arena);
	sha256_free(sha);
	if (!d.text.p) {
		j->out_of_memory = true;
		return false;
	}
	pin->definition = d.text;
	if (str_eq(d.digest, pin->digest))
		return true;
	job_error(j, pin->line, "pin of \"%.*s\": digest is not that of definition, which is %.*s",
		  STR_FMT(pin->tool), STR_FMT(d.digest));
	return false;
}

static bool read_digest(struct job *j, struct policy_pin *pin, const struct json *v)
{
	if (v && v->type == JSON_STRING && definition_digest_ok(v->s)) {
		pin->digest = v->s;
		return true;
	}
	job_error(j, pin->line, "pin of \"%.*s\": digest is %s%.*s%s; " AS_TEXT, STR_FMT(pin->tool),
		  v && v->type == JSON_STRING ? "\"" : "",
		  STR_FMT(!v			   ? STR("missing")
			  : v->type == JSON_STRING ? str_first(v->s, 80)
						   : str_c(json_type_name(v->type))),
		  v && v->type == JSON_STRING ? "\"" : "");
	return false;
}

static bool read_table(struct job *j, struct policy_pin *pin, const struct json *v)
{
	const struct json *text = json_get(v, STR("definition"));
	char near[100];

	for (uint32_t i = 0; i < v->n; i++)
		if (!str_eq(v->items[i].name, str_c(members[0])) &&
		    !str_eq(v->items[i].name, str_c(members[1]))) {
			job_error(j, pin->line,
				  "pin of \"%.*s\" has \"%.*s\"%s; it has digest and definition",
				  STR_FMT(pin->tool), STR_FMT(str_first(v->items[i].name, 80)),
				  did_you_mean(v->items[i].name, members, near));
			return false;
		}
	if (!read_digest(j, pin, json_get(v, STR("digest"))))
		return false;
	if (!text)
		return true;
	if (text->type == JSON_STRING)
		return read_definition(j, pin, text->s);
	job_error(j, pin->line, "pin of \"%.*s\": definition is %s, expected a text of JSON",
		  STR_FMT(pin->tool), json_type_name(text->type));
	return false;
}

void pin_read(struct job *j, struct str tool, const struct json *v, int line)
{
	struct set *s = j->set;
	struct policy_pin pin = { .tool = tool, .file = s->files[j->file].path, .line = line };
	void *pins = s->pins;

	if (v->type == JSON_OBJECT ? !read_table(j, &pin, v) : !read_digest(j, &pin, v))
		return;
	if (job_room(j, &pins, s->npins, &j->room_pins, sizeof(pin))) {
		s->pins = pins;
		s->pins[s->npins++] = pin;
	}
}

/* Upvalues: server, line, pending. */
static int build_pins(lua_State *L)
{
	struct job *j = job_of(L);
	lua_Integer pending = lua_tointeger(L, lua_upvalueindex(3));
	int line = (int)lua_tointeger(L, lua_upvalueindex(2));
	const char *why = NULL;
	struct str server;
	struct json v;

	if (pending >= 0 && pending < j->npending)
		j->pending[pending].built = j->pending[pending].placed = true;
	server.p = lua_tolstring(L, lua_upvalueindex(1), &server.n);
	if (!lua_istable(L, 1) || !value_from_lua(L, 1, &j->set->arena, &v, &why))
		return luaL_error(L,
				  "pins holds %s; write pins \"SERVER\" { TOOL = \"sha256:...\" }",
				  why ? why : "no table");
	if (v.type != JSON_OBJECT)
		return luaL_error(
			L, "pins is a list; write pins \"SERVER\" { TOOL = \"sha256:...\" }");
	for (uint32_t i = 0; i < v.n; i++) {
		struct str tool = arena_printf(&j->set->arena, "%.*s/%.*s", STR_FMT(server),
					       STR_FMT(v.items[i].name));

		if (tool.p)
			pin_read(j, tool, &v.items[i], line);
		else
			j->out_of_memory = true;
	}
	return 0;
}

int word_pins(lua_State *L)
{
	struct job *j = job_of(L);
	int line = job_line(L);
	struct str server;

	if (lua_type(L, 1) != LUA_TSTRING)
		return luaL_error(L, "pins needs a server: write pins \"SERVER\" { ... }");
	server.p = lua_tolstring(L, 1, &server.n);
	lua_pushvalue(L, 1);
	lua_pushinteger(L, line);
	lua_pushinteger(L, job_begin(j, "pins", server, line));
	lua_pushcclosure(L, build_pins, 3);
	return 1;
}

static int compare(const void *pa, const void *pb)
{
	const struct policy_pin *a = pa, *b = pb;
	int c = str_cmp(a->tool, b->tool);

	if (c == 0)
		c = str_cmp(a->file, b->file);
	return c ? c : (a->line > b->line) - (a->line < b->line);
}

/* A pin that names no tool protects none: it may be a slip. */
static void attach(struct job *j, const struct policy_pin *pin, const char *const *names)
{
	struct set *s = j->set;
	const struct entry *found = catalogue_find(&s->tools, pin->tool);
	char near[100];

	if (found)
		s->tools.items[found - s->tools.items].pin = pin;
	else
		finding(j->findings, false, pin->file, pin->line,
			"the pin of \"%.*s\" is for no tool of the catalogue, where every call of it "
			"is denied%s",
			STR_FMT(str_first(pin->tool, 200)), did_you_mean(pin->tool, names, near));
}

void pins_finish(struct job *j)
{
	struct set *s = j->set;
	const char **names = arena_alloc(&s->arena, (s->tools.n + 1) * sizeof(*names));

	if (!names) {
		j->out_of_memory = true;
		return;
	}
	for (uint32_t i = 0; i < s->tools.n; i++)
		names[i] = s->tools.items[i].id.p;
	names[s->tools.n] = NULL;
	if (s->npins)
		qsort(s->pins, s->npins, sizeof(*s->pins), compare);
	for (uint32_t i = 0; i < s->npins; i++) {
		const struct policy_pin *a = &s->pins[i ? i - 1 : 0], *b = &s->pins[i];
		bool twice = i && str_eq(a->tool, b->tool);

		j->findings->code = twice ? "duplicate" : "unknown-name";
		if (twice)
			finding(j->findings, true, b->file, b->line,
				"\"%.*s\" is already pinned at %.*s:%d", STR_FMT(b->tool),
				STR_FMT(a->file), a->line);
		else
			attach(j, b, names);
	}
}

const struct policy_pin *policy_set_pins(const struct policy_set *s, size_t *n)
{
	*n = set_of(s)->npins;
	return set_of(s)->pins;
}

const struct policy_pin *policy_set_pin(const struct policy_set *s, struct str tool)
{
	const struct entry *entry = catalogue_find(&set_of(s)->tools, tool);

	return entry ? entry->pin : NULL;
}
