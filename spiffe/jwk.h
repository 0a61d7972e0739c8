/*
 * jwk - a public key out of the members of a JSON Web Key (RFC 7517, 7518).
 *
 * Purpose    For whoever reads JWK Sets of others: SPIFFE bundles, keys of OIDC issuers. Only what
 *            verifiers here use: RSA of 2048 to 8192 bits, EC on P-256, P-384, P-521. Numbers have
 *            one spelling: base64url without padding, of an EC coordinate at its curve's full
 *            width, of an RSA number without leading zeros.
 * Ownership  Borrows the members; the key is the caller's (AUTO_PKEY).
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_SPIFFE_JWK_H
#define WRIT_SPIFFE_JWK_H

#include <openssl/evp.h>

#include "include/writ/err.h"

/* Members as they stand in the JSON; p == NULL: absent. */
struct jwk {
	struct str kty;
	struct str crv, x, y; /* of EC */
	struct str n, e;      /* of RSA */
};

/* Is @kty one that jwk_key reads? Sets may hold others, which are to be passed over. */
bool jwk_known(struct str kty);

/* Refused with ERR_INVALID "invalid_key": the member at fault, and what was expected. */
MUST_USE bool jwk_key(const struct jwk *k, EVP_PKEY **out, struct err *e);

#endif
