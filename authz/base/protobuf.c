#include "authz/base/protobuf.h"

#include <endian.h>

#include "authz/base/text.h"

#define FIELD_MAX ((1u << 29) - 1)
#define VARINT_MAX 10 /* bytes of 64 bits, 7 in each */

void pb_fail(struct pb_reader *in, const char *why)
{
	if (in->why)
		return;
	in->why = why;
	in->where = in->at;
}

void pb_fail_with(struct pb_reader *in, const struct pb_reader *inside)
{
	if (!inside->why || in->why)
		return;
	in->why = inside->why;
	in->where = (size_t)(inside->text.p - in->text.p) + inside->where;
	in->field = inside->field ? inside->field : in->field;
}

/* One spelling of a number only: a last byte of zero would be a longer spelling of the same. */
static bool long_varint(struct pb_reader *in, uint64_t *out)
{
	const unsigned char *p = (const unsigned char *)in->text.p;
	uint64_t v = 0;

	for (unsigned i = 0; i < VARINT_MAX; i++) {
		unsigned char c;

		if (in->at == in->text.n) {
			pb_fail(in, "a number is cut off");
			return false;
		}
		c = p[in->at++];
		if ((i == VARINT_MAX - 1 && c > 1) || (i > 0 && c == 0)) {
			pb_fail(in, "a number is longer than it need be, or past 64 bits");
			return false;
		}
		v |= (uint64_t)(c & 0x7f) << (7 * i);
		if (c < 0x80) {
			*out = v;
			return true;
		}
	}
	pb_fail(in, "a number is past 64 bits");
	return false;
}

/* Nearly all tags and lengths are one byte. */
static inline bool varint(struct pb_reader *in, uint64_t *out)
{
	unsigned char c = in->at < in->text.n ? (unsigned char)in->text.p[in->at] : 0xff;

	if (c >= 0x80)
		return long_varint(in, out);
	in->at++;
	*out = c;
	return true;
}

static bool take(struct pb_reader *in, uint64_t n, struct str *out)
{
	if (n > in->text.n - in->at) {
		pb_fail(in, "a value is longer than the message it is in");
		return false;
	}
	*out = (struct str){ in->text.p + in->at, (size_t)n };
	in->at += (size_t)n;
	return true;
}

static bool fixed(struct pb_reader *in, size_t n, uint64_t *out)
{
	struct str raw;

	*out = 0;
	if (!take(in, n, &raw))
		return false;
	memcpy(out, raw.p, n);
	*out = n == 4 ? le32toh((uint32_t)le64toh(*out)) : le64toh(*out);
	return true;
}

bool pb_next_any(struct pb_reader *in, struct pb_field *f)
{
	uint64_t tag, n;

	if (in->why || in->at == in->text.n)
		return false;
	if (!varint(in, &tag))
		return false;
	*f = (struct pb_field){ .number = (uint32_t)(tag >> 3) & FIELD_MAX,
				.wire = (enum pb_wire)(tag & 7) };
	if (tag >> 3 == 0 || tag >> 3 > FIELD_MAX) {
		pb_fail(in, "a field has a number that no field can have");
		return false;
	}
	in->field = f->number;
	switch (f->wire) {
	case PB_VARINT:
		return varint(in, &f->value);
	case PB_FIXED64:
		return fixed(in, 8, &f->value);
	case PB_FIXED32:
		return fixed(in, 4, &f->value);
	case PB_BYTES:
		return varint(in, &n) && take(in, n, &f->bytes);
	}
	pb_fail(in, "a field is a group, or of a wire type that does not exist");
	return false;
}

const char pb_other_wire[] = "a field has another wire type than its definition says";

static bool is(struct pb_reader *in, const struct pb_field *f, enum pb_wire wire)
{
	if (f->wire == wire)
		return true;
	pb_fail(in, pb_other_wire);
	return false;
}

void pb_u64(struct pb_reader *in, const struct pb_field *f, uint64_t *out)
{
	if (is(in, f, PB_VARINT))
		*out = f->value;
}

void pb_u32(struct pb_reader *in, const struct pb_field *f, uint32_t *out)
{
	if (!is(in, f, PB_VARINT))
		return;
	if (f->value > UINT32_MAX)
		pb_fail(in, "a number is past 32 bits");
	else
		*out = (uint32_t)f->value;
}

void pb_i64(struct pb_reader *in, const struct pb_field *f, int64_t *out)
{
	if (is(in, f, PB_VARINT))
		*out = (int64_t)f->value;
}

