#include <assert.h>

#include "authz/net/grpc_inside.h"

/* Room for what a handler makes of a request; the request itself is bounded more tightly. */
#define ARENA_FACTOR 16

static void finish(struct call *c)
{
	struct exchange *x = (struct exchange *)c;
	struct conn *conn = x->conn;

	assert(x->handed && !x->finished);
	x->finished = true;
	conn->pending--;
	if (x->handing)
		return; /* exchange_hand looks when the handler returns */
	if (conn->state == CONN_DEAD || x->h2.closed) {
		exchange_free(x);
		if (conn->state == CONN_DEAD && conn->pending == 0)
			conn_free(conn);
		return;
	}
	if (conn->h2)
		http2_answer(x);
	conn_wake(conn);
}

static size_t arena_bound(const struct shard *s)
{
	return s->server->limits.body * ARENA_FACTOR + 1024 * 1024;
}

static struct exchange *take(struct shard *s)
{
	struct exchange *x = s->free_exchanges;

	if (x) {
		s->free_exchanges = x->next;
		s->nfree_exchanges--;
		return x;
	}
	x = mem_zero(&s->server->alloc, sizeof(*x));
	if (x)
		arena_init(&x->arena, &s->server->alloc, arena_bound(s));
	return x;
}

static void destroy(struct exchange *x, const struct alloc *a)
{
	mem_free(a, x->grpc, sizeof(*x->grpc));
	arena_clear(&x->arena);
	mem_free(a, x, sizeof(*x));
}

static void give(struct shard *s, struct exchange *x)
{
	if (s->nfree_exchanges >= KEEP_EXCHANGES) {
		destroy(x, &s->server->alloc);
		return;
	}
	x->next = s->free_exchanges;
	s->free_exchanges = x;
	s->nfree_exchanges++;
}

/* The one that was given back last: the processor still has it at hand. */
static struct room *take_room(struct shard *s)
{
	struct room *r = s->free_rooms;

	if (r) {
		s->free_rooms = r->next;
		s->nfree_rooms--;
		return r;
	}
	r = mem_zero(&s->server->alloc, sizeof(*r));
	if (r)
		arena_init(&r->arena, &s->server->alloc, arena_bound(s));
	return r;
}

static void destroy_room(struct room *r, const struct alloc *a)
{
	arena_clear(&r->arena);
	mem_free(a, r, sizeof(*r));
}

static void give_room(struct shard *s, struct room *r)
{
	arena_reset(&r->arena);
	if (s->nfree_rooms + 1 > KEEP_ROOMS) {
		destroy_room(r, &s->server->alloc);
		return;
	}
	r->next = s->free_rooms;
	s->free_rooms = r;
	s->nfree_rooms++;
}

void exchange_clear(struct shard *s)
{
	const struct alloc *a = &s->server->alloc;

	for (struct exchange *x = s->free_exchanges, *next; x; x = next) {
		next = x->next;
		destroy(x, a);
	}
	for (struct room *r = s->free_rooms, *next; r; r = next) {
		next = r->next;
		destroy_room(r, a);
	}
	s->free_exchanges = NULL;
	s->free_rooms = NULL;
	s->nfree_exchanges = s->nfree_rooms = 0;
}

struct exchange *exchange_new(struct conn *c)
{
	struct shard *s = c->shard;
	struct exchange *x = take(s);

	if (!x)
		return NULL;
	x->room = take_room(s);
	if (!x->room) {
		give(s, x);
		return NULL;
	}
	memset(&x->call, 0, offsetof(struct call, reply.headers)); /* what counts of them is set */
	x->call.arena = &x->arena;
	x->call.scratch = &x->room->arena;
	x->call.home = loop_home(s->loop);
	x->call.peer = &c->peer;
	x->call.started_ns = loop_now(s->loop);
	x->call.finish = finish;
	x->conn = c;
	x->prev = x->next = NULL;
	x->request_id = (struct str){ NULL, 0 };
	x->charged = 0;
	x->handed = x->handing = x->finished = x->head_only = false;
	x->h2.closed = false;
	return x;
}

void exchange_free(struct exchange *x)
{
	struct shard *s = x->conn->shard;
	const struct reply *r = &x->call.reply;

	if (r->more && r->done)
		r->done(&x->call); /* a long reply that nobody waits for any more */
	grpc_close(x);
	(void)exchange_charge(x, 0);
	arena_reset(&x->arena);
	if (x->room)
		give_room(s, x->room);
	x->room = NULL;
	give(s, x);
}

