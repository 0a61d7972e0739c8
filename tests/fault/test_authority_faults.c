/* Rotation while the disk, the log or the signer fails: wherever it stops, after a restart there is
 * a working authority of each kind, and no id has ever meant two keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mman.h>

#include "authz/decide/control.h"
#include "tests/decide/rig.h"
#include "tests/fault/alloc_fault.h"
#include "tests/fault/vfs_fault.h"
#include "tests/spiffe/forge.h"

#define BY STR("unix:0")
#define T0 1800000000000LL
#define DAY 86400000LL
#define KNOWN_MAX 4096

/* ---- system calls of file_replace that fail in turn ---- */

#define KINDS \
	AUTHORITY_WIT /* the two that are always there; keys of WIT-SVIDs are made on request */

static long call_count, call_fails; /* from 1; 0: none */
static bool calls_stay;

static bool call_fault(void)
{
	call_count++;
	if (!call_fails || call_count < call_fails || (call_count > call_fails && !calls_stay))
		return false;
	errno = EIO;
	return true;
}

static int faulty_openat(int dir, const char *name, int flags, mode_t mode)
{
	return call_fault() ? -1 : file_system_calls.openat(dir, name, flags, mode);
}

static ssize_t faulty_write(int fd, const void *p, size_t n)
{
	return call_fault() ? -1 : file_system_calls.write(fd, p, n);
}

static int faulty_fchmod(int fd, mode_t mode)
{
	return call_fault() ? -1 : file_system_calls.fchmod(fd, mode);
}

static int faulty_fsync(int fd)
{
	return call_fault() ? -1 : file_system_calls.fsync(fd);
}

static int faulty_renameat(int from, const char *a, int to, const char *b)
{
	return call_fault() ? -1 : file_system_calls.renameat(from, a, to, b);
}

static int faulty_unlinkat(int dir, const char *name, int flags)
{
	return call_fault() ? -1 : file_system_calls.unlinkat(dir, name, flags);
}

static const struct file_calls faulty_calls = {
	.openat = faulty_openat,
	.write = faulty_write,
	.fchmod = faulty_fchmod,
	.fsync = faulty_fsync,
	.close = close,
	.renameat = faulty_renameat,
	.unlinkat = faulty_unlinkat,
};

/* ---- a deployment ---- */

static struct desk {
	struct rig rig;
	struct clock_fixed *hands; /* of the signer's clock: memory that both processes see */
	struct clock signers;
	struct signer *signer;
	struct slot certificate;
	struct control *control;
	char dir[96], db[128], policies[128], keys[128];
	struct str spki;
	/* Every id that was ever seen, and its key. */
	struct {
		char id[AUTHORITY_ID_MAX + 1];
		uint8_t key[SHA256_LEN];
	} known[KNOWN_MAX];
	size_t nknown;
} d;

static void up(void)
{
	struct signer_config sc = { .folder = d.keys,
				    .trust_domain = STR("test.example"),
				    .channels = 2,
				    .clock = &d.signers };
	struct control_config c = { .core = &d.rig.core,
				    .db_path = d.db,
				    .policies = d.policies,
				    .limits = policy_default_limits,
				    .certificate = &d.certificate,
				    .authorities = { .data = d.dir, .calls = &faulty_calls } };
	struct err e = { 0 };

	if (!signer_start(&sc, &d.signer, &e)) /* forks: before there are threads */
		fail_msg("signer_start: %s", e.msg);
	rig_start_with(&d.rig, &(struct rig_options){ .now_ms = d.hands->ms, .no_registry = true });
	slot_init(&d.certificate);
	c.signer = d.signer;
	if (!control_open(&c, &d.control, &e) || !authorities_start(d.control->authorities, &e))
		fail_msg("after a restart: %s", e.msg);
}

static void down(void)
{
	control_close(d.control);
	rig_stop(&d.rig);
	slot_clear(&d.certificate);
	signer_stop(d.signer);
}

