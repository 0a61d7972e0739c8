/*
 * nghttp2's own check of messages is switched off, because it refuses the :authority that gRPC
 * clients send on Unix sockets (a path, or nothing). So everything is checked here: pseudo
 * headers once, known and first, names in lower case, no connection headers; and in http2.c
 * that Content-Length equals the body and that no trailers follow a request.
 */
#include "authz/base/text.h"
#include "authz/net/chars.h"
#include "authz/net/grpc_inside.h"

#define HEADERS_FIRST 16 /* header lines to make room for at first */

void http2_spoil(struct exchange *x, int status, enum err_class class, const char *code,
		 const char *msg)
{
	if (x->h2.refuse)
		return;
	x->h2.refuse = status;
	err_code(&x->h2.why, class, code, "%s", msg);
}

static void malformed(struct exchange *x, const char *msg)
{
	http2_spoil(x, 400, ERR_INVALID, "invalid_request", msg);
}

static bool known_pseudo(struct exchange *x, struct str name, struct str value)
{
	struct call *c = &x->call;

	if (str_eq(name, STR(":method")) && !c->method.n) {
		c->method = value;
		return value.n > 0;
	}
	if (str_eq(name, STR(":path")) && !c->target.n) {
		c->target = value;
		return value.n > 0;
	}
	if (str_eq(name, STR(":scheme")) && !x->h2.has_scheme) {
		x->h2.has_scheme = true;
		return true;
	}
	if (str_eq(name, STR(":authority")) && !x->h2.authority.p) {
		x->h2.authority = value;
		return true;
	}
	return false;
}

static bool is_connection_header(struct str name)
{
	return str_eq(name, STR("connection")) || str_eq(name, STR("transfer-encoding")) ||
	       str_eq(name, STR("keep-alive")) || str_eq(name, STR("upgrade")) ||
	       str_eq(name, STR("proxy-connection"));
}

static bool name_ok(struct str name)
{
	if (name.n && text_is_dashed(name)) /* nearly all are */
		return true;
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] >= 'A' && name.p[i] <= 'Z')
			return false;
	return http_is_token(name);
}

static void read_known(struct exchange *x, struct http_header h)
{
	if (is_connection_header(h.name) ||
	    (str_eq(h.name, STR("te")) && !http_equal_fold(h.value, STR("trailers"))))
		malformed(x, "HTTP/2 has no connection headers");
	else if (str_eq(h.name, STR("content-length"))) {
		if (x->h2.has_length || !text_u64(h.value, UINT64_MAX, &x->h2.length))
			malformed(x, "Content-Length must be given once, as a plain number");
		x->h2.has_length = true;
	} else if (str_eq(h.name, STR("host"))) {
		if (x->h2.has_host)
			malformed(x, "Host is given twice");
		x->h2.has_host = true;
	} else if (str_eq(h.name, STR("x-request-id"))) {
		if (x->request_id.n || !http_request_id_ok(h.value))
			malformed(x, "X-Request-ID must be one of at most 256 printable ASCII "
				     "characters");
		else
			x->request_id = h.value;
	}
}

static bool add_header(struct exchange *x, struct http_header h)
{
	struct call *c = &x->call;
	struct http_header *all;

	if (c->nheaders == x->h2.headers_cap) {
		size_t cap = x->h2.headers_cap ? 2 * x->h2.headers_cap : HEADERS_FIRST;

		all = arena_alloc(c->scratch, cap * sizeof(*all));
		if (!all)
			return false;
		if (c->nheaders)
			memcpy(all, c->headers, c->nheaders * sizeof(*all));
		c->headers = all;
		x->h2.all = all;
		x->h2.headers_cap = cap;
	}
	x->h2.all[c->nheaders++] = h;
	return true;
}

void http2_read_header(struct exchange *x, struct http_header h)
{
	size_t max = x->conn->shard->server->limits.headers;

	if (h.name.n && h.name.p[0] == ':') {
		if (x->h2.regular || !known_pseudo(x, h.name, h.value))
			malformed(x, "pseudo headers must be known, come first, and only once");
		return;
	}
	x->h2.regular = true;
	if (!name_ok(h.name))
		malformed(x, "a header name must be a token in lower case");
	else if (!http_value_ok(h.value) || (h.value.n && http_trim(h.value).n != h.value.n))
		malformed(x, "a header value has a control character or spaces at an end");
	else if (x->call.nheaders == max)
		http2_spoil(x, 431, ERR_TOO_LARGE, "headers_too_large",
			    "the request has too many header lines");
	else if (!add_header(x, h))
		http2_spoil(x, 503, ERR_UNAVAILABLE, "unavailable", "no memory for the request");
	else
		read_known(x, h);
}

/* On Unix sockets gRPC clients put a path or nothing there (grpc-java, older tonic). */
static bool authority_ok(const struct exchange *x)
{
	const struct call *c = &x->call;

	if (c->peer->listener->unix_socket)
		return !x->h2.authority.n || http_value_ok(x->h2.authority);
	if (x->h2.authority.p && x->h2.has_host &&
	    !str_eq(x->h2.authority, call_header(c, STR("host"))))
		return false;
	return (x->h2.authority.p || x->h2.has_host) && http_host_ok(x->h2.authority) &&
	       http_host_ok(call_header(c, STR("host")));
}

void http2_check_head(struct exchange *x)
{
	struct call *c = &x->call;
	const struct server_limits *l = &x->conn->shard->server->limits;

	if (!c->method.n || !c->target.n || !x->h2.has_scheme)
		malformed(x, "a request must have :method, :scheme and :path");
	else if (c->method.n > 32 || !http_is_token(c->method))
		malformed(x, "the method is not a token of at most 32 characters");
	else if (c->target.n > l->url)
		http2_spoil(x, 414, ERR_TOO_LARGE, "url_too_long",
			    "the request target is longer than the server accepts");
	else if (!http_target_ok(c->target))
		malformed(x, "the request target must be a path that starts with '/' and has only "
			     "visible ASCII characters, without '#'");
	else if (!authority_ok(x))
		malformed(x, "a request must have one :authority or Host, a host name");
	else if (x->h2.has_length && x->h2.length > l->body)
		http2_spoil(x, 413, ERR_TOO_LARGE, "body_too_large",
			    "the body is larger than the server accepts");
	else if (x->h2.authority.p && !x->h2.has_host && c->nheaders < l->headers &&
		 !add_header(x, (struct http_header){ STR("host"), x->h2.authority }))
		http2_spoil(x, 503, ERR_UNAVAILABLE, "unavailable", "no memory for the request");
	if (!str_cut(c->target, '?', &c->path, &c->query))
		c->path = c->target;
	x->head_only = str_eq(c->method, STR("HEAD"));
	if (!x->h2.refuse)
		grpc_open(x);
}
