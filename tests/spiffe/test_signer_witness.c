/* spiffe/signer_witness: what it cosigns, and what it refuses to a serving process gone bad. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#include "authz/base/text.h"
#include "spiffe/signer_desk.h"
#include "spiffe/signer_witness.h"
#include "tests/spiffe/folder.h"

#define NOW 1700000000
#define ROOT "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg="
#define OTHER "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define TEXT(size, root) "writ.example/audit\n" size "\n" root "\n"
/* The sheet's 19.5: witness seed and cosignature. */
#define SEED "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"

static struct signer_witness w;

static int open_witness(void **state)
{
	uint8_t seed[32];

	(void)state;
	if (!text_unhex(STR(SEED), seed, 32))
		return -1;
	w = (struct signer_witness){ 0 };
	w.key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
	return w.key ? 0 : -1;
}

static int close_witness(void **state)
{
	EVP_PKEY *key = w.key;

	(void)state;
	signer_witness_clear(&w);
	EVP_PKEY_free(key);
	return 0;
}

/* The class of the refusal; ERR_NONE: 64 bytes were signed. */
static enum err_class ask(const char *text, int64_t at_s)
{
	struct err e = { 0 };
	AUTO_BUF out;

	buf_init(&out, mem_system, 1024);
	if (!signer_witness_sign(&w, str_c(text), at_s, NOW, &out, &e)) {
		assert_int_equal(out.n, 0);
		return e.class;
	}
	assert_int_equal(out.n, 64);
	return ERR_NONE;
}

static void the_sheets_cosignature(void **state)
{
	static const char line[] = "AAAAAGVT8QD7vCwRhNznGtcqtIz3izZYcD2wni4LC8sanAVcySIX8vF9Judp"
				   "Bs6CYG19FIRySYTw4udhjJIvavON1Cyt4AUF";
	uint8_t want[3 * sizeof(line) / 4 + 3];
	size_t n;
	struct err e;
	AUTO_BUF out;

	(void)state;
	buf_init(&out, mem_system, 1024);
	assert_true(text_unbase64(str_c(line), BASE64_STD, want, &n));
	assert_int_equal(n, 8 + 64);
	assert_true(signer_witness_sign(&w, STR(TEXT("8", ROOT)), 1700000000, NOW, &out, &e));
	assert_memory_equal(out.p, want + 8, 64);
}

static void it_never_goes_back(void **state)
{
	(void)state;
	assert_int_equal(ask(TEXT("8", ROOT), NOW), ERR_NONE);
	assert_int_equal(ask(TEXT("8", ROOT), NOW + 1), ERR_NONE);
	assert_int_equal(ask(TEXT("8", OTHER), NOW), ERR_CONFLICT);
	assert_int_equal(ask(TEXT("7", ROOT), NOW), ERR_CONFLICT);
	assert_int_equal(ask(TEXT("0", ROOT), NOW), ERR_CONFLICT);
	assert_int_equal(ask("other.example/log\n3\n" OTHER "\n", NOW), ERR_NONE);
	assert_int_equal(ask(TEXT("9", OTHER), NOW), ERR_NONE);
	assert_int_equal(ask(TEXT("8", ROOT), NOW), ERR_CONFLICT);
	assert_int_equal(ask("other.example/log\n3\n" ROOT "\n", NOW), ERR_CONFLICT);
}

static void it_signs_checkpoints_of_now_only(void **state)
{
	static const struct {
		const char *why, *text;
		int64_t at_s;
		enum err_class want;
	} cases[] = {
		{ "extension", TEXT("8", ROOT) "more\n", NOW, ERR_NONE },
		{ "an hour ago", TEXT("9", ROOT), NOW - 3600, ERR_INVALID },
		{ "an hour from now", TEXT("9", ROOT), NOW + 3600, ERR_INVALID },
		{ "before 1970", TEXT("9", ROOT), -1, ERR_INVALID },
		{ "empty", "", NOW, ERR_INVALID },
		{ "two lines", "a\n1\n", NOW, ERR_INVALID },
		{ "no origin", "\n9\n" ROOT "\n", NOW, ERR_INVALID },
		{ "leading zero", TEXT("09", ROOT), NOW, ERR_INVALID },
		{ "no number", TEXT("x", ROOT), NOW, ERR_INVALID },
		{ "too large", TEXT("9223372036854775808", ROOT), NOW, ERR_INVALID },
		{ "short root", TEXT("9", "AAAA"), NOW, ERR_INVALID },
		{ "empty extension", TEXT("9", ROOT) "\n", NOW, ERR_INVALID },
		{ "no newline", "a\n9\n" ROOT, NOW, ERR_INVALID },
		{ "not UTF-8", "a\xff\n9\n" ROOT "\n", NOW, ERR_INVALID },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (ask(cases[i].text, cases[i].at_s) != cases[i].want)
			fail_msg("%s", cases[i].why);
}

static void logs_are_bounded(void **state)
{
	char text[200];

	(void)state;
	for (int i = 0; i <= SIGNER_WITNESS_LOGS; i++) {
		snprintf(text, sizeof(text), "log%d\n1\n" ROOT "\n", i);
		assert_int_equal(ask(text, NOW),
				 i < SIGNER_WITNESS_LOGS ? ERR_NONE : ERR_UNAVAILABLE);
	}
	assert_int_equal(ask("log0\n2\n" ROOT "\n", NOW), ERR_NONE);
}

static void without_a_key_nothing(void **state)
{
	EVP_PKEY *key = w.key;

	(void)state;
	w.key = NULL;
	assert_int_equal(ask(TEXT("8", ROOT), NOW), ERR_UNAVAILABLE);
	w.key = key;
}

static void the_key_is_made_once_and_read_again(void **state)
{
	struct signer_keys k, again;
	struct err e = { 0 };

	(void)state;
	assert_true(open_keys("a.example", &k, &e));
	assert_null(k.witness);
	assert_true(signer_keys_witness(folder, &k, &e));
	assert_non_null(k.witness);
	assert_int_not_equal(EVP_PKEY_eq(k.witness, k.log), 1);
	assert_true(open_keys("a.example", &again, &e));
	assert_true(signer_keys_witness(folder, &again, &e));
	assert_int_equal(EVP_PKEY_eq(k.witness, again.witness), 1);
	signer_keys_clear(&k);
	signer_keys_clear(&again);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_sheets_cosignature, open_witness,
						close_witness),
		cmocka_unit_test_setup_teardown(it_never_goes_back, open_witness, close_witness),
		cmocka_unit_test_setup_teardown(it_signs_checkpoints_of_now_only, open_witness,
						close_witness),
		cmocka_unit_test_setup_teardown(logs_are_bounded, open_witness, close_witness),
		cmocka_unit_test_setup_teardown(without_a_key_nothing, open_witness, close_witness),
		cmocka_unit_test_setup_teardown(the_key_is_made_once_and_read_again, fresh_folder,
						drop_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
