/* The strict reader and the canonical writer of JSON. Numbers have a file of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "authz/base/digest.h"
#include "authz/base/json.h"
#include "authz/base/text.h"

#define MAX (64 * 1024 * 1024)

static const struct json_limits small = { .string = 8, .depth = 3, .members = 4, .values = 10 };

/* Read @text, of exactly its bytes on the heap, so that a sanitizer sees any read past it. */
static bool read_exact(struct str text, const struct json_limits *limits, struct buf *canonical,
		       struct err *e)
{
	char *copy = malloc(text.n ? text.n : 1);
	const struct json *v = NULL;
	struct arena a;
	bool ok;

	assert_non_null(copy);
	if (text.p)
		memcpy(copy, text.p, text.n);
	arena_init(&a, &mem_system, MAX);
	ok = json_parse((struct str){ copy, text.n }, limits, &a, &v, e);
	if (ok)
		json_canonical(canonical, v);
	else
		assert_null(v);
	arena_clear(&a);
	free(copy);
	return ok;
}

#define TEXT(lit) STR_INIT(lit)

static const struct {
	const char *why;
	struct str in, out;
} accepted[] = {
	{ "null", TEXT("null"), TEXT("null") },
	{ "booleans, white space of all four kinds", TEXT(" \t\n\r[ true ,\r\nfalse\t] \n"),
	  TEXT("[true,false]") },
	{ "empty", TEXT("[[],{},\"\",[ ],{ }]"), TEXT("[[],{},\"\",[],{}]") },
	{ "nested", TEXT("{\"a\":{\"b\":[{\"c\":[]}]}}"), TEXT("{\"a\":{\"b\":[{\"c\":[]}]}}") },
	{ "sorted at every depth", TEXT("{\"b\":{\"d\":1,\"c\":2},\"a\":[{\"z\":1,\"y\":2}]}"),
	  TEXT("{\"a\":[{\"y\":2,\"z\":1}],\"b\":{\"c\":2,\"d\":1}}") },
	{ "the empty name is first, a prefix before its longer",
	  TEXT("{\"aa\":1,\"a\":2,\"\":3,\"aaaaaaaaa\":4,\"aaaaaaaa\":5}"),
	  TEXT("{\"\":3,\"a\":2,\"aa\":1,\"aaaaaaaa\":5,\"aaaaaaaaa\":4}") },
	{ "names that differ from the ninth byte on",
	  TEXT("{\"commonly_b\":1,\"commonly_a\":2,\"commonly\":3,\"commonly_\":4}"),
	  TEXT("{\"commonly\":3,\"commonly_\":4,\"commonly_a\":2,\"commonly_b\":1}") },
	{ "astral names before U+E000..U+FFFF, in and past the first eight bytes",
	  TEXT("{\"\xee\x80\x80\":1,\"\xf0\x9f\x9a\x80\":2,\"\xed\x9f\xbf\":3,"
	       "\"12345678\xef\xbf\xae\":4,\"12345678\xf4\x8f\xbf\xbf\":5,\"12345678\xc3\xa4\":6}"),
	  TEXT("{\"12345678\xc3\xa4\":6,\"12345678\xf4\x8f\xbf\xbf\":5,\"12345678\xef\xbf\xae\":4,"
	       "\"\xed\x9f\xbf\":3,\"\xf0\x9f\x9a\x80\":2,\"\xee\x80\x80\":1}") },
	{ "all escapes", TEXT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e4\\u20AC\\ud83d\\uDE80\""),
	  TEXT("\"\\\"\\\\/\\b\\f\\n\\r\\tA\xc3\xa4\xe2\x82\xac\xf0\x9f\x9a\x80\"") },
	{ "borders of the escapes' lengths",
	  TEXT("\"\\u0001\\u007f\\u0080\\u07ff\\u0800\\ud7ff\\ue000\\uffff\\ud800\\udc00\\udbff\\udfff\""),
	  TEXT("\"\\u0001\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"
	       "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"") },
	{ "no normalization", TEXT("\"a\xcc\x8a\xc3\xa5\""), TEXT("\"a\xcc\x8a\xc3\xa5\"") },
	{ "an escape after a long plain part", TEXT("\"0123456789abcdef\\n0123456789\\t\""),
	  TEXT("\"0123456789abcdef\\n0123456789\\t\"") },
	{ "room around names and values", TEXT("{\"b\" :1,\"a\": 2 ,\"c\":\"x\" , \"d\" : \"y\"}"),
	  TEXT("{\"a\":2,\"b\":1,\"c\":\"x\",\"d\":\"y\"}") },
	{ "integers not as they are written",
	  TEXT("{\"a\":1.0,\"b\":-0,\"c\":1e2,\"d\":-12,\"e\":0,\"f\":10.0e-1,\"g\":-0.0}"),
	  TEXT("{\"a\":1,\"b\":0,\"c\":100,\"d\":-12,\"e\":0,\"f\":1,\"g\":0}") },
	{ "values of all kinds after a plain name",
	  TEXT("{\"a\":null,\"b\":true,\"c\":\"\\u0041\",\"d\":[],\"e\":{\"f\":false}}"),
	  TEXT("{\"a\":null,\"b\":true,\"c\":\"A\",\"d\":[],\"e\":{\"f\":false}}") },
	{ "an escaped name", TEXT("{\"\\u0062\":1,\"a\":2}"), TEXT("{\"a\":2,\"b\":1}") },
	{ "19.7, first",
	  TEXT("{\"\\uffee\":1,\"\\ud83d\\ude80\":2,\"a\":3,\"A\":4,\"\":5,\"\\n\":6}"),
	  TEXT("{\"\":5,\"\\n\":6,\"A\":4,\"a\":3,\"\xf0\x9f\x9a\x80\":2,\"\xef\xbf\xae\":1}") },
	{ "19.7, second",
	  TEXT("{\"s\":\"\\u20ac$\\u000F\\nA'B\\\"\\\\\\/\\u007f\\u0080\\u2028<\\/script>\","
	       "\"t\":true,\"n\":null,\"a\":[1,-0.0,1E21,0.000001,1e-7],\"o\":{}}"),
	  TEXT("{\"a\":[1,0,1e+21,0.000001,1e-7],\"n\":null,\"o\":{},\"s\":\"\xe2\x82\xac$"
	       "\\u000f\\nA'B\\\"\\\\/\x7f\xc2\x80\xe2\x80\xa8</script>\",\"t\":true}") },
};

static bool holds(const struct buf *b, struct str text)
{
	return b->p && str_eq(buf_str(b), text);
}

static void reads_and_writes_the_canonical_form(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(accepted); i++) {
		AUTO_BUF once = { 0 };
		AUTO_BUF twice = { 0 };
		struct err e = { 0 };

		buf_init(&once, mem_system, MAX);
		buf_init(&twice, mem_system, MAX);
		if (!read_exact(accepted[i].in, &json_default_limits, &once, &e))
			fail_msg("%s: %s", accepted[i].why, e.msg);
		assert_true(read_exact(buf_str(&once), &json_default_limits, &twice, &e));
		if (!holds(&once, accepted[i].out))
			fail_msg("%s: %.*s", accepted[i].why, STR_FMT(buf_str(&once)));
		if (!holds(&twice, accepted[i].out))
			fail_msg("%s, again: %.*s", accepted[i].why, STR_FMT(buf_str(&twice)));
	}
}

