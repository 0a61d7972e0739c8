/*
 * A stream is one HTTP request: its headers, then the response's headers, then the response's body
 * as a whole. Envoy waits for the answer to each. A stream that ends with OK means "ask no more",
 * one that ends with an error leaves it to failure_mode_allow; so whatever goes wrong here is an
 * immediate response, and only what is no ProcessingRequest at all ends with an error.
 */
#include "authz/extauthz/ext_proc.h"

#include "authz/base/text.h"
#include "authz/extauthz/event_stream.h"
#include "authz/extauthz/ext_proc_message.h"
#include "authz/extauthz/list_tell.h"
#include "authz/extauthz/parts.h"
#include "authz/net/chars.h"
#include "authz/net/grpc.h"

#define BODY_MAX 2048 /* of an immediate response */
#define OVERHEAD 1024 /* of a message around a body */

struct process {
	struct worker *w;
	struct call *call;
	const struct caller *caller;
	struct proc_checked checked; /* texts of the first message, which stays */
	const struct list_kind *kind;
	bool begun;    /* `checked` is filled */
	bool readable; /* so say the response's headers */
	bool events;   /* it is an event stream */
	bool over;     /* nobody waits for an answer any more */
	bool held;     /* a refusal is on its way to the log, or what a list shows to control */
	struct err refused;
	int status; /* of its answer */
	struct list_telling telling;
	struct buf left; /* of the list */
};

/* ---- answers ---- */

static void finish(struct process *p)
{
	p->over = true;
	call_finish(p->call);
}

static bool send(struct process *p, struct buf *b)
{
	struct err e;

	if (buf_ok(b) && grpc_send(p->call, buf_str(b)))
		return true;
	err_set(&e, ERR_UNAVAILABLE, "memory is short; try again later");
	call_fail(p->call, &e);
	finish(p);
	return false;
}

static void let_go(struct process *p, enum proc_part part)
{
	struct buf b;

	buf_in_arena(&b, p->call->arena, 64);
	proc_put_continue(&b, part);
	if (send(p, &b))
		finish(p);
}

/* A JSON-RPC error with the request's id, as far as it was one that can be given back. */
static void put_error(struct process *p, struct buf *b)
{
	struct str id = p->checked.rpc_id;
	const struct json *v = NULL;
	struct err ignored;

	if (!id.n || !json_parse(id, &json_default_limits, p->call->arena, &v, &ignored) ||
	    (v->type != JSON_STRING && v->type != JSON_INT))
		id = STR("null");
	buf_lit(b, "{\"jsonrpc\":\"2.0\",\"id\":");
	buf_add(b, id);
	buf_lit(b, ",\"error\":{\"code\":-32603,\"message\":");
	buf_json(b, str_c(p->refused.msg));
	buf_lit(b, ",\"data\":{\"reason\":");
	buf_json(b, str_c(p->refused.code));
	buf_lit(b, ",\"evaluation_id\":");
	buf_json(b, str_first(p->checked.decisions, 64));
	buf_lit(b, "}}}");
}

static void refusal_recorded(void *owner, const struct recorded *done)
{
	struct process *p = owner;
	struct buf body, b;

	(void)done; /* refused either way */
	p->held = false;
	if (p->over) {
		call_finish(p->call);
		return;
	}
	buf_in_arena(&body, p->call->arena, BODY_MAX);
	put_error(p, &body);
	buf_in_arena(&b, p->call->arena, BODY_MAX + OVERHEAD);
	proc_put_immediate(&b, p->status, str_c(p->refused.code),
			   buf_ok(&body) ? buf_str(&body) : (struct str){ "", 0 });
	if (send(p, &b))
		finish(p);
}

/* 403, or where the route says that denials are answers, 200: the client's session lives on. */
static void deny(struct process *p, const struct err *e)
{
	p->refused = *e;
	p->status = p->checked.style.n && p->checked.rpc_id.n ? 200 : 403;
	if (!strcmp(e->code, "stream_not_filtered"))
		p->status = 405; /* what MCP has for a server without such a stream */
	p->held = true;
	grpc_hold(p->call);
	worker_count(&p->w->counters.refused);
	worker_refuse(p->w, p->caller, e, refusal_recorded, p);
}

void ext_proc_refuse(struct call *call, const struct err *e)
{
	proc_put_immediate(grpc_reply(call, BODY_MAX), 403, str_c(e->code), (struct str){ "", 0 });
}

/* ---- the list ---- */

