#include "authz/base/text.h"

#include <stdlib.h>

/* The length of the UTF-8 sequence at @p with @n bytes left, or 0 (RFC 3629 section 4). */
static size_t utf8_sequence(const unsigned char *p, size_t n)
{
	unsigned char lo = 0x80, hi = 0xbf;
	size_t len;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (p[0] == 0xe0)
		lo = 0xa0;
	else if (p[0] == 0xed)
		hi = 0x9f;
	else if (p[0] == 0xf0)
		lo = 0x90;
	else if (p[0] == 0xf4)
		hi = 0x8f;
	if (n < len || p[1] < lo || p[1] > hi)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

size_t text_utf8_char(struct str s)
{
	return s.n ? utf8_sequence((const unsigned char *)s.p, s.n) : 0;
}

/* Sixteen bytes or eight at a time; what is left of a longer text together with bytes before it, of
 * a shorter one as two halves that overlap. */
size_t text_json_plain(struct str s)
{
	uint32_t head, tail;
	uint64_t w, hit;
	size_t i = 0;

#ifdef __SSE2__
	for (; s.n - i >= 16; i += 16) {
		unsigned hits = text_json_hits16(_mm_loadu_si128((const void *)(s.p + i)));

		if (hits)
			return i + (size_t)__builtin_ctz(hits);
	}
#endif
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

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint64_t words2 __attribute__((vector_size(16)));

static inline bool any(bytes16 v)
{
	words2 w = (words2)v;

	return (w[0] | w[1]) != 0;
}

static inline bytes16 load(const char *p)
{
	bytes16 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* A text of 1 to 16 bytes. */
static inline bytes16 load_short(struct str s)
{
	uint64_t half[2];

	text_halves(s, half);
	return (bytes16)(words2){ half[0], half[1] };
}

/* text_is_utf8 where it is not ASCII all through. */
static bool sequences_ok(struct str s)
{
	const unsigned char *p = (const unsigned char *)s.p;

	for (size_t i = 0; i < s.n;) {
		uint64_t word;
		size_t len;

		if (s.n - i >= 8) {
			memcpy(&word, p + i, 8);
			if (!(word & 0x8080808080808080u)) {
				i += 8;
				continue;
			}
		}
		len = utf8_sequence(p + i, s.n - i);
		if (!len)
			return false;
		i += len;
	}
	return true;
}

bool text_is_utf8(struct str s)
{
	bytes16 high;

	if (s.n <= 16) {
		if (!s.n)
			return true;
		high = load_short(s);
	} else {
		high = load(s.p + s.n - 16);
		for (size_t i = 0; s.n - i > 16; i += 16)
			high |= load(s.p + i);
	}
	return !any(high & 0x80) || sequences_ok(s);
}

static inline bytes16 controls(bytes16 v)
{
	return (bytes16)((v < 0x20) | (v == 0x7f));
}

bool text_is_printable(struct str s)
{
	bytes16 found;

	if (s.n <= 16)
		return !s.n || !any(controls(load_short(s)));
	found = controls(load(s.p + s.n - 16));
	for (size_t i = 0; s.n - i > 16; i += 16)
		found |= controls(load(s.p + i));
	return !any(found);
}

static inline bytes16 undashed(bytes16 v)
{
	return ~(bytes16)((v - 'a' < 26) | (v - '0' < 10) | (v == '-'));
}

bool text_is_dashed(struct str s)
{
	bytes16 found;

	if (s.n <= 16)
		return !s.n || !any(undashed(load_short(s)));
	found = undashed(load(s.p + s.n - 16));
	for (size_t i = 0; s.n - i > 16; i += 16)
		found |= undashed(load(s.p + i));
	return !any(found);
}

/* Sixteen half bytes in a byte each as their digits. */
static inline bytes16 digits_of(bytes16 half)
{
	return half + '0' + ((bytes16)(half > 9) & ('a' - '9' - 1));
}

/* Sixteen bytes at a time: their halves apart, as digits, and in turn again. */
static void hex_of_16(const uint8_t *p, char *out)
{
	bytes16 v, high, low, first, last;

	memcpy(&v, p, sizeof(v));
	high = digits_of(v >> 4);
	low = digits_of(v & 15);
	first = __builtin_shufflevector(high, low, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22,
					7, 23);
	last = __builtin_shufflevector(high, low, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14,
				       30, 15, 31);
	memcpy(out, &first, sizeof(first));
	memcpy(out + 16, &last, sizeof(last));
}

void text_hex(const uint8_t *p, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";
	size_t i = 0;

	for (; n - i >= 16; i += 16, out += 32)
		hex_of_16(p + i, out);
	for (; i < n; i++) {
		*out++ = digits[p[i] >> 4];
		*out++ = digits[p[i] & 15];
	}
}

/* Digits of hashes are random: a branch on each would be mispredicted half the time. */
bool text_unhex(struct str s, uint8_t *out, size_t n)
{
	unsigned bad = 0;

	if (s.n != 2 * n)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		unsigned c = (unsigned char)s.p[i];
		unsigned v = (c & 15) + 9 * (c >> 6);

		bad |= (c - '0' >= 10) & (c - 'a' >= 6);
		if (i % 2 == 0)
			out[i / 2] = (uint8_t)(v << 4);
		else
			out[i / 2] |= (uint8_t)(v & 15);
	}
	return !bad;
}

static const char alphabet[2][65] = {
	[BASE64_STD] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
	[BASE64_URL] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
};

void text_base64(struct buf *b, enum base64 v, const void *src, size_t n)
{
	const char *digit = alphabet[v];
	const uint8_t *p = src;
	/* exactly: a buf may have no more */
	char *at = buf_room(b, n / 3 * 4 + (n % 3 ? (v == BASE64_STD ? 4 : n % 3 + 1) : 0));
	char *to = at;

	if (!at)
		return;
	for (; n >= 3; n -= 3, p += 3) {
		*to++ = digit[p[0] >> 2];
		*to++ = digit[(p[0] & 3) << 4 | p[1] >> 4];
		*to++ = digit[(p[1] & 15) << 2 | p[2] >> 6];
		*to++ = digit[p[2] & 63];
	}
	if (n) {
		uint8_t second = n == 2 ? p[1] : 0;

		*to++ = digit[p[0] >> 2];
		*to++ = digit[(p[0] & 3) << 4 | second >> 4];
		if (n == 2)
			*to++ = digit[(second & 15) << 2];
		while (v == BASE64_STD && (to - at) % 4)
			*to++ = '=';
	}
	b->n += (size_t)(to - at);
}

static int base64_digit(char c, enum base64 v)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == alphabet[v][62])
		return 62;
	return c == alphabet[v][63] ? 63 : -1;
}

