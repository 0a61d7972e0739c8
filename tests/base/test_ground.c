/* The ground: arena, buf, queue, snapshot, text, digest, clock, err. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "authz/base/arena.h"
#include "authz/base/background.h"
#include "authz/base/buf.h"
#include "authz/base/clock.h"
#include "authz/base/digest.h"
#include "authz/base/json.h"
#include "authz/base/queue.h"
#include "authz/base/snapshot.h"
#include "authz/base/tally.h"
#include "authz/base/text.h"
#include "include/writ/err.h"

static void err_messages_are_tidy(void **state)
{
	struct err e = { 0 };

	(void)state;
	assert_false(err_code(&e, ERR_INVALID, "bad_x", "a\x1b[31mb\n\xff"));
	assert_string_equal(e.msg, "a?[31mb??");
	assert_string_equal(e.code, "bad_x");
	assert_false(err_prefix(&e, "line %d", 7));
	assert_string_equal(e.msg, "line 7: a?[31mb??");
	assert_int_equal(err_status(e.class), 400);
	assert_false(err_set(NULL, ERR_IO, "nobody listens"));
}

static void arena_keeps_to_its_bound(void **state)
{
	struct arena a;
	char *p, *q;

	(void)state;
	arena_init(&a, &mem_system, 20000);
	p = arena_alloc(&a, 10);
	q = arena_alloc(&a, 10);
	assert_int_equal((uintptr_t)p % 16, 0);
	assert_true(q >= p + 10);
	assert_null(arena_alloc(&a, 30000));
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_non_null(arena_alloc(&a, 9000));
	assert_true(a.held <= 20000);
	arena_reset(&a);
	assert_ptr_equal(arena_alloc(&a, 10), p); /* the block was kept */
	assert_string_equal(arena_dup(&a, STR("abc")).p, "abc");
	assert_string_equal(arena_printf(&a, "%d-%s", 4, "x").p, "4-x");
	arena_clear(&a);
	assert_int_equal(a.held, 0);
}

/* At every power of ten and of two, where the number of digits and the halves change; in a buf with
 * room, and in one that has just what it takes. */
static void numbers_are_written_as_printf_does(void **state)
{
	uint64_t at[2 * 20 + 2 * 64], n = 0;

	(void)state;
	for (uint64_t v = 1; n < 20; v *= 10)
		at[n++] = v;
	for (uint64_t v = 1; v; v *= 2)
		at[n++] = v;
	for (uint64_t i = 0; i < 3 * n; i++) {
		uint64_t v = at[i / 3] + i % 3 - 1;
		char want[32], out[TEXT_U64_MAX + 1] = "";
		int length = snprintf(want, sizeof(want), "%llu", (unsigned long long)v);
		struct buf b;

		assert_int_equal(text_put_u64(v, out), length);
		assert_string_equal(out, want);
		length = snprintf(want, sizeof(want), "%lld", (long long)v);
		for (size_t room = (size_t)length; room < (size_t)length + 40; room += 39) {
			buf_init(&b, mem_system, room);
			assert_non_null(buf_room(&b, room));
			buf_i64(&b, (int64_t)v);
			assert_true(buf_ok(&b) && str_eq(buf_str(&b), str_c(want)));
			buf_clear(&b);
		}
		buf_init(&b, mem_system, (size_t)length - 1);
		buf_i64(&b, (int64_t)v);
		assert_false(buf_ok(&b));
		buf_clear(&b);
	}
}

