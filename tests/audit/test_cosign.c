/* add-checkpoint and cosignatures against the sheet's 6 and 19.5; the log's side against witnesses
 * that are right, that lag, that lie and that are down. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <openssl/evp.h>
#include <stdio.h>

#include "authz/audit/cosigned.h"
#include "authz/audit/cosigner.h"
#include "authz/audit/timestamp.h"
#include "authz/base/text.h"
#include "tests/audit/fixture.h"

#define DASH "\xe2\x80\x94"
#define WITNESS "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X"
#define SEED "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
#define CP_TEXT "writ.example/audit\n8\nXcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=\n"
#define CP                                                                                   \
	CP_TEXT "\n" DASH " writ.example/audit 9604BOr2i10PqJeBhxKJKWl2B0YRQ5ecJUNvvVesmDD/" \
		"RPcagPSimiKQi4j3Fuh7VxhoD4RRDHGvKNvsvJ3pMcR64gE=\n"
#define CP_COSIG                                                          \
	DASH " witness.example/w1 "                                       \
	     "IDJKvgAAAABlU/EA+7wsEYTc5xrXKrSM94s2WHA9sJ4uCwvLGpwFXMkiF/" \
	     "LxfSbnaQbOgmBtfRSEckmE8OLnYYySL2rzjdQsreAFBQ==\n"
#define BODY                                             \
	"old 6\n"                                        \
	"DrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VY72o=\n" \
	"yoVOoSjtBQtBs1/8G4e46yveRh6eO1WW7Oa51ZdaCuA=\n" \
	"037kGJdt2VdTwcc4Yrk5j6Kiz5tP8P3+izDNlSCWFLc=\n\n" CP
#define ROOT6 "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"

static struct note_key witness_key(void)
{
	struct note_key k;
	struct err e;

	assert_true(note_key_parse_as(STR(WITNESS), NOTE_COSIGNATURE, &k, &e));
	return k;
}

static void sign_as_witness(struct str text, uint64_t at, uint8_t out[static 64])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t seed[32];
	EVP_PKEY *key;
	size_t n = 64;
	AUTO_BUF message;

	unhex(SEED, seed, 32);
	key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
	buf_init(&message, mem_system, NOTE_MAX);
	cosign_message(&message, at, text);
	assert_int_equal(EVP_DigestSignInit(ctx, NULL, NULL, NULL, key), 1);
	assert_int_equal(EVP_DigestSign(ctx, out, &n, (const uint8_t *)message.p, message.n), 1);
	EVP_PKEY_free(key);
	EVP_MD_CTX_free(ctx);
}

/* ---- bytes ---- */

static void the_sheets_body_is_read_and_written(void **state)
{
	struct cosign_request r;
	struct checkpoint c;
	struct cosign_held held = { .found = true, .size = 6 };
	struct note note;
	struct sha256 *sha;
	AUTO_BUF out;
	struct err e;

	(void)state;
	buf_init(&out, mem_system, COSIGN_REQUEST_MAX);
	assert_true(cosign_request_parse(STR(BODY), &r, &e));
	assert_int_equal(r.old, 6);
	assert_int_equal(r.proof.n, 3);
	cosign_request_format(&r, &out);
	assert_true(str_eq(buf_str(&out), STR(BODY)));
	sha = sha256_new(&e);
	unhex(ROOT6, held.root, 32);
	assert_true(note_parse(r.note, &note, &e) && checkpoint_parse(note.text, &c, &e));
	assert_int_equal(cosign_judge(sha, &held, &r, &c), COSIGN_FOLLOWS);
	sha256_free(sha);
}

static void the_sheets_cosignature_is_made(void **state)
{
	struct note_key k = witness_key();
	uint8_t signature[64];
	AUTO_BUF out;

	(void)state;
	buf_init(&out, mem_system, 4096);
	sign_as_witness(STR(CP_TEXT), 1700000000, signature);
	cosign_line(&out, &k, 1700000000, signature);
	assert_true(str_eq(buf_str(&out), STR(CP_COSIG)));
}

