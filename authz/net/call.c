#include "authz/net/call.h"

#include <assert.h>

#include "authz/net/grpc.h"

/* What a reply of ours may carry; others are sent with "Unknown". */
static const struct {
	int status;
	struct str reason;
} reasons[] = {
	{ 200, STR_INIT("OK") },
	{ 201, STR_INIT("Created") },
	{ 202, STR_INIT("Accepted") },
	{ 204, STR_INIT("No Content") },
	{ 301, STR_INIT("Moved Permanently") },
	{ 302, STR_INIT("Found") },
	{ 303, STR_INIT("See Other") },
	{ 304, STR_INIT("Not Modified") },
	{ 307, STR_INIT("Temporary Redirect") },
	{ 308, STR_INIT("Permanent Redirect") },
	{ 400, STR_INIT("Bad Request") },
	{ 401, STR_INIT("Unauthorized") },
	{ 403, STR_INIT("Forbidden") },
	{ 404, STR_INIT("Not Found") },
	{ 405, STR_INIT("Method Not Allowed") },
	{ 406, STR_INIT("Not Acceptable") },
	{ 408, STR_INIT("Request Timeout") },
	{ 409, STR_INIT("Conflict") },
	{ 410, STR_INIT("Gone") },
	{ 412, STR_INIT("Precondition Failed") },
	{ 413, STR_INIT("Content Too Large") },
	{ 414, STR_INIT("URI Too Long") },
	{ 415, STR_INIT("Unsupported Media Type") },
	{ 416, STR_INIT("Range Not Satisfiable") },
	{ 417, STR_INIT("Expectation Failed") },
	{ 421, STR_INIT("Misdirected Request") },
	{ 422, STR_INIT("Unprocessable Content") },
	{ 429, STR_INIT("Too Many Requests") },
	{ 431, STR_INIT("Request Header Fields Too Large") },
	{ 500, STR_INIT("Internal Server Error") },
	{ 501, STR_INIT("Not Implemented") },
	{ 502, STR_INIT("Bad Gateway") },
	{ 503, STR_INIT("Service Unavailable") },
	{ 504, STR_INIT("Gateway Timeout") },
	{ 505, STR_INIT("HTTP Version Not Supported") },
};

struct str call_reason(int status)
{
	for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return STR("Unknown");
}

struct str call_header(const struct call *c, struct str name)
{
	for (size_t i = 0; i < c->nheaders; i++)
		if (str_eq_short(c->headers[i].name, name))
			return c->headers[i].value;
	return (struct str){ NULL, 0 };
}

size_t call_header_count(const struct call *c, struct str name)
{
	size_t n = 0;

	for (size_t i = 0; i < c->nheaders; i++)
		n += str_eq(c->headers[i].name, name);
	return n;
}

void call_let_go(struct call *c)
{
	c->let_go = true;
}

void call_reply_header(struct call *c, struct str name, struct str value)
{
	assert(c->reply.nheaders < REPLY_HEADERS_MAX);
	c->reply.headers[c->reply.nheaders++] = (struct http_header){ name, value };
}

void call_challenge(struct call *c)
{
	call_reply_header(c, STR("www-authenticate"), STR("Bearer realm=\"writ\""));
}

void call_reply(struct call *c, int status, const char *type, size_t max)
{
	c->reply.status = status;
	c->reply.type = type;
	buf_in_arena(&c->reply.body, c->arena, max);
}

void call_fail_as(struct call *c, int status, const struct err *e)
{
	struct buf *b = &c->reply.body;

	if (c->grpc) {
		grpc_fail(c, status == 408 ? GRPC_DEADLINE_EXCEEDED : grpc_status_of(e->class), e);
		return;
	}
	call_reply(c, status, "application/json", 4096);
	buf_lit(b, "{\"error\":{\"status\":");
	buf_i64(b, status);
	buf_lit(b, ",\"code\":");
	buf_json(b, str_c(e->code ? e->code : "internal"));
	buf_lit(b, ",\"message\":");
	buf_json(b, str_c(e->msg));
	buf_lit(b, "}}\n");
}

void call_fail(struct call *c, const struct err *e)
{
	call_fail_as(c, err_status(e->class), e);
}

void call_finish(struct call *c)
{
	c->finish(c);
}
