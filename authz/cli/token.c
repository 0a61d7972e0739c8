/* token: delegated tokens, as the agent whose X.509-SVID is at hand, or taken back by an admin. */
#include "authz/base/clock.h"
#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"
#include "authz/cli/svid.h"
#include "authz/store/file.h"

#define FORM_BYTES (64 * 1024)
#define TYPES "urn:ietf:params:oauth:token-type:"

static void put(struct buf *b, const char *name, struct str value)
{
	if (b->n)
		buf_char(b, '&');
	buf_printf(b, "%s=", name);
	client_encode(b, value);
}

/* As the agent of --dir. False: told already. */
static bool ask(struct cli *c, const char *path, const struct buf *form, struct answer *a,
		int *exit_code)
{
	struct client_request q = { .method = "POST",
				    .path = path,
				    .body = buf_str(form),
				    .type = "application/x-www-form-urlencoded" };
	struct svid_own own;
	struct err e = { 0 };
	struct api api;

	if (!buf_ok(form))
		err_set(&e, ERR_TOO_LARGE, "the request would be longer than 64 KiB");
	else if (api_open(c, API_TLS, &api, &e)) {
		svid_use_own(c, &own, &api);
		return api_ask(c, &api, &q, true, a, exit_code);
	}
	*exit_code = cli_fail(c, &e);
	return false;
}

static int put_token(struct cli *c, const struct answer *a)
{
	struct str token = answer_text(a->value, "access_token");
	const char *output = cli_output(c);
	struct err e = { 0 };

	if (!token.n || !text_is_printable(token)) {
		err_code(&e, ERR_INTERNAL, "bad_response",
			 "the server's answer has no access_token");
		return cli_fail(c, &e);
	}
	if (output && !file_replace_path(output, token, 0600, &e))
		return cli_fail(c, &e);
	if (c->json)
		answer_print(c, a);
	else if (!output)
		fprintf(c->out, "%.*s\n", STR_FMT(token));
	return CLI_DONE;
}

static const char *type_of(const struct cli *c)
{
	static const char *const types[] = { "access_token", "id_token", "jwt" };
	const char *given = cli_value(c, "--type");

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (!given || strcmp(given, types[i]) == 0)
			return types[i];
	return NULL;
}

static void put_scopes(const struct cli *c, struct buf *form)
{
	const char *scope;
	AUTO_BUF all;
	size_t at = 0;

	buf_init(&all, mem_system, FORM_BYTES);
	while ((scope = cli_next(c, "--scope", &at))) {
		if (all.n)
			buf_char(&all, ' ');
		buf_add(&all, str_c(scope));
	}
	if (all.n)
		put(form, "scope", buf_str(&all));
	form->failed |= !buf_ok(&all);
}

int run_token_exchange(struct cli *c)
{
	const char *subject = cli_value(c, "--subject-token"),
		   *audience = cli_value(c, "--audience"), *output = cli_output(c);
	struct err e = { 0 };
	AUTO_ANSWER a = { 0 };
	AUTO_BUF token = { 0 };
	AUTO_BUF form;
	int exit_code = CLI_FAILED;

	buf_init(&form, mem_system, FORM_BYTES);
	if (!subject || !audience)
		return cli_misuse(c, "%s is missing", subject ? "--audience" : "--subject-token");
	if (!type_of(c))
		return cli_misuse(c, "--type %.40s: expected access_token, id_token or jwt",
				  cli_value(c, "--type"));
	if (output && (!*output || str_ends(str_c(output), STR("/"))))
		return cli_misuse(c, "--output %.200s: no file's name", output);
	buf_init(&token, mem_system, FORM_BYTES);
	if (!api_read_token("--subject-token", subject, &token, &e))
		return cli_fail(c, &e);
	put(&form, "grant_type", STR("urn:ietf:params:oauth:grant-type:token-exchange"));
	put(&form, "subject_token", buf_str(&token));
	buf_printf(&form, "&subject_token_type=" TYPES "%s", type_of(c));
	put(&form, "audience", str_c(audience));
	put_scopes(c, &form);
	return ask(c, "/oauth2/token", &form, &a, &exit_code) ? put_token(c, &a) : exit_code;
}

