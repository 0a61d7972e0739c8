/* audit witness: who cosigns our checkpoints, and whose we cosign. */
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"

static const struct column witnesses[] = {
	{ "STATE", "state" },	       { "WITNESS", "name" },	   { "RECORDS", "size" },
	{ "COSIGNED", "cosigned_at" }, { "FAILURES", "failures" }, { "URL", "url" },
};
static const struct column logs[] = {
	{ "LOG", "origin" },	      { "RECORDS", "size" },	{ "COSIGNED", "cosigned_at" },
	{ "SIGNATURES", "cosigned" }, { "REFUSED", "refused" }, { "FORKS", "forks" },
};

static bool any_forks(const struct json *list)
{
	for (uint32_t i = 0; list && i < list->n; i++) {
		const struct json *forks = json_get_type(&list->items[i], STR("forks"), JSON_INT);

		if (forks && forks->i)
			return true;
	}
	return false;
}

/* The reasons below the table, and whether there are any. */
static bool say_errors(struct cli *c, const struct json *list)
{
	bool any = false;

	for (uint32_t i = 0; list && i < list->n; i++) {
		const struct json *name = json_get_type(&list->items[i], STR("name"), JSON_STRING);
		const struct json *why = json_get_type(&list->items[i], STR("error"), JSON_STRING);

		if (!why || !name)
			continue;
		any = true;
		if (c->json)
			continue;
		print_text(c->out, name->s);
		fprintf(c->out, ": ");
		print_text(c->out, why->s);
		fprintf(c->out, "\n");
	}
	return any;
}

int run_audit_witness_status(struct cli *c)
{
	const struct json *ours, *theirs;
	int exit_code = CLI_FAILED;
	AUTO_ANSWER a = { 0 };
	bool bad;

	if (!api_call(c, API_ADMIN, "GET", "/v1/audit/witnesses", (struct str){ NULL, 0 }, &a,
		      &exit_code))
		return exit_code;
	ours = json_get_type(a.value, STR("witnesses"), JSON_ARRAY);
	theirs = json_get_type(a.value, STR("logs"), JSON_ARRAY);
	if (c->json)
		answer_print(c, &a);
	if (!c->json && ours && ours->n)
		print_table(c->out, witnesses, ARRAY_LEN(witnesses), ours, true);
	if (!c->json && theirs && theirs->n)
		print_table(c->out, logs, ARRAY_LEN(logs), theirs, true);
	if (!c->json && !(ours && ours->n) && !(theirs && theirs->n))
		fprintf(c->out,
			"no witnesses, and no log that we witness: see `audit.witnesses` and "
			"`witness.logs`\n");
	bad = say_errors(c, ours);
	return bad || any_forks(theirs) ? CLI_FAILED : CLI_DONE;
}
