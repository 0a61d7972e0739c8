/* The client against servers that split, chunk, cut, lie and babble. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#include "authz/cli/client.h"
#include "authz/net/response.h"
#include "tests/cli/server.h"

#define OK "HTTP/1.1 200 OK\r\n"

static const struct {
	const char *why, *answer;
	int status; /* 0: refused */
	const char *body, *code;
} answers[] = {
	{ "length", OK "Content-Length: 5\r\n\r\nhello", 200, "hello", NULL },
	{ "no body", OK "content-length: 0\r\n\r\n", 200, "", NULL },
	{ "204", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", NULL },
	{ "no reason", "HTTP/1.1 404\r\nContent-Length: 2\r\n\r\nno", 404, "no", NULL },
	{ "chunks",
	  OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n", 200,
	  "hello world", NULL },
	{ "trailers", OK "Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
	  200, "0123456789", NULL },
	{ "to the end", OK "Connection: close\r\n\r\nall of it", 200, "all of it", NULL },
	{ "interim", "HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 1\r\n\r\nx", 200, "x",
	  NULL },
	{ "same length twice", OK "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 200, "x",
	  NULL },
	{ "more than its length is not ours", OK "Content-Length: 1\r\n\r\nxyz", 200, "x", NULL },

	{ "nothing", "", 0, NULL, "truncated_response" },
	{ "cut in status", "HTTP/1.1 20", 0, NULL, "truncated_response" },
	{ "cut in headers", OK "Content-Le", 0, NULL, "truncated_response" },
	{ "cut in body", OK "Content-Length: 5\r\n\r\nhell", 0, NULL, "truncated_response" },
	{ "cut in chunk", OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", 0, NULL,
	  "truncated_response" },
	{ "no last chunk", OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 0, NULL,
	  "truncated_response" },
	{ "no end of trailers", OK "Transfer-Encoding: chunked\r\n\r\n0\r\n", 0, NULL,
	  "truncated_response" },
	{ "no framing", OK "\r\nhello", 0, NULL, "bad_response" },
	{ "other protocol", "SSH-2.0-OpenSSH\r\n", 0, NULL, "bad_response" },
	{ "other version", "HTTP/2.0 200 OK\r\n\r\n", 0, NULL, "bad_response" },
	{ "bad status", "HTTP/1.1 2x0 OK\r\n\r\n", 0, NULL, "bad_response" },
	{ "status too high", "HTTP/1.1 999 OK\r\n\r\n", 0, NULL, "bad_response" },
	{ "long status", "HTTP/1.1 2000 OK\r\n\r\n", 0, NULL, "bad_response" },
	{ "bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", 0, NULL, "bad_response" },
	{ "stray CR", OK "X: a\rb\r\nContent-Length: 0\r\n\r\n", 0, NULL, "bad_response" },
	{ "no colon", OK "Content-Length 5\r\n\r\nhello", 0, NULL, "bad_response" },
	{ "space in name", OK "Content-Length : 5\r\n\r\nhello", 0, NULL, "bad_response" },
	{ "folded", OK "X: a\r\n b\r\nContent-Length: 0\r\n\r\n", 0, NULL, "bad_response" },
	{ "negative length", OK "Content-Length: -1\r\n\r\n", 0, NULL, "bad_response" },
	{ "hex length", OK "Content-Length: 0x5\r\n\r\nhello", 0, NULL, "bad_response" },
	{ "list of lengths", OK "Content-Length: 5, 5\r\n\r\nhello", 0, NULL, "bad_response" },
	{ "two lengths", OK "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 0, NULL,
	  "bad_response" },
	{ "length and chunks",
	  OK "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, NULL,
	  "bad_response" },
	{ "gzip", OK "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 0, NULL, "bad_response" },
	{ "chunk without size", OK "Transfer-Encoding: chunked\r\n\r\n\r\nhello", 0, NULL,
	  "bad_response" },
	{ "chunk size no hex", OK "Transfer-Encoding: chunked\r\n\r\n5g\r\nhello", 0, NULL,
	  "bad_response" },
	{ "chunk size signed", OK "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello", 0, NULL,
	  "bad_response" },
	{ "chunk size huge", OK "Transfer-Encoding: chunked\r\n\r\n123456789\r\nhello", 0, NULL,
	  "bad_response" },
	{ "chunk too long", OK "Transfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n", 0, NULL,
	  "bad_response" },
	{ "interim for ever",
	  "HTTP/1.1 102 A\r\n\r\nHTTP/1.1 102 A\r\n\r\nHTTP/1.1 102 A\r\n\r\n"
	  "HTTP/1.1 102 A\r\n\r\nHTTP/1.1 102 A\r\n\r\nHTTP/1.1 102 A\r\n\r\n",
	  0, NULL, "bad_response" },
	{ "upgrade", "HTTP/1.1 101 Switching\r\n\r\n", 0, NULL, "bad_response" },
};

/* Bytes one after the other, as a slow network would bring them. */
struct drip {
	struct str rest;
	size_t piece;
};

static bool drip_read(void *ctx, char *p, size_t n, size_t *got, struct err *e)
{
	struct drip *d = ctx;

	(void)e;
	*got = d->piece < n ? d->piece : n;
	if (*got > d->rest.n)
		*got = d->rest.n;
	if (*got)
		memcpy(p, d->rest.p, *got);
	d->rest = str_from(d->rest, *got);
	return true;
}

static void check_row(size_t i, bool ok, const struct client_reply *r, const struct err *e)
{
	if (ok != (answers[i].status != 0))
		fail_msg("%s: %s", answers[i].why, ok ? "accepted" : e->msg);
	if (ok &&
	    (r->status != answers[i].status || !str_eq(buf_str(&r->body), str_c(answers[i].body))))
		fail_msg("%s: status %d, body %.*s", answers[i].why, r->status,
			 STR_FMT(buf_str(&r->body)));
	if (!ok && strcmp(e->code, answers[i].code) != 0)
		fail_msg("%s: %s (%s)", answers[i].why, e->code, e->msg);
}

static void reads_the_table_in_pieces_of_any_size(void **state)
{
	static const size_t pieces[] = { 1, 2, 3, 7, 100000 };
	const struct response_want want = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(answers); i++)
		for (size_t p = 0; p < ARRAY_LEN(pieces); p++) {
			struct drip d = { str_c(answers[i].answer), pieces[p] };
			const struct response_source source = { drip_read, &d };
			struct response read = { 0 };
			struct err e = { 0 };
			AUTO_REPLY r = { 0 };
			bool ok;

			buf_init(&read.body, mem_system, CLIENT_BODY);
			ok = response_read(&source, &want, &read, &e);
			r.status = read.status;
			r.body = read.body;
			check_row(i, ok, &r, &e);
		}
}

static void reads_the_table_over_a_socket(void **state)
{
	const struct client_request q = { .method = "GET", .path = "/v1/status" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		struct scripted s = { .answer = str_c(answers[i].answer), .piece = 5 };
		struct err e = { 0 };
		AUTO_REPLY r = { 0 };
		bool ok;

		scripted_start(&s);
		ok = client_call(&s.target, NULL, &q, &r, &e);
		scripted_stop(&s);
		check_row(i, ok, &r, &e);
		assert_non_null(
			strstr(s.request, "GET /v1/status HTTP/1.1\r\nHost: localhost\r\n"));
		assert_non_null(strstr(s.request, "Connection: close\r\n"));
	}
}

/* @head, then @n times @fill. */
static char *make(const char *head, char fill, size_t n, struct str *out)
{
	size_t h = strlen(head);
	char *p = malloc(h + n);

	assert_non_null(p);
	memcpy(p, head, h);
	memset(p + h, fill, n);
	*out = (struct str){ p, h + n };
	return p;
}

static void huge_answers_end_at_their_bounds(void **state)
{
	static const struct {
		const char *why, *head;
		size_t n;
		const char *code;
	} rows[] = {
		{ "a body", OK "Content-Length: 999999999999\r\n\r\n", CLIENT_BODY + 100000,
		  "response_too_large" },
		{ "a line", "HTTP/1.1 200 ", 9000, "bad_response" },
		{ "headers", OK "X: ", 40000, "bad_response" },
		{ "length beyond reason", OK "Content-Length: 99999999999999999999\r\n\r\n", 10,
		  "bad_response" },
	};
	const struct client_request q = { .method = "GET", .path = "/" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct scripted s = { 0 };
		char *p = make(rows[i].head, 'x', rows[i].n, &s.answer);
		struct err e = { 0 };
		AUTO_REPLY r = { 0 };

		scripted_start(&s);
		if (client_call(&s.target, NULL, &q, &r, &e) || strcmp(e.code, rows[i].code) != 0)
			fail_msg("%s: %s %s", rows[i].why, e.code ? e.code : "accepted", e.msg);
		scripted_stop(&s);
		free(p);
	}
}

struct taken {
	size_t bytes, pieces;
	bool full; /* the disk is */
};

static bool take(void *ctx, struct str bytes, struct err *e)
{
	struct taken *t = ctx;

	t->bytes += bytes.n;
	t->pieces++;
	return t->full ? err_set(e, ERR_IO, "no space left") : true;
}

static void a_sink_gets_more_than_memory_would_hold(void **state)
{
	struct taken t = { 0 };
	const struct client_request q = { .method = "GET", .path = "/", .sink = take, .ctx = &t };
	struct scripted s = { 0 };
	char *p = make(OK "Content-Length: 20000000\r\n\r\n", 'x', 20000000, &s.answer);
	struct err e = { 0 };
	AUTO_REPLY r = { 0 };

	(void)state;
	scripted_start(&s);
	assert_true(client_ask(&s.target, NULL, &q, &r, &e));
	scripted_stop(&s);
	assert_int_equal(t.bytes, 20000000);
	assert_true(t.pieces > 10);
	assert_int_equal(r.body.n, 0);

	t = (struct taken){ .full = true };
	client_reply_clear(&r);
	scripted_start(&s);
	assert_false(client_ask(&s.target, NULL, &q, &r, &e));
	scripted_stop(&s);
	assert_string_equal(e.msg, "no space left");
	free(p);
}

static void an_error_never_reaches_the_sink(void **state)
{
	struct taken t = { 0 };
	const struct client_request q = { .method = "GET", .path = "/", .sink = take, .ctx = &t };
	struct scripted s = { .answer = STR("HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n"
					    "{\"error\":{\"status\":403,\"code\":\"forbidden\","
					    "\"message\":\"you may not\"}}") };
	struct err e = { 0 };
	AUTO_REPLY r = { 0 };

	(void)state;
	scripted_start(&s);
	assert_false(client_ask(&s.target, NULL, &q, &r, &e));
	scripted_stop(&s);
	assert_int_equal(t.bytes, 0);
	assert_int_equal(e.class, ERR_FORBIDDEN);
	assert_string_equal(e.msg, "you may not (403 forbidden)");
}

static const struct {
	int status;
	const char *body;
	enum err_class class;
	const char *message;
} errors[] = {
	{ 409, "{\"error\":{\"code\":\"exists\",\"message\":\"it is there\"}}", ERR_CONFLICT,
	  "it is there (409 exists)" },
	{ 418, "{\"error\":{\"code\":\"tea\",\"message\":\"no coffee\"}}", ERR_INVALID,
	  "no coffee (418 tea)" },
	{ 500, "<html>oh", ERR_INTERNAL,
	  "the server answered with status 500 and no reason; is this address writ's?" },
	{ 503, "{\"error\":{\"message\":7}}", ERR_UNAVAILABLE,
	  "the server answered with status 503 and no reason; is this address writ's?" },
	{ 302, "", ERR_INTERNAL,
	  "the server answered with status 302 and no reason; is this address writ's?" },
	{ 400, "{\"error\":{\"code\":\"x\",\"message\":\"\\u001b[31mred\"}}", ERR_INVALID,
	  "?[31mred (400 x)" },
};

static void errors_become_sentences(void **state)
{
	const struct client_request q = { .method = "POST", .path = "/", .body = STR("{}") };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		struct scripted s = { 0 };
		char answer[1000];
		struct err e = { 0 };
		AUTO_REPLY r = { 0 };

		snprintf(answer, sizeof(answer), "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n%s",
			 errors[i].status, strlen(errors[i].body), errors[i].body);
		s.answer = str_c(answer);
		scripted_start(&s);
		assert_false(client_ask(&s.target, NULL, &q, &r, &e));
		scripted_stop(&s);
		if (e.class != errors[i].class || strcmp(e.msg, errors[i].message) != 0)
			fail_msg("row %zu: %d %s", i, e.class, e.msg);
		assert_non_null(strstr(s.request, "Content-Length: 2\r\n\r\n{}"));
	}
}

