#include "authz/base/clock.h"

#include <stddef.h>
#include <stdio.h>
#include <time.h>

static int64_t system_wall_ms(void *ctx)
{
	struct timespec t;

	(void)ctx;
	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t system_mono_ns(void *ctx)
{
	struct timespec t;

	(void)ctx;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

const struct clock clock_system = { system_wall_ms, system_mono_ns, NULL };

static int64_t fixed_wall_ms(void *ctx)
{
	return ((struct clock_fixed *)ctx)->ms;
}

static int64_t fixed_mono_ns(void *ctx)
{
	return ((struct clock_fixed *)ctx)->ns;
}

struct clock clock_of_fixed(struct clock_fixed *f)
{
	return (struct clock){ fixed_wall_ms, fixed_mono_ns, f };
}

void clock_rfc3339(int64_t ms, char out[static CLOCK_RFC3339_MAX])
{
	int64_t s = ms / 1000, part = ms % 1000;
	struct tm tm;
	time_t t;
	size_t n;

	if (part < 0) {
		part += 1000;
		s--;
	}
	t = (time_t)s;
	gmtime_r(&t, &tm);
	n = strftime(out, CLOCK_RFC3339_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	if (part)
		snprintf(out + n, CLOCK_RFC3339_MAX - n, ".%03dZ", (int)part);
	else
		snprintf(out + n, CLOCK_RFC3339_MAX - n, "Z");
}