bool text_unbase64(struct str s, enum base64 v, uint8_t *out, size_t *n)
{
	uint32_t acc = 0;
	unsigned bits = 0;
	size_t made = 0, pad = 0;

	if (v == BASE64_STD) {
		if (s.n % 4)
			return false;
		while (pad < 2 && pad < s.n && s.p[s.n - 1 - pad] == '=')
			pad++;
		s.n -= pad;
	}
	if (s.n % 4 == 1)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		int d = base64_digit(s.p[i], v);

		if (d < 0)
			return false;
		acc = acc << 6 | (uint32_t)d;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[made++] = (uint8_t)(acc >> bits);
		}
	}
	if (acc & ((1u << bits) - 1)) /* bits that belong to no byte must be zero */
		return false;
	*n = made;
	return true;
}

bool text_u64(struct str s, uint64_t max, uint64_t *out)
{
	uint64_t v = 0;

	if (s.n == 0 || (s.n > 1 && s.p[0] == '0'))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		uint64_t d = (uint64_t)(s.p[i] - '0');

		if (s.p[i] < '0' || s.p[i] > '9' || v > (UINT64_MAX - d) / 10)
			return false;
		v = v * 10 + d;
	}
	if (v > max)
		return false;
	*out = v;
	return true;
}

static size_t count_digits(uint64_t v)
{
	size_t n = 1;

	for (; v >= 10000; v /= 10000)
		n += 4;
	return n + (v >= 10) + (v >= 100) + (v >= 1000);
}

/* Written where it stays: what was written in bytes is slow to be read again in words. */
size_t text_put_u64(uint64_t v, char *out)
{
	static const char pairs[] = "00010203040506070809101112131415161718192021222324"
				    "25262728293031323334353637383940414243444546474849"
				    "50515253545556575859606162636465666768697071727374"
				    "75767778798081828384858687888990919293949596979899";
	size_t n = count_digits(v);
	char *p = out + n;

	for (; v >= 100; v /= 100) /* two at a time: dividing is what takes long */
		memcpy(p -= 2, pairs + v % 100 * 2, 2);
	if (v >= 10)
		memcpy(p - 2, pairs + v * 2, 2);
	else
		p[-1] = (char)('0' + v);
	return n;
}

bool text_duration(struct str s, int64_t *seconds)
{
	static const struct {
		char unit;
		int64_t s;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
	int64_t scale = 1;
	uint64_t v;

	for (size_t i = 0; s.n && i < ARRAY_LEN(units); i++)
		if (s.p[s.n - 1] == units[i].unit) {
			scale = units[i].s;
			s.n--;
			break;
		}
	if (!text_u64(s, (uint64_t)(INT32_MAX / scale), &v) || v == 0)
		return false;
	*seconds = (int64_t)v * scale;
	return true;
}

#define NEAR_MAX 64

/* How many slips lie between two short texts: a letter more, less, or another, or two that changed
 * places. Three rows of the table are enough. */
static size_t distance(struct str a, struct str b)
{
	size_t rows[3][NEAR_MAX + 1];
	size_t *above = rows[0], *row = rows[1], *two_above = rows[2];

	if (a.n > NEAR_MAX || b.n > NEAR_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= b.n; j++)
		above[j] = j;
	for (size_t i = 1; i <= a.n; i++) {
		size_t *next = two_above;

		row[0] = i;
		for (size_t j = 1; j <= b.n; j++) {
			size_t best = above[j - 1] + (a.p[i - 1] != b.p[j - 1]);

			if (above[j] + 1 < best)
				best = above[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] &&
			    a.p[i - 2] == b.p[j - 1] && two_above[j - 2] + 1 < best)
				best = two_above[j - 2] + 1;
			row[j] = best;
		}
		two_above = above;
		above = row;
		row = next;
	}
	return above[b.n];
}

const char *text_nearest(struct str s, const char *const *names)
{
	const char *best = NULL;
	size_t least = s.n < 5 ? 2 : 3; /* must be nearer than this */

	for (; *names; names++) {
		size_t d = distance(s, str_c(*names));

		if (d < least) {
			least = d;
			best = *names;
		}
	}
	return best;
}
