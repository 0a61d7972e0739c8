/* A run of all tests of a set: files, outcomes, coverage. */
#include "authz/policy/test.h"

#include <fnmatch.h>
#include <lauxlib.h>
#include <stdio.h>

#include "authz/base/text.h"
#include "authz/policy/scan.h"
#include "authz/policy/test_inside.h"

/* Of one test file; its evaluations have budgets of their own. */
#define FILE_STEPS 100000000
#define FILE_MS 60000
#define FILE_MEMORY ((size_t)64 * 1024 * 1024)
#define CASE_MEMORY ((size_t)32 * 1024 * 1024)
#define MESSAGE_MAX 1024

void policy_test_report_clear(struct policy_test_report *r)
{
	if (r->arena.alloc)
		arena_clear(&r->arena);
	*r = (struct policy_test_report){ 0 };
}

bool test_wanted(const struct test_run *run)
{
	char name[512];

	if (!run->o->run)
		return true;
	snprintf(name, sizeof(name), "%.*s: %.*s", STR_FMT(run->file->path), STR_FMT(run->test));
	return strpbrk(run->o->run, "*?[") ? fnmatch(run->o->run, name, 0) == 0
					   : strstr(name, run->o->run) != NULL;
}

void test_say(struct test_run *run, enum policy_test_outcome outcome, int line, uint32_t number,
	      struct str name, int64_t ns, const char *fmt, ...)
{
	char text[MESSAGE_MAX];
	struct policy_test_result r = { .outcome = outcome,
					.file = run->file->path,
					.test = run->test,
					.line = line,
					.number = number,
					.name = name,
					.ns = ns };
	va_list ap;

	run->report->passed += outcome == POLICY_TEST_PASSED;
	run->report->failed += outcome == POLICY_TEST_FAILED;
	run->report->skipped += outcome == POLICY_TEST_SKIPPED;
	if (!run->o->result)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	r.message = str_c(text);
	run->o->result(run->o->ctx, &r);
}

/* Files */

static int run_chunk(lua_State *L)
{
	struct test_run *run = lua_touserdata(L, 1);

	prelude_push(L, test_words);
	if (luaL_loadbufferx(L, run->file->text.p, run->file->text.n, "=test", "t") != LUA_OK)
		return lua_error(L);
	prelude_push_env(L, 2);
	if (!lua_setupvalue(L, -2, 1))
		return luaL_error(L, "the chunk has no environment");
	lua_call(L, 0, 0);
	return 0;
}

/* "test:12: text", as the chunk is named. */
static int line_in(const char *why, const char **text)
{
	struct str number, rest = str_c(why);
	uint64_t line;

	*text = why;
	if (!str_cut(rest, ':', &number, &rest) || !str_eq(number, STR("test")) ||
	    !str_cut(rest, ':', &number, &rest) || !text_u64(number, INT32_MAX, &line))
		return 0;
	*text = rest.n && *rest.p == ' ' ? rest.p + 1 : rest.p;
	return (int)line;
}

static bool run_file(struct test_run *run, const struct policy_file *file, struct err *e)
{
	struct sandbox sb;
	char why[512];
	const char *text;
	int line;

	run->file = file;
	run->test = (struct str){ NULL, 0 };
	run->begun = 0;
	run->report->files++;
	arena_reset(&run->file_arena);
	if (!tokens_read(file->text, &run->file_arena, &run->tokens))
		return err_set(e, ERR_NOMEM, "no memory for the tests of %.*s",
			       STR_FMT(file->path));
	if (!sandbox_open(&sb, &mem_system, &clock_system, FILE_MEMORY, e))
		return false;
	sb.work = run;
	sb.set = set_of(run->set);
	if (!sandbox_call(&sb, run_chunk, run, FILE_STEPS, FILE_MS, why, sizeof(why))) {
		line = line_in(why, &text);
		test_say(run, POLICY_TEST_FAILED, line, 0, STR(""), 0, "%s", text);
	} else if (run->begun) {
		test_say(run, POLICY_TEST_FAILED, run->begun_line, 0, STR(""), 0,
			 "a test has no body: write test \"NAME\" { ... }");
	}
	sandbox_close(&sb);
	return true;
}

/* Coverage */

static void on_line(void *ctx, lua_State *L, lua_Debug *ar)
{
	struct test_run *run = ctx;
	uint64_t file;

	if (!lua_getinfo(L, "S", ar) || ar->source[0] != '=' || ar->currentline <= 0 ||
	    !text_u64(str_c(ar->source + 1), set_of(run->set)->nfiles - 1, &file) ||
	    strcmp(ar->what, "main") == 0)
		return;
	if (run->hit[file] && (uint32_t)ar->currentline < run->nhit[file])
		run->hit[file][ar->currentline] |= 2;
}

/* Bit 1 of a line: it has code; bit 2: that ran. */
static void on_active(void *ctx, int line)
{
	struct test_run *run = ctx;
	uint32_t file = (uint32_t)run->line; /* the file at hand, see below */

	if (line > 0 && (uint32_t)line < run->nhit[file])
		run->hit[file][line] |= 1;
}

