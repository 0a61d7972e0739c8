/* Roll-outs over HTTP: /v1/rollouts, the same acts as on the command line. */
#include <inttypes.h>
#include <stdlib.h>

#include "authz/base/text.h"
#include "authz/decide/generation_acts.h"
#include "authz/decide/rollout_acts.h"
#include "authz/server/handlers.h"

#define PATH "/v1/rollouts/"
#define LIST_DEFAULT 100
#define LIST_MAX 1000

/* One request about roll-outs: what is asked, and what the control thread found. */
struct inquest {
	struct rollout_wish wish; /* start */
	struct policy_sources sources;
	bool has_sources;
	struct rollout_end end; /* promote, abort */
	uint64_t id, before, limit, last;
	size_t n;
	struct rollout_row row;
	struct rollout_report *report; /* malloc'ed */
	struct policy_findings findings;
	struct buf out;
	struct err refused; /* answered with more than an error object */
	bool created;
};

static bool invalid(struct request *r, const char *what)
{
	struct err e = { 0 };

	err_code(&e, ERR_INVALID, "invalid_request", "%s", what);
	request_fail(r, &e);
	return false;
}

/* ---- what comes back ---- */

static void put_tag(struct request *r, const struct rollout_row *row)
{
	char tag[ROLLOUT_TAG_MAX];
	struct str quoted;

	rollout_tag(row, tag);
	quoted = arena_printf(r->call->arena, "\"%s\"", tag);
	if (quoted.p)
		call_reply_header(r->call, STR("etag"), quoted);
}

static void reply_row(struct request *r)
{
	struct inquest *q = r->user;
	struct buf *b;

	if (q->refused.class == ERR_CONFLICT) {
		call_fail_as(r->call, 412, &q->refused);
	} else if (q->refused.class != ERR_NONE) {
		b = request_reply(r, 400);
		buf_lit(b, "{\"error\":{\"status\":400,\"code\":\"policy_refused\",\"message\":");
		buf_json(b, str_c(q->refused.msg));
		buf_lit(b, "},");
		add_findings(b, &q->findings);
		buf_char(b, '}');
	} else {
		b = request_reply(r, q->created ? 201 : 200);
		put_tag(r, &q->row);
		buf_char(b, '{');
		add_rollout(b, &q->row);
		if (q->created) {
			buf_char(b, ',');
			add_findings(b, &q->findings);
		}
		buf_char(b, '}');
	}
	policy_findings_clear(&q->findings);
	request_send(r);
}

/* A failed If-Match and findings have an answer of their own; others are answered as usual. */
static void keep_refusal(struct request *r, struct inquest *q)
{
	const char *code = r->failed.code ? r->failed.code : "";
	bool tag = !strcmp(code, ROLLOUT_CONFLICT) || !strcmp(code, GENERATION_CONFLICT);

	if (!tag && !q->findings.errors) {
		policy_findings_clear(&q->findings);
		return;
	}
	q->refused = r->failed;
	r->failed = (struct err){ 0 };
}

/* ---- start ---- */

static void act_start(struct request *r, struct control *c)
{
	struct inquest *q = r->user;

	q->created = true;
	if (!rollout_start(c, &q->wish, &q->row, &q->findings, &r->failed))
		keep_refusal(r, q);
	if (q->has_sources)
		policy_sources_clear(&q->sources);
}

/* A rate as a part of one, in parts per million; absent: untouched. */
static bool read_rate(struct request *r, const struct json *gates, const char *name, int64_t *ppm)
{
	const struct json *v = json_get(gates, str_c(name));
	double rate;

	if (!v)
		return true;
	rate = v->type == JSON_INT ? (double)v->i : v->type == JSON_REAL ? v->d : -1;
	if (rate < 0 || rate > 1)
		return invalid(r, "the rates of gates must be numbers from 0 to 1: 0.05 is five in "
				  "a hundred");
	*ppm = (int64_t)(rate * 1000000 + 0.5);
	return true;
}

static bool read_count(struct request *r, const struct json *gates, const char *name, int64_t max,
		       int64_t *out)
{
	const struct json *v = json_get(gates, str_c(name));

	if (!v)
		return true;
	if (v->type != JSON_INT || v->i < 1 || v->i > max)
		return invalid(r, "max_p99_us and min_sample must be whole numbers from 1 to "
				  "1000000");
	*out = v->i;
	return true;
}

static bool read_gates(struct request *r, const struct json *body, struct rollout_gates *g)
{
	static const char *const known[] = { "max_deny_rate", "max_deny_increase", "max_error_rate",
					     "max_p99_us",    "min_sample",	   NULL };
	const struct json *v = json_get(body, STR("gates"));

	*g = (struct rollout_gates){ -1, -1, -1, -1, 0 };
	if (!v)
		return true;
	if (v->type != JSON_OBJECT)
		return invalid(r, "gates must be an object");
	return members_only(r, v, known) && read_rate(r, v, "max_deny_rate", &g->max_deny) &&
	       read_rate(r, v, "max_deny_increase", &g->max_deny_increase) &&
	       read_rate(r, v, "max_error_rate", &g->max_error) &&
	       read_count(r, v, "max_p99_us", 1000000, &g->max_p99_us) &&
	       read_count(r, v, "min_sample", ROLLOUT_MIN_SAMPLE_MAX, &g->min_sample);
}

