/*
 * rollout_beside - what the other set said to one request of a roll-out.
 *
 * Purpose    decide.c asks both sets; this keeps the second answer until the first is on record.
 * Ownership  In the request's arena. A decision that came out otherwise holds a reference to the
 *            roll-out until it is on record; others have no more use for it then, and no thread
 *            counts references for each request.
 * Threads    The worker's own.
 */
#ifndef WRIT_DECIDE_ROLLOUT_BESIDE_H
#define WRIT_DECIDE_ROLLOUT_BESIDE_H

#include "authz/audit/record.h"
#include "authz/decide/rollout_run.h"
#include "authz/decide/worker.h"

struct beside {
	struct rollout *rollout; /* within the turn; beyond it if @differs */
	uint64_t id;
	struct rollout_tally *tally; /* may be NULL */
	bool differs;		     /* from what counts */
	bool canary;		     /* the candidate counts, and the set in force is beside it */
	struct policy_result result; /* of the set that does not count */
	uint64_t generation;	     /* its number */
};

/* Does a roll-out decide this agent's request, too? NULL: none does. @agent is empty if the request
 * is about none; @in_force: never by the candidate (evaluation.in_force). */
struct beside *beside_begin(struct worker *w, struct str agent, bool in_force, struct arena *a);

/* Both have decided: @counts is what counts. */
void beside_compare(struct beside *b, const struct policy_result *counts);

/* Members shadow_* of the record, if there are any. */
void beside_record(const struct beside *b, struct record *r);

/* @counts, as compared, is on record as @seq, or @recorded is false. NULL is fine. */
void beside_end(struct beside *b, const struct policy_result *counts, bool recorded, uint64_t seq);

#endif
