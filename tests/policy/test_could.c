/* could: what the rules could say before there is a request, held against what they do say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>

#include "authz/policy/could.h"
#include "tests/policy/policy_help.h"

#define ON "on = { tool = \"ledger/query\" }"
#define WHEN ", when = function(q) return q.now > 0 end"

static const struct {
	const char *why, *rules;
	const char *could; /* of the agent "fin", team finance, and ledger/query */
	size_t n;
} cases[] = {
	{ "no rule", "", "no", 0 },
	{ "a rule of another tool", "permit \"a\" { on = { tool = \"payments/create\" } }", "no",
	  0 },
	{ "a permit", "permit \"a\" { " ON " }", "permit", 1 },
	{ "a permit with when", "permit \"a\" { " ON WHEN " }", "depends", 1 },
	{ "an ask", "ask \"a\" { " ON " }", "ask", 1 },
	{ "an ask with when", "ask \"a\" { " ON WHEN " }", "depends", 1 },
	{ "a permit, and an ask with when", "permit \"a\" { " ON " }, ask \"b\" { " ON WHEN " }",
	  "depends", 2 },
	{ "a permit with when, and an ask", "permit \"a\" { " ON WHEN " }, ask \"b\" { " ON " }",
	  "ask", 2 },
	{ "one permit of two has a when", "permit \"a\" { " ON WHEN " }, permit \"b\" { " ON " }",
	  "permit", 2 },
	{ "a deny beats all",
	  "permit \"a\" { " ON " }, ask \"b\" { " ON " }, deny \"c\" { " ON " }", "no", 3 },
	{ "a deny with when", "permit \"a\" { " ON " }, deny \"c\" { " ON WHEN " }", "depends", 2 },
	{ "a deny with when above an ask", "ask \"a\" { " ON " }, deny \"c\" { " ON WHEN " }",
	  "depends", 2 },
	{ "a deny alone", "deny \"c\" { " ON WHEN " }", "no", 1 },
	{ "the agent's attribute",
	  "permit \"a\" { on = { tool = \"ledger/query\", agent = { team = \"finance\" } } }",
	  "permit", 1 },
	{ "another team",
	  "permit \"a\" { on = { tool = \"ledger/query\", agent = { team = \"ops\" } } }", "no",
	  0 },
	{ "the agent's id",
	  "permit \"a\" { on = { subject = \"spiffe://e/fin\", effect = \"read\" } }", "permit",
	  1 },
	{ "a pattern", "permit \"a\" { on = { subject = \"spiffe://e/*\", effect = \"read\" } }",
	  "permit", 1 },
	{ "another effect", "permit \"a\" { on = { effect = \"spend\" } }", "no", 0 },
	{ "an agent's state",
	  "permit \"a\" { on = { tool = \"ledger/query\", agent = { state = \"active\" } } }",
	  "permit", 1 },
	{ "another action",
	  "permit \"a\" { on = { tool = \"ledger/query\", action = \"tools/list\" } }", "no", 0 },
	{ "everything", "permit \"a\" { on = { action = \"tools/call\" } }", "permit", 1 },
};

static const struct policy_attribute team[] = { { STR_INIT("team"), STR_INIT("finance") } };
static const struct could_question fin = {
	.action = STR_INIT("tools/call"),
	.type = STR_INIT("tool"),
	.id = STR_INIT("ledger/query"),
	.agent_id = STR_INIT("spiffe://e/fin"),
	.agent_owner = STR_INIT("ann"),
	.attributes = team,
	.nattributes = 1,
};

static void says_the_table(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, (size_t)16 << 20);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct policy_set *set;
		struct could_answer answer;
		uint32_t *room;
		char text[600];

		snprintf(text, sizeof(text), "policy \"p\" { %s }\n", cases[i].rules);
		set = policy_help_rules(text);
		room = could_room(set, &a);
		assert_non_null(room);
		policy_could(set, &fin, room, &answer);
		if (strcmp(could_names[answer.could], cases[i].could) != 0 ||
		    answer.n != cases[i].n)
			fail_msg("%s: %s by %zu rules, expected %s by %zu", cases[i].why,
				 could_names[answer.could], answer.n, cases[i].could, cases[i].n);
		shared_release(&set->shared);
	}
	arena_clear(&a);
}

