/* What is masked is not there any more, what is not stays as it was, and every text is read once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <time.h>

#include "authz/audit/mask.h"
#include "authz/base/clock.h"

#define JWT "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"

static void detectors_know_what_they_name(void **state)
{
	static const struct {
		const char *detector, *in, *out; /* out NULL: as it was */
	} table[] = {
		{ "bearer", "Authorization: Bearer abcdefghijklmnop",
		  "Authorization: Bearer [masked:bearer]" },
		{ "bearer", "BEARER  0123456789abcdef~+/=", "BEARER  [masked:bearer]" },
		{ "bearer", "bearer abcdefghijklmno", NULL }, /* 15 bytes */
		{ "bearer", "bearer of the news", NULL },
		{ "bearer", "forbearer abcdefghijklmnop", NULL },
		{ "bearer", "bearerabcdefghijklmnopqrst", NULL },
		{ "jwt", "x=" JWT "; y", "x=[masked:jwt]; y" },
		{ "jwt", JWT, "[masked:jwt]" },
		{ "jwt", "id-" JWT "/" JWT, "id-[masked:jwt]/[masked:jwt]" },
		{ "jwt", "eyJhbGciOiJub25lIn0.short.x", NULL },
		{ "jwt", "eyJhbGciOiJub25lIn0", NULL },
		{ "jwt", "aeyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9", NULL },
		{ "jwt", "eyJ-eyJ-eyJhbGciOi.eyJzdWIiOiJhbGljZSJ9.c", "[masked:jwt]" },
		{ "jwt", "eyJ a eyJhbGciOi.eyJzdWIiOiJhbGljZSJ9.c z", "eyJ a [masked:jwt] z" },
		{ "api_key", "ghp_0123456789abcdef0123 end", "[masked:api_key] end" },
		{ "api_key", "key=sk-0123456789abcdef0123", "key=[masked:api_key]" },
		{ "api_key", "sk-short", NULL },
		{ "api_key", "ask-0123456789abcdef0123", NULL },
		{ "aws_key", "AKIAIOSFODNN7EXAMPLE", "[masked:aws_key]" },
		{ "aws_key", "id_ASIAIOSFODNN7EXAMPLE.", "id_[masked:aws_key]." },
		{ "aws_key", "AKIAIOSFODNN7EXAMPLEX", NULL },
		{ "aws_key", "AKIAIOSFODNN7EXAMPL", NULL },
		{ "private_key",
		  "a -----BEGIN EC PRIVATE KEY-----\nMII\n-----END EC PRIVATE KEY----- b",
		  "a [masked:private_key] b" },
		{ "private_key", "-----BEGIN PRIVATE KEY-----\\nMII\\n-----END PRIVATE KEY-----",
		  "[masked:private_key]" },
		{ "private_key", "x-----BEGIN PRIVATE KEY-----\nMII", "x[masked:private_key]" },
		{ "private_key", "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----",
		  NULL },
		{ "private_key", "-----BEGIN PUBLIC KEY-----\nMII\n-----END PUBLIC KEY-----",
		  NULL },
		{ "credit_card", "4111111111111111", "[masked:credit_card]" },
		{ "credit_card", "pay 4111-1111-1111-1111 12/27",
		  "pay [masked:credit_card] 12/27" },
		{ "credit_card", "4111 1111 1111 1111 737", "[masked:credit_card] 737" },
		{ "credit_card", "3782 822463 10005", "[masked:credit_card]" },
		{ "credit_card", "4111111111111112", NULL },
		{ "credit_card", "41111111111111111111", NULL }, /* 20 digits */
		{ "credit_card", "order 1234567890123", NULL },
		{ "token", "Bearer " JWT, "Bearer [masked:bearer]" },
		{ "key", "AKIAIOSFODNN7EXAMPLE " JWT, "[masked:aws_key] " JWT },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct mask m = { 0 };
		struct err e = { 0 };
		const char *want = table[i].out ? table[i].out : table[i].in;
		AUTO_BUF b = { 0 };
		size_t hits;

		buf_init(&b, mem_system, 4096);
		assert_true(mask_add_detector(&m, str_c(table[i].detector), &e));
		hits = mask_text(&m, str_c(table[i].in), &b);
		if (!str_eq(buf_str(&b), str_c(want)) || (hits > 0) != (table[i].out != NULL))
			fail_msg("%s: \"%s\" became \"%.*s\"", table[i].detector, table[i].in,
				 STR_FMT(buf_str(&b)));
	}
}

