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
#ifdef __SSE2__
#include <emmintrin.h>
#endif

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

#ifdef __SSE2__
/* The same of sixteen bytes, a bit for each. From 0x80 on they are negative, and so below 0x20. */
static inline unsigned text_json_hits16(__m128i v)
{
	__m128i hits = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')),
				    _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));

	hits = _mm_or_si128(hits, _mm_cmplt_epi8(v, _mm_set1_epi8(0x20)));
	return (unsigned)_mm_movemask_epi8(hits);
}
#endif

/* The two halves of a text of 1 to 16 bytes; they overlap, so that all bytes are there and no
 * other.
 */
static inline void text_halves(struct str s, uint64_t half[static 2])
{
	uint32_t head, tail;

	if (s.n >= 8) {
		memcpy(&half[0], s.p, 8);
		memcpy(&half[1], s.p + s.n - 8, 8);
		return;
	}
	if (s.n >= 4) {
		memcpy(&head, s.p, 4);
		memcpy(&tail, s.p + s.n - 4, 4);
	} else {
		head = 0x01010101u * (unsigned char)s.p[0];
		tail = 0x0101u * (unsigned char)s.p[s.n / 2] |
		       0x01010000u * (unsigned char)s.p[s.n - 1];
	}
	half[0] = half[1] = (uint64_t)tail << 32 | head;
}

/* Does each byte of both stand for itself in a JSON string? */
static inline bool text_halves_plain(const uint64_t half[static 2])
{
#ifdef __SSE2__
	return !text_json_hits16(_mm_set_epi64x((int64_t)half[1], (int64_t)half[0]));
#else
	return !(text_json_hits(half[0]) | text_json_hits(half[1]));
#endif
}

/* How many bytes at the start of @s are ASCII and stand for themselves in a JSON string: up to the
 * first quote, backslash, control character or byte from 0x80 on. */
size_t text_json_plain(struct str s);

/* The same where most texts end within sixteen bytes of a longer one. */
static inline size_t text_json_plain_short(struct str s)
{
#ifdef __SSE2__
	unsigned hits = s.n < 16 ? 0 : text_json_hits16(_mm_loadu_si128((const void *)s.p));

	if (hits)
		return (size_t)__builtin_ctz(hits);
#endif
	return text_json_plain(s);
}

/* No byte below 0x20 and no 0x7f. */
bool text_is_printable(struct str s);

/* Only a-z, 0-9 and '-', of which nearly all names of headers are made. */
bool text_is_dashed(struct str s);

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
