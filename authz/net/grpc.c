/*
 * A call is handed on when its message is whole, not when the client has ended its side: one that
 * streams both ways never does. What comes after the first message goes to events->message; where
 * there is none it is an error (two requests in one unary call).
 */
#include "authz/net/grpc.h"

#include <assert.h>
#include <inttypes.h>

#include "authz/base/text.h"
#include "authz/net/grpc_inside.h"

#define NO_ROOM "the requests being served hold all the memory the server allows; try again"

enum grpc_status grpc_status_of(enum err_class class)
{
	static const enum grpc_status table[] = {
		[ERR_NONE] = GRPC_UNKNOWN,
		[ERR_INVALID] = GRPC_INVALID_ARGUMENT,
		[ERR_UNAUTHENTICATED] = GRPC_UNAUTHENTICATED,
		[ERR_FORBIDDEN] = GRPC_PERMISSION_DENIED,
		[ERR_NOT_FOUND] = GRPC_NOT_FOUND,
		[ERR_CONFLICT] = GRPC_FAILED_PRECONDITION,
		[ERR_TOO_LARGE] = GRPC_RESOURCE_EXHAUSTED,
		[ERR_RATE] = GRPC_RESOURCE_EXHAUSTED,
		[ERR_UNAVAILABLE] = GRPC_UNAVAILABLE,
		[ERR_TIMEOUT] = GRPC_DEADLINE_EXCEEDED,
		[ERR_IO] = GRPC_INTERNAL,
		[ERR_NOMEM] = GRPC_INTERNAL,
		[ERR_INTERNAL] = GRPC_INTERNAL,
	};

	return table[class];
}

void grpc_percent(struct buf *b, struct str text)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if (c >= 0x20 && c <= 0x7e && c != '%') {
			buf_char(b, (char)c);
			continue;
		}
		buf_char(b, '%');
		buf_char(b, hex[c >> 4]);
		buf_char(b, hex[c & 15]);
	}
}

bool grpc_timeout_parse(struct str text, int64_t *ns)
{
	static const struct {
		char unit;
		int64_t ns;
	} units[] = {
		{ 'H', 3600000000000 }, { 'M', 60000000000 }, { 'S', 1000000000 },
		{ 'm', 1000000 },	{ 'u', 1000 },	      { 'n', 1 },
	};
	int64_t v = 0;

	if (text.n < 2 || text.n > 9)
		return false;
	for (size_t i = 0; i < text.n - 1; i++) {
		if (text.p[i] < '0' || text.p[i] > '9')
			return false;
		v = v * 10 + (text.p[i] - '0');
	}
	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (units[i].unit == text.p[text.n - 1]) {
			*ns = v > INT64_MAX / 4 / units[i].ns ? INT64_MAX : v * units[i].ns;
			return true;
		}
	return false;
}

static void settle(struct grpc_call *g, enum grpc_status status, struct str message)
{
	struct call *c = &g->x->call;
	struct buf b;

	if (g->settled)
		return;
	g->status = status;
	g->message = (struct str){ NULL, 0 };
	buf_in_arena(&b, c->arena, 4096);
	grpc_percent(&b, message);
	if (buf_ok(&b))
		g->message = buf_str(&b);
	c->reply.status = 200;
	buf_in_arena(&c->reply.body, c->arena, 0);
}

void grpc_fail(struct call *c, enum grpc_status status, const struct err *e)
{
	settle(c->grpc, status, str_c(e->msg));
}

struct buf *grpc_reply(struct call *c, size_t max)
{
	call_reply(c, 200, GRPC_TYPE, max);
	return &c->reply.body;
}

/* ---- what ends a call that is pending ---- */

