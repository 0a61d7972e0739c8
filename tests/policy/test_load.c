/* What a load refuses and what it only warns of; the catalogue; sources. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/base/text.h"
#include "tests/policy/policy_help.h"

#define RULE(on, more) "policy 'p' { permit 'a' { on = { " on " } " more " } }"
#define OBLIGE(list) RULE("action = 'x'", ", obligations = { " list " }")
#define WHEN(body) RULE("action = 'x'", ", when = function(q) " body " end")

/* One file of rules beside the catalogue: the first finding's line, kind and text. */
static const struct {
	const char *why, *rules;
	int line;
	char kind; /* e error, w warning, - nothing */
	const char *part;
} rows[] = {
	{ "fine", RULE("action = 'x'", ""), 0, '-', "" },
	{ "syntax", "policy 'p' {\n\npermit 'a' { on = }\n}", 3, 'e',
	  "unexpected symbol near '}'" },
	{ "cut short", "policy 'p' {", 1, 'e', "expected" },
	{ "unknown rule key", RULE("action = 'x'", ", obligation = 1"), 1, 'e',
	  "did you mean \"obligations\"?" },
	{ "unknown on key", RULE("acton = 'x'", ""), 1, 'e', "did you mean \"action\"?" },
	{ "budget is not built yet", RULE("action = 'x'", ", budget = {}"), 1, 'e',
	  "no \"budget\" yet" },
	{ "line of a rule",
	  "policy 'p' {\n permit 'a' { on = { action = 'x' } },\n deny 'b' { x = 1 },"
	  "\n}",
	  3, 'e', "has no \"x\"" },
	{ "permit without on", "policy 'p' { permit 'a' { } }", 1, 'e', "on is required" },
	{ "ask with an empty on", "policy 'p' { ask 'a' { on = {} } }", 1, 'e', "on is required" },
	{ "deny without on", "policy 'p' { deny 'a' {} }", 0, '-', "" },
	{ "empty list", RULE("action = {}", ""), 1, 'e', "on.action is neither" },
	{ "number as action", RULE("action = 7", ""), 1, 'e', "on.action is neither" },
	{ "function in on", RULE("action = fail", ""), 1, 'e', "is a function" },
	{ "unknown tool", RULE("tool = 'payments/crate'", ""), 1, 'e',
	  "did you mean \"payments/create\"?" },
	{ "unknown model", RULE("model = 'gpt-larg'", ""), 1, 'e', "did you mean \"gpt-large\"?" },
	{ "unknown effect", RULE("effect = 'delte'", ""), 1, 'e', "did you mean \"delete\"?" },
	{ "unknown tool attribute", RULE("tool = { destuctive = true }", ""), 1, 'e',
	  "did you mean \"destructive\"?" },
	{ "bad subject", RULE("subject = 'acme/*'", ""), 1, 'e', "is no pattern" },
	{ "when is no function", RULE("action = 'x'", ", when = true"), 1, 'e',
	  "when is a function" },
	{ "when is a word", RULE("action = 'x'", ", when = has"), 1, 'e', "when is a function" },
	{ "reason", RULE("action = 'x'", ", reason = 'Too Late'"), 1, 'e', "[a-z0-9_]" },
	{ "message with a control character", RULE("action = 'x'", ", message = 'a\\27b'"), 1, 'e',
	  "printable" },
	{ "approvers of a permit", RULE("action = 'x'", ", approvers = 'ann'"), 1, 'e',
	  "only an ask" },
	{ "obligations", RULE("action = 'x'", ", obligations = { 'log' }"), 1, 'e',
	  "list of tables" },
	{ "obligations with a function", RULE("action = 'x'", ", obligations = { { f = fail } }"),
	  1, 'e', "is a function" },
	{ "obligations of all types",
	  OBLIGE("{ id = 'a', type = 'step-up', properties = { acr_value = 'x', amr_values = { 'mfa' } } },"
		 "{ id = 'b', type = 'step-up', properties = { acr_value = 'x' } },"
		 "{ id = 'c', type = 'notification', properties = { to = 'x', body = 'y' } },"
		 "{ id = 'd', type = 'notification', properties = { to = 'x', body = 'y', topic = 'z' } },"
		 "{ id = 'e', type = 'session_termination', properties = { subject = 'x' } },"
		 "{ id = 'f', type = 'custom', properties = {} },"
		 "{ id = 'g', type = 'custom', properties = { any = { 1, { x = true } } } }"),
	  0, '-', "" },
	{ "no obligations", OBLIGE(""), 0, '-', "" },
	{ "obligation without id", OBLIGE("{ type = 'custom', properties = {} }"), 1, 'e',
	  "obligation 1 needs an id" },
	{ "obligation with a number", OBLIGE("{ id = 1, type = 'custom', properties = {} }"), 1,
	  'e', "needs an id" },
	{ "obligation with an empty id", OBLIGE("{ id = '', type = 'custom', properties = {} }"), 1,
	  'e', "needs an id" },
	{ "obligation without type", OBLIGE("{ id = 'a', properties = {} }"), 1, 'e',
	  "type is step-up, notification, session_termination or custom" },
	{ "obligation of a near type",
	  OBLIGE("{ id = 'a', type = 'notfication', properties = {} }"), 1, 'e',
	  "did you mean \"notification\"?" },
	{ "obligation without properties", OBLIGE("{ id = 'a', type = 'custom' }"), 1, 'e',
	  "\"a\" needs properties" },
	{ "properties a list", OBLIGE("{ id = 'a', type = 'custom', properties = { 1 } }"), 1, 'e',
	  "needs properties" },
	{ "member beside the three",
	  OBLIGE("{ id = 'a', type = 'custom', properties = {}, propertys = {} }"), 1, 'e',
	  "has \"propertys\"; did you mean \"properties\"?" },
	{ "step-up without a level", OBLIGE("{ id = 'a', type = 'step-up', properties = {} }"), 1,
	  'e', "(step-up) needs properties.acr_value" },
	{ "step-up with one method",
	  OBLIGE("{ id = 'a', type = 'step-up', properties = { acr_value = 'x', amr_values = 'mfa' } }"),
	  1, 'e', "properties.amr_values must be a list of texts" },
	{ "step-up with a number as method",
	  OBLIGE("{ id = 'a', type = 'step-up', properties = { acr_value = 'x', amr_values = { 1 } } }"),
	  1, 'e', "properties.amr_values must be a list of texts" },
	{ "notification to nobody",
	  OBLIGE("{ id = 'a', type = 'notification', properties = { body = 'x' } }"), 1, 'e',
	  "needs properties.to" },
	{ "notification of nothing",
	  OBLIGE("{ id = 'a', type = 'notification', properties = { to = 'x' } }"), 1, 'e',
	  "needs properties.body" },
	{ "notification with a slip",
	  OBLIGE("{ id = 'a', type = 'notification', properties = { to = 'x', body = 'y', topci = 'z' } }"),
	  1, 'e', "has no properties.topci; did you mean \"topic\"?" },
	{ "termination of nobody",
	  OBLIGE("{ id = 'a', type = 'session_termination', properties = {} }"), 1, 'e',
	  "needs properties.subject" },
	{ "termination of a number",
	  OBLIGE("{ id = 'a', type = 'session_termination', properties = { subject = 7 } }"), 1,
	  'e', "properties.subject must be a text" },
	{ "one id twice",
	  OBLIGE("{ id = 'a', type = 'custom', properties = {} }, { id = 'b', type = 'custom', "
		 "properties = {} }, { id = 'a', type = 'custom', properties = {} }"),
	  1, 'e', "obligation 3 has the id \"a\" of obligation 1" },
	{ "name with a slash", "policy 'p' { permit 'a/b' { on = { action = 'x' } } }", 1, 'e',
	  "without '/'" },
	{ "policy name", "policy 'P' { permit 'a' { on = { action = 'x' } } }", 1, 'e',
	  "[a-z0-9_-]" },
	{ "twice", "policy 'p' { deny 'a' {},\n deny 'a' {} }", 2, 'e', "names are unique" },
	{ "twice with other effects",
	  "policy 'p' { deny 'a' {},\n permit 'a' { on = { action = 'x' } } }", 2, 'e',
	  "names are unique" },
	{ "a rule in no policy", "deny 'a' {}", 1, 'e', "stands in no policy" },
	{ "a rule without a table", "policy 'p' { }\nlocal x = deny 'a'", 2, 'e', "has no table" },
	{ "a policy without a table", "local x = policy 'p'", 1, 'e', "has no table" },
	{ "a rule in two policies", "local r = deny 'a' {}\npolicy 'p' { r }\npolicy 'o' { r }", 1,
	  'e', "already" },
	{ "a hole between rules", "policy 'p' { deny 'a' {}, nil, deny 'b' {} }", 1, 'e',
	  "no plain list" },
	{ "something else in a policy", "policy 'p' { { on = {} } }", 1, 'e', "is no rule" },
	{ "a key in a policy", "policy 'p' { version = 1, deny 'a' {} }", 1, 'e', "has a key" },
	{ "tool in a rule file", "tool 'a/b' { effect = 'read' }", 1, 'e',
	  "\"tool\" is not known here" },
	{ "q.session", WHEN("return q.session.x"), 1, 'e', "no q.session yet" },
	{ "q.budget in brackets", WHEN("return q[\"budget\"].x"), 1, 'e', "no q.budget yet" },
	{ "q.approval of a parameter of another name",
	  RULE("action = 'x'", ", when = function(req) return req.approval.x end"), 1, 'e',
	  "no q.approval yet" },
	{ "q.user and q.chain",
	  WHEN("return q.user.id == 'a' and q.user.issuer == 'b' and has(q.user.scope, 'c') and "
	       "q.chain[1] == 'd' and #q.chain < 3"),
	  0, '-', "" },
	{ "q.user.name", WHEN("return q.user.name == 'alice'"), 1, 'e', "q.user has no \"name\"" },
	{ "q.user.isuer", WHEN("return q.user.isuer == 'x'"), 1, 'e', "did you mean \"issuer\"?" },
	{ "q.chain.first", WHEN("return q.chain.first == 'x'"), 1, 'e', "q.chain[1]" },
	{ "writing to q.user", WHEN("q.user.id = 'x' return true"), 1, 'e', "q is read-only" },
	{ "q.subjct", WHEN("return q.subjct.id == 1"), 1, 'e', "did you mean \"subject\"?" },
	{ "q.http.metod", WHEN("return q.http.metod == 1"), 1, 'e', "did you mean \"method\"?" },
	{ "q.http.headers", WHEN("return q.http.headers['mcp-name'] == q.http.body"), 0, '-', "" },
	{ "q.tool.efect", WHEN("return q.tool.efect == 1"), 1, 'e', "did you mean \"effect\"?" },
	{ "q.model.tir", WHEN("return q.model.tir == 1"), 1, 'e', "did you mean \"tier\"?" },
	{ "q.args.amuont", WHEN("return q.args.amuont == 1"), 1, 'w', "did you mean \"amount\"?" },
	{ "writing to q", WHEN("q.args.amount = 1 return true"), 1, 'e', "q is read-only" },
	{ "unknown word", WHEN("return hass(q.args.x, 1)"), 1, 'e', "did you mean \"has\"?" },
	{ "unknown member", WHEN("return time.beetween(q.now)"), 1, 'e',
	  "did you mean \"between\"?" },
	{ "zone", WHEN("return time.between(q.now, '09:00', '18:00', 'Europe/Berln')"), 1, 'e',
	  "no time zone \"Europe/Berln\"" },
	{ "zone outside the folder", WHEN("return time.weekday(q.now, '../etc/passwd') == 1"), 1,
	  'e', "no time zone" },
	{ "zone of this world", WHEN("return time.weekday(q.now, 'Asia/Tokyo') == 1"), 0, '-', "" },
	{ "an error while running the file", "local t = nil\nlocal x = t.y", 2, 'e', "nil value" },
	{ "a loop for ever", "while true do end", 1, 'e', "stopped after" },
	{ "all the memory", "local t = {} while true do t[#t + 1] = { #t } end", 0, 'e', "" },
	{ "not UTF-8", "-- a\n-- \xff\n", 2, 'e', "not UTF-8" },
	{ "no rules", "local x = 1", 0, 'w', "states no rules" },
	{ "comments and long texts are no code",
	  "--[[ q.session ]] -- q.session\nlocal s = [==[ q.session ]] ]==]\n" RULE("action = 'x'",
										    ""),
	  0, '-', "" },
};

