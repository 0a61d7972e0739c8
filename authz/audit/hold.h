/*
 * hold - legal holds: records whose openings may not be erased, whoever asks.
 *
 * Purpose    A court or an authority may forbid what a person may demand. A hold names records by
 *            agent, by number and by time (all that it names must fit; one that names nothing holds
 *            everything), and until it is taken off no erasure touches them.
 * Ownership  Borrows the connection (writ.db). Texts that are given out live in the arena.
 * Threads    The connection's owner: the control thread, where erasures are decided as well, so no
 *            hold comes between the question and the act.
 */
#ifndef WRIT_AUDIT_HOLD_H
#define WRIT_AUDIT_HOLD_H

#include "authz/audit/erase.h"
#include "authz/store/db.h"

#define HOLDS_MAX 1000
#define HOLD_REASON_MAX 1000 /* bytes */

struct hold {
	uint64_t id;
	struct str agent;	    /* empty: any */
	uint64_t from, to;	    /* [from, to) of seq; to == 0: open */
	int64_t since_ms, until_ms; /* [since, until) of the record's time; 0: open */
	struct str reason, by;
	int64_t at_ms; /* when it was put on */
};

MUST_USE bool holds_migrate(struct db *db, struct err *e);

/* h->id is filled in. More than HOLDS_MAX: ERR_CONFLICT "too_many". */
MUST_USE bool holds_add(struct db *db, struct hold *h, struct err *e);
/* ERR_NOT_FOUND if there is none of this number. */
MUST_USE bool holds_remove(struct db *db, uint64_t id, struct err *e);

/* All of them, oldest first: *out has *n, in @a. */
MUST_USE bool holds_list(struct db *db, struct arena *a, struct hold **out, size_t *n,
			 struct err *e);

/* False with ERR_CONFLICT "legal_hold" if one of the rows is held; @e names both. */
MUST_USE bool holds_allow(struct db *db, const struct erase_row *rows, size_t n, struct arena *a,
			  struct err *e);

/* The first record of [from, to) in @folder's log that is held; *first == to: none is. Reads all of
 * them if a hold names an agent. */
MUST_USE bool holds_first(const struct hold *holds, size_t n, const char *folder, uint64_t from,
			  uint64_t to, uint64_t *first, struct err *e);

/* Take the held ones out of @rows; *held: so many were. For erasures by age, which must not stop at
 * the first hold. */
MUST_USE bool holds_filter(struct db *db, struct erase_row *rows, size_t *n, uint64_t *held,
			   struct arena *a, struct err *e);

#endif
