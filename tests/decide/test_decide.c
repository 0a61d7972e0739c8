/* decide(): who may ask about whom, what stops before the rules, and what stands in the record. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>

#include "tests/decide/rig.h"

static const char rules[] =
	"policy \"finance\" {\n"
	"  permit \"payments\" { on = { action = \"tools/call\", tool = \"payments/create\" },\n"
	"    when = function(q) return q.agent.team == \"finance\" end },\n"
	"  ask \"large\" { on = { action = \"tools/call\", tool = \"payments/create\" },\n"
	"    when = function(q) return q.args.amount > 500 end, message = \"Ask finance-leads.\" },\n"
	"  deny \"blocked\" { on = { action = \"tools/call\", tool = \"payments/create\" },\n"
	"    when = function(q) return q.args.to == \"blocked\" end, reason = \"blocked_payee\" },\n"
	"}\n";
static const char catalogue[] =
	"tool \"payments/create\" { effect = \"spend\", args = { amount = \"number\", to = \"string\" } }\n";

#define FIN "spiffe://test.example/agent/fin"
#define OPS "spiffe://test.example/agent/ops"
#define PEP "spiffe://test.example/mesh/gw"

#define PAY(type, id, amount, to)                                                                \
	"{\"subject\":{\"type\":\"" type "\",\"id\":\"" id "\"},"                                \
	"\"action\":{\"name\":\"tools/call\",\"properties\":{\"amount\":" amount ",\"to\":\"" to \
	"\"}},\"resource\":{\"type\":\"tool\",\"id\":\"payments/create\"}}"

static const struct {
	const char *why;
	const char *caller;
	unsigned roles;
	const char *request;
	enum decision decision;
	const char *reason, *rule;
} cases[] = {
	{ "an agent about itself", FIN, ROLE_AGENT, PAY("agent", FIN, "5", "x"), DECISION_PERMIT,
	  "permitted", "finance/payments" },
	{ "at the bound", FIN, ROLE_AGENT, PAY("agent", FIN, "500", "x"), DECISION_PERMIT,
	  "permitted", "finance/payments" },
	{ "past the bound", FIN, ROLE_AGENT, PAY("agent", FIN, "500.01", "x"), DECISION_ASK,
	  "approval_required", "finance/large" },
	{ "deny wins over ask", FIN, ROLE_AGENT, PAY("agent", FIN, "900", "blocked"), DECISION_DENY,
	  "blocked_payee", "finance/blocked" },
	{ "no rule for this team", OPS, ROLE_AGENT, PAY("agent", OPS, "5", "x"), DECISION_DENY,
	  "no_rule", "" },
	{ "an agent about another", OPS, ROLE_AGENT, PAY("agent", FIN, "5", "x"), DECISION_DENY,
	  "subject_mismatch", "" },
	{ "an agent behind a user", FIN, ROLE_AGENT, PAY("user", FIN, "5", "x"), DECISION_DENY,
	  "subject_mismatch", "" },
	{ "a PEP about an agent", PEP, ROLE_PEP, PAY("agent", FIN, "5", "x"), DECISION_PERMIT,
	  "permitted", "finance/payments" },
	{ "a PEP about a stranger", PEP, ROLE_PEP,
	  PAY("agent", "spiffe://test.example/agent/none", "5", "x"), DECISION_DENY,
	  "unknown_agent", "" },
	{ "a PEP about nobody's agent", PEP, ROLE_PEP, PAY("service", "cron", "5", "x"),
	  DECISION_DENY, "no_rule", "" },
	{ "a wrong argument", FIN, ROLE_AGENT, PAY("agent", FIN, "\"5\"", "x"), DECISION_DENY,
	  "invalid_arguments", "" },
	{ "both roles", FIN, ROLE_AGENT | ROLE_PEP, PAY("agent", OPS, "5", "x"), DECISION_DENY,
	  "no_rule", "" },
};

static void decides_the_table(void **state)
{
	struct rig r;

	(void)state;
	rig_start(&r, rules, catalogue);
	rig_agent(&r, FIN, "finance");
	rig_agent(&r, OPS, "ops");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t before = rig_size(&r);
		struct rig_answer got = rig_ask(&r, str_c(cases[i].caller), cases[i].roles,
						cases[i].request);
		const struct policy_result *result = &got.a.result;

		if (!got.done || !got.a.recorded || got.a.refused.class != ERR_NONE)
			fail_msg("%s: no recorded answer: %s", cases[i].why, got.a.refused.msg);
		if (result->decision != cases[i].decision ||
		    !str_eq(result->reason, str_c(cases[i].reason)) ||
		    !str_eq(result->rule, str_c(cases[i].rule)))
			fail_msg("%s: %d %.*s by %.*s (%.*s)", cases[i].why, (int)result->decision,
				 STR_FMT(result->reason), STR_FMT(result->rule),
				 STR_FMT(result->error));
		assert_int_equal(got.a.seq, before);
		assert_int_equal(rig_size(&r), before + 1);
	}
	rig_stop(&r);
}

static int answers;

static void count_answers(void *n, const struct recorded *r)
{
	(void)r;
	++*(int *)n;
}

/* Names that are no text must not turn a person's agent into nobody's request. */
static void an_agent_that_is_no_text_is_unknown(void **state)
{
	static const char list[] = "[\"" FIN "\"]";
	static const char *const agents[] = { "5", "null", list, "{}", "\"\"", "true" };
	char request[512];
	struct rig r;

	(void)state;
	rig_start(&r, rules, catalogue);
	rig_agent(&r, FIN, "finance");
	for (size_t i = 0; i < ARRAY_LEN(agents); i++) {
		struct rig_answer got;

		snprintf(request, sizeof(request),
			 "{\"subject\":{\"type\":\"user\",\"id\":\"alice\"},"
			 "\"action\":{\"name\":\"x\"},\"resource\":{\"type\":\"y\",\"id\":\"z\"},"
			 "\"context\":{\"agent\":%s}}",
			 agents[i]);
		got = rig_ask(&r, STR(PEP), ROLE_PEP, request);
		if (!got.a.recorded || !str_eq(got.a.result.reason, STR("unknown_agent")))
			fail_msg("%s: %.*s", agents[i], STR_FMT(got.a.result.reason));
	}
	rig_stop(&r);
}

