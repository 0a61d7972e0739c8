/*
 * definitions - how pinned tools are described to agents now, and who accepted that.
 *
 * Purpose    The catalogue pins the definitions that were reviewed (policy.h). Fronts that see a
 *            server's list of tools compare it with the pins and tell the control thread what is
 *            new; it keeps that, puts it on record and publishes what decisions go by: the digest
 *            seen last, what changed against the pin, and what was accepted in its place. Two
 *            persons accept: one proposes a digest, another one says the same digest again.
 * Ownership  A view is shared and immutable; its texts live with it.
 * Threads    Views and their functions: any. The acts: the control thread.
 */
#ifndef WRIT_DECIDE_DEFINITIONS_H
#define WRIT_DECIDE_DEFINITIONS_H

#include "authz/decide/control.h"

/* A definition other than the one seen last, and no worse, is news only so long after that: a
 * server that lists this and that in turn writes two records a minute, not one for each list. What
 * turns from good to changed is news at once. */
#define DEFINITION_PAUSE_MS 60000

/* The rest of what is known of the tool with the same number in view->known. */
struct definition_standing {
	struct str seen_by;
	int64_t seen_ms;
	struct str proposed, proposed_by; /* for the pin in force; else empty */
	int64_t proposed_ms;
	struct str accepted_first, accepted_by;
	int64_t accepted_ms;
};

struct definition_view {
	struct shared shared;
	struct arena arena;
	struct policy_definition *known; /* n, in order of tool: for policy_request */
	struct definition_standing *standing;
	size_t n;
};

/* The number of @tool in @v (may be NULL), or v->n. */
size_t definition_find(const struct definition_view *v, struct str tool);

/* Somebody lists a pinned tool by @digest. Is that as reviewed? *news: does the control thread have
 * to know? */
bool definition_judge(const struct definition_view *v, const struct policy_pin *pin,
		      struct str digest, int64_t now_ms, bool *news);

/* ---- control thread ---- */

MUST_USE bool definitions_open(struct control *c, struct err *e);
void definitions_close(struct control *c);
/* After other policies came into force: publish what is known against their pins. */
void definitions_tick(struct control *c);

/* A pinned tool as it was listed. */
struct definition_sighting {
	struct str tool, digest, text; /* text: its canonical form */
};
/* Keep, publish and put on record what is news of them. @by: who saw the list. */
MUST_USE bool definitions_observe(struct control *c, const struct definition_sighting *list,
				  size_t n, struct str by, struct err *e);

/* An acceptance of @digest, which must be the one seen last, by @by. *accepted false: it is
 * proposed now, and another one has to say the same. Refused with unknown_pin, definition_mismatch,
 * nothing_to_accept, second_person. */
MUST_USE bool definition_accept(struct control *c, struct str tool, struct str digest,
				struct str by, bool *accepted, struct err *e);
/* What was proposed and accepted for @tool is void. */
MUST_USE bool definition_withdraw(struct control *c, struct str tool, struct str by, struct err *e);

/* All about one tool; texts in @a. */
struct definition_report {
	struct policy_pin pin;
	struct policy_definition known; /* observed empty: never seen */
	struct definition_standing standing;
	bool good;		     /* what was seen last may be called; also if nothing was */
	const struct json *was, *is; /* the definitions, as far as they are known; else NULL */
};
MUST_USE bool definition_report(struct control *c, struct str tool, struct arena *a,
				struct definition_report *out, struct err *e);

#endif
