#include "authz/base/tally.h"

#include <assert.h>

/* Users are numbered one after the other, so the low bits spread them; nobody chooses numbers. */
static struct tally_user **slot_of(struct tally *t, uint64_t who)
{
	struct tally_user **at = &t->buckets[who % TALLY_BUCKETS];

	while (*at && (*at)->who != who)
		at = &(*at)->next;
	return at;
}

void tally_init(struct tally *t, const struct alloc *alloc)
{
	*t = (struct tally){ .alloc = alloc };
}

void tally_clear(struct tally *t)
{
	for (size_t i = 0; i < TALLY_BUCKETS; i++)
		while (t->buckets[i]) {
			struct tally_user *u = t->buckets[i];

			t->buckets[i] = u->next;
			mem_free(t->alloc, u, sizeof(*u));
		}
}

bool tally_add(struct tally *t, uint64_t who, size_t max)
{
	struct tally_user **at = slot_of(t, who);

	if ((*at ? (*at)->n : 0) >= max)
		return false;
	if (!*at) {
		*at = mem_zero(t->alloc, sizeof(**at));
		if (!*at)
			return false;
		(*at)->who = who;
	}
	(*at)->n++;
	return true;
}

void tally_drop(struct tally *t, uint64_t who)
{
	struct tally_user **at = slot_of(t, who), *u = *at;

	assert(u && u->n);
	if (--u->n)
		return;
	*at = u->next;
	mem_free(t->alloc, u, sizeof(*u));
}

size_t tally_of(const struct tally *t, uint64_t who)
{
	const struct tally_user *u = t->buckets[who % TALLY_BUCKETS];

	while (u && u->who != who)
		u = u->next;
	return u ? u->n : 0;
}
