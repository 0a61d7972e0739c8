/*
 * x509_svid - issue and verify X.509-SVIDs.
 *
 * Purpose    Certificates are built from validated parts only (an ID, a public key, times, names),
 *            never from what a stranger encoded. Verification is the standard's procedure, in its
 *            order: one URI SAN that is a SPIFFE ID, not a CA, key usages, then the path against
 *            the bundle of that ID's trust domain and no other.
 * Ownership  Results are copied into the caller's storage.
 * Threads    No state: call from any thread; a bundle set may be shared.
 */
#ifndef WRIT_SPIFFE_X509_SVID_H
#define WRIT_SPIFFE_X509_SVID_H

#include <openssl/x509.h>
#include <stdint.h>

#include "authz/base/buf.h"
#include "authz/base/digest.h"
#include "spiffe/bundle.h"
#include "spiffe/id.h"

#define X509_SVID_NAMES_MAX 16 /* DNS names and IP addresses together */
#define X509_SVID_DNS_MAX 253  /* bytes of a DNS name */
#define X509_SVID_CHAIN_MAX 8  /* certificates of a presented chain, leaf included */
#define X509_SVID_BACKDATE_S 10

/* A SAN besides the SPIFFE ID; only writ's own TLS leaf has any. */
struct x509_name {
	struct str dns; /* p == NULL: an address */
	uint8_t ip[16];
	uint8_t ip_len; /* 4 or 16 */
};

struct x509_request {
	struct str spiffe_id;		   /* with a path */
	struct str spki;		   /* DER; see crypto_spki_of_request */
	int64_t not_before_s, not_after_s; /* since 1970; capped at the authority's own end */
	struct x509_name names[X509_SVID_NAMES_MAX];
	size_t nnames;
};

/* "localhost", "10.0.0.1" or "::1" as a SAN; refuses what is neither an address nor a plain DNS
 * name. A DNS name is borrowed. */
MUST_USE bool x509_name_parse(struct str text, struct x509_name *out, struct err *e);

/* Issue a leaf in the trust domain of @authority; the DER is appended to @der. */
MUST_USE bool x509_svid_issue(X509 *authority, EVP_PKEY *authority_key,
			      const struct x509_request *r, struct buf *der, struct err *e);

/* A self-signed authority for "spiffe://<trust_domain>". */
MUST_USE bool x509_authority_issue(EVP_PKEY *key, struct str trust_domain, int64_t not_before_s,
				   int64_t not_after_s, struct buf *der, struct err *e);

/* Another CA's certificate and key, that authorities are signed with. */
struct x509_issuer {
	X509 *cert;
	EVP_PKEY *key;
	bool constrain; /* name constraints: URIs of the trust domain's host only (RFC
			 * 5280 4.2.1.10); critical, and verifiers that do not know URI constraints
			 * refuse them */
};

/* An authority below @by: it may sign leaves only (pathLenConstraint 0), and ends no later. */
MUST_USE bool x509_intermediate_issue(const struct x509_issuer *by, EVP_PKEY *key,
				      struct str trust_domain, int64_t not_before_s,
				      int64_t not_after_s, struct buf *der, struct err *e);

/* The id of an authority: its subject key identifier in hexadecimal. */
#define X509_ID_LEN 40
MUST_USE bool x509_authority_id(const X509 *cert, char id[static X509_ID_LEN + 1], struct err *e);

/* The next certificate of a chain in DER, one behind the other: *der is it, and *chain what
 * follows. False: nothing more that begins like one. */
bool x509_chain_next(struct str *chain, struct str *der);

/* The first certificate of a chain: the leaf. Empty if it begins with none. */
struct str x509_chain_leaf(struct str chain);

/* A chain as PEM blocks. */
void x509_chain_pem(struct buf *pem, struct str chain);

struct x509_svid {
	char text[SPIFFE_ID_MAX + 1]; /* the ID, NUL-terminated */
	struct spiffe_id id;	      /* points into text: take care when copying the struct */
	int64_t not_after_s;	      /* the end of the leaf */
	uint8_t sha256[SHA256_LEN];   /* of the leaf */
};

/* Verify a chain as it was presented, leaf first, at @now_s. ERR_UNAUTHENTICATED, code
 * "invalid_certificate", with the reason if it does not hold; *out then means nothing. */
MUST_USE bool x509_svid_verify(const struct bundle_set *bundles, STACK_OF(X509) * chain,
			       int64_t now_s, struct x509_svid *out, struct err *e);

/* The same for DER certificates. */
MUST_USE bool x509_svid_verify_der(const struct bundle_set *bundles, const struct str *chain,
				   size_t n, int64_t now_s, struct x509_svid *out, struct err *e);

/* The same for a chain as the signer gives it: DER, one certificate behind the other. */
MUST_USE bool x509_svid_verify_chain(const struct bundle_set *bundles, struct str chain,
				     int64_t now_s, struct x509_svid *out, struct err *e);

/* The SPIFFE ID that @leaf claims, nothing verified: whose bundle to look into. */
MUST_USE bool x509_svid_claim(X509 *leaf, struct x509_svid *out, struct err *e);

/* The same of a certificate that somebody else verified: nothing but its names is read.
 * (OpenSSL 3.0 takes 150 us to read a certificate, and nearly all of it to find a decoder for the
 * public key.) */
MUST_USE bool x509_svid_claim_der(struct str der, struct x509_svid *out, struct err *e);

/* notBefore or notAfter in seconds since 1970; false if it cannot be read. */
MUST_USE bool x509_times(const X509 *cert, int64_t *not_before_s, int64_t *not_after_s);

#endif
