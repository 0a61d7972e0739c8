/*
 * refusals - count what was refused before anybody was authenticated.
 *
 * Purpose    A stranger must not be able to make writ flush its disk for each bad request. Such
 *            refusals are counted here per listener and code, and the control thread writes the
 *            counts to the log once a minute. /metrics reads the totals.
 * Ownership  Keys are static texts; the table is part of its owner.
 * Threads    Any: atomics.
 */
#ifndef WRIT_DECIDE_REFUSALS_H
#define WRIT_DECIDE_REFUSALS_H

#include <stdatomic.h>
#include <stdint.h>

#include "include/writ/str.h"

#define REFUSALS_MAX 128 /* pairs of listener and code */

struct refusal {
	_Atomic(const char *) listener, code;
	atomic_uint_fast64_t total, recorded; /* recorded: written to the log so far */
};

struct refusals {
	struct refusal items[REFUSALS_MAX];
};

/* @listener and @code are static. Beyond REFUSALS_MAX pairs the last item counts for all. */
void refusals_count(struct refusals *r, const char *listener, const char *code);

/* Call @each for every pair that has counts not yet recorded. True: they are now; else they are
 * offered again next time. From one thread only. */
void refusals_take(struct refusals *r,
		   bool (*each)(void *ctx, const char *listener, const char *code, uint64_t n),
		   void *ctx);

/* All counts so far, each pair once. */
void refusals_totals(const struct refusals *r,
		     void (*each)(void *ctx, const char *listener, const char *code, uint64_t n),
		     void *ctx);

#endif
