/*
 * decide_inside - a decision on its way; for decide*.c only.
 *
 * Purpose    decide.c decides and answers, decide_record.c says what is written down.
 * Ownership  An inquiry lives in the call's arena; a pending record in its own.
 * Threads    The front's that decides.
 */
#ifndef WRIT_DECIDE_INSIDE_H
#define WRIT_DECIDE_INSIDE_H

#include "authz/decide/decide.h"
#include "authz/decide/worker.h"

/* What a decision needs until its record is on disk. */
struct inquiry {
	struct evaluation *d;
	struct worker *w;
	const struct registry_entry *agent;  /* registered; NULL otherwise */
	struct str agent_id;		     /* whom the request is about; empty: no agent */
	const struct delegation *delegation; /* on whose behalf it acts; NULL: its own */
	struct beside *beside;		     /* the other set's answer; NULL: no roll-out */
	int64_t now_ms, started_ns;
	uint8_t policy_hash[32];
	size_t masked;		       /* values that the record does not have */
	struct decision_answer answer; /* last: its errors are not cleared as a whole */
};

/* Draft the record of @i, which is decided. False: no memory. */
bool decide_write_record(struct inquiry *i, struct pending *p);

#endif
