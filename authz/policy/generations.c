#include "authz/policy/generations.h"

#include <stdlib.h>

#include "authz/base/digest.h"
#include "authz/base/text.h"

#define FILES_MAX 10000 /* of a stored set; what policy_sources_read lets in is fewer */
#define ZONES_MAX 64	/* the same: a set names no more */

/* Sources are kept by content, so that a hundred generations that differ in one file cost one copy
 * of the others. Nothing is ever changed or removed: records name generations. */
static const char *const schema[] = {
	"CREATE TABLE source ("
	"  sha256 BLOB PRIMARY KEY,"
	"  text BLOB NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE TABLE generation ("
	"  number INTEGER PRIMARY KEY AUTOINCREMENT,"
	"  hash BLOB NOT NULL UNIQUE,"
	"  files INTEGER NOT NULL,"
	"  stored_ms INTEGER NOT NULL,"
	"  by TEXT NOT NULL,"
	"  message TEXT NOT NULL) STRICT;"
	"CREATE TABLE generation_file ("
	"  generation INTEGER NOT NULL REFERENCES generation,"
	"  path TEXT NOT NULL,"
	"  sha256 BLOB NOT NULL REFERENCES source,"
	"  PRIMARY KEY (generation, path)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE activation ("
	"  n INTEGER PRIMARY KEY AUTOINCREMENT,"
	"  generation INTEGER NOT NULL REFERENCES generation,"
	"  pinned INTEGER NOT NULL,"
	"  at_ms INTEGER NOT NULL,"
	"  by TEXT NOT NULL) STRICT;"
	"CREATE TRIGGER source_stays BEFORE DELETE ON source BEGIN"
	"  SELECT RAISE(ABORT, 'sources of generations are kept'); END;"
	"CREATE TRIGGER source_keeps BEFORE UPDATE ON source BEGIN"
	"  SELECT RAISE(ABORT, 'sources of generations are kept'); END;"
	"CREATE TRIGGER generation_stays BEFORE DELETE ON generation BEGIN"
	"  SELECT RAISE(ABORT, 'generations are kept'); END;"
	"CREATE TRIGGER generation_keeps BEFORE UPDATE ON generation BEGIN"
	"  SELECT RAISE(ABORT, 'generations are kept'); END;",
	/* The zone files a set was loaded with. */
	"CREATE TABLE generation_zone ("
	"  generation INTEGER NOT NULL REFERENCES generation,"
	"  name TEXT NOT NULL,"
	"  sha256 BLOB NOT NULL REFERENCES source,"
	"  PRIMARY KEY (generation, name)) STRICT, WITHOUT ROWID;"
	"CREATE TRIGGER zone_stays BEFORE DELETE ON generation_zone BEGIN"
	"  SELECT RAISE(ABORT, 'zones of generations are kept'); END;"
	"CREATE TRIGGER zone_keeps BEFORE UPDATE ON generation_zone BEGIN"
	"  SELECT RAISE(ABORT, 'zones of generations are kept'); END;",
};

struct generations {
	struct db *db;
	struct sha256 *sha;
	struct db_stmt *find, *get, *list, *files, *zones, *insert, *insert_source, *insert_file,
		*insert_zone, *activate, *active, *history;
};

