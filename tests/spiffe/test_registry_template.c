/* Templates: what may be one, what it gives, and that no value gets out of its segment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>

#include "spiffe/registry_match.h"
#include "spiffe/registry_template.h"
#include "tests/fault/tmp_dir.h"

#define NOW 1700000000000
#define TD "spiffe://example.org"
#define POD TD "/ns/{k8s.ns}/sa/{k8s.sa}/agent/{name}"

static const struct {
	const char *why, *id;
	bool ok;
} shapes[] = {
	{ "the issue's", POD, true },
	{ "dotted key", TD "/x/{x509pop.subject.cn}", true },
	{ "first segment", TD "/{unix.user}", true },
	{ "part of a segment", TD "/ns-{k8s.ns}", false },
	{ "two in a segment", TD "/{k8s.ns}{k8s.sa}", false },
	{ "no closing brace", TD "/{k8s.ns", false },
	{ "empty", TD "/{}", false },
	{ "no key", TD "/{k8s}", false },
	{ "no type", TD "/{.ns}", false },
	{ "slash inside", TD "/{k8s./ns}", false },
	{ "colon inside", TD "/{k8s:ns}", false },
	{ "brace inside", TD "/{{k8s.ns}}", false },
	{ "in the trust domain", "spiffe://{k8s.ns}/a", false },
	{ "no path", "spiffe://{k8s.ns}", false },
	{ "reserved", TD "/writ/{k8s.ns}", false },
	{ "dot segment", TD "/../{k8s.ns}", false },
	{ "trailing slash", TD "/{k8s.ns}/", false },
	{ "another scheme", "http://example.org/{k8s.ns}", false },
	{ "nine of them", TD "/{a.b}/{a.b}/{a.b}/{a.b}/{a.b}/{a.b}/{a.b}/{a.b}/{a.b}", false },
};

static void takes_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		struct err e = { 0 };

		if (template_check(str_c(shapes[i].id), &e) != shapes[i].ok)
			fail_msg("%s: %s", shapes[i].why, e.msg);
	}
}

static const struct {
	const char *why, *template, *name, *selectors[3], *gives, *says; /* no gives: refused */
} expansions[] = {
	{ "the issue's",
	  POD,
	  "bot",
	  { "k8s:ns:prod", "k8s:sa:crm" },
	  TD "/ns/prod/sa/crm/agent/bot",
	  NULL },
	{ "dotted key",
	  TD "/x/{x509pop.subject.cn}",
	  "",
	  { "x509pop:subject:cn:host-7" },
	  TD "/x/host-7",
	  NULL },
	{ "three dots are a name",
	  POD,
	  "...",
	  { "k8s:ns:prod", "k8s:sa:crm" },
	  TD "/ns/prod/sa/crm/agent/...",
	  NULL },
	{ "no name", POD, "", { "k8s:ns:prod", "k8s:sa:crm" }, NULL, "send the agent's own name" },
	{ "no value", POD, "bot", { "k8s:ns:prod" }, NULL, "{k8s.sa} has no value" },
	{ "two values",
	  POD,
	  "bot",
	  { "k8s:ns:prod", "k8s:sa:crm", "k8s:sa:erp" },
	  NULL,
	  "more than one value" },
	{ "of another type", POD, "bot", { "k8s:ns:prod", "oidc:sa:crm" }, NULL, "no value" },
	{ "of a longer key", POD, "bot", { "k8s:ns:prod", "k8s:sax:crm" }, NULL, "no value" },
	{ "slash", POD, "a/b", { "k8s:ns:prod", "k8s:sa:crm" }, NULL, "cannot stand" },
	{ "up", POD, "..", { "k8s:ns:prod", "k8s:sa:crm" }, NULL, "cannot stand" },
	{ "here", POD, ".", { "k8s:ns:prod", "k8s:sa:crm" }, NULL, "cannot stand" },
	{ "escape", POD, "a%2fb", { "k8s:ns:prod", "k8s:sa:crm" }, NULL, "cannot stand" },
	{ "a placeholder", POD, "{k8s.ns}", { "k8s:ns:prod", "k8s:sa:crm" }, NULL, "cannot stand" },
	{ "a namespace with a slash",
	  POD,
	  "bot",
	  { "k8s:ns:prod/sa/x", "k8s:sa:crm" },
	  NULL,
	  "cannot stand" },
	{ "an empty value", POD, "bot", { "k8s:ns:", "k8s:sa:crm" }, NULL, "cannot stand" },
	{ "writ's own", TD "/{k8s.ns}/server", "", { "k8s:ns:writ" }, NULL, "writ's own" },
};

