/* policy apply, list --all, show, diff, rollback: generations through the server. */
#include <inttypes.h>

#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/diff.h"
#include "authz/cli/print.h"
#include "authz/policy/policy.h"

#define BODY_MAX ((size_t)64 * 1024 * 1024) /* the server says what it takes */
#define DIFF_MAX ((size_t)64 * 1024 * 1024)

static const struct column generation_columns[] = {
	{ "GENERATION", "generation" },
	{ "STORED", "stored_at" },
	{ "FILES", "files" },
	{ "ACTIVE", "active" },
	{ "BY", "by" },
	{ "MESSAGE", "message" },
};
static const struct column rule_columns[] = {
	{ "POLICY", "policy" }, { "RULE", "rule" }, { "EFFECT", "effect" },
	{ "FILE", "file" },	{ "LINE", "line" }, { "ON", "on" },
};
static const struct column source_columns[] = { { "FILE", "path" }, { "BYTES", "bytes" } };

/* ---- acts ---- */

static void put_findings(FILE *out, const struct json *list)
{
	for (uint32_t i = 0; list && i < list->n; i++) {
		const struct json *f = &list->items[i];
		AUTO_BUF b;

		buf_init(&b, mem_system, 65536);
		print_safe(&b, answer_text(f, "file"));
		if (answer_number(f, "line") > 0)
			buf_printf(&b, ":%" PRId64, answer_number(f, "line"));
		buf_lit(&b, ": ");
		print_safe(&b, answer_text(f, "severity"));
		buf_lit(&b, ": ");
		print_safe(&b, answer_text(f, "message"));
		buf_char(&b, '\n');
		fwrite(b.p, 1, b.n, out);
	}
}

/* A refusal's findings are what its sender needs: all of them are shown. */
bool policy_post(struct cli *c, const char *path, struct str body, struct answer *a, int *exit_code)
{
	struct client_request q = { .method = "POST", .path = path, .body = body };
	struct api api;
	struct err e = { 0 };
	bool ok;

	if (!api_open(c, API_ADMIN, &api, &e)) {
		*exit_code = cli_fail(c, &e);
		return false;
	}
	ok = api_ask(c, &api, &q, true, a, exit_code);
	if (!c->json && a->value)
		put_findings(c->err, json_get_type(a->value, STR("findings"), JSON_ARRAY));
	if (!ok || !c->json)
		return ok;
	answer_print(c, a);
	*exit_code = CLI_DONE;
	return false;
}

/* What an act came to. */
static int act(struct cli *c, const char *path, struct str body)
{
	AUTO_ANSWER a = { 0 };
	int exit_code;

	if (!policy_post(c, path, body, &a, &exit_code))
		return exit_code;
	if (answer_number(a.value, "aborted_rollout"))
		fprintf(c->out, "roll-out %" PRId64 " was aborted\n",
			answer_number(a.value, "aborted_rollout"));
	fprintf(c->out, "generation %" PRId64 " is in force%s%s, sha256 ",
		answer_number(a.value, "generation"),
		answer_flag(a.value, "changed") ? "" : " already",
		answer_flag(a.value, "pinned")
			? ", pinned: the watched folder does not replace it until the next apply"
			: "");
	print_text(c->out, answer_text(a.value, "hash"));
	fprintf(c->out, ", rules: %" PRId64 " (before: generation %" PRId64 ")\n",
		answer_number(a.value, "rules"), answer_number(a.value, "before"));
	return CLI_DONE;
}

bool policy_put_files(const char *dir, struct buf *b, struct err *e)
{
	struct policy_sources s;
	bool ok = true;

	if (!policy_sources_read(&s, dir, e))
		return false;
	buf_char(b, '[');
	for (size_t i = 0; ok && i < s.n; i++) {
		if (!text_is_utf8(s.files[i].text))
			ok = err_set(e, ERR_INVALID, "%s/%.*s is no UTF-8 text", dir,
				     STR_FMT(s.files[i].path));
		buf_add(b, i ? STR(",{\"path\":") : STR("{\"path\":"));
		buf_json(b, s.files[i].path);
		buf_lit(b, ",\"text\":");
		buf_json(b, s.files[i].text);
		buf_char(b, '}');
	}
	buf_char(b, ']');
	if (s.signature.n && text_is_utf8(s.signature)) {
		buf_lit(b, ",\"signature\":");
		buf_json(b, s.signature);
	}
	policy_sources_clear(&s);
	return ok;
}

