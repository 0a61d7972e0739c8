/*
 * jwt_svid - build and verify JWT-SVIDs.
 *
 * Purpose    A strict reader of compact JWS on keys that were parsed once. The key, not the token,
 *            fixes the algorithm: RSA keys verify RS and PS of 256, 384, 512, each EC curve its one
 * ES algorithm. The header may hold alg, kid and typ, nothing else. jwt_verifier keeps prepared
 * contexts per key and the tokens it verified lately, so a token that comes with every request
 * costs one hash and a look-up. Ownership  What is returned lives in the caller's arena. A verifier
 * holds a reference to the bundle set it last saw. Threads    A verifier: its owner only (one per
 * front loop). The rest: no state.
 */
#ifndef WRIT_SPIFFE_JWT_SVID_H
#define WRIT_SPIFFE_JWT_SVID_H

#include <stdint.h>

#include "authz/base/json.h"
#include "include/writ/words.h"
#include "spiffe/bundle.h"
#include "spiffe/id.h"

#define JWT_LEEWAY_S 30	      /* unless jwt_verifier_leeway says otherwise */
#define JWT_AUDIENCES_MAX 16  /* of one token */
#define JWT_AUDIENCE_MAX 2048 /* bytes of one audience */
#define JWT_CACHE_DEFAULT 4096

struct jwt_svid {
	struct str text;     /* sub */
	struct spiffe_id id; /* parsed; with a path */
	int64_t expires_s;
	const struct json *claims; /* the payload; NULL if the answer came from the cache */
};

struct jwt_verifier;

/* @cache: tokens remembered, at most (0: none); each takes up to SPIFFE_ID_MAX + 100 bytes. */
struct jwt_verifier *jwt_verifier_new(const struct alloc *alloc, size_t cache, struct err *e);
void jwt_verifier_free(struct jwt_verifier *v);
/* How far clocks may be apart; before the first verification. */
void jwt_verifier_leeway(struct jwt_verifier *v, int64_t seconds);

/* Verify @token for @audience (never empty) at @now_s against @bundles. Refusals are
 * ERR_UNAUTHENTICATED, code "invalid_token". A remembered token is forgotten when the bundle set
 * changes or the token ends; an answer from the cache is the one verification would give. */
MUST_USE bool jwt_svid_verify(struct jwt_verifier *v, struct bundle_set *bundles, struct str token,
			      struct str audience, int64_t now_s, struct arena *a,
			      struct jwt_svid *out, struct err *e);

/* Answers from the cache and verifications so far; for metrics. */
struct jwt_verifier_counts {
	uint64_t hits, verified, refused;
};
struct jwt_verifier_counts jwt_verifier_counts(const struct jwt_verifier *v);

struct jwt_request {
	struct str spiffe_id; /* with a path */
	struct str audience[JWT_AUDIENCES_MAX];
	size_t naudience; /* at least 1, none empty */
	int64_t issued_s, expires_s;
	struct str issuer; /* "iss", for OIDC; empty: none */
};

struct jwt_signer; /* an ES256 key with its prepared context; one owner at a time */

struct jwt_signer *jwt_signer_new(EVP_PKEY *p256, struct str kid, struct err *e);
void jwt_signer_free(struct jwt_signer *s);

/* Append the token to @out. */
MUST_USE bool jwt_svid_issue(struct jwt_signer *s, const struct jwt_request *r, struct buf *out,
			     struct err *e);

/* The key id writ gives its JWT keys: derived from the key, so that it survives restarts. */
#define JWT_KID_LEN 32
MUST_USE bool jwt_kid(const EVP_PKEY *key, char kid[static JWT_KID_LEN + 1], struct err *e);

#endif