static void bodies_that_are_refused(void **state)
{
	static const struct {
		const char *why, *body;
	} cases[] = {
		{ "empty", "" },
		{ "no old", "6\n\n" CP },
		{ "no size", "old\n\n" CP },
		{ "sign", "old -1\n\n" CP },
		{ "plus", "old +1\n\n" CP },
		{ "leading zero", "old 06\n\n" CP },
		{ "two spaces", "old  6\n\n" CP },
		{ "space behind", "old 6 \n\n" CP },
		{ "CR", "old 6\r\n\n" CP },
		{ "too large", "old 9223372036854775808\n\n" CP },
		{ "no empty line", "old 6\nDrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VY72o=" },
		{ "no padding", "old 6\nDrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VY72o\n\n" CP },
		{ "url alphabet", "old 6\nDrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VY7_o=\n\n" CP },
		{ "31 bytes", "old 6\nDrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VYcQ==\n\n" CP },
		{ "space in a hash",
		  "old 6\n DrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VY72o=\n\n" CP },
	};
	struct cosign_request r;
	AUTO_BUF long_one;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err e = { 0 };

		if (cosign_request_parse(str_c(cases[i].body), &r, &e) ||
		    strcmp(e.code, "malformed_checkpoint") != 0)
			fail_msg("%s: accepted, or %s", cases[i].why, e.msg);
	}
	buf_init(&long_one, mem_system, COSIGN_REQUEST_MAX);
	buf_lit(&long_one, "old 6\n");
	for (int i = 0; i < 64; i++)
		buf_lit(&long_one, "DrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VY72o=\n");
	buf_lit(&long_one, "\n" CP);
	assert_false(cosign_request_parse(buf_str(&long_one), &r, NULL));
}

static void answers_are_checked(void **state)
{
	static const struct {
		const char *why, *lines;
		bool ok;
	} cases[] = {
		{ "the sheet's", CP_COSIG, true },
		{ "with a stranger's", DASH " x.example/w AAAAAAA=\n" CP_COSIG, true },
		{ "twice", CP_COSIG CP_COSIG, true },
		{ "empty", "", false },
		{ "no newline", DASH " witness.example/w1 IDJKvgAA", false },
		{ "a stranger's alone", DASH " x.example/w AAAAAAA=\n", false },
		{ "not a line", "thank you\n", false },
		{ "a note before", "x\n\n" CP_COSIG, false },
		{ "of another checkpoint",
		  DASH " witness.example/w1 "
		       "IDJKvgAAAABlU/EB+7wsEYTc5xrXKrSM94s2WHA9sJ4uCwvLGpwFXMkiF/"
		       "LxfSbnaQbOgmBtfRSEckmE8OLnYYySL2rzjdQsreAFBQ==\n",
		  false },
	};
	struct note_key k = witness_key();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t at = 0;
		AUTO_BUF out;
		struct err e = { 0 };
		bool ok;

		buf_init(&out, mem_system, NOTE_MAX);
		ok = cosign_answer(STR(CP), str_c(cases[i].lines), &k, &out, &at, &e);
		if (ok != cases[i].ok ||
		    (ok && (at != 1700000000 || !str_eq(buf_str(&out), STR(CP CP_COSIG)))))
			fail_msg("%s: %d, %s", cases[i].why, (int)ok, e.msg);
	}
}