static void findings_are_those_of_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct policy_findings f;
		struct policy_set *set = policy_help_load(&f, "p.lua", rows[i].rules,
							  "catalogue/all.lua",
							  policy_help_catalogue, NULL);
		const struct policy_finding *got = policy_help_finding(&f, "p.lua", rows[i].part);

		if (!set != (rows[i].kind == 'e'))
			fail_msg("%s: %s", rows[i].why, set ? "loaded" : "not loaded");
		if (rows[i].kind == '-' ? got != NULL
					: !got || got->error != (rows[i].kind == 'e') ||
						  (rows[i].line && got->line != rows[i].line))
			fail_msg("%s: line %d: %s", rows[i].why, got ? got->line : 0,
				 got   ? got->message.p
				 : f.n ? f.items[0].message.p
				       : "nothing");
		policy_findings_clear(&f);
		if (set)
			shared_release(&set->shared);
	}
}

static const struct {
	const char *why, *entry;
	char kind;
	const char *part;
} entries[] = {
	{ "fine", "tool 'a.b-c_1/x/y' { effect = 'read', args = {} }", '-', "" },
	{ "no args", "tool 'a/b' { effect = 'read' }", 'w', "declares no args" },
	{ "no effect", "tool 'a/b' { args = {} }", 'e', "one of read, write" },
	{ "unknown effect", "tool 'a/b' { effect = 'writ', args = {} }", 'e',
	  "did you mean \"write\"?" },
	{ "no server", "tool 'b' { effect = 'read' }", 'e', "SERVER/TOOL" },
	{ "upper-case server", "tool 'A/b' { effect = 'read' }", 'e', "SERVER/TOOL" },
	{ "empty tool", "tool 'a/' { effect = 'read' }", 'e', "SERVER/TOOL" },
	{ "type", "tool 'a/b' { effect = 'read', args = { n = 'numbr' } }", 'e',
	  "did you mean \"number\"?" },
	{ "type that is no text", "tool 'a/b' { effect = 'read', args = { n = 1 } }", 'e',
	  "has type" },
	{ "args that are a list", "tool 'a/b' { effect = 'read', args = { 'n' } }", 'e',
	  "args is a table" },
	{ "twice", "model 'm' {} model 'm' {}", 'e', "already at" },
	{ "id is writ's", "model 'm' { id = 'x' }", 'e', "writ's word" },
	{ "a function", "model 'm' { f = fail }", 'e', "a function" },
	{ "a list", "model 'm' { 1, 2 }", 'e', "is a list" },
	{ "without a table", "local x = model 'm'", 'e', "has no table" },
	{ "a rule in the catalogue", "policy 'p' { deny 'x' {} }", 'e', "\"policy\" is not known" },
	{ "nested data", "model 'm' { price = { input = 1, output = 2.5 }, list = { 1, 2 } }", '-',
	  "" },
};

