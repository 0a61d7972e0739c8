/* The index and the search over it: exact in every state of index.db, and made anew by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the ones above first */
#include <cmocka.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include "authz/audit/index.h"
#include "authz/audit/index_build.h"
#include "authz/audit/index_cursor.h"
#include "authz/audit/index_search.h"
#include "tests/audit/fixture.h"
#include "tests/fault/vfs_fault.h"

#define RECORDS 601 /* log.open and 600 decisions, one a millisecond */
#define BILLING "spiffe://acme.example/agent/billing-7"
#define RESEARCH "spiffe://acme.example/agent/research-2"
#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define MS(n) (INT64_C(1760000000000) + (n))

static struct fixture f;

static struct index_build *new_build(const char *vfs)
{
	struct index_build *b;
	struct err e = { 0 };

	if (!index_build_new(f.folder, vfs, &b, &e))
		fail_msg("%s", e.msg);
	return b;
}

/* Bring the index up to the log and say how far it is. */
static struct index_progress build_all(void)
{
	struct index_build *b = new_build(NULL);
	struct index_progress p = { .more = true };
	struct err e = { 0 };

	while (p.more)
		if (!index_build_step(b, &p, &e))
			fail_msg("%s", e.msg);
	index_build_free(b);
	return p;
}

/* One search is begun again and again, whatever becomes of index.db meanwhile. */
static struct index_search *kept;

static void drop_kept(void)
{
	index_search_close(kept);
	kept = NULL;
}

static struct index_left run(struct index_search *s, const struct index_filter *filter, size_t *n,
			     uint64_t *first, uint64_t *last)
{
	struct index_left left;
	struct index_hit hit;
	struct err e = { 0 };
	bool got;

	*n = 0;
	*first = *last = 0;
	if (!index_search_start(s, filter, &e))
		fail_msg("%s", e.msg);
	for (;; ++*n) {
		if (!index_search_next(s, &hit, &got, &e))
			fail_msg("%s", e.msg);
		if (!got)
			break;
		if (*n)
			assert_true(filter->newest_first ? hit.seq < *last : hit.seq > *last);
		else
			*first = hit.seq;
		*last = hit.seq;
	}
	index_search_left(s, &left);
	index_search_end(s);
	return left;
}

/* The same by a search that is new and by one that is not. */
static struct index_left search(const struct index_filter *filter, size_t *n, uint64_t *first,
				uint64_t *last)
{
	uint64_t first2, last2;
	struct index_left left, left2;
	struct index_search *s;
	struct err e = { 0 };
	size_t n2;

	if (!index_search_open(f.folder, &s, &e) ||
	    (!kept && !index_search_open(f.folder, &kept, &e)))
		fail_msg("%s", e.msg);
	left2 = run(kept, filter, &n2, &first2, &last2);
	left = run(s, filter, n, first, last);
	index_search_close(s);
	assert_int_equal(n2, *n);
	assert_true(first2 == *first && last2 == *last);
	assert_true(left2.from == left.from && left2.to == left.to && left2.size == left.size);
	assert_int_equal(left2.indexed, left.indexed);
	assert_int_equal(left2.damaged, left.damaged);
	return left;
}

#define IS(name, value) .is = { { STR_INIT(name), STR_INIT(value) } }, .n = 1
#define ARE(name, value, name2, value2) \
	.is = { { STR_INIT(name), STR_INIT(value) }, { STR_INIT(name2), STR_INIT(value2) } }, .n = 2