/* The one operand, as the form of an endpoint. */
static bool put_operand(struct cli *c, struct buf *form, int *exit_code)
{
	struct err e = { 0 };
	AUTO_BUF token = { 0 };

	buf_init(form, mem_system, FORM_BYTES);
	buf_init(&token, mem_system, FORM_BYTES);
	if (!api_read_token("TOKEN", c->operands[0], &token, &e)) {
		*exit_code = cli_fail(c, &e);
		return false;
	}
	put(form, "token", buf_str(&token));
	return true;
}

static void put_actors(struct cli *c, const struct json *act)
{
	const char *title = "acts";

	for (; act; act = json_get_type(act, STR("act"), JSON_OBJECT), title = "acted before")
		fprintf(c->out, "%-14s%.*s\n", title, STR_FMT(answer_text(act, "sub")));
}

int run_token_introspect(struct cli *c)
{
	static const struct {
		const char *title, *name;
	} rows[] = {
		{ "for", "sub" }, { "audience", "aud" }, { "scope", "scope" }, { "jti", "jti" }
	};
	char when[CLOCK_RFC3339_MAX];
	AUTO_ANSWER a = { 0 };
	AUTO_BUF form = { 0 };
	int exit_code = CLI_FAILED;
	bool active;

	if (!put_operand(c, &form, &exit_code) ||
	    !ask(c, "/oauth2/introspect", &form, &a, &exit_code))
		return exit_code;
	active = answer_flag(a.value, "active");
	if (c->json) {
		answer_print(c, &a);
	} else if (!active) {
		fprintf(c->out, "not active: unknown here, over, revoked, or not this caller's to "
				"see\n");
	} else {
		for (size_t i = 0; i < ARRAY_LEN(rows); i++)
			fprintf(c->out, "%-14s%.*s\n", rows[i].title,
				STR_FMT(answer_text(a.value, rows[i].name)));
		put_actors(c, json_get_type(a.value, STR("act"), JSON_OBJECT));
		clock_rfc3339(answer_number(a.value, "exp") * 1000, when);
		fprintf(c->out, "%-14s%s\n", "until", when);
	}
	return active ? CLI_DONE : CLI_FAILED;
}

/* {"jti":...} or {"user":...,"issuer":...}, over the admin socket. */
static int revoke_by_name(struct cli *c)
{
	static const char *const names[] = { "--jti", "--user", "--issuer", "--reason" };
	AUTO_ANSWER a = { 0 };
	AUTO_BUF body;
	int exit_code = CLI_FAILED;

	buf_init(&body, mem_system, FORM_BYTES);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *value = cli_value(c, names[i]);

		if (!value)
			continue;
		buf_char(&body, body.n ? ',' : '{');
		buf_json(&body, str_c(names[i] + 2));
		buf_char(&body, ':');
		buf_json(&body, str_c(value));
	}
	buf_char(&body, '}');
	if (!api_call(c, API_ADMIN, "POST", "/v1/delegations/revoke", buf_str(&body), &a,
		      &exit_code))
		return exit_code;
	if (c->json)
		answer_print(c, &a);
	else
		fprintf(c->out, "revoked%s\n",
			cli_value(c, "--user") ? ": all tokens for that user until now" : "");
	return CLI_DONE;
}

int run_token_revoke(struct cli *c)
{
	bool by_name = cli_value(c, "--jti") || cli_value(c, "--user");
	AUTO_ANSWER a = { 0 };
	AUTO_BUF form = { 0 };
	int exit_code = CLI_FAILED;

	if (by_name == (c->noperands > 0))
		return cli_misuse(c,
				  "name a token, or, as an admin, --jti, or --user and --issuer");
	if (!cli_value(c, "--user") != !cli_value(c, "--issuer"))
		return cli_misuse(c, "--user and --issuer belong together");
	if (by_name)
		return revoke_by_name(c);
	if (cli_value(c, "--reason"))
		return cli_misuse(c, "--reason belongs to --jti and --user");
	if (!put_operand(c, &form, &exit_code) || !ask(c, "/oauth2/revoke", &form, &a, &exit_code))
		return exit_code;
	if (c->json)
		answer_print(c, &a);
	else
		fprintf(c->out, "revoked\n");
	return CLI_DONE;
}
