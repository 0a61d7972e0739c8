/* Reading the log beside its writer: pages, filters, order, and where to go on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>

#include "authz/audit/read.h"
#include "tests/audit/fixture.h"

#define RECORDS 601 /* more than a page: log.open and 600 decisions, one a millisecond */

static struct fixture f;
static struct audit_reader *reader;

/* How many rows a walk gives, and the first and last of them. */
static size_t walk(const struct audit_filter *filter, uint64_t *first, uint64_t *last)
{
	struct err e = { 0 };
	size_t n = 0;

	if (!audit_reader_start(reader, filter, &e))
		fail_msg("%s", e.msg);
	for (;; n++) {
		struct audit_row row;
		bool got;

		if (!audit_reader_next(reader, 0, &row, &got, &e))
			fail_msg("%s", e.msg);
		if (!got)
			return n;
		assert_int_equal(row.leaf.seq, row.seq);
		if (n)
			assert_true(filter->newest_first ? row.seq < *last : row.seq > *last);
		else
			*first = row.seq;
		*last = row.seq;
		for (int i = 0; i < OPENING_COUNT; i++) {
			assert_true(row.openings[i].held == (filter->openings && row.seq > 0));
			if (row.openings[i].held)
				assert_true(row.openings[i].value.p[0] == '{');
		}
	}
}

#define MS(n) (INT64_C(1760000000000) + (n))

