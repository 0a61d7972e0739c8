/* Other ways to verify: on several cores, a folder of tiles, one record, witnesses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>
#include <unistd.h>

#include "authz/audit/export.h"
#include "authz/audit/proof.h"
#include "authz/audit/verify.h"
#include "authz/audit/witness.h"
#include "tests/audit/fixture.h"

#define RECORDS 4000 /* some megabytes with their openings */

static struct fixture log_of_all;
static char vkey[200];
static struct buf whole, early; /* the export; a checkpoint over half of it */

/* --- several cores --- */

static void verify_text(struct str text, unsigned threads, struct verify_report *r)
{
	struct verify_options o = { .vkey = str_c(vkey),
				    .checkpoint = buf_str(&early),
				    .threads = threads };
	FILE *f = tmpfile();
	struct err e = { 0 };

	assert_non_null(f);
	assert_int_equal(fwrite(text.p, 1, text.n, f), text.n);
	rewind(f);
	if (!verify_fd(fileno(f), &o, r, &e))
		fail_msg("%s", e.msg);
	fclose(f);
}

static void same(const struct verify_report *a, const struct verify_report *b)
{
	assert_int_equal(a->result, b->result);
	assert_int_equal(a->fault, b->fault);
	assert_int_equal(a->has_bad, b->has_bad);
	assert_int_equal(a->bad_seq, b->bad_seq);
	assert_int_equal(a->bad_end, b->bad_end);
	assert_int_equal(a->integrity, b->integrity);
	assert_int_equal(a->completeness, b->completeness);
	assert_int_equal(a->authenticity, b->authenticity);
	assert_int_equal(a->anchoring, b->anchoring);
	assert_int_equal(a->redaction, b->redaction);
	assert_int_equal(a->openings, b->openings);
	assert_int_equal(a->redacted, b->redacted);
	assert_int_equal(a->withheld, b->withheld);
	assert_string_equal(a->why.msg, b->why.msg);
}

static void cores_agree(void **state)
{
	struct verify_report one, many;

	(void)state;
	assert_true(whole.n > 2 << 20);
	verify_text(buf_str(&whole), 1, &one);
	assert_int_equal(one.result, VERIFY_HOLDS);
	assert_int_equal(one.anchoring, VERDICT_YES);
	assert_int_equal(one.count, RECORDS);
	for (unsigned threads = 2; threads < 9; threads++) {
		verify_text(buf_str(&whole), threads, &many);
		same(&one, &many);
		assert_memory_equal(one.root, many.root, 32);
	}
}

static void cores_agree_on_damage(void **state)
{
	struct verify_report one, many;
	AUTO_BUF bad;

	(void)state;
	buf_init(&bad, mem_system, 2 * whole.n);
	for (size_t at = 7; at < whole.n; at += whole.n / 37) {
		buf_reset(&bad);
		buf_add(&bad, buf_str(&whole));
		bad.p[at] ^= 4;
		verify_text(buf_str(&bad), 1, &one);
		verify_text(buf_str(&bad), 3, &many);
		assert_int_not_equal(one.result, VERIFY_HOLDS);
		same(&one, &many);
	}
	for (size_t n = whole.n / 5; n < whole.n; n += whole.n / 5) { /* cut off */
		verify_text(str_first(buf_str(&whole), n), 1, &one);
		verify_text(str_first(buf_str(&whole), n), 4, &many);
		assert_int_equal(one.result, VERIFY_BROKEN);
		same(&one, &many);
	}
}

/* --- one record --- */

