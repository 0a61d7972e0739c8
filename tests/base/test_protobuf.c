/* Protocol Buffers: what is read, what is refused, and the bytes of what is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>

#include "authz/base/protobuf.h"
#include "authz/base/text.h"

#define HEX_MAX 512

static struct str unhex(const char *hex, uint8_t out[static HEX_MAX])
{
	size_t n = strlen(hex) / 2;

	memset(out, 0, HEX_MAX);
	assert_true(n <= HEX_MAX && text_unhex(str_c(hex), out, n));
	return (struct str){ (const char *)out, n };
}

/* "number:wire:value" of each field, separated by blanks. */
static void list(struct pb_reader *in, struct buf *out)
{
	struct pb_field f;

	while (pb_next(in, &f)) {
		buf_printf(out, "%s%" PRIu32 ":%d:", out->n ? " " : "", f.number, (int)f.wire);
		if (f.wire == PB_BYTES)
			buf_add(out, f.bytes);
		else
			buf_printf(out, "%" PRIx64, f.value);
	}
}

static const struct {
	const char *why, *hex, *fields; /* no fields: refused, and then `text` is in the message */
	const char *text;
} messages[] = {
	{ "empty", "", "", NULL },
	{ "varint", "089601", "1:0:96", NULL },
	{ "zero", "0800", "1:0:0", NULL },
	{ "largest", "08ffffffffffffffffff01", "1:0:ffffffffffffffff", NULL },
	{ "string", "0a03616263", "1:2:abc", NULL },
	{ "empty string", "0a00", "1:2:", NULL },
	{ "fixed", "0d01020304110102030405060708", "1:5:4030201 2:1:807060504030201", NULL },
	{ "the same field again", "08010802", "1:0:1 1:0:2", NULL },
	{ "high number", "f8ffffff0f01", "536870911:0:1", NULL },
	{ "reserved numbers are unknown ones", "c0c60901", "19560:0:1", NULL },
	{ "cut tag", "88", NULL, "cut off" },
	{ "cut varint", "0896", NULL, "cut off" },
	{ "no value", "08", NULL, "cut off" },
	{ "past 64 bits", "08ffffffffffffffffff02", NULL, "past 64 bits" },
	{ "eleven bytes", "08ffffffffffffffffffff01", NULL, "past 64 bits" },
	{ "overlong zero", "088000", NULL, "longer than it need be" },
	{ "overlong one", "08818000", NULL, "longer than it need be" },
	{ "overlong tag", "880001", NULL, "longer than it need be" },
	{ "overlong length", "0a830061626300", NULL, "longer than it need be" },
	{ "field 0", "0001", NULL, "number that no field" },
	{ "number past 29 bits", "808080801001", NULL, "number that no field" },
	{ "group", "0b0c", NULL, "group" },
	{ "end of group", "0c", NULL, "group" },
	{ "wire type 6", "0e", NULL, "group" },
	{ "wire type 7", "0f", NULL, "group" },
	{ "length past the end", "0a0461", NULL, "longer than the message" },
	{ "length of 2^64-1", "0affffffffffffffffff01", NULL, "longer than the message" },
	{ "short fixed32", "0d010203", NULL, "longer than the message" },
	{ "short fixed64", "0901020304050607", NULL, "longer than the message" },
};

static void reads_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
		uint8_t raw[HEX_MAX];
		char said[512];
		struct pb_reader in;
		struct err e = { 0 };
		AUTO_BUF b;
		bool ok;

		buf_init(&b, mem_system, sizeof(said));
		in = pb_reader(unhex(messages[i].hex, raw));
		list(&in, &b);
		ok = pb_ok(&in, "Test", &e);
		snprintf(said, sizeof(said), "%.*s", STR_FMT(buf_str(&b)));
		if (ok != !!messages[i].fields)
			fail_msg("%s: %s", messages[i].why, ok ? "accepted" : e.msg);
		if (ok && messages[i].fields && strcmp(said, messages[i].fields))
			fail_msg("%s: %s", messages[i].why, said);
		if (!ok && (e.class != ERR_INVALID || strcmp(e.code, "invalid_message") ||
			    (messages[i].text && !strstr(e.msg, messages[i].text))))
			fail_msg("%s: %s", messages[i].why, e.msg);
	}
}

enum kind { U64, U32, I64, I32, BOOL, DOUBLE, FIXED32, STRING, BYTES };

