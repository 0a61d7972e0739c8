/* base/pattern: patterns of SPIFFE IDs, in `callers` and in `on.subject`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "authz/base/pattern.h"

static const struct {
	const char *pattern, *id;
	bool match;
} matches[] = {
	{ "spiffe://td/a", "spiffe://td/a", true },
	{ "spiffe://td/a", "spiffe://td/a/b", false },
	{ "spiffe://td/a", "spiffe://td/A", false },
	{ "spiffe://td", "spiffe://td", true },
	{ "spiffe://td", "spiffe://td/a", false },
	{ "spiffe://td/*", "spiffe://td/a", true },
	{ "spiffe://td/*", "spiffe://td/a/b/c", true },
	{ "spiffe://td/*", "spiffe://td", false },
	{ "spiffe://td/*", "spiffe://td2/a", false },
	{ "spiffe://td/mesh/*", "spiffe://td/mesh/a", true },
	{ "spiffe://td/mesh/*", "spiffe://td/mesh/a/b", true },
	{ "spiffe://td/mesh/*", "spiffe://td/mesh", false },
	{ "spiffe://td/mesh/*", "spiffe://td/mesha/b", false },
	{ "spiffe://td/*/x", "spiffe://td/a/x", true },
	{ "spiffe://td/*/x", "spiffe://td/a/b/x", false },
	{ "spiffe://td/*/x", "spiffe://td/x", false },
	{ "spiffe://td/*/x/*", "spiffe://td/a/x/b/c", true },
	{ "spiffe://td/*/x/*", "spiffe://td/a/x", false },
	{ "spiffe://td/*/*", "spiffe://td/a", false },
	{ "spiffe://td/*/*", "spiffe://td/a/b/c", true },
	{ "spiffe://a.b/x/y", "spiffe://a.b/x/y", true },
	{ "spiffe://a.b/x/y", "spiffe://a.b/x/Y", false },
	{ "spiffe://a.b/x/*", "spiffe://a.b/x/y", true },
	{ "spiffe://a.b/x/*", "spiffe://a.b/x/y/z", true },
	{ "spiffe://a.b/x/*", "spiffe://a.b/x", false },
	{ "spiffe://a.b/*", "spiffe://a.b", false },
	{ "spiffe://a.b/*", "spiffe://a.b/x", true },
	{ "spiffe://a.b/*/y", "spiffe://a.b/x/y", true },
	{ "spiffe://a.b/*/y", "spiffe://a.b/x/x/y", false },
	{ "spiffe://a.b/*/*", "spiffe://a.b/x", false },
	{ "spiffe://a.b/*/*", "spiffe://a.b/x/y/z", true },
	{ "spiffe://a.b/x/*", "spiffe://a.b.c/x/y", false },
	{ "spiffe://a.b/x/*", "spiffe://a.b/x/../y", false },
	{ "spiffe://a.b/x/*", "spiffe://a.b/x/y/", false },
	{ "spiffe://a.b/x/*", "spiffe://a.b/x//y", false },
	{ "spiffe://a.b/x/*", "spiffe://a.b/x/*", false },
	{ "spiffe://a.b/x/*", "spiffe://a.b/x/y%2f", false },
	{ "spiffe://a.b", "spiffe://a.b", true },
};

static void patterns_match_whole_segments(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(matches); i++) {
		struct err e = { 0 };

		if (!pattern_check(str_c(matches[i].pattern), &e))
			fail_msg("%s: %s", matches[i].pattern, e.msg);
		if (pattern_match(str_c(matches[i].pattern), str_c(matches[i].id)) !=
		    matches[i].match)
			fail_msg("%s against %s", matches[i].pattern, matches[i].id);
	}
}

static void bad_patterns_are_refused(void **state)
{
	static const char *const bad[] = { "spiffe://*",     "spiffe://*/a",
					   "spiffe://td/a*", "spiffe://td/**",
					   "spiffe://td/*/", "*",
					   "spiffe://td/a?", "" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = { 0 };

		assert_false(pattern_check(str_c(bad[i]), &e));
		assert_non_null(strstr(e.msg, "a whole segment may be *"));
		assert_false(pattern_match(str_c(bad[i]), STR("spiffe://td/a")));
	}
	assert_false(pattern_match(STR("spiffe://td/*"), STR("spiffe://td/*")));
	assert_false(pattern_match(STR(""), STR("")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(patterns_match_whole_segments),
		cmocka_unit_test(bad_patterns_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
