/*
 * limit - how often one caller may ask: a token bucket per key, without a lock.
 *
 * Purpose    Each key (an agent's SPIFFE ID, an attesting address) may act `rate` times a second
 *            and save up to `burst`. The bucket is one number, the theoretical arrival time of
 *            GCRA, kept in a table of fixed size: memory is bounded whatever callers come.
 * Ownership  The table owns its slots.
 * Threads    Any: slots are atomics. When the table is full, the slot whose bucket is fullest
 *            (idle longest) among the key's neighbours is taken over, so a flood of keys can
 *            only refill buckets that were nearly full.
 */
#ifndef WRIT_DECIDE_LIMIT_H
#define WRIT_DECIDE_LIMIT_H

#include "include/writ/err.h"
#include "include/writ/str.h"

#include <stdint.h>

struct limit;

/* @rate per second and @burst, both at least 1; @keys buckets (rounded up to a power of two). */
struct limit *limit_new(uint32_t rate, uint32_t burst, size_t keys, struct err *e);
void limit_free(struct limit *l);

/* Take one from @key's bucket at monotonic @now_ns. False: none left; *wait_ms says for how long.
 */
bool limit_take(struct limit *l, struct str key, int64_t now_ns, int64_t *wait_ms);

#endif
