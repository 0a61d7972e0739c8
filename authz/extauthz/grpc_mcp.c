#include "authz/extauthz/grpc_mcp.h"

#include "authz/base/protobuf.h"
#include "authz/base/text.h"
#include "authz/extauthz/check.h"
#include "authz/extauthz/grpc_message.h"
#include "authz/extauthz/list_tell.h"
#include "authz/net/grpc.h"

#define ERROR_MAX 4096

/* AuthorizationError.Code */
enum mcp_code { PERMISSION_DENIED = 1, RESOURCE_EXHAUSTED = 2, INVALID = 3 };

struct hook {
	struct call *call;
	struct check *check;
	bool response;
	struct str service, method, payload; /* payload: params or result, JSON */
	size_t services;
	struct str agent, server, definition; /* of the metadata */
	struct http_header *headers;
	size_t nheaders;
};

/* ---- answers ---- */

static void put_error(struct buf *b, enum mcp_code code, struct str reason, struct str data)
{
	size_t at = pb_begin(b, 3);

	pb_put_number(b, 1, code);
	pb_put_text(b, 2, reason);
	if (data.n)
		pb_put_bytes(b, 3, data);
	pb_end(b, at);
}

void grpc_mcp_refuse(struct call *call, const struct err *e)
{
	put_error(grpc_reply(call, ERROR_MAX), PERMISSION_DENIED, str_c(e->code),
		  (struct str){ NULL, 0 });
}

/* The message and data of a JSON-RPC error that the core has written. */
static void deny(struct hook *h, const struct check_verdict *v)
{
	enum mcp_code code = v->status == 429	? RESOURCE_EXHAUSTED
			     : v->status == 400 ? INVALID
						: PERMISSION_DENIED;
	struct buf *b = grpc_reply(h->call, ERROR_MAX);
	const struct json *body = NULL, *error, *message, *data;
	struct err ignored;

	if (v->body.n)
		(void)!json_parse(v->body, &json_default_limits, h->call->arena, &body, &ignored);
	error = json_get_type(body, STR("error"), JSON_OBJECT);
	message = json_get_type(error, STR("message"), JSON_STRING);
	data = json_get(error, STR("data"));
	put_error(b, code, message ? message->s : v->reason,
		  data ? data->raw : (struct str){ NULL, 0 });
	if (buf_ok(b))
		return;
	buf_reset(b);
	put_error(b, code, STR("denied"), (struct str){ NULL, 0 });
}

static void put_header(struct buf *b, struct str name, struct str value)
{
	size_t at = pb_begin(b, 1);

	pb_put_text(b, 1, name);
	pb_put_bytes(b, 2, value);
	pb_end(b, at);
}

/* 1 pass, 4 header_mutation: 1 set, 2 remove. */
static void allow(struct hook *h, const struct check_verdict *v)
{
	struct buf *b = grpc_reply(h->call, GRPC_RESPONSE_MAX);
	size_t at;

	pb_put_bytes(b, 1, (struct str){ "", 0 });
	at = pb_begin(b, 4);
	for (size_t i = 0; i < v->nheaders; i++)
		put_header(b, v->headers[i].name, v->headers[i].value);
	for (size_t i = 0; i < v->nremove; i++)
		pb_put_text(b, 2, v->remove[i]);
	pb_end(b, at);
	if (buf_ok(b))
		return;
	buf_reset(b);
	put_error(b, PERMISSION_DENIED, STR("answer_too_large"), (struct str){ NULL, 0 });
}

static void answer(struct check *c, const struct check_verdict *v)
{
	struct hook *h = c->user;

	if (v->allow)
		allow(h, v);
	else
		deny(h, v);
	call_finish(h->call);
}

/* ---- reading ---- */

