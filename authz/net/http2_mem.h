/*
 * http2_mem - memory for nghttp2, which takes a dozen small blocks for each stream and gives them
 * back.
 *
 * Purpose    Blocks of one loop's sessions, kept by size, so that a stream costs the allocator
 *            nothing: with hundreds of streams under way malloc's own short lists run over. What a
 *            session takes for a frame comes from a pool of its own (frame_pool.h).
 * Ownership  Blocks belong to nghttp2 until it frees them, and then to the lists, which hold
 *            HTTP2_MEM_KEEP bytes at most. All sessions end before http2_mem_clear.
 * Threads    One owner at a time: the loop's thread.
 */
#ifndef WRIT_NET_HTTP2_MEM_H
#define WRIT_NET_HTTP2_MEM_H

#include <nghttp2/nghttp2.h>

#include "authz/base/mem.h"
#include "authz/net/frame_pool.h"

#define HTTP2_MEM_STEP 64    /* sizes are multiples of it */
#define HTTP2_MEM_CLASSES 16 /* larger blocks are not kept */
#define HTTP2_MEM_KEEP (2 * 1024 * 1024)

struct http2_block;

struct http2_mem {
	struct alloc alloc;
	struct http2_block *spare[HTTP2_MEM_CLASSES];
	size_t kept; /* bytes of all spare blocks */
	struct frame_pool frames;
};

/* @sessions: for so many at a time there is room in the pool. */
void http2_mem_init(struct http2_mem *m, const struct alloc *alloc, size_t sessions);
void http2_mem_clear(struct http2_mem *m);

/* What nghttp2 is given; @m outlives the session. */
nghttp2_mem http2_mem_of(struct http2_mem *m);

#endif
