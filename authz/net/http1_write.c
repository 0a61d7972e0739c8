#include "authz/net/http1.h"

#include "authz/base/text.h"

/* The status lines that are sent all the time, whole. */
static struct str status_line(int status)
{
	switch (status) {
	case 200:
		return STR("HTTP/1.1 200 OK\r\n");
	case 204:
		return STR("HTTP/1.1 204 No Content\r\n");
	case 401:
		return STR("HTTP/1.1 401 Unauthorized\r\n");
	case 403:
		return STR("HTTP/1.1 403 Forbidden\r\n");
	default:
		return (struct str){ NULL, 0 };
	}
}

static char *put(char *at, struct str s)
{
	if (s.n)
		memcpy(at, s.p, s.n);
	return at + s.n;
}

static char *put_header(char *at, struct str name, struct str value)
{
	at = put(at, name);
	at = put(at, STR(": "));
	at = put(at, value);
	return put(at, STR("\r\n"));
}

static char *put_number(char *at, size_t v)
{
	return at + text_put_u64(v, at);
}

static char *put_status(char *at, int status)
{
	struct str line = status_line(status);

	if (line.n)
		return put(at, line);
	at = put(at, STR("HTTP/1.1 "));
	at = put_number(at, (size_t)status);
	*at++ = ' ';
	at = put(at, call_reason(status));
	return put(at, STR("\r\n"));
}

void http1_write(struct buf *out, const struct call *c, struct str request_id, bool keep_alive,
		 bool head_only)
{
	const struct reply *r = &c->reply;
	bool bodiless = r->status < 200 || r->status == 204 || r->status == 304;
	struct str type = str_c(r->type);
	/* 200: status line, fixed names, numbers and line ends. */
	size_t room = 200 + type.n + request_id.n + (head_only || bodiless ? 0 : r->body.n);
	char *from, *at;

	for (size_t i = 0; i < r->nheaders; i++)
		room += r->headers[i].name.n + r->headers[i].value.n + 4;
	from = at = buf_room(out, room);
	if (!at)
		return;
	at = put_status(at, r->status);
	if (type.n && !bodiless)
		at = put_header(at, STR("Content-Type"), type);
	if (!bodiless) {
		at = put(at, STR("Content-Length: "));
		at = put_number(at, r->body.n);
		at = put(at, STR("\r\n"));
	}
	if (request_id.n)
		at = put_header(at, STR("X-Request-ID"), request_id);
	for (size_t i = 0; i < r->nheaders; i++)
		at = put_header(at, r->headers[i].name, r->headers[i].value);
	if (!keep_alive)
		at = put(at, STR("Connection: close\r\n"));
	at = put(at, STR("\r\n"));
	if (!head_only && !bodiless)
		at = put(at, buf_str(&r->body));
	out->n += (size_t)(at - from);
}
