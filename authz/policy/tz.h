/*
 * tz - what a clock on the wall shows somewhere (TZif, RFC 8536 and 9636).
 *
 * Purpose    libc's zones are one per process and change with the machine; a decision must come
 *            out the same a year later. So zone files are read here, from bytes that are kept
 *            with the policy set: version 2 and later with 64-bit times and the POSIX rule in
 *            the footer for the years after the table.
 * Ownership  A tz points into the bytes it was read from.
 * Threads    Immutable after tz_parse.
 */
#ifndef WRIT_POLICY_TZ_H
#define WRIT_POLICY_TZ_H

#include <stdint.h>

#include "include/writ/err.h"

/* A day of change in a POSIX TZ rule. */
struct tz_rule {
	enum { TZ_MONTH_WEEK_DAY, TZ_JULIAN_NO_LEAP, TZ_DAY_OF_YEAR } kind;
	int month, week, day;
	int32_t time; /* seconds after local midnight */
};

struct tz {
	const uint8_t *times, *kinds, *types; /* big-endian tables of the file */
	uint32_t ntimes, ntypes;
	bool has_rule, has_dst;		/* from the footer */
	int32_t std_offset, dst_offset; /* seconds east of UTC */
	struct tz_rule to_dst, to_std;
};

#define TZ_FILE_MAX (64 * 1024) /* bytes; the largest known is under 4 KiB */

/* @name may be a zone's name and a path below the zone folder. */
bool tz_name_ok(struct str name);

MUST_USE bool tz_parse(struct str file, struct tz *tz, struct err *e);

/* Seconds east of UTC at @unix_s. */
int32_t tz_offset(const struct tz *tz, int64_t unix_s);

/* Local time split up. */
struct tz_local {
	int64_t year;
	int month, day; /* from 1 */
	int weekday;	/* 1 Monday ... 7 Sunday */
	int minutes;	/* since midnight */
};
/* @tz may be NULL: UTC. */
void tz_split(const struct tz *tz, int64_t unix_s, struct tz_local *out);

#endif
