/*
 * envelope - the header and the trailer of an export, read.
 *
 * Purpose    Both are one flat object inside one member; what either may hold is in one struct,
 *            and what must be there is checked by the caller's mask.
 * Ownership  Borrows the line.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_AUDIT_ENVELOPE_H
#define WRIT_AUDIT_ENVELOPE_H

#include "authz/audit/tree.h"
#include "include/writ/str.h"

struct envelope {
	uint64_t count, first, size, openings, withheld;
	struct str checkpoint, format, hints, range, origin; /* still escaped */
	unsigned numbers; /* bits: which of the five numbers are there */
};

#define ENVELOPE_HEADER 7   /* count, first, size */
#define ENVELOPE_TRAILER 31 /* all five */

/* Read the object of {"header":{...}} or {"trailer":{...}}, which begins after @prefix bytes.
 * Members of other names are passed over: they say nothing that is proven. */
MUST_USE bool envelope_read(struct str line, size_t prefix, struct envelope *x);

/* Hexadecimal hashes with one space between. */
MUST_USE bool envelope_hashes(struct str text, struct tree_proof *p);

#endif
