/*
 * dial - a connection out: to the address that was judged, plain or by TLS, in time.
 *
 * Purpose    Whatever writ sends to or asks of others goes through here: fetch (one request), the
 *            syslog sink (a connection that stays). Every address that a name has must be a public
 *            one, or a private one where the caller says so; the connection goes to exactly the
 *            address that was judged. TLS 1.2 or later; the other end proves itself by Web PKI and
 *            its host name, or, with `judge`, by what the caller says of its chain; then the name
 *            plays no part (SPIFFE Federation 5.2). Each call ends by conn->deadline_ns.
 * Ownership  A connection owns its socket and its TLS; what its struct dial points to is borrowed
 *            and outlives it.
 * Threads    Blocks up to its deadline: never on a front. Any thread that ignores SIGPIPE. The
 *            name's look-up has no deadline of its own in libc; it is held to two tries of two
 *            seconds for each of the resolver's servers.
 */
#ifndef WRIT_NET_DIAL_H
#define WRIT_NET_DIAL_H

#include <openssl/ssl.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "authz/base/clock.h"
#include "include/writ/err.h"
#include "include/writ/str.h"

#define DIAL_CHAIN_MAX 8 /* certificates above a leaf */

struct dial {
	const char *host, *port;
	bool literal;	     /* the host is an address */
	bool plain;	     /* no TLS */
	bool private_ok;     /* see dial_address_ok */
	const char *ca_file; /* PEM of the authorities of Web PKI; NULL: the system's */
	const char *alpn;    /* one protocol, as "http/1.1"; NULL: none */
	/* Our own certificate (PEM, the chain behind it) and its key; NULL: none. */
	const char *cert_file, *key_file;
	/* Judge the chain instead of Web PKI: as sent, leaf first, at least one. */
	bool (*judge)(void *ctx, STACK_OF(X509) * chain, struct err *e);
	void *ctx;
	const struct clock *clock;
	const atomic_bool *stop; /* give up within 100 ms when it is set; or NULL */
};

struct dial_conn {
	struct dial to;
	int64_t deadline_ns; /* of to.clock; the caller may move it */
	int fd;		     /* -1: not open */
	SSL_CTX *ctx;
	SSL *ssl;	   /* NULL: plain */
	struct err judged; /* why the judge said no */
};

/* May writ connect there? Addresses of special use (IANA's registries: private, shared, loopback,
 * link-local, multicast, documentation, benchmarks, reserved, also inside a mapped IPv6 address)
 * may not. With @private_ok loopback, private and shared ones may, but what clouds answer
 * credentials at (link-local, and their other well-known addresses) never is. */
bool dial_address_ok(const struct sockaddr *a, bool private_ok);

/* Connect, and shake hands unless it is plain. Whatever comes of it, dial_close ends it.
 * ERR_FORBIDDEN "forbidden_address"; ERR_UNAVAILABLE "unknown_host", "no_connection"; ERR_TIMEOUT
 * "dial_timeout"; ERR_UNAUTHENTICATED "untrusted_server", or what the judge says. Messages do not
 * name the host: the caller puts it before them. */
MUST_USE bool dial_open(struct dial_conn *c, const struct dial *to, int64_t deadline_ns,
			struct err *e);

/* All of @bytes. */
MUST_USE bool dial_send(struct dial_conn *c, struct str bytes, struct err *e);

/* Wait for bytes and take at most @n. *got 0: the other end has said that it is done (by TLS: with
 * close_notify; a mere cut is an error). */
MUST_USE bool dial_read(struct dial_conn *c, char *p, size_t n, size_t *got, struct err *e);

/* Is it still there? Does not wait. Bytes that came unasked are thrown away. */
bool dial_alive(struct dial_conn *c);

/* Safe on one that is zero but for fd -1, and twice. */
void dial_close(struct dial_conn *c);

#endif
