/* The registry: rules of registering, revisions, views, and no half-done change under any fault. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <sqlite3.h>
#include <stdio.h>

#include "authz/base/text.h"
#include "spiffe/registry.h"
#include "tests/fault/tmp_dir.h"
#include "tests/fault/vfs_fault.h"

#define NOW 1700000000000
#define BOT "spiffe://example.org/agent/bot"

struct world {
	struct db *db;
	struct registry *registry;
	struct slot slot;
	struct alloc alloc;
};

/* An allocator that counts blocks and refuses the Nth. */
static long alloc_left, blocks;

static void *counting(void *ctx, void *p, size_t old, size_t n)
{
	void *q;

	(void)ctx;
	if (n && alloc_left && --alloc_left == 0)
		return NULL;
	q = mem_resize(&mem_system, p, old, n);
	blocks += (!p && n) - (p && !n);
	return q;
}

static bool world_open(struct world *w, void **state, const char *vfs, struct err *e)
{
	struct db_options o = { .create = true, .vfs = vfs };
	struct registry_config c = { .trust_domain = STR("example.org"),
				     .slot = &w->slot,
				     .alloc = &w->alloc };

	*w = (struct world){ .alloc = { counting, NULL } };
	slot_init(&w->slot);
	if (!db_open(tmp_dir_path(state, "writ.db"), &o, &w->db, e))
		return false;
	c.db = w->db;
	return registry_open(&c, &w->registry, e);
}

static void world_close(struct world *w)
{
	registry_close(w->registry);
	slot_clear(&w->slot);
	db_close(w->db);
}

static void world_must_open(struct world *w, void **state)
{
	struct err e = { 0 };

	if (!world_open(w, state, NULL, &e))
		fail_msg("%s", e.msg);
}

static const struct registry_view *view_of_world(struct world *w)
{
	return (const struct registry_view *)(void *)slot_acquire(&w->slot);
}

static const struct registry_attribute team = { STR_INIT("team"), STR_INIT("finance") };
static const struct registry_selector uid = { STR_INIT("unix"), STR_INIT("uid:1000") };

static struct registry_change change(enum registry_verb verb, const char *id)
{
	return (struct registry_change){
		.verb = verb,
		.spec = { .id = str_c(id), .owner = STR("ann") },
		.by = STR("unix:0"),
		.now_ms = NOW,
	};
}

static bool apply(struct world *w, enum registry_verb verb, const char *id, struct err *e)
{
	struct registry_change c = change(verb, id);

	return registry_apply(w->registry, &c, e);
}

/* --- what may be registered --- */

#define OK "spiffe://example.org/ok" /* were it not for the rest */
#define BAD "invalid_agent"