void grpc_cut(struct grpc_call *g, enum grpc_status status, const char *why)
{
	struct exchange *x = g->x;

	if (g->over || x->h2.closed)
		return;
	settle(g, status, str_c(why));
	g->settled = true;
	x->call.gone = true;
	if (g->events) {
		g->events->ended(&x->call); /* leads to call_finish, and so to grpc_answer */
		return;
	}
	grpc_answer(x); /* whatever the handler finds is not waited for */
	conn_wake(x->conn);
}

/* The client's deadline, or ours to leave. */
static void deadline(struct loop_timer *t)
{
	struct grpc_call *g = LINK_OF(t, struct grpc_call, deadline);
	struct exchange *x = g->x;
	struct err e = { 0 };

	if (g->stopping && g->events) {
		grpc_cut(g, GRPC_UNAVAILABLE, "the server is stopping; connect again");
	} else if (x->handed) {
		grpc_cut(g, GRPC_DEADLINE_EXCEEDED, "the deadline has passed");
	} else if (!x->finished) {
		err_set(&e, ERR_TIMEOUT, "the deadline passed before the request was whole");
		exchange_refuse(x, 408, &e);
		x->finished = true;
		grpc_answer(x);
		conn_wake(x->conn);
	}
}

void grpc_drain(struct exchange *x)
{
	struct grpc_call *g = x->call.grpc;

	if (!g)
		return;
	g->stopping = true;
	if (g->events)
		loop_timer_set(x->conn->shard->loop, &g->deadline, loop_now(x->conn->shard->loop));
}

static void wake(struct loop_timer *t)
{
	struct grpc_call *g = LINK_OF(t, struct grpc_call, wake);

	if (g->events && g->events->wake && !g->over && !g->x->h2.closed)
		g->events->wake(&g->x->call);
}

void grpc_wake_at(struct call *c, int64_t mono_ns)
{
	struct exchange *x = (struct exchange *)c;

	if (mono_ns && !c->grpc->over && !x->h2.closed)
		loop_timer_set(x->conn->shard->loop, &c->grpc->wake, mono_ns);
	else
		loop_timer_stop(x->conn->shard->loop, &c->grpc->wake);
}

void grpc_stream(struct call *c, const struct grpc_events *events)
{
	struct exchange *x = (struct exchange *)c;

	assert(!c->grpc->events && events->ended);
	c->grpc->events = events;
	if (c->grpc->stopping || x->conn->shard->draining)
		grpc_drain(x);
}

void grpc_release_request(struct call *c)
{
	c->grpc->release = true;
}

void grpc_close(struct exchange *x)
{
	struct grpc_call *g = x->call.grpc;
	struct loop *l = x->conn->shard->loop;

	if (!g)
		return;
	loop_timer_stop(l, &g->deadline);
	loop_timer_stop(l, &g->wake);
	loop_timer_stop(l, &g->stall);
	grpc_wipe(g);
	buf_clear(&g->waiting);
	x->call.grpc = NULL;
}

void grpc_gone(struct exchange *x)
{
	struct grpc_call *g = x->call.grpc;
	struct loop *l = x->conn->shard->loop;

	loop_timer_stop(l, &g->deadline);
	loop_timer_stop(l, &g->wake);
	loop_timer_stop(l, &g->stall);
	g->settled = true;
	if (g->events && !g->over)
		g->events->ended(&x->call);
}

/* ---- reading ---- */

static bool is_grpc(struct str type)
{
	return str_starts(type, STR(GRPC_TYPE)) &&
	       (type.n == 16 || type.p[16] == '+' || type.p[16] == ';');
}

static void check_timeout(struct exchange *x)
{
	struct call *c = &x->call;
	struct loop *l = x->conn->shard->loop;
	struct str text = call_header(c, STR("grpc-timeout"));
	int64_t ns = 0;

	if (!text.p)
		return;
	if (call_header_count(c, STR("grpc-timeout")) > 1 || !grpc_timeout_parse(text, &ns))
		http2_spoil(x, 400, ERR_INVALID, "invalid_request",
			    "grpc-timeout must be given once, as 1 to 8 digits and a unit, "
			    "one of H M S m u n");
	else if (ns < INT64_MAX)
		loop_timer_set(l, &c->grpc->deadline, c->started_ns + ns);
}

