/* The strict HTTP/1.1 reader: what it accepts, what it refuses, and that cuts change nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>

#include "authz/net/chars.h"
#include "authz/net/http1.h"

static const struct http1_limits limits = { .head = 1024, .url = 200, .headers = 10, .body = 64 };

/* What a reader makes of some bytes, as one text. */
struct outcome {
	enum http1_state state;
	char text[4096];
	size_t used;
};

static void describe(struct outcome *o, const struct http1 *r, const struct err *e)
{
	int n;

	if (o->state == HTTP1_REFUSED) {
		snprintf(o->text, sizeof(o->text), "%d %s %s", r->status, e->code, e->msg);
		return;
	}
	n = snprintf(o->text, sizeof(o->text), "%.*s|%.*s|%.*s|%d|%.*s|", STR_FMT(r->method),
		     STR_FMT(r->path), STR_FMT(r->query), r->keep_alive, STR_FMT(r->request_id));
	for (size_t i = 0; i < r->nheaders; i++)
		n += snprintf(o->text + n, sizeof(o->text) - (size_t)n, "%.*s=%.*s;",
			      STR_FMT(r->headers[i].name), STR_FMT(r->headers[i].value));
	snprintf(o->text + n, sizeof(o->text) - (size_t)n, "|%.*s", STR_FMT(r->body));
}

/* Feed @in in pieces that end at @cuts (ascending, ncuts of them) and at the end. */
static void read_in_pieces(struct str in, const size_t *cuts, size_t ncuts, struct outcome *o)
{
	struct arena a;
	struct http1 r;
	struct err e = { 0 };
	size_t at = 0;

	arena_init(&a, &mem_system, 1024 * 1024);
	http1_begin(&r, &limits, &a);
	*o = (struct outcome){ .state = HTTP1_MORE };
	for (size_t i = 0; i <= ncuts; i++) {
		size_t end = i < ncuts ? cuts[i] : in.n, used = 0;
		/* A copy of its own, so that reading past a piece is seen. */
		size_t n = end - at;
		char *piece = malloc(n ? n : 1);
		size_t from = 0;

		memcpy(piece, in.p + at, n);
		do {
			o->state = http1_feed(&r, (struct str){ piece + from, n - from }, &used,
					      &e);
			from += used;
		} while (o->state == HTTP1_CONTINUE);
		free(piece);
		at += from;
		if (o->state != HTTP1_MORE)
			break;
		assert_int_equal(at, end);
	}
	o->used = at;
	describe(o, &r, &e);
	arena_clear(&a);
}

#define H "Host: a\r\n"