static bool start_coverage(struct test_run *run, const struct policy_sources *src, struct err *e)
{
	const struct set *s = set_of(run->set);
	struct arena *a = &run->report->arena;

	/* The first half is of the evaluation at hand, the second of all. */
	run->watch.seen = arena_zero(a, 2 * (size_t)s->nrules + 1);
	run->hit = arena_zero(a, (s->nfiles + 1) * sizeof(*run->hit));
	run->nhit = arena_zero(a, (s->nfiles + 1) * sizeof(*run->nhit));
	if (!run->watch.seen || !run->hit || !run->nhit)
		return err_set(e, ERR_NOMEM, "no memory for the coverage");
	for (uint32_t i = 0; i < s->nfiles; i++) {
		uint32_t n = 2;

		if (s->files[i].kind != FILE_RULES)
			continue;
		for (size_t k = 0; k < src->files[i].text.n; k++)
			n += src->files[i].text.p[k] == '\n';
		run->hit[i] = arena_zero(a, n);
		if (!run->hit[i])
			return err_set(e, ERR_NOMEM, "no memory for the coverage");
		run->nhit[i] = n;
		run->line = (int)i;
		scan_lines(s->files[i].dump, on_active, run);
	}
	run->watch.line = on_line;
	run->watch.ctx = run;
	return true;
}

static bool report_lines(struct test_run *run, uint32_t file, struct policy_test_lines *out)
{
	const struct set *s = set_of(run->set);
	uint32_t missed = 0;

	out->file = arena_dup(&run->report->arena, s->files[file].path);
	out->missed = arena_alloc(&run->report->arena, (run->nhit[file] + 1) * sizeof(uint32_t));
	if (!out->missed || !out->file.p)
		return false;
	for (uint32_t i = 0; i < run->nhit[file]; i++) {
		if (!(run->hit[file][i] & 1))
			continue;
		out->active++;
		if (run->hit[file][i] & 2)
			out->hit++;
		else
			out->missed[missed++] = i;
	}
	return true;
}

static double percent(size_t part, size_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 100.0;
}

static bool report_coverage(struct test_run *run, struct err *e)
{
	const struct set *s = set_of(run->set);
	struct policy_test_report *r = run->report;
	const uint8_t *seen = run->watch.seen + s->nrules;
	size_t outcomes = 0, active = 0, hit = 0;

	r->rules = arena_zero(&r->arena, (s->nrules + 1) * sizeof(*r->rules));
	r->lines = arena_zero(&r->arena, (s->nfiles + 1) * sizeof(*r->lines));
	if (!r->rules || !r->lines)
		return err_set(e, ERR_NOMEM, "no memory for the coverage");
	for (uint32_t i = 0; i < s->nrules; i++) {
		const struct rule *rule = s->by_name[i];
		uint8_t bits = seen[rule - s->rules];

		r->rules[i] = (struct policy_test_rule){
			.name = arena_dup(&r->arena, rule->full),
			.file = arena_dup(&r->arena, s->files[rule->file].path),
			.line = rule->line,
			.seen_true = bits & WATCH_TRUE,
			.seen_false = bits & WATCH_FALSE,
		};
		outcomes += r->rules[i].seen_true + r->rules[i].seen_false;
	}
	r->nrules = s->nrules;
	for (uint32_t i = 0; i < s->nfiles; i++) {
		if (!run->hit[i])
			continue;
		if (!report_lines(run, i, &r->lines[r->nlines]))
			return err_set(e, ERR_NOMEM, "no memory for the coverage");
		active += r->lines[r->nlines].active;
		hit += r->lines[r->nlines++].hit;
	}
	r->rules_percent = percent(outcomes, 2 * r->nrules);
	r->lines_percent = percent(hit, active);
	return true;
}

static bool run_all(struct test_run *run, const struct policy_sources *src, struct err *e)
{
	run->reused = policy_state_new(run->set, &mem_system, &run->clock, e);
	if (!run->reused)
		return false;
	if (run->o->coverage) {
		if (!start_coverage(run, src, e))
			return false;
		run->reused->watch = &run->watch;
		state_close(run->reused); /* the watch is taken over when it opens */
	}
	for (size_t i = 0; i < src->n; i++)
		if (str_ends(src->files[i].path, STR("_test.lua")) &&
		    !run_file(run, &src->files[i], e))
			return false;
	return !run->o->coverage || report_coverage(run, e);
}

bool policy_test_run(const struct policy_sources *s, const struct policy_test_options *o,
		     struct policy_test_report *report, struct err *e)
{
	struct test_run run = { .o = o, .report = report };
	bool ok;

	*report = (struct policy_test_report){ 0 };
	if (!policy_set_load_with(s, &o->load, &run.set, NULL, e))
		return false;
	run.clock = clock_of_fixed(&run.hands);
	arena_init(&report->arena, &mem_system, 64 * 1024 * 1024);
	arena_init(&run.scratch, &mem_system, CASE_MEMORY);
	arena_init(&run.file_arena, &mem_system, CASE_MEMORY);
	ok = run_all(&run, s, e);
	policy_state_free(run.reused);
	arena_clear(&run.scratch);
	arena_clear(&run.file_arena);
	shared_release(&run.set->shared);
	if (!ok)
		policy_test_report_clear(report);
	return ok;
}