void grpc_open(struct exchange *x)
{
	struct call *c = &x->call;
	struct str type = call_header(c, STR("content-type")), coding;
	struct grpc_call *g;

	if (!is_grpc(type))
		return;
	if (!str_eq(c->method, STR("POST"))) {
		http2_spoil(x, 405, ERR_INVALID, "method_not_allowed",
			    "a gRPC call is made with POST");
		return;
	}
	if (type.n > 16 && !str_eq(type, STR(GRPC_TYPE "+proto"))) {
		http2_spoil(x, 415, ERR_INVALID, "media_type",
			    "messages must be protobuf: application/grpc or "
			    "application/grpc+proto");
		return;
	}
	if (!x->grpc)
		x->grpc = mem_new(&x->conn->shard->server->alloc, sizeof(*x->grpc));
	g = x->grpc;
	if (!g) {
		http2_spoil(x, 503, ERR_UNAVAILABLE, "unavailable", "no memory for the request");
		return;
	}
	*g = (struct grpc_call){ .x = x };
	g->deadline.fire = deadline;
	g->wake.fire = wake;
	coding = call_header(c, STR("grpc-encoding"));
	g->encoded = coding.n && !str_eq(coding, STR("identity"));
	c->grpc = g;
	if (!str_eq(call_header(c, STR("te")), STR("trailers")))
		http2_spoil(x, 400, ERR_INVALID, "invalid_request",
			    "te: trailers is missing, so something on the way does not speak "
			    "gRPC");
	check_timeout(x);
}

/* Refuse what the client sent, handed on or not. */
static void refuse(struct exchange *x, enum err_class class, enum grpc_status status,
		   const char *why)
{
	const struct handler *h = &x->conn->shard->server->settings.handler;
	struct grpc_call *g = x->call.grpc;
	struct err e = { 0 };

	if (x->handed) {
		grpc_cut(g, status, why);
		return;
	}
	err_set(&e, class, "%s", why);
	exchange_refuse(x, err_status(class), &e);
	if (h->deny && h->deny(h->ctx, &x->call, &e))
		g->status = GRPC_OK;
	else
		grpc_fail(&x->call, status, &e);
	x->finished = true;
	grpc_answer(x);
}

/* The prefix has come: is it one of a message we take? *n is the message's length. */
static bool check_prefix(struct exchange *x, size_t *n)
{
	const uint8_t *p = (const uint8_t *)x->h2.body.p;
	uint32_t length = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];

	*n = length;
	if (p[0] == 1 && x->call.grpc->encoded) {
		call_reply_header(&x->call, STR("grpc-accept-encoding"), STR("identity"));
		refuse(x, ERR_INVALID, GRPC_UNIMPLEMENTED,
		       "compressed messages are not accepted; send grpc-encoding: identity");
	} else if (p[0] != 0) {
		refuse(x, ERR_INVALID, GRPC_INTERNAL,
		       "a message's first byte says that it is compressed, but grpc-encoding does "
		       "not say how");
	} else if (length > x->h2.body.max - GRPC_PREFIX) {
		refuse(x, ERR_TOO_LARGE, GRPC_RESOURCE_EXHAUSTED,
		       "the message is larger than the server accepts");
	} else {
		return true;
	}
	return false;
}

static void hand(struct exchange *x)
{
	struct grpc_call *g = x->call.grpc;
	struct str message = str_from(buf_str(&x->h2.body), GRPC_PREFIX);
	size_t size = x->h2.head_bytes + x->h2.body.cap;
	struct err e;

	if (x->handed && !exchange_proven(x, &e)) {
		grpc_cut(g, GRPC_UNAUTHENTICATED, e.msg);
		http2_drain(x->conn);
		return;
	}
	if (x->handed) {
		g->events->message(&x->call, message);
		if (!g->held)
			buf_reset(&x->h2.body);
		return;
	}
	if (!message.p)
		message.p = "";
	x->call.body = message;
	if (exchange_hand(x))
		http2_answer(x);
	else
		(void)exchange_charge(x, size);
	if (g->events && g->events->message) /* call->body stays; the next goes elsewhere */
		buf_in_arena(&x->h2.body, x->call.scratch, x->h2.body.max);
}

