#include "spiffe/registry_view.h"

#include <stdlib.h>

#include "authz/base/digest.h"
#include "spiffe/registry_match.h"
#include "spiffe/registry_template.h"

/* --- boxes --- */

static int by_name(const void *a, const void *b)
{
	const struct registry_attribute *x = a, *y = b;

	return str_cmp(x->name, y->name);
}

static int by_type_and_value(const void *a, const void *b)
{
	const struct registry_selector *x = a, *y = b;
	int c = str_cmp(x->type, y->type);

	return c ? c : str_cmp(x->value, y->value);
}

static struct str put(char **at, struct str s)
{
	struct str copy = { *at, s.n };

	if (s.n)
		memcpy(*at, s.p, s.n);
	*at += s.n;
	return copy;
}

static size_t text_size(const struct registry_entry *e)
{
	size_t n = e->id.n + e->owner.n + e->purpose.n + e->definition.n + e->federates.n;

	for (size_t i = 0; i < e->nattributes; i++)
		n += e->attributes[i].name.n + e->attributes[i].value.n;
	for (size_t i = 0; i < e->nselectors; i++)
		n += e->selectors[i].type.n + e->selectors[i].value.n;
	return n;
}

struct box *box_new(const struct alloc *alloc, const struct registry_entry *entry, int64_t row)
{
	size_t size = sizeof(struct box) + entry->nattributes * sizeof(*entry->attributes) +
		      entry->nselectors * sizeof(*entry->selectors) + text_size(entry);
	struct box *b = mem_new(alloc, size);
	struct registry_attribute *attributes;
	struct registry_selector *selectors;
	char *at;

	if (!b)
		return NULL;
	atomic_init(&b->refs, 1);
	b->alloc = alloc;
	b->size = size;
	b->row = row;
	b->entry = *entry;
	b->filed = false;
	atomic_init(&b->seen_ms, 0);
	b->seen_kept_ms = 0;
	b->entry.seen_ms = &b->seen_ms;
	attributes = (struct registry_attribute *)(void *)(b + 1);
	selectors = (struct registry_selector *)(void *)(attributes + entry->nattributes);
	at = (char *)(selectors + entry->nselectors);
	b->entry.id = put(&at, entry->id);
	b->entry.owner = put(&at, entry->owner);
	b->entry.purpose = put(&at, entry->purpose);
	b->entry.definition = put(&at, entry->definition);
	b->entry.federates = put(&at, entry->federates);
	for (size_t i = 0; i < entry->nattributes; i++) {
		attributes[i].name = put(&at, entry->attributes[i].name);
		attributes[i].value = put(&at, entry->attributes[i].value);
	}
	for (size_t i = 0; i < entry->nselectors; i++) {
		selectors[i].type = put(&at, entry->selectors[i].type);
		selectors[i].value = put(&at, entry->selectors[i].value);
	}
	qsort(attributes, entry->nattributes, sizeof(*attributes), by_name);
	qsort(selectors, entry->nselectors, sizeof(*selectors), by_type_and_value);
	b->entry.attributes = attributes;
	b->entry.selectors = selectors;
	return b;
}

static void box_acquire(struct box *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
}

void box_release(struct box *b)
{
	if (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
		mem_free(b->alloc, b, b->size);
}

/* --- shards: open addressing, at most half full --- */

struct cell {
	uint64_t hash;
	struct box *box; /* NULL: free */
};

struct shard {
	atomic_uint refs;
	const struct alloc *alloc;
	size_t n, cap; /* cap: a power of two, > 2 n */
	struct cell cells[];
};

static size_t shard_size(size_t cap)
{
	return sizeof(struct shard) + cap * sizeof(struct cell);
}

static struct shard *shard_new(const struct alloc *alloc, size_t cap)
{
	struct shard *s = mem_zero(alloc, shard_size(cap));

	if (!s)
		return NULL;
	atomic_init(&s->refs, 1);
	s->alloc = alloc;
	s->cap = cap;
	return s;
}

static void shard_release(struct shard *s)
{
	if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < s->cap; i++)
		box_release(s->cells[i].box);
	mem_free(s->alloc, s, shard_size(s->cap));
}

/* The cell that holds @id, or the free one where it belongs. */
static const struct cell *shard_cell(const struct shard *s, uint64_t hash, struct str id)
{
	size_t i = hash & (s->cap - 1);

	while (s->cells[i].box &&
	       (s->cells[i].hash != hash || !str_eq(s->cells[i].box->entry.id, id)))
		i = (i + 1) & (s->cap - 1);
	return &s->cells[i];
}

static void shard_put(struct shard *s, uint64_t hash, struct box *b)
{
	struct cell *c = &s->cells[shard_cell(s, hash, b->entry.id) - s->cells];

	if (c->box)
		box_release(c->box);
	else
		s->n++;
	*c = (struct cell){ hash, b };
}

