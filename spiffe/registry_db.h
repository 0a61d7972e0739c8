/*
 * registry_db - the tables of the registry: entries, and every revision of them.
 *
 * Purpose    SQL and the stored form of an entry stand in one file. Attributes and selectors are
 *            lines of text ("team=finance\n"): names hold no "=" and no value holds a line break
 *            (registry_spec.c), so the form is unambiguous and people can read it.
 * Ownership  Owns its statements, borrows the db.
 * Threads    The control thread.
 */
#ifndef WRIT_SPIFFE_REGISTRY_DB_H
#define WRIT_SPIFFE_REGISTRY_DB_H

#include "spiffe/registry_view.h"

struct registry_db {
	struct db *db;
	struct db_stmt *insert_entry, *insert_revision, *set_revision, *history, *keep_seen;
};

MUST_USE bool registry_db_open(struct registry_db *d, struct db *db, struct err *e);
void registry_db_close(struct registry_db *d);

/* Of an open registry; for registry_history. */
struct registry_db *registry_tables(struct registry *r);

/* As published. */
const struct view *registry_current(const struct registry *r);

/* Put the current revision of every entry into @v. */
MUST_USE bool registry_db_load(struct registry_db *d, struct view *v, struct err *e);

/* When each was last seen, into @v's boxes. */
MUST_USE bool registry_db_load_seen(struct registry_db *d, const struct view *v, struct err *e);

/* Within a transaction: write @entry as a new revision; a new entry gets its *row. */
MUST_USE bool registry_db_write(struct registry_db *d, const struct registry_entry *entry,
				const struct registry_change *c, int64_t *row, struct err *e);

#endif