static struct str add(struct buf *b, struct str in, size_t wanted)
{
	size_t n = b->n < wanted ? wanted - b->n : 0;

	if (n > in.n)
		n = in.n;
	buf_add(b, str_first(in, n));
	return str_from(in, n);
}

/* Read messages out of @in; what is left when the call is held. */
static struct str take(struct exchange *x, struct str in)
{
	struct grpc_call *g = x->call.grpc;
	struct buf *b = &x->h2.body;
	size_t n;

	while (in.n && !x->finished && !g->over && !g->held) {
		if (x->handed && !(g->events && g->events->message)) {
			refuse(x, ERR_INVALID, GRPC_INTERNAL,
			       "more than one message came for a method that takes one");
			break;
		}
		in = add(b, in, GRPC_PREFIX);
		if (b->n < GRPC_PREFIX || !check_prefix(x, &n))
			break;
		in = add(b, in, GRPC_PREFIX + n);
		if (!buf_ok(b) || !grpc_charge(g)) {
			refuse(x, ERR_UNAVAILABLE, GRPC_UNAVAILABLE, NO_ROOM);
			break;
		}
		if (b->n < GRPC_PREFIX + n)
			break;
		hand(x);
	}
	return g->held && !x->finished && !g->over ? in : (struct str){ "", 0 };
}

size_t grpc_data(struct exchange *x, struct str in)
{
	struct grpc_call *g = x->call.grpc;

	g->received += in.n;
	if (!g->held) {
		g->taking = true;
		in = take(x, in);
		g->taking = false;
	}
	if (!in.n || x->finished || g->over)
		return 0;
	if (!g->waiting.alloc.fn)
		buf_init(&g->waiting, x->conn->shard->server->alloc, HTTP2_WINDOW);
	buf_add(&g->waiting, in);
	if (buf_ok(&g->waiting) && grpc_charge(g))
		return in.n;
	refuse(x, ERR_UNAVAILABLE, GRPC_UNAVAILABLE, NO_ROOM);
	return 0;
}

void grpc_complete(struct exchange *x)
{
	struct grpc_call *g = x->call.grpc;

	if (x->finished || g->over)
		return;
	g->ended = true;
	if (g->held)
		return;
	if ((x->h2.has_length && x->h2.length != g->received) || !x->handed ||
	    (g->events && g->events->message && x->h2.body.n)) {
		refuse(x, ERR_INVALID, GRPC_INTERNAL,
		       "the request ended before its message was whole");
		return;
	}
	if (g->events && g->events->half_closed)
		g->events->half_closed(&x->call);
}

void grpc_hold(struct call *c)
{
	c->grpc->held = true;
}

void grpc_release(struct call *c)
{
	struct exchange *x = (struct exchange *)c;
	struct grpc_call *g = c->grpc;
	struct str rest;
	size_t n;

	if (!g->held)
		return;
	g->held = false;
	buf_reset(&x->h2.body);
	if (g->taking || g->over || x->h2.closed)
		return;
	n = g->waiting.n;
	g->taking = true;
	rest = take(x, buf_str(&g->waiting));
	g->taking = false;
	if (rest.n)
		memmove(g->waiting.p, rest.p, rest.n);
	g->waiting.n = rest.n;
	http2_consumed(x, n - rest.n);
	if (!rest.n)
		buf_clear(&g->waiting);
	if (g->ended)
		grpc_complete(x);
	conn_wake(x->conn);
}
