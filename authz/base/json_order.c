/*
 * UTF-8 sorts by code point, and so does UTF-16 but for one thing: what is above U+FFFF is written
 * there with surrogates (D800..DFFF) and comes before U+E000..U+FFFF. In UTF-8 these start with
 * F0..F4 and with EE, EF; raising the latter two above the former gives the order of UTF-16.
 */
#include "authz/base/json_order.h"

#include <endian.h>

#define FEW 12 /* members sorted by insertion */

static inline unsigned raised(char byte)
{
	unsigned c = (unsigned char)byte;

	return c == 0xee || c == 0xef ? c + 0x10 : c;
}

static inline uint64_t load8(const char *p)
{
	uint64_t w;

	memcpy(&w, p, 8);
	return be64toh(w);
}

int json_name_cmp(struct str a, struct str b)
{
	size_t n = a.n < b.n ? a.n : b.n, i = 0;

	while (n - i >= 8 && load8(a.p + i) == load8(b.p + i))
		i += 8;
	for (; i < n; i++)
		if (a.p[i] != b.p[i])
			return raised(a.p[i]) < raised(b.p[i]) ? -1 : 1;
	return (a.n > b.n) - (a.n < b.n);
}

/* The first eight bytes as a number that sorts like the name; a shorter name is filled up with
 * zeros, which no name contains. */
static inline uint64_t key_of(struct str name)
{
	uint64_t key = 0;

	if (name.n >= 8) {
		key = load8(name.p);
	} else if (name.n >= 4) {
		uint32_t head, tail;

		memcpy(&head, name.p, 4);
		memcpy(&tail, name.p + name.n - 4, 4);
		key = (uint64_t)be32toh(head) << 32 | (uint64_t)be32toh(tail) << 8 * (8 - name.n);
	} else {
		for (size_t i = 0; i < name.n; i++)
			key |= (uint64_t)(unsigned char)name.p[i] << (56 - 8 * i);
	}
	if (key & 0x8080808080808080u) {
		uint64_t ascii = key;

		key = 0;
		for (int i = 56; i >= 0; i -= 8)
			key |= (uint64_t)raised((char)(ascii >> i)) << i;
	}
	return key;
}

static inline int compare(uint64_t key_a, struct str a, uint64_t key_b, struct str b)
{
	if (key_a != key_b)
		return key_a < key_b ? -1 : 1;
	return a.n <= 8 && b.n <= 8 ? 0 : json_name_cmp(a, b);
}

/* Up to FEW members: sort places by insertion, then copy each member once. */
static const struct json *order_few(const struct json *from, uint32_t n, struct json *to)
{
	uint64_t keys[FEW];
	uint8_t place[FEW];

	for (uint32_t i = 0; i < n; i++) {
		uint64_t key = key_of(from[i].name);
		uint32_t j = i;

		for (; j; j--) {
			int c = compare(keys[j - 1], from[place[j - 1]].name, key, from[i].name);

			if (c == 0)
				return &from[i];
			if (c < 0)
				break;
			keys[j] = keys[j - 1];
			place[j] = place[j - 1];
		}
		keys[j] = key;
		place[j] = (uint8_t)i;
	}
	for (uint32_t i = 0; i < n; i++)
		to[i] = from[place[i]];
	return NULL;
}

/* Merge two sorted runs that stand one after the other in @from. */
static const struct json *merge(const struct json *from, uint32_t left, uint32_t right,
				struct json *to)
{
	const struct json *a = from, *a_end = from + left, *b = a_end, *b_end = b + right;

	while (a < a_end && b < b_end) {
		int c = json_name_cmp(a->name, b->name);

		if (c == 0) /* a was first in the text */
			return b;
		*to++ = c < 0 ? *a++ : *b++;
	}
	memcpy(to, a, (size_t)(a_end - a) * sizeof(*a));
	memcpy(to + (a_end - a), b, (size_t)(b_end - b) * sizeof(*b));
	return NULL;
}

const struct json *json_order(struct json *from, uint32_t n, struct json *to)
{
	const struct json *twice = NULL;
	struct json *home = to, *other;

	if (n <= FEW)
		return order_few(from, n, to);
	for (uint32_t i = 0; i < n && !twice; i += FEW)
		twice = order_few(from + i, n - i < FEW ? n - i : FEW, to + i);
	/* Runs of twice the length each time, to and fro between the two places. */
	other = from;
	for (uint32_t run = FEW; run < n && !twice; run *= 2) {
		struct json *swap = to;

		for (uint32_t i = 0; i < n && !twice; i += 2 * run) {
			uint32_t left = n - i < run ? n - i : run;
			uint32_t right = n - i - left < run ? n - i - left : run;

			twice = merge(to + i, left, right, other + i);
		}
		to = other;
		other = swap;
	}
	if (!twice && to != home)
		memcpy(home, to, n * sizeof(*to));
	return twice;
}
