#include "authz/audit/index_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/base/buf.h"

#define ENTRY_MAX 12 /* bytes: a number of 64 bits and a mark */
#define WAL_PAGES 4000

struct index_store {
	struct db *db;
	struct db_stmt *tail, *put, *mark, *head;
	char block[INDEX_BLOCK_BYTES + ENTRY_MAX];
	size_t n;
	uint64_t first, last; /* of the block in work */
	struct stat file;     /* as it was opened */
	char path[4200];
};

static const char schema[] =
	"CREATE TABLE posting(term INTEGER NOT NULL, block INTEGER NOT NULL,"
	" last INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY(term, block)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE mark(seq INTEGER PRIMARY KEY, time INTEGER NOT NULL) STRICT;"
	"CREATE INDEX mark_time ON mark(time, seq);"
	"CREATE TABLE head(id INTEGER PRIMARY KEY CHECK(id = 0), next INTEGER NOT NULL,"
	" hash BLOB NOT NULL) STRICT;"
	"INSERT INTO head VALUES (0, 0, zeroblob(32));";

bool index_store_path(const char *folder, char path[static 4200], struct err *e)
{
	if (snprintf(path, 4200, "%s/" INDEX_FILE, folder) >= 4200)
		return err_set(e, ERR_INVALID, "the data folder's path is too long");
	return true;
}

void index_store_remove(const char *folder)
{
	static const char *const ends[] = { "", "-wal", "-shm" };
	char path[4200], each[4210];
	struct err e;

	if (!index_store_path(folder, path, &e))
		return;
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		snprintf(each, sizeof(each), "%s%s", path, ends[i]);
		(void)unlink(each);
	}
}

/* --- opening --- */

/* A new file gets its tables; one of another version is none of ours. */
static bool check_version(struct index_store *s, struct err *e)
{
	AUTO_TX tx = { 0 };
	int64_t version, tables;
	char sql[48];

	if (!db_int(s->db, "PRAGMA user_version", &version, e) ||
	    !db_int(s->db, "SELECT count(*) FROM sqlite_schema", &tables, e))
		return false;
	if (version == INDEX_VERSION)
		return true;
	if (version || tables)
		return err_code(e, ERR_CONFLICT, "index_version",
				INDEX_FILE " is of version %lld; this writ makes version %d",
				(long long)version, INDEX_VERSION);
	snprintf(sql, sizeof(sql), "PRAGMA user_version=%d", INDEX_VERSION);
	return db_begin(s->db, &tx, e) && db_exec(s->db, schema, e) && db_exec(s->db, sql, e) &&
	       db_commit(&tx, e);
}

static bool prepare(struct index_store *s, struct err *e)
{
	return db_prepare(s->db,
			  "SELECT block, last, data FROM posting WHERE term = ?1"
			  " ORDER BY block DESC LIMIT 1",
			  &s->tail, e) &&
	       db_prepare(s->db,
			  "INSERT INTO posting(term, block, last, data) VALUES (?1, ?2, ?3, ?4)"
			  " ON CONFLICT(term, block) DO UPDATE"
			  " SET last = excluded.last, data = excluded.data",
			  &s->put, e) &&
	       db_prepare(s->db, "INSERT INTO mark(seq, time) VALUES (?1, ?2)", &s->mark, e) &&
	       db_prepare(s->db, "UPDATE head SET next = ?1, hash = ?2 WHERE id = 0", &s->head, e);
}

static bool look_at(struct index_store *s, struct err *e)
{
	return stat(s->path, &s->file) == 0 ||
	       err_set(e, ERR_IO, "%s: %s", s->path, strerror(errno));
}

bool index_store_in_place(const struct index_store *s)
{
	struct stat now;

	return stat(s->path, &now) == 0 && now.st_ino == s->file.st_ino &&
	       now.st_dev == s->file.st_dev;
}

