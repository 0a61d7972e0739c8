/* tool: pinned tools and how they are described now. What a server says of its tools is shown with
 * everything that moves a terminal taken out, and never obeyed. */
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"

#define BODY (64 * 1024)
#define VALUE_MAX 4000 /* bytes of a value that are shown */

static const struct column columns[] = {
	{ "STATE", "state" },
	{ "TOOL", "tool" },
	{ "SEEN", "seen_at" },
	{ "CHANGES", "changes" },
};

int run_tool_list(struct cli *c)
{
	int exit_code = CLI_FAILED;
	const struct json *all;
	AUTO_ANSWER a = { 0 };

	if (!api_call(c, API_ADMIN, "GET", "/v1/tools", (struct str){ NULL, 0 }, &a, &exit_code))
		return exit_code;
	all = json_get_type(a.value, STR("tools"), JSON_ARRAY);
	if (c->json)
		answer_print(c, &a);
	else if (all)
		print_table(c->out, columns, ARRAY_LEN(columns), all, true);
	return CLI_DONE;
}

static bool ask_for_one(struct cli *c, struct answer *a, int *exit_code)
{
	AUTO_BUF path;

	buf_init(&path, mem_system, 4096);
	buf_lit(&path, "/v1/tools/show?tool=");
	client_encode(&path, str_c(c->operands[0]));
	buf_char(&path, '\0');
	if (!buf_ok(&path)) {
		*exit_code = cli_misuse(c, "%.40s...: no tool has so long a name", c->operands[0]);
		return false;
	}
	return api_call(c, API_ADMIN, "GET", path.p, (struct str){ NULL, 0 }, a, exit_code);
}

int run_tool_show(struct cli *c)
{
	int exit_code = CLI_FAILED;
	AUTO_ANSWER a = { 0 };

	if (!ask_for_one(c, &a, &exit_code))
		return exit_code;
	answer_show(c, &a);
	return CLI_DONE;
}

/* ---- diff ---- */

static void put_side(FILE *out, const char *mark, const struct json *v)
{
	AUTO_BUF text;
	AUTO_BUF b;

	buf_init(&text, mem_system, 8 * v->raw.n + 64);
	buf_init(&b, mem_system, 2 * VALUE_MAX);
	json_canonical(&text, v);
	print_safe(&b, str_first(buf_str(&text), VALUE_MAX));
	if (text.n > VALUE_MAX)
		buf_lit(&b, "...");
	fprintf(out, "  %s %.*s\n", mark, STR_FMT(buf_str(&b)));
}

void tool_put_difference(FILE *out, struct str path, struct str change, const struct json *was,
			 const struct json *is)
{
	print_text(out, path);
	fputc(' ', out);
	print_text(out, change);
	fputc('\n', out);
	if (was)
		put_side(out, "-", was);
	if (is)
		put_side(out, "+", is);
}

static void say_state(struct cli *c, const struct json *v)
{
	struct str state = answer_text(v, "state");

	print_text(c->out, answer_text(v, "tool"));
	if (str_eq(state, STR("unseen")))
		fprintf(c->out, " was not listed by its server yet\n");
	else if (str_eq(state, STR("reviewed")))
		fprintf(c->out, " is described as it was reviewed\n");
	else
		fprintf(c->out, " is described otherwise than it was reviewed (%.*s)\n",
			STR_FMT(state));
}

/* What there is to do, with the digest that was looked at. */
static void say_next(struct cli *c, const struct json *v)
{
	struct str state = answer_text(v, "state");

	if (str_eq(state, STR("proposed"))) {
		fprintf(c->out, "proposed by ");
		print_text(c->out, answer_text(v, "proposed_by"));
		fprintf(c->out, "; another one accepts it by");
	} else if (str_eq(state, STR("changed"))) {
		fprintf(c->out, "to propose it:");
	} else {
		return;
	}
	fprintf(c->out, " writ tool accept ");
	print_text(c->out, answer_text(v, "tool"));
	fputc(' ', c->out);
	print_text(c->out, answer_text(v, "observed"));
	fputc('\n', c->out);
}

int run_tool_diff(struct cli *c)
{
	int exit_code = CLI_FAILED;
	const struct json *all;
	AUTO_ANSWER a = { 0 };

	if (!ask_for_one(c, &a, &exit_code))
		return exit_code;
	if (c->json) {
		answer_print(c, &a);
		return CLI_DONE;
	}
	say_state(c, a.value);
	all = json_get_type(a.value, STR("differences"), JSON_ARRAY);
	for (uint32_t i = 0; all && i < all->n; i++)
		tool_put_difference(c->out, answer_text(&all->items[i], "path"),
				    answer_text(&all->items[i], "change"),
				    json_get(&all->items[i], STR("was")),
				    json_get(&all->items[i], STR("is")));
	if (all && !answer_flag(a.value, "all_differences"))
		fprintf(c->out, "and more\n");
	if (!all && answer_text(a.value, "observed").n)
		fprintf(c->out, "what changed is not known: the catalogue has the digest alone\n");
	say_next(c, a.value);
	return CLI_DONE;
}

/* ---- acts ---- */

static bool act(struct cli *c, const char *path, const char *digest, struct answer *a,
		int *exit_code)
{
	AUTO_BUF body;

	buf_init(&body, mem_system, BODY);
	buf_lit(&body, "{\"tool\":");
	buf_json(&body, str_c(c->operands[0]));
	if (digest) {
		buf_lit(&body, ",\"digest\":");
		buf_json(&body, str_c(digest));
	}
	buf_char(&body, '}');
	if (!buf_ok(&body)) {
		*exit_code = cli_misuse(c, "%.40s...: no tool has so long a name", c->operands[0]);
		return false;
	}
	return api_call(c, API_ADMIN, "POST", path, buf_str(&body), a, exit_code);
}

int run_tool_accept(struct cli *c)
{
	int exit_code = CLI_FAILED;
	AUTO_ANSWER a = { 0 };

	if (!act(c, "/v1/tools/accept", c->operands[1], &a, &exit_code))
		return exit_code;
	if (c->json)
		answer_print(c, &a);
	else if (str_eq(answer_text(a.value, "state"), STR("accepted")))
		fprintf(c->out, "accepted: its calls are decided by the policies again\n");
	else
		fprintf(c->out,
			"proposed: another admin or approver has to run the same command\n");
	return CLI_DONE;
}

int run_tool_withdraw(struct cli *c)
{
	int exit_code = CLI_FAILED;
	AUTO_ANSWER a = { 0 };

	if (!act(c, "/v1/tools/withdraw", NULL, &a, &exit_code))
		return exit_code;
	if (c->json)
		answer_print(c, &a);
	else
		fprintf(c->out, "withdrawn: only the pinned definition holds\n");
	return CLI_DONE;
}
