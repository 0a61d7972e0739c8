/* Drafting leaves, commitments, and scanning them again: the sheet's 19.9 and hostile text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>

#include "authz/audit/flat.h"
#include "authz/audit/record.h"
#include "authz/audit/tree.h"
#include "include/writ/words.h"
#include "tests/audit/fixture.h"

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

static struct sha256 *sha;

static void commitments(void **state)
{
	static const struct {
		const char *name, *value, *hash;
		uint8_t salt; /* its first byte; the others count on */
	} cases[] = {
		{ "subject.email", "\"alice@example.com\"",
		  "6cf6ad2b650b123d1d37aca6340a0e4dd84c960480c7d250231ae3a04ef7f808", 0x00 },
		{ "args", "{\"path\":\"/etc/passwd\"}",
		  "4dde9480bffe9c371bcab1797a305836fdb1f9d32ff8f8ac253a4bc22e0ba5e9", 0x00 },
		{ "args", "{\"path\":\"/srv/inv/1.csv\"}",
		  "474b83e927e49e2c11394bc7a67083e268c8a991b7a51231d9e0e3399f1d14b6", 0x10 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint8_t salt[SALT_LEN], got[32], want[32];

		for (int k = 0; k < SALT_LEN; k++)
			salt[k] = (uint8_t)(cases[i].salt + k);
		unhex(cases[i].hash, want, 32);
		record_commitment(sha, str_c(cases[i].name), salt, str_c(cases[i].value), got);
		assert_memory_equal(got, want, 32);
	}
}

/* The sheet's two records have neither boot nor node; leaf hashes and root must be its own. */
static void the_sheets_records(void **state)
{
	static const char *const records[] = {
		"{\"agent\":\"spiffe://example.org/agent/billing-7\",\"args_commit\":"
		"\"4dde9480bffe9c371bcab1797a305836fdb1f9d32ff8f8ac253a4bc22e0ba5e9\",\"decision\":"
		"\"deny\",\"kind\":\"authz.decision\",\"policy\":\"files@12\",\"policy_sha256\":"
		"\"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\",\"prev\":"
		"\"" ZEROS "\",\"reason\":\"path_outside_scope\",\"req\":\"01JABCDEF0\",\"seq\":0,"
		"\"time\":1760000000123,\"tool\":\"mcp://files/read\",\"v\":1}",
		"{\"agent\":\"spiffe://example.org/agent/billing-7\",\"args_commit\":"
		"\"474b83e927e49e2c11394bc7a67083e268c8a991b7a51231d9e0e3399f1d14b6\",\"decision\":"
		"\"allow\",\"kind\":\"authz.decision\",\"policy\":\"files@12\",\"policy_sha256\":"
		"\"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\",\"prev\":"
		"\"0b46379ba7fe3e0a767bc6d935213b77d943b48e8d35711c19e9359ffce0f548\",\"reason\":"
		"\"rule:7\",\"req\":\"01JABCDEF1\",\"seq\":1,\"time\":1760000000130,\"tool\":"
		"\"mcp://files/read\",\"v\":1}",
	};
	static const char *const hashes[] = {
		"0b46379ba7fe3e0a767bc6d935213b77d943b48e8d35711c19e9359ffce0f548",
		"f9c262f0a98f9342ad97e46cfe4c9db666ec553201ae5b9bdc1b9c164df96adb",
	};
	struct tree_range r = { 0 };
	uint8_t want[32], got[32];

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct leaf leaf;

		tree_leaf_hash(sha, str_c(records[i]), got);
		unhex(hashes[i], want, 32);
		assert_memory_equal(got, want, 32);
		tree_append(&r, sha, got);
		assert_false(leaf_scan(str_c(records[i]), &leaf)); /* no boot, no node */
		assert_int_equal(leaf.seq, i);
	}
	assert_int_equal(strlen(records[0]), 458);
	assert_int_equal(strlen(records[1]), 447);
	tree_root(&r, sha, got);
	unhex("4e9f7ebb4b666bdc09597e56110d495d03096b08c978e05a815dbfe7ed2d1c41", want, 32);
	assert_memory_equal(got, want, 32);
}