static const struct {
	const char *why;
	struct index_filter f;
	size_t n;
	uint64_t first, last;
} cases[] = {
	{ "all", { 0 }, 601, 0, 600 },
	{ "all, newest first", { .newest_first = true }, 601, 600, 0 },
	{ "agent", { IS("agent", BILLING) }, 300, 1, 599 },
	{ "agent, newest first", { IS("agent", BILLING), .newest_first = true }, 300, 599, 1 },
	{ "no such agent", { IS("agent", "spiffe://acme.example/agent/b") }, 0, 0, 0 },
	{ "tool", { IS("tool", "files/read") }, 600, 1, 600 },
	{ "a tool is no agent", { IS("agent", "files/read") }, 0, 0, 0 },
	{ "decision", { IS("decision", "deny") }, 200, 1, 598 },
	{ "reason", { IS("reason", "permitted") }, 600, 1, 600 },
	{ "generation", { IS("generation", "12") }, 600, 1, 600 },
	{ "trace", { IS("trace_id", TRACE) }, 600, 1, 600 },
	{ "another trace", { IS("trace_id", "00f92f3577b34da6a3ce929d0e0e4736") }, 0, 0, 0 },
	{ "kind", { IS("kind", "log.open") }, 1, 0, 0 },
	{ "family", { IS("kind", "authz.*") }, 600, 1, 600 },
	{ "no family", { IS("kind", "authz") }, 0, 0, 0 },
	{ "agent and decision", { ARE("agent", RESEARCH, "decision", "deny") }, 100, 4, 598 },
	{ "newest first",
	  { ARE("agent", RESEARCH, "decision", "deny"), .newest_first = true },
	  100,
	  598,
	  4 },
	{ "since", { IS("agent", BILLING), .since_ms = MS(300) }, 150, 301, 599 },
	{ "until", { IS("agent", BILLING), .until_ms = MS(300) }, 150, 1, 299 },
	{ "both", { IS("agent", BILLING), .since_ms = MS(299), .until_ms = MS(302) }, 2, 299, 301 },
	{ "both, newest first",
	  { IS("agent", BILLING), .since_ms = MS(299), .until_ms = MS(302), .newest_first = true },
	  2,
	  301,
	  299 },
	{ "never", { .since_ms = MS(5), .until_ms = MS(5) }, 0, 0, 0 },
	{ "in the future", { .since_ms = MS(100000) }, 0, 0, 0 },
	{ "range", { IS("agent", BILLING), .from = 10, .to = 20 }, 5, 11, 19 },
	{ "range past the end", { IS("agent", BILLING), .from = 590, .to = 9999 }, 5, 591, 599 },
};

/* All searches find what they must, and the index reaches as far as it is said to. */
static void check_all(const char *state, uint64_t indexed)
{
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t first = 0, last = 0;
		size_t n;
		struct index_left left = search(&cases[i].f, &n, &first, &last);

		if (n != cases[i].n || first != cases[i].first || last != cases[i].last ||
		    left.from != left.to)
			fail_msg("%s: %s: %zu records, %llu to %llu", state, cases[i].why, n,
				 (unsigned long long)first, (unsigned long long)last);
		assert_int_equal(left.indexed, indexed);
		assert_int_equal(left.size, RECORDS);
	}
}

static void index_path(char out[static 128])
{
	snprintf(out, 128, "%s/index.db", f.folder);
}

static void index_sql(const char *sql)
{
	char path[128], *why = NULL;
	sqlite3 *db;

	index_path(path);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
		fail_msg("%s: %s", sql, why);
	sqlite3_close(db);
}

static void overwrite(size_t at, const char *with, size_t n)
{
	char path[128];
	int fd;

	index_path(path);
	fd = open(path, O_WRONLY);
	assert_true(fd >= 0 && pwrite(fd, with, n, (off_t)at) == (ssize_t)n);
	close(fd);
}

/* --- searches --- */

static void a_search_is_exact_in_every_state(void **state)
{
	struct index_progress p;

	(void)state;
	index_store_remove(f.folder);
	check_all("no index", 0);
	p = build_all();
	assert_true(p.indexed == RECORDS && p.size == RECORDS && !p.rebuilds);
	check_all("whole", RECORDS);
	/* The end is not there yet: as after a crash, or while decisions come fast. */
	index_sql("UPDATE head SET next = 300");
	check_all("behind", 300);
	index_sql("UPDATE head SET next = 10000");
	check_all("ahead", 0);
	index_sql("PRAGMA user_version = 99");
	check_all("of another version", 0);
}

