/*
 * Sockets are watched edge-triggered and for input only, so serving a request costs no
 * epoll_ctl: `readable` remembers an edge that was not used up, and EPOLLOUT is asked for only
 * while a reply waits for a slow reader. Nothing is read while an HTTP/1 call is pending or a
 * reply is unsent, so a connection holds at most one read of input.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "authz/net/conn.h"
#include "authz/net/listen.h"

#define READS 4 /* per visit; then others have their turn */
#define EDGES (EPOLLIN | EPOLLRDHUP | EPOLLET)

static void serve(struct conn *c);

static void ready(struct loop_watch *w, uint32_t events)
{
	struct conn *c = LINK_OF(w, struct conn, watch);

	if (events & (EPOLLERR | EPOLLHUP)) {
		conn_close(c);
		return;
	}
	if (events & (EPOLLIN | EPOLLRDHUP))
		c->readable = true;
	if (events & EPOLLRDHUP)
		c->hangup = true;
	if (events & EPOLLOUT && !c->writable) {
		c->writable = true;
		loop_rewatch(c->shard->loop, &c->watch, EDGES);
	}
	serve(c);
}

static void woken(struct loop_later *l)
{
	struct conn *c = LINK_OF(l, struct conn, later);

	if (c->state != CONN_DEAD)
		serve(c);
	else if (c->pending == 0)
		conn_free(c);
}

static void fire(struct loop_timer *t)
{
	struct conn *c = LINK_OF(t, struct conn, timer);

	int64_t left_ms = c->shard->server->limits.send_ms -
			  (loop_now(c->shard->loop) - c->moved_ns) / 1000000;
	bool on = false;

	if (c->unsent.n && left_ms <= 0) {
		conn_close(c); /* the reader has stopped */
		return;
	}
	if (c->state == CONN_HTTP2) {
		on = http2_timeout(c);
	} else if (c->unsent.n) {
		conn_deadline(c, left_ms);
		return;
	} else if (c->state == CONN_HTTP1) {
		on = conn_http1_timeout(c);
	}
	if (on)
		serve(c);
	else
		conn_close(c);
}

void conn_wake(struct conn *c)
{
	loop_put_off(c->shard->loop, &c->later);
}

void conn_deadline(struct conn *c, int64_t ms)
{
	loop_timer_set(c->shard->loop, &c->timer, loop_now(c->shard->loop) + ms * 1000000);
}

static struct conn *take(struct shard *s)
{
	struct conn *c = s->free_conns;

	if (c) {
		s->free_conns = c->next;
		s->nfree_conns--;
		memset(c, 0, sizeof(*c));
		return c;
	}
	return mem_zero(&s->server->alloc, sizeof(*c));
}

/* A door that everybody on the machine may knock at must not be filled by one of them. */
static bool count_user(struct conn *c)
{
	struct shard *s = c->shard;

	c->counted = c->peer.listener->processes &&
		     tally_add(&s->users, c->peer.uid, s->server->limits.user_connections);
	return c->counted || !c->peer.listener->processes;
}

static void discount_user(struct conn *c)
{
	if (c->counted)
		tally_drop(&c->shard->users, c->peer.uid);
	c->counted = false;
}

void conn_open(struct shard *s, const struct listener *l, int fd,
	       const struct sockaddr_storage *from)
{
	struct server *server = s->server;
	struct conn *c = take(s);
	struct err e;

	if (!c) {
		close(fd);
		return;
	}
	c->watch = (struct loop_watch){ fd, ready };
	c->timer.fire = fire;
	c->later.run = woken;
	c->shard = s;
	c->writable = true;
	c->state = l->tls ? CONN_HANDSHAKE : CONN_DETECT;
	buf_init(&c->in, server->alloc, READ_SIZE + sizeof("PRI"));
	buf_init(&c->unsent, server->alloc, server->limits.reply + OUT_SOFT);
	listen_peer(l, fd, from, &c->peer);
	if (l->tls)
		c->tls = tls_session_new(l->web ? server->settings.web : server->settings.tls, fd,
					 &e);
	if ((l->tls && !c->tls) || !count_user(c) || !loop_watch(s->loop, &c->watch, EDGES, &e)) {
		discount_user(c);
		tls_session_free(c->tls);
		close(fd);
		mem_free(&server->alloc, c, sizeof(*c));
		return;
	}
	c->next = s->conns;
	if (s->conns)
		s->conns->prev = c;
	s->conns = c;
	atomic_fetch_add_explicit(&server->connections, 1, memory_order_relaxed);
	conn_deadline(c, server->limits.handshake_ms);
}

void conn_free(struct conn *c)
{
	struct shard *s = c->shard;

	if (c->later.waiting)
		return; /* woken() comes back */
	tls_session_free(c->tls);
	buf_clear(&c->in);
	buf_clear(&c->unsent);
	if (s->nfree_conns >= KEEP_CONNS) {
		mem_free(&s->server->alloc, c, sizeof(*c));
		return;
	}
	c->next = s->free_conns;
	s->free_conns = c;
	s->nfree_conns++;
}

