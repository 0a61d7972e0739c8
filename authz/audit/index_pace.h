/*
 * index_pace - when indexing waits for the log to calm down.
 *
 * Purpose    To index a record costs about a tenth of what deciding it took, and while every core
 *            is busy that tenth is missing to the decisions. Nobody misses the index meanwhile: a
 *            search reads what is not in it from the log. So indexing waits while records come
 *            fast, but never gets further behind than lag_max records: then it goes on at any load.
 * Threads    No state but the caller's.
 */
#ifndef WRIT_AUDIT_INDEX_PACE_H
#define WRIT_AUDIT_INDEX_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define INDEX_BUSY_PER_S 10000 /* records per second; a core has some 100,000 in it */
#define INDEX_LAG_MAX 1000000  /* records: a search reads them in a second or two */

struct index_pace {
	uint64_t lag_max;
	uint64_t size; /* of the log at... */
	int64_t at_ns; /* 0: never looked */
	bool busy;
};

/* The log has @size records by @now_ns (of a clock that never goes back), and the index
 * @indexed of them: does it wait? Call it at every look, in order. */
bool index_pace_waits(struct index_pace *p, uint64_t size, uint64_t indexed, int64_t now_ns);

#endif
