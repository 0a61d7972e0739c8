/*
 * HTTP/2: many requests at a time on a connection.
 *
 * The generator shares a core with what it measures, and a general client's session costs more
 * than half a decision. So frames are written and read here (RFC 9113), and only header blocks are
 * nghttp2's, when they are not known already (load_hpack.h). Nothing of an answer is taken on
 * trust: status, body and grpc-status are looked at, and whatever a server may not send makes the
 * connection a broken one. Windows are kept: the server's for bodies, ours by updates of the
 * connection's; a stream's window is as large as the largest answer that is taken.
 */
#include <stdlib.h>

#include "tests/bench/load_h2.h"

#define ANSWER_MAX (1 << 20)
#define WINDOW (1 << 30) /* of the connection; half of it is given back at a time */
#define FIRST_WINDOW 65535
#define READ_MAX 65536

/* @st is over; the server need not have read all of the request. */
static bool end_stream(struct lane *c, struct stream *st)
{
	static const uint8_t no_error[4];
	uint32_t id = st->id;

	st->id = 0;
	c->inflight--;
	c->load->inflight--;
	if (!st->waits)
		return true;
	h2_stop_waiting(c->h2, st);
	return h2_control(c, NGHTTP2_RST_STREAM, 0, id, no_error, sizeof(no_error));
}

static bool broken(struct lane *c, struct stream *st)
{
	c->load->stats.broken++;
	return end_stream(c, st);
}

static bool answered(struct lane *c, struct stream *st, struct str body)
{
	if (st->status < 200 || st->status > 599)
		return broken(c, st);
	load_answered(c, &(struct answer){ .status = st->status,
					   .grpc = st->grpc,
					   .body = body,
					   .latency = c->load->read_at - st->start });
	return end_stream(c, st);
}

static bool append(struct stream *st, struct str p)
{
	size_t cap = 2048;

	while (cap < st->n + p.n)
		cap *= 2;
	if (cap > ANSWER_MAX)
		return false;
	if (cap > st->cap) {
		char *body = realloc(st->body, cap);

		if (!body)
			return false;
		st->body = body;
		st->cap = cap;
	}
	if (p.n)
		memcpy(st->body + st->n, p.p, p.n);
	st->n += p.n;
	return true;
}

/* Frames of streams that are over are let pass, those of streams that never began are not. */
static bool known_id(const struct h2 *h, uint32_t id)
{
	return id & 1 && id < h->next_id;
}

static bool unpad(uint8_t flags, struct str *p)
{
	size_t pad;

	if (!(flags & NGHTTP2_FLAG_PADDED))
		return true;
	pad = p->n ? (uint8_t)p->p[0] : 0;
	if (pad >= p->n)
		return false;
	*p = (struct str){ p->p + 1, p->n - 1 - pad };
	return true;
}

static bool on_data(struct lane *c, uint8_t flags, uint32_t id, struct str p)
{
	struct stream *st = h2_stream(c->h2, id);

	c->h2->eaten += p.n;
	if (!known_id(c->h2, id) || !unpad(flags, &p) || (st && !st->status))
		return false;
	if (!st)
		return true;
	/* Most bodies are one frame, and are looked at where they lie. */
	if (flags & NGHTTP2_FLAG_END_STREAM && !st->n)
		return answered(c, st, p);
	if (!append(st, p))
		return false;
	return !(flags & NGHTTP2_FLAG_END_STREAM) ||
	       answered(c, st, (struct str){ st->body, st->n });
}

static bool on_block(struct lane *c, uint8_t flags, uint32_t id, struct str block)
{
	struct stream *st = h2_stream(c->h2, id);
	struct hpack_head head;

	if (!hpack_decode(&c->h2->in, block, &head))
		return false;
	if (!st)
		return true;
	if (head.status >= 100 && head.status < 200 && !(flags & NGHTTP2_FLAG_END_STREAM))
		return true; /* the answer proper is still to come */
	if (!st->status)
		st->status = head.status;
	else if (!(flags & NGHTTP2_FLAG_END_STREAM))
		return false; /* trailers are the end */
	if (head.grpc >= 0)
		st->grpc = head.grpc;
	if (!st->status)
		return false;
	return !(flags & NGHTTP2_FLAG_END_STREAM) ||
	       answered(c, st, (struct str){ st->body, st->n });
}

