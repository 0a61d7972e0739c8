/*
 * Strict readers of text: what base64 accepts is the one spelling of its bytes, and every sequence
 * of bytes has one; UTF-8 is the same read as a whole and character by character; a JSON string is
 * read back as it was, and a number or duration is its own decimal text.
 */
#include <stdint.h>
#include <stdlib.h>

#include "authz/base/json.h"
#include "authz/base/text.h"

static void need(bool ok)
{
	if (!ok)
		abort();
}

static void check_base64(struct str s, enum base64 v)
{
	uint8_t *out = malloc(3 * s.n / 4 + 3);
	AUTO_BUF text = { 0 };
	AUTO_BUF encoded = { 0 };
	size_t n = 0;

	need(out);
	buf_init(&text, mem_system, 1 << 20);
	buf_init(&encoded, mem_system, 1 << 20);
	if (text_unbase64(s, v, out, &n)) {
		text_base64(&text, v, out, n);
		need(buf_ok(&text) && str_eq(buf_str(&text), s));
	}
	free(out);
	text_base64(&encoded, v, s.p, s.n);
	out = malloc(3 * encoded.n / 4 + 3);
	need(out && buf_ok(&encoded));
	need(text_unbase64(buf_str(&encoded), v, out, &n));
	need(str_eq((struct str){ (char *)out, n }, s));
	free(out);
}

static void check_utf8(struct str s)
{
	size_t i = 0, n;

	while ((n = text_utf8_char(str_from(s, i))) != 0)
		i += n;
	need(text_is_utf8(s) == (i == s.n));
	i = text_json_plain(s);
	need(i <= s.n && text_is_utf8(str_first(s, i)) &&
	     text_is_printable(str_first(s, i)) == !memchr(s.p, 0x7f, i));
	need(i == s.n || (unsigned char)s.p[i] < 0x20 || (unsigned char)s.p[i] >= 0x80 ||
	     s.p[i] == '"' || s.p[i] == '\\');
}

static void check_json_string(struct str s)
{
	AUTO_BUF b = { 0 };
	const struct json *v;
	struct arena a;

	buf_init(&b, mem_system, 1 << 20);
	buf_json(&b, s);
	need(buf_ok(&b) && text_is_utf8(buf_str(&b)));
	arena_init(&a, &mem_system, 1 << 24);
	if (!memchr(s.p, 0, s.n)) {
		need(json_parse(buf_str(&b), &json_default_limits, &a, &v, NULL));
		need(v->type == JSON_STRING && str_eq(v->s, s) == text_is_utf8(s));
	}
	arena_clear(&a);
}

static void check_numbers(struct str s)
{
	AUTO_BUF b = { 0 };
	int64_t seconds;
	uint64_t u;
	uint8_t *bytes = malloc(s.n / 2 + 1);

	need(bytes);
	buf_init(&b, mem_system, 1 << 20);
	if (text_u64(s, INT64_MAX, &u)) {
		buf_i64(&b, (int64_t)u);
		need(str_eq(buf_str(&b), s));
	}
	if (text_duration(s, &seconds))
		need(seconds >= 1 && seconds <= INT32_MAX);
	if (text_unhex(s, bytes, s.n / 2)) {
		buf_reset(&b);
		buf_hex(&b, bytes, s.n / 2);
		need(str_eq(buf_str(&b), s));
	}
	free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str s = { (const char *)p, n };

	if (!n || n > 100000)
		return 0;
	check_base64(s, BASE64_STD);
	check_base64(s, BASE64_URL);
	check_utf8(s);
	check_json_string(s);
	check_numbers(s);
	return 0;
}
