/*
 * federation_read - read the trust bundle of a foreign trust domain.
 *
 * Purpose    The one reader of SPIFFE bundle documents (SPIFFE Trust Domain and Bundle 4): a JWK
 *            Set with x509-svid and jwt-svid keys, a sequence number and a refresh hint. What the
 *            format lets grow (other members, other uses, other key types) is passed over; what it
 *            settles is held to: a document with one bad key is refused whole, naming the key,
 *            since half a bundle is a bundle nobody published.
 *            The document does not say whose it is: that is the caller's to know.
 * Ownership  The bundle is added to the caller's set and belongs to it.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_SPIFFE_FEDERATION_READ_H
#define WRIT_SPIFFE_FEDERATION_READ_H

#include "spiffe/bundle.h"

#define FEDERATION_DOCUMENT_MAX (512 * 1024) /* bytes */

/* What a document says besides its keys. */
struct federation_document {
	bool has_sequence, has_hint;
	uint64_t sequence; /* 0 to 2^63-1 */
	uint32_t hint_s;   /* as given, at most UINT32_MAX */
	size_t ignored;	   /* keys of another use or type */
};

/* Read @text as the bundle of @trust_domain into @set, where it has none yet. No usable key at all
 * is no error: then nothing of that domain is trusted (4.1). Refusals are ERR_INVALID
 * "invalid_bundle" or ERR_TOO_LARGE; the set is then to be thrown away. */
MUST_USE bool federation_read(struct str text, struct str trust_domain, struct bundle_set *set,
			      struct federation_document *out, struct err *e);

/* The same from PEM certificates, each an X.509 authority: for a first bundle by hand. */
MUST_USE bool federation_read_pem(struct str text, struct str trust_domain, struct bundle_set *set,
				  struct err *e);

#endif
