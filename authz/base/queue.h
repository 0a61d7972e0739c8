/*
 * queue - hand objects from one thread to another, in order, up to a bound.
 *
 * Purpose    The only way threads pass work: front loops to the committer, the committer and
 *            the control thread back to the loops. Objects carry their own link, so passing
 *            allocates nothing; a whole chain is passed for one lock.
 * Ownership  A pushed object belongs to the receiver. The queue owns its lock and eventfd.
 * Threads    Any thread may push; one thread takes. The lock guards the list and the count
 *            and is never held over disk, Lua or a callback.
 */
#ifndef WRIT_QUEUE_H
#define WRIT_QUEUE_H

#include <stdint.h>

#include "include/writ/err.h"

struct link {
	struct link *next;
};

/* A chain of links built by one thread, to be pushed at once. */
struct chain {
	struct link *first, **end;
	size_t n;
};

static inline void chain_init(struct chain *c)
{
	c->first = NULL;
	c->end = &c->first;
	c->n = 0;
}

static inline void chain_add(struct chain *c, struct link *l)
{
	l->next = NULL;
	*c->end = l;
	c->end = &l->next;
	c->n++;
}

/* The object that holds @l as its member @m. */
#define LINK_OF(l, type, m) ((type *)(void *)((char *)(l)-offsetof(type, m)))

/* A link with something to run: what the committer, the control thread and the signer's reader
 * push back to the loop that asked. */
struct task {
	struct link link;
	void (*run)(struct task *t); /* on the receiver's thread */
};

/* Run all of a chain of tasks, in order; each may free itself. */
void tasks_run(const struct chain *c);

struct queue;

/* @max objects wait at most. With @eventfd the queue has a descriptor that becomes readable
 * when it turns from empty to not empty. NULL with @e on failure. */
struct queue *queue_new(size_t max, bool eventfd, struct err *e);
/* Must be empty, and who pushed have ended: having an object does not mean that its sender is done
 * with the queue. */
void queue_free(struct queue *q);

/* Push the whole chain (then empty) or, over the bound or after queue_close, nothing: false. */
MUST_USE bool queue_push(struct queue *q, struct chain *c);

/* Push past the bound: for answers, whose number the requests already bounded. */
void queue_push_always(struct queue *q, struct chain *c);

/* Take everything, in order; *c is set. queue_take returns at once (and clears the eventfd);
 * queue_wait sleeps until there is something, the queue is closed, or @timeout_ms has passed
 * (negative: no limit). False: nothing was there. */
bool queue_take(struct queue *q, struct chain *c);
bool queue_wait(struct queue *q, struct chain *c, int timeout_ms);

/* Wake a waiting thread without an object. */
void queue_wake(struct queue *q);

/* From now on pushes fail; what waits can still be taken. */
void queue_close(struct queue *q);

int queue_fd(const struct queue *q); /* the eventfd, or -1 */
size_t queue_len(struct queue *q);   /* for messages and metrics */

#endif
