/*
 * tally - how many things each user has, so that none has all of them.
 *
 * Purpose    Doors that everybody on the machine may knock at give each user a share. Counting
 *            costs the same with one user and with ten thousand.
 * Ownership  Who adds, drops: then nothing is left of that user. tally_clear frees the rest.
 * Threads    One owner.
 */
#ifndef WRIT_TALLY_H
#define WRIT_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "authz/base/mem.h"
#include "include/writ/err.h"

#define TALLY_BUCKETS 256

struct tally_user {
	struct tally_user *next;
	uint64_t who;
	size_t n; /* at least 1 */
};

struct tally {
	const struct alloc *alloc;
	struct tally_user *buckets[TALLY_BUCKETS];
};

void tally_init(struct tally *t, const struct alloc *alloc); /* @alloc is borrowed */
void tally_clear(struct tally *t);

/* One more for @who, unless that would be more than @max. False as well: no memory. */
MUST_USE bool tally_add(struct tally *t, uint64_t who, size_t max);
void tally_drop(struct tally *t, uint64_t who); /* one that was added */
size_t tally_of(const struct tally *t, uint64_t who);

#endif
