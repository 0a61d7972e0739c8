/* The tests of policies: what they may say, what comes of it, coverage, bounds; and what check
 * says of sets that load. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "authz/policy/test.h"
#include "tests/policy/policy_help.h"

#define RULES                                                                                                                                \
	"policy 'p' {\n"                                                                                                                     \
	"  ask 'large' { on = { action = 'tools/call', tool = 'payments/create' },\n"                                                        \
	"    when = function(q) return q.args.amount > 500 end, approvers = 'leads' },\n"                                                    \
	"  permit 'pay' { on = { action = 'tools/call', tool = 'payments/create',\n"                                                         \
	"    agent = { team = 'finance' } }, message = 'fine', obligations = { { id = 'o', type = 'custom', properties = { a = 1 } } } },\n" \
	"  permit 'books' { on = { action = 'tools/call', tool = 'ledger/query' },\n"                                                        \
	"    when = function(q) return time.minutes(q.now) == 60 and q.context.vip == true end,\n"                                           \
	"  },\n"                                                                                                                             \
	"  permit 'read' { on = { action = 'read', resource = 'document', id = 'x' } },\n"                                                   \
	"  permit 'small' { on = { action = 'models/invoke', model = 'gpt-small' } },\n"                                                     \
	"}\n"

struct seen {
	size_t n;
	int line;
	uint32_t number;
	char message[512], name[64];
};

/* Keeps the first that did not pass. */
static void note(void *ctx, const struct policy_test_result *r)
{
	struct seen *s = ctx;

	if (r->outcome == POLICY_TEST_PASSED || s->n++)
		return;
	s->line = r->line;
	s->number = r->number;
	snprintf(s->message, sizeof(s->message), "%.*s", STR_FMT(r->message));
	snprintf(s->name, sizeof(s->name), "%.*s", STR_FMT(r->name));
}

static void sources(struct policy_sources *s, const char *rules, const char *tests)
{
	const struct policy_file files[] = {
		{ STR("catalogue/all.lua"), str_c(policy_help_catalogue) },
		{ STR("p.lua"), str_c(rules) },
		{ STR("p_test.lua"), str_c(tests) },
	};
	struct err e = { 0 };

	if (!policy_sources_from(s, files, tests ? 3 : 2, &e))
		fail_msg("%s", e.msg);
}

static void run(const char *why, const char *rules, const char *tests, struct policy_test_options o,
		struct seen *seen, struct policy_test_report *r)
{
	struct policy_sources s;
	struct err e = { 0 };

	*seen = (struct seen){ 0 };
	o.result = note;
	o.ctx = seen;
	sources(&s, rules, tests);
	if (!policy_test_run(&s, &o, r, &e))
		fail_msg("%s: %s", why, e.msg);
	policy_sources_clear(&s);
}

#define PAY(rest) "test 'a' { call = 'payments/create', agent = { team = 'finance' },\n" rest " }"
#define ONE(rest) "test 'a' { call = 'payments/create', agent = { team = 'finance' }, " rest " }"
#define ARGS "args = { amount = 5, to = 'x' }"

