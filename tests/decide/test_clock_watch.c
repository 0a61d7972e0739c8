/* Steps of the clock: what is one, and that it is on record. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>

#include "authz/decide/clock_watch.h"
#include "tests/decide/desk.h"

static void a_step_is_what_only_one_clock_does(void **state)
{
	static const struct {
		const char *why;
		int64_t wall_ms, mono_ms; /* since the look before */
		int64_t step;
	} table[] = {
		{ "the first look", 0, 0, 0 },
		{ "time passes", 250, 250, 0 },
		{ "an hour in which nobody looked", 3600000, 3600000, 0 },
		{ "slewing", 1999, 250, 0 },
		{ "set forward", 10250, 250, 10000 },
		{ "and that is how it is now", 250, 250, 0 },
		{ "set back", -10000, 250, -10250 },
		{ "exactly a step", 2250, 250, 2000 },
		{ "not quite one", 2249, 250, 0 },
		{ "just back", -1750, 250, -2000 },
		{ "the machine slept", 7200000, 0, 7200000 },
	};
	struct clock_watch w = { 0 };
	int64_t wall = 1800000000000, mono = 5;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		int64_t step;

		wall += table[i].wall_ms;
		mono += table[i].mono_ms * 1000000;
		step = clock_watch_step(&w, wall, mono);
		if (step != table[i].step)
			fail_msg("%s: a step of %lld ms", table[i].why, (long long)step);
	}
}

static void a_step_is_on_record(void **state)
{
	struct desk d = { 0 };

	(void)state;
	desk_open(&d);
	clock_watch_look(d.control);
	d.rig.time.ms += 250;
	d.rig.time.ns += 250000000;
	clock_watch_look(d.control);
	assert_int_equal(desk_records(&d, 0, "\"kind\":\"log.clock\"", ""), 0);
	d.rig.time.ms -= 60000;
	clock_watch_look(d.control);
	clock_watch_look(d.control);
	assert_int_equal(desk_records(&d, 0, "\"kind\":\"log.clock\"", "\"step_ms\":-60000"), 1);
	assert_int_equal(desk_records(&d, 0, "\"kind\":\"log.clock\"", ""), 1);
	desk_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_step_is_what_only_one_clock_does),
		cmocka_unit_test(a_step_is_on_record),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
