/* Signed policy sets: what a statement may look like, and whose signature counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>
#include <openssl/evp.h>

#include "authz/decide/signing.h"

#define A16 "0123456789abcdef"
#define HASH A16 A16 A16 A16
#define HEAD "writ policy set v1\n"

static const struct {
	const char *why, *text;
	uint64_t version; /* 0: refused */
} statements[] = {
	{ "as it is written", HEAD "version 7\nsha256 " HASH "\n", 7 },
	{ "the largest version", HEAD "version 9007199254740991\nsha256 " HASH "\n",
	  9007199254740991 },
	{ "a version too large", HEAD "version 9007199254740992\nsha256 " HASH "\n", 0 },
	{ "version 0", HEAD "version 0\nsha256 " HASH "\n", 0 },
	{ "a leading zero", HEAD "version 07\nsha256 " HASH "\n", 0 },
	{ "a sign", HEAD "version +7\nsha256 " HASH "\n", 0 },
	{ "another first line", "writ policy set v2\nversion 7\nsha256 " HASH "\n", 0 },
	{ "a checkpoint", "example.org/writ\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
	  0 },
	{ "a short hash", HEAD "version 7\nsha256 " A16 "\n", 0 },
	{ "large digits", HEAD "version 7\nsha256 0123456789ABCDEF" A16 A16 A16 "\n", 0 },
	{ "no digit", HEAD "version 7\nsha256 g123456789abcdef" A16 A16 A16 "\n", 0 },
	{ "a line more", HEAD "version 7\nsha256 " HASH "\nmore\n", 0 },
	{ "a line less", HEAD "version 7\n", 0 },
	{ "another order", HEAD "sha256 " HASH "\nversion 7\n", 0 },
	{ "two blanks", HEAD "version  7\nsha256 " HASH "\n", 0 },
	{ "carriage returns", "writ policy set v1\r\nversion 7\r\nsha256 " HASH "\r\n", 0 },
	{ "no end of line", HEAD "version 7\nsha256 " HASH, 0 },
	{ "nothing", "", 0 },
};

static void reads_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(statements); i++) {
		struct signing_statement s = { 0 };
		struct err e = { 0 };
		bool ok = signing_parse(str_c(statements[i].text), &s, &e);

		if (ok != !!statements[i].version || s.version != statements[i].version ||
		    (!ok && strcmp(e.code, "policy_signature") != 0))
			fail_msg("%s: %d, version %llu, %s", statements[i].why, ok,
				 (unsigned long long)s.version, e.msg);
	}
}

/* ---- signatures ---- */

struct signer {
	EVP_PKEY *key;
	struct note_key public;
};

static void signer_make(struct signer *s, const char *name)
{
	uint8_t raw[32];
	size_t n = sizeof(raw);
	struct err e = { 0 };

	s->key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	assert_non_null(s->key);
	assert_int_equal(EVP_PKEY_get_raw_public_key(s->key, raw, &n), 1);
	assert_true(note_key_make(str_c(name), raw, &s->public, &e));
}

static void add_signature(struct buf *note, struct str text, const struct signer *s)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t signature[64];
	size_t n = sizeof(signature);
	AUTO_BUF line;

	assert_non_null(ctx);
	assert_int_equal(EVP_DigestSignInit(ctx, NULL, NULL, NULL, s->key), 1);
	assert_int_equal(EVP_DigestSign(ctx, signature, &n, (const uint8_t *)text.p, text.n), 1);
	EVP_MD_CTX_free(ctx);
	buf_init(&line, mem_system, 4096);
	note_sign_line(&line, &s->public, signature);
	/* Between the text and its signatures stands one blank line. */
	buf_add(note, note->n > text.n ? str_from(buf_str(&line), 1) : buf_str(&line));
}

enum who { NOBODY, MINE, OTHER };