bool generations_open(struct db *db, struct generations **out, struct err *e)
{
#define COLUMNS "SELECT number, hash, files, stored_ms, by, message FROM generation "
	struct generations *g = calloc(1, sizeof(*g));

	if (!g)
		return err_set(e, ERR_NOMEM, "no memory for the generations");
	g->db = db;
	g->sha = sha256_new(e);
	if (!g->sha || !db_migrate(db, "generations", schema, ARRAY_LEN(schema), e) ||
	    !db_prepare(db, "SELECT number FROM generation WHERE hash = ?", &g->find, e) ||
	    !db_prepare(db, COLUMNS "WHERE number = ?", &g->get, e) ||
	    !db_prepare(db, COLUMNS "WHERE number < ? ORDER BY number DESC LIMIT ?", &g->list, e) ||
	    !db_prepare(db,
			"SELECT f.path, f.sha256, s.text FROM generation_file f JOIN source s "
			"ON s.sha256 = f.sha256 WHERE f.generation = ? ORDER BY f.path",
			&g->files, e) ||
	    !db_prepare(db,
			"SELECT z.name, z.sha256, s.text FROM generation_zone z JOIN source s "
			"ON s.sha256 = z.sha256 WHERE z.generation = ? ORDER BY z.name",
			&g->zones, e) ||
	    !db_prepare(db,
			"INSERT INTO generation (hash, files, stored_ms, by, message) "
			"VALUES (?, ?, ?, ?, ?)",
			&g->insert, e) ||
	    !db_prepare(db, "INSERT OR IGNORE INTO source VALUES (?, ?)", &g->insert_source, e) ||
	    !db_prepare(db, "INSERT INTO generation_file VALUES (?, ?, ?)", &g->insert_file, e) ||
	    !db_prepare(db, "INSERT INTO generation_zone VALUES (?, ?, ?)", &g->insert_zone, e) ||
	    !db_prepare(
		    db,
		    "INSERT INTO activation (generation, pinned, at_ms, by) VALUES (?, ?, ?, ?)",
		    &g->activate, e) ||
	    !db_prepare(
		    db,
		    "SELECT generation, pinned, at_ms, by FROM activation ORDER BY n DESC LIMIT 1",
		    &g->active, e) ||
	    !db_prepare(
		    db,
		    "SELECT generation, pinned, at_ms, by FROM activation ORDER BY n DESC LIMIT ?",
		    &g->history, e)) {
		generations_close(g);
		return false;
	}
	*out = g;
	return true;
#undef COLUMNS
}

void generations_close(struct generations *g)
{
	if (!g)
		return;
	db_finish(g->find);
	db_finish(g->get);
	db_finish(g->list);
	db_finish(g->files);
	db_finish(g->zones);
	db_finish(g->insert);
	db_finish(g->insert_source);
	db_finish(g->insert_file);
	db_finish(g->insert_zone);
	db_finish(g->activate);
	db_finish(g->active);
	db_finish(g->history);
	sha256_free(g->sha);
	free(g);
}

/* --- storing --- */

/* @list: insert_file or insert_zone. */
static bool store_file(struct generations *g, struct db_stmt *list, uint64_t number,
		       const struct policy_file *f, struct err *e)
{
	uint8_t hash[SHA256_LEN];

	sha256_of(g->sha, f->text, hash);
	db_bind_blob(g->insert_source, 1, hash, sizeof(hash));
	db_bind_blob(g->insert_source, 2, f->text.p, f->text.n);
	if (!db_run(g->insert_source, e))
		return false;
	db_bind_int(list, 1, (int64_t)number);
	db_bind_text(list, 2, f->path);
	db_bind_blob(list, 3, hash, sizeof(hash));
	return db_run(list, e);
}

static bool check_note(const char *what, struct str s, size_t max, struct err *e)
{
	if (s.n <= max && text_is_utf8(s))
		return true;
	return err_set(e, ERR_INVALID, "%s of a generation must be UTF-8 text of at most %zu bytes",
		       what, max);
}

bool generations_store(struct generations *g, const struct policy_sources *s,
		       const struct policy_set *set, struct str by, struct str message,
		       int64_t now_ms, uint64_t *number, bool *stored, struct err *e)
{
	size_t nzones = 0;
	const struct policy_file *zones = set ? policy_set_zones(set, &nzones) : NULL;
	AUTO_TX tx = { 0 };
	struct err why = { 0 };

	if (generations_find(g, s->hash, number, &why)) {
		*stored = false;
		return true;
	}
	if (why.class != ERR_NOT_FOUND)
		return err_code(e, why.class, why.code, "%s", why.msg);
	if (s->n > FILES_MAX)
		return err_set(e, ERR_TOO_LARGE, "%zu policy files are too many; at most %d", s->n,
			       FILES_MAX);
	if (!check_note("the author", by, 2048, e) ||
	    !check_note("the message", message, 4096, e) || !db_begin(g->db, &tx, e))
		return false;
	db_bind_blob(g->insert, 1, s->hash, sizeof(s->hash));
	db_bind_int(g->insert, 2, (int64_t)s->n);
	db_bind_int(g->insert, 3, now_ms);
	db_bind_text(g->insert, 4, by);
	db_bind_text(g->insert, 5, message);
	if (!db_run(g->insert, e))
		return false;
	*number = (uint64_t)db_last_id(g->db);
	for (size_t i = 0; i < s->n; i++)
		if (!store_file(g, g->insert_file, *number, &s->files[i], e))
			return false;
	for (size_t i = 0; i < nzones; i++)
		if (!store_file(g, g->insert_zone, *number, &zones[i], e))
			return false;
	*stored = true;
	return db_commit(&tx, e);
}