static void fields_go_with_all_below_them(void **state)
{
	static const char in[] =
		"{\"properties\":{\"a\":{\"password\":\"p\",\"b\":[{\"ssn\":1},{\"ssn\":2,\"t\":3}]},"
		"\"password\":[\"x\"],\"user\":\"u\"}}";
	static const struct {
		const char *path, *out;
		size_t hits;
	} table[] = {
		{ "args.password",
		  "{\"properties\":{\"a\":{\"b\":[{\"ssn\":1},{\"ssn\":2,\"t\":3}],\"password\":\"p\"},"
		  "\"password\":\"[masked:field]\",\"user\":\"u\"}}",
		  1 },
		{ "action.properties.a",
		  "{\"properties\":{\"a\":\"[masked:field]\",\"password\":[\"x\"],"
		  "\"user\":\"u\"}}",
		  1 },
		{ "**.password",
		  "{\"properties\":{\"a\":{\"b\":[{\"ssn\":1},{\"ssn\":2,\"t\":3}],"
		  "\"password\":\"[masked:field]\"},\"password\":\"[masked:field]\",\"user\":\"u\"}}",
		  2 },
		{ "args.a.b.*.ssn",
		  "{\"properties\":{\"a\":{\"b\":[{\"ssn\":\"[masked:field]\"},{\"ssn\":\"[masked:field]\","
		  "\"t\":3}],\"password\":\"p\"},\"password\":[\"x\"],\"user\":\"u\"}}",
		  2 },
		{ "**.a.*",
		  "{\"properties\":{\"a\":{\"b\":\"[masked:field]\",\"password\":\"[masked:field]\"},"
		  "\"password\":[\"x\"],\"user\":\"u\"}}",
		  2 },
		{ "action", "\"[masked:field]\"", 1 },
		{ "context.password", NULL, 0 },
		{ "args.Password", NULL, 0 },
		{ "password", NULL, SIZE_MAX }, /* refused */
	};
	const struct json *v = NULL;
	struct arena a;
	struct err e = { 0 };
	AUTO_BUF whole;

	(void)state;
	arena_init(&a, &mem_system, 65536);
	buf_init(&whole, mem_system, 4096);
	assert_true(json_parse(str_c(in), &json_default_limits, &a, &v, &e));
	json_canonical(&whole, v);
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct str want = table[i].out ? str_c(table[i].out) : buf_str(&whole);
		struct mask m = { 0 };
		AUTO_BUF b = { 0 };
		size_t hits;

		assert_int_equal(mask_add_field(&m, str_c(table[i].path), &e),
				 table[i].hits != SIZE_MAX);
		if (table[i].hits == SIZE_MAX)
			continue;
		buf_init(&b, mem_system, 4096);
		hits = mask_canonical(&m, &b, STR("action"), v);
		if (hits != table[i].hits || !str_eq(buf_str(&b), want))
			fail_msg("%s: %.*s", table[i].path, STR_FMT(buf_str(&b)));
	}
	arena_clear(&a);
}

static void rules_that_mean_nothing_are_refused(void **state)
{
	static const char *const paths[] = { "",	  ".",	     "args.",	    "args..a", "**",
					     "args.**.a", "**.**.a", "parameter.x", "a.b.c" };
	char deep[2 * MASK_STEPS + 8] = "args";
	struct mask m = { 0 };
	struct err e = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		if (mask_add_field(&m, str_c(paths[i]), &e))
			fail_msg("\"%s\" was taken", paths[i]);
	for (size_t i = 0; i < MASK_STEPS; i++)
		strcat(deep, ".a"); /* NOLINT: it has room */
	assert_false(mask_add_field(&m, str_c(deep), &e));
	assert_false(mask_add_detector(&m, STR("tokens"), &e));
	assert_non_null(strstr(e.msg, "did you mean \"token\""));
	for (size_t i = 0; i < MASK_RULES; i++)
		assert_true(mask_add_field(&m, STR("args.a"), &e));
	assert_false(mask_add_field(&m, STR("args.a"), &e));
}

static void card_numbers_hide_in_integers(void **state)
{
	const struct json *v = NULL;
	struct mask m = { 0 };
	struct arena a;
	struct err e = { 0 };
	AUTO_BUF b;

	(void)state;
	arena_init(&a, &mem_system, 65536);
	buf_init(&b, mem_system, 4096);
	assert_true(mask_add_detector(&m, STR("credit_card"), &e));
	assert_true(json_parse(STR("[4111111111111111,4111111111111112,0,-5,1.5]"),
			       &json_default_limits, &a, &v, &e));
	assert_int_equal(mask_canonical(&m, &b, STR("context"), v), 1);
	assert_true(
		str_eq(buf_str(&b), STR("[\"[masked:credit_card]\",4111111111111112,0,-5,1.5]")));
	arena_clear(&a);
}

/* A quadratic scan of these would take minutes, not milliseconds: whoever makes it so will notice
 * by the test that never ends, on any machine. */
static void no_text_is_read_again_and_again(void **state)
{
	static const char *const pieces[] = { "eyJ-",
					      "eyJ.",
					      "eyJaaaaaaaa.",
					      "bearer ",
					      "4",
					      "4 4-",
					      "-----BEGIN ",
					      "-----BEGIN PRIVATE KEY",
					      "sk-",
					      "AKIA",
					      "-",
					      "bearer aaaaaaaaaaaaaaa " };
	struct mask m = { 0 };
	struct err e = { 0 };
	AUTO_BUF in, out;

	(void)state;
	buf_init(&in, mem_system, 4 << 20);
	buf_init(&out, mem_system, 16 << 20);
	assert_true(mask_add_detector(&m, STR("token"), &e) &&
		    mask_add_detector(&m, STR("key"), &e) &&
		    mask_add_detector(&m, STR("credit_card"), &e));
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		buf_reset(&in);
		buf_reset(&out);
		while (in.n < 3 << 20)
			buf_add(&in, str_c(pieces[i]));
		(void)mask_text(&m, buf_str(&in), &out);
		assert_true(buf_ok(&in) && buf_ok(&out));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(detectors_know_what_they_name),
		cmocka_unit_test(fields_go_with_all_below_them),
		cmocka_unit_test(rules_that_mean_nothing_are_refused),
		cmocka_unit_test(card_numbers_hide_in_integers),
		cmocka_unit_test(no_text_is_read_again_and_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