static struct pending *a_record(struct rig *r)
{
	struct err e = { 0 };
	struct pending *p = pending_new(&r->worker, &e);

	assert_non_null(p);
	record_str(&p->job.record, STR("kind"), STR("request.refused"));
	return p;
}

/* Somebody waits until then, and nothing else may wake the loop. */
static void a_worker_knows_its_deadline(void **state)
{
	struct rig r;

	(void)state;
	rig_start(&r, rules, catalogue);
	assert_int_equal(worker_deadline(&r.worker), 0);
	pending_stage(a_record(&r), count_answers, &answers);
	assert_int_equal(worker_deadline(&r.worker), r.time.ns + r.core.decision_ns);
	r.time.ns += r.core.decision_ns;
	worker_turn_begin(&r.worker);
	assert_int_equal(answers, 1);
	assert_int_equal(worker_deadline(&r.worker), 0);
	while (r.worker.oldest && rig_pump(&r, 2000))
		;
	assert_int_equal(answers, 1);
	rig_stop(&r);
}

/* What nobody waits for goes along with what somebody does, a few at a time; and alone, when
 * nothing comes or has come for a while. */
static void the_patient_ride_with_others(void **state)
{
	enum { MANY = 11 };
	int patient = 0, hurried = 0;
	struct rig r;

	(void)state;
	rig_start(&r, rules, catalogue);
	r.time.ns += 1000000000;
	worker_turn_begin(&r.worker);
	pending_stage_patient(a_record(&r), count_answers, &patient);
	while (!patient) /* nothing has come for long: it does not wait */
		assert_true(rig_pump(&r, 10000));
	pending_stage(a_record(&r), count_answers, &hurried);
	while (!hurried)
		assert_true(rig_pump(&r, 10000));
	for (int i = 0; i < MANY; i++)
		pending_stage_patient(a_record(&r), count_answers, &patient);
	worker_turn_end(&r.worker);
	assert_int_equal(r.worker.patient.n, MANY);
	assert_in_range(worker_deadline(&r.worker), r.time.ns + 1, r.time.ns + 50000000);
	pending_stage(a_record(&r), count_answers, &hurried);
	worker_turn_end(&r.worker);
	assert_int_equal(r.worker.patient.n, MANY - 4);
	while (patient < 5 || hurried < 2)
		assert_true(rig_pump(&r, 10000));
	assert_int_equal(patient, 5);
	r.time.ns = worker_deadline(&r.worker);
	worker_turn_begin(&r.worker);
	while (patient < 1 + MANY)
		assert_true(rig_pump(&r, 10000));
	assert_int_equal(worker_deadline(&r.worker), 0);
	assert_int_equal(hurried, 2);
	rig_stop(&r);
}