static void entries_are_checked(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(entries); i++) {
		struct policy_findings f;
		struct policy_set *set = policy_help_load(&f, "p.lua", "policy 'p' { deny 'a' {} }",
							  "catalogue/c.lua", entries[i].entry,
							  NULL);

		if (!set != (entries[i].kind == 'e') || (entries[i].kind == '-') != (f.n == 0) ||
		    (f.n && !policy_help_finding(&f, NULL, entries[i].part)))
			fail_msg("%s: %s", entries[i].why, f.n ? f.items[0].message.p : "nothing");
		policy_findings_clear(&f);
		if (set)
			shared_release(&set->shared);
	}
}

#define CALL(id, args)                                                                          \
	"{\"action\":{\"name\":\"tools/call\",\"properties\":" args "},\"resource\":{\"type\":" \
	"\"tool\",\"id\":\"" id "\"}}"

static const struct {
	const char *why, *request, *expect, *message;
} calls[] = {
	{ "right",
	  CALL("t/all", "{\"s\":\"x\",\"n\":1.5,\"i\":3,\"b\":true,\"o\":{},\"a\":[],\"x\":1}"),
	  "permit permitted p/a", "" },
	{ "optional",
	  CALL("t/all", "{\"s\":\"x\",\"n\":1,\"i\":3,\"b\":true,\"o\":{},\"a\":[],\"x\":[]"
			",\"z\":\"y\"}"),
	  "permit permitted p/a", "" },
	{ "optional null", CALL("t/one", "{\"n\":1,\"m\":null}"), "permit permitted p/a", "" },
	{ "integral", CALL("t/one", "{\"n\":1,\"m\":2.0}"), "permit permitted p/a", "" },
	{ "no integer", CALL("t/one", "{\"n\":1,\"m\":2.5}"), "deny invalid_arguments",
	  "argument \"m\" of t/one is number, not an integer" },
	{ "text for number", CALL("t/one", "{\"n\":\"500\"}"), "deny invalid_arguments",
	  "argument \"n\" of t/one is string, not a number" },
	{ "missing", CALL("t/one", "{}"), "deny invalid_arguments", "\"n\" of t/one is missing" },
	{ "null for required", CALL("t/one", "{\"n\":null}"), "deny invalid_arguments",
	  "is missing" },
	{ "null for any",
	  CALL("t/all", "{\"s\":\"x\",\"n\":1,\"i\":3,\"b\":true,\"o\":{},\"a\":[],\"x\":null}"),
	  "deny invalid_arguments", "\"x\" of t/all is missing" },
	{ "optional ones before and behind", CALL("t/three", "{\"b\":\"x\"}"),
	  "permit permitted p/a", "" },
	{ "one of them", CALL("t/three", "{\"b\":\"x\",\"c\":\"x\"}"), "permit permitted p/a", "" },
	{ "all of them, in no order", CALL("t/three", "{\"c\":\"x\",\"a\":\"x\",\"b\":\"x\"}"),
	  "permit permitted p/a", "" },
	{ "optional ones alone", CALL("t/three", "{\"a\":\"x\",\"c\":\"x\"}"),
	  "deny invalid_arguments", "\"b\" of t/three is missing" },
	{ "an optional one of another type", CALL("t/three", "{\"a\":1,\"b\":\"x\"}"),
	  "deny invalid_arguments", "\"a\" of t/three is integer, not a string" },
	{ "undeclared behind the last", CALL("t/three", "{\"b\":\"x\",\"d\":\"x\"}"),
	  "deny invalid_arguments", "\"d\" is not declared" },
	{ "names that UTF-16 has in another order",
	  CALL("t/far", "{\"\\uf000\":1,\"\\ud800\\udc00\":1}"), "permit permitted p/a", "" },
	{ "undeclared", CALL("t/one", "{\"n\":1,\"evil\":1}"), "deny invalid_arguments",
	  "\"evil\" is not declared" },
	{ "none taken", CALL("t/none", "{\"n\":1}"), "deny invalid_arguments", "not declared" },
	{ "unchecked", CALL("t/free", "{\"n\":1,\"evil\":1}"), "permit permitted p/a", "" },
	{ "no object", CALL("t/free", "[1]"), "deny invalid_arguments", "not an object" },
	{ "null object", CALL("t/none", "null"), "permit permitted p/a", "" },
	{ "unknown tool", CALL("t/evil", "{}"), "deny unknown_tool", "\"t/evil\" is not" },
	{ "unknown model",
	  "{\"action\":{\"name\":\"models/invoke\"},\"resource\":{\"type\":\"model\",\"id\":\"x\"}}",
	  "deny unknown_model", "\"x\" is not" },
	{ "no id", "{\"action\":{\"name\":\"tools/call\"},\"resource\":{\"type\":\"tool\"}}",
	  "deny unknown_tool", "" },
	{ "other actions skip the catalogue",
	  "{\"action\":{\"name\":\"tools/list\"},\"resource\":{\"type\":\"tool\",\"id\":\"t/evil\"}}",
	  "deny no_rule", "no rule" },
	{ "other types skip the catalogue",
	  "{\"action\":{\"name\":\"tools/call\"},\"resource\":{\"type\":\"doc\",\"id\":\"t/evil\"}}",
	  "permit permitted p/a", "" },
};

