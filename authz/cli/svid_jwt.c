/* svid jwt: a token, over mutual TLS with the X.509-SVID at hand, or from a Workload API. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "authz/base/text.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"
#include "authz/cli/svid.h"
#include "authz/store/file.h"

#define TEXT_BYTES (256 * 1024)

/* @a NULL: the token is not from an answer in JSON. */
static int put_token(struct cli *c, struct str svid, const struct answer *a)
{
	const char *output = cli_output(c);
	struct err e = { 0 };
	AUTO_BUF b;

	buf_init(&b, mem_system, TEXT_BYTES);
	if (output && (!*output || str_ends(str_c(output), STR("/"))))
		return cli_misuse(c, "--output %.200s: no file's name", output);
	if (output && !file_replace_path(output, svid, 0600, &e))
		return cli_fail(c, &e);
	if (c->json && a) {
		answer_print(c, a);
	} else if (c->json) {
		buf_lit(&b, "{\"svid\":");
		buf_json(&b, svid);
		buf_lit(&b, "}\n");
		fwrite(b.p, 1, b.n, c->out);
	} else if (!output) {
		fprintf(c->out, "%.*s\n", STR_FMT(svid));
	}
	return CLI_DONE;
}

static int jwt_from_workload(struct cli *c)
{
	struct err e = { 0 };
	AUTO_BUF token;

	buf_init(&token, mem_system, TEXT_BYTES);
	return svid_token_from_workload(c, &token, &e) ? put_token(c, buf_str(&token), NULL)
						       : cli_fail(c, &e);
}

int run_svid_jwt(struct cli *c)
{
	struct client_request q = { .method = "POST", .path = "/v1/svid/jwt" };
	struct api api;
	struct svid_own own;
	struct err e = { 0 };
	AUTO_ANSWER a = { 0 };
	AUTO_BUF b = { 0 };
	const struct json *svid;
	const char *audience;
	size_t at = 0;
	int exit_code = CLI_FAILED;

	buf_init(&b, mem_system, TEXT_BYTES);
	buf_lit(&b, "{\"audience\":");
	while ((audience = cli_next(c, "--audience", &at))) {
		buf_char(&b, buf_str(&b).p[b.n - 1] == ':' ? '[' : ',');
		buf_json(&b, str_c(audience));
	}
	buf_lit(&b, "]}");
	if (!cli_flag(c, "--audience"))
		return cli_misuse(c, "--audience is missing: whom the token is for");
	if (cli_value(c, "--socket"))
		return jwt_from_workload(c);
	if (!api_open(c, API_TLS, &api, &e))
		return cli_fail(c, &e);
	svid_use_own(c, &own, &api);
	q.body = buf_str(&b);
	if (!api_ask(c, &api, &q, true, &a, &exit_code))
		return exit_code;
	svid = json_get_type(a.value, STR("svid"), JSON_STRING);
	if (!svid || !text_is_printable(svid->s)) {
		err_code(&e, ERR_INTERNAL, "bad_response", "the server's answer has no svid");
		return cli_fail(c, &e);
	}
	return put_token(c, svid->s, &a);
}