static void buf_fails_for_good_at_its_maximum(void **state)
{
	struct arena a;
	struct buf b;

	(void)state;
	buf_init(&b, mem_system, 300);
	for (int i = 0; i < 30; i++)
		buf_lit(&b, "0123456789");
	assert_true(buf_ok(&b));
	buf_char(&b, 'x');
	assert_false(buf_ok(&b));
	assert_int_equal(b.n, 300);
	buf_reset(&b);
	buf_i64(&b, INT64_MIN);
	buf_char(&b, ' ');
	buf_i64(&b, 0);
	buf_printf(&b, " %s", "and");
	assert_true(str_eq(buf_str(&b), STR("-9223372036854775808 0 and")));
	buf_drop(&b, 23);
	assert_true(str_eq(buf_str(&b), STR("and")));
	buf_clear(&b);

	buf_init(&b, mem_system, 10); /* what fits exactly fits, however it is written */
	assert_non_null(buf_room(&b, 0));
	buf_printf(&b, "%05d", 7);
	text_base64(&b, BASE64_URL, "abc", 1);
	text_base64(&b, BASE64_URL, "abcd", 2);
	buf_hex(&b, NULL, 0);
	assert_true(buf_ok(&b));
	assert_true(str_eq(buf_str(&b), STR("00007YQYWI")));
	buf_printf(&b, "%s", "");
	assert_true(buf_ok(&b));
	buf_printf(&b, "%d", 1);
	assert_false(buf_ok(&b));
	buf_clear(&b);

	buf_init(&b, mem_system, 1000);
	buf_printf(&b, "%0999d", 7);
	assert_true(buf_ok(&b));
	assert_int_equal(b.n, 999);
	buf_clear(&b);

	arena_init(&a, &mem_system, 400000);
	buf_in_arena(&b, &a, 90000);
	for (int i = 0; i < 5000; i++)
		buf_lit(&b, "0123456789");
	assert_true(buf_ok(&b));
	assert_memory_equal(b.p + 49990, "0123456789", 10);
	arena_clear(&a);
}

static const struct {
	const char *in;
	size_t n;
	const char *out;
} json_strings[] = {
	{ "abc", 3, "\"abc\"" },
	{ "\"\\/", 3, "\"\\\"\\\\/\"" },
	{ "\b\t\n\f\r\x0b\x1f\x00", 8, "\"\\b\\t\\n\\f\\r\\u000b\\u001f\\u0000\"" },
	{ "\x7f\xe2\x80\xa8", 4, "\"\x7f\xe2\x80\xa8\"" },
	{ "a\xff", 2, "\"a\xef\xbf\xbd\"" },
	{ "\xc3\xa4\xff\xe2\x82", 5, "\"\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
	{ "12345678\"\xc3\xa4 and so on\\", 22, "\"12345678\\\"\xc3\xa4 and so on\\\\\"" },
	{ "", 0, "\"\"" },
};

static void json_strings_are_escaped_as_rfc_8785(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(json_strings); i++) {
		AUTO_BUF b;

		buf_init(&b, mem_system, 1000);
		buf_json(&b, (struct str){ json_strings[i].in, json_strings[i].n });
		if (!str_eq(buf_str(&b), str_c(json_strings[i].out)))
			fail_msg("row %zu: %.*s", i, STR_FMT(buf_str(&b)));
	}
}

static const struct {
	const char *in;
	bool ok;
} utf8[] = {
	{ "", true },
	{ "plain ascii text", true },
	{ "\xc3\xa4", true },
	{ "\xe2\x82\xac", true },
	{ "\xf0\x9f\x9a\x80", true },
	{ "\xf4\x8f\xbf\xbf", true },
	{ "\xc0\x80", false },
	{ "\xc1\xbf", false },
	{ "\xe0\x9f\xbf", false },
	{ "\xed\xa0\x80", false },
	{ "\xf0\x8f\xbf\xbf", false },
	{ "\xf4\x90\x80\x80", false },
	{ "\xf5\x80\x80\x80", false },
	{ "\x80", false },
	{ "\xe2\x82", false },
	{ "12345678\xff", false },
};

static void utf8_is_strict(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(utf8); i++)
		if (text_is_utf8(str_c(utf8[i].in)) != utf8[i].ok)
			fail_msg("row %zu", i);
}