/* Lists of many blocks, and members whose lists are of very different length. */
static void leaps_find_what_a_walk_finds(void **state)
{
	struct index_store *s;
	struct index_posts posts;
	struct index_head head = { .next = 100000 };
	struct index_term every = index_term_of(STR("decision"), STR("deny"));
	struct index_term some = index_term_of(STR("agent"), STR("a"));
	struct err e = { 0 };

	(void)state;
	assert_true(index_posts_init(&posts, 20000, &e));
	index_store_remove(f.folder);
	assert_true(index_store_open(f.folder, NULL, &s, &e));
	/* In three transactions, so that tails are taken up again. */
	for (uint64_t from = 0; from < 30000; from += 10000) {
		index_posts_reset(&posts);
		for (uint64_t seq = from; seq < from + 10000; seq++) {
			assert_true(index_posts_add(&posts, every, seq * 3, &e));
			if (seq % 97 == 0)
				assert_true(index_posts_add(&posts, some, seq * 3, &e));
		}
		assert_true(index_store_add(s, &posts, NULL, 0, &head, &e));
	}
	/* Into the past is never right: nothing of it stays. */
	index_posts_reset(&posts);
	assert_true(index_posts_add(&posts, some, 5, &e));
	assert_false(index_store_add(s, &posts, NULL, 0, &head, &e));
	index_store_close(s);
	index_posts_clear(&posts);
	{
		const struct db_options o = { .read_only = true, .autocheckpoint = -1 };
		struct index_cursor c[2] = { 0 };
		char path[128];
		struct db *db;
		uint64_t blocks = 0;

		index_path(path);
		assert_true(db_open(path, &o, &db, &e));
		assert_true(index_cursor_open(db, every, &c[0], &e));
		assert_true(index_cursor_open(db, some, &c[1], &e));
		for (uint64_t at = 0; at < 90010; at += 7) {
			uint64_t up = at, down = at, rare = at, want = (at + 290) / 291 * 291;
			bool found;

			assert_true(index_cursor_leap(&c[0], false, &up, &found, &blocks, &e));
			assert_true(found == (at <= 89997));
			assert_true(!found || up == (at + 2) / 3 * 3);
			assert_true(index_cursor_leap(&c[0], true, &down, &found, &blocks, &e));
			assert_true(found && down == (at > 89997 ? 89997 : at / 3 * 3));
			assert_true(index_cursor_leap(&c[1], false, &rare, &found, &blocks, &e));
			assert_true(found == (want < 90000) && (!found || rare == want));
		}
		index_cursor_close(&c[0]);
		index_cursor_close(&c[1]);
		db_close(db);
	}
}

/* What is left of a bounded search is what the next one begins with; together they find all. */
static void a_bounded_search_goes_on(void **state)
{
	(void)state;
	index_store_remove(f.folder);
	for (int indexed = 0; indexed < 2; indexed++) {
		for (int down = 0; down < 2; down++) {
			struct index_filter filter = { ARE("agent", RESEARCH, "decision", "deny"),
						       .newest_first = down, .work = 7 };
			size_t n, all = 0, pages = 0;
			uint64_t first, last;
			struct index_left left;

			do {
				left = search(&filter, &n, &first, &last);
				all += n;
				filter.from = left.from;
				filter.to = left.to;
				assert_true(++pages < 1000);
			} while (left.from < left.to);
			assert_int_equal(all, 100);
			assert_true(pages > 10);
		}
		(void)build_all();
	}
}

static void blocks_are_read_strictly(void **state)
{
	static const struct {
		const char *why;
		struct str data;
		bool marked;
		int n;
	} blocks[] = {
		{ "empty", STR_INIT(""), false, 0 },
		{ "three", STR_INIT("\x00\x01\x02"), false, 3 },
		{ "a long number", STR_INIT("\x00\xff\x01"), false, 2 },
		{ "a cut number", STR_INIT("\x00\x80"), false, -1 },
		{ "the same record twice", STR_INIT("\x00\x00"), false, -1 },
		{ "a number of 64 bits", STR_INIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
		  false, -1 },
		{ "of 70", STR_INIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), false, -1 },
		{ "without end", STR_INIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), false,
		  -1 },
		{ "marks", STR_INIT("\x00\x34\x12\x01\x35\x12\x01\x34\x12"), true, 2 },
		{ "a cut mark", STR_INIT("\x00\x34\x12\x01\x35"), true, -1 },
	};
	uint64_t out[INDEX_BLOCK_ENTRIES];
	char many[INDEX_BLOCK_ENTRIES + 1];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
		struct index_term want = { .mark = 0x1234, .marked = blocks[i].marked };
		int n = index_block_decode(blocks[i].data, 5, want, out);

		if (n != blocks[i].n || (n > 0 && out[0] != 5))
			fail_msg("%s: %d", blocks[i].why, n);
	}
	memset(many, 1, sizeof(many));
	assert_int_equal(index_block_decode((struct str){ many, sizeof(many) }, 0,
					    (struct index_term){ 0 }, out),
			 -1);
	assert_int_equal(index_block_decode((struct str){ many, sizeof(many) - 1 }, 0,
					    (struct index_term){ 0 }, out),
			 INDEX_BLOCK_ENTRIES);
}

/* --- index.db gets lost, is damaged, is another's --- */

