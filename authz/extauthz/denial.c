#include "authz/extauthz/denial.h"

#include "authz/base/text.h"

#define BODY_MAX 1024
#define MESSAGE_MAX 300
#define DENIED (-32001) /* MCP: what AuthZEN's binding and gateways use */

/* At most @max bytes, not in the middle of a character. */
static struct str short_text(struct str s, size_t max)
{
	if (s.n <= max)
		return s;
	while (max && ((unsigned char)s.p[max] & 0xc0) == 0x80)
		max--;
	return str_first(s, max);
}

static void put_member(struct buf *b, const char *name, struct str value)
{
	if (!value.n)
		return;
	buf_lit(b, ",\"");
	buf_add(b, str_c(name));
	buf_lit(b, "\":");
	buf_json(b, value);
}

struct writer {
	const struct check *c;
	const struct traffic *t;
	const struct denial *d;
	struct str message, evaluation;
	struct buf b;
};

/* ---- model APIs ---- */

static const struct {
	int status;
	const char *openai, *anthropic, *google;
} types[] = {
	{ 400, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT" },
	{ 401, "authentication_error", "authentication_error", "UNAUTHENTICATED" },
	{ 403, "permission_error", "permission_error", "PERMISSION_DENIED" },
	{ 413, "invalid_request_error", "request_too_large", "INVALID_ARGUMENT" },
	{ 429, "rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED" },
};

static size_t type_of(int status)
{
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (types[i].status == status)
			return i;
	return 2;
}

static void put_openai(struct writer *w)
{
	buf_lit(&w->b, "{\"error\":{\"message\":");
	buf_json(&w->b, w->message);
	buf_printf(&w->b, ",\"type\":\"%s\",\"param\":null", types[type_of(w->d->status)].openai);
	put_member(&w->b, "code", w->d->reason);
	put_member(&w->b, "evaluation_id", w->evaluation);
	buf_lit(&w->b, "}}");
}

static void put_anthropic(struct writer *w)
{
	buf_printf(&w->b, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":",
		   types[type_of(w->d->status)].anthropic);
	buf_json(&w->b, w->message);
	put_member(&w->b, "reason", w->d->reason);
	buf_char(&w->b, '}');
	put_member(&w->b, "request_id", w->evaluation);
	buf_char(&w->b, '}');
}

/* google.rpc.ErrorInfo, as Google's APIs and A2A have it. */
static void put_info(struct writer *w)
{
	buf_lit(&w->b,
		"{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"domain\":\"writ\"");
	put_member(&w->b, "reason", w->d->reason);
	if (w->evaluation.n) {
		buf_lit(&w->b, ",\"metadata\":{\"evaluation_id\":");
		buf_json(&w->b, w->evaluation);
		buf_char(&w->b, '}');
	}
	buf_char(&w->b, '}');
}

static void put_google(struct writer *w)
{
	buf_printf(&w->b, "{\"error\":{\"code\":%d,\"message\":", w->d->status);
	buf_json(&w->b, w->message);
	buf_printf(&w->b, ",\"status\":\"%s\",\"details\":[", types[type_of(w->d->status)].google);
	put_info(w);
	buf_lit(&w->b, "]}}");
}

static void put_bedrock(struct writer *w)
{
	buf_lit(&w->b, "{\"message\":");
	buf_json(&w->b, w->message);
	put_member(&w->b, "reason", w->d->reason);
	buf_char(&w->b, '}');
}

static void put_plain(struct writer *w)
{
	buf_printf(&w->b, "{\"error\":{\"status\":%d", w->d->status);
	put_member(&w->b, "code", w->d->reason);
	put_member(&w->b, "message", w->message);
	put_member(&w->b, "evaluation_id", w->evaluation);
	buf_lit(&w->b, "}}");
}

/* ---- JSON-RPC ---- */

static void put_envelope(struct writer *w)
{
	buf_lit(&w->b, "{\"jsonrpc\":\"2.0\"");
	if (w->t->rpc_id.n) {
		buf_lit(&w->b, ",\"id\":");
		buf_add(&w->b, w->t->rpc_id); /* byte by byte: 7 stays 7, "7" stays "7" */
	}
}

static void put_rpc_error(struct writer *w)
{
	bool a2a = w->t->protocol == TRAFFIC_A2A;
	int code = w->t->rpc_code ? w->t->rpc_code : a2a ? -32600 : DENIED;

	put_envelope(w);
	buf_printf(&w->b, ",\"error\":{\"code\":%d,\"message\":", code);
	buf_json(&w->b, w->message);
	if (a2a) { /* -32001 means "no such task" there; data is a list */
		buf_lit(&w->b, ",\"data\":[");
		put_info(w);
		buf_lit(&w->b, "]}}");
		return;
	}
	buf_lit(&w->b, ",\"data\":{\"reason\":");
	buf_json(&w->b, w->d->reason);
	put_member(&w->b, "evaluation_id", w->evaluation);
	buf_add(&w->b, w->d->status == 429 ? STR(",\"retryable\":true}}}")
					   : STR(",\"retryable\":false}}}"));
}

/* The model reads this one. resultType came with 2026-07-28. */
static void put_tool_result(struct writer *w)
{
	put_envelope(w);
	buf_lit(&w->b, ",\"result\":{");
	if (str_eq(w->t->version, STR("2026-07-28")))
		buf_lit(&w->b, "\"resultType\":\"complete\",");
	buf_lit(&w->b, "\"isError\":true,\"content\":[{\"type\":\"text\",\"text\":");
	buf_json(&w->b, w->message);
	buf_lit(&w->b, "}],\"_meta\":{\"writ/reason\":");
	buf_json(&w->b, w->d->reason);
	put_member(&w->b, "writ/evaluation_id", w->evaluation);
	buf_lit(&w->b, "}}}");
}

static bool is_rpc(const struct traffic *t)
{
	return t->protocol == TRAFFIC_MCP || (t->protocol == TRAFFIC_A2A && t->rpc_id.n);
}

static void put_body(struct writer *w)
{
	switch (w->t->protocol) {
	case TRAFFIC_OPENAI:
	case TRAFFIC_OLLAMA:
		put_openai(w);
		return;
	case TRAFFIC_ANTHROPIC:
		put_anthropic(w);
		return;
	case TRAFFIC_GEMINI:
	case TRAFFIC_A2A:
		put_google(w);
		return;
	case TRAFFIC_BEDROCK:
		put_bedrock(w);
		return;
	case TRAFFIC_AUTO:
	case TRAFFIC_MCP:
	case TRAFFIC_HTTP:
	case TRAFFIC_PROTOCOLS:
		break;
	}
	put_plain(w);
}

/* ---- headers ---- */

static void header(struct check_verdict *v, const char *name, struct str value)
{
	if (value.n && v->nheaders < CHECK_HEADERS_MAX)
		v->headers[v->nheaders++] = (struct http_header){ str_c(name), value };
}

/* For identity and step-up only: a client that cannot get more would try for ever. */
static void challenge(const struct check *c, const struct denial *d, struct check_verdict *v)
{
	if (d->status == 401)
		header(v, "www-authenticate",
		       d->bad_token ? STR("Bearer realm=\"writ\", error=\"invalid_token\"")
				    : STR("Bearer realm=\"writ\""));
	else if (d->acr.n)
		header(v, "www-authenticate",
		       arena_printf(c->arena,
				    "Bearer error=\"insufficient_user_authentication\", "
				    "acr_values=\"%.*s\"",
				    STR_FMT(d->acr)));
}

/* Wanted: what the client should get. Sent: what the proxy lets us say. */
static void set_status(const struct check *c, int wanted, struct check_verdict *v)
{
	v->status = wanted;
	if ((wanted == 200 && !c->may_answer_200) ||
	    (c->only_401_403 && wanted != 401 && wanted != 403)) {
		v->status = 403;
		header(v, "x-writ-status", arena_printf(c->arena, "%d", wanted));
	}
}

void denial_write(const struct check *c, const struct traffic *t, const struct denial *d,
		  struct check_verdict *v)
{
	struct writer w = { .c = c, .t = t, .d = d };
	bool answer = is_rpc(t) && t->rpc_id.n && !t->batch && d->policy && d->status == 403 &&
		      t->style != TRAFFIC_STYLE_HTTP;

	w.message = short_text(d->message.n ? d->message : STR("Denied by policy."), MESSAGE_MAX);
	w.evaluation = str_first(v->evaluation_ids, 64);
	buf_in_arena(&w.b, c->arena, BODY_MAX);
	v->allow = false;
	v->reason = d->reason;
	set_status(c, answer ? 200 : d->status, v);
	challenge(c, d, v);
	header(v, "x-writ-reason", d->reason);
	header(v, "x-writ-decision-id", w.evaluation);
	if (t->protocol == TRAFFIC_BEDROCK)
		header(v, "x-amzn-errortype", STR("AccessDeniedException"));
	if (answer && t->style == TRAFFIC_STYLE_TOOL_RESULT && t->tool_call)
		put_tool_result(&w);
	else if (is_rpc(t) && (t->rpc_id.n || !t->notification))
		put_rpc_error(&w);
	else if (!is_rpc(t))
		put_body(&w);
	v->content_type = STR("application/json");
	v->body = buf_ok(&w.b) ? buf_str(&w.b) : (struct str){ NULL, 0 };
}
