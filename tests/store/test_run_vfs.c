/* Checkpoints in runs around the page cache: nothing is lost or stale, no fault is swallowed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "authz/store/db.h"
#include "authz/store/run_vfs.h"
#include "tests/fault/tmp_dir.h"
#include "tests/fault/vfs_fault.h"

#define WHOLE "SELECT integrity_check = 'ok' FROM pragma_integrity_check"
/* Rows are told apart by what is in them: a stale page shows. */
#define SUM "SELECT ifnull(sum(n), 0) FROM t"

static struct db *open_at(void **state, const char *vfs, bool runs)
{
	struct db_options o = { .create = true,
				.vfs = vfs,
				.gather = runs,
				.runs = runs,
				.page_size = 8192,
				.autocheckpoint = -1 };
	struct err e = { 0 };
	struct db *db = NULL;

	if (!db_open(tmp_dir_path(state, "r.db"), &o, &db, &e) ||
	    !db_exec(db,
		     "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, n INTEGER, v BLOB);"
		     "CREATE TABLE IF NOT EXISTS u(id INTEGER PRIMARY KEY, v BLOB)",
		     &e))
		fail_msg("%s", e.msg);
	return db;
}

static int64_t number(struct db *db, const char *sql)
{
	struct err e = { 0 };
	int64_t n = -1;

	if (!db_int(db, sql, &n, &e))
		fail_msg("%s: %s", sql, e.msg);
	return n;
}

/* @n rows of about 3 KB in t and as many in u, so that their pages alternate. */
static void insert(struct db *db, int n)
{
	struct err e = { 0 };
	char sql[300];

	for (; n > 0; n -= 20) {
		snprintf(sql, sizeof(sql),
			 "BEGIN IMMEDIATE; WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 "
			 "FROM c WHERE i < %d) INSERT INTO t(n, v) SELECT 1, randomblob(3000) FROM "
			 "c; INSERT INTO u(v) SELECT v FROM t ORDER BY id DESC LIMIT %d; COMMIT",
			 n < 20 ? n : 20, n < 20 ? n : 20);
		if (!db_exec(db, sql, &e))
			fail_msg("%s", e.msg);
	}
}

static void run_sql(struct db *db, const char *sql)
{
	struct err e = { 0 };

	if (!db_exec(db, sql, &e))
		fail_msg("%s", e.msg);
}

/* --- what is written --- */

static void a_checkpoint_is_a_few_writes(void **state)
{
	struct err e = { 0 };
	struct db *db;
	int wal, moved;

	vfs_fault_register();
	vfs_fault_arm(0, 0, 0, false);
	db = open_at(state, "fault", true);
	insert(db, 600);
	vfs_fault_arm(VFS_WRITE, 0, 0, false);
	assert_true(db_checkpoint(db, DB_PASSIVE, &wal, &moved, &e));
	assert_true(wal > 600 && wal == moved);
	/* 450 pages and more; one write takes the room. */
	assert_in_range(vfs_fault_calls(), 450 / (VFS_PIECE / 8192), 60);
	vfs_fault_arm(VFS_SYNC, 0, 0, false);
	assert_true(db_checkpoint(db, DB_RESTART, &wal, &moved, &e));
	insert(db, 1);
	vfs_fault_arm(0, 0, 0, false);
	db_close(db);
	db = open_at(state, NULL, false);
	assert_int_equal(number(db, SUM), 601);
	assert_int_equal(number(db, WHOLE), 1);
	db_close(db);
}

/* Room is taken beyond the file's end, but what the file says of its size is its pages. */
static void the_file_is_as_long_as_its_pages(void **state)
{
	struct db *db = open_at(state, NULL, true);
	struct err e = { 0 };
	int fd;

	insert(db, 200);
	assert_true(db_checkpoint(db, DB_TRUNCATE, NULL, NULL, &e));
	fd = open(tmp_dir_path(state, "r.db"), O_RDONLY);
	assert_int_equal(lseek(fd, 0, SEEK_END), 8192 * number(db, "PRAGMA page_count"));
	close(fd);
	db_close(db);
}

/* --- what is read --- */

