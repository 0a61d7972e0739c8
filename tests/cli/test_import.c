/* agent import: a file of somebody's, in Lua. */
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

#define CREATED "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"
#define A "spiffe_id = 'spiffe://example.org/a', owner = 'ann'"

static const struct {
	const char *text;
	int connections;     /* 0: nothing is sent */
	const char *request; /* the last one, or what is said about the file */
} files[] = {
	{ "agents = { { " A " } }", 1, "/v1/agents/import HTTP/1.1\r\n" },
	{ "agents = { { " A " } }", 1, "\"from\":0,\"agents\":[{" },
	{ "agents = { { " A ", state = 'retired' } }", 1, "}],\"last\":true}" },
	{ "agents = { { " A ", attributes = { team = 'x\\n\"' } } }", 1,
	  "\"attributes\":{\"team\":\"x\\n\\\"\"}" },
	{ "agents = { { " A ", selectors = { 'unix:uid:1', 'unix:gid:2' } } }", 1,
	  "\"selectors\":[\"unix:uid:1\",\"unix:gid:2\"]" },
	{ "agents = { { " A ", selectors = {}, attributes = {} } }", 1, "\"selectors\":[]" },
	{ "agents = { { " A ", selectors = {}, attributes = {} } }", 1, "\"attributes\":{}" },
	{ "local team = { team = 'f' }\nagents = {}\n"
	  "for i = 1, 3 do agents[i] = { spiffe_id = 'spiffe://example.org/' .. i, owner = 'o', "
	  "attributes = team, ttl = 60 } end",
	  1, "\"ttl\":60" },

	{ "", 0, "expected agents = {" },
	{ "agents = {}", 0, "expected agents = {" },
	{ "agents = { a = { " A " } }", 0, "expected agents = {" },
	{ "agents = { 7 }", 0, "agents[1]: expected a table" },
	{ "agents = { { " A " }, { owner = 'b' } }", 0, "agents[2]: spiffe_id is missing" },
	{ "agents = { { " A ", atributes = {} } }", 0,
	  "agents[1]: unknown member atributes, did you mean attributes" },
	{ "agents = { { " A ", [1] = 2 } }", 0, "agents[1]: unknown member" },
	{ "agents = { { spiffe_id = 7, owner = 'o' } }", 0, "spiffe_id is missing or no text" },
	{ "agents = { { " A ", attributes = { f = function() end } } }", 0,
	  "attributes: f: a function is no data" },
	{ "agents = { { " A ", attributes = { n = 0/0 } } }", 0, "not finite" },
	{ "agents = { { " A ", attributes = { n = '\\xff' } } }", 0, "not UTF-8" },
	{ "agents = { { " A ", attributes = { a = { b = { c = { d = {} } } } } } }", 0,
	  "nested too deep" },
	{ "local t = {} t.t = t agents = { { " A ", attributes = t } }", 0, "nested too deep" },
	{ "while true do end", 0, "computes too long" },
	{ "local s = 'xxxxxxxxxxxxxxxx' while true do s = s .. s end", 0, "not enough memory" },
	{ "os.execute('touch /tmp/writ-test-owned')", 0, "global 'os'" },
	{ "agents = = 1", 0, ":1: unexpected symbol" },
	{ "\x1bLua", 0, "attempt to load a binary chunk" },
};

static void reads_data_and_nothing_else(void **state)
{
	char path[] = "/tmp/writ-test-XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		struct scripted s = { .answer = STR(CREATED), .connections = files[i].connections };
		char line[600], name[TARGET_NAME_MAX] = "unix:/nonexistent/s";
		size_t n = strlen(files[i].text);

		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(pwrite(fd, files[i].text, n, 0), n);
		if (files[i].connections) {
			scripted_start(&s);
			target_name(&s.target, name);
		}
		snprintf(line, sizeof(line), "writ agent import %s --server %s", path, name);
		AUTO_RUN r = run_line(cli_commands, line);
		if (files[i].connections)
			scripted_stop(&s);
		if (r.exit_code != !files[i].connections ||
		    !strstr(files[i].connections ? s.request : r.err, files[i].request))
			fail_msg("%s: exit %d, %s%s, asked %s", files[i].text, r.exit_code, r.out,
				 r.err, s.request);
	}
	close(fd);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_data_and_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