static const struct {
	const char *why, *id, *owner, *attribute, *selector, *code, *says; /* no code: taken */
	int64_t x509, jwt, expires;
} specs[] = {
	{ "plain", "spiffe://example.org/a", "x", NULL, NULL, NULL, "", 0, 0, 0 },
	{ "foreign", "spiffe://other.example/writ/a", "x", NULL, NULL, NULL, "", 0, 0, 0 },
	{ "no path", "spiffe://example.org", "x", NULL, NULL, "invalid_spiffe_id", "", 0, 0, 0 },
	{ "upper case", "spiffe://Example.org/a", "x", NULL, NULL, "invalid_spiffe_id", "", 0, 0,
	  0 },
	{ "reserved", "spiffe://example.org/writ/server", "x", NULL, NULL, "reserved_path", "/writ",
	  0, 0, 0 },
	{ "no owner", OK, "", NULL, NULL, BAD, "needs an owner", 0, 0, 0 },
	{ "owner of two lines", OK, "x\ny", NULL, NULL, BAD, "one line", 0, 0, 0 },
	{ "attribute", "spiffe://example.org/c", "x", "team=a=b: c", NULL, NULL, "", 0, 0, 0 },
	{ "own name", OK, "x", "state=v", NULL, BAD, "writ's own", 0, 0, 0 },
	{ "own name", OK, "x", "owner=v", NULL, BAD, "writ's own", 0, 0, 0 },
	{ "capital", OK, "x", "Team=v", NULL, BAD, "small letter", 0, 0, 0 },
	{ "no name", OK, "x", "=v", NULL, BAD, "small letter", 0, 0, 0 },
	{ "no value", OK, "x", "team=", NULL, BAD, "no value", 0, 0, 0 },
	{ "line break", OK, "x", "team=a\nb=c", NULL, BAD, "one line", 0, 0, 0 },
	{ "not UTF-8", OK, "x", "team=\xff", NULL, BAD, "UTF-8", 0, 0, 0 },
	{ "selector", "spiffe://example.org/e", "x", NULL, "k8s:pod-label:app:web", NULL, "", 0, 0,
	  0 },
	{ "slip", OK, "x", NULL, "unixx:uid:1", BAD, "did you mean \"unix\"", 0, 0, 0 },
	{ "slip in key", OK, "x", NULL, "unix:usr:bob", BAD, "did you mean \"user\"", 0, 0, 0 },
	{ "no key", OK, "x", NULL, "unix:1000", BAD, "unix:KEY:VALUE", 0, 0, 0 },
	{ "uid by name", OK, "x", NULL, "unix:uid:bob", BAD, "not a number", 0, 0, 0 },
	{ "short hash", OK, "x", NULL, "unix:sha256:abc", BAD, "64", 0, 0, 0 },
	{ "path", OK, "x", NULL, "unix:path:bin/agent", BAD, "starts with", 0, 0, 0 },
	{ "cgroup", OK, "x", NULL, "unix:cgroup:a.slice", BAD, "starts with", 0, 0, 0 },
	{ "claim without issuer", OK, "x", NULL, "oidc:sub:bob", BAD, "oidc:iss:URL", 0, 0, 0 },
	{ "foreign selector", "spiffe://b.example/f", "x", NULL, "unix:uid:1", BAD, "another trust",
	  0, 0, 0 },
	{ "short life", OK, "x", NULL, NULL, BAD, "X.509 lifetime", 59, 0, 0 },
	{ "long JWT", OK, "x", NULL, NULL, BAD, "JWT lifetime", 0, 86401, 0 },
	{ "expired", OK, "x", NULL, NULL, BAD, "passed already", 0, 0, NOW },
};

static void registers_what_the_table_says(void **state)
{
	AUTO_REGISTRY_VIEW *v = NULL;
	struct world w;
	size_t n = 0;

	world_must_open(&w, state);
	for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
		struct registry_change c = change(REGISTRY_REGISTER, "");
		struct registry_attribute a;
		struct registry_selector s;
		struct err e = { 0 };
		bool ok;

		if (specs[i].attribute)
			assert_true(str_cut(str_c(specs[i].attribute), '=', &a.name, &a.value));
		if (specs[i].selector)
			assert_true(registry_parse_selector(str_c(specs[i].selector), &s, &e));
		c.spec = (struct registry_spec){
			.id = str_c(specs[i].id),
			.owner = str_c(specs[i].owner),
			.attributes = &a,
			.nattributes = specs[i].attribute ? 1 : 0,
			.selectors = &s,
			.nselectors = specs[i].selector ? 1 : 0,
			.x509_ttl_s = specs[i].x509,
			.jwt_ttl_s = specs[i].jwt,
			.expires_ms = specs[i].expires,
		};
		ok = registry_apply(w.registry, &c, &e);
		n += ok;
		if (ok != !specs[i].code ||
		    (!ok && (strcmp(e.code, specs[i].code) != 0 || !strstr(e.msg, specs[i].says))))
			fail_msg("%s: %s %s", specs[i].why, ok ? "taken" : e.code, e.msg);
	}
	v = view_of_world(&w);
	assert_int_equal(v->n, n);
	world_close(&w);
}

static void bounds_its_lists(void **state)
{
	struct registry_attribute many[REGISTRY_ATTRIBUTES + 1];
	struct registry_selector same[2] = { uid, uid };
	struct registry_change c = change(REGISTRY_REGISTER, BOT);
	char names[REGISTRY_ATTRIBUTES + 1][8];
	struct err e = { 0 };
	struct world w;

	world_must_open(&w, state);
	for (size_t i = 0; i < ARRAY_LEN(many); i++) {
		snprintf(names[i], sizeof(names[i]), "a%zu", i);
		many[i] = (struct registry_attribute){ str_c(names[i]), STR("v") };
	}
	c.spec.attributes = many;
	c.spec.nattributes = ARRAY_LEN(many);
	assert_false(registry_apply(w.registry, &c, &e));
	assert_non_null(strstr(e.msg, "too many"));
	many[1] = many[0];
	c.spec.nattributes = 2;
	assert_false(registry_apply(w.registry, &c, &e));
	assert_non_null(strstr(e.msg, "twice"));
	c.spec.nattributes = 0;
	c.spec.selectors = same;
	c.spec.nselectors = 2;
	assert_false(registry_apply(w.registry, &c, &e));
	assert_non_null(strstr(e.msg, "twice"));
	world_close(&w);
}

