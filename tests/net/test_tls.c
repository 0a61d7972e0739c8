/* TLS at the agents' door: who is let in, as what, for how long; and which protocol is spoken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "authz/net/grpc.h"
#include "tests/net/h2client.h"
#include "tests/net/pki.h"

#define H "Host: localhost\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" H "\r\n"

static struct net t;
static struct pki pki;
static struct tls *tls;

static void begin(const struct server_limits *limits)
{
	struct err e = { 0 };

	pki_open(&pki);
	tls = tls_new(&(struct tls_settings){ &pki.slot, pki.verifier }, &e);
	if (!tls)
		fail_msg("%s", e.msg);
	net_open(&t, limits, tls);
}

static void end(void)
{
	net_close(&t);
	tls_free(tls);
	pki_close(&pki);
}

struct client {
	int fd;
	SSL *ssl;
	bool ok; /* the handshake */
	char text[262144];
	int n;
	bool closed;
};

static struct client cl;

static void dial(SSL_CTX *ctx)
{
	int rc = 0;

	memset(&cl, 0, sizeof(cl));
	cl.fd = net_connect(&t, &t.tls);
	cl.ssl = SSL_new(ctx);
	SSL_set_fd(cl.ssl, cl.fd);
	for (int i = 0; i < 300 && rc != 1; i++) {
		rc = SSL_connect(cl.ssl);
		if (rc != 1 && SSL_get_error(cl.ssl, rc) != SSL_ERROR_WANT_READ)
			break;
		loop_turn(t.loop, 1);
	}
	cl.ok = rc == 1;
}

static void hang_up(void)
{
	SSL_free(cl.ssl);
	close(cl.fd);
	net_turns(&t, 5);
}

/* As net_talk: send, then read until @until (or the end). */
static const char *talk(const char *in, const char *until)
{
	int quiet = 0;

	cl.n = 0;
	cl.text[0] = '\0';
	if (*in && SSL_write(cl.ssl, in, (int)strlen(in)) <= 0)
		cl.closed = true;
	while (quiet++ < (until ? 1000 : 50) && !cl.closed && !(until && strstr(cl.text, until))) {
		int rc;

		loop_turn(t.loop, quiet > 1);
		rc = SSL_read(cl.ssl, cl.text + cl.n, (int)sizeof(cl.text) - 1 - cl.n);
		if (rc > 0) {
			cl.n += rc;
			cl.text[cl.n] = '\0';
			quiet = 0;
		} else if (SSL_get_error(cl.ssl, rc) != SSL_ERROR_WANT_READ) {
			cl.closed = true;
		}
	}
	return cl.text;
}

static const struct {
	const char *name; /* of the client's certificate */
	bool ok;
	const char *says;
} rows[] = {
	{ NULL, true, "listener=https id= uid=-1" },
	{ "good", true, "listener=https id=spiffe://test/good uid=-1" },
	{ "bad", false, "nobody knows \"bad\"" },
};

static void clients_are_verified_or_nameless(void **state)
{
	(void)state;
	for (size_t version = 0; version < 2; version++)
		for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
			SSL_CTX *ctx = pki_client(rows[i].name, NULL);

			if (version)
				SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
			begin(NULL);
			dial(ctx);
			/* In TLS 1.3 a client learns only later that it was refused. */
			talk(GET("/who"), "127.0.0.1");
			if (rows[i].ok && !strstr(cl.text, rows[i].says))
				fail_msg("row %zu: %s", i, cl.text);
			if (!rows[i].ok) {
				assert_true(cl.closed && cl.n == 0);
				assert_int_equal(t.handled, 0);
				assert_int_equal(t.refused, 1);
				assert_string_equal(t.why, rows[i].says);
			}
			assert_int_equal(pki.verified, rows[i].name != NULL);
			assert_int_equal(pki.asked, rows[i].ok && rows[i].name);
			hang_up();
			SSL_CTX_free(ctx);
			end();
		}
}

static void trust_is_asked_before_each_request(void **state)
{
	SSL_CTX *ctx = pki_client("good", NULL);

	(void)state;
	begin(NULL);
	dial(ctx);
	for (int i = 0; i < 3; i++)
		assert_non_null(strstr(talk(GET("/x"), "GET /x"), "200 OK"));
	assert_int_equal(pki.asked, 3);
	assert_int_equal(pki.verified, 1);
	pki.distrust = true;
	talk(GET("/x"), NULL);
	assert_non_null(strstr(cl.text, "HTTP/1.1 401"));
	assert_non_null(strstr(cl.text, "has expired"));
	assert_non_null(strstr(cl.text, "Connection: close"));
	assert_true(cl.closed);
	assert_int_equal(t.handled, 3);
	hang_up();
	SSL_CTX_free(ctx);
	end();
}

