/*
 * protobuf - read and write Protocol Buffers messages by hand: bounded, strict, without a schema.
 *
 * Purpose    The messages that Envoy and SPIFFE clients send are foreign bytes like any other. A
 *            reader is a cursor over one message; a message inside it is a cursor of its own, so
 *            how deep one may nest is the caller's decision and nothing here recurses. Refused
 *            are: varints longer than need be or past 64 bits, field number 0 and numbers past
 *            2^29-1, groups, wire types that do not exist, lengths past the end, and, where the
 *            caller asks for a string, bytes that are not UTF-8. Fields the caller does not know
 *            are to be ignored (pb_next has stepped over them already); which of several values
 *            of one field counts is the caller's decision too: proto3 says the last.
 * Ownership  A reader borrows the text; what it gives points into it. A writer appends to the
 *            caller's buf, whose bound is the message's.
 * Threads    No state: call from any thread.
 *
 *	struct pb_reader in = pb_reader(text);
 *	struct pb_field f;
 *	while (pb_next(&in, &f))
 *		if (f.number == 1)
 *			pb_string(&in, &f, &name);
 *	if (!pb_ok(&in, "CheckRequest", e))
 *		return false;
 */
#ifndef WRIT_PROTOBUF_H
#define WRIT_PROTOBUF_H

#include <stdint.h>

#include "authz/base/buf.h"
#include "include/writ/err.h"

enum pb_wire { PB_VARINT = 0, PB_FIXED64 = 1, PB_BYTES = 2, PB_FIXED32 = 5 };

struct pb_field {
	uint32_t number;
	enum pb_wire wire;
	uint64_t value;	  /* of a varint or a fixed value, as it is on the wire */
	struct str bytes; /* of a length-delimited one */
};

struct pb_reader {
	struct str text;
	size_t at;	 /* bytes read */
	const char *why; /* what is wrong, static; NULL: nothing yet */
	size_t where;	 /* the byte it was found at */
	uint32_t field;	 /* the last field that was begun; 0: none */
};

static inline struct pb_reader pb_reader(struct str text)
{
	return (struct pb_reader){ .text = text };
}

bool pb_next_any(struct pb_reader *in, struct pb_field *f); /* pb_next's own, of any shape */

/* The next field. False at the end, and for good once something was wrong. */
static inline bool pb_next(struct pb_reader *in, struct pb_field *f)
{
	size_t left = in->text.n - in->at;
	const unsigned char *p = (const unsigned char *)in->text.p;

	/* Most fields are a byte of tag, a byte of length, and what these say. */
	if (left >= 2 && !in->why && (p[in->at] & 0x87) == PB_BYTES && p[in->at] >= 8 &&
	    p[in->at + 1] < 0x80 && p[in->at + 1] <= left - 2) {
		f->number = in->field = p[in->at] >> 3;
		f->wire = PB_BYTES;
		f->value = 0;
		f->bytes = (struct str){ in->text.p + in->at + 2, p[in->at + 1] };
		in->at += 2 + f->bytes.n;
		return true;
	}
	return pb_next_any(in, f);
}

/* The caller's own objection ("too many headers"), static text. The first one stays. */
void pb_fail(struct pb_reader *in, const char *why);
extern const char pb_other_wire[]; /* pb_bytes' and pb_message's */

/* The value of the field just read. A wire type that is not the one of this kind of value makes the
 * message malformed: *out stays as it is, and pb_next ends. */
void pb_u64(struct pb_reader *in, const struct pb_field *f, uint64_t *out);
void pb_u32(struct pb_reader *in, const struct pb_field *f, uint32_t *out); /* past 32 bits: no */
void pb_i64(struct pb_reader *in, const struct pb_field *f, int64_t *out);
void pb_i32(struct pb_reader *in, const struct pb_field *f, int32_t *out); /* and enums */
void pb_bool(struct pb_reader *in, const struct pb_field *f, bool *out);
void pb_double(struct pb_reader *in, const struct pb_field *f, double *out);
void pb_fixed32(struct pb_reader *in, const struct pb_field *f, uint32_t *out);
void pb_string(struct pb_reader *in, const struct pb_field *f, struct str *out); /* UTF-8 */
static inline void pb_bytes(struct pb_reader *in, const struct pb_field *f, struct str *out)
{
	if (f->wire == PB_BYTES)
		*out = f->bytes;
	else
		pb_fail(in, pb_other_wire);
}
/* A cursor over the message inside; its own failure is the caller's to carry up (pb_fail_with). */
static inline void pb_message(struct pb_reader *in, const struct pb_field *f, struct pb_reader *out)
{
	*out = pb_reader(f->wire == PB_BYTES ? f->bytes : (struct str){ "", 0 });
	if (f->wire != PB_BYTES)
		pb_fail(in, pb_other_wire);
}

/* What was wrong in a message inside is wrong outside. */
void pb_fail_with(struct pb_reader *in, const struct pb_reader *inside);

/* Was it well-formed so far? If not, @e (ERR_INVALID, "invalid_message") names @what, the byte and
 * the field. */
MUST_USE bool pb_ok(const struct pb_reader *in, const char *what, struct err *e);

/* ---- writing ---- */

/* Always written. proto3 leaves out fields of their default value: pb_put_text, pb_put_number,
 * and the caller for the others. */
void pb_put_u64(struct buf *b, uint32_t field, uint64_t v);
void pb_put_i64(struct buf *b, uint32_t field, int64_t v); /* negative: ten bytes, as int32 too */
void pb_put_bool(struct buf *b, uint32_t field, bool v);
void pb_put_double(struct buf *b, uint32_t field, double v);
void pb_put_bytes(struct buf *b, uint32_t field, struct str v); /* also strings */

/* Left out if empty, or 0. A string that is not UTF-8 marks the buf as failed: clients refuse the
 * whole message. */
void pb_put_text(struct buf *b, uint32_t field, struct str v);
void pb_put_number(struct buf *b, uint32_t field, uint64_t v);

/* A message inside: pb_begin, its fields, then pb_end with what pb_begin gave. Its length is put
 * in when it is known; only what is inside is moved, by the few bytes of the length. */
size_t pb_begin_any(struct buf *b, uint32_t field); /* pb_begin's own, of any field */
void pb_end_long(struct buf *b, size_t begun);	    /* pb_end's, of any length */

static inline size_t pb_begin(struct buf *b, uint32_t field)
{
	char *at = field < 16 ? buf_room(b, 2) : NULL;

	if (!at)
		return pb_begin_any(b, field);
	at[0] = (char)(field << 3 | PB_BYTES);
	at[1] = 0; /* one byte is kept for the length: enough for most */
	b->n += 2;
	return b->n;
}

static inline void pb_end(struct buf *b, size_t begun)
{
	size_t inside = b->n - begun;

	if (buf_ok(b) && inside < 0x80)
		b->p[begun - 1] = (char)inside;
	else
		pb_end_long(b, begun);
}

#endif
