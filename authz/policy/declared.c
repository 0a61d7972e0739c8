/* Which attributes agents may be registered with, if the catalogue says so. */
#include <lauxlib.h>

#include "authz/policy/rules.h"
#include "authz/policy/value.h"

static const char *const own[] = { "id", "owner", "state", NULL };

static bool shape_ok(const struct json *v)
{
	bool ok = v->type == JSON_ARRAY && v->n;

	for (uint32_t i = 0; ok && i < v->n; i++)
		ok = v->items[i].type == JSON_STRING;
	return ok || (v->type == JSON_STRING && str_eq(v->s, STR("string")));
}

static void declare(struct job *j, const struct json *v, int line)
{
	struct set *s = j->set;
	void *items = s->declared;

	if (!shape_ok(v))
		job_error(j, line,
			  "attribute \"%.*s\": \"string\" or a list of the values it may have was "
			  "expected",
			  STR_FMT(str_first(v->name, 128)));
	else if (declared_find(s, v->name))
		job_error(j, line, "attribute \"%.*s\" is declared already, or writ's own",
			  STR_FMT(str_first(v->name, 128)));
	else if (job_room(j, &items, s->ndeclared, &j->room_declared, sizeof(*v))) {
		s->declared = items;
		s->declared[s->ndeclared++] = *v;
	}
}

int word_attributes(lua_State *L)
{
	struct job *j = job_of(L);
	int line = job_line(L);
	const char *why = NULL;
	struct json v;

	if (!lua_istable(L, 1))
		return luaL_error(L, "write attributes { team = \"string\", ... }");
	if (!value_from_lua(L, 1, &j->set->arena, &v, &why))
		return luaL_error(L, "attributes holds %s", why);
	if (v.type != JSON_OBJECT)
		return luaL_error(L,
				  "attributes is a list; write attributes { team = \"string\" }");
	for (uint32_t i = 0; i < v.n; i++)
		declare(j, &v.items[i], line);
	return 0;
}

const struct json *declared_find(const struct set *s, struct str name)
{
	static const struct json text = { .type = JSON_STRING, .s = STR_INIT("string") };

	for (uint32_t i = 0; i < s->ndeclared; i++)
		if (str_eq(s->declared[i].name, name))
			return &s->declared[i];
	for (size_t i = 0; own[i]; i++)
		if (str_eq(str_c(own[i]), name))
			return &text;
	return NULL;
}

/* Names of the declaration, or its values, for "did you mean". */
static const char *near_of(struct job *j, const struct json *list, uint32_t n, bool values,
			   struct str word, char text[static 100])
{
	const char **names = arena_alloc(&j->set->arena, (n + 1) * sizeof(*names));

	text[0] = '\0';
	if (!names)
		return text;
	for (uint32_t i = 0; i < n; i++)
		names[i] = values ? list[i].s.p : list[i].name.p;
	names[n] = NULL;
	return did_you_mean(word, names, text);
}

void declared_check(struct job *j, struct str name, int line, const struct condition *c)
{
	const struct set *s = j->set;
	const struct json *known = declared_find(s, name);
	char near[100];

	if (s->ndeclared == 0)
		return;
	if (!known) {
		job_warn(j, line, "no attribute \"%.*s\" of agents is declared%s", STR_FMT(name),
			 near_of(j, s->declared, s->ndeclared, false, name, near));
		return;
	}
	for (uint32_t i = 0; c && known->type == JSON_ARRAY && i < c->n; i++) {
		bool found = false;

		for (uint32_t k = 0; k < known->n && !found; k++)
			found = value_equal(&known->items[k], &c->values[i]);
		if (!found)
			job_warn(j, line, "the attribute \"%.*s\" is never \"%.*s\"%s",
				 STR_FMT(name), STR_FMT(c->values[i].s),
				 near_of(j, known->items, known->n, true, c->values[i].s, near));
	}
}
