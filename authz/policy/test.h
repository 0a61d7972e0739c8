/*
 * test - the tests of a policy set (*_test.lua), its coverage and its cost.
 *
 * Purpose    A case is a request and what has to come of it. It goes through policy_evaluate, the
 *            same as in production, three times: in a state of its own, in one that has seen all
 *            cases before, and with the members of its JSON in another order; all must agree.
 *            The clock stands still, so no test fails because a machine is busy.
 * Ownership  What a callback gets lives until it returns. A report is cleared by its owner.
 * Threads    No state of its own: call from any thread.
 *
 * The words of a test file: test "name" { ... }, test "name" (function(t) ... end) and skip, which
 * takes the place of test. They run in the sandbox, in nothing but the prelude. See
 * policies/README.md.
 */
#ifndef WRIT_POLICY_TEST_H
#define WRIT_POLICY_TEST_H

#include "authz/policy/policy.h"

/* When tests run, unless they say another `now`: a Wednesday, 10:00 UTC. */
#define POLICY_TEST_NOW INT64_C(1772618400000) /* 2026-03-04T10:00:00Z */

enum policy_test_outcome { POLICY_TEST_PASSED, POLICY_TEST_FAILED, POLICY_TEST_SKIPPED };

/* One case. */
struct policy_test_result {
	enum policy_test_outcome outcome;
	struct str file, test; /* test: empty for a mistake outside of any */
	int line;	       /* of the case if it can be told, else of its test */
	uint32_t number;       /* of the case in its test, from 1; 0: the test itself */
	struct str name;       /* of the case, if it has one */
	struct str message;    /* of a failure: what was expected, what came, which rule decided */
	int64_t ns;	       /* time of its evaluations */
};

struct policy_test_options {
	struct policy_options load;
	const char *run; /* only tests whose "file: name" holds this; with * ? [ a pattern of it */
	bool coverage;	 /* fill the report's rules and lines */
	void (*result)(void *ctx, const struct policy_test_result *r); /* or NULL */
	/* Each request that is put to the policies, once, or NULL. */
	void (*request)(void *ctx, const struct policy_request *q);
	void *ctx;
};

/* A rule without `when` is seen false when it does not apply. */
struct policy_test_rule {
	struct str name, file; /* "finance/payments" */
	int line;
	bool seen_true, seen_false;
};
struct policy_test_lines {
	struct str file;
	uint32_t active, hit; /* lines inside of functions */
	uint32_t *missed;     /* active - hit of them, ascending */
};

struct policy_test_report {
	size_t passed, failed, skipped; /* cases */
	size_t files;			/* test files */
	struct policy_test_rule *rules; /* by name */
	size_t nrules;
	struct policy_test_lines *lines; /* of each file with rules */
	size_t nlines;
	double rules_percent, lines_percent; /* of outcomes and lines; 100 of none */
	struct arena arena;
};
void policy_test_report_clear(struct policy_test_report *r);

/* Load the set and run its tests. False: the set does not load or memory is short; a failing
 * test is in the report. Tests passed if report->failed == 0, and something ran if
 * report->passed > 0. */
MUST_USE bool policy_test_run(const struct policy_sources *s, const struct policy_test_options *o,
			      struct policy_test_report *report, struct err *e);

/* Load with lint, and add what the tests leave out; @findings is always filled, and cleared by
 * the caller. *out is the set, if there are no errors. */
MUST_USE bool policy_check(const struct policy_sources *s, const struct policy_options *o,
			   struct policy_set **out, struct policy_findings *findings,
			   struct err *e);

/* What an evaluation costs, over the requests of the tests. */
struct policy_bench_rule {
	struct str name;
	uint64_t runs;
	double ns, instructions, bytes; /* of one run of its `when` */
};
struct policy_bench {
	size_t requests;
	uint64_t evaluations;
	double ns, instructions, bytes; /* of one evaluation */
	struct policy_bench_rule *rules;
	size_t nrules;
	struct arena arena;
};
void policy_bench_clear(struct policy_bench *b);
MUST_USE bool policy_bench_run(const struct policy_sources *s, const struct policy_test_options *o,
			       int64_t milliseconds, struct policy_bench *b, struct err *e);

#endif