static const struct {
	const char *why, *tests;
	size_t passed, failed, skipped;
	int line;	  /* of the first that did not pass */
	const char *says; /* and in its message */
} rows[] = {
	{ "a permit", ONE(ARGS ", expect = 'permit', rule = 'p/pay'"), 1, 0, 0, 0, "" },
	{ "all that can be expected",
	  ONE(ARGS ", expect = 'permit', rule = 'p/pay', reason = 'permitted', message = 'fine', "
		   "obligations = { { id = 'o', type = 'custom', properties = { a = 1 } } }"),
	  1, 0, 0, 0, "" },
	{ "each case goes before what is shared",
	  PAY("{ args = { amount = 500, to = 'x' }, expect = 'permit' },\n"
	      "{ args = { amount = 500.01, to = 'x' }, expect = 'ask', approvers = 'leads' },\n"
	      "{ " ARGS ", agent = { team = 'sales' }, expect = 'deny', reason = 'no_rule' }"),
	  3, 0, 0, 0, "" },
	{ "the line of the case, and the deciding rule",
	  PAY("{ " ARGS ", expect = 'permit' },\n{ args = { amount = 501, to = 'x' }, "
	      "expect = 'permit' }"),
	  1, 1, 0, 3, "expected \"permit\", got ask (approval_required) by p/large (p.lua:2)" },
	{ "another rule", ONE(ARGS ", expect = 'permit', rule = 'p/books'"), 0, 1, 0, 1,
	  "expected rule \"p/books\", got permit (permitted) by p/pay" },
	{ "another reason", ONE(ARGS ", expect = 'permit', reason = 'x'"), 0, 1, 0, 1,
	  "expected reason" },
	{ "another message", ONE(ARGS ", expect = 'permit', message = 'x'"), 0, 1, 0, 1,
	  "expected message" },
	{ "other obligations",
	  ONE(ARGS
	      ", expect = 'permit', obligations = { { id = 'p', type = 'custom', properties = { a = 1 } } }"),
	  0, 1, 0, 1,
	  "expected obligations \"[{\"id\":\"p\",\"properties\":{\"a\":1},\"type\":\"custom\"}]\"" },
	{ "no obligations", ONE(ARGS ", expect = 'permit', obligations = {}"), 0, 1, 0, 1,
	  "expected obligations" },
	{ "wrong arguments",
	  ONE("args = { amount = '5', to = 'x' }, expect = 'deny', reason = "
	      "'invalid_arguments'"),
	  1, 0, 0, 0, "" },
	{ "context and the time of a place",
	  "test 'a' { call = 'ledger/query', agent = {}, context = { vip = true },\n"
	  "{ now = '2026-03-04T01:00:00Z', expect = 'permit' },\n"
	  "{ now = '2026-03-04T02:30:00+01:30', expect = 'permit' },\n"
	  "{ now = '2026-03-03T15:00:00-10:00', expect = 'permit' },\n"
	  "{ now = 3600000, expect = 'permit' },\n"
	  "{ now = '2026-03-04T01:01:00Z', expect = 'deny' },\n"
	  "{ expect = 'deny' } }",
	  6, 0, 0, 0, "" },
	{ "an error in a rule is told",
	  "test 'a' { call = 'ledger/query', now = 3600000, expect = 'permit' }", 0, 1, 0, 1,
	  "got deny (policy_error) by p/books (p.lua:6): p/books: p.lua:7:" },
	{ "a model", "test 'a' { model = 'gpt-small', expect = 'permit', rule = 'p/small' }", 1, 0,
	  0, 0, "" },
	{ "an action and a resource",
	  "test 'a' { action = 'read', { resource = 'document:x', expect = 'permit' },\n"
	  "{ resource = { type = 'document', id = 'x' }, expect = 'permit' },\n"
	  "{ resource = 'document:y', expect = 'deny' } }",
	  3, 0, 0, 0, "" },
	{ "call takes the place of a shared model",
	  "test 'a' { model = 'gpt-small', agent = { team = 'finance' },\n"
	  "{ expect = 'permit', rule = 'p/small' },\n"
	  "{ call = 'payments/create', " ARGS ", expect = 'permit', rule = 'p/pay' } }",
	  2, 0, 0, 0, "" },
	{ "an agent of a SPIFFE ID",
	  "test 'a' { model = 'gpt-small', agent = 'spiffe://acme.example/a', expect = 'permit' }",
	  1, 0, 0, 0, "" },
	{ "functions",
	  "test 'a' (function(t)\n"
	  "  local base = { agent = { team = 'finance' }, call = 'payments/create' }\n"
	  "  for _, n in ipairs { 1, 500 } do\n"
	  "    t.expect(base, { args = { amount = n, to = 'x' }, expect = 'permit' })\n"
	  "  end\n"
	  "  local r = t.ask { call = 'payments/create', args = { amount = 501, to = 'x' } }\n"
	  "  assert(r.decision == 'ask' and r.rule == 'p/large')\n"
	  "  t.deny { call = 'payments/create', " ARGS " }\n"
	  "  t.permit { call = 'payments/create', " ARGS " }\n"
	  "end)",
	  4, 1, 0, 9, "expected \"permit\", got deny (no_rule" },
	{ "a function that stops, and the test after it",
	  "test 'a' (function(t) local x = nil; x.y = 1 end)\n" ONE(ARGS ", expect = 'permit'"), 1,
	  1, 0, 1, "the test stopped" },
	{ "a function without a case", "test 'a' (function(t) end)", 0, 1, 0, 1, "has no cases" },
	{ "skip", "skip 'a' (function(t) t.permit {} end)\n" ONE(ARGS ", expect = 'permit'"), 1, 0,
	  1, 1, "skipped" },
	{ "a case that is skipped, with a reason",
	  PAY("{ skip = 'later' },\n{ " ARGS ", expect = 'permit' }"), 1, 0, 1, 2, "later" },
	{ "a member that does not exist", ONE(ARGS ", expct = 'permit'"), 0, 1, 0, 1,
	  "a test has no \"expct\"; did you mean \"expect\"?" },
	{ "a decision that does not exist", ONE(ARGS ", expect = 'allow'"), 0, 1, 0, 1,
	  "expect is \"permit\", \"ask\" or \"deny\"" },
	{ "nothing expected", ONE(ARGS), 0, 1, 0, 1, "expect is" },
	{ "nothing asked", "test 'a' { agent = {}, expect = 'deny' }", 0, 1, 0, 1,
	  "action = \"NAME\" was expected" },
	{ "a tool and a model at once", "test 'a' { call = 'a/b', model = 'c', expect = 'deny' }",
	  0, 1, 0, 1, "not two" },
	{ "an attribute that is no text",
	  "test 'a' { agent = { level = 3 }, call = 'a/b', expect = 'deny' }", 0, 1, 0, 1,
	  "attributes of agents are texts; agent.level is" },
	{ "no time", ONE(ARGS ", now = 'tomorrow', expect = 'permit'"), 0, 1, 0, 1,
	  "now is a time" },
	{ "no such offset", ONE(ARGS ", now = '2026-03-04T01:00:00+25:00', expect = 'permit'"), 0,
	  1, 0, 1, "now is a time" },
	{ "no such day", ONE(ARGS ", now = '2026-02-30T01:00:00+01:00', expect = 'permit'"), 0, 1,
	  0, 1, "now is a time" },
	{ "a test without a body", "\nlocal x = test 'a'", 0, 1, 0, 2, "has no body" },
	{ "a case that is no table", "test 'a' { 1, 2 }", 0, 1, 0, 1, "case 1 is no table" },
	{ "a mistake in the file", ONE(ARGS ", expect = 'permit'") "\nlocal t = nil\nt.x = 1", 1, 1,
	  0, 3, "nil value" },
	{ "no such word", "tset 'a' {}", 0, 1, 0, 1, "'tset' is not known here" },
	{ "no way out of the sandbox", "os.execute 'true'", 0, 1, 0, 1, "'os' is not known here" },
	{ "a loop for ever", "while true do end", 0, 1, 0, 1, "stopped after" },
	{ "a loop inside of a function test",
	  "test 'a' (function(t) while true do end end)\n" ONE(ARGS ", expect = 'permit'"), 0, 1, 0,
	  1, "stopped after" },
	{ "no test at all", "local x = 1", 0, 0, 0, 0, "" },
};

