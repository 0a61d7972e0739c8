/* Who searched lately: noted for a time, and the one that ends first makes room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#include "authz/server/readers.h"

static const uint8_t *digest(size_t n)
{
	static uint8_t d[SHA256_LEN];

	d[0] = (uint8_t)n;
	d[1] = (uint8_t)(n >> 8);
	return d;
}

static void noted_until_then(void **state)
{
	struct readers r = { 0 };

	(void)state;
	assert_false(readers_noted(&r, digest(0), 0));
	readers_note(&r, digest(1), 1000);
	assert_true(readers_noted(&r, digest(1), 999));
	assert_false(readers_noted(&r, digest(1), 1000));
	assert_false(readers_noted(&r, digest(2), 999));
	/* Noted again it takes no second place. */
	readers_note(&r, digest(1), 2000);
	for (size_t i = 2; i <= READERS_MAX; i++)
		readers_note(&r, digest(i), 3000);
	assert_true(readers_noted(&r, digest(1), 1999));
	/* The next one takes the place of what ends first. */
	readers_note(&r, digest(1000), 3000);
	assert_false(readers_noted(&r, digest(1), 1999));
	assert_true(readers_noted(&r, digest(1000), 1999));
	for (size_t i = 2; i <= READERS_MAX; i++)
		assert_true(readers_noted(&r, digest(i), 2999));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(noted_until_then),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
