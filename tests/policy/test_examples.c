/* The example policies: they load without a word, and decide as their comments say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <string.h>

#include "tests/policy/policy_help.h"

#define TOOL(id, args)                                             \
	"\"action\":{\"name\":\"tools/call\",\"properties\":" args \
	"},\"resource\":{\"type\":\"tool\","                       \
	"\"id\":\"" id "\"}"
#define MODEL(id, args)                                               \
	"\"action\":{\"name\":\"models/invoke\",\"properties\":" args \
	"},\"resource\":{\"type\":\"model\","                         \
	"\"id\":\"" id "\"}"
#define TEAM(t) ",\"agent\":{\"team\":\"" t "\"}"
#define CONTRACTOR                                                                                     \
	",\"agent\":{\"id\":\"spiffe://acme.example/contractor/initech/a1\",\"company\":\"initech\"}," \
	"\"context\":{\"ip\":\"10.1.2.3\"}"
#define EVENING ",\"now\":1772650800000" /* 2026-03-04 19:00 UTC */
#define SATURDAY ",\"now\":1772874000000"
#define DAWN ",\"now\":1772611140000" /* 07:59 UTC is 08:59 in Berlin */

static const struct {
	const char *why, *request, *expect;
} rows[] = {
	{ "books in office hours",
	  "{" TOOL("ledger/query", "{\"account\":\"a\"}") TEAM("finance") "}",
	  "permit permitted finance/read-only tools in office hours" },
	{ "in the evening",
	  "{" TOOL("ledger/query", "{\"account\":\"a\"}") TEAM("finance") EVENING "}",
	  "deny no_rule" },
	{ "before nine in Berlin",
	  "{" TOOL("ledger/query", "{\"account\":\"a\"}") TEAM("finance") DAWN "}",
	  "deny no_rule" },
	{ "on Saturday",
	  "{" TOOL("ledger/query", "{\"account\":\"a\"}") TEAM("finance") SATURDAY "}",
	  "deny no_rule" },
	{ "payment of 500",
	  "{" TOOL("payments/create", "{\"amount\":500,\"to\":\"x\"}") TEAM("finance") "}",
	  "permit permitted finance/payments" },
	{ "payment over 500",
	  "{" TOOL("payments/create", "{\"amount\":500.01,\"to\":\"x\"}") TEAM("finance") "}",
	  "ask approval_required finance/payment over 500" },
	{ "amount as a text",
	  "{" TOOL("payments/create", "{\"amount\":\"500\",\"to\":\"x\"}") TEAM("finance") "}",
	  "deny invalid_arguments" },
	{ "payment of nothing",
	  "{" TOOL("payments/create", "{\"amount\":0,\"to\":\"x\"}") TEAM("finance") "}",
	  "deny bad_amount finance/amounts of nothing or less" },
	{ "payment by others",
	  "{" TOOL("payments/create", "{\"amount\":5,\"to\":\"x\"}") TEAM("ops") "}",
	  "deny no_rule" },
	{ "small model", "{" MODEL("gpt-small", "{}") TEAM("ops") "}",
	  "permit permitted research/small models for everyone" },
	{ "large model", "{" MODEL("gpt-large", "{\"max_tokens\":16384}") TEAM("research") "}",
	  "permit permitted research/large models for research" },
	{ "large model of others", "{" MODEL("gpt-large", "{}") TEAM("ops") "}", "deny no_rule" },
	{ "too many tokens", "{" MODEL("gpt-large", "{\"max_tokens\":16385}") TEAM("research") "}",
	  "deny too_many_tokens research/more tokens than the model takes" },
	{ "unknown model", "{" MODEL("gpt-huge", "{}") TEAM("research") "}", "deny unknown_model" },
	{ "contractor's own folder",
	  "{" TOOL("files/read", "{\"path\":\"/shared/initech/x\"}") CONTRACTOR "}",
	  "permit permitted contractors/their own folder" },
	{ "contractor's way out",
	  "{" TOOL("files/read", "{\"path\":\"/shared/initech/../x\"}") CONTRACTOR "}",
	  "deny no_rule" },
	{ "contractor and mail",
	  "{" TOOL("mail/send", "{\"to\":[],\"subject\":\"\",\"body\":\"\"}") CONTRACTOR "}",
	  "deny confidential contractors/no confidential data" },
	{ "contractor from outside",
	  "{" TOOL(
		  "files/read",
		  "{\"path\":\"/shared/initech/x\"}") ",\"agent\":{\"id\":\"spiffe://"
						      "acme.example/contractor/initech/a1\"},\"context\":{\"ip\":\"192.0.2.1\"}}",
	  "deny outside_network contractors/not from outside our network" },
	{ "delete", "{" TOOL("files/delete", "{\"path\":\"/x\"}") TEAM("ops") "}",
	  "ask approval_required destructive/a person for what cannot be undone" },
	{ "forced drain",
	  "{" TOOL("cluster/drain", "{\"node\":\"n\",\"force\":true}") TEAM("ops") "}",
	  "deny forced destructive/no forced drains" },
};

static void examples_load_and_decide(void **state)
{
	struct policy_sources src;
	struct policy_findings f;
	struct policy_set *set = NULL;
	struct policy_state *st;
	struct err e = { 0 };
	struct arena a;

	(void)state;
	if (!policy_sources_read(&src, "policies", &e))
		fail_msg("%s (run from the top folder)", e.msg);
	if (!policy_set_load(&src, NULL, &set, &f, &e))
		fail_msg("%s", e.msg);
	for (size_t i = 0; i < f.n; i++)
		fail_msg("%s:%d: %s", f.items[i].file.p, f.items[i].line, f.items[i].message.p);
	policy_findings_clear(&f);
	policy_sources_clear(&src);
	st = policy_state_new(set, &mem_system, &clock_system, &e);
	arena_init(&a, &mem_system, 4 << 20);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct policy_result r = policy_help_ask(st, rows[i].request, &a);

		if (strcmp(policy_help_text(&r, &a), rows[i].expect) != 0)
			fail_msg("%s: %s (%.*s)", rows[i].why, policy_help_text(&r, &a),
				 STR_FMT(r.error));
	}
	policy_state_free(st);
	shared_release(&set->shared);
	arena_clear(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(examples_load_and_decide),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
