#include "authz/net/frame_pool.h"

#include <string.h>
#include <sys/mman.h>

#define SLOTS_MAX 65536

void frame_pool_init(struct frame_pool *p, size_t sessions)
{
	*p = (struct frame_pool){ .slots = sessions < SLOTS_MAX ? sessions : SLOTS_MAX };
}

void frame_pool_clear(struct frame_pool *p)
{
	if (p->range)
		(void)munmap(p->range, p->slots * FRAME_POOL_SLOT);
	p->range = NULL;
}

static void reserve(struct frame_pool *p)
{
	void *range = mmap(NULL, p->slots * FRAME_POOL_SLOT, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	p->asked = true;
	if (range == MAP_FAILED)
		return;
	p->range = range;
	(void)madvise(range, p->slots * FRAME_POOL_SLOT, MADV_NOHUGEPAGE);
}

void *frame_pool_take(struct frame_pool *p, size_t n)
{
	void *slot = p->spare;

	if (n < FRAME_POOL_MIN || n > FRAME_POOL_SLOT)
		return NULL;
	if (!p->asked)
		reserve(p);
	if (slot) {
		memcpy(&p->spare, slot, sizeof(p->spare));
		return slot;
	}
	return p->range && p->used < p->slots ? p->range + p->used++ * FRAME_POOL_SLOT : NULL;
}

bool frame_pool_owns(const struct frame_pool *p, const void *at)
{
	return p->range && (const char *)at >= p->range &&
	       (const char *)at < p->range + p->slots * FRAME_POOL_SLOT;
}

void frame_pool_give(struct frame_pool *p, void *at)
{
	memcpy(at, &p->spare, sizeof(p->spare));
	p->spare = at;
}
