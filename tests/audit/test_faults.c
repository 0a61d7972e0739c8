/* The log while the disk, the memory or the process fails: what was answered is there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/audit/export_file.h"
#include "tests/fault/vfs_fault.h"

#define GAPS "SELECT count(*) FROM leaf WHERE CAST(body AS TEXT) LIKE '%\"kind\":\"log.gap\"%'"

/* One decision; true if it was reported on disk. */
static bool append_one(struct fixture *f, struct audit_job *job)
{
	AUTO_BUF text;
	struct err e = { 0 };
	bool ok;

	*job = (struct audit_job){ 0 };
	buf_init(&text, mem_system, 65536);
	fixture_draft(f, 1, &job->record, &text);
	ok = audit_append(f->audit, job, &e);
	if (!ok && (e.class != ERR_UNAVAILABLE || strcmp(e.code, "audit_unavailable") != 0))
		fail_msg("%s (%s)", e.msg, e.code);
	return ok;
}

/* A record that was reported is the one on disk under its number. */
static void check_there(struct fixture *f, const struct audit_job *job)
{
	char sql[200];

	snprintf(sql, sizeof(sql),
		 "SELECT count(*) FROM leaf JOIN opening USING (seq) WHERE seq = %llu AND "
		 "CAST(body AS TEXT) LIKE '%%\"kind\":\"authz.decision\"%%'",
		 (unsigned long long)job->seq);
	assert_int_equal(fixture_count(f, sql), 1);
}

/* --- the disk --- */

static const struct fault {
	const char *why;
	unsigned which;
	int code;
	bool fatal;
} faults[] = {
	{ "disk full", VFS_WRITE, SQLITE_FULL, false },
	{ "write fails", VFS_WRITE, SQLITE_IOERR_WRITE, true },
	{ "fsync fails", VFS_SYNC, SQLITE_IOERR_FSYNC, true },
};

/* The nth call of one append fails. False: the append makes fewer. */
static bool fail_at(const struct fault *k, long nth)
{
	struct audit_job before, during, after;
	bool hit, ok, ok_after;
	struct fixture f;
	uint64_t records;
	struct err e;

	fixture_init(&f);
	f.config.vfs = "fault";
	vfs_fault_arm(0, 0, 0, false);
	fixture_open(&f);
	assert_true(append_one(&f, &before));
	vfs_fault_arm(k->which, nth, k->code, false);
	ok = append_one(&f, &during);
	hit = vfs_fault_hits() > 0;
	vfs_fault_arm(0, 0, 0, false);
	assert_true(ok == !hit); /* each of its writes matters */
	assert_true(audit_ready(f.audit, &e) == !hit);
	ok_after = append_one(&f, &after);
	if (hit)
		assert_true(ok_after == !k->fatal);
	assert_int_equal(f.fatal, hit && k->fatal);
	assert_true(audit_ready(f.audit, &e) == (!hit || !k->fatal));
	fixture_close(&f);

	f.config.vfs = NULL;
	records = fixture_check(&f);
	check_there(&f, &before);
	if (ok)
		check_there(&f, &during);
	if (ok_after)
		check_there(&f, &after);
	if (hit && !k->fatal) {
		assert_int_equal(fixture_count(&f, GAPS), 1); /* "refused":1 */
		assert_int_equal(records, 5);		      /* open, before, gap, after, close */
	}
	fixture_open(&f);
	fixture_append(&f, 1);
	fixture_close(&f);
	fixture_check(&f);
	assert_int_equal(fixture_count(&f, GAPS), hit);
	fixture_clear(&f);
	return hit;
}

static void each_write_and_flush_fails_in_turn(void **state)
{
	(void)state;
	vfs_fault_register();
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		long nth = 1;

		while (fail_at(&faults[i], nth))
			nth++;
		if (nth < 2)
			fail_msg("%s: never hit", faults[i].why);
	}
}

/* Full for good, then room again: the log comes back by itself, without being asked. */
static void a_full_disk_heals(void **state)
{
	struct audit_job job;
	struct fixture f;
	struct err e;

	(void)state;
	vfs_fault_register();
	fixture_init(&f);
	f.config.vfs = "fault";
	vfs_fault_arm(0, 0, 0, false);
	fixture_open(&f);
	vfs_fault_arm(VFS_WRITE, 1, SQLITE_FULL, true);
	for (int i = 0; i < 5; i++)
		assert_false(append_one(&f, &job));
	assert_false(audit_ready(f.audit, &e));
	assert_non_null(strstr(e.msg, "full"));
	vfs_fault_arm(0, 0, 0, false);
	for (int i = 0; i < 400 && !audit_ready(f.audit, &e); i++)
		usleep(10000);
	assert_true(audit_ready(f.audit, &e));
	assert_int_equal(f.fatal, 0);
	assert_true(append_one(&f, &job));
	fixture_close(&f);
	f.config.vfs = NULL;
	assert_int_equal(fixture_check(&f), 4); /* open, gap, decision, close */
	assert_int_equal(fixture_count(&f,
				       "SELECT count(*) FROM leaf WHERE CAST(body AS TEXT) LIKE "
				       "'%\"cause\":\"not_writable\"%\"refused\":5%'"),
			 1);
	fixture_clear(&f);
}

