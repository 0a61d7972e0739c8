/* The agents' door over real sockets, HTTP/1.1: refusals, deadlines, order, limits, drain. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/net/listen.h"
#include "tests/net/fixture.h"

#define H "Host: localhost\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" H "\r\n"

static struct net t;

static void say(int fd, struct str text)
{
	assert_int_equal(send(fd, text.p, text.n, 0), text.n);
}

static size_t occurrences(const char *text, const char *what)
{
	size_t n = 0;

	for (const char *at = text; (at = strstr(at, what)); at++)
		n++;
	return n;
}

static void answers_and_keeps_the_connection(void **state)
{
	int fd;

	(void)state;
	net_open(&t, NULL, NULL);
	fd = net_connect(&t, &t.tcp);
	for (int i = 0; i < 3; i++) {
		net_talk(&t, fd,
			 STR("POST /a/b?x=1 HTTP/1.1\r\n" H "X-Request-ID: r 7\r\n"
			     "Content-Length: 5\r\n\r\nhello"),
			 "5\n");
		assert_string_equal(t.text, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
					    "Content-Length: 17\r\nX-Request-ID: r 7\r\n\r\n"
					    "POST /a/b ?x=1 5\n");
		assert_false(t.closed);
	}
	/* One byte at a time. */
	for (const char *p = "GET /x HTTP/1.1\r\n" H "\r"; *p; p++) {
		assert_int_equal(send(fd, p, 1, 0), 1);
		net_turns(&t, 2);
	}
	assert_non_null(strstr(net_talk(&t, fd, STR("\n"), "GET /x"), "200 OK"));
	close(fd);
	net_turns(&t, 5);
	assert_int_equal(server_connections(t.server), 0);
	net_close(&t);
}

static const struct {
	const char *in;
	const char *status;
} shapes[] = {
	{ "POST / HTTP/1.1\r\n" H "Content-Length : 3\r\n\r\nabc", "400" },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "400" },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
	  "400" },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", "400" },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n", "400" },
	{ "GET / HTTP/1.1\r\n" H "X-A: 1\r\n folded\r\n\r\n", "400" },
	{ "GET / HTTP/1.1\n" H "\r\n", "400" },
	{ "GET / HTTP/1.1\r\n" H "X: a\rb\r\n\r\n", "400" },
	{ "GET / HTTP/1.1\r\n" H ": empty\r\n\r\n", "400" },
	{ "\r\n" GET("/"), "400" },
	{ "GET / HTTP/1.1\r\n\r\n", "400" },
	{ "GET / HTTP/1.1\r\n" H H "\r\n", "400" },
	{ "GET / HTTP/1.2\r\n" H "\r\n", "400" },
	{ "GET /a b HTTP/1.1\r\n" H "\r\n", "400" },
	{ "GET http://localhost/ HTTP/1.1\r\n" H "\r\n", "400" },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: x\r\n\r\n", "400" },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1;x\r\na\r\n0\r\n\r\n",
	  "400" },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n\r\n", "400" },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n", "400" },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 1048577\r\n\r\n", "413" },
	{ "GET / HTTP/1.1\r\n" H "X-Request-ID: \x01\r\n\r\n", "400" },
	{ "hello\r\n", "400" },
};

static void refuses_with_json_and_closes(void **state)
{
	(void)state;
	net_open(&t, NULL, NULL);
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		int fd = net_connect(&t, &t.tcp);
		char json[32];

		/* What stands behind must never be read as a request. */
		net_talk(&t, fd, str_c(shapes[i].in), "}}\n");
		snprintf(json, sizeof(json), "{\"error\":{\"status\":%s,", shapes[i].status);
		if (strncmp(t.text + 9, shapes[i].status, 3) != 0 || !strstr(t.text, json) ||
		    !strstr(t.text, "Connection: close\r\n"))
			fail_msg("row %zu: %s", i, t.text);
		net_talk(&t, fd, STR(GET("/smuggled")), "smuggled");
		if (!t.closed || t.n)
			fail_msg("row %zu is open: %s", i, t.text);
		close(fd);
		net_turns(&t, 3);
		assert_int_equal(t.refused, i + 1);
	}
	assert_int_equal(t.handled, 0);
	assert_int_equal(server_connections(t.server), 0);
	net_close(&t);
}

