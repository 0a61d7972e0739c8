/*
 * peer_cache - what certificates say that a proxy's clients showed, read once.
 *
 * Purpose    A proxy that forwards its client's certificate does so with each request, and reading
 *            one costs OpenSSL more than the rest of a decision. What is kept is a function of the
 *            certificate's bytes alone (the SPIFFE ID, the fingerprint), so an entry is never out
 *            of date; whether the certificate holds today is for who looks at the clock. The key
 *            is the whole text as it was sent, compared byte by byte.
 * Ownership  The cache owns copies, made as certificates come: of at most PEER_CACHE_ENTRY_MAX
 *            bytes each, in all 16 MiB, and of usual leaves (P-256) 6 MiB when it is full.
 * Threads    One owner.
 */
#ifndef WRIT_SPIFFE_PEER_CACHE_H
#define WRIT_SPIFFE_PEER_CACHE_H

#include <stdint.h>

#include "authz/base/digest.h"
#include "authz/base/mem.h"
#include "include/writ/str.h"

/* As many agents as may stand behind the proxies of one worker before it reads certificates anew,
 * if they spread evenly. */
#define PEER_CACHE_DEFAULT 4096
/* Certificate and ID together; of more nothing is kept. RSA-4096 in PEM and percent codes: 2,800.
 */
#define PEER_CACHE_ENTRY_MAX 4096

struct peer_claim {
	struct str id;		    /* SPIFFE ID */
	uint8_t sha256[SHA256_LEN]; /* of the DER */
};

struct peer_cache;

/* Room for at least @max certificates. NULL: no memory. */
struct peer_cache *peer_cache_new(const struct alloc *alloc, size_t max);
void peer_cache_free(struct peer_cache *c);

/* What the certificate with exactly this text says, or NULL. Good until the next peer_cache_add. */
const struct peer_claim *peer_cache_find(struct peer_cache *c, struct str certificate);

/* Remember what @certificate says (copies both), in place of the one of its bucket that was asked
 * for the longest time ago. Without memory nothing is remembered. */
void peer_cache_add(struct peer_cache *c, struct str certificate, const struct peer_claim *claim);

#endif
