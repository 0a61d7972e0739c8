/*
 * listing - one of MCP's lists on its way to an agent, filtered and told.
 *
 * Purpose    Filters a list (list_filter.h). What it shows of pinned tools that was not known is
 *            stored, in force and on record before the list goes on. The rest stays as it was, byte
 *            by byte, but for cacheScope: the list is this agent's own.
 * Ownership  A listing and its texts live in its arena until `done` has run.
 * Threads    The worker's own; `done` runs there, perhaps before listing_filter returns.
 * Standards  MCP server/tools, all revisions; cacheScope: MCP 2026-07-28.
 */
#ifndef WRIT_EXTAUTHZ_LISTING_H
#define WRIT_EXTAUTHZ_LISTING_H

#include "authz/extauthz/list_filter.h"

struct listing {
	struct worker *worker;
	struct arena *arena;
	const struct list_kind *kind;
	struct str agent;	  /* SPIFFE ID */
	const struct str *server; /* whose tools they are; NULL: nobody says, so none is left */
	struct str by;		  /* who shows the list to writ */
	struct str result;	  /* of the method, JSON; then what is left of it */
	/* @e NULL: done; else the list must not be shown. */
	void (*done)(struct listing *l, const struct err *e);
	void *user;

	/* its own */
	struct task task;
	struct list_news news;
	struct err failed;
};

void listing_filter(struct listing *l);

#endif