static const struct {
	const char *why, *in;
	const char *outcome; /* method|path|query|keep|id|headers|body */
} accepted[] = {
	{ "least", "GET / HTTP/1.1\r\n" H "\r\n", "GET|/||1||host=a;|" },
	{ "empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET|/||1||host=;|" },
	{ "query", "GET /a/b?x=1&y=%20?z HTTP/1.1\r\n" H "\r\n",
	  "GET|/a/b|x=1&y=%20?z|1||host=a;|" },
	{ "path is not decoded", "GET /%2e%2e/%00//./ HTTP/1.1\r\n" H "\r\n",
	  "GET|/%2e%2e/%00//./||1||host=a;|" },
	{ "method verbatim", "aBc-D / HTTP/1.1\r\n" H "\r\n", "aBc-D|/||1||host=a;|" },
	{ "names in lower case, values trimmed",
	  "GET / HTTP/1.1\r\nHOST: a\r\nX-Long:\t  some \t value \t\r\nX-E:\r\n\r\n",
	  "GET|/||1||host=a;x-long=some \t value;x-e=;|" },
	{ "bytes above ASCII in a value", "GET / HTTP/1.1\r\n" H "X: \xc3\xa4\xff\r\n\r\n",
	  "GET|/||1||host=a;x=\xc3\xa4\xff;|" },
	{ "body", "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello",
	  "POST|/||1||host=a;content-length=5;|hello" },
	{ "empty body", "POST / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n",
	  "POST|/||1||host=a;content-length=0;|" },
	{ "largest body",
	  "POST / HTTP/1.1\r\n" H "Content-Length: 64\r\n\r\n"
	  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
	  "POST|/||1||host=a;content-length=64;|"
	  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" },
	{ "chunked",
	  "POST / HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n"
	  "5\r\nhello\r\n00A\r\n, world of\r\n0\r\n\r\n",
	  "POST|/||1||host=a;transfer-encoding=Chunked;|hello, world of" },
	{ "chunked and empty",
	  "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	  "POST|/||1||host=a;transfer-encoding=chunked;|" },
	{ "close", "GET / HTTP/1.1\r\n" H "Connection: foo , CLOSE\r\n\r\n",
	  "GET|/||0||host=a;connection=foo , CLOSE;|" },
	{ "keep-alive", "GET / HTTP/1.1\r\n" H "Connection: keep-alive\r\n\r\n",
	  "GET|/||1||host=a;connection=keep-alive;|" },
	{ "HTTP/1.0", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	  "GET|/||0||connection=keep-alive;|" },
	{ "HTTP/1.0 with a body", "POST / HTTP/1.0\r\n" H "Content-Length: 2\r\n\r\nok",
	  "POST|/||0||host=a;content-length=2;|ok" },
	{ "request id", "GET / HTTP/1.1\r\n" H "x-request-id: a b~!\r\n\r\n",
	  "GET|/||1|a b~!|host=a;x-request-id=a b~!;|" },
	{ "expectation",
	  "POST / HTTP/1.1\r\n" H "Expect: 100-Continue\r\nContent-Length: 2\r\n\r\nok",
	  "POST|/||1||host=a;expect=100-Continue;content-length=2;|ok" },
	{ "host forms", "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
	  "GET|/||1||host=[::1]:8080;|" },
};

static void reads_requests_however_they_are_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(accepted); i++) {
		struct str in = str_c(accepted[i].in);
		struct outcome o;

		read_in_pieces(in, NULL, 0, &o);
		if (o.state != HTTP1_DONE || strcmp(o.text, accepted[i].outcome) != 0)
			fail_msg("%s: state %d: %s", accepted[i].why, o.state, o.text);
		assert_int_equal(o.used, in.n);
		for (size_t a = 0; a <= in.n; a++)
			for (size_t b = a; b <= in.n; b += 1 + (b - a) % 7) {
				size_t cuts[] = { a, b };

				read_in_pieces(in, cuts, 2, &o);
				if (o.state != HTTP1_DONE || o.used != in.n ||
				    strcmp(o.text, accepted[i].outcome) != 0)
					fail_msg("%s, cut at %zu and %zu: %s", accepted[i].why, a,
						 b, o.text);
			}
	}
}

#define BYTES100                                             \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
	"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define POST "POST / HTTP/1.1\r\n" H
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