static void outcomes_are_those_of_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct policy_test_report r;
		struct seen seen;

		run(rows[i].why, RULES, rows[i].tests, (struct policy_test_options){ 0 }, &seen,
		    &r);
		if (r.passed != rows[i].passed || r.failed != rows[i].failed ||
		    r.skipped != rows[i].skipped)
			fail_msg("%s: %zu passed, %zu failed, %zu skipped: %s", rows[i].why,
				 r.passed, r.failed, r.skipped, seen.message);
		if (seen.line != rows[i].line || !strstr(seen.message, rows[i].says))
			fail_msg("%s: line %d: %s", rows[i].why, seen.line, seen.message);
		policy_test_report_clear(&r);
	}
}

static void only_wanted_tests_run(void **state)
{
	static const struct {
		const char *pattern;
		size_t passed;
	} patterns[] = {
		{ "a", 2 },	     { "first", 1 },	       { "p_test.lua: second*", 1 },
		{ "second*", 0 },    { "*second a", 1 },       { "nothing", 0 },
		{ "p_test.lua", 2 }, { "[p]_test.lua: *", 2 },
	};
	static const char tests[] = "test 'first a' { model = 'gpt-small', expect = 'permit' }\n"
				    "test 'second a' { model = 'gpt-large', expect = 'deny' }\n";

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
		struct policy_test_options o = { .run = patterns[i].pattern };
		struct policy_test_report r;
		struct seen seen;

		run(patterns[i].pattern, RULES, tests, o, &seen, &r);
		if (r.passed != patterns[i].passed || r.failed)
			fail_msg("%s: %zu passed, %zu failed", patterns[i].pattern, r.passed,
				 r.failed);
		policy_test_report_clear(&r);
	}
}