/* One JSON-RPC message. What is no answer passes as it came; an answer is filtered. */
static bool filter_message(struct process *p, struct str text, struct buf *b, struct err *e)
{
	const struct json *m = NULL, *result;

	if (!json_parse(text, &p->w->core->json, p->call->arena, &m, e))
		return false;
	if (m->type != JSON_OBJECT)
		return err_code(e, ERR_INVALID, "list_not_filtered",
				"the answer to %s is not one message", p->kind->method.p);
	result = json_get(m, STR("result"));
	for (uint32_t i = 0; i < m->n; i++)
		if (&m->items[i] != result && folds_to(m->items[i].name, STR("result")))
			return err_code(e, ERR_INVALID, "list_not_filtered",
					"the answer to %s has two results", p->kind->method.p);
	if (!result) {
		buf_add(b, text);
		return true;
	}
	buf_char(b, '{');
	for (uint32_t i = 0; i < m->n; i++) {
		if (&m->items[i] == result)
			continue;
		buf_json(b, m->items[i].name);
		buf_char(b, ':');
		buf_add(b, m->items[i].raw);
		buf_char(b, ',');
	}
	buf_lit(b, "\"result\":");
	if (!list_filter(p->w, p->call->arena, p->kind, p->checked.agent, &p->checked.server,
			 result, &p->telling.news, b, e))
		return false;
	buf_char(b, '}');
	return true;
}

static bool filter_events(struct process *p, struct str text, struct buf *b, struct err *e)
{
	const struct str mark = STR_INIT("\xef\xbb\xbf");
	struct event event;
	struct buf data;

	if (str_starts(text, mark))
		text = str_from(text, mark.n);
	while (event_next(&text, p->call->arena, &event)) {
		if (!event.data.n) {
			buf_add(b, event.raw);
			continue;
		}
		buf_in_arena(&data, p->call->arena, event.data.n + 256);
		if (!filter_message(p, event.data, &data, e))
			return false;
		event_put(b, &event, buf_str(&data));
	}
	return !text.n || err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
}

static bool is_whole(const struct process *p, const struct proc_request *q, struct err *e)
{
	if (!p->readable)
		return err_code(e, ERR_FORBIDDEN, "list_not_filtered",
				"response_header_mode of ext_proc must be SEND");
	return q->end_of_stream ||
	       err_code(e, ERR_TOO_LARGE, "list_not_filtered",
			"only a part of the answer to %s came: it is longer than the proxy "
			"buffers, or has trailers",
			p->kind->method.p);
}

static void told(struct list_telling *t, const struct err *e)
{
	struct process *p = t->user;
	struct buf b;

	p->held = false;
	if (p->over) {
		call_finish(p->call);
		return;
	}
	if (e) {
		deny(p, e);
		return;
	}
	buf_in_arena(&b, p->call->arena, p->left.n + OVERHEAD);
	proc_put_body(&b, buf_str(&p->left));
	if (send(p, &b))
		finish(p);
}

static void filter(struct process *p, const struct proc_request *q)
{
	struct err e;

	buf_in_arena(&p->left, p->call->arena, 2 * q->body.n + OVERHEAD);
	if (!is_whole(p, q, &e) ||
	    !(p->events ? filter_events : filter_message)(p, q->body, &p->left, &e) ||
	    !(buf_ok(&p->left) ||
	      err_set(&e, ERR_UNAVAILABLE, "memory is short; try again later"))) {
		deny(p, &e);
		return;
	}
	p->telling.worker = p->w;
	p->telling.arena = p->call->arena;
	p->telling.by = p->caller->id;
	p->telling.done = told;
	p->telling.user = p;
	p->held = true;
	grpc_hold(p->call);
	list_tell(&p->telling);
}

/* ---- what comes before it ---- */

/* "application/json; charset=utf-8" */
static bool is_type(struct str value, struct str wanted)
{
	struct str media = value, parameters;

	(void)str_cut(value, ';', &media, &parameters);
	return http_equal_fold(http_trim(media), wanted);
}

/* An error's body is read by nobody as a list. */
static bool is_error(struct str status)
{
	return status.n == 3 && (status.p[0] == '4' || status.p[0] == '5');
}

static bool can_read(struct process *p, const struct proc_request *q, struct err *e)
{
	const struct str *coding = &q->content_encoding;

	p->events = is_type(q->content_type, STR("text/event-stream"));
	if (q->twice)
		return err_code(e, ERR_INVALID, "list_not_filtered",
				"a header of the answer to %s stands twice", p->kind->method.p);
	if (coding->n && !http_equal_fold(*coding, STR("identity")))
		return err_code(e, ERR_INVALID, "list_not_filtered",
				"the answer to %s has a Content-Encoding, so nothing can be taken "
				"out of it; let the server send it plain",
				p->kind->method.p);
	return p->events || is_type(q->content_type, STR("application/json")) ||
	       err_code(e, ERR_INVALID, "list_not_filtered",
			"the answer to %s is neither JSON nor a stream of events",
			p->kind->method.p);
}

