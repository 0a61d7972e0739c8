/* Numbers of JSON: what is kept, what is refused, and the shortest form of a double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <locale.h>
#include <math.h>

#include "authz/base/json.h"

static bool read_number(const char *text, struct json *v, struct err *e)
{
	const struct json *read;
	struct arena a;
	bool ok;

	arena_init(&a, &mem_system, 100000);
	ok = json_parse(str_c(text), &json_default_limits, &a, &read, e);
	if (ok)
		*v = *read;
	arena_clear(&a);
	return ok;
}

static const char *canonical(const struct json *v, char out[static 64])
{
	AUTO_BUF b = { 0 };

	buf_init(&b, mem_system, 63);
	json_canonical(&b, v);
	assert_true(buf_ok(&b));
	memcpy(out, b.p, b.n);
	out[b.n] = '\0';
	return out;
}

static const char *shortest(double d, char out[static 64])
{
	struct json v = { .type = JSON_REAL, .d = d };

	return canonical(&v, out);
}

static const struct {
	const char *in;
	enum json_type type;
	const char *out; /* the canonical form */
} kept[] = {
	{ "0", JSON_INT, "0" },
	{ "-0", JSON_INT, "0" },
	{ "-0.0", JSON_INT, "0" },
	{ "0e0", JSON_INT, "0" },
	{ "-0e-999999999999999999999", JSON_INT, "0" },
	{ "0.000E+999999999999999999999", JSON_INT, "0" },
	{ "1", JSON_INT, "1" },
	{ "1.0", JSON_INT, "1" },
	{ "1e0", JSON_INT, "1" },
	{ "100e-2", JSON_INT, "1" },
	{ "0.01E+2", JSON_INT, "1" },
	{ "1.000000000000000000000000000000", JSON_INT, "1" },
	{ "-12.50e1", JSON_INT, "-125" },
	{ "1e15", JSON_INT, "1000000000000000" },
	{ "9007199254740991", JSON_INT, "9007199254740991" },
	{ "-9007199254740991", JSON_INT, "-9007199254740991" },
	{ "9007199254740991.0", JSON_INT, "9007199254740991" },
	{ "9.007199254740991e15", JSON_INT, "9007199254740991" },
	{ "900719925474099100000e-5", JSON_INT, "9007199254740991" },
	{ "0.5", JSON_REAL, "0.5" },
	{ "-0.50", JSON_REAL, "-0.5" },
	{ "1250.75", JSON_REAL, "1250.75" },
	{ "0.1", JSON_REAL, "0.1" },
	{ "0.10000000000000000000000000000", JSON_REAL, "0.1" },
	{ "0.000001", JSON_REAL, "0.000001" },
	{ "1e-6", JSON_REAL, "0.000001" },
	{ "0.0000001", JSON_REAL, "1e-7" },
	{ "1.5e-10", JSON_REAL, "1.5e-10" },
	{ "0.12345678901234567", JSON_REAL, "0.12345678901234566" }, /* 17 digits */
	{ "0.30000000000000004", JSON_REAL, "0.30000000000000004" },
	{ "2251799813685249.5", JSON_REAL, "2251799813685249.5" },
	{ "4503599627370497.5", JSON_INT, "4503599627370498" },
	{ "0.99999999999999999", JSON_INT, "1" }, /* the nearest double is integral */
	{ "9007199254740990.7", JSON_INT, "9007199254740991" },
	{ "1E21", JSON_REAL, "1e+21" },
	{ "1000000000000000000000.0", JSON_REAL, "1e+21" },
	{ "9.9999999999999999e20", JSON_REAL, "1e+21" },
	{ "-1.5e300", JSON_REAL, "-1.5e+300" },
	{ "1.7976931348623157e308", JSON_REAL, "1.7976931348623157e+308" },
	{ "2.2250738585072014e-308", JSON_REAL, "2.2250738585072014e-308" },
	{ "5e-324", JSON_REAL, "5e-324" }, /* says what is kept */
	{ "1.2347e-320", JSON_REAL, "1.2347e-320" },
};

