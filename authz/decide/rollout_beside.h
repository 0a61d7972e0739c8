/*
 * rollout_beside - what the other set said to one request of a roll-out.
 *
 * Purpose    decide.c asks both sets; this keeps the second answer until the first is on record.
 * Ownership  In the request's arena; holds a reference to the roll-out until beside_end.
 * Threads    The worker's own.
 */
#ifndef WRIT_DECIDE_ROLLOUT_BESIDE_H
#define WRIT_DECIDE_ROLLOUT_BESIDE_H

#include "authz/audit/record.h"
#include "authz/decide/rollout_run.h"
#include "authz/decide/worker.h"

struct beside {
	struct rollout *rollout;
	struct rollout_tally *tally; /* may be NULL */
	bool canary;		     /* the candidate counts, and the set in force is beside it */
	struct policy_result result; /* of the set that does not count */
	uint64_t generation;	     /* its number */
};

/* Does a roll-out decide this agent's request, too? NULL: none does. @agent is empty if the request
 * is about none; @in_force: never by the candidate (evaluation.in_force). */
struct beside *beside_begin(struct worker *w, struct str agent, bool in_force, struct arena *a);

/* Members shadow_* of the record, if there are any. */
void beside_record(const struct beside *b, struct record *r);

/* @counts is what was answered; @seq its record, or @recorded is false. Gives back the roll-out.
 * NULL is fine. */
void beside_end(struct beside *b, const struct policy_result *counts, bool recorded, uint64_t seq);

#endif
