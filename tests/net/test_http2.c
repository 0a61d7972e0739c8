/* The agents' door, HTTP/2: streams, checks of messages, orphans, limits, drain. */
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

#include "tests/net/h2client.h"

static struct net t;
static struct h2_client c;

#define BASIC ":method", "POST", ":scheme", "http", ":authority", "localhost", ":path", "/p?q=1"

static void answers_requests(void **state)
{
	static const char *const post[] = { BASIC, "content-length", "5", "x-request-id", "r 7",
					    NULL };
	struct h2_reply *a, *b, *d;

	(void)state;
	net_open(&t, NULL, NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	a = h2_send(&c, post, "hello", 5);
	b = h2_get(&c, "/who");
	d = h2_get(&c, "/big");
	h2_pump(&c);
	assert_int_equal(a->status, 200);
	assert_string_equal(a->text, "content-type: text/plain\ncontent-length: 15\n"
				     "x-request-id: r 7\n\nPOST /p ?q=1 5\n");
	assert_true(a->closed && a->code == 0);
	assert_non_null(strstr(b->text, "host=localhost"));
	assert_int_equal(d->status, 200); /* 3 MiB through a window of 64 KiB */
	assert_true(d->closed);
	h2_close(&c);
	net_turns(&t, 5);
	assert_int_equal(server_connections(t.server), 0);
	net_close(&t);
}

static void many_streams_share_few_writes(void **state)
{
	struct h2_reply *r[100];

	(void)state;
	net_open(&t, NULL, NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	h2_pump(&c);
	c.writes = 0;
	for (int i = 0; i < 100; i++)
		r[i] = h2_get(&c, i % 2 ? "/hop" : "/later");
	h2_pump(&c);
	assert_int_equal(t.nheld, 50);
	for (int i = 49; i >= 0; i--)
		net_finish(&t, (size_t)i);
	h2_pump(&c);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(r[i]->status, 200);
		assert_non_null(strstr(r[i]->text, i % 2 ? "GET /hop" : "GET /later"));
		assert_true(r[i]->closed);
	}
	assert_true(c.writes < 20);
	h2_close(&c);
	net_close(&t);
}

static const struct {
	const char *why;
	const char *headers[24];
	const char *body;
	int status;
} messages[] = {
	{ "good", { BASIC }, "abc", 200 },
	{ "te trailers", { BASIC, "te", "trailers" }, NULL, 200 },
	{ "host only",
	  { ":method", "GET", ":scheme", "http", ":path", "/", "host", "a" },
	  NULL,
	  200 },
	{ "same host twice", { BASIC, "host", "localhost" }, NULL, 200 },
	{ "other host", { BASIC, "host", "elsewhere" }, NULL, 400 },
	{ "no authority", { ":method", "GET", ":scheme", "http", ":path", "/" }, NULL, 400 },
	{ "path as authority",
	  { ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "/run/x.sock" },
	  NULL,
	  400 },
	{ "no path", { ":method", "GET", ":scheme", "http", ":authority", "a" }, NULL, 400 },
	{ "no method", { ":path", "/", ":scheme", "http", ":authority", "a" }, NULL, 400 },
	{ "no scheme", { ":path", "/", ":method", "GET", ":authority", "a" }, NULL, 400 },
	{ "two paths", { BASIC, ":path", "/other" }, NULL, 400 },
	{ "unknown pseudo header", { BASIC, ":protocol", "x" }, NULL, 400 },
	{ "pseudo header after a regular one",
	  { ":method", "GET", "x", "y", ":path", "/", ":scheme", "http", ":authority", "a" },
	  NULL,
	  400 },
	{ "upper case", { BASIC, "X-Upper", "1" }, NULL, 400 },
	{ "connection", { BASIC, "connection", "close" }, NULL, 400 },
	{ "transfer-encoding", { BASIC, "transfer-encoding", "chunked" }, NULL, 400 },
	{ "upgrade", { BASIC, "upgrade", "h2c" }, NULL, 400 },
	{ "te gzip", { BASIC, "te", "gzip" }, NULL, 400 },
	{ "empty name", { BASIC, "", "x" }, NULL, 400 },
	{ "space in a name", { BASIC, "a b", "x" }, NULL, 400 },
	{ "CR LF in a value", { BASIC, "x", "a\r\nb: c" }, NULL, 400 },
	{ "space in the path",
	  { ":method", "GET", ":scheme", "http", ":path", "/a b", ":authority", "a" },
	  NULL,
	  400 },
	{ "absolute path",
	  { ":method", "GET", ":scheme", "http", ":path", "http://a/", ":authority", "a" },
	  NULL,
	  400 },
	{ "asterisk",
	  { ":method", "OPTIONS", ":scheme", "http", ":path", "*", ":authority", "a" },
	  NULL,
	  400 },
	{ "method with a space",
	  { ":method", "GET X", ":scheme", "http", ":path", "/", ":authority", "a" },
	  NULL,
	  400 },
	{ "length too small", { BASIC, "content-length", "2" }, "abc", 400 },
	{ "length too large", { BASIC, "content-length", "4" }, "abc", 400 },
	{ "length without body", { BASIC, "content-length", "4" }, NULL, 400 },
	{ "two lengths", { BASIC, "content-length", "3", "content-length", "3" }, "abc", 400 },
	{ "length not a number", { BASIC, "content-length", "+3" }, "abc", 400 },
	{ "length over the limit", { BASIC, "content-length", "1048577" }, NULL, 413 },
	{ "request id", { BASIC, "x-request-id", "\xc3\xa4" }, NULL, 400 },
	{ "two request ids", { BASIC, "x-request-id", "a", "x-request-id", "b" }, NULL, 400 },
};

static void messages_are_checked(void **state)
{
	int refused = 0;

	(void)state;
	net_open(&t, NULL, NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
		const char *body = messages[i].body;
		struct h2_reply *r = h2_send(&c, messages[i].headers, body,
					     body ? strlen(body) : 0);

		h2_pump(&c);
		if (r->status != messages[i].status || !r->closed)
			fail_msg("%s: %d %s", messages[i].why, r->status, r->text);
		if (r->status != 200) {
			assert_non_null(strstr(r->text, "{\"error\":{\"status\":4"));
			refused++;
		}
	}
	assert_int_equal(t.refused, refused);
	assert_false(c.closed);
	h2_close(&c);
	net_close(&t);
}

/* What gRPC clients on Unix sockets send; only there. */
static void unix_sockets_take_any_authority(void **state)
{
	static const char *const authorities[] = { "localhost",	 "%2Frun%2Fwrit%2Fagent.sock",
						   "[::]:50051", "/run/writ/agent.sock",
						   "",		 NULL };

	(void)state;
	net_open(&t, NULL, NULL);
	h2_open(&c, &t, &t.local, NULL);
	for (size_t i = 0; i < ARRAY_LEN(authorities); i++) {
		const char *headers[] = { ":method", "POST",	   ":scheme",	   "http", ":path",
					  "/who",    ":authority", authorities[i], NULL };
		struct h2_reply *r;

		if (!authorities[i])
			headers[6] = NULL;
		r = h2_send(&c, headers, NULL, 0);
		h2_pump(&c);
		if (r->status != 200)
			fail_msg("authority %zu: %s", i, r->text);
	}
	h2_close(&c);
	net_close(&t);
}

static void requests_are_let_go_of(void **state)
{
	static const char *const headers[] = { ":method",     "POST",	    ":scheme",
					       "http",	      ":authority", "localhost",
					       ":path",	      "/let-go?q",  "x-request-id",
					       "one-of-many", NULL };
	struct h2_reply *r[100];

	(void)state;
	net_open(&t, NULL, NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	for (size_t i = 0; i < ARRAY_LEN(r); i++)
		r[i] = h2_send(&c, headers, "abc", 3);
	h2_pump(&c);
	assert_int_equal(t.nheld, ARRAY_LEN(r));
	for (size_t i = 0; i < ARRAY_LEN(r); i++) {
		struct call *x = t.held[i];

		assert_ptr_equal(x->scratch, x->arena);
		assert_true(!x->method.p && !x->path.p && !x->headers && !x->nheaders &&
			    !x->body.p);
		if (i % 3)
			net_finish(&t, i);
	}
	h2_pump(&c);
	for (size_t i = 0; i < ARRAY_LEN(r); i++) {
		assert_int_equal(r[i]->closed, i % 3 != 0);
		if (i % 3)
			assert_non_null(strstr(r[i]->text, "x-request-id: one-of-many\n"));
	}
	h2_close(&c); /* the others lose their client */
	net_turns(&t, 5);
	for (size_t i = 0; i < ARRAY_LEN(r); i += 3)
		net_finish(&t, i);
	net_close(&t);
}

static void streams_closed_while_pending_are_orphans(void **state)
{
	struct server_stats stats;
	struct h2_reply *r[4];

	(void)state;
	net_open(&t, NULL, NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	for (int i = 0; i < 4; i++)
		r[i] = h2_get(&c, "/later");
	h2_pump(&c);
	assert_int_equal(t.nheld, 4);
	nghttp2_submit_rst_stream(c.session, NGHTTP2_FLAG_NONE, h2_id(&c, r[1]), NGHTTP2_CANCEL);
	h2_pump(&c);
	net_finish(&t, 1);
	assert_true(t.saw_gone);
	net_finish(&t, 0);
	assert_false(t.saw_gone);
	h2_pump(&c);
	assert_int_equal(r[0]->status, 200);
	h2_close(&c); /* the connection goes with two pending */
	net_turns(&t, 5);
	assert_int_equal(server_connections(t.server), 0);
	assert_string_equal(t.held[2]->peer->listener->name, "http");
	net_finish(&t, 3);
	net_finish(&t, 2);
	assert_true(t.saw_gone);
	server_stats(t.server, &stats);
	assert_int_equal(stats.in_flight, 0);
	net_close(&t);
}

static void limits_hold(void **state)
{
	static char big[1500000];
	static char value[9000];
	static const char *const post[] = { BASIC, NULL };
	const char *wide[] = { BASIC, "x-a", value, "x-b", value, NULL };
	const char *many[240] = { BASIC };
	struct server_limits limits = { .streams = 10 };
	struct h2_reply *r, *more[12];
	int refused = 0;

	(void)state;
	net_open(&t, &limits, NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	memset(big, 'x', sizeof(big));
	memset(value, 'y', sizeof(value) - 1);
	for (size_t i = 8; i < 238; i += 2) {
		many[i] = "x";
		many[i + 1] = "1";
	}
	r = h2_send(&c, post, big, sizeof(big));
	h2_pump(&c);
	assert_int_equal(r->status, 413);
	r = h2_send(&c, wide, NULL, 0);
	h2_pump(&c);
	assert_int_equal(r->status, 431);
	r = h2_send(&c, many, NULL, 0);
	h2_pump(&c);
	assert_int_equal(r->status, 431);
	/* nghttp2 keeps to the announced limit by itself; what is over waits. */
	for (int i = 0; i < 12; i++)
		more[i] = h2_get(&c, "/later");
	h2_pump(&c);
	assert_int_equal(t.nheld, 10);
	for (size_t i = 0; i < 10; i++)
		net_finish(&t, i);
	h2_pump(&c);
	for (int i = 0; i < 12; i++)
		refused += more[i]->status != 200;
	assert_int_equal(refused, 2);
	assert_int_equal(t.nheld, 12);
	net_finish(&t, 10);
	net_finish(&t, 11);
	h2_close(&c);
	net_close(&t);
}

static void deadlines(void **state)
{
	static const char *const post[] = { BASIC, NULL };
	struct h2_reply *slow, *held;

	(void)state;
	net_open(&t, NULL, NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	slow = h2_send(&c, post, "abc", 3);
	slow->hold = true;
	held = h2_get(&c, "/later");
	h2_pump(&c);
	net_pass(&t, 9500);
	h2_pump(&c);
	assert_int_equal(slow->status, 0);
	net_pass(&t, 2500);
	h2_pump(&c);
	assert_int_equal(slow->status, 408);
	net_pass(&t, 2500);
	h2_pump(&c);
	assert_true(slow->closed); /* it was asked to stop */
	net_pass(&t, 100000);
	h2_pump(&c);
	assert_false(c.closed);
	net_finish(&t, 0);
	h2_pump(&c);
	assert_int_equal(held->status, 200);
	net_pass(&t, 80000);
	h2_pump(&c);
	assert_true(c.closed && c.goaway); /* idle */
	assert_int_equal(server_connections(t.server), 0);
	h2_close(&c);
	net_close(&t);
}

/* Replies that nobody reads: new streams must not make the server give up early, nor go on for
 * ever. */
static void slow_readers_are_cut_in_time(void **state)
{
	const nghttp2_settings_entry wide = { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 29 };
	int small = 16384;
	ssize_t n;
	const uint8_t *p;

	(void)state;
	net_open(&t, NULL, NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	nghttp2_session_set_local_window_size(c.session, NGHTTP2_FLAG_NONE, 0, 1 << 30);
	nghttp2_submit_settings(c.session, NGHTTP2_FLAG_NONE, &wide, 1);
	for (int i = 0; i < 6; i++)
		h2_get(&c, "/big");
	for (int second = 0; second < 30; second++) {
		if (second == 1 || second == 3)
			h2_get(&c, "/later");
		while ((n = nghttp2_session_mem_send(c.session, &p)) > 0)
			(void)!send(c.fd, p, (size_t)n, MSG_NOSIGNAL);
		net_turns(&t, 5);
		if (second < 9)
			assert_int_equal(server_connections(t.server), 1);
		net_pass(&t, 1000);
	}
	assert_int_equal(server_connections(t.server), 0);
	assert_int_equal(t.nheld, 2);
	net_finish(&t, 0);
	net_finish(&t, 1);
	assert_true(t.saw_gone);
	h2_close(&c);
	net_close(&t);
}

static void rapid_resets_end_the_connection(void **state)
{
	(void)state;
	net_open(&t, NULL, NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	h2_pump(&c);
	for (int batch = 0; batch < 9 && !c.closed; batch++) {
		struct h2_reply *r[30];

		for (int i = 0; i < 30; i++)
			r[i] = h2_get(&c, "/later");
		h2_pump(&c);
		for (int i = 0; i < 30; i++)
			nghttp2_submit_rst_stream(c.session, NGHTTP2_FLAG_NONE, h2_id(&c, r[i]),
						  NGHTTP2_CANCEL);
		h2_pump(&c);
		assert_true(batch >= 6 || !c.closed); /* 200 are allowed, and some a second */
	}
	for (size_t i = 0; i < t.nheld; i++)
		net_finish(&t, i);
	h2_pump(&c);
	assert_true(c.closed && c.goaway);
	h2_close(&c);
	net_close(&t);
}

static void drains(void **state)
{
	struct h2_client idle;
	struct h2_reply *r;

	(void)state;
	net_open(&t, NULL, NULL);
	h2_open(&c, &t, &t.tcp, NULL);
	h2_open(&idle, &t, &t.tcp, NULL);
	r = h2_get(&c, "/later");
	h2_pump(&c);
	h2_pump(&idle);
	server_drain(t.server);
	h2_pump(&c);
	h2_pump(&idle);
	assert_true(c.goaway && idle.goaway);
	net_pass(&t, 2500);
	h2_pump(&c);
	h2_pump(&idle);
	assert_true(idle.closed && !c.closed);
	net_finish(&t, 0);
	h2_pump(&c);
	assert_int_equal(r->status, 200);
	assert_true(c.closed);
	assert_int_equal(server_connections(t.server), 0);
	h2_close(&c);
	h2_close(&idle);
	net_close(&t);
}

static void broken_bytes_end_the_connection(void **state)
{
	static const char *const starts[] = {
		"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\n\r\n aaaaaaaaaaaaaaaaaaaaaaaa",
	};

	(void)state;
	net_open(&t, NULL, NULL);
	for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
		int fd = net_connect(&t, &t.tcp);

		net_talk(&t, fd, str_c(starts[i]), NULL);
		assert_true(t.closed);
		close(fd);
	}
	assert_int_equal(t.handled, 0);
	net_close(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_requests),
		cmocka_unit_test(many_streams_share_few_writes),
		cmocka_unit_test(messages_are_checked),
		cmocka_unit_test(unix_sockets_take_any_authority),
		cmocka_unit_test(requests_are_let_go_of),
		cmocka_unit_test(streams_closed_while_pending_are_orphans),
		cmocka_unit_test(limits_hold),
		cmocka_unit_test(deadlines),
		cmocka_unit_test(slow_readers_are_cut_in_time),
		cmocka_unit_test(rapid_resets_end_the_connection),
		cmocka_unit_test(drains),
		cmocka_unit_test(broken_bytes_end_the_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
