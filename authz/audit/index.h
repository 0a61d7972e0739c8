/*
 * index - the thread that keeps index.db behind the log.
 *
 * Purpose    Records are searchable soon after they are on disk, and the log never waits for it:
 *            the thread looks a few times a second, waits while records come fast
 *            (index_pace.h), runs at a low priority, reads what was committed and owns its own
 *            file. Whatever befalls that file (lost, damaged, older,
 *            of another version, no room) it is made anew or tried again later, and a search
 *            meanwhile reads the log itself (index_search.h): slower, never less complete.
 * Ownership  index_open makes it, index_close stops the thread and frees it. Open it after the
 *            log, close it before.
 * Threads    index_status and index_rebuild: any.
 */
#ifndef WRIT_AUDIT_INDEX_H
#define WRIT_AUDIT_INDEX_H

#include <stdint.h>

#include "include/writ/err.h"

struct index;

struct index_config {
	const char *folder; /* the data folder, with a log.db */
	const char *vfs;    /* SQLite file system of index.db; NULL: the system's */
	int tick_ms;	    /* between looks at the log; 0: 250 */
};

/* Fails only for want of memory or a thread, never for the file's sake. */
MUST_USE bool index_open(const struct index_config *c, struct index **out, struct err *e);
void index_close(struct index *x); /* NULL is fine */

/* Throw away what is indexed and begin anew, soon. */
void index_rebuild(struct index *x);

struct index_status {
	uint64_t indexed;    /* records [0, indexed) are in the index */
	uint64_t rebuilds;   /* times it was begun anew in this process */
	uint64_t failures;   /* steps that failed */
	bool failing;	     /* the last one did */
	const char *trouble; /* why; static text */
};
void index_status(struct index *x, struct index_status *s);

#endif
