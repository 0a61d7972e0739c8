#include "authz/net/operators.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "authz/base/background.h"
#include "authz/net/listen.h"
#include "authz/net/operators_inside.h"
#include "include/writ/words.h"

#define PAUSE_MS 10    /* between pieces of a stream, when others want the processors */
#define FINISH_MS 5000 /* operators_stop waits so long for pending calls */
#define SEND_MS 2000   /* and then for their replies to leave */

static void cut_all(struct task *t);

static void set_defaults(struct operators_limits *l)
{
	l->connections = l->connections ? l->connections : 256;
	l->body = l->body ? l->body : LIMIT_BODY;
	l->in_flight = l->in_flight ? l->in_flight : LIMIT_IN_FLIGHT;
	l->url = l->url ? l->url : LIMIT_URL;
	l->headers = l->headers ? l->headers : 100;
	l->idle_s = l->idle_s ? l->idle_s : 60;
}

struct operators *operators_new(const struct operators_settings *s, struct err *e)
{
	const struct alloc *a = s->alloc ? s->alloc : &mem_system;
	struct operators *o = mem_zero(a, sizeof(*o));

	if (!o) {
		err_set(e, ERR_NOMEM, "no memory for the operators' door");
		return NULL;
	}
	o->settings = *s;
	o->alloc = *a;
	o->limits = s->limits;
	set_defaults(&o->limits);
	o->cut.run = cut_all;
	o->home.inbox = queue_new(SIZE_MAX, false, e);
	o->handlers = (struct opthread){ .inbox = o->home.inbox };
	if (o->home.inbox)
		o->streams.inbox = queue_new(SIZE_MAX, false, e);
	if (o->streams.inbox)
		return o;
	queue_free(o->home.inbox);
	mem_free(a, o, sizeof(*o));
	return NULL;
}

struct home *operators_home(struct operators *o)
{
	return &o->home;
}

bool operators_listen(struct operators *o, const struct listener *l, unsigned mode, struct err *e)
{
	struct opdoor *d = mem_zero(&o->alloc, sizeof(*d));

	if (!d)
		return err_set(e, ERR_NOMEM, "no memory for listener %s", l->name);
	d->o = o;
	d->listener = l;
	d->fd = listen_open(l, mode, false, &d->port, e);
	if (d->fd < 0) {
		mem_free(&o->alloc, d, sizeof(*d));
		return false;
	}
	d->next = o->doors;
	o->doors = d;
	return true;
}

unsigned operators_port(const struct operators *o, const struct listener *l)
{
	for (const struct opdoor *d = o->doors; d; d = d->next)
		if (d->listener == l)
			return d->port;
	return 0;
}

static void push(struct queue *q, struct task *t)
{
	struct chain c;

	chain_init(&c);
	chain_add(&c, &t->link);
	queue_push_always(q, &c);
}

void operators_push(struct operators *o, struct task *t)
{
	push(o->home.inbox, t);
}

void operators_push_piece(struct operators *o, struct task *t)
{
	push(o->streams.inbox, t);
}

/* ---- the home thread ---- */

static void take(struct opcall *x)
{
	struct operators *o = x->door->o;

	x->prev = NULL;
	x->next = o->first;
	if (o->first)
		o->first->prev = x;
	o->first = x;
}

static void resume(struct opcall *x)
{
	x->state = OP_BACK;
	MHD_resume_connection(x->connection);
}

static void give_back(struct opcall *x)
{
	struct operators *o = x->door->o;

	if (x->prev)
		x->prev->next = x->next;
	else
		o->first = x->next;
	if (x->next)
		x->next->prev = x->prev;
	x->prev = x->next = NULL;
	resume(x);
}

static void finish(struct call *c)
{
	struct opcall *x = (struct opcall *)c;

	assert(x->handed && !x->finished);
	x->finished = true;
	if (x->orphan)
		opcall_free(x);
	else
		give_back(x);
}