static const struct {
	const char *in, *canonical, *sha256;
} vectors[] = {
	/* audit-log.md 19.7 */
	{ "{\"\\uffee\":1,\"\\ud83d\\ude80\":2,\"a\":3,\"A\":4,\"\":5,\"\\n\":6}",
	  "7b22223a352c225c6e223a362c2241223a342c2261223a332c22f09f9a80223a322c22efbfae223a317d",
	  "47bc7d7ade518f80df4f3951c93f1df97dc7fc122e0c09cc8349a946e3e73e7b" },
	{ "{\"s\":\"\\u20ac$\\u000F\\nA'B\\\"\\\\\\/\\u007f\\u0080\\u2028<\\/script>\",\"t\":true,"
	  "\"n\":null,\"a\":[1,-0.0,1E21,0.000001,1e-7],\"o\":{}}",
	  "7b2261223a5b312c302c31652b32312c302e3030303030312c31652d375d2c226e223a6e756c6c2c226f223a"
	  "7b7d2c2273223a22e282ac245c75303030665c6e4127425c225c5c2f7fc280e280a83c2f7363726970743e22"
	  "2c2274223a747275657d",
	  "30fc40c00b14f44c88ba430bd588d41aeccbfa0be971d70cd0f6530c56f58d37" },
};