/* A table of our own to change: the same one if nobody else sees it and it has room, else a copy
 * with references to the same boxes. */
static struct shard *shard_own(struct shard *s, const struct alloc *alloc)
{
	size_t cap = s ? s->cap : 4;
	struct shard *copy;

	if (s && atomic_load_explicit(&s->refs, memory_order_acquire) == 1 &&
	    2 * (s->n + 1) < s->cap)
		return s;
	while (s && 2 * (s->n + 1) >= cap)
		cap *= 2;
	copy = shard_new(alloc, cap);
	if (!copy)
		return NULL;
	for (size_t i = 0; s && i < s->cap; i++)
		if (s->cells[i].box) {
			box_acquire(s->cells[i].box);
			shard_put(copy, s->cells[i].hash, s->cells[i].box);
		}
	return copy;
}

/* --- views --- */

/* Eight bytes a step and a good last mix; the seed is per process, so this need not be SipHash:
 * IDs enter the table by an admin's hand only. */
uint64_t view_hash(uint64_t seed, struct str s)
{
	uint64_t h = seed ^ s.n, w;

	for (; s.n >= 8; s = str_from(s, 8)) {
		memcpy(&w, s.p, 8);
		h = (h ^ w) * 0x9e3779b97f4a7c15u;
		h ^= h >> 32;
	}
	w = 0;
	if (s.n)
		memcpy(&w, s.p, s.n);
	h = (h ^ w) * 0xbf58476d1ce4e5b9u;
	h ^= h >> 31;
	h *= 0x94d049bb133111ebu;
	return h ^ h >> 30;
}

static void view_free(struct shared *s)
{
	struct view *v = (struct view *)(void *)s;

	for (size_t i = 0; i < REGISTRY_SHARDS; i++)
		shard_release(v->shards[i]);
	for (size_t i = 0; i < REGISTRY_SHARDS; i++)
		match_shard_release(v->files[i]);
	mem_free(v->alloc, v, sizeof(*v));
}

struct view *view_new(const struct alloc *alloc)
{
	struct view *v = mem_zero(alloc, sizeof(*v));

	if (!v)
		return NULL;
	shared_init(&v->pub.shared, view_free);
	v->alloc = alloc;
	random_bytes(&v->seed, sizeof(v->seed));
	return v;
}

struct view *view_copy(const struct view *from)
{
	struct view *v = mem_new(from->alloc, sizeof(*v));

	if (!v)
		return NULL;
	/* All but the head, whose references others count meanwhile. */
	shared_init(&v->pub.shared, view_free);
	v->pub.version = from->pub.version;
	v->pub.n = from->pub.n;
	v->alloc = from->alloc;
	v->seed = from->seed;
	memcpy(v->shards, from->shards, sizeof(v->shards));
	memcpy(v->files, from->files, sizeof(v->files));
	for (size_t i = 0; i < REGISTRY_SHARDS; i++)
		match_shard_acquire(v->files[i]);
	for (size_t i = 0; i < REGISTRY_SHARDS; i++)
		if (v->shards[i])
			atomic_fetch_add_explicit(&v->shards[i]->refs, 1, memory_order_relaxed);
	return v;
}

struct box *view_find(const struct view *v, struct str id)
{
	uint64_t hash = view_hash(v->seed, id);
	const struct shard *s = v->shards[view_shard(hash)];

	return s ? shard_cell(s, hash, id)->box : NULL;
}

bool view_put(struct view *v, struct box *b)
{
	uint64_t hash = view_hash(v->seed, b->entry.id);
	struct shard **at = &v->shards[view_shard(hash)];
	struct shard *own = shard_own(*at, v->alloc);
	const struct box *old;
	size_t before;

	if (!own)
		return false;
	if (own != *at) {
		shard_release(*at);
		*at = own;
	}
	/* Room first, so that what follows cannot fail half way. */
	old = shard_cell(own, hash, b->entry.id)->box;
	b->filed = match_choose(v, &b->entry, &b->file);
	if ((old && old->filed && !match_reserve(v, old->file)) ||
	    (b->filed && !match_reserve(v, b->file)))
		return false;
	if (old && old->filed)
		match_unfile(v, old->file, old);
	if (b->filed)
		match_file(v, b->file, b);
	if (old) {
		atomic_store(&b->seen_ms, atomic_load(&old->seen_ms));
		b->seen_kept_ms = old->seen_kept_ms;
	}
	before = own->n;
	shard_put(own, hash, b);
	v->pub.n += own->n - before;
	return true;
}

const struct registry_entry *registry_look(const struct registry_view *v, struct str id)
{
	const struct box *b = v ? view_find(view_of(v), id) : NULL;

	return b ? &b->entry : NULL;
}

const struct registry_entry *registry_find(const struct registry_view *v, struct str id)
{
	const struct registry_entry *e = registry_look(v, id);

	return e && !e->template ? e : NULL;
}

