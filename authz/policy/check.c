/* check: what a load says, what lint says, and which rules no test reaches. */
#include "authz/policy/findings.h"
#include "authz/policy/test.h"

static const struct policy_file *find_file(const struct policy_sources *s, struct str path)
{
	for (size_t i = 0; i < s->n; i++)
		if (str_eq(s->files[i].path, path))
			return &s->files[i];
	return NULL;
}

static void say_untested(const struct policy_sources *s, const struct policy_test_report *r,
			 struct policy_findings *f)
{
	f->code = "untested";
	for (size_t i = 0; i < r->nrules; i++) {
		const struct policy_test_rule *rule = &r->rules[i];
		const struct policy_file *file = find_file(s, rule->file);
		size_t before = f->n;

		if (rule->seen_true)
			continue;
		finding(f, false, rule->file, rule->line,
			"rule \"%.*s\" is not met by any test: add a case to a *_test.lua file",
			STR_FMT(rule->name));
		if (file && f->n > before)
			finding_place(&f->items[before], file->text);
	}
	f->code = "failing-test";
	if (r->failed)
		finding(f, false, STR(""), 0, "tests that fail: %zu; writ policy test names them",
			r->failed);
	f->code = "untested";
	if (r->files == 0 && r->nrules)
		finding(f, false, STR(""), 0,
			"there are no tests: write them in files named *_test.lua");
}

static bool has_tests(const struct policy_sources *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (str_ends(s->files[i].path, STR("_test.lua")))
			return true;
	return false;
}

bool policy_check(const struct policy_sources *s, const struct policy_options *given,
		  struct policy_set **out, struct policy_findings *findings, struct err *e)
{
	struct policy_test_options o = { .load = *given, .coverage = true };
	struct policy_options load = *given;
	struct policy_test_report report;
	struct policy_set *set;

	load.lint = true;
	if (!policy_set_load_with(s, &load, &set, findings, e))
		return false;
	if (!policy_test_run(s, &o, &report, e)) {
		shared_release(&set->shared);
		return false;
	}
	if (!has_tests(s)) /* one sentence, not one for each rule */
		for (size_t i = 0; i < report.nrules; i++)
			report.rules[i].seen_true = true;
	say_untested(s, &report, findings);
	findings_sort(findings);
	policy_test_report_clear(&report);
	*out = set;
	return true;
}
