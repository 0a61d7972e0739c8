/*
 * server - the agents' door: HTTP/1.1 and HTTP/2, plain or TLS, on our own event loops.
 *
 * Purpose    Accepts, reads, bounds and checks; hands each complete request to the handler as a
 *            struct call and sends its reply. A request that breaks the standard or a limit is
 *            refused here with a JSON error, and counted through handler.refused.
 * Ownership  The server owns listening sockets, connections and calls. Settings, listeners, tls
 *            and loops are borrowed and outlive it.
 * Threads    server_new and _listen before the loops run, server_free after they have ended and
 *            no call is pending. server_drain, _connections and _stats from any thread.
 *            The handler is called on the loop of call->home.
 *
 * TCP listeners are opened once per loop (SO_REUSEPORT), Unix sockets on loop 0 only. A plain
 * connection that opens with the HTTP/2 preface speaks HTTP/2, a TLS one what ALPN agreed on.
 */
#ifndef WRIT_NET_SERVER_H
#define WRIT_NET_SERVER_H

#include <stdint.h>

#include "authz/base/clock.h"
#include "authz/base/mem.h"
#include "authz/net/call.h"
#include "authz/net/loop.h"
#include "include/writ/err.h"

struct server;
struct tls;

/* Every 0 stands for the default named in include/writ/words.h or here. */
struct server_limits {
	size_t connections;	 /* over all loops, 4096; more are closed at once */
	size_t user_connections; /* of one user at a listener with .processes, a fourth of them */
	size_t body, head, url;
	size_t headers;	      /* header lines per request, 100 */
	size_t in_flight;     /* bytes of all requests being received or served */
	size_t streams;	      /* HTTP/2 streams open per connection, 128 */
	size_t reply;	      /* bytes of reply waiting for a slow reader, per connection, 4 MiB */
	int64_t request_ms;   /* from the first byte of a request to its last: then 408 */
	int64_t idle_ms;      /* between requests, 75 s */
	int64_t handshake_ms; /* TLS, and the first byte of a new connection, 5 s */
	int64_t send_ms;      /* a reply that makes no progress, 10 s */
};

struct server_settings {
	struct clock clock;
	const struct alloc *alloc; /* NULL: mem_system */
	struct handler handler;
	struct tls *tls; /* for listeners with .tls; may be NULL if there are none */
	struct tls *web; /* for those with .web as well */
	struct server_limits limits;
};

struct server_stats {
	uint64_t accepted;    /* connections, since the start */
	uint64_t turned_away; /* connections over the limit */
	uint64_t requests;    /* handed to the handler */
	uint64_t refused;     /* requests the door refused itself */
	size_t connections;   /* now */
	size_t in_flight;     /* bytes now */
};

struct server *server_new(const struct server_settings *s, struct loop *const *loops, size_t nloops,
			  struct err *e);
void server_free(struct server *s);

/* Open @l. A Unix socket's path is replaced if nobody answers there; its mode is @mode. */
bool server_listen(struct server *s, const struct listener *l, unsigned mode, struct err *e);

/* The port @l listens on ("127.0.0.1:0" gets one from the system), or 0. */
unsigned server_port(const struct server *s, const struct listener *l);

/* Stop accepting; close idle connections; from now on each reply closes its connection, and
 * HTTP/2 clients are told to go. */
void server_drain(struct server *s);

size_t server_connections(const struct server *s);
void server_stats(const struct server *s, struct server_stats *out);

#endif
