/* q.agent is kept for the next evaluation of the same agent: none sees what another did with it,
 * nor what an agent was before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>

#include "tests/policy/policy_help.h"

#define ROUNDS 5 /* made plain, kept, shown, and after others have been at it */

/* All that one can do to take q.agent along, or to spoil it. */
static const char spoil[] =
	" deny 'spoil' { on = { action = 'spoil' }, when = function(q)\n"
	"  local a, more = q.agent, q.agent\n"
	"  a.team = 'evil' a.id = nil a.more = 'x' a[1] = 'x' a.table = { a }\n"
	"  local f, t, k = pairs(q.agent)\n"
	"  if t then t.team = 'evil' end\n"
	"  for k in pairs(more) do more[k] = nil end\n"
	"  for k in pairs(more) do return true end\n"
	"  more.env = 'test' more.owner = 'evil'\n"
	"  return any(more, function(x) x.team = 'evil' return true end) end },\n"
	" deny 'spoil two' { on = { action = 'spoil two' }, when = function(q)\n"
	"  local a = q.agent\n"
	"  for k, v in pairs(a) do a[k] = 'evil' end\n"
	"  return false end },\n"
	" deny 'spoil three' { on = { action = 'spoil three' }, when = function(q)\n"
	"  local a = q.agent\n"
	"  a.team = 'evil' a.missing.here = 1 end },\n";

/* What a `when` finds of the agent; it says so itself. No @error: it returns true. */
static const struct {
	const char *why, *body, *error;
} rows[] = {
	{ "reading",
	  "return q.agent.team == 'finance' and q.agent.env == 'prod' and q.agent.id == "
	  "'spiffe://acme.example/agent/7' and q.agent.owner == 'ann' and "
	  "q.agent.state == 'active'",
	  NULL },
	{ "what is not there", "return q.agent.nothing == nil and q.agent[1] == nil", NULL },
	{ "all of it, in order",
	  "local s = '' for k, v in pairs(q.agent) do s = s .. k .. '=' .. v .. ' ' end return s == "
	  "'env=prod id=spiffe://acme.example/agent/7 owner=ann state=active team=finance '",
	  NULL },
	{ "all of it, and once more",
	  "local n = 0 for k in pairs(q.agent) do n = n + 1 end for k in pairs(q.agent) do n = n + 1 "
	  "end return n == 10 and q.agent.team == 'finance'",
	  NULL },
	{ "one and the same table, no list",
	  "local n = 0 for i in ipairs(q.agent) do n = n + 1 end return q.agent == q.agent and "
	  "type(q.agent) == 'table' and #q.agent == 0 and n == 0 and not has(q.agent, 'finance')",
	  NULL },
	{ "writing what is there",
	  "local a = q.agent a.team = 'x' return q.agent.team == 'x' and a.env == 'prod'", NULL },
	{ "writing what is not there",
	  "local a = q.agent a.new = 'x' local n = 0 for k in pairs(a) do n = n + 1 end return n == 6 "
	  "and q.agent.new == 'x' and a.team == 'finance'",
	  NULL },
	{ "taking away",
	  "local a = q.agent a.team = nil local n = 0 for k in pairs(a) do n = n + 1 end return n == 4 "
	  "and q.agent.team == nil and q.agent.env == 'prod'",
	  NULL },
	{ "taking away after pairs",
	  "local a, n = q.agent, 0 for k in pairs(a) do a[k] = nil end for k in pairs(a) do n = n + 1 "
	  "end return n == 0 and a.team == nil and q.agent.id == nil",
	  NULL },
	{ "making it a list",
	  "local a = q.agent a[1] = 'x' return #q.agent == 1 and has(a, 'x') and a.env == 'prod'",
	  NULL },
	{ "no name at all", "local a, n = q.agent a[n] = 1 return true",
	  "rules.lua:2: table index is nil" },
	{ "a name that is no number", "local a = q.agent a[0/0] = 1 return true",
	  "rules.lua:2: table index is NaN" },
	{ "comparing it", "return q.agent < q.agent",
	  "rules.lua:2: attempt to compare two table values" },
	{ "calling it", "return q.agent()",
	  "rules.lua:2: attempt to call a table value (field 'agent')" },
	{ "adding to it", "return q.agent + 1 == 2",
	  "rules.lua:2: attempt to perform arithmetic on a table value (field 'agent')" },
	{ "what is behind a text", "return q.agent.nothing.there == 1",
	  "rules.lua:2: attempt to index a nil value (field 'nothing')" },
	{ "its metatable, by name",
	  "return q.agent.__index == nil and q.agent.__newindex == nil and q.agent.__pairs == nil",
	  NULL },
};