static void keeps(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
		struct err e = { 0 };
		struct json v = { 0 }, again = { 0 };
		char out[64];

		if (!read_number(kept[i].in, &v, &e))
			fail_msg("%s: %s", kept[i].in, e.msg);
		if (v.type != kept[i].type || strcmp(canonical(&v, out), kept[i].out) != 0)
			fail_msg("%s became %s %s", kept[i].in, json_type_name(v.type), out);
		assert_true(read_number(out, &again, &e));
		assert_int_equal(again.type, v.type);
		assert_int_equal(again.i, v.i); /* of a double, its bits */
	}
}

static const char integer[] = "an integer beyond +-9007199254740991 would not be kept exactly; "
			      "send it as a string";
static const char digits[] = "a number of more than 17 digits would not be kept exactly; "
			     "send it as a string";
static const char large[] = "a number beyond 1.7976931348623157e308 cannot be kept; "
			    "send it as a string";
static const char tiny[] = "a number so near to zero would not be kept exactly; "
			   "send it as a string";
static const char digit[] = "a number needs a digit here";

static const struct {
	const char *in;
	size_t at;
	const char *says;
} refused[] = {
	{ "9007199254740992", 0, integer },
	{ "-9007199254740992", 0, integer },
	{ "[1, 9007199254740993]", 4, integer },
	{ "9007199254740992.0", 0, integer },
	{ "9.007199254740993e15", 0, integer },
	{ "9007199254740991.5", 0, integer }, /* the nearest double is 2^53 */
	{ "10000000000000000", 0, integer },
	{ "1e16", 0, integer },
	{ "1e20", 0, integer },
	{ "18446744073709551615", 0, integer },
	{ "100000000000000000000", 0, integer },
	{ "1000000000000000000000", 0, integer },
	{ "123456789012345678901234567890", 0, integer },
	{ "999999999999999900000e-1", 0, integer },
	{ "0.123456789012345678", 0, digits },
	{ "[-1.00000000000000001]", 1, digits }, /* 18 */
	{ "12345678.9012345678", 0, digits },
	{ "123456789012345678e-3", 0, digits },
	{ "1.00000000000000000000000000000000000000000000000000001", 0, digits },
	{ "1e999", 0, large },
	{ "-1e309", 0, large },
	{ "1.7976931348623159e308", 0, large },
	{ "1e99999999999999999999999999", 0, large },
	{ "1e-400", 0, tiny },
	{ "1e-99999999999999999999999999", 0, tiny },
	{ "2e-324", 0, tiny },
	{ "4e-324", 0, tiny }, /* would be 5e-324 */
	{ "1.2345678901234567e-320", 0, tiny },
	{ "01", 0, "a number starts with 0 only if" },
	{ "-01", 1, "a number starts with 0 only if" },
	{ "00", 0, "a number starts with 0 only if" },
	{ "1.", 2, digit },
	{ "[1.]", 3, digit },
	{ "1.e5", 2, digit },
	{ "-", 1, digit },
	{ "[-]", 2, digit },
	{ "--1", 1, digit },
	{ "1e", 2, digit },
	{ "1e+", 3, digit },
	{ "1e-x", 3, digit },
	{ "1E+-5", 3, digit },
	{ ".5", 0, "expected a value, found '.'" },
	{ "-.5", 1, digit },
	{ "+1", 0, "expected a value, found '+'" },
	{ "0x10", 1, "expected the end of the text, found 'x'" },
	{ "1_000", 1, "expected the end of the text, found '_'" },
	{ "1,5", 1, "expected the end of the text, found ','" },
};

static void refuses(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		struct err e = { 0 };
		struct json v = { 0 };
		char says[200];

		if (read_number(refused[i].in, &v, &e))
			fail_msg("%s was read", refused[i].in);
		snprintf(says, sizeof(says), "invalid JSON at byte %zu: %s", refused[i].at,
			 refused[i].says);
		if (!str_starts(str_c(e.msg), str_c(says)))
			fail_msg("%s gives: %s", refused[i].in, e.msg);
		assert_int_equal(e.class, ERR_INVALID);
		assert_string_equal(e.code, "invalid_json");
	}
}

