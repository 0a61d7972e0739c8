/* audit tail and export: pages in order, files that are whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the ones above first */
#include <cmocka.h>
#include <unistd.h>

#include "tests/cli/run.h"
#include "tests/cli/server.h"

#define HEAD "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
#define STATUS(n) STR_INIT(HEAD "{\"ready\":true,\"audit\":{\"size\":" n "}}")
#define OTHER_STATUS STR_INIT(HEAD "{\"ready\":true}")
#define NOTE STR_INIT(HEAD "example.org/writ\n30\nAAAA\n\n\xe2\x80\x94 a b\n")
#define RECORD(n)                                                                                         \
	"{\"agent\":\"a\",\"input_commit\":\"ff\",\"kind\":\"authz.decision\",\"prev\":\"00\",\"seq\":" n \
	",\"time\":1760000000123,\"v\":1}"
#define PAGE(records) STR_INIT(HEAD "{\"records\":[" records "],\"next\":7}")

static const struct {
	const char *why, *options;
	struct str answers[4];
	int connections, exit_code;
	const char *out, *err; /* in what is printed */
	const char *last;      /* in the last request */
} tails[] = {
	{ "the last two",
	  "--lines 2",
	  { STATUS("100"), PAGE(RECORD("98") "," RECORD("99")), PAGE("") },
	  3,
	  0,
	  "2025-10-09T08:53:20.123Z #98 authz.decision agent=a\n",
	  NULL,
	  "?after=99&limit=" },
	{ "fewer than asked for",
	  "--lines 20",
	  { STATUS("1"), PAGE(RECORD("0")), PAGE("") },
	  3,
	  0,
	  " #0 ",
	  NULL,
	  "?after=0&" },
	{ "as they came",
	  "--json",
	  { STATUS("1"), PAGE(RECORD("0")), PAGE("") },
	  3,
	  0,
	  RECORD("0") "\n",
	  NULL,
	  "" },
	{ "an empty log", "", { STATUS("0"), PAGE("") }, 2, 0, NULL, NULL, "records?limit=" },
	{ "a status without a size: by checkpoint",
	  "--lines 1",
	  { OTHER_STATUS, NOTE, PAGE("") },
	  3,
	  0,
	  NULL,
	  NULL,
	  "?after=28&" },
	{ "going back",
	  "",
	  { STATUS("9"), PAGE(RECORD("5") "," RECORD("4")) },
	  2,
	  1,
	  " #5 ",
	  "not in order",
	  "" },
	{ "going nowhere",
	  "",
	  { STATUS("9"), PAGE(RECORD("5")), PAGE(RECORD("5")) },
	  3,
	  1,
	  " #5 ",
	  "not in order",
	  "" },
	{ "no records at all", "", { STATUS("9"), PAGE("{}") }, 2, 1, NULL, "not in order", "" },
};

static void tail_follows_the_log(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
		struct scripted s = { .answer = tails[i].answers[0],
				      .next = tails[i].answers + 1,
				      .connections = tails[i].connections };
		char line[300], name[TARGET_NAME_MAX];

		scripted_start(&s);
		snprintf(line, sizeof(line), "writ audit tail --server %s %s",
			 target_name(&s.target, name), tails[i].options);
		AUTO_RUN r = run_line(cli_commands, line);
		scripted_stop(&s);
		if (r.exit_code != tails[i].exit_code ||
		    (tails[i].out ? !strstr(r.out, tails[i].out) : r.nout != 0) ||
		    (tails[i].err ? !strstr(r.err, tails[i].err) : r.nerr != 0) ||
		    !strstr(s.request, tails[i].last))
			fail_msg("%s: exit %d\nout: %s\nerr: %s\nasked %s", tails[i].why,
				 r.exit_code, r.out, r.err, s.request);
		assert_non_null(strstr(s.first, "GET /v1/status"));
	}
}

static const struct {
	const char *why, *answer;
	const char *kept; /* NULL: no file */
} exports[] = {
	{ "whole", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na\nb\n\r\n0\r\n\r\n",
	  "a\nb\n" },
	{ "cut", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na\nb\n\r\n", NULL },
	{ "refused",
	  "HTTP/1.1 404 No\r\nConnection: close\r\n\r\n"
	  "{\"error\":{\"code\":\"empty\",\"message\":\"nothing there\"}}",
	  NULL },
};

static void an_export_becomes_a_file_only_when_it_is_whole(void **state)
{
	char folder[] = "/tmp/writ-test-XXXXXX", file[64], part[80];

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(file, sizeof(file), "%s/log.jsonl", folder);
	snprintf(part, sizeof(part), "%s.part", file);
	for (size_t i = 0; i < ARRAY_LEN(exports); i++) {
		struct scripted s = { .answer = str_c(exports[i].answer) };
		char line[300], name[TARGET_NAME_MAX], text[100] = "";
		FILE *f;

		scripted_start(&s);
		snprintf(line, sizeof(line), "writ audit export --output %s --server %s", file,
			 target_name(&s.target, name));
		AUTO_RUN r = run_line(cli_commands, line);
		scripted_stop(&s);
		f = fopen(file, "r");
		if (f && fread(text, 1, sizeof(text) - 1, f) == 0)
			fail_msg("%s: an empty file", exports[i].why);
		if (f)
			fclose(f);
		if (r.exit_code != !exports[i].kept || !f != !exports[i].kept ||
		    (f && strcmp(text, exports[i].kept) != 0) || access(part, F_OK) == 0)
			fail_msg("%s: exit %d, file \"%s\", %s", exports[i].why, r.exit_code, text,
				 r.err);
		unlink(file);
	}
	rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tail_follows_the_log),
		cmocka_unit_test(an_export_becomes_a_file_only_when_it_is_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
