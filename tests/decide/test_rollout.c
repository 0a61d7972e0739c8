/* Roll-outs where they touch decisions: both sets, whole agents, one generation for a batch; gates
 * and sums as tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>

#include "authz/decide/rollout_run.h"
#include "tests/decide/rig.h"

#define AGENT "spiffe://test.example/agent/1"
#define PEP STR("spiffe://test.example/pep")

static const char catalogue[] = "tool 'ledger/query' { effect = 'read' }\n";
static const char base[] = "policy 'p' { permit 'read' { on = { action = 'tools/call' } } }\n";
static const char closed[] =
	"policy 'p' { deny 'closed' { on = { action = 'tools/call' }, obligations = { { type = 'custom', id = 'z', properties = { b = 1 } } }, "
	"message = 'All is closed.' } }\n";
static const char broken[] =
	"policy 'p' { permit 'read' { on = { action = 'tools/call' }, when = function(q) return "
	"q.args.a.b == 1 end } }\n";
static const char request[] = "{\"subject\":{\"type\":\"agent\",\"id\":\"" AGENT
			      "\"},\"action\":{\"name\":\"tools/call\"},\"resource\":{\"type\":"
			      "\"tool\",\"id\":\"ledger/query\"}}";

static struct policy_set *load(const char *source, uint64_t generation)
{
	struct policy_file files[] = { { STR_INIT("catalogue/tools.lua"), str_c(catalogue) },
				       { STR_INIT("rules.lua"), str_c(source) } };
	struct policy_sources s;
	struct policy_set *set = NULL;
	struct err e = { 0 };

	if (!policy_sources_from(&s, files, 2, &e) ||
	    !policy_set_load(&s, &policy_default_limits, &set, NULL, &e)) {
		fail_msg("policies: %s", e.msg);
		return NULL;
	}
	policy_sources_clear(&s);
	set->generation = generation;
	return set;
}

static struct rollout *publish(struct rig *rig, enum rollout_kind kind, unsigned percent,
			       const char *source)
{
	struct rollout *r = rollout_new(load(source, 9), NULL);

	assert_non_null(r);
	r->id = 3;
	r->kind = kind;
	r->base = 7;
	r->percent = percent;
	shared_acquire(&r->shared);
	slot_publish(&rig->core.rollouts, &r->shared);
	return r;
}

static void has(struct rig *rig, uint64_t seq, const char *text, bool wanted)
{
	const char *leaf = rig_leaf(rig, seq);

	if (!!strstr(leaf, text) != wanted)
		fail_msg("%s %s in %s", wanted ? "no" : "unexpected", text, leaf);
}

static void a_shadow_is_recorded_and_changes_nothing(void **state)
{
	struct rig rig;
	struct rollout *r;
	struct rollout_report *report = calloc(1, sizeof(*report));
	struct rig_answer a;

	(void)state;
	assert_non_null(report);
	rig_start(&rig, base, catalogue);
	rig_agent(&rig, AGENT, "x");
	a = rig_ask(&rig, PEP, ROLE_PEP, request);
	has(&rig, a.a.seq, "shadow_", false);
	has(&rig, a.a.seq, "\"rollout\"", false);
	r = publish(&rig, ROLLOUT_SHADOW, 0, closed);
	a = rig_ask(&rig, PEP, ROLE_PEP, request);
	assert_int_equal(a.a.result.decision, DECISION_PERMIT);
	assert_int_equal(a.a.generation, 7);
	assert_int_equal(a.a.result.obligations.n, 0);
	has(&rig, a.a.seq, "\"decision\":\"permit\"", true);
	has(&rig, a.a.seq, "\"generation\":7", true);
	has(&rig, a.a.seq,
	    "\"reason\":\"permitted\",\"rollout\":3,\"rule\":\"p/read\",\"seq\":", true);
	has(&rig, a.a.seq,
	    "\"shadow_decision\":\"deny\",\"shadow_generation\":9,\"shadow_reason\":\"denied\","
	    "\"shadow_rule\":\"p/closed\"",
	    true);
	has(&rig, a.a.seq, "answer_commit", false);
	assert_true(strlen(rig_leaf(&rig, a.a.seq)) < 900);
	rollout_total(r, report);
	assert_int_equal(report->changed, 1);
	assert_int_equal(report->ngroups, 1);
	assert_int_equal(report->groups[0].samples[0], a.a.seq);
	assert_string_equal(report->groups[0].was.rule, "p/read");
	assert_string_equal(report->groups[0].is.rule, "p/closed");
	assert_int_equal(report->counts.sides[ROLLOUT_BASE].decisions[DECISION_PERMIT], 1);
	assert_int_equal(report->counts.sides[ROLLOUT_CANDIDATE].decisions[DECISION_DENY], 1);
	/* What the policies are not asked is no part of a roll-out. */
	a = rig_ask(&rig, PEP, ROLE_PEP,
		    "{\"subject\":{\"type\":\"agent\",\"id\":\"spiffe://test.example/nobody\"},"
		    "\"action\":{\"name\":\"tools/call\"},\"resource\":{\"type\":\"tool\",\"id\":"
		    "\"ledger/query\"}}");
	has(&rig, a.a.seq, "shadow_", false);
	slot_publish(&rig.core.rollouts, NULL);
	a = rig_ask(&rig, PEP, ROLE_PEP, request);
	has(&rig, a.a.seq, "shadow_", false);
	shared_release(&r->shared);
	free(report);
	rig_stop(&rig);
}