/* --- the life of an entry --- */

static void lives_through_its_states(void **state)
{
	static const struct {
		enum registry_verb verb;
		const char *code; /* NULL: done */
		enum registry_state then;
	} steps[] = {
		{ REGISTRY_SUSPEND, "unknown_agent", ENTRY_ACTIVE },
		{ REGISTRY_REGISTER, NULL, ENTRY_ACTIVE },
		{ REGISTRY_REGISTER, "already_registered", ENTRY_ACTIVE },
		{ REGISTRY_RESUME, "bad_state", ENTRY_ACTIVE },
		{ REGISTRY_SUSPEND, NULL, ENTRY_SUSPENDED },
		{ REGISTRY_SUSPEND, "bad_state", ENTRY_SUSPENDED },
		{ REGISTRY_UPDATE, NULL, ENTRY_SUSPENDED }, /* no way back in */
		{ REGISTRY_RESUME, NULL, ENTRY_ACTIVE },
		{ REGISTRY_RETIRE, NULL, ENTRY_RETIRED },
		{ REGISTRY_RETIRE, "bad_state", ENTRY_RETIRED },
		{ REGISTRY_RESUME, "bad_state", ENTRY_RETIRED },
		{ REGISTRY_UPDATE, "bad_state", ENTRY_RETIRED },
		{ REGISTRY_REGISTER, "id_retired", ENTRY_RETIRED },
	};
	uint64_t revision = 0;
	struct world w;

	world_must_open(&w, state);
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		const struct registry_view *v;
		const struct registry_entry *n;
		struct err e = { 0 };
		bool ok = apply(&w, steps[i].verb, BOT, &e);

		if (ok != !steps[i].code || (!ok && strcmp(e.code, steps[i].code) != 0))
			fail_msg("step %zu: %s", i, ok ? "done" : e.msg);
		revision += ok;
		v = view_of_world(&w);
		n = registry_find(v, STR(BOT));
		if (n) {
			assert_int_equal(n->stored, steps[i].then);
			assert_int_equal(n->revision, revision);
		}
		registry_view_release(&v);
		world_close(&w); /* and the same after a restart */
		world_must_open(&w, state);
	}
	world_close(&w);
}

static void an_update_needs_the_revision_it_saw(void **state)
{
	struct registry_change c = change(REGISTRY_REGISTER, BOT);
	const struct registry_view *before, *after;
	const struct registry_entry *n;
	struct err e = { 0 };
	struct world w;

	world_must_open(&w, state);
	c.spec.attributes = &team;
	c.spec.nattributes = 1;
	c.spec.selectors = &uid;
	c.spec.nselectors = 1;
	c.spec.expires_ms = NOW + 1000;
	assert_true(registry_apply(w.registry, &c, &e));
	before = view_of_world(&w);
	n = registry_find(before, STR(BOT));
	assert_int_equal(registry_state(n, NOW + 999), ENTRY_ACTIVE);
	assert_int_equal(registry_state(n, NOW + 1000), ENTRY_EXPIRED);
	assert_true(str_eq(registry_attribute(n, STR("team"))->value, STR("finance")));
	assert_null(registry_attribute(n, STR("tea")));

	c = (struct registry_change){ .verb = REGISTRY_UPDATE,
				      .spec = registry_spec_of(n),
				      .if_revision = 2,
				      .now_ms = NOW + 5000 };
	c.spec.owner = STR("bob");
	assert_false(registry_apply(w.registry, &c, &e));
	assert_string_equal(e.code, "revision_conflict");
	c.if_revision = 1; /* expired by now, but that was not touched: allowed */
	assert_true(registry_apply(w.registry, &c, &e));
	after = view_of_world(&w);
	assert_true(str_eq(registry_find(before, STR(BOT))->owner, STR("ann"))); /* untouched */
	n = registry_find(after, STR(BOT));
	assert_true(str_eq(n->owner, STR("bob")));
	assert_int_equal(n->nselectors, 1);
	assert_true(n->created_ms == NOW && n->updated_ms == NOW + 5000);
	assert_int_equal(after->version, before->version + 1);
	registry_view_release(&before);
	registry_view_release(&after);
	world_close(&w);
}

