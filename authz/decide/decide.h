/*
 * decide - one authorization request, once down and once back.
 *
 * Purpose    authenticate -> limit -> evaluate -> record. A front has authenticated the caller
 *            (caller.h) and parsed the request; decide() checks what this caller may ask about,
 *            evaluates the policies in force and stages the record. The answer starts as deny and
 *            is given back only when its record is on disk.
 * Ownership  An evaluation lives in the call's arena. What its request borrows is looked at before
 *            decide() returns and not after; caller and delegation until `done` ran. The answer
 *            lives as long as the arena.
 * Threads    The worker's own thread; `done` runs there.
 */
#ifndef WRIT_DECIDE_DECIDE_H
#define WRIT_DECIDE_DECIDE_H

#include "authz/base/json.h"
#include "authz/decide/caller.h"
#include "authz/policy/policy.h"

struct delegation;

struct decision_request {
	const struct json *subject, *action, *resource; /* objects; type, id, name are strings */
	const struct json *context;			/* an object or NULL */
	const struct json *http; /* an object or NULL: what a front read of an HTTP request */
	const struct delegation *delegation; /* on whose behalf the agent acts; NULL: as the
					      * caller's own proof says, if it does */
	struct str request_id;		     /* X-Request-ID, may be empty */
	struct str trace_id;		     /* 32 hex digits, may be empty */
};

struct decision_answer {
	struct policy_result result;
	bool recorded; /* false: not on disk; result is then deny, audit_unavailable */
	uint64_t generation;
	char digest[72];	/* "sha256:<hex>" of the canonical request, NUL-terminated */
	char evaluation_id[40]; /* "ev_<log key id>_<seq>" */
	uint64_t seq;
	uint8_t leaf[32];
	int64_t retry_ms; /* with refused ERR_RATE */

	/* class != ERR_NONE: the caller may not ask this (403), or not so often (429). */
	struct err refused;
	struct err unrecorded; /* why it is not */
};

struct evaluation {
	struct decision_request request;
	const struct caller *caller;
	struct arena *arena;
	bool admitted; /* decide_admit said yes to this one already, as part of a batch */
	bool in_force; /* by the set in force, though a canary may have picked the agent */
	bool bare;     /* who asks carries out nothing: a permit with obligations is a denial */
	void (*done)(struct evaluation *d, const struct decision_answer *a);
	void *user;
};

/* @done may run before this returns. The decision as judged is returned at once, for those who go
 * on by it; it holds only if @done says the same, for a record that fails makes it a denial. All
 * that is decided within a turn of the loop is decided by one policy set. */
enum decision decide(struct worker *w, struct evaluation *d);

/* May @c ask for decisions at all (403), and @n times now (429, *retry_ms says when)? */
MUST_USE bool decide_admit(struct worker *w, const struct caller *c, uint32_t n, int64_t *retry_ms,
			   struct err *e);

/* Would a canary's candidate decide d->request? A batch is decided by one set: by the candidate if
 * that is to decide each of its items, else (in_force) by the one in force. */
bool decide_in_canary(struct worker *w, struct evaluation *d);

/* What the set in force would say to d->request now. No record, so nothing may be granted by it:
 * for searches, whose page is one generation's. Texts live in d->arena. */
void decide_peek(struct worker *w, struct evaluation *d, struct policy_result *out);

/* What @r is to one who carries out nothing (evaluation.bare). */
void decide_bare(struct policy_result *r);

/* The opening `answer` of a result: what the policy said beyond decision and reason. p == NULL:
 * nothing, or no memory. */
struct str decide_answer_opening(const struct policy_result *r, struct arena *a);

#endif
