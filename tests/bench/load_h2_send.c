/* Requests of HTTP/2: header block and body as frames, as fast as the windows let them pass. */
#include "tests/bench/load_h2.h"

#define IDS_END 0x7ffffff0 /* no request after it */

/* A frame's head; what is returned has room for its payload. NULL: no memory. */
static uint8_t *frame(struct lane *c, size_t n, uint8_t type, uint8_t flags, uint32_t id)
{
	uint8_t *p = (uint8_t *)lane_room(c, H2_HEAD + n);

	if (!p)
		return NULL;
	h2_put32(p, (uint32_t)(n << 8) | type);
	p[4] = flags;
	h2_put32(p + 5, id);
	return p + H2_HEAD;
}

bool h2_control(struct lane *c, uint8_t type, uint8_t flags, uint32_t id, const void *payload,
		size_t n)
{
	uint8_t *p = frame(c, n, type, flags, id);

	if (p && n)
		memcpy(p, payload, n);
	return p != NULL;
}

/* As much of the body of @st as the windows let pass. */
static bool send_body(struct lane *c, struct stream *st)
{
	const struct template *t = &c->load->body;
	struct h2 *h = c->h2;

	while (st->sent < t->n) {
		size_t n = t->n - st->sent < H2_FRAME_MAX ? t->n - st->sent : H2_FRAME_MAX;
		int64_t most = st->window < h->window ? st->window : h->window;
		uint8_t *p;

		if (most <= 0)
			return true;
		if ((int64_t)n > most)
			n = (size_t)most;
		p = frame(c, n, NGHTTP2_DATA, st->sent + n == t->n ? NGHTTP2_FLAG_END_STREAM : 0,
			  st->id);
		if (!p)
			return false;
		if (t->width)
			load_number(t->bytes, t, st->number);
		memcpy(p, t->bytes + st->sent, n);
		st->sent += n;
		st->window -= (int64_t)n;
		h->window -= (int64_t)n;
	}
	return true;
}

void h2_stop_waiting(struct h2 *h, struct stream *st)
{
	struct stream **at = &h->waiting;

	while (*at != st)
		at = &(*at)->next;
	*at = st->next;
	st->waits = false;
}

static bool go_on(struct lane *c)
{
	for (struct stream *st = c->h2->waiting, *next; st; st = next) {
		next = st->next;
		if (!send_body(c, st))
			return false;
		if (st->sent == c->load->body.n)
			h2_stop_waiting(c->h2, st);
	}
	return true;
}

bool load_h2_flush(struct lane *c)
{
	return go_on(c) && lane_flush(c);
}

static nghttp2_nv nv_of(struct str name, struct str value)
{
	union {
		const char *in;
		uint8_t *out; /* nghttp2 does not change it */
	} n = { name.p }, v = { value.p };

	return (nghttp2_nv){ n.out, v.out, name.n, value.n, NGHTTP2_NV_FLAG_NONE };
}

/* Each request's, until one leaves the table as it was: its block stays. */
static bool encode(struct lane *c)
{
	const struct options *o = &c->load->o;
	char names[LOAD_HEADERS_MAX][LOAD_NAME_MAX];
	nghttp2_nv nv[5 + LOAD_HEADERS_MAX];
	size_t n = 0;

	nv[n++] = nv_of(STR(":method"), str_c(o->method));
	nv[n++] = nv_of(STR(":scheme"), o->tls ? STR("https") : STR("http"));
	nv[n++] = nv_of(STR(":authority"), STR("localhost"));
	nv[n++] = nv_of(STR(":path"), str_c(o->path));
	if (c->load->body.n && !o->typed)
		nv[n++] = nv_of(STR("content-type"), STR("application/json"));
	for (unsigned i = 0; i < o->nheaders; i++) {
		size_t length = strcspn(o->headers[i], ":");

		for (size_t j = 0; j < length; j++) {
			char b = o->headers[i][j];

			names[i][j] = b >= 'A' && b <= 'Z' ? (char)(b + 'a' - 'A') : b;
		}
		nv[n++] = nv_of((struct str){ names[i], length },
				str_c(o->headers[i] + length + 2));
	}
	return hpack_encode(&c->h2->out, nv, n) && c->h2->out.n <= H2_FRAME_MAX;
}

/* Ids may be left out (RFC 9113, 5.1.1): those whose place is taken by a slower stream are. */
static struct stream *stream_begin(struct lane *c, int64_t start)
{
	struct h2 *h = c->h2;
	struct stream *st;

	do {
		st = &h->streams[(h->next_id >> 1) & h->mask];
		st->id = st->id ?: h->next_id;
		h->next_id += 2;
	} while (st->id != h->next_id - 2);
	if (h->next_id > IDS_END) {
		c->closing = true;
		c->slots = 0;
	}
	st->start = start;
	st->number = c->load->number;
	st->status = 0;
	st->grpc = -1;
	st->n = st->sent = 0;
	st->window = h->initial;
	c->inflight++;
	c->load->inflight++;
	return st;
}

bool load_h2_request(struct lane *c, int64_t start)
{
	size_t body = c->load->body.n;
	struct h2 *h = c->h2;
	struct stream *st = stream_begin(c, start), **last = &h->waiting;

	if ((!h->out.settled && !encode(c)) ||
	    !h2_control(c, NGHTTP2_HEADERS,
			NGHTTP2_FLAG_END_HEADERS | (body ? 0 : NGHTTP2_FLAG_END_STREAM), st->id,
			h->out.block, h->out.n))
		return false;
	if (!h->waiting && !send_body(c, st))
		return false;
	if (st->sent == body)
		return true;
	while (*last)
		last = &(*last)->next;
	*last = st;
	st->next = NULL;
	st->waits = true;
	return true;
}
