#include "authz/cli/client.h"

#include <arpa/inet.h>
#include <openssl/x509.h>
#include <stdio.h>

#include "authz/base/json.h"
#include "authz/base/text.h"
#include "authz/cli/transport.h"
#include "authz/net/response.h"
#include "include/writ/words.h"
#include "spiffe/crypto.h"

#define ERROR_ARENA (1024 * 1024)

static bool bad_target(const char *text, const char *why, struct err *e)
{
	return err_code(e, ERR_INVALID, "wrong_usage",
			"--server %.100s: %s; expected unix:PATH, http://LOOPBACK:PORT or "
			"https://HOST:PORT",
			text, why);
}

static bool is_loopback(const char *host)
{
	struct in_addr v4;

	if (strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0)
		return true;
	return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

/* "host", "host:port", "[v6]:port" */
static bool split_authority(struct str s, const char *standard_port, struct target *t)
{
	struct str host = s, port = str_c(standard_port), tail;
	uint64_t number;

	if (s.n && s.p[0] == '[') {
		if (!str_cut(str_from(s, 1), ']', &host, &tail))
			return false;
		if (tail.n && tail.p[0] != ':')
			return false;
		if (tail.n)
			port = str_from(tail, 1);
	} else if (str_cut(s, ':', &host, &tail)) {
		port = tail;
	}
	if (host.n == 0 || host.n >= sizeof(t->host) || !text_is_printable(host) ||
	    !text_u64(port, 65535, &number) || number == 0)
		return false;
	for (size_t i = 0; i < host.n; i++)
		if (strchr(" /?#@\\%\"<>", host.p[i]))
			return false;
	snprintf(t->host, sizeof(t->host), "%.*s", STR_FMT(host));
	snprintf(t->port, sizeof(t->port), "%u", (unsigned)number);
	return true;
}

bool target_parse(const char *text, struct target *t, struct err *e)
{
	struct str s = str_c(text);
	struct target out = { 0 };
	const char *port;

	if (str_starts(s, STR("unix:"))) {
		s = str_from(s, strlen("unix:"));
		if (s.n == 0 || s.n >= sizeof(out.path))
			return bad_target(text, "a socket's path has 1 to 107 bytes", e);
		memcpy(out.path, s.p, s.n);
		out.kind = TARGET_UNIX;
		*t = out;
		return true;
	}
	if (str_starts(s, STR("http://"))) {
		out.kind = TARGET_HTTP;
		port = "80";
	} else if (str_starts(s, STR("https://"))) {
		out.kind = TARGET_HTTPS;
		port = "443";
	} else {
		return bad_target(text, "unknown kind of address", e);
	}
	s = str_from(s, out.kind == TARGET_HTTP ? strlen("http://") : strlen("https://"));
	if (str_ends(s, STR("/")))
		s.n--;
	if (!split_authority(s, port, &out))
		return bad_target(text, "not a host and a port", e);
	if (out.kind == TARGET_HTTP && !is_loopback(out.host))
		return bad_target(text, "plain http is for loopback only", e);
	*t = out;
	return true;
}

const char *target_name(const struct target *t, char out[static TARGET_NAME_MAX])
{
	const char *open = strchr(t->host, ':') ? "[" : "", *shut = *open ? "]" : "";

	if (t->kind == TARGET_UNIX)
		snprintf(out, TARGET_NAME_MAX, "unix:%.107s", t->path);
	else
		snprintf(out, TARGET_NAME_MAX, "%s://%s%s%s:%s",
			 t->kind == TARGET_HTTP ? "http" : "https", open, t->host, shut, t->port);
	return out;
}

static bool send_request(struct transport *tr, const struct target *t,
			 const struct client_request *q, struct err *e)
{
	AUTO_BUF b;

	buf_init(&b, mem_system, CLIENT_HEADERS);
	buf_printf(&b, "%s %s HTTP/1.1\r\nHost: ", q->method, q->path);
	if (t->kind == TARGET_UNIX)
		buf_lit(&b, "localhost");
	else if (strchr(t->host, ':'))
		buf_printf(&b, "[%s]:%s", t->host, t->port);
	else
		buf_printf(&b, "%s:%s", t->host, t->port);
	buf_lit(&b,
		"\r\nConnection: close\r\nAccept: */*\r\nUser-Agent: writ/" WRIT_VERSION "\r\n");
	if (q->body.p)
		buf_printf(&b, "Content-Type: %s\r\nContent-Length: %zu\r\n",
			   q->type ? q->type : "application/json", q->body.n);
	else if (strcmp(q->method, "POST") == 0)
		buf_lit(&b, "Content-Length: 0\r\n");
	buf_lit(&b, "\r\n");
	if (!buf_ok(&b))
		return err_set(e, ERR_TOO_LARGE, "the request line is longer than %d KiB",
			       CLIENT_HEADERS / 1024);
	return transport_write(tr, buf_str(&b), e) && transport_write(tr, q->body, e);
}

static bool call(const struct target *t, const struct client_tls *tls, bool unproven,
		 const struct client_request *q, struct client_reply *r, struct err *e)
{
	AUTO_TRANSPORT *tr = NULL;
	struct response_source source = { .read = transport_read };
	const struct response_want want = { .sink = q->sink,
					    .ctx = q->ctx,
					    .hint = "; is this address writ's?" };
	struct response read = { 0 };
	struct err sending = { 0 };
	bool sent, ok;

	*r = (struct client_reply){ 0 };
	if (!transport_open(t, tls, unproven, &tr, e))
		return false;
	source.ctx = tr;
	/* A server that refuses a body early answers and closes: the answer says more than the
	 * broken pipe. */
	sent = send_request(tr, t, q, &sending);
	buf_init(&read.body, mem_system, CLIENT_BODY);
	ok = response_read(&source, &want, &read, e);
	*r = (struct client_reply){ .status = read.status, .json = read.json, .body = read.body };
	if (!ok && !sent && e)
		*e = sending;
	return ok;
}

bool client_call(const struct target *t, const struct client_tls *tls,
		 const struct client_request *q, struct client_reply *r, struct err *e)
{
	return call(t, tls, false, q, r, e);
}

void client_reply_clear(struct client_reply *r)
{
	if (r->body.alloc.fn)
		buf_clear(&r->body);
}

static enum err_class class_of(int status)
{
	static const struct {
		int status;
		enum err_class class;
	} table[] = {
		{ 400, ERR_INVALID },	{ 401, ERR_UNAUTHENTICATED }, { 403, ERR_FORBIDDEN },
		{ 404, ERR_NOT_FOUND }, { 409, ERR_CONFLICT },	      { 413, ERR_TOO_LARGE },
		{ 429, ERR_RATE },	{ 503, ERR_UNAVAILABLE },     { 504, ERR_TIMEOUT },
		{ 500, ERR_INTERNAL },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (table[i].status == status)
			return table[i].class;
	return status >= 400 && status < 500 ? ERR_INVALID : ERR_INTERNAL;
}

/* {"error":{"code","message"}}, or {"error","error_description"} of OAuth (RFC 6749 5.2). */
static bool read_error(const struct json *v, struct str *code, struct str *message)
{
	const struct json *error = json_get(v, STR("error"));
	bool oauth = error && error->type == JSON_STRING;
	const struct json *c = oauth ? error : json_get_type(error, STR("code"), JSON_STRING);
	const struct json *m = json_get_type(oauth ? v : error,
					     oauth ? STR("error_description") : STR("message"),
					     JSON_STRING);

	if (!c || !m)
		return false;
	*code = c->s;
	*message = m->s;
	return true;
}

/* The sentence of {"error":{...}} and its code behind it: programs of others chose the code, so
 * it cannot be the static one of a struct err. */
static bool say_error(const struct client_reply *r, struct err *e)
{
	struct arena a;
	const struct json *v = NULL;
	struct str code, message;
	enum err_class class = class_of(r->status);

	arena_init(&a, &mem_system, ERROR_ARENA);
	if (json_parse(buf_str(&r->body), &json_default_limits, &a, &v, NULL) &&
	    read_error(v, &code, &message)) {
		err_code(e, class, "server_refused", "%.*s (%d %.*s)",
			 STR_FMT(str_first(message, 320)), r->status, STR_FMT(str_first(code, 40)));
		arena_clear(&a);
		return false;
	}
	arena_clear(&a);
	return err_code(e, class, "server_refused",
			"the server answered with status %d and no reason; is this address writ's?",
			r->status);
}

bool client_ask(const struct target *t, const struct client_tls *tls,
		const struct client_request *q, struct client_reply *r, struct err *e)
{
	if (!client_call(t, tls, q, r, e))
		return false;
	if (r->status < 200 || r->status > 299)
		return say_error(r, e);
	return true;
}

void client_encode(struct buf *b, struct str s)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    (c && strchr("-._~", c))) {
			buf_char(b, (char)c);
		} else {
			buf_char(b, '%');
			buf_char(b, hex[c >> 4]);
			buf_char(b, hex[c & 15]);
		}
	}
}

