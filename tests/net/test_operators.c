/* The operators' door: real threads and real time, so the tests only wait for what must come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "authz/net/operators.h"
#include "tests/net/pki.h"

#define H "Host: localhost\r\n"

struct fixture {
	struct operators *o;
	struct listener tcp, local, tls;
	char path[64];
	struct pki pki;
	struct task finish;
	struct call *held;
	atomic_int handled, refused, waiting, done, passed;
	bool distrust;
};

static struct fixture f;

static bool more(struct call *c, struct buf *out, struct err *e)
{
	int n = (*(int *)c->user)++;

	if (n == 300 && str_eq(c->query, STR("fail")))
		return !err_set(e, ERR_IO, "the disk is gone");
	if (str_eq(c->query, STR("wait"))) {
		f.waiting = 1;
		for (int i = 0; i < 5000 && !f.passed; i++)
			usleep(1000);
	}
	for (int i = 0; i < 100; i++)
		buf_lit(out, "0123456789\n");
	return n < 999;
}

static void more_done(struct call *c)
{
	(void)c;
	f.done++;
}

static void echo(struct call *c)
{
	call_reply(c, 200, "text/plain", 9000);
	call_reply_header(c, STR("X-Test"), STR("yes"));
	buf_printf(&c->reply.body, "%.*s %.*s ?%.*s %zu id=%.*s uid=%d on=%s\n", STR_FMT(c->method),
		   STR_FMT(c->path), STR_FMT(c->query), c->body.n, STR_FMT(c->peer->spiffe_id),
		   (int)c->peer->uid, c->peer->listener->name);
	call_finish(c);
}

static void handle(void *ctx, struct call *c)
{
	(void)ctx;
	f.handled++;
	if (str_eq(c->path, STR("/later"))) {
		f.held = c;
		f.waiting = 1;
	} else if (str_eq(c->path, STR("/more"))) {
		call_reply(c, 200, "text/plain", 100);
		buf_lit(&c->reply.body, "first\n");
		c->user = arena_zero(c->arena, sizeof(int));
		c->reply.more = more;
		c->reply.done = more_done;
		call_finish(c);
	} else {
		f.passed = str_eq(c->path, STR("/pass"));
		echo(c);
	}
}

static void refused(void *ctx, const struct listener *l, const struct err *e)
{
	(void)ctx;
	assert_non_null(l->name);
	assert_int_not_equal(e->class, ERR_NONE);
	f.refused++;
}

static void finish_held(struct task *t)
{
	(void)t;
	echo(f.held);
}

static void push_finish(void)
{
	struct chain c;

	f.finish.run = finish_held;
	chain_init(&c);
	chain_add(&c, &f.finish.link);
	queue_push_always(operators_home(f.o)->inbox, &c);
}

static void begin(const struct operators_limits *limits, bool require)
{
	struct operators_settings s = { .clock = clock_system,
					.handler = { handle, NULL, refused, NULL } };
	struct err e = { 0 };

	memset(&f, 0, sizeof(f));
	pki_open(&f.pki);
	snprintf(f.path, sizeof(f.path), "/tmp/writ-test-op-%d.sock", (int)getpid());
	f.tcp = (struct listener){ .name = "operators",
				   .address = "127.0.0.1:0",
				   .loopback = true };
	f.tls = (struct listener){
		.name = "https", .address = "127.0.0.1:0", .loopback = true, .tls = true
	};
	f.local = (struct listener){
		.name = "admin", .address = f.path, .loopback = true, .unix_socket = true
	};
	s.certificate = &f.pki.slot;
	s.verifier = f.pki.verifier;
	s.require_certificate = require;
	if (limits)
		s.limits = *limits;
	f.o = operators_new(&s, &e);
	assert_non_null(f.o);
	if (!operators_listen(f.o, &f.tcp, 0, &e) || !operators_listen(f.o, &f.local, 0600, &e) ||
	    !operators_listen(f.o, &f.tls, 0, &e) || !operators_start(f.o, &e))
		fail_msg("%s", e.msg);
}

static void end(void)
{
	operators_stop(f.o);
	operators_free(f.o);
	pki_close(&f.pki);
	assert_int_not_equal(access(f.path, F_OK), 0);
}

static int dial(const struct listener *l)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)operators_port(f.o, l)) };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct timeval limit = { 10, 0 };
	int fd = socket(l->unix_socket ? AF_UNIX : AF_INET, SOCK_STREAM, 0);

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", l->address);
	assert_int_equal(l->unix_socket ? connect(fd, (struct sockaddr *)&un, sizeof(un))
					: connect(fd, (struct sockaddr *)&in, sizeof(in)),
			 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

static char text[2 * 1024 * 1024];

static void say(int fd, const char *in)
{
	assert_int_equal(send(fd, in, strlen(in), MSG_NOSIGNAL), strlen(in));
}

/* Send, then read until @until has come or the server closes. */
static const char *talk(int fd, const char *in, const char *until)
{
	size_t n = 0;

	say(fd, in);
	text[0] = '\0';
	for (size_t seen = 0; !until || !strstr(text + seen, until);) {
		ssize_t rc = recv(fd, text + n, sizeof(text) - 1 - n, 0);

		if (rc <= 0)
			break;
		seen = n > 100 ? n - 100 : 0;
		n += (size_t)rc;
		text[n] = '\0';
	}
	return text;
}

