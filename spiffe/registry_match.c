#include "spiffe/registry_match.h"

/* The entries that are filed under one selector. */
struct file {
	atomic_uint refs;
	uint32_t n, cap;
	const struct box *boxes[];
};

struct cell {
	uint64_t hash;
	struct file *file; /* NULL: free */
};

/* Open addressing, at most half full. A file that has become empty leaves its cell when the table
 * is next copied. */
struct match_shard {
	atomic_uint refs;
	const struct alloc *alloc;
	size_t n, cap; /* cap: a power of two, > 2 n */
	struct cell cells[];
};

static uint64_t hash_selector(const struct view *v, const struct registry_selector *s)
{
	uint64_t type = view_hash(v->seed, s->type);

	return view_hash(type, s->value);
}

/* --- files and tables --- */

static size_t file_size(size_t cap)
{
	return sizeof(struct file) + cap * sizeof(struct box *);
}

static void file_release(const struct alloc *alloc, struct file *f)
{
	if (f && atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) == 1)
		mem_free(alloc, f, file_size(f->cap));
}

static struct match_shard *shard_new(const struct alloc *alloc, size_t cap)
{
	struct match_shard *s = mem_zero(alloc, sizeof(*s) + cap * sizeof(struct cell));

	if (!s)
		return NULL;
	atomic_init(&s->refs, 1);
	s->alloc = alloc;
	s->cap = cap;
	return s;
}

void match_shard_acquire(struct match_shard *s)
{
	if (s)
		atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
}

void match_shard_release(struct match_shard *s)
{
	if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < s->cap; i++)
		file_release(s->alloc, s->cells[i].file);
	mem_free(s->alloc, s, sizeof(*s) + s->cap * sizeof(struct cell));
}

/* The cell of @hash, or the free one where it belongs. */
static size_t cell_of(const struct match_shard *s, uint64_t hash)
{
	size_t i = hash & (s->cap - 1);

	while (s->cells[i].file && s->cells[i].hash != hash)
		i = (i + 1) & (s->cap - 1);
	return i;
}

static const struct file *file_of(const struct view *v, uint64_t hash)
{
	const struct match_shard *s = v->files[view_shard(hash)];

	return s ? s->cells[cell_of(s, hash)].file : NULL;
}

/* A table of our own with room for one more cell; see shard_own of registry_view.c. */
static struct match_shard *shard_own(struct match_shard *s, const struct alloc *alloc)
{
	size_t cap = s ? s->cap : 4, live = 0;
	struct match_shard *copy;

	if (s && atomic_load_explicit(&s->refs, memory_order_acquire) == 1 &&
	    2 * (s->n + 1) < s->cap)
		return s;
	for (size_t i = 0; s && i < s->cap; i++)
		live += s->cells[i].file && s->cells[i].file->n;
	while (2 * (live + 1) >= cap)
		cap *= 2;
	copy = shard_new(alloc, cap);
	for (size_t i = 0; copy && s && i < s->cap; i++) {
		struct file *f = s->cells[i].file;

		if (!f || !f->n)
			continue;
		atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
		copy->cells[cell_of(copy, s->cells[i].hash)] = s->cells[i];
		copy->n++;
	}
	return copy;
}

/* A file of our own with room for one more: the same one if nobody else sees it. */
static struct file *file_own(struct file *f, const struct alloc *alloc)
{
	size_t cap = f ? f->cap : 1;
	struct file *copy;

	if (f && atomic_load_explicit(&f->refs, memory_order_acquire) == 1 && f->n < f->cap)
		return f;
	if (f && f->n == f->cap)
		cap *= 2;
	copy = mem_new(alloc, file_size(cap));
	if (!copy)
		return NULL;
	atomic_init(&copy->refs, 1);
	copy->n = f ? f->n : 0;
	copy->cap = (uint32_t)cap;
	if (copy->n)
		memcpy(copy->boxes, f->boxes, copy->n * sizeof(struct box *));
	return copy;
}

/* --- filing --- */

bool match_choose(const struct view *v, const struct registry_entry *entry, uint64_t *hash)
{
	uint32_t least = UINT32_MAX;

	if (entry->stored == ENTRY_RETIRED) /* for good: it never matches again */
		return false;
	for (size_t i = 0; i < entry->nselectors; i++) {
		uint64_t h = hash_selector(v, &entry->selectors[i]);
		const struct file *f = file_of(v, h);
		uint32_t n = f ? f->n : 0;

		if (n >= least)
			continue;
		least = n;
		*hash = h;
	}
	return entry->nselectors > 0;
}

