#include "authz/decide/fetching.h"

#include <stdlib.h>
#include <unistd.h>

struct fetching {
	struct control *control;
	struct queue *inbox; /* of struct errand */
	pthread_t thread;
	bool running;
	atomic_bool stop;
};

static void done(struct task *t)
{
	struct errand *x = (struct errand *)(void *)((char *)t - offsetof(struct errand, task));

	x->done(x);
}

/* The control thread's inbox may be full for a moment; what was fetched waits. */
static void hand_back(struct fetching *f, struct errand *x)
{
	x->task.run = done;
	while (!control_do(f->control, &x->task, NULL)) {
		if (atomic_load(&f->stop)) {
			x->drop(x);
			return;
		}
		usleep(20000);
	}
}

static void *fetching_thread(void *arg)
{
	struct fetching *f = arg;
	struct chain errands;
	struct link *next;

	while (!atomic_load(&f->stop)) {
		if (!queue_wait(f->inbox, &errands, 1000))
			continue;
		for (struct link *l = errands.first; l; l = next) {
			struct errand *x = LINK_OF(l, struct errand, link);

			next = l->next;
			x->fetch(x, &f->stop);
			hand_back(f, x);
		}
	}
	return NULL;
}

bool fetching_open(struct control *c, struct fetching **out, struct err *e)
{
	struct fetching *f = calloc(1, sizeof(*f));
	int rc;

	if (!f)
		return err_set(e, ERR_NOMEM, "no memory for the fetching thread");
	f->control = c;
	atomic_init(&f->stop, false);
	f->inbox = queue_new(FETCHING_MAX, false, e);
	if (!f->inbox) {
		fetching_close(f);
		return false;
	}
	rc = pthread_create(&f->thread, NULL, fetching_thread, f);
	if (rc) {
		fetching_close(f);
		return err_set(e, ERR_INTERNAL, "cannot start the fetching thread: %s",
			       strerror(rc));
	}
	f->running = true;
	*out = f;
	return true;
}

bool fetching_send(struct fetching *f, struct errand *x, struct err *e)
{
	struct chain one;

	chain_init(&one);
	chain_add(&one, &x->link);
	return queue_push(f->inbox, &one) ||
	       err_set(e, ERR_UNAVAILABLE, "too many servers are waiting to be asked");
}

void fetching_stop(struct fetching *f)
{
	if (!f || !f->running)
		return;
	atomic_store(&f->stop, true);
	queue_wake(f->inbox);
	pthread_join(f->thread, NULL);
	f->running = false;
}

void fetching_close(struct fetching *f)
{
	struct chain errands;
	struct link *next;

	if (!f)
		return;
	fetching_stop(f);
	while (f->inbox && queue_take(f->inbox, &errands))
		for (struct link *l = errands.first; l; l = next) {
			struct errand *x = LINK_OF(l, struct errand, link);

			next = l->next;
			x->drop(x);
		}
	queue_free(f->inbox);
	free(f);
}
