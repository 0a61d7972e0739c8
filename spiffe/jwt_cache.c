#include "spiffe/jwt_cache.h"

#include <string.h>

#define WAYS 4

bool jwt_cache_init(struct jwt_cache *c, const struct alloc *alloc, size_t max)
{
	*c = (struct jwt_cache){ .alloc = alloc, .n = (max + WAYS - 1) / WAYS * WAYS };
	if (c->n == 0)
		return true;
	c->entries = mem_zero(alloc, c->n * sizeof(*c->entries));
	return c->entries != NULL;
}

static void drop(struct jwt_cache *c, struct jwt_cached *entry)
{
	mem_free(c->alloc, entry->text, entry->id.n);
	*entry = (struct jwt_cached){ 0 };
}

void jwt_cache_forget(struct jwt_cache *c)
{
	for (size_t i = 0; c->entries && i < c->n; i++)
		drop(c, &c->entries[i]);
}

void jwt_cache_clear(struct jwt_cache *c)
{
	jwt_cache_forget(c);
	mem_free(c->alloc, c->entries, c->n * sizeof(*c->entries));
	c->entries = NULL;
	c->n = 0;
}

/* SHA-256 spreads evenly by itself; nobody chooses where a valid token lands. */
static struct jwt_cached *bucket(struct jwt_cache *c, const uint8_t key[static SHA256_LEN])
{
	uint64_t h;

	memcpy(&h, key, sizeof(h));
	return &c->entries[h % (c->n / WAYS) * WAYS];
}

const struct jwt_cached *jwt_cache_find(struct jwt_cache *c, const uint8_t key[static SHA256_LEN],
					int64_t now_s)
{
	struct jwt_cached *b = c->entries ? bucket(c, key) : NULL;

	for (size_t i = 0; b && i < WAYS; i++) {
		if (!b[i].id.p || memcmp(b[i].key, key, SHA256_LEN) != 0)
			continue;
		if (now_s >= b[i].from_s && now_s < b[i].until_s)
			return &b[i];
		drop(c, &b[i]);
	}
	return NULL;
}

void jwt_cache_add(struct jwt_cache *c, const struct jwt_cached *entry)
{
	struct jwt_cached *b = c->entries ? bucket(c, entry->key) : NULL, *victim = b;
	char *id;

	if (!b)
		return;
	for (size_t i = 0; i < WAYS; i++) {
		if (!b[i].id.p || memcmp(b[i].key, entry->key, SHA256_LEN) == 0) {
			victim = &b[i];
			break;
		}
		if (b[i].until_s < victim->until_s)
			victim = &b[i];
	}
	id = mem_new(c->alloc, entry->id.n);
	if (!id)
		return;
	memcpy(id, entry->id.p, entry->id.n);
	drop(c, victim);
	*victim = *entry;
	victim->id = (struct str){ id, entry->id.n };
	victim->text = id;
}