#define SEVEN                                                                              \
	"\"agent\":{\"id\":\"spiffe://acme.example/agent/7\",\"owner\":\"ann\",\"state\":" \
	"\"active\",\"team\":\"finance\",\"env\":\"prod\"}"

static void check_row(size_t i)
{
	char source[4096];
	struct policy_set *set;
	struct policy_state *st;
	struct arena a;

	snprintf(
		source, sizeof(source),
		"policy 'p' { permit 'a' { on = { action = 'look' }, when = function(q)\n%s end },\n"
		"%s}\n",
		rows[i].body, spoil);
	set = policy_help_rules(source);
	st = policy_state_new(set, &mem_system, &clock_system, NULL);
	arena_init(&a, &mem_system, 1 << 20);
	for (int round = 0; round < ROUNDS * 4; round++, arena_reset(&a)) {
		static const char *const spoilers[] = { "spoil", "spoil two", "spoil three" };
		struct policy_result r = policy_help_ask(st,
							 "{\"action\":{\"name\":\"look\"}," SEVEN
							 "}",
							 &a);

		if (rows[i].error ? !strstr(r.error.n ? r.error.p : "", rows[i].error)
				  : r.decision != DECISION_PERMIT)
			fail_msg("%s, round %d: %s (%.*s)", rows[i].why, round,
				 policy_help_text(&r, &a), STR_FMT(r.error));
		for (int n = 0; round >= ROUNDS && n < round % 4; n++)
			policy_help_ask(st,
					arena_printf(&a, "{\"action\":{\"name\":\"%s\"}," SEVEN "}",
						     spoilers[n])
						.p,
					&a);
	}
	policy_state_free(st);
	arena_clear(&a);
	shared_release(&set->shared);
}

static void none_sees_what_another_did(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		check_row(i);
}

/* Every fact of the agent, as the rule sees it, against what the request says it has to be. */
static const char mirror[] =
	"policy 'p' { permit 'a' { on = { action = 'look' }, when = function(q)\n"
	"  local s = ''\n"
	"  for k, v in pairs(q.context.want) do\n"
	"    if q.agent[k] ~= v then return false end\n"
	"    s = s .. k\n"
	"  end\n"
	"  for k in pairs(q.agent) do s = s .. '-' .. k end\n"
	"  return s == q.context.names end } }\n";

static void look(struct policy_state *st, const char *facts, const char *want, const char *names)
{
	struct policy_result r;
	struct arena a;

	arena_init(&a, &mem_system, 1 << 20);
	r = policy_help_ask(
		st,
		arena_printf(
			&a,
			"{\"action\":{\"name\":\"look\"},\"agent\":%s,\"context\":{\"want\":%s,"
			"\"names\":\"%s\"}}",
			facts, want, names)
			.p,
		&a);
	if (r.decision != DECISION_PERMIT)
		fail_msg("%s: %s (%.*s)", facts, policy_help_text(&r, &a), STR_FMT(r.error));
	arena_clear(&a);
}

#define ID "\"id\":\"spiffe://acme.example/agent/7\""
#define OWNED ID ",\"owner\":\"ann\",\"state\":\"active\""
#define NAMES "idownerstate"

/* An entry changes; its ID, and what of it stands where, need not. */
static void an_agent_is_as_it_is_now(void **state)
{
	static const struct {
		const char *facts, *names;
	} now[] = {
		{ "{" OWNED "}", NAMES "-id-owner-state" },
		{ "{" OWNED ",\"team\":\"finance\"}", NAMES "team-id-owner-state-team" },
		{ "{" OWNED ",\"team\":\"financE\"}", NAMES "team-id-owner-state-team" },
		{ "{" OWNED ",\"tean\":\"finance\"}", NAMES "tean-id-owner-state-tean" },
		{ "{" OWNED ",\"team\":\"finance\",\"x\":\"\"}",
		  NAMES "teamx-id-owner-state-team-x" },
		{ "{" OWNED ",\"teamfinance\":\"\"}",
		  NAMES "teamfinance-id-owner-state-teamfinance" },
		{ "{" ID ",\"owner\":\"bob\",\"state\":\"active\",\"team\":\"finance\"}",
		  NAMES "team-id-owner-state-team" },
		{ "{" ID ",\"owner\":\"ann\",\"state\":\"actives\",\"team\":\"finance\"}",
		  NAMES "team-id-owner-state-team" },
		{ "{\"id\":\"spiffe://acme.exampl/agent/7\",\"owner\":\"ann\",\"state\":\"active\"}",
		  NAMES "-id-owner-state" },
		{ "{\"id\":\"7\",\"owner\":\"ann\",\"state\":\"active\"}",
		  NAMES "-id-owner-state" },
		{ "{\"id\":\"\",\"owner\":\"ann\",\"state\":\"active\"}", NAMES "-id-owner-state" },
	};
	struct policy_set *set = policy_help_rules(mirror);
	struct policy_state *st = policy_state_new(set, &mem_system, &clock_system, NULL);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(now); i++)
		for (size_t k = 0; k < ARRAY_LEN(now); k++)
			for (int n = 0; n < 6; n++) {
				size_t at = n < 3 ? i : k;

				look(st, now[at].facts, now[at].facts, now[at].names);
			}
	policy_state_free(st);
	shared_release(&set->shared);
}

