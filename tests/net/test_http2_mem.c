/* nghttp2's memory: blocks come back from the list of their size, and the lists are bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <string.h>

#include "authz/net/http2_mem.h"

/* Counts what is out; refuses when `left` is 0. */
struct counted {
	size_t bytes, calls, left;
};

static void *counted_fn(void *ctx, void *p, size_t old, size_t n)
{
	struct counted *c = ctx;

	if (n == 0) {
		c->bytes -= old;
		free(p);
		return NULL;
	}
	assert_null(p); /* blocks are never resized below */
	if (c->left == 0)
		return NULL;
	c->left--;
	c->calls++;
	c->bytes += n;
	return malloc(n);
}

static struct http2_mem fresh(struct counted *c)
{
	struct http2_mem m;

	*c = (struct counted){ .left = SIZE_MAX };
	http2_mem_init(&m, &(struct alloc){ counted_fn, c }, 4);
	return m;
}

static void blocks_come_back(void **state)
{
	struct counted c;
	struct http2_mem m = fresh(&c);
	nghttp2_mem f = http2_mem_of(&m);

	(void)state;
	for (size_t n = 0; n <= (HTTP2_MEM_CLASSES + 1) * HTTP2_MEM_STEP; n++) {
		bool small = n <= HTTP2_MEM_CLASSES * HTTP2_MEM_STEP;
		size_t calls;
		void *p = f.malloc(n, &m), *q;

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 16, 0);
		memset(p, 0x55, n);
		f.free(p, &m);
		calls = c.calls;
		q = f.calloc(1, n, &m);
		assert_int_equal(c.calls, calls + !small);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(((char *)q)[i], 0);
		if (small)
			assert_ptr_equal(p, q);
		f.free(q, &m);
	}
	f.free(NULL, &m);
	assert_true(c.bytes > 0);
	http2_mem_clear(&m);
	assert_int_equal(c.bytes, 0);
}

static void growing_keeps_the_bytes(void **state)
{
	struct counted c;
	struct http2_mem m = fresh(&c);
	nghttp2_mem f = http2_mem_of(&m);
	char *p = NULL;

	(void)state;
	for (size_t n = 1; n < 5000; n += n / 3 + 1) {
		p = f.realloc(p, n, &m);
		assert_non_null(p);
		p[n - 1] = (char)n;
		for (size_t i = 1; i < n; i += i / 3 + 1)
			assert_int_equal(p[i - 1], (char)i);
	}
	c.left = 0;
	assert_null(f.realloc(p, 100000, &m)); /* the old block stays */
	assert_int_equal(p[0], 1);
	assert_null(f.malloc(SIZE_MAX, &m));
	assert_null(f.calloc(SIZE_MAX / 2, 3, &m));
	f.free(p, &m);
	http2_mem_clear(&m);
	assert_int_equal(c.bytes, 0);
}

static void the_lists_are_bounded(void **state)
{
	enum { N = HTTP2_MEM_KEEP / 1024 + 100 };
	static void *all[N];
	struct counted c;
	struct http2_mem m = fresh(&c);
	nghttp2_mem f = http2_mem_of(&m);

	(void)state;
	for (size_t i = 0; i < N; i++)
		all[i] = f.malloc(1024, &m);
	for (size_t i = 0; i < N; i++)
		f.free(all[i], &m);
	assert_in_range(c.bytes, HTTP2_MEM_KEEP, HTTP2_MEM_KEEP + N * 16);
	http2_mem_clear(&m);
	assert_int_equal(c.bytes, 0);
}

static void a_frame_has_pages_of_its_own(void **state)
{
	enum { FRAME = 16394 }; /* what nghttp2 takes for one */
	struct counted c;
	struct http2_mem m = fresh(&c);
	nghttp2_mem f = http2_mem_of(&m);
	char *all[6], *again;

	(void)state;
	for (int i = 0; i < 6; i++) { /* two more than there are slots */
		all[i] = f.realloc(NULL, FRAME, &m);
		assert_non_null(all[i]);
		memset(all[i], i, FRAME);
	}
	assert_int_equal(c.calls, 2);
	for (int i = 0; i < 6; i++)
		for (int k = 0; k < FRAME; k++)
			if (all[i][k] != i)
				fail_msg("block %d was overwritten at %d", i, k);
	f.free(all[1], &m);
	again = f.calloc(1, FRAME, &m); /* where it was: dirty */
	assert_ptr_equal(again, all[1]);
	for (int k = 0; k < FRAME; k++)
		assert_int_equal(again[k], 0);
	assert_ptr_equal(f.realloc(again, FRAME + 100, &m), again);
	c.left = 0;
	assert_null(f.realloc(again, 100000, &m));
	c.left = SIZE_MAX;
	memset(again, 7, FRAME);
	all[1] = f.realloc(again, 100000, &m);
	assert_int_equal(all[1][FRAME - 1], 7);
	for (int i = 0; i < 6; i++)
		f.free(all[i], &m);
	http2_mem_clear(&m);
	assert_int_equal(c.bytes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_come_back),
		cmocka_unit_test(growing_keeps_the_bytes),
		cmocka_unit_test(the_lists_are_bounded),
		cmocka_unit_test(a_frame_has_pages_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
