/* Generations: numbers, sources by content, what is active, and damage that is seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <sqlite3.h>
#include <stdio.h>

#include "authz/policy/generations.h"
#include "tests/fault/tmp_dir.h"
#include "tests/fault/vfs_fault.h"

#define NOW 1700000000000

struct world {
	struct db *db;
	struct generations *g;
};

static void world_open(struct world *w, void **state, const char *vfs)
{
	struct db_options o = { .create = true, .vfs = vfs };
	struct err e = { 0 };

	if (!db_open(tmp_dir_path(state, "writ.db"), &o, &w->db, &e) ||
	    !generations_open(w->db, &w->g, &e))
		fail_msg("%s", e.msg);
}

static void world_close(struct world *w)
{
	generations_close(w->g);
	db_close(w->db);
}

static void sources(struct policy_sources *s, const char *rules)
{
	const struct policy_file files[] = { { STR("a.lua"), str_c(rules) },
					     { STR("catalogue/tools.lua"), STR("-- none\n") },
					     { STR("empty.lua"), STR("") } };
	struct err e = { 0 };

	if (!policy_sources_from(s, files, ARRAY_LEN(files), &e))
		fail_msg("%s", e.msg);
}

static bool store(struct world *w, const char *rules, uint64_t *number, bool *stored, struct err *e)
{
	struct policy_sources s;
	bool ok;

	sources(&s, rules);
	ok = generations_store(w->g, &s, NULL, STR("ann"), STR("why"), NOW, number, stored, e);
	policy_sources_clear(&s);
	return ok;
}

static int64_t count(struct world *w, const char *sql)
{
	struct err e = { 0 };
	int64_t n = -1;

	if (!db_int(w->db, sql, &n, &e))
		fail_msg("%s", e.msg);
	return n;
}

static void the_same_set_keeps_its_number(void **state)
{
	struct policy_sources s, back;
	struct generation gen;
	struct err e = { 0 };
	struct world w = { 0 };
	struct arena a;
	uint64_t number;
	bool stored;

	arena_init(&a, &mem_system, 65536);
	world_open(&w, state, NULL);
	assert_true(store(&w, "one", &number, &stored, &e) && stored && number == 1);
	assert_true(store(&w, "two", &number, &stored, &e) && stored && number == 2);
	assert_true(store(&w, "one", &number, &stored, &e) && !stored && number == 1);
	/* two of the three files are the same: kept once */
	assert_int_equal(count(&w, "SELECT count(*) FROM source"), 4);
	world_close(&w);
	world_open(&w, state, NULL);
	sources(&s, "one");
	assert_true(generations_load(w.g, 1, &back, &e));
	assert_memory_equal(s.hash, back.hash, 32);
	assert_int_equal(back.n, 3);
	for (size_t i = 0; i < s.n; i++)
		assert_true(str_eq(s.files[i].path, back.files[i].path) &&
			    str_eq(s.files[i].text, back.files[i].text));
	assert_true(generations_find(w.g, s.hash, &number, &e) && number == 1);
	s.hash[0] ^= 1;
	assert_false(generations_find(w.g, s.hash, &number, &e));
	assert_int_equal(e.class, ERR_NOT_FOUND);
	assert_true(generations_get(w.g, 2, &a, &gen, &e));
	assert_true(str_eq(gen.by, STR("ann")) && str_eq(gen.message, STR("why")));
	assert_int_equal(gen.files, 3);
	assert_false(generations_get(w.g, 3, &a, &gen, &e));
	assert_string_equal(e.code, "unknown_generation");
	assert_false(generations_load(w.g, 0, &back, &e));
	assert_false(generations_load(w.g, UINT64_MAX, &back, &e));
	policy_sources_clear(&s);
	policy_sources_clear(&back);
	world_close(&w);
	arena_clear(&a);
}

static char told[256];