static void arguments_are_checked(void **state)
{
	struct policy_set *set = policy_help_load(
		NULL, "catalogue/c.lua",
		"tool 't/all' { effect = 'read', args = { s = 'string', n = 'number', i = 'integer', b = "
		"'boolean', o = 'object', a = 'array', x = 'any', z = 'string?' } }\n"
		"tool 't/one' { effect = 'read', args = { n = 'number', m = 'integer?' } }\n"
		"tool 't/none' { effect = 'read', args = {} }\n"
		"tool 't/free' { effect = 'read' }\n"
		"tool 't/three' { effect = 'read', args = { a = 'string?', b = 'string', c = "
		"'string?' } }\n"
		"tool 't/far' { effect = 'read', args = { ['\\u{f000}'] = 'any', ['\\u{10000}'] = "
		"'any' } }\n",
		"p.lua", "policy 'p' { permit 'a' { on = { action = 'tools/call' } } }", NULL);
	struct policy_state *st = policy_state_new(set, &mem_system, &clock_system, NULL);
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, 1 << 20);
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		struct policy_result r = policy_help_ask(st, calls[i].request, &a);

		if (strcmp(policy_help_text(&r, &a), calls[i].expect) != 0 ||
		    !strstr(r.message.n ? r.message.p : "", calls[i].message))
			fail_msg("%s: %s: %.*s", calls[i].why, policy_help_text(&r, &a),
				 STR_FMT(r.message));
	}
	policy_state_free(st);
	arena_clear(&a);
	shared_release(&set->shared);
}