bool index_store_open(const char *folder, const char *vfs, struct index_store **out, struct err *e)
{
	const struct db_options options = {
		.vfs = vfs,
		.create = true,
		.autocheckpoint = WAL_PAGES,
		.busy_ms = 1000,
		.shrinks = true,
	};
	struct index_store *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(e, ERR_NOMEM, "no memory for the index");
	/* Hashes and numbers only: nothing that a deleted page could give away. */
	if (!index_store_path(folder, s->path, e) || !db_open(s->path, &options, &s->db, e) ||
	    !db_exec(s->db, "PRAGMA synchronous=NORMAL; PRAGMA secure_delete=OFF", e) ||
	    !check_version(s, e) || !prepare(s, e) || !look_at(s, e)) {
		index_store_close(s);
		return false;
	}
	*out = s;
	return true;
}

void index_store_close(struct index_store *s)
{
	if (!s)
		return;
	db_finish(s->tail);
	db_finish(s->put);
	db_finish(s->mark);
	db_finish(s->head);
	db_close(s->db);
	free(s);
}

bool index_store_head(struct index_store *s, struct index_head *head, struct err *e)
{
	AUTO_STMT *q = NULL;
	bool row;

	if (!db_prepare(s->db, "SELECT next, hash FROM head WHERE id = 0", &q, e) ||
	    !db_step(q, &row, e))
		return false;
	if (!row || db_column_int(q, 0) < 0 || db_column_blob(q, 1).n != SHA256_LEN)
		return err_code(e, ERR_IO, "storage_corrupt", INDEX_FILE " has no head");
	head->next = (uint64_t)db_column_int(q, 0);
	memcpy(head->hash, db_column_blob(q, 1).p, SHA256_LEN);
	return true;
}

static bool forget(struct index_store *s, const char *sql, uint64_t upto, struct err *e)
{
	AUTO_STMT *q = NULL;

	if (!db_prepare(s->db, sql, &q, e))
		return false;
	db_bind_int(q, 1, (int64_t)upto);
	return db_run(q, e);
}

bool index_store_forget(struct index_store *s, uint64_t upto, struct err *e)
{
	AUTO_TX tx = { 0 };
	int64_t oldest;

	/* A look at all of the lists: once for some marks, not for each record. */
	if (!db_int(s->db, "SELECT coalesce(min(seq), -1) FROM mark", &oldest, e))
		return false;
	if (oldest < 0 || (uint64_t)oldest + INDEX_MARK_EVERY > upto)
		return true;
	return db_begin(s->db, &tx, e) &&
	       forget(s, "DELETE FROM posting WHERE last < ?1", upto, e) &&
	       forget(s, "DELETE FROM mark WHERE seq < ?1", upto, e) && db_commit(&tx, e) &&
	       db_exec(s->db, "PRAGMA incremental_vacuum", e);
}

bool index_store_clear(struct index_store *s, struct err *e)
{
	AUTO_TX tx = { 0 };

	return db_begin(s->db, &tx, e) &&
	       db_exec(s->db,
		       "DELETE FROM posting; DELETE FROM mark;"
		       "UPDATE head SET next = 0, hash = zeroblob(32)",
		       e) &&
	       db_commit(&tx, e);
}

/* --- blocks --- */

static size_t put_number(uint64_t v, char *out)
{
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		out[n++] = (char)(v | 0x80);
	out[n++] = (char)v;
	return n;
}

/* False: no number of 64 bits. */
static bool get_number(const char **p, const char *end, uint64_t *v)
{
	*v = 0;
	for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
		unsigned char c = (unsigned char)*(*p)++;

		if (shift == 63 && c > 1)
			return false;
		*v |= (uint64_t)(c & 0x7f) << shift;
		if (c < 0x80)
			return true;
	}
	return false;
}

int index_block_decode(struct str data, uint64_t first, struct index_term want,
		       uint64_t out[static INDEX_BLOCK_ENTRIES])
{
	const char *p = data.p, *end = data.n ? data.p + data.n : data.p;
	uint64_t seq = first, more;
	int n = 0;

	while (p < end) {
		if (!get_number(&p, end, &more) || n == INDEX_BLOCK_ENTRIES)
			return -1;
		if (more > INT64_MAX - seq || (n && !more && !want.marked))
			return -1;
		seq += more;
		if (want.marked) {
			uint16_t mark;

			if (end - p < 2)
				return -1;
			memcpy(&mark, p, 2);
			p += 2;
			if (mark != want.mark)
				continue;
		}
		out[n++] = seq;
	}
	return n;
}