static bool on_headers(struct lane *c, uint8_t flags, uint32_t id, struct str p)
{
	struct h2 *h = c->h2;

	if (!known_id(h, id) || !unpad(flags, &p) || (flags & NGHTTP2_FLAG_PRIORITY && p.n < 5))
		return false;
	if (flags & NGHTTP2_FLAG_PRIORITY)
		p = str_from(p, 5);
	if (flags & NGHTTP2_FLAG_END_HEADERS)
		return on_block(c, flags, id, p);
	h->block_id = id;
	h->block_flags = flags;
	h->block_n = p.n;
	if (p.n)
		memcpy(h->block, p.p, p.n);
	return true;
}

static bool on_continuation(struct lane *c, uint8_t flags, uint32_t id, struct str p)
{
	struct h2 *h = c->h2;

	if (!h->block_id || id != h->block_id || p.n > READ_MAX - h->block_n)
		return false;
	if (p.n)
		memcpy(h->block + h->block_n, p.p, p.n);
	h->block_n += p.n;
	if (!(flags & NGHTTP2_FLAG_END_HEADERS))
		return true;
	h->block_id = 0;
	return on_block(c, h->block_flags, id, (struct str){ h->block, h->block_n });
}

static bool on_setting(struct lane *c, unsigned what, uint32_t value)
{
	struct h2 *h = c->h2;

	switch (what) {
	case NGHTTP2_SETTINGS_HEADER_TABLE_SIZE:
		return hpack_out_resize(&h->out, value);
	case NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS:
		if (!c->closing)
			c->slots = value < c->load->o.streams ? value : c->load->o.streams;
		return true;
	case NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE:
		for (struct stream *st = h->waiting; st; st = st->next)
			st->window += (int64_t)value - h->initial;
		h->initial = value;
		return value <= INT32_MAX;
	default: /* larger frames and what else is allowed is not made use of */
		return true;
	}
}

static bool on_settings(struct lane *c, uint8_t flags, struct str p)
{
	if (flags & NGHTTP2_FLAG_ACK)
		return p.n == 0;
	if (p.n % 6)
		return false;
	for (; p.n; p = str_from(p, 6)) {
		const uint8_t *s = (const uint8_t *)p.p;

		if (!on_setting(c, (unsigned)s[0] << 8 | s[1], h2_get32(s + 2)))
			return false;
	}
	c->h2->greeted = true;
	return h2_control(c, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, NULL, 0);
}

static bool on_window_update(struct h2 *h, uint32_t id, struct str p)
{
	struct stream *st = h2_stream(h, id);
	int64_t *window = !id ? &h->window : st ? &st->window : NULL;
	uint32_t more;

	if (p.n != 4 || (id && !known_id(h, id)))
		return false;
	more = h2_get32((const uint8_t *)p.p) & INT32_MAX;
	if (window)
		*window += more;
	return more && (!window || *window <= INT32_MAX);
}

/* What it did not begin with it will not answer; what it did, it will, and then it is over. */
static bool on_goaway(struct lane *c, struct str p)
{
	const uint8_t *g = (const uint8_t *)p.p;
	uint32_t last;

	if (p.n < 8 || h2_get32(g + 4) != NGHTTP2_NO_ERROR)
		return false;
	last = h2_get32(g) & INT32_MAX;
	c->closing = true;
	c->slots = 0;
	for (size_t i = 0; i <= c->h2->mask; i++)
		if (c->h2->streams[i].id > last && !broken(c, &c->h2->streams[i]))
			return false;
	return true;
}

static bool on_reset(struct lane *c, uint32_t id, struct str p)
{
	struct stream *st = h2_stream(c->h2, id);

	if (!known_id(c->h2, id) || p.n != 4)
		return false;
	return !st || broken(c, st);
}

static bool on_frame(struct lane *c, uint8_t type, uint8_t flags, uint32_t id, struct str p)
{
	struct h2 *h = c->h2;

	if ((!h->greeted && type != NGHTTP2_SETTINGS) ||
	    (h->block_id && type != NGHTTP2_CONTINUATION))
		return false;
	switch (type) {
	case NGHTTP2_DATA:
		return on_data(c, flags, id, p);
	case NGHTTP2_HEADERS:
		return on_headers(c, flags, id, p);
	case NGHTTP2_CONTINUATION:
		return on_continuation(c, flags, id, p);
	case NGHTTP2_RST_STREAM:
		return on_reset(c, id, p);
	case NGHTTP2_WINDOW_UPDATE:
		return on_window_update(h, id, p);
	case NGHTTP2_SETTINGS:
		return !id && on_settings(c, flags, p);
	case NGHTTP2_PING:
		return !id && p.n == 8 &&
		       (flags & NGHTTP2_FLAG_ACK ||
			h2_control(c, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, p.p, p.n));
	case NGHTTP2_GOAWAY:
		return !id && on_goaway(c, p);
	case NGHTTP2_PUSH_PROMISE: /* switched off */
		return false;
	default:
		return true;
	}
}

