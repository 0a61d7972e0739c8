/*
 * frame_pool - memory of HTTP/2 sessions of which little is ever touched.
 *
 * Purpose    nghttp2 takes 16 KiB for the frame that it writes, and an idle session has used some
 *            hundred bytes of that. From the common heap such a block lies on pages that others
 *            have used before, and ten thousand idle connections hold all of it. Here each block
 * has pages of its own, which the system gives when they are first touched. Ownership  The pool
 * owns its range; the mem borrows the pool and outlives its sessions. Threads    One owner.
 */
#ifndef WRIT_NET_FRAME_POOL_H
#define WRIT_NET_FRAME_POOL_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>

#include "authz/base/mem.h"

struct frame_pool {
	const struct alloc *alloc; /* of everything else that a session takes */
	nghttp2_mem mem;
	char *range; /* reserved addresses; NULL: none yet, or there are none to be had */
	size_t slots, used;
	void *spare; /* given back; each points to the next */
	bool asked;  /* for the range */
};

/* For @sessions at a time; more than that, and where addresses are limited, come from @alloc. */
void frame_pool_init(struct frame_pool *p, const struct alloc *alloc, size_t sessions);
void frame_pool_clear(struct frame_pool *p);

#endif
