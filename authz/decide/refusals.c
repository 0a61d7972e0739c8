#include "authz/decide/refusals.h"

#include <string.h>

static bool same(const struct refusal *it, const char *listener, const char *code)
{
	const char *l = atomic_load_explicit(&it->listener, memory_order_acquire);

	/* By text: the same literal of two files may have two addresses. */
	return l && !strcmp(l, listener) && !strcmp(atomic_load(&it->code), code);
}

void refusals_count(struct refusals *r, const char *listener, const char *code)
{
	for (size_t i = 0; i < REFUSALS_MAX; i++) {
		struct refusal *it = &r->items[i];
		const char *have = atomic_load_explicit(&it->code, memory_order_acquire);

		if (!have) {
			/* Claim the item by its code; the listener follows. A reader that comes in
			 * between sees no listener and skips it this time. */
			if (atomic_compare_exchange_strong(&it->code, &have, code)) {
				atomic_store_explicit(&it->listener, listener,
						      memory_order_release);
				atomic_fetch_add(&it->total, 1);
				return;
			}
		}
		if (same(it, listener, code) || i == REFUSALS_MAX - 1) {
			atomic_fetch_add_explicit(&it->total, 1, memory_order_relaxed);
			return;
		}
	}
}

/* Two threads that count the first of a pair at once may take an item each: report them as one. */
static uint64_t sum(const struct refusals *r, size_t i, const char *listener, const char *code)
{
	uint64_t n = 0;

	for (; i < REFUSALS_MAX; i++)
		if (same(&r->items[i], listener, code))
			n += atomic_load(&r->items[i].total);
	return n;
}

static bool counted_before(const struct refusals *r, size_t i, const char *listener,
			   const char *code)
{
	for (size_t k = 0; k < i; k++)
		if (same(&r->items[k], listener, code))
			return true;
	return false;
}

void refusals_totals(const struct refusals *r,
		     void (*each)(void *ctx, const char *listener, const char *code, uint64_t n),
		     void *ctx)
{
	for (size_t i = 0; i < REFUSALS_MAX; i++) {
		const char *listener = atomic_load(&r->items[i].listener);
		const char *code = atomic_load(&r->items[i].code);

		if (listener && !counted_before(r, i, listener, code))
			each(ctx, listener, code, sum(r, i, listener, code));
	}
}

void refusals_take(struct refusals *r,
		   bool (*each)(void *ctx, const char *listener, const char *code, uint64_t n),
		   void *ctx)
{
	for (size_t i = 0; i < REFUSALS_MAX; i++) {
		struct refusal *it = &r->items[i];
		const char *listener = atomic_load_explicit(&it->listener, memory_order_acquire);
		uint64_t total = atomic_load(&it->total);
		uint64_t n = total - atomic_load(&it->recorded);

		if (listener && n && each(ctx, listener, atomic_load(&it->code), n))
			atomic_store(&it->recorded, total);
	}
}