static void tell(void *ctx, const struct generation *gen)
{
	size_t n = strlen(told);

	(void)ctx;
	snprintf(told + n, sizeof(told) - n, "%llu ", (unsigned long long)gen->number);
}

static void tell_activation(void *ctx, const struct generation_activation *a)
{
	size_t n = strlen(told);

	(void)ctx;
	snprintf(told + n, sizeof(told) - n, "%llu%s %.*s;", (unsigned long long)a->number,
		 a->pinned ? " pinned" : "", STR_FMT(a->by));
}

static void remembers_what_was_active(void **state)
{
	struct generation_active active;
	struct err e = { 0 };
	struct world w = { 0 };
	uint64_t number;
	bool stored;

	world_open(&w, state, NULL);
	assert_true(generations_active(w.g, &active, &e) && active.number == 0);
	assert_false(generations_activate(w.g, 1, false, STR("ann"), NOW, &e));
	assert_string_equal(e.code, "unknown_generation");
	for (int i = 0; i < 3; i++) {
		char rules[16];

		snprintf(rules, sizeof(rules), "%d", i);
		assert_true(store(&w, rules, &number, &stored, &e));
		assert_true(generations_activate(w.g, number, false, STR("ann"), NOW + i, &e));
	}
	assert_true(generations_activate(w.g, 2, true, STR("bob"), NOW + 9, &e));
	world_close(&w);
	world_open(&w, state, NULL);
	assert_true(generations_active(w.g, &active, &e));
	assert_true(active.number == 2 && active.pinned && active.since_ms == NOW + 9);
	told[0] = '\0';
	assert_true(generations_history(w.g, 3, tell_activation, NULL, &e));
	assert_string_equal(told, "2 pinned bob;3 ann;2 ann;");
	told[0] = '\0';
	assert_true(generations_list(w.g, 0, 2, tell, NULL, &e));
	assert_true(generations_list(w.g, 2, 9, tell, NULL, &e));
	assert_string_equal(told, "3 2 1 ");
	world_close(&w);
}

static void sees_damage(void **state)
{
	static const char *const damages[] = {
		"UPDATE source SET text = x'00' WHERE length(text) = 3",
		"DELETE FROM generation_file WHERE path = 'a.lua'",
		"UPDATE generation_file SET path = 'b.lua' WHERE path = 'a.lua'",
		"UPDATE generation SET files = 2",
		"UPDATE generation SET files = 4",
		"UPDATE generation SET hash = zeroblob(32)",
		"UPDATE generation SET hash = zeroblob(31)",
	};

	for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
		struct policy_sources s;
		struct err e = { 0 };
		struct world w = { 0 };
		uint64_t number;
		bool stored;

		world_open(&w, state, NULL);
		assert_true(store(&w, "one", &number, &stored, &e));
		assert_false(db_exec(w.db, "DELETE FROM source", &e));
		assert_non_null(strstr(e.msg, "are kept"));
		assert_false(db_exec(w.db, "UPDATE generation SET by = 'eve'", &e));
		assert_true(db_exec(w.db,
				    "DROP TRIGGER source_keeps; DROP TRIGGER generation_keeps;",
				    &e));
		assert_true(db_exec(w.db, damages[i], &e));
		if (generations_load(w.g, number, &s, &e) || strcmp(e.code, "storage_corrupt") != 0)
			fail_msg("%s: %s", damages[i], e.msg);
		world_close(&w);
		tmp_dir_remove(state);
		tmp_dir_make(state);
	}
}

