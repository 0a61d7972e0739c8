/*
 * wit_svid - issue WIT-SVIDs (SPIFFE WIT-SVID, incubating: the standard may still change).
 *
 * Purpose    A token that binds a workload's public key to its SPIFFE ID: header alg, kid and typ
 *            "wit+jwt", claims sub, exp, iat and cnf, never aud. It proves nothing without the key,
 *            and is signed with keys of its own: what verifies JWT-SVIDs must never take it.
 * Ownership  Results are appended to the caller's buf.
 * Threads    No state but the signer's, which has one owner at a time.
 */
#ifndef WRIT_SPIFFE_WIT_SVID_H
#define WRIT_SPIFFE_WIT_SVID_H

#include "spiffe/jwt_svid.h"

struct wit_request {
	struct str spiffe_id; /* with a path */
	struct str spki;      /* DER: the workload's P-256 key */
	int64_t issued_s, expires_s;
};

/* As jwt_signer_new, for tokens of typ "wit+jwt"; jwt_signer_free. */
struct jwt_signer *wit_signer_new(EVP_PKEY *p256, struct str kid, struct err *e);

MUST_USE bool wit_svid_issue(struct jwt_signer *s, const struct wit_request *r, struct buf *out,
			     struct err *e);

/* The `kid` in the header of a token of ours, at most @max bytes with its NUL. */
MUST_USE bool wit_kid_of(struct str token, char *kid, size_t max);

/* @key, P-256, as a JWK with "alg":"ES256": the public part, or with "d" all of it (RFC 7517). */
MUST_USE bool wit_jwk(const EVP_PKEY *key, bool private_part, struct buf *out, struct err *e);

#endif
