/*
 * operators - the operators' door: HTTP/1.1 by libmicrohttpd, on threads of its own.
 *
 * Purpose    Management, console, export, metrics, health: long answers and slow readers that
 *            must never touch a decision. The same struct handler and struct call as the agents'
 *            door. libmicrohttpd polls and parses on its own threads; every request is then
 *            handed to ONE thread, the door's home, which runs the handlers and the inbox, and
 *            the connection is suspended until call_finish. Pieces of streamed replies are made
 *            by another one, of the lowest priority.
 * Ownership  The door owns daemons, threads, calls and listening sockets. Settings and listeners
 *            are borrowed and outlive it.
 * Threads    operators_new, _listen, _start, _stop from one thread. Handlers, call_finish and
 *            reply.done run on the home thread only, reply.more on the thread of streams only.
 *
 *	op = operators_new(&settings, &e);  operators_home(op)->worker = &worker;
 *	operators_listen(op, &admin, 0600, &e);  operators_start(op, &e);
 *	... operators_stop(op);   // pending calls must be finishable until then
 *	operators_free(op);
 */
#ifndef WRIT_NET_OPERATORS_H
#define WRIT_NET_OPERATORS_H

#include <stdint.h>

#include "authz/base/clock.h"
#include "authz/base/mem.h"
#include "authz/base/snapshot.h"
#include "authz/net/call.h"
#include "authz/net/tls.h"
#include "include/writ/err.h"

struct operators;

/* Every 0 stands for a default. */
struct operators_limits {
	unsigned connections; /* per listener, 256 */
	size_t body;	      /* 1 MiB */
	size_t in_flight;     /* bytes of all bodies, 16 MiB */
	size_t url;	      /* 8 KiB */
	size_t headers;	      /* header lines, 100 */
	unsigned idle_s;      /* 60 */
};

struct operators_settings {
	struct clock clock;
	const struct alloc *alloc; /* NULL: mem_system */
	struct handler handler;
	struct slot *certificate;     /* of struct tls_certificate, for listeners with .tls */
	struct tls_verifier verifier; /* for them */
	bool require_certificate;     /* TLS clients without one fail the handshake */
	/* libmicrohttpd's complaints, one line each, from its threads; NULL: dropped. */
	void (*complain)(void *ctx, const char *line);
	void *complain_ctx;
	struct operators_limits limits;
};

struct operators *operators_new(const struct operators_settings *s, struct err *e);
/* Open @l; a Unix socket gets @mode. Serving starts with operators_start. */
bool operators_listen(struct operators *o, const struct listener *l, unsigned mode, struct err *e);
unsigned operators_port(const struct operators *o, const struct listener *l);
struct home *operators_home(struct operators *o);
bool operators_start(struct operators *o, struct err *e);
/* No new connections; answers what is finished, cuts the rest, ends all threads. */
void operators_stop(struct operators *o);
void operators_free(struct operators *o);

#endif
