/*
 * could - what the rules could say to an agent, before there is a request.
 *
 * Purpose    For people who review policies: which agents could be allowed a tool, and which tools
 *            an agent could be allowed. `on` is data, so it is decided here for good, through the
 *            same index as a decision; a `when` looks at a request, of which there is none, so a
 *            rule that has one may hit or may not: COULD_DEPENDS, and the line of the function is
 *            told. No Lua runs. What a decision adds to it: the arguments must be those that the
 *            tool declares, and an error in a `when` denies.
 *            AuthZEN's searches (authz/decide/search.h) are another thing: they put one concrete
 *            request to the ordinary evaluation, and their results are permits.
 * Ownership  Answers borrow from the set and from @room.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_POLICY_COULD_H
#define WRIT_POLICY_COULD_H

#include "authz/policy/policy.h"

enum could {
	COULD_NOT,     /* no rule permits or asks, or a deny without `when` always hits */
	COULD_DEPENDS, /* on at least one `when` */
	COULD_ASK,     /* always asked about: only a person's yes permits */
	COULD_PERMIT,  /* always permitted */
};
extern const char *const could_names[]; /* "no" "depends" "ask" "permit" */

/* The agent as a decision would see it, and what it would do. */
struct could_question {
	struct str action, type, id; /* "tools/call", "tool", "payments/create" */
	struct str agent_id, agent_owner;
	const struct policy_attribute *attributes; /* sorted by name */
	size_t nattributes;
};

struct could_rule {
	struct str rule, file; /* "finance/payments" */
	const char *effect;    /* "permit"... */
	int line;	       /* of the rule */
	int when_line;	       /* of its `when`; 0: it has none, so it hits whenever it applies */
};

struct could_answer {
	enum could could;
	size_t n; /* rules that apply, in the order of evaluation: deny, ask, permit */
};

/* Numbers of rules, for could_rule_at: room for one question of any kind to @set. NULL: no memory.
 * The same room serves one question after the other. */
uint32_t *could_room(const struct policy_set *set, struct arena *a);

void policy_could(const struct policy_set *set, const struct could_question *q, uint32_t *room,
		  struct could_answer *out);

/* The @i-th rule of the answer that @room holds. */
struct could_rule could_rule_at(const struct policy_set *set, const uint32_t *room, size_t i);

#endif
