#include "authz/extauthz/listing.h"

/* ---- telling the control thread ---- */

static void back(struct task *t)
{
	struct listing *l = (struct listing *)(void *)((char *)t - offsetof(struct listing, task));
	struct worker *worker = l->worker; /* an answered listing is gone */

	l->done(l, l->failed.class != ERR_NONE ? &l->failed : NULL);
	worker_turn_end(worker);
}

static void tell(struct task *t)
{
	struct listing *l = (struct listing *)(void *)((char *)t - offsetof(struct listing, task));
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

void listing_filter(struct listing *l)
{
	const struct json *result = NULL;
	struct buf b;

	err_none(&l->failed);
	buf_in_arena(&b, l->arena, l->result.n + 256);
	if (!json_parse(l->result, &l->worker->core->json, l->arena, &result, &l->failed) ||
	    !list_filter(l->worker, l->arena, l->kind, l->agent, l->server, result, &l->news, &b,
			 &l->failed)) {
		l->done(l, &l->failed);
		return;
	}
	l->result = buf_str(&b);
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