static int set_up(void **state)
{
	const char *base = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
	EVP_PKEY *key = forge_key("P-256");

	(void)state;
	memset(&d, 0, sizeof(d));
	d.hands = mmap(NULL, sizeof(*d.hands), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	if (d.hands == MAP_FAILED)
		return -1;
	d.hands->ms = T0;
	d.signers = clock_of_fixed(d.hands);
	snprintf(d.dir, sizeof(d.dir), "%s/writ-authority-XXXXXX", base);
	if (!mkdtemp(d.dir))
		return -1;
	snprintf(d.db, sizeof(d.db), "%s/writ.db", d.dir);
	snprintf(d.keys, sizeof(d.keys), "%s/keys", d.dir);
	snprintf(d.policies, sizeof(d.policies), "%s/policies", d.dir);
	d.spki = forge_spki(key);
	EVP_PKEY_free(key);
	call_fails = 0;
	if (mkdir(d.policies, 0700))
		return -1;
	up();
	return 0;
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	down();
	forge_free(d.spki);
	munmap(d.hands, sizeof(*d.hands));
	snprintf(command, sizeof(command), "rm -rf %s", d.dir);
	return system(command) != 0; /* NOLINT(cert-env33-c): a test's own folder */
}

/* ---- looking ---- */

static struct authorities *all(void)
{
	return d.control->authorities;
}

static int64_t wall_s(void)
{
	return d.rig.time.ms / 1000;
}

/* One id, one key, for ever. */
static void remember(void)
{
	for (size_t i = 0; i < all()->db.n; i++) {
		const struct authority_row *r = &all()->db.rows[i];
		uint8_t hash[SHA256_LEN];
		size_t k = 0;

		crypto_sha256(r->spki, hash);
		while (k < d.nknown && strcmp(d.known[k].id, r->a.id) != 0)
			k++;
		if (k < d.nknown) {
			assert_memory_equal(d.known[k].key, hash, SHA256_LEN);
			continue;
		}
		for (size_t j = 0; j < d.nknown; j++) /* nor one key two ids */
			assert_memory_not_equal(d.known[j].key, hash, SHA256_LEN);
		assert_true(d.nknown < KNOWN_MAX);
		memcpy(d.known[k].id, r->a.id, sizeof(r->a.id));
		memcpy(d.known[k].key, hash, sizeof(hash));
		d.nknown++;
	}
}

static bool sign(enum authority_kind kind, struct buf *out, struct err *e)
{
	int64_t now = wall_s();
	struct signer_job j = { .op = SIGNER_X509_SVID,
				.x509 = { .spiffe_id = STR("spiffe://test.example/a"),
					  .spki = d.spki,
					  .not_before_s = now - 10,
					  .not_after_s = now + 3600 } };

	if (kind == AUTHORITY_JWT)
		j = (struct signer_job){ .op = SIGNER_JWT_SVID,
					 .jwt = { .spiffe_id = STR("spiffe://test.example/a"),
						  .audience = { STR("us") },
						  .naudience = 1,
						  .issued_s = now,
						  .expires_s = now + 300 } };
	buf_init(out, mem_system, 1 << 16);
	j.out = out;
	return signer_call(d.control->signer, &j, e);
}

/* Does it verify under what is published now? */
static bool verifies(enum authority_kind kind, struct str svid, struct err *e)
{
	struct bundle_set *set = (struct bundle_set *)slot_acquire(&d.rig.core.bundles);
	struct jwt_verifier *v = jwt_verifier_new(&mem_system, 0, NULL);
	struct x509_svid x509;
	struct jwt_svid jwt;
	struct arena a;
	bool ok;

	arena_init(&a, &mem_system, 1 << 20);
	if (kind == AUTHORITY_JWT)
		ok = jwt_svid_verify(v, set, svid, STR("us"), wall_s(), &a, &jwt, e);
	else
		ok = x509_svid_verify_der(set, &svid, 1, wall_s(), &x509, e);
	arena_clear(&a);
	jwt_verifier_free(v);
	bundle_set_release(set);
	return ok;
}

static size_t count(enum authority_kind kind, enum authority_state state)
{
	size_t n = 0;

	for (size_t i = 0; i < all()->db.n; i++)
		n += all()->db.rows[i].a.kind == kind && all()->db.rows[i].a.state == state;
	return n;
}

static const char *id_of(enum authority_kind kind, enum authority_state state)
{
	for (size_t i = 0; i < all()->db.n; i++)
		if (all()->db.rows[i].a.kind == kind && all()->db.rows[i].a.state == state)
			return all()->db.rows[i].a.id;
	return NULL;
}

/* Key files of authorities, those of the first start included. */
static size_t key_files(void)
{
	DIR *dir = opendir(d.keys);
	const struct dirent *entry;
	size_t n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)))
		n += strncmp(entry->d_name, "x509", 4) == 0 ||
		     strncmp(entry->d_name, "jwt", 3) == 0;
	closedir(dir);
	return n;
}