/* Longer than any fixed size in the reader, and still one. */
static void long_spellings(void **state)
{
	const size_t zeros = 100000;
	char *text = malloc(zeros + 20);
	struct err e = { 0 };
	struct json v = { 0 };

	(void)state;
	assert_non_null(text);
	text[0] = '7';
	memset(text + 1, '0', zeros);
	snprintf(text + 1 + zeros, 10, "e-%zu", zeros);
	assert_true(read_number(text, &v, &e));
	assert_int_equal(v.type, JSON_INT);
	assert_int_equal(v.i, 7);
	memset(text, '0', zeros);
	text[1] = '.';
	snprintf(text + zeros, 20, "7e%zu", zeros - 2);
	assert_true(read_number(text, &v, &e));
	assert_int_equal(v.type, JSON_REAL);
	assert_true(v.d == 0.7);
	free(text);
}

static const struct {
	uint64_t bits;
	const char *text;
} vectors[] = {
	/* audit-log.md 19.8 */
	{ 0x0000000000000000, "0" },
	{ 0x8000000000000000, "0" },
	{ 0x3ff0000000000000, "1" },
	{ 0xbff0000000000000, "-1" },
	{ 0x433fffffffffffff, "9007199254740991" },
	{ 0x4340000000000000, "9007199254740992" },
	{ 0x4415af1d78b58c40, "100000000000000000000" },
	{ 0x444b1ae4d6e2ef50, "1e+21" },
	{ 0x3eb0c6f7a0b5ed8d, "0.000001" },
	{ 0x3e7ad7f29abcaf48, "1e-7" },
	{ 0x41b3de4355555555, "333333333.3333333" },
	{ 0x3fd3333333333334, "0.30000000000000004" },
	{ 0x0000000000000001, "5e-324" },
	{ 0x7fefffffffffffff, "1.7976931348623157e+308" },
	{ 0x3d30000000000000, "5.684341886080802e-14" },
	{ 0x0060000000000000, "7.120236347223045e-307" },
	/* two as near: the even one */
	{ 0x4310000000000001, "1125899906842624.2" },
	{ 0x4310000000000003, "1125899906842624.8" },
	{ 0xc310000000000005, "-1125899906842625.2" },
};

static double of_bits(uint64_t bits)
{
	double d;

	memcpy(&d, &bits, sizeof(d));
	return d;
}

static void vectors_of_the_sheet(void **state)
{
	char out[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++)
		assert_string_equal(shortest(of_bits(vectors[i].bits), out), vectors[i].text);
}

/* The digits of a number's text, without zeros that lead or trail. */
static size_t digits_of(const char *text, char out[static 64])
{
	size_t n = 0;

	for (; *text && *text != 'e'; text++)
		if (*text >= '0' && *text <= '9' && (n || *text != '0'))
			out[n++] = *text;
	while (n && out[n - 1] == '0')
		n--;
	out[n] = '\0';
	return n;
}

/* One unit up or down in the last of the digits of "d.ddde+x". False: it would carry. */
static bool nudge(char *text, int by)
{
	char *last = strchr(text, 'e') - 1;

	if (*last == '.' || *last + by < '0' || *last + by > '9')
		return false;
	*last = (char)(*last + by);
	return true;
}

/* json_number(@d) must be read back as @d, no text with fewer digits may be, and of the texts with
 * as many none may be nearer: printf's own is the nearest, if it is read back at all. */
static void check_shortest(double d)
{
	char text[64], ours[64], other[64], theirs[64];
	size_t n;

	if (strtod(shortest(d, text), NULL) != d)
		fail_msg("%a became %s", d, text);
	n = digits_of(text, ours);
	assert_in_range(n, 1, 17);
	for (size_t less = n == 1 ? 0 : n - 1; less; less--)
		for (int by = -1; by <= 1; by++) {
			snprintf(other, sizeof(other), "%.*e", (int)less - 1, d);
			if ((by == 0 || nudge(other, by)) && strtod(other, NULL) == d)
				fail_msg("%a became %s, but %s is shorter", d, text, other);
		}
	snprintf(other, sizeof(other), "%.*e", (int)n - 1, d);
	digits_of(other, theirs);
	if (strtod(other, NULL) == d && strcmp(ours, theirs) != 0)
		fail_msg("%a became %s, but %s is nearer", d, text, other);
}

