/* audit/prune: records go when they may, their hashes stay, and a stop or a full disk loses
 * nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "authz/audit/prune.h"
#include "authz/audit/read.h"
#include "authz/store/file.h"
#include "tests/audit/fixture.h"
#include "tests/fault/vfs_fault.h"

#define RECORDS 600

/* Ticks do the work here; a second is long. */
static void begin(struct fixture *f)
{
	AUTO_BUF note;
	struct err e = { 0 };

	fixture_init(f);
	f->config.checkpoint_ms = 100;
	fixture_open(f);
	fixture_append(f, RECORDS);
	buf_init(&note, mem_system, NOTE_MAX);
	if (!audit_checkpoint(f->audit, &note, &e))
		fail_msg("%s", e.msg);
}

static void root_of(const struct fixture *f, uint64_t size, uint8_t root[static SHA256_LEN])
{
	struct err e = { 0 };

	if (!prune_root(f->folder, size, root, &e))
		fail_msg("%s", e.msg);
}

static bool announce(struct fixture *f, uint64_t from, uint64_t to, struct err *e)
{
	const struct prune_order order = { .from = from, .to = to, .archive = STR("a.jsonl") };
	struct audit_job job = { 0 };
	uint8_t root[SHA256_LEN];
	AUTO_BUF text;

	buf_init(&text, mem_system, 65536);
	root_of(f, to, root);
	record_begin(&job.record, &text);
	record_str(&job.record, STR("kind"), STR("log.prune"));
	record_hash(&job.record, STR("root"), root);
	record_int(&job.record, STR("to"), (int64_t)to);
	return audit_prune(f->audit, &order, &job, e);
}

/* Bounded by the test runner's own time. */
static void wait_until_gone(struct fixture *f, uint64_t to)
{
	struct audit_status s;

	for (;;) {
		audit_status(f->audit, &s);
		if (s.pruned >= to)
			return;
		(void)poll(NULL, 0, 1);
	}
}

static void records_go_and_the_tree_stays(void **state)
{
	struct tree_range range;
	struct audit_reader *r = NULL;
	struct prune_plan plan;
	uint8_t before[SHA256_LEN], part[SHA256_LEN], after[SHA256_LEN];
	struct fixture f;
	struct err e = { 0 };

	(void)state;
	begin(&f);
	root_of(&f, RECORDS, before);
	root_of(&f, 77, part);
	assert_true(prune_find(f.folder, 0, INT64_MAX, &plan, &e));
	assert_int_equal(plan.from, 0);
	assert_int_equal(plan.to, 512);
	if (!announce(&f, 0, 512, &e))
		fail_msg("%s", e.msg);
	wait_until_gone(&f, 512);
	assert_int_equal(fixture_count(&f, "SELECT min(seq) FROM leaf"), 512);
	assert_int_equal(fixture_count(&f, "SELECT min(seq) FROM opening"), 512);
	assert_int_equal(fixture_count(&f, "SELECT count(*) FROM hash"), 2);
	root_of(&f, RECORDS, after);
	assert_memory_equal(before, after, SHA256_LEN);
	root_of(&f, 77, after); /* in the middle of what is gone */
	assert_memory_equal(part, after, SHA256_LEN);
	fixture_append(&f, 20); /* the log goes on */
	fixture_close(&f);
	fixture_open(&f);
	assert_true(audit_reader_open(f.folder, NULL, &r, &e));
	assert_true(audit_reader_range(r, RECORDS, &range, &e));
	audit_reader_close(r);
	assert_true(prune_find(f.folder, 0, INT64_MAX, &plan, &e));
	assert_int_equal(plan.from, 512);
	fixture_clear(&f);
}

static void what_may_not_go_is_refused(void **state)
{
	static const struct {
		const char *why;
		uint64_t from, to;
	} rows[] = {
		{ "nothing", 0, 0 },
		{ "no tile", 0, 100 },
		{ "not from the first", 256, 512 },
		{ "more than was signed", 0, 1024 },
	};
	struct prune_plan plan;
	struct fixture f;
	struct err e;

	(void)state;
	begin(&f);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct prune_order order = { .from = rows[i].from,
						   .to = rows[i].to,
						   .archive = STR("a") };
		struct audit_job job = { 0 };

		err_none(&e);
		if (audit_prune(f.audit, &order, &job, &e) || strcmp(e.code, "prune_changed") != 0)
			fail_msg("%s: %s", rows[i].why, e.msg);
	}
	/* Of a time, and below a record that somebody needs. */
	assert_true(prune_find(f.folder, f.hands.ms - RECORDS + 300, INT64_MAX, &plan, &e));
	assert_int_equal(plan.to, 256);
	assert_true(prune_find(f.folder, 1, INT64_MAX, &plan, &e));
	assert_int_equal(plan.to, 0);
	assert_true(prune_find(f.folder, 0, 511, &plan, &e));
	assert_int_equal(plan.to, 256);
	assert_true(prune_find(f.folder, 0, 0, &plan, &e));
	assert_int_equal(plan.to, 0);
	/* Nor by hand. */
	assert_int_equal(fixture_count(&f, "SELECT count(*) FROM pruned WHERE upto = 0"), 1);
	fixture_clear(&f);
}

