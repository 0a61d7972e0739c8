/*
 * publish - the log as a folder of tiles that any web server can serve (C2SP tlog-tiles).
 *
 * Purpose    Write what a signed checkpoint needs - full and partial hash tiles, and the records
 *            themselves if that is wanted - and the checkpoint last, so that a reader never sees
 *            a checkpoint without its tiles. Each file is replaced whole. A run that was cut off
 *            anywhere is finished by the next one; files that are there are not written again.
 * Ownership  Nothing is kept.
 * Threads    One publisher of a folder at a time.
 */
#ifndef WRIT_AUDIT_PUBLISH_H
#define WRIT_AUDIT_PUBLISH_H

#include "authz/base/mem.h"
#include "authz/store/file.h"

#define PUBLISH_CHECKPOINT "checkpoint"

struct publish_options {
	const char *folder; /* the data folder */
	const char *to;	    /* made if it is not there */
	bool entries;	    /* the records, too: who may read the folder may read them */
	const struct alloc *alloc;
	const struct file_calls *calls; /* NULL: the system's; tests let each fail in turn */
};

struct publish_report {
	uint64_t pruned;	 /* records [0, pruned) are in no bundle that was written now */
	uint64_t size, before;	 /* records of the checkpoint; of the one that was there */
	uint64_t written, there; /* files */
};

/* By the newest stored checkpoint. ERR_CONFLICT "fork": what is in the folder is not the beginning
 * of this log. ERR_NOT_FOUND: nothing has been signed yet. */
MUST_USE bool publish(const struct publish_options *o, struct publish_report *r, struct err *e);

#endif
