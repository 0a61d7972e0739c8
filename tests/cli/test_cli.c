/* The table of commands: parsing, help, exit codes, and what commands say to a server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#include "authz/base/text.h"
#include "authz/cli/cli.h"
#include "authz/cli/print.h"
#include "tests/cli/run.h"
#include "tests/cli/server.h"

/* --- parsing, on a table of its own --- */

static const struct option try_options[] = {
	{ "--name", "NAME", "a name", 'n', false },
	{ "--many", "VALUE", "values", 0, true },
	{ "--flag", NULL, "a flag", 'f', false },
	{ "--key", "VKEY", "shadows the common one", 0, false },
	{ NULL, NULL, NULL, 0, false },
};

static int show(struct cli *c)
{
	const char *value;
	size_t at = 0;

	fprintf(c->out, "name=%s flag=%d json=%d key=%s",
		cli_value(c, "--name") ? cli_value(c, "--name") : "-", cli_flag(c, "--flag"),
		c->json, cli_value(c, "--key") ? cli_value(c, "--key") : "-");
	while ((value = cli_next(c, "--many", &at)))
		fprintf(c->out, " many=%s", value);
	for (size_t i = 0; i < c->noperands; i++)
		fprintf(c->out, " [%s]", c->operands[i]);
	return CLI_DONE;
}

static const struct command try_sub[] = {
	{ .name = "do",
	  .operands = "A [B]",
	  .least = 1,
	  .most = 2,
	  .help = "Do it",
	  .options = try_options,
	  .connects = true,
	  .run = show },
	{ .name = NULL },
};
static const struct command try_commands[] = {
	{ .name = "try", .help = "Try", .sub = try_sub },
	{ .name = "plain", .help = "Plain", .run = show },
	{ .name = NULL },
};

static const struct {
	const char *line;
	int exit_code;
	const char *said; /* all of stdout if 0, else a part of stderr */
} lines[] = {
	{ "writ try do x", 0, "name=- flag=0 json=0 key=- [x]" },
	{ "writ try do --name a x", 0, "name=a flag=0 json=0 key=- [x]" },
	{ "writ try do x --name=a=b y", 0, "name=a=b flag=0 json=0 key=- [x] [y]" },
	{ "writ try do --name= x", 0, "name= flag=0 json=0 key=- [x]" },
	{ "writ try do -n a -f x --json", 0, "name=a flag=1 json=1 key=- [x]" },
	{ "writ try do --many 1 x --many 2", 0, "name=- flag=0 json=0 key=- many=1 many=2 [x]" },
	{ "writ try do -- --name", 0, "name=- flag=0 json=0 key=- [--name]" },
	{ "writ try do --name --flag x", 0, "name=--flag flag=0 json=0 key=- [x]" },
	{ "writ try do -", 0, "name=- flag=0 json=0 key=- [-]" },
	{ "writ try do x --key k --svid s --server u --config f", 0,
	  "name=- flag=0 json=0 key=k [x]" },
	{ "writ plain", 0, "name=- flag=0 json=0 key=-" },
	{ "writ", 2, "Usage: writ COMMAND" },
	{ "writ try", 2, "Usage: writ try" },
	{ "writ try do", 2, "writ: try do: an operand is missing; expected A [B]" },
	{ "writ try do a b c", 2, "writ: try do: c is one operand too many; expected A [B]" },
	{ "writ plain x", 2, "x is one operand too many; expected none" },
	{ "writ plain --svid x", 2, "unknown option --svid" },
	{ "writ tri", 2, "writ: unknown command tri; did you mean try?" },
	{ "writ zzzzzz", 2, "writ: unknown command zzzzzz; see --help" },
	{ "writ try d", 2, "writ: try: unknown command d; did you mean do?" },
	{ "writ --json plain", 2, "options stand behind the command: writ COMMAND --json" },
	{ "writ plain --server u", 2, "unknown option --server" },
	{ "writ try do --nam a x", 2, "unknown option --nam; did you mean --name?" },
	{ "writ try do --name", 2, "--name needs a value: NAME" },
	{ "writ try do x --name a --name b", 2, "--name is given twice" },
	{ "writ try do x -n a --name b", 2, "--name is given twice" },
	{ "writ try do x --flag --flag", 2, "--flag is given twice" },
	{ "writ try do x --flag=1", 2, "--flag takes no value" },
	{ "writ try do x -fn", 2, "unknown option -fn" },
	{ "writ try do x -q", 2, "unknown option -q" },
	{ "writ try do -ruSN9eF_eWfIBoHJ7eUwpzl7bBItnVw", 0,
	  "name=- flag=0 json=0 key=- [-ruSN9eF_eWfIBoHJ7eUwpzl7bBItnVw]" },
	{ "writ plain -ruSN9eF_eWfIBoHJ7eUwpzl7bBItnVw", 2, "unknown option -ruSN9eF" },
	{ "writ try do --uSN9eF_eWfIBoHJ7eUwpzl7bBItnVw", 2, "unknown option --uSN9eF" },
	{ "writ try do -- --uSN9eF_eWfIBoHJ7eUwpzl7bBItnVw", 0,
	  "name=- flag=0 json=0 key=- [--uSN9eF_eWfIBoHJ7eUwpzl7bBItnVw]" },
	{ "writ try do x --bad --json", 2,
	  "{\"error\":{\"status\":400,\"code\":\"wrong_usage\",\"message\":\"unknown option --bad" },
};