static void vectors_of_the_sheet(void **state)
{
	struct sha256 *sha = sha256_new(NULL);

	(void)state;
	assert_non_null(sha);
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		AUTO_BUF out = { 0 };
		AUTO_BUF hex = { 0 };
		uint8_t digest[SHA256_LEN];
		struct err e = { 0 };

		buf_init(&out, mem_system, MAX);
		buf_init(&hex, mem_system, MAX);
		assert_true(read_exact(str_c(vectors[i].in), &json_default_limits, &out, &e));
		buf_hex(&hex, out.p, out.n);
		assert_true(str_eq(buf_str(&hex), str_c(vectors[i].canonical)));
		sha256_of(sha, buf_str(&out), digest);
		buf_reset(&hex);
		buf_hex(&hex, digest, sizeof(digest));
		assert_true(str_eq(buf_str(&hex), str_c(vectors[i].sha256)));
	}
	sha256_free(sha);
}

static const struct {
	const char *why;
	struct str in;
	size_t at;
	const char *says;
} refused[] = {
	{ "nothing", TEXT(""), 0, "found nothing" },
	{ "white space only", TEXT("  \n"), 3, "expected a value, found the end of the text" },
	{ "byte order mark", TEXT("\xef\xbb\xbf{}"), 0, "byte order mark" },
	{ "trailing bytes", TEXT("{} x"), 3, "expected the end of the text, found 'x'" },
	{ "two values", TEXT("1 2"), 2, "expected the end of the text, found '2'" },
	{ "trailing NUL", TEXT("[]\0"), 2, "found byte 0x00" },
	{ "no end of an array", TEXT("[1"), 2, "expected ',' or ']', found the end of the text" },
	{ "no end of an object", TEXT("{\"a\":1"), 6, "expected ',' or '}'" },
	{ "only opened", TEXT("["), 1, "expected a value, found the end" },
	{ "only opened", TEXT("{"), 1, "expected a name in double quotes, found the end" },
	{ "wrong bracket", TEXT("[1}"), 2, "expected ',' or ']', found '}'" },
	{ "wrong bracket", TEXT("{\"a\":1]"), 6, "expected ',' or '}', found ']'" },
	{ "comma at the end", TEXT("{\"a\":1,}"), 7,
	  "expected a name in double quotes, found '}'" },
	{ "comma at the end", TEXT("[1,]"), 3, "expected a value, found ']'" },
	{ "comma first", TEXT("[,1]"), 1, "expected a value, found ','" },
	{ "no comma", TEXT("[1 2]"), 3, "expected ',' or ']', found '2'" },
	{ "no colon", TEXT("{\"a\" 1}"), 5, "expected ':' after a name, found '1'" },
	{ "no value", TEXT("{\"a\":}"), 5, "expected a value, found '}'" },
	{ "no value", TEXT("{\"a\""), 4, "expected ':' after a name, found the end" },
	{ "name without quotes", TEXT("{a:1}"), 1, "expected a name in double quotes, found 'a'" },
	{ "number as name", TEXT("{1:1}"), 1, "expected a name in double quotes" },
	{ "single quotes", TEXT("['a']"), 1, "expected a value, found '''" },
	{ "comment", TEXT("[1 /* x */]"), 3, "found '/'" },
	{ "form feed is no space", TEXT("[\f1]"), 1, "found byte 0x0c" },
	{ "no-break space is none", TEXT("[\xc2\xa0]"), 1, "found byte 0xc2" },
	{ "capital", TEXT("True"), 0, "expected a value, found 'T'" },
	{ "cut literal", TEXT("[tru]"), 1, "expected a value, found 't'" },
	{ "cut literal", TEXT("fals"), 0, "expected a value, found 'f'" },
	{ "cut literal", TEXT("nul"), 0, "expected a value, found 'n'" },
	{ "long literal", TEXT("nullx"), 4, "expected the end of the text, found 'x'" },
	{ "undefined", TEXT("undefined"), 0, "expected a value, found 'u'" },

	{ "NaN", TEXT("NaN"), 0, "NaN and infinities are no JSON numbers" },
	{ "nan", TEXT("[nan]"), 1, "NaN and infinities" },
	{ "-NaN", TEXT("-NaN"), 0, "NaN and infinities" },
	{ "Infinity", TEXT("[1,Infinity]"), 3, "NaN and infinities" },
	{ "-Infinity", TEXT("-Infinity"), 0, "NaN and infinities" },
	{ "inf", TEXT("inf"), 0, "NaN and infinities" },
	{ "+inf", TEXT("+inf"), 0, "NaN and infinities" },

	{ "the same name", TEXT("{\"a\":1,\"a\":2}"), 7, "a second time" },
	{ "not neighbours", TEXT("{\"a\":1,\"b\":2,\"a\":3}"), 13, "a second time" },
	{ "same value too", TEXT("{\"a\":1,\"a\":1}"), 7, "a second time" },
	{ "spelled with an escape", TEXT("{\"a\":1,\"\\u0061\":2}"), 7, "a second time" },
	{ "spelled with an escape, first", TEXT("{\"\\u0061\":1 , \"a\" : 2}"), 14,
	  "a second time" },
	{ "quotes and backslashes in the name", TEXT("{\"\\\\\\\"\":1,\"\\\\\\u0022\":2}"), 10,
	  "a second time" },
	{ "a pair and the character", TEXT("{\"\xf0\x9f\x9a\x80\":1,\"\\ud83d\\ude80\":2}"), 10,
	  "a second time" },
	{ "deeper", TEXT("[{\"x\":{\"a\":1,\"a\":2}}]"), 13, "a second time" },
	{ "the empty name", TEXT("{\"\":1,\"\":2}"), 6, "a second time" },
	{ "longer than eight bytes", TEXT("{\"123456789\":1,\"123456789\":2}"), 15,
	  "a second time" },
	{ "among many",
	  TEXT("{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"j\":1,"
	       "\"k\":1,\"l\":1,\"m\":1,\"n\":1,\"a\":1}"),
	  85, "a second time" },

	{ "lone high surrogate", TEXT("\"\\ud800\""), 1, "\\ud800 is half of a surrogate pair" },
	{ "lone low surrogate", TEXT("\"x\\uDC00\""), 2, "\\uDC00 is half of a surrogate pair" },
	{ "low then high", TEXT("\"\\udc00\\ud800\""), 1, "half of a surrogate pair" },
	{ "two high", TEXT("\"\\ud800\\ud800\""), 1, "half of a surrogate pair" },
	{ "high and a letter", TEXT("\"\\ud800\\u0041\""), 1, "half of a surrogate pair" },
	{ "high and another escape", TEXT("\"\\ud800\\n12345\""), 1, "half of a surrogate pair" },
	{ "high, then cut", TEXT("\"\\ud800\\udc0"), 1, "half of a surrogate pair" },
	{ "in a name", TEXT("{\"\\ud800\":1}"), 2, "half of a surrogate pair" },
	{ "U+0000", TEXT("\"ab\\u0000\""), 3, "U+0000 is not accepted" },
	{ "U+0000 in a name", TEXT("{\"\\u0000\":1}"), 2, "U+0000 is not accepted" },
	{ "NUL byte", TEXT("\"a\0b\""), 2, "control character 0x00 in a string; write \\u0000" },
	{ "line feed", TEXT("\"a\nb\""), 2, "control character 0x0a in a string; write \\u000a" },
	{ "0x1f after a word", TEXT("\"01234567\x1f\""), 9, "control character 0x1f" },
	{ "control after an escape", TEXT("\"\\n\n\""), 3, "control character 0x0a" },
	{ "no such escape", TEXT("\"a\\x41\""), 2, "a backslash starts no escape here" },
	{ "\\U", TEXT("\"\\U0041\""), 1, "a backslash starts no escape here" },
	{ "backslash and NUL", TEXT("\"\\\0\""), 1, "a backslash starts no escape here" },
	{ "backslash, then the end", TEXT("\"\\"), 1, "a backslash starts no escape here" },
	{ "short \\u", TEXT("\"\\u12\""), 1, "expected four hexadecimal digits" },
	{ "no digits", TEXT("\"\\u00g0\""), 1, "expected four hexadecimal digits" },
	{ "sign", TEXT("\"\\u-001\""), 1, "expected four hexadecimal digits" },
	{ "cut \\u", TEXT("\"\\u00"), 1, "expected four hexadecimal digits" },
	{ "no end of a string", TEXT("\"abc"), 4, "the text ends inside a string" },
	{ "no end after an escape", TEXT("\"a\\\""), 4, "the text ends inside a string" },
	{ "no end of a name", TEXT("{\"abc"), 5, "the text ends inside a string" },
	{ "overlong", TEXT("\"\xc0\x80\""), 1, "not UTF-8" },
	{ "surrogate in UTF-8", TEXT("\"a\xed\xa0\x80\""), 2, "not UTF-8" },
	{ "past U+10FFFF", TEXT("\"\xf4\x90\x80\x80\""), 1, "not UTF-8" },
	{ "cut sequence", TEXT("\"\xc3\xa4\xe2\x82\""), 3, "not UTF-8" },
	{ "cut sequence at the end", TEXT("\"\xe2\x82"), 1, "not UTF-8" },
	{ "Latin-1", TEXT("\"0123456789\xe4\""), 11, "not UTF-8" },
	{ "after an escape", TEXT("\"\\n\xff\""), 3, "not UTF-8" },
	{ "in a name", TEXT("{\"\xff\":1}"), 2, "not UTF-8" },
};