/* "sha256:<hex>", "AB:CD:..." or plain hex of either case. */
static bool read_fingerprint(const char *text, uint8_t out[static SHA256_LEN], struct err *e)
{
	struct str s = str_c(text);
	char hex[2 * SHA256_LEN + 1];
	size_t n = 0;

	if (str_starts(s, STR("sha256:")))
		s = str_from(s, strlen("sha256:"));
	for (size_t i = 0; i < s.n && n < sizeof(hex); i++) {
		char c = s.p[i];

		if (c == ':')
			continue;
		hex[n++] = c >= 'A' && c <= 'F' ? (char)(c - 'A' + 'a') : c;
	}
	if (n != 2 * SHA256_LEN || !text_unhex((struct str){ hex, n }, out, SHA256_LEN))
		return err_code(
			e, ERR_INVALID, "wrong_usage",
			"--fingerprint: expected the 64 hexadecimal digits of a SHA-256, as "
			"`writ agent token` prints them");
	return true;
}

static bool find_authority(const struct json *bundle, const uint8_t want[static SHA256_LEN],
			   struct buf *pem)
{
	const struct json *keys = json_get_type(bundle, STR("keys"), JSON_ARRAY);

	for (uint32_t i = 0; keys && i < keys->n; i++) {
		const struct json *x5c = json_get_type(&keys->items[i], STR("x5c"), JSON_ARRAY);
		uint8_t der[8192], got[SHA256_LEN];
		size_t n = 0;

		/* The bundle format: exactly one certificate, and that is the authority. */
		if (!x5c || x5c->n != 1 || x5c->items[0].type != JSON_STRING ||
		    x5c->items[0].s.n > sizeof(der) ||
		    !text_unbase64(x5c->items[0].s, BASE64_STD, der, &n))
			continue;
		crypto_sha256((struct str){ (char *)der, n }, got);
		if (memcmp(got, want, SHA256_LEN) == 0) {
			crypto_pem(pem, "CERTIFICATE", (struct str){ (char *)der, n });
			return true;
		}
	}
	return false;
}

bool client_first_contact(const struct target *t, const char *fingerprint, struct buf *pem,
			  struct err *e)
{
	struct client_request q = { .method = "GET", .path = "/bundle" };
	uint8_t want[SHA256_LEN];
	const struct json *bundle;
	struct arena a;
	AUTO_REPLY r = { 0 };
	bool ok;

	if (!read_fingerprint(fingerprint, want, e) || !call(t, NULL, true, &q, &r, e))
		return false;
	if (r.status != 200)
		return say_error(&r, e);
	arena_init(&a, &mem_system, CLIENT_BODY);
	ok = json_parse(buf_str(&r.body), &json_default_limits, &a, &bundle, e);
	if (ok && !find_authority(bundle, want, pem))
		ok = err_code(e, ERR_UNAUTHENTICATED, "wrong_fingerprint",
			      "the server has no authority with this fingerprint: it is another "
			      "server, someone stands between, or the token is older than the key");
	arena_clear(&a);
	return ok && buf_ok(pem);
}