static size_t finish(const struct record *r, char *out)
{
	struct record_own own = {
		.boot = STR("00ff"), .node = STR("n1"), .seq = 7, .time_ms = 1760000000123
	};

	return record_leaf(r, &own, out);
}

static void a_leaf_is_canonical(void **state)
{
	static const char want[] =
		"{\"action\":\"x\",\"boot\":\"00ff\",\"cost_us\":-3,\"kind\":\"k.\\\"\\u0001\xc3\xa4\","
		"\"node\":\"n1\",\"pep\":\"p\",\"prev\":\"" ZEROS "\",\"reason\":\"r\",\"seq\":7,"
		"\"time\":1760000000123,\"tool\":\"t\",\"v\":1,\"version\":\"0\"}";
	char out[2000];
	struct record r;
	AUTO_BUF text;
	size_t n;

	(void)state;
	buf_init(&text, mem_system, 2000);
	record_begin(&r, &text);
	record_str(&r, STR("action"), STR("x"));
	record_str(&r, STR("agent"), STR("")); /* left out */
	record_int(&r, STR("cost_us"), -3);
	record_str(&r, STR("kind"), STR("k.\"\x01\xc3\xa4"));
	record_str(&r, STR("pep"), STR("p"));
	record_str(&r, STR("reason"), STR("r"));
	record_str(&r, STR("tool"), STR("t"));
	record_str(&r, STR("version"), STR("0"));
	assert_true(record_ok(&r));
	n = finish(&r, out);
	if (!str_eq((struct str){ out, n }, str_c(want)))
		fail_msg("%.*s", (int)n, out);

	buf_reset(&text);
	record_begin(&r, &text);
	record_str(&r, STR("kind"), STR("k"));
	n = finish(&r, out);
	assert_true(str_eq((struct str){ out, n },
			   STR("{\"boot\":\"00ff\",\"kind\":\"k\",\"node\":\"n1\",\"prev\":\"" ZEROS
			       "\",\"seq\":7,\"time\":1760000000123,\"v\":1}")));
}

static void values_are_cut_and_repaired(void **state)
{
	char value[3000], out[5000];
	struct record r;
	struct leaf leaf;
	AUTO_BUF text;
	size_t n;

	(void)state;
	buf_init(&text, mem_system, 20000);
	memset(value, 'x', sizeof(value));
	memcpy(value + 2047, "\xc3\xa4", 2); /* stands across the cut */
	record_begin(&r, &text);
	record_str(&r, STR("agent"), (struct str){ value, sizeof(value) });
	record_str(&r, STR("kind"), STR("a\xff"));
	record_int(&r, STR("number"), INT64_MAX);
	n = finish(&r, out);
	assert_true(leaf_scan((struct str){ out, n }, &leaf));
	assert_int_equal(leaf.agent.n, 2047);
	assert_true(str_eq(leaf.kind, STR("a\xef\xbf\xbd")));
	out[n] = '\0';
	assert_non_null(strstr(out, "\"number\":9007199254740991,"));
}

static void a_record_knows_that_it_failed(void **state)
{
	struct record r;
	AUTO_BUF text;

	(void)state;
	buf_init(&text, mem_system, 10);
	record_begin(&r, &text);
	assert_false(record_ok(&r)); /* nothing in it */
	record_str(&r, STR("kind"), STR("too long for it"));
	record_str(&r, STR("other"), STR("x"));
	assert_false(record_ok(&r));
}

