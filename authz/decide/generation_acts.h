/*
 * generation_acts - apply a set of policies, and go back to one that was stored.
 *
 * Purpose    The acts of an admin on generations. Each is checked against what the admin believed
 *            to be in force (@if_match), goes on record, and takes effect at once. An apply takes
 *            off the pin of a rollback; a rollback pins.
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
	struct policy_findings findings; /* warnings, or why it was refused */
};

/* Put the sources @s into force. @if_match: hexadecimal hash that must be in force; empty: any. */
bool generation_apply(struct control *c, struct policy_sources *s, struct str by,
		      struct str message, struct str if_match, struct generation_outcome *out,
		      struct err *e);

/* Go to the stored generation @number; 0: to the one that was in force before the present one. */
bool generation_activate(struct control *c, uint64_t number, struct str by, struct str if_match,
			 struct generation_outcome *out, struct err *e);

#endif
