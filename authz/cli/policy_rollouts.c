/* policy shadow, canary, promote, abort, rollouts, diff --rollout: roll-outs through the server. */
#include <inttypes.h>

#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"

#define BODY_MAX ((size_t)64 * 1024 * 1024) /* the server says what it takes */

static const struct column columns[] = {
	{ "ROLLOUT", "rollout" },	{ "KIND", "kind" }, { "STATE", "state" },
	{ "GENERATION", "generation" }, { "BASE", "base" }, { "PERCENT", "percent" },
	{ "STARTED", "started_at" },	{ "BY", "by" },	    { "REASON", "reason" },
	{ "MESSAGE", "message" },
};

/* ---- start ---- */

/* "0.05", as it will stand in the request. */
static bool is_rate(const char *text)
{
	const struct json *v = NULL;
	struct arena a;
	struct err ignored;
	bool ok;

	arena_init(&a, &mem_system, 4096);
	ok = json_parse(str_c(text), &json_default_limits, &a, &v, &ignored) &&
	     ((v->type == JSON_INT && (v->i == 0 || v->i == 1)) ||
	      (v->type == JSON_REAL && v->d >= 0 && v->d <= 1));
	arena_clear(&a);
	return ok;
}

static bool put_gates(struct cli *c, struct buf *b, int *exit_code)
{
	static const struct {
		const char *option, *member;
		bool rate;
	} gates[] = {
		{ "--max-deny-rate", "max_deny_rate", true },
		{ "--max-deny-increase", "max_deny_increase", true },
		{ "--max-error-rate", "max_error_rate", true },
		{ "--max-p99-us", "max_p99_us", false },
		{ "--min-sample", "min_sample", false },
	};
	bool first = true;
	uint64_t n;

	buf_lit(b, ",\"gates\":{");
	for (size_t i = 0; i < ARRAY_LEN(gates); i++) {
		const char *v = cli_value(c, gates[i].option);

		if (!v)
			continue;
		if (gates[i].rate ? !is_rate(v) : !text_u64(str_c(v), 1000000, &n) || !n) {
			*exit_code = cli_misuse(c, "%s %.40s: expected %s", gates[i].option, v,
						gates[i].rate ? "a rate from 0 to 1, such as 0.05"
							      : "a number from 1 to 1000000");
			return false;
		}
		buf_printf(b, "%s\"%s\":%s", first ? "" : ",", gates[i].member, v);
		first = false;
	}
	buf_char(b, '}');
	return true;
}

static bool put_start(struct cli *c, const char *kind, struct buf *b, int *exit_code)
{
	const char *percent = cli_value(c, "--percent"), *message = cli_value(c, "--message");
	uint64_t n = 0;
	struct err e = { 0 };

	buf_printf(b, "{\"kind\":\"%s\",", kind);
	if (!strcmp(kind, "canary")) {
		if (!percent || !text_u64(str_c(percent), 100, &n) || !n) {
			*exit_code = cli_misuse(c, "a canary needs --percent with a whole number "
						   "from 1 to 100");
			return false;
		}
		buf_printf(b, "\"percent\":%" PRIu64 ",", n);
	}
	/* As with replay: a number is a stored generation, anything else a folder. */
	if (text_u64(str_c(c->operands[0]), INT64_MAX, &n)) {
		buf_printf(b, "\"generation\":%" PRIu64, n);
	} else {
		buf_lit(b, "\"files\":");
		if (!policy_put_files(c->operands[0], b, &e)) {
			*exit_code = cli_fail(c, &e);
			return false;
		}
	}
	if (!put_gates(c, b, exit_code))
		return false;
	buf_lit(b, ",\"message\":");
	buf_json(b, str_c(message ? message : ""));
	buf_char(b, '}');
	if (buf_ok(b))
		return true;
	err_set(&e, ERR_TOO_LARGE, "the policies are too large to be sent");
	*exit_code = cli_fail(c, &e);
	return false;
}