static void commitments_of_a_record(void **state)
{
	struct fixture f = { .sha = sha };
	struct record a, b;
	AUTO_BUF ta;
	AUTO_BUF tb;
	struct leaf leaf;
	uint8_t hash[32];
	char out[2000];
	size_t n;

	(void)state;
	buf_init(&ta, mem_system, 5000);
	buf_init(&tb, mem_system, 5000);
	fixture_draft(&f, 0, &a, &ta);
	fixture_draft(&f, 0, &b, &tb);
	for (int i = 0; i < OPENING_COUNT; i++)
		assert_memory_not_equal(a.openings[i].salt, b.openings[i].salt, SALT_LEN);
	n = finish(&a, out);
	assert_true(leaf_scan((struct str){ out, n }, &leaf));
	for (enum opening o = OPENING_ANSWER; o < OPENING_COUNT; o++) {
		assert_int_equal(leaf.commits[o].n, 64);
		record_commitment(sha, record_opening_name(o), a.openings[o].salt,
				  a.openings[o].value, hash);
		for (int i = 0; i < 32; i++) {
			char hex[3];

			snprintf(hex, sizeof(hex), "%02x", hash[i]);
			assert_memory_equal(hex, leaf.commits[o].p + 2 * (size_t)i, 2);
		}
	}
	/* An opening that is not there has no commitment. */
	buf_reset(&ta);
	record_begin(&a, &ta);
	record_commit(&a, OPENING_INPUT, (struct str){ 0 }, sha);
	record_str(&a, STR("kind"), STR("k"));
	n = finish(&a, out);
	assert_true(leaf_scan((struct str){ out, n }, &leaf));
	assert_int_equal(leaf.commits[OPENING_INPUT].n, 0);
}

/* The one member of @text: its name and value. False: it is not of that shape. */
static bool only_member(struct str text, struct flat_member *m)
{
	struct flat_member more;
	struct flat f;

	flat_begin(&f, text);
	return flat_next(&f, m) && !flat_next(&f, &more) && !f.failed;
}

/* Texts in memory of just their size, so that reading past the end is seen. */
static void members_of_any_length(void **state)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz_0123456789_abcdefgh";

	(void)state;
	for (size_t n = 1; n < 36; n++)
		for (size_t length = 0; length < 36; length++)
			for (size_t at = 0; at <= length; at++) {
				size_t size = n + length + 7;
				char *text = malloc(size), *value = text + n + 5;
				struct flat_member m;

				assert_non_null(text);
				memcpy(text, "{\"", 2);
				memcpy(text + 2, letters, n);
				memcpy(text + 2 + n, "\":\"", 3);
				memset(value, 'x', length);
				memcpy(value + length, "\"}", 2);
				assert_true(only_member((struct str){ text, size }, &m));
				assert_true(str_eq(m.name, (struct str){ letters, n }));
				assert_true(m.is_string &&
					    str_eq(m.value, (struct str){ value, length }));
				if (at < length) { /* ends there, or is a name no more */
					value[at] = '"';
					assert_false(only_member((struct str){ text, size }, &m));
					value[at] = '\\';
					assert_int_equal(only_member((struct str){ text, size },
								     &m),
							 at + 1 < length);
				}
				if (at + 1 < length) {
					value[at + 1] = '"';
					assert_true(only_member((struct str){ text, size }, &m));
					assert_int_equal(m.value.n, length);
				}
				free(text);
			}
}

static void every_byte_of_a_name_counts(void **state)
{
	(void)state;
	for (size_t n = 1; n < 36; n++)
		for (size_t at = 0; at < n; at++)
			for (unsigned c = 1; c < 256; c++) {
				bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
					    c == '_';
				struct flat_member m;
				char text[64] = "{\"";

				memset(text + 2, 'm', n);
				text[2 + at] = (char)c;
				memcpy(text + 2 + n, "\":17}", 6);
				if (only_member(str_c(text), &m) != good)
					fail_msg("%s: %d", text, good);
			}
}

