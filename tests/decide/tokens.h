/*
 * tokens - tokens and certificates for a rig: its trust domain's JWT key, held by the test.
 *
 * Purpose    Tests of who asks and on whose behalf need what a real client would show.
 * Threads    The test's own.
 */
#ifndef TESTS_DECIDE_TOKENS_H
#define TESTS_DECIDE_TOKENS_H

#include <openssl/x509.h>

#include "authz/net/call.h"
#include "tests/decide/rig.h"

struct tokens_desk {
	EVP_PKEY *key;
	struct jwt_signer *signer;
	struct buf text; /* of the newest token */
};

/* Publish a bundle with the desk's key. */
void tokens_start(struct tokens_desk *d, struct rig *r);
void tokens_stop(struct tokens_desk *d);

/* What a delegated token says; NULL: what is usual. */
struct tokens_spec {
	const char *user;      /* "" : an agent that began by itself */
	const char *chain[4];  /* at least one */
	const char *audience;  /* writ itself */
	const char *issuer;    /* the rig's */
	const char *scope;     /* none */
	const char *id, *line; /* jti; of the token it came from: none */
	X509 *bound;	       /* NULL: to no certificate there is */
	int64_t expires_s;     /* from now; 0: 300 */
};

/* Both live until the next of either. */
struct str tokens_delegated(struct tokens_desk *d, struct rig *r, const struct tokens_spec *s);
struct str tokens_svid(struct tokens_desk *d, struct rig *r, const char *id, const char *audience);

/* A certificate with this SPIFFE ID, and a peer that has shown it. */
X509 *tokens_certificate(const char *id);
void tokens_peer(struct peer *p, X509 *cert, const char *id);

#endif
