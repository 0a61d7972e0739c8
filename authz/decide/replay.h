/*
 * replay - compute recorded decisions again, and say which ones come out otherwise.
 *
 * Purpose    A record holds what its decision was computed from; the generation that it names has
 *            the policies. With its own generation every decision must come out byte for byte as
 *            it is on record; with a candidate, what differs is what the candidate would change.
 *            Reads log.db and writ.db beside a running server and disturbs it in nothing.
 *            Whether openings are what the record committed to is `writ audit verify`'s business.
 * Ownership  A row points into the replay and lives until the next call on it.
 * Threads    One owner.
 */
#ifndef WRIT_DECIDE_REPLAY_H
#define WRIT_DECIDE_REPLAY_H

#include "authz/audit/read.h"
#include "authz/policy/explain.h"
#include "authz/policy/policy.h"

struct replay_config {
	const char *folder; /* with log.db and writ.db */
	const struct alloc *alloc;
	struct policy_limits limits;
	struct policy_set *candidate; /* NULL: the generation that each record names */
	/* With @candidate: what its decisions are held against. NULL: those on record. */
	struct policy_set *baseline;
	struct str agent, tool;	    /* only theirs; empty: all */
	int64_t since_ms, until_ms; /* 0: open */
	uint64_t from, to;	    /* of seq; to == 0: to the end */
};

enum replay_verdict {
	REPLAY_SAME,
	REPLAY_CHANGED,
	REPLAY_SETTLED,	 /* denied before the policies were asked: no policy changes it */
	REPLAY_REDACTED, /* an opening was erased, or values masked: not guessed */
	REPLAY_TIMED,	 /* it ran out of time, which no second run can repeat */
	REPLAY_ENGINE,	 /* decided by another version of the engine */
	REPLAY_UNKNOWN,	 /* the policies that decided are not stored, or do not load */
	REPLAY_VERDICTS,
};
extern const char *const replay_verdict_names[REPLAY_VERDICTS];

/* What settles a decision: the reasons of those who were denied for who they were. Whether that was
 * right then is the registry's business, of which the record has no more than the outcome. */
#define REPLAY_SETTLERS 4
extern const char *const replay_settlers[REPLAY_SETTLERS]; /* "unknown_agent"... */

/* What was or is said. */
struct replay_side {
	struct str decision, reason, rule, tool, model;
	struct str answer; /* the opening `answer`, or empty */
};

/* What the other set of a roll-out said beside a decision, without effect; from the record. */
struct replay_shadow {
	struct str decision; /* empty: no roll-out ran */
	struct str reason, rule;
	uint64_t rollout, generation;
};

struct replay_row {
	uint64_t seq;
	int64_t time_ms;
	uint64_t generation;
	struct str agent;
	enum replay_verdict verdict;
	unsigned settler;	    /* of REPLAY_SETTLED: in replay_settlers */
	struct replay_side was, is; /* is: of REPLAY_SAME and REPLAY_CHANGED only */
	struct replay_shadow shadow;
};

struct replay;

MUST_USE bool replay_open(const struct replay_config *c, struct replay **out, struct err *e);
void replay_close(struct replay *r); /* NULL is fine */

/* The next decision; *got false at the end. */
MUST_USE bool replay_next(struct replay *r, struct replay_row *row, bool *got, struct err *e);

/* The decision that replay_next gave last, computed with a trace. False: it cannot be. */
MUST_USE bool replay_explain(struct replay *r, struct policy_trace *out, struct err *e);
/* Its openings as they are on record, for people; empty if erased. */
struct str replay_opening(const struct replay *r, enum opening which);

/* Records [0, this) were pruned: what was decided there is not looked at. */
uint64_t replay_pruned(const struct replay *r);

/* Records that are left to look at. */
uint64_t replay_left(const struct replay *r);

#endif
