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

/* strptime and timegm take the 31st of February for the 3rd of March. */
static bool date_exists(const struct tm *tm, time_t t)
{
	struct tm back;

	return gmtime_r(&t, &back) && back.tm_mday == tm->tm_mday && back.tm_mon == tm->tm_mon &&
	       back.tm_sec == tm->tm_sec;
}

/* ".5", ".25", ".123" in milliseconds; what follows it in *end. */
static bool fraction(const char *p, int64_t *ms, const char **end)
{
	int64_t scale = 100;

	*ms = 0;
	*end = p;
	if (*p != '.')
		return true;
	for (p++; *p >= '0' && *p <= '9' && scale; p++, scale /= 10)
		*ms += (*p - '0') * scale;
	*end = p;
	return scale != 100;
}

bool clock_parse_rfc3339(struct str text, int64_t *ms)
{
	char room[CLOCK_RFC3339_MAX];
	struct tm tm = { 0 }, read;
	const char *end;
	int64_t part;
	time_t t;

	if (text.n < sizeof("2026-01-01T00:00:00Z") - 1 || text.n >= sizeof(room))
		return false;
	memcpy(room, text.p, text.n);
	room[text.n] = '\0';
	end = strptime(room, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!end || end - room != 19 || !fraction(end, &part, &end) || strcmp(end, "Z") != 0)
		return false;
	read = tm; /* timegm puts the date that it understood over the one that was read */
	t = timegm(&tm);
	if (!date_exists(&read, t))
		return false;
	*ms = (int64_t)t * 1000 + part;
	return true;
}