/* A text among the first level of a Struct; the rest is stepped over. */
static void read_metadata(struct hook *h, struct pb_reader *in, const struct pb_field *f)
{
	struct pb_reader all = pb_reader((struct str){ NULL, 0 }), entry, value;
	struct str key, text;
	struct pb_field g;

	pb_message(in, f, &all);
	while (pb_next(&all, &g)) {
		if (g.number != 1)
			continue;
		entry = value = pb_reader((struct str){ NULL, 0 });
		key = text = (struct str){ "", 0 };
		pb_message(&all, &g, &entry);
		while (pb_next(&entry, &g)) {
			if (g.number == 1)
				pb_string(&entry, &g, &key);
			else if (g.number == 2)
				pb_message(&entry, &g, &value);
		}
		while (pb_next(&value, &g))
			if (g.number == 3)
				pb_string(&value, &g, &text);
		pb_fail_with(&entry, &value);
		pb_fail_with(&all, &entry);
		if (str_eq(key, STR("agent")))
			h->agent = text;
		else if (str_eq(key, STR("server")))
			h->server = text;
		else if (str_eq(key, STR("definition_digest")))
			h->definition = text;
	}
	pb_fail_with(in, &all);
}

/* Of the HTTP request that carried the call: not those that describe its body. */
static bool of_body(struct str name)
{
	return str_starts(name, STR("content-")) || str_eq(name, STR("transfer-encoding")) ||
	       str_starts(name, STR(":"));
}

static void read_header(struct hook *h, struct pb_reader *in, const struct pb_field *f)
{
	struct http_header header = { { "", 0 }, { "", 0 } };
	struct pb_reader pair = pb_reader((struct str){ NULL, 0 });
	struct pb_field g;

	pb_message(in, f, &pair);
	while (pb_next(&pair, &g)) {
		if (g.number == 1)
			pb_string(&pair, &g, &header.name);
		else if (g.number == 2)
			pb_bytes(&pair, &g, &header.value);
	}
	pb_fail_with(in, &pair);
	if (h->nheaders >= GRPC_HEADERS_MAX)
		pb_fail(in, "there are too many headers");
	else if (!in->why && !of_body(header.name))
		h->headers[h->nheaders++] = header;
}

/* McpRequest and McpResponse: 1 service_names, 2 method, 3 metadata_context, 4 params or result;
 * the former 5 headers. */
static bool read_message(struct hook *h, struct err *e)
{
	struct pb_reader in = pb_reader(h->call->body);
	struct pb_field f;

	while (pb_next(&in, &f)) {
		if (f.number == 1) {
			pb_string(&in, &f, &h->service);
			h->services++;
		} else if (f.number == 2) {
			pb_string(&in, &f, &h->method);
		} else if (f.number == 3) {
			read_metadata(h, &in, &f);
		} else if (f.number == 4) {
			pb_bytes(&in, &f, &h->payload);
		} else if (f.number == 5 && !h->response) {
			read_header(h, &in, &f);
		}
	}
	if (!pb_ok(&in, h->response ? "McpResponse" : "McpRequest", e))
		return false;
	if (!h->server.n && h->services == 1)
		h->server = h->service;
	return h->method.n || err_code(e, ERR_INVALID, "invalid_message", "there is no method");
}

/* ---- a call ---- */

/* The JSON-RPC message it was, for the reader of MCP. The gateway's id stays with the gateway. */
static bool rebuild(struct hook *h, struct err *e)
{
	const struct json *params = NULL;
	struct buf b;

	if (h->payload.n &&
	    !json_parse(h->payload, &h->check->worker->core->json, h->call->arena, &params, e))
		return false;
	buf_in_arena(&b, h->call->arena, h->payload.n + h->method.n * 6 + 128);
	buf_lit(&b, "{\"jsonrpc\":\"2.0\",");
	if (!str_starts(h->method, STR("notifications/")))
		buf_lit(&b, "\"id\":0,");
	buf_lit(&b, "\"method\":");
	buf_json(&b, h->method);
	if (params) {
		buf_lit(&b, ",\"params\":");
		buf_add(&b, h->payload); /* one value, nothing behind it: it was read */
	}
	buf_char(&b, '}');
	if (!buf_ok(&b))
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	h->check->request.body = buf_str(&b);
	return true;
}