static bool write_block(struct index_store *s, uint64_t term, struct err *e)
{
	if (!s->n)
		return true;
	db_bind_int(s->put, 1, (int64_t)term);
	db_bind_int(s->put, 2, (int64_t)s->first);
	db_bind_int(s->put, 3, (int64_t)s->last);
	db_bind_blob(s->put, 4, s->block, s->n);
	return db_run(s->put, e);
}

/* The last block of @term, if there is room in it; else an empty one. */
static bool load_tail(struct index_store *s, uint64_t term, struct err *e)
{
	AUTO_RESET *q = s->tail;
	struct str data;
	bool row;

	s->n = 0;
	db_bind_int(q, 1, (int64_t)term);
	if (!db_step(q, &row, e))
		return false;
	if (!row)
		return true;
	data = db_column_blob(q, 2);
	s->last = (uint64_t)db_column_int(q, 1);
	if (data.n >= INDEX_BLOCK_BYTES)
		return true;
	s->first = (uint64_t)db_column_int(q, 0);
	s->n = data.n;
	memcpy(s->block, data.p, data.n);
	return true;
}

static bool add_entry(struct index_store *s, const struct index_chain *c, uint64_t seq,
		      uint16_t mark, struct err *e)
{
	if (s->n >= INDEX_BLOCK_BYTES) {
		if (!write_block(s, c->hash, e))
			return false;
		s->n = 0;
	}
	if (!s->n)
		s->first = s->last = seq;
	else if (seq <= s->last)
		return err_code(e, ERR_IO, "storage_corrupt",
				INDEX_FILE " is ahead of the records that it is made from");
	s->n += put_number(seq - s->last, s->block + s->n);
	s->last = seq;
	if (c->marked) {
		memcpy(s->block + s->n, &mark, 2);
		s->n += 2;
	}
	return true;
}

static bool add_chain(struct index_store *s, const struct index_posts *p,
		      const struct index_chain *c, struct err *e)
{
	uint64_t last = UINT64_MAX;

	if (!load_tail(s, c->hash, e))
		return false;
	for (uint32_t i = c->first; i; i = p->entries[i - 1].next) {
		const struct index_entry *entry = &p->entries[i - 1];
		uint64_t seq = p->first + entry->after;

		if (seq == last)
			continue; /* two values of one hash in one record */
		last = seq;
		if (!add_entry(s, c, seq, entry->mark, e))
			return false;
	}
	return write_block(s, c->hash, e);
}

static bool add_posts(struct index_store *s, struct index_posts *p, struct err *e)
{
	index_posts_sort(p); /* the order of the table */
	for (size_t i = 0; i < p->nchains; i++)
		if (!add_chain(s, p, &p->chains[i], e))
			return false;
	return true;
}

static bool add_marks(struct index_store *s, const struct index_mark *marks, size_t n,
		      struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		db_bind_int(s->mark, 1, (int64_t)marks[i].seq);
		db_bind_int(s->mark, 2, marks[i].time_ms);
		if (!db_run(s->mark, e))
			return false;
	}
	return true;
}

bool index_store_add(struct index_store *s, struct index_posts *posts,
		     const struct index_mark *marks, size_t nmarks, const struct index_head *head,
		     struct err *e)
{
	AUTO_TX tx = { 0 };

	if (!db_begin(s->db, &tx, e) || !add_posts(s, posts, e) || !add_marks(s, marks, nmarks, e))
		return false;
	db_bind_int(s->head, 1, (int64_t)head->next);
	db_bind_blob(s->head, 2, head->hash, SHA256_LEN);
	return db_run(s->head, e) && db_commit(&tx, e);
}
