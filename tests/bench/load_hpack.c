/* Header blocks, coded once. See load_hpack.h. */
#include <stdlib.h>

#include "tests/bench/load_hpack.h"

bool hpack_out_open(struct hpack_out *h)
{
	*h = (struct hpack_out){ 0 };
	return nghttp2_hd_deflate_new(&h->deflater, HPACK_TABLE) == 0;
}

void hpack_out_close(struct hpack_out *h)
{
	if (h->deflater)
		nghttp2_hd_deflate_del(h->deflater);
	free(h->block);
	*h = (struct hpack_out){ 0 };
}

bool hpack_out_resize(struct hpack_out *h, uint32_t bytes)
{
	h->settled = false;
	return nghttp2_hd_deflate_change_table_size(h->deflater,
						    bytes < HPACK_TABLE ? bytes : HPACK_TABLE) == 0;
}

bool hpack_encode(struct hpack_out *h, const nghttp2_nv *nv, size_t n)
{
	size_t bound = nghttp2_hd_deflate_bound(h->deflater, nv, n);
	ssize_t used;

	if (bound > h->cap) {
		uint8_t *block = realloc(h->block, bound);

		if (!block)
			return false;
		h->block = block;
		h->cap = bound;
	}
	used = nghttp2_hd_deflate_hd(h->deflater, h->block, h->cap, nv, n);
	if (used < 0)
		return false;
	h->n = (size_t)used;
	h->settled = hpack_keeps_table((struct str){ (const char *)h->block, h->n });
	return true;
}

bool hpack_in_open(struct hpack_in *h)
{
	memset(h, 0, sizeof(*h));
	return nghttp2_hd_inflate_new(&h->inflater) == 0;
}

void hpack_in_close(struct hpack_in *h)
{
	if (h->inflater)
		nghttp2_hd_inflate_del(h->inflater);
	h->inflater = NULL;
}

/* Up to three digits; anything else is -1. */
static int number(const nghttp2_nv *nv)
{
	int v = 0;

	if (nv->valuelen < 1 || nv->valuelen > 3)
		return -1;
	for (size_t i = 0; i < nv->valuelen; i++) {
		if (nv->value[i] < '0' || nv->value[i] > '9')
			return -1;
		v = v * 10 + nv->value[i] - '0';
	}
	return v;
}

static bool is_named(const nghttp2_nv *nv, struct str name)
{
	return nv->namelen == name.n && memcmp(nv->name, name.p, name.n) == 0;
}

static bool inflate(nghttp2_hd_inflater *inflater, struct str block, struct hpack_head *out)
{
	*out = (struct hpack_head){ .grpc = -1 };
	for (;;) {
		nghttp2_nv nv;
		int flags = 0;
		ssize_t used = nghttp2_hd_inflate_hd2(inflater, &nv, &flags,
						      (const uint8_t *)block.p, block.n, 1);

		if (used < 0)
			return false;
		block = str_from(block, (size_t)used);
		if (flags & NGHTTP2_HD_INFLATE_EMIT) {
			if (is_named(&nv, STR(":status")))
				out->status = number(&nv);
			else if (is_named(&nv, STR("grpc-status")))
				out->grpc = number(&nv) < 0 ? 2 : number(&nv); /* UNKNOWN */
		}
		if (flags & NGHTTP2_HD_INFLATE_FINAL)
			return nghttp2_hd_inflate_end_headers(inflater) == 0;
	}
}

bool hpack_decode(struct hpack_in *h, struct str block, struct hpack_head *out)
{
	struct hpack_known *k = h->known;
	bool fits = block.n > 0 && block.n <= HPACK_KNOWN_BYTES;

	if (fits)
		k += (block.n + (uint8_t)block.p[block.n - 1]) % HPACK_KNOWN;
	if (fits && k->n == block.n && memcmp(k->block, block.p, block.n) == 0) {
		*out = k->head;
		return true;
	}
	if (!inflate(h->inflater, block, out))
		return false;
	if (!hpack_keeps_table(block)) {
		for (size_t i = 0; i < HPACK_KNOWN; i++)
			h->known[i].n = 0;
	} else if (fits) {
		k->n = block.n;
		k->head = *out;
		memcpy(k->block, block.p, block.n);
	}
	return true;
}

/* RFC 7541, 5.1: an integer that begins in the low @bits of a byte. */
static bool integer(struct str *s, unsigned bits, size_t *out)
{
	size_t max = (1U << bits) - 1, v;
	uint8_t b = 0x80;

	if (!s->n)
		return false;
	v = (uint8_t)s->p[0] & max;
	*s = str_from(*s, 1);
	for (unsigned shift = 0; v >= max && b & 0x80; shift += 7) {
		if (!s->n || shift > 21)
			return false;
		b = (uint8_t)s->p[0];
		*s = str_from(*s, 1);
		v += (size_t)(b & 0x7f) << shift;
	}
	*out = v;
	return true;
}

static bool skip_text(struct str *s)
{
	size_t n;

	if (!integer(s, 7, &n) || n > s->n)
		return false;
	*s = str_from(*s, n);
	return true;
}

bool hpack_keeps_table(struct str block)
{
	while (block.n) {
		uint8_t b = (uint8_t)block.p[0];
		size_t index;

		if (b & 0x80) { /* 6.1: an indexed field */
			if (!integer(&block, 7, &index))
				return false;
			continue;
		}
		if (b & 0x60) /* 6.2.1: a literal to be indexed; 6.3: another size */
			return false;
		if (!integer(&block, 4, &index) || (!index && !skip_text(&block)) ||
		    !skip_text(&block))
			return false;
	}
	return true;
}
