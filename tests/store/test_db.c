/* The SQLite wrapper: what it sets, what its errors mean, and that no fault leaves half a commit.
 */
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
#include <unistd.h>

#include "authz/store/db.h"
#include "tests/fault/tmp_dir.h"
#include "tests/fault/vfs_fault.h"

static struct db *open_at(void **state, const char *vfs)
{
	struct db_options o = { .create = true, .vfs = vfs, .busy_ms = 0 };
	struct err e = { 0 };
	struct db *db = NULL;

	if (!db_open(tmp_dir_path(state, "t.db"), &o, &db, &e))
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

static void is_set_up_to_be_durable(void **state)
{
	AUTO_DB *db = open_at(state, NULL);
	struct stat st;

	assert_int_equal(number(db, "PRAGMA synchronous"), 2);
	assert_int_equal(number(db, "PRAGMA secure_delete"), 1);
	assert_int_equal(number(db, "PRAGMA foreign_keys"), 1);
	assert_int_equal(number(db, "SELECT count(*) FROM pragma_journal_mode() WHERE "
				    "journal_mode = 'wal'"),
			 1);
	assert_int_equal(stat(tmp_dir_path(state, "t.db"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(stat(tmp_dir_path(state, "t.db-wal"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void refuses_what_cannot_be_opened(void **state)
{
	struct db_options o = { .create = false };
	struct err e = { 0 };
	struct db *db = NULL;
	FILE *f;

	assert_false(db_open(tmp_dir_path(state, "none.db"), &o, &db, &e));
	assert_int_equal(e.class, ERR_IO);
	assert_non_null(strstr(e.msg, "none.db"));
	assert_int_equal(symlink("/etc/passwd", tmp_dir_path(state, "link.db")), 0);
	o.create = true;
	assert_false(db_open(tmp_dir_path(state, "link.db"), &o, &db, &e));
	f = fopen(tmp_dir_path(state, "text.db"), "w");
	assert_non_null(f);
	for (int i = 0; i < 500; i++)
		fputs("this is no database\n", f);
	fclose(f);
	assert_false(db_open(tmp_dir_path(state, "text.db"), &o, &db, &e));
	assert_string_equal(e.code, "storage_corrupt");
	assert_null(db);
}

static void binds_and_reads_back(void **state)
{
	AUTO_DB *db = open_at(state, NULL);
	AUTO_STMT *in = NULL;
	AUTO_STMT *out = NULL;
	struct err e = { 0 };
	bool row;

	assert_true(db_exec(db, "CREATE TABLE t (i INTEGER, t TEXT, b BLOB, n TEXT) STRICT", &e));
	assert_true(db_prepare(db, "INSERT INTO t VALUES (?, ?, ?, ?)", &in, &e));
	assert_true(db_prepare(db, "SELECT i, t, b, n FROM t ORDER BY i", &out, &e));
	db_bind_int(in, 1, INT64_MIN);
	db_bind_text(in, 2, (struct str){ "a\0b", 3 });
	db_bind_blob(in, 3, NULL, 0);
	db_bind_null(in, 4);
	assert_true(db_run(in, &e));
	db_bind_int(in, 1, 7);
	db_bind_text(in, 2, (struct str){ 0 });
	db_bind_blob(in, 3, "\xff\x00", 2);
	assert_true(db_run(in, &e)); /* n keeps its NULL */
	assert_int_equal(db_changes(db), 1);
	assert_int_equal(db_last_id(db), 2);

	assert_true(db_step(out, &row, &e) && row);
	assert_true(db_column_int(out, 0) == INT64_MIN);
	assert_true(str_eq(db_column_text(out, 1), (struct str){ "a\0b", 3 }));
	assert_non_null(db_column_blob(out, 2).p);
	assert_null(db_column_text(out, 3).p);
	assert_true(db_step(out, &row, &e) && row);
	assert_non_null(db_column_text(out, 1).p);
	assert_int_equal(db_column_blob(out, 2).n, 2);
	assert_true(db_step(out, &row, &e) && !row);
	assert_true(db_step(out, &row, &e) && row); /* reset by itself: runs again */
	db_reset(out);

	db_bind_int(in, 9, 1); /* no such parameter: kept, told by the next step, then forgotten */
	assert_false(db_run(in, &e));
	db_bind_int(in, 1, 8);
	assert_true(db_run(in, &e));
	assert_false(db_exec(db, "INSERT INTO t VALUES ('x', '', x'', '')", &e));
	assert_int_equal(e.class, ERR_CONFLICT);
	assert_false(db_exec(db, "SELECT \"no_such_column\" FROM t", &e));
	assert_int_equal(e.class, ERR_INTERNAL);
	assert_false(db_int(db, "SELECT i FROM t WHERE i = 99", &(int64_t){ 0 }, &e));
	assert_int_equal(e.class, ERR_NOT_FOUND);
}

static void rolls_back_what_is_not_committed(void **state)
{
	AUTO_DB *db = open_at(state, NULL);
	struct err e = { 0 };

	assert_true(db_exec(db, "CREATE TABLE t (i INTEGER PRIMARY KEY) STRICT", &e));
	{
		AUTO_TX tx = { 0 };

		assert_true(db_begin(db, &tx, &e));
		assert_true(db_exec(db, "INSERT INTO t VALUES (1)", &e));
	}
	assert_int_equal(number(db, "SELECT count(*) FROM t"), 0);
	{
		AUTO_TX tx = { 0 };

		assert_true(db_begin(db, &tx, &e));
		assert_true(db_exec(db, "INSERT INTO t VALUES (1)", &e));
		assert_true(db_commit(&tx, &e));
	}
	assert_int_equal(number(db, "SELECT count(*) FROM t"), 1);
}

static void says_who_is_in_the_way(void **state)
{
	AUTO_DB *one = open_at(state, NULL);
	AUTO_DB *two = open_at(state, NULL);
	AUTO_TX tx = { 0 };
	AUTO_TX other = { 0 };
	struct err e = { 0 };

	assert_true(db_begin(one, &tx, &e));
	assert_false(db_begin(two, &other, &e));
	assert_string_equal(e.code, "storage_busy");
	assert_int_equal(e.class, ERR_UNAVAILABLE);
	db_rollback(&tx);
	assert_true(db_begin(two, &other, &e));
}

static void readers_do_not_write(void **state)
{
	AUTO_DB *db = open_at(state, NULL);
	AUTO_DB *reader = NULL;
	struct db_options o = { .read_only = true };
	struct err e = { 0 };

	assert_true(db_exec(db, "CREATE TABLE t (i INTEGER) STRICT; INSERT INTO t VALUES (3)", &e));
	assert_true(db_open(tmp_dir_path(state, "t.db"), &o, &reader, &e));
	assert_int_equal(number(reader, "SELECT i FROM t"), 3);
	assert_false(db_exec(reader, "DELETE FROM t", &e));
	assert_int_equal(e.class, ERR_IO);
	assert_false(db_broken(reader));
}

static void counts_its_formats(void **state)
{
	static const char *const first[] = { "CREATE TABLE a (i INTEGER) STRICT" };
	static const char *const second[] = { "CREATE TABLE a (i INTEGER) STRICT",
					      "ALTER TABLE a ADD COLUMN j INTEGER" };
	static const char *const broken[] = { "CREATE TABLE a (i INTEGER) STRICT",
					      "ALTER TABLE a ADD COLUMN j INTEGER",
					      "CREATE TABLE b (i INTEGER) STRICT; nonsense" };
	AUTO_DB *db = open_at(state, NULL);
	struct err e = { 0 };

	assert_true(db_migrate(db, "a", first, 1, &e));
	assert_true(db_migrate(db, "other", NULL, 0, &e)); /* a count of its own */
	assert_true(db_migrate(db, "a", second, 2, &e));
	assert_true(db_migrate(db, "a", second, 2, &e));
	assert_true(db_exec(db, "INSERT INTO a VALUES (1, 2)", &e));
	assert_false(db_migrate(db, "a", broken, 3, &e)); /* as a whole or not at all */
	assert_int_equal(number(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'b'"), 0);
	assert_int_equal(number(db, "SELECT version FROM schema WHERE module = 'a'"), 2);
	assert_false(db_migrate(db, "a", first, 1, &e));
	assert_string_equal(e.code, "storage_format");
	assert_non_null(strstr(e.msg, "newer"));
}

static void checkpoints(void **state)
{
	AUTO_DB *db = open_at(state, NULL);
	AUTO_DB *other = open_at(state, NULL);
	AUTO_STMT *read = NULL;
	struct err e = { 0 };
	int wal = -1, moved = -1;
	bool row;

	assert_true(db_exec(db, "CREATE TABLE t (i INTEGER) STRICT; INSERT INTO t VALUES (3)", &e));
	assert_true(db_checkpoint(db, DB_PASSIVE, &wal, &moved, &e));
	assert_true(wal > 0 && wal == moved);
	assert_true(db_prepare(other, "SELECT i FROM t", &read, &e));
	assert_true(db_step(read, &row, &e) && row);
	assert_true(db_exec(db, "INSERT INTO t VALUES (4)", &e));
	assert_false(db_checkpoint(db, DB_TRUNCATE, NULL, NULL, &e));
	assert_string_equal(e.code, "storage_busy");
	db_reset(read);
	assert_true(db_checkpoint(db, DB_TRUNCATE, &wal, &moved, &e));
	assert_int_equal(wal, 0);
}

static void the_length_of_the_wal_is_known(void **state)
{
	const struct db_options o = { .create = true, .autocheckpoint = -1 };
	AUTO_DB *db = NULL;
	struct err e = { 0 };
	int wal, last = 0;

	assert_true(db_open(tmp_dir_path(state, "t.db"), &o, &db, &e));
	assert_int_equal(db_wal(db), 0);
	assert_true(db_exec(db, "CREATE TABLE t (i INTEGER) STRICT", &e));
	for (int i = 0; i < 5; i++) { /* the same page, each time anew */
		assert_true(db_exec(db, "INSERT INTO t VALUES (3)", &e));
		assert_true(db_wal(db) > last);
		last = db_wal(db);
	}
	assert_true(db_checkpoint(db, DB_PASSIVE, &wal, NULL, &e));
	assert_int_equal(wal, last);
	assert_int_equal(db_wal(db), last);
	assert_true(db_checkpoint(db, DB_RESTART, NULL, NULL, &e));
	assert_int_equal(db_wal(db), 0);
	assert_true(db_exec(db, "INSERT INTO t VALUES (4)", &e));
	assert_in_range(db_wal(db), 1, last - 1);
}

static bool add_two(struct db *db, struct err *e)
{
	AUTO_TX tx = { 0 };

	return db_begin(db, &tx, e) && db_exec(db, "INSERT INTO t VALUES (zeroblob(9000))", e) &&
	       db_exec(db, "INSERT INTO t VALUES (zeroblob(9000))", e) && db_commit(&tx, e);
}

/* Every write and sync of a commit fails in turn, once as a full disk and once as a broken one.
 * Afterwards, opened again, there are all rows of the commits that returned true, and pairs. */
static void no_fault_leaves_half_a_commit(void **state)
{
	static const int codes[] = { SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC };
	int64_t rows = 0;
	struct err e = { 0 };

	vfs_fault_register();
	vfs_fault_arm(0, 0, 0, false);
	{
		AUTO_DB *db = open_at(state, "fault");

		assert_true(db_exec(db, "CREATE TABLE t (b BLOB) STRICT", &e));
	}
	for (size_t c = 0; c < ARRAY_LEN(codes); c++)
		for (long nth = 1;; nth++) {
			AUTO_DB *db = open_at(state, "fault");
			bool ok, hit;

			vfs_fault_arm(VFS_WRITE | VFS_SYNC, nth, codes[c], false);
			ok = add_two(db, &e);
			hit = vfs_fault_hits() > 0;
			vfs_fault_arm(0, 0, 0, false);
			rows += ok ? 2 : 0;
			if (!ok && codes[c] == SQLITE_FULL) { /* passes: the next commit is fine */
				assert_string_equal(e.code, "disk_full");
				assert_false(db_broken(db));
				assert_true(add_two(db, &e));
				rows += 2;
			} else if (!ok) { /* final */
				assert_string_equal(e.code, "storage_io");
				assert_true(db_broken(db));
				assert_false(add_two(db, &e));
				assert_string_equal(e.code, "storage_io");
			}
			db_close(db);
			db = open_at(state, NULL);
			/* A commit whose sync failed may yet be there: it was not promised, and
			 * it is whole. */
			assert_int_equal(number(db, "SELECT count(*) FROM t") % 2, 0);
			assert_true(number(db, "SELECT count(*) FROM t") >= rows);
			rows = number(db, "SELECT count(*) FROM t");
			if (!hit)
				break;
			assert_false(ok);
		}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tmp_dir_make, tmp_dir_remove)
	const struct CMUnitTest tests[] = {
		T(is_set_up_to_be_durable),
		T(refuses_what_cannot_be_opened),
		T(binds_and_reads_back),
		T(rolls_back_what_is_not_committed),
		T(says_who_is_in_the_way),
		T(readers_do_not_write),
		T(counts_its_formats),
		T(checkpoints),
		T(the_length_of_the_wal_is_known),
		T(no_fault_leaves_half_a_commit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