/* A generation is there with all of its files or not at all, and a number is given once. */
static void no_failing_disk_leaves_half_a_generation(void **state)
{
	vfs_fault_register();
	for (long nth = 1;; nth++) {
		struct policy_sources s;
		struct err e = { 0 };
		struct world w = { 0 };
		uint64_t number;
		char rules[32];
		bool ok, hit, stored;

		snprintf(rules, sizeof(rules), "rules %ld", nth);
		vfs_fault_arm(0, 0, 0, false);
		world_open(&w, state, "fault");
		vfs_fault_arm(VFS_WRITE | VFS_SYNC, nth, SQLITE_FULL, false);
		ok = store(&w, rules, &number, &stored, &e);
		hit = vfs_fault_hits() > 0;
		vfs_fault_arm(0, 0, 0, false);
		assert_int_equal(ok, !hit);
		if (!ok)
			assert_string_equal(e.code, "disk_full");
		assert_true(store(&w, rules, &number, &stored, &e)); /* room again */
		assert_true(generations_load(w.g, number, &s, &e));
		policy_sources_clear(&s);
		assert_int_equal(count(&w, "SELECT count(*) FROM generation"), nth);
		world_close(&w);
		if (!hit)
			break;
	}
}

/* What decides by a time zone decides the same after tzdata has changed, whether the set comes
 * back from storage or from the folder. */
static void a_generation_keeps_its_zones(void **state)
{
	static const char rules[] = "policy \"p\" { permit \"r\" { on = { action = \"a\" }, when ="
				    " function(q) return time.weekday(q.now, \"Test/Zone\") == 1"
				    " end } }";
	const struct policy_file files[] = { { STR("a.lua"), str_c(rules) } };
	const char *folder = tmp_dir_path(state, "zoneinfo");
	struct policy_options o = { .zoneinfo = folder };
	struct policy_sources first, back;
	struct policy_set *set, *again;
	struct err e = { 0 };
	struct world w = { 0 };
	char command[512];
	uint64_t number = 0;
	bool stored;
	size_t n;

	snprintf(command, sizeof(command),
		 "mkdir -p '%s/Test' && cp /usr/share/zoneinfo/Asia/Tokyo '%s/Test/Zone'", folder,
		 folder);
	assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a test's own folder */
	world_open(&w, state, NULL);
	assert_true(policy_sources_from(&first, files, 1, &e));
	if (!policy_set_load_with(&first, &o, &set, NULL, &e) ||
	    !generations_store(w.g, &first, set, STR("ann"), STR(""), NOW, &number, &stored, &e))
		fail_msg("%s", e.msg);
	/* The zone is gone from the machine. */
	o.zoneinfo = "/nonexistent";
	assert_false(policy_set_load_with(&first, &o, &again, NULL, &e));
	assert_true(generations_recall(w.g, &first, &e));
	assert_true(generations_load(w.g, number, &back, &e));
	assert_true(first.stored && back.stored);
	assert_int_equal(back.nzones, 1);
	if (!policy_set_load_with(&back, &o, &again, NULL, &e))
		fail_msg("%s", e.msg);
	assert_true(str_eq(policy_set_zones(again, &n)->text, policy_set_zones(set, &n)->text));
	shared_release(&again->shared);
	if (!policy_set_load_with(&first, &o, &again, NULL, &e))
		fail_msg("%s", e.msg);
	shared_release(&again->shared);
	policy_sources_clear(&back);
	/* Damage is seen there, too. */
	assert_true(db_exec(w.db, "DROP TRIGGER zone_stays; DROP TRIGGER source_keeps;", &e));
	assert_true(db_exec(w.db,
			    "UPDATE source SET text = X'00' WHERE sha256 IN"
			    " (SELECT sha256 FROM generation_zone)",
			    &e));
	assert_false(generations_load(w.g, number, &back, &e));
	assert_string_equal(e.code, "storage_corrupt");
	policy_sources_clear(&first);
	shared_release(&set->shared);
	world_close(&w);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tmp_dir_make, tmp_dir_remove)
	const struct CMUnitTest tests[] = {
		T(the_same_set_keeps_its_number),
		T(remembers_what_was_active),
		T(sees_damage),
		T(a_generation_keeps_its_zones),
		T(no_failing_disk_leaves_half_a_generation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
