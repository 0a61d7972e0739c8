#include "authz/cli/workload.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>

#include "authz/base/text.h"
#include "authz/cli/transport.h"

#define SAID_BYTES 512
#define READ_BYTES 16384
#define FRAME 5 /* bytes before a message: a flag and its length */

struct call {
	const struct workload_stream *stream;
	struct buf framed;  /* the request with its frame, ... */
	struct str request; /* ... and what is not sent yet */
	struct buf got;	    /* the frame that is coming, and its message */
	char said[SAID_BYTES];
	int status, http; /* -1: not said */
	size_t messages;
	bool closed;
};

struct talk {
	const struct workload_follow *f;
	struct transport *to;
	nghttp2_session *h2;
	struct call calls[WORKLOAD_STREAMS]; /* f->n */
	bool enough;
};

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "%25" as "%". What is no printable ASCII stays as it came: it goes to a terminal. */
static void unescape(struct str s, char out[static SAID_BYTES])
{
	size_t n = 0;

	for (size_t i = 0; i < s.n && n + 1 < SAID_BYTES; i++) {
		int high = i + 2 < s.n ? digit(s.p[i + 1]) : -1, c = (unsigned char)s.p[i];

		if (c == '%' && high >= 0 && digit(s.p[i + 2]) >= 0) {
			int byte = high * 16 + digit(s.p[i + 2]);

			if (byte >= ' ' && byte < 0x7f) {
				c = byte;
				i += 2;
			}
		}
		out[n++] = c >= ' ' && c < 0x7f ? (char)c : '?';
	}
	out[n] = '\0';
}

static int number(struct str s)
{
	uint64_t v;

	return text_u64(s, 999, &v) ? (int)v : -1;
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *f, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
		     void *user)
{
	const struct str n = { (const char *)name, name_len };
	const struct str v = { (const char *)value, value_len };
	struct call *c = nghttp2_session_get_stream_user_data(h2, f->hd.stream_id);

	(void)user;
	(void)flags;
	if (!c)
		return 0;
	if (str_eq(n, STR(":status")))
		c->http = number(v);
	else if (str_eq(n, STR("grpc-status")))
		c->status = number(v);
	else if (str_eq(n, STR("grpc-message")))
		unescape(v, c->said);
	return 0;
}

static size_t length_of(const struct call *c)
{
	const uint8_t *p = (const uint8_t *)c->got.p;

	return (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | (size_t)p[4];
}

static int on_data(nghttp2_session *h2, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
		   void *user)
{
	struct call *c = nghttp2_session_get_stream_user_data(h2, id);

	(void)user;
	(void)flags;
	if (c && c->http == 200)
		buf_add(&c->got, (struct str){ (const char *)p, n });
	return 0;
}

/* Hand over what is whole. */
static bool take_messages(struct talk *t, struct call *c, struct err *e)
{
	while (!t->enough && c->got.n >= FRAME && buf_ok(&c->got)) {
		size_t n = length_of(c);

		if (c->got.p[0])
			return err_set(e, ERR_IO,
				       "the Workload API compresses what nobody asked it to");
		if (n > WORKLOAD_REPLY_MAX)
			break;
		if (c->got.n - FRAME < n)
			return true;
		c->messages++;
		t->enough = !c->stream->each(t->f->ctx,
					     str_first(str_from(buf_str(&c->got), FRAME), n));
		mem_wipe(c->got.p, FRAME + n); /* there may be a key in it */
		buf_drop(&c->got, FRAME + n);
	}
	return t->enough || c->got.n < FRAME ||
	       err_set(e, ERR_TOO_LARGE, "the Workload API's message has more than %zu bytes",
		       WORKLOAD_REPLY_MAX);
}

static int on_close(nghttp2_session *h2, int32_t id, uint32_t code, void *user)
{
	struct call *c = nghttp2_session_get_stream_user_data(h2, id);

	(void)code;
	(void)user;
	if (c)
		c->closed = true;
	return 0;
}

static ssize_t read_request(nghttp2_session *h2, int32_t id, uint8_t *out, size_t room,
			    uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct call *c = source->ptr;
	size_t n = c->request.n < room ? c->request.n : room;

	(void)h2;
	(void)id;
	(void)user;
	memcpy(out, c->request.p, n);
	c->request = str_from(c->request, n);
	if (!c->request.n)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)n;
}