static int64_t step_sum(struct db_stmt *s, int rows)
{
	struct err e = { 0 };
	int64_t sum = 0;
	bool row = true;

	while (rows-- && row) {
		if (!db_step(s, &row, &e))
			fail_msg("%s", e.msg);
		sum += row ? db_column_int(s, 0) : 0;
	}
	return sum;
}

/* A reader that walks in runs, while all that it reads is written anew and moved: within its
 * transaction it sees what was there when that began, and after it what is there now. */
static void a_walk_sees_its_transaction(void **state)
{
	AUTO_DB *writer = open_at(state, NULL, true);
	AUTO_DB *mover = open_at(state, NULL, true);
	AUTO_DB *reader = open_at(state, NULL, true);
	AUTO_DB *plain = open_at(state, NULL, false);
	AUTO_STMT *walk = NULL;
	struct err e = { 0 };
	int64_t n = 1;

	insert(writer, 400);
	run_sql(reader, "PRAGMA cache_size=8");
	assert_true(db_prepare(reader, "SELECT n FROM t WHERE length(v) ORDER BY id", &walk, &e));
	for (int round = 0; round < 20; round++) {
		int64_t sum = step_sum(walk, 7 * round + 1);
		char sql[100];

		n++;
		snprintf(sql, sizeof(sql), "UPDATE t SET n = %d, v = randomblob(3000)", (int)n);
		run_sql(writer, sql);
		assert_true(db_checkpoint(mover, DB_PASSIVE, NULL, NULL, &e));
		sum += step_sum(walk, 50);
		insert(writer, 4);
		run_sql(writer, "UPDATE t SET n = (SELECT max(n) FROM t)");
		assert_true(db_checkpoint(mover, DB_PASSIVE, NULL, NULL, &e));
		sum += step_sum(walk, -1);
		assert_int_equal(sum, (400 + 4 * round) * (n - 1));
		assert_int_equal(number(reader, SUM), (404 + 4 * round) * n);
		assert_int_equal(number(plain, SUM), (404 + 4 * round) * n);
		if (round % 3 == 2)
			assert_true(db_checkpoint(writer, DB_RESTART, NULL, NULL, &e));
		assert_int_equal(number(reader, SUM), (404 + 4 * round) * n);
	}
	assert_true(db_checkpoint(writer, DB_TRUNCATE, NULL, NULL, &e));
	assert_int_equal(number(plain, WHOLE), 1);
	assert_int_equal(number(reader, WHOLE), 1);
}

/* Pages smaller than what O_DIRECT can write go one by one, others in runs. */
static void pages_of_every_size(void **state)
{
	for (int size = 512; size <= 65536; size *= 2) {
		struct db_options o = { .create = true,
					.gather = true,
					.runs = true,
					.page_size = size,
					.autocheckpoint = -1 };
		struct db *db = NULL;
		struct err e = { 0 };
		char name[20];

		snprintf(name, sizeof(name), "%d.db", size);
		assert_true(db_open(tmp_dir_path(state, name), &o, &db, &e));
		run_sql(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, v BLOB)");
		run_sql(db, "CREATE TABLE u(id INTEGER PRIMARY KEY, v BLOB)");
		for (int i = 0; i < 4; i++) {
			insert(db, 100);
			assert_true(
				db_checkpoint(db, i % 2 ? DB_RESTART : DB_PASSIVE, NULL, NULL, &e));
		}
		db_close(db);
		o.runs = false;
		assert_true(db_open(tmp_dir_path(state, name), &o, &db, &e));
		assert_int_equal(number(db, SUM), 400);
		assert_int_equal(number(db, WHOLE), 1);
		db_close(db);
	}
}

/* --- faults --- */

static const struct fault {
	const char *why;
	unsigned which;
	int code;
	bool stays;
} faults[] = {
	{ "disk full once", VFS_WRITE, SQLITE_FULL, false },
	{ "disk full", VFS_WRITE, SQLITE_FULL, true },
	{ "a write fails", VFS_WRITE, SQLITE_IOERR_WRITE, false },
	{ "the disk is gone", VFS_WRITE, SQLITE_IOERR_WRITE, true },
	{ "a sync fails", VFS_SYNC, SQLITE_IOERR_FSYNC, false },
	{ "a truncation fails", VFS_TRUNCATE, SQLITE_IOERR_TRUNCATE, false },
	{ "a read fails", VFS_READ, SQLITE_IOERR_READ, false },
};