static const struct {
	enum base64 v;
	const char *in;
	int n; /* -1: refused */
} base64s[] = {
	{ BASE64_STD, "", 0 },	      { BASE64_STD, "Zg==", 1 },  { BASE64_STD, "Zm8=", 2 },
	{ BASE64_STD, "Zm9v", 3 },    { BASE64_STD, "Zg", -1 },	  { BASE64_STD, "Zg=", -1 },
	{ BASE64_STD, "Zh==", -1 },   { BASE64_STD, "Zm9=", -1 }, { BASE64_STD, "Z===", -1 },
	{ BASE64_STD, "Zm9v\n", -1 }, { BASE64_STD, "+/+/", 3 },  { BASE64_STD, "-_-_", -1 },
	{ BASE64_URL, "Zg", 1 },      { BASE64_URL, "Zg==", -1 }, { BASE64_URL, "Zh", -1 },
	{ BASE64_URL, "-_-_", 3 },    { BASE64_URL, "+/+/", -1 }, { BASE64_URL, "Z", -1 },
};

static void base64_has_one_spelling(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(base64s); i++) {
		uint8_t out[32];
		size_t n = 0;
		AUTO_BUF again;
		bool ok = text_unbase64(str_c(base64s[i].in), base64s[i].v, out, &n);

		if (ok != (base64s[i].n >= 0) || (ok && n != (size_t)base64s[i].n))
			fail_msg("row %zu (%s)", i, base64s[i].in);
		buf_init(&again, mem_system, 64);
		if (!ok)
			continue;
		text_base64(&again, base64s[i].v, out, n);
		assert_true(str_eq(buf_str(&again), str_c(base64s[i].in)));
	}
}

static void small_readers(void **state)
{
	static const char *const short_names[] = { "team", "tier", NULL };
	static const char *const names[] = { "trust_domain", "listen", "store", NULL };
	uint8_t bytes[2];
	uint64_t u;
	int64_t s;

	(void)state;
	assert_true(text_unhex(STR("0aff"), bytes, 2));
	assert_int_equal(bytes[1], 255);
	assert_false(text_unhex(STR("0aFF"), bytes, 2));
	assert_false(text_unhex(STR("0af"), bytes, 2));
	assert_true(text_u64(STR("18446744073709551615"), UINT64_MAX, &u));
	assert_false(text_u64(STR("18446744073709551616"), UINT64_MAX, &u));
	assert_false(text_u64(STR("08"), 10, &u));
	assert_false(text_u64(STR("+8"), 10, &u));
	assert_false(text_u64(STR("11"), 10, &u));
	assert_true(text_duration(STR("12h"), &s) && s == 43200);
	assert_true(text_duration(STR("90"), &s) && s == 90);
	assert_false(text_duration(STR("0s"), &s));
	assert_false(text_duration(STR("h"), &s));
	assert_false(text_duration(STR("99999999d"), &s));
	assert_string_equal(text_nearest(STR("trust_domian"), names), "trust_domain");
	assert_string_equal(text_nearest(STR("lisen"), names), "listen");
	assert_null(text_nearest(STR("colour"), names));
	assert_string_equal(text_nearest(STR("taem"), short_names), "team");
	assert_string_equal(text_nearest(STR("teir"), short_names), "tier");
	assert_null(text_nearest(STR("mate"), short_names));
	assert_null(text_nearest(STR("teams_of_all"), short_names));
}

static void digest_knows_the_standard_vector(void **state)
{
	struct str parts[] = { STR("a"), STR("b"), STR("c") };
	struct sha256 *s = sha256_new(NULL);
	uint8_t out[SHA256_LEN];
	char hex[64];

	(void)state;
	assert_non_null(s);
	for (int again = 0; again < 2; again++) {
		sha256_parts(s, parts, 3, out);
		text_hex(out, sizeof(out), hex);
		assert_memory_equal(
			hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
			64);
	}
	sha256_free(s);
}

