/* gRPC at the agents' door: frames in, statuses out, streams, and who is cut off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "authz/net/grpc.h"
#include "tests/net/h2client.h"

#define BODY_MAX 1000
#define HEAD(path) ":method", "POST", ":scheme", "http", ":authority", "localhost", ":path", path
#define GRPC(path) HEAD(path), "content-type", "application/grpc", "te", "trailers"

static struct net t;
static struct h2_client c;

/* ---- the handlers: by the last part of the path ---- */

static struct {
	struct call *call; /* of the stream that was opened last */
	int opened, ended, woken, half_closed, taken;
	bool hold;	    /* each message holds the call */
	char messages[200]; /* "a|b|" */
	char first[64];	    /* the request's body, looked at again when it ended */
} stream;

static void on_message(struct call *call, struct str message)
{
	size_t n = strlen(stream.messages);

	(void)call;
	snprintf(stream.messages + n, sizeof(stream.messages) - n, "%.*s|", STR_FMT(message));
}

static void on_held_message(struct call *call, struct str message)
{
	(void)message;
	stream.taken++;
	if (stream.hold)
		grpc_hold(call);
	if (stream.taken % 7 == 3) { /* done with before it returns */
		grpc_hold(call);
		grpc_release(call);
	}
}

static void on_half_closed(struct call *call)
{
	stream.half_closed++;
	stream.call = NULL;
	call_finish(call); /* OK */
}

static void on_wake(struct call *call)
{
	(void)call;
	stream.woken++;
}

static void on_ended(struct call *call)
{
	stream.ended++;
	snprintf(stream.first, sizeof(stream.first), "%.*s", STR_FMT(call->body));
	if (stream.call == call)
		stream.call = NULL;
	call_finish(call);
}

static const struct grpc_events one_way = { .wake = on_wake, .ended = on_ended };
static const struct grpc_events both_ways = { .message = on_message,
					      .half_closed = on_half_closed,
					      .ended = on_ended };

static const struct grpc_events in_turn = { .message = on_held_message,
					    .half_closed = on_half_closed,
					    .ended = on_ended };

static void handle(struct call *call)
{
	struct err e = { 0 };

	if (str_eq(call->path, STR("/t.S/Later"))) {
		t.held[t.nheld++] = call;
	} else if (str_eq(call->path, STR("/t.S/LetGo"))) {
		t.held[t.nheld++] = call;
		call_let_go(call);
	} else if (str_eq(call->path, STR("/t.S/Fail"))) {
		err_set(&e, (enum err_class)call->body.p[0], "100%% \xc3\xa4");
		call_fail(call, &e);
		call_finish(call);
	} else if (str_eq(call->path, STR("/t.S/Nothing"))) {
		call_finish(call);
	} else if (str_eq(call->path, STR("/t.S/Large"))) {
		buf_add(grpc_reply(call, 8), STR("more than eight"));
		call_finish(call);
	} else if (str_eq(call->path, STR("/t.S/Stream")) || str_eq(call->path, STR("/t.S/Bidi"))) {
		stream.opened++;
		stream.call = call;
		grpc_stream(call, str_eq(call->path, STR("/t.S/Bidi")) ? &both_ways : &one_way);
	} else if (str_eq(call->path, STR("/t.S/Held"))) {
		stream.opened++;
		stream.call = call;
		grpc_stream(call, &in_turn);
		grpc_hold(call);
	} else {
		buf_add(grpc_reply(call, BODY_MAX), call->body);
		call_finish(call);
	}
}

static void open_net(const struct server_limits *more)
{
	struct server_limits l = more ? *more : (struct server_limits){ 0 };

	l.body = BODY_MAX;
	net_open(&t, &l, NULL);
	t.grpc = handle;
	memset(&stream, 0, sizeof(stream));
}

/* Prefix and @text in @out; the length of both. */
static size_t frame(char *out, int flag, size_t said, const char *text, size_t n)
{
	out[0] = (char)flag;
	for (int i = 0; i < 4; i++)
		out[4 - i] = (char)(said >> (8 * i));
	memcpy(out + GRPC_PREFIX, text, n);
	return GRPC_PREFIX + n;
}

static struct h2_reply *call_with(const char *const *headers, const char *text)
{
	static char body[64][128];
	static int next;
	char *b = body[next++ % 64];
	size_t n = frame(b, 0, strlen(text), text, strlen(text));

	return h2_send(&c, headers, b, n);
}

static bool has(const struct h2_reply *r, const char *text)
{
	return memmem(r->text, r->n, text, strlen(text)) != NULL;
}

static void status_is(const struct h2_reply *r, int status, const char *why)
{
	char line[40];

	snprintf(line, sizeof(line), "grpc-status: %d\n", status);
	if (r->status != 200 || !has(r, line))
		fail_msg("%s: HTTP %d, %.*s, expected grpc-status %d", why, r->status, (int)r->n,
			 r->text, status);
}

/* ---- one message in, one out ---- */

