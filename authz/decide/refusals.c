#include "authz/decide/refusals.h"

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
		if ((have == code &&
		     atomic_load_explicit(&it->listener, memory_order_acquire) == listener) ||
		    i == REFUSALS_MAX - 1) {
			atomic_fetch_add_explicit(&it->total, 1, memory_order_relaxed);
			return;
		}
	}
}

void refusals_take(struct refusals *r,
		   void (*each)(void *ctx, const char *listener, const char *code, uint64_t n),
		   void *ctx)
{
	for (size_t i = 0; i < REFUSALS_MAX; i++) {
		struct refusal *it = &r->items[i];
		const char *listener = atomic_load_explicit(&it->listener, memory_order_acquire);
		uint64_t total = atomic_load(&it->total);
		uint64_t n = total - atomic_load(&it->recorded);

		if (!listener || !n)
			continue;
		atomic_store(&it->recorded, total);
		each(ctx, listener, atomic_load(&it->code), n);
	}
}
