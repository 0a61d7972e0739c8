/* spiffe/authority: which transition is legal, and what is due when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "spiffe/authority.h"

#define T0 1800000000LL
#define HOUR 3600LL
#define DAY (24 * HOUR)

static const struct {
	const char *why;
	struct authority_times t;
	struct authority_plan p;
} plans[] = {
	{ "30 days, SVIDs of a day: L/2, L/6, 3 hints, the life of an SVID",
	  { 30 * DAY, DAY, 300, 30 },
	  { 15 * DAY, 5 * DAY, 900, DAY + 90 } },
	{ "a year: the sheet's ceilings of 30 and 7 days",
	  { 365 * DAY, DAY, 300, 30 },
	  { 30 * DAY, 7 * DAY, 900, DAY + 90 } },
	{ "a day, SVIDs of 4 h (the reference's default)",
	  { DAY, 4 * HOUR, 300, 0 },
	  { 12 * HOUR, 4 * HOUR + 60, 900, 4 * HOUR + 60 } },
	{ "SVIDs that would outlive a third of the life: a third",
	  { 30 * DAY, 30 * DAY, 300, 30 },
	  { 15 * DAY, 10 * DAY, 900, 30 * DAY + 90 } },
	{ "an hour: no more than a sixth waits for verifiers",
	  { HOUR, DAY, 300, 30 },
	  { 1800, 1200, 600, DAY + 90 } },
};

static void times_follow_from_lives(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(plans); i++) {
		struct authority_plan p = authority_plan(&plans[i].t);

		if (p.prepare_before_s != plans[i].p.prepare_before_s ||
		    p.activate_before_s != plans[i].p.activate_before_s ||
		    p.propagate_s != plans[i].p.propagate_s || p.linger_s != plans[i].p.linger_s)
			fail_msg("%s: %lld %lld %lld %lld", plans[i].why,
				 (long long)p.prepare_before_s, (long long)p.activate_before_s,
				 (long long)p.propagate_s, (long long)p.linger_s);
		/* Verifiers get their time before the end is near, whatever the lives. */
		assert_true(p.prepare_before_s >= p.activate_before_s + p.propagate_s);
		assert_true(p.prepare_before_s < plans[i].t.ttl_s);
	}
}

/* Rows: states. Columns: activate, taint, revoke, retire. 0: refused. */
static void every_transition_is_in_the_table(void **state)
{
	static const enum authority_verb verbs[] = { AUTHORITY_ACTIVATE, AUTHORITY_TAINT,
						     AUTHORITY_REVOKE,	 AUTHORITY_RETIRE,
						     AUTHORITY_PREPARE,	 AUTHORITY_NOTHING };
	static const int to[][6] = {
		[AUTHORITY_PREPARED] = { AUTHORITY_ACTIVE, 0, AUTHORITY_REVOKED, AUTHORITY_RETIRED,
					 0, 0 },
		[AUTHORITY_ACTIVE] = { 0, 0, 0, 0, 0, 0 },
		[AUTHORITY_OLD] = { 0, AUTHORITY_TAINTED, AUTHORITY_REVOKED, AUTHORITY_RETIRED, 0,
				    0 },
		[AUTHORITY_TAINTED] = { 0, 0, AUTHORITY_REVOKED, AUTHORITY_RETIRED, 0, 0 },
		[AUTHORITY_REVOKED] = { 0, 0, 0, 0, 0, 0 },
		[AUTHORITY_RETIRED] = { 0, 0, 0, 0, 0, 0 },
	};

	(void)state;
	for (int s = AUTHORITY_PREPARED; s <= AUTHORITY_RETIRED; s++)
		for (size_t v = 0; v < ARRAY_LEN(verbs); v++) {
			struct authority a = { .state = (enum authority_state)s, .id = "abc" };
			enum authority_state got = (enum authority_state)0;
			struct err e = { 0 };
			bool ok = authority_after(&a, verbs[v], &got, &e);

			if (ok != (to[s][v] != 0) || (int)got != to[s][v])
				fail_msg("%s %s: %d", authority_state_name(a.state),
					 authority_verb_name(verbs[v]), (int)got);
			if (!ok && (e.class != ERR_CONFLICT || !strstr(e.msg, "abc")))
				fail_msg("%s", e.msg);
			if (authority_trusted(&a) != (s <= AUTHORITY_TAINTED))
				fail_msg("%s in the bundle?", authority_state_name(a.state));
		}
}

