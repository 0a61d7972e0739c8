/*
 * jws - tokens of others: compact JWS under keys that are configured, not under a SPIFFE bundle.
 *
 * Purpose    OIDC and Kubernetes tokens attest agents. The key fixes the algorithm, never the
 *            token: RSA keys verify RS256 (or what the JWK's own "alg" says), each curve its one
 *            ECDSA, Ed25519 EdDSA (RFC 8725 3.1). Header members that would lead verification
 *            elsewhere (jku, x5u, jwk, x5c) and crit are refused; others are ignored. JWT-SVIDs are
 *            read by jwt_svid.h, which is stricter.
 * Ownership  What is read lives in the arena. A jwks is the caller's to free.
 * Threads    No state: call from any thread; a jwks may be shared.
 */
#ifndef WRIT_SPIFFE_JWS_H
#define WRIT_SPIFFE_JWS_H

#include "authz/base/json.h"
#include "include/writ/err.h"

#define JWKS_BYTES_MAX (512 * 1024)
#define JWKS_KEYS_MAX 64

struct jwks;

/* An RFC 7517 set. Keys of other kinds, for encryption or with a use of their own are passed over;
 * RSA below 2048 bits, key ids that occur twice, private members and a set without a usable key
 * are refused: ERR_INVALID "invalid_jwks". */
MUST_USE bool jwks_read(struct str text, struct jwks **out, struct err *e);
void jwks_free(struct jwks *k); /* NULL is fine */
size_t jwks_count(const struct jwks *k);

struct jws {
	const struct json *header, *claims;
	struct str signing_input, signature, kid; /* kid may be empty */
};

/* Take a token apart; nothing of it is proven yet. Refusals of both calls: ERR_UNAUTHENTICATED,
 * code "invalid_token". */
MUST_USE bool jws_read(struct str token, struct arena *a, struct jws *out, struct err *e);
MUST_USE bool jws_verify(const struct jws *j, const struct jwks *keys, struct err *e);

/* The claims that say when, by whom and for whom: exp and iat must be there, iss is compared byte
 * for byte, aud is or contains @audience. *expires_s is exp. */
struct jws_expected {
	struct str issuer, audience;
	int64_t now_s, leeway_s;
	int64_t life_max_s; /* how far ahead exp may lie: bounds what is remembered of a token */
};
MUST_USE bool jws_check(const struct jws *j, const struct jws_expected *x, int64_t *expires_s,
			struct err *e);

#endif
