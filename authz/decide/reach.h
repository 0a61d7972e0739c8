/*
 * reach - who could be allowed something, and what an agent could be allowed.
 *
 * Purpose    Puts policy_could to the registry's active agents, or to everything in the catalogue,
 *            one page at a time. Nothing is evaluated, decided or put on record: it is a way of
 *            reading the policies. For the operators' door, never on a decision's path.
 * Ownership  Results live in the page's arena and borrow from the worker's snapshots: of one turn.
 * Threads    The worker's own thread.
 */
#ifndef WRIT_DECIDE_REACH_H
#define WRIT_DECIDE_REACH_H

#include "authz/decide/worker.h"
#include "authz/policy/could.h"

#define REACH_RESULTS 1000  /* of one page */
#define REACH_LOOKED 20000  /* agents or entries that one page looks at */
#define REACH_RULES 200	    /* rules that are told of one result */
#define REACH_NS 50000000LL /* of one page: the operators' door has other guests */

struct reach_result {
	struct str name;  /* SPIFFE ID, tool or model */
	const char *kind; /* "agent", "tool", "model" */
	enum could could;
	const struct could_rule *rules;
	size_t n, all; /* rules told, and rules that apply */
};

struct reach {
	struct arena *arena;
	struct str after; /* go on behind this one; empty: from the start */
	size_t limit;	  /* results, 1 to REACH_RESULTS */

	/* The answer. */
	struct reach_result *results;
	size_t n;
	size_t looked;
	bool more;	 /* there may be others behind @last */
	struct str last; /* in the arena */
};

/* Which active agents could be allowed @action on the tool or model @id (@type says which). In the
 * order of registry_scan. Fails with unknown_tool, unknown_model, no_policy, or without memory. */
MUST_USE bool reach_who(struct worker *w, struct reach *r, struct str action, struct str type,
			struct str id, struct err *e);

/* Which tools and models @agent could be allowed; tools first, each in order of id; @after and
 * @last are "tool:ID" or "model:ID". An agent that is not active could be allowed nothing. Fails
 * with unknown_agent, no_policy, or without memory. */
MUST_USE bool reach_what(struct worker *w, struct reach *r, const struct registry_entry *agent,
			 struct err *e);

/* One agent, one thing after the other: cheap enough for a list that is on its way to the agent. */
struct reach_one {
	const struct policy_set *set;
	uint32_t *room;
	struct could_question q;
};

/* Fails with unknown_agent (not registered, not active), no_policy, or without memory. */
MUST_USE bool reach_begin(struct reach_one *r, struct worker *w, struct str agent, struct arena *a,
			  struct err *e);

/* Could some call of the tool @id be allowed, or asked about? Not if it is not in the catalogue. */
bool reach_tool(struct reach_one *r, struct str id);
/* The same of what stands in no catalogue: a prompt, a resource. */
bool reach_id(struct reach_one *r, struct str action, struct str type, struct str id);

#endif