static const struct {
	const char *why, *hex;
	enum kind kind;
	const char *value; /* NULL: refused */
} values[] = {
	{ "uint64", "08ffffffffffffffffff01", U64, "18446744073709551615" },
	{ "uint64 as bytes", "0a0101", U64, NULL },
	{ "uint32", "08ffffffff0f", U32, "4294967295" },
	{ "uint32 past", "088080808010", U32, NULL },
	{ "int64", "08ffffffffffffffffff01", I64, "-1" },
	{ "int32", "08ffffffffffffffffff01", I32, "-1" },
	{ "int32 lowest", "0880808080f8ffffffff01", I32, "-2147483648" },
	{ "int32 past", "088080808008", I32, NULL },
	{ "bool", "0801", BOOL, "1" },
	{ "bool 2", "0802", BOOL, NULL },
	{ "double", "091100000040fc54d941", DOUBLE, NULL },
	{ "double of the sheet", "0900000040fc54d941", DOUBLE, "1700000000" },
	{ "double as varint", "0801", DOUBLE, NULL },
	{ "fixed32", "0d01000000", FIXED32, "1" },
	{ "fixed32 as varint", "0801", FIXED32, NULL },
	{ "string", "0a02c3a4", STRING, "\xc3\xa4" },
	{ "string not UTF-8", "0a01ff", STRING, NULL },
	{ "string overlong UTF-8", "0a02c080", STRING, NULL },
	{ "string as varint", "0801", STRING, NULL },
	{ "bytes", "0a01ff", BYTES, "\xff" },
	{ "bytes as fixed", "0d01000000", BYTES, NULL },
};

static void take_value(struct pb_reader *in, const struct pb_field *f, enum kind kind,
		       struct buf *out)
{
	uint64_t u = 0;
	uint32_t u32 = 0;
	int64_t i = 0;
	int32_t i32 = 0;
	bool yes = false;
	double d = 0;
	struct str s = { NULL, 0 };

	switch (kind) {
	case U64:
		pb_u64(in, f, &u);
		buf_printf(out, "%" PRIu64, u);
		break;
	case U32:
		pb_u32(in, f, &u32);
		buf_printf(out, "%" PRIu32, u32);
		break;
	case FIXED32:
		pb_fixed32(in, f, &u32);
		buf_printf(out, "%" PRIu32, u32);
		break;
	case I64:
		pb_i64(in, f, &i);
		buf_printf(out, "%" PRId64, i);
		break;
	case I32:
		pb_i32(in, f, &i32);
		buf_printf(out, "%" PRId32, i32);
		break;
	case BOOL:
		pb_bool(in, f, &yes);
		buf_printf(out, "%d", yes);
		break;
	case DOUBLE:
		pb_double(in, f, &d);
		buf_printf(out, "%.0f", d);
		break;
	case STRING:
		pb_string(in, f, &s);
		buf_add(out, s);
		break;
	case BYTES:
		pb_bytes(in, f, &s);
		buf_add(out, s);
		break;
	}
}

static void reads_values(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		uint8_t raw[HEX_MAX];
		struct pb_reader in = pb_reader(unhex(values[i].hex, raw));
		struct pb_field f;
		struct err e = { 0 };
		AUTO_BUF b;

		buf_init(&b, mem_system, 256);
		if (pb_next(&in, &f))
			take_value(&in, &f, values[i].kind, &b);
		(void)pb_next(&in, &f);
		if (pb_ok(&in, "Test", &e) != !!values[i].value)
			fail_msg("%s: %s", values[i].why, e.msg);
		if (values[i].value && !str_eq(buf_str(&b), str_c(values[i].value)))
			fail_msg("%s: %.*s", values[i].why, STR_FMT(buf_str(&b)));
	}
}

/* What is wrong inside is reported by its place in the whole. */
static void nests_by_cursor(void **state)
{
	uint8_t raw[HEX_MAX];
	struct pb_reader out = pb_reader(unhex("08010a0512030a01ff", raw)), in, deep;
	struct pb_field f;
	struct str s = { NULL, 0 };
	struct err e = { 0 };

	(void)state;
	assert_true(pb_next(&out, &f) && pb_next(&out, &f));
	pb_message(&out, &f, &in);
	assert_true(pb_next(&in, &f));
	pb_message(&in, &f, &deep);
	assert_true(pb_next(&deep, &f));
	pb_string(&deep, &f, &s);
	assert_false(pb_next(&deep, &f));
	pb_fail_with(&in, &deep);
	pb_fail_with(&out, &in);
	assert_false(pb_ok(&out, "Outer", &e));
	assert_string_equal(e.msg, "Outer is not well-formed at byte 9, field 1: "
				   "a string is not UTF-8");
	assert_null(s.p);
	pb_fail(&out, "another");
	assert_false(pb_next(&out, &f));
	assert_false(pb_ok(&out, "Outer", &e));
	assert_null(strstr(e.msg, "another"));
}

/* Where a message should be there is a number: nothing is read of what was on the stack. */
static void what_is_no_message_is_empty(void **state)
{
	uint8_t raw[HEX_MAX];
	struct pb_reader out = pb_reader(unhex("0801", raw)), in;
	struct pb_field f;
	struct err e = { 0 };

	(void)state;
	memset(&in, 0x5a, sizeof(in));
	assert_true(pb_next(&out, &f));
	pb_message(&out, &f, &in);
	assert_false(pb_next(&in, &f));
	assert_true(pb_ok(&in, "Inner", &e));
	assert_false(pb_ok(&out, "Outer", &e));
}

