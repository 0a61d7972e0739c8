/*
 * Headers go out with the first message, so that an error before it can be one block of trailers
 * ("Trailers-Only"). The end is a second block after the data: read_out asks nghttp2 for it when
 * nothing is left to send.
 */
#include "authz/base/text.h"
#include "authz/net/grpc_inside.h"

#define STALL_CHECK_NS 1000000000 /* how often a slow reader is looked at */

static void break_off(struct exchange *x)
{
	nghttp2_submit_rst_stream(http2_session(x->conn), NGHTTP2_FLAG_NONE, x->h2.id,
				  NGHTTP2_INTERNAL_ERROR);
}

/* grpc-status and, if there is one, grpc-message. */
static size_t ending(struct grpc_call *g, nghttp2_nv out[static 2])
{
	static const char *const digits[] = { "0", "1",	 "2",  "3",  "4",  "5",	 "6",  "7", "8",
					      "9", "10", "11", "12", "13", "14", "15", "16" };
	size_t n = 0;

	out[n++] = http2_header(STR("grpc-status"), str_c(digits[g->status]));
	if (g->message.n)
		out[n++] = http2_header(STR("grpc-message"), g->message);
	return n;
}

static size_t heading(struct exchange *x, nghttp2_nv *out)
{
	size_t n = 0;

	out[n++] = http2_header(STR(":status"), STR("200"));
	out[n++] = http2_header(STR("content-type"), STR(GRPC_TYPE));
	if (x->request_id.n)
		out[n++] = http2_header_once(STR("x-request-id"), x->request_id);
	return n;
}

static void put_prefix(struct grpc_call *g)
{
	size_t n = g->leaving.n;

	g->prefix[0] = 0;
	for (int i = 0; i < 4; i++)
		g->prefix[4 - i] = (uint8_t)(n >> (8 * i));
	g->sent = 0;
	g->busy = true;
}

/* The message that waits becomes the one that leaves. */
static void move_up(struct grpc_call *g)
{
	struct buf done = g->out;

	g->out = g->next;
	g->next = done;
	buf_reset(&g->next);
	g->has_next = false;
	g->leaving = buf_str(&g->out);
	put_prefix(g);
}

/* What waits is counted with the requests: clients together cannot make us hold more. */
bool grpc_charge(struct grpc_call *g)
{
	struct exchange *x = g->x;
	bool further = g->events && g->events->message; /* then the first has a place of its own */
	size_t in = x->h2.body.n + g->waiting.n + (further ? x->call.body.n : 0);

	return exchange_charge(x, x->h2.head_bytes + in + g->out.n + g->next.n);
}

/* Streams carry private keys. */
void grpc_wipe(struct grpc_call *g)
{
	if (g->out.p)
		mem_wipe(g->out.p, g->out.cap);
	if (g->next.p)
		mem_wipe(g->next.p, g->next.cap);
	buf_clear(&g->out);
	buf_clear(&g->next);
}

/* Its headers were submitted without a copy, and have left before any data. */
static void release(struct grpc_call *g)
{
	struct exchange *x = g->x;
	struct call *c = &x->call;
	size_t max = x->h2.body.max;

	g->release = false;
	exchange_let_go(x);
	arena_clear(&x->arena);
	x->request_id = (struct str){ NULL, 0 };
	x->h2.head_bytes = 0;
	c->reply.nheaders = 0;
	buf_in_arena(&x->h2.body, &x->arena, max);
	buf_in_arena(&c->reply.body, &x->arena, 0);
}

static void gone_out(struct grpc_call *g)
{
	g->busy = false;
	if (g->release && !g->over)
		release(g);
	if (g->has_next) {
		move_up(g);
		return;
	}
	grpc_wipe(g);
	(void)grpc_charge(g);
}

static size_t copy(struct grpc_call *g, uint8_t *out, size_t max)
{
	size_t n = 0, some;

	if (g->sent < GRPC_PREFIX) {
		some = GRPC_PREFIX - g->sent < max ? GRPC_PREFIX - g->sent : max;
		memcpy(out, g->prefix + g->sent, some);
		g->sent += some;
		n += some;
	}
	if (n < max && g->sent >= GRPC_PREFIX) {
		struct str rest = str_from(g->leaving, g->sent - GRPC_PREFIX);

		some = rest.n < max - n ? rest.n : max - n;
		if (some)
			memcpy(out + n, rest.p, some);
		g->sent += some;
		n += some;
	}
	return n;
}

