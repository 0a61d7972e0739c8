/*
 * jws_key - the keys behind jws.h: a JWK, its one algorithm, and a signature under it.
 *
 * Ownership  Keys belong to their jwks.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_SPIFFE_JWS_KEY_H
#define WRIT_SPIFFE_JWS_KEY_H

#include "spiffe/jws.h"

struct jws_key;

/* The key named @kid; without one, the only key. NULL: none. */
const struct jws_key *jwks_find(const struct jwks *k, struct str kid);
const char *jws_key_alg(const struct jws_key *k);
MUST_USE bool jws_key_verify(const struct jws_key *k, struct str text, struct str signature);

#endif