static void hex_is(const struct buf *b, const char *wanted)
{
	AUTO_BUF hex;

	buf_init(&hex, mem_system, 4096);
	assert_true(buf_ok(b));
	buf_hex(&hex, b->p, b->n);
	if (!str_eq(buf_str(&hex), str_c(wanted)))
		fail_msg("%.*s, expected %s", STR_FMT(buf_str(&hex)), wanted);
}

/* The bytes protoc 3.21 makes (SPIFFE sheet 18). */
static void writes_what_protoc_writes(void **state)
{
	AUTO_BUF b;
	size_t outer, inner, value;

	(void)state;
	buf_init(&b, mem_system, 4096);
	outer = pb_begin(&b, 1);
	pb_put_text(&b, 1, STR("spiffe://example.org/a"));
	pb_put_text(&b, 2, STR("h.p.s"));
	pb_put_text(&b, 3, STR("int"));
	pb_put_text(&b, 4, STR(""));
	pb_put_number(&b, 5, 0);
	pb_end(&b, outer);
	hex_is(&b, "0a240a167370696666653a2f2f6578616d706c652e6f72672f61120568"
		   "2e702e731a03696e74");

	buf_reset(&b); /* {"exp": 1700000000.0, "ok": false} as a Struct's fields */
	outer = pb_begin(&b, 2);
	inner = pb_begin(&b, 1);
	pb_put_text(&b, 1, STR("exp"));
	value = pb_begin(&b, 2);
	pb_put_double(&b, 2, 1700000000.0);
	pb_end(&b, value);
	pb_end(&b, inner);
	inner = pb_begin(&b, 1);
	pb_put_text(&b, 1, STR("ok"));
	value = pb_begin(&b, 2);
	pb_put_bool(&b, 4, false);
	pb_end(&b, value);
	pb_end(&b, inner);
	pb_end(&b, outer);
	hex_is(&b, "121c"
		   "0a100a0365787012091100000040fc54d941"
		   "0a080a026f6b12022000");

	buf_reset(&b);
	pb_put_i64(&b, 1, -1);
	pb_put_u64(&b, 2, 300);
	hex_is(&b, "08ffffffffffffffffff0110ac02");
}

static void lengths_of_every_size_read_back(void **state)
{
	static const size_t sizes[] = { 0, 1, 122, 123, 124, 125, 127, 128, 16370, 16384, 300000 };
	static char text[300000];

	(void)state;
	memset(text, 'x', sizeof(text));
	for (size_t i = 0; i < 2 * ARRAY_LEN(sizes); i++) {
		size_t size = sizes[i / 2];
		uint32_t far = i % 2 ? 1000 : 0; /* fields whose tag is one byte, and longer */
		struct pb_reader in, inside;
		struct pb_field f;
		struct str s = { NULL, 0 };
		AUTO_BUF b;
		size_t outer, inner;

		buf_init(&b, mem_system, sizeof(text) + 64);
		outer = pb_begin(&b, far + 7);
		inner = pb_begin(&b, far + 3);
		pb_put_bytes(&b, far + 1, (struct str){ text, size });
		pb_end(&b, inner);
		pb_put_u64(&b, far + 4, size);
		pb_end(&b, outer);
		assert_true(buf_ok(&b));
		in = pb_reader(buf_str(&b));
		assert_true(pb_next(&in, &f) && f.number == far + 7);
		inside = pb_reader(f.bytes);
		assert_false(pb_next(&in, &f));
		assert_null(in.why);
		assert_true(pb_next(&inside, &f) && f.number == far + 3);
		in = pb_reader(f.bytes);
		assert_true(pb_next(&inside, &f) && f.number == far + 4 && f.value == size);
		assert_true(pb_next(&in, &f));
		pb_bytes(&in, &f, &s);
		assert_int_equal(s.n, size);
	}
}

/* A message that does not fit, or a string that is none, fails as a whole. */
static void fails_as_its_buf_does(void **state)
{
	AUTO_BUF b;
	size_t begun;

	(void)state;
	buf_init(&b, mem_system, 16);
	begun = pb_begin(&b, 1);
	pb_put_text(&b, 1, STR("much longer than sixteen bytes"));
	pb_end(&b, begun);
	assert_false(buf_ok(&b));
	buf_reset(&b);
	pb_put_text(&b, 1, STR("\xff"));
	assert_false(buf_ok(&b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_table),
		cmocka_unit_test(reads_values),
		cmocka_unit_test(nests_by_cursor),
		cmocka_unit_test(what_is_no_message_is_empty),
		cmocka_unit_test(writes_what_protoc_writes),
		cmocka_unit_test(lengths_of_every_size_read_back),
		cmocka_unit_test(fails_as_its_buf_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
