/* HTTP/2: many requests at a time on a connection, by nghttp2. */
#include <stdlib.h>

#include "tests/bench/load.h"

#define H2_ANSWER_MAX 65536

struct stream {
	struct stream *next_spare, *next;
	int64_t start;
	uint64_t number;
	size_t sent;
	int status;
	char *body;
	size_t n, cap;
};

/* nghttp2 asks for non-const bytes that it does not change. */
static uint8_t *bytes(const char *p)
{
	uint8_t *q;

	memcpy(&q, &p, sizeof(q));
	return q;
}

static nghttp2_nv nv_of(const char *name, size_t nname, const char *value)
{
	return (nghttp2_nv){ bytes(name), bytes(value), nname, strlen(value),
			     NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE };
}

static int on_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name, size_t nname,
		     const uint8_t *value, size_t nvalue, uint8_t flags, void *user)
{
	struct stream *st = nghttp2_session_get_stream_user_data(s, f->hd.stream_id);

	(void)flags;
	(void)user;
	if (st && nname == 7 && nvalue == 3 && memcmp(name, ":status", 7) == 0)
		st->status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0');
	return 0;
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
		   void *user)
{
	struct stream *st = nghttp2_session_get_stream_user_data(s, id);

	(void)flags;
	(void)user;
	if (!st)
		return 0;
	if (st->n + n > st->cap) {
		size_t cap = st->n + n > 2048 ? H2_ANSWER_MAX : 2048;
		char *body = st->n + n <= cap ? realloc(st->body, cap) : NULL;

		if (!body)
			return NGHTTP2_ERR_CALLBACK_FAILURE;
		st->body = body;
		st->cap = cap;
	}
	memcpy(st->body + st->n, p, n);
	st->n += n;
	return 0;
}

static int on_close(nghttp2_session *s, int32_t id, uint32_t code, void *user)
{
	struct lane *c = user;
	struct stream *st = nghttp2_session_get_stream_user_data(s, id);

	if (!st)
		return 0;
	c->inflight--;
	c->load->inflight--;
	if (code != NGHTTP2_NO_ERROR || st->status < 100 || st->status > 599)
		c->load->stats.broken++;
	else
		load_answered(c, st->status, (struct str){ st->body, st->n }, st->start);
	st->next_spare = c->spare;
	c->spare = st;
	return 0;
}

static ssize_t read_body(nghttp2_session *s, int32_t id, uint8_t *out, size_t room, uint32_t *flags,
			 nghttp2_data_source *source, void *user)
{
	const struct lane *c = user;
	const struct template *t = &c->load->body;
	struct stream *st = source->ptr;
	size_t n = t->n - st->sent < room ? t->n - st->sent : room;

	(void)s;
	(void)id;
	if (t->width)
		load_number(t->bytes, t, st->number);
	memcpy(out, t->bytes + st->sent, n);
	st->sent += n;
	if (st->sent == t->n)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)n;
}

bool load_h2_open(struct lane *c)
{
	const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20 },
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1000 },
	};
	nghttp2_session_callbacks *callbacks;
	bool ok;

	if (nghttp2_session_callbacks_new(&callbacks))
		return false;
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
	ok = nghttp2_session_client_new(&c->h2, callbacks, c) == 0;
	nghttp2_session_callbacks_del(callbacks);
	return ok &&
	       nghttp2_submit_settings(c->h2, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) ==
		       0 &&
	       nghttp2_session_set_local_window_size(c->h2, NGHTTP2_FLAG_NONE, 0, 1 << 24) == 0 &&
	       load_h2_flush(c);
}

void load_h2_close(struct lane *c)
{
	nghttp2_session_del(c->h2);
	c->h2 = NULL;
	for (struct stream *st = c->streams, *next; st; st = next) {
		next = st->next;
		free(st->body);
		free(st);
	}
	c->streams = c->spare = NULL;
}

static struct stream *stream_get(struct lane *c)
{
	struct stream *st = c->spare;

	if (st) {
		c->spare = st->next_spare;
		return st;
	}
	st = calloc(1, sizeof(*st));
	if (st) {
		st->next = c->streams;
		c->streams = st;
	}
	return st;
}

/* gRPC has a type of its own, given with --header. */
static bool has_type(const struct options *o)
{
	for (unsigned i = 0; i < o->nheaders; i++)
		if (!strncasecmp(o->headers[i], "content-type:", 13))
			return true;
	return false;
}

bool load_h2_request(struct lane *c, int64_t start)
{
	const struct options *o = &c->load->o;
	nghttp2_data_provider body = { .read_callback = read_body };
	nghttp2_nv nv[5 + LOAD_HEADERS_MAX];
	struct stream *st = stream_get(c);
	size_t n = 0;

	if (!st)
		return false;
	st->start = start;
	st->number = c->load->number;
	st->sent = st->n = 0;
	st->status = 0;
	nv[n++] = nv_of(":method", 7, o->method);
	nv[n++] = nv_of(":scheme", 7, o->tls ? "https" : "http");
	nv[n++] = nv_of(":authority", 10, "localhost");
	nv[n++] = nv_of(":path", 5, o->path);
	if (c->load->body.n && !has_type(o))
		nv[n++] = nv_of("content-type", 12, "application/json");
	for (unsigned i = 0; i < o->nheaders; i++) {
		const char *colon = strchr(o->headers[i], ':');

		nv[n] = nv_of(o->headers[i], (size_t)(colon - o->headers[i]), colon + 2);
		nv[n++].flags =
			NGHTTP2_NV_FLAG_NO_COPY_VALUE; /* a copied name is made lower case */
	}
	body.source.ptr = st;
	if (nghttp2_submit_request(c->h2, NULL, nv, n, c->load->body.n ? &body : NULL, st) < 0)
		return false;
	c->inflight++;
	c->load->inflight++;
	return true;
}

bool load_h2_flush(struct lane *c)
{
	for (;;) {
		const uint8_t *p;
		ssize_t n = nghttp2_session_mem_send(c->h2, &p);

		if (n < 0)
			return false;
		if (n == 0)
			return lane_flush(c);
		/* Gather: one send for all frames of this turn. */
		if (c->out_n + (size_t)n > c->out_cap) {
			size_t cap = (c->out_n + (size_t)n) * 2;
			char *out = realloc(c->out, cap);

			if (!out)
				return false;
			c->out = out;
			c->out_cap = cap;
		}
		memcpy(c->out + c->out_n, p, (size_t)n);
		c->out_n += (size_t)n;
	}
}

bool load_h2_readable(struct lane *c)
{
	static char in[65536];
	ssize_t n;

	while ((n = lane_receive(c, in, sizeof(in))) > 0) {
		ssize_t used = nghttp2_session_mem_recv(c->h2, (const uint8_t *)in, (size_t)n);

		if (used != n)
			return false;
		if (!c->ssl && (size_t)n < sizeof(in))
			break; /* all that was there; epoll tells of more */
	}
	/* All that were answered are asked again together. */
	if (n < 0 || !load_next(c))
		return false;
	if (!nghttp2_session_want_read(c->h2) && !nghttp2_session_want_write(c->h2))
		return false;
	return load_h2_flush(c);
}
