#include "authz/store/db.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/store/vfs_layer.h"

struct db {
	sqlite3 *sq;
	char *path; /* for messages */
	int lost;   /* the SQLite code that broke the connection, or 0 */
	bool stale; /* a rollback failed: the transaction it was to end is still open */
	int wal;    /* pages in the WAL since its start, as of the last commit or checkpoint */
	struct db_stmt *begin, *commit, *rollback;
};

struct db_stmt {
	struct db *db;
	sqlite3_stmt *st;
	int bind_error; /* first failure of a bind, reported by the next step */
};

/* What broke the connection, so that nothing is tried on it again. */
static bool is_final(int code)
{
	switch (code & 0xff) {
	case SQLITE_IOERR:
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return code != SQLITE_IOERR_NOMEM;
	default:
		return false;
	}
}

/* A full disk or quota shows in more than one code: SQLite maps only ENOSPC of a write. Growing
 * the shared index of the WAL has a code of its own, and a quota keeps the one of a write. */
static bool is_full(const struct db *db, int code)
{
	if ((code & 0xff) == SQLITE_FULL || code == SQLITE_IOERR_SHMSIZE)
		return true;
	return code == SQLITE_IOERR_WRITE && db->sq && sqlite3_system_errno(db->sq) == EDQUOT;
}

/* Both fail functions end in a plain false: it tells readers (and the analyzer, which does not see
 * into err.c) that nothing goes on after them. */
static bool fail_lost(const struct db *db, struct err *e)
{
	bool io = (db->lost & 0xff) == SQLITE_IOERR;

	err_code(e, ERR_IO, io ? "storage_io" : "storage_corrupt",
		 io ? "%s: the disk failed (%s); the server must be restarted, and the disk "
		      "looked after"
		    : "%s: the database is damaged (%s); restore it from a backup",
		 db->path, sqlite3_errstr(db->lost));
	return false;
}

/* Turn @code of the last call into an error, and remember if it was a final one. */
static void explain(struct db *db, int code, struct err *e)
{
	if (is_full(db, code)) {
		err_code(e, ERR_UNAVAILABLE, "disk_full",
			 "%s: the disk is full; make room, writing resumes by itself", db->path);
		return;
	}
	if (is_final(code)) {
		if (!db->lost)
			db->lost = code;
		fail_lost(db, e);
		return;
	}
	switch (code & 0xff) {
	case SQLITE_IOERR: /* ..._NOMEM */
	case SQLITE_NOMEM:
		err_set(e, ERR_NOMEM, "%s: no memory for the database", db->path);
		return;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		err_code(e, ERR_UNAVAILABLE, "storage_busy",
			 "%s: another program holds the database; try again", db->path);
		return;
	case SQLITE_CONSTRAINT:
		err_code(e, ERR_CONFLICT, "storage_constraint", "%s: refused by the database: %s",
			 db->path, sqlite3_errmsg(db->sq));
		return;
	case SQLITE_TOOBIG:
		err_set(e, ERR_TOO_LARGE, "%s: a value is too large to be stored", db->path);
		return;
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
	case SQLITE_READONLY:
		err_code(e, ERR_IO, "storage_io", "%s: cannot be opened for writing: %s", db->path,
			 sqlite3_errmsg(db->sq));
		return;
	default:
		err_set(e, ERR_INTERNAL, "%s: %s", db->path, sqlite3_errmsg(db->sq));
	}
}

static bool fail(struct db *db, int code, struct err *e)
{
	explain(db, code, e);
	return false;
}

/* --- opening --- */

/* "PRAGMA <name>" as one value, compared with what it must be. */
static bool check_pragma(struct db *db, const char *name, const char *want, struct err *e)
{
	AUTO_STMT *s = NULL;
	char sql[64];
	struct str got = { 0 };
	bool row = false;

	snprintf(sql, sizeof(sql), "PRAGMA %s", name);
	if (!db_prepare(db, sql, &s, e) || !db_step(s, &row, e))
		return false;
	if (row) /* as text: the one place where SQLite may have to convert */
		got = str_c((const char *)sqlite3_column_text(s->st, 0));
	if (!str_eq(got, str_c(want)))
		return err_set(
			e, ERR_INTERNAL,
			"%s: the database does not take %s=%s (it says \"%.*s\"); is it on a "
			"network file system?",
			db->path, name, want, STR_FMT(got));
	return true;
}

