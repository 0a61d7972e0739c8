/*
 * list_tell - what a list shows of pinned tools is known before the list goes on.
 *
 * Purpose    list_filter.h finds definitions that nobody knew of; the control thread stores them,
 *            puts them into force and on record. Only then may the agent see what is left of the
 *            list: no call of a changed tool is decided by what it was before.
 * Ownership  A telling and its texts live in its arena until `done` has run.
 * Threads    The worker's own; `done` runs there, perhaps before list_tell returns.
 */
#ifndef WRIT_EXTAUTHZ_LIST_TELL_H
#define WRIT_EXTAUTHZ_LIST_TELL_H

#include "authz/extauthz/list_filter.h"

struct list_telling {
	struct worker *worker;
	struct arena *arena;
	struct list_news news;
	struct str by; /* who shows the list to writ */
	/* @e NULL: done; else the list must not be shown. */
	void (*done)(struct list_telling *t, const struct err *e);
	void *user;

	/* its own */
	struct task task;
	struct err failed;
};

void list_tell(struct list_telling *t);

#endif
