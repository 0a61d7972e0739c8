/* A message that is accepted has one spelling: written again from its fields it is the same. */
#include <stdint.h>
#include <stdlib.h>

#include "authz/base/protobuf.h"
#include "authz/base/text.h"

static void again(struct buf *b, const struct pb_field *f)
{
	uint64_t v = f->value;
	uint32_t v32 = (uint32_t)v;
	double d;

	switch (f->wire) {
	case PB_VARINT:
		pb_put_u64(b, f->number, v);
		break;
	case PB_FIXED64:
		memcpy(&d, &v, sizeof(d));
		pb_put_double(b, f->number, d);
		break;
	case PB_FIXED32: /* the writer has none: nothing of ours needs it */
		pb_put_u64(b, f->number, 0);
		b->n--; /* the value; then its tag says fixed32 */
		b->p[b->n - 1 - (f->number > 15) - (f->number > 2047) - (f->number > 262143) -
		     (f->number > 33554431)] |= PB_FIXED32;
		buf_add(b, (struct str){ (const char *)&v32, 4 });
		break;
	case PB_BYTES: {
		size_t begun = pb_begin(b, f->number);

		buf_add(b, f->bytes);
		pb_end(b, begun);
		break;
	}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str text = { (const char *)p, n };
	struct pb_reader in = pb_reader(text);
	struct pb_field f;
	struct err e = { 0 };
	struct buf b;

	buf_init(&b, mem_system, n + 16);
	while (pb_next(&in, &f)) {
		struct pb_reader kinds = in;
		struct str s = { NULL, 0 };

		pb_string(&kinds, &f, &s);
		if (s.p && !text_is_utf8(s))
			abort();
		again(&b, &f);
	}
	if (pb_ok(&in, "Fuzz", &e) && (!buf_ok(&b) || !str_eq(buf_str(&b), text)))
		abort();
	if (!pb_ok(&in, "Fuzz", &e) && in.where > n)
		abort();
	buf_clear(&b);
	return 0;
}
