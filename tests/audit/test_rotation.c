/* audit/rotation, audit/rotate: who is believed after the log took another key, and what a stop
 * leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <openssl/evp.h>
#include <sqlite3.h>

#include "authz/base/text.h"
#include "tests/audit/export_file.h"
#include "tests/fault/vfs_fault.h"

#define KEYS 4

/* A signer with files, as the service has: keys/log.key and keys/log-next.key. Key i has the seed
 * i, i + 1 ... i + 31. */
static struct {
	int current, next; /* next < 0: none */
	int hand_overs_fail, switches_fail;
	uint64_t switched_at;
} hand;

static EVP_PKEY *private_key(int i)
{
	uint8_t seed[32];

	for (int k = 0; k < 32; k++)
		seed[k] = (uint8_t)(i + k);
	return EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
}

static void public_key(int i, uint8_t out[static 32])
{
	EVP_PKEY *key = private_key(i);
	size_t n = 32;

	assert_int_equal(EVP_PKEY_get_raw_public_key(key, out, &n), 1);
	EVP_PKEY_free(key);
}

static struct note_key note_key_of(int i)
{
	struct note_key k;
	uint8_t raw[32];
	struct err e;

	public_key(i, raw);
	assert_true(note_key_make(STR(ORIGIN), raw, &k, &e));
	return k;
}

static void sign_with(int i, struct str text, uint8_t signature[static 64])
{
	EVP_PKEY *key = private_key(i);
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	size_t n = 64;

	assert_int_equal(EVP_DigestSignInit(c, NULL, NULL, NULL, key), 1);
	assert_int_equal(EVP_DigestSign(c, signature, &n, (const unsigned char *)text.p, text.n),
			 1);
	EVP_MD_CTX_free(c);
	EVP_PKEY_free(key);
}

static bool sign(void *ctx, struct str text, uint8_t signature[static 64], struct err *e)
{
	(void)ctx;
	(void)e;
	sign_with(hand.current, text, signature);
	return true;
}

static struct rotation rotation_by(int by, int to, uint64_t size)
{
	struct rotation r = { .size = size };
	AUTO_BUF text;

	buf_init(&text, mem_system, 1024);
	public_key(to, r.key);
	rotation_text(STR(ORIGIN), size, r.key, &text);
	sign_with(by, buf_str(&text), r.signature);
	return r;
}

static bool hand_over(void *ctx, uint64_t size, uint8_t signature[static 64], struct err *e)
{
	struct rotation r = rotation_by(hand.current, hand.next, size);

	(void)ctx;
	if (hand.hand_overs_fail)
		return err_set(e, ERR_CONFLICT, "the signer does not want to");
	memcpy(signature, r.signature, 64);
	return true;
}

static bool switch_key(void *ctx, uint64_t size, struct err *e)
{
	(void)ctx;
	if (hand.switches_fail)
		return err_set(e, ERR_UNAVAILABLE, "the signer is gone");
	if (size) {
		hand.current = hand.next;
		hand.switched_at = size;
	}
	hand.next = -1;
	return true;
}

/* With the files as they are now. */
static bool open_log(struct fixture *f, struct err *e)
{
	f->config.sign = sign;
	f->config.hand_over = hand_over;
	f->config.switch_key = switch_key;
	public_key(hand.current, f->config.public_key);
	memset(f->config.next_key, 0, 32);
	if (hand.next >= 0)
		public_key(hand.next, f->config.next_key);
	return audit_open(&f->config, &f->audit, e);
}

static void begin(struct fixture *f)
{
	struct err e = { 0 };

	memset(&hand, 0, sizeof(hand));
	hand.next = -1;
	fixture_init(f);
	if (!open_log(f, &e))
		fail_msg("%s", e.msg);
}

static bool rotate_to(struct fixture *f, int key, uint64_t *seq, struct err *e)
{
	uint8_t raw[32];

	hand.next = key;
	public_key(key, raw);
	return audit_rotate(f->audit, raw, STR("tester"), seq, e);
}

static void note_now(struct fixture *f, struct buf *note)
{
	struct err e = { 0 };

	buf_reset(note);
	if (!audit_checkpoint(f->audit, note, &e))
		fail_msg("%s", e.msg);
}

/* --- a log that does it --- */

