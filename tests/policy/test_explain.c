/* explain: which rules were looked at, what each said, and where it stands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>

#include "authz/policy/explain.h"
#include "tests/policy/policy_help.h"

static const char rules[] =
	"policy \"finance\" {\n"
	"  permit \"payments\" {\n"
	"    on = { action = \"tools/call\", tool = \"payments/create\" },\n"
	"    when = function(q) return q.agent.team == \"finance\" end },\n"
	"  ask \"large\" { on = { action = \"tools/call\", tool = { effect = { \"spend\", \"send\" } } },\n"
	"    when = function(q) return q.args.amount > 500 end },\n"
	"  deny \"fraud\" { on = { tool = \"payments/create\", agent = { team = \"finance\" } },\n"
	"    when = function(q) return q.args.to == \"thief\" end },\n"
	"  deny \"broken\" { on = { tool = \"ledger/query\" },\n"
	"    when = function(q)\n"
	"      return q.args.x.y end },\n"
	"  permit \"read\" { on = { tool = \"ledger/query\" } },\n"
	"}\n";

#define PAY(team, amount, to)                                                          \
	"{\"subject\":{\"type\":\"agent\",\"id\":\"spiffe://e/a\"},\"agent\":{\"id\":" \
	"\"spiffe://e/a\",\"team\":\"" team "\"},\"action\":{\"name\":\"tools/call\"," \
	"\"properties\":{\"amount\":" amount ",\"to\":\"" to "\"}},"                   \
	"\"resource\":{\"type\":\"tool\",\"id\":\"payments/create\"}}"
#define CALL(tool)                                                                     \
	"{\"subject\":{\"type\":\"agent\",\"id\":\"spiffe://e/a\"},\"agent\":{\"id\":" \
	"\"spiffe://e/a\",\"team\":\"finance\"},\"action\":{\"name\":\"tools/call\"}," \
	"\"resource\":{\"type\":\"tool\",\"id\":\"" tool "\"}}"

/* One line of a trace: "rule when", those that apply, in order; '*' before the one that decides. */
static const struct {
	const char *why, *request, *answer, *trace;
} cases[] = {
	{ "a permit", PAY("finance", "5", "x"), "permit permitted finance/payments",
	  "finance/fraud false; finance/large false; *finance/payments true; " },
	{ "an ask above a permit", PAY("finance", "501", "x"),
	  "ask approval_required finance/large",
	  "finance/fraud false; *finance/large true; finance/payments true; " },
	{ "a deny above all", PAY("finance", "501", "thief"), "deny denied finance/fraud",
	  "*finance/fraud true; finance/large true; finance/payments true; " },
	{ "an attribute that is not met", PAY("ops", "5", "thief"), "deny no_rule",
	  "finance/large false; finance/payments false; " },
	{ "an error, and what the others would have said", CALL("ledger/query"),
	  "deny policy_error finance/broken", "*finance/broken error; finance/read none; " },
	{ "refused before the rules", CALL("no/such"), "deny unknown_tool", "" },
};

static void explains_the_table(void **state)
{
	struct policy_set *set = policy_help_rules(rules);
	struct err e = { 0 };
	struct policy_state *st = policy_state_new(set, &mem_system, &clock_system, &e);
	struct arena a;

	(void)state;
	assert_non_null(st);
	arena_init(&a, &mem_system, (size_t)16 * 1024 * 1024);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct policy_request q;
		struct policy_trace t;
		char said[512] = "";
		size_t n = 0;

		arena_reset(&a);
		policy_help_request(cases[i].request, &a, &q);
		if (!policy_explain(st, &q, &a, &t, &e))
			fail_msg("%s: %s", cases[i].why, e.msg);
		for (size_t k = 0; k < t.napply; k++)
			n += (size_t)snprintf(said + n, sizeof(said) - n, "%s%.*s %s; ",
					      t.rules[k].decides ? "*" : "",
					      STR_FMT(t.rules[k].rule),
					      trace_when_names[t.rules[k].when]);
		if (strcmp(said, cases[i].trace) != 0)
			fail_msg("%s: %s", cases[i].why, said);
		assert_string_equal(policy_help_text(&t.result, &a), cases[i].answer);
		assert_int_equal(t.n, 5);
		assert_int_equal(t.reached, i != ARRAY_LEN(cases) - 1);
	}
	arena_clear(&a);
	policy_state_free(st);
	shared_release(&set->shared);
}

static const struct trace_rule *find(const struct policy_trace *t, const char *rule)
{
	for (size_t i = 0; i < t->n; i++)
		if (str_eq(t->rules[i].rule, str_c(rule)))
			return &t->rules[i];
	fail_msg("%s is not in the trace", rule);
	return NULL;
}

static void names_file_line_and_conditions(void **state)
{
	struct policy_set *set = policy_help_rules(rules);
	struct err e = { 0 };
	struct policy_state *st = policy_state_new(set, &mem_system, &clock_system, &e);
	const struct trace_rule *r;
	struct policy_request q;
	struct policy_trace t;
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, (size_t)16 * 1024 * 1024);
	policy_help_request(PAY("ops", "5", "x"), &a, &q);
	assert_true(policy_explain(st, &q, &a, &t, &e));
	r = find(&t, "finance/fraud");
	assert_false(r->applies);
	assert_int_equal(r->when, TRACE_NOT_ASKED);
	assert_int_equal(r->line, 7);
	assert_true(str_eq(r->file, STR("rules.lua")));
	assert_int_equal(r->nconditions, 2);
	for (size_t i = 0; i < r->nconditions; i++)
		assert_int_equal(r->conditions[i].met,
				 str_eq(r->conditions[i].text, STR("tool.id = payments/create")));
	r = find(&t, "finance/large");
	assert_true(str_eq(r->conditions[1].text, STR("tool.effect = spend or send")));
	/* The error of a `when` says where in it. */
	policy_help_request(CALL("ledger/query"), &a, &q);
	assert_true(policy_explain(st, &q, &a, &t, &e));
	r = find(&t, "finance/broken");
	assert_non_null(strstr(r->error.p, "rules.lua:11"));
	arena_clear(&a);
	policy_state_free(st);
	shared_release(&set->shared);
}

/* A `when` that trips the budget poisons its state; the rules after it are explained all the same.
 */
static void a_trip_does_not_end_the_trace(void **state)
{
	struct policy_set *set = policy_help_rules(
		"policy \"p\" {\n"
		"  deny \"a\" { on = { tool = \"ledger/query\" },\n"
		"    when = function(q) while true do end end },\n"
		"  permit \"b\" { on = { tool = \"ledger/query\" },\n"
		"    when = function(q) return q.agent.team == \"finance\" end },\n"
		"}\n");
	struct err e = { 0 };
	struct policy_state *st = policy_state_new(set, &mem_system, &clock_system, &e);
	struct policy_request q;
	struct policy_trace t;
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, (size_t)16 * 1024 * 1024);
	policy_help_request(CALL("ledger/query"), &a, &q);
	assert_true(policy_explain(st, &q, &a, &t, &e));
	assert_string_equal(policy_help_text(&t.result, &a), "deny policy_budget p/a");
	assert_int_equal(find(&t, "p/a")->when, TRACE_ERROR);
	assert_int_equal(find(&t, "p/b")->when, TRACE_TRUE);
	arena_clear(&a);
	policy_state_free(st);
	shared_release(&set->shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(explains_the_table),
		cmocka_unit_test(names_file_line_and_conditions),
		cmocka_unit_test(a_trip_does_not_end_the_trace),
	};

	return cmocka_run_group_tests_name("explain", tests, NULL, NULL);
}