static void judgements(void **state)
{
	static const uint8_t root[32] = { 9 };
	static const struct {
		const char *why;
		struct cosign_held held;
		uint64_t old, size;
		int other_root;
		size_t hashes;
		enum cosign_verdict want;
	} cases[] = {
		{ "the first", { 0 }, 0, 5, 0, 0, COSIGN_FOLLOWS },
		{ "the first, with a proof", { 0 }, 0, 5, 0, 1, COSIGN_NO_PROOF },
		{ "empty, another root", { 0 }, 0, 0, 0, 0, COSIGN_FORK },
		{ "old ahead", { 0 }, 6, 5, 0, 0, COSIGN_OLD_AHEAD },
		{ "other old", { 0 }, 3, 5, 0, 0, COSIGN_OTHER_OLD },
		{ "the same", { true, 5, { 9 } }, 5, 5, 0, 0, COSIGN_FOLLOWS },
		{ "the same, with a proof", { true, 5, { 9 } }, 5, 5, 0, 1, COSIGN_NO_PROOF },
		{ "fork", { true, 5, { 9 } }, 5, 5, 1, 0, COSIGN_FORK },
		{ "fork with a wrong old", { true, 5, { 9 } }, 2, 5, 1, 0, COSIGN_FORK },
		{ "smaller", { true, 5, { 9 } }, 3, 4, 0, 1, COSIGN_OTHER_OLD },
		{ "smaller, old right", { true, 5, { 9 } }, 5, 4, 0, 0, COSIGN_OLD_AHEAD },
		{ "from nothing again", { true, 5, { 9 } }, 0, 6, 0, 0, COSIGN_OTHER_OLD },
		{ "no proof", { true, 5, { 9 } }, 5, 8, 0, 0, COSIGN_NO_PROOF },
		{ "wrong proof", { true, 5, { 9 } }, 5, 8, 0, 4, COSIGN_NO_PROOF },
		{ "empty held", { true, 0, { 9 } }, 0, 4, 0, 0, COSIGN_FOLLOWS },
	};
	struct sha256 *sha = sha256_new(NULL);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct cosign_request r = { .old = cases[i].old };
		struct checkpoint c = { .size = cases[i].size };
		enum cosign_verdict got;

		memcpy(c.root, root, 32);
		c.root[31] = (uint8_t)cases[i].other_root;
		r.proof.n = cases[i].hashes;
		got = cosign_judge(sha, &cases[i].held, &r, &c);
		if (got != cases[i].want)
			fail_msg("%s: %s, expected %s", cases[i].why, cosign_verdict_name(got),
				 cosign_verdict_name(cases[i].want));
	}
	sha256_free(sha);
}

/* A time stamp in a note: private type, found by name and id; other readers pass over it. */
static void a_time_stamp_is_a_line_of_its_own(void **state)
{
	struct str parts[] = { STR(TIMESTAMP_NAME "\n\xff"
						  "rfc3161") };
	struct sha256 *sha = sha256_new(NULL);
	struct note_key k;
	struct note n;
	uint8_t hash[SHA256_LEN];
	AUTO_BUF note;
	AUTO_BUF token;
	struct err e;

	(void)state;
	sha256_parts(sha, parts, 1, hash);
	sha256_free(sha);
	assert_int_equal((uint32_t)hash[0] << 24 | hash[1] << 16 | hash[2] << 8 | hash[3],
			 TIMESTAMP_ID);
	buf_init(&note, mem_system, NOTE_MAX);
	buf_init(&token, mem_system, 4 * TIMESTAMP_MAX);
	buf_lit(&note, CP);
	assert_true(note_parse(buf_str(&note), &n, &e));
	assert_false(timestamp_find(&n, &token));
	timestamp_line(STR("a token"), &note);
	assert_true(note_parse(buf_str(&note), &n, &e));
	assert_true(timestamp_find(&n, &token));
	assert_true(str_eq(buf_str(&token), STR("a token")));
	assert_true(note_key_parse(
		STR("writ.example/audit+f7ad3804+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"), &k,
		&e));
	assert_true(note_verify(&n, &k, 1, &e));
	/* The longest one fits. */
	buf_reset(&note);
	buf_reset(&token);
	buf_lit(&note, CP);
	assert_non_null(buf_room(&token, TIMESTAMP_MAX));
	memset(token.p, 7, TIMESTAMP_MAX);
	token.n = TIMESTAMP_MAX;
	timestamp_line(buf_str(&token), &note);
	assert_true(note_parse(buf_str(&note), &n, &e));
}

/* ---- the log's side ---- */

/* A witness in this process. */
static struct {
	enum { GOOD, DOWN, LIES, FORBIDS, NO_SIZE, AHEAD, MOVES } how;
	struct cosign_held held;
	int asked, told;
	uint64_t at;
} w;

static void say(struct fetch_reply *out, int status, const char *type)
{
	out->status = status;
	snprintf(out->type, sizeof(out->type), "%s", type);
}

