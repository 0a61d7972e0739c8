/*
 * db - one SQLite connection, set up for durability, and its prepared statements.
 *
 * Purpose    Every database of writ is opened here, so each has the same promises: WAL,
 *            synchronous=FULL (a commit that returned is on disk), secure_delete, foreign keys,
 *            no extensions, no double-quoted strings, untrusted schema. Each of them is set and
 *            read back; a database that does not take them is not used.
 * Ownership  A db owns its connection; statements must be freed before it is closed. Text that a
 *            column gives lives until the statement's next step or reset.
 * Threads    One owner at a time (SQLITE_OPEN_NOMUTEX): one connection per thread.
 *
 * Failures   disk full          ERR_UNAVAILABLE "disk_full": roll back, try again later
 *            locked by another  ERR_UNAVAILABLE "storage_busy"
 *            no memory          ERR_NOMEM
 *            a constraint       ERR_CONFLICT "storage_constraint"
 *            I/O, corruption    ERR_IO "storage_io" / "storage_corrupt"; the connection is broken
 *                               from then on and every later call fails the same way: after a
 *                               failed fsync the kernel forgets what was not written, so a retry
 *                               would "succeed" without writing. Close, exit, let recovery run.
 */
#ifndef WRIT_DB_H
#define WRIT_DB_H

#include <stdint.h>

#include "include/writ/err.h"

struct db;
struct db_stmt;

struct db_options {
	const char *vfs;    /* NULL: the system's; tests put a faulty one here */
	bool create;	    /* make the file (0600) if it is not there */
	bool read_only;	    /* for readers beside the writer; the file must exist */
	int autocheckpoint; /* WAL pages after which a commit checkpoints; 0: 1,000; -1: never */
	int busy_ms;	    /* how long to wait for another connection's lock; 0: not at all */
	int page_size;	    /* of a file that is made new; 0: SQLite's 4,096 */
	int cache_kib;	    /* memory for pages; 0: SQLite's 2,000 */
	bool shrinks;	    /* a file that is made new can give back room (incremental_vacuum) */
	bool gather;	    /* one write per commit (wal_vfs.h): for the connection that writes */
	bool runs;	    /* pages around the page cache (run_vfs.h): of what grows without end */
};

/* Open @path. On failure *out is untouched and @e names the file. */
MUST_USE bool db_open(const char *path, const struct db_options *o, struct db **out, struct err *e);
void db_close(struct db *db); /* NULL is fine */

/* Run statements that give no rows: schema, pragmas. */
MUST_USE bool db_exec(struct db *db, const char *sql, struct err *e);

/* One integer from one row: "PRAGMA user_version", "SELECT count(*) ...". No row: ERR_NOT_FOUND. */
MUST_USE bool db_int(struct db *db, const char *sql, int64_t *out, struct err *e);

/* Is the connection lost (I/O error, corruption)? */
bool db_broken(const struct db *db);

/* Rows changed by the last INSERT, UPDATE or DELETE; rowid of the last INSERT. */
int64_t db_changes(const struct db *db);
int64_t db_last_id(const struct db *db);

/* --- statements --- */

/* Prepare one statement, kept for reuse. Free it with db_finish. */
MUST_USE bool db_prepare(struct db *db, const char *sql, struct db_stmt **out, struct err *e);
void db_finish(struct db_stmt *s); /* NULL is fine */

/* Bind parameter @i (from 1). A failure is kept and reported by the next step, so a caller binds
 * freely. The bytes must live until the statement is reset or bound anew. p == NULL binds an
 * empty text or blob, not NULL. */
void db_bind_int(struct db_stmt *s, int i, int64_t v);
void db_bind_text(struct db_stmt *s, int i, struct str v);
void db_bind_blob(struct db_stmt *s, int i, const void *p, size_t n);
void db_bind_null(struct db_stmt *s, int i);

/* The next row: *row tells whether there is one. After the last row and after a failure the
 * statement is reset, ready to be bound and run again. */
MUST_USE bool db_step(struct db_stmt *s, bool *row, struct err *e);

/* Run to the end, rows ignored, and reset. */
MUST_USE bool db_run(struct db_stmt *s, struct err *e);

/* Leave a query before its last row. Always do so: an open read stops WAL checkpoints. */
void db_reset(struct db_stmt *s);

/* Columns of the current row, from 0. NULL reads as 0 and as an empty str with p == NULL. */
int64_t db_column_int(struct db_stmt *s, int i);
struct str db_column_text(struct db_stmt *s, int i);
struct str db_column_blob(struct db_stmt *s, int i);
bool db_column_null(struct db_stmt *s, int i);

/* --- transactions --- */

/* A write transaction (BEGIN IMMEDIATE). Rolled back when it leaves its scope uncommitted. */
struct db_tx {
	struct db *db; /* NULL: over */
};
MUST_USE bool db_begin(struct db *db, struct db_tx *tx, struct err *e);
/* On failure the transaction is rolled back. */
MUST_USE bool db_commit(struct db_tx *tx, struct err *e);
void db_rollback(struct db_tx *tx); /* after a commit: nothing */

/* --- checkpoints --- */

enum db_checkpoint { DB_PASSIVE, DB_RESTART, DB_TRUNCATE };
/* *wal: pages in the WAL, *moved: of them already in the database (both may be NULL). False with
 * ERR_UNAVAILABLE if readers or the writer kept RESTART or TRUNCATE from finishing. */
MUST_USE bool db_checkpoint(struct db *db, enum db_checkpoint mode, int *wal, int *moved,
			    struct err *e);

/* Pages in the WAL from its start to the last commit of this connection, or 0 after a RESTART or
 * TRUNCATE of its own: what the file's size comes to, for a page is there as often as it was
 * committed. Only of a connection that never checkpoints by itself. */
int db_wal(const struct db *db);

/* --- schema --- */

/* The tables of one module grow by steps: steps[i] brings its version i to i + 1, each in one
 * transaction. Several modules share a file; each has its own count, by its name. A count higher
 * than there are steps was written by a newer writ: refused. */
MUST_USE bool db_migrate(struct db *db, const char *module, const char *const *steps, size_t n,
			 struct err *e);

static inline void db_close_p(struct db **db)
{
	db_close(*db);
}
static inline void db_finish_p(struct db_stmt **s)
{
	db_finish(*s);
}
static inline void db_reset_p(struct db_stmt **s)
{
	if (*s)
		db_reset(*s);
}
#define AUTO_DB __attribute__((cleanup(db_close_p))) struct db
#define AUTO_STMT __attribute__((cleanup(db_finish_p))) struct db_stmt
/* A kept statement that is reset when the scope ends: AUTO_RESET *q = r->find; */
#define AUTO_RESET __attribute__((cleanup(db_reset_p))) struct db_stmt
#define AUTO_TX __attribute__((cleanup(db_rollback))) struct db_tx

#endif