static void filters_and_orders(void **state)
{
	static const struct {
		const char *why;
		struct audit_filter f;
		size_t n;
		uint64_t first, last;
	} cases[] = {
		{ "all", { .openings = true }, 601, 0, 600 },
		{ "all, backward", { .newest_first = true }, 601, 600, 0 },
		{ "range", { .from = 10, .to = 20 }, 10, 10, 19 },
		{ "range, backward", { .from = 10, .to = 20, .newest_first = true }, 10, 19, 10 },
		{ "range past the end", { .from = 590, .to = 9999 }, 11, 590, 600 },
		{ "nothing", { .from = 700 }, 0, 0, 0 },
		{ "agent",
		  { .agent = STR_INIT("spiffe://acme.example/agent/billing-7") },
		  300,
		  1,
		  599 },
		{ "no such agent",
		  { .agent = STR_INIT("spiffe://acme.example/agent/b") },
		  0,
		  0,
		  0 },
		{ "decision", { .decision = STR_INIT("deny") }, 200, 1, 598 },
		{ "kind", { .kind = STR_INIT("log.open") }, 1, 0, 0 },
		{ "family", { .kind = STR_INIT("authz.*") }, 600, 1, 600 },
		{ "not a family", { .kind = STR_INIT("authz") }, 0, 0, 0 },
		{ "since", { .since_ms = MS(300) }, 301, 300, 600 },
		{ "until", { .until_ms = MS(300) }, 300, 0, 299 },
		{ "both", { .since_ms = MS(299), .until_ms = MS(301) }, 2, 299, 300 },
		{ "both, backward",
		  { .since_ms = MS(299), .until_ms = MS(301), .newest_first = true },
		  2,
		  300,
		  299 },
		{ "never", { .since_ms = MS(5), .until_ms = MS(5) }, 0, 0, 0 },
		{ "long ago", { .until_ms = 1 }, 0, 0, 0 },
		{ "agent and decision",
		  { .agent = STR_INIT("spiffe://acme.example/agent/research-2"),
		    .decision = STR_INIT("deny"),
		    .newest_first = true },
		  100,
		  598,
		  4 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t first = 0, last = 0;
		size_t n = walk(&cases[i].f, &first, &last);

		if (n != cases[i].n || first != cases[i].first || last != cases[i].last)
			fail_msg("%s: %zu rows, %llu to %llu", cases[i].why, n,
				 (unsigned long long)first, (unsigned long long)last);
	}
}

/* A search that is told to look at 50 rows stops there and says where to go on. */
static void a_bounded_search_goes_on(void **state)
{
	(void)state;
	for (int down = 0; down < 2; down++) {
		struct audit_filter filter = { .kind = STR("log.open"), .newest_first = down };
		uint64_t from = 0, to = 0;
		struct err e;
		int calls = 0;
		bool seen = false;

		do {
			struct audit_row row;
			bool got;

			filter.from = from;
			filter.to = to;
			assert_true(audit_reader_start(reader, &filter, &e));
			assert_true(audit_reader_next(reader, 50, &row, &got, &e));
			seen |= got;
			audit_reader_left(reader, &from, &to);
			assert_true(++calls < 30);
		} while (from < to);
		assert_true(seen);
		assert_int_equal(calls, 13);
	}
}

/* The walk's end is fixed when it starts; a new start sees what came since, and the writer is not
 * held up by an open walk. */
static void the_writer_goes_on_meanwhile(void **state)
{
	const struct audit_filter all = { .from = 0 };
	struct audit_row row;
	struct err e;
	uint64_t size;
	bool got;

	(void)state;
	assert_true(audit_reader_start(reader, &all, &e));
	assert_true(audit_reader_next(reader, 0, &row, &got, &e));
	fixture_append(&f, 5);
	for (size_t n = 1;; n++) {
		assert_true(audit_reader_next(reader, 0, &row, &got, &e));
		if (!got) {
			assert_int_equal(n, RECORDS);
			break;
		}
	}
	assert_true(audit_reader_size(reader, &size, &e));
	assert_int_equal(size, RECORDS + 5);
	fixture_sql(&f, "PRAGMA wal_checkpoint(TRUNCATE)");
	assert_int_equal(walk(&all, &size, &size), RECORDS + 5);
}

/* What is passed and what is copied is the same, however often the walk is interrupted. */
struct passing {
	struct audit_reader *copied;
	size_t n, in_call, enough;
};

static bool same_row(void *ctx, const struct audit_row *row)
{
	struct passing *p = ctx;
	struct audit_row other;
	struct err e;
	bool got;

	assert_true(audit_reader_next(p->copied, 0, &other, &got, &e));
	assert_true(got);
	assert_int_equal(row->seq, other.seq);
	assert_int_equal(row->matches, other.matches);
	assert_true(str_eq(row->text, other.text));
	for (enum opening o = OPENING_ANSWER; o < OPENING_COUNT; o++) {
		assert_int_equal(row->openings[o].held, other.openings[o].held);
		if (!row->openings[o].held)
			continue;
		assert_memory_equal(row->openings[o].salt, other.openings[o].salt, SALT_LEN);
		assert_true(str_eq(row->openings[o].value, other.openings[o].value));
	}
	p->n++;
	return ++p->in_call < p->enough;
}

static void passed_rows_are_the_same(void **state)
{
	static const struct {
		struct audit_filter f;
		size_t n;
	} cases[] = {
		{ { .openings = true }, RECORDS },
		{ { .from = 0 }, RECORDS },
		{ { .newest_first = true, .openings = true }, RECORDS },
		{ { .from = 100, .to = 107 }, 7 },
		{ { .decision = STR_INIT("deny") }, 200 },
		{ { .decision = STR_INIT("deny"), .openings = true, .all = true }, RECORDS },
		{ { .kind = STR_INIT("none.such") }, 0 },
		{ { .since_ms = MS(300), .until_ms = MS(302) }, 2 },
	};
	struct passing p = { 0 };
	uint64_t from, to;
	struct err e = { 0 };

	(void)state;
	assert_true(audit_reader_open(f.folder, NULL, &p.copied, &e));
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		for (p.enough = 1; p.enough < 2000; p.enough *= 6) {
			size_t calls = 0;

			assert_true(audit_reader_start(p.copied, &cases[i].f, &e));
			assert_true(audit_reader_start(reader, &cases[i].f, &e));
			for (p.n = 0;; calls++) {
				audit_reader_left(reader, &from, &to);
				if (from == to)
					break;
				p.in_call = 0;
				assert_true(audit_reader_pass(reader, same_row, &p, &e));
				assert_true(p.in_call <= p.enough);
			}
			assert_int_equal(p.n, cases[i].n);
			assert_true(calls >= p.n / p.enough);
		}
	audit_reader_close(p.copied);
}

static bool any_row(void *ctx, const struct audit_row *row)
{
	(void)ctx;
	(void)row;
	return true;
}

static void a_hole_is_reported(void **state)
{
	const struct audit_filter all = { .from = 0 };
	struct audit_row row;
	struct err e = { 0 };
	bool got = true, ok = true;

	(void)state;
	fixture_sql(&f, "DROP TRIGGER leaf_delete; DELETE FROM leaf WHERE seq = 400");
	assert_true(audit_reader_start(reader, &all, &e));
	while (ok && got)
		ok = audit_reader_next(reader, 0, &row, &got, &e);
	assert_false(ok);
	assert_string_equal(e.code, "storage_corrupt");
	assert_non_null(strstr(e.msg, "400"));

	err_none(&e);
	assert_true(audit_reader_start(reader, &all, &e));
	assert_false(audit_reader_pass(reader, any_row, NULL, &e));
	assert_string_equal(e.code, "storage_corrupt");
	assert_non_null(strstr(e.msg, "400"));
}

static void no_log_is_an_error(void **state)
{
	struct audit_reader *r;
	struct err e;

	(void)state;
	assert_false(audit_reader_open("/nonexistent", NULL, &r, &e));
	assert_true(e.msg[0]);
}

static int begin(void **state)
{
	struct err e = { 0 };

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	fixture_append(&f, RECORDS - 1);
	if (!audit_reader_open(f.folder, NULL, &reader, &e))
		fail_msg("%s", e.msg);
	return 0;
}

static int end(void **state)
{
	(void)state;
	audit_reader_close(reader);
	fixture_clear(&f);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(filters_and_orders),
		cmocka_unit_test(a_bounded_search_goes_on),
		cmocka_unit_test(passed_rows_are_the_same),
		cmocka_unit_test(the_writer_goes_on_meanwhile),
		cmocka_unit_test(a_hole_is_reported),
		cmocka_unit_test(no_log_is_an_error),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
