/* What rules say: deny, ask, permit, nothing; on; when; what q is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* The words that a rule has (policies/README.md): each expression is true. */
static const char *const words[] = {
	"type(q) == 'table' and type(q.args.amount) == 'number' and type(q.args.none) == 'nil'",
	"tostring(400) == '400' and tostring(true) == 'true' and tostring('x') == 'x'",
	"tonumber('12') == 12 and tonumber('0x10') == 16 and tonumber('') == nil and tonumber('1 x') == nil",
	"tonumber('nan') == nil and tonumber('inf') == nil and tonumber('1' .. str.sub(q.context.zeros, 1, 70)) == nil",
	"select('#') == 0 and select('#', nil, nil) == 2 and select(2, 'a', 'b', 'c') == 'b'",
	"select(-1, 'a', 'b') == 'b' and select('#', select(9, 'a')) == 0",
	"assert(7, 'x') == 7",
	"math.max(1, 3, 2) == 3 and math.tointeger(3.0) == 3 and math.type(1) == 'integer'",
	"math.floor(-0.5) == -1 and math.abs(math.mininteger + 1) == math.maxinteger",
	"str.lower('A-Z\xc3\x84') == 'a-z\xc3\x84' and str.upper('a-z\xc3\xa4') == 'A-Z\xc3\xa4'",
	"str.lower('') == '' and str.len('\xc3\x84') == 2 and str.len('') == 0",
	"str.trim(' \\t\\r\\n a b \\v\\f ') == 'a b' and str.trim('  ') == '' and str.trim('') == ''",
	"str.sub('abc', 2) == 'bc' and str.sub('abc', -2, -2) == 'b' and str.sub('abc', 0) == 'abc'",
	"str.sub('abc', 3, 2) == '' and str.sub('abc', -9, 9) == 'abc' and str.sub('', 1, 1) == ''",
	"str.sub('abc', math.mininteger, math.maxinteger) == 'abc' and str.sub('abc', 4) == ''",
	"str.sub('abc', 1, math.mininteger) == '' and str.sub('abc', math.maxinteger) == ''",
	"str.starts_with('abc', 'ab') and str.starts_with('abc', '') and not str.starts_with('a', 'ab')",
	"str.ends_with('abc', 'bc') and str.ends_with('abc', '') and not str.ends_with('c', 'bc')",
	"str.contains('abc', 'b') and str.contains('', '') and not str.contains('', 'b')",
	"#str.split('a,,b', ',') == 3 and str.split('a,,b', ',')[2] == '' and #str.split('', ',') == 1",
	"#str.split('aaa', 'aa') == 2 and str.split('aaa', 'aa')[2] == 'a'",
	"str.join({ 'a', 1, 2.5 }, '-') == 'a-1-2.5' and str.join({}, '-') == ''",
	"str.join(str.split('a,b,', ','), ',') == 'a,b,'",
	"has({ 1, 'a' }, 'a') and has({ 1 }, 1.0) and not has({ '1' }, 1) and not has({}, nil)",
	"any({ 1, 2 }, function(x) return x == 2 end) and not any({}, function() return true end)",
	"all({ 1, 2 }, function(x) return x > 0 end) and all({}, function() return false end)",
	"not all({ 1, -2 }, function(x) return x > 0 end)",
	"glob('ledger/*', 'ledger/a/b') and glob('*', '') and not glob('a*', 'ba') and glob('a*a', 'aa')",
	"not glob('a*a', 'a') and not glob('', 'a') and glob('**', 'x') and glob('a*b*c', 'a-b-bc')",
	"cidr('10.0.0.0/8', '10.255.0.1') and not cidr('10.0.0.0/8', '11.0.0.1')",
	"cidr('0.0.0.0/0', '1.2.3.4') and cidr('::/0', '::1') and cidr('::/0', '1.2.3.4')",
	"cidr('10.0.0.0/8', '::ffff:10.1.2.3')",
	"cidr('2001:db8::/33', '2001:db8:7fff::1') and not cidr('2001:db8::/33', '2001:db8:8000::1')",
	"spiffe(q.subject.id).trust_domain == 'acme.example' and spiffe(q.subject.id).path == '/agent/7'",
	"spiffe('spiffe://acme.example').path == '' and spiffe('spiffe://acme.example/') == nil",
	"spiffe('spiffe://acme.example/*') == nil and spiffe('spiffe://Acme/x') == nil and spiffe('') == nil",
	"spiffe('spiffe://acme.example/a/../b') == nil and spiffe('https://acme.example/a') == nil",
	"time.date(q.now) == '2026-03-04' and time.weekday(q.now) == 3 and time.minutes(q.now) == 9 * 60",
	"time.date(0) == '1970-01-01' and time.date(-1) == '1969-12-31' and time.weekday(0) == 4",
	"time.minutes(-1) == 24 * 60 - 1 and time.minutes(q.now, 'Europe/Berlin') == 10 * 60",
	"time.date(951782400000) == '2000-02-29' and time.weekday(951782400000) == 2",
	"time.between(q.now, '09:00', '09:01') and not time.between(q.now, '08:00', '09:00')",
	"time.between(q.now, '22:00', '09:01') and not time.between(q.now, '22:00', '09:00')",
	"time.between(q.now, '00:00', '24:00') and time.between(q.now, '10:00', '10:01', 'Europe/Berlin')",
};

static void words_mean_what_the_manual_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		char zeros[81] = "", rules[600], request[600];
		struct policy_set *set;
		struct policy_state *st;
		struct policy_result r;
		struct arena a;

		memset(zeros, '0', sizeof(zeros) - 1);
		snprintf(
			rules, sizeof(rules),
			"policy 'p' { permit 'a' { on = { action = 'tools/call' }, when = function(q) return %s end } }",
			words[i]);
		snprintf(request, sizeof(request), "{" PAY ",\"context\":{\"zeros\":\"%s\"}}",
			 zeros);
		set = policy_help_rules(rules);
		st = policy_state_new(set, &mem_system, &clock_system, NULL);
		arena_init(&a, &mem_system, 1 << 20);
		r = policy_help_ask(st, request, &a);
		if (strcmp(policy_help_text(&r, &a), "permit permitted p/a") != 0)
			fail_msg("%s: %s (%.*s)", words[i], policy_help_text(&r, &a),
				 STR_FMT(r.error));
		arena_clear(&a);
		policy_state_free(st);
		shared_release(&set->shared);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules_decide_the_table),
		cmocka_unit_test(words_mean_what_the_manual_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
