/*
 * load_h2 - what the two halves of the load generator's HTTP/2 share: load_h2_send.c writes frames,
 * load_h2.c reads them. Only they include this.
 */
#ifndef WRIT_TESTS_LOAD_H2_H
#define WRIT_TESTS_LOAD_H2_H

#include "tests/bench/load.h"
#include "tests/bench/load_hpack.h"

#define H2_FRAME_MAX 16384 /* bytes of a frame's payload, without settings to the contrary */
#define H2_HEAD 9	   /* bytes of a frame's head */

struct stream {
	uint32_t id; /* 0: free */
	int status, grpc;
	int64_t start;
	char *body; /* of the answer, if it comes in pieces */
	size_t n, cap;
	/* A body that the windows do not let pass at once: */
	struct stream *next; /* whose turn is after this */
	uint64_t number;
	int64_t window;
	size_t sent;
	bool waits;
};

struct h2 {
	struct hpack_out out;
	struct hpack_in in;
	struct stream *streams; /* a stream's place is told by its id */
	uint32_t mask, next_id;
	bool greeted;		 /* the server's settings have come */
	int64_t window, initial; /* what the server lets pass: in all, and of a new stream */
	size_t eaten;		 /* of our window, and not given back yet */
	struct stream *waiting;
	uint8_t part[H2_HEAD + H2_FRAME_MAX]; /* of a frame whose end has not come */
	size_t part_n;
	char *block; /* headers that CONTINUATION goes on with */
	size_t block_n;
	uint32_t block_id; /* 0: none */
	uint8_t block_flags;
};

bool h2_control(struct lane *c, uint8_t type, uint8_t flags, uint32_t id, const void *payload,
		size_t n);

/* The open stream @id, or NULL. */
static inline struct stream *h2_stream(const struct h2 *h, uint32_t id)
{
	struct stream *st = &h->streams[(id >> 1) & h->mask];

	return id && st->id == id ? st : NULL;
}

/* The body of @st will not be sent to its end. */
void h2_stop_waiting(struct h2 *h, struct stream *st);

static inline uint32_t h2_get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void h2_put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

#endif