static const struct {
	const char *why;
	enum who first, second;
	bool other_hash, break_text, break_signature;
	const char *code; /* NULL: taken */
} cases[] = {
	{ "signed", MINE, NOBODY, false, false, false, NULL },
	{ "signed by another, too", OTHER, MINE, false, false, false, NULL },
	{ "unsigned", NOBODY, NOBODY, false, false, false, "policy_signature" },
	{ "signed by another", OTHER, NOBODY, false, false, false, "policy_signature" },
	{ "of another set", MINE, NOBODY, true, false, false, "policy_signature" },
	{ "a version that was changed", MINE, NOBODY, false, true, false, "policy_signature" },
	{ "a signature that was changed", MINE, NOBODY, false, false, true, "policy_signature" },
};

static void only_a_pinned_key_counts(void **state)
{
	struct signer mine, other;
	struct signing_keys keys = { .n = 1 };
	uint8_t hash[SHA256_LEN];
	struct err e = { 0 };
	AUTO_BUF text;

	(void)state;
	signer_make(&mine, "policies");
	signer_make(&other, "policies"); /* of the same name: the key counts */
	keys.keys[0] = mine.public;
	memset(hash, 7, sizeof(hash));
	buf_init(&text, mem_system, 4096);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct signing_statement s = { .version = 12 }, got = { 0 };
		const struct note_key *by = NULL;
		AUTO_BUF note;
		bool ok;

		memset(s.hash, cases[i].other_hash ? 8 : 7, sizeof(s.hash));
		buf_init(&note, mem_system, 4096);
		buf_reset(&text);
		signing_format(&text, &s);
		buf_add(&note, buf_str(&text));
		for (int k = 0; k < 2; k++) {
			enum who who = k ? cases[i].second : cases[i].first;

			if (who != NOBODY)
				add_signature(&note, buf_str(&text), who == MINE ? &mine : &other);
		}
		if (cases[i].break_text)
			note.p[strlen(HEAD "version ")] = '9';
		if (cases[i].break_signature)
			note.p[note.n - 20] = note.p[note.n - 20] == 'A' ? 'B' : 'A';
		e = (struct err){ 0 };
		ok = signing_open(buf_str(&note), &keys, hash, &got, &by, &e);
		if (ok != !cases[i].code || (!ok && strcmp(e.code, cases[i].code) != 0) ||
		    (ok && (got.version != 12 || by != &keys.keys[0])))
			fail_msg("%s: %s %s", cases[i].why, ok ? "taken" : e.code, e.msg);
	}
	e = (struct err){ 0 };
	assert_false(signing_open(STR(""), &keys, hash, &(struct signing_statement){ 0 },
				  &(const struct note_key *){ NULL }, &e));
	assert_string_equal(e.code, "policy_unsigned");
	EVP_PKEY_free(mine.key);
	EVP_PKEY_free(other.key);
}

static void keys_are_listed_with_blanks(void **state)
{
	struct signer a, b;
	struct signing_keys keys;
	struct err e = { 0 };
	AUTO_BUF text;

	(void)state;
	signer_make(&a, "one");
	signer_make(&b, "two");
	buf_init(&text, mem_system, 65536);
	buf_lit(&text, "  ");
	note_key_format(&a.public, &text);
	buf_lit(&text, "  ");
	note_key_format(&b.public, &text);
	buf_char(&text, ' ');
	assert_true(signing_keys_parse(buf_str(&text), &keys, &e));
	assert_int_equal(keys.n, 2);
	assert_string_equal(keys.keys[1].name, "two");
	assert_false(signing_keys_parse(STR("  "), &keys, &e));
	assert_false(signing_keys_parse(STR("policies+00000000+AAAA"), &keys, &e));
	for (size_t i = 0; i < SIGNING_KEYS; i++) {
		buf_char(&text, ' ');
		note_key_format(&b.public, &text);
	}
	assert_false(signing_keys_parse(buf_str(&text), &keys, &e));
	EVP_PKEY_free(a.key);
	EVP_PKEY_free(b.key);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_table),
		cmocka_unit_test(only_a_pinned_key_counts),
		cmocka_unit_test(keys_are_listed_with_blanks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