static const struct policy_test_rule *rule(const struct policy_test_report *r, const char *name)
{
	for (size_t i = 0; i < r->nrules; i++)
		if (str_eq(r->rules[i].name, str_c(name)))
			return &r->rules[i];
	fail_msg("no rule %s", name);
	return NULL;
}

static void coverage_tells_what_was_seen(void **state)
{
	static const char rules[] = "policy 'p' {\n"
				    "  permit 'a' { on = { action = 'x' },\n"
				    "    when = function(q)\n"
				    "      if q.context.n == 1 then\n"
				    "        return true\n"
				    "      end\n"
				    "      return false\n"
				    "    end },\n"
				    "  permit 'b' { on = { action = 'y' } },\n"
				    "  permit 'c' { on = { action = 'z' } },\n"
				    "}\n";
	struct policy_test_options o = { .coverage = true };
	struct policy_test_report r;
	struct seen seen;

	(void)state;
	run("half", rules,
	    "test 't' { action = 'x', resource = 'd:1', context = { n = 1 }, expect = 'permit' }",
	    o, &seen, &r);
	assert_true(rule(&r, "p/a")->seen_true && !rule(&r, "p/a")->seen_false);
	assert_true(!rule(&r, "p/b")->seen_true && rule(&r, "p/b")->seen_false);
	assert_int_equal(rule(&r, "p/a")->line, 2);
	assert_int_equal((int)(r.rules_percent + 0.5), 50);
	assert_int_equal(r.nlines, 1);
	assert_int_equal(r.lines[0].active - r.lines[0].hit, 1);
	assert_int_equal(r.lines[0].missed[0], 7);
	policy_test_report_clear(&r);
	run("all", rules,
	    "test 't' { resource = 'd:1', { action = 'x', context = { n = 1 }, expect = 'permit' },\n"
	    "{ action = 'x', context = { n = 2 }, expect = 'deny' },\n"
	    "{ action = 'y', expect = 'permit' }, { action = 'z', expect = 'permit' } }",
	    o, &seen, &r);
	assert_int_equal(r.passed, 4);
	assert_true(r.rules_percent == 100.0 && r.lines_percent == 100.0);
	policy_test_report_clear(&r);
}