bool match_reserve(struct view *v, uint64_t hash)
{
	struct match_shard **at = &v->files[view_shard(hash)];
	struct match_shard *own = shard_own(*at, v->alloc);
	struct cell *c;
	struct file *f;

	if (!own)
		return false;
	if (own != *at) {
		match_shard_release(*at);
		*at = own;
	}
	c = &own->cells[cell_of(own, hash)];
	f = file_own(c->file, v->alloc);
	if (!f)
		return false;
	if (f != c->file) {
		own->n += !c->file;
		file_release(v->alloc, c->file);
	}
	*c = (struct cell){ hash, f };
	return true;
}

static struct file *reserved(struct view *v, uint64_t hash)
{
	struct match_shard *s = v->files[view_shard(hash)];

	return s->cells[cell_of(s, hash)].file;
}

void match_file(struct view *v, uint64_t hash, const struct box *b)
{
	struct file *f = reserved(v, hash);

	f->boxes[f->n++] = b;
}

void match_unfile(struct view *v, uint64_t hash, const struct box *b)
{
	struct file *f = reserved(v, hash);
	uint32_t i = 0;

	while (i < f->n && f->boxes[i] != b)
		i++;
	if (i < f->n)
		f->boxes[i] = f->boxes[--f->n];
}

/* --- looking up --- */

static bool holds(const struct registry_selector *attested, const uint64_t *hashes, size_t n,
		  const struct registry_selector *s, uint64_t hash)
{
	for (size_t j = 0; j < n; j++)
		if (hashes[j] == hash && str_eq(s->type, attested[j].type) &&
		    str_eq(s->value, attested[j].value))
			return true;
	return false;
}

static bool holds_all(const struct view *v, const struct registry_selector *attested,
		      const uint64_t *hashes, size_t n, const struct registry_entry *e)
{
	for (size_t i = 0; i < e->nselectors; i++)
		if (!holds(attested, hashes, n, &e->selectors[i],
			   hash_selector(v, &e->selectors[i])))
			return false;
	return e->nselectors > 0;
}

bool registry_holds(const struct registry_selector *attested, size_t n,
		    const struct registry_entry *entry)
{
	for (size_t i = 0; i < entry->nselectors; i++) {
		const struct registry_selector *s = &entry->selectors[i];
		size_t j = 0;

		while (j < n &&
		       !(str_eq(s->value, attested[j].value) && str_eq(s->type, attested[j].type)))
			j++;
		if (j == n)
			return false;
	}
	return entry->nselectors > 0;
}

static size_t match(const struct view *v, bool templates, const struct registry_selector *attested,
		    size_t n, int64_t now_ms, const struct registry_entry **out, size_t max)
{
	uint64_t hashes[REGISTRY_ATTESTED];
	size_t found = 0;

	if (n > REGISTRY_ATTESTED)
		n = REGISTRY_ATTESTED;
	for (size_t i = 0; i < n; i++)
		hashes[i] = hash_selector(v, &attested[i]);
	for (size_t i = 0; max && i < n; i++) {
		const struct file *f = file_of(v, hashes[i]);
		bool again = false;

		for (size_t j = 0; j < i; j++) /* given twice: its file was read already */
			again |= hashes[j] == hashes[i];
		for (uint32_t k = 0; f && !again && k < f->n; k++) {
			const struct registry_entry *e = &f->boxes[k]->entry;

			if (e->template == templates && registry_state(e, now_ms) == ENTRY_ACTIVE &&
			    holds_all(v, attested, hashes, n, e))
				view_keep(out, &found, max, e);
		}
	}
	return found;
}

size_t registry_match(const struct registry_view *v, const struct registry_selector *attested,
		      size_t n, int64_t now_ms, const struct registry_entry **out, size_t max)
{
	return match(view_of(v), false, attested, n, now_ms, out, max);
}

size_t registry_match_templates(const struct registry_view *v,
				const struct registry_selector *attested, size_t n, int64_t now_ms,
				const struct registry_entry **out, size_t max)
{
	return match(view_of(v), true, attested, n, now_ms, out, max);
}

size_t registry_view_match(const struct registry_view *v, const struct str *selectors, size_t n,
			   int64_t now_ms, const struct registry_entry **out, size_t max)
{
	struct registry_selector attested[REGISTRY_ATTESTED];
	size_t k = 0;

	for (size_t i = 0; i < n && k < REGISTRY_ATTESTED; i++)
		if (str_cut(selectors[i], ':', &attested[k].type, &attested[k].value))
			k++;
	return registry_match(v, attested, k, now_ms, out, max);
}
