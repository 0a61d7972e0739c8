#include "tests/net/h2client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

bool h2_slow;

static struct h2_reply *reply_of(struct h2_client *c, int32_t id)
{
	return id > 0 && id / 2 < H2_STREAMS ? &c->replies[id / 2] : NULL;
}

int32_t h2_id(const struct h2_client *c, const struct h2_reply *r)
{
	return (int32_t)(r - c->replies) * 2 + 1;
}

static void add(struct h2_reply *r, const char *fmt, ...) PRINTF(2, 3);

static void add(struct h2_reply *r, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(r->text + r->n, sizeof(r->text) - r->n, fmt, ap);
	va_end(ap);
	r->n += (size_t)n < sizeof(r->text) - r->n ? (size_t)n : 0;
}

static int on_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name, size_t nn,
		     const uint8_t *value, size_t vn, uint8_t flags, void *user)
{
	struct h2_reply *r = reply_of(user, frame->hd.stream_id);

	(void)s;
	/* It is another one each time, and would push what is not out of the table. */
	if (nn == 12 && memcmp(name, "x-request-id", 12) == 0)
		assert_true(flags & NGHTTP2_NV_FLAG_NO_INDEX);
	if (r && nn == 7 && memcmp(name, ":status", 7) == 0)
		r->status = (int)strtol((const char *)value, NULL, 10);
	else if (r)
		add(r, "%.*s: %.*s\n", (int)nn, (const char *)name, (int)vn, (const char *)value);
	return 0;
}

static int on_frame(nghttp2_session *s, const nghttp2_frame *frame, void *user)
{
	struct h2_client *c = user;
	struct h2_reply *r = reply_of(c, frame->hd.stream_id);

	(void)s;
	if (frame->hd.type == NGHTTP2_GOAWAY)
		c->goaway = true;
	if (frame->hd.type == NGHTTP2_HEADERS && r)
		add(r, "\n");
	return 0;
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
		   void *user)
{
	struct h2_reply *r = reply_of(user, id);

	(void)s;
	(void)flags;
	if (r && n < sizeof(r->text) - r->n) { /* as it is: gRPC has zeros in it */
		memcpy(r->text + r->n, p, n);
		r->n += n;
		r->text[r->n] = '\0';
	}
	if (r)
		r->body_bytes += n;
	return 0;
}

static int on_close(nghttp2_session *s, int32_t id, uint32_t code, void *user)
{
	struct h2_reply *r = reply_of(user, id);

	(void)s;
	if (r) {
		r->closed = true;
		r->code = code;
	}
	return 0;
}

static ssize_t read_body(nghttp2_session *s, int32_t id, uint8_t *out, size_t max, uint32_t *flags,
			 nghttp2_data_source *source, void *user)
{
	struct h2_reply *r = source->ptr;
	size_t n = r->body_n - r->sent < max ? r->body_n - r->sent : max;

	(void)s;
	(void)id;
	(void)user;
	memcpy(out, r->body + r->sent, n);
	r->sent += n;
	if (r->sent == r->body_n && !r->hold)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return n == 0 && r->hold ? NGHTTP2_ERR_DEFERRED : (ssize_t)n;
}

static void shake_hands(struct h2_client *c, SSL_CTX *tls)
{
	int rc = 0;

	c->ssl = SSL_new(tls);
	SSL_set_fd(c->ssl, c->fd);
	for (int i = 0; i < 2000 && (rc = SSL_connect(c->ssl)) != 1; i++)
		loop_turn(c->t->loop, 1);
	assert_int_equal(rc, 1);
}

void h2_open(struct h2_client *c, struct net *t, const struct listener *l, SSL_CTX *tls)
{
	nghttp2_session_callbacks *cb;
	nghttp2_option *opt;

	memset(c, 0, sizeof(*c));
	c->t = t;
	c->fd = net_connect(t, l);
	assert_true(c->fd >= 0);
	if (tls)
		shake_hands(c, tls);
	nghttp2_session_callbacks_new(&cb);
	nghttp2_option_new(&opt);
	nghttp2_option_set_no_auto_window_update(opt, h2_slow);
	nghttp2_option_set_no_http_messaging(opt, 1); /* bad messages are what we want to send */
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
	assert_int_equal(nghttp2_session_client_new2(&c->session, cb, c, opt), 0);
	nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, NULL, 0);
	nghttp2_option_del(opt);
	nghttp2_session_callbacks_del(cb);
}

void h2_close(struct h2_client *c)
{
	nghttp2_session_del(c->session);
	SSL_free(c->ssl);
	close(c->fd);
}

/* Names are not copied, as nghttp2 would turn them to lower case. */
static nghttp2_nv header(const char *name, const char *value)
{
	union {
		const char *in;
		uint8_t *out;
	} n = { name }, v = { value };

	return (nghttp2_nv){ n.out, v.out, strlen(name), strlen(value),
			     NGHTTP2_NV_FLAG_NO_COPY_NAME };
}

struct h2_reply *h2_send(struct h2_client *c, const char *const *headers, const char *body,
			 size_t n)
{
	nghttp2_nv nv[140];
	size_t count = 0;
	int32_t id = nghttp2_session_get_next_stream_id(c->session) > 0
			     ? (int32_t)nghttp2_session_get_next_stream_id(c->session)
			     : 0;
	struct h2_reply *r = reply_of(c, id);
	nghttp2_data_provider data = { .source.ptr = r, .read_callback = read_body };

	assert_non_null(r);
	for (; *headers; headers += 2)
		nv[count++] = header(headers[0], headers[1]);
	r->body = body;
	r->body_n = n;
	assert_int_equal(nghttp2_submit_request(c->session, NULL, nv, count, body ? &data : NULL,
						NULL),
			 id);
	return r;
}

struct h2_reply *h2_get(struct h2_client *c, const char *path)
{
	const char *const headers[] = { ":method",   "GET",   ":scheme", "http", ":authority",
					"localhost", ":path", path,	 NULL };

	return h2_send(c, headers, NULL, 0);
}

static ssize_t put(struct h2_client *c, const uint8_t *p, size_t n)
{
	if (c->ssl)
		return SSL_write(c->ssl, p, (int)n);
	return send(c->fd, p, n, MSG_NOSIGNAL);
}

static ssize_t take(struct h2_client *c, uint8_t *p, size_t n)
{
	int rc;

	if (!c->ssl)
		return recv(c->fd, p, n, 0);
	rc = SSL_read(c->ssl, p, (int)n);
	errno = rc < 0 && SSL_get_error(c->ssl, rc) == SSL_ERROR_WANT_READ ? EAGAIN : EPIPE;
	return rc;
}

void h2_pump(struct h2_client *c)
{
	static uint8_t in[256 * 1024];

	for (int quiet = 0; quiet < 30 && !c->closed; quiet++) {
		const uint8_t *p;
		ssize_t n;

		while ((n = nghttp2_session_mem_send(c->session, &p)) > 0)
			for (ssize_t at = 0, rc; at < n; at += rc) {
				rc = put(c, p + at, (size_t)(n - at));
				if (rc < 0 && errno != EAGAIN) {
					c->closed = true;
					return;
				}
				rc = rc < 0 ? 0 : rc;
				loop_turn(c->t->loop, 0);
				quiet = 0;
			}
		loop_turn(c->t->loop, quiet ? 1 : 0);
		n = take(c, in, sizeof(in));
		if (n > 0) {
			quiet = 0;
			c->writes++;
			assert_int_equal(nghttp2_session_mem_recv(c->session, in, (size_t)n), n);
		} else if (n == 0 || errno != EAGAIN) {
			c->closed = true;
		}
	}
}
