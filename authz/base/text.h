/*
 * text - UTF-8, hexadecimal, base64, numbers: strict readers and writers.
 *
 * Purpose    Foreign text is read here in one way: all of it or not at all, and only the one
 *            spelling of a value (RFC 4648 3.5: no stray bits, padding exactly as the variant
 *            wants it), so no two spellings of one thing get past a comparison.
 * Ownership  Output goes to the caller's storage.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_TEXT_H
#define WRIT_TEXT_H

#include <endian.h>
#include <stdint.h>

#include "authz/base/buf.h"
#include "include/writ/str.h"

/* Well-formed UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing past U+10FFFF. */
bool text_is_utf8(struct str s);

/* The bytes of the UTF-8 sequence that @s starts with, or 0 if there is no well-formed one. */
size_t text_utf8_char(struct str s);

/* A byte of @w with its high bit set where @w has one that is not ASCII or does not stand for
 * itself in a JSON string. Of a word's bytes that borrow or have the high bit, the lowest is always
 * a true hit. */
static inline uint64_t text_json_hits(uint64_t w)
{
	const uint64_t ones = 0x0101010101010101u;

	return (((w ^ ones * '"') - ones) | ((w ^ ones * '\\') - ones) | (w - ones * 0x20) | w) &
	       ones * 0x80;
}

/* How many bytes at the start of @s are ASCII and stand for themselves in a JSON string: up to the
 * first quote, backslash, control character or byte from 0x80 on. Eight at a time; what is left of
 * a longer text together with bytes before it, of a shorter one as two halves that overlap. */
static inline size_t text_json_plain(struct str s)
{
	uint32_t head, tail;
	uint64_t w, hit;
	size_t i = 0;

	for (; s.n - i >= 8; i += 8) {
		memcpy(&w, s.p + i, 8);
		hit = text_json_hits(le64toh(w));
		if (hit)
			return i + (size_t)__builtin_ctzll(hit) / 8;
	}
	if (i && i < s.n) {
		memcpy(&w, s.p + s.n - 8, 8);
		hit = text_json_hits(le64toh(w));
		return hit ? s.n - 8 + (size_t)__builtin_ctzll(hit) / 8 : s.n;
	}
	if (!i && s.n >= 4) {
		memcpy(&head, s.p, 4);
		memcpy(&tail, s.p + s.n - 4, 4);
		hit = text_json_hits((uint64_t)le32toh(tail) << 32 | le32toh(head));
		i = hit ? (size_t)__builtin_ctzll(hit) / 8 : 8;
		return i < 4 ? i : s.n - 8 + i;
	}
	for (; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\')
			break;
	}
	return i;
}

/* No byte below 0x20 and no 0x7f. */
bool text_is_printable(struct str s);

/* Lower-case hexadecimal of exactly @n bytes. */
bool text_unhex(struct str s, uint8_t *out, size_t n);
void text_hex(const uint8_t *p, size_t n, char *out); /* 2n characters, no NUL */

enum base64 {
	BASE64_STD, /* + /, with padding */
	BASE64_URL, /* - _, without padding */
};
void text_base64(struct buf *b, enum base64 v, const void *p, size_t n);

/* Decode into @out (room for 3 * s.n / 4 + 3 bytes). False: not the one spelling. */
bool text_unbase64(struct str s, enum base64 v, uint8_t *out, size_t *n);

/* Decimal without sign, leading zero or anything else, at most @max. */
bool text_u64(struct str s, uint64_t max, uint64_t *out);

/* @v in decimal, without NUL; the number of characters is returned. */
#define TEXT_U64_MAX 20
size_t text_put_u64(uint64_t v, char *out);

/* "90", "90s", "15m", "12h", "7d": seconds, at least 1. */
bool text_duration(struct str s, int64_t *seconds);

/* The entry of @names (NULL-terminated) nearest to @s by edits, or NULL if none is near:
 * for "did you mean". */
const char *text_nearest(struct str s, const char *const *names);

#endif