static void records_are_guarded_until_they_are_announced(void **state)
{
	sqlite3 *db;
	struct fixture f;
	char path[128];

	(void)state;
	begin(&f);
	fixture_close(&f);
	snprintf(path, sizeof(path), "%s/log.db", f.folder);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_not_equal(sqlite3_exec(db, "DELETE FROM leaf WHERE seq < 256", NULL, NULL, NULL),
			     SQLITE_OK);
	assert_int_not_equal(sqlite3_exec(db, "UPDATE pruned SET upto = 256", NULL, NULL, NULL),
			     SQLITE_OK);
	sqlite3_close(db);
	fixture_clear(&f);
}

/* --- stops and faults --- */

static void copy(const struct fixture *from, const struct fixture *to, const char *name)
{
	char path[128];
	AUTO_BUF text;
	struct err e;

	buf_init(&text, mem_system, (size_t)16 * 1024 * 1024);
	snprintf(path, sizeof(path), "%s/%s", from->folder, name);
	assert_true(file_read(AT_FDCWD, path, 8 * 1024 * 1024, &text, &e));
	snprintf(path, sizeof(path), "%s/%s", to->folder, name);
	assert_true(file_replace_path(path, buf_str(&text), 0600, &e));
}

/* The nth write or flush fails from the announcement on, in a copy of @base. False: there were
 * fewer. */
static bool fail_at(const struct fixture *base, unsigned which, int code, long nth)
{
	uint8_t before[SHA256_LEN], after[SHA256_LEN];
	struct audit_status s;
	struct fixture f;
	uint64_t left;
	bool hit, announced;
	struct err e = { 0 };

	fixture_init(&f);
	f.config.checkpoint_ms = 100;
	f.hands.ms = base->hands.ms;
	copy(base, &f, "log.db");
	copy(base, &f, "last-checkpoint");
	root_of(&f, RECORDS, before);
	f.config.vfs = "fault";
	vfs_fault_arm(0, 0, 0, false);
	fixture_open(&f);
	vfs_fault_arm(which, nth, code, false);
	announced = announce(&f, 0, 512, &e);
	do {
		audit_status(f.audit, &s);
		hit = vfs_fault_hits() > 0;
	} while (announced && s.pruned < 512 && !hit && poll(NULL, 0, 1) == 0);
	vfs_fault_arm(0, 0, 0, false);
	fixture_close(&f);

	f.config.vfs = NULL;
	f.audit = NULL;
	if (!audit_open(&f.config, &f.audit, &e))
		fail_msg("which %u, nth %ld: %s", which, nth, e.msg);
	root_of(&f, RECORDS, after);
	assert_memory_equal(before, after, SHA256_LEN);
	audit_status(f.audit, &s);
	if (announced)
		wait_until_gone(&f, 512); /* taken up by the start */
	left = (uint64_t)fixture_count(&f, "SELECT coalesce(min(seq), 0) FROM leaf");
	assert_int_equal(left, s.prune_to); /* all of it, or nothing */
	root_of(&f, RECORDS, after);
	assert_memory_equal(before, after, SHA256_LEN);
	fixture_append(&f, 1);
	fixture_clear(&f);
	return hit;
}

static void each_write_and_flush_fails_in_turn(void **state)
{
	static const struct {
		unsigned which;
		int code;
	} faults[] = { { VFS_WRITE, SQLITE_FULL },
		       { VFS_WRITE, SQLITE_IOERR_WRITE },
		       { VFS_SYNC, SQLITE_IOERR_FSYNC } };

	struct fixture base;

	(void)state;
	vfs_fault_register();
	begin(&base);
	fixture_close(&base);
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		long nth = 1;

		while (fail_at(&base, faults[i].which, faults[i].code, nth))
			nth++;
		assert_true(nth > 1);
	}
	fixture_clear(&base);
}

static void nothing_goes_before_its_record_is_signed(void **state)
{
	struct audit_status s;
	struct fixture f;
	struct err e = { 0 };

	(void)state;
	vfs_fault_register();
	begin(&f);
	fixture_close(&f);
	f.config.vfs = "fault";
	f.config.checkpoint_ms = 600000; /* what is announced is not signed, so nothing goes yet */
	vfs_fault_arm(0, 0, 0, false);
	fixture_open(&f);
	assert_true(announce(&f, 0, 512, &e));
	audit_status(f.audit, &s);
	assert_int_equal(s.pruned, 0);
	fixture_append(&f, 3);
	fixture_close(&f);
	f.config.vfs = NULL;
	f.config.checkpoint_ms = 100;
	fixture_open(&f);
	wait_until_gone(&f, 512);
	assert_true(audit_ready(f.audit, &e));
	fixture_clear(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_go_and_the_tree_stays),
		cmocka_unit_test(what_may_not_go_is_refused),
		cmocka_unit_test(records_are_guarded_until_they_are_announced),
		cmocka_unit_test(each_write_and_flush_fails_in_turn),
		cmocka_unit_test(nothing_goes_before_its_record_is_signed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
