#include "authz/server/authzen_parts.h"

bool authzen_entity(const struct json *body, const char *name, const struct json **out,
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

bool authzen_member(const struct json *entity, const char *of, const char *name,
		    enum json_type type, bool required, struct err *e)
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

bool authzen_thing(const struct json *entity, const char *of, bool id, struct err *e)
{
	return authzen_member(entity, of, "type", JSON_STRING, true, e) &&
	       (!id || authzen_member(entity, of, "id", JSON_STRING, true, e)) &&
	       authzen_member(entity, of, "properties", JSON_OBJECT, false, e);
}

bool authzen_action(const struct json *action, struct err *e)
{
	return authzen_member(action, "action", "name", JSON_STRING, true, e) &&
	       authzen_member(action, "action", "properties", JSON_OBJECT, false, e);
}

bool authzen_context(const struct json *body, const struct json **out, struct err *e)
{
	const struct json *context = json_get(body, STR("context"));

	if (context && context->type != JSON_OBJECT)
		return err_code(e, ERR_INVALID, "invalid_request",
				"context must be an object, not %s", json_type_name(context->type));
	*out = context;
	return true;
}

bool authzen_request(const struct json *body, struct decision_request *q, struct err *e)
{
	return authzen_entity(body, "subject", &q->subject, e) &&
	       authzen_entity(body, "action", &q->action, e) &&
	       authzen_entity(body, "resource", &q->resource, e) &&
	       authzen_context(body, &q->context, e) &&
	       authzen_thing(q->subject, "subject", true, e) && authzen_action(q->action, e) &&
	       authzen_thing(q->resource, "resource", true, e);
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

static void write_error(struct buf *b, int status, struct str message)
{
	buf_lit(b, "\"error\":{\"status\":");
	buf_i64(b, status);
	buf_lit(b, ",\"message\":");
	buf_json(b, message);
	buf_char(b, '}');
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
		/* The rules failed: a denial that the PEP's owner should hear of. */
		if (r->error.n) {
			buf_char(b, ',');
			write_error(b, 500, r->message);
		}
	} else {
		buf_char(b, ',');
		write_error(b, 503, str_c(a->unrecorded.msg));
	}
	if (r->obligations.n) {
		buf_lit(b, ",\"obligations\":");
		buf_add(b, r->obligations);
	}
	buf_char(b, '}');
}

void authzen_write(struct buf *b, const struct decision_answer *a, bool bare)
{
	buf_lit(b, "{\"decision\":");
	buf_add(b, a->result.decision == DECISION_PERMIT ? STR("true") : STR("false"));
	if (!bare)
		write_context(b, a);
	buf_char(b, '}');
}

void authzen_write_error(struct buf *b, const struct err *e, bool bare)
{
	buf_lit(b, "{\"decision\":false");
	if (!bare) {
		buf_lit(b, ",\"context\":{\"reason\":");
		buf_json(b, str_c(e->code));
		buf_char(b, ',');
		write_error(b, err_status(e->class), str_c(e->msg));
		buf_char(b, '}');
	}
	buf_char(b, '}');
}