static void refusals_echo_the_request_id_and_arrive_before_the_reset(void **state)
{
	static char big[3000000];
	int fd;

	(void)state;
	net_open(&t, NULL, NULL);
	fd = net_connect(&t, &t.tcp);
	memset(big, 'x', sizeof(big));
	net_talk(&t, fd,
		 STR("POST / HTTP/1.1\r\n" H "X-Request-ID: me\r\nContent-Length: 3000000\r\n\r\n"),
		 "}}\n");
	assert_non_null(strstr(t.text, "HTTP/1.1 413"));
	assert_non_null(strstr(t.text, "X-Request-ID: me\r\n"));
	close(fd);
	/* The body is on its way before the answer is read: it must not be cut off by a reset. */
	fd = net_connect(&t, &t.tcp);
	say(fd, STR("POST / HTTP/1.1\r\n" H "Content-Length: 3000000\r\n\r\n"));
	net_talk(&t, fd, (struct str){ big, 1000000 }, NULL);
	assert_non_null(strstr(t.text, "HTTP/1.1 413"));
	close(fd);
	net_close(&t);
}

static void old_and_plain_clients(void **state)
{
	int fd;

	(void)state;
	net_open(&t, NULL, NULL);
	fd = net_connect(&t, &t.tcp);
	net_talk(&t, fd, STR("GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), NULL);
	assert_non_null(strstr(t.text, "GET /old ? 0\n"));
	assert_non_null(strstr(t.text, "Connection: close"));
	assert_true(t.closed);
	close(fd);
	fd = net_connect(&t, &t.tcp);
	net_talk(&t, fd, STR("HEAD /x HTTP/1.1\r\n" H "\r\n"), "\r\n\r\n");
	assert_non_null(strstr(t.text, "Content-Length: 12\r\n\r\n"));
	assert_null(strstr(t.text, "HEAD /x ?"));
	net_talk(&t, fd,
		 STR("POST /c HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
		     "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
		 "POST /c ? 5\n");
	assert_non_null(strstr(t.text, "200 OK"));
	net_talk(&t, fd,
		 STR("POST /e HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"),
		 "100 Continue\r\n\r\n");
	assert_string_equal(t.text, "HTTP/1.1 100 Continue\r\n\r\n");
	net_talk(&t, fd, STR("ok"), "POST /e ? 2\n");
	assert_non_null(strstr(t.text, "200 OK"));
	net_talk(&t, fd, STR("GET /z HTTP/1.1\r\n" H "Connection: close\r\n\r\n"), NULL);
	assert_true(t.closed && strstr(t.text, "GET /z"));
	close(fd);
	net_close(&t);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
	static char many[200000];
	size_t n = 0;
	int fd;

	(void)state;
	net_open(&t, NULL, NULL);
	fd = net_connect(&t, &t.tcp);
	net_talk(&t, fd, STR(GET("/later?1") GET("/2") GET("/hop?3") GET("/later?4") GET("/5")),
		 NULL);
	assert_int_equal(t.n, 0); /* the first is pending, the others wait for it */
	assert_int_equal(t.nheld, 1);
	net_finish(&t, 0);
	net_talk(&t, fd, STR(""), "/hop ?3 0\n");
	assert_int_equal(occurrences(t.text, "200 OK"), 3);
	assert_true(strstr(t.text, "/later ?1") < strstr(t.text, "GET /2"));
	assert_true(strstr(t.text, "GET /2") < strstr(t.text, "/hop ?3"));
	net_talk(&t, fd, STR(""), NULL);
	assert_int_equal(t.nheld, 2);
	net_finish(&t, 1);
	net_talk(&t, fd, STR(""), "GET /5");
	assert_int_equal(occurrences(t.text, "200 OK"), 2);
	/* Many at once, more than a read or a reply buffer holds. */
	while (n < sizeof(many) - 100)
		n += (size_t)snprintf(many + n, 100, "GET /%s HTTP/1.1\r\n" H "\r\n",
				      n % 3 ? "hop" : "x");
	n += (size_t)snprintf(many + n, 100, "%s", GET("/last"));
	net_talk(&t, fd, (struct str){ many, n }, "GET /last");
	assert_int_equal(occurrences(t.text, "200 OK"), occurrences(many, "GET /"));
	close(fd);
	net_close(&t);
}

static void many_sockets_ready_at_once(void **state)
{
	static const int counts[] = { 1, 127, 128, 129, 256, 300 };
	int fds[300];

	(void)state;
	net_open(&t, NULL, NULL);
	for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
		for (int i = 0; i < counts[c]; i++) {
			fds[i] = net_connect(&t, &t.tcp);
			assert_true(fds[i] >= 0);
			net_turns(&t, 1);
		}
		net_turns(&t, 10);
		for (int round = 0; round < 2; round++) {
			for (int i = 0; i < counts[c]; i++)
				assert_true(send(fds[i], GET("/hop"), sizeof(GET("/hop")) - 1, 0) >
					    0);
			net_turns(&t, 6);
			for (int i = 0; i < counts[c]; i++) {
				char text[512];
				ssize_t n = recv(fds[i], text, sizeof(text), 0);

				if (n <= 0)
					fail_msg("socket %d of %d got no answer", i, counts[c]);
			}
		}
		for (int i = 0; i < counts[c]; i++)
			close(fds[i]);
		net_turns(&t, 10);
		assert_int_equal(server_connections(t.server), 0);
	}
	net_close(&t);
}

static void deadlines(void **state)
{
	int fd, quiet, half;

	(void)state;
	net_open(&t, NULL, NULL);
	/* A connection that says nothing, or not even which protocol. */
	quiet = net_connect(&t, &t.tcp);
	half = net_connect(&t, &t.tcp);
	assert_int_equal(send(half, "P", 1, 0), 1);
	net_pass(&t, 4600);
	assert_int_equal(server_connections(t.server), 2);
	net_pass(&t, 800);
	assert_int_equal(server_connections(t.server), 0);
	close(quiet);
	close(half);
	/* A byte a second: the whole request has 10 s, whatever trickles in. */
	fd = net_connect(&t, &t.tcp);
	net_talk(&t, fd, STR("GET / HTTP/1.1\r\n" H "X-Request-ID: slow\r\nX: "), NULL);
	for (int i = 0; i < 9; i++) {
		net_pass(&t, 1000);
		net_talk(&t, fd, STR("x"), NULL);
		assert_false(t.closed || t.n);
	}
	net_pass(&t, 1200);
	net_talk(&t, fd, STR(""), NULL);
	assert_non_null(strstr(t.text, "HTTP/1.1 408 Request Timeout"));
	assert_non_null(strstr(t.text, "X-Request-ID: slow"));
	net_pass(&t, 1200);
	assert_int_equal(server_connections(t.server), 0);
	close(fd);
	/* Between requests: the idle deadline. A pending call has no deadline here. */
	fd = net_connect(&t, &t.tcp);
	net_talk(&t, fd, STR(GET("/later")), NULL);
	net_pass(&t, 100000);
	net_finish(&t, 0);
	net_talk(&t, fd, STR(""), "/later");
	assert_non_null(strstr(t.text, "200 OK"));
	net_pass(&t, 74000);
	assert_int_equal(server_connections(t.server), 1);
	net_pass(&t, 2000);
	assert_int_equal(server_connections(t.server), 0);
	close(fd);
	net_close(&t);
}

static void slow_reader_gets_all_or_is_cut(void **state)
{
	size_t got = 0;
	int fd, small = 65536;

	(void)state;
	net_open(&t, NULL, NULL);
	for (int cut = 0; cut < 2; cut++) {
		fd = net_connect(&t, &t.tcp);
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
		say(fd, cut ? STR(GET("/big") GET("/big") GET("/big") GET("/big") GET("/big"))
			    : STR(GET("/big")));
		net_turns(&t, 5);
		if (cut) {
			net_pass(&t, 11000);
			assert_int_equal(server_connections(t.server), 0);
			close(fd);
			break;
		}
		for (int i = 0; i < 200 && got < 3 * 1024 * 1024 + 70; i++) {
			net_talk(&t, fd, STR(""), NULL);
			got += t.n;
			net_pass(&t, 200);
		}
		assert_int_equal(got, 3 * 1024 * 1024 + 70);
		net_talk(&t, fd, STR(GET("/again")), "/again");
		assert_non_null(strstr(t.text, "200 OK"));
		close(fd);
	}
	net_close(&t);
}

/* What waits has nothing of its request but what the reply shows of it. */
static void requests_are_let_go_of(void **state)
{
	struct call *c;
	int fd[3];

	(void)state;
	net_open(&t, NULL, NULL);
	for (size_t i = 0; i < ARRAY_LEN(fd); i++) {
		fd[i] = net_connect(&t, &t.tcp);
		net_talk(&t, fd[i],
			 STR("POST /let-go?q HTTP/1.1\r\n" H "X-Request-ID: one-of-three\r\n"
			     "Content-Length: 3\r\n\r\nabc" GET("/later")),
			 NULL);
		assert_int_equal(t.nheld, i + 1);
		c = t.held[i];
		assert_ptr_equal(c->scratch, c->arena);
		assert_true(!c->method.p && !c->target.p && !c->path.p && !c->query.p);
		assert_true(!c->headers && !c->nheaders && !c->body.p);
		assert_null(call_header(c, STR("host")).p);
	}
	for (size_t i = 0; i < ARRAY_LEN(fd); i++) {
		net_finish(&t, i);
		net_talk(&t, fd[i], STR(""), " ? 0\n");
		assert_non_null(strstr(t.text, "X-Request-ID: one-of-three\r\n"));
		net_talk(&t, fd[i], STR(""), NULL); /* the next one is read as ever */
		assert_int_equal(t.nheld, ARRAY_LEN(fd) + i + 1);
		assert_true(str_eq(t.held[t.nheld - 1]->path, STR("/later")));
	}
	close(fd[0]); /* pending ones stay whole when their client goes */
	net_turns(&t, 5);
	for (size_t i = 0; i < ARRAY_LEN(fd); i++)
		net_finish(&t, ARRAY_LEN(fd) + i);
	close(fd[1]);
	close(fd[2]);
	net_close(&t);
}

static void client_gone_while_pending(void **state)
{
	struct linger reset = { 1, 0 };
	struct server_stats stats;
	int fd[3];

	(void)state;
	net_open(&t, NULL, NULL);
	for (int i = 0; i < 3; i++) {
		fd[i] = net_connect(&t, i < 2 ? &t.tcp : &t.local);
		net_talk(&t, fd[i],
			 STR("POST /later HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc"), NULL);
	}
	assert_int_equal(t.nheld, 3);
	server_stats(t.server, &stats);
	assert_true(stats.in_flight > 0);
	setsockopt(fd[0], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd[0]); /* a reset */
	close(fd[2]);
	shutdown(fd[1], SHUT_WR); /* half closed: it still wants its answer */
	net_turns(&t, 5);
	assert_int_equal(server_connections(t.server), 1);
	/* The peer a handler sees must outlive its socket. */
	assert_string_equal(t.held[0]->peer->listener->name, "http");
	net_finish(&t, 0);
	assert_true(t.saw_gone);
	net_finish(&t, 2);
	assert_true(t.saw_gone);
	net_finish(&t, 1);
	assert_false(t.saw_gone);
	net_talk(&t, fd[1], STR(""), NULL);
	assert_true(t.closed && strstr(t.text, "POST /later ? 3"));
	close(fd[1]);
	net_turns(&t, 5);
	server_stats(t.server, &stats);
	assert_int_equal(stats.in_flight, 0);
	assert_int_equal(stats.connections, 0);
	net_close(&t);
}

static void limits_hold(void **state)
{
	struct server_limits limits = { .connections = 2, .in_flight = 3000 };
	struct server_stats stats;
	static char body[2000];
	int a, b, c;

	(void)state;
	memset(body, 'x', sizeof(body));
	net_open(&t, &limits, NULL);
	a = net_connect(&t, &t.tcp);
	b = net_connect(&t, &t.tcp);
	net_turns(&t, 3);
	c = net_connect(&t, &t.tcp);
	net_talk(&t, c, STR(GET("/")), "OK");
	assert_true(t.closed && !t.n); /* the third is turned away */
	close(c);
	server_stats(t.server, &stats);
	assert_int_equal(stats.turned_away, 1);
	/* Two bodies of 2000 bytes are too much together. */
	net_talk(&t, a, STR("POST /a HTTP/1.1\r\n" H "Content-Length: 2500\r\n\r\n"), NULL);
	net_talk(&t, a, (struct str){ body, 2000 }, NULL);
	net_talk(&t, b, STR("POST /b HTTP/1.1\r\n" H "Content-Length: 2500\r\n\r\n"), NULL);
	net_talk(&t, b, (struct str){ body, 2000 }, "}}\n");
	assert_non_null(strstr(t.text, "HTTP/1.1 503"));
	close(b);
	net_talk(&t, a, (struct str){ body, 500 }, "POST /a ? 2500");
	assert_non_null(strstr(t.text, "200 OK"));
	close(a);
	net_turns(&t, 5);
	server_stats(t.server, &stats);
	assert_int_equal(stats.in_flight, 0);
	net_close(&t);
}

static void streamed_and_forgotten_answers(void **state)
{
	int fd;

	(void)state;
	net_open(&t, NULL, NULL);
	fd = net_connect(&t, &t.tcp);
	net_talk(&t, fd, STR(GET("/more")), "piece 2\n");
	assert_non_null(strstr(t.text, "Content-Length: 24\r\n\r\npiece 0\npiece 1\npiece 2\n"));
	assert_int_equal(t.done_called, 1);
	net_talk(&t, fd, STR(GET("/more?fail")), "}}\n");
	assert_non_null(strstr(t.text, "HTTP/1.1 500"));
	assert_non_null(strstr(t.text, "the disk is gone"));
	assert_int_equal(t.done_called, 2);
	net_talk(&t, fd, STR(GET("/bug")), "}}\n");
	assert_non_null(strstr(t.text, "HTTP/1.1 500"));
	close(fd);
	net_close(&t);
}

static void unix_sockets_say_who_calls(void **state)
{
	char expected[64];
	struct stat st;
	int fd;

	(void)state;
	net_open(&t, NULL, NULL);
	assert_int_equal(stat(t.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	fd = net_connect(&t, &t.local);
	snprintf(expected, sizeof(expected), "listener=local id= uid=%d from=unix", (int)getuid());
	assert_non_null(strstr(net_talk(&t, fd, STR(GET("/who")), expected), expected));
	close(fd);
	fd = net_connect(&t, &t.tcp);
	assert_non_null(strstr(net_talk(&t, fd, STR(GET("/who")), "127.0.0.1:"),
			       "listener=http id= uid=-1 from=127.0.0.1:"));
	close(fd);
	net_close(&t);
}

static void drains(void **state)
{
	int idle, pending, half;

	(void)state;
	net_open(&t, NULL, NULL);
	idle = net_connect(&t, &t.tcp);
	pending = net_connect(&t, &t.tcp);
	half = net_connect(&t, &t.tcp);
	net_talk(&t, idle, STR(GET("/")), "GET /");
	net_talk(&t, pending, STR(GET("/later")), NULL);
	net_talk(&t, half, STR("GET /half HTTP/1.1\r\n"), NULL);
	server_drain(t.server);
	server_drain(t.server);
	net_talk(&t, idle, STR(""), NULL);
	assert_true(t.closed);
	assert_int_equal(net_connect(&t, &t.tcp), -1);
	assert_int_equal(server_connections(t.server), 2);
	net_talk(&t, half, STR(H "\r\n"), NULL);
	assert_true(t.closed && strstr(t.text, "Connection: close") && strstr(t.text, "GET /half"));
	net_finish(&t, 0);
	net_talk(&t, pending, STR(""), NULL);
	assert_true(t.closed && strstr(t.text, "Connection: close") && strstr(t.text, "/later"));
	assert_int_equal(server_connections(t.server), 0);
	close(idle);
	close(pending);
	close(half);
	net_close(&t);
}

static void a_stopped_loop_begins_nothing_new(void **state)
{
	int fd;

	(void)state;
	net_open(&t, NULL, NULL);
	fd = net_connect(&t, &t.tcp);
	net_talk(&t, fd, STR(GET("/later") GET("/next")), NULL);
	say(fd, STR(GET("/third")));
	loop_stop(t.loop);
	net_finish(&t, 0);
	loop_finish(t.loop);
	net_talk(&t, fd, STR(""), NULL);
	assert_non_null(strstr(t.text, "/later"));
	assert_null(strstr(t.text, "/next"));
	assert_int_equal(t.handled, 1);
	close(fd);
	net_close(&t);
}

static const struct {
	struct listener l;
	const char *says;
} listeners[] = {
	{ { .name = "x", .address = "localhost:80", .loopback = true }, "not an address" },
	{ { .name = "x", .address = "127.0.0.1", .loopback = true }, "not an address" },
	{ { .name = "x", .address = "127.0.0.1:70000", .loopback = true }, "not an address" },
	{ { .name = "x", .address = "127.0.0.1:080", .loopback = true }, "not an address" },
	{ { .name = "x", .address = "0.0.0.0:0", .loopback = true }, "needs TLS" },
	{ { .name = "x", .address = "[::]:0", .loopback = true }, "needs TLS" },
	{ { .name = "x", .address = "/tmp", .loopback = true, .unix_socket = true },
	  "not a socket" },
	{ { .name = "x", .address = "/nowhere/at/all", .loopback = true, .unix_socket = true },
	  "No such file" },
	{ { .name = "x", .address = "", .loopback = true, .unix_socket = true }, "1 to 107" },
};

static void listeners_are_checked(void **state)
{
	unsigned port = 0;
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(listeners); i++) {
		e = (struct err){ 0 };
		if (listen_open(&listeners[i].l, 0600, false, &port, &e) != -1 ||
		    !strstr(e.msg, listeners[i].says))
			fail_msg("row %zu: %s", i, e.msg);
	}
	/* A socket somebody listens on is not taken over; a dead one is. */
	net_open(&t, NULL, NULL);
	assert_int_equal(listen_open(&t.local, 0600, false, &port, &e), -1);
	assert_non_null(strstr(e.msg, "another server"));
	/* Nor is a port shared with another server, unless both want to. */
	port = server_port(t.server, &t.tcp);
	assert_int_equal(listen_open(&t.tcp, 0, false, &port, &e), -1);
	assert_non_null(strstr(e.msg, "in use"));
	net_close(&t);
}

static size_t allocations_left;

static void *failing(void *ctx, void *p, size_t old, size_t n)
{
	(void)ctx;
	if (n && allocations_left == 0)
		return NULL;
	if (n)
		allocations_left--;
	return mem_system.fn(mem_system.ctx, p, old, n);
}

static void handle_echo(void *ctx, struct call *c)
{
	++*(int *)ctx;
	call_reply(c, 200, "text/plain", 100);
	buf_lit(&c->reply.body, "fine\n");
	call_finish(c);
}

/* With memory for only @n allocations: an answer, a refusal or a closed connection. */
static bool serve_with(size_t n)
{
	struct alloc alloc = { failing, NULL };
	struct listener l = { .name = "http", .address = "127.0.0.1:0", .loopback = true };
	int handled = 0, fd;
	struct server_settings s = { .clock = clock_system,
				     .alloc = &alloc,
				     .handler = { handle_echo, &handled, NULL, NULL } };
	struct loop *loop = loop_new(&(struct loop_settings){ .clock = clock_system }, NULL);
	struct server *server;
	bool ok = false;

	allocations_left = n;
	server = server_new(&s, &loop, 1, NULL);
	if (server && server_listen(server, &l, 0, NULL)) {
		t.server = server;
		t.loop = loop;
		fd = net_connect(&t, &l);
		net_talk(&t, fd, STR("POST / HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nab"), NULL);
		if (!t.closed)
			net_talk(&t, fd, STR("c"), NULL);
		ok = t.n && strstr(t.text, "200 OK");
		close(fd);
	}
	server_free(server);
	loop_free(loop);
	return ok;
}

static void every_allocation_may_fail(void **state)
{
	size_t n = 0;

	(void)state;
	while (!serve_with(n))
		assert_true(++n < 100);
	assert_true(n > 4);
}

static atomic_int served;

static void handle_by_thread(void *ctx, struct call *c)
{
	(void)ctx;
	served++;
	call_reply(c, 200, "text/plain", 100);
	buf_printf(&c->reply.body, "loop %u\n", c->home->index);
	call_finish(c);
}

static void *run(void *loop)
{
	loop_run(loop);
	return NULL;
}

/* The life of a server as main leads it: threads, drain, stop, free. */
static void two_loops_on_threads(void **state)
{
	struct listener l = { .name = "http", .address = "127.0.0.1:0", .loopback = true };
	struct server_settings s = { .clock = clock_system,
				     .handler = { handle_by_thread, NULL, NULL, NULL } };
	struct timeval limit = { 5, 0 };
	struct loop *loops[2];
	pthread_t threads[2];
	int fds[20];

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		loops[i] = loop_new(&(struct loop_settings){ .clock = clock_system, .index = i },
				    NULL);
	t.server = server_new(&s, loops, 2, NULL);
	assert_true(server_listen(t.server, &l, 0, NULL));
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run, loops[i]), 0);
	for (int i = 0; i < 20; i++) {
		fds[i] = net_connect(&t, &l);
		fcntl(fds[i], F_SETFL, 0);
		setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		say(fds[i], STR(GET("/x")));
	}
	for (int i = 0; i < 20; i++)
		assert_true(recv(fds[i], t.text, 100, 0) > 20);
	assert_int_equal(served, 20);
	server_drain(t.server);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(recv(fds[i], t.text, 100, 0), 0);
		close(fds[i]);
	}
	for (int i = 0; i < 1000 && server_connections(t.server) > 0; i++)
		usleep(1000);
	assert_int_equal(server_connections(t.server), 0);
	for (int i = 0; i < 2; i++) {
		loop_stop(loops[i]);
		pthread_join(threads[i], NULL);
		loop_finish(loops[i]);
	}
	server_free(t.server);
	loop_free(loops[0]);
	loop_free(loops[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_and_keeps_the_connection),
		cmocka_unit_test(refuses_with_json_and_closes),
		cmocka_unit_test(refusals_echo_the_request_id_and_arrive_before_the_reset),
		cmocka_unit_test(old_and_plain_clients),
		cmocka_unit_test(pipelined_requests_are_answered_in_order),
		cmocka_unit_test(many_sockets_ready_at_once),
		cmocka_unit_test(deadlines),
		cmocka_unit_test(slow_reader_gets_all_or_is_cut),
		cmocka_unit_test(requests_are_let_go_of),
		cmocka_unit_test(client_gone_while_pending),
		cmocka_unit_test(limits_hold),
		cmocka_unit_test(streamed_and_forgotten_answers),
		cmocka_unit_test(unix_sockets_say_who_calls),
		cmocka_unit_test(drains),
		cmocka_unit_test(a_stopped_loop_begins_nothing_new),
		cmocka_unit_test(listeners_are_checked),
		cmocka_unit_test(every_allocation_may_fail),
		cmocka_unit_test(two_loops_on_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