static void check_refusal(const char *why, struct str in, size_t at, const char *says,
			  enum err_class class, const char *code, const struct json_limits *limits)
{
	struct err e = { 0 };
	char position[40];
	AUTO_BUF out = { 0 };

	buf_init(&out, mem_system, MAX);
	if (read_exact(in, limits, &out, &e))
		fail_msg("%s: %.*s was read", why, STR_FMT(in));
	snprintf(position, sizeof(position), " at byte %zu: ", at);
	if (!strstr(e.msg, position) || !strstr(e.msg, says))
		fail_msg("%s: '%.*s' gives: %s", why, STR_FMT(in), e.msg);
	assert_int_equal(e.class, class);
	assert_string_equal(e.code, code);
	assert_false(read_exact(in, limits, &out, NULL));
}

static void refuses_and_says_where(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(refused); i++)
		check_refusal(refused[i].why, refused[i].in, refused[i].at, refused[i].says,
			      ERR_INVALID, "invalid_json", &json_default_limits);
}

static const struct {
	const char *why, *fits, *past;
	size_t at;
	const char *says;
} limits[] = {
	/* string 8, depth 3, members 4, values 10 */
	{ "string", "\"12345678\"", "\"123456789\"", 0, "a string has 9 bytes; at most 8" },
	{ "bytes, not characters", "\"\xe2\x82\xac\xe2\x82\xacxx\"",
	  "[\"\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\"]", 1, "a string has 9 bytes; at most 8" },
	{ "unescaped", "\"\\u0031\\u00e434567\"", "\"\\u00e43456789\"", 0, "a string has 9 bytes" },
	{ "name", "{\"12345678\":1}", "{\"123456789\":1}", 1, "a string has 9 bytes" },
	{ "arrays", "[[[]]]", "[[[[]]]]", 3, "nested more than 3 deep" },
	{ "objects", "{\"a\":{\"a\":{}}}", "{\"a\":{\"a\":{\"a\":{}}}}", 15,
	  "nested more than 3 deep" },
	{ "depth, not number", "[[[],[]],[[]]]", "[[],[[[]]]]", 6, "nested more than 3 deep" },
	{ "members", "{\"a\":1,\"b\":1,\"c\":1,\"d\":1}",
	  "{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1}", 25, "more than 4 members" },
	{ "members of one", "[{\"a\":{},\"b\":1,\"c\":1},{\"d\":1,\"e\":1}]",
	  "[{\"a\":{},\"b\":1,\"c\":1,\"d\":1,\"e\":1}]", 27, "more than 4 members" },
	{ "values", "[1,2,3,4,5,6,7,8,9]", "[1,2,3,4,5,6,7,8,9,0]", 19, "more than 10 values" },
	{ "values everywhere", "[{\"a\":[1,2]},[],[],[],[],[]]",
	  "[{\"a\":[1,2]},[],[],[],[],[],[]]", 28, "more than 10 values" },
};

