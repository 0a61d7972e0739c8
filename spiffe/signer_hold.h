/*
 * signer_hold - the authorities the signer signs SVIDs with, and how they change.
 *
 * Purpose    One X.509 authority and one JWT key are in hand at any time. New ones are made here,
 *            for this trust domain and the configured life only, and leave sealed; whoever asks
 *            decides when one is taken into hand. What is not in hand is on disk, sealed, or gone:
 *            dropping a key means removing its file, so there is no request for it.
 * Ownership  A hold borrows keys, upstream and token; what it unsealed is its own.
 * Threads    One owner.
 */
#ifndef WRIT_SPIFFE_SIGNER_HOLD_H
#define WRIT_SPIFFE_SIGNER_HOLD_H

#include "spiffe/signer.h"
#include "spiffe/signer_keys.h"
#include "spiffe/signer_token.h"
#include "spiffe/signer_upstream.h"

struct signer_hold {
	const struct signer_keys *keys;
	const struct signer_upstream *upstream; /* NULL: authorities are self-signed */
	struct signer_token *token;		/* NULL: all keys are files */
	struct str trust_domain;
	int64_t ttl_s;
	/* in hand */
	EVP_PKEY *x509_key;
	X509 *authority;	/* NULL: none, nothing can be signed */
	struct buf chain;	/* DER of what SVIDs carry behind the leaf; empty if self-signed */
	struct jwt_signer *jwt; /* NULL: none */
	int64_t jwt_ends_s;	/* INT64_MAX: not known */
	EVP_PKEY *jwt_key;
	uint8_t in_token[AUTHORITY_KINDS][PKCS11_ID_LEN]; /* id of the one in hand; zeros: none */
	struct jwt_signer *wit;				  /* NULL: none */
	int64_t wit_ends_s;
	EVP_PKEY *wit_key;
};

/* Begin with the keys of the first start, as far as they are still there. */
MUST_USE bool signer_hold_init(struct signer_hold *h, const struct signer_keys *keys,
			       const struct signer_upstream *upstream, struct signer_token *token,
			       struct str trust_domain, int64_t ttl_s, struct err *e);
void signer_hold_clear(struct signer_hold *h);

/* Make an authority of @kind; the answer (struct signer_made on the wire) is appended to @out. */
MUST_USE bool signer_hold_make(const struct signer_hold *h, enum authority_kind kind, int64_t now_s,
			       struct buf *out, struct err *e);

/* Take @id into hand: out of @sealed, or, if that is empty, from the first start. On failure what
 * was in hand stays. */
MUST_USE bool signer_hold_use(struct signer_hold *h, enum authority_kind kind, struct str id,
			      struct str sealed, struct err *e);

/* Have all our keys of @kind leave the token but @tokens and the one in hand. */
MUST_USE bool signer_hold_keep(const struct signer_hold *h, enum authority_kind kind,
			       struct str tokens, size_t *removed, struct err *e);

/* A signature by the key of @kind failed: if it was for the token, @e says so instead. */
void signer_hold_blame(const struct signer_hold *h, enum authority_kind kind, struct err *e);

#endif
