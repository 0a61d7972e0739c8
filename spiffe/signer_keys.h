/*
 * signer_keys - the long-lived private keys and where they are kept.
 *
 * Purpose    keys/ (0700) holds what the first start made, each 0600: x509.key, jwt.key (EC P-256),
 *            log.key (Ed25519), PKCS#8 in PEM, or sealed if a key file encrypts them;
 *            storage.key (signer_seal.h); and x509.pem, the first authority's certificate. The
 *            folder appears whole or not at all: it is built beside, synced and renamed. So a
 *            folder with a missing file has lost it, and nothing is silently made anew: a new log
 *            key would be another log, a new authority another trust domain. Only once rotation has
 *            put another authority beside it ("x509-<id>.key") may a first one be gone.
 *            log-next.key is there while the log is about to take another key.
 * Ownership  signer_keys_clear frees. Only the signer process ever has a struct signer_keys.
 * Threads    One owner.
 */
#ifndef WRIT_SPIFFE_SIGNER_KEYS_H
#define WRIT_SPIFFE_SIGNER_KEYS_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdint.h>

#include "include/writ/err.h"
#include "spiffe/signer_seal.h"

struct signer_keys {
	EVP_PKEY *x509, *jwt; /* of the first start; NULL once another has replaced it */
	EVP_PKEY *log;
	EVP_PKEY *next;	   /* of log-next.key: it is to follow, or already has; or NULL */
	EVP_PKEY *witness; /* Ed25519; NULL without signer_keys_witness */
	X509 *authority;   /* of x509 */
	struct seal seal;
	bool created; /* by this call */
};

/* Load, or make where @folder is absent or empty. The caller holds the data folder's lock. Refuses
 * loose permissions, foreign owners, symbolic links, missing files, keys of another kind, an
 * authority of another trust domain. @key_file: encrypts the keys, those that are plain until now
 * included (one file after the other, each replaced at once); NULL: they are not encrypted. */
MUST_USE bool signer_keys_open(const char *folder, struct str trust_domain, int64_t now_s,
			       int64_t authority_ttl_s, const char *key_file,
			       struct signer_keys *out, struct err *e);
/* A key that follows @k->log: kept in k->next (in place of one that was there), and appended to
 * @pem as log-next.key, and later log.key, is to hold it. */
MUST_USE bool signer_keys_next(struct signer_keys *k, struct buf *pem, struct err *e);
/* Load witness.key of the same folder, or make it where there is none: it is asked for only once
 * writ is to be a witness, and a new one is trusted by nobody until somebody is told of it. */
MUST_USE bool signer_keys_witness(const char *folder, struct signer_keys *k, struct err *e);
void signer_keys_clear(struct signer_keys *k);

#endif
