/* Roll-outs on the control thread, with the clock in hand: when gates are judged and over what,
 * what ends them, what a restart finds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>

#include "authz/decide/generation_acts.h"
#include "authz/decide/rollout_acts.h"
#include "tests/decide/desk.h"

#define BY STR_INIT("unix:0")
#define NO_GATES                  \
	{                         \
		-1, -1, -1, -1, 0 \
	}

static const struct policy_result permitted = { .decision = DECISION_PERMIT,
						.reason = STR_INIT("permitted") };
static const struct policy_result denied = { .decision = DECISION_DENY,
					     .reason = STR_INIT("denied") };
static const struct policy_result failed = { .decision = DECISION_DENY,
					     .reason = STR_INIT(REASON_POLICY_ERROR) };

static struct arena arena;

static void write_policy(struct desk *d, const char *reason)
{
	char path[160];
	FILE *f;

	snprintf(path, sizeof(path), "%s/rules.lua", d->policies);
	f = fopen(path, "we");
	assert_non_null(f);
	fprintf(f, "policy \"p\" { deny \"all\" { reason = \"%s\" } }\n", reason);
	fclose(f);
}

/* Generation 1 is in force, generation 2 is stored. */
static void begin(struct desk *d)
{
	struct err e = { 0 };

	arena_init(&arena, &mem_system, 1 << 20);
	desk_open(d);
	for (int i = 0; i < 2; i++) {
		write_policy(d, i ? "base" : "candidate");
		if (!control_activate_folder(d->control, STR("test"), &e))
			fail_msg("activate: %s", e.msg);
	}
	control_folder_seen(d->control);
}

static void end(struct desk *d)
{
	desk_close(d);
	arena_clear(&arena);
}

static struct rollout_row start(struct desk *d, enum rollout_kind kind, struct rollout_gates gates)
{
	const struct rollout_wish w = {
		.kind = kind, .number = 1, .percent = 50, .gates = gates, .by = BY
	};
	struct rollout_row row = { 0 };
	struct err e = { 0 };

	if (!rollout_start(d->control, &w, &row, NULL, &e))
		fail_msg("start: %s", e.msg);
	return row;
}

/* A front's tally of the roll-out that runs. */
static struct rollout_tally *join(struct desk *d)
{
	struct rollout *r = (struct rollout *)slot_acquire(&d->rig.core.rollouts);
	struct rollout_tally *t;

	assert_non_null(r);
	t = rollout_join(r);
	shared_release(&r->shared); /* the slot and the desk have theirs */
	assert_non_null(t);
	return t;
}

static void count(struct rollout_tally *t, int n, const struct policy_result *base,
		  const struct policy_result *candidate)
{
	for (int i = 0; i < n; i++) {
		rollout_count(t, ROLLOUT_BASE, base, 1000);
		rollout_count(t, ROLLOUT_CANDIDATE, candidate, 1000);
	}
}

/* So much later; which one runs then? */
static uint64_t after_ms(struct desk *d, int64_t ms)
{
	d->rig.time.ns += ms * 1000000;
	d->rig.time.ms += ms;
	rollouts_tick(d->control, d->rig.time.ns);
	return rollouts_running(d->control);
}

static void ended_as(struct desk *d, uint64_t id, enum rollout_state state, const char *reason)
{
	struct rollout_row row;
	struct err e = { 0 };

	if (!rollout_look(d->control, id, &row, &arena, &e))
		fail_msg("look: %s", e.msg);
	assert_int_equal(row.state, state);
	assert_true(str_eq(row.reason, str_c(reason)));
	assert_null(slot_acquire(&d->rig.core.rollouts));
}

static void gates_are_judged_each_second_by_what_came_since(void **state)
{
	struct rollout_tally *t;
	struct desk d;

	(void)state;
	begin(&d);
	start(&d, ROLLOUT_CANARY, (struct rollout_gates)NO_GATES);
	t = join(&d);
	count(t, 99, &permitted, &denied); /* below the least sample of 100 */
	assert_int_equal(after_ms(&d, 5000), 1);
	count(t, 9901, &permitted, &permitted);
	assert_int_equal(after_ms(&d, 999), 1);
	assert_int_equal(after_ms(&d, 1), 1); /* 99 in 10,000 */
	/* The 100 that come now weigh for themselves. */
	count(t, 89, &permitted, &permitted);
	count(t, 11, &permitted, &denied);
	assert_int_equal(after_ms(&d, 999), 1); /* not due */
	assert_int_equal(after_ms(&d, 1), 0);
	ended_as(&d, 1, ROLLOUT_ABORTED, "max_deny_increase");
	assert_non_null(strstr(rig_leaf(&d.rig, rig_size(&d.rig) - 1),
			       "\"reason\":\"max_deny_increase\",\"rollout\":1,"));
	/* What the set in force denies as well is no fault of the candidate. */
	start(&d, ROLLOUT_CANARY, (struct rollout_gates)NO_GATES);
	t = join(&d);
	count(t, 200, &denied, &denied);
	assert_int_equal(after_ms(&d, 1000), 2);
	count(t, 98, &permitted, &permitted);
	count(t, 2, &permitted, &failed);
	assert_int_equal(after_ms(&d, 1000), 0);
	ended_as(&d, 2, ROLLOUT_ABORTED, "max_error_rate");
	end(&d);
}