/* Opening the log, each call of the file system failing in turn: refused or whole, never a crash,
 * and nothing is lost for the next start. */
static void each_start_fails_in_turn(void **state)
{
	struct fixture f;
	long nth = 1;
	bool hit = true;

	(void)state;
	vfs_fault_register();
	fixture_init(&f);
	fixture_open(&f);
	fixture_append(&f, 3);
	fixture_close(&f);
	for (; hit && nth < 500; nth++) {
		struct err e = { 0 };

		f.config.vfs = "fault";
		vfs_fault_arm(VFS_WRITE | VFS_SYNC | VFS_OPEN, nth, SQLITE_IOERR, false);
		if (audit_open(&f.config, &f.audit, &e))
			fixture_close(&f);
		else
			assert_true(e.msg[0]);
		hit = vfs_fault_hits() > 0;
		vfs_fault_arm(0, 0, 0, false);
		f.config.vfs = NULL;
		f.fatal = 0;
		fixture_check(&f);
	}
	assert_true(nth > 3 && nth < 500);
	fixture_open(&f);
	fixture_clear(&f);
}

static void a_checkpoint_that_cannot_be_signed_is_not_shown(void **state)
{
	struct fixture f;
	AUTO_BUF note;
	struct err e;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	fixture_append(&f, 2);
	buf_init(&note, mem_system, NOTE_MAX);
	f.sign_fails = 1;
	assert_false(audit_checkpoint(f.audit, &note, &e));
	assert_int_equal(note.n, 0);
	assert_true(audit_ready(f.audit, &e)); /* records go on */
	fixture_append(&f, 1);
	assert_true(audit_checkpoint(f.audit, &note, &e));
	fixture_clear(&f);
}

/* --- memory --- */

static sqlite3_mem_methods system_memory;
static atomic_long countdown; /* the one that brings it to 0 fails; negative: none */

static bool out_of_memory(void)
{
	return atomic_load(&countdown) > 0 && atomic_fetch_sub(&countdown, 1) == 1;
}

static void *sq_malloc(int n)
{
	return out_of_memory() ? NULL : system_memory.xMalloc(n);
}

static void *sq_realloc(void *p, int n)
{
	return out_of_memory() ? NULL : system_memory.xRealloc(p, n);
}

static void *our_alloc(void *ctx, void *p, size_t old, size_t n)
{
	if (n > old && out_of_memory())
		return NULL;
	return mem_system.fn(ctx, p, old, n);
}

static const struct alloc failing = { our_alloc, NULL };

static int hook_memory(void **state)
{
	sqlite3_mem_methods m;

	(void)state;
	sqlite3_shutdown();
	sqlite3_config(SQLITE_CONFIG_GETMALLOC, &system_memory);
	m = system_memory;
	m.xMalloc = sq_malloc;
	m.xRealloc = sq_realloc;
	sqlite3_config(SQLITE_CONFIG_MALLOC, &m);
	return sqlite3_initialize();
}

static void each_allocation_of_an_append_fails_in_turn(void **state)
{
	struct fixture f;
	struct audit_job job;
	uint64_t acknowledged = 0;
	struct err e;
	long left = 0;

	(void)state;
	fixture_init(&f);
	f.config.alloc = &failing;
	fixture_open(&f);
	for (long nth = 1; left == 0 && nth < 2000; nth++) {
		atomic_store(&countdown, nth);
		acknowledged += append_one(&f, &job);
		left = atomic_exchange(&countdown, 0);
		/* Memory comes back, and so does the log. */
		acknowledged += append_one(&f, &job);
		assert_true(audit_ready(f.audit, &e));
	}
	assert_true(left > 0);
	assert_int_equal(f.fatal, 0);
	fixture_close(&f);
	fixture_check(&f);
	assert_int_equal(fixture_count(&f,
				       "SELECT count(*) FROM leaf WHERE CAST(body AS TEXT) LIKE "
				       "'%authz.decision%'"),
			 acknowledged);
	fixture_clear(&f);
}

static void each_allocation_of_a_start_fails_in_turn(void **state)
{
	struct fixture f;
	long left = 0, step;

	(void)state;
	fixture_init(&f);
	f.config.alloc = &failing;
	fixture_open(&f);
	fixture_append(&f, 3);
	fixture_close(&f);
	for (long nth = 1; left == 0 && nth < 20000; nth += step) {
		struct err e = { 0 };
		bool ok;

		step = 1 + nth / 20; /* the first ones all, then thinner: there are thousands */
		atomic_store(&countdown, nth);
		ok = audit_open(&f.config, &f.audit, &e);
		left = atomic_exchange(&countdown, 0);
		if (ok)
			fixture_close(&f);
		else if (!e.msg[0])
			fail_msg("allocation %ld: no sentence", nth);
		f.fatal = 0;
	}
	assert_true(left > 0);
	fixture_check(&f);
	fixture_clear(&f);
}