static void parses_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		AUTO_RUN r = run_line(try_commands, lines[i].line);
		bool said = lines[i].exit_code ? strstr(r.err, lines[i].said) != NULL
					       : strcmp(r.out, lines[i].said) == 0;

		if (r.exit_code != lines[i].exit_code || !said)
			fail_msg("%s: exit %d, out: %s, err: %s", lines[i].line, r.exit_code, r.out,
				 r.err);
		if (lines[i].exit_code && r.nout)
			fail_msg("%s: an error on stdout: %s", lines[i].line, r.out);
	}
}

static int lose_output(struct cli *c)
{
	fputs("more than the disk can hold", c->out);
	return CLI_DONE;
}

static void lost_output_is_no_success(void **state)
{
	static const struct command commands[] = {
		{ .name = "lose", .help = "Lose", .run = lose_output },
		{ .name = NULL },
	};
	static char *const words[] = { "lose", "--help", "--version" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		char *argv[] = { "writ", words[i], NULL }, *text = NULL;
		size_t n = 0;
		FILE *full = fopen("/dev/full", "w"), *err = open_memstream(&text, &n);
		int exit_code;

		assert_non_null(full);
		exit_code = cli_run(commands, full, err, 2, argv);
		fclose(err);
		fclose(full);
		if (exit_code != CLI_FAILED || !strstr(text, "not all output could be written"))
			fail_msg("%s: exit %d: %s", words[i], exit_code, text);
		free(text);
	}
}

/* --- the real table --- */

/* @words: the command as one types it. */
static void every_command(const struct command *table, const char *above,
			  void (*each)(const char *words, const struct command *cmd))
{
	for (const struct command *c = table; c->name; c++) {
		char words[100];

		snprintf(words, sizeof(words), "%s%s%s", above, *above ? " " : "", c->name);
		each(words, c);
		if (c->sub)
			every_command(c->sub, words, each);
	}
}

static void check_entry(const char *words, const struct command *cmd)
{
	char line[200], shown[200];

	if (!cmd->run == !cmd->sub)
		fail_msg("%s: neither or both of run and sub", cmd->name);
	assert_non_null(cmd->help);
	if (cmd->help[0] < 'A' || cmd->help[0] > 'Z' || strchr(cmd->help, '\n'))
		fail_msg("%s: help is no line", cmd->name);
	if (cmd->most > CLI_OPERANDS || cmd->least > cmd->most || !cmd->operands != !cmd->most)
		fail_msg("%s: operands", cmd->name);
	snprintf(line, sizeof(line), "writ %s --help", words);
	snprintf(shown, sizeof(shown), "Usage: writ %s ", words);
	{
		AUTO_RUN r = run_line(cli_commands, line);
		const char *out = r.out ? r.out : "";

		if (r.exit_code != 0 || r.nerr || !strstr(out, shown) || !strstr(out, cmd->help))
			fail_msg("%s: %s%s", line, r.out, r.err);
		for (const struct option *o = cmd->options; o && o->name; o++)
			if (strncmp(o->name, "--", 2) != 0 || !strstr(out, o->name) ||
			    !strstr(out, o->help))
				fail_msg("%s does not show %s", line, o->name);
		if (!strstr(out, "--json") || !strstr(out, "--config"))
			fail_msg("%s: the common options are missing", line);
	}
	if (cmd->run) {
		snprintf(line, sizeof(line), "writ %s --no-such-option-at-all", words);
		snprintf(shown, sizeof(shown), "writ: %s: ", words);
		AUTO_RUN r = run_line(cli_commands, line);

		if (r.exit_code != 2 || !strstr(r.err, shown))
			fail_msg("%s: exit %d: %s", line, r.exit_code, r.err);
	}
}