static void a_canary_decides_and_the_set_in_force_is_beside_it(void **state)
{
	struct rig rig;
	struct rollout *r;
	struct rig_answer a;

	(void)state;
	rig_start(&rig, base, catalogue);
	rig_agent(&rig, AGENT, "x");
	r = publish(&rig, ROLLOUT_CANARY, 100, closed);
	a = rig_ask(&rig, PEP, ROLE_PEP, request);
	assert_int_equal(a.a.result.decision, DECISION_DENY);
	assert_int_equal(a.a.generation, 9);
	has(&rig, a.a.seq, "\"generation\":9", true);
	has(&rig, a.a.seq,
	    "\"shadow_decision\":\"permit\",\"shadow_generation\":7,\"shadow_reason\":\"permitted\","
	    "\"shadow_rule\":\"p/read\"",
	    true);
	/* Who is no agent is never in it. */
	a = rig_ask(&rig, PEP, ROLE_PEP,
		    "{\"subject\":{\"type\":\"service\",\"id\":\"x\"},\"action\":{\"name\":"
		    "\"tools/call\"},\"resource\":{\"type\":\"tool\",\"id\":\"ledger/query\"}}");
	assert_int_equal(a.a.generation, 7);
	assert_int_equal(a.a.result.decision, DECISION_PERMIT);
	has(&rig, a.a.seq, "rollout", false);
	shared_release(&r->shared);
	rig_stop(&rig);
}

static void errors_of_a_candidate_are_counted_and_stay_beside(void **state)
{
	struct rig rig;
	struct rollout *r;
	struct rollout_counts c;
	struct rig_answer a;

	(void)state;
	rig_start(&rig, base, catalogue);
	rig_agent(&rig, AGENT, "x");
	r = publish(&rig, ROLLOUT_SHADOW, 0, broken);
	a = rig_ask(&rig, PEP, ROLE_PEP, request);
	assert_int_equal(a.a.result.decision, DECISION_PERMIT);
	assert_int_equal(a.a.result.error.n, 0);
	has(&rig, a.a.seq, "\"shadow_reason\":\"policy_error\"", true);
	rollout_total_counts(r, &c);
	assert_int_equal(c.sides[ROLLOUT_CANDIDATE].errors, 1);
	assert_int_equal(c.sides[ROLLOUT_BASE].errors, 0);
	shared_release(&r->shared);
	rig_stop(&rig);
}

/* A roll-out that has ended lives on for the decisions that wait for their records. */
static void a_rollout_may_end_while_records_wait(void **state)
{
	struct rig rig;
	struct rig_answer *a;
	struct rollout *r;

	(void)state;
	rig_start(&rig, base, catalogue);
	rig_agent(&rig, AGENT, "x");
	r = publish(&rig, ROLLOUT_SHADOW, 0, closed);
	a = rig_ask_only(&rig, PEP, ROLE_PEP, request);
	shared_release(&r->shared);
	slot_publish(&rig.core.rollouts, NULL);
	worker_turn_begin(&rig.worker);
	while (!a->done && rig_pump(&rig, 5000))
		;
	assert_true(a->done && a->a.recorded);
	rig_stop(&rig);
}

