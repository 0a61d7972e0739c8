/*
 * envelope - the header and the trailer of an export, read.
 *
 * Purpose    Both are one flat object inside one member; what either may and must hold is in
 *            one table.
 * Ownership  Borrows the line.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_AUDIT_ENVELOPE_H
#define WRIT_AUDIT_ENVELOPE_H

#include "authz/audit/tree.h"
#include "include/writ/str.h"

enum envelope_kind { ENVELOPE_HEADER = 1, ENVELOPE_TRAILER = 2, ENVELOPE_BOTH = 3 };

struct envelope {
	uint64_t count, first, size, openings, withheld;
	struct str checkpoint, format, header, hints, range, origin; /* still escaped */
	uint64_t time;	  /* the last of filter_since and _until */
	struct str other; /* the last of those that say nothing that is proven */
};

/* Read the object of {"header":{...}} or {"trailer":{...}}, which begins after @prefix bytes.
 * False if a member is missing, of another type, or not one that writ writes there. */
MUST_USE bool envelope_read(struct str line, size_t prefix, enum envelope_kind kind,
			    struct envelope *x);

/* Hexadecimal hashes with one space between. */
MUST_USE bool envelope_hashes(struct str text, struct tree_proof *p);

#endif
