/*
 * sandbox - one Lua state that cannot hurt its thread.
 *
 * Purpose    Lua as policies see it: a named list of functions and nothing else, within a budget
 *            of instructions, wall time and memory. The count hook bounds Lua code only, so no
 *            function is offered that could work long in C without charging for it
 *            (sandbox_charge); memory comes from a capped allocator with size classes, which
 *            also watches the deadline, since copying is work, too.
 * Ownership  The sandbox owns its state and all the state's memory.
 * Threads    One owner.
 *
 * What may raise runs inside sandbox_call only: with a cap on memory every lua_push* may.
 */
#ifndef WRIT_POLICY_SANDBOX_H
#define WRIT_POLICY_SANDBOX_H

#include <lua.h>

#include "authz/base/clock.h"
#include "authz/base/mem.h"
#include "include/writ/err.h"

#define SANDBOX_CLASSES 32 /* size classes of 16 bytes: up to 512 */
#define SANDBOX_STEP 1000  /* instructions between two looks at the clock */

enum sandbox_trip { TRIP_NONE, TRIP_INSTRUCTIONS, TRIP_WALL, TRIP_MEMORY };

struct sandbox {
	lua_State *lua;
	const struct alloc *alloc;
	const struct clock *clock;
	const void *set; /* the policy set whose zones the time functions may name */
	void *work;	 /* what the C functions of the host are busy with */

	/* For tests and measurements: instructions between two counts, and who is
	 * told of every line that runs. */
	int step;
	void (*line)(void *ctx, lua_State *L, lua_Debug *ar);
	void *line_ctx;
	uint64_t asked; /* bytes asked for, ever */

	/* Memory */
	size_t used, cap;
	size_t max_nodes; /* of one table's hash part; 0: no bound */
	void *free[SANDBOX_CLASSES];
	struct slab *slabs;
	struct large *larges;
	char *fresh, *fresh_end; /* untouched part of the newest slab */
	bool starved;		 /* the allocator found the time over */
	size_t copied;		 /* bytes asked for since the last look at the clock */

	/* Budget of the running call */
	uint64_t steps, max_steps, looked; /* looked: steps at the last look at the clock */
	int64_t deadline_ns;		   /* 0: nobody has looked at the clock yet */
	uint32_t wall_ms;		   /* 0: no call is running */
	enum sandbox_trip trip;
};

/* An empty state; false without memory. Then sandbox_call(open_prelude...) fills it. */
MUST_USE bool sandbox_open(struct sandbox *sb, const struct alloc *alloc, const struct clock *clock,
			   size_t cap, struct err *e);
void sandbox_close(struct sandbox *sb); /* fine on a closed or zeroed one */

/* Run @fn(L) with @arg as light userdata at index 1, protected and within a budget. On failure
 * false, and @why (a buffer) has one line of text; sb->trip tells a budget from an error. */
MUST_USE bool sandbox_call(struct sandbox *sb, lua_CFunction fn, void *arg, uint32_t instructions,
			   uint32_t wall_ms, char *why, size_t nwhy);

/* From a C function: account for @steps of work; raises when the budget is spent. */
void sandbox_charge(lua_State *L, size_t steps);

static inline struct sandbox *sandbox_of(lua_State *L)
{
	return *(struct sandbox **)lua_getextraspace(L);
}

#endif
