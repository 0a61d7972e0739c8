/*
 * rollout_acts - start, promote and end roll-outs; and end them by themselves.
 *
 * Purpose    One roll-out runs at a time. Its start is on record before it holds, its end holds
 *            before it is on record. Once a second its gates are held against what it has counted
 *            since they were last judged: a candidate that does not keep them is aborted, with
 *            nobody watching. A restart carries it on, with the same agents.
 *            While one runs, the set in force stays: the watched folder waits, apply is refused,
 *            and a rollback ends the roll-out first (generation_acts.h).
 * Ownership  The desk belongs to the control.
 * Threads    The control thread, from tasks. rollout_standing: any.
 */
#ifndef WRIT_DECIDE_ROLLOUT_ACTS_H
#define WRIT_DECIDE_ROLLOUT_ACTS_H

#include "authz/decide/control.h"
#include "authz/decide/rollout_store.h"

#define ROLLOUT_CONFLICT "rollout_mismatch" /* code of a failed if_match: HTTP 412 */
#define ROLLOUT_TAG_MAX 40

/* For control.c: open, carry on at the start, what is due by the clock, keep at the stop. */
MUST_USE bool rollouts_open(struct control *c, struct err *e);
void rollouts_resume(struct control *c);
void rollouts_tick(struct control *c, int64_t now_ns);
void rollouts_stop(struct control *c);
void rollouts_close(struct control *c);

/* The one that runs; 0: none. */
uint64_t rollouts_running(const struct control *c);
/* Refuse what may not be done while one runs. */
MUST_USE bool rollouts_none(const struct control *c, struct err *e);

struct rollout_wish {
	enum rollout_kind kind;
	uint64_t number;		/* the candidate: a stored generation; 0: the sources */
	struct policy_sources *sources; /* checked, tested and stored, but not put into force */
	unsigned percent;		/* of a canary: 1 to 100 */
	struct rollout_gates gates;	/* negative, or min_sample 0: as usual for this kind */
	struct str by, message;
	struct str if_match; /* hexadecimal hash that must be in force; empty: any */
};

/* @findings: of the sources; the caller clears them. *out borrows the texts of @w. */
bool rollout_start(struct control *c, const struct rollout_wish *w, struct rollout_row *out,
		   struct policy_findings *findings, struct err *e);

/* What a client holds an act against: "<id>-<state>". */
void rollout_tag(const struct rollout_row *row, char out[static ROLLOUT_TAG_MAX]);

/* @id 0: the one that runs. @if_match: its tag; empty: any. ERR_CONFLICT if it has ended. */
struct rollout_end {
	uint64_t id;
	struct str by, reason, if_match; /* reason: "asked", "rollback" */
};
/* Put the candidate into force for everybody. */
bool rollout_promote(struct control *c, const struct rollout_end *end, struct rollout_row *out,
		     struct arena *a, struct err *e);
/* Everybody is decided by the set in force again. */
bool rollout_abort(struct control *c, const struct rollout_end *end, struct rollout_row *out,
		   struct arena *a, struct err *e);

/* ---- looking ---- */

bool rollout_look(struct control *c, uint64_t id, struct rollout_row *out, struct arena *a,
		  struct err *e);
/* What it has counted up to now. */
bool rollout_count_up(struct control *c, uint64_t id, struct rollout_report *out, struct err *e);
bool rollout_list(struct control *c, uint64_t before, size_t max,
		  void (*each)(void *ctx, const struct rollout_row *row), void *ctx, struct err *e);

#endif