static nghttp2_nv nv_of(const char *name, const char *value)
{
	union {
		const char *in;
		uint8_t *out; /* nghttp2 does not write through it */
	} n = { name }, v = { value };

	return (nghttp2_nv){ n.out, v.out, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE };
}

static bool begin_call(nghttp2_session *h2, struct call *c, const char *path)
{
	nghttp2_data_provider body = { .source.ptr = c, .read_callback = read_request };
	const nghttp2_nv headers[] = {
		nv_of(":method", "POST"),    nv_of(":scheme", "http"),
		nv_of(":path", path),	     nv_of(":authority", "localhost"),
		nv_of("te", "trailers"),     nv_of("content-type", "application/grpc"),
		nv_of("user-agent", "writ"), nv_of("workload.spiffe.io", "true")
	};

	return nghttp2_submit_request(h2, NULL, headers, ARRAY_LEN(headers), &body, c) > 0;
}

static bool begin(struct talk *t)
{
	const nghttp2_settings_entry settings[] = { { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
						    { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
						      1 << 23 } };
	nghttp2_session_callbacks *callbacks;
	bool ok;

	if (nghttp2_session_callbacks_new(&callbacks) != 0)
		return false;
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
	ok = nghttp2_session_client_new(&t->h2, callbacks, t) == 0 &&
	     nghttp2_submit_settings(t->h2, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) ==
		     0 &&
	     nghttp2_session_set_local_window_size(t->h2, NGHTTP2_FLAG_NONE, 0, 1 << 23) == 0;
	nghttp2_session_callbacks_del(callbacks);
	for (size_t i = 0; ok && i < t->f->n; i++) {
		char path[128];

		snprintf(path, sizeof(path), "/SpiffeWorkloadAPI/%s", t->calls[i].stream->method);
		ok = begin_call(t->h2, &t->calls[i], path);
	}
	return ok;
}

static bool flush(struct talk *t, struct err *e)
{
	const uint8_t *p;
	ssize_t n;

	while ((n = nghttp2_session_mem_send(t->h2, &p)) > 0)
		if (!transport_write(t->to, (struct str){ (const char *)p, (size_t)n }, e))
			return false;
	return n == 0 || err_set(e, ERR_INTERNAL, "HTTP/2: %s", nghttp2_strerror((int)n));
}

static bool read_some(struct talk *t, struct err *e)
{
	char bytes[READ_BYTES];
	size_t n = 0;
	ssize_t taken;

	if (!transport_read(t->to, bytes, sizeof(bytes), &n, e))
		return false;
	if (!n)
		return err_set(e, ERR_UNAVAILABLE, "the server has closed the connection");
	taken = nghttp2_session_mem_recv(t->h2, (const uint8_t *)bytes, n);
	mem_wipe(bytes, n);
	if (taken < 0 || (size_t)taken != n)
		return err_set(e, ERR_IO, "the server does not speak HTTP/2 (%s)",
			       taken < 0 ? nghttp2_strerror((int)taken) : "cut off");
	for (size_t i = 0; i < t->f->n; i++)
		if (!take_messages(t, &t->calls[i], e))
			return false;
	return true;
}

/* A stream is silent while nothing changes, but it begins with a message. */
static bool have_begun(const struct talk *t)
{
	for (size_t i = 0; i < t->f->n; i++)
		if (!t->calls[i].messages)
			return false;
	return true;
}

static const struct call *first_closed(const struct talk *t)
{
	for (size_t i = 0; i < t->f->n; i++)
		if (t->calls[i].closed)
			return &t->calls[i];
	return NULL;
}

/* Until it was enough, or a stream is over. */
static bool converse(struct talk *t, struct err *e)
{
	while (!t->enough && !first_closed(t)) {
		int64_t wait_s = CLIENT_TIMEOUT_MS / 1000;

		if (!flush(t, e))
			return false;
		if (have_begun(t)) {
			int64_t due_s = t->f->turn ? t->f->turn(t->f->ctx) : wait_s;

			t->enough = due_s == WORKLOAD_ENOUGH;
			wait_s = due_s < wait_s ? due_s : wait_s;
			if (t->enough || !transport_wait(t->to, (int)wait_s * 1000))
				continue;
		}
		if (!read_some(t, e))
			return false;
	}
	return true;
}

static bool refused(const struct call *c, struct err *e)
{
	enum err_class class = c->status == 3	? ERR_INVALID
			       : c->status == 7 ? ERR_FORBIDDEN
						: ERR_UNAVAILABLE;

	if (c->status == 12)
		class = ERR_NOT_FOUND;
	if (c->status > 0)
		return err_set(e, class, "the Workload API says: %s (%s, grpc-status %d)",
			       *c->said ? c->said : "nothing", c->stream->method, c->status);
	if (c->messages)
		return err_set(e, ERR_UNAVAILABLE, "the Workload API has ended the stream of %s",
			       c->stream->method);
	return err_set(e, ERR_IO, "the Workload API sent no message of %s (HTTP status %d)",
		       c->stream->method, c->http);
}

static bool prepare(struct talk *t, struct err *e)
{
	for (size_t i = 0; i < t->f->n; i++) {
		struct call *c = &t->calls[i];
		const struct str request = t->f->streams[i].request;
		char frame[FRAME] = { 0 };

		for (int k = 1; k < FRAME; k++)
			frame[k] = (char)(uint8_t)(request.n >> (32 - 8 * k));
		*c = (struct call){ .stream = &t->f->streams[i], .status = -1, .http = -1 };
		buf_init(&c->framed, mem_system, WORKLOAD_REPLY_MAX);
		buf_init(&c->got, mem_system, WORKLOAD_REPLY_MAX + FRAME + READ_BYTES);
		buf_add(&c->framed, (struct str){ frame, FRAME });
		buf_add(&c->framed, request);
		if (!buf_ok(&c->framed))
			return err_set(e, ERR_TOO_LARGE, "the request is too large");
		c->request = buf_str(&c->framed);
	}
	return begin(t) || err_set(e, ERR_NOMEM, "memory is short");
}

static void talk_clear(struct talk *t)
{
	nghttp2_session_del(t->h2);
	transport_close(t->to);
	for (size_t i = 0; i < t->f->n; i++) {
		if (t->calls[i].got.p)
			mem_wipe(t->calls[i].got.p, t->calls[i].got.n);
		buf_clear(&t->calls[i].got);
		buf_clear(&t->calls[i].framed);
	}
}

bool workload_follow(const char *uri, const struct workload_follow *f, struct err *e)
{
	const struct client_tls tls = { 0 };
	struct target target = { .kind = TARGET_UNIX };
	struct talk t = { .f = f };
	bool ok;

	if (strncmp(uri, "unix:///", 8) != 0 || strlen(uri + 7) >= sizeof(target.path))
		return err_code(e, ERR_INVALID, "wrong_usage",
				"--socket %.200s: expected unix:///PATH, of %zu bytes at most", uri,
				sizeof(target.path) - 1);
	snprintf(target.path, sizeof(target.path), "%s", uri + 7);
	ok = transport_open(&target, &tls, false, &t.to, e) && prepare(&t, e) && converse(&t, e) &&
	     (t.enough || refused(first_closed(&t), e));
	talk_clear(&t);
	return ok;
}

static bool keep_first(void *ctx, struct str message)
{
	buf_add(ctx, message);
	return false;
}

bool workload_ask(const char *uri, const char *method, struct str request, struct buf *message,
		  struct err *e)
{
	const struct workload_follow f = { { { method, request, keep_first } }, 1, message, NULL };

	return workload_follow(uri, &f, e) &&
	       (buf_ok(message) || err_set(e, ERR_NOMEM, "no room for the message"));
}