static void results_are_canonical(void **state)
{
	struct policy_set *set = policy_help_rules(
		"policy 'p' { ask 'a' { on = { action = 'x' }, message = 'ask first', approvers = { 'b', "
		"'a' }, obligations = { { type = 'custom', id = 'z', properties = { b = 1, a = 2.50, "
		"['\xef\xbf\xbd'] = 1, ['\xf0\x9f\x9a\x80'] = 2 } }, { id = 'a', type = 'custom', "
		"properties = { list = { 3, 1 }, empty = {} } } } } }");
	struct policy_state *st = policy_state_new(set, &mem_system, &clock_system, NULL);
	struct policy_result r;
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, 1 << 20);
	r = policy_help_ask(st, "{\"action\":{\"name\":\"x\"}}", &a);
	policy_state_free(st);
	shared_release(&set->shared); /* the result outlives the set */
	assert_string_equal(policy_help_text(&r, &a), "ask approval_required p/a");
	assert_string_equal(r.message.p, "ask first");
	assert_string_equal(r.approvers.p, "[\"b\",\"a\"]");
	assert_string_equal(
		r.obligations.p,
		"[{\"id\":\"z\",\"properties\":{\"a\":2.5,\"b\":1,\"\xf0\x9f\x9a\x80\":2,"
		"\"\xef\xbf\xbd\":1},\"type\":\"custom\"},{\"id\":\"a\",\"properties\":"
		"{\"empty\":{},\"list\":[3,1]},\"type\":\"custom\"}]");
	arena_clear(&a);
}