static void answers_a_call(void **state)
{
	static const char *const headers[] = { GRPC("/t.S/Echo"), "x-request-id", "r7", NULL };
	static const char wanted[] = "content-type: application/grpc\nx-request-id: r7\n\n"
				     "\0\0\0\0\5hello"
				     "grpc-status: 0\n\n";
	struct h2_reply *r;

	(void)state;
	open_net(NULL);
	h2_open(&c, &t, &t.local, NULL);
	r = call_with(headers, "hello");
	h2_pump(&c);
	assert_int_equal(r->status, 200);
	assert_int_equal(r->n, sizeof(wanted) - 1);
	assert_memory_equal(r->text, wanted, sizeof(wanted) - 1);
	assert_true(r->closed && r->code == 0);
	h2_close(&c);
	net_close(&t);
}

enum { PLAIN = -1 }; /* not a gRPC answer: `http` says which */

static const struct {
	const char *why;
	const char *headers[24];
	int flag;
	size_t said; /* length in the prefix */
	const char *text;
	int grpc, http;
	const char *in_answer;
} requests[] = {
	{ "plain", { GRPC("/t.S/Echo") }, 0, 2, "ab", 0, 200, "\2ab" },
	{ "empty message", { GRPC("/t.S/Echo") }, 0, 0, "", 0, 200, NULL },
	{ "proto",
	  { HEAD("/t.S/Echo"), "content-type", "application/grpc+proto", "te", "trailers" },
	  0,
	  2,
	  "ab",
	  0,
	  200,
	  "\2ab" },
	{ "parameters",
	  { HEAD("/t.S/Echo"), "content-type", "application/grpc;v=1", "te", "trailers" },
	  0,
	  2,
	  "ab",
	  PLAIN,
	  415,
	  "media_type" },
	{ "json",
	  { HEAD("/t.S/Echo"), "content-type", "application/grpc+json", "te", "trailers" },
	  0,
	  2,
	  "ab",
	  PLAIN,
	  415,
	  "media_type" },
	{ "web",
	  { HEAD("/t.S/Echo"), "content-type", "application/grpc-web", "te", "trailers" },
	  0,
	  2,
	  "ab",
	  PLAIN,
	  200,
	  "POST /t.S/Echo" },
	{ "GET",
	  { ":method", "GET", ":scheme", "http", ":authority", "localhost", ":path", "/t.S/Echo",
	    "content-type", "application/grpc", "te", "trailers" },
	  0,
	  2,
	  "ab",
	  PLAIN,
	  405,
	  "method_not_allowed" },
	{ "no te",
	  { HEAD("/t.S/Echo"), "content-type", "application/grpc" },
	  0,
	  2,
	  "ab",
	  3,
	  200,
	  "te: trailers is missing" },
	{ "no authority",
	  { ":method", "POST", ":scheme", "http", ":path", "/t.S/Echo", "content-type",
	    "application/grpc", "te", "trailers" },
	  0,
	  2,
	  "ab",
	  0,
	  200,
	  "\2ab" },
	{ "empty authority",
	  { ":method", "POST", ":scheme", "http", ":authority", "", ":path", "/t.S/Echo",
	    "content-type", "application/grpc", "te", "trailers" },
	  0,
	  2,
	  "ab",
	  0,
	  200,
	  "\2ab" },
	{ "path as authority",
	  { ":method", "POST", ":scheme", "http", ":authority", "/run/w.sock", ":path", "/t.S/Echo",
	    "content-type", "application/grpc", "te", "trailers" },
	  0,
	  2,
	  "ab",
	  0,
	  200,
	  "\2ab" },
	{ "percent-encoded authority",
	  { ":method", "POST", ":scheme", "http", ":authority", "%2Frun%2Fw.sock", ":path",
	    "/t.S/Echo", "content-type", "application/grpc", "te", "trailers" },
	  0,
	  2,
	  "ab",
	  0,
	  200,
	  "\2ab" },
	{ "bracketed authority",
	  { ":method", "POST", ":scheme", "http", ":authority", "[::]:50051", ":path", "/t.S/Echo",
	    "content-type", "application/grpc", "te", "trailers" },
	  0,
	  2,
	  "ab",
	  0,
	  200,
	  "\2ab" },
	{ "metadata",
	  { GRPC("/t.S/Echo"), "user-agent", "grpc-go/1.33.3", "grpc-accept-encoding",
	    "identity,deflate,gzip", "x-bin", "AAE" },
	  0,
	  2,
	  "ab",
	  0,
	  200,
	  "\2ab" },
	{ "no unit", { GRPC("/t.S/Echo"), "grpc-timeout", "10" }, 0, 2, "ab", 3, 200, "H M S m" },
	{ "wrong unit", { GRPC("/t.S/Echo"), "grpc-timeout", "1s" }, 0, 2, "ab", 3, 200, NULL },
	{ "nine digits",
	  { GRPC("/t.S/Echo"), "grpc-timeout", "123456789S" },
	  0,
	  2,
	  "ab",
	  3,
	  200,
	  NULL },
	{ "two timeouts",
	  { GRPC("/t.S/Echo"), "grpc-timeout", "1S", "grpc-timeout", "2S" },
	  0,
	  2,
	  "ab",
	  3,
	  200,
	  NULL },
	{ "a timeout",
	  { GRPC("/t.S/Echo"), "grpc-timeout", "2999364u" },
	  0,
	  2,
	  "ab",
	  0,
	  200,
	  NULL },
	{ "no message", { GRPC("/t.S/Echo") }, 0, 0, NULL, 13, 200, "before its message" },
	{ "cut message", { GRPC("/t.S/Echo") }, 0, 3, "ab", 13, 200, "before its message" },
	{ "compressed, unsaid how", { GRPC("/t.S/Echo") }, 1, 2, "ab", 13, 200, "compressed" },
	{ "compressed, identity",
	  { GRPC("/t.S/Echo"), "grpc-encoding", "identity" },
	  1,
	  2,
	  "ab",
	  13,
	  200,
	  "compressed" },
	{ "compressed",
	  { GRPC("/t.S/Echo"), "grpc-encoding", "gzip" },
	  1,
	  2,
	  "ab",
	  12,
	  200,
	  "grpc-accept-encoding: identity" },
	{ "may compress, does not",
	  { GRPC("/t.S/Echo"), "grpc-encoding", "gzip" },
	  0,
	  2,
	  "ab",
	  0,
	  200,
	  "\2ab" },
	{ "flag 2", { GRPC("/t.S/Echo"), "grpc-encoding", "gzip" }, 2, 2, "ab", 13, 200, NULL },
	{ "just too large", { GRPC("/t.S/Echo") }, 0, BODY_MAX + 1, "ab", 8, 200, "larger" },
	{ "4 GiB", { GRPC("/t.S/Echo") }, 0, 0xffffffff, "ab", 8, 200, "larger" },
	{ "wrong content-length",
	  { GRPC("/t.S/Later"), "content-length", "8" },
	  0,
	  2,
	  "ab",
	  13,
	  200,
	  NULL },
	{ "handler without an answer", { GRPC("/t.S/Nothing") }, 0, 1, "a", 13, 200, NULL },
	{ "an answer too large", { GRPC("/t.S/Large") }, 0, 1, "a", 13, 200, NULL },
	{ "upper-case header", { GRPC("/t.S/Echo"), "X-Up", "1" }, 0, 1, "a", PLAIN, 400, NULL },
};