/* What must hold at any time: one signs, and what it signs verifies. */
static void it_works(const char *when, long nth)
{
	for (int k = 0; k < KINDS; k++) {
		enum authority_kind kind = (enum authority_kind)k;
		struct err e = { 0 };
		struct buf svid;

		if (count(kind, AUTHORITY_ACTIVE) != 1)
			fail_msg("%s, %ld: %zu active %s authorities", when, nth,
				 count(kind, AUTHORITY_ACTIVE), authority_kind_name(kind));
		if (!sign(kind, &svid, &e) || !verifies(kind, buf_str(&svid), &e))
			fail_msg("%s, %ld: %s: %s", when, nth, authority_kind_name(kind), e.msg);
		buf_clear(&svid);
	}
}

/* ---- acts ---- */

static bool prepare(enum authority_kind kind, struct err *e)
{
	struct authority out;

	return authority_prepare(all(), kind, BY, &out, e);
}

static bool activate(enum authority_kind kind, struct err *e)
{
	const char *id = id_of(kind, AUTHORITY_PREPARED);
	struct authority out;

	return id && authority_activate(all(), str_c(id), true, BY, &out, e);
}

static bool withdraw(enum authority_kind kind, enum authority_state from, enum authority_verb verb,
		     struct err *e)
{
	char id[AUTHORITY_ID_MAX + 1] = "";
	struct authority out;

	if (!id_of(kind, from))
		return false;
	memcpy(id, id_of(kind, from), sizeof(id));
	return authority_withdraw(all(), str_c(id), verb, BY, &out, e);
}

static bool taint(enum authority_kind kind, struct err *e)
{
	return withdraw(kind, AUTHORITY_OLD, AUTHORITY_TAINT, e);
}

static bool throw_out(enum authority_kind kind, struct err *e)
{
	return withdraw(kind, AUTHORITY_TAINTED, AUTHORITY_REVOKE, e);
}

static const struct step {
	const char *name;
	bool (*run)(enum authority_kind kind, struct err *e);
	enum authority_state to; /* there is one of these afterwards; revoked: none tainted */
} steps[] = {
	{ "prepare", prepare, AUTHORITY_PREPARED },
	{ "activate", activate, AUTHORITY_OLD },
	{ "taint", taint, AUTHORITY_TAINTED },
	{ "revoke", throw_out, AUTHORITY_REVOKED },
};

static bool is_done(const struct step *s, enum authority_kind kind)
{
	return s->to == AUTHORITY_REVOKED ? count(kind, AUTHORITY_TAINTED) == 0
					  : count(kind, s->to) == 1;
}

/* ---- faults ---- */

enum trouble { FILES, DATABASE_FULL, DATABASE_SYNC, LOG, SIGNER };

static const struct fault {
	const char *why;
	enum trouble what;
	bool stays;
} faults[] = {
	{ "a file call fails", FILES, false },
	{ "the folder is gone", FILES, true },
	{ "writ.db is full", DATABASE_FULL, true },
	{ "writ.db cannot be flushed", DATABASE_SYNC, true },
	{ "the log is full", LOG, false },
	{ "the signer is dead", SIGNER, true },
};