void conn_close(struct conn *c)
{
	struct shard *s = c->shard;

	if (c->state == CONN_DEAD)
		return;
	c->state = CONN_DEAD;
	loop_timer_stop(s->loop, &c->timer);
	loop_unwatch(s->loop, &c->watch);
	if (c->tls)
		tls_goodbye(c->tls);
	close(c->watch.fd);
	if (c->h2)
		http2_close(c);
	if (c->current) {
		c->current->call.gone = true;
		if (!c->current->handed || c->current->finished)
			exchange_free(c->current);
		c->current = NULL;
	}
	if (c->prev)
		c->prev->next = c->next;
	else
		s->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->prev = c->next = NULL;
	discount_user(c);
	atomic_fetch_sub_explicit(&s->server->connections, 1, memory_order_relaxed);
	if (c->pending == 0)
		conn_free(c);
}

/* Put @n bytes of @p on the wire as far as it takes them. False: the connection is broken. */
static bool put(struct conn *c, const char *p, size_t len, size_t *n)
{
	*n = 0;
	while (*n < len && c->writable) {
		size_t some = 0;
		ssize_t rc;

		if (c->tls) {
			enum tls_result r = tls_write(c->tls, p + *n, len - *n, &some);

			if (r == TLS_CLOSED || r == TLS_FAILED)
				return false;
			c->writable = r == TLS_OK;
		} else {
			rc = send(c->watch.fd, p + *n, len - *n, MSG_NOSIGNAL);
			if (rc < 0 && errno == EINTR)
				continue;
			if (rc < 0 && errno != EAGAIN)
				return false;
			c->writable = rc >= 0;
			some = rc > 0 ? (size_t)rc : 0;
		}
		*n += some;
	}
	if (!c->writable)
		loop_rewatch(c->shard->loop, &c->watch, EDGES | EPOLLOUT);
	return true;
}

/* Send what waits, then what was built in shard->out. */
static bool flush(struct conn *c)
{
	struct buf *out = &c->shard->out;
	bool waited = c->unsent.n > 0;
	size_t n;

	if (!buf_ok(out))
		return false;
	if (waited) {
		if (!put(c, c->unsent.p + c->unsent_at, c->unsent.n - c->unsent_at, &n))
			return false;
		c->unsent_at += n;
		if (n)
			c->moved_ns = loop_now(c->shard->loop);
		if (c->unsent_at == c->unsent.n) {
			buf_clear(&c->unsent);
			c->unsent_at = 0;
			conn_deadline(c, c->shard->server->limits.idle_ms);
		}
	}
	n = 0;
	if (out->n && !c->unsent.n && !put(c, out->p, out->n, &n))
		return false;
	if (n < out->n) {
		buf_add(&c->unsent, str_from(buf_str(out), n));
		if (!waited) {
			c->moved_ns = loop_now(c->shard->loop);
			conn_deadline(c, c->shard->server->limits.send_ms);
		}
	}
	buf_reset(out);
	return buf_ok(&c->unsent);
}

/* One read into shard->read. False: broken. *n == 0: nothing now (or ever: c->eof). */
static bool take_input(struct conn *c, size_t *n)
{
	ssize_t rc;

	*n = 0;
	if (c->tls) {
		enum tls_result r = tls_read(c->tls, c->shard->read, READ_SIZE, n);

		c->readable = r == TLS_OK;
		c->eof = c->eof || r == TLS_CLOSED;
		return r != TLS_FAILED && r != TLS_WRITE; /* nothing of ours makes it write */
	}
	do {
		rc = recv(c->watch.fd, c->shard->read, READ_SIZE, 0);
	} while (rc < 0 && errno == EINTR);
	if (rc < 0) {
		c->readable = false;
		return errno == EAGAIN;
	}
	/* A short read has emptied the socket; the next byte makes a new edge. An end of file
	 * that came with it has set EPOLLRDHUP, and then we look once more. */
	c->readable = rc == READ_SIZE || (rc > 0 && c->hangup);
	c->eof = rc == 0;
	*n = (size_t)rc;
	return true;
}

static const struct str preface = STR_INIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/* Which protocol does a plain connection speak? Undecided: *used is 0. */
static bool detect(struct conn *c, struct str in)
{
	if (str_eq(str_first(in, 4), str_first(preface, in.n < 4 ? in.n : 4))) {
		if (in.n < 4)
			return true;
		c->state = CONN_HTTP2;
		return http2_open(c);
	}
	if (c->peer.listener->processes)
		return false;
	c->state = CONN_HTTP1;
	return true;
}

/* Use @in; *used of it is done with. False: cut the connection. */
static bool understand(struct conn *c, struct str in, size_t *used)
{
	*used = 0;
	if (c->state == CONN_DETECT && !detect(c, in))
		return false;
	switch (c->state) {
	case CONN_HTTP1:
		conn_http1(c, in, used);
		return true;
	case CONN_HTTP2:
		*used = in.n;
		return http2_read(c, in);
	case CONN_LINGER:
		*used = in.n;
		return true;
	default:
		return true;
	}
}

