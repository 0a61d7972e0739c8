/*
 * definition_store - what is known of tools' definitions, in writ.db.
 *
 * Purpose    One row for each pinned tool that was ever listed: its definition as it was seen last,
 *            the one that was seen while it was as pinned, and who proposed and accepted another.
 * Ownership  Rows live in the caller's arena.
 * Threads    The control thread.
 */
#ifndef WRIT_DECIDE_DEFINITION_STORE_H
#define WRIT_DECIDE_DEFINITION_STORE_H

#include "authz/base/arena.h"
#include "authz/store/db.h"

#define DEFINITION_ROWS_MAX 10000
#define DEFINITION_KEPT_MAX (64 * 1024) /* bytes of a definition whose text is kept */

struct definition_row {
	struct str tool;
	struct str digest, definition;	  /* seen last; its text, or empty if it is too long */
	struct str good, good_definition; /* seen last while it was as pinned; may be empty */
	struct str seen_by;
	int64_t seen_ms; /* when `digest` was seen first, this time */
	struct str pin;	 /* in place of which something is proposed or accepted */
	struct str proposed, proposed_by;
	int64_t proposed_ms;
	struct str accepted, accepted_first, accepted_by; /* by these two */
	int64_t accepted_ms;
};

struct definition_store;

MUST_USE bool definition_store_open(struct db *db, struct definition_store **out, struct err *e);
void definition_store_close(struct definition_store *s); /* NULL is fine */

/* The row of @tool; *found false: none, *row is empty but for the tool. */
MUST_USE bool definition_store_get(struct definition_store *s, struct str tool, struct arena *a,
				   struct definition_row *row, bool *found, struct err *e);
/* Add or replace. */
MUST_USE bool definition_store_put(struct definition_store *s, const struct definition_row *row,
				   struct err *e);
MUST_USE bool definition_store_forget(struct definition_store *s, struct str tool, struct err *e);

/* All of them in order of tool, without the texts of definitions; at most DEFINITION_ROWS_MAX. */
MUST_USE bool definition_store_list(struct definition_store *s, struct arena *a,
				    struct definition_row **rows, size_t *n, struct err *e);

#endif
