/* policy check (here, without a server) and policy list. */
#include "authz/policy/test.h"

#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"

static const struct column columns[] = {
	{ "POLICY", "policy" }, { "RULE", "rule" }, { "EFFECT", "effect" },
	{ "FILE", "file" },	{ "LINE", "line" }, { "ON", "on" },
};

static void put_finding(struct cli *c, const char *dir, const struct policy_finding *f, bool first)
{
	AUTO_BUF b;

	buf_init(&b, mem_system, 65536);
	if (c->json) {
		buf_printf(&b, "%s{\"file\":", first ? "" : ",");
		buf_json(&b, f->file);
		buf_printf(&b,
			   ",\"line\":%d,\"column\":%d,\"severity\":\"%s\",\"code\":\"%s\","
			   "\"message\":",
			   f->line, f->column, f->error ? "error" : "warning", f->code);
		buf_json(&b, f->message);
		buf_char(&b, '}');
	} else {
		buf_printf(&b, f->file.n ? "%s/" : "%s", dir);
		print_safe(&b, f->file);
		if (f->line > 0)
			buf_printf(&b, ":%d:%d", f->line, f->column);
		buf_printf(&b, ": %s: ", f->error ? "error" : "warning");
		print_safe(&b, f->message);
		buf_char(&b, '\n');
	}
	fwrite(b.p, 1, b.n, c->out);
}

/* Findings are what the command is for: they go to stdout, whatever they say. */
static void put_report(struct cli *c, const char *dir, const struct policy_sources *s,
		       const struct policy_set *set, const struct policy_findings *f)
{
	size_t rules = set ? policy_set_rule_count(set) : 0;

	if (c->json)
		fprintf(c->out, "{\"ok\":%s,\"files\":%zu,\"rules\":%zu,\"findings\":[",
			set ? "true" : "false", s->n, rules);
	for (size_t i = 0; i < f->n; i++)
		put_finding(c, dir, &f->items[i], i == 0);
	if (c->json)
		fprintf(c->out, "]}\n");
	else
		fprintf(c->out, "%s: %s; files: %zu, rules: %zu, errors: %zu, warnings: %zu\n", dir,
			set ? "good" : "refused", s->n, rules, f->errors, f->n - f->errors);
}

static int check(struct cli *c, const char *dir)
{
	struct policy_options o = { .limits = policy_default_limits };
	struct policy_sources s;
	struct policy_findings f = { 0 };
	struct policy_set *set = NULL;
	struct err e = { 0 };
	bool ok;

	if (!policy_sources_read(&s, dir, &e))
		return cli_fail(c, &e);
	if (s.n == 0) {
		policy_sources_clear(&s);
		err_code(&e, ERR_NOT_FOUND, "no_policies",
			 "%s holds no policies: expected *.lua, and catalogue/*.lua below it", dir);
		return cli_fail(c, &e);
	}
	ok = policy_check(&s, &o, &set, &f, &e);
	if (!ok && f.errors == 0)
		cli_fail(c, &e); /* not about a file: out of memory */
	else
		put_report(c, dir, &s, set, &f);
	policy_findings_clear(&f);
	if (set)
		shared_release(&set->shared);
	policy_sources_clear(&s);
	return ok ? CLI_DONE : CLI_FAILED;
}

int run_policy_check(struct cli *c)
{
	AUTO_CONFIG *cfg = NULL;
	struct err e = { 0 };

	if (c->noperands)
		return check(c, c->operands[0]);
	if (!api_config(c, &cfg, &e))
		return cli_fail(c, &e);
	return check(c, cfg->policies.dir);
}

int run_policy_list(struct cli *c)
{
	const struct json *rules, *generation, *hash, *pinned;
	AUTO_ANSWER a = { 0 };
	int exit_code;

	if (cli_flag(c, "--all"))
		return policy_list_all(c);
	if (!api_call(c, API_ADMIN, "GET", "/v1/policies", (struct str){ 0 }, &a, &exit_code))
		return exit_code;
	if (c->json) {
		answer_print(c, &a);
		return CLI_DONE;
	}
	generation = json_get_type(a.value, STR("generation"), JSON_INT);
	hash = json_get_type(a.value, STR("hash"), JSON_STRING);
	rules = json_get_type(a.value, STR("rules"), JSON_ARRAY);
	if (generation && hash) {
		fprintf(c->out, "generation %lld, sha256 ", (long long)generation->i);
		print_text(c->out, hash->s);
		pinned = json_get_type(a.value, STR("pinned"), JSON_BOOL);
		fprintf(c->out, "%s\n", pinned && pinned->b ? ", pinned" : "");
	}
	if (rules && rules->n)
		print_table(c->out, columns, ARRAY_LEN(columns), rules, true);
	else
		fprintf(c->out, "no rules: every answer is deny\n");
	return CLI_DONE;
}