static void the_record_and_the_line_agree(void **state)
{
	struct rotation_trust trust;
	struct key_history h;
	struct rotations told;
	struct checkpoint c;
	struct note_key k;
	struct fixture f;
	struct note n;
	uint64_t seq = 0;
	AUTO_BUF note;
	struct err e = { 0 };

	(void)state;
	buf_init(&note, mem_system, NOTE_MAX);
	begin(&f);
	fixture_append(&f, 3);
	for (int i = 1; i < KEYS; i++) {
		if (!rotate_to(&f, i, &seq, &e))
			fail_msg("%s", e.msg);
		assert_int_equal(hand.switched_at, seq + 1);
		fixture_append(&f, 2);
	}
	note_now(&f, &note);
	assert_true(note_parse(buf_str(&note), &n, &e) && checkpoint_parse(n.text, &c, &e));
	assert_true(rotations_read(&n, &told, &e));
	assert_int_equal(told.n, KEYS - 1);
	audit_keys(f.audit, &h);
	assert_memory_equal(&h.past.at, &told.at, told.n * sizeof(told.at[0]));
	for (int i = 0; i < KEYS; i++) {
		k = note_key_of(i);
		if (!rotations_verify(&n, &c, &k, 1, &trust, &e))
			fail_msg("key %d: %s", i, e.msg);
		assert_int_equal(trust.given, k.id);
		assert_int_equal(trust.key.id, note_key_of(KEYS - 1).id);
		assert_int_equal(trust.since, i == KEYS - 1 ? 0 : told.at[KEYS - 2].size);
		assert_int_equal(key_history_at(&h, told.at[0].size + (uint64_t)(i > 0)).id,
				 note_key_of(i > 0).id);
	}
	k = note_key_of(KEYS);
	assert_false(rotations_verify(&n, &c, &k, 1, &trust, &e));
	fixture_close(&f);
	fixture_check(&f);
	assert_true(open_log(&f, &e)); /* and every start checks it */
	fixture_clear(&f);
}

/* --- lies --- */

/* A checkpoint over @size records by key @by, with a line. */
static void forge(struct buf *note, int by, uint64_t size, const struct rotations *r)
{
	struct checkpoint c = { .origin = STR(ORIGIN), .size = size, .root = { 7 } };
	struct note_key k = note_key_of(by);
	uint8_t signature[64];

	buf_reset(note);
	checkpoint_format(note, &c);
	sign_with(by, buf_str(note), signature);
	note_sign_line(note, &k, signature);
	rotations_line(r, UINT64_MAX, note);
}

static void each_lie_is_refused(void **state)
{
	static const struct {
		const char *why;
		int given, by; /* key from outside; that signed */
		uint64_t size;
		struct {
			int by, to;
			uint64_t size;
		} line[3];
		bool good;
	} rows[] = {
		{ "no rotation", 0, 0, 9, { { 0 } }, true },
		{ "one", 0, 1, 9, { { 0, 1, 5 } }, true },
		{ "two", 0, 2, 9, { { 0, 1, 5 }, { 1, 2, 6 } }, true },
		{ "the middle one is given", 1, 2, 9, { { 0, 1, 5 }, { 1, 2, 6 } }, true },
		{ "the last one is given", 2, 2, 9, { { 0, 1, 5 }, { 1, 2, 6 } }, true },
		{ "by the old one", 0, 0, 9, { { 0, 1, 5 } }, false },
		{ "by one between", 0, 1, 9, { { 0, 1, 5 }, { 1, 2, 6 } }, false },
		{ "not signed by the old one", 0, 1, 9, { { 1, 1, 5 } }, false },
		{ "the second not by the first", 0, 2, 9, { { 0, 1, 5 }, { 0, 2, 6 } }, false },
		{ "no line", 0, 1, 9, { { 0 } }, false },
		{ "from elsewhere", 3, 1, 9, { { 0, 1, 5 } }, false },
		{ "behind the end", 0, 1, 5, { { 0, 1, 5 } }, false },
		{ "out of order", 0, 2, 9, { { 0, 1, 6 }, { 1, 2, 5 } }, false },
		{ "at once", 0, 2, 9, { { 0, 1, 5 }, { 1, 2, 5 } }, false },
		{ "the first after an unknown one", 1, 1, 9, { { 3, 1, 5 } }, true },
	};
	AUTO_BUF note;

	(void)state;
	buf_init(&note, mem_system, NOTE_MAX);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct note_key k = note_key_of(rows[i].given);
		struct rotations line = { 0 };
		struct rotation_trust trust;
		struct checkpoint c;
		struct err e = { 0 };
		struct note n;

		for (; line.n < 3 && rows[i].line[line.n].size; line.n++)
			line.at[line.n] = rotation_by(rows[i].line[line.n].by,
						      rows[i].line[line.n].to,
						      rows[i].line[line.n].size);
		forge(&note, rows[i].by, rows[i].size, &line);
		assert_true(note_parse(buf_str(&note), &n, &e));
		assert_true(checkpoint_parse(n.text, &c, &e));
		if (rotations_verify(&n, &c, &k, 1, &trust, &e) != rows[i].good)
			fail_msg("%s: %s", rows[i].why, e.msg);
		assert_true(rows[i].good || e.msg[0]);
	}
}

