#include "authz/net/server.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "authz/net/conn.h"
#include "authz/net/listen.h"
#include "include/writ/words.h"

#define ACCEPTS 64   /* per listener and turn */
#define RETRY_MS 100 /* after the system ran out of descriptors */

static void set_default(size_t *v, size_t value)
{
	if (*v == 0)
		*v = value;
}

static void set_default_ms(int64_t *v, int64_t value)
{
	if (*v == 0)
		*v = value;
}

static void set_defaults(struct server *s)
{
	struct server_limits *l = &s->limits;

	set_default(&l->connections, 4096);
	set_default(&l->user_connections, l->connections / 4);
	set_default(&l->body, LIMIT_BODY);
	set_default(&l->head, LIMIT_HEADERS);
	set_default(&l->url, LIMIT_URL);
	set_default(&l->headers, 100);
	set_default(&l->in_flight, LIMIT_IN_FLIGHT);
	set_default(&l->streams, 128);
	set_default(&l->reply, 4 * 1024 * 1024);
	set_default_ms(&l->request_ms, LIMIT_REQUEST_MS);
	set_default_ms(&l->idle_ms, 75000);
	set_default_ms(&l->handshake_ms, 5000);
	set_default_ms(&l->send_ms, 10000);
	s->http1 = (struct http1_limits){ l->head, l->url, l->headers, l->body };
}

static void drain_shard(struct task *t);

static bool init_shard(struct shard *sh, struct server *s, struct loop *l)
{
	sh->server = s;
	sh->loop = l;
	sh->drain.run = drain_shard;
	tally_init(&sh->users, &s->alloc);
	http2_mem_init(&sh->http2_mem, &s->alloc, s->limits.connections);
	buf_init(&sh->out, s->alloc, s->limits.reply + 2 * OUT_SOFT);
	sh->read = mem_new(&s->alloc, READ_SIZE);
	return sh->read;
}

struct server *server_new(const struct server_settings *settings, struct loop *const *loops,
			  size_t nloops, struct err *e)
{
	const struct alloc *a = settings->alloc ? settings->alloc : &mem_system;
	struct server *s = mem_zero(a, sizeof(*s));
	bool ok = s;

	if (s) {
		s->settings = *settings;
		s->alloc = *a;
		s->limits = settings->limits;
		set_defaults(s);
		s->shards = mem_zero(a, nloops * sizeof(*s->shards));
		ok = s->shards;
	}
	if (ok)
		s->nshards = nloops;
	for (size_t i = 0; ok && i < nloops; i++)
		ok = init_shard(&s->shards[i], s, loops[i]);
	if (ok)
		return s;
	err_set(e, ERR_NOMEM, "no memory for the agents' door");
	server_free(s);
	return NULL;
}

static void close_door(struct door *d)
{
	if (d->watched)
		loop_unwatch(d->shard->loop, &d->watch);
	loop_timer_stop(d->shard->loop, &d->retry);
	listen_close(d->listener, d->watch.fd);
	d->watch.fd = -1;
	d->watched = false;
}

static void clear_shard(struct shard *sh)
{
	const struct alloc *a = &sh->server->alloc;

	for (struct door *d = sh->doors, *next; d; d = next) {
		next = d->next;
		if (d->watch.fd >= 0)
			close_door(d);
		mem_free(a, d, sizeof(*d));
	}
	while (sh->conns)
		conn_close(sh->conns);
	for (struct conn *c = sh->free_conns, *next; c; c = next) {
		next = c->next;
		mem_free(a, c, sizeof(*c));
	}
	exchange_clear(sh);
	tally_clear(&sh->users);
	http2_mem_clear(&sh->http2_mem);
	buf_clear(&sh->out);
	mem_free(a, sh->read, READ_SIZE);
}

void server_free(struct server *s)
{
	struct alloc a;

	if (!s)
		return;
	a = s->alloc;
	for (size_t i = 0; s->shards && i < s->nshards; i++)
		if (s->shards[i].server)
			clear_shard(&s->shards[i]);
	mem_free(&a, s->shards, s->nshards * sizeof(*s->shards));
	mem_free(&a, s, sizeof(*s));
}

static void try_again(struct loop_timer *t)
{
	struct door *d = LINK_OF(t, struct door, retry);

	d->watched = loop_watch(d->shard->loop, &d->watch, EPOLLIN, NULL);
}