/* POST, and the roll-out as it is then. */
static int act(struct cli *c, const char *path, struct str body, const char *what)
{
	AUTO_ANSWER a = { 0 };
	int exit_code;

	if (!policy_post(c, path, body, &a, &exit_code))
		return exit_code;
	fprintf(c->out, "roll-out %" PRId64 " (", answer_number(a.value, "rollout"));
	print_text(c->out, answer_text(a.value, "kind"));
	if (answer_number(a.value, "percent"))
		fprintf(c->out, ", %" PRId64 " %% of the agents",
			answer_number(a.value, "percent"));
	fprintf(c->out, "): generation %" PRId64 " %s %" PRId64 "\n",
		answer_number(a.value, "generation"), what, answer_number(a.value, "base"));
	return CLI_DONE;
}

static int start(struct cli *c, const char *kind, const char *what)
{
	AUTO_BUF b;
	int exit_code;

	buf_init(&b, mem_system, BODY_MAX);
	if (!put_start(c, kind, &b, &exit_code))
		return exit_code;
	return act(c, "/v1/rollouts", buf_str(&b), what);
}

int run_policy_shadow(struct cli *c)
{
	return start(c, "shadow", "runs beside, and nothing is enforced by it; in force is");
}

int run_policy_canary(struct cli *c)
{
	return start(c, "canary", "decides for them; for the others it is");
}

/* ---- its end ---- */

/* The roll-out of operand @i, else the one that runs. */
static bool name_rollout(struct cli *c, char out[static 24], int *exit_code)
{
	uint64_t id = 0;

	if (c->noperands && (!text_u64(str_c(c->operands[0]), INT64_MAX, &id) || !id)) {
		*exit_code = cli_misuse(c, "%.60s: expected the number of a roll-out",
					c->operands[0]);
		return false;
	}
	if (id)
		snprintf(out, 24, "%" PRIu64, id);
	else
		snprintf(out, 24, "running");
	return true;
}

static int end(struct cli *c, const char *verb, const char *what)
{
	char id[24], path[64];
	int exit_code;

	if (!name_rollout(c, id, &exit_code))
		return exit_code;
	snprintf(path, sizeof(path), "/v1/rollouts/%s/%s", id, verb);
	return act(c, path, (struct str){ NULL, 0 }, what);
}

int run_policy_promote(struct cli *c)
{
	return end(c, "promote", "is in force for everybody; before it was");
}

int run_policy_abort(struct cli *c)
{
	return end(c, "abort", "is out; for everybody it is");
}

/* ---- looking ---- */

/* Newest first. With --json a line for each page. */
int run_policy_rollouts(struct cli *c)
{
	int64_t before = 0;
	bool first = true;

	do {
		const struct json *list;
		AUTO_ANSWER a = { 0 };
		char path[96] = "/v1/rollouts?limit=1000";
		int exit_code;

		if (before)
			snprintf(path, sizeof(path), "/v1/rollouts?limit=1000&before=%" PRId64,
				 before);
		if (!api_call(c, API_ADMIN, "GET", path, (struct str){ 0 }, &a, &exit_code))
			return exit_code;
		list = json_get_type(a.value, STR("rollouts"), JSON_ARRAY);
		if (c->json)
			answer_print(c, &a);
		else if (list && list->n)
			print_table(c->out, columns, ARRAY_LEN(columns), list, first);
		else if (first)
			fprintf(c->out, "no roll-out was started yet\n");
		before = answer_number(a.value, "next");
		first = false;
	} while (before);
	return CLI_DONE;
}