void pb_i32(struct pb_reader *in, const struct pb_field *f, int32_t *out)
{
	int64_t v = (int64_t)f->value;

	if (!is(in, f, PB_VARINT))
		return;
	if (v < INT32_MIN || v > INT32_MAX)
		pb_fail(in, "a number is past 32 bits");
	else
		*out = (int32_t)v;
}

void pb_bool(struct pb_reader *in, const struct pb_field *f, bool *out)
{
	if (!is(in, f, PB_VARINT))
		return;
	if (f->value > 1)
		pb_fail(in, "a truth value is neither 0 nor 1");
	else
		*out = f->value == 1;
}

void pb_double(struct pb_reader *in, const struct pb_field *f, double *out)
{
	if (is(in, f, PB_FIXED64))
		memcpy(out, &f->value, sizeof(*out));
}

void pb_fixed32(struct pb_reader *in, const struct pb_field *f, uint32_t *out)
{
	if (is(in, f, PB_FIXED32))
		*out = (uint32_t)f->value;
}

void pb_string(struct pb_reader *in, const struct pb_field *f, struct str *out)
{
	if (!is(in, f, PB_BYTES))
		return;
	if (!text_is_utf8(f->bytes))
		pb_fail(in, "a string is not UTF-8");
	else
		*out = f->bytes;
}

bool pb_ok(const struct pb_reader *in, const char *what, struct err *e)
{
	if (!in->why)
		return true;
	return err_code(e, ERR_INVALID, "invalid_message",
			"%s is not well-formed at byte %zu, field %u: %s", what, in->where,
			in->field, in->why);
}

/* ---- writing ---- */

static size_t spell(uint64_t v, char out[static VARINT_MAX])
{
	size_t n = 0;

	do {
		out[n++] = (char)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
		v >>= 7;
	} while (v);
	return n;
}

static void put_varint(struct buf *b, uint64_t v)
{
	char text[VARINT_MAX];

	if (v < 0x80) /* nearly always */
		buf_char(b, (char)v);
	else
		buf_add(b, (struct str){ text, spell(v, text) });
}

static void put_tag(struct buf *b, uint32_t field, enum pb_wire wire)
{
	put_varint(b, (uint64_t)field << 3 | wire);
}

void pb_put_u64(struct buf *b, uint32_t field, uint64_t v)
{
	if (field < 16 && v < 0x80) {
		char *at = buf_room(b, 2);

		if (!at)
			return;
		at[0] = (char)(field << 3 | PB_VARINT);
		at[1] = (char)v;
		b->n += 2;
		return;
	}
	put_tag(b, field, PB_VARINT);
	put_varint(b, v);
}

void pb_put_i64(struct buf *b, uint32_t field, int64_t v)
{
	pb_put_u64(b, field, (uint64_t)v);
}

void pb_put_bool(struct buf *b, uint32_t field, bool v)
{
	pb_put_u64(b, field, v);
}

void pb_put_double(struct buf *b, uint32_t field, double v)
{
	uint64_t bits;

	memcpy(&bits, &v, sizeof(bits));
	bits = htole64(bits);
	put_tag(b, field, PB_FIXED64);
	buf_add(b, (struct str){ (const char *)&bits, sizeof(bits) });
}

static inline void put_bytes(struct buf *b, uint32_t field, struct str v)
{
	if (field < 16 && v.n < 0x80) { /* as pb_next reads them */
		char *at = buf_room(b, v.n + 2);

		if (!at)
			return;
		at[0] = (char)(field << 3 | PB_BYTES);
		at[1] = (char)v.n;
		buf_copy(at + 2, v.p, v.n);
		b->n += v.n + 2;
		return;
	}
	put_tag(b, field, PB_BYTES);
	put_varint(b, v.n);
	buf_add(b, v);
}

void pb_put_bytes(struct buf *b, uint32_t field, struct str v)
{
	put_bytes(b, field, v);
}

void pb_put_text(struct buf *b, uint32_t field, struct str v)
{
	if (!v.n)
		return;
	if (text_is_utf8(v))
		put_bytes(b, field, v);
	else
		b->failed = true;
}

void pb_put_number(struct buf *b, uint32_t field, uint64_t v)
{
	if (v)
		pb_put_u64(b, field, v);
}

size_t pb_begin_any(struct buf *b, uint32_t field)
{
	put_tag(b, field, PB_BYTES);
	buf_char(b, 0);
	return b->n;
}

void pb_end_long(struct buf *b, size_t begun)
{
	char length[VARINT_MAX];
	size_t inside = b->n - begun, n;

	if (!buf_ok(b))
		return;
	n = spell(inside, length);
	if (!buf_room(b, n - 1))
		return;
	memmove(b->p + begun + n - 1, b->p + begun, inside);
	memcpy(b->p + begun - 1, length, n);
	b->n += n - 1;
}
