/* federation: whose trust bundles writ fetches. After an act that starts a poll the command waits
 * for its outcome, so that a wrong URL is seen by who typed it. */
#include <time.h>

#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"

#define BODY (1024 * 1024)
#define BUNDLE (256 * 1024)
#define LOOKS 150 /* of 100 ms */

static const struct column columns[] = {
	{ "STATE", "state" },	    { "TRUST DOMAIN", "trust_domain" }, { "PROFILE", "profile" },
	{ "SEQUENCE", "sequence" }, { "FETCHED", "fetched_at" },	{ "FAILURES", "failures" },
	{ "URL", "url" },
};

static void put(struct buf *b, const char *name, struct str value)
{
	if (!value.p)
		return;
	buf_char(b, b->n ? ',' : '{');
	buf_json(b, str_c(name));
	buf_char(b, ':');
	buf_json(b, value);
}

static const struct json *only_peer(const struct answer *a)
{
	const struct json *all = json_get_type(a->value, STR("federation"), JSON_ARRAY);

	return all && all->n == 1 ? &all->items[0] : NULL;
}

static bool look(struct cli *c, const char *trust_domain, struct answer *a, int *exit_code)
{
	AUTO_BUF path;
	const char *name = strncmp(trust_domain, "spiffe://", 9) == 0 ? trust_domain + 9
								      : trust_domain;

	buf_init(&path, mem_system, 4096);
	buf_lit(&path, "/v1/federation?trust_domain=");
	client_encode(&path, str_c(name));
	buf_char(&path, '\0');
	return api_call(c, API_ADMIN, "GET", path.p, (struct str){ NULL, 0 }, a, exit_code);
}

/* Until the poll that the answer @a shows under way has ended. The last look is in @a. */
static bool wait_for_poll(struct cli *c, const char *trust_domain, struct answer *a, int *exit_code)
{
	const struct timespec pause = { .tv_nsec = 100000000 };

	for (int i = 0; i < LOOKS; i++) {
		const struct json *p = only_peer(a);
		const struct json *busy = p ? json_get_type(p, STR("fetching"), JSON_BOOL) : NULL;

		if (!busy || !busy->b)
			break;
		nanosleep(&pause, NULL);
		answer_clear(a);
		if (!look(c, trust_domain, a, exit_code))
			return false;
	}
	return true;
}

/* How the last poll went, in a person's words. */
static int say(struct cli *c, const struct answer *a, bool failure_counts)
{
	const struct json *p = only_peer(a);
	const struct json *error = p ? json_get_type(p, STR("error"), JSON_STRING) : NULL;

	if (c->json)
		answer_print(c, a);
	else if (p)
		print_object(c->out, p);
	if (!error)
		return CLI_DONE;
	if (!c->json) {
		fprintf(c->err, "writ: federation: its bundle could not be fetched: ");
		print_text(c->err, error->s);
		fprintf(c->err, "\n");
	}
	return failure_counts ? CLI_FAILED : CLI_DONE;
}

int run_federation_list(struct cli *c)
{
	int exit_code = CLI_FAILED;
	AUTO_ANSWER a = { 0 };
	const struct json *all;

	if (!api_call(c, API_ADMIN, "GET", "/v1/federation", (struct str){ NULL, 0 }, &a,
		      &exit_code))
		return exit_code;
	all = json_get_type(a.value, STR("federation"), JSON_ARRAY);
	if (c->json)
		answer_print(c, &a);
	else if (all)
		print_table(c->out, columns, ARRAY_LEN(columns), all, true);
	for (uint32_t i = 0; !c->json && all && i < all->n; i++) {
		const struct json *error = json_get_type(&all->items[i], STR("error"), JSON_STRING);

		if (error) {
			print_text(c->out, error->s);
			fprintf(c->out, "\n");
		}
	}
	return CLI_DONE;
}

int run_federation_add(struct cli *c)
{
	const char *file = cli_value(c, "--bundle-file"), *profile = cli_value(c, "--profile");
	const char *id = cli_value(c, "--endpoint-id");
	int exit_code = CLI_FAILED;
	struct err e = { 0 };
	AUTO_ANSWER a = { 0 };
	AUTO_BUF body, bundle;

	buf_init(&body, mem_system, BODY);
	buf_init(&bundle, mem_system, BUNDLE + 1);
	if (!profile)
		return cli_misuse(c, "--profile is missing: https_web or https_spiffe");
	if (file && !api_read_file(file, BUNDLE, &bundle, &e))
		return cli_fail(c, &e);
	put(&body, "trust_domain", str_c(c->operands[0]));
	put(&body, "url", str_c(c->operands[1]));
	put(&body, "profile", str_c(profile));
	put(&body, "endpoint_spiffe_id", str_c(id));
	if (file)
		put(&body, "bundle", buf_str(&bundle));
	buf_char(&body, '}');
	if (!buf_ok(&body)) {
		err_set(&e, ERR_TOO_LARGE, "the bundle in %s is too large", file ? file : "it");
		return cli_fail(c, &e);
	}
	if (!api_call(c, API_ADMIN, "POST", "/v1/federation", buf_str(&body), &a, &exit_code) ||
	    !wait_for_poll(c, c->operands[0], &a, &exit_code))
		return exit_code;
	return say(c, &a, false);
}

static bool act(struct cli *c, const char *path, struct answer *a, int *exit_code)
{
	AUTO_BUF body;

	buf_init(&body, mem_system, BODY);
	put(&body, "trust_domain", str_c(c->noperands ? c->operands[0] : ""));
	buf_char(&body, '}');
	return api_call(c, API_ADMIN, "POST", path, buf_str(&body), a, exit_code);
}

int run_federation_remove(struct cli *c)
{
	int exit_code = CLI_FAILED;
	AUTO_ANSWER a = { 0 };

	if (!act(c, "/v1/federation/remove", &a, &exit_code))
		return exit_code;
	if (c->json)
		answer_print(c, &a);
	else
		fprintf(c->out, "removed; its SVIDs are not accepted any more\n");
	return CLI_DONE;
}

int run_federation_refresh(struct cli *c)
{
	int exit_code = CLI_FAILED, worst = CLI_DONE;
	const struct json *all;
	AUTO_ANSWER a = { 0 };

	if (!act(c, "/v1/federation/refresh", &a, &exit_code))
		return exit_code;
	if (c->noperands) {
		if (!wait_for_poll(c, c->operands[0], &a, &exit_code))
			return exit_code;
		return say(c, &a, true);
	}
	all = json_get_type(a.value, STR("federation"), JSON_ARRAY);
	for (uint32_t i = 0; all && i < all->n; i++) {
		const struct json *name = json_get_type(&all->items[i], STR("trust_domain"),
							JSON_STRING);
		char text[256];
		AUTO_ANSWER one = { 0 };

		snprintf(text, sizeof(text), "%.*s", STR_FMT(name ? name->s : STR("")));
		if (!look(c, text, &one, &exit_code) || !wait_for_poll(c, text, &one, &exit_code))
			return exit_code;
		if (say(c, &one, true) != CLI_DONE)
			worst = CLI_FAILED;
	}
	return worst;
}
