#include "authz/audit/rows.h"

#include <stdarg.h>
#include <stdio.h>

/* The triggers stop accidents, not attacks; those are the tree's business. Openings have none:
 * erasing one is lawful, and its commitment stays. */
static const char *const schema[] = {
	"CREATE TABLE leaf(seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;"
	"CREATE TABLE opening(seq INTEGER PRIMARY KEY, answer BLOB, facts BLOB, input BLOB) STRICT;"
	"CREATE TABLE tree(id INTEGER PRIMARY KEY CHECK(id = 0), size INTEGER NOT NULL,"
	" range BLOB NOT NULL) STRICT;"
	"CREATE TABLE checkpoint(size INTEGER PRIMARY KEY, note BLOB NOT NULL,"
	" range BLOB NOT NULL) STRICT;"
	"INSERT INTO tree VALUES (0, 0, x'');"
	"CREATE TRIGGER leaf_update BEFORE UPDATE ON leaf"
	" BEGIN SELECT RAISE(ABORT, 'records are never changed'); END;"
	"CREATE TRIGGER leaf_delete BEFORE DELETE ON leaf"
	" BEGIN SELECT RAISE(ABORT, 'records are never deleted'); END;"
	"CREATE TRIGGER checkpoint_update BEFORE UPDATE ON checkpoint"
	" BEGIN SELECT RAISE(ABORT, 'checkpoints are never changed'); END;"
	"CREATE TRIGGER checkpoint_delete BEFORE DELETE ON checkpoint"
	" BEGIN SELECT RAISE(ABORT, 'checkpoints are never deleted'); END;",
};

bool rows_migrate(struct db *db, struct err *e)
{
	return db_migrate(db, "audit", schema, ARRAY_LEN(schema), e);
}

bool rows_damaged(struct err *e, const char *fmt, ...)
{
	char what[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return err_code(e, ERR_IO, "storage_corrupt",
			ROWS_FILE " is damaged: %s; keep the file as it is, and restore the newest "
				  "copy or start a new log beside it",
			what);
}

bool rows_size(struct db *db, uint64_t *size, struct err *e)
{
	int64_t n;

	if (!db_int(db, "SELECT size FROM tree WHERE id = 0", &n, e))
		return false;
	if (n < 0)
		return rows_damaged(e, "the tree's size is negative");
	*size = (uint64_t)n;
	return true;
}

bool rows_checkpoint(struct db *db, enum rows_pick pick, uint64_t size, struct buf *note,
		     struct rows_checkpoint *c, struct err *e)
{
	static const char *const sql[] = {
		[ROWS_NEWEST] = "SELECT size, note, range FROM checkpoint WHERE ?1 = ?1"
				" ORDER BY size DESC LIMIT 1",
		[ROWS_AT_LEAST] = "SELECT size, note, range FROM checkpoint WHERE size >= ?1"
				  " ORDER BY size LIMIT 1",
		[ROWS_AT_MOST] = "SELECT size, note, range FROM checkpoint WHERE size <= ?1"
				 " ORDER BY size DESC LIMIT 1",
	};
	AUTO_STMT *s = NULL;

	if (!db_prepare(db, sql[pick], &s, e))
		return false;
	db_bind_int(s, 1, (int64_t)size);
	if (!db_step(s, &c->found, e))
		return false;
	if (!c->found)
		return true;
	if (!tree_range_load(&c->range, (uint64_t)db_column_int(s, 0), db_column_blob(s, 2)))
		return rows_damaged(e, "the checkpoint over %lld records has a wrong range",
				    (long long)db_column_int(s, 0));
	if (note)
		buf_add(note, db_column_blob(s, 1));
	if (note && !buf_ok(note))
		return err_set(e, ERR_NOMEM, "no memory for a checkpoint");
	return true;
}

bool rows_subtree(struct db *db, struct sha256 *sha, uint64_t from, uint64_t to,
		  struct tree_range *range, struct err *e)
{
	AUTO_STMT *s = NULL;
	uint8_t hash[SHA256_LEN];
	bool row = true;

	if (from >= to)
		return true;
	if (!db_prepare(db, "SELECT seq, body FROM leaf WHERE seq >= ?1 AND seq < ?2 ORDER BY seq",
			&s, e))
		return false;
	/* In steps: a long read would keep the WAL from being reused. */
	while (from < to) {
		uint64_t end = to - from > 1024 ? from + 1024 : to;

		db_bind_int(s, 1, (int64_t)from);
		db_bind_int(s, 2, (int64_t)end);
		for (;;) {
			if (!db_step(s, &row, e))
				return false;
			if (!row || (uint64_t)db_column_int(s, 0) != from)
				break;
			tree_leaf_hash(sha, db_column_blob(s, 1), hash);
			tree_append(range, sha, hash);
			from++;
		}
		db_reset(s);
		if (from != end)
			return rows_damaged(e, "record %llu is missing", (unsigned long long)from);
	}
	return true;
}

bool rows_append(struct db *db, struct sha256 *sha, uint64_t upto, struct tree_range *range,
		 struct err *e)
{
	return rows_subtree(db, sha, range->n, upto, range, e);
}

bool rows_range(struct db *db, struct sha256 *sha, uint64_t size, struct tree_range *range,
		struct err *e)
{
	struct rows_checkpoint near;

	if (!rows_checkpoint(db, ROWS_AT_MOST, size, NULL, &near, e))
		return false;
	*range = near.found ? near.range : (struct tree_range){ 0 };
	return rows_append(db, sha, size, range, e);
}