static void hex_of_all_bytes(void **state)
{
	(void)state;
	for (unsigned c = 0; c < 256; c++)
		for (size_t n = 0; n < 40; n++) {
			uint8_t bytes[40];
			char hex[81], want[81] = "";

			for (size_t i = 0; i < n; i++) {
				bytes[i] = (uint8_t)(c + 37 * i);
				snprintf(want + 2 * i, 3, "%02x", bytes[i]);
			}
			memset(hex, '!', sizeof(hex));
			text_hex(bytes, n, hex);
			assert_memory_equal(hex, want, 2 * n);
			assert_int_equal(hex[2 * n], '!');
		}
}

/* One byte that is different, at each place of texts of each length: words and what is left of
 * them. */
static void looks_at_every_byte(void **state)
{
	char text[39];

	(void)state;
	for (unsigned c = 0; c < 256; c++)
		for (size_t n = 0; n < sizeof(text); n++)
			for (size_t at = 0; at <= n; at++) {
				struct str s = { text, n };
				bool plain = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
				bool dashed = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
					      c == '-';
				bool there = at < n;

				memset(text, 'a', sizeof(text));
				text[at] = (char)c; /* also right behind the text */
				if (text_json_plain(s) != (there && !plain ? at : n) ||
				    text_json_plain_short(s) != (there && !plain ? at : n) ||
				    text_is_dashed(s) != !(there && !dashed) ||
				    text_is_printable(s) != !(there && (c < 0x20 || c == 0x7f)) ||
				    text_is_utf8(s) != !(there && c >= 0x80))
					fail_msg("byte %u at %zu of %zu", c, at, n);
			}
}

static void copies_texts_of_each_length(void **state)
{
	char from[72], to[72], wanted[72];

	(void)state;
	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (char)i;
	for (size_t n = 0; n < sizeof(from); n++) {
		AUTO_BUF b;

		memset(to, '!', sizeof(to));
		memset(wanted, '!', sizeof(wanted));
		memcpy(wanted, from, n);
		buf_copy(to, from, n);
		assert_memory_equal(to, wanted, sizeof(to));
		buf_init(&b, mem_system, n + 1); /* all the room there may be, and nothing more */
		assert_non_null(buf_room(&b, n + 1));
		b.n = n + 1;
		assert_true(buf_room(&b, 0) == b.p + n + 1);
		assert_true(buf_ok(&b));
		buf_char(&b, 'x');
		assert_false(buf_ok(&b));
	}
}

/* A character of each length at each place: whole, and with its last byte gone. */
static void looks_into_every_character(void **state)
{
	static const char *const characters[] = { "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80" };
	char text[44];

	(void)state;
	for (size_t k = 0; k < ARRAY_LEN(characters); k++)
		for (size_t n = strlen(characters[k]); n < sizeof(text); n++)
			for (size_t at = 0; at + strlen(characters[k]) <= n; at++) {
				size_t length = strlen(characters[k]);

				memset(text, 'a', sizeof(text));
				memcpy(text + at, characters[k], length);
				if (!text_is_utf8((struct str){ text, n }))
					fail_msg("%zu bytes at %zu of %zu", length, at, n);
				text[at + length - 1] = 'a';
				if (text_is_utf8((struct str){ text, n }))
					fail_msg("%zu of %zu bytes at %zu of %zu", length - 1,
						 length, at, n);
			}
}

/* Each character at each place of texts of each length is read back, and written in one way. */
static void writes_every_character(void **state)
{
	char text[36];

	(void)state;
	for (int c = 1; c < 0x80; c++)
		for (size_t n = 1; n < sizeof(text); n++)
			for (size_t at = 0; at < n; at++) {
				const struct json *v;
				struct arena a;
				AUTO_BUF b = { 0 };
				AUTO_BUF again = { 0 };

				memset(text, 'a', sizeof(text));
				text[at] = (char)c;
				buf_init(&b, mem_system, 1 << 20);
				buf_init(&again, mem_system, 1 << 20);
				buf_json(&b, (struct str){ text, n });
				arena_init(&a, &mem_system, 1 << 20);
				if (!json_parse(buf_str(&b), &json_default_limits, &a, &v, NULL) ||
				    !str_eq(v->s, (struct str){ text, n }))
					fail_msg("character %d at %zu of %zu", c, at, n);
				json_canonical(&again, v);
				assert_true(str_eq(buf_str(&again), buf_str(&b)));
				arena_clear(&a);
			}
}

