/*
 * Obligations as the AuthZEN profile has them: id, type, properties. A PEP denies what it cannot
 * carry out, so a slip in an obligation would turn a permit into a denial at every PEP; it is
 * found here, at load.
 */
#include "authz/policy/rules.h"

struct property {
	const char *name;
	enum json_type type;
	bool required;
};

static const struct obligation {
	const char *type;
	struct property properties[4];
} registered[] = {
	{ "step-up", { { "acr_value", JSON_STRING, true }, { "amr_values", JSON_ARRAY, false } } },
	{ "notification",
	  { { "to", JSON_STRING, true },
	    { "body", JSON_STRING, true },
	    { "topic", JSON_STRING, false } } },
	{ "session_termination", { { "subject", JSON_STRING, true } } },
	{ "custom", { { NULL, JSON_NULL, false } } }, /* agreed between the two of them */
};

static const char *const members[] = { "id", "type", "properties", NULL };

/* A complaint about obligation number @at of @r, counted from 1 as Lua does. */
#define complain(j, r, at, ...) \
	obligation_error(j, r, at, arena_printf(&(j)->set->arena, __VA_ARGS__))

static bool obligation_error(struct job *j, const struct rule *r, uint32_t at, struct str what)
{
	job_error(j, r->line, "rule \"%.*s\": obligation %u %.*s", STR_FMT(r->full), at + 1,
		  STR_FMT(what));
	return false;
}

static const struct obligation *find(struct str type)
{
	for (size_t i = 0; i < ARRAY_LEN(registered); i++)
		if (str_eq(type, str_c(registered[i].type)))
			return &registered[i];
	return NULL;
}

static bool texts(const struct json *list)
{
	for (uint32_t i = 0; i < list->n; i++)
		if (list->items[i].type != JSON_STRING)
			return false;
	return true;
}

static bool check_properties(struct job *j, const struct rule *r, uint32_t at,
			     const struct obligation *o, const struct json *properties)
{
	const char *known[ARRAY_LEN(o->properties) + 1] = { NULL };
	char near[100];
	size_t n = 0;

	for (; n < ARRAY_LEN(o->properties) && o->properties[n].name; n++) {
		const struct property *p = &o->properties[n];
		const struct json *v = json_get(properties, str_c(p->name));

		known[n] = p->name;
		if (!v && p->required)
			return complain(j, r, at, "(%s) needs properties.%s", o->type, p->name);
		if (v && (v->type != p->type || (v->type == JSON_ARRAY && !texts(v))))
			return complain(j, r, at, "(%s): properties.%s must be a %s", o->type,
					p->name, p->type == JSON_ARRAY ? "list of texts" : "text");
	}
	for (uint32_t i = 0; n && i < properties->n; i++) {
		struct str name = properties->items[i].name;
		size_t k = 0;

		while (k < n && !str_eq(name, str_c(known[k])))
			k++;
		if (k == n)
			return complain(j, r, at, "(%s) has no properties.%.*s%s", o->type,
					STR_FMT(name), did_you_mean(name, known, near));
	}
	return true;
}

static bool check_members(struct job *j, const struct rule *r, uint32_t at, const struct json *v)
{
	char near[100];

	for (uint32_t i = 0; i < v->n; i++) {
		size_t k = 0;

		while (members[k] && !str_eq(v->items[i].name, str_c(members[k])))
			k++;
		if (!members[k])
			return complain(j, r, at,
					"has \"%.*s\"%s; it is { id = .., type = .., properties = "
					"{..} }",
					STR_FMT(v->items[i].name),
					did_you_mean(v->items[i].name, members, near));
	}
	return true;
}

static bool check_one(struct job *j, const struct rule *r, uint32_t at, const struct json *v)
{
	static const char *const types[] = { "step-up", "notification", "session_termination",
					     "custom", NULL };
	const struct json *id = json_get_type(v, STR("id"), JSON_STRING);
	const struct json *type = json_get_type(v, STR("type"), JSON_STRING);
	const struct json *properties = json_get(v, STR("properties"));
	const struct obligation *o = type ? find(type->s) : NULL;
	char near[100];

	if (!check_members(j, r, at, v))
		return false;
	if (!id || !id->s.n)
		return complain(j, r, at, "needs an id, a text by which a PEP speaks of it");
	if (!o)
		return complain(j, r, at,
				"\"%.*s\": type is step-up, notification, session_termination or "
				"custom%s",
				STR_FMT(id->s), type ? did_you_mean(type->s, types, near) : "");
	if (!properties || properties->type != JSON_OBJECT)
		return complain(j, r, at, "\"%.*s\" needs properties, a table with names",
				STR_FMT(id->s));
	return check_properties(j, r, at, o, properties);
}

void obligations_check(struct job *j, const struct rule *r, const struct json *list)
{
	for (uint32_t i = 0; i < list->n; i++) {
		const struct json *id;

		if (!check_one(j, r, i, &list->items[i]))
			continue;
		id = json_get(&list->items[i], STR("id"));
		for (uint32_t k = 0; k < i; k++) {
			const struct json *other = json_get_type(&list->items[k], STR("id"),
								 JSON_STRING);

			if (other && str_eq(other->s, id->s))
				complain(j, r, i, "has the id \"%.*s\" of obligation %u",
					 STR_FMT(id->s), k + 1);
		}
	}
}