static bool read_kind(struct request *r, const struct json *body, struct rollout_wish *w)
{
	const struct json *kind = request_member(r, body, "kind", JSON_STRING);
	const struct json *percent = json_get(body, STR("percent"));

	if (!kind)
		return false;
	if (str_eq(kind->s, STR("shadow")))
		w->kind = ROLLOUT_SHADOW;
	else if (str_eq(kind->s, STR("canary")))
		w->kind = ROLLOUT_CANARY;
	else
		return invalid(r, "kind must be \"shadow\" or \"canary\"");
	if (w->kind == ROLLOUT_SHADOW)
		return !percent ||
		       invalid(r, "a shadow sees every request: percent is of a canary");
	if (!percent || percent->type != JSON_INT || percent->i < 1 || percent->i > 100)
		return invalid(r, "a canary needs percent, a whole number from 1 to 100");
	w->percent = (unsigned)percent->i;
	return true;
}

static bool read_wish(struct request *r, const struct json *body, struct rollout_wish *w)
{
	static const char *const known[] = { "kind",  "generation", "files",	 "percent",
					     "gates", "message",    "signature", NULL };
	const struct json *number = json_get(body, STR("generation"));
	const struct json *message = json_get(body, STR("message"));

	if (!members_only(r, body, known) || !read_kind(r, body, w) ||
	    !read_gates(r, body, &w->gates))
		return false;
	if (message && (message->type != JSON_STRING || message->s.n > MESSAGE_MAX))
		return invalid(r, "message must be a string of at most 4096 bytes");
	if (message)
		w->message = message->s;
	if (!number == !json_get(body, STR("files")))
		return invalid(r, "the candidate must be given as generation or as files, one of "
				  "both");
	if (number && (number->type != JSON_INT || number->i < 1))
		return invalid(r, "generation must be a number from 1 on");
	w->number = number ? (uint64_t)number->i : 0;
	return true;
}

void handle_rollouts_start(struct request *r)
{
	const struct json *body = request_json(r), *files = NULL;
	struct inquest *q;
	struct err e = { 0 };

	if (!body || !(q = request_alloc(r, sizeof(*q))))
		return;
	r->user = q;
	q->wish.by = r->caller.id;
	q->wish.sources = &q->sources;
	if (!read_wish(r, body, &q->wish))
		return;
	if (!q->wish.number && !(files = request_member(r, body, "files", JSON_ARRAY)))
		return;
	if (!read_if_match(r, &q->wish.if_match, &e) ||
	    (files && (!read_files(files, r->call->arena, &q->sources, &e) ||
		       !read_signature(body, &q->sources, &e)))) {
		policy_sources_clear(&q->sources);
		request_fail(r, &e);
		return;
	}
	q->has_sources = !q->wish.number;
	if (!request_on_control(r, act_start, reply_row) && q->has_sources)
		policy_sources_clear(&q->sources);
}

/* ---- one of them ---- */

/* "/v1/rollouts/3/compare": the number ("running" is 0), and what follows it. */
static bool read_path(struct request *r, uint64_t *id, struct str *rest)
{
	struct str name = str_from(r->call->path, sizeof(PATH) - 1);
	struct err e = { 0 };

	*rest = (struct str){ "", 0 };
	(void)str_cut(name, '/', &name, rest);
	*id = 0;
	if (str_eq(name, STR("running")) || (text_u64(name, INT64_MAX, id) && *id))
		return true;
	err_code(&e, ERR_NOT_FOUND, "not_found",
		 "there is nothing at %.*s; a roll-out has a number, or the name running",
		 STR_FMT(str_first(r->call->path, 100)));
	request_fail(r, &e);
	return false;
}

static void nothing_there(struct request *r, const char *what)
{
	struct err e = { 0 };

	err_code(&e, ERR_NOT_FOUND, "not_found", "there is nothing at %.*s; %s",
		 STR_FMT(str_first(r->call->path, 100)), what);
	request_fail(r, &e);
}

static void act_promote(struct request *r, struct control *c)
{
	struct inquest *q = r->user;

	if (!rollout_promote(c, &q->end, &q->row, r->call->arena, &r->failed))
		keep_refusal(r, q);
}

static void act_abort(struct request *r, struct control *c)
{
	struct inquest *q = r->user;

	if (!rollout_abort(c, &q->end, &q->row, r->call->arena, &r->failed))
		keep_refusal(r, q);
}