static void expands_the_table(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, &mem_system, 1 << 20);
	for (size_t i = 0; i < ARRAY_LEN(expansions); i++) {
		struct registry_selector held[3];
		struct err e = { 0 };
		struct str out = { 0 };
		size_t n = 0;
		bool ok;

		for (; n < 3 && expansions[i].selectors[n]; n++)
			assert_true(registry_parse_selector(str_c(expansions[i].selectors[n]),
							    &held[n], &e));
		ok = template_expand(str_c(expansions[i].template), held, n,
				     str_c(expansions[i].name), &arena, &out, &e);
		if (ok != (expansions[i].gives != NULL) ||
		    (ok ? !str_eq(out, str_c(expansions[i].gives))
			: !strstr(e.msg, expansions[i].says) || e.class != ERR_FORBIDDEN))
			fail_msg("%s: %.*s %s", expansions[i].why, STR_FMT(out), e.msg);
		arena_reset(&arena);
	}
	arena_clear(&arena);
}

static const struct {
	const char *a, *b;
	bool overlap;
} pairs[] = {
	{ TD "/a/{k8s.ns}", TD "/b/{k8s.ns}", false },
	{ TD "/a/{k8s.ns}", TD "/{k8s.sa}/b", true },
	{ TD "/a/{k8s.ns}", TD "/a/{oidc.sub}", true },
	{ TD "/a/{k8s.ns}", TD "/a/{k8s.ns}/x", false },
	{ TD "/a/{k8s.ns}/x", TD "/a/{k8s.ns}/y", false },
	{ TD "/a/{k8s.ns}", TD "/a/b", true },
	{ TD "/a/{k8s.ns}", "spiffe://other.org/a/b", false },
};

static void sees_what_overlaps(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
		if (template_overlap(str_c(pairs[i].a), str_c(pairs[i].b)) != pairs[i].overlap ||
		    template_overlap(str_c(pairs[i].b), str_c(pairs[i].a)) != pairs[i].overlap)
			fail_msg("%s and %s", pairs[i].a, pairs[i].b);
}

/* --- in the registry --- */

static bool put(struct registry *r, const char *id, const char *selector, enum registry_verb verb,
		struct err *e)
{
	struct registry_selector s = { 0 };
	struct registry_change c = { .verb = verb,
				     .spec = { .id = str_c(id),
					       .owner = STR("ann"),
					       .purpose = STR("tests"),
					       .selectors = &s,
					       .nselectors = selector ? 1 : 0 },
				     .by = STR("test"),
				     .now_ms = NOW };

	if (selector && !registry_parse_selector(str_c(selector), &s, e))
		return false;
	return registry_apply(r, &c, e);
}

