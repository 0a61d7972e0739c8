/* policy test: run *_test.lua here, without a server; text, JSON and JUnit. */
#include "authz/policy/test.h"

#include <errno.h>
#include <stdlib.h>

#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"

#define RESULTS_MEMORY ((size_t)64 * 1024 * 1024)

/* Outcomes, kept: JUnit wants counts before cases. */
struct results {
	struct policy_test_result *items;
	size_t n, room;
	bool short_of_memory;
	struct arena arena;
};

static void take(void *ctx, const struct policy_test_result *r)
{
	struct results *all = ctx;
	struct policy_test_result *copy;

	if (all->n == all->room) {
		size_t room = all->room ? all->room * 2 : 64;

		copy = arena_alloc(&all->arena, room * sizeof(*copy));
		if (!copy) {
			all->short_of_memory = true;
			return;
		}
		if (all->n)
			memcpy(copy, all->items, all->n * sizeof(*copy));
		all->items = copy;
		all->room = room;
	}
	copy = &all->items[all->n++];
	*copy = *r;
	copy->file = arena_dup(&all->arena, r->file);
	copy->test = arena_dup(&all->arena, r->test);
	copy->name = arena_dup(&all->arena, r->name);
	copy->message = arena_dup(&all->arena, r->message);
	if (!copy->file.p || !copy->test.p || !copy->name.p || !copy->message.p) {
		all->short_of_memory = true;
		all->n--;
	}
}

/* "payments, case 2 (large)" */
static void put_name(struct buf *b, const struct policy_test_result *r)
{
	print_safe(b, r->test.n ? r->test : STR("the file"));
	if (r->number)
		buf_printf(b, ", case %u", r->number);
	if (r->name.n) {
		buf_lit(b, " (");
		print_safe(b, r->name);
		buf_char(b, ')');
	}
}

static void put_text(struct buf *b, const char *dir, const struct policy_test_result *r)
{
	if (r->outcome == POLICY_TEST_PASSED)
		return;
	buf_printf(b, "%s/", dir);
	print_safe(b, r->file);
	if (r->line)
		buf_printf(b, ":%d", r->line);
	buf_lit(b, ": ");
	put_name(b, r);
	buf_add(b, str_c(r->outcome == POLICY_TEST_FAILED ? ": " : ": skipped: "));
	print_safe(b, r->message);
	buf_char(b, '\n');
}

static void put_rules(struct buf *b, const char *dir, const struct policy_test_report *r)
{
	for (size_t i = 0; i < r->nrules; i++) {
		const struct policy_test_rule *rule = &r->rules[i];

		if (rule->seen_true && rule->seen_false)
			continue;
		buf_printf(b, "%s/", dir);
		print_safe(b, rule->file);
		buf_printf(b, ":%d: ", rule->line);
		print_safe(b, rule->name);
		buf_printf(b, " was never seen %s\n",
			   rule->seen_true    ? "false"
			   : rule->seen_false ? "true"
					      : "true nor false");
	}
	for (size_t i = 0; i < r->nlines; i++) {
		const struct policy_test_lines *l = &r->lines[i];

		if (l->hit == l->active)
			continue;
		buf_printf(b, "%s/", dir);
		print_safe(b, l->file);
		buf_printf(b, ": lines that no test ran:");
		for (uint32_t k = 0; k < l->active - l->hit; k++)
			buf_printf(b, " %u", l->missed[k]);
		buf_char(b, '\n');
	}
	buf_printf(b, "coverage: %.1f %% of the outcomes of %zu rules, %.1f %% of lines\n",
		   r->rules_percent, r->nrules, r->lines_percent);
}

/* JSON */

