#include "authz/cli/workload.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>

#include "authz/base/text.h"
#include "authz/cli/transport.h"

#define SAID_BYTES 512
#define READ_BYTES 16384
#define FRAME 5 /* bytes before a message: a flag and its length */

struct talk {
	struct transport *to;
	struct str request; /* with its frame; sent bytes are cut off */
	struct buf got;	    /* the frame that is coming, and its message */
	bool (*each)(void *ctx, struct str message);
	void *ctx;
	char said[SAID_BYTES];
	int status, http; /* -1: not said */
	size_t messages;
	bool closed, enough;
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
	struct talk *t = user;

	(void)h2;
	(void)f;
	(void)flags;
	if (str_eq(n, STR(":status")))
		t->http = number(v);
	else if (str_eq(n, STR("grpc-status")))
		t->status = number(v);
	else if (str_eq(n, STR("grpc-message")))
		unescape(v, t->said);
	return 0;
}

static size_t length_of(const struct talk *t)
{
	const uint8_t *p = (const uint8_t *)t->got.p;

	return (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | (size_t)p[4];
}

static int on_data(nghttp2_session *h2, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
		   void *user)
{
	struct talk *t = user;

	(void)h2;
	(void)flags;
	(void)id;
	if (t->http == 200)
		buf_add(&t->got, (struct str){ (const char *)p, n });
	return 0;
}

/* Hand over what is whole. */
static bool take_messages(struct talk *t, struct err *e)
{
	while (!t->enough && t->got.n >= FRAME && buf_ok(&t->got)) {
		size_t n = length_of(t);

		if (t->got.p[0])
			return err_set(e, ERR_IO,
				       "the Workload API compresses what nobody asked it to");
		if (n > WORKLOAD_REPLY_MAX)
			break;
		if (t->got.n - FRAME < n)
			return true;
		t->messages++;
		t->enough = !t->each(t->ctx, str_first(str_from(buf_str(&t->got), FRAME), n));
		mem_wipe(t->got.p, FRAME + n); /* there may be a key in it */
		buf_drop(&t->got, FRAME + n);
	}
	return t->enough || t->got.n < FRAME ||
	       err_set(e, ERR_TOO_LARGE, "the Workload API's message has more than %zu bytes",
		       WORKLOAD_REPLY_MAX);
}

static int on_close(nghttp2_session *h2, int32_t id, uint32_t code, void *user)
{
	(void)h2;
	(void)id;
	(void)code;
	((struct talk *)user)->closed = true;
	return 0;
}

static ssize_t read_request(nghttp2_session *h2, int32_t id, uint8_t *out, size_t room,
			    uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct talk *t = user;
	size_t n = t->request.n < room ? t->request.n : room;

	(void)h2;
	(void)id;
	(void)source;
	memcpy(out, t->request.p, n);
	t->request = str_from(t->request, n);
	if (!t->request.n)
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

static nghttp2_session *begin(struct talk *t, const char *path)
{
	const nghttp2_settings_entry settings[] = { { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
						    { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
						      1 << 23 } };
	const nghttp2_nv headers[] = {
		nv_of(":method", "POST"),    nv_of(":scheme", "http"),
		nv_of(":path", path),	     nv_of(":authority", "localhost"),
		nv_of("te", "trailers"),     nv_of("content-type", "application/grpc"),
		nv_of("user-agent", "writ"), nv_of("workload.spiffe.io", "true")
	};
	nghttp2_data_provider body = { .read_callback = read_request };
	nghttp2_session_callbacks *callbacks;
	nghttp2_session *h2 = NULL;
	bool ok;

	if (nghttp2_session_callbacks_new(&callbacks) != 0)
		return NULL;
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
	ok = nghttp2_session_client_new(&h2, callbacks, t) == 0 &&
	     nghttp2_submit_settings(h2, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) == 0 &&
	     nghttp2_session_set_local_window_size(h2, NGHTTP2_FLAG_NONE, 0, 1 << 23) == 0 &&
	     nghttp2_submit_request(h2, NULL, headers, ARRAY_LEN(headers), &body, NULL) > 0;
	nghttp2_session_callbacks_del(callbacks);
	if (!ok) {
		nghttp2_session_del(h2);
		h2 = NULL;
	}
	return h2;
}

static bool flush(struct talk *t, nghttp2_session *h2, struct err *e)
{
	const uint8_t *p;
	ssize_t n;

	while ((n = nghttp2_session_mem_send(h2, &p)) > 0)
		if (!transport_write(t->to, (struct str){ (const char *)p, (size_t)n }, e))
			return false;
	return n == 0 || err_set(e, ERR_INTERNAL, "HTTP/2: %s", nghttp2_strerror((int)n));
}

/* A stream is silent while nothing changes. */
static bool is_silence(const struct talk *t, const struct err *e)
{
	return t->messages && e->class == ERR_TIMEOUT;
}

/* Until it was enough, or the stream is over. */
static bool converse(struct talk *t, nghttp2_session *h2, struct err *e)
{
	char bytes[READ_BYTES];

	while (!t->enough && !t->closed) {
		size_t n = 0;
		ssize_t taken;

		if (!flush(t, h2, e))
			return false;
		if (!transport_read(t->to, bytes, sizeof(bytes), &n, e)) {
			if (!is_silence(t, e))
				return false;
			*e = (struct err){ 0 };
			continue;
		}
		if (!n)
			return err_set(e, ERR_UNAVAILABLE, "the server has closed the connection");
		taken = nghttp2_session_mem_recv(h2, (const uint8_t *)bytes, n);
		mem_wipe(bytes, n);
		if (taken < 0 || (size_t)taken != n)
			return err_set(e, ERR_IO, "the server does not speak HTTP/2 (%s)",
				       taken < 0 ? nghttp2_strerror((int)taken) : "cut off");
		if (!take_messages(t, e))
			return false;
	}
	return true;
}

static bool refused(const struct talk *t, struct err *e)
{
	enum err_class class = t->status == 3	? ERR_INVALID
			       : t->status == 7 ? ERR_FORBIDDEN
						: ERR_UNAVAILABLE;

	if (t->status == 12)
		class = ERR_NOT_FOUND;
	if (t->status > 0)
		return err_set(e, class, "the Workload API says: %s (grpc-status %d)",
			       *t->said ? t->said : "nothing", t->status);
	if (t->messages)
		return err_set(e, ERR_UNAVAILABLE, "the Workload API has ended the stream");
	return err_set(e, ERR_IO, "the Workload API sent no message (HTTP status %d)", t->http);
}

static bool call(struct talk *t, const char *method, struct err *e)
{
	nghttp2_session *h2;
	char path[128];
	bool ok;

	snprintf(path, sizeof(path), "/SpiffeWorkloadAPI/%s", method);
	h2 = begin(t, path);
	if (!h2)
		return err_set(e, ERR_NOMEM, "memory is short");
	ok = converse(t, h2, e);
	nghttp2_session_del(h2);
	return ok && (t->enough || refused(t, e));
}

bool workload_follow(const char *uri, const char *method, struct str request,
		     bool (*each)(void *ctx, struct str message), void *ctx, struct err *e)
{
	const struct client_tls tls = { 0 };
	struct target target = { .kind = TARGET_UNIX };
	struct talk t = { .each = each, .ctx = ctx, .status = -1, .http = -1 };
	char frame[FRAME] = { 0 };
	AUTO_BUF framed;
	bool ok;

	buf_init(&framed, mem_system, WORKLOAD_REPLY_MAX);
	buf_init(&t.got, mem_system, WORKLOAD_REPLY_MAX + FRAME + READ_BYTES);
	if (strncmp(uri, "unix:///", 8) != 0 || strlen(uri + 7) >= sizeof(target.path))
		return err_code(e, ERR_INVALID, "wrong_usage",
				"--socket %.200s: expected unix:///PATH, of %zu bytes at most", uri,
				sizeof(target.path) - 1);
	snprintf(target.path, sizeof(target.path), "%s", uri + 7);
	for (int i = 1; i < FRAME; i++)
		frame[i] = (char)(uint8_t)(request.n >> (32 - 8 * i));
	buf_add(&framed, (struct str){ frame, FRAME });
	buf_add(&framed, request);
	if (!buf_ok(&framed))
		return err_set(e, ERR_TOO_LARGE, "the request is too large");
	t.request = buf_str(&framed);
	ok = transport_open(&target, &tls, false, &t.to, e) && call(&t, method, e);
	transport_close(t.to);
	if (t.got.p)
		mem_wipe(t.got.p, t.got.n);
	buf_clear(&t.got);
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
	return workload_follow(uri, method, request, keep_first, message, e) &&
	       (buf_ok(message) || err_set(e, ERR_NOMEM, "no room for the message"));
}