static void count(void *ctx, struct str policy, struct str rule, const char *effect,
		  struct str file, int line, struct str on)
{
	assert_true(str_eq(policy, STR("p")) && str_eq(rule, STR("a")) && line == 1);
	assert_string_equal(effect, "permit");
	assert_true(str_eq(file, STR("rules.lua")));
	assert_true(
		str_eq(on,
		       STR("action=x|y agent.team=ops tool.destructive=true tool=ledger/query")));
	++*(int *)ctx;
}

static void rules_are_listed(void **state)
{
	struct policy_set *set = policy_help_rules(
		"policy 'p' { permit 'a' { on = { tool = { 'ledger/query', destructive = true }, action = { "
		"'x', 'y' }, agent = { team = 'ops' } } } }");
	int n = 0;

	(void)state;
	assert_int_equal(policy_set_rule_count(set), 1);
	policy_set_rules(set, count, &n);
	assert_int_equal(n, 1);
	shared_release(&set->shared);
}

static const struct {
	enum policy_names which;
	const char *after;
	size_t max;
	const char *names;
} lists[] = {
	{ POLICY_TOOLS, "", 9, "files/write ledger/query payments/create " },
	{ POLICY_TOOLS, "files/write", 1, "ledger/query " },
	{ POLICY_TOOLS, "files/writf", 9, "ledger/query payments/create " },
	{ POLICY_TOOLS, "payments/create", 9, "" },
	{ POLICY_TOOLS, "", 0, "" },
	{ POLICY_MODELS, "", 9, "gpt-large gpt-small " },
	{ POLICY_ACTIONS, "", 9, "models/invoke print tools/call x " },
	{ POLICY_ACTIONS, "models/invoke", 2, "print tools/call " },
};