static bool window_update(struct lane *c, size_t n)
{
	uint8_t more[4];

	h2_put32(more, (uint32_t)n);
	return h2_control(c, NGHTTP2_WINDOW_UPDATE, 0, 0, more, sizeof(more));
}

/* All whole frames of @p; the beginning of another is kept. */
static bool take_frames(struct lane *c, const uint8_t *p, size_t n)
{
	struct h2 *h = c->h2;

	while (n >= H2_HEAD) {
		size_t length = h2_get32(p) >> 8;

		if (length > H2_FRAME_MAX)
			return false;
		if (n < H2_HEAD + length)
			break;
		if (!on_frame(c, p[3], p[4], h2_get32(p + 5) & INT32_MAX,
			      (struct str){ (const char *)p + H2_HEAD, length }))
			return false;
		p += H2_HEAD + length;
		n -= H2_HEAD + length;
	}
	h->part_n = n;
	memcpy(h->part, p, n);
	if (h->eaten < WINDOW / 2)
		return true;
	n = h->eaten;
	h->eaten = 0;
	return window_update(c, n);
}

/* As lane_receive. */
static ssize_t receive(struct lane *c)
{
	/* One for all connections: it stays in the cache. */
	static uint8_t in[H2_HEAD + H2_FRAME_MAX + READ_MAX];
	struct h2 *h = c->h2;
	size_t had = h->part_n;
	ssize_t n = lane_receive(c, (char *)in + had, READ_MAX);

	if (n <= 0)
		return n;
	c->load->read_at = load_now();
	memcpy(in, h->part, had);
	return take_frames(c, in, had + (size_t)n) ? n : -1;
}

/* The connection still blocks. What the server allows is known before the first request. */
bool load_h2_open(struct lane *c)
{
	uint8_t settings[] = { 0, NGHTTP2_SETTINGS_ENABLE_PUSH,		0, 0, 0, 0, /* not */
			       0, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0, 0, 0, 0 };
	const struct str preface = STR("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	struct h2 *h = calloc(1, sizeof(*h));
	char *p;

	c->h2 = h;
	if (!h || !hpack_out_open(&h->out) || !hpack_in_open(&h->in))
		return false;
	h->mask = 1;
	while (h->mask < 2 * c->load->o.streams)
		h->mask = h->mask << 1 | 1;
	h->streams = calloc(h->mask + 1, sizeof(*h->streams));
	h->block = malloc(READ_MAX);
	h->next_id = 1;
	h->window = h->initial = FIRST_WINDOW;
	p = lane_room(c, preface.n);
	if (!h->streams || !h->block || !p)
		return false;
	memcpy(p, preface.p, preface.n);
	h2_put32(settings + 8, ANSWER_MAX);
	if (!h2_control(c, NGHTTP2_SETTINGS, 0, 0, settings, sizeof(settings)) ||
	    !window_update(c, WINDOW - FIRST_WINDOW) || !lane_flush(c))
		return false;
	while (!h->greeted)
		if (receive(c) <= 0)
			return false;
	return lane_flush(c);
}

void load_h2_close(struct lane *c)
{
	struct h2 *h = c->h2;

	for (size_t i = 0; h->streams && i <= h->mask; i++)
		free(h->streams[i].body);
	free(h->streams);
	free(h->block);
	hpack_out_close(&h->out);
	hpack_in_close(&h->in);
	free(h);
	c->h2 = NULL;
}

bool load_h2_readable(struct lane *c)
{
	ssize_t n;

	do
		n = receive(c);
	while (n > 0 && (c->ssl || n == READ_MAX)); /* else it was all; epoll tells of more */
	/* All that were answered are asked again together. */
	return n >= 0 && load_next(c) && !(c->closing && !c->inflight) && load_h2_flush(c);
}