static const struct {
	const char *text, *name; /* no name: refused */
} targets[] = {
	{ "unix:/run/a.sock", "unix:/run/a.sock" },
	{ "unix:a.sock", "unix:a.sock" },
	{ "http://127.0.0.1:8080", "http://127.0.0.1:8080" },
	{ "http://127.3.2.1:8080/", "http://127.3.2.1:8080" },
	{ "http://localhost", "http://localhost:80" },
	{ "http://[::1]:81", "http://[::1]:81" },
	{ "https://writ.example", "https://writ.example:443" },
	{ "https://10.0.0.1:8443", "https://10.0.0.1:8443" },
	{ "https://[2001:db8::1]", "https://[2001:db8::1]:443" },
	{ "http://10.0.0.1:8080", NULL },
	{ "http://writ.example", NULL },
	{ "http://127.0.0.1.evil.example:80", NULL },
	{ "http://localhost@evil.example", NULL },
	{ "https://user:pw@host", NULL },
	{ "https://host/path", NULL },
	{ "https://host?x", NULL },
	{ "https://host:0", NULL },
	{ "https://host:65536", NULL },
	{ "https://host:", NULL },
	{ "https://:443", NULL },
	{ "https://", NULL },
	{ "https://a b", NULL },
	{ "https://[::1", NULL },
	{ "https://[::1]x", NULL },
	{ "https://a\r\nX: y", NULL },
	{ "ftp://host", NULL },
	{ "127.0.0.1:8080", NULL },
	{ "unix:", NULL },
	{ "", NULL },
	{ "unix:/"
	  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	  "aaaaaaaaaaaaaaaaaaaa",
	  NULL },
};

