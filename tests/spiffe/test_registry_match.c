/* Whose entries a caller's are: the files by selector against a plain walk over all entries, while
 * entries come, change, and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>

#include "spiffe/registry_match.h"
#include "tests/fault/tmp_dir.h"

#define NOW 1700000000000
#define AGENTS 300
#define VALUES 12 /* different selectors */

struct world {
	struct db *db;
	struct registry *registry;
	struct slot slot;
};

static void world_open(struct world *w, void **state)
{
	struct db_options o = { .create = true };
	struct registry_config c = { .trust_domain = STR("example.org"),
				     .slot = &w->slot,
				     .alloc = &mem_system };
	struct err e = { 0 };

	slot_init(&w->slot);
	if (!db_open(tmp_dir_path(state, "writ.db"), &o, &w->db, &e))
		fail_msg("%s", e.msg);
	c.db = w->db;
	if (!registry_open(&c, &w->registry, &e))
		fail_msg("%s", e.msg);
}

static void world_close(struct world *w)
{
	registry_close(w->registry);
	slot_clear(&w->slot);
	db_close(w->db);
}

static const struct registry_view *view_of_world(struct world *w)
{
	return (const struct registry_view *)(void *)slot_acquire(&w->slot);
}

static uint32_t seed = 1;

static uint32_t roll(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)(((uint64_t)(seed >> 8) * below) >> 24);
}

static const char *const values[VALUES] = { "uid:0",   "uid:1",	  "uid:2",   "uid:3",
					    "gid:0",   "gid:1",	  "gid:2",   "gid:3",
					    "path:/a", "path:/b", "path:/c", "cgroup:/d" };

/* Some of the values, none twice. */
static size_t some(struct registry_selector *out, size_t most)
{
	size_t n = 0;

	for (size_t i = 0; i < VALUES; i++)
		if (n < most && roll(3) == 0)
			out[n++] = (struct registry_selector){ STR("unix"), str_c(values[i]) };
	return n;
}

static bool holds_all(const struct registry_entry *e, const struct registry_selector *held,
		      size_t n)
{
	for (size_t i = 0; i < e->nselectors; i++) {
		bool one = false;

		for (size_t j = 0; j < n; j++)
			one |= str_eq(held[j].value, e->selectors[i].value);
		if (!one)
			return false;
	}
	return e->nselectors > 0;
}

static void compare(struct world *w)
{
	const struct registry_entry *all[AGENTS], *got[AGENTS];
	AUTO_REGISTRY_VIEW *v = view_of_world(w);
	struct registry_filter f = { .now_ms = NOW, .by_state = true, .state = ENTRY_ACTIVE };
	struct registry_selector held[VALUES];
	size_t nall = registry_list(v, &f, all, AGENTS), nheld = some(held, VALUES), n, k = 0;

	n = registry_match(v, held, nheld, NOW, got, AGENTS);
	for (size_t i = 0; i < nall; i++)
		if (holds_all(all[i], held, nheld)) {
			assert_true(k < n);
			assert_ptr_equal(got[k++], all[i]);
		}
	assert_int_equal(k, n);
	/* The first ones, if there is room for fewer. */
	if (n > 2) {
		const struct registry_entry *two[2];

		assert_int_equal(registry_match(v, held, nheld, NOW, two, 2), 2);
		assert_ptr_equal(two[1], got[1]);
	}
}

/* What changed is what a comparison of all entries finds. */
static void compare_views(const struct registry_view *old, const struct registry_view *new)
{
	struct registry_changed got[AGENTS];
	const struct registry_entry *all[AGENTS];
	struct registry_filter f = { .now_ms = NOW };
	size_t n = registry_changes(old, new, got, AGENTS), k = 0,
	       nall = registry_list(new, &f, all, AGENTS);

	for (size_t i = 0; i < nall; i++) {
		const struct registry_entry *was = registry_look(old, all[i]->id);
		size_t j = 0;

		while (j < n && got[j].is != all[i])
			j++;
		assert_int_equal(j < n, was != all[i]);
		if (j < n)
			assert_ptr_equal(got[j].was, was);
		k += j < n;
	}
	assert_int_equal(k, n);
	if (n > 1)
		assert_int_equal(registry_changes(old, new, got, 1), 2);
}

