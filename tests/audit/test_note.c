/* Signed notes, keys and checkpoints against the sheet's 19.4 and 19.5. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>

#include "authz/audit/note.h"
#include "authz/base/text.h"
#include "tests/audit/fixture.h"

#define DASH "\xe2\x80\x94"
#define VKEY "writ.example/audit+f7ad3804+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
#define WITNESS "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X"

#define NOTE_TEXT "This is a test note.\nIt has two lines.\n"
#define NOTE_SIG                           \
	"9604BERDqpoFF2zm3pDmt1Sc1vFTh98/" \
	"yyWglc1xEHqi3k6yiWNozo/u3bzk0NbnDGIL2bBDt3MeoLqVFUGC4kWK+AM="
#define NOTE NOTE_TEXT "\n" DASH " writ.example/audit " NOTE_SIG "\n"

#define CP_TEXT "writ.example/audit\n8\nXcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=\n"
#define CP_SIG                                                                  \
	DASH " writ.example/audit 9604BOr2i10PqJeBhxKJKWl2B0YRQ5ecJUNvvVesmDD/" \
	     "RPcagPSimiKQi4j3Fuh7VxhoD4RRDHGvKNvsvJ3pMcR64gE=\n"
#define CP_COSIG                                                          \
	DASH " witness.example/w1 "                                       \
	     "IDJKvgAAAABlU/EA+7wsEYTc5xrXKrSM94s2WHA9sJ4uCwvLGpwFXMkiF/" \
	     "LxfSbnaQbOgmBtfRSEckmE8OLnYYySL2rzjdQsreAFBQ==\n"
#define CHECKPOINT CP_TEXT "\n" CP_SIG CP_COSIG
#define EMPTY_LOG                                                                       \
	"writ.example/audit\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n" DASH  \
	" writ.example/audit 9604BGIMOyRTyMNsNj7xaQ0QglPx+5gyWl4SCyp0yj0+lmsZKa9/mtHL/" \
	"VIXhku29sPr6wjbQ43rpeuJEZN38B14tAU=\n"

static struct note_key log_key(void)
{
	struct note_key k;
	struct err e;

	assert_true(note_key_parse(STR(VKEY), &k, &e));
	return k;
}

static void keys_are_read_and_written(void **state)
{
	struct note_key k = log_key(), made;
	uint8_t pub[32];
	AUTO_BUF text;
	struct err e;

	(void)state;
	buf_init(&text, mem_system, 1000);
	unhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8", pub, 32);
	assert_string_equal(k.name, "writ.example/audit");
	assert_int_equal(k.id, 0xf7ad3804);
	assert_memory_equal(k.public_key, pub, 32);
	assert_true(note_key_make(STR("writ.example/audit"), pub, &made, &e));
	note_key_format(&made, &text);
	assert_true(str_eq(buf_str(&text), STR(VKEY)));
}

static void bad_keys_are_refused(void **state)
{
	static const char *const cases[] = {
		"",
		"writ.example/audit",
		"writ.example/audit+f7ad3804",
		"+f7ad3804+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4",
		"writ.example/audit+f7ad3805+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4",
		"writ.example/audit+F7AD3804+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4",
		"writ.example/audi+f7ad3804+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4",
		"writ.example/audit+f7ad3804+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG",
		"writ.example/audit+f7ad3804+AQOhB7_zzhC-HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4",
		"writ.example/audit+f7ad3804+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4\n",
		"writ.example/audit+f7ad3804+A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=",
		"a b+f7ad3804+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4",
		WITNESS, /* a type that signs other bytes */
	};
	struct note_key k;
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (note_key_parse(str_c(cases[i]), &k, &e))
			fail_msg("accepted: %s", cases[i]);
	assert_false(note_key_make(STR("a\xc2\xa0"
				       "b"),
				   (uint8_t[32]){ 0 }, &k, &e));
	assert_false(note_key_make(STR("a\xe3\x80\x80"), (uint8_t[32]){ 0 }, &k, &e));
	assert_false(note_key_make(STR("a\xff"), (uint8_t[32]){ 0 }, &k, &e));
}