/* What works and is hardly meant; and the same set without the mistake says nothing of it. */
static const struct {
	const char *why, *rules, *code; /* code NULL: no finding at all */
	int line, column;
	const char *says;
} lints[] = {
	{ "nothing", "policy 'p' { permit 'a' { on = { action = 'x' } } }", NULL, 0, 0, "" },
	{ "duplicate",
	  "policy 'p' {\n permit 'a' { on = { action = 'x' } },\n permit 'b' { on = { action = 'x' } } }",
	  "duplicate", 3, 10, "says the same as \"p/a\" (p.lua:2)" },
	{ "the column of a rule with a long policy name and a short one of its own",
	  "policy 'a-long-name-of-a-policy' {\n permit 'a' { on = { action = 'x' } },\n"
	  "\tpermit 'z' { on = { action = 'x' } } }",
	  "duplicate", 3, 10, "says the same" },
	{ "no duplicate: another condition",
	  "policy 'p' {\n permit 'a' { on = { action = 'x' } },\n permit 'b' { on = { action = 'y' } } }",
	  NULL, 0, 0, "" },
	{ "under a wall",
	  "policy 'p' { deny 'w' { on = { action = { 'x', 'y' } } },\n"
	  "permit 'a' { on = { action = 'x', id = 'b' }, when = function(q) return q.now > 1 end } }",
	  "unreachable", 2, 9, "never decides: the deny \"p/w\"" },
	{ "a permit under an ask",
	  "policy 'p' { ask 'w' { on = { action = 'x' } },\n"
	  "permit 'a' { on = { action = 'x' } } }",
	  "unreachable", 2, 9, "never decides: the ask" },
	{ "beside a wall",
	  "policy 'p' { deny 'w' { on = { action = 'x', id = 'c' } },\n"
	  "permit 'a' { on = { action = 'x' } } }",
	  NULL, 0, 0, "" },
	{ "a wall with a when",
	  "policy 'p' { deny 'w' { on = { action = 'x' }, when = function(q) return q.now > 1 end },\n"
	  "permit 'a' { on = { action = 'x' } } }",
	  NULL, 0, 0, "" },
	{ "no such tool together",
	  "policy 'p' { permit 'a' { on = { tool = 'payments/create', effect = 'read' } } }",
	  "unreachable", 1, 0, "applies to nothing in the catalogue" },
	{ "a tool and a model",
	  "policy 'p' { permit 'a' { on = { effect = 'read', model = 'gpt-small' } } }",
	  "unreachable", 1, 0, "no request is for a tool and for a model" },
	{ "a when that does not look",
	  "policy 'p' { permit 'a' { on = { action = 'x' },\n when = function(q) return 1 == 1 end } }",
	  "constant-when", 2, 2, "never reads the request" },
	{ "a helper that does not look",
	  "local function f(q) return has({ 1 }, 1) end\n"
	  "policy 'p' { permit 'a' { on = { action = 'x' }, when = f } }",
	  "constant-when", 2, 0, "never reads the request" },
	{ "a constant",
	  "policy 'p' { permit 'a' { on = { action = 'x' },\n"
	  "when = function(q) if q.now > 1 then return 'yes' end return false end } }",
	  "not-boolean", 2, 0, "returns a constant" },
	{ "a table",
	  "policy 'p' { permit 'a' { on = { action = 'x' }, when = function(q) return { q } end } }",
	  "not-boolean", 1, 0, "returns a table" },
	{ "an argument as it is",
	  "policy 'p' { permit 'a' { on = { action = 'x' }, when = function(q) return q.args.amount end } }",
	  "not-boolean", 1, 0, "returns \"q.args.amount\" as it is" },
	{ "no return",
	  "policy 'p' { permit 'a' { on = { action = 'x' }, when = function(q) local x = q.now end } }",
	  "not-boolean", 1, 0, "has no return" },
	{ "a return inside of another function",
	  "policy 'p' { permit 'a' { on = { action = 'x' },\n"
	  "when = function(q) return any(q.context.l, function(x) return x end) end } }",
	  NULL, 0, 0, "" },
	{ "a local that is named like a word",
	  "policy 'p' { permit 'a' { on = { action = 'x' },\n"
	  "when = function(q) local url = url.parse(q.context.u) return url.host == 'a' end } }",
	  NULL, 0, 0, "" },
};

static void check_finds_what_is_hardly_meant(void **state)
{
	struct policy_options o = { .lint = true };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lints); i++) {
		struct policy_findings f;
		struct policy_set *set = NULL;
		const struct policy_finding *got = NULL;
		struct policy_sources s;
		struct err e = { 0 };

		sources(&s, lints[i].rules, NULL);
		if (!policy_set_load_with(&s, &o, &set, &f, &e))
			fail_msg("%s: %s", lints[i].why, e.msg);
		for (size_t k = 0; k < f.n && !got; k++)
			if (str_eq(f.items[k].file, STR("p.lua")))
				got = &f.items[k];
		if (!lints[i].code ? got != NULL
				   : !got || strcmp(got->code, lints[i].code) != 0 ||
					     got->line != lints[i].line ||
					     (lints[i].column && got->column != lints[i].column) ||
					     !strstr(got->message.p, lints[i].says))
			fail_msg("%s: %d:%d %s %s", lints[i].why, got ? got->line : 0,
				 got ? got->column : 0, got ? got->code : "",
				 got ? got->message.p : "nothing");
		policy_findings_clear(&f);
		policy_sources_clear(&s);
		shared_release(&set->shared);
	}
}

