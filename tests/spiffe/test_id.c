/* spiffe/id: every example of the standard's sheet, configured trust domains. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "spiffe/id.h"

static const struct {
	const char *why, *in, *trust_domain, *path; /* no trust_domain: refused */
} cases[] = {
	{ "agent", "spiffe://example.org/agent/researcher", "example.org", "/agent/researcher" },
	{ "all characters", "spiffe://a_b-1.example/ns/x/sa/Y", "a_b-1.example", "/ns/x/sa/Y" },
	{ "dotted quad", "spiffe://10.0.0.1/x", "10.0.0.1", "/x" },
	{ "no path", "spiffe://td", "td", "" },
	{ "three dots", "spiffe://td/...", "td", "/..." },
	{ "dot inside", "spiffe://td/a.b", "td", "/a.b" },
	{ "foreign, dots side by side", "spiffe://a..b/x", "a..b", "/x" },
	{ "foreign, dot in front", "spiffe://.a/x", ".a", "/x" },
	{ "path keeps its case", "spiffe://td/A/a", "td", "/A/a" },
	{ "empty", "", NULL, NULL },
	{ "one slash", "spiffe:/td/a", NULL, NULL },
	{ "upper-case scheme", "SPIFFE://td/a", NULL, NULL },
	{ "other scheme", "http://td/a", NULL, NULL },
	{ "no trust domain", "spiffe:///a", NULL, NULL },
	{ "nothing after the scheme", "spiffe://", NULL, NULL },
	{ "upper-case trust domain", "spiffe://TD/a", NULL, NULL },
	{ "port", "spiffe://td:80/a", NULL, NULL },
	{ "user", "spiffe://u@td/a", NULL, NULL },
	{ "dollar", "spiffe://t$d/a", NULL, NULL },
	{ "slash alone", "spiffe://td/", NULL, NULL },
	{ "empty segment", "spiffe://td//a", NULL, NULL },
	{ "slash at the end", "spiffe://td/a/", NULL, NULL },
	{ "dot segment", "spiffe://td/./a", NULL, NULL },
	{ "dot-dot segment", "spiffe://td/a/..", NULL, NULL },
	{ "escape", "spiffe://td/a%41", NULL, NULL },
	{ "exclamation mark", "spiffe://td/a!b", NULL, NULL },
	{ "query", "spiffe://td/a?x=1", NULL, NULL },
	{ "query without path", "spiffe://td?x=1", NULL, NULL },
	{ "fragment", "spiffe://td/a#f", NULL, NULL },
	{ "IPv6", "spiffe://[::1]/a", NULL, NULL },
	{ "umlaut", "spiffe://td/\xc3\xa4", NULL, NULL },
	{ "star is for patterns", "spiffe://td/*", NULL, NULL },
	{ "blank in front", " spiffe://td/a", NULL, NULL },
	{ "line feed behind", "spiffe://td/a\n", NULL, NULL },
};

static void parses_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct spiffe_id id = { 0 };
		struct err e = { 0 };
		bool ok = spiffe_id_parse(str_c(cases[i].in), &id, &e);

		if (ok != !!cases[i].trust_domain ||
		    (ok && (!str_eq(id.trust_domain, str_c(cases[i].trust_domain)) ||
			    !str_eq(id.path, str_c(cases[i].path)))) ||
		    (!ok && !e.msg[0]))
			fail_msg("%s: %s (%s)", cases[i].why, cases[i].in, e.msg);
	}
}

static void embedded_nul_is_a_character(void **state)
{
	struct spiffe_id id;
	struct err e;

	(void)state;
	assert_false(spiffe_id_parse(STR("spiffe://td/a\0b"), &id, &e));
	assert_non_null(strstr(e.msg, "0x00 at byte 13"));
	assert_false(spiffe_id_parse(STR("spiffe://td\0/a"), &id, NULL));
}

static void lengths_at_their_bounds(void **state)
{
	char text[SPIFFE_ID_MAX + 2];
	struct spiffe_id id;

	(void)state;
	memset(text, 'a', sizeof(text));
	memcpy(text, "spiffe://", 9);
	assert_true(spiffe_id_parse((struct str){ text, 9 + 255 }, &id, NULL));
	assert_false(spiffe_id_parse((struct str){ text, 9 + 256 }, &id, NULL));
	text[9 + 255] = '/';
	assert_true(spiffe_id_parse((struct str){ text, SPIFFE_ID_MAX }, &id, NULL));
	assert_int_equal(id.trust_domain.n, 255);
	assert_false(spiffe_id_parse((struct str){ text, SPIFFE_ID_MAX + 1 }, &id, NULL));
}

static void workloads_have_a_path(void **state)
{
	struct spiffe_id id = { 0 }, other;

	(void)state;
	assert_false(spiffe_id_parse_workload(STR("spiffe://td"), &id, NULL));
	assert_null(id.trust_domain.p); /* untouched */
	assert_true(spiffe_id_parse_workload(STR("spiffe://td/a"), &id, NULL));
	assert_true(spiffe_id_parse(STR("spiffe://td/A"), &other, NULL));
	assert_false(spiffe_id_equal(&id, &other));
	assert_true(spiffe_id_member_of(&id, STR("td")));
	assert_false(spiffe_id_member_of(&id, STR("t")));
	assert_false(spiffe_id_member_of(&id, STR("td2")));
}

static void reserved_paths(void **state)
{
	(void)state;
	assert_true(spiffe_path_reserved(STR("/writ")));
	assert_true(spiffe_path_reserved(STR("/writ/server")));
	assert_false(spiffe_path_reserved(STR("/writer")));
	assert_false(spiffe_path_reserved(STR("/a/writ")));
	assert_false(spiffe_path_reserved(STR("")));
}

static const struct {
	const char *why, *in, *name; /* NULL: refused */
} domains[] = {
	{ "bare name", "example.org", "example.org" },
	{ "as an ID", "spiffe://example.org", "example.org" },
	{ "underscore", "a_b", "a_b" },
	{ "dotted quad", "10.0.0.1", "10.0.0.1" },
	{ "leading hyphen", "-a", "-a" },
	{ "empty", "", NULL },
	{ "with a path", "spiffe://example.org/a", NULL },
	{ "bare with a path", "example.org/a", NULL },
	{ "upper case", "Example.org", NULL },
	{ "port", "example.org:1", NULL },
	{ "other scheme", "https://example.org", NULL },
	{ "leading dot", ".a", NULL },
	{ "trailing dot", "a.", NULL },
	{ "two dots", "a..b", NULL },
};

static void configured_trust_domains(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(domains); i++) {
		struct err e = { 0 };
		struct str name = { 0 };
		bool ok = spiffe_trust_domain_parse(str_c(domains[i].in), &name, &e);

		if (ok != !!domains[i].name || (ok && !str_eq(name, str_c(domains[i].name))))
			fail_msg("%s: %s (%s)", domains[i].why, domains[i].in, e.msg);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_the_table),
		cmocka_unit_test(embedded_nul_is_a_character),
		cmocka_unit_test(lengths_at_their_bounds),
		cmocka_unit_test(workloads_have_a_path),
		cmocka_unit_test(reserved_paths),
		cmocka_unit_test(configured_trust_domains),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