static bool describe(struct hook *h, struct err *e)
{
	struct traffic_request *q = &h->check->request;

	if (!rebuild(h, e) || !check_setting(h->check, STR("protocol"), STR("mcp"), e) ||
	    (h->server.n && !check_setting(h->check, STR("server"), h->server, e)) ||
	    (h->definition.n &&
	     !check_setting(h->check, STR("definition_digest"), h->definition, e)))
		return false;
	q->method = STR("POST");
	q->path = STR("/mcp");
	h->headers[h->nheaders++] = (struct http_header){ STR_INIT("content-type"),
							  STR_INIT("application/json") };
	q->headers = h->headers;
	q->nheaders = h->nheaders;
	h->check->principal = h->agent;
	return true;
}

/* ---- a list ---- */

/* What is left of the list, when what it showed is known. */
struct shown {
	struct list_telling telling;
	struct hook *hook;
	struct buf left;
};

static void answer_list(struct list_telling *t, const struct err *e)
{
	struct shown *s = t->user;
	struct hook *h = s->hook;

	if (e) {
		check_refuse(h->check, e);
		return;
	}
	pb_put_bytes(grpc_reply(h->call, s->left.n + 64), 2, buf_str(&s->left));
	call_finish(h->call);
}

static bool filter(struct hook *h, const struct list_kind *k, struct shown *s, struct err *e)
{
	struct worker *w = h->check->worker;
	const struct json *result = NULL;

	buf_in_arena(&s->left, h->call->arena, h->payload.n + 256);
	return json_parse(h->payload, &w->core->json, h->call->arena, &result, e) &&
	       list_filter(w, h->call->arena, k, h->agent, h->server.n ? &h->server : NULL, result,
			   &s->telling.news, &s->left, e);
}

static void answer_response(struct hook *h)
{
	const struct list_kind *k = list_kind_of(h->method);
	struct shown *s;
	struct err e;

	if (!k) {
		pb_put_bytes(grpc_reply(h->call, 16), 1, (struct str){ "", 0 });
		call_finish(h->call);
		return;
	}
	s = arena_zero(h->call->arena, sizeof(*s));
	if (!s)
		err_set(&e, ERR_UNAVAILABLE, "memory is short; try again later");
	if (!s || !filter(h, k, s, &e)) {
		check_refuse(h->check, &e);
		return;
	}
	s->hook = h;
	s->telling.worker = h->check->worker;
	s->telling.arena = h->call->arena;
	s->telling.by = h->check->caller->id;
	s->telling.done = answer_list;
	s->telling.user = s;
	list_tell(&s->telling);
}

void grpc_mcp_check(struct worker *w, struct call *call, const struct caller *caller,
		    struct str request_id, struct str trace_id)
{
	struct hook *h = arena_zero(call->arena, sizeof(*h));
	struct check *c = check_new(w, call->arena, call->scratch);
	struct err e;

	if (h)
		h->headers = arena_alloc(call->arena, (GRPC_HEADERS_MAX + 1) * sizeof(*h->headers));
	if (!h || !c || !h->headers) {
		err_set(&e, ERR_UNAVAILABLE, "memory is short; try again later");
		grpc_mcp_refuse(call, &e);
		call_finish(call);
		return;
	}
	h->call = call;
	h->check = c;
	h->response = str_eq(call->path, STR("/agentgateway.dev.ext_mcp.ExtMcp/CheckResponse"));
	c->caller = caller;
	c->request_id = request_id;
	c->trace_id = trace_id;
	c->done = answer;
	c->user = h;
	if (!read_message(h, &e))
		check_refuse(c, &e);
	else if (h->response)
		answer_response(h);
	else if (describe(h, &e))
		check_run(c);
	else
		check_refuse(c, &e);
}
