#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>

#include "spiffe/peer_cache.h"

#define MANY 64
#define LONG 1400 /* bytes of a leaf in PEM and percent codes */

struct heap {
	size_t bytes, most, left; /* held, held at most, allocations before they fail */
};

static void *counted(void *ctx, void *p, size_t old, size_t n)
{
	struct heap *h = ctx;

	if (n && !h->left)
		return NULL;
	h->left -= n != 0;
	h->bytes += n - old;
	if (h->bytes > h->most)
		h->most = h->bytes;
	return mem_system.fn(NULL, p, old, n);
}

struct leaf {
	char text[LONG], id[40];
	struct peer_claim claim;
};

/* The @k-th certificate: its text differs from the others in the last bytes alone, where a
 * signature stands. */
static void make(struct leaf *l, unsigned k)
{
	memset(l->text, 'M', sizeof(l->text));
	snprintf(l->text + LONG - 10, 10, "%08u", k);
	snprintf(l->id, sizeof(l->id), "spiffe://test.example/agent/%u", k);
	l->claim.id = str_c(l->id);
	memset(l->claim.sha256, (int)(k & 0xff), SHA256_LEN);
}

static struct str text_of(const struct leaf *l)
{
	return (struct str){ l->text, LONG };
}

static bool knows(struct peer_cache *c, const struct leaf *l)
{
	const struct peer_claim *claim = peer_cache_find(c, text_of(l));

	if (claim) {
		assert_true(str_eq(claim->id, l->claim.id));
		assert_memory_equal(claim->sha256, l->claim.sha256, SHA256_LEN);
	}
	return claim != NULL;
}

static void keeps_copies(void **state)
{
	struct heap h = { .left = SIZE_MAX };
	const struct alloc a = { counted, &h };
	struct peer_cache *c = peer_cache_new(&a, MANY);
	struct leaf one, same;

	(void)state;
	make(&one, 1);
	same = one;
	same.claim.id.p = same.id;
	assert_false(knows(c, &one));
	peer_cache_add(c, text_of(&one), &one.claim);
	memset(&one, 0, sizeof(one));
	assert_true(knows(c, &same));
	peer_cache_add(c, text_of(&same), &same.claim);
	assert_true(knows(c, &same));
	peer_cache_free(c);
	peer_cache_free(NULL);
	assert_int_equal(h.bytes, 0);
}

/* Equal is equal in every byte: wherever one differs, or is missing, it is another certificate. */
static void each_byte_counts(void **state)
{
	static const size_t lengths[] = { 0, 1, 7, 8, 9, 127, 128, 129, LONG - 1 };
	struct peer_cache *c = peer_cache_new(&mem_system, MANY);
	struct leaf l;

	(void)state;
	make(&l, 1);
	peer_cache_add(c, text_of(&l), &l.claim);
	for (size_t i = 0; i < LONG; i++) {
		l.text[i] ^= 1;
		assert_false(knows(c, &l));
		l.text[i] ^= 1;
	}
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		assert_null(peer_cache_find(c, (struct str){ l.text, lengths[i] }));
		assert_null(peer_cache_find(c, str_from(text_of(&l), LONG - lengths[i])));
	}
	assert_true(knows(c, &l));
	peer_cache_free(c);
}

/* Of a full bucket goes what was asked for the longest time ago, so an agent that comes again and
 * again stays whatever passes by. */
static void the_busy_stay(void **state)
{
	struct peer_cache *c = peer_cache_new(&mem_system, 4);
	struct leaf l[6];

	(void)state;
	for (unsigned k = 0; k < 6; k++)
		make(&l[k], k);
	for (unsigned k = 0; k < 4; k++)
		peer_cache_add(c, text_of(&l[k]), &l[k].claim);
	assert_true(knows(c, &l[0]));
	assert_true(knows(c, &l[2]));
	peer_cache_add(c, text_of(&l[4]), &l[4].claim);
	assert_false(knows(c, &l[1]));
	peer_cache_add(c, text_of(&l[5]), &l[5].claim);
	assert_false(knows(c, &l[3]));
	assert_true(knows(c, &l[0]));
	assert_true(knows(c, &l[2]));
	assert_true(knows(c, &l[4]));
	assert_true(knows(c, &l[5]));
	peer_cache_free(c);
}

/* Certificates that differ in their last bytes alone do not all meet in a few buckets. */
static void they_spread(void **state)
{
	struct peer_cache *c = peer_cache_new(&mem_system, PEER_CACHE_DEFAULT);
	unsigned n = 0;
	struct leaf l;

	(void)state;
	for (unsigned k = 0; k < PEER_CACHE_DEFAULT; k++) {
		make(&l, k);
		peer_cache_add(c, text_of(&l), &l.claim);
	}
	for (unsigned k = 0; k < PEER_CACHE_DEFAULT; k++) {
		make(&l, k);
		n += knows(c, &l);
	}
	assert_in_range(n, PEER_CACHE_DEFAULT * 3 / 4, PEER_CACHE_DEFAULT);
	peer_cache_free(c);
}

static void memory_is_bounded(void **state)
{
	struct heap h = { .left = SIZE_MAX };
	const struct alloc a = { counted, &h };
	struct peer_cache *c = peer_cache_new(&a, MANY);
	static char text[PEER_CACHE_ENTRY_MAX];
	struct peer_claim claim = { .id = STR("spiffe://test.example/agent/1") };
	const size_t most = sizeof(text) - claim.id.n;

	(void)state;
	peer_cache_add(c, (struct str){ text, most + 1 }, &claim);
	assert_null(peer_cache_find(c, (struct str){ text, most + 1 }));
	for (unsigned k = 0; k < 100 * MANY; k++) {
		memcpy(text + most - sizeof(k), &k, sizeof(k));
		peer_cache_add(c, (struct str){ text, most }, &claim);
		assert_non_null(peer_cache_find(c, (struct str){ text, most }));
	}
	assert_in_range(h.most, (MANY - 4) * sizeof(text), (MANY + 4) * (sizeof(text) + 256));
	peer_cache_free(c);
	assert_int_equal(h.bytes, 0);
}

/* What there is no memory for is not known; what was known before still is. */
static void every_allocation_failing(void **state)
{
	struct heap h = { .left = 0 };
	const struct alloc a = { counted, &h };
	struct peer_cache *c;
	struct leaf one, two;

	(void)state;
	make(&one, 1);
	make(&two, 2);
	assert_null(peer_cache_new(&a, 4));
	h.left = 2;
	c = peer_cache_new(&a, 4);
	peer_cache_add(c, text_of(&one), &one.claim);
	peer_cache_add(c, text_of(&two), &two.claim);
	assert_true(knows(c, &one));
	assert_false(knows(c, &two));
	peer_cache_free(c);
	assert_int_equal(h.bytes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_copies),	     cmocka_unit_test(each_byte_counts),
		cmocka_unit_test(the_busy_stay),     cmocka_unit_test(they_spread),
		cmocka_unit_test(memory_is_bounded), cmocka_unit_test(every_allocation_failing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
