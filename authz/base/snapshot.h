/*
 * snapshot - share one immutable object that is replaced as a whole.
 *
 * Purpose    Policy sets, trust bundles, the registry, certificates and settings are built
 *            whole by the control thread and then swapped in. A reader that keeps its object
 *            over many requests pays one atomic load to learn that it is still current.
 * Ownership  An object starts with a struct shared at its head and one reference, its maker's.
 *            slot_publish takes over that reference. Who acquires, releases.
 * Threads    Any. The slot's lock guards the pointer while a reference is added.
 */
#ifndef WRIT_SNAPSHOT_H
#define WRIT_SNAPSHOT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "authz/base/queue.h"

struct shared {
	atomic_uint refs;
	void (*free)(struct shared *s); /* called by the last shared_release */
};

void shared_init(struct shared *s, void (*free)(struct shared *s));
void shared_acquire(struct shared *s);
void shared_release(struct shared *s); /* NULL is fine */

struct slot {
	pthread_mutex_t lock;
	struct shared *current;	      /* guarded by lock */
	struct queue *watcher;	      /* guarded by lock; woken by each publication, or NULL */
	atomic_uint_fast64_t version; /* counts publications */
};

void slot_init(struct slot *s);
void slot_clear(struct slot *s);

/* Replace the current object; the old one lives on with those who hold it. */
void slot_publish(struct slot *s, struct shared *obj);

/* From now on each publication wakes the thread that waits on @q, which then finds the new object
 * by slot_refresh. NULL: nobody any more. One watcher. */
void slot_watch(struct slot *s, struct queue *q);

/* The current object with a reference for the caller, or NULL if there is none. */
struct shared *slot_acquire(struct slot *s);

/* What a long-lived reader keeps. */
struct held {
	struct shared *obj;
	uint64_t version;
};

/* Bring @h up to date and return its object (NULL if the slot is empty). Costs one atomic
 * load when nothing changed. *changed tells, if not NULL. */
struct shared *slot_refresh(struct slot *s, struct held *h, bool *changed);
void held_clear(struct held *h);

#endif