int run_policy_apply(struct cli *c)
{
	const char *message = cli_value(c, "--message");
	struct err e = { 0 };
	AUTO_BUF b;

	buf_init(&b, mem_system, BODY_MAX);
	buf_lit(&b, "{\"files\":");
	if (!policy_put_files(c->operands[0], &b, &e))
		return cli_fail(c, &e);
	buf_lit(&b, ",\"message\":");
	buf_json(&b, str_c(message ? message : ""));
	if (cli_flag(c, "--allow-older"))
		buf_lit(&b, ",\"allow_older\":true");
	buf_char(&b, '}');
	if (!buf_ok(&b)) {
		err_set(&e, ERR_TOO_LARGE, "the policies are too large to be sent");
		return cli_fail(c, &e);
	}
	return act(c, "/v1/policies", buf_str(&b));
}

/* "12" of an operand. */
static bool generation_operand(struct cli *c, size_t i, uint64_t *out, int *exit_code)
{
	if (text_u64(str_c(c->operands[i]), INT64_MAX, out) && *out)
		return true;
	*exit_code = cli_misuse(c, "%.60s: expected the number of a generation", c->operands[i]);
	return false;
}

int run_policy_rollback(struct cli *c)
{
	char body[64] = "{}";
	uint64_t number;
	int exit_code;

	if (c->noperands) {
		if (!generation_operand(c, 0, &number, &exit_code))
			return exit_code;
		snprintf(body, sizeof(body), "{\"generation\":%" PRIu64 "}", number);
	}
	return act(c, "/v1/policies/activate", str_c(body));
}

/* ---- looking ---- */

/* One page; *before is where the next one begins, 0: there is none. */
static int list_page(struct cli *c, uint64_t *before, bool first)
{
	const struct json *list;
	AUTO_ANSWER a = { 0 };
	char path[128] = "/v1/policies/generations?limit=1000";
	int exit_code;

	if (*before)
		snprintf(path, sizeof(path), "/v1/policies/generations?limit=1000&before=%" PRIu64,
			 *before);
	if (!api_call(c, API_ADMIN, "GET", path, (struct str){ 0 }, &a, &exit_code))
		return exit_code;
	list = json_get_type(a.value, STR("generations"), JSON_ARRAY);
	if (c->json)
		answer_print(c, &a);
	else if (list && list->n)
		print_table(c->out, generation_columns, ARRAY_LEN(generation_columns), list, first);
	else if (first)
		fprintf(c->out, "no generation was stored yet\n");
	*before = (uint64_t)answer_number(a.value, "next");
	return CLI_DONE;
}

/* Newest first. With --json a line for each page. */
int policy_list_all(struct cli *c)
{
	uint64_t before = 0;
	int exit_code = list_page(c, &before, true);

	while (exit_code == CLI_DONE && before)
		exit_code = list_page(c, &before, false);
	return exit_code;
}

/* @number 0: the one in force. */
static bool get_generation(struct cli *c, uint64_t number, bool sources, struct answer *a,
			   int *exit_code)
{
	char path[128];

	if (number)
		snprintf(path, sizeof(path), "/v1/policies/generation?number=%" PRIu64 "%s", number,
			 sources ? "&sources=yes" : "");
	else
		snprintf(path, sizeof(path), "/v1/policies/generation%s",
			 sources ? "?sources=yes" : "");
	return api_call(c, API_ADMIN, "GET", path, (struct str){ 0 }, a, exit_code);
}

static void put_head(struct cli *c, const struct json *v)
{
	static const char *const names[] = { "hash", "stored_at", "by", "message", "since", NULL };

	fprintf(c->out, "generation: %" PRId64 "%s%s\n", answer_number(v, "generation"),
		answer_flag(v, "active") ? ", in force" : "",
		answer_flag(v, "pinned") ? ", pinned" : "");
	for (size_t i = 0; names[i]; i++) {
		struct str s = answer_text(v, names[i]);

		if (!s.n)
			continue;
		fprintf(c->out, "%s: ", names[i]);
		print_text(c->out, s);
		fputc('\n', c->out);
	}
}

static void put_source(struct cli *c, const struct json *file)
{
	struct str rest = answer_text(file, "text"), line;

	fprintf(c->out, "\n--- ");
	print_text(c->out, answer_text(file, "path"));
	fputc('\n', c->out);
	while (rest.n) {
		if (!str_cut(rest, '\n', &line, &rest)) {
			line = rest;
			rest.n = 0;
		}
		print_text(c->out, line);
		fputc('\n', c->out);
	}
}

