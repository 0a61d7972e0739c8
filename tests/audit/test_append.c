/* Appending: records on disk, in order, chained; restarts, gaps, roll-backs of the whole file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/store/db.h"
#include "tests/audit/fixture.h"

#define KIND(k) "SELECT count(*) FROM leaf WHERE CAST(body AS TEXT) LIKE '%\"kind\":\"" k "\"%'"

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	fixture_init(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	fixture_clear(*state);
	free(*state);
	return 0;
}

static void a_record_is_on_disk_when_it_is_answered(void **state)
{
	struct fixture *f = *state;
	struct audit_job job = { 0 };
	struct audit_status s;
	AUTO_BUF text;
	struct err e;

	fixture_open(f);
	buf_init(&text, mem_system, 65536);
	fixture_draft(f, 0, &job.record, &text);
	assert_true(audit_append(f->audit, &job, &e));
	assert_int_equal(job.seq, 1); /* after log.open */
	assert_int_equal(job.time_ms, f->hands.ms);
	assert_int_equal(fixture_check(f), 2);
	assert_int_equal(fixture_count(f, "SELECT count(*) FROM opening"), 1);
	assert_int_equal(fixture_count(f, "SELECT length(input) FROM opening"), 16 + 28);
	audit_status(f->audit, &s);
	assert_int_equal(s.size, 2);
	assert_int_equal(s.waiting, 0);
	assert_true(audit_ready(f->audit, &e));
}

static void time_never_runs_back(void **state)
{
	struct fixture *f = *state;

	fixture_open(f);
	fixture_append(f, 3);
	f->hands.ms -= 100000;
	fixture_append(f, 3);
	fixture_close(f);
	f->hands.ms -= 100000;
	fixture_open(f);
	fixture_append(f, 1);
	assert_int_equal(fixture_check(f), 10);
}

static void a_restart_goes_on(void **state)
{
	struct fixture *f = *state;

	for (int i = 1; i <= 4; i++) {
		fixture_open(f);
		fixture_append(f, 5);
		fixture_close(f);
		assert_int_equal(fixture_check(f), 7 * i);
	}
	assert_int_equal(fixture_count(f, KIND("log.open")), 4);
	assert_int_equal(fixture_count(f, KIND("log.close")), 4);
	assert_int_equal(fixture_count(f, KIND("log.gap")), 0);
	assert_int_equal(fixture_count(f, "SELECT max(size) FROM checkpoint"), 28);
}

static void checkpoint(struct fixture *f, struct buf *note)
{
	struct err e = { 0 };

	if (!audit_checkpoint(f->audit, note, &e))
		fail_msg("audit_checkpoint: %s", e.msg);
}

static void checkpoints_are_signed_and_kept_outside(void **state)
{
	struct fixture *f = *state;
	struct note_key key;
	struct checkpoint c;
	char path[128], text[1000];
	AUTO_BUF note;
	struct err e;
	FILE *file;
	size_t n;

	fixture_open(f);
	fixture_append(f, 4);
	buf_init(&note, mem_system, NOTE_MAX);
	checkpoint(f, &note);
	fixture_key(&key);
	assert_true(checkpoint_open(buf_str(&note), &key, &c, &e));
	assert_int_equal(c.size, 5);
	snprintf(path, sizeof(path), "%s/last-checkpoint", f->folder);
	file = fopen(path, "r");
	assert_non_null(file);
	n = fread(text, 1, sizeof(text), file);
	fclose(file);
	assert_true(str_eq((struct str){ text, n }, buf_str(&note)));
	assert_int_equal(fixture_count(f, "SELECT count(*) FROM checkpoint WHERE size = 5"), 1);
	/* Nothing new: the same note, not another signature. */
	buf_reset(&note);
	f->sign_fails = 1;
	checkpoint(f, &note);
	assert_true(str_eq((struct str){ text, n }, buf_str(&note)));
	fixture_append(f, 1);
	assert_false(audit_checkpoint(f->audit, &note, &e));
	checkpoint(f, &note);
}

