/*
 * mem - the allocator as an argument.
 *
 * Purpose    Modules that own memory take a `struct alloc`, so a test can count blocks and let
 *            each allocation fail in turn, and a policy state can have a cap.
 * Ownership  An alloc borrows its context.
 * Threads    As the function behind it; mem_system may be used from any thread.
 */
#ifndef WRIT_MEM_H
#define WRIT_MEM_H

#include <stddef.h>

/* p == NULL allocates, n == 0 frees (and returns NULL), else resizes. @old is the size that
 * was asked for before, so that accounting needs no header. NULL when memory is refused. */
struct alloc {
	void *(*fn)(void *ctx, void *p, size_t old, size_t n);
	void *ctx;
};

extern const struct alloc mem_system; /* realloc and free */

static inline void *mem_new(const struct alloc *a, size_t n)
{
	return a->fn(a->ctx, NULL, 0, n);
}

static inline void *mem_resize(const struct alloc *a, void *p, size_t old, size_t n)
{
	return a->fn(a->ctx, p, old, n);
}

static inline void mem_free(const struct alloc *a, void *p, size_t old)
{
	if (p)
		a->fn(a->ctx, p, old, 0);
}

/* A zeroed block, or NULL. */
void *mem_zero(const struct alloc *a, size_t n);

/* Overwrite a secret; the compiler may not drop it. */
void mem_wipe(void *p, size_t n);

#endif
