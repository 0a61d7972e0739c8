#include "spiffe/peer_cache.h"

#include <string.h>

#define WAYS 4
#define HASHED 128 /* bytes at the end of the text that choose a bucket */

struct entry {
	struct peer_claim claim;
	struct str certificate;
	char text[]; /* what both point to: the certificate, then the ID */
};

struct place {
	uint64_t hash, used;
	struct entry *entry; /* NULL: free */
};

struct peer_cache {
	struct alloc alloc;
	size_t n;      /* a multiple of WAYS */
	uint64_t uses; /* so far: what was used later has more */
	struct place places[];
};

static size_t size_of(const struct entry *entry)
{
	return sizeof(*entry) + entry->certificate.n + entry->claim.id.n;
}

struct peer_cache *peer_cache_new(const struct alloc *alloc, size_t max)
{
	size_t n = (max + WAYS - 1) / WAYS * WAYS;
	struct peer_cache *c = mem_zero(alloc, sizeof(*c) + n * sizeof(*c->places));

	if (c) {
		c->alloc = *alloc;
		c->n = n;
	}
	return c;
}

static void drop(struct peer_cache *c, struct place *p)
{
	if (p->entry)
		mem_free(&c->alloc, p->entry, size_of(p->entry));
	p->entry = NULL;
}

void peer_cache_free(struct peer_cache *c)
{
	struct alloc alloc;

	if (!c)
		return;
	alloc = c->alloc;
	for (size_t i = 0; i < c->n; i++)
		drop(c, &c->places[i]);
	mem_free(&alloc, c, sizeof(*c) + c->n * sizeof(*c->places));
}

/* The signature stands last, and its bytes are as good as drawn by lot. Who makes texts that meet
 * in one bucket loses time, nothing else: it is the whole text that is compared. */
static uint64_t hash_of(struct str text)
{
	uint64_t h = text.n, word;

	if (text.n < HASHED)
		return h; /* no certificate is so short */
	for (const char *p = text.p + text.n - HASHED; p < text.p + text.n; p += sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		h = (h ^ word) * 0x9e3779b97f4a7c15;
		h ^= h >> 29;
	}
	return h;
}

static struct place *bucket(struct peer_cache *c, uint64_t hash)
{
	return &c->places[(hash >> 32) % (c->n / WAYS) * WAYS];
}

static struct place *place_of(struct peer_cache *c, uint64_t hash, struct str certificate)
{
	struct place *b = bucket(c, hash);

	for (size_t i = 0; i < WAYS; i++)
		if (b[i].entry && b[i].hash == hash && str_eq(b[i].entry->certificate, certificate))
			return &b[i];
	return NULL;
}

const struct peer_claim *peer_cache_find(struct peer_cache *c, struct str certificate)
{
	struct place *p = place_of(c, hash_of(certificate), certificate);

	if (!p)
		return NULL;
	p->used = ++c->uses;
	return &p->entry->claim;
}

static struct entry *entry_new(struct peer_cache *c, struct str certificate,
			       const struct peer_claim *claim)
{
	struct str id = claim->id;
	struct entry *entry = mem_new(&c->alloc, sizeof(*entry) + certificate.n + id.n);

	if (!entry)
		return NULL;
	memcpy(entry->text, certificate.p, certificate.n);
	memcpy(entry->text + certificate.n, id.p, id.n);
	entry->certificate = (struct str){ entry->text, certificate.n };
	entry->claim = *claim;
	entry->claim.id.p = entry->text + certificate.n;
	return entry;
}

void peer_cache_add(struct peer_cache *c, struct str certificate, const struct peer_claim *claim)
{
	uint64_t hash = hash_of(certificate);
	struct place *b = bucket(c, hash), *victim = b;
	struct entry *entry;

	if (certificate.n + claim->id.n > PEER_CACHE_ENTRY_MAX || place_of(c, hash, certificate) ||
	    !(entry = entry_new(c, certificate, claim)))
		return;
	for (size_t i = 0; i < WAYS && victim->entry; i++)
		if (!b[i].entry || b[i].used < victim->used)
			victim = &b[i];
	drop(c, victim);
	*victim = (struct place){ .hash = hash, .used = ++c->uses, .entry = entry };
}
