/*
 * pkcs11_key - a private key in a token as an EVP_PKEY.
 *
 * Purpose    What signs certificates and tokens takes an EVP_PKEY and asks not where its private
 *            half is. This one has the public half here and signs in the token. Made as an
 *            EC_KEY with a method of its own: that is deprecated in OpenSSL 3.0, which keeps it
 *            working for engines, and 80 lines where a provider of our own would be some 400; it
 *            is used in this one file.
 * Ownership  The EVP_PKEY borrows what its way leads to.
 * Threads    One owner, the token's.
 */
#ifndef WRIT_SPIFFE_PKCS11_KEY_H
#define WRIT_SPIFFE_PKCS11_KEY_H

#include <openssl/evp.h>

#include "spiffe/pkcs11.h"

/* How to have a digest signed in a token. */
struct pkcs11_way {
	bool (*sign)(void *ctx, const uint8_t id[static PKCS11_ID_LEN],
		     const uint8_t digest[static SHA256_LEN], uint8_t out[static PKCS11_SIGNATURE],
		     struct err *e);
	void *ctx;
};

/* @spki: the public half as it was when the key was made. A first signature is made and verified,
 * so that a token with another key of that id, or none, is noticed here. */
MUST_USE bool pkcs11_key_open(const struct pkcs11_way *way, struct str id, struct str spki,
			      EVP_PKEY **out, struct err *e);

/* Is @key in a token, and did its last signature fail there? Then @e says why. */
bool pkcs11_key_failed(const EVP_PKEY *key, struct err *e);

#endif