/* Rules in order of evaluation; a `when` has the line where its function begins. */
static void names_rule_file_and_line(void **state)
{
	static const char rules[] = "policy \"p\" {\n"
				    "  permit \"b\" { on = { tool = \"ledger/query\" } },\n"
				    "  permit \"a\" {\n"
				    "    on = { tool = \"ledger/query\" },\n"
				    "    when =\n"
				    "      function(q) return q.now > 0 end },\n"
				    "  deny \"z\" { on = { tool = \"ledger/query\" },\n"
				    "    when = function(q) return q.now < 0 end },\n"
				    "}\n";
	static const struct {
		const char *rule, *effect;
		int line, when_line;
	} expected[] = { { "p/z", "deny", 7, 8 },
			 { "p/a", "permit", 3, 6 },
			 { "p/b", "permit", 2, 0 } };
	struct policy_set *set = policy_help_rules(rules);
	struct could_answer answer;
	struct arena a;
	uint32_t *room;

	(void)state;
	arena_init(&a, &mem_system, (size_t)1 << 20);
	room = could_room(set, &a);
	assert_non_null(room);
	policy_could(set, &fin, room, &answer);
	assert_int_equal(answer.n, ARRAY_LEN(expected));
	for (size_t i = 0; i < answer.n; i++) {
		struct could_rule r = could_rule_at(set, room, i);

		if (!str_eq(r.rule, str_c(expected[i].rule)) ||
		    strcmp(r.effect, expected[i].effect) != 0 || r.line != expected[i].line ||
		    r.when_line != expected[i].when_line)
			fail_msg("%zu: %s %.*s %.*s:%d, when %d", i, r.effect, STR_FMT(r.rule),
				 STR_FMT(r.file), r.line, r.when_line);
	}
	shared_release(&set->shared);
	arena_clear(&a);
}

/* Three rules of any effect, without a `when` or with one that reads what the asker says. */
static struct policy_set *any_rules(unsigned seed)
{
	static const char *const effects[] = { "permit", "ask", "deny" };
	static const char *const ons[] = {
		"tool = \"ledger/query\"", "effect = \"read\"",
		"agent = { team = \"finance\" }, action = \"tools/call\"",
		"tool = \"payments/create\""
	};
	char text[2000] = "policy \"p\" {\n";
	size_t n = strlen(text);

	for (unsigned i = 0; i < 3; i++) {
		unsigned pick = seed % 3, on = seed / 3 % 4;
		bool when = seed / 12 % 2;

		seed /= 24;
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s \"r%u\" { on = { %s }",
				      effects[pick], i, ons[on]);
		if (when)
			n += (size_t)snprintf(
				text + n, sizeof(text) - n,
				", when = function(q) return q.context.r%u == true end", i);
		n += (size_t)snprintf(text + n, sizeof(text) - n, " },\n");
	}
	snprintf(text + n, sizeof(text) - n, "}\n");
	return policy_help_rules(text);
}

/* Over all three-rule sets of a kind, and all that their `when`s can come to: what is said to be
 * impossible never happens, and what is said to be certain always does. */
static void holds_against_evaluation(void **state)
{
	struct arena a;
	size_t seen[4] = { 0 };

	(void)state;
	arena_init(&a, &mem_system, (size_t)16 << 20);
	for (unsigned seed = 0; seed < 24 * 24 * 24; seed += 7) {
		struct policy_set *set = any_rules(seed);
		struct policy_state *st = policy_state_new(set, &mem_system, &clock_system, NULL);
		struct could_answer answer;
		bool came[3] = { false };

		assert_non_null(st);
		arena_reset(&a);
		policy_could(set, &fin, could_room(set, &a), &answer);
		seen[answer.could]++;
		for (unsigned bits = 0; bits < 8; bits++) {
			char q[600];

			snprintf(
				q, sizeof(q),
				"{\"subject\":{\"type\":\"agent\",\"id\":\"spiffe://e/fin\"},"
				"\"agent\":{\"id\":\"spiffe://e/fin\",\"owner\":\"ann\",\"team\":"
				"\"finance\"},\"action\":{\"name\":\"tools/call\"},\"resource\":{"
				"\"type\":\"tool\",\"id\":\"ledger/query\"},\"context\":{\"r0\":%s,"
				"\"r1\":%s,\"r2\":%s}}",
				bits & 1 ? "true" : "false", bits & 2 ? "true" : "false",
				bits & 4 ? "true" : "false");
			came[policy_help_ask(st, q, &a).decision] = true;
		}
		if ((answer.could == COULD_NOT && (came[DECISION_PERMIT] || came[DECISION_ASK])) ||
		    (answer.could == COULD_ASK && (came[DECISION_PERMIT] || came[DECISION_DENY])) ||
		    (answer.could == COULD_PERMIT && (came[DECISION_ASK] || came[DECISION_DENY])) ||
		    (answer.could == COULD_DEPENDS && !came[DECISION_PERMIT] &&
		     !came[DECISION_ASK]))
			fail_msg("seed %u: %s; deny %d, ask %d, permit %d", seed,
				 could_names[answer.could], came[DECISION_DENY], came[DECISION_ASK],
				 came[DECISION_PERMIT]);
		policy_state_free(st);
		shared_release(&set->shared);
	}
	for (size_t i = 0; i < ARRAY_LEN(seen); i++)
		assert_true(seen[i] > 20);
	arena_clear(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_the_table),
		cmocka_unit_test(names_rule_file_and_line),
		cmocka_unit_test(holds_against_evaluation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
