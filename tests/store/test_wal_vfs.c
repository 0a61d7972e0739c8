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

#include "authz/store/db.h"
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

/* Sizes below, at and far above the buffer, with a cache so small that pages are written before
 * the commit and read back; beside it a connection of the plain kind. */
static void others_see_each_commit(void **state)
{
	static const int sizes[] = { 1, 30, 39, 40, 41, 42, 43, 44, 45, 100, 400 };
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
static bool fail_at(void **state, unsigned which, int code, long nth)
{
	struct err e = { 0 };
	struct db *db;
	bool hit, ok;
	int64_t before;

	vfs_fault_arm(0, 0, 0, false);
	db = open_with_table(state, "fault");
	assert_true(db_exec(db, "PRAGMA cache_size=4", &e));
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
	} else if (hit) {
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
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		long nth = 1;

		while (fail_at(state, faults[i].which, faults[i].code, nth))
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
		EACH(others_see_each_commit),
		EACH(each_call_fails_in_turn),
		EACH(one_name_for_one_vfs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