static void every_command_has_its_help(void **state)
{
	(void)state;
	every_command(cli_commands, "", check_entry);
}

static const char *usage;

static void check_usage(const char *words, const struct command *cmd)
{
	char left[120];

	snprintf(left, sizeof(left), "\n  %s ", words);
	if (cmd->run && (!strstr(usage, left) || !strstr(usage, cmd->help)))
		fail_msg("usage does not list %s", left);
}

static void usage_is_the_table(void **state)
{
	AUTO_RUN r = run_line(cli_commands, "writ --help");

	(void)state;
	assert_int_equal(r.exit_code, 0);
	usage = r.out;
	every_command(cli_commands, "", check_usage);
}

static void version_is_one_line(void **state)
{
	AUTO_RUN r = run_line(cli_commands, "writ --version");
	AUTO_RUN v = run_line(cli_commands, "writ version --json");

	(void)state;
	assert_int_equal(r.exit_code, 0);
	assert_memory_equal(r.out, "writ ", 5);
	assert_ptr_equal(strchr(r.out, '\n'), r.out + r.nout - 1);
	assert_int_equal(v.exit_code, 0);
	assert_memory_equal(v.out, "{\"version\":\"", 12);
}

/* --- against a server that follows a script --- */

#define ENTRY                                                                                  \
	"{\"spiffe_id\":\"spiffe://example.org/a\",\"owner\":\"ann\",\"state\":\"active\","    \
	"\"attributes\":{\"team\":\"finance\",\"tier\":\"1\"},\"selectors\":[\"unix:uid:7\"]," \
	"\"ttl\":3600,\"expires_at\":null,\"created_at\":\"2026-11-21T10:00:00Z\",\"revision\":1}"