/* The response's headers. Without a body there is no list. */
static void response(struct process *p, const struct proc_request *q)
{
	struct buf b;
	struct err e;

	if (!p->kind || q->end_of_stream || is_error(q->status)) {
		let_go(p, q->part);
		return;
	}
	if (!can_read(p, q, &e)) {
		deny(p, &e);
		return;
	}
	p->readable = true;
	buf_in_arena(&b, p->call->arena, 64);
	proc_put_continue(&b, q->part);
	(void)send(p, &b);
}

static void request(struct process *p, const struct proc_request *q)
{
	struct buf b;

	if (!p->kind) {
		let_go(p, q->part);
		return;
	}
	buf_in_arena(&b, p->call->arena, 128);
	proc_put_plain(&b);
	(void)send(p, &b);
}

/* The first message. An answer that comes first is the proxy's own, of a filter before us: an
 * error, or a denial of ours, which left no list in the metadata. */
static bool begin(struct process *p, const struct proc_request *q, struct err *e)
{
	p->begun = true;
	p->checked = q->checked;
	if (q->observed)
		return err_code(e, ERR_INVALID, "not_enforced",
				"the filter only observes (observability_mode), so lists pass "
				"unfiltered");
	if (!p->checked.known)
		return (q->part == PROC_RESPONSE_HEADERS && is_error(q->status)) ||
		       err_code(e, ERR_FORBIDDEN, "not_checked",
				"this request has no decision of writ's in its metadata: put "
				"ext_authz (gRPC) before ext_proc, and "
				"envoy.filters.http.ext_authz into its forwarding_namespaces");
	if (str_eq(p->checked.list, STR("stream/open")))
		return err_code(e, ERR_FORBIDDEN, "stream_not_filtered",
				"lists are filtered on this route, and a stream of the server's "
				"could bring unfiltered ones");
	p->kind = list_kind_of(p->checked.list);
	if (p->checked.list.n && !p->kind)
		return err_code(e, ERR_FORBIDDEN, "list_not_filtered",
				"a batch has a list in it; ask for it alone");
	if (p->kind && q->has_mode && q->response_body_mode != PROC_BODY_BUFFERED)
		return err_code(e, ERR_FORBIDDEN, "list_not_filtered",
				"response_body_mode of ext_proc must be BUFFERED");
	return true;
}

static void take(struct process *p, const struct proc_request *q)
{
	struct buf b;

	switch (q->part) {
	case PROC_REQUEST_HEADERS:
		request(p, q);
		return;
	case PROC_RESPONSE_HEADERS:
		response(p, q);
		return;
	case PROC_RESPONSE_BODY:
		if (p->kind)
			filter(p, q);
		else
			let_go(p, q->part);
		return;
	case PROC_REQUEST_BODY:
	case PROC_REQUEST_TRAILERS:
	case PROC_RESPONSE_TRAILERS:
	case PROC_NONE:
		break;
	}
	buf_in_arena(&b, p->call->arena, 64);
	proc_put_continue(&b, q->part);
	(void)send(p, &b);
}

static void message(struct call *call, struct str text)
{
	struct process *p = call->user;
	struct proc_request q;
	struct err e;

	if (p->over)
		return;
	if (!proc_read(text, &q, &e)) {
		call_fail(call, &e);
		finish(p);
	} else if (!p->begun && !begin(p, &q, &e)) {
		deny(p, &e);
	} else {
		take(p, &q);
	}
}

static void ended(struct call *call)
{
	struct process *p = call->user;

	p->over = true;
	if (!p->held)
		call_finish(call);
}

static const struct grpc_events events = { .message = message,
					   .half_closed = ended,
					   .ended = ended };

void ext_proc_stream(struct worker *w, struct call *call, const struct caller *caller)
{
	struct process *p = arena_zero(call->arena, sizeof(*p));
	struct err e;

	if (!p) {
		err_set(&e, ERR_UNAVAILABLE, "memory is short; try again later");
		ext_proc_refuse(call, &e);
		call_finish(call);
		return;
	}
	p->w = w;
	p->call = call;
	p->caller = caller;
	call->user = p;
	grpc_stream(call, &events);
	message(call, call->body);
}
