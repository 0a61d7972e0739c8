#include "authz/decide/limit.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "authz/base/digest.h"

#define NEIGHBOURS 8

struct slot_pair {
	atomic_uint_fast64_t key;    /* hash of the key; 0: never used */
	atomic_int_fast64_t arrival; /* theoretical arrival time of the next request, ns */
};

struct limit {
	int64_t interval, tolerance; /* ns per request; how far arrival may run ahead of now */
	size_t mask;
	uint64_t seed; /* unknown to callers: nobody can aim at somebody else's slot */
	struct slot_pair slots[];
};

struct limit *limit_new(uint32_t rate, uint32_t burst, size_t keys, struct err *e)
{
	size_t n = NEIGHBOURS;
	struct limit *l;

	while (n < keys)
		n *= 2;
	l = calloc(1, sizeof(*l) + n * sizeof(l->slots[0]));
	if (!l) {
		err_set(e, ERR_NOMEM, "no memory for %zu rate limits", n);
		return NULL;
	}
	l->interval = 1000000000 / (int64_t)rate;
	l->tolerance = l->interval * ((int64_t)burst - 1);
	l->mask = n - 1;
	random_bytes(&l->seed, sizeof(l->seed));
	return l;
}

void limit_free(struct limit *l)
{
	free(l);
}

static uint64_t hash(uint64_t seed, struct str key)
{
	uint64_t h = seed ^ 0xcbf29ce484222325u;

	for (size_t i = 0; i < key.n; i++)
		h = (h ^ (unsigned char)key.p[i]) * 0x100000001b3u;
	h ^= h >> 32;
	h *= 0x9e3779b97f4a7c15u;
	h ^= h >> 29;
	return h ? h : 1;
}

/* The slot of @key: its own, else a fresh one, else the neighbour idle longest. */
static struct slot_pair *find(struct limit *l, uint64_t key)
{
	struct slot_pair *idle = NULL;

	for (size_t i = 0; i < NEIGHBOURS; i++) {
		struct slot_pair *s = &l->slots[(key + i) & l->mask];
		uint_fast64_t have = atomic_load_explicit(&s->key, memory_order_relaxed);

		if (have == key)
			return s;
		if (have == 0) {
			if (atomic_compare_exchange_strong(&s->key, &have, key) || have == key)
				return s;
		}
		if (!idle || atomic_load_explicit(&s->arrival, memory_order_relaxed) <
				     atomic_load_explicit(&idle->arrival, memory_order_relaxed))
			idle = s;
	}
	atomic_store_explicit(&idle->key, key, memory_order_relaxed);
	return idle;
}

bool limit_take(struct limit *l, struct str key, int64_t now_ns, int64_t *wait_ms)
{
	struct slot_pair *s = find(l, hash(l->seed, key));
	int_fast64_t arrival = atomic_load_explicit(&s->arrival, memory_order_relaxed), next;

	do {
		int64_t from = arrival > now_ns ? arrival : now_ns;

		if (from - now_ns > l->tolerance) {
			*wait_ms = (from - now_ns - l->tolerance) / 1000000 + 1;
			return false;
		}
		next = from + l->interval;
	} while (!atomic_compare_exchange_weak_explicit(&s->arrival, &arrival, next,
							memory_order_relaxed,
							memory_order_relaxed));
	return true;
}
