/*
 * readers - who searched the log for what lately.
 *
 * Purpose    A search is on record, but not each of its pages, and not each look of a tail that
 *            follows the log: their records would be what it sees next. A few searches are
 *            remembered; one that is forgotten is only recorded again.
 * Ownership  Held by value.
 * Threads    The operators' home thread alone.
 */
#ifndef WRIT_SERVER_READERS_H
#define WRIT_SERVER_READERS_H

#include <stdint.h>

#include "authz/base/digest.h"

#define READERS_MAX 64

struct readers {
	struct {
		uint8_t digest[SHA256_LEN]; /* of caller and search */
		int64_t until_ms;	    /* 0: free */
	} items[READERS_MAX];
};

bool readers_noted(const struct readers *r, const uint8_t digest[static SHA256_LEN],
		   int64_t now_ms);

/* In the place of the one that ends first. One that is remembered keeps its end. */
void readers_note(struct readers *r, const uint8_t digest[static SHA256_LEN], int64_t until_ms);

#endif