static void answer(struct str body, struct fetch_reply *out)
{
	struct note_key k = witness_key();
	struct sha256 *sha = sha256_new(NULL);
	struct cosign_request r;
	struct checkpoint c;
	struct note note;
	uint8_t signature[64];
	enum cosign_verdict v;
	struct err e;

	assert_true(cosign_request_parse(body, &r, &e));
	assert_true(note_parse(r.note, &note, &e) && checkpoint_parse(note.text, &c, &e));
	v = cosign_judge(sha, &w.held, &r, &c);
	sha256_free(sha);
	if (v == COSIGN_OTHER_OLD) {
		say(out, 409, COSIGN_SIZE_TYPE);
		buf_printf(&out->body, "%llu\n", (unsigned long long)w.held.size);
		return;
	}
	say(out, cosign_verdict_status(v), "text/plain");
	if (v != COSIGN_FOLLOWS)
		return;
	w.held = (struct cosign_held){ .found = true, .size = c.size };
	memcpy(w.held.root, c.root, 32);
	sign_as_witness(note.text, w.at, signature);
	if (w.how == LIES)
		signature[0] ^= 1;
	cosign_line(&out->body, &k, w.at, signature);
}

static bool post(void *ctx, const char *url, struct str body, const atomic_bool *stop,
		 struct fetch_reply *out, struct err *e)
{
	(void)ctx;
	(void)stop;
	assert_string_equal(url, "https://w.example/one/add-checkpoint");
	w.asked++;
	if (w.how == DOWN)
		return err_code(e, ERR_UNAVAILABLE, "no_connection", "w.example: down");
	buf_init(&out->body, mem_system, 4096);
	if (w.how == FORBIDS)
		say(out, 403, "text/plain");
	else if (w.how == NO_SIZE)
		say(out, 409, "text/plain");
	else if (w.how == AHEAD || w.how == MOVES) {
		say(out, 409, COSIGN_SIZE_TYPE);
		buf_printf(&out->body, "%d\n", w.how == AHEAD ? 1000 : w.asked % 2 + 1);
	} else
		answer(body, out);
	return true;
}

static void tell(void *ctx, const struct cosigner_report *r)
{
	(void)ctx;
	(void)r;
	w.told++;
}

struct rig {
	struct fixture f;
	struct cosigner_witness witness;
	struct cosigner *c;
};

static void rig_open(struct rig *r)
{
	struct cosigner_config config = { .folder = r->f.folder,
					  .audit = r->f.audit,
					  .witnesses = &r->witness,
					  .n = 1,
					  .interval_ms = 1000,
					  .clock = &r->f.clock,
					  .post = post,
					  .tell = tell };
	struct err e;

	if (!cosigner_open(&config, &r->c, &e))
		fail_msg("%s", e.msg);
}

static void rig_init(struct rig *r)
{
	memset(&w, 0, sizeof(w));
	w.at = 1700000000;
	fixture_init(&r->f);
	fixture_open(&r->f);
	r->witness = (struct cosigner_witness){ .name = "one", .url = "https://w.example/one" };
	r->witness.key = witness_key();
	rig_open(r);
}

static void rig_clear(struct rig *r)
{
	cosigner_close(r->c);
	fixture_clear(&r->f);
}

static uint64_t grow(struct rig *r, int n)
{
	struct audit_status s;
	AUTO_BUF note;
	struct err e;

	buf_init(&note, mem_system, NOTE_MAX);
	fixture_append(&r->f, n);
	assert_true(audit_checkpoint(r->f.audit, &note, &e));
	audit_status(r->f.audit, &s);
	return s.checkpoint_size;
}

/* A round after @ms; what the standing says then. */
static struct cosigner_report after(struct rig *r, int64_t ms)
{
	struct cosigner_standing *s;
	struct cosigner_report report;

	r->f.hands.ns += ms * 1000000;
	r->f.hands.ms += ms;
	(void)cosigner_step(r->c);
	s = cosigner_standing(r->c);
	report = s->items[0];
	shared_release(&s->shared);
	return report;
}

static uint64_t kept(struct rig *r)
{
	struct note_key k = witness_key();
	struct note n;
	uint64_t size = 0, at;
	AUTO_BUF note;
	struct err e;

	buf_init(&note, mem_system, NOTE_MAX);
	if (!cosigned_read(r->f.folder, &note, &size, &e))
		return 0;
	assert_true(note_parse(buf_str(&note), &n, &e));
	assert_int_equal(note_cosigned(&n, &k, &at), COSIGNED);
	return size;
}

