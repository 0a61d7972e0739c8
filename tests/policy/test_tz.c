/* Time zones at their edges, from the machine's own zone files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>

#include "authz/base/arena.h"
#include "authz/policy/tz.h"

#define ZONES "/usr/share/zoneinfo/"

static const struct {
	const char *zone;
	int64_t t;
	int32_t offset;
} offsets[] = {
	{ "UTC", 0, 0 },
	{ "UTC", INT64_C(4102444800), 0 },
	{ "Europe/Berlin", -2422054408 - 1, 3208 }, /* local mean time */
	{ "Europe/Berlin", 1774745999, 3600 },	    /* 2026-03-29 00:59:59 UTC */
	{ "Europe/Berlin", 1774746000, 7200 },	    /* 01:00:00 */
	{ "Europe/Berlin", 1792889999, 7200 },	    /* 2026-10-25 00:59:59 */
	{ "Europe/Berlin", 1792890000, 3600 },
	{ "Europe/Berlin", INT64_C(3152480399), 3600 }, /* 2069-11-24 by the footer's rule */
	{ "Europe/Berlin", INT64_C(4078429199), 3600 }, /* 2099-03-29 00:59:59 */
	{ "Europe/Berlin", INT64_C(4078429200), 7200 },
	{ "America/New_York", 1772953199, -18000 }, /* 2026-03-08 06:59:59 */
	{ "America/New_York", 1772953200, -14400 },
	{ "America/New_York", 1793512799, -14400 }, /* 2026-11-01 05:59:59 */
	{ "America/New_York", 1793512800, -18000 },
	{ "Australia/Sydney", INT64_C(4102444800), 39600 }, /* 2100-01-01: southern summer */
	{ "Australia/Sydney", INT64_C(4118083200), 36000 }, /* 2100-07-01 */
	{ "Asia/Kolkata", 1772614800, 19800 },
	{ "America/St_Johns", 1772614800, -12600 },
	{ "Africa/Casablanca", 1772614800, 0 }, /* Ramadan of 2026 */
	{ "Pacific/Kiritimati", 1772614800, 50400 },
};

static struct str slurp(const char *zone, struct arena *a)
{
	char path[128];
	char *p = arena_alloc(a, TZ_FILE_MAX);
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), ZONES "%s", zone);
	f = fopen(path, "rb");
	if (!f)
		fail_msg("%s is missing: install tzdata", path);
	n = fread(p, 1, TZ_FILE_MAX, f);
	fclose(f);
	return (struct str){ p, n };
}

static void offsets_are_those_of_the_table(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, 16 << 20);
	for (size_t i = 0; i < ARRAY_LEN(offsets); i++) {
		struct tz tz;
		struct err e = { 0 };

		if (!tz_parse(slurp(offsets[i].zone, &a), &tz, &e))
			fail_msg("%s: %s", offsets[i].zone, e.msg);
		if (tz_offset(&tz, offsets[i].t) != offsets[i].offset)
			fail_msg("%s at %lld: %d, not %d", offsets[i].zone, (long long)offsets[i].t,
				 tz_offset(&tz, offsets[i].t), offsets[i].offset);
	}
	arena_clear(&a);
}

static void local_time_is_split(void **state)
{
	static const struct {
		int64_t t;
		int year, month, day, weekday, minutes;
	} rows[] = {
		{ 0, 1970, 1, 1, 4, 0 },
		{ -1, 1969, 12, 31, 3, 1439 },
		{ 951782399, 2000, 2, 28, 1, 1439 },
		{ 951782400, 2000, 2, 29, 2, 0 },
		{ 951868800, 2000, 3, 1, 3, 0 },
		{ 1772614800, 2026, 3, 4, 3, 540 },
		{ 1772960400, 2026, 3, 8, 7, 540 },
		{ INT64_C(4107542400), 2100, 3, 1, 1, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct tz_local l;

		tz_split(NULL, rows[i].t, &l);
		if (l.year != rows[i].year || l.month != rows[i].month || l.day != rows[i].day ||
		    l.weekday != rows[i].weekday || l.minutes != rows[i].minutes)
			fail_msg("%lld: %lld-%d-%d, day %d, minute %d", (long long)rows[i].t,
				 (long long)l.year, l.month, l.day, l.weekday, l.minutes);
	}
}

static void damaged_files_are_refused(void **state)
{
	struct arena a;
	struct str whole;
	struct tz tz;
	char *copy;

	(void)state;
	arena_init(&a, &mem_system, 16 << 20);
	whole = slurp("Europe/Berlin", &a);
	for (size_t n = 0; n < whole.n; n++) {
		/* an exact block, so that reading past the end is seen */
		copy = malloc(n + 1);
		memcpy(copy, whole.p, n);
		if (tz_parse((struct str){ copy, n }, &tz, NULL))
			fail_msg("the first %zu bytes pass for the whole file", n);
		free(copy);
	}
	assert_true(whole.n > 0);
	copy = malloc(whole.n + 1);
	for (size_t i = 0; i < whole.n; i++) {
		memcpy(copy, whole.p, whole.n);
		copy[i] = (char)(copy[i] ^ 0xff);
		if (tz_parse((struct str){ copy, whole.n }, &tz, NULL)) {
			int32_t off = tz_offset(&tz, 1772614800) + tz_offset(&tz, -1) +
				      tz_offset(&tz, INT64_C(4102444800));

			assert_in_range(off + 400000, 0, 800000);
		}
	}
	free(copy);
	assert_false(tz_parse(STR("TZif"), &tz, NULL));
	arena_clear(&a);
}

static void names_stay_in_the_folder(void **state)
{
	static const struct {
		const char *name;
		bool ok;
	} rows[] = {
		{ "Europe/Berlin", true },
		{ "America/Argentina/Buenos_Aires", true },
		{ "Etc/GMT+1", true },
		{ "UTC", true },
		{ "", false },
		{ "/etc/passwd", false },
		{ "../../etc/passwd", false },
		{ "Europe/../../x", false },
		{ "Europe/", false },
		{ "Europe//Berlin", false },
		{ "Europe/Ber lin", false },
		{ "Europe/Berlin\n", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (tz_name_ok(str_c(rows[i].name)) != rows[i].ok)
			fail_msg("\"%s\"", rows[i].name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(offsets_are_those_of_the_table),
		cmocka_unit_test(local_time_is_split),
		cmocka_unit_test(damaged_files_are_refused),
		cmocka_unit_test(names_stay_in_the_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
