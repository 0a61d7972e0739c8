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
	/* What key.rotate records say, where every reader of a checkpoint finds it at once. */
	"CREATE TABLE rotation(size INTEGER PRIMARY KEY, before BLOB NOT NULL, key BLOB NOT NULL,"
	" signature BLOB NOT NULL) STRICT;"
	"CREATE TRIGGER rotation_update BEFORE UPDATE ON rotation"
	" BEGIN SELECT RAISE(ABORT, 'rotations are never changed'); END;"
	"CREATE TRIGGER rotation_delete BEFORE DELETE ON rotation"
	" BEGIN SELECT RAISE(ABORT, 'rotations are never deleted'); END;",
	/* prune: what a log.prune record has announced; pruned: how far that is done; hash: of what
	 * went, a tile each. Only what was announced, and whose hashes are kept, can be deleted. */
	"CREATE TABLE prune(upto INTEGER PRIMARY KEY, record INTEGER NOT NULL, archive TEXT NOT NULL)"
	" STRICT;"
	"CREATE TABLE pruned(id INTEGER PRIMARY KEY CHECK(id = 0), upto INTEGER NOT NULL) STRICT;"
	"INSERT INTO pruned VALUES (0, 0);"
	"CREATE TABLE hash(tile INTEGER PRIMARY KEY, hashes BLOB NOT NULL) STRICT;"
	"DROP TRIGGER leaf_delete;"
	"CREATE TRIGGER leaf_delete BEFORE DELETE ON leaf"
	" WHEN old.seq >= (SELECT upto FROM pruned WHERE id = 0)"
	" BEGIN SELECT RAISE(ABORT, 'records are never deleted'); END;"
	"CREATE TRIGGER pruned_update BEFORE UPDATE ON pruned"
	" WHEN new.upto < old.upto OR new.upto > (SELECT coalesce(max(upto), 0) FROM prune)"
	" BEGIN SELECT RAISE(ABORT, 'only what was announced is pruned'); END;"
	"CREATE TRIGGER hash_update BEFORE UPDATE ON hash"
	" BEGIN SELECT RAISE(ABORT, 'hashes are never changed'); END;"
	"CREATE TRIGGER hash_delete BEFORE DELETE ON hash"
	" BEGIN SELECT RAISE(ABORT, 'hashes are never deleted'); END;",
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

static bool read_bytes(struct db_stmt *s, int column, void *out, size_t n)
{
	struct str blob = db_column_blob(s, column);

	if (blob.n != n)
		return false;
	memcpy(out, blob.p, n);
	return true;
}

bool rows_rotations(struct db *db, uint8_t first[static 32], struct rotations *r, struct err *e)
{
	uint8_t before[32];
	AUTO_STMT *s = NULL;
	bool row;

	r->n = 0;
	if (!db_prepare(db, "SELECT size, before, key, signature FROM rotation ORDER BY size", &s,
			e))
		return false;
	for (;;) {
		struct rotation *one = &r->at[r->n];

		if (!db_step(s, &row, e))
			return false;
		if (!row)
			return true;
		if (r->n == ROTATIONS_MAX || !read_bytes(s, 1, before, sizeof(before)) ||
		    !read_bytes(s, 2, one->key, sizeof(one->key)) ||
		    !read_bytes(s, 3, one->signature, sizeof(one->signature)))
			return rows_damaged(e, "a rotation of the log's key is malformed");
		one->size = (uint64_t)db_column_int(s, 0);
		if (!r->n++)
			memcpy(first, before, sizeof(before));
	}
}

bool rows_add_rotation(struct db *db, const uint8_t before[static 32], const struct rotation *r,
		       struct err *e)
{
	AUTO_STMT *s = NULL;

	if (!db_prepare(db, "INSERT INTO rotation VALUES (?1, ?2, ?3, ?4)", &s, e))
		return false;
	db_bind_int(s, 1, (int64_t)r->size);
	db_bind_blob(s, 2, before, 32);
	db_bind_blob(s, 3, r->key, sizeof(r->key));
	db_bind_blob(s, 4, r->signature, sizeof(r->signature));
	return db_run(s, e);
}

