/*
 * attest_inside - what the attestors share and nobody else sees.
 *
 * Ownership  As attest.h.
 * Threads    As attest.h.
 */
#ifndef WRIT_SPIFFE_ATTEST_INSIDE_H
#define WRIT_SPIFFE_ATTEST_INSIDE_H

#include <sys/stat.h>

#include "spiffe/attest_source.h"
#include "spiffe/crypto.h"
#include "spiffe/jws.h"

#define ATTEST_ANCHORS_MAX 64

struct attest_keys {
	const struct attest_issuer *config;
	struct jwks *keys;	 /* of a file */
	struct timespec changed; /* of the file */
	bool fetched;		 /* no file; in its place: */
	struct attest_source source;
};

struct attest {
	struct attest_config config;
	struct db *db;
	struct db_stmt *use, *prune, *keep, *forget;
	struct sha256 *sha;
	struct attest_keys oidc[ATTEST_ISSUERS], k8s[ATTEST_ISSUERS], users[ATTEST_ISSUERS];
	struct attest_source *sources[ATTEST_SOURCES]; /* those that are fetched */
	size_t nsources;
	X509_STORE *anchors; /* of x509pop; NULL: switched off */
	uint8_t nonce_key[32];
	size_t used;
};

/* attest_source.c: set up @s, with what is stored of it. */
MUST_USE bool attest_source_open(struct attest *a, struct attest_source *s,
				 const struct attest_issuer *config, struct err *e);

/* attest_keys.c */
MUST_USE bool attest_keys_load(struct attest *a, struct attest_keys *k,
			       const struct attest_issuer *config, struct err *e);
/* Only if it is a file that has changed. */
MUST_USE bool attest_keys_refresh(struct attest_keys *k, struct err *e);
MUST_USE bool attest_anchors_load(const struct attest_config *c, X509_STORE **out, struct err *e);

/* attest_jwt.c: a token of one of @n issuers. */
MUST_USE bool attest_token(const struct attest_call *c, struct attest_keys *issuers, size_t n,
			   struct jws *out, const struct attest_issuer **whose, int64_t *expires_s,
			   struct err *e);
/* It works once, unless its issuer may be re-used. */
void attest_token_once(const struct attest_call *c, const struct attest_issuer *whose,
		       const struct jws *j, int64_t expires_s, struct attested *out);

/* attest_x509pop.c */
MUST_USE bool attest_nonce_check(const struct attest *a, struct str nonce, int64_t now_ms,
				 struct err *e);

#endif
