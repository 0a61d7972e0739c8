/*
 * index_cursor - walk the posting list of one term, up or down, by leaps.
 *
 * Purpose    One block is decoded at a time; a leap to a number further on reads the block that
 *            holds it and none between. Lists that must all agree leap over each other.
 * Ownership  Borrows the connection; owns its statements.
 * Threads    The connection's owner.
 */
#ifndef WRIT_AUDIT_INDEX_CURSOR_H
#define WRIT_AUDIT_INDEX_CURSOR_H

#include "authz/audit/index_store.h"

struct index_cursor {
	struct db_stmt *at, *after; /* the block at or before a number; the one after it */
	struct index_term term;
	uint64_t seqs[INDEX_BLOCK_ENTRIES]; /* of the decoded block, ascending */
	int n;
	uint64_t first, last; /* what the block covers */
	bool loaded;
};

MUST_USE bool index_cursor_open(struct db *db, struct index_term term, struct index_cursor *c,
				struct err *e);
void index_cursor_close(struct index_cursor *c); /* zeroed is fine */

/* The first entry at or after *seq (@down: the last one at or before it). *blocks counts the
 * blocks that were read. A malformed block is ERR_IO "storage_corrupt". */
MUST_USE bool index_cursor_leap(struct index_cursor *c, bool down, uint64_t *seq, bool *found,
				uint64_t *blocks, struct err *e);

#endif
