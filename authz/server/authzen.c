/*
 * AuthZEN 1.0, the single evaluation (sheet sections 2, 3, 7, 8). Foreign JSON in, a decision out:
 * nothing is judged here. A denial is a successful exchange (200); unknown members are ignored; a
 * wrong type is refused with the member's name.
 */
#include <inttypes.h>

#include "authz/decide/decide.h"
#include "authz/server/handlers.h"

static bool entity(const struct json *body, const char *name, const struct json **out,
		   struct err *e)
{
	const struct json *v = json_get(body, str_c(name));

	if (!v)
		return err_code(
			e, ERR_INVALID, "invalid_request",
			"%s is missing; send {\"subject\":{..},\"action\":{..},\"resource\":{..}}",
			name);
	if (v->type != JSON_OBJECT)
		return err_code(e, ERR_INVALID, "invalid_request", "%s must be an object, not %s",
				name, json_type_name(v->type));
	*out = v;
	return true;
}

static bool member(const struct json *entity, const char *of, const char *name, enum json_type type,
		   bool required, struct err *e)
{
	const struct json *v = json_get(entity, str_c(name));

	if (!v && !required)
		return true;
	if (!v)
		return err_code(e, ERR_INVALID, "invalid_request",
				"%s.%s is missing; it must be of type %s", of, name,
				json_type_name(type));
	if (v->type != type)
		return err_code(e, ERR_INVALID, "invalid_request",
				"%s.%s must be of type %s, not %s", of, name, json_type_name(type),
				json_type_name(v->type));
	return true;
}

static bool parse(const struct json *body, struct decision_request *q, struct err *e)
{
	const struct json *context = json_get(body, STR("context"));

	if (!entity(body, "subject", &q->subject, e) || !entity(body, "action", &q->action, e) ||
	    !entity(body, "resource", &q->resource, e))
		return false;
	if (context && context->type != JSON_OBJECT)
		return err_code(e, ERR_INVALID, "invalid_request",
				"context must be an object, not %s", json_type_name(context->type));
	q->context = context;
	return member(q->subject, "subject", "type", JSON_STRING, true, e) &&
	       member(q->subject, "subject", "id", JSON_STRING, true, e) &&
	       member(q->subject, "subject", "properties", JSON_OBJECT, false, e) &&
	       member(q->action, "action", "name", JSON_STRING, true, e) &&
	       member(q->action, "action", "properties", JSON_OBJECT, false, e) &&
	       member(q->resource, "resource", "type", JSON_STRING, true, e) &&
	       member(q->resource, "resource", "id", JSON_STRING, true, e) &&
	       member(q->resource, "resource", "properties", JSON_OBJECT, false, e);
}

static void text_member(struct buf *b, bool *first, struct str name, struct str value)
{
	if (!value.n)
		return;
	if (!*first)
		buf_char(b, ',');
	*first = false;
	buf_json(b, name);
	buf_char(b, ':');
	buf_json(b, value);
}

/* The answer's context as design 12, Answer, lays it out: absent when empty. */
static void write_context(struct buf *b, const struct decision_answer *a)
{
	const struct policy_result *r = &a->result;
	bool first = true;

	buf_lit(b, ",\"context\":{");
	text_member(b, &first, STR("evaluation_id"), str_c(a->evaluation_id));
	text_member(b, &first, STR("reason"), r->reason);
	if (r->decision != DECISION_PERMIT)
		text_member(b, &first, STR("message"), r->message);
	text_member(b, &first, STR("rule"), r->rule);
	if (a->recorded && a->generation) {
		buf_lit(b, ",\"generation\":");
		buf_i64(b, (int64_t)a->generation);
	}
	text_member(b, &first, STR("input_digest"), str_c(a->digest));
	if (a->recorded) {
		buf_lit(b, ",\"record\":{\"seq\":");
		buf_i64(b, (int64_t)a->seq);
		buf_lit(b, ",\"leaf\":\"");
		buf_hex(b, a->leaf, sizeof(a->leaf));
		buf_lit(b, "\"}");
	} else {
		buf_lit(b, ",\"error\":{\"status\":503,\"message\":");
		buf_json(b, str_c(a->unrecorded.msg));
		buf_char(b, '}');
	}
	if (r->obligations.n) {
		buf_lit(b, ",\"obligations\":");
		buf_add(b, r->obligations);
	}
	buf_char(b, '}');
}

static void answer(struct evaluation *d, const struct decision_answer *a)
{
	struct request *r = d->user;
	struct buf *b;

	if (a->refused.class != ERR_NONE) { /* recorded already */
		call_fail(r->call, &a->refused);
		if (a->refused.class == ERR_RATE)
			call_reply_header(r->call, STR("retry-after"),
					  arena_printf(r->call->arena, "%" PRId64,
						       a->retry_ms / 1000 + 1));
		call_finish(r->call);
		return;
	}
	b = request_reply(r, 200);
	buf_lit(b, "{\"decision\":");
	buf_add(b, a->result.decision == DECISION_PERMIT ? STR("true") : STR("false"));
	if (!r->caller.bare)
		write_context(b, a);
	buf_char(b, '}');
	request_send(r);
}

void handle_evaluation(struct request *r)
{
	const struct json *body = request_json(r);
	struct evaluation *d;
	struct err e;

	if (!body)
		return;
	d = request_alloc(r, sizeof(*d));
	if (!d)
		return;
	if (!parse(body, &d->request, &e)) {
		request_fail(r, &e);
		return;
	}
	d->request.request_id = r->request_id;
	d->request.trace_id = r->trace_id;
	d->caller = &r->caller;
	d->arena = r->call->arena;
	d->done = answer;
	d->user = r;
	decide(r->worker, d);
}