/* What FORMAT.md says, in bytes: the keys of seeds 0 and 1 (each byte one more than the last). */
static void the_vector(void **state)
{
	struct rotations r = { .n = 1, .at = { rotation_by(0, 1, 5) } };
	AUTO_BUF out;

	(void)state;
	buf_init(&out, mem_system, 4096);
	rotation_text(STR(ORIGIN), 5, r.at[0].key, &out);
	assert_true(str_eq(buf_str(&out), STR("writ/key.rotate/v1\nacme.example/writ\n5\n"
					      "ebVWLo/mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmQ=\n")));
	buf_reset(&out);
	rotations_line(&r, 6, &out);
	assert_true(str_eq(
		buf_str(&out),
		STR("\xe2\x80\x94 rotation S5LmdgAAAAAAAAAFebVWLo/mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmRB91qccEVynDDE55YQ+vBp33UY3fabEIWprx9agWrTbZJVbajca4DEfBMgc9tKyHBOra6NX4ZBWZj31H+tIl0N\n")));
	buf_reset(&out);
	rotations_line(&r, 5, &out); /* the last checkpoint of the old key knows nothing of it */
	assert_int_equal(out.n, 0);
}

static void what_a_record_says(void **state)
{
	static const struct {
		const char *why, *members;
		bool is, whole;
	} rows[] = {
		{ "an authority's", "\"seq\":4,\"use\":\"x509\"", false, false },
		{ "no use", "\"seq\":4", false, false },
		{ "nothing else", "\"seq\":4,\"use\":\"log\"", true, false },
		{ "another size",
		  "\"seq\":4,\"signature\":\"S\",\"size\":6,\"use\":\"log\",\"vkey\":\"K\"", true,
		  false },
		{ "whole",
		  "\"seq\":4,\"signature\":\"S\",\"size\":5,\"use\":\"log\",\"vkey\":\"K\"", true,
		  true },
		{ "no vkey",
		  "\"seq\":4,\"signature\":\"S\",\"size\":5,\"use\":\"log\",\"vkey\":\"x\"", true,
		  false },
	};
	static const uint8_t none[32];
	struct rotation want = rotation_by(0, 1, 5), r;
	struct note_key k = note_key_of(1);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		AUTO_BUF text;

		buf_init(&text, mem_system, 4096);
		buf_char(&text, '{');
		for (const char *p = rows[i].members; *p; p++) {
			if (strncmp(p, "\"S\"", 3) == 0 || strncmp(p, "\"K\"", 3) == 0) {
				buf_char(&text, '"');
				if (p[1] == 'S')
					text_base64(&text, BASE64_STD, want.signature, 64);
				else
					note_key_format(&k, &text);
				buf_char(&text, '"');
				p += 2;
			} else {
				buf_char(&text, *p);
			}
		}
		buf_char(&text, '}');
		if (rotation_of_leaf(buf_str(&text), &r) != rows[i].is)
			fail_msg("%s", rows[i].why);
		if (rows[i].is)
			assert_int_equal(r.size, 5);
		if (rows[i].is && (memcmp(r.key, none, 32) != 0) != rows[i].whole)
			fail_msg("%s: its key", rows[i].why);
		if (rows[i].whole)
			assert_memory_equal(&r, &want, sizeof(r));
	}
}

/* --- stops and faults --- */

static void a_signer_that_refuses_changes_nothing(void **state)
{
	struct key_history h;
	struct fixture f;
	uint64_t seq;
	struct err e = { 0 };

	(void)state;
	begin(&f);
	fixture_append(&f, 2);
	hand.hand_overs_fail = 1;
	assert_false(rotate_to(&f, 1, &seq, &e));
	assert_true(e.msg[0]);
	audit_keys(f.audit, &h);
	assert_int_equal(h.past.n, 0);
	assert_int_equal(f.fatal, 0);
	fixture_append(&f, 2); /* the log goes on */
	fixture_close(&f);
	assert_int_equal(fixture_check(&f), 6);
	/* Its file is left, and goes at the next start. */
	assert_true(open_log(&f, &e));
	assert_int_equal(hand.next, -1);
	assert_int_equal(hand.current, 0);
	fixture_clear(&f);
}

