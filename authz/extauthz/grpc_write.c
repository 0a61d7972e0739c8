/*
 * An empty CheckResponse means "let it pass" (sheet 1.1): status.code is what decides, so each path
 * here writes it, a denial's is never 0, and what does not fit into the buf becomes a denial.
 */
#include "authz/base/protobuf.h"
#include "authz/base/text.h"
#include "authz/extauthz/grpc_message.h"
#include "authz/net/grpc.h"

#define OVERWRITE_IF_EXISTS_OR_ADD 2

/* google.rpc.Status: 1 code, 2 message. */
static void put_status(struct buf *b, enum grpc_status code, struct str reason)
{
	size_t at = pb_begin(b, 1);

	pb_put_number(b, 1, code);
	pb_put_text(b, 2, reason);
	pb_end(b, at);
}

static enum grpc_status code_of(int status)
{
	switch (status) {
	case 400:
		return GRPC_INVALID_ARGUMENT;
	case 401:
		return GRPC_UNAUTHENTICATED;
	case 413:
	case 429:
		return GRPC_RESOURCE_EXHAUSTED;
	default:
		return GRPC_PERMISSION_DENIED; /* also of a 200 with a JSON-RPC error in it */
	}
}

/* HeaderValueOption, in place of what is there. Old Envoy looks at `append`, new Envoy at
 * append_action if `append` is not there, agentgateway at both (sheet 4.4); BoolValue{false} is a
 * message that is there and empty. */
static void put_header(struct buf *b, uint32_t field, struct str name, struct str value)
{
	size_t option = pb_begin(b, field), at = pb_begin(b, 1);

	pb_put_text(b, 1, name);
	pb_put_text(b, 2, value);
	pb_end(b, at);
	pb_put_bytes(b, 2, (struct str){ "", 0 });
	pb_put_number(b, 3, OVERWRITE_IF_EXISTS_OR_ADD);
	pb_end(b, option);
}

/* ---- google.protobuf.Struct ---- */

static size_t begin_member(struct buf *b, struct str name, size_t *value)
{
	size_t entry = pb_begin(b, 1);

	pb_put_bytes(b, 1, name);
	*value = pb_begin(b, 2);
	return entry;
}

static void put_text_member(struct buf *b, struct str name, struct str text)
{
	size_t entry, value;

	if (!text.n)
		return;
	entry = begin_member(b, name, &value);
	pb_put_text(b, 3, text);
	pb_end(b, value);
	pb_end(b, entry);
}

/* For later filters and the access log: which decision this was. Nothing secret. */
static void put_metadata(struct buf *b, const struct check_verdict *v)
{
	size_t at = pb_begin(b, 4), entry, value;

	put_text_member(b, STR("decision_id"), v->evaluation_ids);
	put_text_member(b, STR("reason_code"), v->reason);
	put_text_member(b, STR("agent"), v->agent);
	put_text_member(b, STR("rule"), v->rule);
	put_text_member(b, STR("list"), v->list);
	put_text_member(b, STR("server"), v->server);
	put_text_member(b, STR("rpc_id"), v->rpc_id);
	put_text_member(b, STR("style"), v->style);
	if (v->generation) {
		entry = begin_member(b, STR("generation"), &value);
		pb_put_double(b, 2, (double)v->generation);
		pb_end(b, value);
		pb_end(b, entry);
	}
	pb_end(b, at);
}

/* ---- the two answers ---- */

/* OkHttpResponse: 2 headers, 5 headers_to_remove, 6 response_headers_to_add. */
static void put_ok(struct buf *b, const struct check_verdict *v)
{
	size_t at = pb_begin(b, 3);

	for (size_t i = 0; i < v->nheaders; i++)
		put_header(b, 2, v->headers[i].name, v->headers[i].value);
	for (size_t i = 0; i < v->nremove; i++)
		pb_put_text(b, 5, v->remove[i]);
	if (v->evaluation_ids.n)
		put_header(b, 6, STR("x-writ-decision-id"), v->evaluation_ids);
	pb_end(b, at);
}

/* DeniedHttpResponse: 1 status, 2 headers, 3 body. */
static void put_denied(struct buf *b, const struct check_verdict *v)
{
	size_t at = pb_begin(b, 2), inside = pb_begin(b, 1);

	pb_put_number(b, 1, (uint64_t)v->status);
	pb_end(b, inside);
	if (v->body.n)
		put_header(b, 2, STR("content-type"), v->content_type);
	for (size_t i = 0; i < v->nheaders; i++)
		put_header(b, 2, v->headers[i].name, v->headers[i].value);
	pb_put_text(b, 3, v->body);
	pb_end(b, at);
}

void grpc_message_deny(struct buf *b, int status, struct str reason)
{
	struct check_verdict v = { .status = status, .reason = reason };

	if (status < 400 || status > 499)
		v.status = 403;
	put_status(b, code_of(v.status), reason);
	put_denied(b, &v);
}

void grpc_message_write(struct buf *b, const struct check_verdict *v)
{
	put_status(b, v->allow ? GRPC_OK : code_of(v->status), v->reason);
	if (v->allow)
		put_ok(b, v);
	else
		put_denied(b, v);
	put_metadata(b, v);
	if (buf_ok(b))
		return;
	buf_reset(b);
	grpc_message_deny(b, 403, STR("answer_too_large"));
}
