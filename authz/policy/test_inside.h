/*
 * test_inside - the parts of a test run; private to authz/policy.
 *
 * Purpose    test.c holds the run together, test_words.c is what a test file can say,
 *            test_case.c makes a request of a case and looks at what came of it.
 * Ownership  A run borrows set and sources. What one case needs lives in run->scratch.
 * Threads    One owner.
 */
#ifndef WRIT_POLICY_TEST_INSIDE_H
#define WRIT_POLICY_TEST_INSIDE_H

#include <lua.h>

#include "authz/policy/prelude.h"
#include "authz/policy/scan_tokens.h"
#include "authz/policy/state.h"
#include "authz/policy/test.h"

struct test_run {
	const struct policy_test_options *o;
	struct policy_test_report *report;
	struct policy_set *set;
	struct policy_state *reused;
	struct clock_fixed hands;
	struct clock clock;
	struct watch watch;
	uint8_t **hit; /* of each file of the set: a byte for each line, or NULL */
	uint32_t *nhit;
	struct arena scratch; /* of the case at hand */
	/* The file and the test at hand */
	const struct policy_file *file;
	struct tokens tokens; /* of the file */
	struct arena file_arena;
	struct str test;
	int line;
	bool skip;
	uint32_t cases; /* of the test at hand */
	uint32_t begun; /* tests that have no body yet */
	int begun_line;
};

/* Values of a test or a case, by name. */
struct test_fields {
	const struct json *items;
	uint32_t n;
};

/* One case: @own goes before @base. @expect (may be NULL) stands for a member of that name. If the
 * case got an answer, *out (may be NULL) is it. Never raises. */
void test_case(struct test_run *run, const struct test_fields *base, const struct test_fields *own,
	       const char *expect, int line, struct policy_result *out);

/* Tell the outcome of the case (or, number 0, the test) at hand. */
void test_say(struct test_run *run, enum policy_test_outcome outcome, int line, uint32_t number,
	      struct str name, int64_t ns, const char *fmt, ...) PRINTF(7, 8);

/* Does --run want the test at hand? */
bool test_wanted(const struct test_run *run);

extern const struct prelude_word test_words[];
extern const char *const test_word_names[];

/* The line of case @number of the test that begins at @line, or @line. */
int test_case_line(const struct test_run *run, int line, uint32_t number);

#endif