static ssize_t read_out(nghttp2_session *session, int32_t id, uint8_t *out, size_t max,
			uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct exchange *x = source->ptr;
	struct grpc_call *g = x->call.grpc;
	nghttp2_nv nv[2];
	size_t n = 0;

	(void)user;
	while (g->busy && n < max) {
		n += copy(g, out + n, max - n);
		if (g->sent == GRPC_PREFIX + g->leaving.n)
			gone_out(g);
	}
	if (n)
		g->moved_ns = loop_now(x->conn->shard->loop);
	if (g->over && !g->busy) {
		*flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
		if (nghttp2_submit_trailer(session, id, nv, ending(g, nv)))
			return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	return n || g->over ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
}

/* Does the client take what is sent to it? */
static void stall(struct loop_timer *t)
{
	struct grpc_call *g = LINK_OF(t, struct grpc_call, stall);
	struct exchange *x = g->x;
	struct loop *l = x->conn->shard->loop;

	if (!g->busy || x->h2.closed)
		return;
	if (loop_now(l) - g->moved_ns < x->conn->shard->server->limits.send_ms * 1000000) {
		loop_timer_set(l, t, loop_now(l) + STALL_CHECK_NS);
		return;
	}
	nghttp2_submit_rst_stream(http2_session(x->conn), NGHTTP2_FLAG_NONE, x->h2.id,
				  NGHTTP2_ENHANCE_YOUR_CALM);
	conn_wake(x->conn);
}

/* Make nghttp2 read on. */
static void resume(struct grpc_call *g)
{
	struct exchange *x = g->x;
	nghttp2_data_provider body = { .source.ptr = x, .read_callback = read_out };
	nghttp2_nv nv[3];

	if (g->opened) {
		(void)nghttp2_session_resume_data(http2_session(x->conn), x->h2.id);
		return;
	}
	g->opened = true;
	if (nghttp2_submit_response(http2_session(x->conn), x->h2.id, nv, heading(x, nv), &body))
		break_off(x);
}

bool grpc_send(struct call *c, struct str message)
{
	struct exchange *x = (struct exchange *)c;
	struct grpc_call *g = c->grpc;
	struct loop *l = x->conn->shard->loop;
	bool behind = g->busy && g->sent > 0;
	struct buf *b = behind ? &g->next : &g->out;

	if (g->over || x->h2.closed)
		return true; /* nobody is there; events->ended is on its way */
	if (!b->alloc.fn)
		buf_init(b, x->conn->shard->server->alloc, x->conn->shard->server->limits.reply);
	buf_reset(b);
	buf_add(b, message);
	if (!buf_ok(b) || !grpc_charge(g))
		return false;
	if (!g->busy)
		g->moved_ns = loop_now(l);
	if (behind) {
		g->has_next = true;
		return true;
	}
	g->leaving = buf_str(b);
	put_prefix(g);
	g->stall.fire = stall;
	if (!g->stall.at_ns)
		loop_timer_set(l, &g->stall, loop_now(l) + STALL_CHECK_NS);
	resume(g);
	conn_wake(x->conn);
	return true;
}

void grpc_forget(struct grpc_call *g)
{
	g->has_next = false;
	if (g->sent == 0)
		g->busy = false;
}

/* One block that says it all. */
static void trailers_only(struct exchange *x)
{
	struct grpc_call *g = x->call.grpc;
	struct reply *r = &x->call.reply;
	nghttp2_nv nv[5 + REPLY_HEADERS_MAX];
	size_t n = heading(x, nv);

	n += ending(g, nv + n);
	for (size_t i = 0; i < r->nheaders; i++)
		nv[n++] = http2_header(r->headers[i].name, r->headers[i].value);
	g->opened = true;
	if (nghttp2_submit_response(http2_session(x->conn), x->h2.id, nv, n, NULL))
		break_off(x);
}

void grpc_answer(struct exchange *x)
{
	struct grpc_call *g = x->call.grpc;
	struct loop *l = x->conn->shard->loop;

	loop_timer_stop(l, &g->wake);
	loop_timer_stop(l, &g->deadline);
	if (g->over)
		return;
	if (!g->events && g->status == GRPC_OK)
		exchange_seal(x); /* may find that it failed */
	g->settled = g->over = true;
	x->h2.answered_ns = loop_now(l);
	if (g->status != GRPC_OK)
		grpc_forget(g); /* what it says is not so any more */
	if (!g->events && g->status == GRPC_OK) {
		g->leaving = buf_str(&x->call.reply.body);
		put_prefix(g);
		resume(g);
	} else if (g->opened) {
		resume(g);
	} else {
		trailers_only(x);
	}
	if (x->call.reply.close)
		http2_drain(x->conn);
}
