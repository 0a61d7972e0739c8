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
		.vfs = vfs, .create = true, .autocheckpoint = WAL_PAGES, .busy_ms = 1000
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

static bool add_entry(struct index_store *s, const struct index_post *p, struct err *e)
{
	if (s->n >= INDEX_BLOCK_BYTES) {
		if (!write_block(s, p->term.hash, e))
			return false;
		s->n = 0;
	}
	if (!s->n)
		s->first = s->last = p->seq;
	else if (p->seq <= s->last)
		return err_code(e, ERR_IO, "storage_corrupt",
				INDEX_FILE " is ahead of the records that it is made from");
	s->n += put_number(p->seq - s->last, s->block + s->n);
	s->last = p->seq;
	if (p->term.marked) {
		memcpy(s->block + s->n, &p->term.mark, 2);
		s->n += 2;
	}
	return true;
}

/* Entries by term: a chain for each, in the order in which they came. Sorting all of them took more
 * than writing them. */
struct chain_of {
	uint64_t hash;
	uint32_t first, last; /* + 1; 0: a free place */
};

struct chains {
	struct chain_of *at; /* open addressing while they are made, then by hash */
	uint32_t *next;	     /* + 1; of each entry */
	size_t places, n;
};

static void add_to_chain(struct chains *c, uint64_t hash, uint32_t post)
{
	size_t i = hash & (c->places - 1);

	while (c->at[i].first && c->at[i].hash != hash)
		i = (i + 1) & (c->places - 1);
	if (c->at[i].first) {
		c->next[c->at[i].last - 1] = post + 1;
	} else {
		c->at[i].hash = hash;
		c->at[i].first = post + 1;
		c->n++;
	}
	c->at[i].last = post + 1;
}

static int compare(const void *a, const void *b)
{
	const struct chain_of *x = a, *y = b;

	return (x->hash > y->hash) - (x->hash < y->hash);
}

static bool make_chains(const struct index_post *posts, size_t n, struct chains *c, struct err *e)
{
	size_t kept = 0;

	*c = (struct chains){ .places = 16 };
	while (c->places < 2 * n)
		c->places *= 2;
	c->at = calloc(c->places, sizeof(*c->at));
	c->next = calloc(n + 1, sizeof(*c->next));
	if (!c->at || !c->next)
		return err_set(e, ERR_NOMEM, "no memory to index %zu entries", n);
	for (size_t i = 0; i < n; i++)
		add_to_chain(c, posts[i].term.hash, (uint32_t)i);
	for (size_t i = 0; i < c->places; i++)
		if (c->at[i].first)
			c->at[kept++] = c->at[i];
	qsort(c->at, kept, sizeof(*c->at), compare); /* the order of the table */
	return true;
}

static bool add_chain(struct index_store *s, const struct chains *c, const struct chain_of *of,
		      const struct index_post *posts, struct err *e)
{
	uint64_t last = UINT64_MAX;

	if (!load_tail(s, of->hash, e))
		return false;
	for (uint32_t i = of->first; i; i = c->next[i - 1]) {
		if (posts[i - 1].seq == last)
			continue; /* two values of one hash in one record */
		last = posts[i - 1].seq;
		if (!add_entry(s, &posts[i - 1], e))
			return false;
	}
	return write_block(s, of->hash, e);
}

static bool add_posts(struct index_store *s, const struct index_post *posts, size_t n,
		      struct err *e)
{
	struct chains c;
	bool ok = make_chains(posts, n, &c, e);

	for (size_t i = 0; ok && i < c.n; i++)
		ok = add_chain(s, &c, &c.at[i], posts, e);
	free(c.at);
	free(c.next);
	return ok;
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

bool index_store_add(struct index_store *s, const struct index_post *posts, size_t nposts,
		     const struct index_mark *marks, size_t nmarks, const struct index_head *head,
		     struct err *e)
{
	AUTO_TX tx = { 0 };

	if (!db_begin(s->db, &tx, e) || !add_posts(s, posts, nposts, e) ||
	    !add_marks(s, marks, nmarks, e))
		return false;
	db_bind_int(s->head, 1, (int64_t)head->next);
	db_bind_blob(s->head, 2, head->hash, SHA256_LEN);
	return db_run(s->head, e) && db_commit(&tx, e);
}