static const struct moving {
	const char *why;
	enum db_checkpoint mode;
	bool part; /* a reader keeps the last pages back: SQLite does not sync then */
} movings[] = {
	{ "all", DB_PASSIVE, false },
	{ "a part", DB_PASSIVE, true },
	{ "restart", DB_RESTART, false },
	{ "truncate", DB_TRUNCATE, false },
};

/* In a process of its own, since it may be ended: 0 the fault came, 3 it did not. */
static int move_with_fault(void **state, const struct fault *k, const struct moving *m, long nth)
{
	struct db *db = open_at(state, "fault", true), *reader = open_at(state, NULL, false);
	const struct rlimit no_core = { 0 };
	struct db_stmt *pin = NULL;
	struct err e = { 0 };
	bool ok, hit;

	(void)setrlimit(RLIMIT_CORE, &no_core);
	(void)!freopen("/dev/null", "w", stderr);
	insert(db, 100);
	if (!db_prepare(reader, "SELECT n FROM t", &pin, &e))
		return 10;
	if (m->part)
		(void)step_sum(pin, 1);
	insert(db, 40);
	vfs_fault_arm(k->which, nth, k->code, k->stays);
	ok = db_checkpoint(db, m->mode, NULL, NULL, &e);
	hit = vfs_fault_hits() > 0;
	vfs_fault_arm(0, 0, 0, false);
	if (!hit)
		return ok ? 3 : 11;
	if (ok && k->stays)
		return 12;
	if (!ok && k->code == SQLITE_FULL && strcmp(e.code, "disk_full") != 0)
		return 13;
	if (!ok && k->code == SQLITE_FULL) { /* there is room again */
		db_reset(pin);
		if (!db_checkpoint(db, DB_RESTART, NULL, NULL, &e))
			return 14;
		insert(db, 1);
		run_sql(db, "DELETE FROM t WHERE id = (SELECT max(id) FROM t)");
	}
	return 0; /* without closing anything, as after a kill */
}

/* What was committed is there, by the plain way, whatever befell the checkpoint. */
static bool fail_at(void **state, const struct fault *k, const struct moving *m, long nth)
{
	pid_t child = fork();
	struct db *db;
	int status;
	bool ended;

	if (!child)
		_exit(move_with_fault(state, k, m, nth));
	assert_int_equal(waitpid(child, &status, 0), child);
	/* Only where nothing else is left: the last run, of which SQLite would not hear. */
	ended = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && k->which == VFS_WRITE &&
		k->stays && m->part;
	if (!ended && (!WIFEXITED(status) || (WEXITSTATUS(status) && WEXITSTATUS(status) != 3)))
		fail_msg("%s, %s, call %ld: status %x", k->why, m->why, nth, (unsigned)status);
	db = open_at(state, NULL, false);
	if (number(db, SUM) != 140 || number(db, WHOLE) != 1)
		fail_msg("%s, %s, call %ld: %lld rows", k->why, m->why, nth,
			 (long long)number(db, SUM));
	db_close(db);
	for (const char *const *name =
		     (const char *const[]){ "r.db", "r.db-wal", "r.db-shm", NULL };
	     *name; name++)
		(void)unlink(tmp_dir_path(state, *name));
	return ended || WEXITSTATUS(status) == 0;
}

static void each_call_fails_in_turn(void **state)
{
	vfs_fault_register();
	vfs_fault_arm(0, 0, 0, false);
	for (size_t i = 0; i < ARRAY_LEN(faults); i++)
		for (size_t j = 0; j < ARRAY_LEN(movings); j++) {
			long nth = 1;

			while (fail_at(state, &faults[i], &movings[j], nth))
				nth++;
			if (nth < 2 && !(movings[j].part && faults[i].which == VFS_TRUNCATE))
				fail_msg("%s, %s: never hit", faults[i].why, movings[j].why);
		}
}

#define EACH(f) cmocka_unit_test_setup_teardown(f, tmp_dir_make, tmp_dir_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		EACH(a_checkpoint_is_a_few_writes), EACH(the_file_is_as_long_as_its_pages),
		EACH(a_walk_sees_its_transaction),  EACH(pages_of_every_size),
		EACH(each_call_fails_in_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
