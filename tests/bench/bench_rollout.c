/* bench_rollout: what a shadow costs. One decision from its JSON text to its staged record, with
 * the policies alone and with a shadow of the same size beside them, in turn in one run; the disk
 * is left out, as it is the same for both. Values of one run compare. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the standard headers first: the rig is a test's */
#include <cmocka.h>

#include "tests/decide/rig.h"

#define ROUNDS 61
#define DECISIONS 100 /* each waits for the disk, off the clock */
#define AGENT "spiffe://test.example/ns/fin/agent/a1"

static const char request[] =
	"{\"subject\":{\"type\":\"agent\",\"id\":\"" AGENT "\"},"
	"\"action\":{\"name\":\"tools/call\",\"properties\":{\"amount\":120.5,\"currency\":\"EUR\","
	"\"to\":\"DE89370400440532013000\",\"reference\":\"invoice 2026-0311\",\"urgent\":false}},"
	"\"resource\":{\"type\":\"tool\",\"id\":\"payments/create\",\"properties\":{\"server\":"
	"\"payments\",\"version\":\"2.4.1\",\"region\":\"eu-central-1\"}},"
	"\"context\":{\"session\":\"0f8fad5b-d9cb-469f-a165-70867728950e\",\"client\":{\"name\":"
	"\"assistant\",\"version\":\"1.19\",\"ip\":\"10.20.30.40\"},\"trace\":"
	"\"4bf92f3577b34da6a3ce929d0e0e4736\",\"tags\":[\"batch\",\"nightly\",\"eu\"],\"attempt\":1}}";

static const char catalogue[] =
	"tool 'payments/create' { effect = 'spend', args = { amount = 'number', currency = "
	"'string', to = 'string', reference = 'string?', urgent = 'boolean?' } }\n";

#define FOUR(limit)                                                                                \
	"policy 'finance' {\n"                                                                     \
	" deny 'not at night' { on = { tool = 'payments/create' }, when = function(q) return not " \
	"time.between(q.now, '06:00', '22:00', 'Europe/Berlin') and q.args.amount < 0 end },\n"    \
	" ask 'over' { on = { tool = 'payments/create' }, when = function(q) return "              \
	"q.args.amount > " limit " end },\n"                                                       \
	" permit 'payments' { on = { tool = 'payments/create' }, when = function(q) return "       \
	"q.agent.team == 'finance' end },\n"                                                       \
	" permit 'office' { on = { tool = 'payments/create' }, when = function(q) return "         \
	"str.starts_with(q.context.client.ip, '10.') and q.resource.properties.region == "         \
	"'eu-central-1' end },\n"                                                                  \
	"}\n"

static struct rollout *shadow(void)
{
	struct policy_file files[] = { { STR_INIT("catalogue/tools.lua"), str_c(catalogue) },
				       { STR_INIT("rules.lua"), STR_INIT(FOUR("400")) } };
	struct policy_sources s;
	struct policy_set *set = NULL;
	struct rollout *r;
	struct err e = { 0 };

	if (!policy_sources_from(&s, files, 2, &e) ||
	    !policy_set_load(&s, &policy_default_limits, &set, NULL, &e)) {
		fprintf(stderr, "policies: %s\n", e.msg);
		exit(1);
	}
	policy_sources_clear(&s);
	set->generation = 9;
	r = rollout_new(set, NULL);
	if (!r)
		exit(1);
	r->id = 1;
	r->base = 8;
	return r;
}

/* Nanoseconds of one decision, of @n of them; each waits for its record off the clock. */
static int64_t measure(struct rig *rig, int n)
{
	int64_t spent = 0;

	for (int i = 0; i < n; i++) {
		int64_t t = clock_mono_ns(&clock_system);
		struct rig_answer *a = rig_ask_only(rig, STR("spiffe://test.example/gateway"),
						    ROLE_PEP, request);

		spent += clock_mono_ns(&clock_system) - t;
		while (!a->done && rig_pump(rig, 5000))
			;
		if (!a->a.recorded || a->a.result.decision != DECISION_PERMIT) {
			fprintf(stderr, "decision: %.*s\n", STR_FMT(a->a.result.reason));
			exit(1);
		}
	}
	return spent / n;
}

/* Nanoseconds of one evaluation alone: what a shadow has to do once more. */
static int64_t measure_evaluation(struct rig *rig)
{
	static const struct policy_attribute team = { STR_INIT("team"), STR_INIT("finance") };
	struct policy_request q = { .pep = STR("spiffe://test.example/gateway"),
				    .agent_id = STR(AGENT),
				    .agent_owner = STR("ops@test.example"),
				    .agent_state = STR("active"),
				    .attributes = &team,
				    .nattributes = 1,
				    .now_ms = clock_wall_ms(&clock_system) };
	const struct json *v = NULL;
	struct policy_result out;
	struct arena input, a;
	int64_t t, best = INT64_MAX;

	arena_init(&input, &mem_system, 1 << 20);
	arena_init(&a, &mem_system, 1 << 20);
	if (!json_parse(arena_dup(&input, str_c(request)), &json_default_limits, &input, &v, NULL))
		exit(1);
	q.subject = json_get(v, STR("subject"));
	q.action = json_get(v, STR("action"));
	q.resource = json_get(v, STR("resource"));
	q.context = json_get(v, STR("context"));
	for (int round = 0; round < ROUNDS; round++) {
		t = clock_mono_ns(&clock_system);
		for (int i = 0; i < DECISIONS; i++) {
			arena_reset(&a);
			policy_evaluate(rig->worker.state, &q, &a, &out);
		}
		t = (clock_mono_ns(&clock_system) - t) / DECISIONS;
		best = t < best ? t : best;
	}
	arena_clear(&a);
	arena_clear(&input);
	return best;
}

static void bench(void **state)
{
	struct rig rig;
	struct rollout *r = shadow();
	int64_t alone = INT64_MAX, both = INT64_MAX, evaluation;

	(void)state;
	rig_start(&rig, FOUR("500"), catalogue);
	rig.core.clock = &clock_system; /* its reading is a part of the cost */
	rig_policies(&rig, FOUR("500"), catalogue, 8);
	rig_agent(&rig, AGENT, "finance");
	for (int i = 0; i < ROUNDS; i++) {
		int64_t t;

		slot_publish(&rig.core.rollouts, NULL);
		t = measure(&rig, DECISIONS);
		alone = t < alone ? t : alone;
		shared_acquire(&r->shared);
		slot_publish(&rig.core.rollouts, &r->shared);
		t = measure(&rig, DECISIONS);
		both = t < both ? t : both;
	}
	evaluation = measure_evaluation(&rig);
	printf("%-44s %8lld ns\n", "one evaluation", (long long)evaluation);
	printf("%-44s %8lld ns\n", "decision to staged record", (long long)alone);
	printf("%-44s %8lld ns\n", "the same beside a shadow", (long long)both);
	printf("shadow_decision_ratio %.2f\n", (double)both / (double)alone);
	printf("shadow_evaluation_ratio %.2f\n", (double)(both - alone) / (double)evaluation);
	shared_release(&r->shared);
	rig_stop(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(bench) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