/* --- walking: every entry, the smallest IDs kept in order --- */

void view_keep(const struct registry_entry **out, size_t *n, size_t max,
	       const struct registry_entry *e)
{
	size_t lo = 0, hi = *n;

	if (*n == max && str_cmp(e->id, out[max - 1]->id) > 0)
		return;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (str_cmp(out[mid]->id, e->id) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (*n < max)
		(*n)++;
	for (size_t i = *n - 1; i > lo; i--)
		out[i] = out[i - 1];
	out[lo] = e;
}

static size_t walk(const struct registry_view *pub,
		   bool (*wanted)(const void *ctx, const struct registry_entry *e), const void *ctx,
		   const struct registry_entry **out, size_t max)
{
	const struct view *v = view_of(pub);
	size_t n = 0;

	for (size_t i = 0; max && i < REGISTRY_SHARDS; i++)
		for (size_t j = 0; v->shards[i] && j < v->shards[i]->cap; j++) {
			const struct box *b = v->shards[i]->cells[j].box;

			if (b && wanted(ctx, &b->entry))
				view_keep(out, &n, max, &b->entry);
		}
	return n;
}

void view_each(const struct view *v, void (*each)(void *ctx, struct box *b), void *ctx)
{
	for (size_t i = 0; i < REGISTRY_SHARDS; i++)
		for (size_t j = 0; v->shards[i] && j < v->shards[i]->cap; j++)
			if (v->shards[i]->cells[j].box)
				each(ctx, v->shards[i]->cells[j].box);
}

/* Views share the parts that are the same, and parts their boxes. Nothing is ever taken out. */
size_t registry_changes(const struct registry_view *old, const struct registry_view *new,
			struct registry_changed *out, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < REGISTRY_SHARDS && n <= max; i++) {
		const struct shard *is = view_of(new)->shards[i], *was = view_of(old)->shards[i];

		for (size_t k = 0; is != was && k < is->cap && n <= max; k++) {
			const struct cell *c = &is->cells[k];
			const struct box *before =
				was && c->box ? shard_cell(was, c->hash, c->box->entry.id)->box
					      : NULL;

			if (c->box == before)
				continue;
			if (n < max)
				out[n] = (struct registry_changed){ before ? &before->entry : NULL,
								    &c->box->entry };
			n++;
		}
	}
	return n;
}

struct listing {
	const struct registry_filter *filter;
	const struct registry_view *view;
};

static bool passes(const void *ctx, const struct registry_entry *e)
{
	const struct listing *l = ctx;
	const struct registry_filter *f = l->filter;
	const struct registry_attribute *a;

	if (f->after.n && str_cmp(e->id, f->after) <= 0)
		return false;
	if (!str_starts(e->id, f->prefix) || (f->owner.n && !str_eq(e->owner, f->owner)))
		return false;
	if (f->orphan_ms && !registry_orphan(l->view, e, f->now_ms, f->orphan_ms))
		return false;
	if (f->by_state && registry_state(e, f->now_ms) != f->state)
		return false;
	if (!f->name.n)
		return true;
	a = registry_attribute(e, f->name);
	return a && str_eq(a->value, f->value);
}

/* Is it another template that could give an ID that @ctx can? */
static bool overlaps(const void *ctx, const struct registry_entry *e)
{
	const struct registry_entry *t = ctx;

	return e->template && e->stored != ENTRY_RETIRED && !str_eq(e->id, t->id) &&
	       template_overlap(e->id, t->id);
}

const struct registry_entry *view_overlap(const struct view *v, const struct registry_entry *t)
{
	const struct registry_entry *one = NULL;

	return walk(&v->pub, overlaps, t, &one, 1) ? one : NULL;
}

size_t registry_list(const struct registry_view *v, const struct registry_filter *f,
		     const struct registry_entry **out, size_t max)
{
	struct listing l = { f, v };

	return walk(v, passes, &l, out, max);
}

size_t registry_scan(const struct registry_view *pub, struct str after, int64_t now_ms,
		     const struct registry_entry **out, size_t max)
{
	const struct view *v = view_of(pub);
	size_t from = after.n ? view_shard(view_hash(v->seed, after)) : 0, n = 0;

	/* Shard by shard, and by ID within each: so a place follows from the ID alone. */
	for (size_t i = from; n < max && i < REGISTRY_SHARDS; i++) {
		const struct shard *s = v->shards[i];
		size_t here = 0;

		for (size_t k = 0; s && k < s->cap; k++) {
			const struct box *b = s->cells[k].box;

			if (b && !b->entry.template &&
			    (i > from || str_cmp(b->entry.id, after) > 0) &&
			    registry_state(&b->entry, now_ms) == ENTRY_ACTIVE)
				view_keep(out + n, &here, max - n, &b->entry);
		}
		n += here;
	}
	return n;
}