static void what_could_not_be_finished_is_finished_by_a_start(void **state)
{
	struct key_history h;
	struct fixture f;
	uint64_t seq;
	struct err e = { 0 };

	(void)state;
	begin(&f);
	fixture_append(&f, 2);
	hand.switches_fail = 1;
	assert_false(rotate_to(&f, 1, &seq, &e));
	assert_string_equal(e.code, "rotation_unfinished");
	fixture_append(&f, 1); /* records are written; they are signed after the restart */
	fixture_close(&f);
	assert_false(open_log(&f, &e));
	hand.switches_fail = 0;
	err_none(&e);
	if (!open_log(&f, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(hand.current, 1);
	assert_int_equal(hand.switched_at, seq + 1);
	audit_keys(f.audit, &h);
	assert_int_equal(h.current.id, note_key_of(1).id);
	fixture_clear(&f);
}

/* The nth write or flush fails while the key changes. False: there are fewer. */
static bool fail_at(unsigned which, int code, long nth)
{
	struct key_history h;
	struct fixture f;
	uint64_t seq, rows;
	bool ok, hit;
	struct err e = { 0 };

	memset(&hand, 0, sizeof(hand));
	hand.next = -1;
	fixture_init(&f);
	f.config.vfs = "fault";
	vfs_fault_arm(0, 0, 0, false);
	assert_true(open_log(&f, &e));
	fixture_append(&f, 2);
	vfs_fault_arm(which, nth, code, false);
	ok = rotate_to(&f, 1, &seq, &e);
	hit = vfs_fault_hits() > 0;
	vfs_fault_arm(0, 0, 0, false);
	if (!ok && strcmp(e.code ? e.code : "", "rotation_unfinished") != 0)
		assert_int_equal(hand.current, 0);
	fixture_close(&f);
	f.config.vfs = NULL;
	fixture_check(&f);
	rows = (uint64_t)fixture_count(&f, "SELECT count(*) FROM rotation");
	assert_int_equal(rows,
			 fixture_count(&f, "SELECT count(*) FROM leaf WHERE CAST(body AS TEXT) "
					   "LIKE '%\"kind\":\"key.rotate\"%'"));
	if (ok)
		assert_int_equal(rows, 1);
	err_none(&e);
	if (!open_log(&f, &e))
		fail_msg("which %u, nth %ld: %s", which, nth, e.msg);
	audit_keys(f.audit, &h);
	assert_int_equal(h.past.n, rows);
	assert_int_equal(hand.current, rows);
	fixture_append(&f, 1);
	if (rows == 0)
		assert_true(rotate_to(&f, 1, &seq, &e)); /* once more */
	fixture_clear(&f);
	return hit;
}

static void each_write_and_flush_of_a_rotation_fails_in_turn(void **state)
{
	static const struct {
		unsigned which;
		int code;
	} faults[] = { { VFS_WRITE, SQLITE_FULL },
		       { VFS_WRITE, SQLITE_IOERR_WRITE },
		       { VFS_SYNC, SQLITE_IOERR_FSYNC } };

	(void)state;
	vfs_fault_register();
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		long nth = 1;

		while (fail_at(faults[i].which, faults[i].code, nth))
			nth++;
		assert_true(nth > 1);
	}
}

static void there_is_a_last_one(void **state)
{
	struct fixture f;
	uint64_t seq;
	AUTO_BUF note;
	struct rotations told;
	struct note n;
	struct err e = { 0 };

	(void)state;
	begin(&f);
	buf_init(&note, mem_system, NOTE_MAX);
	for (int i = 1; i <= ROTATIONS_MAX; i++)
		if (!rotate_to(&f, i, &seq, &e))
			fail_msg("%d: %s", i, e.msg);
	assert_false(rotate_to(&f, ROTATIONS_MAX + 1, &seq, &e));
	assert_string_equal(e.code, "too_many");
	fixture_append(&f, 1);
	note_now(&f, &note);
	assert_true(note_parse(buf_str(&note), &n, &e) && rotations_read(&n, &told, &e));
	assert_int_equal(told.n, ROTATIONS_MAX);
	hand.next = -1;
	fixture_clear(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_vector),
		cmocka_unit_test(what_a_record_says),
		cmocka_unit_test(each_lie_is_refused),
		cmocka_unit_test(the_record_and_the_line_agree),
		cmocka_unit_test(a_signer_that_refuses_changes_nothing),
		cmocka_unit_test(what_could_not_be_finished_is_finished_by_a_start),
		cmocka_unit_test(each_write_and_flush_of_a_rotation_fails_in_turn),
		cmocka_unit_test(there_is_a_last_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
