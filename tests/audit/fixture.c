#include "tests/audit/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <dirent.h>
#include <openssl/evp.h>
#include <sqlite3.h>
#include <unistd.h>

#include "authz/audit/flat.h"
#include "authz/audit/tree.h"
#include "authz/base/text.h"
#include "authz/store/db.h"

void unhex(const char *hex, uint8_t *out, size_t n)
{
	assert_true(text_unhex(str_c(hex), out, n));
}

/* The sheet's 19.4: seed 00 01 .. 1f. */
static EVP_PKEY *test_key(void)
{
	uint8_t seed[32];

	for (int i = 0; i < 32; i++)
		seed[i] = (uint8_t)i;
	return EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
}

bool fixture_sign(void *ctx, struct str text, uint8_t signature[static 64], struct err *e)
{
	struct fixture *f = ctx;
	EVP_PKEY *key = test_key();
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	size_t n = 64;
	bool ok = EVP_DigestSignInit(c, NULL, NULL, NULL, key) == 1 &&
		  EVP_DigestSign(c, signature, &n, (const unsigned char *)text.p, text.n) == 1;

	EVP_MD_CTX_free(c);
	EVP_PKEY_free(key);
	if (f->sign_fails > 0) {
		f->sign_fails--;
		return err_set(e, ERR_UNAVAILABLE, "the signer does not answer");
	}
	return ok;
}

void fixture_key(struct note_key *k)
{
	uint8_t pub[32];
	struct err e;

	unhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8", pub, 32);
	assert_true(note_key_make(STR(ORIGIN), pub, k, &e));
}

static void fatal(void *ctx, const struct err *e)
{
	struct fixture *f = ctx;

	(void)e;
	f->fatal++;
}

/* Folders of fixtures that were not cleared: a test that fails jumps out of its function. */
static char live[8][sizeof(((struct fixture *)0)->folder)];

static void remove_folder(const char *folder) // NOLINT: as deep as what was made
{
	DIR *d = opendir(folder);
	const struct dirent *entry;
	char path[512];

	while (d && (entry = readdir(d))) {
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		if (unlink(path) && strspn(entry->d_name, ".") != strlen(entry->d_name))
			remove_folder(path);
	}
	if (d)
		closedir(d);
	rmdir(folder);
}

static void remove_live(void)
{
	for (size_t i = 0; i < ARRAY_LEN(live); i++)
		if (live[i][0])
			remove_folder(live[i]);
}

static void note_live(const char *folder, bool gone)
{
	static bool hooked;

	for (size_t i = 0; i < ARRAY_LEN(live); i++)
		if (strcmp(live[i], gone ? folder : "") == 0) {
			strcpy(live[i], gone ? "" : folder);
			break;
		}
	if (!hooked)
		hooked = atexit(remove_live) == 0;
}

