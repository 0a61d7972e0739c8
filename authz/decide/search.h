/*
 * search - who may, on what, doing what: AuthZEN's three searches over scripted policies.
 *
 * Purpose    Candidates come from what writ owns: registered agents, tools and models of the
 *            catalogue, actions that rules speak of. Each is put to the ordinary evaluation, and
 *            what is permitted is a result. Nothing is reserved and no candidate is a decision:
 *            one record of kind authz.search says who searched for what and how much was found.
 *            A search is cut into pages by results, by candidates and by time, so that it never
 *            keeps a loop; it goes on behind the last candidate looked at.
 * Ownership  A search lives in the call's arena and borrows from it until `done` ran.
 * Threads    The worker's own thread; `done` runs there.
 */
#ifndef WRIT_DECIDE_SEARCH_H
#define WRIT_DECIDE_SEARCH_H

#include "authz/decide/decide.h"

#define SEARCH_CANDIDATES 2000 /* of one page */
#define SEARCH_NS 4000000      /* of the loop's time, for one page */
#define SEARCH_COST 64	       /* candidates that count as one request of an agent */

enum search_kind { SEARCH_SUBJECT, SEARCH_RESOURCE, SEARCH_ACTION };

struct search_result {
	struct str name;	/* id of an agent, tool or model, or name of an action */
	struct str obligations; /* canonical JSON array; empty if none */
};

struct search {
	enum search_kind kind;
	/* What is searched for has its type alone; the action of an action search is NULL. */
	struct decision_request request;
	const struct caller *caller;
	struct arena *arena;
	struct str after; /* go on behind this name; empty: from the start */
	uint32_t limit;	  /* results at most */
	void (*done)(struct search *s, const struct err *e);
	void *user;

	/* The answer; of a failed search (e->class != ERR_NONE) only retry_ms, with ERR_RATE. */
	struct search_result *results; /* in the arena */
	size_t n;
	bool more;	 /* there may be others behind @last */
	struct str last; /* in the arena */
	int64_t retry_ms;
};

/* An agent that is no PEP searches as itself only; what it asks about others has no results. */
void search_run(struct worker *w, struct search *s);

/* The request in canonical form: of two pages of one search it is the same. */
void search_canonical(const struct search *s, struct buf *b);

#endif