/* Texts of each length, equal and with one other byte at each place. */
static void equal_or_not(void **state)
{
	(void)state;
	for (size_t n = 0; n < 40; n++) {
		char a[40], b[40];

		memset(a, 'x', sizeof(a));
		for (size_t at = 0; at < sizeof(b); at++) {
			memset(b, 'x', sizeof(b));
			b[at] = 'y'; /* also behind the text */
			if (str_eq((struct str){ a, n }, (struct str){ b, n }) != (at >= n) ||
			    str_eq_short((struct str){ a, n }, (struct str){ b, n }) != (at >= n))
				fail_msg("byte %zu of %zu", at, n);
		}
		assert_false(n && str_eq((struct str){ a, n }, (struct str){ a, n - 1 }));
		assert_false(n && str_eq_short((struct str){ a, n }, (struct str){ a, n - 1 }));
	}
	assert_true(str_eq((struct str){ NULL, 0 }, STR("")));
	assert_true(str_eq_short((struct str){ NULL, 0 }, STR("")));
}

static void order_of_names(void **state)
{
	static const struct str names[] = { STR_INIT(""),     STR_INIT("a"),	STR_INIT("aa"),
					    STR_INIT("ab"),   STR_INIT("b"),	STR_INIT("prev"),
					    STR_INIT("seq"),  STR_INIT("sequ"), STR_INIT("\x7f"),
					    STR_INIT("\x80"), STR_INIT("\xff") };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		for (size_t j = 0; j < ARRAY_LEN(names); j++) {
			assert_int_equal(str_before(names[i], names[j]), i < j);
			assert_int_equal(str_cmp(names[i], names[j]) < 0, i < j);
		}
}

static void salts_differ(void **state)
{
	struct sha256 *s = sha256_new(NULL);
	uint8_t salt[300][16];

	(void)state;
	assert_non_null(s);
	for (size_t i = 0; i < ARRAY_LEN(salt); i++) {
		sha256_salt(s, salt[i], sizeof(salt[i]));
		for (size_t k = 0; k < i; k++)
			assert_memory_not_equal(salt[i], salt[k], sizeof(salt[i]));
	}
	sha256_free(s);
}

static void clock_writes_rfc_3339(void **state)
{
	char out[CLOCK_RFC3339_MAX];

	(void)state;
	clock_rfc3339(0, out);
	assert_string_equal(out, "1970-01-01T00:00:00Z");
	clock_rfc3339(1760000000123, out);
	assert_string_equal(out, "2025-10-09T08:53:20.123Z");
	clock_rfc3339(-1, out);
	assert_string_equal(out, "1969-12-31T23:59:59.999Z");
}

static const struct {
	const char *in;
	int64_t ms; /* -1: refused */
} times[] = {
	{ "1970-01-01T00:00:00Z", 0 },
	{ "2025-10-09T08:53:20.123Z", 1760000000123 },
	{ "2025-10-09T08:53:20.5Z", 1760000000500 },
	{ "2028-02-29T00:00:00Z", 1835395200000 },
	{ "2027-02-29T00:00:00Z", -1 },
	{ "2027-02-31T00:00:00Z", -1 },
	{ "2027-01-31", -1 },
	{ "2027-01-31T24:00:00Z", -1 },
	{ "2027-01-31T23:59:60Z", -1 },
	{ "2027-01-31T12:00:00", -1 },
	{ "2027-01-31T12:00:00.Z", -1 },
	{ "2027-01-31T12:00:00.1234Z", -1 },
	{ "2027-01-31T12:00:00+01:00", -1 },
	{ "2027-01-31 12:00:00Z", -1 },
	{ "2027-1-31T12:00:00.00Z", -1 },
};