static const struct {
	const char *line; /* --server is added */
	int status;
	const char *body; /* of the answer, JSON */
	int connections;
	int exit_code;
	const char *request;   /* in the last request */
	const char *out, *err; /* in what was printed; NULL: nothing at all */
} calls[] = {
	{ "agent register spiffe://example.org/a --owner ann --set team=finance --set x=a=b "
	  "--selector unix:uid:7 --ttl 1h --expires 2027-01-31",
	  201, ENTRY, 1, 0,
	  "{\"spiffe_id\":\"spiffe://example.org/a\",\"owner\":\"ann\",\"attributes\":{\"team\":"
	  "\"finance\",\"x\":\"a=b\"},\"ttl\":\"1h\",\"expires\":\"2027-01-31\",\"selectors\":["
	  "\"unix:uid:7\"]}",
	  "registered spiffe://example.org/a\n", NULL },
	{ "agent register spiffe://example.org/a --owner ann --json", 201, ENTRY, 1, 0,
	  "POST /v1/agents HTTP/1.1", ENTRY "\n", NULL },
	{ "agent register spiffe://example.org/a --owner ann", 409,
	  "{\"error\":{\"status\":409,\"code\":\"exists\",\"message\":\"it is there\"}}", 1, 1, "",
	  NULL, "writ: agent register: it is there (409 exists)\n" },
	{ "agent register spiffe://example.org/a --owner ann --json", 409,
	  "{\"error\":{\"status\":409,\"code\":\"exists\",\"message\":\"it is there\"}}", 1, 1, "",
	  NULL, "{\"error\":{\"status\":409,\"code\":\"exists\",\"message\":\"it is there\"}}\n" },
	{ "agent show spiffe://example.org/a", 200, "{\"agents\":[" ENTRY "]}", 1, 0,
	  "GET /v1/agents?id=spiffe%3A%2F%2Fexample.org%2Fa HTTP/1.1", "attributes.team: finance\n",
	  NULL },
	{ "agent show spiffe://example.org/b", 200, "{\"agents\":[]}", 1, 1, "", NULL,
	  "spiffe://example.org/b is not registered" },
	{ "agent update spiffe://example.org/a --set team=it --unset tier", 200,
	  "{\"agents\":[" ENTRY "]}", 2, 0,
	  "{\"spiffe_id\":\"spiffe://example.org/a\",\"attributes\":{\"team\":\"it\"}}",
	  "agents: ", NULL },
	{ "agent update spiffe://example.org/a --set team=it --unset teir", 200,
	  "{\"agents\":[" ENTRY "]}", 1, 1, "GET /v1/agents", NULL,
	  "--unset teir: it has no such attribute, so nothing was changed" },
	{ "agent suspend spiffe://example.org/a --reason odd", 200, ENTRY, 1, 0,
	  "{\"spiffe_id\":\"spiffe://example.org/a\",\"reason\":\"odd\"}", "state: active\n",
	  NULL },
	{ "agent retire spiffe://example.org/a", 200, ENTRY, 1, 0,
	  "POST /v1/agents/retire HTTP/1.1", "revision: 1\n", NULL },
	{ "agent token spiffe://example.org/a --ttl 5m", 200,
	  "{\"join_token\":\"jt-1\",\"expires_at\":\"2026-11-21T10:00:00Z\",\"spiffe_id\":"
	  "\"spiffe://example.org/a\",\"ca_fingerprint\":\"sha256:ab\"}",
	  1, 0, "{\"spiffe_id\":\"spiffe://example.org/a\",\"ttl\":\"5m\"}",
	  "join_token: jt-1\nexpires_at: 2026-11-21T10:00:00Z\nca_fingerprint: sha256:ab\n", NULL },
	{ "agent list", 200, "{\"agents\":[]}", 1, 0, "GET /v1/agents?limit=500 HTTP/1.1",
	  "no agents; register one", NULL },
	{ "agent list", 200, "{\"agents\":[" ENTRY "]}", 2, 1, "&after=spiffe%3A", "finance",
	  "pages are not in order" },
	{ "evaluate tests/cli/request.json", 200,
	  "{\"decision\":true,\"context\":{\"reason\":\"permitted\",\"rule\":\"p/r\"}}", 1, 0,
	  "POST /access/v1/evaluation HTTP/1.1", "decision: permit\nreason: permitted\nrule: p/r\n",
	  NULL },
	{ "evaluate tests/cli/request.json", 200,
	  "{\"decision\":false,\"context\":{\"reason\":\"no_rule\",\"message\":\"\\u001b[1mno\"}}",
	  1, 1, "\"type\":\"agent\"", "decision: deny\nreason: no_rule\nmessage: ?[1mno\n", NULL },
	{ "evaluate tests/cli/request.json", 200,
	  "{\"decision\":false,\"context\":{\"reason\":\"approval_required\"}}", 1, 1, "",
	  "decision: ask\n", NULL },
	{ "evaluate tests/cli/request.json", 200, "{\"decision\":\"true\"}", 1, 1, "", NULL,
	  "taken as deny" },
	{ "evaluate tests/cli/request.json", 200, "[true]", 1, 1, "", NULL, "no JSON object" },
	{ "policy list", 200,
	  "{\"generation\":12,\"hash\":\"abcd\",\"rules\":[{\"policy\":\"finance\",\"rule\":\"reads\","
	  "\"effect\":\"permit\",\"file\":\"finance.lua\",\"line\":2,\"on\":\"action=tools/call\"}]}",
	  1, 0, "GET /v1/policies", "generation 12, sha256 abcd\nPOLICY   RULE   EFFECT", NULL },
	{ "status", 200, "{\"ready\":true,\"audit\":{\"size\":7}}", 1, 0, "GET /v1/status",
	  "audit.size: 7\nready: yes\n", NULL },
	{ "status", 200, "{\"ready\":false}", 1, 1, "", "ready: no\n", NULL },
	{ "audit key", 200, "{\"vkey\":\"example.org/writ+aabbccdd+AQ==\"}", 1, 0,
	  "GET /v1/audit/key", "example.org/writ+aabbccdd+AQ==\n", NULL },
	{ "audit export --agent spiffe://example.org/a --decision deny --from 7", 200,
	  "{\"header\":{}}\n{\"trailer\":{}}\n", 1, 0,
	  "GET /v1/audit/export?agent=spiffe%3A%2F%2Fexample.org%2Fa&decision=deny&from=7 ",
	  "{\"header\":{}}\n{\"trailer\":{}}\n", NULL },
	{ "audit checkpoint", 200, "example.org/writ\n12\nAAAA\n\n\xe2\x80\x94 x y\n", 1, 0,
	  "POST /v1/audit/checkpoint", "example.org/writ\n12\nAAAA\n\n\xe2\x80\x94 x y\n", NULL },
	{ "audit checkpoint", 200, "<html>", 1, 1, "", NULL, "checkpoint is malformed" },
	{ "doctor", 200,
	  "{\"findings\":[{\"name\":\"odd\",\"message\":\"it is\",\"severity\":\"error\"}]}", 1, 1,
	  "GET /v1/doctor", "error: odd: it is\n", NULL },
};