static void whole_agents_by_a_salted_hash(void **state)
{
	struct rollout r = { .kind = ROLLOUT_CANARY, .percent = 20 };
	struct sha256 *sha = sha256_new(NULL);
	unsigned picked = 0, others = 0, both = 0;
	char id[80];

	(void)state;
	for (int i = 0; i < 10000; i++) {
		int n = snprintf(id, sizeof(id), "spiffe://test.example/agent/%d", i);
		struct str agent = { id, (size_t)n };
		bool first, second;

		r.salt[0] = 1;
		first = rollout_picks(&r, agent, sha);
		assert_int_equal(rollout_picks(&r, agent, sha), first);
		r.salt[0] = 2;
		second = rollout_picks(&r, agent, sha);
		picked += first;
		others += second;
		both += first && second;
	}
	/* 2,000 with a deviation of 40; both by chance: 400 with one of 20. */
	assert_in_range(picked, 1800, 2200);
	assert_in_range(others, 1800, 2200);
	assert_in_range(both, 300, 500);
	r.percent = 100;
	assert_true(rollout_picks(&r, STR("a"), sha));
	assert_false(rollout_picks(&r, STR(""), sha));
	r.kind = ROLLOUT_SHADOW;
	assert_false(rollout_picks(&r, STR("a"), sha));
	sha256_free(sha);
}

static const struct {
	const char *why;
	struct rollout_gates g;
	uint64_t base[3], candidate[3], errors; /* deny, ask, permit */
	int64_t ns;				/* of each evaluation of the candidate */
	const char *trips;			/* NULL: none; "": too few to judge */
} gates[] = {
	{ "too few", { 0, 0, 0, 0, 100 }, { 0 }, { 99, 0, 0 }, 99, 1000, "" },
	{ "none set", { -1, -1, -1, -1, 1 }, { 0, 0, 9 }, { 9, 0, 0 }, 9, 9000000, NULL },
	{ "denials over",
	  { 500000, -1, -1, -1, 10 },
	  { 0, 0, 10 },
	  { 6, 0, 4 },
	  0,
	  0,
	  "max_deny_rate" },
	{ "denials at the bound",
	  { 500000, -1, -1, -1, 10 },
	  { 0, 0, 10 },
	  { 5, 0, 5 },
	  0,
	  0,
	  NULL },
	{ "an ask is no denial", { 0, 0, -1, -1, 10 }, { 0, 0, 10 }, { 0, 10, 0 }, 0, 0, NULL },
	{ "more denials than before",
	  { -1, 100000, -1, -1, 10 },
	  { 60, 0, 40 },
	  { 71, 0, 29 },
	  0,
	  0,
	  "max_deny_increase" },
	{ "as many as before", { -1, 0, -1, -1, 10 }, { 60, 0, 40 }, { 60, 0, 40 }, 0, 0, NULL },
	{ "fewer than before", { -1, 0, -1, -1, 10 }, { 60, 0, 40 }, { 6, 0, 94 }, 0, 0, NULL },
	{ "errors",
	  { -1, -1, 10000, -1, 100 },
	  { 0, 0, 100 },
	  { 2, 0, 98 },
	  2,
	  0,
	  "max_error_rate" },
	{ "one error in a hundred",
	  { -1, -1, 10000, -1, 100 },
	  { 0, 0, 100 },
	  { 1, 0, 99 },
	  1,
	  0,
	  NULL },
	{ "slow", { -1, -1, -1, 1000, 10 }, { 0, 0, 10 }, { 0, 0, 10 }, 0, 2000000, "max_p99_us" },
	{ "fast enough", { -1, -1, -1, 1000, 10 }, { 0, 0, 10 }, { 0, 0, 10 }, 0, 700000, NULL },
};

static void gates_trip_by_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(gates); i++) {
		struct rollout_counts c = { 0 };
		char why[200] = "";
		const char *trips;

		memcpy(c.sides[ROLLOUT_BASE].decisions, gates[i].base, sizeof(gates[i].base));
		memcpy(c.sides[ROLLOUT_CANDIDATE].decisions, gates[i].candidate,
		       sizeof(gates[i].candidate));
		c.sides[ROLLOUT_CANDIDATE].errors = gates[i].errors;
		c.sides[ROLLOUT_CANDIDATE].buckets[rollout_bucket(gates[i].ns)] =
			rollout_evaluations(&c, ROLLOUT_CANDIDATE);
		trips = rollout_judgeable(&gates[i].g, &c) ? rollout_tripped(&gates[i].g, &c, why)
							   : "";
		if ((trips != NULL) != (gates[i].trips != NULL) ||
		    (trips && strcmp(trips, gates[i].trips) != 0))
			fail_msg("%s: %s (%s)", gates[i].why, trips ? trips : "none", why);
	}
}

