/*
 * Who could, and what could: /v1/policies/who and /what. Read from the rules and the registry, not
 * tried out: a rule with a `when` may hit or not, and is said to be one. Pages like those of
 * /v1/agents: `next` of one is `after` of the following.
 */
#include <inttypes.h>

#include "authz/base/text.h"
#include "authz/decide/reach.h"
#include "authz/server/handlers.h"

#define LIMIT_DEFAULT 100
#define PAGE_BYTES (2 * 1024 * 1024)

static void add_rule(struct buf *b, const struct could_rule *r)
{
	buf_lit(b, "{\"rule\":");
	buf_json(b, r->rule);
	buf_printf(b, ",\"effect\":\"%s\",\"file\":", r->effect);
	buf_json(b, r->file);
	buf_printf(b, ",\"line\":%d", r->line);
	if (r->when_line)
		buf_printf(b, ",\"depends_on_when_at\":%d", r->when_line);
	buf_char(b, '}');
}

static void add_result(struct buf *b, const struct reach_result *x)
{
	if (str_eq(str_c(x->kind), STR("agent"))) {
		buf_lit(b, "{\"spiffe_id\":");
	} else {
		buf_printf(b, "{\"type\":\"%s\",\"id\":", x->kind);
	}
	buf_json(b, x->name);
	buf_printf(b, ",\"could\":\"%s\",\"rules\":[", could_names[x->could]);
	for (size_t i = 0; i < x->n; i++) {
		if (i)
			buf_char(b, ',');
		add_rule(b, &x->rules[i]);
	}
	buf_char(b, ']');
	if (x->all > x->n)
		buf_printf(b, ",\"more_rules\":%zu", x->all - x->n);
	buf_char(b, '}');
}

/* Results that do not fit are left for the next page, which goes on where this one ends. */
static void add_results(struct buf *b, const struct reach *p)
{
	struct str next = p->last;
	bool more = p->more;

	buf_lit(b, ",\"results\":[");
	for (size_t i = 0; i < p->n; i++) {
		if (i)
			buf_char(b, ',');
		add_result(b, &p->results[i]);
		if (b->n > PAGE_BYTES && i + 1 < p->n) {
			const struct reach_result *x = &p->results[i];

			next = str_eq(str_c(x->kind), STR("agent"))
				       ? x->name
				       : arena_printf(p->arena, "%s:%.*s", x->kind,
						      STR_FMT(x->name));
			more = true;
			break;
		}
	}
	buf_printf(b, "],\"looked_at\":%zu", p->looked);
	if (more) {
		buf_lit(b, ",\"next\":");
		buf_json(b, next);
	}
	b->failed = b->failed || (more && !next.p);
}

static struct reach *new_page(struct request *r, struct err *e)
{
	struct reach *p = request_alloc(r, sizeof(*p));
	uint64_t limit = LIMIT_DEFAULT;
	struct str text;

	if (!p)
		return NULL;
	p->arena = r->call->arena;
	if (request_query(r, STR("limit"), &text, e) &&
	    (!text_u64(text, REACH_RESULTS, &limit) || !limit))
		err_code(e, ERR_INVALID, "invalid_request", "limit must be 1 to %d", REACH_RESULTS);
	if (e->class == ERR_NONE)
		(void)request_query(r, STR("after"), &p->after, e);
	p->limit = limit;
	return p;
}

static struct buf *begin_reply(struct request *r)
{
	struct policy_set *set = worker_policy(r->worker);
	struct buf *b = request_reply(r, 200);

	buf_printf(b, "{\"generation\":%" PRIu64, set ? set->generation : 0);
	return b;
}

static void put(struct buf *b, const char *name, struct str value)
{
	buf_printf(b, ",\"%s\":", name);
	buf_json(b, value);
}

void handle_reach_who(struct request *r)
{
	static const char *const known[] = { "tool", "model", "action", "after", "limit", NULL };
	struct str tool, model, action, type, id;
	struct err e = { 0 };
	struct reach *p;
	struct buf *b;
	bool has_tool, has_model;

	if (!request_query_only(r, known))
		return;
	p = new_page(r, &e);
	if (!p)
		return;
	has_tool = e.class == ERR_NONE && request_query(r, STR("tool"), &tool, &e);
	has_model = e.class == ERR_NONE && request_query(r, STR("model"), &model, &e);
	if (e.class == ERR_NONE && has_tool == has_model)
		err_code(&e, ERR_INVALID, "invalid_request",
			 "name what it is about: tool=SERVER/TOOL or model=ID, one of them");
	if (e.class == ERR_NONE) {
		type = has_tool ? STR("tool") : STR("model");
		id = has_tool ? tool : model;
		action = has_tool ? STR("tools/call") : STR("models/invoke");
		(void)request_query(r, STR("action"), &action, &e);
	}
	if (e.class != ERR_NONE || !reach_who(r->worker, p, action, type, id, &e)) {
		request_fail(r, &e);
		return;
	}
	b = begin_reply(r);
	put(b, "action", action);
	put(b, "type", type);
	put(b, "id", id);
	add_results(b, p);
	buf_char(b, '}');
	request_send(r);
}

void handle_reach_what(struct request *r)
{
	static const char *const known[] = { "agent", "after", "limit", NULL };
	const struct registry_view *agents = worker_registry(r->worker);
	const struct registry_entry *agent = NULL;
	struct str id = { NULL, 0 };
	struct err e = { 0 };
	struct reach *p;
	struct buf *b;

	if (!request_query_only(r, known))
		return;
	p = new_page(r, &e);
	if (!p)
		return;
	if (e.class == ERR_NONE && !request_query(r, STR("agent"), &id, &e) && e.class == ERR_NONE)
		err_code(&e, ERR_INVALID, "invalid_request", "name the agent: agent=SPIFFE_ID");
	if (e.class == ERR_NONE)
		agent = agents ? registry_find(agents, id) : NULL;
	if (e.class == ERR_NONE && !agent)
		err_code(&e, ERR_NOT_FOUND, REASON_UNKNOWN_AGENT,
			 "%.*s is not registered, so it is denied everything",
			 STR_FMT(str_first(id, 200)));
	if (!agent || !reach_what(r->worker, p, agent, &e)) {
		request_fail(r, &e);
		return;
	}
	b = begin_reply(r);
	put(b, "spiffe_id", agent->id);
	put(b, "state",
	    str_c(registry_state_name(
		    registry_state(agent, clock_wall_ms(r->worker->core->clock)))));
	add_results(b, p);
	buf_char(b, '}');
	request_send(r);
}
