/*
 * rig - a decision core in a temporary folder: real log, real registry, real policies, no sockets.
 *
 * Purpose    Tests of decide() turn the loop by hand: ask, pump until the answer is there. Time
 *            stands still until the test moves it.
 * Threads    The test's own; the log's committer runs beside it.
 */
#ifndef TESTS_DECIDE_RIG_H
#define TESTS_DECIDE_RIG_H

#include "authz/decide/decide.h"
#include "authz/decide/worker.h"

struct rig {
	char folder[64];
	struct clock_fixed time;
	struct clock clock;
	struct core core;
	struct db *db;
	struct registry *registry;
	struct home home;
	struct worker worker;
	void *log_key;			     /* EVP_PKEY */
	atomic_int fatal;		     /* how often the log said it is lost */
	const struct delegation *delegation; /* of whoever asks; NULL: none */
	/* Of rig_ask: called when the request is read and before the turn begins, where faults are
	 * armed; and when the answer is there. May be NULL. */
	void (*before)(void *ctx);
	void (*after)(void *ctx);
	void *ctx;
};

struct rig_options {
	const char *source;    /* text of the one policy file; NULL: no policies */
	const char *catalogue; /* text of the catalogue; NULL: none */
	const char *base;      /* where the temporary folder is made; NULL: /tmp */
	size_t queue;	       /* records that may wait; 0: 64 */
	int64_t now_ms;	       /* where the clock stands; 0: in 2027 */
	bool no_registry;      /* the test brings its own */
};
void rig_start_with(struct rig *r, const struct rig_options *o);

/* @source is the text of the one policy file, @catalogue of the catalogue (may be NULL). Fails the
 * test if anything does not start. */
void rig_start(struct rig *r, const char *source, const char *catalogue);
void rig_stop(struct rig *r);

/* Register an agent with one attribute, team. */
void rig_agent(struct rig *r, const char *id, const char *team);
void rig_change(struct rig *r, const char *id, enum registry_verb verb);

/* What came back. */
struct rig_answer {
	bool done;
	struct decision_answer a; /* texts live until the next rig_ask */
};

/* Ask as @roles named @caller, with the JSON text of a request; wait for the answer. */
struct rig_answer rig_ask(struct rig *r, struct str caller, unsigned roles, const char *request);

/* Put the set of @source in force as @generation. Fails the test if it does not load. */
void rig_policies(struct rig *r, const char *source, const char *catalogue, uint64_t generation);

/* The same, in two steps: ask only. The answer is filled when the record is there. */
struct rig_answer *rig_ask_only(struct rig *r, struct str caller, unsigned roles,
				const char *request);

/* One turn: expire, submit, take what the committer sent. False: nothing came for @ms. */
bool rig_pump(struct rig *r, int ms);

/* Records in the log, and the newest leaf's text (static storage). */
uint64_t rig_size(struct rig *r);
const char *rig_leaf(struct rig *r, uint64_t seq);

#endif
