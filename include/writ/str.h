/*
 * str - text as pointer and length, passed by value.
 *
 * Purpose    One way to hand text around that needs no terminator, so a NUL in
 *            foreign bytes is an ordinary (and refusable) character.
 * Ownership  A str borrows: it lives as long as the bytes it points to, and
 *            there is nothing to free. An empty str may have p == NULL.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_STR_H
#define WRIT_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))

struct str {
	const char *p;
	size_t n; /* bytes */
};

/* A str of a string literal, usable in initialisers and as a value. */
#define STR_INIT(lit)                   \
	{                               \
		"" lit, sizeof(lit) - 1 \
	}
#define STR(lit) ((struct str)STR_INIT(lit))

/* For printf("%.*s", STR_FMT(s)). Texts longer than INT_MAX do not exist here. */
#define STR_FMT(s) (int)(s).n, (s).p ? (s).p : ""

static inline struct str str_c(const char *c)
{
	return (struct str){ c, c ? strlen(c) : 0 };
}

static inline bool str_eq(struct str a, struct str b)
{
	/* b.n: most often that of a literal, so that comparing short ones needs no call. */
	return a.n == b.n && (b.n == 0 || memcmp(a.p, b.p, b.n) == 0);
}

/* str_eq for names: up to 16 bytes are compared here, where the call would cost more than what it
 * does; words that overlap cover every length. */
static inline bool str_eq_short(struct str a, struct str b)
{
	uint64_t head[2], tail[2];
	uint32_t from[2], to[2];

	if (a.n != b.n)
		return false;
	if (b.n > 16)
		return memcmp(a.p, b.p, b.n) == 0;
	if (b.n >= 8) {
		memcpy(&head[0], a.p, 8);
		memcpy(&head[1], b.p, 8);
		memcpy(&tail[0], a.p + b.n - 8, 8);
		memcpy(&tail[1], b.p + b.n - 8, 8);
		return head[0] == head[1] && tail[0] == tail[1];
	}
	if (b.n >= 4) {
		memcpy(&from[0], a.p, 4);
		memcpy(&from[1], b.p, 4);
		memcpy(&to[0], a.p + b.n - 4, 4);
		memcpy(&to[1], b.p + b.n - 4, 4);
		return from[0] == from[1] && to[0] == to[1];
	}
	for (size_t i = 0; i < b.n; i++)
		if (a.p[i] != b.p[i])
			return false;
	return true;
}

/* Bytewise order: negative, zero or positive. A prefix sorts first. */
static inline int str_cmp(struct str a, struct str b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int c = n ? memcmp(a.p, b.p, n) : 0;

	return c ? c : (a.n > b.n) - (a.n < b.n);
}

/* str_cmp(a, b) < 0, for short names that differ early: a loop is faster than a call. */
static inline bool str_before(struct str a, struct str b)
{
	for (size_t i = 0; i < a.n && i < b.n; i++)
		if (a.p[i] != b.p[i])
			return (unsigned char)a.p[i] < (unsigned char)b.p[i];
	return a.n < b.n;
}

static inline bool str_starts(struct str s, struct str prefix)
{
	return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

static inline bool str_ends(struct str s, struct str suffix)
{
	return s.n >= suffix.n &&
	       (suffix.n == 0 || memcmp(s.p + s.n - suffix.n, suffix.p, suffix.n) == 0);
}

/* The part of @s from byte @from on; empty if @from is at or past the end. */
static inline struct str str_from(struct str s, size_t from)
{
	return from < s.n ? (struct str){ s.p + from, s.n - from } : (struct str){ NULL, 0 };
}

/* The first @n bytes of @s, or all of it if it is shorter. */
static inline struct str str_first(struct str s, size_t n)
{
	return (struct str){ s.p, n < s.n ? n : s.n };
}

/* Cut @s at the first @c: *head gets what stands before it, *tail what stands after.
 * Without @c in @s: false, and both are untouched. */
static inline bool str_cut(struct str s, char c, struct str *head, struct str *tail)
{
	const char *at = s.n ? memchr(s.p, c, s.n) : NULL;

	if (!at)
		return false;
	*head = (struct str){ s.p, (size_t)(at - s.p) };
	*tail = (struct str){ at + 1, s.n - head->n - 1 };
	return true;
}

#endif