#define P AUTHORITY_PREPARED
#define A AUTHORITY_ACTIVE
#define O AUTHORITY_OLD
#define T AUTHORITY_TAINTED

/* A plan of 30 days: prepare 15 d before the end, activate 5 d before, 900 s, a day and 90 s. */
static const struct {
	const char *why;
	struct {
		enum authority_state state;
		int64_t since, ends; /* relative to T0; since: prepared or stopped */
	} all[4];
	enum authority_verb due;
	size_t which;
	int64_t next; /* relative to T0; 0: not looked at */
} rows[] = {
	{ "nothing yet", { { 0 } }, AUTHORITY_PREPARE, 9, 0 },
	{ "only a prepared one: the first start",
	  { { P, 0, 30 * DAY } },
	  AUTHORITY_ACTIVATE,
	  0,
	  0 },
	{ "young", { { A, 0, 30 * DAY } }, AUTHORITY_NOTHING, 9, 15 * DAY },
	{ "a second before half its life", { { A, 0, 15 * DAY + 1 } }, AUTHORITY_NOTHING, 9, 1 },
	{ "half its life", { { A, 0, 15 * DAY } }, AUTHORITY_PREPARE, 9, 0 },
	{ "prepared, not needed yet",
	  { { A, 0, 10 * DAY }, { P, -DAY, 40 * DAY } },
	  AUTHORITY_NOTHING,
	  9,
	  5 * DAY },
	{ "a sixth is left",
	  { { A, 0, 5 * DAY }, { P, -DAY, 40 * DAY } },
	  AUTHORITY_ACTIVATE,
	  1,
	  0 },
	{ "a sixth is left, verifiers do not know the next one",
	  { { A, 0, 5 * DAY }, { P, -899, 40 * DAY } },
	  AUTHORITY_NOTHING,
	  9,
	  1 },
	{ "they do", { { A, 0, 5 * DAY }, { P, -900, 40 * DAY } }, AUTHORITY_ACTIVATE, 1, 0 },
	{ "expired while off: prepare", { { A, 0, 0 } }, AUTHORITY_PREPARE, 9, 0 },
	{ "expired while off: waiting is of no use",
	  { { A, 0, 0 }, { P, 0, 30 * DAY } },
	  AUTHORITY_ACTIVATE,
	  1,
	  0 },
	{ "both expired while off: the prepared one goes first",
	  { { A, 0, -DAY }, { P, -60 * DAY, 0 } },
	  AUTHORITY_RETIRE,
	  1,
	  0 },
	{ "an old one whose SVIDs may live",
	  { { O, -DAY - 89, 4 * DAY }, { A, 0, 30 * DAY } },
	  AUTHORITY_NOTHING,
	  9,
	  1 },
	{ "an old one whose SVIDs are over",
	  { { O, -DAY - 90, 4 * DAY }, { A, 0, 30 * DAY } },
	  AUTHORITY_RETIRE,
	  0,
	  0 },
	{ "a tainted one as well",
	  { { A, 0, 30 * DAY }, { T, -DAY - 90, 4 * DAY } },
	  AUTHORITY_RETIRE,
	  1,
	  0 },
	{ "the clock went back",
	  { { A, 0, 5 * DAY }, { P, DAY, 40 * DAY } },
	  AUTHORITY_NOTHING,
	  9,
	  0 },
};