static void a_proof_is_of_its_record(void **state)
{
	struct proof_ask ask = { .kind = PROOF_INCLUSION, .a = 5, .record = true };
	struct verify_options o = { .vkey = str_c(vkey) };
	struct proof_file file = { .index = 5 };
	struct log_proof p;
	struct verify_report r;
	struct err e = { 0 };
	AUTO_BUF text;

	(void)state;
	buf_init(&text, mem_system, PROOF_FILE_MAX);
	assert_true(proof_make(log_of_all.folder, NULL, &ask, &p, &e));
	file.path = p.hashes;
	file.note = buf_str(&p.note);
	proof_file_format(&file, &text);
	assert_true(verify_proof(buf_str(&text), buf_str(&p.record), &o, &r, &e));
	assert_int_equal(r.result, VERIFY_HOLDS);
	assert_int_equal(r.completeness, VERDICT_UNKNOWN);
	assert_int_equal(r.redacted, 3);
	/* No record anywhere; another record; another number; another key. */
	assert_true(verify_proof(buf_str(&text), (struct str){ 0 }, &o, &r, &e));
	assert_int_equal(r.result, VERIFY_UNREADABLE);
	assert_true(verify_proof(buf_str(&text), STR("{}"), &o, &r, &e));
	assert_int_equal(r.fault, FAULT_EDIT);
	assert_int_equal(r.bad_seq, 5);
	file.index = 4;
	buf_reset(&text);
	proof_file_format(&file, &text);
	assert_true(verify_proof(buf_str(&text), buf_str(&p.record), &o, &r, &e));
	assert_int_equal(r.fault, FAULT_EDIT);
	file.index = RECORDS;
	buf_reset(&text);
	proof_file_format(&file, &text);
	assert_true(verify_proof(buf_str(&text), buf_str(&p.record), &o, &r, &e));
	assert_int_equal(r.fault, FAULT_COUNT);
	o.vkey = STR("writ.example/audit+f7ad3804+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4");
	assert_true(verify_proof(buf_str(&text), buf_str(&p.record), &o, &r, &e));
	assert_int_equal(r.fault, FAULT_SIGNATURE);
	o.vkey = STR("nonsense");
	assert_false(verify_proof(buf_str(&text), buf_str(&p.record), &o, &r, &e));
	assert_false(verify_tiles(log_of_all.folder, &o, &r, &e));
	proof_clear(&p);
}

/* --- witnesses: the sheet's 19.4 and 19.5 --- */

#define LOG "log writ.example/audit+f7ad3804+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4\n"
#define W1 "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X"
#define COSIGNED                                                                       \
	"writ.example/audit\n8\nXcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=\n\n"      \
	"\xe2\x80\x94 writ.example/audit 9604BOr2i10PqJeBhxKJKWl2B0YRQ5ecJUNvvVesmDD/" \
	"RPcagPSimiKQi4j3Fuh7VxhoD4RRDHGvKNvsvJ3pMcR64gE=\n"
#define BY_W1                                                                                      \
	"\xe2\x80\x94 witness.example/w1 IDJKvgAAAABlU/EA+7wsEYTc5xrXKrSM94s2WHA9sJ4uCwvLGpwFXMki" \
	"F/LxfSbnaQbOgmBtfRSEckmE8OLnYYySL2rzjdQsreAFBQ==\n"
/* The same with one bit of the time changed. */
#define BADLY_BY_W1                                                                                \
	"\xe2\x80\x94 witness.example/w1 IDJKvgAAAABlU/EB+7wsEYTc5xrXKrSM94s2WHA9sJ4uCwvLGpwFXMki" \
	"F/LxfSbnaQbOgmBtfRSEckmE8OLnYYySL2rzjdQsreAFBQ==\n"

static const struct {
	const char *why, *policy, *note;
	bool met;
	const char *code; /* of a refusal */
} quorums[] = {
	{ "one witness", LOG "witness w1 " W1 "\nquorum w1\n", COSIGNED BY_W1, true, NULL },
	{ "spaces, tabs, comments",
	  "# c\n\n \t" LOG "witness\tw1  " W1 " https://w1.example/\n # x\nquorum w1",
	  COSIGNED BY_W1, true, NULL },
	{ "none wanted", LOG "quorum none\n", COSIGNED, true, NULL },
	{ "a group of any", LOG "witness w1 " W1 "\ngroup g any w1\nquorum g\n", COSIGNED BY_W1,
	  true, NULL },
	{ "a group of a group", LOG "witness w1 " W1 "\ngroup g 1 w1\ngroup h all g\nquorum h\n",
	  COSIGNED BY_W1, true, NULL },
	{ "nobody signed", LOG "witness w1 " W1 "\nquorum w1\n", COSIGNED, false, "quorum_missed" },
	{ "signed badly", LOG "witness w1 " W1 "\nquorum w1\n", COSIGNED BADLY_BY_W1, false,
	  "invalid_request" },
	{ "bad though none is wanted", LOG "witness w1 " W1 "\nquorum none\n", COSIGNED BADLY_BY_W1,
	  false, "invalid_request" },
};