static void names_are_listed(void **state)
{
	struct policy_set *set = policy_help_rules(
		"policy 'p' { permit 'a' { on = { action = { 'x', 'tools/call' } } }, deny 'b' {},"
		" ask 'c' { on = { action = 'print', resource = 'page' } },"
		" permit 'd' { on = { action = { 'x' }, id = 'y' } } }");

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		struct str names[9];
		char text[200] = "";
		size_t n = policy_set_names(set, lists[i].which, str_c(lists[i].after), names,
					    lists[i].max);

		for (size_t k = 0; k < n; k++)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%.*s ",
				 STR_FMT(names[k]));
		assert_string_equal(text, lists[i].names);
	}
	shared_release(&set->shared);
}

static void put(const char *dir, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void folders_are_read_in_order(void **state)
{
	char dir[] = "/tmp/writ-sources-XXXXXX", sub[64], link[64];
	struct policy_file same[] = { { STR_INIT("z_test.lua"), STR_INIT("c") },
				      { STR_INIT("a.lua"), STR_INIT("a") },
				      { STR_INIT("catalogue/t.lua"), STR_INIT("b") } };
	struct policy_sources s, t;
	struct err e = { 0 };
	char hex[65] = { 0 };

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(sub, sizeof(sub), "%s/catalogue", dir);
	assert_int_equal(mkdir(sub, 0700), 0);
	put(dir, "a.lua", "a");
	put(sub, "t.lua", "b");
	put(dir, "z_test.lua", "c");
	put(dir, "README.md", "not read");
	put(dir, ".hidden.lua", "not read");
	if (!policy_sources_read(&s, dir, &e) || !policy_sources_from(&t, same, 3, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(s.n, 3);
	assert_true(str_eq(s.files[0].path, STR("a.lua")));
	assert_true(str_eq(s.files[1].path, STR("catalogue/t.lua")));
	assert_true(str_eq(s.files[2].text, STR("c")));
	assert_memory_equal(s.hash, t.hash, 32);
	text_hex(s.hash, 32, hex);
	policy_sources_clear(&t);
	same[2].text = STR("B");
	assert_true(policy_sources_from(&t, same, 3, &e));
	assert_memory_not_equal(s.hash, t.hash, 32);
	policy_sources_clear(&s);
	policy_sources_clear(&t);
	snprintf(link, sizeof(link), "%s/link.lua", dir);
	assert_int_equal(symlink("/etc/passwd", link), 0);
	assert_false(policy_sources_read(&s, dir, &e));
	assert_non_null(strstr(e.msg, "symbolic link"));
	unlink(link);
	assert_int_equal(mkfifo(link, 0600), 0);
	assert_false(policy_sources_read(&s, dir, &e)); /* and does not wait for a writer */
	unlink(link);
	assert_false(policy_sources_read(&s, "/nonexistent", &e));
	snprintf(link, sizeof(link), "rm -r %s", dir);
	assert_int_equal(system(link), 0); /* NOLINT: a folder of our own */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(findings_are_those_of_the_table),
		cmocka_unit_test(entries_are_checked),
		cmocka_unit_test(arguments_are_checked),
		cmocka_unit_test(results_are_canonical),
		cmocka_unit_test(rules_are_listed),
		cmocka_unit_test(names_are_listed),
		cmocka_unit_test(folders_are_read_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
