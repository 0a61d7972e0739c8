/*
 * index_build - bring index.db up to the log, step by step, without a thread.
 *
 * Purpose    Reads committed records in short pages, so that it never keeps the log's WAL from
 *            being reused, and adds what it read in one transaction of index.db. It begins where
 *            the head says it was, if the record there is still the one it saw; if not (another
 *            log, an older copy of either file, another version, damage) it begins anew.
 * Ownership  A builder owns its two connections. Memory is bounded: INDEX_POSTS entries.
 * Threads    One owner at a time, beside the log's writer and any reader.
 */
#ifndef WRIT_AUDIT_INDEX_BUILD_H
#define WRIT_AUDIT_INDEX_BUILD_H

#include "authz/audit/index_store.h"

#define INDEX_POSTS 262144 /* entries in one transaction: some 24,000 records */

struct index_build;

struct index_progress {
	uint64_t indexed, size; /* records in the index; in the log when last looked */
	uint64_t rebuilds;	/* times it began anew, but for the first time */
	bool more;		/* there is more to do at once */
};

MUST_USE bool index_build_new(const char *folder, const char *vfs, struct index_build **out,
			      struct err *e);
void index_build_free(struct index_build *b); /* NULL is fine */

/* How far is the index, and how far the log? Nothing is added. */
MUST_USE bool index_build_look(struct index_build *b, struct index_progress *p, struct err *e);

/* Add the next records. A failure of either call leaves the index as it was; after it both files
 * are opened anew by the next one, and a damaged index.db is thrown away. A damaged log.db is not
 * mended here: the index stays at the record before. */
MUST_USE bool index_build_step(struct index_build *b, struct index_progress *p, struct err *e);

/* The next step begins anew. */
void index_build_again(struct index_build *b);

#endif
