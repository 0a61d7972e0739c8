/*
 * outcome - what became of a permitted call: reported by its PEP, on record, once.
 *
 * Purpose    A decision's record is written before its answer leaves; what was then done, and what
 *            it used, only the PEP can tell, and it is its claim. A report names the decision, is a
 *            record (authz.outcome, authz.usage) that names the decision's number, and closes it:
 *            the same report again is answered as the first was, another one is refused.
 * Ownership  A report lives in the call's arena and borrows from it until `done` ran.
 * Threads    The worker's own thread; `done` runs there. Looking up reads log.db: a few
 * microseconds and no decision's record waits for it.
 */
#ifndef WRIT_DECIDE_OUTCOME_H
#define WRIT_DECIDE_OUTCOME_H

#include "authz/audit/outcome.h"
#include "authz/decide/worker.h"

#define OUTCOME_DETAIL_MAX 65536 /* bytes of a report's detail, as canonical JSON */

struct outcome_report {
	struct worker *worker;
	const struct caller *caller;
	struct arena *arena;
	const char *folder; /* where log.db is */
	struct str trace_id;
	bool patient; /* nobody waits for `done`: the record goes along with others */

	enum closing_kind kind;
	uint64_t seq;	   /* of the decision */
	struct str text;   /* the whole report as canonical JSON: what a repetition repeats */
	struct str detail; /* of it: foreign, so it goes into an opening; p == NULL: none */
	size_t masked;	   /* values that the detail is without */
	struct str outcome;
	int64_t duration_ms; /* this and the following: -1 is not said */
	int64_t input_tokens, output_tokens, cost_micros;

	/* class != ERR_NONE: refused, or not on record. */
	void (*done)(struct outcome_report *o);
	void *user;
	uint64_t record; /* that closed the decision */
	bool repeated;	 /* it was there before */
	uint8_t leaf[32];
	struct err failed;
};

/* "success", "failure", ...; NULL-terminated. */
extern const char *const outcome_names[];

/* Fill @o from a report as POST /v1/audit/outcome and /v1/usage take it: kind, worker, caller,
 * arena, folder and done are set, the rest is zero. @body, which o borrows from, has no members but
 * that kind's. False: "invalid_request", "unknown_evaluation", "too_large", or no memory. */
MUST_USE bool outcome_read(struct outcome_report *o, const struct json *body, struct err *e);

void outcome_report(struct outcome_report *o);

/* The number in an evaluation id of this log: "ev_<log key id>_<seq>". */
MUST_USE bool evaluation_seq(const struct core *core, struct str id, uint64_t *seq, struct err *e);

/* The worker's lookup, opened when it is first needed. NULL: @e says why. */
struct closings *worker_closings(struct worker *w, const char *folder, struct err *e);

#endif
