/*
 * generation_acts - apply a set of policies, and go back to one that was stored.
 *
 * Purpose    The acts of an admin on generations. Each is checked against what the admin believed
 *            to be in force (@if_match), goes on record, and takes effect at once. An apply takes
 *            off the pin of a rollback; a rollback pins. While a roll-out runs, an apply is
 *            refused, and a rollback ends it: going back is never refused.
 * Ownership  An outcome's findings belong to the caller: policy_findings_clear.
 * Threads    The control thread, from tasks.
 */
#ifndef WRIT_DECIDE_GENERATION_ACTS_H
#define WRIT_DECIDE_GENERATION_ACTS_H

#include "authz/decide/control.h"

#define GENERATION_CONFLICT "generation_mismatch" /* code of a failed if_match: HTTP 412 */

struct generation_outcome {
	uint64_t before; /* in force before; 0: none */
	uint64_t number;
	uint8_t hash[32];
	size_t rules;
	bool changed, pinned;
	uint64_t rollout;		 /* the one that a rollback aborted; 0: none */
	struct policy_findings findings; /* warnings, or why it was refused */
};

/* May the set in force be replaced by @act, and is it the one that was meant? out->before is set.
 */
bool generation_may_act(struct control *c, const struct policy_act *act, struct str if_match,
			struct generation_outcome *out, struct err *e);

/* Check @s and store it as a generation, as an apply would, but do not put it into force. *set has
 * a reference. */
bool generation_keep(struct control *c, struct policy_sources *s, const struct policy_act *act,
		     struct policy_set **set, struct policy_findings *findings, struct err *e);

/* Put the sources @s into force. @if_match: hexadecimal hash that must be in force; empty: any.
 * @allow_older: also if signed with a lower version than one before (signing.h). */
bool generation_apply(struct control *c, struct policy_sources *s, struct str by,
		      struct str message, struct str if_match, bool allow_older,
		      struct generation_outcome *out, struct err *e);

/* Go to the stored generation @number; 0: to the one that was in force before the present one. A
 * roll-out that runs is aborted first (out->rollout); with 0 that is all that is done, for it is
 * what changed last. */
bool generation_activate(struct control *c, uint64_t number, struct str by, struct str if_match,
			 struct generation_outcome *out, struct err *e);

/* What was refused is on record as well: who tried to put what into force. @hash may be NULL. */
void generation_refused(struct control *c, const struct policy_act *act, size_t errors,
			const uint8_t *hash, const char *reason);

#endif