static void put_json_case(struct buf *b, const struct policy_test_result *r)
{
	static const char *const outcomes[] = { "passed", "failed", "skipped" };

	buf_lit(b, "{\"file\":");
	buf_json(b, r->file);
	buf_printf(b, ",\"line\":%d,\"test\":", r->line);
	buf_json(b, r->test);
	buf_printf(b, ",\"case\":%u,\"name\":", r->number);
	buf_json(b, r->name);
	buf_printf(b, ",\"outcome\":\"%s\",\"message\":", outcomes[r->outcome]);
	buf_json(b, r->message);
	buf_printf(b, ",\"us\":%lld}", (long long)(r->ns / 1000));
}

static void put_json_coverage(struct buf *b, const struct policy_test_report *r)
{
	buf_printf(b, ",\"coverage\":{\"rules_percent\":%.1f,\"lines_percent\":%.1f,\"rules\":[",
		   r->rules_percent, r->lines_percent);
	for (size_t i = 0; i < r->nrules; i++) {
		const struct policy_test_rule *rule = &r->rules[i];

		buf_add(b, str_c(i ? ",{\"rule\":" : "{\"rule\":"));
		buf_json(b, rule->name);
		buf_lit(b, ",\"file\":");
		buf_json(b, rule->file);
		buf_printf(b, ",\"line\":%d,\"seen_true\":%s,\"seen_false\":%s}", rule->line,
			   rule->seen_true ? "true" : "false", rule->seen_false ? "true" : "false");
	}
	buf_lit(b, "],\"files\":[");
	for (size_t i = 0; i < r->nlines; i++) {
		const struct policy_test_lines *l = &r->lines[i];

		buf_add(b, str_c(i ? ",{\"file\":" : "{\"file\":"));
		buf_json(b, l->file);
		buf_printf(b, ",\"lines\":%u,\"hit\":%u,\"missed\":[", l->active, l->hit);
		for (uint32_t k = 0; k < l->active - l->hit; k++)
			buf_printf(b, k ? ",%u" : "%u", l->missed[k]);
		buf_lit(b, "]}");
	}
	buf_lit(b, "]}");
}

static void put_json(struct buf *b, const struct results *all, const struct policy_test_report *r,
		     bool coverage, bool ok)
{
	buf_printf(b, "{\"ok\":%s,\"passed\":%zu,\"failed\":%zu,\"skipped\":%zu,\"cases\":[",
		   ok ? "true" : "false", r->passed, r->failed, r->skipped);
	for (size_t i = 0; i < all->n; i++) {
		if (i)
			buf_char(b, ',');
		put_json_case(b, &all->items[i]);
	}
	buf_char(b, ']');
	if (coverage)
		put_json_coverage(b, r);
	buf_lit(b, "}\n");
}

/* JUnit */

static void put_xml(struct buf *b, struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c == '<' || c == '>' || c == '&' || c == '"' || c == '\'')
			buf_printf(b, "&#%d;", c);
		else
			buf_char(b, c < 0x20 ? '?' : (char)c);
	}
}

static void put_junit_case(struct buf *b, const struct policy_test_result *r)
{
	struct buf name;

	buf_init(&name, mem_system, 4096);
	put_name(&name, r);
	buf_lit(b, "    <testcase classname=\"");
	put_xml(b, r->file);
	buf_lit(b, "\" name=\"");
	put_xml(b, buf_str(&name));
	buf_printf(b, "\" time=\"%.6f\"", (double)r->ns / 1e9);
	buf_clear(&name);
	if (r->outcome == POLICY_TEST_PASSED) {
		buf_lit(b, "/>\n");
		return;
	}
	buf_add(b, str_c(r->outcome == POLICY_TEST_FAILED ? "><failure message=\""
							  : "><skipped message=\""));
	put_xml(b, r->file);
	buf_printf(b, ":%d: ", r->line);
	put_xml(b, r->message);
	buf_lit(b, "\"/></testcase>\n");
}

