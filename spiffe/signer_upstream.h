/*
 * signer_upstream - the organisation's own CA, from files: it signs our X.509 authorities.
 *
 * Purpose    With it, an X.509 authority is an intermediate, the trust bundle holds the
 *            organisation's roots, and SVIDs carry the chain up to them. The signer holds the
 *            CA's key like its own: read at the start, before it gives up the right to files.
 * Ownership  signer_upstream_clear frees. Only the signer has one.
 * Threads    One owner.
 */
#ifndef WRIT_SPIFFE_SIGNER_UPSTREAM_H
#define WRIT_SPIFFE_SIGNER_UPSTREAM_H

#include "authz/base/buf.h"
#include "spiffe/x509_svid.h"

#define UPSTREAM_CHAIN_MAX (6 * 1024) /* bytes of DER above our authority, roots left out */
#define UPSTREAM_DEPTH 4	      /* certificates of that chain */

struct upstream_files {
	const char *certificate; /* PEM: the CA that signs, then what is above it, root or not */
	const char *key;	 /* PEM, PKCS#8 or SEC 1, not encrypted; 0600 */
	const char *bundle;	 /* PEM: the roots, as the trust bundle is to hold them */
	bool constrain;		 /* x509_issuer.constrain */
};

struct signer_upstream {
	struct x509_issuer issuer; /* cert NULL: there is none */
	struct buf chain;	   /* DER: issuer.cert and what is above it, without roots */
};

/* Read and check: the key belongs to the certificate, which may sign an authority (a CA with
 * keyCertSign and room in its path length), is in force at @now_s, and leads to the bundle. */
MUST_USE bool signer_upstream_open(const struct upstream_files *f, int64_t now_s,
				   struct signer_upstream *out, struct err *e);
void signer_upstream_clear(struct signer_upstream *u);

/* The certificates of a PEM file, DER one behind the other, at most @max bytes; for the bundle. */
MUST_USE bool upstream_read_pem(const char *path, size_t max, struct buf *der, struct err *e);

#endif