static void nothing_is_resumed(void **state)
{
	SSL_CTX *ctx = pki_client("good", NULL);
	SSL_SESSION *session;

	(void)state;
	for (int version = 0; version < 2; version++) {
		begin(NULL);
		SSL_CTX_set_max_proto_version(ctx, version ? TLS1_2_VERSION : TLS1_3_VERSION);
		dial(ctx);
		talk(GET("/x"), "GET /x");
		session = SSL_get1_session(cl.ssl);
		hang_up();
		cl.ssl = NULL;
		memset(&cl, 0, sizeof(cl));
		cl.fd = net_connect(&t, &t.tls);
		cl.ssl = SSL_new(ctx);
		SSL_set_fd(cl.ssl, cl.fd);
		SSL_set_session(cl.ssl, session);
		for (int i = 0; i < 300 && SSL_connect(cl.ssl) != 1; i++)
			loop_turn(t.loop, 1);
		talk(GET("/x"), "GET /x");
		assert_non_null(strstr(cl.text, "200 OK"));
		assert_int_equal(SSL_session_reused(cl.ssl), 0);
		assert_int_equal(pki.verified, 2);
		hang_up();
		SSL_SESSION_free(session);
		end();
	}
	SSL_CTX_free(ctx);
}

static void certificates_rotate_under_open_connections(void **state)
{
	SSL_CTX *ctx = pki_client(NULL, NULL);
	struct client first;
	char name[64];

	(void)state;
	begin(NULL);
	dial(ctx);
	assert_string_equal(pki_peer_name(cl.ssl, name), "server-1");
	first = cl;
	pki_publish(&pki, "server-2");
	dial(ctx);
	assert_string_equal(pki_peer_name(cl.ssl, name), "server-2");
	hang_up();
	cl = first;
	assert_non_null(strstr(talk(GET("/x"), "GET /x"), "200 OK"));
	hang_up();
	slot_publish(&pki.slot, NULL); /* none at all: no handshake, no crash */
	dial(ctx);
	assert_false(cl.ok);
	hang_up();
	SSL_CTX_free(ctx);
	end();
}

static void speaks_http2_by_alpn(void **state)
{
	SSL_CTX *h2 = pki_client("good", "\x02h2\x08http/1.1");
	SSL_CTX *h1 = pki_client(NULL, "\x08http/1.1");
	SSL_CTX *other = pki_client(NULL, "\x03"
					  "foo");
	static struct h2_client c;
	struct h2_reply *r, *big;

	(void)state;
	begin(NULL);
	h2_open(&c, &t, &t.tls, h2);
	r = h2_get(&c, "/who");
	big = h2_get(&c, "/big");
	h2_pump(&c);
	assert_non_null(strstr(r->text, "id=spiffe://test/good"));
	assert_int_equal(big->status, 200);
	pki.distrust = true;
	r = h2_get(&c, "/who");
	h2_pump(&c);
	assert_int_equal(r->status, 401);
	assert_true(c.goaway);
	h2_close(&c);
	dial(h1);
	assert_non_null(strstr(talk(GET("/x"), "GET /x"), "200 OK"));
	hang_up();
	dial(other);
	assert_false(cl.ok);
	hang_up();
	SSL_CTX_free(h2);
	SSL_CTX_free(h1);
	SSL_CTX_free(other);
	end();
}

static int streamed, stream_ended;

static void on_message(struct call *call, struct str message)
{
	(void)call;
	(void)message;
	streamed++;
}

static void on_ended(struct call *call)
{
	stream_ended++;
	call_finish(call);
}

static void open_stream(struct call *call)
{
	static const struct grpc_events events = { .message = on_message, .ended = on_ended };

	grpc_stream(call, &events);
}

