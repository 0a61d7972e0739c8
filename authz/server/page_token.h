/*
 * page_token - where a search goes on, in the client's hands.
 *
 * Purpose    A token says all that the next page needs to know, so no state is kept for searches
 *            that nobody may ever continue. It is authenticated together with the request that it
 *            belongs to: a token that was altered, or comes with another request or caller, is
 *            refused, and so is one that is too old.
 * Ownership  What is read lives in the arena.
 * Threads    No state: call from any thread, each with its own sha256.
 */
#ifndef WRIT_SERVER_PAGE_TOKEN_H
#define WRIT_SERVER_PAGE_TOKEN_H

#include "authz/base/arena.h"
#include "authz/base/buf.h"
#include "authz/base/digest.h"
#include "include/writ/err.h"

#define PAGE_TOKEN_TEXT 4096 /* characters at most */
#define PAGE_TOKEN_MS 600000 /* how long one lives */

struct page_token {
	int64_t expires_ms; /* wall clock */
	uint32_t limit;	    /* of the first page, for those that name none */
	struct str after;   /* empty: from the start */
};

/* @request is the digest of all that must not change between pages. */
void page_token_write(struct buf *out, const struct page_token *t, const uint8_t key[static 32],
		      const uint8_t request[static SHA256_LEN], struct sha256 *sha);

/* All failures are ERR_INVALID, code "invalid_page_token". */
MUST_USE bool page_token_read(struct str text, const uint8_t key[static 32],
			      const uint8_t request[static SHA256_LEN], struct sha256 *sha,
			      int64_t now_ms, struct arena *a, struct page_token *out,
			      struct err *e);

#endif