static void answers_on_all_listeners(void **state)
{
	char expected[80];
	struct stat st;
	int fd;

	(void)state;
	begin(NULL, false);
	fd = dial(&f.tcp);
	for (int i = 0; i < 3; i++) {
		talk(fd,
		     "POST /a%2e/b?x=1 HTTP/1.1\r\n" H "X-Request-ID: r7\r\n"
		     "Content-Length: 5\r\n\r\nhello",
		     "operators\n");
		assert_non_null(strstr(text, "HTTP/1.1 200 OK\r\n"));
		assert_non_null(strstr(text, "POST /a%2e/b ?x=1 5 id= uid=-1 on=operators\n"));
		assert_non_null(strstr(text, "X-Request-ID: r7\r\n"));
		assert_non_null(strstr(text, "X-Test: yes\r\n"));
	}
	talk(fd, "HEAD / HTTP/1.1\r\n" H "\r\n", "\r\n\r\n");
	assert_null(strstr(text, "HEAD / ?"));
	close(fd);
	assert_int_equal(stat(f.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	fd = dial(&f.local);
	snprintf(expected, sizeof(expected), "GET / ? 0 id= uid=%d on=admin\n", (int)getuid());
	talk(fd, "GET / HTTP/1.1\r\n" H "\r\n", "admin\n");
	assert_non_null(strstr(text, expected));
	close(fd);
	assert_int_equal(f.handled, 5);
	end();
}

static void later_answers_and_others_meanwhile(void **state)
{
	int a, b;

	(void)state;
	begin(NULL, false);
	a = dial(&f.tcp);
	b = dial(&f.tcp);
	say(a, "GET /later HTTP/1.1\r\n" H "\r\n");
	while (!f.waiting)
		usleep(1000);
	assert_non_null(strstr(talk(b, "GET /b HTTP/1.1\r\n" H "\r\n", "operators\n"), "GET /b"));
	push_finish();
	assert_non_null(strstr(talk(a, "", "operators\n"), "GET /later"));
	close(a);
	close(b);
	end();
}

static void streams_long_replies(void **state)
{
	size_t n = 0;
	int fd;

	(void)state;
	begin(NULL, false);
	fd = dial(&f.tcp);
	talk(fd, "GET /more HTTP/1.1\r\n" H "\r\n", "\r\n0\r\n\r\n");
	assert_non_null(strstr(text, "first\n"));
	for (const char *p = text, *last = text + strlen(text);
	     (p = memmem(p, (size_t)(last - p), "0123456789\n", 11)); p++)
		n++;
	assert_true(n > 90000); /* chunk borders may stand inside some lines */
	close(fd);
	/* A failure in the middle cuts the connection: no last chunk. */
	fd = dial(&f.tcp);
	talk(fd, "GET /more?fail HTTP/1.1\r\n" H "\r\n", NULL);
	assert_non_null(strstr(text, "0123456789"));
	assert_null(strstr(text, "\r\n0\r\n\r\n"));
	close(fd);
	/* A client that goes away in the middle. */
	fd = dial(&f.tcp);
	talk(fd, "GET /more HTTP/1.1\r\n" H "\r\n", "0123");
	close(fd);
	for (int i = 0; i < 5000 && f.done < 3; i++)
		usleep(1000);
	assert_int_equal(f.done, 3);
	end();
}

/* While a piece is being made, however long that takes, other requests are answered. */
static void a_stream_is_in_nobodys_way(void **state)
{
	static const char ask[] = "GET /more?wait HTTP/1.1\r\n" H "\r\n";
	int stream, other;

	(void)state;
	begin(NULL, false);
	stream = dial(&f.tcp);
	assert_int_equal(send(stream, ask, sizeof(ask) - 1, 0), sizeof(ask) - 1);
	for (int i = 0; i < 5000 && !f.waiting; i++)
		usleep(1000);
	other = dial(&f.tcp);
	talk(other, "GET /pass HTTP/1.1\r\n" H "\r\n", "on=operators\n");
	assert_int_equal(f.passed, 1);
	close(other);
	talk(stream, "", "\r\n0\r\n\r\n");
	close(stream);
	end();
}

static const struct {
	const char *why, *in, *status;
} refusals[] = {
	{ "space before the colon", "POST / HTTP/1.1\r\n" H "Content-Length : 3\r\n\r\nabc",
	  "400" },
	{ "two lengths",
	  "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "400" },
	{ "length and chunked",
	  "POST / HTTP/1.1\r\n" H
	  "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	  "400" },
	{ "other coding", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n",
	  "400" },
	{ "identity", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n", "400" },
	{ "two hosts", "GET / HTTP/1.1\r\n" H H "\r\n", "400" },
	{ "no host", "GET / HTTP/1.1\r\n\r\n", "400" },
	{ "HTTP/1.2", "GET / HTTP/1.2\r\n" H "\r\n", "400" },
	{ "absolute form", "GET http://a/ HTTP/1.1\r\n" H "\r\n", "400" },
	{ "large body", "POST / HTTP/1.1\r\n" H "Content-Length: 2000001\r\n\r\n", "413" },
	{ "request id", "GET / HTTP/1.1\r\n" H "X-Request-ID: \xc3\xa4\r\n\r\n", "400" },
	{ "large chunked body",
	  "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
	  "20\r\n0123456789abcdef0123456789abcdef\r\n0\r\n\r\n",
	  "413" },
};

static void refuses_what_it_can_see(void **state)
{
	struct operators_limits limits = { .body = 20 };

	(void)state;
	begin(&limits, false);
	for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
		int fd = dial(&f.tcp);

		talk(fd, refusals[i].in, "\n}\n");
		if (strncmp(text + 9, refusals[i].status, 3) != 0)
			fail_msg("%s: %s", refusals[i].why, text);
		close(fd);
	}
	for (int i = 0; i < 2000 && f.refused < (int)ARRAY_LEN(refusals) - 1; i++)
		usleep(1000);
	assert_int_equal(f.handled, 0);
	assert_true(f.refused >= (int)ARRAY_LEN(refusals) - 1); /* MHD itself refuses "no host" */
	end();
}

static void clients_that_go_away_leave_nothing(void **state)
{
	static const char *const pieces[] = {
		"",
		"GET /x",
		"GET /x HTTP/1.1\r\n",
		"GET /x HTTP/1.1\r\n" H,
		"POST /x HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc",
		"POST /x HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\na",
	};

	(void)state;
	begin(NULL, false);
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		int fd = dial(&f.tcp);

		say(fd, pieces[i]);
		usleep(5000);
		close(fd);
	}
	end(); /* the leak checker looks on */
}

static void *stopper(void *arg)
{
	(void)arg;
	operators_stop(f.o);
	return NULL;
}

static void stop_waits_for_pending_calls(void **state)
{
	pthread_t t;
	int fd;

	(void)state;
	begin(NULL, false);
	fd = dial(&f.tcp);
	say(fd, "GET /later HTTP/1.1\r\n" H "\r\n");
	while (!f.waiting)
		usleep(1000);
	assert_int_equal(pthread_create(&t, NULL, stopper, NULL), 0);
	usleep(50000);
	push_finish();
	talk(fd, "", NULL);
	assert_non_null(strstr(text, "GET /later"));
	assert_non_null(strstr(text, "Connection: close"));
	pthread_join(t, NULL);
	close(fd);
	end();
}

static void tls_clients_are_verified(void **state)
{
	static const char request[] = "GET /t HTTP/1.1\r\n" H "\r\n";
	static const struct {
		const char *name; /* of the client's certificate */
		bool require, ok;
		const char *id;
	} rows[] = {
		{ NULL, false, true, "id= " },
		{ "good", false, true, "id=spiffe://test/good " },
		{ "good", true, true, "id=spiffe://test/good " },
		{ "bad", false, false, NULL },
		{ NULL, true, false, NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		SSL_CTX *ctx = pki_client(rows[i].name, NULL);
		SSL *ssl = SSL_new(ctx);
		char reply[1024] = "", name[64];
		int fd, n = 0, rc = 0;

		begin(NULL, rows[i].require);
		fd = dial(&f.tls);
		SSL_set_fd(ssl, fd);
		if (SSL_connect(ssl) == 1 && SSL_write(ssl, request, sizeof(request) - 1) > 0)
			while (n >= 0 && !strstr(reply, "https\n") &&
			       (rc = SSL_read(ssl, reply + n, (int)sizeof(reply) - 1 - n)) > 0)
				n += rc;
		if (rows[i].ok) {
			if (!strstr(reply, "200 OK") || !strstr(reply, rows[i].id))
				fail_msg("row %zu: %s", i, reply);
			assert_string_equal(pki_peer_name(ssl, name), "server-1");
			assert_int_equal(f.pki.asked, rows[i].name ? 1 : 0);
		} else if (n) {
			fail_msg("row %zu is answered: %s", i, reply);
		}
		SSL_free(ssl);
		SSL_CTX_free(ctx);
		close(fd);
		end();
	}
}

static void certificates_rotate_and_trust_is_asked_again(void **state)
{
	static const char request[] = "GET /t HTTP/1.1\r\n" H "\r\n";
	SSL_CTX *ctx = pki_client("good", NULL);
	char reply[1024], name[64];
	SSL *ssl;
	int fd;

	(void)state;
	begin(NULL, false);
	pki_publish(&f.pki, "server-2");
	fd = dial(&f.tls);
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, fd);
	assert_int_equal(SSL_connect(ssl), 1);
	assert_string_equal(pki_peer_name(ssl, name), "server-2");
	for (int distrust = 0; distrust < 2; distrust++) {
		int n = 0, rc;

		f.pki.distrust = distrust;
		assert_true(SSL_write(ssl, request, sizeof(request) - 1) > 0);
		do {
			rc = SSL_read(ssl, reply + n, (int)sizeof(reply) - 1 - n);
			assert_true(rc > 0);
			n += rc;
			reply[n] = '\0';
		} while (!strstr(reply, "https\n") && !strstr(reply, "}}\n"));
		assert_non_null(strstr(reply, distrust ? "HTTP/1.1 401" : "HTTP/1.1 200"));
	}
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	close(fd);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_on_all_listeners),
		cmocka_unit_test(later_answers_and_others_meanwhile),
		cmocka_unit_test(streams_long_replies),
		cmocka_unit_test(a_stream_is_in_nobodys_way),
		cmocka_unit_test(refuses_what_it_can_see),
		cmocka_unit_test(clients_that_go_away_leave_nothing),
		cmocka_unit_test(stop_waits_for_pending_calls),
		cmocka_unit_test(tls_clients_are_verified),
		cmocka_unit_test(certificates_rotate_and_trust_is_asked_again),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
