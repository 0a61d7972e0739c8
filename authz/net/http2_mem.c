#include "authz/net/http2_mem.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>

/* In front of what nghttp2 gets. */
struct http2_block {
	alignas(max_align_t) size_t size; /* of what it may use */
	struct http2_block *next;	  /* spare */
};

#define HEAD sizeof(struct http2_block)

void http2_mem_init(struct http2_mem *m, const struct alloc *alloc, size_t sessions)
{
	*m = (struct http2_mem){ .alloc = *alloc };
	frame_pool_init(&m->frames, sessions);
}

void http2_mem_clear(struct http2_mem *m)
{
	for (size_t i = 0; i < HTTP2_MEM_CLASSES; i++) {
		for (struct http2_block *b = m->spare[i], *next; b; b = next) {
			next = b->next;
			mem_free(&m->alloc, b, HEAD + b->size);
		}
		m->spare[i] = NULL;
	}
	m->kept = 0;
	frame_pool_clear(&m->frames);
}

static void *take(size_t n, void *ctx)
{
	struct http2_mem *m = ctx;
	size_t class = n ? (n - 1) / HTTP2_MEM_STEP : 0;
	struct http2_block *b;
	void *frame = frame_pool_take(&m->frames, n);

	if (frame)
		return frame;
	if (class < HTTP2_MEM_CLASSES) {
		n = (class + 1) * HTTP2_MEM_STEP;
		b = m->spare[class];
		if (b) {
			m->spare[class] = b->next;
			m->kept -= n;
			return b + 1;
		}
	}
	b = n <= SIZE_MAX - HEAD ? mem_new(&m->alloc, HEAD + n) : NULL;
	if (!b)
		return NULL;
	b->size = n;
	return b + 1;
}

static void give(void *p, void *ctx)
{
	struct http2_mem *m = ctx;
	struct http2_block *b;
	size_t class;

	if (!p)
		return;
	if (frame_pool_owns(&m->frames, p)) {
		frame_pool_give(&m->frames, p);
		return;
	}
	b = (struct http2_block *)p - 1;
	class = b->size / HTTP2_MEM_STEP - 1;
	if (class >= HTTP2_MEM_CLASSES || b->size > HTTP2_MEM_KEEP - m->kept) {
		mem_free(&m->alloc, b, HEAD + b->size);
		return;
	}
	b->next = m->spare[class];
	m->spare[class] = b;
	m->kept += b->size;
}

static void *take_zeroed(size_t n, size_t size, void *ctx)
{
	void *p = size && n > SIZE_MAX / size ? NULL : take(n * size, ctx);

	return p ? memset(p, 0, n * size) : NULL;
}

static void *resize(void *p, size_t n, void *ctx)
{
	const struct http2_mem *m = ctx;
	size_t old = !p				      ? 0
		     : frame_pool_owns(&m->frames, p) ? FRAME_POOL_SLOT
						      : ((struct http2_block *)p - 1)->size;
	void *q;

	if (p && n <= old)
		return p;
	q = take(n, ctx);
	if (q && p) {
		memcpy(q, p, old);
		give(p, ctx);
	}
	return q;
}

nghttp2_mem http2_mem_of(struct http2_mem *m)
{
	return (nghttp2_mem){ .mem_user_data = m,
			      .malloc = take,
			      .free = give,
			      .calloc = take_zeroed,
			      .realloc = resize };
}
