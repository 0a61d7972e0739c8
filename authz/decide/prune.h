/*
 * prune - an administrator lets old records go, on record.
 *
 * Purpose    What is under legal hold stays; that is asked where holds are put on and taken off, in
 *            the same task as the announcement, so none comes between.
 * Threads    The control thread, from tasks.
 */
#ifndef WRIT_DECIDE_PRUNE_H
#define WRIT_DECIDE_PRUNE_H

#include "authz/audit/hold.h"
#include "authz/audit/prune.h"
#include "authz/decide/control.h"

struct prune_act {
	struct prune_order order;
	struct str by, reason;
	uint8_t root[SHA256_LEN], archive_sha256[SHA256_LEN];
	/* The holds that @order was found under: if there are others by now, ERR_CONFLICT
	 * "prune_changed". */
	uint64_t holds;
	uint64_t seq; /* filled in: of the log.prune record */
};

/* What changes whenever a hold is put on or taken off. */
uint64_t prune_holds_mark(const struct hold *holds, size_t n);

MUST_USE bool prune_do(struct control *c, struct prune_act *act, struct err *e);

#endif