static char told[512];

static void tell(void *ctx, const struct registry_revision *r)
{
	size_t n = strlen(told);

	(void)ctx;
	snprintf(told + n, sizeof(told) - n, "%llu %s %.*s %zu %.*s %.*s;",
		 (unsigned long long)r->entry.revision, registry_verb_name(r->verb),
		 STR_FMT(r->entry.owner), r->entry.nattributes, STR_FMT(r->by), STR_FMT(r->reason));
}

static void remembers_every_revision(void **state)
{
	struct registry_change c = change(REGISTRY_REGISTER, BOT);
	struct err e = { 0 };
	struct world w;

	world_must_open(&w, state);
	c.spec.attributes = &team;
	c.spec.nattributes = 1;
	assert_true(registry_apply(w.registry, &c, &e));
	c.verb = REGISTRY_UPDATE;
	c.spec.nattributes = 0;
	c.spec.owner = STR("bob");
	assert_true(registry_apply(w.registry, &c, &e));
	c.verb = REGISTRY_SUSPEND;
	c.reason = STR("ran wild");
	assert_true(registry_apply(w.registry, &c, &e));
	c.reason = STR("two\nlines");
	assert_false(registry_apply(w.registry, &c, &e));
	told[0] = '\0';
	assert_true(registry_history(w.registry, STR(BOT), 2, tell, NULL, &e));
	assert_true(registry_history(w.registry, STR("spiffe://none/x"), 2, tell, NULL, &e));
	assert_string_equal(told, "3 suspend bob 0 unix:0 ran wild;2 update bob 0 unix:0 ;");
	assert_false(db_exec(w.db, "DELETE FROM entry_revision", &e));
	assert_non_null(strstr(e.msg, "never deleted"));
	assert_false(db_exec(w.db, "UPDATE entry_revision SET owner = 'eve'", &e));
	assert_false(db_exec(w.db, "UPDATE entry SET id = 'spiffe://example.org/eve'", &e));
	world_close(&w);
}

/* --- many changes, one commit --- */

static void a_refused_change_leaves_the_others(void **state)
{
	struct registry_change a = change(REGISTRY_REGISTER, "spiffe://example.org/a");
	struct registry_change b = change(REGISTRY_REGISTER, "spiffe://example.org/b");
	const struct registry_view *v;
	struct err e = { 0 };
	struct world w;

	world_must_open(&w, state);
	assert_true(registry_prepare(w.registry, &a, &e));
	assert_false(registry_prepare(w.registry, &a, &e));
	assert_string_equal(e.code, "already_registered");
	assert_true(registry_prepare(w.registry, &b, &e));
	assert_non_null(registry_prepared(w.registry, b.spec.id));
	v = view_of_world(&w);
	assert_null(registry_find(v, a.spec.id)); /* nobody sees it before the commit */
	registry_view_release(&v);
	registry_abort(w.registry);
	assert_null(registry_prepared(w.registry, b.spec.id));
	assert_true(registry_prepare(w.registry, &a, &e));
	assert_true(registry_prepare(w.registry, &b, &e));
	assert_true(registry_commit(w.registry, &e));
	assert_true(registry_commit(w.registry, &e)); /* nothing prepared: fine */
	v = view_of_world(&w);
	assert_int_equal(v->n, 2);
	registry_view_release(&v);
	world_close(&w);
}

#define MANY 5000

/* Page by page, each from a newer view than the one before: what stays is met exactly once. */
static void scans_each_once(struct world *w)
{
	static const size_t sizes[] = { 1, 7, 70 };

	for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
		const struct registry_entry *page[70];
		unsigned char *met = calloc(MANY, 1);
		char id[64], after[64] = "", gone[64];
		struct err e = { 0 };
		size_t n = sizes[k], pages = 0, all = 0;

		assert_non_null(met);
		snprintf(gone, sizeof(gone), "spiffe://example.org/agent/%zu", k);
		assert_true(apply(w, REGISTRY_SUSPEND, gone, &e));
		while (n == sizes[k]) {
			const struct registry_view *v = view_of_world(w);

			n = registry_scan(v, str_c(after), NOW, page, sizes[k]);
			for (size_t i = 0; i < n; i++) {
				struct str prefix = STR("spiffe://example.org/agent/");
				struct str number = str_from(page[i]->id, prefix.n);
				uint64_t which = 0;

				if (!str_starts(page[i]->id, prefix))
					continue;
				assert_true(text_u64(number, MANY - 1, &which));
				all += !met[which]++;
			}
			if (n)
				snprintf(after, sizeof(after), "%.*s", STR_FMT(page[n - 1]->id));
			registry_view_release(&v);
			if (pages++ % 100)
				continue;
			snprintf(id, sizeof(id), "spiffe://example.org/new/%zu-%zu", k, pages);
			assert_true(apply(w, REGISTRY_REGISTER, id, &e));
		}
		assert_int_equal(all, MANY - k - 1); /* one more is suspended each time */
		for (int i = 0; i < MANY; i++)
			assert_true(met[i] <= 1);
		free(met);
	}
}

