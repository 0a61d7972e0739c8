/*
 * import - many registrations at once: all of them, or none.
 *
 * Purpose    An import is larger than a request, so it comes in parts. Parts are checked as they
 *            come and kept; with the last one everything is written in one transaction, after it
 *            is on record. One import at a time; one that is not continued within a minute is
 *            forgotten.
 * Ownership  A part is copied.
 * Threads    Control thread only (from a task).
 */
#ifndef WRIT_DECIDE_IMPORT_H
#define WRIT_DECIDE_IMPORT_H

#include "authz/decide/control.h"

#define IMPORT_MAX 200000		  /* entries of one import */
#define IMPORT_BYTES (384l * 1024 * 1024) /* of all its parts, as kept */
#define IMPORT_NAME 64			  /* bytes of an import's name */
#define IMPORT_PAUSE_MS 60000

struct import_entry {
	struct registry_spec spec;
	enum registry_state state; /* active, suspended or retired */
};

struct import_part {
	struct str name; /* the sender's own, to tell imports apart */
	struct str by;
	uint64_t from; /* how many entries came before: nothing is lost or doubled on the way */
	const struct import_entry *entries;
	size_t n;
	bool last;
};

/* Take a part; with the last one *registered is how many there are now, else 0. An error ends the
 * import, and its message starts with "agents[N]: ", from 1. Codes: import_busy, import_order,
 * import_too_large, and those of registry_prepare. */
MUST_USE bool import_take(struct control *c, const struct import_part *p, uint64_t *registered,
			  struct err *e);

void import_drop(struct control *c); /* none: nothing happens */

#endif
