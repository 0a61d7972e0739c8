/* pending - what worker.c needs of pending.c and nobody else does. */
#ifndef WRIT_DECIDE_PENDING_H
#define WRIT_DECIDE_PENDING_H

struct worker;

void pending_expire(struct worker *w);

#endif
