#include "authz/audit/hold.h"

#include <inttypes.h>

#include "authz/audit/read.h"

static const char *const schema[] = {
	"CREATE TABLE hold(id INTEGER PRIMARY KEY AUTOINCREMENT, agent TEXT NOT NULL,"
	" first INTEGER NOT NULL, last INTEGER NOT NULL, since INTEGER NOT NULL,"
	" until INTEGER NOT NULL, reason TEXT NOT NULL, by TEXT NOT NULL, at INTEGER NOT NULL) STRICT;",
};

bool holds_migrate(struct db *db, struct err *e)
{
	return db_migrate(db, "hold", schema, ARRAY_LEN(schema), e);
}

bool holds_add(struct db *db, struct hold *h, struct err *e)
{
	AUTO_STMT *s = NULL;
	int64_t n;

	if (!db_int(db, "SELECT count(*) FROM hold", &n, e))
		return false;
	if (n >= HOLDS_MAX)
		return err_code(e, ERR_CONFLICT, "too_many",
				"there are %d holds already; remove those that are over",
				HOLDS_MAX);
	if (!db_prepare(db,
			"INSERT INTO hold(agent, first, last, since, until, reason, by, at)"
			" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
			&s, e))
		return false;
	db_bind_text(s, 1, h->agent);
	db_bind_int(s, 2, (int64_t)h->from);
	db_bind_int(s, 3, (int64_t)h->to);
	db_bind_int(s, 4, h->since_ms);
	db_bind_int(s, 5, h->until_ms);
	db_bind_text(s, 6, h->reason);
	db_bind_text(s, 7, h->by);
	db_bind_int(s, 8, h->at_ms);
	if (!db_run(s, e))
		return false;
	h->id = (uint64_t)db_last_id(db);
	return true;
}

bool holds_remove(struct db *db, uint64_t id, struct err *e)
{
	AUTO_STMT *s = NULL;

	if (!db_prepare(db, "DELETE FROM hold WHERE id = ?1", &s, e))
		return false;
	db_bind_int(s, 1, (int64_t)id);
	if (!db_run(s, e))
		return false;
	return db_changes(db) == 1
		       ? true
		       : err_code(e, ERR_NOT_FOUND, "unknown_hold",
				  "there is no hold %" PRIu64 "; see writ audit hold list", id);
}

bool holds_list(struct db *db, struct arena *a, struct hold **out, size_t *n, struct err *e)
{
	AUTO_STMT *s = NULL;
	struct hold *list = arena_alloc(a, HOLDS_MAX * sizeof(*list));
	bool row = true;

	*n = 0;
	*out = list;
	if (!list)
		return err_set(e, ERR_NOMEM, "no memory for the holds");
	if (!db_prepare(db,
			"SELECT id, agent, first, last, since, until, reason, by, at FROM hold"
			" ORDER BY id",
			&s, e))
		return false;
	while (*n < HOLDS_MAX) {
		struct hold *h = &list[*n];

		if (!db_step(s, &row, e))
			return false;
		if (!row)
			return true;
		h->id = (uint64_t)db_column_int(s, 0);
		h->agent = arena_dup(a, db_column_text(s, 1));
		h->from = (uint64_t)db_column_int(s, 2);
		h->to = (uint64_t)db_column_int(s, 3);
		h->since_ms = db_column_int(s, 4);
		h->until_ms = db_column_int(s, 5);
		h->reason = arena_dup(a, db_column_text(s, 6));
		h->by = arena_dup(a, db_column_text(s, 7));
		h->at_ms = db_column_int(s, 8);
		if (!h->agent.p || !h->reason.p || !h->by.p)
			return err_set(e, ERR_NOMEM, "no memory for the holds");
		(*n)++;
	}
	return true;
}

static bool covers(const struct hold *h, const struct erase_row *row)
{
	return (!h->agent.n || str_eq(h->agent, row->agent)) && row->seq >= h->from &&
	       (!h->to || row->seq < h->to) && row->time_ms >= h->since_ms &&
	       (!h->until_ms || row->time_ms < h->until_ms);
}

bool holds_allow(struct db *db, const struct erase_row *rows, size_t n, struct arena *a,
		 struct err *e)
{
	struct hold *holds;
	size_t nholds;

	if (!holds_list(db, a, &holds, &nholds, e))
		return false;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < nholds; k++)
			if (covers(&holds[k], &rows[i]))
				return err_code(e, ERR_CONFLICT, "legal_hold",
						"record %" PRIu64 " is under legal hold %" PRIu64
						" (%.*s), so nothing was erased; see writ audit "
						"hold list",
						rows[i].seq, holds[k].id,
						STR_FMT(str_first(holds[k].reason, 120)));
	return true;
}

/* The first record that this hold covers. */
static bool first_of(const struct hold *h, struct audit_reader *reader, uint64_t from, uint64_t *to,
		     struct err *e)
{
	const struct audit_filter f = { .agent = h->agent,
					.since_ms = h->since_ms,
					.until_ms = h->until_ms,
					.from = h->from > from ? h->from : from,
					.to = h->to && h->to < *to ? h->to : *to };
	struct audit_row row;
	bool got;

	if (f.from >= f.to)
		return true;
	if (!audit_reader_start(reader, &f, e) || !audit_reader_next(reader, 0, &row, &got, e))
		return false;
	if (got)
		*to = row.seq;
	return true;
}

bool holds_first(const struct hold *holds, size_t n, const char *folder, uint64_t from, uint64_t to,
		 uint64_t *first, struct err *e)
{
	struct audit_reader *reader = NULL;
	bool ok = !n || audit_reader_open(folder, &mem_system, &reader, e);

	*first = to;
	for (size_t i = 0; ok && i < n; i++)
		ok = first_of(&holds[i], reader, from, first, e);
	audit_reader_close(reader);
	return ok;
}

bool holds_filter(struct db *db, struct erase_row *rows, size_t *n, uint64_t *held, struct arena *a,
		  struct err *e)
{
	struct hold *holds;
	size_t nholds, left = 0;

	if (!holds_list(db, a, &holds, &nholds, e))
		return false;
	for (size_t i = 0; i < *n; i++) {
		size_t k = 0;

		while (k < nholds && !covers(&holds[k], &rows[i]))
			k++;
		if (k == nholds)
			rows[left++] = rows[i];
	}
	*held = *n - left;
	*n = left;
	return true;
}