static void finds_and_lists_among_many(void **state)
{
	const struct registry_entry *page[70];
	struct registry_selector attested[] = { { STR("unix"), STR("gid:1") }, uid };
	struct registry_filter f = { .owner = STR("odd") };
	char id[64], last[64] = "";
	size_t n, all = 0;
	const struct registry_view *v;
	struct err e = { 0 };
	struct world w;

	world_must_open(&w, state);
	for (int i = 0; i < MANY; i++) {
		struct registry_change c;

		snprintf(id, sizeof(id), "spiffe://example.org/agent/%d", i);
		c = change(REGISTRY_REGISTER, id);
		c.spec.owner = i % 2 ? STR("odd") : STR("even");
		c.spec.selectors = &uid;
		c.spec.nselectors = i == 77 ? 1 : 0;
		if (!registry_prepare(w.registry, &c, &e))
			fail_msg("%d: %s", i, e.msg);
	}
	assert_true(registry_commit(w.registry, &e));
	world_close(&w);
	world_must_open(&w, state);
	v = view_of_world(&w);
	assert_int_equal(v->n, MANY);
	for (int i = 0; i < MANY; i++) {
		snprintf(id, sizeof(id), "spiffe://example.org/agent/%d", i);
		assert_non_null(registry_find(v, str_c(id)));
	}
	assert_null(registry_find(v, STR("spiffe://example.org/agent/5000")));
	assert_null(registry_find(v, STR("")));
	while ((n = registry_list(v, &f, page, ARRAY_LEN(page))) > 0) {
		for (size_t i = 0; i < n; i++) {
			assert_true(str_cmp(str_c(last), page[i]->id) < 0);
			snprintf(last, sizeof(last), "%.*s", STR_FMT(page[i]->id));
		}
		all += n;
		f.after = str_c(last);
	}
	assert_int_equal(all, MANY / 2);
	f = (struct registry_filter){ .by_state = true, .state = ENTRY_SUSPENDED };
	assert_int_equal(registry_list(v, &f, page, 70), 0);
	f = (struct registry_filter){ .name = STR("team"), .value = STR("finance") };
	assert_int_equal(registry_list(v, &f, page, 70), 0);
	f = (struct registry_filter){ .prefix = STR("spiffe://example.org/agent/499") };
	assert_int_equal(registry_list(v, &f, page, 70), 11);
	assert_int_equal(registry_list(v, &f, page, 0), 0);
	assert_int_equal(registry_match(v, attested, 2, NOW, page, 70), 1);
	assert_true(str_ends(page[0]->id, STR("/77")));
	assert_int_equal(registry_match(v, attested, 1, NOW, page, 70), 0);
	registry_view_release(&v);
	scans_each_once(&w);
	world_close(&w);
}

static void splits_selectors(void **state)
{
	struct registry_selector s;
	struct err e = { 0 };

	(void)state;
	assert_true(registry_parse_selector(STR("a:b:c"), &s, &e) && str_eq(s.value, STR("b:c")));
	assert_false(registry_parse_selector(STR("a"), &s, &e));
}

/* --- faults --- */

/* Register, suspend and retire one agent, then look: in memory and on disk the same revision, and
 * at least the one that was promised. */
static void run_story(struct world *w, const char *id, uint64_t *promised)
{
	*promised = 0;
	if (apply(w, REGISTRY_REGISTER, id, NULL))
		(*promised)++;
	if (*promised == 1 && apply(w, REGISTRY_SUSPEND, id, NULL))
		(*promised)++;
	if (*promised == 2 && apply(w, REGISTRY_RETIRE, id, NULL))
		(*promised)++;
}