static void what_is_cosigned_is_kept(void **state)
{
	struct rig r;
	uint64_t size;

	(void)state;
	rig_init(&r);
	size = grow(&r, 5);
	assert_int_equal(after(&r, 0).size, size);
	assert_int_equal(kept(&r), size);
	assert_int_equal(w.asked, 1);
	/* Nothing new: nothing is asked; something new, but too soon: neither. */
	(void)after(&r, 5000);
	assert_int_equal(w.asked, 1);
	size = grow(&r, 3);
	assert_int_equal(after(&r, 0).size, size);
	assert_int_equal(w.asked, 2);
	size = grow(&r, 1);
	(void)after(&r, 999);
	assert_int_equal(w.asked, 2);
	assert_int_equal(after(&r, 1).size, size);
	assert_int_equal(kept(&r), size);
	/* After a start it goes on from the file. */
	cosigner_close(r.c);
	rig_open(&r);
	size = grow(&r, 1);
	assert_int_equal(after(&r, 0).size, size);
	assert_int_equal(w.asked, 4);
	assert_int_equal(w.told, 0);
	rig_clear(&r);
}

static void the_size_is_learned_from_a_409(void **state)
{
	struct rig r;
	char path[128];
	uint64_t size;

	(void)state;
	rig_init(&r);
	grow(&r, 5);
	(void)after(&r, 0);
	snprintf(path, sizeof(path), "%s/" COSIGNED_FILE, r.f.folder);
	assert_int_equal(remove(path), 0);
	cosigner_close(r.c);
	rig_open(&r);
	size = grow(&r, 5);
	w.asked = 0;
	assert_int_equal(after(&r, 0).size, size);
	assert_int_equal(w.asked, 2);
	rig_clear(&r);
}

static void one_that_fails_is_tried_again_less_and_less(void **state)
{
	struct cosigner_report report;
	struct rig r;
	uint64_t size;

	(void)state;
	rig_init(&r);
	grow(&r, 2);
	w.how = DOWN;
	report = after(&r, 0);
	assert_string_equal(report.code, "no_connection");
	assert_int_equal(report.failures, 1);
	assert_int_equal(after(&r, 999).failures, 1);
	assert_int_equal(after(&r, 1).failures, 2);
	assert_int_equal(after(&r, 1999).failures, 2);
	assert_int_equal(after(&r, 1).failures, 3);
	for (unsigned i = 4; i < 30; i++)
		assert_int_equal(after(&r, COSIGNER_DELAY_MAX_MS).failures, i);
	assert_int_equal(w.told, 1);
	assert_int_equal(
		fixture_count(
			&r.f,
			"SELECT count(*) FROM leaf WHERE instr(body, CAST('log.witness' AS BLOB))"),
		1);
	w.how = GOOD;
	size = grow(&r, 1);
	report = after(&r, COSIGNER_DELAY_MAX_MS);
	assert_int_equal(report.size, size);
	assert_int_equal(report.failures, 0);
	assert_int_equal(w.told, 2);
	rig_clear(&r);
}

static void witnesses_that_lie(void **state)
{
	static const struct {
		int how;
		const char *code;
	} cases[] = {
		{ LIES, "bad_cosignature" },	{ FORBIDS, "witness_forbids" },
		{ NO_SIZE, "bad_cosignature" }, { AHEAD, "witness_ahead" },
		{ MOVES, "bad_cosignature" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct cosigner_report report;
		struct rig r;

		rig_init(&r);
		grow(&r, 5);
		w.how = cases[i].how;
		report = after(&r, 0);
		if (strcmp(report.code, cases[i].code) != 0 || report.size || kept(&r))
			fail_msg("%s: %s: %s", cases[i].code, report.code, report.failed);
		assert_true(w.asked <= 3);
		rig_clear(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_sheets_body_is_read_and_written),
		cmocka_unit_test(the_sheets_cosignature_is_made),
		cmocka_unit_test(bodies_that_are_refused),
		cmocka_unit_test(answers_are_checked),
		cmocka_unit_test(judgements),
		cmocka_unit_test(a_time_stamp_is_a_line_of_its_own),
		cmocka_unit_test(what_is_cosigned_is_kept),
		cmocka_unit_test(the_size_is_learned_from_a_409),
		cmocka_unit_test(one_that_fails_is_tried_again_less_and_less),
		cmocka_unit_test(witnesses_that_lie),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