static bool admit(struct server *s, int fd)
{
	if (atomic_load_explicit(&s->connections, memory_order_relaxed) < s->limits.connections) {
		atomic_fetch_add_explicit(&s->accepted, 1, memory_order_relaxed);
		return true;
	}
	atomic_fetch_add_explicit(&s->turned_away, 1, memory_order_relaxed);
	close(fd);
	return false;
}

static void accept_some(struct loop_watch *w, uint32_t events)
{
	struct door *d = LINK_OF(w, struct door, watch);
	struct shard *sh = d->shard;

	(void)events;
	for (int i = 0; i < ACCEPTS; i++) {
		struct sockaddr_storage from = { 0 };
		socklen_t len = sizeof(from);
		int fd = accept4(w->fd, (struct sockaddr *)&from, &len,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0 && errno != EAGAIN) {
			/* Out of descriptors or memory: the socket stays ready; do not spin. */
			loop_unwatch(sh->loop, w);
			d->watched = false;
			loop_timer_set(sh->loop, &d->retry,
				       loop_now(sh->loop) + RETRY_MS * 1000000LL);
		}
		if (fd < 0)
			return;
		if (admit(sh->server, fd))
			conn_open(sh, d->listener, fd, &from);
	}
}

static bool open_door(struct shard *sh, const struct listener *l, unsigned mode, bool share,
		      unsigned *port, struct err *e)
{
	struct door *d = mem_zero(&sh->server->alloc, sizeof(*d));
	int fd;

	if (!d)
		return err_set(e, ERR_NOMEM, "no memory for listener %s", l->name);
	fd = listen_open(l, mode, share, port, e);
	*d = (struct door){ .watch = { fd, accept_some },
			    .retry = { .fire = try_again },
			    .shard = sh,
			    .listener = l,
			    .port = *port };
	if (fd >= 0 && loop_watch(sh->loop, &d->watch, EPOLLIN, e)) {
		d->watched = true;
		d->next = sh->doors;
		sh->doors = d;
		return true;
	}
	listen_close(l, fd);
	mem_free(&sh->server->alloc, d, sizeof(*d));
	return false;
}

bool server_listen(struct server *s, const struct listener *l, unsigned mode, struct err *e)
{
	size_t n = l->unix_socket ? 1 : s->nshards;
	unsigned port = 0;

	if (l->tls && !(l->web ? s->settings.web : s->settings.tls))
		return err_set(e, ERR_INTERNAL, "listener %s wants TLS, which is not set up",
			       l->name);
	/* Sockets that share a port would also share it, in silence, with another server of the
	 * same user: see first that the port is free. */
	if (n > 1) {
		int probe = listen_open(l, mode, false, &port, e);

		if (probe < 0)
			return false;
		listen_close(l, probe);
	}
	for (size_t i = 0; i < n; i++)
		if (!open_door(&s->shards[i], l, mode, n > 1, &port, e))
			return false;
	return true;
}

unsigned server_port(const struct server *s, const struct listener *l)
{
	for (size_t i = 0; i < s->nshards; i++)
		for (const struct door *d = s->shards[i].doors; d; d = d->next)
			if (d->listener == l)
				return d->port;
	return 0;
}

static void drain_shard(struct task *t)
{
	struct shard *sh = LINK_OF(t, struct shard, drain);

	if (sh->draining)
		return;
	sh->draining = true;
	for (struct door *d = sh->doors; d; d = d->next)
		close_door(d);
	for (struct conn *c = sh->conns; c; c = c->next)
		conn_drain(c);
}

void server_drain(struct server *s)
{
	if (atomic_exchange(&s->draining, true))
		return;
	for (size_t i = 0; i < s->nshards; i++) {
		struct chain c;

		chain_init(&c);
		chain_add(&c, &s->shards[i].drain.link);
		queue_push_always(loop_home(s->shards[i].loop)->inbox, &c);
	}
}

size_t server_connections(const struct server *s)
{
	return atomic_load_explicit(&s->connections, memory_order_relaxed);
}

void server_stats(const struct server *s, struct server_stats *out)
{
	uint64_t requests = 0;

	for (size_t i = 0; i < s->nshards; i++)
		requests += atomic_load_explicit(&s->shards[i].requests, memory_order_relaxed);
	*out = (struct server_stats){
		.accepted = atomic_load_explicit(&s->accepted, memory_order_relaxed),
		.turned_away = atomic_load_explicit(&s->turned_away, memory_order_relaxed),
		.requests = requests,
		.refused = atomic_load_explicit(&s->refused, memory_order_relaxed),
		.connections = server_connections(s),
		.in_flight = server_in_flight(s),
	};
}
