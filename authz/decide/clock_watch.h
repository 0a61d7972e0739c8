/*
 * clock_watch - steps of the system's clock are events of the log.
 *
 * Purpose    The time in a record is the operator's word, and never decreases: after the clock was
 *            set back, records stand still in time until it has caught up. So that an auditor can
 *            tell, each step is a record of kind log.clock. A step is what the wall clock does and
 *            the monotonic clock does not: somebody set it, or the machine slept.
 * Threads    One owner: the control thread.
 */
#ifndef WRIT_DECIDE_CLOCK_WATCH_H
#define WRIT_DECIDE_CLOCK_WATCH_H

#include <stdbool.h>
#include <stdint.h>

/* Less is what time services correct without being noticed. */
#define CLOCK_STEP_MS 2000

struct clock_watch {
	int64_t apart_ms; /* wall less monotonic, when last looked */
	bool looked;
};

/* Look at both clocks, a few times a second. The step since the last look in ms, forward or back;
 * 0: none. Slow drift is followed and is no step. */
int64_t clock_watch_step(struct clock_watch *w, int64_t wall_ms, int64_t mono_ns);

struct control;
/* Look, and put a step on record. */
void clock_watch_look(struct control *c);

#endif