int run_policy_show(struct cli *c)
{
	const struct json *rules, *sources;
	bool with_sources = cli_flag(c, "--sources");
	uint64_t number = 0;
	AUTO_ANSWER a = { 0 };
	int exit_code;

	if (c->noperands && !generation_operand(c, 0, &number, &exit_code))
		return exit_code;
	if (!get_generation(c, number, with_sources, &a, &exit_code))
		return exit_code;
	if (c->json) {
		answer_print(c, &a);
		return CLI_DONE;
	}
	put_head(c, a.value);
	rules = json_get_type(a.value, STR("rules"), JSON_ARRAY);
	sources = json_get_type(a.value, STR("sources"), JSON_ARRAY);
	if (rules && rules->n) {
		fputc('\n', c->out);
		print_table(c->out, rule_columns, ARRAY_LEN(rule_columns), rules, true);
	}
	if (sources && sources->n) {
		fputc('\n', c->out);
		print_table(c->out, source_columns, ARRAY_LEN(source_columns), sources, true);
		for (uint32_t i = 0; with_sources && i < sources->n; i++)
			put_source(c, &sources->items[i]);
	}
	return CLI_DONE;
}

/* ---- diff ---- */

static const struct json *find_rule(const struct json *rules, const struct json *want)
{
	for (uint32_t i = 0; rules && i < rules->n; i++)
		if (str_eq(answer_text(&rules->items[i], "policy"), answer_text(want, "policy")) &&
		    str_eq(answer_text(&rules->items[i], "rule"), answer_text(want, "rule")))
			return &rules->items[i];
	return NULL;
}

static struct str source_text(const struct json *sources, struct str path, bool *found)
{
	for (uint32_t i = 0; sources && i < sources->n; i++)
		if (str_eq(answer_text(&sources->items[i], "path"), path)) {
			*found = true;
			return answer_text(&sources->items[i], "text");
		}
	*found = false;
	return (struct str){ "", 0 };
}

/* The lines of a rule: from where it begins to where the next one of its file does. */
static struct str rule_text(const struct json *generation, const struct json *rule)
{
	const struct json *rules = json_get_type(generation, STR("rules"), JSON_ARRAY);
	const struct json *sources = json_get_type(generation, STR("sources"), JSON_ARRAY);
	int64_t from = answer_number(rule, "line"), to = INT64_MAX, at = 1;
	struct str path = answer_text(rule, "file"), all, line, rest;
	const char *begin = NULL;
	bool found;

	for (uint32_t i = 0; rules && i < rules->n; i++) {
		int64_t n = answer_number(&rules->items[i], "line");

		if (str_eq(answer_text(&rules->items[i], "file"), path) && n > from && n < to)
			to = n;
	}
	all = rest = source_text(sources, path, &found);
	for (; at < to && rest.n; at++) {
		if (at == from)
			begin = rest.p;
		if (!str_cut(rest, '\n', &line, &rest))
			rest = str_from(all, all.n);
	}
	if (!begin)
		return (struct str){ "", 0 };
	all = (struct str){ begin, (size_t)(rest.p - begin) };
	while (all.n && strchr(" \t\n},", all.p[all.n - 1]))
		all.n--;
	return all;
}

static void put_rule(struct buf *b, bool json, bool *first, const char *what,
		     const struct json *rule)
{
	if (json) {
		buf_add(b, *first ? STR("{\"change\":\"") : STR(",{\"change\":\""));
		buf_add(b, str_c(what));
		buf_lit(b, "\",\"rule\":");
		buf_add(b, rule->raw);
		buf_char(b, '}');
	} else {
		buf_printf(b, "%-8s ", what);
		print_safe(b, answer_text(rule, "effect"));
		buf_char(b, ' ');
		print_safe(b, answer_text(rule, "policy"));
		buf_char(b, '/');
		print_safe(b, answer_text(rule, "rule"));
		buf_lit(b, "  ");
		print_safe(b, answer_text(rule, "file"));
		buf_printf(b, ":%" PRId64 "\n", answer_number(rule, "line"));
	}
	*first = false;
}

static size_t diff_rules(struct buf *b, bool json, const struct json *old, const struct json *new)
{
	const struct json *was = json_get_type(old, STR("rules"), JSON_ARRAY);
	const struct json *is = json_get_type(new, STR("rules"), JSON_ARRAY);
	bool first = true;
	size_t n = 0;

	for (uint32_t i = 0; was && i < was->n; i++)
		if (!find_rule(is, &was->items[i])) {
			put_rule(b, json, &first, "removed", &was->items[i]);
			n++;
		}
	for (uint32_t i = 0; is && i < is->n; i++) {
		const struct json *rule = &is->items[i], *before = find_rule(was, rule);

		if (before && str_eq(answer_text(before, "effect"), answer_text(rule, "effect")) &&
		    str_eq(answer_text(before, "on"), answer_text(rule, "on")) &&
		    str_eq(rule_text(old, before), rule_text(new, rule)))
			continue;
		put_rule(b, json, &first, before ? "changed" : "added", rule);
		n++;
	}
	return n;
}