static void limits_hold_exactly(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
		AUTO_BUF out = { 0 };
		struct err e = { 0 };

		buf_init(&out, mem_system, MAX);
		if (!read_exact(str_c(limits[i].fits), &small, &out, &e))
			fail_msg("%s: %s", limits[i].why, e.msg);
		check_refusal(limits[i].why, str_c(limits[i].past), limits[i].at, limits[i].says,
			      ERR_TOO_LARGE, "too_large", &small);
	}
}

static void repeat(struct buf *b, const char *text, size_t n)
{
	while (n--)
		buf_add(b, str_c(text));
}

/* "[[...]]", so deep. */
static void nest(struct buf *b, size_t depth)
{
	buf_reset(b);
	repeat(b, "[", depth);
	repeat(b, "]", depth);
}

static void default_limits_hold_exactly(void **state)
{
	AUTO_BUF in = { 0 };
	AUTO_BUF out = { 0 };
	struct err e = { 0 };

	(void)state;
	buf_init(&in, mem_system, MAX);
	buf_init(&out, mem_system, MAX);
	nest(&in, 64);
	assert_true(read_exact(buf_str(&in), &json_default_limits, &out, &e));
	nest(&in, 65);
	check_refusal("depth", buf_str(&in), 64, "nested more than 64 deep", ERR_TOO_LARGE,
		      "too_large", &json_default_limits);
	nest(&in, 1000000); /* no recursion: nothing to overflow */
	check_refusal("depth", buf_str(&in), 64, "nested more than 64 deep", ERR_TOO_LARGE,
		      "too_large", &json_default_limits);

	buf_reset(&in);
	repeat(&in, "[", 1);
	repeat(&in, "0,", 65533);
	repeat(&in, "0", 1);
	assert_true(in.n == 131068);
	buf_lit(&in, ",0]");
	check_refusal("values", str_first(buf_str(&in), in.n - 1), 131070,
		      "expected ',' or ']', found the end", ERR_INVALID, "invalid_json",
		      &json_default_limits);
	assert_true(read_exact(buf_str(&in), &json_default_limits, &out, &e));
	in.n--;
	buf_lit(&in, ",0]");
	check_refusal("values", buf_str(&in), 131071, "more than 65536 values", ERR_TOO_LARGE,
		      "too_large", &json_default_limits);

	buf_reset(&in);
	buf_char(&in, '"');
	repeat(&in, "x", (size_t)256 * 1024);
	buf_char(&in, '"');
	assert_true(read_exact(buf_str(&in), &json_default_limits, &out, &e));
	in.n--;
	buf_lit(&in, "x\"");
	check_refusal("string", buf_str(&in), 0, "262145 bytes; at most 262144", ERR_TOO_LARGE,
		      "too_large", &json_default_limits);
}

