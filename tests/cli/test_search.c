/* audit search, show and reindex: what is asked, what is printed, and answers that make no sense.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#include "tests/cli/run.h"
#include "tests/cli/server.h"

#define HEAD "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n"
#define DECISION(n)                                                                             \
	"{\"action\":\"tools/call\",\"agent\":\"spiffe://a/1\",\"decision\":\"deny\",\"kind\":" \
	"\"authz.decision\",\"pep\":\"gw\",\"reason\":\"no_rule\",\"seq\":" n                   \
	",\"time\":1760000000123,\"tool\":\"files/read\"}"
#define ACT(n)                                                                                \
	"{\"act\":\"agent.register\",\"kind\":\"admin.action\",\"pep\":\"unix:0\",\"seq\":" n \
	",\"time\":1760000000123}"
#define PAGE(records, more)                                                                   \
	STR_INIT(HEAD "{\"records\":[" records "],\"indexed\":9,\"key_id\":\"0a1b2c3d\"" more \
		      ",\"order\":\"newest\",\"size\":9}")
#define SHOWN                                                                                     \
	STR_INIT(HEAD "{\"id\":\"ev_0a1b2c3d_7\",\"leaf\":\"00\",\"openings\":{\"input\":{\"q\":" \
		      "\"\\u001b[2J\"}},\"erased\":[\"facts\"],\"record\":" DECISION("7") "}")

static const struct {
	const char *why, *line;
	struct str answers[3];
	int connections, exit_code;
	const char *out, *err;
	const char *last; /* in the last request */
} cases[] = {
	{ "a decision and an act",
	  "search --agent spiffe://a/1 --tool files/read --rule p/r --trace-id 4b --kind authz.*",
	  { PAGE(DECISION("7") "," ACT("6"), "") },
	  1,
	  0,
	  "2025-10-09T08:53:20.123Z deny spiffe://a/1 tools/call files/read - no_rule "
	  "ev_0a1b2c3d_7\n"
	  "2025-10-09T08:53:20.123Z admin.action unix:0 agent.register - ev_0a1b2c3d_6\n",
	  NULL,
	  "order=newest&agent=spiffe%3A%2F%2Fa%2F1&tool=files%2Fread&rule=p%2Fr&trace_id=4b&kind="
	  "authz.%2A&limit=50 " },
	{ "page by page, also an empty one",
	  "search --oldest --limit 2 --json",
	  { PAGE(DECISION("1"), ",\"next_page\":\"t1\""), PAGE("", ",\"next_page\":\"t+2\""),
	    PAGE(DECISION("2"), "") },
	  3,
	  0,
	  DECISION("1") "\n" DECISION("2") "\n",
	  NULL,
	  "order=oldest&limit=1&page=t%2B2 " },
	{ "there are more",
	  "search --limit 1",
	  { PAGE(DECISION("1"), ",\"next_page\":\"t1\"") },
	  1,
	  0,
	  "ev_0a1b2c3d_1\n",
	  "There are more",
	  "limit=1 " },
	{ "more than was asked for",
	  "search --limit 1",
	  { PAGE(DECISION("1") "," DECISION("2"), "") },
	  1,
	  1,
	  NULL,
	  "holds no records",
	  "" },
	{ "no records", "search", { STR_INIT(HEAD "{}") }, 1, 1, NULL, "holds no records", "" },
	{ "records that are none",
	  "search",
	  { PAGE("1,null,[]", "") },
	  1,
	  0,
	  " - - - - ev_0a1b2c3d_-1\n",
	  NULL,
	  "" },
	{ "one record by its id",
	  "show ev_0a1b2c3d_7",
	  { SHOWN },
	  1,
	  0,
	  "id          ev_0a1b2c3d_7\nkind        authz.decision\n",
	  NULL,
	  "record?id=ev_0a1b2c3d_7 " },
	{ "what others wrote moves no cursor",
	  "show 7",
	  { SHOWN },
	  1,
	  0,
	  "input.q: ?[2J\n",
	  NULL,
	  "record?seq=7 " },
	{ "what was erased", "show 7", { SHOWN }, 1, 0, "erased      facts\n", NULL, "" },
	{ "no record",
	  "show 7",
	  { STR_INIT(HEAD "{\"id\":\"x\"}") },
	  1,
	  1,
	  NULL,
	  "holds no record",
	  "" },
	{ "anew",
	  "reindex",
	  { STR_INIT(HEAD "{\"size\":12}") },
	  1,
	  0,
	  "over 12 records",
	  NULL,
	  "POST /v1/audit/reindex" },
	{ "anew, of what", "reindex", { STR_INIT(HEAD "{}") }, 1, 1, NULL, "has no size", "" },
};

static void what_is_asked_and_printed(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct scripted s = { .answer = cases[i].answers[0],
				      .next = cases[i].answers + 1,
				      .connections = cases[i].connections };
		char line[400], name[TARGET_NAME_MAX];

		scripted_start(&s);
		snprintf(line, sizeof(line), "writ audit %s --server %s", cases[i].line,
			 target_name(&s.target, name));
		AUTO_RUN r = run_line(cli_commands, line);
		scripted_stop(&s);
		if (r.exit_code != cases[i].exit_code ||
		    (cases[i].out ? !strstr(r.out, cases[i].out) : r.nout != 0) ||
		    (cases[i].err ? !strstr(r.err, cases[i].err) : r.nerr != 0) ||
		    !strstr(s.request, cases[i].last))
			fail_msg("%s: exit %d\nout: %s\nerr: %s\nasked %s", cases[i].why,
				 r.exit_code, r.out, r.err, s.request);
	}
}

static void wrong_usage_asks_nobody(void **state)
{
	static const char *const lines[] = {
		"writ audit search --limit 0", "writ audit search --limit 1000001",
		"writ audit search --limit x", "writ audit search --agnet x",
		"writ audit search x",	       "writ audit show",
		"writ audit reindex x"
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		AUTO_RUN r = run_line(cli_commands, lines[i]);

		if (r.exit_code != CLI_USAGE || r.nout || !r.nerr)
			fail_msg("%s: exit %d, %s", lines[i], r.exit_code, r.err);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_asked_and_printed),
		cmocka_unit_test(wrong_usage_asks_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
