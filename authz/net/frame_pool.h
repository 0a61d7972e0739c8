/*
 * frame_pool - memory of HTTP/2 sessions of which little is ever touched.
 *
 * Purpose    nghttp2 takes 16 KiB for the frame that it writes, and an idle session has used some
 *            hundred bytes of that. From the common heap such a block lies on pages that others
 *            have used before, and ten thousand idle connections hold all of it. Here each block
 *            has pages of its own, which the system gives when they are first touched.
 * Ownership  The pool owns its range; http2_mem.h asks it for what is as large as a frame.
 * Threads    One owner.
 */
#ifndef WRIT_NET_FRAME_POOL_H
#define WRIT_NET_FRAME_POOL_H

#include <stdbool.h>
#include <stddef.h>

#define FRAME_POOL_MIN ((size_t)16 * 1024)  /* what is large enough to be sparse */
#define FRAME_POOL_SLOT ((size_t)20 * 1024) /* nghttp2's frame and its overhead, in whole pages */

struct frame_pool {
	char *range; /* reserved addresses; NULL: none yet, or there are none to be had */
	size_t slots, used;
	void *spare; /* given back; each points to the next */
	bool asked;  /* for the range */
};

/* For @sessions at a time. */
void frame_pool_init(struct frame_pool *p, size_t sessions);
void frame_pool_clear(struct frame_pool *p);

/* FRAME_POOL_SLOT bytes for @n; NULL: not of that size, all are taken, or addresses are limited. */
void *frame_pool_take(struct frame_pool *p, size_t n);
bool frame_pool_owns(const struct frame_pool *p, const void *at);
void frame_pool_give(struct frame_pool *p, void *at);

#endif