/* A stream may outlive the trust in whoever opened it. */
static void trust_is_asked_before_each_message(void **state)
{
	static const char *const headers[] = {
		":method",   "POST",	 ":scheme",	"https",	":authority",
		"localhost", ":path",	 "/t.S/Stream", "content-type", "application/grpc",
		"te",	     "trailers", NULL
	};
	SSL_CTX *ctx = pki_client("good", "\x02h2");
	static struct h2_client c;
	struct h2_reply *r;

	(void)state;
	begin(NULL);
	streamed = stream_ended = 0;
	t.grpc = open_stream;
	h2_open(&c, &t, &t.tls, ctx);
	r = h2_send(&c, headers, "\0\0\0\0\1a\0\0\0\0\1b\0\0\0\0\1c", 12);
	r->hold = true;
	h2_pump(&c);
	assert_int_equal(streamed, 1); /* and the first one */
	pki.distrust = true;
	r->body_n = 18;
	nghttp2_session_resume_data(c.session, h2_id(&c, r));
	h2_pump(&c);
	assert_int_equal(streamed, 1);
	assert_int_equal(stream_ended, 1);
	assert_non_null(strstr(r->text, "grpc-status: 16"));
	assert_true(c.goaway);
	h2_close(&c);
	SSL_CTX_free(ctx);
	end();
}

static void old_versions_and_plain_text_are_refused(void **state)
{
	SSL_CTX *ctx = pki_client(NULL, NULL);
	int fd;

	(void)state;
	begin(NULL);
	SSL_CTX_set_security_level(ctx, 0);
	SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
	dial(ctx);
	assert_false(cl.ok);
	hang_up();
	fd = net_connect(&t, &t.tls);
	net_talk(&t, fd, STR(GET("/x")), NULL);
	assert_true(t.closed);
	assert_int_equal(t.handled, 0);
	close(fd);
	SSL_CTX_free(ctx);
	end();
}

static void handshakes_have_a_deadline(void **state)
{
	int fd, half;

	(void)state;
	begin(NULL);
	fd = net_connect(&t, &t.tls);
	half = net_connect(&t, &t.tls);
	assert_int_equal(write(half, "\x16\x03\x01", 3), 3);
	net_pass(&t, 4600);
	assert_int_equal(server_connections(t.server), 2);
	net_pass(&t, 800);
	assert_int_equal(server_connections(t.server), 0);
	close(fd);
	close(half);
	end();
}

static void large_replies_and_pending_calls(void **state)
{
	SSL_CTX *ctx = pki_client("good", NULL);
	size_t got = 0;

	(void)state;
	begin(NULL);
	dial(ctx);
	assert_true(SSL_write(cl.ssl, GET("/big"), sizeof(GET("/big")) - 1) > 0);
	for (int i = 0; i < 3000 && got < 3 * 1024 * 1024 + 70; i++) {
		int rc;

		loop_turn(t.loop, 0);
		while ((rc = SSL_read(cl.ssl, cl.text, sizeof(cl.text))) > 0)
			got += (size_t)rc;
	}
	assert_int_equal(got, 3 * 1024 * 1024 + 70);
	talk(GET("/later"), NULL);
	assert_int_equal(t.nheld, 1);
	hang_up(); /* the identity must outlive the socket */
	assert_true(str_eq(t.held[0]->peer->spiffe_id, STR("spiffe://test/good")));
	net_finish(&t, 0);
	SSL_CTX_free(ctx);
	end();
}

static void certificates_are_checked_when_loaded(void **state)
{
	char *cert, *key, *cert2, *key2;
	struct err e = { 0 };

	(void)state;
	pki_make("a", &cert, &key);
	pki_make("b", &cert2, &key2);
	assert_null(tls_certificate_from_pem(str_c(cert), str_c(key2), &e));
	assert_non_null(strstr(e.msg, "do not belong together"));
	assert_null(tls_certificate_from_pem(STR("x"), str_c(key), &e));
	assert_non_null(strstr(e.msg, "certificate is not in PEM"));
	assert_null(tls_certificate_from_pem(str_c(cert), STR("x"), &e));
	assert_non_null(strstr(e.msg, "key is not in PEM"));
	free(cert);
	free(key);
	free(cert2);
	free(key2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clients_are_verified_or_nameless),
		cmocka_unit_test(trust_is_asked_before_each_request),
		cmocka_unit_test(nothing_is_resumed),
		cmocka_unit_test(certificates_rotate_under_open_connections),
		cmocka_unit_test(speaks_http2_by_alpn),
		cmocka_unit_test(trust_is_asked_before_each_message),
		cmocka_unit_test(old_versions_and_plain_text_are_refused),
		cmocka_unit_test(handshakes_have_a_deadline),
		cmocka_unit_test(large_replies_and_pending_calls),
		cmocka_unit_test(certificates_are_checked_when_loaded),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
