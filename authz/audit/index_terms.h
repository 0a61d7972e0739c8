/*
 * index_terms - what of a record can be searched for: the terms of the index.
 *
 * Purpose    A term stands for "this member has this value". It is a 64-bit hash of both, so the
 *            index holds no text at all: nothing of a record can be read out of it, and two values
 *            that share a hash cost one look at a record, which is what decides in the end.
 *            Terms come from the flat leaf only, never from an opening: what is personal is not
 *            in the index, and erasing it needs no second place. So "user" has one term for all
 *            records that were made on somebody's behalf, and the opening tells them apart; once
 *            it is erased no search finds the record by its user. "delegate" has a term for each
 *            agent of the leaf's "actors".
 * Ownership  Nothing is kept.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_AUDIT_INDEX_TERMS_H
#define WRIT_AUDIT_INDEX_TERMS_H

#include <stdint.h>

#include "include/writ/str.h"

#define INDEX_TERMS_MAX 32 /* of one record */
#define INDEX_MEMBERS 15   /* that have terms */

/* Nearly every record has a trace id of its own. Such a member shares 256 terms, and each entry
 * has 16 further bits of the value's hash with it. */
struct index_term {
	uint64_t hash;
	uint16_t mark;
	bool marked;
};

/* The members that have terms, rarest values first; ends with NULL. "kind" has one for its family
 * ("authz.*") as well. */
extern const char *const index_members[INDEX_MEMBERS + 1];

/* Is @name one of them? */
bool index_has_member(struct str name);

/* @value as it stands in the leaf: of a string without its quotes, still escaped. */
struct index_term index_term_of(struct str name, struct str value);

/* The last value of each member and its hash: records that follow each other have much in common.
 * Zeroed at first. */
struct index_memo {
	struct {
		uint64_t hash;
		size_t n;
		char value[80];
	} of[INDEX_MEMBERS];
};

/* All terms of @leaf, which must be flat: false otherwise. */
MUST_USE bool index_terms(struct str leaf, struct index_memo *memo,
			  struct index_term out[static INDEX_TERMS_MAX], size_t *n);

/* Does the leaf's member @name have this @value (or, of "kind", belong to the family)? Of "user"
 * the leaf knows only that there may be one. */
bool index_leaf_has(struct str leaf, struct str name, struct str value);

#endif
