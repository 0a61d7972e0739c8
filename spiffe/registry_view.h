/*
 * registry_view - the private side of a view: parts, boxes, and how a part is replaced.
 *
 * Purpose    A view holds REGISTRY_SHARDS hash tables. Tables and entries are counted references,
 *            so the next view shares all but the one that changed.
 * Ownership  view_new and view_copy give one reference; a view under construction belongs to the
 *            registry until it is published.
 * Threads    Construction: the control thread. Counts are atomic, as the last reader may be any.
 */
#ifndef WRIT_SPIFFE_REGISTRY_VIEW_H
#define WRIT_SPIFFE_REGISTRY_VIEW_H

#include "spiffe/registry.h"

/* An entry with all it points to, in one block. */
struct box {
	atomic_uint refs;
	const struct alloc *alloc;
	size_t size;
	int64_t row;   /* of table entry */
	uint64_t file; /* if filed: under which selector's hash (registry_match.h) */
	bool filed;
	atomic_int_fast64_t seen_ms;
	int64_t seen_kept_ms; /* as stored; the control thread's */
	struct registry_entry entry;
};

struct shard;
struct match_shard;

struct view {
	struct registry_view pub; /* must be first */
	const struct alloc *alloc;
	uint64_t seed; /* of the hash, so that nobody can choose IDs that collide */
	struct shard *shards[REGISTRY_SHARDS];	    /* by ID */
	struct match_shard *files[REGISTRY_SHARDS]; /* by selector */
};

/* A box with copies of all that @entry holds, attributes and selectors sorted. NULL: no memory. */
struct box *box_new(const struct alloc *alloc, const struct registry_entry *entry, int64_t row);
void box_release(struct box *b); /* NULL is fine */

struct view *view_new(const struct alloc *alloc);
struct view *view_copy(const struct view *v);

/* Call @each for every entry. */
void view_each(const struct view *v, void (*each)(void *ctx, struct box *b), void *ctx);

/* A template, not retired, that could give an ID that the template @t can; NULL: none. */
const struct registry_entry *view_overlap(const struct view *v, const struct registry_entry *t);

struct box *view_find(const struct view *v, struct str id);

/* Put @b (taking over the reference) in place of the entry of the same ID, if any. @v must not be
 * published yet. False: no memory, nothing changed, and @b still the caller's. */
MUST_USE bool view_put(struct view *v, struct box *b);

/* Of an ID, a selector; the seed keeps strangers from choosing what collides. */
uint64_t view_hash(uint64_t seed, struct str s);

/* The part of a view that a hash belongs to: its top ten bits, as cells go by the low ones. */
static inline size_t view_shard(uint64_t hash)
{
	return hash >> 54;
}
_Static_assert(REGISTRY_SHARDS == 1 << 10, "view_shard takes ten bits");

/* Put @e into @out, which is kept in order of ID and holds the @max smallest. */
void view_keep(const struct registry_entry **out, size_t *n, size_t max,
	       const struct registry_entry *e);

static inline const struct view *view_of(const struct registry_view *v)
{
	return (const struct view *)(const void *)v;
}

#endif