static void attributes_are_checked_where_they_are_declared(void **state)
{
	static const struct {
		const char *declared, *rules;
		bool error;
		const char *file, *says; /* NULL: nothing */
	} cases[] = {
		{ "", "on = { action = 'x', agent = { teem = 'a' } }", false, "p.lua", NULL },
		{ "attributes { team = 'string' }", "on = { action = 'x', agent = { team = 'a' } }",
		  false, "p.lua", NULL },
		{ "attributes { team = 'string' }", "on = { action = 'x', agent = { teem = 'a' } }",
		  false, "p.lua",
		  "no attribute \"teem\" of agents is declared; did you mean \"team\"?" },
		{ "attributes { team = 'string' }",
		  "on = { action = 'x' }, when = function(q) return q.agent.teem == 'a' end", false,
		  "p.lua", "did you mean \"team\"?" },
		{ "attributes { team = 'string' }",
		  "on = { action = 'x' }, when = function(q) return q.agent.owner == 'a' end",
		  false, "p.lua", NULL },
		{ "attributes { team = { 'ops', 'sales' } }",
		  "on = { action = 'x', agent = { team = 'sale' } }", false, "p.lua",
		  "never \"sale\"; did you mean \"sales\"?" },
		{ "attributes { team = 3 }", "on = { action = 'x' }", true, "catalogue/a.lua",
		  "\"string\" or a list" },
		{ "attributes { id = 'string' }", "on = { action = 'x' }", true, "catalogue/a.lua",
		  "writ's own" },
		{ "attributes { a = 'string' } attributes { a = 'string' }",
		  "on = { action = 'x' }", true, "catalogue/a.lua", "declared already" },
		{ "attributes { 'team' }", "on = { action = 'x' }", true, "catalogue/a.lua",
		  "is a list" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct policy_findings f;
		char rules[300];
		struct policy_set *set;
		const struct policy_finding *got;

		snprintf(rules, sizeof(rules), "policy 'p' { permit 'r' { %s } }", cases[i].rules);
		set = policy_help_load(&f, "catalogue/a.lua", cases[i].declared, "p.lua", rules,
				       NULL);
		got = policy_help_finding(&f, cases[i].file, cases[i].says ? cases[i].says : "");
		if (!set != cases[i].error || !got != !cases[i].says)
			fail_msg("%s: %s", rules, f.n ? f.items[0].message.p : "nothing said");
		policy_findings_clear(&f);
		if (set)
			shared_release(&set->shared);
	}
}

static void check_names_rules_without_a_test(void **state)
{
	static const struct {
		const char *tests, *code, *says;
		size_t n;
	} cases[] = {
		{ "test 'a' { model = 'gpt-small', expect = 'permit' }", "untested",
		  "is not met by any test", 4 },
		{ NULL, "untested", "there are no tests", 1 },
		{ "test 'a' { model = 'gpt-small', expect = 'deny' }", "failing-test",
		  "tests that fail: 1", 1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct policy_options o = { 0 };
		struct policy_findings f;
		struct policy_set *set = NULL;
		struct policy_sources s;
		struct err e = { 0 };
		size_t n = 0;

		sources(&s, RULES, cases[i].tests);
		if (!policy_check(&s, &o, &set, &f, &e))
			fail_msg("%s", e.msg);
		for (size_t k = 0; k < f.n; k++)
			n += strcmp(f.items[k].code, cases[i].code) == 0 &&
			     strstr(f.items[k].message.p, cases[i].says) != NULL;
		assert_int_equal(n, cases[i].n);
		assert_int_equal(f.errors, 0);
		policy_findings_clear(&f);
		policy_sources_clear(&s);
		shared_release(&set->shared);
	}
}

/* path and url, as a `when` sees them. */
static const struct {
	const char *call, *expect;
} words[] = {
	{ "path.normal('/a/b')", "'/a/b'" },
	{ "path.normal('//a/./b//')", "'/a/b'" },
	{ "path.normal('a/b/')", "'a/b'" },
	{ "path.normal('/')", "'/'" },
	{ "path.normal('./')", "'.'" },
	{ "path.normal('...')", "'...'" },
	{ "path.normal('/a%20b')", "'/a%20b'" },
	{ "path.normal('')", "nil" },
	{ "path.normal('/a/../b')", "nil" },
	{ "path.normal('..')", "nil" },
	{ "path.normal('/a/%2e%2E/b')", "nil" },
	{ "path.normal('/a%2Fb')", "nil" },
	{ "path.normal('/a%252e')", "nil" },
	{ "path.normal('/a%00')", "nil" },
	{ "path.normal('a\\\\b')", "nil" },
	{ "path.normal('/a\\10')", "nil" },
	{ "path.normal('/a\\127')", "nil" },
	{ "path.within('/a', '/a')", "true" },
	{ "path.within('/a/', '/a//b')", "true" },
	{ "path.within('/a', '/ab')", "false" },
	{ "path.within('/a', '/a/../b')", "false" },
	{ "path.within('/a', 'a/b')", "false" },
	{ "path.within('/', '/x')", "true" },
	{ "path.within('/', 'x')", "false" },
	{ "url.parse('HTTPS://Docs.Example:8443/A?b=/c#d').host", "'docs.example'" },
	{ "url.parse('HTTPS://Docs.Example:8443/A?b=/c#d').scheme", "'https'" },
	{ "url.parse('HTTPS://Docs.Example:8443/A?b=/c#d').port", "8443" },
	{ "url.parse('HTTPS://Docs.Example:8443/A?b=/c#d').path", "'/A'" },
	{ "url.parse('HTTPS://Docs.Example:8443/A?b=/c#d').query", "'b=/c'" },
	{ "url.parse('https://a.example').path", "'/'" },
	{ "url.parse('https://a.example').port", "443" },
	{ "url.parse('http://a.example').port", "80" },
	{ "url.parse('ftp://a.example').port", "nil" },
	{ "url.parse('https://a.example').query", "nil" },
	{ "url.parse('https://10.0.0.1/').ip", "true" },
	{ "url.parse('https://[::1]:80/').host", "'::1'" },
	{ "url.parse('https://a.1b')", "nil" },
	{ "url.parse('https://a.b1').host", "'a.b1'" },
	{ "url.parse('https://user@a.example/')", "nil" },
	{ "url.parse('https://a.example:80:80/')", "nil" },
	{ "url.parse('https://a.example:0/')", "nil" },
	{ "url.parse('https://a.example:65536/')", "nil" },
	{ "url.parse('https://a.example:/')", "nil" },
	{ "url.parse('https://a.example./')", "nil" },
	{ "url.parse('https://a..example/')", "nil" },
	{ "url.parse('https:///x')", "nil" },
	{ "url.parse('https://0x7f000001/')", "nil" },
	{ "url.parse('https://0177.0.0.1/')", "nil" },
	{ "url.parse('https://127.1/')", "nil" },
	{ "url.parse('https://2130706433/')", "nil" },
	{ "url.parse('https://[::1/')", "nil" },
	{ "url.parse('https://[::1]x/')", "nil" },
	{ "url.parse('https://[fe80::1%25eth0]/')", "nil" },
	{ "url.parse('https://a%2eexample/')", "nil" },
	{ "url.parse('https://a.example\\\\@b/')", "nil" },
	{ "url.parse('https://a.example /')", "nil" },
	{ "url.parse('https://\\195\\164.example/')", "nil" },
	{ "url.parse('//a.example/')", "nil" },
	{ "url.parse('https:a.example')", "nil" },
	{ "url.parse('1https://a.example')", "nil" },
	{ "url.parse('')", "nil" },
};

static void paths_and_urls_have_one_reading(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		static const char test[] =
			"test 'a' { action = 'x', resource = 'd:1', expect = 'permit' }";
		const char *expect = words[i].expect;
		char rules[500];
		struct policy_test_report r;
		struct seen seen;

		snprintf(rules, sizeof(rules),
			 "policy 'p' { permit 'a' { on = { action = 'x' }, when = function(q) "
			 "return q.now > 0 and %s == %s end } }",
			 words[i].call, expect);
		run(words[i].call, rules, test, (struct policy_test_options){ 0 }, &seen, &r);
		if (r.passed != 1)
			fail_msg("%s is not %s: %s", words[i].call, expect, seen.message);
		policy_test_report_clear(&r);
	}
}

static void bench_measures_each_rule(void **state)
{
	struct policy_test_options o = { 0 };
	struct policy_sources s;
	struct policy_bench b;
	struct err e = { 0 };

	(void)state;
	sources(&s, RULES,
		PAY("{ " ARGS ", expect = 'permit' }, { " ARGS ", agent = {}, expect = 'deny' }"));
	if (!policy_bench_run(&s, &o, 1, &b, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(b.requests, 2);
	assert_true(b.evaluations >= 2 && b.ns > 0 && b.instructions > 0 && b.bytes > 0);
	assert_int_equal(b.nrules, 1); /* the only one that applied and has a when */
	assert_int_equal(b.rules[0].runs, 2);
	assert_true(b.rules[0].instructions > 0 && b.rules[0].ns > 0);
	policy_bench_clear(&b);
	policy_sources_clear(&s);
	sources(&s, RULES, "local x = 1");
	assert_false(policy_bench_run(&s, &o, 1, &b, &e));
	assert_non_null(strstr(e.msg, "no test to measure"));
	policy_sources_clear(&s);
}

/* The packs: everything passes, and every rule is seen true and false. */
static void the_library_is_tested_whole(void **state)
{
	struct policy_test_options o = { .coverage = true };
	struct policy_test_report r = { 0 };
	struct policy_sources s;
	struct seen seen = { 0 };
	struct err e = { 0 };

	(void)state;
	o.result = note;
	o.ctx = &seen;
	if (!policy_sources_read(&s, "policies", &e) || !policy_test_run(&s, &o, &r, &e))
		fail_msg("%s (run from the top folder)", e.msg);
	if (r.failed || r.skipped)
		fail_msg("%s", seen.message);
	assert_true(r.passed > 100);
	for (size_t i = 0; i < r.nrules; i++)
		if (!r.rules[i].seen_true || !r.rules[i].seen_false)
			fail_msg("%.*s was not seen both ways", STR_FMT(r.rules[i].name));
	policy_test_report_clear(&r);
	policy_sources_clear(&s);
}

static void on_whose_behalf(void **state)
{
	static const char delegated[] =
		"policy 'p' { permit 'mail' { on = { action = 'send' }, when = function(q) return "
		"q.user.id == 'alice' and q.user.issuer == 'https://login.acme.example' and "
		"q.chain[#q.chain] == q.agent.id and "
		"(#q.chain == 1 or has(q.user.scope, 'mail')) end } }";
#define SEND(rest) "test 'a' { action = 'send', resource = 'mail:x', agent = {}, " rest " }"
	static const struct {
		const char *why, *tests;
		size_t passed, failed;
		const char *says;
	} cases[] = {
		{ "a user", SEND("user = 'alice', expect = 'permit'"), 1, 0, "" },
		{ "nobody", SEND("expect = 'deny'"), 1, 0, "" },
		{ "another user", SEND("user = 'bob', expect = 'deny'"), 1, 0, "" },
		{ "of another issuer",
		  SEND("user = { id = 'alice', issuer = 'https://x' }, expect = 'deny'"), 1, 0,
		  "" },
		{ "a chain, with a scope",
		  SEND("user = { id = 'alice', scope = { 'read', 'mail' } }, chain = { "
		       "'spiffe://acme.example/a', 'spiffe://acme.example/agent/test' }, "
		       "expect = 'permit'"),
		  1, 0, "" },
		{ "a chain, without",
		  SEND("user = { id = 'alice' }, chain = { 'spiffe://acme.example/a', "
		       "'spiffe://acme.example/agent/test' }, expect = 'deny'"),
		  1, 0, "" },
		{ "a user of another shape", SEND("user = 7, expect = 'deny'"), 0, 1,
		  "user is a name" },
		{ "a member of a user", SEND("user = { name = 'alice' }, expect = 'deny'"), 0, 1,
		  "user is a name" },
		{ "scopes in one text",
		  SEND("user = { id = 'alice', scope = 'a b' }, expect = 'deny'"), 0, 1,
		  "user is a name" },
		{ "a scope with a blank",
		  SEND("user = { id = 'alice', scope = { 'a b' } }, expect = 'deny'"), 0, 1,
		  "list of names" },
		{ "a chain in one text", SEND("chain = 'spiffe://x/1', expect = 'deny'"), 0, 1,
		  "chain is a list" },
		{ "a chain of numbers", SEND("chain = { 1, 'spiffe://x/1' }, expect = 'deny'"), 0,
		  1, "chain is a list" },
	};
#undef SEND
	struct policy_test_report r;
	struct seen seen;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		run(cases[i].why, delegated, cases[i].tests, (struct policy_test_options){ 0 },
		    &seen, &r);
		if (r.passed != cases[i].passed || r.failed != cases[i].failed ||
		    !strstr(seen.message, cases[i].says))
			fail_msg("%s: %zu passed, %zu failed: %s", cases[i].why, r.passed, r.failed,
				 seen.message);
		policy_test_report_clear(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(on_whose_behalf),
		cmocka_unit_test(outcomes_are_those_of_the_table),
		cmocka_unit_test(only_wanted_tests_run),
		cmocka_unit_test(coverage_tells_what_was_seen),
		cmocka_unit_test(check_finds_what_is_hardly_meant),
		cmocka_unit_test(attributes_are_checked_where_they_are_declared),
		cmocka_unit_test(check_names_rules_without_a_test),
		cmocka_unit_test(paths_and_urls_have_one_reading),
		cmocka_unit_test(bench_measures_each_rule),
		cmocka_unit_test(the_library_is_tested_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