/* @n members named by a walk through all residues, so in no order; with @twice one again. */
static void object_of(struct buf *b, unsigned n, bool twice)
{
	buf_reset(b);
	for (unsigned i = 0; i < n; i++)
		buf_printf(b, "%c\"k%u\":%u", i ? ',' : '{', i * 7919 % n, i);
	if (twice)
		buf_printf(b, ",\"k%u\":0", n / 3);
	buf_char(b, '}');
}

static void many_members_are_sorted(void **state)
{
	static const struct json_limits wide = { 100, 2, 5000, 10000 };
	AUTO_BUF in = { 0 };
	AUTO_BUF out = { 0 };
	AUTO_BUF name = { 0 };

	(void)state;
	buf_init(&in, mem_system, MAX);
	buf_init(&out, mem_system, MAX);
	buf_init(&name, mem_system, 100);
	for (unsigned n = 2; n < 4000; n += n < 60 ? 1 : 331) {
		const struct json *v = NULL;
		struct arena a;

		object_of(&in, n, false);
		arena_init(&a, &mem_system, MAX);
		assert_true(json_parse(buf_str(&in), &wide, &a, &v, NULL));
		assert_int_equal(v->n, n);
		for (unsigned i = 1; i < n; i++)
			assert_true(str_cmp(v->items[i - 1].name, v->items[i].name) < 0);
		for (unsigned i = 0; i < n; i++) {
			const struct json *m;

			buf_reset(&name);
			buf_printf(&name, "k%u", i * 7919 % n);
			m = json_get(v, buf_str(&name));
			assert_non_null(m);
			assert_int_equal(m->i, i);
		}
		assert_null(json_get(v, STR("")));
		assert_null(json_get(v, STR("k")));
		assert_null(json_get(v, STR("k0x")));
		assert_null(json_get(v, STR("z")));
		arena_clear(&a);
		object_of(&in, n, true);
		check_refusal("one name twice", buf_str(&in),
			      (size_t)((char *)memrchr(in.p, 'k', in.n) - in.p - 1),
			      "a second time", ERR_INVALID, "invalid_json", &wide);
	}
	object_of(&in, 256, false);
	assert_true(read_exact(buf_str(&in), &json_default_limits, &out, NULL));
	object_of(&in, 257, false);
	check_refusal("members", buf_str(&in),
		      (size_t)((char *)memrchr(in.p, 'k', in.n) - in.p - 1),
		      "more than 256 members", ERR_TOO_LARGE, "too_large", &json_default_limits);
}