static void arm(const struct fault *f, long nth)
{
	call_count = 0;
	if (f->what == FILES) {
		call_fails = nth;
		calls_stay = f->stays;
	} else if (f->what == SIGNER) {
		if (nth == 1)
			kill(signer_pid(d.signer), SIGKILL);
	} else {
		vfs_fault_only(f->what == LOG ? "log.db" : "writ.db");
		if (f->what == DATABASE_SYNC)
			vfs_fault_arm(VFS_SYNC, nth, SQLITE_IOERR_FSYNC, f->stays);
		else
			vfs_fault_arm(VFS_WRITE, nth, SQLITE_FULL, f->stays);
	}
}

/* Did it strike? */
static bool disarm(const struct fault *f, long nth)
{
	bool struck = f->what == FILES	  ? call_count >= nth
		      : f->what == SIGNER ? nth == 1
					  : vfs_fault_hits() > 0;

	call_fails = 0;
	vfs_fault_arm(0, 0, 0, false);
	vfs_fault_only(NULL);
	return struck;
}

/* One step with its @nth call failing, a restart, and the step again until it is done. */
static bool one_trial(const struct fault *f, const struct step *s, enum authority_kind kind,
		      long nth)
{
	struct err e = { 0 };
	struct buf before;
	bool ok, struck;

	assert_true(sign(kind, &before, &e));
	arm(f, nth);
	ok = s->run(kind, &e);
	struck = disarm(f, nth);
	if (!ok && !struck)
		fail_msg("%s: %s failed by itself: %s", f->why, s->name, e.msg);
	if (f->what == FILES || f->what == LOG)
		it_works(s->name, nth); /* also without a restart */
	down();
	up();
	remember();
	it_works(s->name, nth);
	if (ok && !is_done(s, kind))
		fail_msg("%s, %ld: %s said done, and is not", f->why, nth, s->name);
	/* Nobody who held an SVID of then is locked out before the revocation. */
	if (s->run != throw_out && !verifies(kind, buf_str(&before), &e))
		fail_msg("%s, %ld: %s: an SVID of before: %s", f->why, nth, s->name, e.msg);
	buf_clear(&before);
	if (!is_done(s, kind) && !s->run(kind, &e))
		fail_msg("%s, %ld: %s again: %s", f->why, nth, s->name, e.msg);
	assert_true(is_done(s, kind));
	remember();
	it_works(s->name, nth);
	return struck;
}

static void no_failure(const char *name, enum authority_kind kind)
{
	struct err e = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(steps); i++)
		if (!steps[i].run(kind, &e))
			fail_msg("%s: %s: %s", name, steps[i].name, e.msg);
}

/* Each call of each step in turn; the steps around it succeed. */
static void each_call_of_each_step(const struct fault *f)
{
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		enum authority_kind kind = (enum authority_kind)(i % KINDS);
		bool struck = true;
		long nth = 0;

		while (struck && nth < 200) {
			struct err e = { 0 };

			nth++;
			for (size_t k = 0; k < ARRAY_LEN(steps); k++)
				if (k == i)
					struck = one_trial(f, &steps[i], kind, nth);
				else if (!steps[k].run(kind, &e))
					fail_msg("%s: %s", steps[k].name, e.msg);
			kind = (enum authority_kind)((kind + 1) % KINDS);
		}
		print_message("%s, %s: %ld calls\n", steps[i].name, f->why, nth - 1);
		assert_true(nth > 1 && !struck);
	}
	/* Nothing is left over: the two that sign, storage.key and log.key aside. */
	no_failure("at the end", AUTHORITY_X509);
	no_failure("at the end", AUTHORITY_JWT);
	assert_int_equal(key_files(), 2);
}

/* ---- memory ---- */

/* Without a restart: what a failure left behind the rows is read again by the next tick. */
static bool without_memory(const struct step *s, enum authority_kind kind, long nth, bool stays)
{
	struct err e = { 0 };
	bool ok, struck;

	alloc_fault_arm(nth, stays);
	ok = s->run(kind, &e);
	struck = alloc_fault_disarm();
	if (!ok && (!struck || e.class == ERR_NONE))
		fail_msg("%s failed by itself: %s", s->name, e.msg);
	d.rig.time.ns += 61000000000LL;
	authorities_tick(all());
	remember();
	it_works(s->name, nth);
	if (ok && !is_done(s, kind))
		fail_msg("%s, %ld: said done, and is not", s->name, nth);
	if (!is_done(s, kind) && !s->run(kind, &e))
		fail_msg("%s, %ld: again: %s", s->name, nth, e.msg);
	it_works(s->name, nth);
	return struck;
}

