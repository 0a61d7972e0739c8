/*
 * AuthZEN 1.0, the three searches (sheet section 5). Unknown ids and types are no errors: nothing
 * is found. Pages are continued by a token that is good for the same request of the same caller
 * only.
 */
#include "authz/decide/search.h"
#include "authz/server/authzen_parts.h"
#include "authz/server/handlers.h"
#include "authz/server/page_token.h"

struct inquiry {
	struct request *r;
	struct search s;
	bool paged; /* the client speaks of pages */
	uint32_t limit;
	uint8_t digest[SHA256_LEN];
};

/* ---- the answer ---- */

static void write_page(struct buf *b, const struct inquiry *q)
{
	const struct core *core = q->r->site->core;
	struct page_token next = { .expires_ms = clock_wall_ms(core->clock) + PAGE_TOKEN_MS,
				   .limit = q->limit,
				   .after = q->s.last };

	buf_lit(b, "\"page\":{\"next_token\":\"");
	if (q->s.more)
		page_token_write(b, &next, core->search_key, q->digest, q->r->worker->sha);
	buf_lit(b, "\",\"count\":");
	buf_i64(b, (int64_t)q->s.n);
	buf_lit(b, "},");
}

static void write_result(struct buf *b, const struct search *s, const struct search_result *r)
{
	const struct json *of = s->kind == SEARCH_SUBJECT ? s->request.subject
							  : s->request.resource;

	if (s->kind == SEARCH_ACTION) {
		buf_lit(b, "{\"name\":");
		buf_json(b, r->name);
	} else {
		buf_lit(b, "{\"type\":");
		json_canonical(b, json_get(of, STR("type")));
		buf_lit(b, ",\"id\":");
		buf_json(b, r->name);
	}
	if (r->obligations.n) {
		buf_lit(b, ",\"obligations\":");
		buf_add(b, r->obligations);
	}
	buf_char(b, '}');
}

static void found(struct search *s, const struct err *e)
{
	struct inquiry *q = s->user;
	struct buf *b;

	q->r->retry_ms = s->retry_ms;
	if (e->class != ERR_NONE) {
		request_fail(q->r, e);
		return;
	}
	b = request_reply(q->r, 200);
	buf_char(b, '{');
	if (q->paged || s->more)
		write_page(b, q);
	buf_lit(b, "\"results\":[");
	for (size_t i = 0; i < s->n; i++) {
		if (i)
			buf_char(b, ',');
		write_result(b, s, &s->results[i]);
	}
	buf_lit(b, "]}");
	request_send(q->r);
}

/* ---- the request ---- */

/* What is searched for, reduced to its type: the rest of it is ignored. */
static bool type_alone(const struct json *entity, struct arena *a, const struct json **out,
		       struct err *e)
{
	struct json *v = arena_zero(a, 2 * sizeof(*v));

	if (!v)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	v[1] = *json_get(entity, STR("type"));
	v[0] = (struct json){ .type = JSON_OBJECT, .n = 1, .items = &v[1] };
	*out = v;
	return true;
}

static bool read_entities(const struct json *body, struct search *s, struct err *e)
{
	struct decision_request *q = &s->request;
	bool subject = s->kind == SEARCH_SUBJECT, resource = s->kind == SEARCH_RESOURCE;

	if (!authzen_entity(body, "subject", &q->subject, e) ||
	    !authzen_thing(q->subject, "subject", !subject, e) ||
	    !authzen_entity(body, "resource", &q->resource, e) ||
	    !authzen_thing(q->resource, "resource", !resource, e) ||
	    !authzen_context(body, &q->context, e))
		return false;
	if (s->kind != SEARCH_ACTION &&
	    (!authzen_entity(body, "action", &q->action, e) || !authzen_action(q->action, e)))
		return false;
	return (!subject || type_alone(q->subject, s->arena, &q->subject, e)) &&
	       (!resource || type_alone(q->resource, s->arena, &q->resource, e));
}

/* The digest of what must stay the same: search, caller and entities. */
static bool digest(struct inquiry *q, struct err *e)
{
	struct buf b;

	buf_in_arena(&b, q->s.arena, (size_t)4 * LIMIT_BODY);
	buf_i64(&b, q->s.kind);
	buf_json(&b, q->r->caller.id);
	search_canonical(&q->s, &b);
	if (!buf_ok(&b))
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	sha256_of(q->r->worker->sha, buf_str(&b), q->digest);
	return true;
}

static bool read_limit(const struct json *page, uint32_t *limit, struct err *e)
{
	const struct json *v = json_get(page, STR("limit"));

	if (!v)
		return true;
	if (v->type != JSON_INT || v->i < 0)
		return err_code(e, ERR_INVALID, "invalid_request",
				"page.limit must be an integer from 0 on");
	*limit = v->i > UINT32_MAX ? UINT32_MAX : (uint32_t)v->i;
	return true;
}

static bool read_page(const struct json *body, struct inquiry *q, struct err *e)
{
	const struct json *page = json_get(body, STR("page")), *token;
	struct core *core = q->r->site->core;
	struct page_token t = { .limit = UINT32_MAX };

	q->limit = UINT32_MAX;
	if (!page)
		return true;
	if (page->type != JSON_OBJECT)
		return err_code(e, ERR_INVALID, "invalid_request", "page must be an object, not %s",
				json_type_name(page->type));
	q->paged = true;
	if (!authzen_member(page, "page", "token", JSON_STRING, false, e) ||
	    !authzen_member(page, "page", "properties", JSON_OBJECT, false, e))
		return false;
	token = json_get(page, STR("token"));
	/* An empty one is how some clients write that they have none. */
	if (token && token->s.n &&
	    !page_token_read(token->s, core->search_key, q->digest, q->r->worker->sha,
			     clock_wall_ms(core->clock), q->s.arena, &t, e))
		return false;
	q->s.after = t.after;
	q->limit = t.limit;
	return read_limit(page, &q->limit, e);
}

static void search(struct request *r, enum search_kind kind)
{
	const struct json *body = request_json(r);
	struct inquiry *q;
	struct err e = { 0 };

	if (!body)
		return;
	q = request_alloc(r, sizeof(*q));
	if (!q)
		return;
	q->r = r;
	q->s = (struct search){ .kind = kind,
				.request = { .request_id = r->request_id, .trace_id = r->trace_id },
				.caller = &r->caller,
				.arena = r->call->arena,
				.done = found,
				.user = q };
	if (!read_entities(body, &q->s, &e) || !digest(q, &e) || !read_page(body, q, &e)) {
		request_fail(r, &e);
		return;
	}
	q->s.limit = q->limit;
	search_run(r->worker, &q->s);
}

void handle_search_subject(struct request *r)
{
	search(r, SEARCH_SUBJECT);
}

void handle_search_resource(struct request *r)
{
	search(r, SEARCH_RESOURCE);
}

void handle_search_action(struct request *r)
{
	search(r, SEARCH_ACTION);
}