/* --- what decides --- */

bool generations_activate(struct generations *g, uint64_t number, bool pinned, struct str by,
			  int64_t now_ms, struct err *e)
{
	struct generation gen;
	struct arena a;
	bool known;

	arena_init(&a, &mem_system, 65536);
	known = generations_get(g, number, &a, &gen, e);
	arena_clear(&a);
	if (!known || !check_note("the author", by, 2048, e))
		return false;
	db_bind_int(g->activate, 1, (int64_t)number);
	db_bind_int(g->activate, 2, pinned);
	db_bind_int(g->activate, 3, now_ms);
	db_bind_text(g->activate, 4, by);
	return db_run(g->activate, e);
}

bool generations_active(struct generations *g, struct generation_active *out, struct err *e)
{
	AUTO_RESET *s = g->active;
	bool row = false;

	if (!db_step(s, &row, e))
		return false;
	*out = (struct generation_active){ 0 };
	if (row)
		*out = (struct generation_active){ .number = (uint64_t)db_column_int(s, 0),
						   .pinned = db_column_int(s, 1) != 0,
						   .since_ms = db_column_int(s, 2) };
	return true;
}

bool generations_history(struct generations *g, size_t max,
			 void (*each)(void *ctx, const struct generation_activation *act),
			 void *ctx, struct err *e)
{
	AUTO_RESET *s = g->history;
	bool row = false;

	db_bind_int(s, 1, max > INT32_MAX ? INT32_MAX : (int64_t)max);
	while (db_step(s, &row, e)) {
		if (!row)
			return true;
		each(ctx, &(struct generation_activation){
				  (uint64_t)db_column_int(s, 0), db_column_int(s, 1) != 0,
				  db_column_int(s, 2), db_column_text(s, 3) });
	}
	return false;
}

/* --- reading --- */

static bool fail_damaged(uint64_t number, const char *what, struct err *e)
{
	err_code(e, ERR_IO, "storage_corrupt",
		 "writ.db: generation %llu is damaged: %s; restore the file from a backup",
		 (unsigned long long)number, what);
	return false;
}

static bool fail_missing(uint64_t number, struct err *e)
{
	err_code(e, ERR_NOT_FOUND, "unknown_generation",
		 "there is no generation %llu; `writ policy list` shows those there are",
		 (unsigned long long)number);
	return false;
}

/* The texts live until the statement moves on. */
static bool read_row(struct db_stmt *s, struct generation *out, struct err *e)
{
	struct str hash = db_column_blob(s, 1);

	*out = (struct generation){
		.number = (uint64_t)db_column_int(s, 0),
		.files = (size_t)db_column_int(s, 2),
		.stored_ms = db_column_int(s, 3),
		.by = db_column_text(s, 4),
		.message = db_column_text(s, 5),
	};
	if (hash.n != sizeof(out->hash) || out->files > FILES_MAX)
		return fail_damaged(out->number, "its row is not one that writ wrote", e);
	memcpy(out->hash, hash.p, sizeof(out->hash));
	return true;
}

bool generations_get(struct generations *g, uint64_t number, struct arena *a,
		     struct generation *out, struct err *e)
{
	AUTO_RESET *s = g->get;
	struct generation found;
	bool row = false;

	db_bind_int(s, 1, number > INT64_MAX ? 0 : (int64_t)number);
	if (!db_step(s, &row, e))
		return false;
	if (!row)
		return fail_missing(number, e);
	if (!read_row(s, &found, e))
		return false;
	found.by = arena_dup(a, found.by);
	found.message = arena_dup(a, found.message);
	if (!found.by.p || !found.message.p)
		return err_set(e, ERR_NOMEM, "no memory to look at generation %llu",
			       (unsigned long long)number);
	*out = found;
	return true;
}

bool generations_find(struct generations *g, const uint8_t hash[static 32], uint64_t *number,
		      struct err *e)
{
	AUTO_RESET *s = g->find;
	bool row = false;

	db_bind_blob(s, 1, hash, 32);
	if (!db_step(s, &row, e))
		return false;
	if (!row)
		return err_code(e, ERR_NOT_FOUND, "unknown_generation",
				"there is no generation with this hash");
	*number = (uint64_t)db_column_int(s, 0);
	return true;
}