/* A commit of one record writes the last pages of three tables anew, so the file grows by much more
 * than the records: what bounds it must count the file. */
static void the_wal_is_bounded_whatever_the_batches(void **state)
{
	const int64_t bound = INT64_C(160) << 20;
	struct fixture *f = *state;
	struct audit_status before, now = { 0 };
	char path[128];
	struct stat st;
	int restarts = 0, records = 0;

	snprintf(path, sizeof(path), "%s/log.db-wal", f->folder);
	fixture_open(f);
	for (; restarts < 3 && records < 60000; records += 10) {
		before = now;
		fixture_append(f, 10);
		audit_status(f->audit, &now);
		restarts += now.wal_pages < before.wal_pages;
		assert_int_equal(stat(path, &st), 0);
		if (st.st_size > bound)
			fail_msg("%lld bytes after %d records", (long long)st.st_size, records);
	}
	assert_int_equal(restarts, 3);
	assert_int_equal(fixture_check(f), records + 1);
}

/* --- starts that must be refused --- */

static void refuse_open(struct fixture *f, const char *code, const char *why)
{
	struct err e = { 0 };

	if (audit_open(&f->config, &f->audit, &e))
		fail_msg("opened: %s", why);
	if (strcmp(e.code, code) != 0)
		fail_msg("%s: %s (%s)", why, e.msg, e.code);
}

static void damage_is_refused(void **state)
{
	static const struct {
		const char *why, *sql, *code;
	} cases[] = {
		{ "last record gone", "DELETE FROM leaf WHERE seq = 6", "storage_corrupt" },
		{ "all records gone", "DELETE FROM leaf", "storage_corrupt" },
		{ "a record too many", "INSERT INTO leaf SELECT 7, body FROM leaf WHERE seq = 6",
		  "storage_corrupt" },
		{ "tree without a hash", "UPDATE tree SET range = x''", "storage_corrupt" },
		{ "tree of another size", "UPDATE tree SET size = 5", "storage_corrupt" },
		{ "tree with another hash", "UPDATE tree SET range = zeroblob(length(range))",
		  "storage_corrupt" },
		{ "no tree", "DELETE FROM tree", "storage_corrupt" },
		{ "checkpoint changed",
		  "UPDATE checkpoint SET note = CAST(replace(CAST(note AS TEXT), '7', '8') AS BLOB)",
		  "invalid_request" },
		{ "checkpoint's range changed",
		  "UPDATE checkpoint SET range = zeroblob(length(range))", "rollback_detected" },
		{ "checkpoint without range", "UPDATE checkpoint SET range = x''",
		  "storage_corrupt" },
		{ "newer version", "UPDATE schema SET version = 99", NULL },
	};
	static const char untrigger[] = "DROP TRIGGER leaf_delete; DROP TRIGGER checkpoint_update;";

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fixture f;
		struct err e = { 0 };

		fixture_init(&f);
		fixture_open(&f);
		fixture_append(&f, 5);
		fixture_close(&f); /* 7 records, 7 signed */
		fixture_sql(&f, untrigger);
		fixture_sql(&f, cases[i].sql);
		if (audit_open(&f.config, &f.audit, &e))
			fail_msg("%s: opened", cases[i].why);
		if (cases[i].code && strcmp(e.code, cases[i].code) != 0)
			fail_msg("%s: %s (%s)", cases[i].why, e.msg, e.code);
		fixture_clear(&f);
	}
}

static void triggers_stop_accidents(void **state)
{
	static const char *const accidents[] = { "UPDATE leaf SET body = x'00'",
						 "DELETE FROM leaf WHERE seq = 0",
						 "UPDATE checkpoint SET note = x'00'",
						 "DELETE FROM checkpoint" };
	struct fixture *f = *state;
	const struct db_options o = { .busy_ms = 1000 };
	char path[128];
	struct db *db;
	struct err e;

	fixture_open(f);
	fixture_close(f);
	snprintf(path, sizeof(path), "%s/log.db", f->folder);
	assert_true(db_open(path, &o, &db, &e));
	for (size_t i = 0; i < ARRAY_LEN(accidents); i++)
		if (db_exec(db, accidents[i], &e))
			fail_msg("%s: done", accidents[i]);
	db_close(db);
}