static void lose(void)
{
	index_store_remove(f.folder);
}
static void behind(void)
{
	/* What a power cut may take is taken whole: the head goes with the lists. */
	index_sql("DELETE FROM posting; DELETE FROM mark;"
		  "UPDATE head SET next = 0, hash = zeroblob(32)");
}
static void other_log(void)
{
	index_sql("UPDATE head SET hash = randomblob(32)");
}
static void ahead(void)
{
	index_sql("UPDATE head SET next = 602");
}
static void other_version(void)
{
	index_sql("PRAGMA user_version = 99");
}
static void other_tables(void)
{
	index_sql("PRAGMA user_version = 0");
}
static void no_head(void)
{
	index_sql("DELETE FROM head");
}
static void no_database(void)
{
	overwrite(0, "This is no database at all.", 27);
}
static void torn_page(void)
{
	index_sql("PRAGMA wal_checkpoint(TRUNCATE)");
	overwrite(4096, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
	overwrite(8192, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
}

static void it_is_made_anew_by_itself(void **state)
{
	static const struct {
		const char *why;
		void (*damage)(void);
		uint64_t rebuilds;
	} damages[] = {
		{ "lost", lose, 0 },
		{ "an older copy", behind, 0 },
		{ "of another log", other_log, 1 },
		{ "ahead of the log", ahead, 1 },
		{ "of another version", other_version, 1 },
		{ "tables, but no version", other_tables, 1 },
		{ "no head", no_head, 1 },
		{ "no database", no_database, 1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
		struct index_build *b;
		struct index_progress p = { 0 };
		struct err e = { 0 };

		index_store_remove(f.folder);
		(void)build_all();
		damages[i].damage();
		b = new_build(NULL);
		/* Damage may show in a step; the one after it is without. */
		for (int step = 0; step < 3 && p.indexed != RECORDS; step++)
			(void)!index_build_step(b, &p, &e);
		index_build_free(b);
		if (p.indexed != RECORDS || p.rebuilds != damages[i].rebuilds)
			fail_msg("%s: %llu records, %llu rebuilds (%s)", damages[i].why,
				 (unsigned long long)p.indexed, (unsigned long long)p.rebuilds,
				 e.msg);
		check_all(damages[i].why, RECORDS);
	}
}

/* Damage that only who reads that page can see: the search goes on without the index and says so,
 * and who is told has it made anew. */
static void a_search_finds_damage(void **state)
{
	const struct index_filter filter = { IS("agent", BILLING) };
	struct index_build *b;
	struct index_progress p = { 0 };
	struct err e = { 0 };
	uint64_t first, last;
	size_t n;

	(void)state;
	index_store_remove(f.folder);
	(void)build_all();
	torn_page();
	assert_true(search(&filter, &n, &first, &last).damaged);
	assert_int_equal(n, 300);
	b = new_build(NULL);
	index_build_again(b);
	for (int step = 0; step < 3 && p.indexed != RECORDS; step++)
		(void)!index_build_step(b, &p, &e);
	index_build_free(b);
	assert_true(p.rebuilds > 0);
	check_all("after damage", RECORDS);
}

/* Taken away while it is in use: found at the next step. */
static void a_file_that_is_gone_is_seen(void **state)
{
	struct index_build *b = new_build(NULL);
	struct index_progress p;
	struct err e = { 0 };

	(void)state;
	assert_true(index_build_step(b, &p, &e) && p.indexed == RECORDS);
	index_store_remove(f.folder);
	assert_true(index_build_step(b, &p, &e) && p.indexed == RECORDS);
	check_all("gone", RECORDS);
	index_build_again(b);
	assert_true(index_build_look(b, &p, &e) && p.indexed == 0 && p.size == RECORDS && p.more);
	assert_true(index_build_step(b, &p, &e) && p.indexed == RECORDS && p.rebuilds == 1);
	index_build_free(b);
	check_all("again", RECORDS);
}

/* Every write, sync and open of index.db fails in turn, once or from then on: what is found stays
 * exact, and when the disk is well again the index is whole. */
static void the_disk_fails_in_turn(void **state)
{
	static const int codes[] = { SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC };
	long hits;

	(void)state;
	vfs_fault_only("index.db");
	for (size_t c = 0; c < ARRAY_LEN(codes); c++) {
		long nth = 1;

		do {
			struct index_build *b = new_build("fault");
			struct index_progress p = { 0 };
			struct err e = { 0 };

			index_store_remove(f.folder);
			vfs_fault_arm(c == 2 ? VFS_SYNC : VFS_WRITE | VFS_TRUNCATE | VFS_OPEN, nth,
				      codes[c], nth % 2);
			(void)!index_build_step(b, &p, &e);
			hits = vfs_fault_hits();
			vfs_fault_arm(VFS_ALL, 0, 0, false);
			for (int step = 0; step < 3 && p.indexed != RECORDS; step++)
				(void)!index_build_step(b, &p, &e);
			index_build_free(b);
			if (p.indexed != RECORDS)
				fail_msg("code %d, call %ld: %s", codes[c], nth, e.msg);
			check_all("after a failure", RECORDS);
			nth += nth < 20 ? 1 : 5;
		} while (hits && nth < 200);
	}
	vfs_fault_only(NULL);
}

/* A record that cannot be read stops the index in front of it, and nothing is thrown away. */
static void a_damaged_log_is_not_the_index(void **state)
{
	struct fixture g = f;
	struct index_progress p;
	struct index_build *b;
	struct err e = { 0 };

	(void)state;
	drop_kept();
	fixture_init(&f);
	fixture_open(&f);
	fixture_append(&f, 9);
	assert_int_equal(build_all().indexed, 10);
	fixture_append(&f, 9);
	fixture_close(&f);
	fixture_sql(&f, "DROP TRIGGER leaf_update; UPDATE leaf SET body = x'00' WHERE seq = 15");
	b = new_build(NULL);
	for (int i = 0; i < 3; i++) {
		assert_false(index_build_step(b, &p, &e));
		assert_string_equal(e.code, "storage_corrupt");
		assert_int_equal(p.rebuilds, 0);
	}
	index_build_free(b);
	{
		const struct index_filter filter = { IS("agent", BILLING) };
		uint64_t first, last;
		size_t n;

		assert_int_equal(search(&filter, &n, &first, &last).indexed, 10);
		assert_int_equal(n, 10); /* on both sides of it */
	}
	drop_kept();
	fixture_clear(&f);
	f = g;
}

/* --- the thread --- */

static struct index_status wait_for(struct index *x, uint64_t indexed, uint64_t rebuilds)
{
	struct index_status s;

	for (int i = 0; i < 20000; i++) {
		index_status(x, &s);
		if (s.indexed == indexed && s.rebuilds == rebuilds)
			return s;
		usleep(1000);
	}
	fail_msg("indexed %llu, rebuilds %llu: %s", (unsigned long long)s.indexed,
		 (unsigned long long)s.rebuilds, s.trouble);
	return s;
}

static void the_thread_follows_the_log(void **state)
{
	struct fixture g;
	struct index_config c = { .tick_ms = 1 };
	struct index_status s;
	struct index *x;
	struct err e = { 0 };

	(void)state;
	fixture_init(&g);
	c.folder = g.folder;
	assert_true(index_open(&c, &x, &e));
	/* There is no log.db yet: that is said, and tried again. */
	do
		index_status(x, &s);
	while (!s.failures);
	assert_true(s.failing && s.trouble[0]);
	index_close(x);
	fixture_open(&g);
	assert_true(index_open(&c, &x, &e));
	(void)wait_for(x, 1, 0);
	fixture_append(&g, 50);
	s = wait_for(x, 51, 0);
	assert_true(!s.failing && !s.trouble[0]);
	index_rebuild(x);
	(void)wait_for(x, 51, 1);
	fixture_append(&g, 10);
	(void)wait_for(x, 61, 1);
	index_close(x);
	index_close(NULL);
	fixture_clear(&g);
}

static int set_up(void **state)
{
	(void)state;
	vfs_fault_register();
	fixture_init(&f);
	fixture_open(&f);
	fixture_append(&f, RECORDS - 1);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	drop_kept();
	fixture_clear(&f);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_search_is_exact_in_every_state),
		cmocka_unit_test(leaps_find_what_a_walk_finds),
		cmocka_unit_test(a_bounded_search_goes_on),
		cmocka_unit_test(blocks_are_read_strictly),
		cmocka_unit_test(it_is_made_anew_by_itself),
		cmocka_unit_test(a_search_finds_damage),
		cmocka_unit_test(a_file_that_is_gone_is_seen),
		cmocka_unit_test(the_disk_fails_in_turn),
		cmocka_unit_test(a_damaged_log_is_not_the_index),
		cmocka_unit_test(the_thread_follows_the_log),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
