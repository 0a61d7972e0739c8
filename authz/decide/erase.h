/*
 * erase - an administrator's erasures and legal holds, each on record.
 *
 * Purpose    Whether something may be erased is asked, and it is erased, in one task of the control
 *            thread, where holds are put on and taken off as well. An erasure and its record are
 * one transaction of the log. A hold counts before it is on record; its end is on record before it
 * counts. Threads    The control thread, from tasks.
 */
#ifndef WRIT_DECIDE_ERASE_H
#define WRIT_DECIDE_ERASE_H

#include "authz/audit/hold.h"
#include "authz/decide/control.h"

#define ERASE_REASON_MAX 1000 /* bytes */
#define ERASE_PARTS 16	      /* log.redact records of one act */

struct erase_act {
	struct erase_found *found;
	bool skip_held; /* leave out what is held, in place of refusing all */
	unsigned which;
	struct str by, reason, basis; /* basis: a code, may be empty */
	struct arena *arena;

	/* What was done: one part for each log.redact record. */
	struct erase_part {
		uint64_t seq; /* of the record */
		uint8_t leaf[32];
		struct str records; /* "3,5-7" */
	} parts[ERASE_PARTS];
	size_t nparts;
	uint64_t records, openings;
	uint64_t held;	/* left out */
	bool forgotten; /* the write-ahead log is empty; false: it will be when a reader has ended
			 */
};

/* Nothing is erased if one of the records is held. If a later part fails, those before it are done:
 * e says so. */
MUST_USE bool erase_do(struct control *c, struct erase_act *act, struct err *e);

/* h->by and h->at_ms are filled in by the caller; h->id by this. */
MUST_USE bool hold_put_on(struct control *c, struct hold *h, struct err *e);
MUST_USE bool hold_take_off(struct control *c, uint64_t id, struct str by, struct str reason,
			    struct err *e);

#endif