static bool can_read(const struct conn *c)
{
	if (loop_stopped(c->shard->loop))
		return false; /* what still comes back is answered, nothing new is begun */
	if (c->state == CONN_HTTP1)
		return !c->close && !c->unsent.n && !(c->current && c->current->handed);
	return true;
}

/* First what was kept, then what the socket has. */
static bool read_some(struct conn *c)
{
	size_t used, n;

	if (c->in.n && can_read(c)) {
		if (!understand(c, buf_str(&c->in), &used))
			return false;
		buf_drop(&c->in, used);
		if (!c->in.n)
			buf_clear(&c->in);
	}
	for (int i = 0; i < READS && c->readable && can_read(c); i++) {
		struct str in;

		if (c->in.n && c->state != CONN_DETECT)
			break; /* what was kept comes first */
		if (!take_input(c, &n))
			return false;
		if (!n)
			break;
		in = (struct str){ c->shard->read, n };
		if (c->in.n) { /* up to 3 bytes of an unknown protocol */
			buf_add(&c->in, in);
			in = buf_str(&c->in);
		}
		if (!buf_ok(&c->in) || !understand(c, in, &used))
			return false;
		if (in.p == c->in.p)
			buf_drop(&c->in, used);
		else
			buf_add(&c->in, str_from(in, used));
	}
	if (c->readable && can_read(c))
		conn_wake(c);
	return true;
}

static bool handshake(struct conn *c)
{
	const struct tls_identity *id;
	struct err e = { 0 };

	switch (tls_handshake(c->tls, &e)) {
	case TLS_OK:
		break;
	case TLS_WRITE:
		c->writable = false;
		loop_rewatch(c->shard->loop, &c->watch, EDGES | EPOLLOUT);
		return true;
	case TLS_READ:
		return true;
	case TLS_FAILED:
		if (e.class && c->shard->server->settings.handler.refused)
			c->shard->server->settings.handler.refused(
				c->shard->server->settings.handler.ctx, c->peer.listener, &e);
		return false;
	default:
		return false;
	}
	id = tls_identity_of(c->tls);
	if (id) {
		c->peer.spiffe_id = str_c(id->spiffe_id);
		c->peer.expires_ms = id->expires_ms;
		c->peer.generation = id->generation;
		c->peer.chain = tls_chain_of(c->tls);
	}
	c->readable = true; /* the first request may have come with the handshake */
	c->state = CONN_HTTP1;
	if (tls_is_http2(c->tls)) {
		c->state = CONN_HTTP2;
		return http2_open(c);
	}
	conn_deadline(c, c->shard->server->limits.idle_ms);
	return true;
}

/* All replies are on their way and no more will come: close, or wait for the client to. */
static void part(struct conn *c)
{
	if ((!c->linger && !c->readable) || c->eof) {
		conn_close(c);
		return;
	}
	/* Closing with unread input would send a reset, which may overtake our answer. */
	if (c->tls)
		tls_goodbye(c->tls);
	shutdown(c->watch.fd, SHUT_WR);
	c->state = CONN_LINGER;
	conn_deadline(c, c->shard->draining ? GRACE_MS : LINGER_MS);
	conn_wake(c);
}

/* Nothing is being read, served or sent. */
static bool idle(const struct conn *c)
{
	if (c->state == CONN_HTTP2)
		return http2_over(c);
	return !c->current || (c->eof && !c->current->handed);
}

static void serve(struct conn *c)
{
	struct buf *out = &c->shard->out;

	if (c->state == CONN_HANDSHAKE && !handshake(c)) {
		conn_close(c);
		return;
	}
	if (c->state == CONN_HANDSHAKE)
		return;
	if (c->state == CONN_HTTP1)
		conn_http1_finish(c);
	if (!read_some(c)) {
		buf_reset(out);
		conn_close(c);
		return;
	}
	if ((c->state == CONN_HTTP2 && !http2_write(c)) || !flush(c)) {
		buf_reset(out);
		conn_close(c);
		return;
	}
	if (out->cap > 4 * OUT_SOFT)
		buf_clear(out);
	if (c->unsent.n)
		return;
	if (c->state == CONN_LINGER ? c->eof : ((c->close || c->eof) && idle(c))) {
		if (c->state == CONN_LINGER)
			conn_close(c);
		else
			part(c);
		return;
	}
	if (c->state == CONN_HTTP2 && http2_over(c))
		conn_close(c);
	else if (c->state == CONN_HTTP2 && http2_has_more(c))
		conn_wake(c); /* all is sent, and there was more than fits at once */
}

void conn_drain(struct conn *c)
{
	if (c->state == CONN_HTTP2)
		http2_drain(c);
	else if (c->state != CONN_LINGER && !c->current)
		c->close = true;
	/* Whoever is served is waited for; a client that is slow to ask holds up no stop. */
	if (c->state == CONN_HANDSHAKE || c->state == CONN_LINGER ||
	    (c->current && !c->current->handed))
		conn_deadline(c, GRACE_MS);
	conn_wake(c);
}
