#include "authz/extauthz/list_tell.h"

static void back(struct task *t)
{
	struct list_telling *l = (struct list_telling *)(void *)((char *)t -
								 offsetof(struct list_telling,
									  task));
	struct worker *worker = l->worker; /* what is answered is gone */

	l->done(l, l->failed.class != ERR_NONE ? &l->failed : NULL);
	worker_turn_end(worker);
}

static void tell(struct task *t)
{
	struct list_telling *l = (struct list_telling *)(void *)((char *)t -
								 offsetof(struct list_telling,
									  task));
	struct chain one;

	if (!definitions_observe(l->worker->core->control, l->news.items, l->news.n, l->by,
				 &l->failed) &&
	    l->failed.class == ERR_NONE)
		err_set(&l->failed, ERR_INTERNAL, "what is new of the tools could not be kept");
	t->run = back;
	chain_init(&one);
	chain_add(&one, &t->link);
	queue_push_always(l->worker->home->inbox, &one);
}

void list_tell(struct list_telling *l)
{
	err_none(&l->failed);
	if (!l->news.n) {
		l->done(l, NULL);
		return;
	}
	l->by = arena_dup(l->arena, l->by); /* what it borrows from may change meanwhile */
	l->task.run = tell;
	if (!l->by.p)
		err_set(&l->failed, ERR_UNAVAILABLE, "memory is short; try again later");
	else if (control_do(l->worker->core->control, &l->task, &l->failed))
		return;
	l->done(l, &l->failed);
}
