/* serve, status, version, evaluate. */
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"
#include "authz/serve.h"
#include "include/writ/words.h"

int run_serve(struct cli *c)
{
	return serve_main(cli_value(c, "--config"));
}

int run_version(struct cli *c)
{
	if (c->json)
		fprintf(c->out, "{\"version\":\"%s\",\"engine\":\"%s\"}\n", WRIT_VERSION,
			WRIT_ENGINE);
	else
		fprintf(c->out, "writ %s (engine %s)\n", WRIT_VERSION, WRIT_ENGINE);
	return CLI_DONE;
}

int run_status(struct cli *c)
{
	const struct json *ready;
	AUTO_ANSWER a = { 0 };
	int exit_code;

	if (!api_call(c, API_ADMIN, "GET", "/v1/status", (struct str){ 0 }, &a, &exit_code))
		return exit_code;
	answer_show(c, &a);
	ready = json_get_type(a.value, STR("ready"), JSON_BOOL);
	return ready && !ready->b ? CLI_FAILED : CLI_DONE;
}

static void print_member(const struct cli *c, const char *name, const struct json *v)
{
	AUTO_BUF b;

	buf_init(&b, mem_system, CLIENT_BODY);
	if (!v)
		return;
	print_value(&b, v);
	fprintf(c->out, "%s: %.*s\n", name, STR_FMT(buf_str(&b)));
}

int run_evaluate(struct cli *c)
{
	static const char *const shown[] = { "reason", "rule",		"message",
					     "error",  "evaluation_id", "obligations" };
	const struct json *decision, *context;
	struct err e = { 0 };
	AUTO_ANSWER a = { 0 };
	AUTO_BUF body;
	int exit_code;

	buf_init(&body, mem_system, CLIENT_BODY);
	if (!api_read_file(c->operands[0], CLIENT_BODY, &body, &e))
		return cli_fail(c, &e);
	if (!api_call(c, API_AGENTS, "POST", "/access/v1/evaluation",
		      body.p ? buf_str(&body) : STR(""), &a, &exit_code))
		return exit_code;
	decision = json_get_type(a.value, STR("decision"), JSON_BOOL);
	context = json_get_type(a.value, STR("context"), JSON_OBJECT);
	if (!decision) {
		err_code(&e, ERR_INTERNAL, "bad_response",
			 "the server's answer has no decision; taken as deny");
		return cli_fail(c, &e);
	}
	if (c->json) {
		answer_print(c, &a);
	} else {
		const struct json *reason = json_get_type(context, STR("reason"), JSON_STRING);
		bool ask = !decision->b && reason &&
			   str_eq(reason->s, STR(REASON_APPROVAL_REQUIRED));

		fprintf(c->out, "decision: %s\n", decision->b ? "permit" : ask ? "ask" : "deny");
		for (size_t i = 0; i < ARRAY_LEN(shown); i++)
			print_member(c, shown[i], json_get(context, str_c(shown[i])));
	}
	return decision->b ? CLI_DONE : CLI_FAILED;
}
