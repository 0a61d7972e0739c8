#include "authz/net/conn.h"

static bool may_keep(const struct conn *c, const struct exchange *x)
{
	return x->http1.keep_alive && !x->call.reply.close && !c->shard->draining;
}

/* Write x's reply; x is done with. */
static void answer(struct conn *c, struct exchange *x, bool keep)
{
	exchange_seal(x);
	http1_write(&c->shard->out, &x->call, x->http1.request_id, keep, x->http1.head_only);
	c->current = NULL;
	exchange_free(x);
	if (!keep)
		c->close = true;
	else
		conn_deadline(c, c->shard->server->limits.idle_ms);
}

static void refuse(struct conn *c, struct exchange *x, int status, const struct err *e)
{
	exchange_refuse(x, status, e);
	answer(c, x, false);
	c->linger = true;
}

static void start(struct conn *c)
{
	struct server *s = c->shard->server;
	struct exchange *x = exchange_new(c);

	c->current = x;
	if (!x)
		return;
	http1_begin(&x->http1, &s->http1, x->call.scratch);
	conn_deadline(c, s->limits.request_ms);
}

static void over_memory(struct conn *c, struct exchange *x)
{
	struct err e;

	err_set(&e, ERR_UNAVAILABLE,
		"requests being served hold %zu bytes, the most the server allows; try again",
		c->shard->server->limits.in_flight);
	refuse(c, x, 503, &e);
}

/* The request is whole: hand it over. True: it is answered, go on with the next. */
static bool hand(struct conn *c, struct exchange *x)
{
	const struct http1 *r = &x->http1;

	x->call.method = r->method;
	x->call.target = r->target;
	x->call.path = r->path;
	x->call.query = r->query;
	x->call.headers = r->headers;
	x->call.nheaders = r->nheaders;
	x->call.body = r->body;
	if (!exchange_hand(x)) {
		(void)exchange_charge(x, r->head.n + r->text.n);
		return false;
	}
	answer(c, x, may_keep(c, x));
	return true;
}

void conn_http1(struct conn *c, struct str in, size_t *used)
{
	*used = 0;
	while (*used < in.n && !c->close && c->shard->out.n < OUT_SOFT) {
		struct str rest = str_from(in, *used);
		struct exchange *x;
		struct err e;
		size_t n;

		if (!c->current)
			start(c);
		x = c->current;
		if (!x) {
			c->close = true; /* no memory even to say so */
			return;
		}
		if (x->handed)
			return;
		switch (http1_feed(&x->http1, rest, &n, &e)) {
		case HTTP1_MORE:
			*used += n;
			if (!exchange_charge(x, x->http1.head.n + x->http1.text.n))
				over_memory(c, x);
			break;
		case HTTP1_CONTINUE:
			*used += n;
			if (*used == in.n)
				buf_lit(&c->shard->out, "HTTP/1.1 100 Continue\r\n\r\n");
			break;
		case HTTP1_DONE:
			*used += n;
			if (!hand(c, x))
				return;
			break;
		case HTTP1_REFUSED:
			*used = in.n;
			refuse(c, x, x->http1.status, &e);
			break;
		}
	}
	if (c->close)
		*used = in.n; /* nothing after the last request counts */
	else if (*used < in.n)
		conn_wake(c); /* more replies than fit at once: go on after they are sent */
}

void conn_http1_finish(struct conn *c)
{
	struct exchange *x = c->current;

	if (x && x->finished)
		answer(c, x, may_keep(c, x));
}

bool conn_http1_timeout(struct conn *c)
{
	struct exchange *x = c->current;
	struct err e;

	if (!x)
		return false; /* idle */
	if (x->handed)
		return true; /* the handler has a deadline of its own */
	err_code(&e, ERR_INVALID, "request_timeout",
		 "the request was not complete within %lld ms of its first byte",
		 (long long)c->shard->server->limits.request_ms);
	refuse(c, x, 408, &e);
	return true;
}