void fixture_init(struct fixture *f)
{
	struct note_key k;
	struct err e;

	*f = (struct fixture){ 0 };
	strcpy(f->folder, "/tmp/writ-audit-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	note_live(f->folder, false);
	f->hands.ms = INT64_C(1760000000000);
	f->clock = clock_of_fixed(&f->hands);
	f->sha = sha256_new(&e);
	assert_non_null(f->sha);
	fixture_key(&k);
	f->config = (struct audit_config){
		.folder = f->folder,
		.origin = ORIGIN,
		.node = "n1",
		.clock = &f->clock,
		.sign = fixture_sign,
		.fatal = fatal,
		.ctx = f,
	};
	memcpy(f->config.public_key, k.public_key, 32);
}

void fixture_open(struct fixture *f)
{
	struct err e = { 0 };

	if (!audit_open(&f->config, &f->audit, &e))
		fail_msg("audit_open: %s", e.msg);
}

void fixture_close(struct fixture *f)
{
	audit_close(f->audit);
	f->audit = NULL;
}

void fixture_clear(struct fixture *f)
{
	fixture_close(f);
	sha256_free(f->sha);
	remove_folder(f->folder);
	note_live(f->folder, true);
}

void fixture_draft(struct fixture *f, int i, struct record *r, struct buf *text)
{
	static const char *const agents[] = { "spiffe://acme.example/agent/billing-7",
					      "spiffe://acme.example/agent/research-2" };

	record_begin(r, text);
	record_str(r, STR("action"), STR("tools/call"));
	record_str(r, STR("agent"), str_c(agents[i % 2]));
	record_commit(r, OPENING_ANSWER, STR("{\"message\":\"no rule permits it\"}"), f->sha);
	record_int(r, STR("cost_us"), 17);
	record_str(r, STR("decision"), i % 3 ? STR("permit") : STR("deny"));
	record_commit(r, OPENING_FACTS, STR("{\"now\":1760000000000}"), f->sha);
	record_int(r, STR("generation"), 12);
	record_commit(r, OPENING_INPUT, STR("{\"path\":\"/srv/\\u00e4/1.csv\"}"), f->sha);
	record_str(r, STR("kind"), STR("authz.decision"));
	record_str(r, STR("reason"), STR("permitted"));
	record_str(r, STR("tool"), STR("files/read"));
	record_str(r, STR("trace_id"), STR("4bf92f3577b34da6a3ce929d0e0e4736"));
	assert_true(record_ok(r));
}

void fixture_append(struct fixture *f, int n)
{
	AUTO_BUF text;

	buf_init(&text, mem_system, 65536);
	for (int i = 0; i < n; i++) {
		struct audit_job job = { 0 };
		struct err e = { 0 };

		buf_reset(&text);
		fixture_draft(f, i, &job.record, &text);
		f->hands.ms++;
		if (!audit_append(f->audit, &job, &e))
			fail_msg("audit_append: %s", e.msg);
	}
}

static sqlite3 *raw(const struct fixture *f)
{
	char path[128];
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s/log.db", f->folder);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	return db;
}

int64_t fixture_count(const struct fixture *f, const char *sql)
{
	sqlite3 *db = raw(f);
	sqlite3_stmt *s;
	int64_t n;

	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(s), SQLITE_ROW);
	n = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	sqlite3_close(db);
	return n;
}

void fixture_sql(const struct fixture *f, const char *sql)
{
	sqlite3 *db = raw(f);
	char *why = NULL;

	if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
		fail_msg("%s: %s", sql, why);
	sqlite3_close(db);
}

uint64_t fixture_check(struct fixture *f)
{
	const struct db_options o = { .busy_ms = 1000 };
	char path[128];
	struct db *db;
	struct db_stmt *s;
	struct tree_range range = { 0 };
	uint8_t prev[32] = { 0 }, saved[TREE_LEVELS * 32];
	int64_t last_ms = 0;
	char hex[64];
	bool row;
	struct err e;

	snprintf(path, sizeof(path), "%s/log.db", f->folder);
	assert_true(db_open(path, &o, &db, &e));
	assert_true(db_prepare(db, "SELECT body FROM leaf ORDER BY seq", &s, &e));
	while (db_step(s, &row, &e) && row) {
		struct leaf leaf;

		assert_true(leaf_scan(db_column_blob(s, 0), &leaf));
		assert_int_equal(leaf.seq, range.n);
		text_hex(prev, 32, hex);
		assert_memory_equal(leaf.prev.p, hex, 64);
		assert_true(leaf.time_ms >= last_ms);
		last_ms = leaf.time_ms;
		tree_leaf_hash(f->sha, db_column_blob(s, 0), prev);
		tree_append(&range, f->sha, prev);
	}
	db_finish(s);
	assert_true(db_prepare(db, "SELECT size, range FROM tree", &s, &e));
	assert_true(db_step(s, &row, &e) && row);
	assert_int_equal(db_column_int(s, 0), range.n);
	assert_true(str_eq(db_column_blob(s, 1),
			   (struct str){ (char *)saved, tree_range_save(&range, saved) }));
	db_finish(s);
	db_close(db);
	return range.n;
}
