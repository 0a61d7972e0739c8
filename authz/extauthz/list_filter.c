#include "authz/extauthz/list_filter.h"

#include "authz/base/text.h"
#include "authz/decide/reach.h"
#include "authz/extauthz/parts.h"

static const struct list_kind kinds[] = {
	{ STR_INIT("tools/list"), STR_INIT("tools"), STR_INIT("name"), STR_INIT("tools/call"),
	  STR_INIT("tool") },
	{ STR_INIT("prompts/list"), STR_INIT("prompts"), STR_INIT("name"), STR_INIT("prompts/get"),
	  STR_INIT("prompt") },
	{ STR_INIT("resources/list"), STR_INIT("resources"), STR_INIT("uri"),
	  STR_INIT("resources/read"), STR_INIT("resource") },
	{ STR_INIT("resources/templates/list"), STR_INIT("resourceTemplates"),
	  STR_INIT("uriTemplate"), STR_INIT("resources/read"), STR_INIT("resource") },
};

const struct list_kind *list_kind_of(struct str method)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (str_eq(kinds[i].method, method))
			return &kinds[i];
	return NULL;
}

/* Some clients take a member by its name in any case, and see another list or entry than we do. */
static bool spelt_twice(const struct json *v, struct str name)
{
	for (uint32_t i = 0; i < v->n; i++)
		if (!str_eq(v->items[i].name, name) && folds_to(v->items[i].name, name))
			return true;
	return false;
}

static bool listed(struct arena *a, const struct list_kind *k, struct reach_one *r,
		   struct str server, const struct json *entry)
{
	const struct json *id = json_get_type(entry, k->id, JSON_STRING);
	struct str tool;

	if (!id || spelt_twice(entry, k->id))
		return false;
	if (!str_eq(k->type, STR("tool")))
		return reach_id(r, k->action, k->type, id->s);
	if (!server.n)
		return false;
	tool = arena_printf(a, "%.*s/%.*s", STR_FMT(server), STR_FMT(id->s));
	return tool.n && reach_tool(r, tool);
}

static void put_entries(struct arena *a, const struct list_kind *k, struct reach_one *r,
			const struct str *server, const struct json *list, struct buf *b)
{
	bool first = true;

	buf_lit(b, "[");
	for (uint32_t i = 0; server && i < list->n; i++) {
		if (!listed(a, k, r, *server, &list->items[i]))
			continue;
		if (!first)
			buf_char(b, ',');
		buf_add(b, list->items[i].raw);
		first = false;
	}
	buf_lit(b, "]");
}

bool list_filter(struct worker *w, struct arena *a, const struct list_kind *k, struct str agent,
		 const struct str *server, const struct json *result, struct buf *b, struct err *e)
{
	const struct json *list = json_get_type(result, k->member, JSON_ARRAY);
	struct reach_one r;
	bool cached = false;

	if (!list || list->n > LIST_MAX || spelt_twice(result, k->member))
		return err_code(e, ERR_INVALID, "invalid_list",
				"the result of %s has no list %s of at most %d entries",
				k->method.p, k->member.p, LIST_MAX);
	if (!reach_begin(&r, w, agent, a, e))
		return false;
	buf_char(b, '{');
	for (uint32_t i = 0; i < result->n; i++) {
		const struct json *m = &result->items[i];

		cached |= str_eq(m->name, STR("cacheScope")) || str_eq(m->name, STR("ttlMs"));
		if (str_eq(m->name, STR("cacheScope")) || m == list)
			continue;
		buf_json(b, m->name);
		buf_char(b, ':');
		buf_add(b, m->raw);
		buf_char(b, ',');
	}
	/* MCP 2026-07-28 lets gateways keep lists (agent-protocols sheet 3.6). */
	if (cached)
		buf_lit(b, "\"cacheScope\":\"private\",");
	buf_json(b, k->member);
	buf_char(b, ':');
	put_entries(a, k, &r, server, list, b);
	buf_char(b, '}');
	return buf_ok(b) || err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
}