void operators_handle(struct task *t)
{
	struct opcall *x = LINK_OF(t, struct opcall, task);
	struct operators *o = x->door->o;
	const struct tls_verifier *v = &o->settings.verifier;
	struct peer *peer = &x->client->peer;
	struct err e = { 0 };

	take(x);
	if (peer->chain && v->still_valid && !v->still_valid(v->ctx, peer, &e)) {
		if (o->settings.handler.refused)
			o->settings.handler.refused(o->settings.handler.ctx, x->door->listener, &e);
		call_challenge(&x->call);
		call_fail_as(&x->call, 401, &e);
		x->call.reply.close = true;
		x->finished = true;
		give_back(x);
		return;
	}
	x->peer = *peer;
	x->peer.chain = NULL;
	x->peer.spiffe_id = arena_dup(&x->arena, peer->spiffe_id);
	x->call.peer = &x->peer;
	x->call.finish = finish;
	x->handed = true;
	o->settings.handler.handle(o->settings.handler.ctx, &x->call);
}

void operators_over(struct task *t)
{
	struct opcall *x = LINK_OF(t, struct opcall, task);

	if (x->call.reply.done)
		x->call.reply.done(&x->call);
	opcall_free(x);
}

/* Handlers that have not finished lose their connections; their calls wait for call_finish. */
static void cut_all(struct task *t)
{
	struct operators *o = LINK_OF(t, struct operators, cut);

	while (o->first) {
		o->first->orphan = o->first->handed && !o->first->finished;
		o->first->call.gone = true;
		give_back(o->first);
	}
}

/* Threads of libmicrohttpd's, too, which it starts without asking. */
static void stand_back(void)
{
	static _Thread_local bool done;

	if (!done)
		background_thread();
	done = true;
}

/* ---- the thread of streams ---- */

/* How often this thread had to leave a processor to another. */
static long displaced(void)
{
	struct rusage u;

	return getrusage(RUSAGE_THREAD, &u) == 0 ? u.ru_nivcsw : 0;
}

/* To stand back is not enough: whatever is left over would be taken, and what sends and receives a
 * piece does not. So as long as others are at work, few pieces are made. */
static void give_way(long before)
{
	const struct timespec pause = { 0, PAUSE_MS * 1000000l };

	if (displaced() != before)
		nanosleep(&pause, NULL);
}

void operators_piece(struct task *t)
{
	struct opcall *x = LINK_OF(t, struct opcall, task);
	long before = displaced();
	struct err e = { 0 };

	buf_reset(&x->piece);
	x->piece_at = 0;
	if (!atomic_load(&x->door->o->cutting))
		x->last = !x->call.reply.more(&x->call, &x->piece, &e);
	else
		x->broken = true;
	if (e.class || !buf_ok(&x->piece))
		x->broken = true;
	resume(x);
	give_way(before);
}

/* ---- threads ---- */

static void end_thread(struct task *t)
{
	LINK_OF(t, struct opthread, end)->ended = true;
}

static void *run_thread(void *arg)
{
	struct opthread *h = arg;

	stand_back();
	while (!h->ended) {
		struct chain c;

		if (queue_wait(h->inbox, &c, -1))
			tasks_run(&c);
	}
	return NULL;
}

static bool start_thread(struct opthread *h, struct err *e)
{
	int rc = pthread_create(&h->thread, NULL, run_thread, h);

	if (rc != 0)
		return err_set(e, ERR_IO, "cannot start a thread of the operators' door: %s",
			       strerror(rc));
	h->started = true;
	return true;
}

static void stop_thread(struct opthread *h)
{
	if (!h->started)
		return;
	h->end.run = end_thread;
	push(h->inbox, &h->end);
	pthread_join(h->thread, NULL);
}

void opcall_free(struct opcall *x)
{
	struct operators *o = x->door->o;

	atomic_fetch_sub(&o->in_flight, x->body.n);
	buf_clear(&x->piece);
	arena_clear(&x->arena);
	mem_free(&o->alloc, x, sizeof(*x));
}

/* ---- start and stop ---- */

static void complain(void *cls, const char *fmt, va_list ap) PRINTF(2, 0);

static void complain(void *cls, const char *fmt, va_list ap)
{
	struct operators *o = cls;
	char line[400];

	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	if (o->settings.complain)
		o->settings.complain(o->settings.complain_ctx, line);
}

static void begin_client(struct opdoor *d, struct MHD_Connection *connection, void **socket_cls)
{
	struct opclient *c = mem_zero(&d->o->alloc, sizeof(*c));
	const union MHD_ConnectionInfo *fd, *addr, *tls;
	struct sockaddr_storage from = { 0 };

	*socket_cls = c; /* without it the first request is refused */
	if (!c)
		return;
	c->o = d->o;
	fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	addr = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	if (addr && addr->client_addr && !d->listener->unix_socket)
		memcpy(&from, addr->client_addr,
		       addr->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
								: sizeof(struct sockaddr_in));
	listen_peer(d->listener, fd ? fd->connect_fd : -1, &from, &c->peer);
	if (!d->listener->tls)
		return;
	tls = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
	if (tls)
		operators_tls_begin(c, tls->tls_session);
}

