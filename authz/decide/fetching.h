/*
 * fetching - the thread that asks other people's servers, for the control thread.
 *
 * Purpose    The control thread knows what is due and judges what came; fetching is done here, one
 *            errand after the other, so that neither a decision nor a change ever waits for
 *            somebody else's server.
 * Ownership  An errand is its sender's until it is sent, and again when done() or drop() is called.
 * Threads    fetching_send: the control thread. fetch() runs on the fetching thread, done() on the
 *            control thread, drop() on whichever one gives up.
 */
#ifndef WRIT_DECIDE_FETCHING_H
#define WRIT_DECIDE_FETCHING_H

#include <stdatomic.h>

#include "authz/decide/control.h"

#define FETCHING_MAX 512 /* errands that wait */

struct errand {
	void (*fetch)(struct errand *x, const atomic_bool *stop);
	void (*done)(struct errand *x);
	void (*drop)(struct errand *x); /* instead of done, when writ stops: free it */
	struct link link;		/* fetching's own */
	struct task task;		/* the same */
};

MUST_USE bool fetching_open(struct control *c, struct fetching **out, struct err *e);
void fetching_stop(struct fetching *f);	 /* NULL is fine */
void fetching_close(struct fetching *f); /* stops it as well; NULL is fine */

/* False: too many wait; done() will not be called. */
MUST_USE bool fetching_send(struct fetching *f, struct errand *x, struct err *e);

#endif