static bool diff_file(struct buf *b, struct str path, struct str old, struct str new)
{
	if (str_eq(old, new))
		return true;
	buf_lit(b, "\n--- ");
	print_safe(b, path);
	buf_lit(b, "\n+++ ");
	print_safe(b, path);
	buf_char(b, '\n');
	return diff_lines(b, old, new);
}

static bool diff_sources(struct buf *b, const struct json *old, const struct json *new)
{
	const struct json *was = json_get_type(old, STR("sources"), JSON_ARRAY);
	const struct json *is = json_get_type(new, STR("sources"), JSON_ARRAY);
	bool found, ok = true;

	for (uint32_t i = 0; ok && was && i < was->n; i++) {
		struct str path = answer_text(&was->items[i], "path");
		struct str text = source_text(is, path, &found);

		ok = diff_file(b, path, answer_text(&was->items[i], "text"), text);
	}
	for (uint32_t i = 0; ok && is && i < is->n; i++) {
		struct str path = answer_text(&is->items[i], "path");

		(void)source_text(was, path, &found);
		if (!found)
			ok = diff_file(b, path, STR(""), answer_text(&is->items[i], "text"));
	}
	return ok && buf_ok(b);
}

/* JSON without its last brace. */
static void write_diff(const struct cli *c, struct buf *out, const struct json *old,
		       const struct json *new, size_t n, struct str rules, struct str text)
{
	int64_t from = answer_number(old, "generation"), to = answer_number(new, "generation");

	if (c->json) {
		buf_printf(out, "{\"from\":%" PRId64 ",\"to\":%" PRId64 ",\"rules\":[", from, to);
		buf_add(out, rules);
		buf_lit(out, "],\"diff\":");
		buf_json(out, text);
		return;
	}
	buf_printf(out, "generation %" PRId64 " -> %" PRId64 ", rules that differ: %zu\n", from, to,
		   n);
	buf_add(out, rules);
	buf_add(out, text);
}

int run_policy_diff(struct cli *c)
{
	uint64_t from, to = 0;
	AUTO_ANSWER a = { 0 };
	AUTO_ANSWER b = { 0 };
	AUTO_BUF rules;
	AUTO_BUF text;
	AUTO_BUF out;
	struct err e = { 0 };
	size_t n;
	int exit_code;

	buf_init(&out, mem_system, 2 * DIFF_MAX);
	buf_init(&rules, mem_system, DIFF_MAX);
	buf_init(&text, mem_system, DIFF_MAX);
	if (cli_flag(c, "--rollout"))
		return policy_diff_rollout(c);
	if (!c->noperands)
		return cli_misuse(c, "expected the number of a generation, or --rollout");
	if (!generation_operand(c, 0, &from, &exit_code) ||
	    (c->noperands > 1 && !generation_operand(c, 1, &to, &exit_code)) ||
	    !get_generation(c, from, true, &a, &exit_code) ||
	    !get_generation(c, to, true, &b, &exit_code))
		return exit_code;
	n = diff_rules(&rules, c->json, a.value, b.value);
	if (!diff_sources(&text, a.value, b.value) || !buf_ok(&rules)) {
		err_set(&e, ERR_NOMEM, "no memory to compare the generations");
		return cli_fail(c, &e);
	}
	write_diff(c, &out, a.value, b.value, n, buf_str(&rules), buf_str(&text));
	if (!buf_ok(&out)) {
		err_set(&e, ERR_NOMEM, "no memory to compare the generations");
		return cli_fail(c, &e);
	}
	if (cli_flag(c, "--replay")) {
		buf_add(&out, c->json ? STR(",\"replay\":") : STR("\nrecorded decisions, "));
		return policy_replay_between(c, (uint64_t)answer_number(a.value, "generation"),
					     (uint64_t)answer_number(b.value, "generation"),
					     buf_str(&out), c->json ? STR("}\n") : STR(""));
	}
	if (c->json)
		buf_lit(&out, "}\n");
	fwrite(out.p, 1, out.n, c->out);
	return CLI_DONE;
}
