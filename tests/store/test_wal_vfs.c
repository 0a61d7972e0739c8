/* The gathered WAL: one write per commit, readers see each commit, no fault is swallowed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "authz/store/db.h"
#include "authz/store/direct_io.h"
#include "authz/store/wal_vfs.h"
#include "tests/fault/tmp_dir.h"
#include "tests/fault/vfs_fault.h"

#define ROWS "SELECT count(*) FROM t WHERE length(v) = 3000"

static struct db *open_at(void **state, const char *vfs, bool gather)
{
	struct db_options o = { .create = true,
				.vfs = vfs,
				.gather = gather,
				.page_size = 8192,
				.autocheckpoint = -1 };
	struct err e = { 0 };
	struct db *db = NULL;

	if (!db_open(tmp_dir_path(state, "w.db"), &o, &db, &e))
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

/* One transaction of @n rows. */
static bool insert(struct db *db, int n, struct err *e)
{
	AUTO_TX tx = { 0 };
	char sql[200];

	snprintf(sql, sizeof(sql),
		 "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < %d) "
		 "INSERT INTO t(v) SELECT randomblob(3000) FROM c",
		 n);
	return db_begin(db, &tx, e) && db_exec(db, sql, e) && db_commit(&tx, e);
}

static struct db *open_with_table(void **state, const char *vfs)
{
	struct db *db = open_at(state, vfs, true);
	struct err e = { 0 };

	if (!db_exec(db, "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, v BLOB)", &e))
		fail_msg("%s", e.msg);
	return db;
}

static void a_commit_is_one_write_and_one_flush(void **state)
{
	struct db *db;
	struct err e = { 0 };

	vfs_fault_register();
	vfs_fault_arm(0, 0, 0, false);
	db = open_with_table(state, "fault");
	assert_int_equal(number(db, "PRAGMA page_size"), 8192);
	assert_true(insert(db, 1, &e));
	vfs_fault_arm(VFS_WRITE, 0, 0, false);
	assert_true(insert(db, 20, &e));
	assert_int_equal(vfs_fault_calls(), 1);
	vfs_fault_arm(VFS_SYNC, 0, 0, false);
	assert_true(insert(db, 20, &e));
	assert_int_equal(vfs_fault_calls(), 1);
	vfs_fault_arm(0, 0, 0, false);
	db_close(db);
}

/* Begin the WAL anew, so that what comes overwrites it. */
static void begin_anew(struct db *db)
{
	struct err e = { 0 };

	if (!db_checkpoint(db, DB_RESTART, NULL, NULL, &e))
		fail_msg("%s", e.msg);
}

static int64_t wal_size(void **state)
{
	struct stat st;

	assert_int_equal(stat(tmp_dir_path(state, "w.db-wal"), &st), 0);
	return st.st_size;
}

/* What is overwritten goes by whole blocks, and the file becomes no longer by them. */
static void a_file_is_overwritten_by_blocks(void **state)
{
	struct db *db;
	struct err e = { 0 };
	int64_t size;

	vfs_fault_register();
	vfs_fault_arm(0, 0, 0, false);
	db = open_with_table(state, "fault");
	assert_true(insert(db, 300, &e));
	vfs_fault_only("-wal");
	vfs_fault_arm(VFS_WRITE, 0, 0, false);
	assert_true(insert(db, 3, &e));
	assert_int_not_equal(vfs_fault_place() % DIRECT_IO_ALIGN, 0);
	size = wal_size(state);
	begin_anew(db);
	assert_true(insert(db, 5, &e)); /* two writes: SQLite syncs the WAL's header first */
	vfs_fault_arm(VFS_WRITE, 0, 0, false);
	for (int i = 1; i <= 20; i++) {
		assert_true(insert(db, 5, &e));
		assert_int_equal(vfs_fault_calls(), i);
		assert_int_equal(vfs_fault_place() % DIRECT_IO_ALIGN, 0);
		assert_int_equal(wal_size(state), size);
	}
	/* Up to its end and beyond. */
	for (int i = 0; i < 200; i++)
		assert_true(insert(db, 3, &e));
	assert_true(wal_size(state) > size);
	vfs_fault_only(NULL);
	vfs_fault_arm(0, 0, 0, false);
	assert_int_equal(number(db, ROWS), 1008);
	db_close(db);
}

