#include "authz/extauthz/list_filter.h"

#include "authz/base/text.h"
#include "authz/decide/reach.h"
#include "authz/extauthz/parts.h"
#include "authz/policy/definition.h"

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

/* One list under way. */
struct filter {
	struct worker *worker;
	struct arena *arena;
	const struct list_kind *kind;
	const struct str *server;
	struct list_news *news;
	struct reach_one reach;
};

/* Is this tool as it was reviewed? What is not pinned is. False with @e: no memory. */
static bool reviewed(struct filter *f, const struct json *tool, struct str id, bool *good,
		     struct err *e)
{
	const struct policy_pin *pin = policy_set_pin(f->reach.set, id);
	int64_t now_ms = clock_wall_ms(f->worker->core->clock);
	struct definition d;
	bool news;

	*good = true;
	if (!pin)
		return true;
	d = definition_of(tool, f->worker->sha, f->arena);
	if (!d.text.p)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	*good = definition_judge(worker_definitions(f->worker), pin, d.digest, now_ms, &news);
	if (news)
		f->news->items[f->news->n++] = (struct definition_sighting){ id, d.digest, d.text };
	return true;
}

static bool tool_listed(struct filter *f, const struct json *entry, struct str name, bool *yes,
			struct err *e)
{
	struct str id;

	if (!f->server->n)
		return true;
	id = arena_printf(f->arena, "%.*s/%.*s", STR_FMT(*f->server), STR_FMT(name));
	if (!id.p)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	if (!reviewed(f, entry, id, yes, e))
		return false;
	*yes = *yes && reach_tool(&f->reach, id);
	return true;
}

static bool listed(struct filter *f, const struct json *entry, bool *yes, struct err *e)
{
	const struct list_kind *k = f->kind;
	const struct json *id = json_get_type(entry, k->id, JSON_STRING);

	*yes = false;
	if (!id || spelt_twice(entry, k->id))
		return true;
	if (str_eq(k->type, STR("tool")))
		return tool_listed(f, entry, id->s, yes, e);
	*yes = reach_id(&f->reach, k->action, k->type, id->s);
	return true;
}

static bool put_entries(struct filter *f, const struct json *list, struct buf *b, struct err *e)
{
	bool first = true, yes;

	buf_lit(b, "[");
	for (uint32_t i = 0; f->server && i < list->n; i++) {
		if (!listed(f, &list->items[i], &yes, e))
			return false;
		if (!yes)
			continue;
		if (!first)
			buf_char(b, ',');
		buf_add(b, list->items[i].raw);
		first = false;
	}
	buf_lit(b, "]");
	return true;
}

/* All members but the list and who may keep it. MCP 2026-07-28 lets gateways keep lists
 * (agent-protocols sheet 3.6): this one is the agent's own. */
static void put_others(const struct json *result, const struct json *list, struct buf *b)
{
	bool cached = false;

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
	if (cached)
		buf_lit(b, "\"cacheScope\":\"private\",");
}

static bool room_for_news(struct arena *a, struct list_news *news, size_t more)
{
	struct definition_sighting *items = arena_alloc(a, (news->n + more + 1) * sizeof(*items));

	if (!items)
		return false;
	if (news->n)
		memcpy(items, news->items, news->n * sizeof(*items));
	news->items = items;
	return true;
}

bool list_filter(struct worker *w, struct arena *a, const struct list_kind *k, struct str agent,
		 const struct str *server, const struct json *result, struct list_news *news,
		 struct buf *b, struct err *e)
{
	const struct json *list = json_get_type(result, k->member, JSON_ARRAY);
	struct filter f = { .worker = w, .arena = a, .kind = k, .server = server, .news = news };

	if (!list || list->n > LIST_MAX || spelt_twice(result, k->member))
		return err_code(e, ERR_INVALID, "invalid_list",
				"the result of %s has no list %s of at most %d entries",
				k->method.p, k->member.p, LIST_MAX);
	if (!room_for_news(a, news, list->n))
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	if (!reach_begin(&f.reach, w, agent, a, e))
		return false;
	buf_char(b, '{');
	put_others(result, list, b);
	buf_json(b, k->member);
	buf_char(b, ':');
	if (!put_entries(&f, list, b, e))
		return false;
	buf_char(b, '}');
	return buf_ok(b) || err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
}
