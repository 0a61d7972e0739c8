/*
 * forge - certificates and tokens as a stranger would make them, right or wrong in each detail.
 *
 * Purpose    Written on OpenSSL alone, so that what we issue and what we verify is measured
 *            against something that shares no code with it.
 */
#ifndef WRIT_TESTS_FORGE_H
#define WRIT_TESTS_FORGE_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdint.h>

#include "authz/base/buf.h"

#define FORGE_NOW 1800000000

/* Extensions in OpenSSL's config syntax; NULL: the extension is absent. */
struct forge {
	const char *san, *constraints, *usage, *purposes;
	const char *san2;     /* a second extension of names */
	int64_t from_s, to_s; /* relative to FORGE_NOW; both 0: -60 .. +3600 */
	const char *subject;  /* CN; NULL: empty */
	EVP_PKEY *key;	      /* the subject's; NULL: a fresh one */
	X509 *issuer;	      /* NULL: self-signed */
	EVP_PKEY *issuer_key;
};

EVP_PKEY *forge_key(const char *kind); /* "P-256", "P-384", "P-521", "RSA2048", "ED25519" ... */
X509 *forge_cert(const struct forge *f);
struct str forge_der(X509 *cert); /* forge_free */

/* An authority with a URI SAN for @trust_domain. */
X509 *forge_authority(const char *trust_domain, EVP_PKEY *key);

/* base64url(header).base64url(payload).signature, signed with @alg ("ES256" ...; "none": empty).
 * The key's curve or kind is used as it is, whatever @alg says. */
void forge_jws(struct buf *out, const char *header, const char *payload, const char *alg,
	       EVP_PKEY *key);

struct str forge_spki(EVP_PKEY *key); /* forge_free */
void forge_free(struct str s);

#endif