static void copy(const struct fixture *f, const char *from, const char *to)
{
	char command[300];

	snprintf(command, sizeof(command), "cd %s && rm -f log.db-wal log.db-shm && cp %s %s",
		 f->folder, from, to);
	assert_int_equal(system(command), 0); /* NOLINT: names are ours */
}

static void a_restored_backup_is_refused(void **state)
{
	struct fixture *f = *state;

	fixture_open(f);
	fixture_append(f, 2);
	fixture_close(f);
	fixture_sql(f, "PRAGMA wal_checkpoint(TRUNCATE)");
	copy(f, "log.db", "backup");
	fixture_open(f);
	fixture_append(f, 2);
	fixture_close(f);
	fixture_sql(f, "PRAGMA wal_checkpoint(TRUNCATE)");
	copy(f, "backup", "log.db");
	refuse_open(f, "rollback_detected", "an old copy");

	/* The file outside hidden, the old copy goes on: a second history, longer than the first.
	 */
	copy(f, "last-checkpoint", "hidden");
	copy(f, "/dev/null", "gone");
	assert_int_equal(unlink(strcat(strcpy((char[128]){ 0 }, f->folder), "/last-checkpoint")),
			 0);
	fixture_open(f);
	fixture_append(f, 20);
	fixture_close(f);
	assert_int_equal(fixture_count(f, "SELECT count(*) FROM leaf WHERE CAST(body AS TEXT) LIKE "
					  "'%\"anchor\":\"missing\"%'"),
			 1);
	copy(f, "hidden", "last-checkpoint");
	refuse_open(f, "rollback_detected", "a second history");
}

static void a_foreign_key_is_refused(void **state)
{
	struct fixture *f = *state;

	fixture_open(f);
	fixture_close(f);
	f->config.public_key[3] ^= 1;
	refuse_open(f, "invalid_request", "another key");
	f->config.public_key[3] ^= 1;
	f->config.origin = "other.example/writ";
	refuse_open(f, "invalid_request", "another origin");
	f->config.origin = ORIGIN;
	f->config.node = "UPPER";
	refuse_open(f, "invalid_request", "a bad node");
	f->config.node = "n1";
	fixture_open(f);
}

/* A second writer on the same folder (the lock is another's business): no fork, no reuse of seq. */
static void two_writers_cannot_fork_it(void **state)
{
	struct fixture *f = *state;
	struct audit *second;
	struct audit_job job = { 0 };
	AUTO_BUF text;
	struct err e = { 0 };

	fixture_open(f);
	fixture_append(f, 3);
	assert_true(audit_open(&f->config, &second, &e)); /* writes log.gap and log.open */
	buf_init(&text, mem_system, 65536);
	fixture_draft(f, 0, &job.record, &text);
	assert_false(audit_append(f->audit, &job, &e));
	assert_int_equal(e.class, ERR_UNAVAILABLE);
	assert_false(audit_ready(f->audit, &e));
	assert_int_equal(f->fatal, 1);
	assert_false(audit_append(f->audit, &job, &e));
	assert_int_equal(f->fatal, 1); /* once */
	fixture_close(f);
	audit_close(second);
	assert_int_equal(fixture_check(f), 7);
}

static void a_record_too_large_is_refused_alone(void **state)
{
	struct fixture *f = *state;
	struct audit_job job = { 0 };
	AUTO_BUF text;
	struct err e = { 0 };

	fixture_open(f);
	buf_init(&text, mem_system, 1 << 20);
	record_begin(&job.record, &text);
	for (int i = 0; i < 60; i++) {
		char name[16], value[2000];

		snprintf(name, sizeof(name), "m%02d", i);
		memset(value, 'x', sizeof(value));
		record_str(&job.record, str_c(name), (struct str){ value, sizeof(value) });
	}
	assert_false(record_ok(&job.record));
	assert_false(audit_append(f->audit, &job, &e));
	assert_string_equal(e.code, "audit_unavailable");
	assert_true(audit_ready(f->audit, &e));
	fixture_append(f, 1);
	assert_int_equal(fixture_check(f), 2);
}

