/*
 * tls - server side of TLS by OpenSSL: certificate rotation, client certificates, ALPN.
 *
 * Purpose    TLS 1.2 and 1.3, ALPN h2 and http/1.1. No tickets, resumption or renegotiation: a
 *            resumed session would skip the check of the client's certificate after a trust
 *            bundle has changed. A client certificate is asked for (with no list of names, so
 *            that clients do not withhold it after a root's rotation) and not required; one that
 *            is shown must pass the verifier or the handshake fails.
 * Ownership  A tls borrows its certificate slot and the verifier's context. A session owns its
 *            SSL and its identity.
 *            The process must ignore SIGPIPE: OpenSSL writes to sockets whose peer has gone.
 * Threads    A struct tls is used by all loops. A session belongs to one thread. Whoever
 *            publishes into the certificate slot may do so from any thread.
 */
#ifndef WRIT_NET_TLS_H
#define WRIT_NET_TLS_H

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdint.h>

#include "authz/base/snapshot.h"
#include "authz/net/call.h"
#include "include/writ/err.h"

#define TLS_ID_MAX 2048 /* bytes of a SPIFFE ID */

/* Our certificate: one immutable object in a slot, replaced as a whole. */
struct tls_certificate {
	struct shared shared;
	X509 *leaf;
	STACK_OF(X509) * chain; /* without the leaf; may be empty */
	EVP_PKEY *key;
};

/* Takes over references: the caller keeps its own. NULL with @e if key and leaf do not match. */
struct tls_certificate *tls_certificate_new(X509 *leaf, STACK_OF(X509) * chain, EVP_PKEY *key,
					    struct err *e);
/* The same from PEM: leaf first, then the chain; and a private key. */
struct tls_certificate *tls_certificate_from_pem(struct str certs, struct str key, struct err *e);

/* What the verifier found out about a client. */
struct tls_identity {
	char spiffe_id[TLS_ID_MAX + 1];
	int64_t expires_ms;
	uint64_t generation;
};

/* How clients' certificates are judged; supplied by the wiring, used by both doors, called from
 * any of their threads. */
struct tls_verifier {
	/* @chain: as sent, leaf first, at least one. False with @e: the handshake fails. */
	bool (*verify)(void *ctx, STACK_OF(X509) * chain, struct tls_identity *out, struct err *e);
	/* Asked before each request of a connection with a client certificate: is @p still good,
	 * given its expiry, and its generation against the current one? May verify p->chain again
	 * and bring both up to date. False: 401, and the connection is closed. NULL: never asked.
	 */
	bool (*still_valid)(void *ctx, struct peer *p, struct err *e);
	void *ctx;
};

struct tls_settings {
	struct slot *certificate;     /* of struct tls_certificate; empty: handshakes fail */
	struct tls_verifier verifier; /* .verify NULL: no client is asked for a certificate */
};

struct tls;

struct tls *tls_new(const struct tls_settings *s, struct err *e);
void tls_free(struct tls *t);
const struct tls_verifier *tls_verifier_of(const struct tls *t);

/* One connection's TLS. */
struct tls_session;

enum tls_result {
	TLS_OK,
	TLS_READ,   /* call again when the socket is readable */
	TLS_WRITE,  /* ... writable */
	TLS_CLOSED, /* the peer said goodbye */
	TLS_FAILED, /* @e of the handshake says why; otherwise the connection is broken */
};

struct tls_session *tls_session_new(struct tls *t, int fd, struct err *e);
void tls_session_free(struct tls_session *s);
/* Tell the peer that nothing more will come, while the socket is still open. */
void tls_goodbye(struct tls_session *s);

/* Goes on with the handshake. TLS_OK: done; tls_identity_of and tls_is_http2 tell. */
enum tls_result tls_handshake(struct tls_session *s, struct err *e);
enum tls_result tls_read(struct tls_session *s, void *p, size_t max, size_t *n);
enum tls_result tls_write(struct tls_session *s, const void *p, size_t len, size_t *n);

bool tls_is_http2(const struct tls_session *s);
/* The verified client, or NULL without a client certificate. Lives as long as the session. */
const struct tls_identity *tls_identity_of(const struct tls_session *s);
/* What the client sent, leaf first, or NULL. Lives as long as the session. */
STACK_OF(X509) * tls_chain_of(const struct tls_session *s);

#endif
