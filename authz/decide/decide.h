/*
 * decide - one authorization request, once down and once back.
 *
 * Purpose    authenticate -> limit -> evaluate -> record. A front has authenticated the caller
 *            (caller.h) and parsed the request; decide() checks what this caller may ask about,
 *            evaluates the policies in force and stages the record. The answer starts as deny and
 *            is given back only when its record is on disk.
 * Ownership  An evaluation lives in the call's arena and borrows from it until `done` ran.
 * Threads    The worker's own thread; `done` runs there.
 */
#ifndef WRIT_DECIDE_DECIDE_H
#define WRIT_DECIDE_DECIDE_H

#include "authz/base/json.h"
#include "authz/decide/caller.h"
#include "authz/policy/policy.h"

struct decision_request {
	const struct json *subject, *action, *resource; /* objects; type, id, name are strings */
	const struct json *context;			/* an object or NULL */
	struct str request_id;				/* X-Request-ID, may be empty */
	struct str trace_id;				/* 32 hex digits, may be empty */
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
	void (*done)(struct evaluation *d, const struct decision_answer *a);
	void *user;
};

void decide(struct worker *w, struct evaluation *d);

#endif
