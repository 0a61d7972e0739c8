/* A page token that is accepted is one that was written, byte for byte; and what is written is read
 * back as it was. */
#include <stdint.h>
#include <stdlib.h>

#include "authz/server/page_token.h"

static const uint8_t key[32] = { 1 }, request[SHA256_LEN] = { 2 };

static bool same(const struct page_token *a, const struct page_token *b)
{
	return a->expires_ms == b->expires_ms && a->limit == b->limit && str_eq(a->after, b->after);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct sha256 *sha;
	struct str in = { (const char *)p, n };
	struct page_token t, back, own = { 1000, (uint32_t)n, in };
	struct arena a;
	struct buf out;
	struct err e;

	if (!sha)
		sha = sha256_new(&e);
	arena_init(&a, &mem_system, 1 << 20);
	buf_in_arena(&out, &a, 2 * PAGE_TOKEN_TEXT);
	if (page_token_read(in, key, request, sha, INT64_MIN, &a, &t, &e)) {
		page_token_write(&out, &t, key, request, sha);
		if (!str_eq(buf_str(&out), in))
			abort();
	}
	buf_reset(&out);
	page_token_write(&out, &own, key, request, sha);
	if (buf_ok(&out) &&
	    (!page_token_read(buf_str(&out), key, request, sha, 1000, &a, &back, &e) ||
	     !same(&own, &back)))
		abort();
	arena_clear(&a);
	return 0;
}
