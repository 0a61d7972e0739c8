#include "authz/base/arena.h"

#include <assert.h>
#include <stdalign.h>
#include <stdio.h>

struct arena_block {
	struct arena_block *next;
	size_t size; /* of data */
	alignas(max_align_t) char data[];
};

void arena_init(struct arena *a, const struct alloc *alloc, size_t max)
{
	*a = (struct arena){ .alloc = alloc, .max = max };
}

static void use(struct arena *a, struct arena_block *b)
{
	a->block = b;
	a->next = b ? b->data : NULL;
	a->end = b ? b->data + b->size : NULL;
}

static void free_from(struct arena *a, struct arena_block **at)
{
	struct arena_block *b = *at;

	*at = NULL;
	while (b) {
		struct arena_block *next = b->next;

		a->held -= b->size;
		mem_free(a->alloc, b, sizeof(*b) + b->size);
		b = next;
	}
}

void arena_reset(struct arena *a)
{
	struct arena_block **at = &a->first;
	size_t kept = 0;

	while (*at && kept + (*at)->size <= ARENA_KEEP) {
		kept += (*at)->size;
		at = &(*at)->next;
	}
	free_from(a, at);
	use(a, a->first);
}

void arena_clear(struct arena *a)
{
	free_from(a, &a->first);
	use(a, NULL);
}

/* Move to a block with room for @n: the next kept one if it fits, else a new one twice as
 * large as the last, put right after the block in use. */
static bool grow(struct arena *a, size_t n)
{
	struct arena_block **at = a->block ? &a->block->next : &a->first;
	size_t size = a->block ? a->block->size * 2 : ARENA_BLOCK;
	struct arena_block *b;

	if (*at && (*at)->size >= n) {
		use(a, *at);
		return true;
	}
	if (size > 1024 * 1024)
		size = 1024 * 1024;
	if (size > a->max - a->held)
		size = a->max - a->held;
	if (size < n)
		size = n;
	if (n > a->max - a->held)
		return false;
	b = mem_new(a->alloc, sizeof(*b) + size);
	if (!b)
		return false;
	b->size = size;
	b->next = *at;
	*at = b;
	a->held += size;
	use(a, b);
	return true;
}

void *arena_more(struct arena *a, size_t n)
{
	char *p;

	if (n > SIZE_MAX - ARENA_ALIGN)
		return NULL;
	n = n ? (n + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1) : ARENA_ALIGN;
	if (n > (size_t)(a->end - a->next) && !grow(a, n))
		return NULL;
	p = a->next;
	a->next += n;
	return p;
}

void *arena_zero(struct arena *a, size_t n)
{
	void *p = arena_alloc(a, n);

	return p ? memset(p, 0, n) : NULL;
}

struct str arena_dup(struct arena *a, struct str s)
{
	char *p = arena_alloc(a, s.n + 1);

	if (!p)
		return (struct str){ NULL, 0 };
	if (s.n)
		memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	return (struct str){ p, s.n };
}

struct str arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	int n;
	char *p;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	assert(n >= 0);
	p = arena_alloc(a, (size_t)n + 1);
	if (!p)
		return (struct str){ NULL, 0 };
	va_start(ap, fmt);
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return (struct str){ p, (size_t)n };
}

static void *as_alloc(void *ctx, void *p, size_t old, size_t n)
{
	struct arena *a = ctx;
	size_t rounded = (old + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);
	void *q;

	if (n == 0)
		return NULL;
	if (p && n <= rounded)
		return p;
	/* The last thing handed out can grow where it is. */
	if (p && (char *)p + rounded == a->next && n - rounded <= (size_t)(a->end - a->next)) {
		size_t more = (n - rounded + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);

		if (more <= (size_t)(a->end - a->next)) {
			a->next += more;
			return p;
		}
	}
	q = arena_alloc(a, n);
	if (q && p)
		memcpy(q, p, old);
	return q;
}

struct alloc arena_as_alloc(struct arena *a)
{
	return (struct alloc){ as_alloc, a };
}