static uint64_t revision_of(struct world *w, const char *id)
{
	AUTO_REGISTRY_VIEW *v = view_of_world(w);
	const struct registry_entry *n = registry_find(v, str_c(id));

	return n ? n->revision : 0;
}

static void no_failing_disk_leaves_half_a_change(void **state)
{
	static const int codes[] = { SQLITE_FULL, SQLITE_IOERR_FSYNC };

	alloc_left = 0;
	vfs_fault_register();
	vfs_fault_arm(0, 0, 0, false);
	for (size_t c = 0; c < ARRAY_LEN(codes); c++)
		for (long nth = 1;; nth++) {
			uint64_t promised;
			struct err e = { 0 };
			struct world w;
			char id[64];
			bool hit;

			snprintf(id, sizeof(id), "spiffe://example.org/a/%zu/%ld", c, nth);
			if (!world_open(&w, state, "fault", &e))
				fail_msg("%s", e.msg);
			vfs_fault_arm(VFS_WRITE | VFS_SYNC, nth, codes[c], false);
			run_story(&w, id, &promised);
			hit = vfs_fault_hits() > 0;
			vfs_fault_arm(0, 0, 0, false);
			assert_int_equal(revision_of(&w, id), promised);
			world_close(&w);
			world_must_open(&w, state);
			/* What failed in its sync may be there, whole; never less than promised. */
			assert_true(revision_of(&w, id) == promised ||
				    (hit && revision_of(&w, id) == promised + 1));
			world_close(&w);
			if (!hit) {
				assert_int_equal(promised, 3);
				break;
			}
			assert_true(promised < 3);
		}
}

static void no_failing_allocation_leaves_half_a_change(void **state)
{
	for (long nth = 1;; nth++) {
		uint64_t promised = 0;
		struct world w;
		bool hit, open;
		char id[64];

		snprintf(id, sizeof(id), "spiffe://example.org/m/%ld", nth);
		blocks = 0;
		alloc_left = nth;
		open = world_open(&w, state, NULL, NULL);
		if (open)
			run_story(&w, id, &promised);
		hit = alloc_left == 0;
		alloc_left = 0;
		if (open)
			assert_int_equal(revision_of(&w, id), promised);
		world_close(&w);
		assert_int_equal(blocks, 0);
		world_must_open(&w, state);
		assert_int_equal(revision_of(&w, id), promised);
		world_close(&w);
		if (!hit) {
			assert_int_equal(promised, 3);
			break;
		}
	}
}

static void refuses_a_damaged_entry(void **state)
{
	static const char *const damages[] = {
		"UPDATE entry_revision SET attributes = 'team'",
		"UPDATE entry_revision SET attributes = 'team=x'",
		"UPDATE entry_revision SET selectors = 'unix' || char(10)",
		"UPDATE entry_revision SET state = 3",
		"UPDATE entry_revision SET verb = -1",
		"UPDATE entry SET revision = 7",
		"UPDATE entry SET id = 'spiffe://EXAMPLE/x'",
		"DELETE FROM entry_revision",
	};

	for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
		struct err e = { 0 };
		struct world w;

		world_must_open(&w, state);
		assert_true(apply(&w, REGISTRY_REGISTER, BOT, &e));
		assert_true(db_exec(w.db,
				    "DROP TRIGGER revision_keeps; DROP TRIGGER revision_stays;"
				    "DROP TRIGGER entry_keeps_id",
				    &e));
		if (!db_exec(w.db, damages[i], &e))
			fail_msg("%s", e.msg);
		world_close(&w);
		if (world_open(&w, state, NULL, &e) || strcmp(e.code, "storage_corrupt") != 0)
			fail_msg("%s: %s", damages[i], e.msg);
		world_close(&w);
		tmp_dir_remove(state);
		tmp_dir_make(state);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tmp_dir_make, tmp_dir_remove)
	const struct CMUnitTest tests[] = {
		T(registers_what_the_table_says),
		T(bounds_its_lists),
		T(lives_through_its_states),
		T(an_update_needs_the_revision_it_saw),
		T(remembers_every_revision),
		T(a_refused_change_leaves_the_others),
		T(finds_and_lists_among_many),
		T(splits_selectors),
		T(no_failing_disk_leaves_half_a_change),
		T(no_failing_allocation_leaves_half_a_change),
		T(refuses_a_damaged_entry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
