/* What rules say: deny, ask, permit, nothing; on; when; what q is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "tests/policy/policy_help.h"

#define PAY                                                                                  \
	"\"action\":{\"name\":\"tools/call\",\"properties\":{\"amount\":400,\"to\":\"x\"}}," \
	"\"resource\":{\"type\":\"tool\",\"id\":\"payments/create\"},"                       \
	"\"subject\":{\"type\":\"agent\",\"id\":\"spiffe://acme.example/agent/7\"}"
#define FIN "\"agent\":{\"team\":\"finance\",\"owner\":\"ann\",\"state\":\"active\"}"
#define REQ "{" PAY "," FIN "}"
#define DOC                                                                              \
	"{\"action\":{\"name\":\"read\"},\"resource\":{\"type\":\"doc\",\"id\":\"d1\"}," \
	"\"subject\":{\"type\":\"user\",\"id\":\"bob\"}}"

static const struct {
	const char *why, *rules, *request, *expect;
} rows[] = {
	{ "no rule", "policy 'p' { permit 'a' { on = { action = 'x' } } }", REQ, "deny no_rule" },
	{ "on alone permits", "policy 'p' { permit 'a' { on = { action = 'tools/call' } } }", REQ,
	  "permit permitted p/a" },
	{ "when permits",
	  "policy 'p' { permit 'a' { on = { action = 'tools/call' }, when = function(q) return "
	  "q.args.amount < 500 end } }",
	  REQ, "permit permitted p/a" },
	{ "when is false",
	  "policy 'p' { permit 'a' { on = { action = 'tools/call' }, when = function(q) return "
	  "q.args.amount > 500 end } }",
	  REQ, "deny no_rule" },
	{ "deny beats ask and permit",
	  "policy 'p' { permit 'a' { on = { action = 'tools/call' } }, ask 'b' { on = { action = "
	  "'tools/call' } }, deny 'c' {} }",
	  REQ, "deny denied p/c" },
	{ "ask beats permit",
	  "policy 'p' { permit 'a' { on = { action = 'tools/call' } }, ask 'b' { on = { action = "
	  "'tools/call' } } }",
	  REQ, "ask approval_required p/b" },
	{ "first by name is named",
	  "policy 'z' { permit 'a' { on = { action = 'tools/call' } } }\n"
	  "policy 'b' { permit 'y' { on = { action = 'tools/call' } }, permit 'x' { on = { action = "
	  "'tools/call' }, when = function(q) return true end } }",
	  REQ, "permit permitted b/x" },
	{ "an error in a permit denies though another permits",
	  "policy 'p' { permit 'a' { on = { action = 'tools/call' } }, permit 'b' { on = { action = "
	  "'tools/call' }, when = function(q) return q.context.x.y end } }",
	  REQ, "deny policy_error p/b" },
	{ "an error in a rule that does not apply is none",
	  "policy 'p' { permit 'a' { on = { action = 'tools/call' } }, deny 'b' { on = { action = "
	  "'other' }, when = function(q) return q.context.x.y end } }",
	  REQ, "permit permitted p/a" },
	{ "a number is no boolean",
	  "policy 'p' { permit 'a' { on = { action = 'tools/call' }, when = function(q) return "
	  "q.args.amount end } }",
	  REQ, "deny policy_error p/a" },
	{ "nil is no boolean",
	  "policy 'p' { deny 'a' { when = function(q) return q.args.zzz end } }", REQ,
	  "deny policy_error p/a" },
	{ "reason of a rule", "policy 'p' { deny 'a' { reason = 'too_late' } }", REQ,
	  "deny too_late p/a" },
	{ "tool id", "policy 'p' { permit 'a' { on = { tool = 'payments/create' } } }", REQ,
	  "permit permitted p/a" },
	{ "tool ids",
	  "policy 'p' { permit 'a' { on = { tool = { 'ledger/query', 'payments/create' } } } }",
	  REQ, "permit permitted p/a" },
	{ "other tool", "policy 'p' { permit 'a' { on = { tool = 'ledger/query' } } }", REQ,
	  "deny no_rule" },
	{ "tool attribute", "policy 'p' { permit 'a' { on = { tool = { destructive = true } } } }",
	  REQ, "permit permitted p/a" },
	{ "attribute and id",
	  "policy 'p' { permit 'a' { on = { tool = { 'payments/create', destructive = false } } } }",
	  REQ, "deny no_rule" },
	{ "an element of a list attribute",
	  "policy 'p' { permit 'a' { on = { tool = { tags = { 'in', 'out' } } } } }", REQ,
	  "permit permitted p/a" },
	{ "effect", "policy 'p' { permit 'a' { on = { effect = { 'read', 'spend' } } } }", REQ,
	  "permit permitted p/a" },
	{ "other effect", "policy 'p' { permit 'a' { on = { effect = 'read' } } }", REQ,
	  "deny no_rule" },
	{ "agent attribute", "policy 'p' { permit 'a' { on = { agent = { team = 'finance' } } } }",
	  REQ, "permit permitted p/a" },
	{ "agent attribute list",
	  "policy 'p' { permit 'a' { on = { agent = { team = { 'a', 'b' } } } } }", REQ,
	  "deny no_rule" },
	{ "agent owner", "policy 'p' { permit 'a' { on = { agent = { owner = 'ann' } } } }", REQ,
	  "permit permitted p/a" },
	{ "no agent", "policy 'p' { permit 'a' { on = { agent = { team = 'finance' } } } }",
	  "{" PAY "}", "deny no_rule" },
	{ "subject",
	  "policy 'p' { permit 'a' { on = { subject = 'spiffe://acme.example/agent/7' } } }", REQ,
	  "permit permitted p/a" },
	{ "subject pattern",
	  "policy 'p' { permit 'a' { on = { subject = 'spiffe://acme.example/agent/*' } } }", REQ,
	  "permit permitted p/a" },
	{ "subject pattern of others",
	  "policy 'p' { permit 'a' { on = { subject = 'spiffe://acme.example/ci/*' } } }", REQ,
	  "deny no_rule" },
	{ "subject speaks of the registered agent only",
	  "policy 'p' { permit 'a' { on = { subject = 'spiffe://acme.example/agent/*' } } }",
	  "{" PAY "}", "deny no_rule" },
	{ "resource and id", "policy 'p' { permit 'a' { on = { resource = 'doc', id = 'd1' } } }",
	  DOC, "permit permitted p/a" },
	{ "no folding of case", "policy 'p' { permit 'a' { on = { action = 'READ' } } }", DOC,
	  "deny no_rule" },
	{ "q as sent",
	  "policy 'p' { permit 'a' { on = { action = 'read' }, when = function(q) return q.subject.id "
	  "== 'bob' and q.resource.type == 'doc' and q.action.name == 'read' and q.context == nil "
	  "and q.agent.id == nil and q.pep.id == 'spiffe://acme.example/gateway' and q.now == "
	  "1772614800000 and q.tool == nil end } }",
	  DOC, "permit permitted p/a" },
	{ "q of a tool",
	  "policy 'p' { permit 'a' { on = { action = 'tools/call' }, when = function(q) return "
	  "q.tool.id == 'payments/create' and q.tool.effect == 'spend' and #q.tool.tags == 2 and "
	  "q.agent.team == 'finance' and q.agent.owner == 'ann' and q.agent.state == 'active' and "
	  "q.agent.id == 'spiffe://acme.example/agent/7' and math.type(q.args.amount) == 'integer' "
	  "end } }",
	  REQ, "permit permitted p/a" },
	{ "an unknown member, reached by a trick",
	  "local k = 'aprovals'\npolicy 'p' { deny 'a' { when = function(q) return not q[k] end } }",
	  REQ, "deny policy_error p/a" },
	{ "pairs goes over all of q",
	  "policy 'p' { permit 'a' { on = { action = 'read' }, when = function(q) local s = '' for k "
	  "in pairs(q) do s = s .. k .. ' ' end return s == 'action agent args chain http now pep "
	  "resource subject user ' end } }",
	  DOC, "permit permitted p/a" },
	{ "writing through an alias changes nothing for the next rule's file order",
	  "policy 'p' { deny 'a' { when = function(q) local x = q.args x.amount = 1 return false end "
	  "}, permit 'b' { on = { action = 'tools/call' }, when = function(q) return q.args.to == "
	  "'x' end } }",
	  REQ, "permit permitted p/b" },
	{ "null is absent, in lists too",
	  "policy 'p' { permit 'a' { on = { action = 'read' }, when = function(q) return "
	  "q.context.a == nil and #q.context.l == 2 and has(q.context.l, 'y') end } }",
	  "{\"action\":{\"name\":\"read\"},\"resource\":{\"type\":\"doc\",\"id\":\"d1\"},\"context\":"
	  "{\"a\":null,\"l\":[null,\"x\",null,\"y\"]}}",
	  "permit permitted p/a" },
	{ "the HTTP request behind the question",
	  "policy 'p' { permit 'a' { on = { action = 'GET' }, when = function(q) return "
	  "q.http.host == 'h' and q.http.headers['mcp-name'] == 'x' end } }",
	  "{\"action\":{\"name\":\"GET\"},\"resource\":{\"type\":\"route\",\"id\":\"/\"},\"http\":"
	  "{\"headers\":{\"mcp-name\":\"x\"},\"host\":\"h\"}}",
	  "permit permitted p/a" },
	{ "no HTTP request: empty, not absent",
	  "policy 'p' { permit 'a' { on = { action = 'read' }, when = function(q) return "
	  "q.http.host == nil end } }",
	  "{\"action\":{\"name\":\"read\"},\"resource\":{\"type\":\"doc\",\"id\":\"d1\"}}",
	  "permit permitted p/a" },
	{ "on whose behalf, and through whom",
	  "policy 'p' { permit 'a' { on = { action = 'read' }, when = function(q) return "
	  "q.user.id == 'alice' and q.user.issuer == 'https://idp' and #q.user.scope == 2 and "
	  "has(q.user.scope, 'b:c') and #q.chain == 2 and q.chain[1] == 'spiffe://x/1' and "
	  "q.chain[2] == 'spiffe://x/2' end } }",
	  "{\"action\":{\"name\":\"read\"},\"resource\":{\"type\":\"doc\",\"id\":\"d1\"},"
	  "\"delegation\":{\"user\":\"alice\",\"issuer\":\"https://idp\",\"scope\":\"a b:c\","
	  "\"chain\":[\"spiffe://x/1\",\"spiffe://x/2\"]}}",
	  "permit permitted p/a" },
	{ "an agent that began by itself: no user",
	  "policy 'p' { permit 'a' { on = { action = 'read' }, when = function(q) return "
	  "q.user.id == nil and q.user.issuer == nil and #q.user.scope == 0 and #q.chain == 1 end } }",
	  "{\"action\":{\"name\":\"read\"},\"resource\":{\"type\":\"doc\",\"id\":\"d1\"},"
	  "\"delegation\":{\"scope\":\"\",\"chain\":[\"spiffe://x/1\"]}}",
	  "permit permitted p/a" },
	{ "nobody's behalf, whatever the asker claims",
	  "policy 'p' { permit 'a' { on = { action = 'read' }, when = function(q) return "
	  "q.user.id == nil and q.user.scope == nil and #q.chain == 0 and "
	  "q.context.user == 'alice' end } }",
	  "{\"action\":{\"name\":\"read\"},\"resource\":{\"type\":\"doc\",\"id\":\"d1\"},"
	  "\"context\":{\"user\":\"alice\",\"chain\":[\"spiffe://x/1\"]},\"user\":\"alice\"}",
	  "permit permitted p/a" },
	{ "model",
	  "policy 'p' { permit 'a' { on = { action = 'models/invoke' }, when = function(q) return "
	  "q.model.tier > 2 and q.model.price.output == 15 end } }",
	  "{\"action\":{\"name\":\"models/invoke\"},\"resource\":{\"type\":\"model\",\"id\":"
	  "\"gpt-large\"}}",
	  "permit permitted p/a" },
	{ "constants can be read",
	  "local limits = { finance = 500, list = { 1, 2, 3 } }\npolicy 'p' { permit 'a' { on = { "
	  "action = 'tools/call' }, when = function(q) local n = 0 for _, v in ipairs(limits.list) do "
	  "n = n + v end for k, v in pairs(limits.list) do n = n + v end return q.args.amount < "
	  "limits[q.agent.team] and #limits.list == 3 and n == 12 and has(limits.list, 2) end } }",
	  REQ, "permit permitted p/a" },
};

static void rules_decide_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct policy_set *set = policy_help_rules(rows[i].rules);
		struct policy_state *st = policy_state_new(set, &mem_system, &clock_system, NULL);
		struct arena a;

		arena_init(&a, &mem_system, 1 << 20);
		for (int again = 0; again < 2; again++) {
			struct policy_result r = policy_help_ask(st, rows[i].request, &a);
			const char *got = policy_help_text(&r, &a);

			if (strcmp(got, rows[i].expect) != 0)
				fail_msg("%s: %s, not %s (%.*s)", rows[i].why, got, rows[i].expect,
					 STR_FMT(r.error));
		}
		arena_clear(&a);
		policy_state_free(st);
		shared_release(&set->shared);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules_decide_the_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
