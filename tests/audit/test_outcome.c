/* A decision is closed once: the row and the record that closes it come together or not at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "authz/audit/outcome.h"
#include "tests/audit/fixture.h"

#define JOBS 6

struct batch {
	struct audit_job job[JOBS];
	struct buf text[JOBS];
	struct queue *back;
};

static void ignore(struct task *t)
{
	(void)t;
}

/* Hand over a report of each of @closings at once and wait for all of them. The queue is freed when
 * the log is closed: who has put something into it still wakes us up after we have taken it. */
static void submit(struct fixture *f, struct batch *b, const struct closing *closings, size_t n)
{
	struct chain chain, got;
	struct err e = { 0 };

	if (!b->back)
		b->back = queue_new(JOBS, false, &e);
	assert_non_null(b->back);
	chain_init(&chain);
	for (size_t i = 0; i < n; i++) {
		struct audit_job *j = &b->job[i];

		buf_init(&b->text[i], mem_system, 4096);
		record_begin(&j->record, &b->text[i]);
		record_int(&j->record, STR("closes"), (int64_t)closings[i].seq);
		record_str(&j->record, STR("kind"), STR("authz.outcome"));
		j->closing = &closings[i];
		j->reply_to = b->back;
		j->task.run = ignore;
		chain_add(&chain, &j->task.link);
	}
	assert_true(audit_submit(f->audit, &chain, &e));
	for (size_t came = 0; came < n; came += got.n)
		assert_true(queue_wait(b->back, &got, 5000));
	for (size_t i = 0; i < n; i++)
		buf_clear(&b->text[i]);
}

/* The committer may still be waking us when we have its answers: it ends first. */
static void end(struct fixture *f, struct batch *b)
{
	fixture_clear(f);
	queue_free(b->back);
}

static void of_one_batch_the_first_closes(void **state)
{
	struct fixture f = { 0 };
	struct batch b = { 0 };
	struct closing c[JOBS] = {
		{ .seq = 1, .kind = CLOSING_OUTCOME }, { .seq = 1, .kind = CLOSING_OUTCOME },
		{ .seq = 1, .kind = CLOSING_USAGE },   { .seq = 2, .kind = CLOSING_OUTCOME },
		{ .seq = 1, .kind = CLOSING_USAGE },   { .seq = 2, .kind = CLOSING_OUTCOME },
	};
	const bool closes[JOBS] = { true, false, true, true, false, false };

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	fixture_append(&f, 2);
	for (size_t i = 0; i < JOBS; i++)
		closing_say(&c[i], f.sha, STR("{\"outcome\":\"success\"}"));
	submit(&f, &b, c, JOBS);
	for (size_t i = 0; i < JOBS; i++) {
		assert_int_equal(b.job[i].ok, closes[i]);
		if (!closes[i])
			assert_string_equal(b.job[i].err.code, "closed_already");
	}
	/* What was refused left no gap. */
	assert_int_equal(fixture_check(&f), 6);
	assert_int_equal(fixture_count(&f, "SELECT count(*) FROM closed"), 3);
	assert_int_equal(fixture_count(&f,
				       "SELECT count(*) FROM closed JOIN leaf ON leaf.seq = record"
				       " WHERE instr(CAST(body AS TEXT), 'authz.outcome')"),
			 3);
	end(&f, &b);
}

static void a_lookup_tells_what_was_said(void **state)
{
	static const struct {
		const char *why;
		uint64_t seq;
		enum closing_kind kind;
		const char *text;
		bool record;
		enum closing_state state;
	} table[] = {
		{ "the same", 1, CLOSING_OUTCOME, "{\"a\":1}", true, CLOSING_SAME },
		{ "another", 1, CLOSING_OUTCOME, "{\"a\":2}", true, CLOSING_OTHER },
		{ "another kind", 1, CLOSING_USAGE, "{\"a\":1}", true, CLOSING_NONE },
		{ "another decision", 2, CLOSING_OUTCOME, "{\"a\":1}", true, CLOSING_NONE },
		{ "wiped", 2, CLOSING_USAGE, "{\"a\":1}", true, CLOSING_ERASED },
		{ "no record", 99, CLOSING_OUTCOME, "{\"a\":1}", false, CLOSING_NONE },
		{ "no number", UINT64_MAX, CLOSING_OUTCOME, "{\"a\":1}", false, CLOSING_NONE },
	};
	struct fixture f = { 0 };
	struct batch b = { 0 };
	struct closing c[2] = { { .seq = 1, .kind = CLOSING_OUTCOME },
				{ .seq = 2, .kind = CLOSING_USAGE } };
	struct closings *look = NULL;
	struct closing_found found;
	struct arena a;
	struct err e = { 0 };

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	fixture_append(&f, 2);
	closing_say(&c[0], f.sha, STR("{\"a\":1}"));
	closing_say(&c[1], f.sha, STR("{\"a\":1}"));
	assert_memory_not_equal(c[0].said, c[1].said, SHA256_LEN); /* salted */
	submit(&f, &b, c, 2);
	fixture_sql(&f, "UPDATE closed SET salt = x'', said = x'' WHERE seq = 2");
	arena_init(&a, &mem_system, 65536);
	assert_true(closings_open(f.folder, &look, &e));
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		assert_true(closings_find(look, table[i].seq, table[i].kind, str_c(table[i].text),
					  &a, &found, &e));
		if (found.record != table[i].record || found.state != table[i].state)
			fail_msg("%s: record %d, state %d", table[i].why, found.record,
				 found.state);
	}
	closings_close(look);
	arena_clear(&a);
	end(&f, &b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(of_one_batch_the_first_closes),
		cmocka_unit_test(a_lookup_tells_what_was_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
