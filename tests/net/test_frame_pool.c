/* Memory of sessions: blocks do not overlap, come back, and are bounded as everything else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <string.h>

#include "authz/net/frame_pool.h"

#define SPARSE 16394 /* what nghttp2 takes for a frame */

static size_t held, blocks;
static bool refuse;

static void *counted(void *ctx, void *p, size_t old, size_t n)
{
	if (refuse && n)
		return NULL;
	held += n - old;
	blocks += (n && !p) - (p && !n);
	return mem_system.fn(ctx, p, old, n);
}

static const struct alloc alloc = { .fn = counted };

static void gives_blocks_of_their_own(void **state)
{
	struct frame_pool p;
	char *all[6], *again;

	(void)state;
	frame_pool_init(&p, &alloc, 4);
	for (int i = 0; i < 6; i++) { /* two more than there are slots */
		all[i] = p.mem.realloc(NULL, SPARSE, p.mem.mem_user_data);
		assert_non_null(all[i]);
		memset(all[i], i, SPARSE);
	}
	assert_int_equal(blocks, 2);
	for (int i = 0; i < 6; i++)
		for (int k = 0; k < SPARSE; k++)
			if (all[i][k] != i)
				fail_msg("block %d was overwritten at %d", i, k);
	p.mem.free(all[1], &p);
	p.mem.free(all[4], &p);
	again = p.mem.malloc(SPARSE, &p);
	assert_ptr_equal(again, all[1]);
	assert_int_equal(blocks, 1);
	p.mem.free(again, &p);
	for (int i = 0; i < 6; i++)
		if (i != 1 && i != 4)
			p.mem.free(all[i], &p);
	p.mem.free(NULL, &p);
	assert_int_equal(held, 0);
	frame_pool_clear(&p);
}

static void grows_and_zeroes(void **state)
{
	struct frame_pool p;
	char *a, *b;

	(void)state;
	frame_pool_init(&p, &alloc, 4);
	a = p.mem.malloc(SPARSE, &p);
	memset(a, 7, SPARSE);
	assert_ptr_equal(p.mem.realloc(a, SPARSE + 100, &p), a);
	a = p.mem.realloc(a, 100000, &p);
	assert_int_equal(a[SPARSE - 1], 7);
	a = p.mem.realloc(a, 200000, &p);
	assert_int_equal(a[SPARSE - 1], 7);
	b = p.mem.calloc(1, SPARSE, &p); /* where a was: dirty */
	for (int k = 0; k < SPARSE; k++)
		assert_int_equal(b[k], 0);
	assert_null(p.mem.calloc(SIZE_MAX / 2, 3, &p));
	assert_null(p.mem.malloc(SIZE_MAX - 3, &p));
	refuse = true;
	assert_null(p.mem.malloc(10, &p));
	assert_null(p.mem.realloc(a, 300000, &p));
	assert_null(p.mem.realloc(b, 100000, &p));
	refuse = false;
	p.mem.free(a, &p);
	p.mem.free(b, &p);
	assert_int_equal(held, 0);
	frame_pool_clear(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_blocks_of_their_own),
		cmocka_unit_test(grows_and_zeroes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