static const struct {
	const char *why, *in;
	size_t n; /* of in, or 0: to its NUL */
	int status;
	const char *says;
} refused[] = {
	{ "space before the colon", POST "Content-Length : 3\r\n\r\nabc", 0, 400, "token" },
	{ "two Content-Length", POST "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 0, 400,
	  "twice" },
	{ "the same Content-Length twice", POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
	  0, 400, "twice" },
	{ "Content-Length list", POST "Content-Length: 3, 3\r\n\r\nabc", 0, 400, "decimal" },
	{ "Content-Length +3", POST "Content-Length: +3\r\n\r\nabc", 0, 400, "decimal" },
	{ "Content-Length -1", POST "Content-Length: -1\r\n\r\n", 0, 400, "decimal" },
	{ "Content-Length 0x3", POST "Content-Length: 0x3\r\n\r\nabc", 0, 400, "decimal" },
	{ "Content-Length 03", POST "Content-Length: 03\r\n\r\nabc", 0, 400, "decimal" },
	{ "Content-Length empty", POST "Content-Length:\r\n\r\n", 0, 400, "decimal" },
	{ "Content-Length and chunked",
	  POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, 400,
	  "exclude" },
	{ "gzip, chunked", POST "Transfer-Encoding: gzip, chunked\r\n\r\n", 0, 400, "chunked" },
	{ "identity", POST "Transfer-Encoding: identity\r\n\r\n", 0, 400, "chunked" },
	{ "two Transfer-Encoding",
	  POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 400,
	  "twice" },
	{ "chunked in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	  0, 400, "HTTP/1.0" },
	{ "folded line", "GET / HTTP/1.1\r\n" H "X-A: 1\r\n folded\r\n\r\n", 0, 400, "folded" },
	{ "folded with a tab", "GET / HTTP/1.1\r\n" H "X-A: 1\r\n\tfolded\r\n\r\n", 0, 400,
	  "folded" },
	{ "folded first line", "GET / HTTP/1.1\r\n X-A: 1\r\n" H "\r\n", 0, 400, "folded" },
	{ "bare LF", "GET / HTTP/1.1\n" H "\r\n", 0, 400, "LF alone" },
	{ "bare LF in headers", "GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", 0, 400, "LF alone" },
	{ "bare LF at the end", "GET / HTTP/1.1\r\n" H "\n", 0, 400, "LF alone" },
	{ "bare CR in a value", "GET / HTTP/1.1\r\n" H "X-A: 1\rX-B: 2\r\n\r\n", 0, 400,
	  "control character" },
	{ "CR CR LF", "GET / HTTP/1.1\r\n" H "X-A: 1\r\r\n\r\n", 0, 400, "control character" },
	{ "NUL in a value", "GET / HTTP/1.1\r\n" H "X-A: 1\0002\r\n\r\n", 38, 400,
	  "control character" },
	{ "NUL in a name", "GET / HTTP/1.1\r\n" H "X-\0A: 1\r\n\r\n", 37, 400, "token" },
	{ "NUL in the target", "GET /a\0b HTTP/1.1\r\n" H "\r\n", 31, 400, "visible" },
	{ "DEL in a value", "GET / HTTP/1.1\r\n" H "X-A: abcdefgh\x7fijk\r\n\r\n", 0, 400,
	  "control character" },
	{ "empty header name", "GET / HTTP/1.1\r\n" H ": 1\r\n\r\n", 0, 400, "token" },
	{ "header without colon", "GET / HTTP/1.1\r\n" H "X-A\r\n\r\n", 0, 400, "token" },
	{ "umlaut in a name", "GET / HTTP/1.1\r\n" H "X-\xc3\xa4: 1\r\n\r\n", 0, 400, "token" },
	{ "leading blank line", "\r\nGET / HTTP/1.1\r\n" H "\r\n", 0, 400, "not HTTP" },
	{ "leading LF", "\nGET / HTTP/1.1\r\n" H "\r\n", 0, 400, "not HTTP" },
	{ "leading space", " GET / HTTP/1.1\r\n" H "\r\n", 0, 400, "not HTTP" },
	{ "TLS on a plain port", "\x16\x03\x01\x02", 0, 400, "not HTTP" },
	{ "no Host", "GET / HTTP/1.1\r\n\r\n", 0, 400, "must have a Host" },
	{ "two Hosts", "GET / HTTP/1.1\r\n" H H "\r\n", 0, 400, "twice" },
	{ "two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\n" H H "\r\n", 0, 400, "twice" },
	{ "Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 0, 400, "no host name" },
	{ "Host with user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 0, 400, "no host name" },
	{ "HTTP/1.2", "GET / HTTP/1.2\r\n" H "\r\n", 0, 400, "single spaces" },
	{ "HTTP/1.10", "GET / HTTP/1.10\r\n" H "\r\n", 0, 400, "single spaces" },
	{ "http/1.1", "GET / http/1.1\r\n" H "\r\n", 0, 400, "single spaces" },
	{ "HTTP/0.9", "GET /\r\n", 0, 400, "single spaces" },
	{ "HTTP/2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, 505, "2.0" },
	{ "space in the URL", "GET /a b HTTP/1.1\r\n" H "\r\n", 0, 400, "single spaces" },
	{ "two spaces", "GET  / HTTP/1.1\r\n" H "\r\n", 0, 400, "" },
	{ "tab", "GET\t/ HTTP/1.1\r\n" H "\r\n", 0, 400, "single spaces" },
	{ "space at the end", "GET / HTTP/1.1 \r\n" H "\r\n", 0, 400, "single spaces" },
	{ "absolute form", "GET http://a/ HTTP/1.1\r\n" H "\r\n", 0, 400, "path" },
	{ "authority form", "CONNECT a:443 HTTP/1.1\r\n" H "\r\n", 0, 400, "path" },
	{ "asterisk form", "OPTIONS * HTTP/1.1\r\n" H "\r\n", 0, 400, "path" },
	{ "fragment", "GET /a#b HTTP/1.1\r\n" H "\r\n", 0, 400, "'#'" },
	{ "umlaut in the target", "GET /\xc3\xa4 HTTP/1.1\r\n" H "\r\n", 0, 400, "visible" },
	{ "method not a token", "G@T / HTTP/1.1\r\n" H "\r\n", 0, 400, "method" },
	{ "long method", "METHODMETHODMETHODMETHODMETHODMETHOD / HTTP/1.1\r\n" H "\r\n", 0, 400,
	  "method" },
	{ "chunk extension", CHUNKED "5;a=b\r\nhello\r\n0\r\n\r\n", 0, 400, "extensions" },
	{ "chunk extension on the last", CHUNKED "0;a\r\n\r\n", 0, 400, "extensions" },
	{ "space after a chunk's size", CHUNKED "5 \r\nhello\r\n0\r\n\r\n", 0, 400, "extensions" },
	{ "trailer", CHUNKED "5\r\nhello\r\n0\r\nX: 1\r\n\r\n", 0, 400, "trailers" },
	{ "LF-only chunk", CHUNKED "5\nhello\r\n0\r\n\r\n", 0, 400, "extensions" },
	{ "LF after a chunk's data", CHUNKED "5\r\nhello\n0\r\n\r\n", 0, 400, "CR LF" },
	{ "more data than the chunk", CHUNKED "5\r\nhelloo\r\n0\r\n\r\n", 0, 400, "CR LF" },
	{ "empty chunk size", CHUNKED "\r\n", 0, 400, "hexadecimal" },
	{ "chunk size 0x5", CHUNKED "0x5\r\nhello\r\n0\r\n\r\n", 0, 400, "hexadecimal" },
	{ "chunk size -1", CHUNKED "-1\r\n", 0, 400, "hexadecimal" },
	{ "chunk size of 9 digits", CHUNKED "000000005\r\nhello\r\n", 0, 400, "hexadecimal" },
	{ "large chunk", CHUNKED "41\r\n", 0, 413, "larger than 64" },
	{ "largest chunk", CHUNKED "ffffffff\r\n", 0, 413, "larger than 64" },
	{ "chunks too large together", CHUNKED "20\r\n0123456789abcdef0123456789abcdef\r\n21\r\n",
	  0, 413, "larger than 64" },
	{ "large body", POST "Content-Length: 65\r\n\r\n", 0, 413, "larger than 64" },
	{ "body over 64 bits", POST "Content-Length: 99999999999999999999999\r\n\r\n", 0, 413,
	  "larger than 64" },
	{ "expectation", POST "Expect: 200-ok\r\nContent-Length: 2\r\n\r\nok", 0, 417, "100" },
	{ "request id with a control byte", "GET / HTTP/1.1\r\n" H "X-Request-ID: a\tb\r\n\r\n", 0,
	  400, "printable" },
	{ "long request id",
	  "GET / HTTP/1.1\r\n" H "X-Request-ID: " BYTES100 BYTES100 BYTES100 "\r\n\r\n", 0, 400,
	  "printable" },
	{ "two request ids", "GET / HTTP/1.1\r\n" H "X-Request-ID: a\r\nX-Request-ID: b\r\n\r\n", 0,
	  400, "twice" },
	{ "long target", "GET /" BYTES100 BYTES100 " HTTP/1.1\r\n" H "\r\n", 0, 414, "200" },
	{ "endless target", "GET /" BYTES100 BYTES100 BYTES100, 0, 414, "200" },
	{ "long header",
	  "GET / HTTP/1.1\r\n" H "X: " BYTES100 BYTES100 BYTES100 BYTES100 BYTES100 BYTES100
		  BYTES100 BYTES100 BYTES100 BYTES100 "\r\n\r\n",
	  0, 431, "1024" },
	{ "many headers",
	  "GET / HTTP/1.1\r\n" H
	  "1:\r\n2:\r\n3:\r\n4:\r\n5:\r\n6:\r\n7:\r\n8:\r\n9:\r\n10:\r\n\r\n",
	  0, 431, "10" },
};

static void refuses_what_could_be_read_in_two_ways(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		struct str in = { refused[i].in,
				  refused[i].n ? refused[i].n : strlen(refused[i].in) };
		struct outcome whole, o;
		char status[8];

		read_in_pieces(in, NULL, 0, &whole);
		snprintf(status, sizeof(status), "%d ", refused[i].status);
		if (whole.state != HTTP1_REFUSED || strncmp(whole.text, status, 4) != 0 ||
		    !strstr(whole.text, refused[i].says))
			fail_msg("%s: state %d: %s", refused[i].why, whole.state, whole.text);
		for (size_t cut = 0; cut <= in.n; cut++) {
			read_in_pieces(in, &cut, 1, &o);
			if (o.state != HTTP1_REFUSED || strcmp(o.text, whole.text) != 0)
				fail_msg("%s, cut at %zu: %s", refused[i].why, cut, o.text);
		}
	}
}

static void leaves_the_next_request_alone(void **state)
{
	static const char two[] = POST "Content-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\n" H "\r\n";
	static const char chunked[] = CHUNKED "1\r\nx\r\n0\r\n\r\nGET /2 HTTP/1.1\r\n" H "\r\n";
	struct outcome o;

	(void)state;
	read_in_pieces(str_c(two), NULL, 0, &o);
	assert_int_equal(o.state, HTTP1_DONE);
	assert_string_equal(two + o.used, "GET /2 HTTP/1.1\r\n" H "\r\n");
	read_in_pieces(str_c(chunked), NULL, 0, &o);
	assert_int_equal(o.state, HTTP1_DONE);
	assert_string_equal(chunked + o.used, "GET /2 HTTP/1.1\r\n" H "\r\n");
}

static void says_when_to_continue(void **state)
{
	static const char in[] = POST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n";
	struct arena a;
	struct http1 r;
	struct err e;
	size_t used;

	(void)state;
	arena_init(&a, &mem_system, 65536);
	http1_begin(&r, &limits, &a);
	assert_int_equal(http1_feed(&r, str_c(in), &used, &e), HTTP1_CONTINUE);
	assert_int_equal(used, sizeof(in) - 1);
	assert_int_equal(http1_feed(&r, STR("o"), &used, &e), HTTP1_MORE);
	assert_int_equal(http1_feed(&r, STR("k"), &used, &e), HTTP1_DONE);
	assert_true(str_eq(r.body, STR("ok")));
	arena_clear(&a);
}

/* Out of memory at any point: refused with 503, never a crash or half a request. */
static void lives_with_little_memory(void **state)
{
	static const char in[] = CHUNKED "20\r\n0123456789abcdef0123456789abcdef\r\n0\r\n\r\n";
	int refusals = 0, done = 0;

	(void)state;
	for (size_t max = 0; max < 16384; max += 64) {
		struct arena a;
		struct http1 r;
		struct err e = { 0 };
		size_t used;
		enum http1_state s;

		arena_init(&a, &mem_system, max);
		http1_begin(&r, &limits, &a);
		s = http1_feed(&r, str_c(in), &used, &e);
		if (s == HTTP1_REFUSED) {
			assert_int_equal(r.status, 503);
			refusals++;
		} else {
			assert_int_equal(s, HTTP1_DONE);
			assert_int_equal(r.body.n, 32);
			done++;
		}
		arena_clear(&a);
	}
	assert_true(refusals > 1 && done > 1);
}

static void writes_replies(void **state)
{
	struct arena a;
	struct call c = { .arena = &a };
	AUTO_BUF out;

	(void)state;
	arena_init(&a, &mem_system, 65536);
	buf_init(&out, mem_system, 65536);
	call_reply(&c, 405, "text/plain", 100);
	call_reply_header(&c, STR("Allow"), STR("GET"));
	buf_lit(&c.reply.body, "no\n");
	http1_write(&out, &c, STR("id 1"), true, false);
	assert_true(str_eq(buf_str(&out), STR("HTTP/1.1 405 Method Not Allowed\r\n"
					      "Content-Type: text/plain\r\nContent-Length: 3\r\n"
					      "X-Request-ID: id 1\r\nAllow: GET\r\n\r\nno\n")));
	buf_reset(&out);
	http1_write(&out, &c, STR(""), false, true);
	assert_true(str_eq(buf_str(&out), STR("HTTP/1.1 405 Method Not Allowed\r\n"
					      "Content-Type: text/plain\r\nContent-Length: 3\r\n"
					      "Allow: GET\r\nConnection: close\r\n\r\n")));
	c.reply.nheaders = 0;
	call_reply(&c, 204, NULL, 100);
	buf_reset(&out);
	http1_write(&out, &c, STR(""), true, false);
	assert_true(str_eq(buf_str(&out), STR("HTTP/1.1 204 No Content\r\n\r\n")));
	arena_clear(&a);
}

static void judges_characters(void **state)
{
	char name[] = "X-AbC";

	(void)state;
	for (int i = 0; i < 256; i++) {
		char one[9] = "aaaaaaaaa", c = (char)i;
		bool control = (i < 0x20 && i != '\t') || i == 0x7f;
		bool separator = i <= 0x20 || i >= 0x7f || memchr("\"(),/:;<=>?@[\\]{}", i, 17);
		bool no_host = i <= 0x20 || i >= 0x7f || memchr("/?#@\\,\"<>^`{|}", i, 14);

		for (size_t at = 0; at < sizeof(one); at++) {
			memset(one, 'a', sizeof(one));
			one[at] = c;
			if (http_value_ok((struct str){ one, sizeof(one) }) == control)
				fail_msg("value byte %d at %zu", i, at);
		}
		if (http_is_token((struct str){ &c, 1 }) == separator)
			fail_msg("token byte %d", i);
		if (http_host_ok((struct str){ &c, 1 }) == no_host)
			fail_msg("host byte %d", i);
	}
	assert_true(http_lower_token(name, 5));
	assert_string_equal(name, "x-abc");
	assert_false(http_is_token(STR("")));
	assert_true(http_equal_fold(STR("Close"), STR("cLOSE")));
	assert_false(http_equal_fold(STR("Close"), STR("clos")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_requests_however_they_are_cut),
		cmocka_unit_test(refuses_what_could_be_read_in_two_ways),
		cmocka_unit_test(leaves_the_next_request_alone),
		cmocka_unit_test(says_when_to_continue),
		cmocka_unit_test(lives_with_little_memory),
		cmocka_unit_test(writes_replies),
		cmocka_unit_test(judges_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
