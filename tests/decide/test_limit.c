/* Rate limits and refusal counts: exact at the bound, bounded in memory, safe across threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>

#include "authz/decide/limit.h"
#include "authz/decide/refusals.h"

#define SECOND 1000000000LL

static void burst_then_rate(void **state)
{
	struct limit *l = limit_new(200, 400, 1024, NULL);
	int64_t wait = 0;
	int got = 0;

	(void)state;
	assert_non_null(l);
	while (limit_take(l, STR("a"), 5 * SECOND, &wait))
		got++;
	assert_int_equal(got, 400);
	assert_true(wait >= 1 && wait <= 6);
	/* Another key is not affected. */
	assert_true(limit_take(l, STR("b"), 5 * SECOND, &wait));
	/* A second later there are exactly 200 more. */
	for (got = 0; limit_take(l, STR("a"), 6 * SECOND, &wait);)
		got++;
	assert_int_equal(got, 200);
	/* After a long pause the burst is whole again, and no larger. */
	for (got = 0; limit_take(l, STR("a"), 600 * SECOND, &wait);)
		got++;
	assert_int_equal(got, 400);
	limit_free(l);
}

static void waiting_as_told_is_enough(void **state)
{
	struct limit *l = limit_new(1, 10, 64, NULL);
	int64_t now = SECOND, wait = 0;

	(void)state;
	while (limit_take(l, STR("k"), now, &wait))
		;
	for (int i = 0; i < 20; i++) {
		now += wait * 1000000;
		assert_true(limit_take(l, STR("k"), now, &wait));
		assert_false(limit_take(l, STR("k"), now, &wait));
	}
	limit_free(l);
}

static void a_flood_of_keys_takes_no_memory_and_frees_nobody(void **state)
{
	struct limit *l = limit_new(1, 2, 64, NULL);
	int64_t wait;
	char key[32];

	(void)state;
	for (int i = 0; i < 100000; i++) {
		int n = snprintf(key, sizeof(key), "key-%d", i);

		(void)limit_take(l, (struct str){ key, (size_t)n }, SECOND, &wait);
	}
	/* Whoever comes now is limited like anybody: two at once, then none. */
	assert_true(limit_take(l, STR("late"), 90 * SECOND, &wait));
	assert_true(limit_take(l, STR("late"), 90 * SECOND, &wait));
	assert_false(limit_take(l, STR("late"), 90 * SECOND, &wait));
	limit_free(l);
}

struct shared_limit {
	struct limit *l;
	int got;
};

static void *take_many(void *arg)
{
	struct shared_limit *s = arg;
	int64_t wait;

	for (int i = 0; i < 5000; i++)
		s->got += limit_take(s->l, STR("one"), SECOND, &wait);
	return NULL;
}

static void threads_share_one_bucket(void **state)
{
	struct limit *l = limit_new(10, 1000, 64, NULL);
	struct shared_limit s[4];
	pthread_t t[4];
	int got = 0;

	(void)state;
	for (int i = 0; i < 4; i++) {
		s[i] = (struct shared_limit){ l, 0 };
		assert_int_equal(pthread_create(&t[i], NULL, take_many, &s[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		got += s[i].got;
	}
	assert_int_equal(got, 1000);
	limit_free(l);
}

struct seen {
	int items;
	uint64_t sum;
	bool refuse; /* the log takes nothing */
};

static bool see(void *ctx, const char *listener, const char *code, uint64_t n)
{
	struct seen *s = ctx;

	assert_non_null(listener);
	assert_non_null(code);
	s->items++;
	s->sum += n;
	return !s->refuse;
}

static void see_total(void *ctx, const char *listener, const char *code, uint64_t n)
{
	(void)see(ctx, listener, code, n);
}

/* What the log could not take is offered again; equal texts at two addresses are one pair. */
static void refusals_are_not_lost(void **state)
{
	static char http[] = "http", again[] = "http";
	static struct refusals r;
	struct seen total = { 0 }, s = { .refuse = true };

	(void)state;
	refusals_count(&r, http, "not_found");
	refusals_count(&r, again, "not_found");
	refusals_count(&r, http, "unauthenticated");
	refusals_totals(&r, see_total, &total);
	assert_int_equal(total.items, 2);
	assert_int_equal(total.sum, 3);
	refusals_take(&r, see, &s);
	assert_int_equal(s.sum, 3);
	s = (struct seen){ 0 };
	refusals_take(&r, see, &s);
	assert_int_equal(s.sum, 3);
	refusals_take(&r, see, &s);
	assert_int_equal(s.sum, 3);
}

static void refusals_are_taken_once(void **state)
{
	static struct refusals r;
	static const char *const code[] = { "invalid_json", "unauthenticated" };
	struct seen s = { 0 };

	(void)state;
	for (int i = 0; i < 10; i++)
		refusals_count(&r, "http", code[i % 2]);
	refusals_count(&r, "https", code[0]);
	refusals_take(&r, see, &s);
	assert_int_equal(s.items, 3);
	assert_int_equal(s.sum, 11);
	refusals_take(&r, see, &s);
	assert_int_equal(s.items, 3);
	refusals_count(&r, "https", code[0]);
	refusals_take(&r, see, &s);
	assert_int_equal(s.items, 4);
	assert_int_equal(s.sum, 12);
}

static void refusals_past_the_table_still_count(void **state)
{
	static struct refusals r;
	static char names[300][16];
	struct seen s = { 0 };

	(void)state;
	for (int i = 0; i < 300; i++) {
		snprintf(names[i], sizeof(names[i]), "c%d", i);
		refusals_count(&r, "http", names[i]);
	}
	refusals_take(&r, see, &s);
	assert_int_equal(s.items, REFUSALS_MAX);
	assert_int_equal(s.sum, 300);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(burst_then_rate),
		cmocka_unit_test(waiting_as_told_is_enough),
		cmocka_unit_test(a_flood_of_keys_takes_no_memory_and_frees_nobody),
		cmocka_unit_test(threads_share_one_bucket),
		cmocka_unit_test(refusals_are_taken_once),
		cmocka_unit_test(refusals_are_not_lost),
		cmocka_unit_test(refusals_past_the_table_still_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
