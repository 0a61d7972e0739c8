/*
 * clock - time as an argument.
 *
 * Purpose    Code that asks for the time takes a clock, so a test can turn its hands.
 * Threads    clock_system may be used from any thread.
 */
#ifndef WRIT_CLOCK_H
#define WRIT_CLOCK_H

#include <stdint.h>

#include "include/writ/str.h"

struct clock {
	int64_t (*wall_ms)(void *ctx); /* milliseconds since 1970, UTC */
	int64_t (*mono_ns)(void *ctx); /* never runs backwards; for durations and deadlines */
	void *ctx;
};

extern const struct clock clock_system;

static inline int64_t clock_wall_ms(const struct clock *c)
{
	return c->wall_ms(c->ctx);
}

static inline int64_t clock_mono_ns(const struct clock *c)
{
	return c->mono_ns(c->ctx);
}

/* A clock that stands still until it is set; for tests and for policy tests. */
struct clock_fixed {
	int64_t ms, ns;
};
struct clock clock_of_fixed(struct clock_fixed *f);

/* RFC 3339 in UTC, "2026-11-21T10:00:00.123Z" or, without a fraction, "...:00Z". */
#define CLOCK_RFC3339_MAX 32
void clock_rfc3339(int64_t ms, char out[static CLOCK_RFC3339_MAX]);

/* The way back: exactly that form, "Z" only, at most three digits of a fraction, and a date that
 * the calendar has (no 31st of February). */
MUST_USE bool clock_parse_rfc3339(struct str text, int64_t *ms);

#endif
