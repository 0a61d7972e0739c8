/*
 * state - one thread's Lua state for one set; private to authz/policy.
 *
 * Purpose    Files of the set are run in it when a rule of theirs first applies, so that a state
 *            is made anew in some 30 us after a trip, however many rules there are.
 * Ownership  Holds a reference to its set.
 * Threads    One owner.
 */
#ifndef WRIT_POLICY_STATE_H
#define WRIT_POLICY_STATE_H

#include "authz/policy/index.h"
#include "authz/policy/sandbox.h"
#include "authz/policy/set.h"

#define WHY_MAX 512 /* bytes of an error's text */

/* What tests and measurements see of the rules; any array may be NULL. */
enum { WATCH_TRUE = 1, WATCH_FALSE = 2 };
struct watch_cost {
	uint64_t runs, ns, steps, bytes;
};
struct watch {
	uint8_t *seen;		 /* of each rule of the set: WATCH_* */
	struct watch_cost *cost; /* of the `when` of each rule */
	bool ran;		 /* an evaluation came as far as the rules */
	int step;		 /* as the sandbox has it; 0: its default */
	void (*line)(void *ctx, lua_State *L, lua_Debug *ar);
	void *ctx;
};

/* Where in a state's registry values stand; numbers are found faster than names and addresses. */
enum { STATE_WORDS = LUA_RIDX_LAST + 8, STATE_WHENS, STATE_META, STATE_LATER };

/* What q.agent was of agents that came lately; see input_agent.c. */
#define AGENTS_BITS 7
struct agent_place {
	uint64_t tag, seen;		 /* of the one that is kept; of the last that was not */
	const struct known_agent *known; /* Lua's memory; NULL: none is kept */
	size_t bytes;
};
struct agents {
	struct agent_place places[1 << AGENTS_BITS];
	size_t bytes; /* of all that is kept */
};

struct policy_state {
	struct policy_set *shared;
	const struct set *set;
	const struct alloc *alloc;
	const struct clock *clock;
	struct sandbox sb;
	bool open;	     /* the sandbox can be used */
	size_t resident;     /* bytes in use after the last file was run, agents apart */
	bool *bound;	     /* files that were run */
	uint32_t *found;     /* room for candidates */
	struct watch *watch; /* or NULL; set before the first evaluation */
	struct agents agents;
	uint64_t evaluations; /* that ran Lua, ever */
};

/* One evaluation, for the C functions that build q and run rules. */
struct evaluation {
	const struct facts *facts;
	const struct set *set;
	const uint32_t *rules;
	uint32_t n;
	const struct rule *current; /* whose `when` runs */
	const struct rule *deny, *ask, *permit;
	struct watch *watch;   /* or NULL */
	struct agents *agents; /* of the state that runs it */
	uint64_t number;       /* no two of a state have the same */
};

/* Make the sandbox usable again, if need be. On failure @why has the text. */
MUST_USE bool state_open(struct policy_state *st, char why[static WHY_MAX]);

/* Run file @file, if that was not done before. */
MUST_USE bool state_bind(struct policy_state *st, uint32_t file, char why[static WHY_MAX]);

/* Evaluate the rules of @ev within the budget; @body bytes of request. */
MUST_USE bool state_run(struct policy_state *st, struct evaluation *ev, size_t body,
			char why[static WHY_MAX]);

void state_close(struct policy_state *st);

/* Split "3:12: text", as Lua names chunk 3, line 12. False if @why does not begin so. */
bool state_where(const struct set *set, const char *why, struct str *path, int *line,
		 const char **text);

/* The metatable that fills q when it is looked at, left on the stack. May raise. */
void input_push_meta(lua_State *L);

/* A value of the request (input_value.c), left on the stack: JSON's null is absent, members are
 * left out, elements skipped, so that a list never has holes, where Lua's length is anybody's
 * guess. May raise. */
void input_push_value(lua_State *L, const struct json *v);
/* The metatable of what is made later; the state keeps it as STATE_LATER. May raise. */
void input_push_later(lua_State *L);

/* Of __newindex: raise what Lua says of a key that none can be, at the policy's line. */
void input_check_key(lua_State *L);

/* q.agent, left on the stack. Called by a C function whose first upvalue is the list of the
 * metatables of @all. May raise. */
void input_push_agent(lua_State *L, struct agents *all, const struct policy_request *q);

#endif