/* A connection that was just opened does not know what is in the block that it goes on in. If it
 * cannot read that, it writes the ordinary way. */
static void a_block_that_is_not_known(void **state)
{
	AUTO_DB *other = open_with_table(state, NULL); /* keeps the WAL when the rest closes */
	struct err e = { 0 };
	int64_t n = 100;

	vfs_fault_register();
	assert_true(insert(other, 100, &e));
	begin_anew(other);
	for (int i = 0; i < 8; i++) {
		struct db *db = open_at(state, "fault", true);
		bool unreadable = i % 2;

		assert_int_equal(number(db, ROWS), n);
		vfs_fault_only("-wal");
		vfs_fault_arm(VFS_READ | VFS_WRITE, unreadable ? 1 : 0, SQLITE_IOERR_READ, false);
		assert_true(insert(db, 1, &e));
		assert_int_equal(vfs_fault_hits(), unreadable);
		assert_int_equal(vfs_fault_place() % DIRECT_IO_ALIGN == 0, !unreadable);
		vfs_fault_only(NULL);
		vfs_fault_arm(0, 0, 0, false);
		assert_int_equal(number(other, ROWS), ++n);
		db_close(db);
	}
	assert_int_equal(number(other, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"),
			 1);
}

/* Killed after each of many commits that overwrite the file: all of them are there. */
static void what_was_committed_survives(void **state)
{
	for (int n = 1; n <= 40; n++) {
		int before, status;
		struct db *db = open_with_table(state, NULL);
		pid_t child;

		before = (int)number(db, ROWS);
		db_close(db);
		child = fork();
		if (!child) {
			struct err e;

			db = open_with_table(state, NULL);
			if (!insert(db, 90, &e))
				_exit(1);
			begin_anew(db);
			for (int i = 0; i < n; i++)
				if (!insert(db, 1 + i % 4, &e))
					_exit(1);
			_exit(0); /* without closing anything */
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
		db = open_at(state, NULL, false);
		for (int i = 0; i < n; i++)
			before += 1 + i % 4;
		assert_int_equal(number(db, ROWS), before + 90);
		assert_int_equal(
			number(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
		db_close(db);
	}
}

/* Another connection begins the WAL anew and writes as many frames as there were: the last block
 * of before is not what the file has any more. */
static void another_writer_is_noticed(void **state)
{
	AUTO_DB *db = open_with_table(state, NULL);
	AUTO_DB *other = open_at(state, NULL, false);
	struct err e = { 0 };

	assert_true(insert(db, 30, &e));
	begin_anew(db);
	for (int i = 0; i < 10; i++) {
		assert_true(db_exec(db, "UPDATE t SET v = randomblob(3000) WHERE id = 1", &e));
		begin_anew(other);
		assert_true(db_exec(other, "UPDATE t SET v = zeroblob(3000) WHERE id = 1", &e));
		assert_true(db_exec(db, "UPDATE t SET v = randomblob(3000) WHERE id = 9", &e));
		assert_int_equal(number(other, "SELECT v = zeroblob(3000) FROM t WHERE id = 1"), 1);
		begin_anew(db);
		assert_int_equal(number(other, "SELECT v = zeroblob(3000) FROM t WHERE id = 1"), 1);
	}
	assert_int_equal(number(other, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"),
			 1);
}

/* Sizes below, at and far above the buffer, with a cache so small that pages are written before
 * the commit and read back; beside it a connection of the plain kind. */
static void others_see_each_commit(void **state)
{
	static const int sizes[] = { 1, 30, 39, 40, 41, 42, 43, 44, 45, 100, 300, 400, 700 };
	AUTO_DB *db = open_with_table(state, NULL);
	AUTO_DB *other = open_at(state, NULL, false);
	struct err e = { 0 };
	int64_t n = 0;

	for (int small = 0; small < 2; small++) {
		for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
			AUTO_TX tx = { 0 };

			assert_true(insert(db, sizes[i], &e));
			n += sizes[i];
			assert_int_equal(number(other, ROWS), n);
			/* Pages that were written already and change again in the transaction. */
			assert_true(db_begin(db, &tx, &e));
			assert_true(db_exec(db, "UPDATE t SET v = randomblob(3000)", &e));
			assert_true(db_exec(db, "UPDATE t SET v = randomblob(2999)", &e));
			assert_int_equal(number(db, ROWS), 0);
			assert_int_equal(number(other, ROWS), n);
			if (i % 2)
				db_rollback(&tx);
			else
				assert_true(db_exec(db, "UPDATE t SET v = randomblob(3000)", &e) &&
					    db_commit(&tx, &e));
			assert_int_equal(number(other, ROWS), n);
			if (i % 3 == 2)
				assert_true(db_checkpoint(db, DB_RESTART, NULL, NULL, &e));
		}
		assert_true(db_exec(db, "PRAGMA cache_size=4", &e));
	}
	assert_int_equal(number(other, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"),
			 1);
	assert_true(db_checkpoint(db, DB_TRUNCATE, NULL, NULL, &e));
	assert_int_equal(number(other, ROWS), n);
}

/* The nth call of a big transaction fails. False: it makes fewer. */
static bool fail_at(void **state, unsigned which, int code, bool again, long nth)
{
	struct err e = { 0 };
	struct db *db;
	bool hit, ok;
	int64_t before;

	vfs_fault_arm(0, 0, 0, false);
	db = open_with_table(state, "fault");
	assert_true(db_exec(db, "PRAGMA cache_size=4", &e));
	if (again) {
		assert_true(insert(db, 150, &e));
		begin_anew(db);
	}
	before = number(db, ROWS);
	vfs_fault_arm(which, nth, code, false);
	ok = insert(db, 100, &e);
	hit = vfs_fault_hits() > 0;
	vfs_fault_arm(0, 0, 0, false);
	assert_true(ok == !hit);
	if (hit && code == SQLITE_FULL) {
		/* It goes on where it was, over what the failed one left. */
		assert_string_equal(e.code, "disk_full");
		assert_int_equal(number(db, ROWS), before);
		assert_true(insert(db, 7, &e));
		before += 7;
	} else if (!ok) {
		assert_true(db_broken(db));
	}
	db_close(db);
	db = open_at(state, NULL, false);
	assert_int_equal(number(db, ROWS), before + (ok ? 100 : 0));
	assert_int_equal(number(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"),
			 1);
	db_close(db);
	return hit;
}

static void each_call_fails_in_turn(void **state)
{
	static const struct {
		unsigned which;
		int code;
	} faults[] = { { VFS_WRITE, SQLITE_FULL },
		       { VFS_WRITE, SQLITE_IOERR_WRITE },
		       { VFS_SYNC, SQLITE_IOERR_FSYNC } };

	vfs_fault_register();
	for (size_t i = 0; i < 2 * ARRAY_LEN(faults); i++) {
		long nth = 1;

		/* A file that grows, and one that is overwritten. */
		while (fail_at(state, faults[i / 2].which, faults[i / 2].code, i % 2, nth))
			nth++;
		if (nth < 2)
			fail_msg("fault %zu: never hit", i);
	}
}

static void one_name_for_one_vfs(void **state)
{
	const char *a = NULL, *b = NULL, *c = NULL;
	struct err e = { 0 };

	(void)state;
	vfs_fault_register();
	assert_true(vfs_layer_over(NULL, VFS_WAL, &a, &e) && vfs_layer_over(NULL, VFS_WAL, &b, &e));
	assert_ptr_equal(a, b);
	assert_true(vfs_layer_over("fault", VFS_WAL, &c, &e));
	assert_string_not_equal(a, c);
	assert_true(vfs_layer_over(NULL, VFS_WAL | VFS_RUNS, &c, &e));
	assert_string_not_equal(a, c);
	assert_false(vfs_layer_over("no-such-vfs", VFS_WAL, &c, &e));
	assert_non_null(strstr(e.msg, "no-such-vfs"));
}

#define EACH(f) cmocka_unit_test_setup_teardown(f, tmp_dir_make, tmp_dir_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		EACH(a_commit_is_one_write_and_one_flush),
		EACH(a_file_is_overwritten_by_blocks),
		EACH(a_block_that_is_not_known),
		EACH(what_was_committed_survives),
		EACH(another_writer_is_noticed),
		EACH(others_see_each_commit),
		EACH(each_call_fails_in_turn),
		EACH(one_name_for_one_vfs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
