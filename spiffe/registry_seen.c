/* When agents were last seen, and which look like nobody's. */
#include "spiffe/registry_db.h"

#define KEEP_MS 3600000 /* a later sight is written only if it is later by so much */

const char *registry_orphan(const struct registry_view *v, const struct registry_entry *entry,
			    int64_t now_ms, int64_t after_ms)
{
	int64_t seen_ms = registry_seen_ms(entry);
	const struct registry_entry *owner;

	if (entry->stored == ENTRY_RETIRED)
		return NULL;
	if (registry_state(entry, now_ms) == ENTRY_EXPIRED)
		return "expired";
	if (str_starts(entry->owner, STR("spiffe://"))) {
		owner = registry_find(v, entry->owner);
		if (!owner || registry_state(owner, now_ms) != ENTRY_ACTIVE)
			return "owner_gone";
	}
	if (entry->template || entry->stored != ENTRY_ACTIVE)
		return NULL;
	if (seen_ms)
		return now_ms - seen_ms >= after_ms ? "not_seen" : NULL;
	return now_ms - entry->created_ms >= after_ms ? "never_seen" : NULL;
}

bool registry_db_load_seen(struct registry_db *d, const struct view *v, struct err *e)
{
	AUTO_STMT *s = NULL;
	bool row = false;

	if (!db_prepare(d->db,
			"SELECT e.id, s.at_ms FROM entry_seen s JOIN entry e ON e.row = s.entry",
			&s, e))
		return false;
	while (db_step(s, &row, e)) {
		struct box *b;

		if (!row)
			return true;
		b = view_find(v, db_column_text(s, 0));
		if (b) {
			b->seen_kept_ms = db_column_int(s, 1);
			atomic_store(&b->seen_ms, b->seen_kept_ms);
		}
	}
	return false;
}

struct keeping {
	struct registry_db *tables;
	struct db_tx tx; /* open once there is something to write */
	struct err *e;
	bool failed;
};

static void keep_one(void *ctx, struct box *b)
{
	struct keeping *k = ctx;
	int64_t seen_ms = atomic_load_explicit(&b->seen_ms, memory_order_relaxed);

	if (k->failed || seen_ms - b->seen_kept_ms < KEEP_MS)
		return;
	if (!k->tx.db && !db_begin(k->tables->db, &k->tx, k->e)) {
		k->failed = true;
		return;
	}
	db_bind_int(k->tables->keep_seen, 1, b->row);
	db_bind_int(k->tables->keep_seen, 2, seen_ms);
	k->failed = !db_run(k->tables->keep_seen, k->e);
	b->seen_kept_ms = seen_ms; /* should the commit fail, the next hour writes it again */
}

bool registry_keep_seen(struct registry *r, struct err *e)
{
	struct keeping k = { .tables = registry_tables(r), .e = e };

	view_each(registry_current(r), keep_one, &k);
	if (k.failed) {
		db_rollback(&k.tx);
		return false;
	}
	return !k.tx.db || db_commit(&k.tx, e);
}
