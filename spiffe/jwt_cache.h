/*
 * jwt_cache - tokens that were verified lately, by their SHA-256.
 *
 * Purpose    A token comes with each of its owner's requests for five minutes; verifying it once
 *            is enough. The key is the hash of token and audience: since the reader accepts only
 *            one spelling of a token, equal meaning is equal text.
 * Ownership  The cache owns copies of the IDs, at most SPIFFE_ID_MAX bytes for each entry.
 * Threads    One owner.
 */
#ifndef WRIT_SPIFFE_JWT_CACHE_H
#define WRIT_SPIFFE_JWT_CACHE_H

#include <stdint.h>

#include "authz/base/digest.h"
#include "authz/base/mem.h"
#include "include/writ/str.h"

struct jwt_cached {
	uint8_t key[SHA256_LEN];
	int64_t from_s, until_s; /* valid at from <= now < until: leeway is in both */
	int64_t expires_s;	 /* exp itself */
	struct str id;		 /* p == NULL: the entry is free */
	char *text;		 /* private: what id points to */
};

struct jwt_cache {
	const struct alloc *alloc;
	struct jwt_cached *entries;
	size_t n; /* a multiple of the ways of a bucket; 0: remembers nothing */
};

/* Room for at least @max entries. False: no memory. */
MUST_USE bool jwt_cache_init(struct jwt_cache *c, const struct alloc *alloc, size_t max);
void jwt_cache_clear(struct jwt_cache *c);

/* Forget everything; the room stays. */
void jwt_cache_forget(struct jwt_cache *c);

/* The entry of @key if it is valid at @now_s; one that has ended is freed on the way. */
const struct jwt_cached *jwt_cache_find(struct jwt_cache *c, const uint8_t key[static SHA256_LEN],
					int64_t now_s);

/* Remember @entry (copies its id). Where its bucket is full the one that ends first gives way.
 * Without memory nothing is remembered. */
void jwt_cache_add(struct jwt_cache *c, const struct jwt_cached *entry);

#endif