static void times_go_into_buckets_that_hold_them(void **state)
{
	struct rollout_counts c = { 0 };

	(void)state;
	for (int64_t ns = 1; ns < 14000000; ns += 1 + ns / 50) {
		size_t i = rollout_bucket(ns);

		assert_true(ns < rollout_bucket_ns(i));
		assert_true(!i || ns >= rollout_bucket_ns(i - 1));
	}
	assert_int_equal(rollout_bucket(INT64_MAX), ROLLOUT_BUCKETS - 1);
	assert_int_equal(rollout_bucket(-1), 0);
	assert_int_equal(rollout_p99_us(&c, ROLLOUT_CANDIDATE), 0);
	c.sides[ROLLOUT_CANDIDATE].buckets[0] = 99;
	c.sides[ROLLOUT_CANDIDATE].buckets[rollout_bucket(1000000)] = 1;
	assert_int_equal(rollout_p99_us(&c, ROLLOUT_CANDIDATE), 1);
	c.sides[ROLLOUT_CANDIDATE].buckets[0] = 98;
	assert_in_range(rollout_p99_us(&c, ROLLOUT_CANDIDATE), 1000, 1250);
}

static void change(struct rollout_tally *t, unsigned n, uint64_t seq)
{
	struct policy_result was = { .decision = DECISION_PERMIT,
				     .reason = STR("permitted"),
				     .rule = STR("p/read") },
			     is = { .decision = DECISION_DENY, .reason = STR("denied") };
	char rule[300];

	is.rule = (struct str){ rule, (size_t)snprintf(rule, sizeof(rule), "p/\xc3\xa9%0*u",
						       n % 2 ? 250 : 3, n) };
	rollout_changed(t, &was, &is, seq);
}

static void kinds_and_samples_are_bounded_and_kept(void **state)
{
	struct rollout *r = rollout_new(load(base, 9), NULL), *again;
	struct rollout_report *one = calloc(1, sizeof(*one)), *two = calloc(1, sizeof(*two));
	struct rollout_tally *t, *other;
	struct buf b;

	(void)state;
	assert_true(r && one && two);
	t = rollout_join(r);
	other = rollout_join(r);
	assert_true(t && other);
	for (unsigned i = 0; i < 20; i++)
		change(t, 0, 100 + i);
	change(other, 0, 200);
	for (unsigned i = 1; i < 2 * ROLLOUT_GROUPS + 40; i += 2) /* their names are cut to one */
		change(t, i, 300 + i);
	for (unsigned i = 2; i < 2 * ROLLOUT_GROUPS + 40; i += 2)
		change(t, i, 300 + i);
	rollout_total(r, one);
	assert_int_equal(one->ngroups, ROLLOUT_GROUPS);
	assert_int_equal(one->changed, 21 + 84 + 83);
	assert_true(one->ungrouped > 0);
	for (size_t i = 0; i < one->ngroups; i++)
		if (!strcmp(one->groups[i].is.rule, "p/\xc3\xa9"
						    "000")) {
			assert_int_equal(one->groups[i].count, 21);
			assert_int_equal(one->groups[i].nsamples, ROLLOUT_SAMPLES);
		}
	/* Written and read it is the same, and goes on from there. */
	buf_init(&b, mem_system, LIMIT_BODY);
	rollout_report_write(&b, one);
	assert_true(buf_ok(&b));
	assert_true(rollout_report_read(buf_str(&b), two));
	assert_memory_equal(one, two, sizeof(*one));
	again = rollout_new(load(base, 9), two);
	assert_non_null(again);
	change(rollout_join(again), 0, 999);
	memset(one, 0, sizeof(*one));
	rollout_total(again, one);
	assert_int_equal(one->changed, 21 + 84 + 83 + 1);
	assert_int_equal(rollout_total_changed(again), one->changed);
	buf_reset(&b);
	for (size_t n = 0; n < 3; n++)
		assert_false(
			rollout_report_read(n ? n > 1 ? STR("{\"sides\":[]}") : STR("[]") : STR(""),
					    one));
	assert_int_equal(one->changed, 0);
	buf_clear(&b);
	shared_release(&r->shared);
	shared_release(&again->shared);
	free(one);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_shadow_is_recorded_and_changes_nothing),
		cmocka_unit_test(a_canary_decides_and_the_set_in_force_is_beside_it),
		cmocka_unit_test(errors_of_a_candidate_are_counted_and_stay_beside),
		cmocka_unit_test(a_rollout_may_end_while_records_wait),
		cmocka_unit_test(whole_agents_by_a_salted_hash),
		cmocka_unit_test(gates_trip_by_the_table),
		cmocka_unit_test(times_go_into_buckets_that_hold_them),
		cmocka_unit_test(kinds_and_samples_are_bounded_and_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