static void what_is_due_follows_the_clock(void **state)
{
	const struct authority_plan p = authority_plan(&plans[0].t);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct authority list[5] = { { .kind = AUTHORITY_JWT, .state = AUTHORITY_OLD } };
		const struct authority *all[5];
		enum authority_verb due;
		size_t n = 0, which = 9;

		/* One of the other kind stands among them and is not ours to look at. */
		all[n++] = &list[0];
		for (size_t k = 0; k < 4 && rows[i].all[k].state; k++, n++) {
			list[n] = (struct authority){ .kind = AUTHORITY_X509,
						      .state = rows[i].all[k].state,
						      .prepared_s = T0 + rows[i].all[k].since,
						      .stopped_s = T0 + rows[i].all[k].since,
						      .not_after_s = T0 + rows[i].all[k].ends };
			all[n] = &list[n];
		}
		due = authority_due(&p, all, n, AUTHORITY_X509, T0, &which);
		if (due != rows[i].due || which != (rows[i].which == 9 ? 9 : rows[i].which + 1))
			fail_msg("%s: %s of %zu", rows[i].why, authority_verb_name(due), which);
		if (rows[i].next &&
		    authority_next_s(&p, all, n, AUTHORITY_X509) != T0 + rows[i].next)
			fail_msg("%s: next in %lld", rows[i].why,
				 (long long)(authority_next_s(&p, all, n, AUTHORITY_X509) - T0));
	}
}

static void one_at_a_time_is_prepared(void **state)
{
	struct authority list[AUTHORITY_MAX + 1] = { { .state = AUTHORITY_ACTIVE } };
	const struct authority *all[AUTHORITY_MAX + 1];
	struct err e = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		all[i] = &list[i];
		if (i)
			list[i].state = AUTHORITY_OLD;
	}
	assert_true(authority_may_prepare(all, AUTHORITY_MAX - 1, AUTHORITY_X509, &e));
	assert_false(authority_may_prepare(all, AUTHORITY_MAX, AUTHORITY_X509, &e));
	assert_string_equal(e.code, "too_many_authorities");
	list[3].state = AUTHORITY_RETIRED;
	assert_true(authority_may_prepare(all, AUTHORITY_MAX, AUTHORITY_X509, &e));
	list[3].state = AUTHORITY_PREPARED;
	assert_false(authority_may_prepare(all, 5, AUTHORITY_X509, &e));
	assert_string_equal(e.code, "authority_prepared");
	list[3].kind = AUTHORITY_JWT;
	assert_true(authority_may_prepare(all, 5, AUTHORITY_X509, &e));
}

/* A year of a clock that ticks every hour: there is always exactly one that signs, and every SVID
 * can be verified to its end by whoever read the bundle 3 hints ago. */
static void a_year_of_rotations(void **state)
{
	const struct authority_plan p = authority_plan(&plans[0].t);
	struct authority list[64] = { { 0 } };
	const struct authority *all[64];
	size_t n = 0, which, made = 0;

	(void)state;
	for (int64_t now = T0; now < T0 + 365 * DAY; now += HOUR) {
		enum authority_verb v;
		size_t active = 0;

		while ((v = authority_due(&p, all, n, AUTHORITY_X509, now, &which)) !=
		       AUTHORITY_NOTHING) {
			enum authority_state to;

			if (v == AUTHORITY_PREPARE) {
				assert_true(n < ARRAY_LEN(list));
				assert_true(authority_may_prepare(all, n, AUTHORITY_X509, NULL));
				list[n] = (struct authority){ .state = AUTHORITY_PREPARED,
							      .prepared_s = now,
							      .not_after_s = now + 30 * DAY };
				all[n] = &list[n];
				n++;
				made++;
				continue;
			}
			assert_true(authority_after(all[which], v, &to, NULL));
			for (size_t i = 0; v == AUTHORITY_ACTIVATE && i < n; i++)
				if (list[i].state == AUTHORITY_ACTIVE) {
					list[i].state = AUTHORITY_OLD;
					list[i].stopped_s = now;
					assert_true(
						authority_propagated(&p, &list[which], now, NULL));
					/* what it signed last ends before it does */
					assert_true(list[i].not_after_s >= now + DAY);
				}
			list[which].state = to;
		}
		for (size_t i = 0; i < n; i++)
			active += list[i].state == AUTHORITY_ACTIVE;
		assert_int_equal(active, 1);
	}
	assert_in_range(made, 24,
			26); /* each signs for 15 days: prepared 10 days ahead, 5 unused */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_follow_from_lives),
		cmocka_unit_test(every_transition_is_in_the_table),
		cmocka_unit_test(what_is_due_follows_the_clock),
		cmocka_unit_test(one_at_a_time_is_prepared),
		cmocka_unit_test(a_year_of_rotations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