static void clock_reads_what_it_writes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		int64_t ms = -1;
		bool ok = clock_parse_rfc3339(str_c(times[i].in), &ms);

		if (ok != (times[i].ms >= 0) || ms != times[i].ms)
			fail_msg("%s: %d %lld", times[i].in, ok, (long long)ms);
	}
}

struct number {
	struct link link;
	int v;
};

static void *push_thousand(void *arg)
{
	for (int i = 0; i < 1000; i++) {
		struct number *n = malloc(sizeof(*n));
		struct chain c;

		n->v = i;
		chain_init(&c);
		chain_add(&c, &n->link);
		queue_push_always(arg, &c);
	}
	return NULL;
}

static void queue_keeps_order_across_threads(void **state)
{
	struct queue *q = queue_new(10, true, NULL);
	pthread_t t[2];
	int got = 0;

	(void)state;
	assert_non_null(q);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, push_thousand, q), 0);
	while (got < 2000) {
		struct chain c;

		if (!queue_wait(q, &c, 10000))
			fail_msg("nothing came after %d", got);
		for (struct link *l = c.first, *next; l; l = next, got++) {
			next = l->next;
			free(LINK_OF(l, struct number, link));
		}
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	queue_free(q);
}

static void queue_refuses_past_its_bound(void **state)
{
	struct queue *q = queue_new(2, false, NULL);
	struct number n[3];
	struct chain c;

	(void)state;
	chain_init(&c);
	for (int i = 0; i < 3; i++)
		chain_add(&c, &n[i].link);
	assert_false(queue_push(q, &c)); /* all or nothing */
	assert_int_equal(c.n, 3);
	chain_init(&c);
	chain_add(&c, &n[0].link);
	assert_true(queue_push(q, &c));
	assert_null(c.first);
	assert_int_equal(queue_len(q), 1);
	queue_close(q);
	chain_add(&c, &n[1].link);
	assert_false(queue_push(q, &c));
	assert_true(queue_wait(q, &c, -1));
	assert_ptr_equal(c.first, &n[0].link);
	assert_false(queue_wait(q, &c, -1)); /* closed and empty: no sleep */
	queue_free(q);
}

struct thing {
	struct shared shared;
	int *freed;
};

/* Each user has a share, and what is given back is forgotten. */
static void tally_keeps_shares(void **state)
{
	struct tally t;

	(void)state;
	tally_init(&t, &mem_system);
	for (uint64_t who = 0; who < 1000; who++)
		for (int i = 0; i < 3; i++)
			assert_int_equal(tally_add(&t, who, 2), i < 2);
	assert_int_equal(tally_of(&t, 999), 2);
	for (uint64_t who = 0; who < 999; who++) {
		tally_drop(&t, who);
		assert_int_equal(tally_of(&t, who), 1);
		assert_true(tally_add(&t, who, 2));
		tally_drop(&t, who);
		tally_drop(&t, who);
		assert_int_equal(tally_of(&t, who), 0);
	}
	assert_false(tally_add(&t, 1000, 0));
	for (size_t i = 0; i < TALLY_BUCKETS; i++)
		assert_true(!t.buckets[i] || t.buckets[i]->who == 999);
	tally_clear(&t);
}

static void free_thing(struct shared *s)
{
	struct thing *t = (struct thing *)s;

	++*t->freed;
	free(t);
}

static struct shared *thing_new(int *freed)
{
	struct thing *t = malloc(sizeof(*t));

	shared_init(&t->shared, free_thing);
	t->freed = freed;
	return &t->shared;
}

