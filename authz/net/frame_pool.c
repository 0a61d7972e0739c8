#include "authz/net/frame_pool.h"

#include <string.h>
#include <sys/mman.h>

#define FRAME_MIN ((size_t)16 * 1024) /* what is large enough to be sparse */
#define SLOT ((size_t)20 * 1024)      /* nghttp2's frame and its overhead, in whole pages */
#define SLOTS_MAX 65536

/* Blocks from the allocator know their size, which nghttp2 does not say again. */
struct head {
	_Alignas(max_align_t) size_t size;
};

static bool is_ours(const struct frame_pool *p, const void *at)
{
	return p->range && (const char *)at >= p->range &&
	       (const char *)at < p->range + p->slots * SLOT;
}

static void *take_slot(struct frame_pool *p)
{
	void *slot = p->spare;

	if (!p->asked) {
		void *range = mmap(NULL, p->slots * SLOT, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		p->asked = true;
		p->range = range == MAP_FAILED ? NULL : range;
		if (p->range)
			(void)madvise(range, p->slots * SLOT, MADV_NOHUGEPAGE);
	}
	if (slot) {
		memcpy(&p->spare, slot, sizeof(p->spare));
		return slot;
	}
	return p->range && p->used < p->slots ? p->range + p->used++ * SLOT : NULL;
}

static void give(void *at, void *pool)
{
	struct frame_pool *p = pool;
	struct head *h;

	if (!at)
		return;
	if (is_ours(p, at)) {
		memcpy(at, &p->spare, sizeof(p->spare));
		p->spare = at;
		return;
	}
	h = (struct head *)at - 1;
	mem_free(p->alloc, h, h->size);
}

static void *take(size_t n, void *pool)
{
	struct frame_pool *p = pool;
	void *slot = n >= FRAME_MIN && n <= SLOT ? take_slot(p) : NULL;
	struct head *h;

	if (slot)
		return slot;
	if (n > SIZE_MAX - sizeof(*h))
		return NULL;
	h = mem_new(p->alloc, sizeof(*h) + n);
	if (!h)
		return NULL;
	h->size = sizeof(*h) + n;
	return h + 1;
}

static void *take_zeroed(size_t n, size_t size, void *pool)
{
	void *at = size && n > SIZE_MAX / size ? NULL : take(n * size, pool);

	return at ? memset(at, 0, n * size) : NULL;
}

static void *resize(void *at, size_t n, void *pool)
{
	struct frame_pool *p = pool;
	struct head *h = at;
	void *fresh;

	if (!at)
		return take(n, pool);
	if (!is_ours(p, at)) {
		if (n > SIZE_MAX - sizeof(*h))
			return NULL;
		h--;
		h = mem_resize(p->alloc, h, h->size, sizeof(*h) + n);
		if (!h)
			return NULL;
		h->size = sizeof(*h) + n;
		return h + 1;
	}
	if (n <= SLOT)
		return at;
	fresh = take(n, pool);
	if (!fresh)
		return NULL;
	memcpy(fresh, at, SLOT);
	give(at, pool);
	return fresh;
}

void frame_pool_init(struct frame_pool *p, const struct alloc *alloc, size_t sessions)
{
	*p = (struct frame_pool){ .alloc = alloc,
				  .mem = { p, take, give, take_zeroed, resize },
				  .slots = sessions < SLOTS_MAX ? sessions : SLOTS_MAX };
}

void frame_pool_clear(struct frame_pool *p)
{
	if (p->range)
		(void)munmap(p->range, p->slots * SLOT);
	p->range = NULL;
}