static const char by_context[] =
	"{\"subject\":{\"type\":\"user\",\"id\":\"alice@test.example\"},"
	"\"action\":{\"name\":\"tools/call\",\"properties\":{\"amount\":5,\"to\":\"x\"}},"
	"\"resource\":{\"type\":\"tool\",\"id\":\"payments/create\"},\"context\":{\"agent\":\"" FIN
	"\"}}";

/* A turn that is longer than the deadline, of a slow policy say: what was committed meanwhile is on
 * record, though the worker looks at the time first. */
static void a_slow_turn_loses_no_record(void **state)
{
	struct rig_answer *got;
	struct chain back;
	struct rig r;

	(void)state;
	rig_start(&r, rules, catalogue);
	got = rig_ask_only(&r, STR(FIN), ROLE_PEP, by_context);
	worker_turn_end(&r.worker);
	assert_true(queue_wait(r.home.inbox, &back, 10000)); /* it is committed ... */
	queue_push_always(r.home.inbox, &back);		     /* ... and waits in the inbox */
	r.time.ns += r.core.decision_ns;
	worker_turn_begin(&r.worker);
	assert_true(got->done);
	assert_true(got->a.recorded);
	rig_stop(&r);
}

static void a_pep_names_the_agent_of_a_user(void **state)
{
	struct rig_answer got;
	const char *leaf;
	struct rig r;

	(void)state;
	rig_start(&r, rules, catalogue);
	rig_agent(&r, FIN, "finance");
	got = rig_ask(&r, STR(PEP), ROLE_PEP, by_context);
	assert_int_equal(got.a.result.decision, DECISION_PERMIT);
	leaf = rig_leaf(&r, got.a.seq);
	assert_non_null(strstr(leaf, "\"agent\":\"" FIN "\""));
	assert_non_null(strstr(leaf, "\"pep\":\"" PEP "\""));
	/* The person, the arguments, the team: foreign or personal, so not in the leaf. */
	assert_null(strstr(leaf, "alice"));
	assert_null(strstr(leaf, "amount"));
	assert_null(strstr(leaf, "team"));
	assert_non_null(strstr(leaf, "\"tool\":\"payments/create\""));
	assert_non_null(strstr(leaf, "\"generation\":7"));
	assert_non_null(strstr(leaf, "\"decision\":\"permit\""));
	assert_true(strlen(leaf) < 900 + 100);
	rig_stop(&r);
}