static int note_wal(void *of, sqlite3 *sq, const char *schema, int pages)
{
	struct db *db = of;

	(void)sq;
	(void)schema;
	db->wal = pages;
	return SQLITE_OK;
}

/* SQLite's own checkpoints are made from the same hook, so a connection has one or the other. */
static bool mind_wal(struct db *db, int autocheckpoint)
{
	int pages = autocheckpoint ? autocheckpoint : 1000;

	if (autocheckpoint < 0) {
		sqlite3_wal_hook(db->sq, note_wal, db);
		return true;
	}
	return sqlite3_wal_autocheckpoint(db->sq, pages) == SQLITE_OK;
}

/* Set what each connection needs, and look whether it was taken: an unknown pragma or a refused
 * one is silent. */
static bool set_up(struct db *db, const struct db_options *o, struct err *e)
{
	static const struct {
		const char *set, *name, *want;
		bool writer;
	} pragmas[] = {
		{ "PRAGMA journal_mode=WAL", "journal_mode", "wal", true },
		{ "PRAGMA synchronous=FULL", "synchronous", "2", false },
		{ "PRAGMA foreign_keys=ON", "foreign_keys", "1", false },
		{ "PRAGMA secure_delete=ON", "secure_delete", "1", false },
		{ "PRAGMA trusted_schema=OFF", "trusted_schema", "0", false },
		{ "PRAGMA cell_size_check=ON", "cell_size_check", "1", false },
	};
	char size[40];

	sqlite3_extended_result_codes(db->sq, 1);
	sqlite3_busy_timeout(db->sq, o->busy_ms);
	sqlite3_db_config(db->sq, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(db->sq, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
	sqlite3_db_config(db->sq, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
	if (!mind_wal(db, o->autocheckpoint))
		return err_set(e, ERR_NOMEM, "%s: no memory for the database", db->path);
	/* Heard only while the file is empty, and not read back: an older one keeps its own. */
	snprintf(size, sizeof(size), "PRAGMA page_size=%d", o->page_size);
	if (o->page_size && !db_exec(db, size, e))
		return false;
	snprintf(size, sizeof(size), "PRAGMA cache_size=-%d", o->cache_kib);
	if (o->cache_kib && !db_exec(db, size, e))
		return false;
	if (o->shrinks && !db_exec(db, "PRAGMA auto_vacuum=INCREMENTAL", e))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(pragmas); i++) {
		if (pragmas[i].writer && o->read_only)
			continue;
		if (!db_exec(db, pragmas[i].set, e) ||
		    !check_pragma(db, pragmas[i].name, pragmas[i].want, e))
			return false;
	}
	return true;
}

/* SQLite makes files as the umask likes; make it first, so that it is nobody else's to read at
 * any moment. -wal and -shm take over the mode of the database. */
static bool make_file(const char *path, struct err *e)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_set(e, errno == ENOSPC ? ERR_UNAVAILABLE : ERR_IO,
			       "%s: cannot be made: %s", path, strerror(errno));
	close(fd);
	return true;
}

static bool open_into(struct db *db, const char *path, const struct db_options *o, struct err *e)
{
	int flags = (o->read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) |
		    SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
	unsigned ways = (o->gather ? VFS_WAL : 0) | (o->runs ? VFS_RUNS : 0);
	const char *vfs = o->vfs;
	int code;

	if (ways && !vfs_layer_over(o->vfs, ways, &vfs, e))
		return false;
	db->path = strdup(path);
	code = db->path ? sqlite3_open_v2(path, &db->sq, flags, vfs) : SQLITE_NOMEM;
	if (!db->sq)
		return err_set(e, ERR_NOMEM, "%s: no memory to open it", path);
	if (code != SQLITE_OK)
		return fail(db, code, e);
	return set_up(db, o, e) && db_prepare(db, "BEGIN IMMEDIATE", &db->begin, e) &&
	       db_prepare(db, "COMMIT", &db->commit, e) &&
	       db_prepare(db, "ROLLBACK", &db->rollback, e);
}

/* Once, before SQLite starts: no counting of what it allocates. Nobody asks, and it is a lock that
 * all threads take for each allocation. */
static void configure(void)
{
	(void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

bool db_open(const char *path, const struct db_options *o, struct db **out, struct err *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct db *db;

	(void)pthread_once(&once, configure);

	if (o->create && !make_file(path, e))
		return false;
	db = calloc(1, sizeof(*db));
	if (!db)
		return err_set(e, ERR_NOMEM, "%s: no memory to open it", path);
	if (!open_into(db, path, o, e)) {
		db_close(db);
		return false;
	}
	*out = db;
	return true;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	db_finish(db->begin);
	db_finish(db->commit);
	db_finish(db->rollback);
	/* _v2 would hide a statement that was forgotten; this one refuses, and a leak is seen. */
	sqlite3_close(db->sq);
	free(db->path);
	free(db);
}

bool db_broken(const struct db *db)
{
	return db->lost != 0;
}

int64_t db_changes(const struct db *db)
{
	return sqlite3_changes64(db->sq);
}

int64_t db_last_id(const struct db *db)
{
	return sqlite3_last_insert_rowid(db->sq);
}

/* End the transaction that is over, or what comes next would join it, report success and never be
 * committed. */
static bool settle(struct db *db)
{
	sqlite3_step(db->rollback->st);
	sqlite3_reset(db->rollback->st);
	db->stale = !sqlite3_get_autocommit(db->sq);
	return !db->stale;
}

static bool fail_stale(const struct db *db, struct err *e)
{
	return err_set(e, ERR_NOMEM, "%s: no memory to take the last change back", db->path);
}

bool db_exec(struct db *db, const char *sql, struct err *e)
{
	int code;

	if (db->lost)
		return fail_lost(db, e);
	if (db->stale && !settle(db))
		return fail_stale(db, e);
	code = sqlite3_exec(db->sq, sql, NULL, NULL, NULL);
	return code == SQLITE_OK ? true : fail(db, code, e);
}

bool db_int(struct db *db, const char *sql, int64_t *out, struct err *e)
{
	AUTO_STMT *s = NULL;
	bool row = false;

	if (!db_prepare(db, sql, &s, e) || !db_step(s, &row, e))
		return false;
	if (!row)
		return err_set(e, ERR_NOT_FOUND, "%s: no such row", db->path);
	*out = db_column_int(s, 0);
	return true;
}

/* --- statements --- */

bool db_prepare(struct db *db, const char *sql, struct db_stmt **out, struct err *e)
{
	struct db_stmt *s;
	int code;

	if (db->lost) {
		fail_lost(db, e);
		return false;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		err_set(e, ERR_NOMEM, "%s: no memory for a statement", db->path);
		return false;
	}
	s->db = db;
	code = sqlite3_prepare_v3(db->sq, sql, -1, SQLITE_PREPARE_PERSISTENT, &s->st, NULL);
	if (code != SQLITE_OK) {
		free(s);
		fail(db, code, e);
		return false;
	}
	*out = s;
	return true;
}

void db_finish(struct db_stmt *s)
{
	if (!s)
		return;
	sqlite3_finalize(s->st);
	free(s);
}

static void bound(struct db_stmt *s, int code)
{
	if (code != SQLITE_OK && !s->bind_error)
		s->bind_error = code;
}

void db_bind_int(struct db_stmt *s, int i, int64_t v)
{
	bound(s, sqlite3_bind_int64(s->st, i, v));
}

void db_bind_text(struct db_stmt *s, int i, struct str v)
{
	bound(s, sqlite3_bind_text64(s->st, i, v.p ? v.p : "", v.n, SQLITE_STATIC, SQLITE_UTF8));
}

void db_bind_blob(struct db_stmt *s, int i, const void *p, size_t n)
{
	bound(s, sqlite3_bind_blob64(s->st, i, p ? p : "", n, SQLITE_STATIC));
}

void db_bind_null(struct db_stmt *s, int i)
{
	bound(s, sqlite3_bind_null(s->st, i));
}

bool db_step(struct db_stmt *s, bool *row, struct err *e)
{
	int code = s->bind_error;

	if (s->db->lost) {
		db_reset(s);
		return fail_lost(s->db, e);
	}
	if (s->db->stale && !settle(s->db)) {
		db_reset(s);
		return fail_stale(s->db, e);
	}
	if (!code)
		code = sqlite3_step(s->st);
	if (code == SQLITE_ROW || code == SQLITE_DONE) {
		*row = code == SQLITE_ROW;
		if (code == SQLITE_DONE)
			db_reset(s);
		return true;
	}
	fail(s->db, code, e); /* before the reset: it reads the connection's last message */
	db_reset(s);
	return false;
}

bool db_run(struct db_stmt *s, struct err *e)
{
	bool row = true;

	while (row)
		if (!db_step(s, &row, e))
			return false;
	return true;
}

void db_reset(struct db_stmt *s)
{
	sqlite3_reset(s->st); /* its code is the one that step gave */
	s->bind_error = 0;
}

int64_t db_column_int(struct db_stmt *s, int i)
{
	return sqlite3_column_int64(s->st, i);
}

/* Text is read as the blob it is stored as (our databases are UTF-8): sqlite3_column_text would
 * copy it to add a NUL, and could run out of memory without a way to say so. */
struct str db_column_text(struct db_stmt *s, int i)
{
	return db_column_blob(s, i);
}

struct str db_column_blob(struct db_stmt *s, int i)
{
	const void *p = sqlite3_column_blob(s->st, i);
	int n = sqlite3_column_bytes(s->st, i);

	if (db_column_null(s, i))
		return (struct str){ 0 };
	return (struct str){ p ? p : "", (size_t)n };
}

bool db_column_null(struct db_stmt *s, int i)
{
	return sqlite3_column_type(s->st, i) == SQLITE_NULL;
}

/* --- transactions --- */

bool db_begin(struct db *db, struct db_tx *tx, struct err *e)
{
	if (!db_run(db->begin, e))
		return false;
	tx->db = db;
	return true;
}

bool db_commit(struct db_tx *tx, struct err *e)
{
	if (!db_run(tx->db->commit, e)) {
		db_rollback(tx);
		return false;
	}
	tx->db = NULL;
	return true;
}

void db_rollback(struct db_tx *tx)
{
	struct db *db = tx->db;

	tx->db = NULL;
	/* Some failures have already rolled back. One for lack of memory may not be able to: then
	 * nothing else is done on this connection before it is. */
	if (db && !sqlite3_get_autocommit(db->sq))
		(void)settle(db);
}

bool db_checkpoint(struct db *db, enum db_checkpoint mode, int *wal, int *moved, struct err *e)
{
	static const int modes[] = {
		[DB_PASSIVE] = SQLITE_CHECKPOINT_PASSIVE,
		[DB_RESTART] = SQLITE_CHECKPOINT_RESTART,
		[DB_TRUNCATE] = SQLITE_CHECKPOINT_TRUNCATE,
	};
	int code;

	if (db->lost)
		return fail_lost(db, e);
	code = sqlite3_wal_checkpoint_v2(db->sq, NULL, modes[mode], wal, moved);
	if (code == SQLITE_OK && mode != DB_PASSIVE)
		db->wal = 0;
	return code == SQLITE_OK ? true : fail(db, code, e);
}

int db_wal(const struct db *db)
{
	return db->wal;
}

static bool schema_version(struct db *db, const char *module, int64_t *version, struct err *e)
{
	AUTO_STMT *s = NULL;
	bool row = false;

	if (!db_exec(db,
		     "CREATE TABLE IF NOT EXISTS schema (module TEXT PRIMARY KEY, version INTEGER "
		     "NOT NULL) STRICT",
		     e) ||
	    !db_prepare(db, "SELECT version FROM schema WHERE module = ?", &s, e))
		return false;
	db_bind_text(s, 1, str_c(module));
	if (!db_step(s, &row, e))
		return false;
	*version = row ? db_column_int(s, 0) : 0;
	return true;
}

static bool migrate_step(struct db *db, const char *module, const char *sql, size_t version,
			 struct err *e)
{
	AUTO_STMT *s = NULL;
	AUTO_TX tx = { 0 };

	if (!db_prepare(db, "INSERT OR REPLACE INTO schema VALUES (?, ?)", &s, e) ||
	    !db_begin(db, &tx, e) || !db_exec(db, sql, e))
		return false;
	db_bind_text(s, 1, str_c(module));
	db_bind_int(s, 2, (int64_t)version);
	return db_run(s, e) && db_commit(&tx, e);
}

bool db_migrate(struct db *db, const char *module, const char *const *steps, size_t n,
		struct err *e)
{
	int64_t version = 0;

	if (!schema_version(db, module, &version, e))
		return false;
	if (version < 0 || (uint64_t)version > n)
		return err_code(e, ERR_CONFLICT, "storage_format",
				"%s: its %s tables have format %lld, this writ knows formats up to "
				"%zu; run the writ that wrote them, or a newer one",
				db->path, module, (long long)version, n);
	for (size_t i = (size_t)version; i < n; i++)
		if (!migrate_step(db, module, steps[i], i + 1, e))
			return false;
	return true;
}
