/*
 * pattern - SPIFFE IDs with `*`, as `on.subject` and `callers` use them.
 *
 * Purpose    "spiffe://acme.example/ci/ *" (without the blank) names a whole branch. A `*` is a
 *            segment of its own: at the end it stands for one or more whole segments, elsewhere
 *            for exactly one. The trust domain is never a pattern: identities of another domain
 *            are somebody else's promise.
 * Ownership  Borrows both texts.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_PATTERN_H
#define WRIT_PATTERN_H

#include "include/writ/err.h"

/* Is @pattern well formed? A SPIFFE ID without `*` is. */
MUST_USE bool pattern_check(struct str pattern, struct err *e);

/* Does @spiffe_id meet @pattern? False if either is malformed. Bytes are compared. */
bool pattern_match(struct str pattern, struct str spiffe_id);

#endif