static void snapshot_lives_as_long_as_its_readers(void **state)
{
	struct held h = { 0 };
	struct shared *one;
	struct slot slot;
	bool changed;
	int freed = 0;

	(void)state;
	slot_init(&slot);
	assert_null(slot_refresh(&slot, &h, &changed));
	slot_publish(&slot, thing_new(&freed));
	one = slot_refresh(&slot, &h, &changed);
	assert_true(changed);
	assert_ptr_equal(slot_refresh(&slot, &h, &changed), one);
	assert_false(changed);
	slot_publish(&slot, thing_new(&freed));
	assert_int_equal(freed, 0); /* held by h */
	assert_ptr_not_equal(slot_refresh(&slot, &h, &changed), one);
	assert_int_equal(freed, 1);
	held_clear(&h);
	slot_clear(&slot);
	assert_int_equal(freed, 2);
}

/* Whoever sleeps until something is published is woken, without an object in its queue. */
static void a_publication_wakes_its_watcher(void **state)
{
	struct err e = { 0 };
	struct queue *q = queue_new(4, true, &e);
	struct pollfd p = { .fd = queue_fd(q), .events = POLLIN };
	struct slot slot;
	struct chain c;
	int freed = 0;

	(void)state;
	slot_init(&slot);
	slot_publish(&slot, thing_new(&freed));
	assert_int_equal(poll(&p, 1, 0), 0);
	slot_watch(&slot, q);
	assert_int_equal(poll(&p, 1, 0), 0);
	slot_publish(&slot, thing_new(&freed));
	assert_int_equal(poll(&p, 1, 0), 1);
	assert_false(queue_take(q, &c));
	assert_int_equal(poll(&p, 1, 0), 0);
	slot_watch(&slot, NULL);
	slot_publish(&slot, thing_new(&freed));
	assert_int_equal(poll(&p, 1, 0), 0);
	slot_clear(&slot);
	assert_int_equal(freed, 3);
	queue_free(q);
}

/* sched_setattr(2); the header of it and pthread.h's do not go together. */
struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static void *go_to_the_background(void *attributes)
{
	background_thread();
	assert_int_equal(syscall(SYS_sched_getattr, 0, attributes, sizeof(struct attributes), 0),
			 0);
	return NULL;
}

static void one_thread_stands_back(void **state)
{
	int before = getpriority(PRIO_PROCESS, 0);
	struct attributes a = { 0 };
	pthread_t t;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, go_to_the_background, &a), 0);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(a.nice, 10);
	if (a.runtime) /* Linux 6.12 and later */
		assert_int_equal(a.runtime, 100000);
	assert_int_equal(getpriority(PRIO_PROCESS, 0), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(err_messages_are_tidy),
		cmocka_unit_test(one_thread_stands_back),
		cmocka_unit_test(arena_keeps_to_its_bound),
		cmocka_unit_test(numbers_are_written_as_printf_does),
		cmocka_unit_test(buf_fails_for_good_at_its_maximum),
		cmocka_unit_test(json_strings_are_escaped_as_rfc_8785),
		cmocka_unit_test(utf8_is_strict),
		cmocka_unit_test(base64_has_one_spelling),
		cmocka_unit_test(small_readers),
		cmocka_unit_test(digest_knows_the_standard_vector),
		cmocka_unit_test(hex_of_all_bytes),
		cmocka_unit_test(looks_at_every_byte),
		cmocka_unit_test(copies_texts_of_each_length),
		cmocka_unit_test(looks_into_every_character),
		cmocka_unit_test(writes_every_character),
		cmocka_unit_test(equal_or_not),
		cmocka_unit_test(order_of_names),
		cmocka_unit_test(salts_differ),
		cmocka_unit_test(clock_writes_rfc_3339),
		cmocka_unit_test(clock_reads_what_it_writes),
		cmocka_unit_test(queue_keeps_order_across_threads),
		cmocka_unit_test(queue_refuses_past_its_bound),
		cmocka_unit_test(tally_keeps_shares),
		cmocka_unit_test(snapshot_lives_as_long_as_its_readers),
		cmocka_unit_test(a_publication_wakes_its_watcher),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