static void a_template_is_nobody(void **state)
{
	struct registry_config c = { .trust_domain = STR("example.org"), .alloc = &mem_system };
	const struct registry_entry *out[4];
	struct str held[] = { STR("k8s:ns:prod") };
	struct db_options o = { .create = true };
	struct registry *r = NULL;
	const struct registry_view *v;
	struct err e = { 0 };
	struct slot slot;

	slot_init(&slot);
	c.slot = &slot;
	for (int round = 0; round < 2; round++) { /* and the same from the disk */
		if (!db_open(tmp_dir_path(state, "writ.db"), &o, &c.db, &e) ||
		    !registry_open(&c, &r, &e))
			fail_msg("%s", e.msg);
		if (round == 0) {
			assert_false(put(r, TD "/a/{k8s.ns}", NULL, REGISTRY_REGISTER, &e));
			assert_non_null(strstr(e.msg, "needs selectors"));
			assert_false(put(r, "spiffe://other.org/a/{k8s.ns}", "k8s:ns:prod",
					 REGISTRY_REGISTER, &e));
			assert_false(put(r, "spiffe://example.orgs/a/{k8s.ns}", "k8s:ns:prod",
					 REGISTRY_REGISTER, &e));
			if (!put(r, TD "/a/{k8s.ns}", "k8s:ns:prod", REGISTRY_REGISTER, &e))
				fail_msg("%s", e.msg);
		}
		assert_false(put(r, TD "/{k8s.sa}/x", "k8s:ns:prod", REGISTRY_REGISTER, &e));
		assert_string_equal(e.code, "template_overlap");
		v = (const void *)slot_acquire(&slot);
		assert_null(registry_find(v, STR(TD "/a/{k8s.ns}")));
		assert_true(registry_look(v, STR(TD "/a/{k8s.ns}"))->template);
		assert_true(str_eq(registry_look(v, STR(TD "/a/{k8s.ns}"))->purpose, STR("tests")));
		assert_int_equal(registry_view_match(v, held, 1, NOW, out, 4), 0);
		assert_int_equal(registry_scan(v, STR(""), NOW, out, 4), 0);
		assert_int_equal(registry_match_templates(v,
							  &(struct registry_selector){
								  STR("k8s"), STR("ns:prod") },
							  1, NOW, out, 4),
				 1);
		registry_view_release(&v);
		registry_close(r);
		db_close(c.db);
	}
	slot_clear(&slot);
}

static void asks_for_what_is_required_and_is_bounded(void **state)
{
	struct registry_config c = { .trust_domain = STR("example.org"),
				     .alloc = &mem_system,
				     .max = 2,
				     .require = REGISTRY_REQUIRE_PURPOSE |
						REGISTRY_REQUIRE_EXPIRES };
	struct registry_change change = { .spec = { .id = STR(TD "/a"), .owner = STR("ann") },
					  .now_ms = NOW };
	struct db_options o = { .create = true };
	struct registry *r = NULL;
	struct err e = { 0 };
	struct slot slot;

	slot_init(&slot);
	c.slot = &slot;
	assert_true(db_open(tmp_dir_path(state, "writ.db"), &o, &c.db, &e));
	assert_true(registry_open(&c, &r, &e));
	assert_false(registry_apply(r, &change, &e));
	assert_non_null(strstr(e.msg, "purpose"));
	change.spec.purpose = STR("answers mail");
	assert_false(registry_apply(r, &change, &e));
	assert_non_null(strstr(e.msg, "expires"));
	change.spec.expires_ms = NOW + 1;
	if (!registry_apply(r, &change, &e))
		fail_msg("%s", e.msg);
	change.verb = REGISTRY_UPDATE;
	change.spec.expires_ms = 0;
	assert_false(registry_apply(r, &change, &e));
	change.verb = REGISTRY_SUSPEND; /* what takes away is never held up */
	assert_true(registry_apply(r, &change, &e));
	change.verb = REGISTRY_RETIRE;
	assert_true(registry_apply(r, &change, &e));
	change.verb = REGISTRY_REGISTER;
	change.spec.expires_ms = NOW + 1;
	assert_false(registry_apply(r, &change, &e));
	assert_string_equal(e.code, "id_retired");
	change.spec.id = STR(TD "/b");
	assert_true(registry_apply(r, &change, &e));
	change.spec.id = STR(TD "/c");
	assert_false(registry_apply(r, &change, &e));
	assert_string_equal(e.code, "registry_full");
	registry_close(r);
	db_close(c.db);
	slot_clear(&slot);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tmp_dir_make, tmp_dir_remove)
	const struct CMUnitTest tests[] = {
		T(takes_the_table),
		T(expands_the_table),
		T(sees_what_overlaps),
		T(a_template_is_nobody),
		T(asks_for_what_is_required_and_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