static void notify_connection(void *cls, struct MHD_Connection *connection, void **socket_cls,
			      enum MHD_ConnectionNotificationCode code)
{
	struct opdoor *d = cls;
	struct opclient *c = *socket_cls;

	stand_back();
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		begin_client(d, connection, socket_cls);
	} else if (c) {
		free(c->identity);
		sk_X509_pop_free(c->chain, X509_free);
		mem_free(&d->o->alloc, c, sizeof(*c));
		*socket_cls = NULL;
	}
}

static bool start_daemon(struct opdoor *d, struct err *e)
{
	struct operators *o = d->o;
	unsigned flags = MHD_USE_POLL | MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME |
			 MHD_USE_ITC | MHD_USE_ERROR_LOG | (d->listener->tls ? MHD_USE_TLS : 0);

	d->daemon = MHD_start_daemon(
		flags, 0, NULL, NULL, operators_access, d, MHD_OPTION_EXTERNAL_LOGGER, complain, o,
		MHD_OPTION_LISTEN_SOCKET, d->fd, MHD_OPTION_CONNECTION_LIMIT, o->limits.connections,
		MHD_OPTION_CONNECTION_TIMEOUT, o->limits.idle_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)OPERATORS_HEAD, MHD_OPTION_STRICT_FOR_CLIENT, 1,
		MHD_OPTION_URI_LOG_CALLBACK, operators_uri, d, MHD_OPTION_NOTIFY_COMPLETED,
		operators_completed, d, MHD_OPTION_NOTIFY_CONNECTION, notify_connection, d,
		/* For a plain listener the list ends here. */
		d->listener->tls ? MHD_OPTION_HTTPS_CERT_CALLBACK2 : MHD_OPTION_END,
		operators_tls_certificate, MHD_OPTION_END);
	if (!d->daemon)
		return err_set(e, ERR_IO, "listener %s: cannot start serving %s", d->listener->name,
			       d->listener->address);
	return true;
}

bool operators_start(struct operators *o, struct err *e)
{
	if (!start_thread(&o->handlers, e) || !start_thread(&o->streams, e))
		return false;
	for (struct opdoor *d = o->doors; d; d = d->next)
		if (!start_daemon(d, e))
			return false;
	return true;
}

/* Until no request is being served, or @ms have passed. */
static bool wait_idle(struct operators *o, int ms)
{
	const struct timespec step = { 0, 10 * 1000000 };

	for (int i = 0; i < ms / 10 && atomic_load(&o->active) > 0; i++)
		nanosleep(&step, NULL);
	return atomic_load(&o->active) == 0;
}

void operators_stop(struct operators *o)
{
	if (o->stopped)
		return;
	o->stopped = true;
	atomic_store(&o->draining, true);
	for (struct opdoor *d = o->doors; d; d = d->next) {
		if (d->daemon)
			(void)MHD_quiesce_daemon(d->daemon);
		listen_close(d->listener, d->fd);
		d->fd = -1;
	}
	/* libmicrohttpd aborts if a suspended connection is left, so home gives all of them back,
	 * and streams each as its piece is made. */
	if (o->handlers.started && !wait_idle(o, FINISH_MS)) {
		atomic_store(&o->cutting, true);
		operators_push(o, &o->cut);
		(void)wait_idle(o, SEND_MS);
	}
	for (struct opdoor *d = o->doors; d; d = d->next) {
		if (d->daemon)
			MHD_stop_daemon(d->daemon);
		d->daemon = NULL;
	}
	stop_thread(&o->streams);
	stop_thread(&o->handlers);
}

void operators_free(struct operators *o)
{
	struct chain left;

	if (!o)
		return;
	operators_stop(o);
	while (queue_take(o->home.inbox, &left))
		tasks_run(&left);
	queue_free(o->streams.inbox);
	queue_free(o->home.inbox);
	for (struct opdoor *d = o->doors, *next; d; d = next) {
		next = d->next;
		mem_free(&o->alloc, d, sizeof(*d));
	}
	mem_free(&o->alloc, o, sizeof(*o));
}