static void the_note_verifies(void **state)
{
	struct note_key k = log_key();
	uint8_t signature[64], hash[32];
	struct sha256 *sha = sha256_new(NULL);
	struct note n;
	AUTO_BUF text;
	struct err e;

	(void)state;
	assert_true(note_parse(STR(NOTE), &n, &e));
	assert_true(str_eq(n.text, STR(NOTE_TEXT)));
	assert_true(note_verify(&n, &k, 1, &e));
	/* Written by us, the same bytes. */
	buf_init(&text, mem_system, 1000);
	buf_lit(&text, NOTE_TEXT);
	unhex("4443aa9a05176ce6de90e6b7549cd6f15387df3fcb25a095cd71107aa2de4eb2896368ce8feeddbce4d0"
	      "d6e70c620bd9b043b7731ea0ba95154182e2458af803",
	      signature, 64);
	note_sign_line(&text, &k, signature);
	assert_int_equal(text.n, 156);
	sha256_of(sha, buf_str(&text), hash);
	unhex("fbd4eb97e419ead8cd3cdc2405523043b320035499d2aab7f554749a837598a9", signature, 32);
	assert_memory_equal(hash, signature, 32);
	sha256_free(sha);
}

static void the_checkpoints_verify(void **state)
{
	struct note_key k = log_key();
	struct checkpoint c;
	struct note n;
	AUTO_BUF text;
	struct err e;

	(void)state;
	assert_true(note_parse(STR(CHECKPOINT), &n, &e));
	assert_int_equal(n.n, 2);
	if (!checkpoint_open(STR(CHECKPOINT), &k, &c, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(c.size, 8);
	buf_init(&text, mem_system, 1000);
	checkpoint_format(&text, &c);
	assert_true(str_eq(buf_str(&text), STR(CP_TEXT)));
	assert_true(checkpoint_open(STR(EMPTY_LOG), &k, &c, &e));
	assert_int_equal(c.size, 0);
	/* Extension lines are allowed when reading. */
	assert_true(checkpoint_parse(STR(CP_TEXT "more\n"), &c, &e));
}

static void malformed_notes_are_refused(void **state)
{
	static const struct {
		const char *why;
		struct str in;
	} cases[] = {
		{ "empty", STR_INIT("") },
		{ "no blank line", STR_INIT(CP_TEXT CP_SIG) },
		{ "text not ending in a newline", STR_INIT("writ.example/audit" CP_SIG) },
		{ "no text", STR_INIT("\n" CP_SIG) },
		{ "only a newline as text", STR_INIT("\n\n" CP_SIG) },
		{ "hyphen", STR_INIT(NOTE_TEXT "\n- writ.example/audit " NOTE_SIG "\n") },
		{ "two spaces after the dash",
		  STR_INIT(NOTE_TEXT "\n" DASH "  writ.example/audit " NOTE_SIG "\n") },
		{ "two spaces after the name",
		  STR_INIT(NOTE_TEXT "\n" DASH " writ.example/audit  " NOTE_SIG "\n") },
		{ "trailing space",
		  STR_INIT(NOTE_TEXT "\n" DASH " writ.example/audit " NOTE_SIG " \n") },
		{ "no final newline",
		  STR_INIT(NOTE_TEXT "\n" DASH " writ.example/audit " NOTE_SIG) },
		{ "BEL in the text",
		  STR_INIT("a\x07\n\n" DASH " writ.example/audit " NOTE_SIG "\n") },
		{ "CR", STR_INIT("a\r\n\n" DASH " writ.example/audit " NOTE_SIG "\n") },
		{ "NUL", STR_INIT("a\0\n\n" DASH " writ.example/audit " NOTE_SIG "\n") },
		{ "not UTF-8", STR_INIT("a\xff\n\n" DASH " writ.example/audit " NOTE_SIG "\n") },
		{ "name with +", STR_INIT(NOTE_TEXT "\n" DASH " writ+audit " NOTE_SIG "\n") },
		{ "no name", STR_INIT(NOTE_TEXT "\n" DASH " " NOTE_SIG "\n") },
		{ "base64 without padding",
		  STR_INIT(NOTE_TEXT "\n" DASH " writ.example/audit 9604BEQ\n") },
		{ "base64url", STR_INIT(NOTE_TEXT "\n" DASH " writ.example/audit 96_4BEQ=\n") },
		{ "four bytes", STR_INIT(NOTE_TEXT "\n" DASH " writ.example/audit 9604BA==\n") },
		{ "no signature", STR_INIT(NOTE_TEXT "\n") },
		{ "a second malformed line", STR_INIT(NOTE "junk\n") },
	};
	struct note n;
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (note_parse(cases[i].in, &n, &e))
			fail_msg("accepted: %s", cases[i].why);
}

static void wrong_signatures_are_refused(void **state)
{
	struct note_key k = log_key(), wrong_name = k, wrong_id = k, other = k;
	struct note n;
	AUTO_BUF text;
	struct err e;

	(void)state;
	strcpy(wrong_name.name, "writ.example/audiT");
	wrong_id.id ^= 1;
	other.public_key[5] ^= 1;
	assert_true(note_parse(STR(NOTE), &n, &e));
	assert_false(note_verify(&n, &wrong_name, 1, &e));
	assert_false(note_verify(&n, &wrong_id, 1, &e));
	assert_false(note_verify(&n, &other, 1, &e));
	assert_false(note_verify(&n, NULL, 0, &e));
	/* A key that is not there is no harm if another one is. */
	assert_true(note_verify(&n, (struct note_key[]){ wrong_id, k }, 2, &e));
	assert_false(note_verify(&n, (struct note_key[]){ other, k }, 2, &e));
	/* Every bit of the text and of the signature counts. */
	buf_init(&text, mem_system, 1000);
	for (size_t i = 0; i < sizeof(NOTE_TEXT) - 2; i++) {
		buf_reset(&text);
		buf_lit(&text, NOTE);
		text.p[i] ^= 1;
		if (note_parse(buf_str(&text), &n, &e))
			assert_false(note_verify(&n, &k, 1, &e));
	}
	assert_true(note_parse(STR(NOTE_TEXT "\n" DASH " writ.example/audit 9604BEQ=\n"), &n, &e));
	assert_false(note_verify(&n, &k, 1, &e)); /* one byte of signature */
}

static void up_to_a_hundred_signatures(void **state)
{
	struct note_key k = log_key();
	struct note n;
	AUTO_BUF text;
	struct err e;

	(void)state;
	buf_init(&text, mem_system, 100000);
	buf_lit(&text, NOTE);
	for (int i = 1; i < 100; i++)
		buf_lit(&text, DASH " other.example/w AAAAAAA=\n");
	assert_true(note_parse(buf_str(&text), &n, &e));
	assert_true(note_verify(&n, &k, 1, &e));
	buf_lit(&text, DASH " other.example/w AAAAAAA=\n");
	assert_false(note_parse(buf_str(&text), &n, &e));
	for (int i = 0; i < 3000; i++)
		buf_lit(&text, DASH " other.example/w AAAAAAA=\n");
	assert_false(note_parse(buf_str(&text), &n, &e));
}

static void malformed_checkpoints_are_refused(void **state)
{
#define ROOT "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg="
	static const char *const cases[] = {
		"",
		"o\n",
		"o\n8\n",
		"o\n8\n" ROOT,
		"o\n08\n" ROOT "\n",
		"o\n+8\n" ROOT "\n",
		"o\n-1\n" ROOT "\n",
		"o\n\n" ROOT "\n",
		"o\n 8\n" ROOT "\n",
		"o\n18446744073709551616\n" ROOT "\n",
		"o\n9223372036854775808\n" ROOT "\n",
		"o\n8\nXcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQw==\n", /* 31 bytes */
		"o\n8\nXcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyh=\n", /* a stray bit */
		"o\n8\nXcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg\n",
		"\n8\n" ROOT "\n",
		"o\n8\n" ROOT "\n\n",
		"o\n8\n" ROOT "\nx\n\ny\n",
		"o\n8\n" ROOT "\nx",
	};
	struct checkpoint c;
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (checkpoint_parse(str_c(cases[i]), &c, &e))
			fail_msg("accepted: %s", cases[i]);
}

/* A note by the log's key that is no checkpoint, or one of another log, is not its checkpoint. */
static void a_checkpoint_is_of_its_own_log(void **state)
{
	struct fixture f = { 0 };
	struct note_key k;
	struct checkpoint c = { .origin = STR("other.example/writ"), .size = 1 };
	uint8_t signature[64];
	AUTO_BUF text;
	struct err e;

	(void)state;
	assert_false(checkpoint_open(STR(NOTE), &(struct note_key){ 0 }, &c, &e));
	fixture_key(&k);
	c.origin = STR("other.example/writ");
	buf_init(&text, mem_system, 1000);
	checkpoint_format(&text, &c);
	assert_true(fixture_sign(&f, buf_str(&text), signature, &e));
	note_sign_line(&text, &k, signature);
	assert_false(checkpoint_open(buf_str(&text), &k, &c, &e));
	assert_non_null(strstr(e.msg, "other.example"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_are_read_and_written),
		cmocka_unit_test(bad_keys_are_refused),
		cmocka_unit_test(the_note_verifies),
		cmocka_unit_test(the_checkpoints_verify),
		cmocka_unit_test(malformed_notes_are_refused),
		cmocka_unit_test(wrong_signatures_are_refused),
		cmocka_unit_test(up_to_a_hundred_signatures),
		cmocka_unit_test(malformed_checkpoints_are_refused),
		cmocka_unit_test(a_checkpoint_is_of_its_own_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