static void each_allocation_of_each_step_fails_in_turn(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_LEN(steps); i++) {
		const struct step *s = &steps[i / 2];
		bool struck = true;
		long nth = 0;

		while (struck && nth < 2000) {
			enum authority_kind kind = (enum authority_kind)(nth % KINDS);
			struct err e = { 0 };

			nth++;
			for (size_t k = 0; k < ARRAY_LEN(steps); k++)
				if (&steps[k] == s)
					struck = without_memory(s, kind, nth, i % 2);
				else if (!steps[k].run(kind, &e))
					fail_msg("%s: %s", steps[k].name, e.msg);
		}
		print_message("%s, %s: %ld allocations\n", s->name, i % 2 ? "none left" : "one",
			      nth - 1);
		assert_true(nth > 1 && !struck);
	}
}

/* ---- the clock ---- */

static int records(const char *one, const char *two)
{
	int n = 0;

	for (uint64_t seq = 0; seq < rig_size(&d.rig); seq++) {
		const char *leaf = rig_leaf(&d.rig, seq);

		n += strstr(leaf, "\"key.rotate\"") && strstr(leaf, one) && strstr(leaf, two);
	}
	return n;
}

static void at(int64_t start, int64_t ms)
{
	d.rig.time.ms = d.hands->ms = start + ms;
	d.rig.time.ns += 61000000000LL;
	authorities_tick(all());
}

/* 30 days: prepared when 15 are left, activated with 5 (X.509: an SVID may live a day; JWT: an
 * hour), gone when what it signed is over. The signer has its own clock, so the hands go back
 * before anything is signed. */
static void the_clock_rotates(void **state)
{
	int64_t start = d.rig.time.ms;
	struct buf before[KINDS];
	struct err e = { 0 };

	(void)state;
	for (int k = 0; k < KINDS; k++)
		assert_true(sign((enum authority_kind)k, &before[k], &e));
	at(start, 1800000);
	for (int k = 0; k < KINDS; k++) /* the signing and the verifying clock agree */
		assert_int_equal(verifies((enum authority_kind)k, buf_str(&before[k]), &e),
				 k == AUTHORITY_X509);
	at(start, 14 * DAY);
	assert_int_equal(count(AUTHORITY_X509, AUTHORITY_PREPARED), 0);
	at(start, 15 * DAY + 60000);
	for (int k = 0; k < KINDS; k++)
		assert_int_equal(count((enum authority_kind)k, AUTHORITY_PREPARED), 1);
	at(start, 24 * DAY);
	assert_int_equal(count(AUTHORITY_X509, AUTHORITY_OLD), 0);
	for (int k = 0; k < KINDS; k++) {
		buf_clear(&before[k]);
		assert_true(sign((enum authority_kind)k, &before[k], &e));
	}
	at(start, 25 * DAY + 60000);
	for (int k = 0; k < KINDS; k++) {
		buf_clear(&before[k]);
		assert_int_equal(count((enum authority_kind)k, AUTHORITY_OLD), 1);
	}
	it_works("the old one is in the bundle", 0);
	at(start, 25 * DAY + 60000 + 3600000 + 120000);
	assert_int_equal(count(AUTHORITY_JWT, AUTHORITY_OLD), 0);
	assert_int_equal(count(AUTHORITY_X509, AUTHORITY_OLD), 1);
	at(start, 26 * DAY + 200000);
	for (int k = 0; k < KINDS; k++)
		assert_int_equal(count((enum authority_kind)k, AUTHORITY_OLD), 0);
	it_works("the old one is gone", 0);
	assert_int_equal(key_files(), 2);
	assert_int_equal(records("\"act\":\"prepare\"", "\"pep\":\"writ\""), 2);
	assert_int_equal(records("\"act\":\"activate\"", "\"pep\":\"writ\""), 2);
	assert_int_equal(records("\"act\":\"retire\"", "\"pep\":\"writ\""), 2);
	/* An ordinary rotation asks nobody to renew. */
	assert_int_equal(all()->db.reissue, 0);
}