static void values_know_their_text(void **state)
{
	static const char text[] =
		" {\"b\" : [1, \"x\\ty\" ,{}], \"a\\u0062\":\"plain\",\"c\":2.50 }";
	const struct json *v, *b;
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, MAX);
	assert_true(json_parse(str_c(text), &json_default_limits, &a, &v, NULL));
	assert_int_equal(v->type, JSON_OBJECT);
	assert_int_equal(v->n, 3);
	assert_int_equal(v->name.n, 0);
	assert_ptr_equal(v->raw.p, text + 1);
	assert_int_equal(v->raw.n, sizeof(text) - 2);
	b = json_get_type(v, STR("b"), JSON_ARRAY);
	assert_non_null(b);
	assert_true(str_eq(b->raw, STR("[1, \"x\\ty\" ,{}]")));
	assert_int_equal(b->items[0].type, JSON_INT);
	assert_int_equal(b->items[0].name.n, 0);
	assert_true(str_eq(b->items[1].raw, STR("\"x\\ty\"")));
	assert_true(str_eq(b->items[1].s, STR("x\ty")));
	assert_true(str_eq(b->items[2].raw, STR("{}")));
	assert_int_equal(b->items[2].n, 0);
	/* without an escape: borrowed */
	assert_true(str_eq(v->items[0].name, STR("ab")));
	assert_true(v->items[0].name.p < text || v->items[0].name.p >= text + sizeof(text));
	assert_ptr_equal(v->items[0].s.p, strstr(text, "plain"));
	assert_ptr_equal(v->items[1].name.p, text + 3);
	assert_true(str_eq(json_get(v, STR("c"))->raw, STR("2.50")));
	assert_int_equal(json_get(v, STR("c"))->type, JSON_REAL);

	assert_null(json_get(v, STR("d")));
	assert_null(json_get(NULL, STR("d")));
	assert_null(json_get(b, STR("d")));
	assert_null(json_get_type(v, STR("b"), JSON_OBJECT));
	assert_null(json_get_type(NULL, STR("b"), JSON_OBJECT));
	arena_clear(&a);
}

