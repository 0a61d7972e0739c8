/*
 * arena - memory of one request: taken bit by bit, given back at once.
 *
 * Purpose    What a request parsed, what the policy saw and the reply live in one arena; nothing
 *            in it is freed singly. Blocks are kept over a reset, up to ARENA_KEEP bytes, so a
 *            busy connection allocates nothing.
 * Ownership  The arena owns its blocks; what it hands out lives until arena_reset or _clear.
 * Threads    One owner at a time.
 */
#ifndef WRIT_ARENA_H
#define WRIT_ARENA_H

#include <stdarg.h>
#include <stdint.h>

#include "authz/base/mem.h"
#include "include/writ/str.h"

#define ARENA_BLOCK 8192       /* bytes of the first block */
#define ARENA_KEEP (64 * 1024) /* bytes kept by arena_reset */

struct arena_block;

struct arena {
	const struct alloc *alloc;
	struct arena_block *first, *block; /* all blocks; the one in use */
	char *next, *end;		   /* free part of the block in use */
	size_t held, max;		   /* bytes of all blocks; bound on them */
};

/* @max bounds the bytes of all blocks together. No memory is taken yet. */
void arena_init(struct arena *a, const struct alloc *alloc, size_t max);
void arena_reset(struct arena *a);
void arena_clear(struct arena *a);

#define ARENA_ALIGN _Alignof(max_align_t)

void *arena_more(struct arena *a, size_t n); /* arena_alloc's own, when the block has no room */

/* @n bytes aligned for any type, or NULL over the bound. n == 0 gives a valid pointer. */
static inline void *arena_alloc(struct arena *a, size_t n)
{
	size_t size = (n + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);
	char *p = a->next;

	if (size - 1 >= (size_t)(a->end - p)) /* 0: nothing is wanted, or more than there is */
		return arena_more(a, n);
	a->next = p + size;
	return p;
}

/* The same, zeroed. */
void *arena_zero(struct arena *a, size_t n);

/* Copies, with a NUL after them that str.n does not count. p == NULL on failure. */
struct str arena_dup(struct arena *a, struct str s);
struct str arena_printf(struct arena *a, const char *fmt, ...) PRINTF(2, 3);

/* An allocator over the arena, for struct buf and friends: growing the last block is in place,
 * freeing does nothing. Lives as long as the arena. */
struct alloc arena_as_alloc(struct arena *a);

#endif
