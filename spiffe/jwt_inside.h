/*
 * jwt_inside - what the readers of writ's two kinds of token share and nobody else sees.
 *
 * Purpose    A JWT-SVID (jwt_svid.c) and a delegated token (delegated_token.c) are compact JWS
 * under keys of a trust bundle. How one is taken apart and its signature checked stands once, in
 * jwt_verify.c; what `typ` it must have, and what its claims mean, is of each. Ownership  A token
 * taken apart lives in the arena it was read into. Threads    As jwt_svid.h.
 */
#ifndef WRIT_SPIFFE_JWT_INSIDE_H
#define WRIT_SPIFFE_JWT_INSIDE_H

#include "spiffe/crypto.h"
#include "spiffe/jwt_cache.h"
#include "spiffe/jwt_svid.h"

#define JWT_CODE "invalid_token"
#define JWT_PREPARED_MAX 32

/* What kind of token a signature is under: "typ" of its header (RFC 8725 3.11). */
enum jwt_type { JWT_TYPE_SVID, JWT_TYPE_DELEGATED, JWT_TYPE_WIT, JWT_TYPES };

/* Append the token with the payload @json to @out, which is as before if that fails. A signer of
 * jwt_signer_new has no header for WIT-SVIDs, one of wit_signer_new none for the others:
 * ERR_INVALID.
 */
MUST_USE bool jwt_sign(struct jwt_signer *s, enum jwt_type type, struct str json, struct buf *out,
		       struct err *e);

struct jwt_algorithm;

/* A context that DigestVerifyInit has seen: copying it costs 2 us, making it 60. */
struct jwt_prepared {
	const EVP_PKEY *key;
	const struct jwt_algorithm *alg;
	EVP_MD_CTX *ctx;
};

struct jwt_verifier {
	struct alloc alloc;
	struct sha256 *sha;
	EVP_MD_CTX *work;
	struct jwt_prepared prepared[JWT_PREPARED_MAX];
	size_t next_prepared;
	struct bundle_set *bundles; /* keeps the keys of `prepared` alive */
	struct jwt_cache cache;
	struct jwt_verifier_counts counts;
	int64_t leeway_s;
};

/* A token taken apart; everything in the arena. */
struct jwt_token {
	struct str signing_input; /* part1.part2 */
	const struct jwt_algorithm *alg;
	struct str kid, typ; /* typ: as the header has it, or empty */
	bool has_kid, has_typ;
	const struct json *claims;
	uint8_t *signature;
	size_t signature_len;
};

/* ERR_UNAUTHENTICATED "invalid_token: token: <what>". Always false. */
bool jwt_refuse(struct err *e, const char *what);
/* Make a refusal of the error of something below. Always false. */
bool jwt_as_refusal(struct err *e, const char *where);

/* Use @bundles from now on: with another set all that was concluded is forgotten. */
void jwt_verifier_use(struct jwt_verifier *v, struct bundle_set *bundles);

/* Three parts, strict JSON; a header of alg, kid and typ, where alg is one that some key here could
 * have. Nothing is proven yet, and typ is not looked at. */
MUST_USE bool jwt_take_apart(struct str text, struct arena *a, struct jwt_token *t, struct err *e);
/* The typ that the header of @text says, without a look at the rest; empty: none, or no token. */
struct str jwt_typ(struct str text, struct arena *a);
/* By the key of @b that kid names, or, without kid, by one that fits alg. */
MUST_USE bool jwt_check_signature(struct jwt_verifier *v, const struct bundle *b,
				  const struct jwt_token *t, struct err *e);

/* aud is, or contains, @ours. */
MUST_USE bool jwt_check_audience(const struct json *claims, struct str ours, struct err *e);
/* From when and until when the claims hold goes to @entry; then whether they hold now. */
MUST_USE bool jwt_check_times(const struct json *claims, int64_t now_s, int64_t leeway_s,
			      struct jwt_cached *entry, struct err *e);

#endif