static void types_have_names(void **state)
{
	static const char *const names[] = { "null",   "boolean", "integer", "number",
					     "string", "array",	  "object" };

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		assert_string_equal(json_type_name((enum json_type)i), names[i]);
}

/* Lets @left allocations pass, then none. */
struct failing {
	struct alloc alloc;
	unsigned left, blocks;
};

static void *failing_alloc(void *ctx, void *p, size_t old, size_t n)
{
	struct failing *f = ctx;

	if (n && !f->left--) {
		f->left = 0;
		return NULL;
	}
	f->blocks += !p && n;
	f->blocks -= p && !n;
	return mem_system.fn(mem_system.ctx, p, old, n);
}

static bool read_with(unsigned allocations, size_t bytes, struct str text, struct err *e)
{
	static const struct json_limits wide = { 10000, 10, 1000, 10000 };
	struct failing f = { .left = allocations };
	const struct json *v = NULL;
	struct arena a;
	bool ok;

	f.alloc = (struct alloc){ failing_alloc, &f };
	arena_init(&a, &f.alloc, bytes);
	ok = json_parse(text, &wide, &a, &v, e);
	assert_int_equal(ok, v != NULL);
	arena_clear(&a);
	assert_int_equal(f.blocks, 0);
	return ok;
}

/* Every piece of memory is refused in turn: by the allocator, and by the arena's own bound. */
static void no_memory_is_an_error(void **state)
{
	AUTO_BUF in = { 0 };
	struct err e = { 0 };
	unsigned refusals = 0;

	(void)state;
	buf_init(&in, mem_system, MAX);
	buf_lit(&in, "[{\"a\\n\":{\"b\":[]},\"c\":\"\\u20ac\"}");
	repeat(&in, ",[1,\"two\",\"th\\ree\",[4.5,{\"x\":{}}]]", 300);
	buf_char(&in, ']');
	for (; !read_with(refusals, MAX, buf_str(&in), &e); refusals++) {
		assert_int_equal(e.class, ERR_NOMEM);
		assert_string_equal(e.code, "out_of_memory");
		assert_non_null(strstr(e.msg, "JSON at byte "));
	}
	assert_true(refusals >= 3);
	for (refusals = 0; !read_with(1000, 16 * refusals, buf_str(&in), &e); refusals++)
		assert_int_equal(e.class, ERR_NOMEM);
	assert_true(refusals > 100);
}

/* A writer that runs into its maximum, at each length, marks the buf and writes nothing past it. */
static void a_full_buf_fails(void **state)
{
	static const char text[] =
		"{\"a\":[1,2.5,\"x\\ny\",\"z\",null,true,1e300],\"\xc3\xa4\":{}}";
	const struct json *v;
	struct arena a;
	AUTO_BUF all = { 0 };

	(void)state;
	arena_init(&a, &mem_system, MAX);
	buf_init(&all, mem_system, MAX);
	assert_true(json_parse(str_c(text), &json_default_limits, &a, &v, NULL));
	json_canonical(&all, v);
	assert_true(buf_ok(&all));
	for (size_t max = 0; max <= all.n; max++) {
		AUTO_BUF b = { 0 };

		buf_init(&b, mem_system, max);
		json_canonical(&b, v);
		assert_int_equal(buf_ok(&b), max == all.n);
		assert_true(b.n <= max && (b.n == 0 || !memcmp(b.p, all.p, b.n)));
	}
	arena_clear(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_and_writes_the_canonical_form),
		cmocka_unit_test(vectors_of_the_sheet),
		cmocka_unit_test(refuses_and_says_where),
		cmocka_unit_test(limits_hold_exactly),
		cmocka_unit_test(default_limits_hold_exactly),
		cmocka_unit_test(many_members_are_sorted),
		cmocka_unit_test(values_know_their_text),
		cmocka_unit_test(types_have_names),
		cmocka_unit_test(no_memory_is_an_error),
		cmocka_unit_test(a_full_buf_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
