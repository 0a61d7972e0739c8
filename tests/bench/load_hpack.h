/*
 * load_hpack - header blocks of the load generator's HTTP/2: coded by nghttp2, then remembered.
 *
 * Purpose    The requests of a connection are all alike, and so are most heads of answers. A block
 *            of indexed fields and of literals that are not indexed leaves the dynamic table as it
 *            is (RFC 7541, 6), so the same bytes mean the same until another block changes the
 *            table. Such a block is coded once; afterwards it is copied, or compared.
 * Ownership  Each direction of a connection has one; hpack_*_close frees it, also if half open.
 * Threads    One.
 */
#ifndef WRIT_TESTS_LOAD_HPACK_H
#define WRIT_TESTS_LOAD_HPACK_H

#include <nghttp2/nghttp2.h>

#include "include/writ/str.h"

#define HPACK_TABLE 4096 /* bytes of a dynamic table, if nobody says otherwise */

struct hpack_out {
	nghttp2_hd_deflater *deflater;
	uint8_t *block; /* of the last hpack_encode */
	size_t n, cap;
	bool settled; /* the next one would be the same */
};

MUST_USE bool hpack_out_open(struct hpack_out *h);
void hpack_out_close(struct hpack_out *h);
/* The other side's table has at most @bytes. */
MUST_USE bool hpack_out_resize(struct hpack_out *h, uint32_t bytes);
/* Leaves the block in @h. Only if @h->settled, one block may be sent more than once. */
MUST_USE bool hpack_encode(struct hpack_out *h, const nghttp2_nv *nv, size_t n);

/* What the generator wants to know of an answer's headers or trailers. */
struct hpack_head {
	int status; /* 0: none in it */
	int grpc;   /* grpc-status; -1: none in it */
};

#define HPACK_KNOWN 8	     /* blocks that are remembered */
#define HPACK_KNOWN_BYTES 64 /* of each */

struct hpack_in {
	nghttp2_hd_inflater *inflater;
	struct hpack_known {
		size_t n; /* 0: free */
		struct hpack_head head;
		uint8_t block[HPACK_KNOWN_BYTES];
	} known[HPACK_KNOWN];
};

MUST_USE bool hpack_in_open(struct hpack_in *h);
void hpack_in_close(struct hpack_in *h);
/* Reads one whole block. False: not HPACK, and the connection is beyond use. */
MUST_USE bool hpack_decode(struct hpack_in *h, struct str block, struct hpack_head *out);

/* Whether reading @block leaves the dynamic table as it was; false if it cannot be told. */
bool hpack_keeps_table(struct str block);

#endif