/* A suite for each file; cases of a file stand together. */
static void put_junit(struct buf *b, const struct results *all, const struct policy_test_report *r)
{
	buf_lit(b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
	buf_printf(b, "<testsuites tests=\"%zu\" failures=\"%zu\" skipped=\"%zu\">\n", all->n,
		   r->failed, r->skipped);
	for (size_t i = 0, end; i < all->n; i = end) {
		size_t failed = 0, skipped = 0;

		for (end = i; end < all->n && str_eq(all->items[end].file, all->items[i].file);
		     end++) {
			failed += all->items[end].outcome == POLICY_TEST_FAILED;
			skipped += all->items[end].outcome == POLICY_TEST_SKIPPED;
		}
		buf_lit(b, "  <testsuite name=\"");
		put_xml(b, all->items[i].file);
		buf_printf(b, "\" tests=\"%zu\" failures=\"%zu\" skipped=\"%zu\">\n", end - i,
			   failed, skipped);
		for (size_t k = i; k < end; k++)
			put_junit_case(b, &all->items[k]);
		buf_lit(b, "  </testsuite>\n");
	}
	buf_lit(b, "</testsuites>\n");
}

static bool write_junit(const char *path, const struct results *all,
			const struct policy_test_report *r, struct err *e)
{
	FILE *f;
	bool ok;
	AUTO_BUF b;

	buf_init(&b, mem_system, RESULTS_MEMORY);
	put_junit(&b, all, r);
	if (!buf_ok(&b))
		return err_set(e, ERR_NOMEM, "no memory for %s", path);
	f = fopen(path, "we");
	if (!f)
		return err_set(e, ERR_IO, "%s cannot be written: %s", path, strerror(errno));
	ok = fwrite(b.p, 1, b.n, f) == b.n;
	if (fclose(f) != 0 || !ok)
		return err_set(e, ERR_IO, "%s cannot be written: %s", path, strerror(errno));
	return true;
}

/* The command */

static bool good(const struct policy_test_report *r, double threshold)
{
	return r->failed == 0 && r->passed > 0 &&
	       (threshold < 0 || (r->rules_percent >= threshold && r->lines_percent >= threshold));
}

static void put_report(struct cli *c, const char *dir, const struct results *all,
		       const struct policy_test_report *r, bool coverage, double threshold)
{
	bool ok = good(r, threshold);
	AUTO_BUF b;

	buf_init(&b, mem_system, RESULTS_MEMORY);
	if (c->json) {
		put_json(&b, all, r, coverage, ok);
	} else {
		for (size_t i = 0; i < all->n; i++)
			put_text(&b, dir, &all->items[i]);
		if (coverage)
			put_rules(&b, dir, r);
		if (coverage && threshold >= 0 &&
		    (r->rules_percent < threshold || r->lines_percent < threshold))
			buf_printf(&b, "coverage is below %g %%\n", threshold);
		if (r->passed + r->failed == 0)
			buf_printf(&b, "no test ran: %s\n",
				   cli_value(c, "--run")
					   ? "no \"FILE: NAME\" of a test holds what --run says"
					   : "tests stand in files named *_test.lua");
		buf_printf(&b, "%s: %s; files: %zu, passed: %zu, failed: %zu, skipped: %zu\n", dir,
			   ok ? "good" : "failed", r->files, r->passed, r->failed, r->skipped);
	}
	fwrite(b.p, 1, b.n, c->out);
}

static int run_tests(struct cli *c, const char *dir, double threshold)
{
	bool coverage = threshold >= 0 || cli_flag(c, "--coverage");
	const char *junit = cli_value(c, "--junit");
	struct results all = { 0 };
	struct policy_test_options o = {
		.run = cli_value(c, "--run"), .coverage = coverage, .result = take, .ctx = &all
	};
	struct policy_test_report r;
	struct policy_sources s;
	struct err e = { 0 };
	bool ok;

	if (!policy_sources_read(&s, dir, &e))
		return cli_fail(c, &e);
	arena_init(&all.arena, &mem_system, RESULTS_MEMORY);
	ok = policy_test_run(&s, &o, &r, &e);
	if (ok && all.short_of_memory)
		ok = err_set(&e, ERR_NOMEM, "no memory for the results");
	ok = ok && (!junit || write_junit(junit, &all, &r, &e));
	if (ok) {
		put_report(c, dir, &all, &r, coverage, threshold);
		ok = good(&r, threshold);
	} else {
		cli_fail(c, &e);
	}
	policy_test_report_clear(&r);
	arena_clear(&all.arena);
	policy_sources_clear(&s);
	return ok ? CLI_DONE : CLI_FAILED;
}

/* The folder that is named, or the configuration's. */
static int with_folder(struct cli *c, int (*run)(struct cli *c, const char *dir, double number),
		       double number)
{
	AUTO_CONFIG *cfg = NULL;
	struct err e = { 0 };

	if (c->noperands)
		return run(c, c->operands[0], number);
	if (!api_config(c, &cfg, &e))
		return cli_fail(c, &e);
	return run(c, cfg->policies.dir, number);
}

int run_policy_test(struct cli *c)
{
	const char *text = cli_value(c, "--threshold");
	uint64_t percent;

	if (!text)
		return with_folder(c, run_tests, -1);
	if (!text_u64(str_c(text), 100, &percent))
		return cli_misuse(c, "--threshold is a percentage from 0 to 100, not %.40s", text);
	return with_folder(c, run_tests, (double)percent);
}

/* bench */

static void put_bench(struct cli *c, const struct policy_bench *r)
{
	AUTO_BUF b;

	buf_init(&b, mem_system, RESULTS_MEMORY);
	if (c->json)
		buf_printf(
			&b,
			"{\"requests\":%zu,\"evaluations\":%llu,\"ns\":%.1f,\"instructions\":%.1f,"
			"\"bytes\":%.1f,\"rules\":[",
			r->requests, (unsigned long long)r->evaluations, r->ns, r->instructions,
			r->bytes);
	else
		buf_printf(&b, "%10s %12s %10s  %s\n%10.0f %12.0f %10.0f  %s\n", "NS",
			   "INSTRUCTIONS", "BYTES", "WHAT", r->ns, r->instructions, r->bytes,
			   "one evaluation");
	for (size_t i = 0; i < r->nrules; i++) {
		const struct policy_bench_rule *rule = &r->rules[i];

		if (c->json) {
			buf_add(&b, str_c(i ? ",{\"rule\":" : "{\"rule\":"));
			buf_json(&b, rule->name);
			buf_printf(
				&b,
				",\"runs\":%llu,\"ns\":%.1f,\"instructions\":%.1f,\"bytes\":%.1f}",
				(unsigned long long)rule->runs, rule->ns, rule->instructions,
				rule->bytes);
		} else {
			buf_printf(&b, "%10.0f %12.0f %10.0f  ", rule->ns, rule->instructions,
				   rule->bytes);
			print_safe(&b, rule->name);
			buf_char(&b, '\n');
		}
	}
	if (c->json)
		buf_lit(&b, "]}\n");
	else
		buf_printf(&b, "%zu requests of the tests, %llu evaluations\n", r->requests,
			   (unsigned long long)r->evaluations);
	fwrite(b.p, 1, b.n, c->out);
}

static int run_bench(struct cli *c, const char *dir, double milliseconds)
{
	struct policy_test_options o = { 0 };
	struct policy_sources s;
	struct policy_bench b;
	struct err e = { 0 };
	bool ok;

	if (!policy_sources_read(&s, dir, &e))
		return cli_fail(c, &e);
	ok = policy_bench_run(&s, &o, (int64_t)milliseconds, &b, &e);
	if (ok)
		put_bench(c, &b);
	else
		cli_fail(c, &e);
	policy_bench_clear(&b);
	policy_sources_clear(&s);
	return ok ? CLI_DONE : CLI_FAILED;
}

int run_policy_bench(struct cli *c)
{
	return with_folder(c, run_bench, 500);
}