/* --- many producers --- */

#define PRODUCERS 4
#define EACH 500

struct producer {
	struct fixture *f;
	struct sha256 *sha;
	pthread_t thread;
	struct queue *done;
	uint64_t sum;
};

struct parcel {
	struct audit_job job;
	struct buf text;
};

static void nothing(struct task *t)
{
	(void)t;
}

static void *produce(void *arg)
{
	struct producer *p = arg;
	struct parcel *parcels = calloc(EACH, sizeof(*parcels));
	int sent = 0, got = 0;
	struct err e;

	while (got < EACH) {
		struct chain c;

		chain_init(&c);
		for (int i = 0; i < 50 && sent < EACH; i++, sent++) {
			struct parcel *x = &parcels[sent];
			struct fixture local = { .sha = p->sha };

			buf_init(&x->text, mem_system, 65536);
			fixture_draft(&local, sent, &x->job.record, &x->text);
			x->job.task.run = nothing;
			x->job.reply_to = p->done;
			chain_add(&c, &x->job.task.link);
		}
		while (c.n && !audit_submit(p->f->audit, &c, &e))
			usleep(100);
		while (got < sent && queue_wait(p->done, &c, -1))
			for (struct link *l = c.first; l; l = l->next, got++) {
				const struct audit_job *j = LINK_OF(l, struct audit_job, task.link);

				assert_true(j->ok);
				p->sum += j->seq;
			}
	}
	for (int i = 0; i < EACH; i++)
		buf_clear(&parcels[i].text);
	free(parcels);
	return NULL;
}

static void producers_share_one_order(void **state)
{
	struct fixture *f = *state;
	struct producer p[PRODUCERS];
	uint64_t sum = 0, n = PRODUCERS * EACH;
	struct err e;

	f->config.clock = &clock_system;
	f->config.queue = 120; /* so that some submissions are refused and come again */
	fixture_open(f);
	for (int i = 0; i < PRODUCERS; i++) {
		p[i] = (struct producer){ .f = f,
					  .sha = sha256_new(&e),
					  .done = queue_new(EACH, true, &e) };
		assert_int_equal(pthread_create(&p[i].thread, NULL, produce, &p[i]), 0);
	}
	for (int i = 0; i < PRODUCERS; i++) {
		pthread_join(p[i].thread, NULL);
		sum += p[i].sum;
	}
	assert_int_equal(sum, n * (n + 1) / 2); /* 1..n, each once */
	fixture_close(f); /* a queue may go when nobody can push to it any more */
	for (int i = 0; i < PRODUCERS; i++) {
		queue_free(p[i].done);
		sha256_free(p[i].sha);
	}
	assert_int_equal(fixture_check(f), n + 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_record_is_on_disk_when_it_is_answered, setup,
						teardown),
		cmocka_unit_test_setup_teardown(time_never_runs_back, setup, teardown),
		cmocka_unit_test_setup_teardown(a_restart_goes_on, setup, teardown),
		cmocka_unit_test_setup_teardown(checkpoints_are_signed_and_kept_outside, setup,
						teardown),
		cmocka_unit_test_setup_teardown(the_wal_is_bounded_whatever_the_batches, setup,
						teardown),
		cmocka_unit_test(damage_is_refused),
		cmocka_unit_test_setup_teardown(triggers_stop_accidents, setup, teardown),
		cmocka_unit_test_setup_teardown(a_restored_backup_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_foreign_key_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(two_writers_cannot_fork_it, setup, teardown),
		cmocka_unit_test_setup_teardown(a_record_too_large_is_refused_alone, setup,
						teardown),
		cmocka_unit_test_setup_teardown(producers_share_one_order, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