static bool add_note(struct db *db, struct str stored, uint64_t size, struct buf *note,
		     struct err *e)
{
	uint8_t first[32];
	struct rotations r;

	if (!rows_rotations(db, first, &r, e))
		return false;
	buf_add(note, stored);
	rotations_line(&r, size, note);
	return buf_ok(note) || err_set(e, ERR_NOMEM, "no memory for a checkpoint");
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
	return !note || add_note(db, db_column_blob(s, 1), c->range.n, note, e);
}

/* --- what has left --- */

bool rows_pruned(struct db *db, uint64_t *upto, struct err *e)
{
	int64_t n;

	if (!db_int(db, "SELECT upto FROM pruned WHERE id = 0", &n, e))
		return false;
	if (n < 0 || n % ROWS_TILE)
		return rows_damaged(e, "it says that %lld records were pruned", (long long)n);
	*upto = (uint64_t)n;
	return true;
}

bool rows_prune(struct db *db, struct rows_prune *p, struct err *e)
{
	AUTO_STMT *s = NULL;
	bool row;

	*p = (struct rows_prune){ 0 };
	if (!rows_pruned(db, &p->done, e) ||
	    !db_prepare(db, "SELECT upto, record FROM prune ORDER BY upto DESC LIMIT 1", &s, e) ||
	    !db_step(s, &row, e))
		return false;
	if (row) {
		p->to = (uint64_t)db_column_int(s, 0);
		p->record = (uint64_t)db_column_int(s, 1);
	}
	if (p->to < p->done || p->to % ROWS_TILE)
		return rows_damaged(e, "more was pruned than was announced");
	return true;
}

bool rows_tile(struct db *db, uint64_t tile, uint8_t out[static ROWS_TILE * SHA256_LEN],
	       struct err *e)
{
	AUTO_STMT *s = NULL;
	bool row;

	if (!db_prepare(db, "SELECT hashes FROM hash WHERE tile = ?1", &s, e))
		return false;
	db_bind_int(s, 1, (int64_t)tile);
	if (!db_step(s, &row, e))
		return false;
	return (row && read_bytes(s, 0, out, (size_t)ROWS_TILE * SHA256_LEN)) ||
	       rows_damaged(e, "the hashes of the pruned records from %llu on are missing",
			    (unsigned long long)tile * ROWS_TILE);
}

bool rows_gone(struct db *db, uint64_t seq, struct err *e)
{
	AUTO_STMT *s = NULL;
	uint64_t upto = 0;
	bool row;

	if (!rows_pruned(db, &upto, e))
		return false;
	if (seq >= upto)
		return rows_damaged(e, "record %llu is missing", (unsigned long long)seq);
	if (!db_prepare(db,
			"SELECT record, archive FROM prune WHERE upto > ?1 ORDER BY upto LIMIT 1",
			&s, e))
		return false;
	db_bind_int(s, 1, (int64_t)seq);
	if (!db_step(s, &row, e))
		return false;
	return err_code(e, ERR_NOT_FOUND, "pruned",
			"record %llu was pruned: it is in the archive \"%.*s\" (see record %lld); "
			"records from %llu on are here",
			(unsigned long long)seq, STR_FMT(str_first(db_column_text(s, 1), 150)),
			(long long)db_column_int(s, 0), (unsigned long long)upto);
}

static bool append_pruned(struct db *db, struct sha256 *sha, uint64_t *from, uint64_t to,
			  struct tree_range *range, struct err *e)
{
	uint8_t hashes[ROWS_TILE * SHA256_LEN];
	bool loaded = false;
	uint64_t upto = 0;

	if (!rows_pruned(db, &upto, e))
		return false;
	for (; *from < to && *from < upto; ++*from) {
		uint64_t at = *from % ROWS_TILE;

		if ((!at || !loaded) && !rows_tile(db, *from / ROWS_TILE, hashes, e))
			return false;
		loaded = true;
		tree_append(range, sha, hashes + at * SHA256_LEN);
	}
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
		uint64_t end = to - from > 1024 ? from + 1024 : to, at = from;

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
		/* Pruned, perhaps just now: the hashes are there. */
		if (from != end && !append_pruned(db, sha, &from, to, range, e))
			return false;
		if (from == at)
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
