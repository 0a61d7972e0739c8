/*
 * The list, its length and `closed` are guarded by `lock`. A sleeper waits on `filled`; a loop
 * waits on the eventfd, which is written only when the queue turns from empty to not empty, so
 * a busy queue costs its writers no system call.
 */
#include "authz/base/queue.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t filled;
	struct chain waiting; /* guarded by lock */
	bool closed, woken;   /* guarded by lock */
	size_t max;
	int fd;
};

void tasks_run(const struct chain *c)
{
	for (struct link *at = c->first, *next; at; at = next) {
		struct task *t = LINK_OF(at, struct task, link);

		next = at->next;
		t->run(t);
	}
}

struct queue *queue_new(size_t max, bool with_eventfd, struct err *e)
{
	struct queue *q = calloc(1, sizeof(*q));
	pthread_condattr_t attr;

	if (!q) {
		err_set(e, ERR_NOMEM, "no memory for a queue");
		return NULL;
	}
	q->max = max;
	q->fd = with_eventfd ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
	if (with_eventfd && q->fd < 0) {
		err_set(e, ERR_IO, "cannot create an eventfd: %s", strerror(errno));
		free(q);
		return NULL;
	}
	chain_init(&q->waiting);
	pthread_mutex_init(&q->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&q->filled, &attr);
	pthread_condattr_destroy(&attr);
	return q;
}

void queue_free(struct queue *q)
{
	if (!q)
		return;
	assert(!q->waiting.first);
	if (q->fd >= 0)
		close(q->fd);
	pthread_cond_destroy(&q->filled);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

static void signal_eventfd(struct queue *q)
{
	uint64_t one = 1;

	if (q->fd >= 0)
		(void)!write(q->fd, &one, sizeof(one));
}

static bool push(struct queue *q, struct chain *c, size_t max)
{
	bool ok, was_empty;

	if (!c->first)
		return true;
	pthread_mutex_lock(&q->lock);
	was_empty = !q->waiting.first;
	ok = max == SIZE_MAX || (!q->closed && c->n <= max && q->waiting.n <= max - c->n);
	if (ok) {
		*q->waiting.end = c->first;
		q->waiting.end = c->end;
		q->waiting.n += c->n;
	}
	pthread_mutex_unlock(&q->lock);
	if (!ok)
		return false;
	chain_init(c);
	if (was_empty) {
		pthread_cond_signal(&q->filled);
		signal_eventfd(q);
	}
	return true;
}

bool queue_push(struct queue *q, struct chain *c)
{
	return push(q, c, q->max);
}

void queue_push_always(struct queue *q, struct chain *c)
{
	(void)push(q, c, SIZE_MAX);
}

static bool take_locked(struct queue *q, struct chain *c)
{
	chain_init(c);
	if (!q->waiting.first)
		return false;
	c->first = q->waiting.first;
	c->end = q->waiting.end;
	c->n = q->waiting.n;
	chain_init(&q->waiting);
	return true;
}

bool queue_take(struct queue *q, struct chain *c)
{
	uint64_t count;
	bool got;

	/* First the eventfd, then the list: the other way round a push could be lost. */
	if (q->fd >= 0)
		(void)!read(q->fd, &count, sizeof(count));
	pthread_mutex_lock(&q->lock);
	got = take_locked(q, c);
	pthread_mutex_unlock(&q->lock);
	return got;
}

static struct timespec after_ms(int ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	return t;
}

bool queue_wait(struct queue *q, struct chain *c, int timeout_ms)
{
	struct timespec until = after_ms(timeout_ms < 0 ? 0 : timeout_ms);
	bool got;
	int rc = 0;

	pthread_mutex_lock(&q->lock);
	while (!q->waiting.first && !q->closed && !q->woken && rc != ETIMEDOUT)
		rc = timeout_ms < 0 ? pthread_cond_wait(&q->filled, &q->lock)
				    : pthread_cond_timedwait(&q->filled, &q->lock, &until);
	q->woken = false;
	got = take_locked(q, c);
	pthread_mutex_unlock(&q->lock);
	return got;
}

void queue_wake(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->woken = true;
	pthread_mutex_unlock(&q->lock);
	pthread_cond_signal(&q->filled);
	signal_eventfd(q);
}

void queue_close(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->closed = true;
	pthread_mutex_unlock(&q->lock);
	pthread_cond_broadcast(&q->filled);
	signal_eventfd(q);
}

int queue_fd(const struct queue *q)
{
	return q->fd;
}

size_t queue_len(struct queue *q)
{
	size_t n;

	pthread_mutex_lock(&q->lock);
	n = q->waiting.n;
	pthread_mutex_unlock(&q->lock);
	return n;
}