static void checks_requests(void **state)
{
	(void)state;
	open_net(NULL);
	h2_open(&c, &t, &t.local, NULL);
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		char body[64];
		size_t n = requests[i].text ? frame(body, requests[i].flag, requests[i].said,
						    requests[i].text, strlen(requests[i].text))
					    : 0;
		struct h2_reply *r = h2_send(&c, requests[i].headers,
					     requests[i].text ? body : NULL, n);

		h2_pump(&c);
		if (requests[i].grpc == PLAIN && r->status != requests[i].http)
			fail_msg("%s: HTTP %d", requests[i].why, r->status);
		if (requests[i].grpc != PLAIN)
			status_is(r, requests[i].grpc, requests[i].why);
		if (requests[i].in_answer && !has(r, requests[i].in_answer))
			fail_msg("%s: %.*s", requests[i].why, (int)r->n, r->text);
		if (!r->closed && !c.closed)
			fail_msg("%s: the stream stays open", requests[i].why);
	}
	assert_false(c.closed);
	assert_int_equal(t.nheld, 1); /* of the wrong content-length; the client has its answer */
	buf_add(grpc_reply(t.held[0], 10), STR("late"));
	call_finish(t.held[0]);
	h2_close(&c);
	net_close(&t);
}

/* The one table of classes and statuses. */
static void maps_errors(void **state)
{
	static const int wanted[] = {
		[ERR_NONE] = 2,	     [ERR_INVALID] = 3,	  [ERR_UNAUTHENTICATED] = 16,
		[ERR_FORBIDDEN] = 7, [ERR_NOT_FOUND] = 5, [ERR_CONFLICT] = 9,
		[ERR_TOO_LARGE] = 8, [ERR_RATE] = 8,	  [ERR_UNAVAILABLE] = 14,
		[ERR_TIMEOUT] = 4,   [ERR_IO] = 13,	  [ERR_NOMEM] = 13,
		[ERR_INTERNAL] = 13,
	};
	static const char *const headers[] = { GRPC("/t.S/Fail"), NULL };

	(void)state;
	open_net(NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	for (int class = ERR_INVALID; class <= ERR_INTERNAL; class ++) {
		const char text[] = { (char)class, 0 };
		struct h2_reply *r = call_with(headers, text);
		char whole[200];

		h2_pump(&c);
		/* Trailers only: one block, no data; text as gRPC wants it. */
		snprintf(whole, sizeof(whole),
			 "content-type: application/grpc\ngrpc-status: %d\n"
			 "grpc-message: 100%%25 %%C3%%A4\n\n",
			 wanted[class]);
		assert_string_equal(r->text, whole);
		assert_int_equal(grpc_status_of((enum err_class) class), wanted[class]);
	}
	h2_close(&c);
	net_close(&t);
}

static void reads_timeouts(void **state)
{
	static const struct {
		const char *text;
		int64_t ns; /* -1: refused */
	} rows[] = {
		{ "1H", 3600000000000 },
		{ "2M", 120000000000 },
		{ "3S", 3000000000 },
		{ "200m", 200000000 },
		{ "2999364u", 2999364000 },
		{ "7n", 7 },
		{ "0S", 0 },
		{ "00000001S", 1000000000 },
		{ "99999999H", INT64_MAX },
		{ "99999999M", INT64_MAX },
		{ "99999999S", 99999999000000000 },
		{ "", -1 },
		{ "S", -1 },
		{ "1", -1 },
		{ "1s", -1 },
		{ " 1S", -1 },
		{ "1 S", -1 },
		{ "+1S", -1 },
		{ "-1S", -1 },
		{ "1.5S", -1 },
		{ "0x1S", -1 },
		{ "123456789S", -1 },
		{ "1SS", -1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t ns = -1;

		if (grpc_timeout_parse(str_c(rows[i].text), &ns) != (rows[i].ns >= 0) ||
		    ns != rows[i].ns)
			fail_msg("\"%s\" is %lld ns", rows[i].text, (long long)ns);
	}
}

/* A message in pieces, byte by byte, and the end of the stream alone. */
static void joins_frames(void **state)
{
	static const char *const headers[] = { GRPC("/t.S/Echo"), NULL };
	char body[64];
	size_t n = frame(body, 0, 3, "abc", 3);
	struct h2_reply *r;

	(void)state;
	open_net(NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	r = h2_send(&c, headers, body, 0);
	r->hold = true;
	h2_pump(&c);
	for (size_t i = 1; i <= n; i++) {
		assert_int_equal(t.handled, 0);
		r->body_n = i;
		nghttp2_session_resume_data(c.session, h2_id(&c, r));
		h2_pump(&c);
	}
	assert_int_equal(t.handled, 1); /* it does not wait for the end of the stream */
	status_is(r, 0, "before the end of the stream");
	assert_true(has(r, "\3abc"));
	net_pass(&t, 3000); /* who keeps the stream open is asked to stop */
	h2_pump(&c);
	assert_true(r->closed && r->code == NGHTTP2_NO_ERROR);
	h2_close(&c);
	net_close(&t);
}

static void too_many_messages(const char *const *headers)
{
	char body[64];
	size_t n = frame(body, 0, 1, "a", 1);
	struct h2_reply *r;

	open_net(NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	n += frame(body + n, 0, 1, "b", 1);
	r = h2_send(&c, headers, body, n);
	h2_pump(&c);
	status_is(r, 13, "two messages");
	assert_int_equal(t.nheld, 1);
	assert_true(t.held[0]->gone);
	buf_add(grpc_reply(t.held[0], 10), STR("late"));
	call_finish(t.held[0]);
	h2_pump(&c);
	assert_false(has(r, "late"));
	h2_close(&c);
	net_close(&t);
}

static const char *const later_call[] = { GRPC("/t.S/Later"), NULL };
static const char *const let_go_call[] = { GRPC("/t.S/LetGo"), "x-request-id", "its-own", NULL };

static void two_messages_are_one_too_many(void **state)
{
	(void)state;
	too_many_messages(later_call);
	too_many_messages(let_go_call);
}

static void requests_are_let_go_of(void **state)
{
	struct h2_reply *r[50];

	(void)state;
	open_net(NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	for (size_t i = 0; i < ARRAY_LEN(r); i++)
		r[i] = call_with(let_go_call, "hello");
	h2_pump(&c);
	assert_int_equal(t.nheld, ARRAY_LEN(r));
	for (size_t i = 0; i < ARRAY_LEN(r); i++) {
		struct call *call = t.held[i];

		assert_true(!call->body.p && !call->path.p && !call->headers);
		buf_add(grpc_reply(call, 10), STR("kept"));
		call_finish(call);
	}
	h2_pump(&c);
	for (size_t i = 0; i < ARRAY_LEN(r); i++) {
		status_is(r[i], 0, "let go");
		assert_true(has(r[i], "kept") && has(r[i], "x-request-id: its-own"));
	}
	h2_close(&c);
	net_close(&t);
}

static void trailers_end_it(const char *const *headers)
{
	char body[64];
	size_t n = frame(body, 0, 1, "a", 1);
	nghttp2_nv nv = { (uint8_t[]){ 'x' }, (uint8_t[]){ 'y' }, 1, 1, 0 };
	struct h2_reply *r;

	open_net(NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	r = h2_send(&c, headers, body, n);
	r->hold = true;
	h2_pump(&c);
	assert_int_equal(t.nheld, 1);
	nghttp2_submit_headers(c.session, NGHTTP2_FLAG_END_STREAM, h2_id(&c, r), NULL, &nv, 1,
			       NULL);
	h2_pump(&c);
	status_is(r, 3, "trailers");
	call_finish(t.held[0]);
	h2_close(&c);
	net_close(&t);
}

static void trailers_of_a_request_end_it(void **state)
{
	(void)state;
	trailers_end_it(later_call);
	trailers_end_it(let_go_call);
}

/* ---- streams ---- */

static struct h2_reply *open_stream(const char *const *headers)
{
	struct h2_reply *r = call_with(headers, "hello");

	h2_pump(&c);
	assert_non_null(stream.call);
	return r;
}

static const char *const to_stream[] = { GRPC("/t.S/Stream"), NULL };

static void pushes_messages(void **state)
{
	struct h2_reply *r;

	(void)state;
	open_net(NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	r = open_stream(to_stream);
	assert_int_equal(r->status, 0); /* nothing before the first message */
	assert_true(grpc_send(stream.call, STR("one")));
	h2_pump(&c);
	assert_true(has(r, "\3one") && !r->closed);
	net_pass(&t, 3600000); /* an idle stream is no reason to close anything */
	h2_pump(&c);
	assert_false(c.closed || r->closed || stream.ended);
	assert_true(grpc_send(stream.call, STR("")));
	h2_pump(&c);
	assert_true(has(r, "one"));
	assert_int_equal(r->body_bytes, 8 + 5);
	assert_true(grpc_send(stream.call, STR("last")));
	call_finish(stream.call);
	h2_pump(&c);
	assert_true(has(r, "\4last"));
	status_is(r, 0, "the end");
	assert_true(r->closed && r->code == 0);
	assert_int_equal(stream.ended, 0); /* it ended itself */
	h2_close(&c);
	net_close(&t);
}

/* What was not sent yet is not true any more when a stream ends with an error. */
static void ends_with_an_error(void **state)
{
	struct err e = { 0 };
	struct h2_reply *r;

	(void)state;
	open_net(NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	r = open_stream(to_stream);
	assert_true(grpc_send(stream.call, STR("secret")));
	err_set(&e, ERR_FORBIDDEN, "no identity any more");
	call_fail(stream.call, &e);
	call_finish(stream.call);
	h2_pump(&c);
	status_is(r, 7, "error");
	assert_true(has(r, "grpc-message: no identity any more\n"));
	assert_false(has(r, "secret"));
	h2_close(&c);
	net_close(&t);
}

static void wakes_a_stream(void **state)
{
	(void)state;
	open_net(NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	(void)open_stream(to_stream);
	grpc_wake_at(stream.call, t.time.ns + 5000000000);
	net_pass(&t, 4800);
	assert_int_equal(stream.woken, 0);
	net_pass(&t, 400);
	assert_int_equal(stream.woken, 1);
	grpc_wake_at(stream.call, t.time.ns + 1000000000);
	grpc_wake_at(stream.call, 0);
	net_pass(&t, 2000);
	assert_int_equal(stream.woken, 1);
	grpc_wake_at(stream.call, t.time.ns + 1000000000);
	call_finish(stream.call);
	net_pass(&t, 2000);
	assert_int_equal(stream.woken, 1);
	h2_close(&c);
	net_close(&t);
}

static void set_window(uint32_t bytes)
{
	const nghttp2_settings_entry s = { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, bytes };

	nghttp2_submit_settings(c.session, NGHTTP2_FLAG_NONE, &s, 1);
	h2_pump(&c);
}

/* A reader that is slow gets the newest state, not all of them; memory does not grow. */
static void replaces_what_waits(void **state)
{
	struct server_stats before, after;
	struct h2_reply *r;

	(void)state;
	open_net(NULL);
	h2_slow = true;
	h2_open(&c, &t, &t.tcp, NULL);
	h2_slow = false;
	set_window(3);
	r = open_stream(to_stream);
	assert_true(grpc_send(stream.call, STR("not begun")));
	assert_true(grpc_send(stream.call, STR("begun")));
	h2_pump(&c);
	assert_int_equal(r->body_bytes, 3);
	server_stats(t.server, &before);
	for (int i = 0; i < 1000; i++)
		assert_true(grpc_send(stream.call, STR("old")));
	assert_true(grpc_send(stream.call, STR("new")));
	server_stats(t.server, &after);
	assert_true(after.in_flight - before.in_flight == 3);
	set_window(65535);
	assert_true(has(r, "begun") && has(r, "new"));
	assert_false(has(r, "not") || has(r, "old"));
	call_finish(stream.call);
	h2_pump(&c);
	status_is(r, 0, "the end");
	h2_close(&c);
	net_turns(&t, 5);
	server_stats(t.server, &after);
	assert_int_equal(after.in_flight, 0);
	net_close(&t);
}

static void cuts_who_does_not_read(void **state)
{
	static const char *const headers[] = { GRPC("/t.S/Stream"), NULL };
	struct call *quiet;
	struct h2_reply *r, *other;

	(void)state;
	open_net(NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	set_window(0);
	other = call_with(headers, "x"); /* nothing waits for it: it may stay */
	h2_pump(&c);
	quiet = stream.call;
	r = open_stream(headers);
	assert_true(grpc_send(stream.call, STR("state")));
	h2_pump(&c);
	net_pass(&t, 9000);
	h2_pump(&c);
	assert_false(r->closed || stream.ended);
	net_pass(&t, 3000);
	h2_pump(&c);
	assert_true(r->closed && r->code == NGHTTP2_ENHANCE_YOUR_CALM);
	assert_int_equal(stream.ended, 1);
	assert_false(other->closed || c.closed);
	call_finish(quiet);
	h2_close(&c);
	net_close(&t);
}

static void notices_cancelling(void **state)
{
	static const char *const later[] = { GRPC("/t.S/Later"), NULL };
	struct h2_reply *r, *u;

	(void)state;
	open_net(NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	r = open_stream(to_stream);
	u = call_with(later, "x");
	h2_pump(&c);
	nghttp2_submit_rst_stream(c.session, NGHTTP2_FLAG_NONE, h2_id(&c, r), NGHTTP2_CANCEL);
	nghttp2_submit_rst_stream(c.session, NGHTTP2_FLAG_NONE, h2_id(&c, u), NGHTTP2_CANCEL);
	h2_pump(&c);
	assert_int_equal(stream.ended, 1);
	assert_string_equal(stream.first, "hello"); /* the request was there until then */
	assert_true(t.held[0]->gone);
	buf_add(grpc_reply(t.held[0], 10), STR("late"));
	call_finish(t.held[0]);
	h2_pump(&c);
	assert_false(c.closed);
	/* And a connection that breaks with streams open. */
	for (int i = 0; i < 3; i++)
		(void)call_with(to_stream, "x");
	(void)call_with(later, "x");
	h2_pump(&c);
	assert_int_equal(stream.opened, 4);
	assert_true(grpc_send(stream.call, STR("unread")));
	h2_close(&c);
	net_turns(&t, 5);
	assert_int_equal(stream.ended, 4);
	call_finish(t.held[1]);
	net_turns(&t, 2);
	assert_int_equal(server_connections(t.server), 0);
	net_close(&t);
}

static void keeps_deadlines(void **state)
{
	static const char *const later[] = { GRPC("/t.S/Later"), "grpc-timeout", "500m", NULL };
	static const char *const streaming[] = { GRPC("/t.S/Stream"), "grpc-timeout", "2S", NULL };
	static const char *const half[] = { GRPC("/t.S/Echo"), "grpc-timeout", "1S", NULL };
	struct h2_reply *u, *s, *h;

	(void)state;
	open_net(NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	u = call_with(later, "x");
	h = h2_send(&c, half, "\0\0", 2);
	h->hold = true;
	s = open_stream(streaming);
	assert_true(grpc_send(stream.call, STR("one")));
	net_pass(&t, 400);
	h2_pump(&c);
	assert_int_equal(u->status, 0);
	net_pass(&t, 400);
	h2_pump(&c);
	status_is(u, 4, "unary");
	assert_true(t.held[0]->gone);
	call_finish(t.held[0]);
	net_pass(&t, 400);
	h2_pump(&c);
	status_is(h, 4, "half a request");
	assert_int_equal(stream.ended, 0);
	net_pass(&t, 1200);
	h2_pump(&c);
	assert_int_equal(stream.ended, 1);
	assert_true(has(s, "one"));
	status_is(s, 4, "stream");
	h2_close(&c);
	net_close(&t);
}

static void ends_streams_when_it_stops(void **state)
{
	static const char *const later[] = { GRPC("/t.S/Later"), NULL };
	struct h2_reply *r, *u;

	(void)state;
	open_net(NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	r = open_stream(to_stream);
	u = call_with(later, "x");
	h2_pump(&c);
	assert_true(grpc_send(stream.call, STR("one")));
	server_drain(t.server);
	h2_pump(&c);
	net_pass(&t, 200);
	h2_pump(&c);
	assert_int_equal(stream.ended, 1);
	assert_true(has(r, "one") && c.goaway);
	status_is(r, 14, "stream");
	assert_false(u->closed); /* a call under way is still answered */
	buf_add(grpc_reply(t.held[0], 10), STR("late"));
	call_finish(t.held[0]);
	h2_pump(&c);
	status_is(u, 0, "unary");
	net_pass(&t, 3000);
	h2_pump(&c);
	assert_true(c.closed);
	h2_close(&c);
	net_close(&t);
}

static void takes_messages_both_ways(void **state)
{
	static const char *const headers[] = { GRPC("/t.S/Bidi"), NULL };
	char body[200];
	size_t n = frame(body, 0, 5, "first", 5);
	struct h2_reply *r;

	(void)state;
	open_net(NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	n += frame(body + n, 0, 1, "2", 1);
	n += frame(body + n, 0, 0, "", 0);
	r = h2_send(&c, headers, body, n);
	r->hold = true;
	h2_pump(&c);
	assert_string_equal(stream.messages, "2||");
	assert_true(grpc_send(stream.call, STR("answer")));
	h2_pump(&c);
	assert_true(has(r, "answer"));
	n += frame(body + n, 0, 3, "333", 3);
	for (size_t i = r->body_n + 1; i <= n; i++) { /* in pieces */
		r->body_n = i;
		nghttp2_session_resume_data(c.session, h2_id(&c, r));
		h2_pump(&c);
	}
	assert_string_equal(stream.messages, "2||333|");
	net_pass(&t, 60000);
	h2_pump(&c);
	assert_false(r->closed || stream.ended);
	assert_true(str_eq(stream.call->body, STR("first")));
	r->hold = false;
	nghttp2_session_resume_data(c.session, h2_id(&c, r));
	h2_pump(&c);
	assert_int_equal(stream.half_closed, 1);
	status_is(r, 0, "half closed");
	/* A message that is too large, then half a message, end such a stream. */
	n = frame(body, 0, 1, "x", 1);
	n += frame(body + n, 0, BODY_MAX + 1, "y", 1);
	r = h2_send(&c, headers, body, n);
	r->hold = true;
	h2_pump(&c);
	status_is(r, 8, "too large");
	assert_int_equal(stream.ended, 1);
	n = frame(body, 0, 1, "x", 1);
	n += frame(body + n, 0, 2, "y", 1);
	r = h2_send(&c, headers, body, n);
	h2_pump(&c);
	status_is(r, 13, "half a message");
	assert_int_equal(stream.ended, 2);
	h2_close(&c);
	net_close(&t);
}

/* What is sent to a call that is held waits, a window of it here and the rest at the client; the
 * other calls of the connection do not. */
static void holds_messages_back(void **state)
{
	static const char *const headers[] = { GRPC("/t.S/Held"), NULL };
	static const char *const echo[] = { GRPC("/t.S/Echo"), NULL };
	static char body[700 * 1000], text[995];
	const size_t window = 256 * 1024;
	struct server_stats stats;
	struct h2_reply *r, *other;
	size_t n = 0;

	(void)state;
	open_net(NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	h2_pump(&c);
	for (int i = 0; i < 700; i++)
		n += frame(body + n, 0, sizeof(text), text, sizeof(text));
	r = h2_send(&c, headers, body, n);
	h2_pump(&c);
	assert_int_equal(stream.taken, 0);
	assert_true(r->sent >= window && r->sent <= window + 2000);
	server_stats(t.server, &stats);
	assert_true(stats.in_flight >= window && stats.in_flight <= window + 4000);
	for (int i = 0; i < 20; i++) { /* its window is full, the connection's is not */
		other = call_with(echo, "hello");
		h2_pump(&c);
		status_is(other, 0, "another call");
	}
	stream.hold = true;
	for (int i = 0; i < 5; i++) {
		grpc_release(stream.call);
		assert_int_equal(stream.taken, i + 1 + (i > 1)); /* the third did not hold */
	}
	h2_pump(&c);
	assert_int_equal(stream.half_closed, 0);
	stream.hold = false;
	grpc_release(stream.call);
	h2_pump(&c);
	assert_int_equal(stream.taken, 699);
	assert_int_equal(stream.half_closed, 1);
	status_is(r, 0, "all came");
	server_stats(t.server, &stats);
	assert_int_equal(stats.in_flight, 0);
	/* The end of the client's side waits as well, and so does half a message that is none. */
	memset(&stream, 0, sizeof(stream));
	n = frame(body, 0, 1, "x", 1) + frame(body + 6, 0, 1, "y", 1);
	r = h2_send(&c, headers, body, n);
	h2_pump(&c);
	assert_int_equal(stream.taken + stream.half_closed, 0);
	stream.hold = true;
	grpc_release(stream.call);
	assert_int_equal(stream.taken, 1);
	assert_int_equal(stream.half_closed, 0);
	grpc_release(stream.call);
	h2_pump(&c);
	assert_int_equal(stream.half_closed, 1);
	status_is(r, 0, "the end");
	r = h2_send(&c, headers, body, n - 1);
	h2_pump(&c);
	assert_false(r->closed);
	grpc_release(stream.call);
	h2_pump(&c);
	status_is(r, 13, "half a message");
	/* A client that goes while it is held. */
	(void)h2_send(&c, headers, body, n);
	h2_pump(&c);
	h2_close(&c);
	net_turns(&t, 5);
	assert_int_equal(stream.ended, 2);
	assert_int_equal(server_connections(t.server), 0);
	net_close(&t);
}

/* ---- floods ---- */

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"

static const struct {
	const char *why;
	const char *first; /* once */
	size_t nfirst;
	const char *frame; /* again and again */
	size_t n;
	int times;
} floods[] = {
	{ "SETTINGS", "", 0, "\0\0\0\4\0\0\0\0\0", 9, 20000 },
	{ "PING", "", 0, "\0\0\10\6\0\0\0\0\0abcdefgh", 17, 20000 },
	/* HEADERS of stream 1 without END_HEADERS, then empty CONTINUATIONs */
	{ "CONTINUATION", "\0\0\1\1\0\0\0\0\1\x83", 10, "\0\0\0\11\0\0\0\0\1", 9, 2000 },
	{ "a frame larger than announced", "", 0, "\0\x80\0\0\0\0\0\0\1", 9, 1 },
	{ "SETTINGS with 20 entries twenty times", "", 0,
	  "\0\0\x78\4\0\0\0\0\0"
	  "\0\1\0\0\0\0\0\1\0\0\0\0\0\1\0\0\0\0\0\1\0\0\0\0\0\1\0\0\0\0\0\1\0\0\0\0\0\1\0\0\0\0"
	  "\0\1\0\0\0\0\0\1\0\0\0\0\0\1\0\0\0\0\0\1\0\0\0\0\0\1\0\0\0\0\0\1\0\0\0\0\0\1\0\0\0\0"
	  "\0\1\0\0\0\0\0\1\0\0\0\0\0\1\0\0\0\0\0\1\0\0\0\0\0\1\0\0\0\0\0\1\0\0\0\0",
	  129, 20 },
};

static void floods_end_the_connection(void **state)
{
	(void)state;
	open_net(NULL);
	for (size_t i = 0; i < ARRAY_LEN(floods); i++) {
		int fd = net_connect(&t, &t.tcp);
		AUTO_BUF b;

		buf_init(&b, mem_system, 1 << 20);
		buf_add(&b, STR(PREFACE));
		buf_add(&b, (struct str){ floods[i].first, floods[i].nfirst });
		for (int k = 0; k < floods[i].times; k++)
			buf_add(&b, (struct str){ floods[i].frame, floods[i].n });
		net_talk(&t, fd, buf_str(&b), NULL);
		if (!t.closed)
			fail_msg("%s: the connection stays", floods[i].why);
		close(fd);
	}
	net_turns(&t, 5);
	assert_int_equal(server_connections(t.server), 0);
	assert_int_equal(t.handled, 0);
	net_close(&t);
}

static void bounds_streams(void **state)
{
	const struct server_limits l = { .streams = 5 };
	struct h2_reply *r[8];
	size_t open = 0;

	(void)state;
	open_net(&l);
	h2_open(&c, &t, &t.tcp, NULL);
	for (int i = 0; i < 8; i++) /* before the client has seen our settings */
		r[i] = call_with(to_stream, "x");
	h2_pump(&c);
	for (int i = 0; i < 8; i++)
		open += !r[i]->closed;
	assert_int_equal(stream.opened, 5);
	assert_true(open >= 5);
	h2_close(&c);
	net_turns(&t, 5);
	assert_int_equal(stream.ended, 5);
	net_close(&t);
}

/* Where everybody on the machine may come in, one user gets a fourth of the places. */
static void bounds_connections_of_a_user(void **state)
{
	const struct server_limits l = { .connections = 20 };
	int fds[10], open = 0;

	(void)state;
	open_net(&l);
	t.local.processes = true;
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		fds[i] = net_connect(&t, &t.local);
		net_talk(&t, fds[i], STR(PREFACE), NULL);
		open += !t.closed;
	}
	assert_int_equal(open, 5);
	assert_int_equal(server_connections(t.server), 5);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	net_turns(&t, 5);
	fds[0] = net_connect(&t, &t.local);
	net_talk(&t, fds[0], STR("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), NULL);
	assert_true(t.closed && t.n == 0); /* and HTTP/1 is not spoken there */
	close(fds[0]);
	net_turns(&t, 5);
	t.local.processes = false;
	net_close(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_a_call),
		cmocka_unit_test(checks_requests),
		cmocka_unit_test(maps_errors),
		cmocka_unit_test(reads_timeouts),
		cmocka_unit_test(joins_frames),
		cmocka_unit_test(two_messages_are_one_too_many),
		cmocka_unit_test(requests_are_let_go_of),
		cmocka_unit_test(trailers_of_a_request_end_it),
		cmocka_unit_test(pushes_messages),
		cmocka_unit_test(ends_with_an_error),
		cmocka_unit_test(wakes_a_stream),
		cmocka_unit_test(replaces_what_waits),
		cmocka_unit_test(cuts_who_does_not_read),
		cmocka_unit_test(notices_cancelling),
		cmocka_unit_test(keeps_deadlines),
		cmocka_unit_test(ends_streams_when_it_stops),
		cmocka_unit_test(takes_messages_both_ways),
		cmocka_unit_test(holds_messages_back),
		cmocka_unit_test(floods_end_the_connection),
		cmocka_unit_test(bounds_streams),
		cmocka_unit_test(bounds_connections_of_a_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