bool generations_list(struct generations *g, uint64_t before, size_t max,
		      void (*each)(void *ctx, const struct generation *gen), void *ctx,
		      struct err *e)
{
	AUTO_RESET *s = g->list;
	struct generation gen;
	bool row = false;

	db_bind_int(s, 1, before && before < INT64_MAX ? (int64_t)before : INT64_MAX);
	db_bind_int(s, 2, max > INT32_MAX ? INT32_MAX : (int64_t)max);
	while (db_step(s, &row, e)) {
		if (!row)
			return true;
		if (!read_row(s, &gen, e))
			return false;
		each(ctx, &gen);
	}
	return false;
}

/* The row that @s is at, copied to @a since the next one overwrites it: path or name, hash, text.
 */
static bool read_file(struct generations *g, uint64_t number, struct db_stmt *s, struct arena *a,
		      struct policy_file *out, struct err *e)
{
	struct str stored = db_column_blob(s, 1);
	uint8_t hash[SHA256_LEN];

	out->path = arena_dup(a, db_column_text(s, 0));
	out->text = arena_dup(a, db_column_blob(s, 2));
	if (!out->path.p || !out->text.p)
		return err_set(e, ERR_NOMEM, "no memory to load generation %llu",
			       (unsigned long long)number);
	sha256_of(g->sha, out->text, hash);
	if (!str_eq(stored, (struct str){ (const char *)hash, sizeof(hash) }))
		return fail_damaged(number, out->path.p, e);
	return true;
}

static bool read_files(struct generations *g, const struct generation *gen, struct arena *a,
		       struct policy_file *files, struct err *e)
{
	AUTO_RESET *s = g->files;
	size_t n = 0;
	bool row = false;

	db_bind_int(s, 1, (int64_t)gen->number);
	while (db_step(s, &row, e)) {
		if (!row)
			return n == gen->files || fail_damaged(gen->number, "files are missing", e);
		if (n == gen->files)
			return fail_damaged(gen->number, "it has more files than it had", e);
		if (!read_file(g, gen->number, s, a, &files[n++], e))
			return false;
	}
	return false;
}

/* Into the sources' own arena, since they live as long as these. */
static bool read_zones(struct generations *g, uint64_t number, struct policy_sources *out,
		       struct err *e)
{
	AUTO_RESET *s = g->zones;
	bool row = false;

	out->zones = arena_alloc(&out->arena, ZONES_MAX * sizeof(*out->zones));
	out->nzones = 0;
	out->stored = true;
	if (!out->zones)
		return err_set(e, ERR_NOMEM, "no memory to load generation %llu",
			       (unsigned long long)number);
	db_bind_int(s, 1, (int64_t)number);
	while (db_step(s, &row, e)) {
		if (!row)
			return true;
		if (out->nzones == ZONES_MAX)
			return fail_damaged(number, "it has more zones than it had", e);
		if (!read_file(g, number, s, &out->arena, &out->zones[out->nzones++], e))
			return false;
	}
	return false;
}

bool generations_recall(struct generations *g, struct policy_sources *s, struct err *e)
{
	struct err why = { 0 };
	uint64_t number = 0;

	if (generations_find(g, s->hash, &number, &why))
		return read_zones(g, number, s, e);
	return why.class == ERR_NOT_FOUND || err_code(e, why.class, why.code, "%s", why.msg);
}

bool generations_load(struct generations *g, uint64_t number, struct policy_sources *out,
		      struct err *e)
{
	struct policy_sources s = { 0 };
	struct policy_file *files;
	struct generation gen = { 0 };
	struct arena a;
	bool ok;

	arena_init(&a, &mem_system, (size_t)1 << 30); /* as stored; bounded when it was read in */
	ok = generations_get(g, number, &a, &gen, e);
	files = arena_alloc(&a, (gen.files + 1) * sizeof(*files));
	if (ok && !files)
		ok = err_set(e, ERR_NOMEM, "no memory to load generation %llu",
			     (unsigned long long)number);
	ok = ok && files && read_files(g, &gen, &a, files, e) &&
	     policy_sources_from(&s, files, gen.files, e);
	arena_clear(&a);
	/* Each file is as it was; the list of them must be, too. */
	if (ok && memcmp(s.hash, gen.hash, sizeof(s.hash)) != 0)
		ok = fail_damaged(number, "its files do not give its hash", e);
	if (!ok || !read_zones(g, number, &s, e)) {
		policy_sources_clear(&s);
		return false;
	}
	*out = s;
	return true;
}