static void a_shadow_may_deny_but_not_fail(void **state)
{
	const struct rollout_gates gates = { 500000, -1, -1, -1, 10 };
	struct desk d;

	(void)state;
	begin(&d);
	start(&d, ROLLOUT_SHADOW, (struct rollout_gates)NO_GATES);
	count(join(&d), 1000, &permitted, &denied);
	assert_int_equal(after_ms(&d, 1000), 1);
	assert_true(rollout_abort(d.control, &(struct rollout_end){ .by = BY },
				  &(struct rollout_row){ 0 }, &arena, NULL));
	ended_as(&d, 1, ROLLOUT_ABORTED, "asked");
	start(&d, ROLLOUT_SHADOW, gates);
	count(join(&d), 10, &permitted, &denied);
	assert_int_equal(after_ms(&d, 1000), 0);
	ended_as(&d, 2, ROLLOUT_ABORTED, "max_deny_rate");
	start(&d, ROLLOUT_SHADOW, (struct rollout_gates)NO_GATES);
	count(join(&d), 100, &permitted, &failed);
	assert_int_equal(after_ms(&d, 1000), 0);
	ended_as(&d, 3, ROLLOUT_ABORTED, "max_error_rate");
	end(&d);
}

/* Salt, gates and counts stay; what was counted is kept every ten seconds, and at an orderly stop.
 */
static void a_restart_carries_on(void **state)
{
	const struct rollout_gates gates = { 250000, -1, -1, 900, 70 };
	struct rollout_report *report = calloc(1, sizeof(*report));
	struct rollout_row before, row;
	struct rollout *r;
	struct desk d;
	struct err e = { 0 };

	(void)state;
	assert_non_null(report);
	begin(&d);
	before = start(&d, ROLLOUT_CANARY, gates);
	assert_int_equal(before.gates.max_deny_increase, ROLLOUT_MAX_DENY_INCREASE);
	for (int run = 0; run < 3; run++) {
		struct rollout_tally *t = join(&d);

		count(t, 69, &permitted, &permitted);
		rollout_changed(t, &permitted, &denied, (uint64_t)run);
		assert_int_equal(after_ms(&d, 10000), 1);
		count(t, 5, &permitted, &denied); /* lost in a crash, kept at a stop */
		if (run)
			rollouts_stop(d.control);
		desk_reopen(&d);
		slot_publish(&d.rig.core.rollouts, NULL);
		assert_true(control_activate_stored(d.control, &e));
		rollouts_resume(d.control);
		assert_int_equal(rollouts_running(d.control), 1);
	}
	assert_true(rollout_count_up(d.control, 1, report, &e));
	assert_int_equal(report->changed, 3);
	assert_int_equal(report->groups[0].count, 3);
	assert_int_equal(rollout_evaluations(&report->counts, ROLLOUT_CANDIDATE), 3 * 69 + 2 * 5);
	assert_true(rollout_look(d.control, 0, &row, &arena, &e));
	assert_memory_equal(row.salt, before.salt, sizeof(row.salt));
	assert_memory_equal(&row.gates, &before.gates, sizeof(row.gates));
	r = (struct rollout *)slot_acquire(&d.rig.core.rollouts);
	assert_memory_equal(r->salt, before.salt, sizeof(row.salt));
	assert_int_equal(r->candidate->generation, 1);
	shared_release(&r->shared);
	/* Old counts are not judged again. */
	assert_int_equal(after_ms(&d, 1000), 1);
	count(join(&d), 70, &permitted, &denied);
	assert_int_equal(after_ms(&d, 1000), 0);
	free(report);
	end(&d);
}

static uint64_t in_force(struct desk *d)
{
	struct policy_set *set = (struct policy_set *)slot_acquire(&d->rig.core.policies);
	uint64_t n = set ? set->generation : 0;

	shared_release(set ? &set->shared : NULL);
	return n;
}

/* Who may put something into force while one runs, and what becomes of it. */
static void the_set_in_force_stays_while_one_runs(void **state)
{
	struct generation_outcome out = { 0 };
	struct rollout_row row;
	struct desk d;
	struct err e = { 0 };

	(void)state;
	begin(&d);
	start(&d, ROLLOUT_SHADOW, (struct rollout_gates)NO_GATES);
	write_policy(&d, "third");
	d.control->config.watch = true;
	control_look(d.control, true);
	assert_int_equal(in_force(&d), 2); /* it waits */
	assert_false(generation_activate(d.control, 0, STR("x"), STR("0"), &out, &e));
	assert_string_equal(e.code, GENERATION_CONFLICT); /* and the roll-out goes on */
	assert_int_equal(rollouts_running(d.control), 1);
	assert_true(generation_activate(d.control, 0, STR("x"), STR(""), &out, &e));
	assert_int_equal(out.rollout, 1);
	assert_int_equal(out.number, 2);
	assert_false(out.changed || out.pinned);
	ended_as(&d, 1, ROLLOUT_ABORTED, "rollback");
	control_look(d.control, false);
	assert_int_equal(in_force(&d), 3); /* the folder's turn */
	start(&d, ROLLOUT_SHADOW, (struct rollout_gates)NO_GATES);
	write_policy(&d, "fourth");
	assert_true(rollout_promote(d.control, &(struct rollout_end){ .id = 2, .by = BY }, &row,
				    &arena, &e));
	assert_int_equal(row.state, ROLLOUT_PROMOTED);
	control_look(d.control, false);
	assert_int_equal(in_force(&d), 1); /* the folder's change is older */
	assert_false(rollout_promote(d.control, &(struct rollout_end){ .id = 2, .by = BY }, &row,
				     &arena, &e));
	assert_string_equal(e.code, "rollout_ended");
	end(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gates_are_judged_each_second_by_what_came_since),
		cmocka_unit_test(a_shadow_may_deny_but_not_fail),
		cmocka_unit_test(a_restart_carries_on),
		cmocka_unit_test(the_set_in_force_stays_while_one_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
