#include "authz/base/snapshot.h"

#include <stddef.h>

void shared_init(struct shared *s, void (*free)(struct shared *s))
{
	atomic_init(&s->refs, 1);
	s->free = free;
}

void shared_acquire(struct shared *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
}

void shared_release(struct shared *s)
{
	if (s && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
		s->free(s);
}

void slot_init(struct slot *s)
{
	pthread_mutex_init(&s->lock, NULL);
	s->current = NULL;
	s->watcher = NULL;
	atomic_init(&s->version, 0);
}

void slot_clear(struct slot *s)
{
	shared_release(s->current);
	s->current = NULL;
	pthread_mutex_destroy(&s->lock);
}

void slot_publish(struct slot *s, struct shared *obj)
{
	struct shared *old;

	pthread_mutex_lock(&s->lock);
	old = s->current;
	s->current = obj;
	atomic_fetch_add_explicit(&s->version, 1, memory_order_release);
	if (s->watcher)
		queue_wake(s->watcher);
	pthread_mutex_unlock(&s->lock);
	shared_release(old);
}

void slot_watch(struct slot *s, struct queue *q)
{
	pthread_mutex_lock(&s->lock);
	s->watcher = q;
	pthread_mutex_unlock(&s->lock);
}

static struct shared *acquire(struct slot *s, uint64_t *version)
{
	struct shared *obj;

	pthread_mutex_lock(&s->lock);
	obj = s->current;
	if (obj)
		shared_acquire(obj);
	*version = atomic_load_explicit(&s->version, memory_order_relaxed);
	pthread_mutex_unlock(&s->lock);
	return obj;
}

struct shared *slot_acquire(struct slot *s)
{
	uint64_t version;

	return acquire(s, &version);
}

struct shared *slot_refresh(struct slot *s, struct held *h, bool *changed)
{
	bool stale = atomic_load_explicit(&s->version, memory_order_acquire) != h->version;

	if (changed)
		*changed = stale;
	if (stale) {
		shared_release(h->obj);
		h->obj = acquire(s, &h->version);
	}
	return h->obj;
}

void held_clear(struct held *h)
{
	shared_release(h->obj);
	*h = (struct held){ 0 };
}