static void powers_are_shortest(void **state)
{
	(void)state;
	for (int e = -1074; e <= 1023; e++) {
		double d = ldexp(1, e);

		check_shortest(d);
		check_shortest(nextafter(d, INFINITY));
		check_shortest(-nextafter(d, 0) - (d == ldexp(1, -1074) ? d : 0));
	}
	for (int e = -323; e <= 308; e++) {
		char text[16];
		double d;

		snprintf(text, sizeof(text), "1e%d", e);
		d = strtod(text, NULL);
		check_shortest(d);
		check_shortest(nextafter(d, INFINITY));
		check_shortest(nextafter(d, 0));
	}
}

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static void random_doubles_are_shortest(void **state)
{
	uint64_t seed = 1;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		uint64_t r = next_random(&seed);
		/* any; in the range of everyday numbers; decimals; subnormal; near halfway */
		double d[] = {
			of_bits(r & 0x7fffffffffffffff),
			ldexp((double)(r >> 11), (int)(r % 70) - 69),
			(double)(r >> 34) / 1000,
			(double)(r % 100000) / 1e5,
			of_bits(r >> 12),
			(double)(r >> 12) + 0.5,
		};

		for (size_t j = 0; j < ARRAY_LEN(d); j++)
			if (isfinite(d[j]) && d[j] > 0)
				check_shortest(d[j]);
	}
}

/* What is written is read as the same double, or refused as the integer it would have to be. */
static void what_is_written_is_read(void **state)
{
	uint64_t seed = 2;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		double d = of_bits(next_random(&seed));
		struct err e = { 0 };
		struct json v = { 0 };
		char text[64];

		if (!isfinite(d))
			continue;
		shortest(d, text);
		if (read_number(text, &v, &e))
			assert_true((v.type == JSON_INT ? (double)v.i : v.d) == d);
		else
			assert_true(fabs(d) >= 0x1p53 && fabs(d) < 1e21 && strstr(e.msg, integer));
	}
}

/* A number that is read is written as its double would be, though some are copied as they came. */
static void spelling_changes_nothing(void **state)
{
	static const char *const points[] = { "", ".", ".0", ".00", ".000", ".00000", ".000000" };
	static const char *const tails[] = { "", "", "0", "e0", "e-7", "E20", "000" };
	uint64_t seed = 3;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		uint64_t r = next_random(&seed);
		char in[80], out[64], want[64];
		struct err e = { 0 };
		struct json v = { 0 };
		int whole = (int)(r % 17), part = (int)(r >> 8) % 17;
		const char *point = points[(r >> 16) % ARRAY_LEN(points)];

		/* digits of both sides of the point, each from none to 16 */
		snprintf(in, sizeof(in), "%s%.*s%s%.*s%s", r >> 63 ? "-" : "", whole ? whole : 1,
			 whole ? "9078563412000101" : "0", point, point[0] ? part : 0,
			 "1020304050607089", tails[(r >> 24) % ARRAY_LEN(tails)]);
		if (!read_number(in, &v, &e))
			continue;
		canonical(&v, out);
		v.raw = (struct str){ NULL, 0 };
		if (strcmp(out, canonical(&v, want)) != 0)
			fail_msg("%s became %s, not %s", in, out, want);
	}
}

/* Whatever the locale says about the decimal point, here it is a point. */
static void the_locale_changes_nothing(void **state)
{
	static const char *const commas[] = { "de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8" };
	struct err e = { 0 };
	struct json v = { 0 };
	char out[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(commas) && !setlocale(LC_NUMERIC, commas[i]); i++)
		;
	assert_true(read_number("1.2345678901234567e-30", &v, &e));
	assert_string_equal(canonical(&v, out), "1.2345678901234567e-30");
	assert_string_equal(shortest(1.5e-300, out), "1.5e-300");
	setlocale(LC_NUMERIC, "C");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps),
		cmocka_unit_test(refuses),
		cmocka_unit_test(long_spellings),
		cmocka_unit_test(vectors_of_the_sheet),
		cmocka_unit_test(powers_are_shortest),
		cmocka_unit_test(random_doubles_are_shortest),
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(spelling_changes_nothing),
		cmocka_unit_test(the_locale_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