static void states_of_an_agent(void **state)
{
	static const struct {
		enum registry_verb verb;
		const char *reason;
	} steps[] = {
		{ REGISTRY_SUSPEND, "agent_suspended" },
		{ REGISTRY_RESUME, "permitted" },
		{ REGISTRY_RETIRE, "unknown_agent" },
	};
	struct rig r;

	(void)state;
	rig_start(&r, rules, catalogue);
	rig_agent(&r, FIN, "finance");
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		struct rig_answer got;

		rig_change(&r, FIN, steps[i].verb);
		got = rig_ask(&r, STR(PEP), ROLE_PEP, PAY("agent", FIN, "5", "x"));
		if (!str_eq(got.a.result.reason, str_c(steps[i].reason)))
			fail_msg("step %zu: %.*s", i, STR_FMT(got.a.result.reason));
		assert_true(got.a.recorded);
	}
	rig_stop(&r);
}

static void without_a_policy_everything_is_denied(void **state)
{
	struct rig_answer got;
	struct rig r;

	(void)state;
	rig_start(&r, NULL, NULL);
	rig_agent(&r, FIN, "finance");
	got = rig_ask(&r, STR(FIN), ROLE_AGENT, PAY("agent", FIN, "5", "x"));
	assert_int_equal(got.a.result.decision, DECISION_DENY);
	assert_true(str_eq(got.a.result.reason, STR("no_policy")));
	assert_true(got.a.recorded);
	rig_stop(&r);
}

static void refusals_of_known_callers_are_on_record(void **state)
{
	struct rig_answer got;
	uint64_t before;
	struct rig r;
	int n = 0;

	(void)state;
	rig_start(&r, rules, catalogue);
	rig_agent(&r, FIN, "finance");
	before = rig_size(&r);
	got = rig_ask(&r, STR("spiffe://test.example/audit/a"), ROLE_AUDITOR,
		      PAY("agent", FIN, "5", "x"));
	assert_int_equal(got.a.refused.class, ERR_FORBIDDEN);
	assert_int_equal(rig_size(&r), before + 1);
	assert_non_null(strstr(rig_leaf(&r, before), "\"kind\":\"request.refused\""));
	/* 400 at once, then no more. */
	do {
		got = rig_ask(&r, STR(FIN), ROLE_AGENT, PAY("agent", FIN, "5", "x"));
	} while (got.a.refused.class == ERR_NONE && ++n < 1000);
	assert_int_equal(n, 400);
	assert_int_equal(got.a.refused.class, ERR_RATE);
	assert_true(got.a.retry_ms >= 1);
	rig_stop(&r);
}

static void same_question_same_answer_and_digest(void **state)
{
	static const char shuffled[] =
		"{\"resource\":{\"id\":\"payments/create\",\"type\":\"tool\"},\"action\":{\"properties\":"
		"{\"to\":\"x\",\"amount\":5.0},\"name\":\"tools\\u002fcall\"},\"extra\":1,"
		"\"subject\":{\"id\":\"" FIN "\",\"type\":\"agent\"}}";
	struct rig_answer one, two;
	struct rig r;
	char digest[72];

	(void)state;
	rig_start(&r, rules, catalogue);
	rig_agent(&r, FIN, "finance");
	one = rig_ask(&r, STR(PEP), ROLE_PEP, PAY("agent", FIN, "5", "x"));
	snprintf(digest, sizeof(digest), "%s", one.a.digest);
	assert_memory_equal(digest, "sha256:", 7);
	two = rig_ask(&r, STR(PEP), ROLE_PEP, shuffled);
	assert_string_equal(two.a.digest, digest);
	assert_int_equal(two.a.result.decision, DECISION_PERMIT);
	assert_int_equal(two.a.seq, one.a.seq + 1);
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decides_the_table),
		cmocka_unit_test(an_agent_that_is_no_text_is_unknown),
		cmocka_unit_test(a_worker_knows_its_deadline),
		cmocka_unit_test(the_patient_ride_with_others),
		cmocka_unit_test(a_slow_turn_loses_no_record),
		cmocka_unit_test(a_pep_names_the_agent_of_a_user),
		cmocka_unit_test(states_of_an_agent),
		cmocka_unit_test(without_a_policy_everything_is_denied),
		cmocka_unit_test(refusals_of_known_callers_are_on_record),
		cmocka_unit_test(same_question_same_answer_and_digest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