static void numbers_as_large_as_they_may_be(void **state)
{
	static const struct {
		const char *text;
		int64_t value;
	} rows[] = {
		{ "0", 0 },
		{ "-1", -1 },
		{ "999999999999999", 999999999999999 },
		{ "-999999999999999", -999999999999999 },
		{ "1000000000000000", 1000000000000000 },
		{ "9007199254740991", 9007199254740991 },
		{ "-9007199254740991", -9007199254740991 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[64];
		struct flat_member m;

		snprintf(text, sizeof(text), "{\"n\":%s}", rows[i].text);
		assert_true(only_member(str_c(text), &m));
		assert_true(!m.is_string && m.integer == rows[i].value &&
			    str_eq(m.value, str_c(rows[i].text)));
	}
}

static void what_is_no_flat_object(void **state)
{
	static const struct str cases[] = {
		STR_INIT(""),
		STR_INIT("{"),
		STR_INIT("}"),
		STR_INIT("[]"),
		STR_INIT("{} "),
		STR_INIT("{\"a\"}"),
		STR_INIT("{\"a\":}"),
		STR_INIT("{\"a\":1,}"),
		STR_INIT("{,\"a\":1}"),
		STR_INIT("{\"a\":1 }"),
		STR_INIT("{ \"a\":1}"),
		STR_INIT("{\"a\": 1}"),
		STR_INIT("{\"a\":01}"),
		STR_INIT("{\"a\":-0}"),
		STR_INIT("{\"a\":1.0}"),
		STR_INIT("{\"a\":9007199254740992}"),
		STR_INIT("{\"a\":true}"),
		STR_INIT("{\"a\":null}"),
		STR_INIT("{\"a\":{}}"),
		STR_INIT("{\"a\":[]}"),
		STR_INIT("{\"a\":\"}"),
		STR_INIT("{\"a\":\"\\\"}"),
		STR_INIT("{\"a\":\"\\"),
		STR_INIT("{\"b\":1,\"a\":1}"),
		STR_INIT("{\"a\":1,\"a\":1}"),
		STR_INIT("{\"A\":1}"),
		STR_INIT("{\"\":1}"),
		STR_INIT("{\"a\\u0062\":1}"),
		STR_INIT("{\"a\":1\"b\":1}"),
		STR_INIT("{\"a\":1,\"b\":1"),
		STR_INIT("{\"a\":--1}"),
		STR_INIT("{\"a\":-}"),
		STR_INIT("{\"a\":10000000000000000}"),
		STR_INIT("{\"a\":0000000000000001}"),
		STR_INIT("{\"a\":18446744073709551617}"),
		STR_INIT("{\"abcdefghijklmnopqrstu\":1,\"abcdefghijklmnopqrst\":1}"),
		STR_INIT("{\"abcdefghijklmnopqrst\":1,\"abcdefghijklmnopqrst\":1}"),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct flat f;
		struct flat_member m;

		flat_begin(&f, cases[i]);
		while (flat_next(&f, &m))
			;
		if (!f.failed)
			fail_msg("accepted: %.*s", STR_FMT(cases[i]));
	}
}

static void escapes_have_one_spelling(void **state)
{
	static const struct {
		struct str in, out; /* p == NULL: refused */
	} cases[] = {
		{ STR_INIT("plain \xc3\xa4/"), STR_INIT("plain \xc3\xa4/") },
		{ STR_INIT("\\\"\\\\\\b\\t\\n\\f\\r"), STR_INIT("\"\\\b\t\n\f\r") },
		{ STR_INIT("\\u0000\\u001f\\u000b"), STR_INIT("\0\x1f\x0b") },
		{ STR_INIT("\\u0041"), { 0 } },
		{ STR_INIT("\\u000a"), { 0 } },
		{ STR_INIT("\\u001F"), { 0 } },
		{ STR_INIT("\\/"), { 0 } },
		{ STR_INIT("\\"), { 0 } },
		{ STR_INIT("\\u00"), { 0 } },
		{ STR_INIT("a\nb"), { 0 } },
	};
	AUTO_BUF out;

	(void)state;
	buf_init(&out, mem_system, 1000);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		bool ok;

		buf_reset(&out);
		ok = flat_unescape(cases[i].in, &out);
		if (ok != !!cases[i].out.p || (ok && !str_eq(buf_str(&out), cases[i].out)))
			fail_msg("%.*s", STR_FMT(cases[i].in));
	}
}

static int begin(void **state)
{
	(void)state;
	sha = sha256_new(NULL);
	return sha ? 0 : -1;
}

static int end(void **state)
{
	(void)state;
	sha256_free(sha);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commitments),
		cmocka_unit_test(the_sheets_records),
		cmocka_unit_test(a_leaf_is_canonical),
		cmocka_unit_test(values_are_cut_and_repaired),
		cmocka_unit_test(a_record_knows_that_it_failed),
		cmocka_unit_test(commitments_of_a_record),
		cmocka_unit_test(members_of_any_length),
		cmocka_unit_test(every_byte_of_a_name_counts),
		cmocka_unit_test(numbers_as_large_as_they_may_be),
		cmocka_unit_test(what_is_no_flat_object),
		cmocka_unit_test(escapes_have_one_spelling),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