static void targets_are_strict(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		char name[TARGET_NAME_MAX];
		struct target t;
		struct err e = { 0 };
		bool ok = target_parse(targets[i].text, &t, &e);

		if (ok != (targets[i].name != NULL) ||
		    (ok && strcmp(target_name(&t, name), targets[i].name) != 0))
			fail_msg("%s: %s", targets[i].text, ok ? name : e.msg);
	}
}

static void nobody_there_says_what_to_do(void **state)
{
	const struct client_request q = { .method = "GET", .path = "/" };
	struct target t;
	struct err e = { 0 };
	AUTO_REPLY r = { 0 };

	(void)state;
	assert_true(target_parse("unix:/nonexistent/admin.sock", &t, &e));
	assert_false(client_call(&t, NULL, &q, &r, &e));
	assert_string_equal(e.code, "no_server");
	assert_non_null(strstr(e.msg, "/nonexistent/admin.sock"));
	assert_non_null(strstr(e.msg, "writ serve"));
}

static void queries_are_encoded(void **state)
{
	AUTO_BUF b;

	(void)state;
	buf_init(&b, mem_system, 100);
	client_encode(&b, STR("spiffe://a.b/c_d-e~f?&=# +%\xc3\xa4\n"));
	assert_true(str_eq(buf_str(&b),
			   STR("spiffe%3A%2F%2Fa.b%2Fc_d-e~f%3F%26%3D%23%20%2B%25%C3%A4%0A")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_table_in_pieces_of_any_size),
		cmocka_unit_test(reads_the_table_over_a_socket),
		cmocka_unit_test(huge_answers_end_at_their_bounds),
		cmocka_unit_test(a_sink_gets_more_than_memory_would_hold),
		cmocka_unit_test(an_error_never_reaches_the_sink),
		cmocka_unit_test(errors_become_sentences),
		cmocka_unit_test(targets_are_strict),
		cmocka_unit_test(nobody_there_says_what_to_do),
		cmocka_unit_test(queries_are_encoded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
