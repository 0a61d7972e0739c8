/*
 * signer_wire - how requests and answers look on the channel between writ and its signer.
 *
 * Purpose    A frame is a length (4 bytes, big-endian, of what follows) and a body. A request's
 * body is the op and its fields; an answer's is an error class (0: signed) and the result or the
 * message. Answers come in the order of the requests, so there are no ids. The reader is bounded
 * and strict: the other side may be hostile. Ownership  What is read borrows from the frame.
 * Threads    No state.
 */
#ifndef WRIT_SPIFFE_SIGNER_WIRE_H
#define WRIT_SPIFFE_SIGNER_WIRE_H

#include "spiffe/signer.h"

#define SIGNER_FRAME_MAX (16 * 1024) /* bytes of a body */

/* Bytes to read from; @bad once something was not there. */
struct wire {
	struct str rest;
	bool bad;
};

uint8_t wire_u8(struct wire *w);
int64_t wire_i64(struct wire *w);
struct str wire_str(struct wire *w);

/* A whole frame at the head of @in: *body is its body and its size, header included, is returned.
 * 0: not all there yet. -1: no frame can begin like this. */
ssize_t wire_frame(struct str in, struct str *body);

void wire_put_u8(struct buf *b, uint8_t v);
void wire_put_i64(struct buf *b, int64_t v);
void wire_put_str(struct buf *b, struct str s);

/* Begin a frame; returns where, for wire_end, which fills in the length. wire_end is false (and the
 * frame taken back) if the body is too large or the buf full. */
size_t wire_begin(struct buf *b);
MUST_USE bool wire_end(struct buf *b, size_t at);

/* A job as a frame, and back. */
MUST_USE bool wire_put_job(struct buf *b, const struct signer_job *j);
MUST_USE bool wire_job(struct str body, struct signer_job *j);

#endif