/* What is due and cannot be done is told, and done when it can. */
static void what_is_overdue_is_told_and_made_up_for(void **state)
{
	int64_t start = d.rig.time.ms;
	struct authority_standing *s;

	(void)state;
	call_fails = 1;
	call_count = 0;
	calls_stay = true;
	at(start, 16 * DAY);
	assert_int_equal(count(AUTHORITY_X509, AUTHORITY_PREPARED), 0);
	s = (struct authority_standing *)slot_acquire(&all()->standing);
	assert_int_equal(s->failed.class, ERR_IO);
	shared_release(&s->shared);
	call_fails = 0;
	at(start, 16 * DAY + 30000);
	assert_int_equal(count(AUTHORITY_X509, AUTHORITY_PREPARED), 1);
	assert_int_equal(count(AUTHORITY_JWT, AUTHORITY_PREPARED), 1);
	s = (struct authority_standing *)slot_acquire(&all()->standing);
	assert_int_equal(s->failed.class, ERR_NONE);
	shared_release(&s->shared);
	it_works("made up for", 0);
}

/* How many authorities the bundle of our own domain calls tainted, and that its set is the newest.
 */
static size_t tainted_in_bundle(void)
{
	struct bundle_set *set = (struct bundle_set *)slot_acquire(&d.rig.core.bundles);
	size_t n = bundle_find(set, STR("test.example"))->ntainted;

	assert_int_equal(set->generation, atomic_load(&d.rig.core.bundles.version));
	bundle_set_release(set);
	return n;
}

/* Whoever holds SVIDs sees in the bundle when to renew, after a restart as well. */
static void the_bundle_names_what_is_tainted(void **state)
{
	static const size_t wanted[] = { 0, 0, 0, 1, 0 }; /* prepare, activate, taint, revoke */
	struct err e = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
		assert_int_equal(tainted_in_bundle(), wanted[i]);
		down();
		up();
		assert_int_equal(tainted_in_bundle(), wanted[i]);
		if (i < ARRAY_LEN(steps) && !steps[i].run(AUTHORITY_X509, &e))
			fail_msg("%s: %s", steps[i].name, e.msg);
	}
}

/* Bundles of other domains stand in the set that rotation replaces. */
static void other_domains_stay(void **state)
{
	struct bundle_set *set = bundle_set_new(2, NULL),
			  *old = (struct bundle_set *)slot_acquire(&d.rig.core.bundles);
	struct bundle *b;
	struct err e = { 0 };

	(void)state;
	assert_true(bundle_set_share_others(set, old, STR(""), &e));
	assert_true(bundle_set_add(set, STR("b.example"), 7, 300, &b, &e));
	bundle_set_release(old);
	slot_publish(&d.rig.core.bundles, &set->shared);
	assert_true(prepare(AUTHORITY_JWT, &e));
	set = (struct bundle_set *)slot_acquire(&d.rig.core.bundles);
	assert_non_null(bundle_find(set, STR("b.example")));
	assert_int_equal(bundle_find(set, STR("test.example"))->njwt_keys, 2);
	bundle_set_release(set);
}

#define WITH_DESK(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

static void each_call_of_each_step_fails_in_turn(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		if (i) {
			tear_down(state);
			assert_int_equal(set_up(state), 0);
		}
		each_call_of_each_step(&faults[i]);
	}
}

static int faults_hook(void **state)
{
	int failed = alloc_fault_hook(state); /* before anything else of SQLite */

	vfs_fault_register();
	vfs_fault_default();
	return failed;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DESK(the_clock_rotates),
		WITH_DESK(what_is_overdue_is_told_and_made_up_for),
		WITH_DESK(the_bundle_names_what_is_tainted),
		WITH_DESK(other_domains_stay),
		WITH_DESK(each_call_of_each_step_fails_in_turn),
		WITH_DESK(each_allocation_of_each_step_fails_in_turn),
	};

	return cmocka_run_group_tests(tests, faults_hook, NULL);
}
