/*
 * buf - bytes that grow to a stated maximum.
 *
 * Purpose    Every text writ builds goes through here. A write that would pass the maximum, or
 *            finds no memory, is dropped and marks the buf as failed for good; so a writer
 *            appends freely and asks buf_ok() once at the end.
 * Ownership  The buf owns its bytes until buf_clear; over an arena there is nothing to clear.
 * Threads    One owner at a time.
 */
#ifndef WRIT_BUF_H
#define WRIT_BUF_H

#include <stdint.h>

#include "authz/base/arena.h"
#include "authz/base/mem.h"
#include "include/writ/str.h"

struct buf {
	char *p;
	size_t n, cap, max;
	struct alloc alloc;
	bool failed;
};

void buf_init(struct buf *b, struct alloc alloc, size_t max);
/* A buf whose bytes live in @a. */
void buf_in_arena(struct buf *b, struct arena *a, size_t max);
void buf_clear(struct buf *b);

static inline bool buf_ok(const struct buf *b)
{
	return !b->failed;
}

static inline struct str buf_str(const struct buf *b)
{
	return (struct str){ b->p, b->n };
}

/* Forget the content and a failure; the memory is kept. */
static inline void buf_reset(struct buf *b)
{
	b->n = 0;
	b->failed = false;
}

char *buf_grow(struct buf *b, size_t n); /* buf_room's own, when there is not enough */

/* Room for @n more bytes at the end, or NULL (and failed). The caller fills it and adds to b->n. */
static inline char *buf_room(struct buf *b, size_t n)
{
	if (b->p && n <= b->cap - b->n && !b->failed) /* not NULL + 0, nor NULL without failing */
		return b->p + b->n;
	return buf_grow(b, n);
}

/* Drop the first @n bytes. */
void buf_drop(struct buf *b, size_t n);

/* memcpy of what is short, where the call would take longer. */
static inline void buf_copy(char *to, const char *from, size_t n)
{
	char head[16], tail[16];

	if (n > 32) {
		memcpy(to, from, n);
	} else if (n >= 16) {
		memcpy(head, from, 16);
		memcpy(tail, from + n - 16, 16);
		memcpy(to, head, 16);
		memcpy(to + n - 16, tail, 16);
	} else if (n >= 8) {
		memcpy(head, from, 8);
		memcpy(tail, from + n - 8, 8);
		memcpy(to, head, 8);
		memcpy(to + n - 8, tail, 8);
	} else if (n >= 4) {
		memcpy(head, from, 4);
		memcpy(tail, from + n - 4, 4);
		memcpy(to, head, 4);
		memcpy(to + n - 4, tail, 4);
	} else if (n) {
		to[0] = from[0];
		to[n / 2] = from[n / 2];
		to[n - 1] = from[n - 1];
	}
}

static inline void buf_add(struct buf *b, struct str s)
{
	char *at = s.n ? buf_room(b, s.n) : NULL;

	if (!at)
		return;
	memcpy(at, s.p, s.n);
	b->n += s.n;
}

static inline void buf_char(struct buf *b, char c)
{
	char *at = buf_room(b, 1);

	if (!at)
		return;
	*at = c;
	b->n++;
}

void buf_i64(struct buf *b, int64_t v);
void buf_hex(struct buf *b, const void *p, size_t n); /* lower case */
/* From 256 bytes on it wants room for one more than it adds. */
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);

/* A JSON string with its quotes, escaped as RFC 8785 3.2.2.2. @s must be UTF-8; bytes that
 * are not become U+FFFD. */
void buf_json(struct buf *b, struct str s);

#define buf_lit(b, lit) buf_add((b), STR(lit))

#define AUTO_BUF __attribute__((cleanup(buf_clear))) struct buf

#endif
