/*
 * signer_keys - the long-lived private keys and where they are kept.
 *
 * Purpose    keys/ (0700) holds x509.key, jwt.key (EC P-256), log.key (Ed25519), PKCS#8 in PEM,
 * 0600, and x509.pem, the authority's certificate. The folder appears whole or not at all: it is
 *            built beside, synced and renamed. So a folder with a missing file has lost it, and
 *            nothing is silently made anew: a new log key would be another log, a new authority
 *            another trust domain.
 * Ownership  signer_keys_clear frees. Only the signer process ever has a struct signer_keys.
 * Threads    One owner.
 */
#ifndef WRIT_SPIFFE_SIGNER_KEYS_H
#define WRIT_SPIFFE_SIGNER_KEYS_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdint.h>

#include "include/writ/err.h"

struct signer_keys {
	EVP_PKEY *x509, *jwt, *log;
	X509 *authority;
	bool created; /* by this call */
};

/* Load, or make where @folder is absent or empty. The caller holds the data folder's lock. Refuses
 * loose permissions, foreign owners, symbolic links, missing files, keys of another kind, an
 * authority of another trust domain. */
MUST_USE bool signer_keys_open(const char *folder, struct str trust_domain, int64_t now_s,
			       int64_t authority_ttl_s, struct signer_keys *out, struct err *e);
void signer_keys_clear(struct signer_keys *k);

#endif