static void put_head(struct cli *c, const struct json *v)
{
	static const char *const texts[] = { "started_at", "by",     "message", "ended_at",
					     "ended_by",   "reason", "detail",	NULL };

	fprintf(c->out, "roll-out: %" PRId64 ", ", answer_number(v, "rollout"));
	print_text(c->out, answer_text(v, "kind"));
	if (answer_number(v, "percent"))
		fprintf(c->out, " of %" PRId64 " %% of the agents", answer_number(v, "percent"));
	fprintf(c->out, ", ");
	print_text(c->out, answer_text(v, "state"));
	fprintf(c->out, "\ncandidate: generation %" PRId64 ", in force: generation %" PRId64 "\n",
		answer_number(v, "generation"), answer_number(v, "base"));
	for (size_t i = 0; texts[i]; i++) {
		struct str s = answer_text(v, texts[i]);

		if (!s.n)
			continue;
		fprintf(c->out, "%s: ", texts[i]);
		print_text(c->out, s);
		fputc('\n', c->out);
	}
}

static void put_side(struct cli *c, const char *name, const struct json *v)
{
	fprintf(c->out,
		"%-10s permit %" PRId64 ", ask %" PRId64 ", deny %" PRId64 ", errors %" PRId64
		", p99 %" PRId64 " us\n",
		name, answer_number(v, "permit"), answer_number(v, "ask"), answer_number(v, "deny"),
		answer_number(v, "errors"), answer_number(v, "p99_us"));
}

static void put_verdict(struct cli *c, const struct json *v)
{
	struct str rule = answer_text(v, "rule");

	print_text(c->out, answer_text(v, "decision"));
	fputs(" by ", c->out);
	if (rule.n)
		print_text(c->out, rule);
	else
		fputs("no rule", c->out);
	fputs(" (", c->out);
	print_text(c->out, answer_text(v, "reason"));
	fputc(')', c->out);
}

static void put_change(struct cli *c, const struct json *v)
{
	const struct json *was = json_get_type(v, STR("was"), JSON_OBJECT);
	const struct json *is = json_get_type(v, STR("is"), JSON_OBJECT);
	const struct json *samples = json_get_type(v, STR("evaluations"), JSON_ARRAY);

	fprintf(c->out, "\n%" PRId64 " times: ", answer_number(v, "count"));
	put_verdict(c, was);
	fputs(" -> ", c->out);
	put_verdict(c, is);
	fputc('\n', c->out);
	for (uint32_t i = 0; samples && i < samples->n; i++) {
		fputs("  ", c->out);
		print_text(c->out,
			   samples->items[i].type == JSON_STRING ? samples->items[i].s : STR("?"));
		fputc('\n', c->out);
	}
}

/* What the roll-out has changed, for `policy diff --rollout`. */
int policy_diff_rollout(struct cli *c)
{
	const struct json *changes;
	char id[24], path[64];
	AUTO_ANSWER a = { 0 };
	int exit_code;

	if (c->noperands > 1)
		return cli_misuse(c, "--rollout compares one roll-out");
	if (!name_rollout(c, id, &exit_code))
		return exit_code;
	snprintf(path, sizeof(path), "/v1/rollouts/%s/compare", id);
	if (!api_call(c, API_ADMIN, "GET", path, (struct str){ 0 }, &a, &exit_code))
		return exit_code;
	if (c->json) {
		answer_print(c, &a);
		return CLI_DONE;
	}
	put_head(c, a.value);
	fprintf(c->out, "decided by both: %" PRId64 ", otherwise: %" PRId64 "\n",
		answer_number(a.value, "evaluations"), answer_number(a.value, "changed"));
	put_side(c, "in force:", json_get_type(a.value, STR("in_force"), JSON_OBJECT));
	put_side(c, "candidate:", json_get_type(a.value, STR("candidate"), JSON_OBJECT));
	changes = json_get_type(a.value, STR("changes"), JSON_ARRAY);
	for (uint32_t i = 0; changes && i < changes->n; i++)
		put_change(c, &changes->items[i]);
	if (answer_number(a.value, "ungrouped"))
		fprintf(c->out, "\n%" PRId64 " times: further kinds of change\n",
			answer_number(a.value, "ungrouped"));
	return CLI_DONE;
}