/* One strong tag, as GET gave it; "*" is any. */
static bool read_tag(struct request *r, struct str *tag)
{
	struct str v = call_header(r->call, STR("if-match"));

	*tag = (struct str){ NULL, 0 };
	if (!v.p || str_eq(v, STR("*")))
		return true;
	if (call_header_count(r->call, STR("if-match")) != 1 || v.n < 3 || v.p[0] != '"' ||
	    v.p[v.n - 1] != '"')
		return invalid(r, "If-Match must be one ETag of the roll-out, in quotes");
	*tag = (struct str){ v.p + 1, v.n - 2 };
	return true;
}

void handle_rollout_act(struct request *r)
{
	static const char *const known[] = { NULL };
	struct inquest *q;
	struct str rest;

	if (!(q = request_alloc(r, sizeof(*q))))
		return;
	r->user = q;
	q->end.by = r->caller.id;
	q->end.reason = STR("asked");
	if (!read_path(r, &q->end.id, &rest) || !read_tag(r, &q->end.if_match))
		return;
	if (r->call->body.n) { /* neither act takes anything; an empty object says so, too */
		const struct json *body = request_json(r);

		if (!body || !members_only(r, body, known))
			return;
	}
	if (str_eq(rest, STR("promote")))
		request_on_control(r, act_promote, reply_row);
	else if (str_eq(rest, STR("abort")))
		request_on_control(r, act_abort, reply_row);
	else
		nothing_there(r, "use promote or abort of a roll-out");
}

static void act_look(struct request *r, struct control *c)
{
	struct inquest *q = r->user;

	(void)rollout_look(c, q->id, &q->row, r->call->arena, &r->failed);
}

static void act_compare(struct request *r, struct control *c)
{
	struct inquest *q = r->user;

	if (!rollout_look(c, q->id, &q->row, r->call->arena, &r->failed))
		return;
	q->report = calloc(1, sizeof(*q->report));
	if (!q->report) {
		err_set(&r->failed, ERR_UNAVAILABLE, "memory is short; try again later");
		return;
	}
	buf_in_arena(&q->out, r->call->arena, (size_t)4 * LIMIT_BODY);
	if (rollout_count_up(c, q->row.id, q->report, &r->failed)) {
		buf_char(&q->out, '{');
		add_rollout(&q->out, &q->row);
		buf_char(&q->out, ',');
		add_compared(&q->out, q->report, c->core->log_key_id);
		buf_char(&q->out, '}');
	}
	free(q->report);
}

static void reply_out(struct request *r)
{
	struct inquest *q = r->user;

	request_send_made(r, &q->out);
}

void handle_rollout(struct request *r)
{
	static const char *const known[] = { NULL };
	struct inquest *q;
	struct str rest;

	if (!request_query_only(r, known) || !(q = request_alloc(r, sizeof(*q))))
		return;
	r->user = q;
	if (!read_path(r, &q->id, &rest))
		return;
	if (!rest.n && r->call->path.p[r->call->path.n - 1] != '/')
		request_on_control(r, act_look, reply_row);
	else if (str_eq(rest, STR("compare")))
		request_on_control(r, act_compare, reply_out);
	else
		nothing_there(r, "look at a roll-out, or at its compare");
}

/* ---- all of them ---- */

static void list_one(void *ctx, const struct rollout_row *row)
{
	struct inquest *q = ctx;

	buf_add(&q->out, q->n++ ? STR(",{") : STR("{"));
	add_rollout(&q->out, row);
	buf_char(&q->out, '}');
	q->last = row->id;
}

static void act_list(struct request *r, struct control *c)
{
	struct inquest *q = r->user;

	buf_in_arena(&q->out, r->call->arena, (size_t)8 * LIMIT_BODY);
	buf_lit(&q->out, "{\"rollouts\":[");
	if (!rollout_list(c, q->before, q->limit, list_one, q, &r->failed))
		return;
	buf_char(&q->out, ']');
	if (q->n == q->limit && q->last > 1)
		buf_printf(&q->out, ",\"next\":%" PRIu64, q->last);
	buf_char(&q->out, '}');
}

static bool query_number(struct request *r, const char *name, uint64_t max, uint64_t *out)
{
	struct str text;
	struct err e = { 0 };

	if (!request_query(r, str_c(name), &text, &e)) {
		if (e.class == ERR_NONE)
			return true;
	} else if (text_u64(text, max, out) && *out) {
		return true;
	} else {
		err_code(&e, ERR_INVALID, "invalid_request",
			 "%s must be a number from 1 to %" PRIu64, name, max);
	}
	request_fail(r, &e);
	return false;
}

void handle_rollouts(struct request *r)
{
	static const char *const known[] = { "before", "limit", NULL };
	struct inquest *q;

	if (!request_query_only(r, known) || !(q = request_alloc(r, sizeof(*q))))
		return;
	r->user = q;
	q->limit = LIST_DEFAULT;
	if (query_number(r, "limit", LIST_MAX, &q->limit) &&
	    query_number(r, "before", INT64_MAX, &q->before))
		request_on_control(r, act_list, reply_out);
}
