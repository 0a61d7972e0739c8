/* Publishing: whole files, the checkpoint last; cut off at any step, the next run finishes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "authz/audit/publish.h"
#include "authz/audit/verify.h"
#include "tests/audit/fixture.h"

/* --- a file system that gives up --- */

static int calls_left; /* < 0: it does not */
static bool dead;      /* after the first failure all fail, as after a crash */

static bool fails(void)
{
	if (dead || calls_left == 0) {
		errno = EIO;
		return true;
	}
	if (calls_left > 0 && --calls_left == 0) {
		dead = true;
		errno = EIO;
		return true;
	}
	return false;
}

static int f_openat(int dir, const char *name, int flags, mode_t mode)
{
	return fails() ? -1 : openat(dir, name, flags, mode);
}
/* A crash may leave half of what was to be written. */
static ssize_t f_write(int fd, const void *p, size_t n)
{
	return fails() ? (void)!write(fd, p, n / 2), -1 : write(fd, p, n);
}
static int f_fchmod(int fd, mode_t mode)
{
	return fails() ? -1 : fchmod(fd, mode);
}
static int f_fsync(int fd)
{
	(void)fd;
	return fails() ? -1 : 0;
}
static int f_renameat(int a, const char *from, int b, const char *to)
{
	return fails() ? -1 : renameat(a, from, b, to);
}
static int f_unlinkat(int dir, const char *name, int flags)
{
	return fails() ? -1 : unlinkat(dir, name, flags);
}
static const struct file_calls faulty = { f_openat, f_write,	f_fchmod,  f_fsync,
					  close,    f_renameat, f_unlinkat };

/* --- helpers --- */

static char to[160], vkey[200];

static uint64_t published(bool entries)
{
	struct verify_options o = { .vkey = str_c(vkey) };
	struct verify_report r;
	struct err e = { 0 };

	assert_true(verify_tiles(to, &o, &r, &e));
	if (r.result != VERIFY_HOLDS)
		fail_msg("%s (%s)", r.why.msg, verify_fault_name(r.fault));
	assert_int_equal(r.completeness, entries ? VERDICT_YES : VERDICT_UNKNOWN);
	return r.size;
}

static void expect_published(uint64_t size, bool entries)
{
	assert_int_equal(published(entries), size);
}

static bool run(struct fixture *f, bool entries, int fail_at, struct publish_report *r,
		struct err *e)
{
	struct publish_options o = {
		.folder = f->folder, .to = to, .entries = entries, .calls = &faulty
	};

	calls_left = fail_at;
	dead = false;
	return publish(&o, r, e);
}

static void start(struct fixture *f, int records)
{
	AUTO_BUF note;
	struct err e;

	buf_init(&note, mem_system, 65536);
	fixture_init(f);
	f->config.checkpoint_ms = 3600000;
	fixture_open(f);
	fixture_append(f, records - 1);
	assert_true(audit_checkpoint(f->audit, &note, &e));
	snprintf(to, sizeof(to), "%s/public", f->folder);
}

static void grow(struct fixture *f, int records)
{
	AUTO_BUF note;
	struct err e;

	buf_init(&note, mem_system, 65536);
	fixture_append(f, records);
	assert_true(audit_checkpoint(f->audit, &note, &e));
}

/* --- tests --- */

static void it_grows(void **state)
{
	struct publish_report r;
	struct fixture f;
	struct err e = { 0 };
	char path[300];

	(void)state;
	start(&f, 300);
	assert_true(run(&f, true, -1, &r, &e));
	assert_int_equal(r.size, 300);
	assert_int_equal(r.before, 0);
	assert_int_equal(r.written, 5); /* 2 bundles, 2 tiles, 1 above */
	expect_published(300, true);
	assert_true(run(&f, true, -1, &r, &e));
	assert_int_equal(r.written, 0);
	assert_int_equal(r.there, 5);
	grow(&f, 300);
	assert_true(run(&f, true, -1, &r, &e));
	assert_int_equal(r.before, 300);
	assert_int_equal(r.size, 600);
	expect_published(600, true);
	/* The partial tile that became full is gone, the one of the level above is not. */
	snprintf(path, sizeof(path), "%s/tile/0/001.p", to);
	assert_int_equal(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "%s/tile/1/000.p/1", to);
	assert_int_equal(access(path, F_OK), 0);
	fixture_clear(&f);
}