/* writ's own names, when an attribute has one of them. */
static void no_attribute_stands_in(void **state)
{
	static const struct policy_attribute attributes[] = {
		{ STR_INIT("id"), STR_INIT("me") }, { STR_INIT("state"), STR_INIT("x") }
	};
	struct policy_set *set = policy_help_rules(
		"policy 'p' { permit 'a' { on = { action = 'look' }, when = function(q) return "
		"q.agent.id == 'spiffe://e/a' and q.agent.state == 'active' end } }");
	struct policy_state *st = policy_state_new(set, &mem_system, &clock_system, NULL);
	struct policy_request q;
	struct policy_result r;
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, 1 << 20);
	policy_help_request("{\"action\":{\"name\":\"look\"}}", &a, &q);
	q.agent_id = STR("spiffe://e/a");
	q.agent_state = STR("active");
	q.attributes = attributes;
	q.nattributes = 2;
	for (int i = 0; i < ROUNDS; i++) {
		policy_evaluate(st, &q, &a, &r);
		assert_int_equal(r.decision, DECISION_PERMIT);
	}
	policy_state_free(st);
	arena_clear(&a);
	shared_release(&set->shared);
}

/* However many agents come, and how large they are: each is itself, and the state stays small. */
static void crowds(void **state)
{
	struct policy_set *set = policy_help_rules(mirror);
	struct policy_help_alloc pool;
	struct policy_state *st;
	char facts[8192], big[4096];

	(void)state;
	policy_help_alloc_init(&pool);
	st = policy_state_new(set, &pool.alloc, &clock_system, NULL);
	memset(big, 'b', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	for (int i = 0; i < 3000; i++) {
		const char *note = i % 5 ? "short" : big + (i % 2 ? 2000 : 0);

		snprintf(facts, sizeof(facts),
			 "{\"id\":\"spiffe://acme.example/agent/%d\",\"owner\":\"ann\",\"state\":"
			 "\"active\",\"note\":\"%s\",\"team\":\"t%d\"}",
			 i, note, i % 7);
		for (int n = 0; n < 4; n++)
			look(st, facts, facts, "idnoteownerstateteam-id-note-owner-state-team");
	}
	assert_true(pool.peak < 1024 * 1024);
	policy_state_free(st);
	assert_int_equal(pool.live, 0);
	shared_release(&set->shared);
}

/* What is kept is no evaluation's: each has its whole memory, and not more. */
static void the_budget_is_the_same(void **state)
{
	static const char *const source =
		"policy 'p' { permit 'a' { on = { action = 'fill' }, when = function(q)\n"
		"  local t = {}\n"
		"  for i = 1, q.context.kib do t[i] = str.upper(q.context.text) .. i end\n"
		"  return q.agent.team == 'x' end } }";
	struct clock_fixed still = { 0, 0 }; /* memory is the only budget */
	struct clock clock = clock_of_fixed(&still);
	struct policy_set *set = policy_help_rules(source);
	struct policy_state *st = policy_state_new(set, &mem_system, &clock, NULL);
	char text[1025];
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, 1 << 22);
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (int i = 0; i < 1000; i++, arena_reset(&a)) {
		bool much = i % 100 == 99;
		struct policy_result r = policy_help_ask(
			st,
			arena_printf(
				&a,
				"{\"action\":{\"name\":\"fill\"},\"agent\":{\"id\":"
				"\"spiffe://acme.example/agent/%d\",\"team\":\"x\"},\"context\":{"
				"\"kib\":%d,\"text\":\"%s\"}}",
				i / 2,
				much	 ? 1200
				: i % 10 ? 1
					 : 850,
				text)
				.p,
			&a);

		if (much ? !str_eq(r.reason, STR("policy_budget")) : r.decision != DECISION_PERMIT)
			fail_msg("%d: %s (%.*s)", i, policy_help_text(&r, &a), STR_FMT(r.error));
	}
	policy_state_free(st);
	arena_clear(&a);
	shared_release(&set->shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(none_sees_what_another_did),
		cmocka_unit_test(an_agent_is_as_it_is_now),
		cmocka_unit_test(no_attribute_stands_in),
		cmocka_unit_test(crowds),
		cmocka_unit_test(the_budget_is_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