static void each_allocation_of_an_export_fails_in_turn(void **state)
{
	struct fixture f;
	struct note_key k;
	AUTO_BUF note;
	AUTO_BUF vkey;
	AUTO_BUF held;
	struct err e;
	long left = 0;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	fixture_append(&f, 5);
	buf_init(&note, mem_system, NOTE_MAX);
	buf_init(&vkey, mem_system, 200);
	buf_init(&held, mem_system, NOTE_MAX);
	assert_true(audit_checkpoint(f.audit, &note, &e));
	fixture_key(&k);
	note_key_format(&k, &vkey);
	for (long nth = 1; left == 0 && nth < 5000; nth++) {
		struct audit_export_options o = { .folder = f.folder,
						  .alloc = &failing,
						  .filter = { .openings = true } };
		struct verify_options vo = { .vkey = buf_str(&vkey),
					     .checkpoint = buf_str(&note),
					     .alloc = &failing };
		struct audit_export *x = NULL;
		struct verifier *v = NULL;
		struct verify_report r = { .result = VERIFY_BROKEN };
		bool done = false, ok;
		AUTO_BUF out;

		buf_init(&out, failing, 1 << 24);
		atomic_store(&countdown, nth);
		ok = audit_export_open(&o, &x, &e) && verifier_new(&vo, &v, &e);
		while (ok && !done) {
			ok = audit_export_next(x, &out, &done, &e);
			if (!ok)
				break;
			verifier_feed(v, buf_str(&out));
			buf_reset(&out);
		}
		audit_export_close(x);
		if (v)
			verifier_finish(v, &r);
		verifier_free(v);
		left = atomic_exchange(&countdown, 0);
		/* Never a success over a part. */
		if (left == 0 && r.result == VERIFY_HOLDS && !done)
			fail_msg("allocation %ld: holds", nth);
		if (left > 0)
			assert_int_equal(r.result, VERIFY_HOLDS);
	}
	assert_true(left > 0);
	fixture_clear(&f);
}

/* --- the process --- */

/* Append until killed; each number goes down the pipe only after the record was reported. */
static void child(struct fixture *f, int to)
{
	struct err e;

	if (!audit_open(&f->config, &f->audit, &e))
		_exit(3);
	for (;;) {
		struct audit_job job;

		if (!append_one(f, &job) || write(to, &job.seq, sizeof(job.seq)) < 0)
			_exit(4);
	}
}

static void kill_9_loses_nothing_that_was_answered(void **state)
{
	uint64_t last = 0, acknowledged = 0;
	struct fixture f;

	(void)state;
	fixture_init(&f);
	f.config.clock = &clock_system;
	for (int round = 0; round < 8; round++) {
		uint64_t seq, records;
		int ends[2], status;
		pid_t pid;

		assert_int_equal(pipe(ends), 0);
		pid = fork();
		if (pid == 0) {
			close(ends[0]);
			child(&f, ends[1]);
		}
		close(ends[1]);
		for (int i = 0; i < 20 + 13 * round; i++) {
			assert_int_equal(read(ends[0], &seq, sizeof(seq)), sizeof(seq));
			assert_true(seq > last || !acknowledged);
			last = seq;
			acknowledged++;
		}
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		assert_true(WIFSIGNALED(status));
		while (read(ends[0], &seq, sizeof(seq)) == sizeof(seq)) {
			last = seq;
			acknowledged++;
		}
		close(ends[0]);
		records = fixture_check(&f);
		assert_true(records > last);
	}
	assert_true(fixture_count(&f, "SELECT count(*) FROM opening") >= (int64_t)acknowledged);
	fixture_open(&f);
	fixture_close(&f);
	fixture_check(&f);
	assert_int_equal(fixture_count(&f, GAPS), 8); /* each kill left one */
	fixture_clear(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kill_9_loses_nothing_that_was_answered),
		cmocka_unit_test(each_write_and_flush_fails_in_turn),
		cmocka_unit_test(a_full_disk_heals),
		cmocka_unit_test(each_start_fails_in_turn),
		cmocka_unit_test(a_checkpoint_that_cannot_be_signed_is_not_shown),
		cmocka_unit_test(each_allocation_of_an_append_fails_in_turn),
		cmocka_unit_test(each_allocation_of_a_start_fails_in_turn),
		cmocka_unit_test(each_allocation_of_an_export_fails_in_turn),
	};

	return cmocka_run_group_tests(tests, hook_memory, NULL);
}