static void commands_say_the_right_thing(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		struct scripted s = { .connections = calls[i].connections };
		char answer[4000], line[2000], name[TARGET_NAME_MAX];

		snprintf(answer, sizeof(answer),
			 "HTTP/1.1 %d X\r\nContent-Type: application/json\r\n"
			 "Content-Length: %zu\r\n\r\n%s",
			 calls[i].status, strlen(calls[i].body), calls[i].body);
		s.answer = str_c(answer);
		scripted_start(&s);
		snprintf(line, sizeof(line), "writ %s --server %s", calls[i].line,
			 target_name(&s.target, name));
		AUTO_RUN r = run_line(cli_commands, line);
		scripted_stop(&s);

		if (r.exit_code != calls[i].exit_code ||
		    (calls[i].out ? !strstr(r.out, calls[i].out) : r.nout != 0) ||
		    (calls[i].err ? !strstr(r.err, calls[i].err) : r.nerr != 0))
			fail_msg("%s: exit %d\nout: %s\nerr: %s", calls[i].line, r.exit_code, r.out,
				 r.err);
		if (!strstr(s.request, calls[i].request))
			fail_msg("%s: asked %s", calls[i].line, s.request);
	}
}

static const struct {
	const char *line, *err;
} misuses[] = {
	{ "writ agent register spiffe://a/b", "--owner is missing" },
	{ "writ agent register spiffe://a/b --owner o --set team", "expected NAME=VALUE" },
	{ "writ agent register spiffe://a/b --owner o --set =x", "expected NAME=VALUE" },
	{ "writ agent register spiffe://a/b --owner o --set a=1 --set a=2", "a is given twice" },
	{ "writ agent register spiffe://a/b --owner o --ttl soon", "expected a duration" },
	{ "writ agent update spiffe://a/b", "nothing to change" },
	{ "writ agent token spiffe://a/b --ttl x", "expected a duration" },
	{ "writ svid jwt", "--audience is missing" },
	{ "writ token exchange --audience x", "--subject-token is missing" },
	{ "writ token exchange --subject-token x", "--audience is missing" },
	{ "writ token exchange --subject-token x --audience y --type saml2",
	  "expected access_token, id_token or jwt" },
	{ "writ token revoke", "name a token" },
	{ "writ token revoke x --jti y", "name a token" },
	{ "writ token revoke --user alice", "belong together" },
	{ "writ audit export --decision maybe", "expected permit, deny or ask" },
	{ "writ audit export --from -1", "expected the number of a record" },
	{ "writ audit tail --lines many", "expected a number" },
};

static void misuse_is_found_before_a_server_is_asked(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(misuses); i++) {
		AUTO_RUN r = run_line(cli_commands, misuses[i].line);

		if (r.exit_code != 2 || !strstr(r.err, misuses[i].err))
			fail_msg("%s: exit %d, %s", misuses[i].line, r.exit_code, r.err);
	}
}

static void foreign_text_cannot_steer_a_terminal(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "plain \xc3\xa4\xe2\x82\xac\xf0\x9f\x9a\x80",
		  "plain \xc3\xa4\xe2\x82\xac\xf0\x9f\x9a\x80" },
		{ "\x1b[2J\x07\x7f\r\n", "?[2J????" },
		{ "\xc2\x9b\x32J", "?2J" },
		{ "\xe2\x80\xae"
		  "abc\xe2\x81\xa6\xe2\x80\x8b\xef\xbb\xbf",
		  "?abc???" },
		{ "\xff\xc0\x80\xe2\x82", "?????" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		AUTO_BUF b;

		buf_init(&b, mem_system, 200);
		print_safe(&b, str_c(rows[i].in));
		if (!str_eq(buf_str(&b), str_c(rows[i].out)))
			fail_msg("row %zu: %.*s", i, STR_FMT(buf_str(&b)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_the_table),
		cmocka_unit_test(lost_output_is_no_success),
		cmocka_unit_test(every_command_has_its_help),
		cmocka_unit_test(usage_is_the_table),
		cmocka_unit_test(version_is_one_line),
		cmocka_unit_test(commands_say_the_right_thing),
		cmocka_unit_test(misuse_is_found_before_a_server_is_asked),
		cmocka_unit_test(foreign_text_cannot_steer_a_terminal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