/* Let each system call fail, and everything after it, as if the machine had stopped there. What
 * was published stays what it was, and the next run makes it what it should be. */
static void any_step_may_be_the_last(void **state)
{
	struct publish_report r;
	struct fixture f;
	struct err e;
	int steps;

	(void)state;
	for (steps = 1;; steps++) {
		bool done;

		start(&f, 256);
		e = (struct err){ 0 };
		assert_true(run(&f, true, -1, &r, &e));
		grow(&f, 4);
		e = (struct err){ 0 };
		done = run(&f, true, steps, &r, &e);
		if (!done) {
			assert_true(e.msg[0]);
			/* The last step flushes the folder: by then the new one may be read. */
			assert_true(published(true) == 256 || published(true) == 260);
			assert_true(run(&f, true, -1, &r, &e));
		}
		expect_published(260, true);
		fixture_clear(&f);
		if (done && !dead)
			break;
		assert_true(steps < 200);
	}
	assert_true(steps > 20);
	/* The first one: either nothing is published, or all. */
	for (steps = 1; steps < 12; steps++) {
		start(&f, 3);
		assert_false(run(&f, false, steps, &r, &e));
		assert_true(run(&f, false, -1, &r, &e));
		expect_published(3, false);
		fixture_clear(&f);
	}
}

/* A tile that the server keeps went bad: it is not published. */
static void what_is_kept_is_not_believed(void **state)
{
	struct publish_report r;
	struct fixture f;
	struct err e = { 0 };
	char command[600];

	(void)state;
	start(&f, 600);
	assert_true(run(&f, false, -1, &r, &e));
	snprintf(command, sizeof(command),
		 "rm -r %s; f=$(find %s/tiles -path '*/0/001'); [ -n \"$f\" ] && "
		 "printf x | dd of=$f bs=1 seek=700 conv=notrunc 2>/dev/null",
		 to, f.folder);
	assert_int_equal(system(command), 0); /* NOLINT: a test */
	assert_true(run(&f, false, -1, &r, &e));
	expect_published(600, false);
	fixture_clear(&f);
}

static void what_is_there_must_be_ours(void **state)
{
	struct publish_report r;
	struct fixture f, other;
	struct err e = { 0 };
	char path[300];

	(void)state;
	start(&f, 20);
	assert_true(run(&f, false, -1, &r, &e));
	strcpy(path, to);  /* NOLINT */
	start(&other, 30); /* the same key and origin, other records */
	strcpy(to, path);  /* NOLINT */
	assert_false(run(&other, false, -1, &r, &e));
	assert_string_equal(e.code, "fork");
	expect_published(20, false);
	fixture_clear(&other);
	start(&other, 10); /* shorter */
	strcpy(to, path);  /* NOLINT */
	assert_false(run(&other, false, -1, &r, &e));
	assert_string_equal(e.code, "fork");
	expect_published(20, false);
	fixture_clear(&other);
	fixture_clear(&f);
}

static int begin(void **state)
{
	struct note_key k;
	AUTO_BUF text;

	(void)state;
	fixture_key(&k);
	buf_init(&text, mem_system, 1000);
	note_key_format(&k, &text);
	snprintf(vkey, sizeof(vkey), "%.*s", STR_FMT(buf_str(&text)));
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_grows),
		cmocka_unit_test(any_step_may_be_the_last),
		cmocka_unit_test(what_is_kept_is_not_believed),
		cmocka_unit_test(what_is_there_must_be_ours),
	};

	return cmocka_run_group_tests(tests, begin, NULL);
}