static const char *const no_policies[] = {
	"",
	LOG,
	"quorum w1\n",
	LOG "quorum none\nquorum none\n",
	"log nonsense\nquorum none\n",
	"log " W1 "\nquorum none\n", /* a witness's key */
	"witness w1 writ.example/audit+f7ad3804+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4\n"
	"quorum none\n", /* a log's key */
	"witness none " W1 "\nquorum none\n",
	"witness w1 " W1 "\nwitness w1 " W1 "\nquorum w1\n",
	"witness w1 " W1 "\ngroup g any\nquorum g\n",
	"witness w1 " W1 "\ngroup g 0 w1\nquorum g\n",
	"witness w1 " W1 "\ngroup g 2 w1\nquorum g\n",
	"witness w1 " W1 "\ngroup g 01 w1\nquorum g\n",
	"witness w1 " W1 "\ngroup g any w1 w1\nquorum g\n",
	"witness w1 " W1 "\ngroup g any g\nquorum g\n",
	"witness w1 " W1 "\ngroup g any h\ngroup h any w1\nquorum g\n",
	"witness w1 " W1 "\ngroup g any w1\ngroup h any w1\nquorum g\n",
	"witness w1 " W1 "\nquorum w2\n",
	"what is this\nquorum none\n",
};

static void quorums_are_met_or_not(void **state)
{
	struct witness_policy p;
	struct note n;
	uint64_t at;
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(quorums); i++) {
		e = (struct err){ 0 };
		if (!witness_policy_parse(str_c(quorums[i].policy), &p, &e))
			fail_msg("%s: %s", quorums[i].why, e.msg);
		assert_true(note_parse(str_c(quorums[i].note), &n, &e));
		if (witness_policy_met(&p, &n, &at, &e) != quorums[i].met)
			fail_msg("%s: %s", quorums[i].why, e.msg);
		if (quorums[i].met)
			assert_int_equal(at, strstr(quorums[i].note, "w1") ? 1700000000 : 0);
		else
			assert_string_equal(e.code, quorums[i].code);
	}
	for (size_t i = 0; i < ARRAY_LEN(no_policies); i++)
		if (witness_policy_parse(str_c(no_policies[i]), &p, &e))
			fail_msg("row %zu is a policy", i);
}

/* A policy's log key is one from outside; a missed quorum is a verdict of its own. */
static void a_policy_asks_for_more(void **state)
{
	struct verify_options o = { 0 };
	struct verify_report r;
	struct verifier *v;
	struct err e = { 0 };
	AUTO_BUF policy;

	(void)state;
	buf_init(&policy, mem_system, 4096);
	for (int wanted = 0; wanted < 2; wanted++) {
		buf_reset(&policy);
		buf_printf(&policy, "log %s\nwitness w1 " W1 "\nquorum %s\n", vkey,
			   wanted ? "w1" : "none");
		o.policy = buf_str(&policy);
		if (!verifier_new(&o, &v, &e))
			fail_msg("%s", e.msg);
		verifier_feed(v, buf_str(&whole));
		verifier_finish(v, &r);
		verifier_free(v);
		assert_int_equal(r.result, wanted ? VERIFY_UNAUTHENTICATED : VERIFY_HOLDS);
		assert_int_equal(r.integrity, VERDICT_YES);
		assert_int_equal(r.authenticity, VERDICT_YES);
		assert_int_equal(r.anchoring, wanted ? VERDICT_NO : VERDICT_UNKNOWN);
	}
	o.policy = STR("quorum w1\n");
	assert_false(verifier_new(&o, &v, &e));
}

static int begin(void **state)
{
	struct audit_export_options o = { .filter = { .openings = true } };
	struct fixture *f = &log_of_all;
	struct audit_export *x;
	struct note_key k;
	bool done = false;
	struct err e = { 0 };
	AUTO_BUF text;

	(void)state;
	fixture_init(f);
	f->config.checkpoint_ms = 3600000;
	fixture_open(f);
	buf_init(&early, mem_system, 65536);
	buf_init(&whole, mem_system, 1 << 28);
	fixture_append(f, RECORDS / 2);
	assert_true(audit_checkpoint(f->audit, &early, &e));
	fixture_append(f, RECORDS / 2 - 2);
	fixture_close(f);
	o.folder = f->folder;
	if (!audit_export_open(&o, &x, &e))
		fail_msg("%s", e.msg);
	while (!done)
		assert_true(audit_export_next(x, &whole, &done, &e));
	audit_export_close(x);
	fixture_key(&k);
	buf_init(&text, mem_system, 1000);
	note_key_format(&k, &text);
	snprintf(vkey, sizeof(vkey), "%.*s", STR_FMT(buf_str(&text)));
	return 0;
}

static int end(void **state)
{
	(void)state;
	buf_clear(&early);
	buf_clear(&whole);
	fixture_clear(&log_of_all);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cores_agree),
		cmocka_unit_test(cores_agree_on_damage),
		cmocka_unit_test(a_proof_is_of_its_record),
		cmocka_unit_test(quorums_are_met_or_not),
		cmocka_unit_test(a_policy_asks_for_more),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
