/* writ authority: the signing keys of the trust domain. */
#include <string.h>

#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"

#define BODY_MAX 1024

static const struct column columns[] = {
	{ "KIND", "kind" },
	{ "STATE", "state" },
	{ "ID", "id" },
	{ "PREPARED", "prepared_at" },
	{ "EXPIRES", "expires_at" },
	{ "KEY", "key" },
};

static void print_due(const struct cli *c, const struct json *value)
{
	const struct json *due = json_get_type(value, STR("due"), JSON_OBJECT);
	const struct json *failed = json_get_type(value, STR("failed"), JSON_STRING);

	for (uint32_t i = 0; due && i < due->n; i++) {
		if (due->items[i].type != JSON_STRING)
			continue;
		fprintf(c->out, "next by itself (");
		print_text(c->out, due->items[i].name);
		fprintf(c->out, "): ");
		print_text(c->out, due->items[i].s);
		fputc('\n', c->out);
	}
	if (failed) {
		fprintf(c->out, "what is due could not be done: ");
		print_text(c->out, failed->s);
		fputc('\n', c->out);
	}
}

int run_authority_show(struct cli *c)
{
	const struct json *all, *left;
	AUTO_ANSWER a = { 0 };
	int exit_code;

	if (!api_call(c, API_ADMIN, "GET", "/v1/authorities", (struct str){ 0 }, &a, &exit_code))
		return exit_code;
	if (c->json) {
		answer_print(c, &a);
		return CLI_DONE;
	}
	all = json_get_type(a.value, STR("authorities"), JSON_ARRAY);
	left = json_get_type(a.value, STR("left"), JSON_ARRAY);
	if (all)
		print_table(c->out, columns, ARRAY_LEN(columns), all, true);
	if (left && left->n)
		print_table(c->out, columns, ARRAY_LEN(columns), left, false);
	print_due(c, a.value);
	return CLI_DONE;
}

static int change(struct cli *c, const char *path, struct str body)
{
	const struct json *id, *state, *kind;
	AUTO_ANSWER a = { 0 };
	int exit_code;

	if (!api_call(c, API_ADMIN, "POST", path, body, &a, &exit_code))
		return exit_code;
	if (c->json) {
		answer_print(c, &a);
		return CLI_DONE;
	}
	id = json_get_type(a.value, STR("id"), JSON_STRING);
	state = json_get_type(a.value, STR("state"), JSON_STRING);
	kind = json_get_type(a.value, STR("kind"), JSON_STRING);
	if (!id || !state || !kind) {
		struct err e = { 0 };

		err_code(&e, ERR_INTERNAL, "bad_response",
			 "the server's answer names no authority");
		return cli_fail(c, &e);
	}
	print_text(c->out, kind->s);
	fprintf(c->out, " authority ");
	print_text(c->out, id->s);
	fprintf(c->out, " is ");
	print_text(c->out, state->s);
	fputc('\n', c->out);
	return CLI_DONE;
}

int run_authority_prepare(struct cli *c)
{
	const char *kind = c->operands[0];
	AUTO_BUF b = { 0 };

	if (strcmp(kind, "x509") != 0 && strcmp(kind, "jwt") != 0 && strcmp(kind, "wit") != 0)
		return cli_misuse(c, "%.40s: expected x509, jwt or wit", kind);
	buf_init(&b, mem_system, BODY_MAX);
	buf_printf(&b, "{\"kind\":\"%s\"}", kind);
	return change(c, "/v1/authorities/prepare", buf_str(&b));
}

int run_authority_change(struct cli *c)
{
	char path[64];
	AUTO_BUF b;

	snprintf(path, sizeof(path), "/v1/authorities/%s", c->command->name);
	buf_init(&b, mem_system, BODY_MAX);
	buf_lit(&b, "{\"id\":");
	buf_json(&b, str_c(c->operands[0]));
	if (cli_flag(c, "--force"))
		buf_lit(&b, ",\"force\":true");
	buf_char(&b, '}');
	if (!buf_ok(&b))
		return cli_misuse(c, "%.40s...: no id is so long", c->operands[0]);
	return change(c, path, buf_str(&b));
}
