/* net/form: one reading of a form or none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "authz/base/buf.h"
#include "authz/net/form.h"

static const struct {
	const char *why, *body, *read; /* name:value, with | between; NULL: refused */
	const char *says;
} rows[] = {
	{ "empty", "", "", "" },
	{ "one", "a=b", "a:b", "" },
	{ "two", "a=b&c=d", "a:b|c:d", "" },
	{ "twice", "a=b&a=c", "a:b|a:c", "" },
	{ "without a value", "a=&b&c=d", "c:d", "" },
	{ "an equals sign in a value", "a=b=c==", "a:b=c==", "" },
	{ "a blank", "a=b+c%20d", "a:b c d", "" },
	{ "a plus", "a=b%2Bc%2bd", "a:b+c+d", "" },
	{ "reserved", "a=%26%3D%25", "a:&=%", "" },
	{ "an encoded name", "%61=b", "a:b", "" },
	{ "a URN as it is", "grant_type=urn:ietf:params:oauth:grant-type:token-exchange",
	  "grant_type:urn:ietf:params:oauth:grant-type:token-exchange", "" },
	{ "UTF-8", "a=%C3%A4", "a:\xc3\xa4", "" },
	{ "no name", "=b", NULL, "byte 0: a parameter has no name" },
	{ "no name, later", "a=b&=c", NULL, "byte 4" },
	{ "nothing between", "a=b&&c=d", NULL, "byte 4" },
	{ "nothing at the end", "a=b&", NULL, "byte 4" },
	{ "nothing at the start", "&a=b", NULL, "byte 0" },
	{ "a blank as it is", "a=b c", NULL, "byte 3: it must be written" },
	{ "a line break at the end", "a=b\r\n", NULL, "byte 3" },
	{ "a tab", "a=\t", NULL, "byte 2" },
	{ "bytes as they are", "a=\xc3\xa4", NULL, "byte 2" },
	{ "half a code", "a=%", NULL, "byte 2: %" },
	{ "less than a code", "a=%4", NULL, "byte 2: %" },
	{ "no hex", "a=%zz", NULL, "byte 2: %" },
	{ "a sign", "a=%+4", NULL, "byte 2: %" },
	{ "NUL", "a=b%00c", NULL, "byte 2: it must be UTF-8" },
	{ "a control character", "a=%0d%0a", NULL, "byte 2: it must be UTF-8" },
	{ "an overlong form", "a=%c0%af", NULL, "byte 2: it must be UTF-8" },
	{ "a lone surrogate", "a=%ed%a0%80", NULL, "byte 2: it must be UTF-8" },
	{ "half a character", "a=%c3", NULL, "byte 2: it must be UTF-8" },
};

static void reads_the_table(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, 1 << 20);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct form f = { 0 };
		struct err e = { 0 };
		struct buf b;
		bool ok;

		arena_reset(&a);
		buf_in_arena(&b, &a, 4096);
		ok = form_parse(str_c(rows[i].body), &a, &f, &e);
		for (size_t k = 0; ok && k < f.n; k++)
			buf_printf(&b, "%s%.*s:%.*s", k ? "|" : "", STR_FMT(f.pairs[k].name),
				   STR_FMT(f.pairs[k].value));
		if (ok != !!rows[i].read || (ok && !str_eq(buf_str(&b), str_c(rows[i].read))) ||
		    (!ok && (!strstr(e.msg, rows[i].says) || e.class != ERR_INVALID)))
			fail_msg("%s: %.*s %s", rows[i].why, STR_FMT(buf_str(&b)), e.msg);
	}
	arena_clear(&a);
}

static void finds_and_counts(void **state)
{
	struct form f = { 0 };
	struct err e = { 0 };
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, 1 << 20);
	assert_true(form_parse(STR("a=1&b=2&a=3&c="), &a, &f, &e));
	assert_true(str_eq(form_get(&f, STR("a")), STR("1")));
	assert_true(str_eq(form_get(&f, STR("b")), STR("2")));
	assert_null(form_get(&f, STR("c")).p);
	assert_int_equal(form_count(&f, STR("a")), 2);
	assert_int_equal(form_count(&f, STR("c")), 0);
	assert_int_equal(form_count(&f, STR("A")), 0);
	arena_clear(&a);
}

static void is_bounded(void **state)
{
	static char big[FORM_BYTES_MAX + 2];
	struct form f = { 0 };
	struct err e = { 0 };
	struct arena a;
	struct buf b;

	(void)state;
	arena_init(&a, &mem_system, 1 << 20);
	memset(big, 'a', sizeof(big));
	big[1] = '=';
	assert_true(form_parse((struct str){ big, FORM_BYTES_MAX }, &a, &f, &e));
	assert_int_equal(f.pairs[0].value.n, FORM_BYTES_MAX - 2);
	assert_false(form_parse((struct str){ big, FORM_BYTES_MAX + 1 }, &a, &f, &e));
	assert_int_equal(e.class, ERR_TOO_LARGE);
	buf_in_arena(&b, &a, 4096);
	for (int i = 0; i < FORM_PAIRS_MAX; i++)
		buf_printf(&b, "%sa=%d", i ? "&" : "", i);
	assert_true(form_parse(buf_str(&b), &a, &f, &e));
	assert_int_equal(f.n, FORM_PAIRS_MAX);
	buf_lit(&b, "&x=y");
	assert_false(form_parse(buf_str(&b), &a, &f, &e));
	arena_clear(&a);
	arena_init(&a, &mem_system, 64);
	assert_false(form_parse(STR("a=b"), &a, &f, &e));
	assert_int_equal(e.class, ERR_UNAVAILABLE);
	arena_clear(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_table),
		cmocka_unit_test(finds_and_counts),
		cmocka_unit_test(is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
