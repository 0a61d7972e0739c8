/* When indexing waits for the log, and for how long at most. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "authz/audit/index_pace.h"
#include "include/writ/str.h"

/* Looks at a log, in order: seconds, its size, the records in the index; does it wait? */
static const struct {
	const char *why;
	double at_s;
	uint64_t size, indexed;
	bool waits;
} looks[] = {
	{ "the first look says nothing", 10, 5000000, 0, false },
	{ "nor does one right after it", 10.001, 5001000, 0, false },
	{ "fast, but too far behind", 10.25, 5020000, 0, false },
	{ "as far as it may be", 10.5, 5040000, 4040000, false },
	{ "one record less", 10.501, 5040000, 4040001, true },
	{ "nothing to do", 10.502, 5040000, 5040000, false },
	{ "still fast", 10.75, 5060000, 5040000, true },
	{ "a moment without records is no calm", 10.76, 5060000, 5040000, true },
	{ "calm", 11, 5060001, 5040000, false },
	{ "just not fast", 12, 5070001, 5040000, false },
	{ "fast", 13, 5080002, 5040000, true },
	{ "another log", 13.2, 10, 0, false },
	{ "a long sleep", 1000, 9000000, 8900000, false },
};

static void it_waits_while_records_come_fast(void **state)
{
	struct index_pace p = { .lag_max = INDEX_LAG_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(looks); i++)
		if (index_pace_waits(&p, looks[i].size, looks[i].indexed,
				     (int64_t)(looks[i].at_s * 1e9)) != looks[i].waits)
			fail_msg("%s", looks[i].why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_waits_while_records_come_fast),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