/* What the reply will show of the request. */
static struct str kept(struct exchange *x, struct str s)
{
	return s.n ? arena_dup(&x->arena, s) : (struct str){ NULL, 0 };
}

void exchange_let_go(struct exchange *x)
{
	struct call *c = &x->call;

	if (!x->room)
		return;
	x->request_id = kept(x, x->request_id);
	x->http1.request_id = kept(x, x->http1.request_id);
	give_room(x->conn->shard, x->room);
	x->room = NULL;
	c->scratch = c->arena;
	c->method = c->target = c->path = c->query = c->body = (struct str){ NULL, 0 };
	c->headers = x->h2.all = NULL;
	c->nheaders = x->h2.headers_cap = 0;
	x->h2.authority = (struct str){ NULL, 0 };
	if (x->conn->h2) /* for what a stream sends later */
		buf_in_arena(&x->h2.body, &x->arena, x->h2.body.max);
}

size_t server_in_flight(const struct server *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->nshards; i++)
		n += atomic_load_explicit(&s->shards[i].in_flight, memory_order_relaxed);
	return n;
}

/* Each shard counts its own, without locked instructions; others only look. Two that look at the
 * same time may both take the last place: the limit is on memory, and is passed by one request. */
bool exchange_charge(struct exchange *x, size_t bytes)
{
	struct shard *s = x->conn->shard;
	size_t own;

	if (bytes == x->charged)
		return true;
	if (bytes > x->charged &&
	    server_in_flight(s->server) + (bytes - x->charged) > s->server->limits.in_flight)
		return false;
	own = atomic_load_explicit(&s->in_flight, memory_order_relaxed);
	atomic_store_explicit(&s->in_flight, own - x->charged + bytes, memory_order_relaxed);
	x->charged = bytes;
	return true;
}

void exchange_refuse(struct exchange *x, int status, const struct err *e)
{
	struct server *s = x->conn->shard->server;

	atomic_fetch_add_explicit(&s->refused, 1, memory_order_relaxed);
	if (s->settings.handler.refused)
		s->settings.handler.refused(s->settings.handler.ctx, x->conn->peer.listener, e);
	call_fail_as(&x->call, status, e);
}

bool exchange_proven(struct exchange *x, struct err *e)
{
	struct conn *c = x->conn;
	const struct tls_verifier *v = c->peer.chain
					       ? tls_verifier_of(c->shard->server->settings.tls)
					       : NULL;

	return !v || !v->still_valid || v->still_valid(v->ctx, &c->peer, e);
}

bool exchange_hand(struct exchange *x)
{
	struct conn *c = x->conn;
	struct server *s = c->shard->server;
	struct err e;

	if (!exchange_proven(x, &e)) {
		call_challenge(&x->call);
		exchange_refuse(x, 401, &e);
		x->call.reply.close = true;
		x->finished = true;
		return true;
	}
	atomic_store_explicit(&c->shard->requests,
			      atomic_load_explicit(&c->shard->requests, memory_order_relaxed) + 1,
			      memory_order_relaxed);
	x->handed = true;
	c->pending++;
	x->handing = true;
	s->settings.handler.handle(s->settings.handler.ctx, &x->call);
	x->handing = false;
	if (x->call.let_go && !x->finished)
		exchange_let_go(x);
	return x->finished;
}

/* A handler that streams: at this door replies are small, so the pieces are gathered. */
static bool gather(struct exchange *x, struct err *e)
{
	struct reply *r = &x->call.reply;
	bool more = true;

	*e = (struct err){ 0 };
	while (more && !e->class && buf_ok(&r->body))
		more = r->more(&x->call, &r->body, e);
	return !e->class;
}

void exchange_seal(struct exchange *x)
{
	struct reply *r = &x->call.reply;
	struct err e;

	if (r->more) {
		bool ok = gather(x, &e);

		r->more = NULL;
		if (r->done)
			r->done(&x->call);
		r->done = NULL;
		if (!ok)
			call_fail(&x->call, &e);
	}
	if (!buf_ok(&r->body)) {
		err_set(&e, ERR_NOMEM, "the answer does not fit into the memory of one request");
		call_fail(&x->call, &e);
	}
	if (r->status < 200 || r->status > 599) {
		err_set(&e, ERR_INTERNAL, "the server found no answer");
		call_fail(&x->call, &e);
	}
}