static void finds_what_a_walk_finds(void **state)
{
	const struct registry_view *kept;
	size_t done = 0;
	struct world w;

	world_open(&w, state);
	kept = view_of_world(&w);
	for (int round = 0; round < 4000; round++) {
		struct registry_selector selectors[4];
		char id[64];
		struct registry_change c = { .verb = (enum registry_verb)roll(4),
					     .spec = { .owner = STR("ann"),
						       .selectors = selectors,
						       .expires_ms = roll(9) ? 0 : NOW },
					     .by = STR("test"),
					     .now_ms = NOW - 10 };

		if (round % 500 == 499)
			c.verb = REGISTRY_RETIRE;
		snprintf(id, sizeof(id), "spiffe://example.org/a/%u", roll(AGENTS));
		c.spec.id = str_c(id);
		c.spec.nselectors = some(selectors, 4);
		done += registry_prepare(w.registry, &c, NULL);
		if (roll(20) == 0)
			registry_abort(w.registry);
		else if (roll(3)) /* several in one commit, sometimes */
			assert_true(registry_commit(w.registry, NULL));
		if (round % 8 == 0)
			compare(&w);
		if (round == 2000) {
			assert_true(registry_commit(w.registry, NULL));
			registry_view_release(&kept);
			kept = view_of_world(&w);
		}
		if (round < 3000 && round % 100 == 0) {
			AUTO_REGISTRY_VIEW *now = view_of_world(&w);

			compare_views(kept, now);
			compare_views(now, now);
		}
		if (round == 3000) { /* and the same from the disk */
			assert_true(registry_commit(w.registry, NULL));
			world_close(&w);
			world_open(&w, state);
			compare(&w);
		}
	}
	assert_true(done > 1000);
	registry_view_release(&kept); /* an old view held its own files all the while */
	world_close(&w);
}

static void reads_selectors_as_lines(void **state)
{
	static const struct registry_selector own[] = { { STR_INIT("unix"),
							  STR_INIT("path:/opt/a:b") },
							{ STR_INIT("k8s"), STR_INIT("ns:x") } };
	static const struct {
		const char *why;
		struct str held[4];
		size_t n, found;
	} cases[] = {
		{ "both", { STR_INIT("k8s:ns:x"), STR_INIT("unix:path:/opt/a:b") }, 2, 1 },
		{ "and more",
		  { STR_INIT("a"), STR_INIT("k8s:ns:x"), STR_INIT("unix:uid:0"),
		    STR_INIT("unix:path:/opt/a:b") },
		  4,
		  1 },
		{ "twice",
		  { STR_INIT("k8s:ns:x"), STR_INIT("k8s:ns:x"), STR_INIT("unix:path:/opt/a:b") },
		  3,
		  1 },
		{ "one missing", { STR_INIT("k8s:ns:x") }, 1, 0 },
		{ "another type", { STR_INIT("k8s:ns:x"), STR_INIT("k8s:path:/opt/a:b") }, 2, 0 },
		{ "the start of one",
		  { STR_INIT("k8s:ns:x"), STR_INIT("unix:path:/opt/a") },
		  2,
		  0 },
		{ "moved colon", { STR_INIT("k8s:ns:x"), STR_INIT("unix:path:/opt/a::b") }, 2, 0 },
		{ "none", { STR_INIT("") }, 0, 0 },
	};
	struct registry_change c = { .spec = { .id = STR("spiffe://example.org/a"),
					       .owner = STR("ann"),
					       .selectors = own,
					       .nselectors = 2 },
				     .now_ms = NOW };
	const struct registry_entry *out[2];
	const struct registry_view *v;
	struct world w;

	world_open(&w, state);
	assert_true(registry_apply(w.registry, &c, NULL));
	c.spec.id = STR("spiffe://example.org/none");
	c.spec.nselectors = 0; /* nobody's */
	assert_true(registry_apply(w.registry, &c, NULL));
	v = view_of_world(&w);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (registry_view_match(v, cases[i].held, cases[i].n, NOW, out, 2) !=
		    cases[i].found)
			fail_msg("%s", cases[i].why);
	registry_view_release(&v);
	world_close(&w);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tmp_dir_make, tmp_dir_remove)
	const struct CMUnitTest tests[] = {
		T(finds_what_a_walk_finds),
		T(reads_selectors_as_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
