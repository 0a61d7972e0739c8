/* audit open: permits of which nobody said what became of them. */
#include <inttypes.h>
#include <string.h>

#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"

static const struct column columns[] = {
	{ "AT", "at" },	      { "EVALUATION", "evaluation_id" },
	{ "AGENT", "agent" }, { "TOOL", "tool" },
	{ "MODEL", "model" }, { "PEP", "pep" },
};

/* The server looks at a bounded number of records per answer; so ask until there is no more. */
int run_audit_open(struct cli *c)
{
	const char *older = cli_value(c, "--older");
	int64_t seconds = 60, after = -1;
	bool heading = true;
	int exit_code;

	if (older && strcmp(older, "0") == 0)
		seconds = 0;
	else if (older && !text_duration(str_c(older), &seconds))
		return cli_misuse(c,
				  "--older %.40s: expected 0 or a duration such as 90s, 10m or 1h",
				  older);
	do {
		const struct json *open, *next;
		AUTO_ANSWER a = { 0 };
		char path[128], at[TEXT_U64_MAX + 16] = "";

		if (after >= 0)
			snprintf(at, sizeof(at), "&after=%" PRId64, after);
		snprintf(path, sizeof(path), "/v1/audit/open?limit=1000&older=%" PRId64 "%s",
			 seconds, at);
		if (!api_call(c, API_ADMIN, "GET", path, (struct str){ 0 }, &a, &exit_code))
			return exit_code;
		open = json_get_type(a.value, STR("open"), JSON_ARRAY);
		next = json_get_type(a.value, STR("next"), JSON_INT);
		if (!open || (next && next->i <= after)) {
			struct err e = { 0 };

			err_code(&e, ERR_INTERNAL, "bad_response",
				 "the server's answer is no page of open decisions");
			return cli_fail(c, &e);
		}
		if (c->json)
			answer_print(c, &a);
		else if (open->n || (heading && !next))
			print_table(c->out, columns, ARRAY_LEN(columns), open, heading);
		heading = heading && !open->n;
		after = next ? next->i : -1;
	} while (after >= 0);
	return CLI_DONE;
}
