#include "authz/audit/tree.h"

#include <assert.h>

void tree_leaf_hash(struct sha256 *sha, struct str leaf, uint8_t out[static SHA256_LEN])
{
	struct str parts[] = { { "\0", 1 }, leaf };

	sha256_parts(sha, parts, 2, out);
}

void tree_node_hash(struct sha256 *sha, const uint8_t left[static SHA256_LEN],
		    const uint8_t right[static SHA256_LEN], uint8_t out[static SHA256_LEN])
{
	char text[1 + 2 * SHA256_LEN] = { 1 };

	memcpy(text + 1, left, SHA256_LEN);
	memcpy(text + 1 + SHA256_LEN, right, SHA256_LEN);
	sha256_of(sha, (struct str){ text, sizeof(text) }, out);
}

/* --- compact range --- */

void tree_append_node(struct tree_range *r, struct sha256 *sha, unsigned level,
		      const uint8_t node[static SHA256_LEN])
{
	uint8_t h[SHA256_LEN];
	unsigned k = level;

	assert(level < TREE_LEVELS && (r->n & ((UINT64_C(1) << level) - 1)) == 0);
	assert(r->n <= (uint64_t)TREE_SIZE_MAX - (UINT64_C(1) << level));
	memcpy(h, node, SHA256_LEN);
	for (uint64_t s = r->n >> level; s & 1; s >>= 1, k++)
		tree_node_hash(sha, r->node[k], h, h);
	memcpy(r->node[k], h, SHA256_LEN);
	r->n += UINT64_C(1) << level;
}

void tree_append(struct tree_range *r, struct sha256 *sha, const uint8_t leaf[static SHA256_LEN])
{
	tree_append_node(r, sha, 0, leaf);
}

void tree_root(const struct tree_range *r, struct sha256 *sha, uint8_t out[static SHA256_LEN])
{
	bool first = true;

	if (!r->n)
		sha256_of(sha, (struct str){ "", 0 }, out);
	for (unsigned k = 0; k < TREE_LEVELS; k++) {
		if (!(r->n >> k & 1))
			continue;
		if (first)
			memcpy(out, r->node[k], SHA256_LEN);
		else
			tree_node_hash(sha, r->node[k], out, out);
		first = false;
	}
}

size_t tree_range_save(const struct tree_range *r, uint8_t out[static TREE_LEVELS * SHA256_LEN])
{
	size_t n = 0;

	for (unsigned k = TREE_LEVELS; k-- > 0;)
		if (r->n >> k & 1) {
			memcpy(out + n, r->node[k], SHA256_LEN);
			n += SHA256_LEN;
		}
	return n;
}

bool tree_range_load(struct tree_range *r, uint64_t n, struct str saved)
{
	const char *p = saved.p;

	if (n > (uint64_t)TREE_SIZE_MAX || saved.n != (size_t)__builtin_popcountll(n) * SHA256_LEN)
		return false;
	*r = (struct tree_range){ .n = n };
	for (unsigned k = TREE_LEVELS; k-- > 0;)
		if (n >> k & 1) {
			memcpy(r->node[k], p, SHA256_LEN);
			p += SHA256_LEN;
		}
	return true;
}

/* --- proofs --- */

static unsigned bitlen(uint64_t v)
{
	return v ? 64 - (unsigned)__builtin_clzll(v) : 0;
}

/* The largest power of two below s; s > 1. */
static uint64_t split(uint64_t s)
{
	return UINT64_C(1) << ((bitlen(s - 1) - 1) & 63);
}

/* Depth is bounded by the bits of hi - lo. */
bool tree_subtree(const struct tree_source *src, struct sha256 *sha, uint64_t lo, // NOLINT
		  uint64_t hi, uint8_t out[static SHA256_LEN])
{
	uint8_t left[SHA256_LEN], right[SHA256_LEN];
	uint64_t s = hi - lo, k;

	if (lo >= hi)
		return false;
	if ((s & (s - 1)) == 0 && lo % s == 0) {
		unsigned level = bitlen(s) - 1;

		return src->node(src->ctx, level, lo >> level, out);
	}
	k = split(s);
	if (!tree_subtree(src, sha, lo, lo + k, left) || !tree_subtree(src, sha, lo + k, hi, right))
		return false;
	tree_node_hash(sha, left, right, out);
	return true;
}

/* The recursions of the RFC go down once and collect siblings from the bottom up: note them on the
 * way down, write them in reverse. */
struct spans {
	size_t n;
	struct {
		uint64_t lo, hi;
	} at[TREE_HASHES_MAX];
};

static void span(struct spans *s, uint64_t lo, uint64_t hi)
{
	s->at[s->n].lo = lo;
	s->at[s->n++].hi = hi;
}

static bool prove(const struct tree_source *src, struct sha256 *sha, const struct spans *s,
		  struct tree_proof *p)
{
	p->n = 0;
	for (size_t i = s->n; i-- > 0;)
		if (!tree_subtree(src, sha, s->at[i].lo, s->at[i].hi, p->hash[p->n++]))
			return false;
	return true;
}

bool tree_prove_inclusion(const struct tree_source *src, struct sha256 *sha, uint64_t m, uint64_t n,
			  struct tree_proof *p)
{
	struct spans spans = { 0 };
	uint64_t lo = 0, hi = n;

	if (m >= n || n > (uint64_t)TREE_SIZE_MAX)
		return false;
	while (hi - lo > 1) {
		uint64_t k = split(hi - lo);

		if (m < lo + k) {
			span(&spans, lo + k, hi);
			hi = lo + k;
		} else {
			span(&spans, lo, lo + k);
			lo += k;
		}
	}
	return prove(src, sha, &spans, p);
}

bool tree_prove_consistency(const struct tree_source *src, struct sha256 *sha, uint64_t m,
			    uint64_t n, struct tree_proof *p)
{
	struct spans spans = { 0 };
	uint64_t lo = 0, hi = n;
	bool whole = true; /* the old tree had [lo, hi) as it is, so its verifier knows the root */

	if (m < 1 || m > n || n > (uint64_t)TREE_SIZE_MAX)
		return false;
	while (m != hi - lo) {
		uint64_t k = split(hi - lo);

		if (m <= k) {
			span(&spans, lo + k, hi);
			hi = lo + k;
		} else {
			span(&spans, lo, lo + k);
			lo += k;
			m -= k;
			whole = false;
		}
	}
	if (!whole)
		span(&spans, lo, hi);
	return prove(src, sha, &spans, p);
}

bool tree_verify_inclusion(struct sha256 *sha, uint64_t i, uint64_t n,
			   const uint8_t leaf[static SHA256_LEN], const struct tree_proof *p,
			   const uint8_t root[static SHA256_LEN])
{
	uint8_t h[SHA256_LEN];
	unsigned inner, border;

	if (n < 1 || n > (uint64_t)TREE_SIZE_MAX || i >= n)
		return false;
	inner = bitlen(i ^ (n - 1));
	border = (unsigned)__builtin_popcountll(i >> inner);
	if (p->n != inner + border)
		return false;
	memcpy(h, leaf, SHA256_LEN);
	for (unsigned k = 0; k < inner + border; k++)
		if (k >= inner || (i >> k & 1))
			tree_node_hash(sha, p->hash[k], h, h);
		else
			tree_node_hash(sha, h, p->hash[k], h);
	return memcmp(h, root, SHA256_LEN) == 0;
}

bool tree_verify_consistency(struct sha256 *sha, uint64_t a, uint64_t b, const struct tree_proof *p,
			     const uint8_t root_a[static SHA256_LEN],
			     const uint8_t root_b[static SHA256_LEN])
{
	uint8_t h1[SHA256_LEN], h2[SHA256_LEN];
	unsigned z, top, inner, border;
	size_t used = 0;
	uint64_t m;

	if (a < 1 || a > b || b > (uint64_t)TREE_SIZE_MAX)
		return false;
	if (a == b)
		return p->n == 0 && memcmp(root_a, root_b, SHA256_LEN) == 0;
	z = (unsigned)__builtin_ctzll(a);
	m = (a - 1) >> z;
	top = bitlen((a - 1) ^ (b - 1)) & 63; /* above z: b - 1 >= a differs from a - 1 there */
	inner = top - z;
	border = (unsigned)__builtin_popcountll((a - 1) >> top);
	if ((a & (a - 1)) != 0)
		used = 1;
	if (p->n != used + inner + border)
		return false;
	memcpy(h1, used ? p->hash[0] : root_a, SHA256_LEN);
	memcpy(h2, h1, SHA256_LEN);
	for (unsigned k = 0; k < inner + border; k++) {
		const uint8_t *q = p->hash[used + k];

		if (k >= inner || (m >> k & 1)) {
			tree_node_hash(sha, q, h1, h1);
			tree_node_hash(sha, q, h2, h2);
		} else {
			tree_node_hash(sha, h2, q, h2);
		}
	}
	/* Both: checking the new root alone would let history be replaced. */
	return memcmp(h1, root_a, SHA256_LEN) == 0 && memcmp(h2, root_b, SHA256_LEN) == 0;
}

/* --- contiguous ranges --- */

size_t tree_cover(uint64_t lo, uint64_t hi, struct tree_coord out[static TREE_HASHES_MAX])
{
	size_t n = 0;

	while (lo < hi) {
		unsigned fits = (bitlen(hi - lo) - 1) & 63;
		unsigned level = lo ? (unsigned)__builtin_ctzll(lo) : fits;

		if (level > fits)
			level = fits;
		out[n++] = (struct tree_coord){ level, lo >> level };
		lo += UINT64_C(1) << level;
	}
	return n;
}

bool tree_prove_range(const struct tree_source *src, uint64_t a, uint64_t b, uint64_t n,
		      struct tree_proof *p)
{
	struct tree_coord cover[2 * TREE_HASHES_MAX];
	size_t count;

	if (a > b || b > n || n > (uint64_t)TREE_SIZE_MAX)
		return false;
	count = tree_cover(0, a, cover);
	count += tree_cover(b, n, cover + count);
	assert(count <= TREE_HASHES_MAX);
	for (p->n = 0; p->n < count; p->n++)
		if (!src->node(src->ctx, cover[p->n].level, cover[p->n].index, p->hash[p->n]))
			return false;
	return true;
}

void tree_span_append_node(struct tree_span *s, struct sha256 *sha, unsigned level,
			   const uint8_t node[static SHA256_LEN])
{
	uint64_t index = (s->from + s->n) >> level;
	uint8_t h[SHA256_LEN];

	assert(level < TREE_LEVELS && index << level == s->from + s->n);
	s->n += UINT64_C(1) << level;
	memcpy(h, node, SHA256_LEN);
	/* A right child whose left sibling is here: contiguous, so it is the last one. */
	for (; s->count && s->level[s->count - 1] == level && (index & 1); level++, index >>= 1)
		tree_node_hash(sha, s->hash[--s->count], h, h);
	assert(s->count < TREE_HASHES_MAX);
	memcpy(s->hash[s->count], h, SHA256_LEN);
	s->level[s->count++] = (uint8_t)level;
}

void tree_span_append(struct tree_span *s, struct sha256 *sha,
		      const uint8_t leaf[static SHA256_LEN])
{
	tree_span_append_node(s, sha, 0, leaf);
}

/* The compact range over the first from + n leaves. */
static bool span_join(const struct tree_span *s, struct sha256 *sha, const struct tree_proof *hints,
		      struct tree_range *r)
{
	size_t left = (size_t)__builtin_popcountll(s->from);

	if (left > hints->n || s->from > (uint64_t)TREE_SIZE_MAX - s->n ||
	    !tree_range_load(r, s->from,
			     (struct str){ (const char *)hints->hash, left * SHA256_LEN }))
		return false;
	for (size_t i = 0; i < s->count; i++)
		tree_append_node(r, sha, s->level[i], s->hash[i]);
	return true;
}

bool tree_span_root(const struct tree_span *s, struct sha256 *sha, const struct tree_proof *hints,
		    uint8_t root[static SHA256_LEN])
{
	struct tree_range r;

	if (!span_join(s, sha, hints, &r))
		return false;
	tree_root(&r, sha, root);
	return true;
}

bool tree_span_finish(const struct tree_span *s, struct sha256 *sha, uint64_t n,
		      const struct tree_proof *hints, uint8_t root[static SHA256_LEN])
{
	size_t left = (size_t)__builtin_popcountll(s->from), right;
	struct tree_coord cover[TREE_HASHES_MAX];
	struct tree_range r;

	if (!span_join(s, sha, hints, &r) || r.n > n || n > (uint64_t)TREE_SIZE_MAX)
		return false;
	right = tree_cover(r.n, n, cover);
	if (hints->n != left + right)
		return false;
	for (size_t i = 0; i < right; i++)
		tree_append_node(&r, sha, cover[i].level, hints->hash[left + i]);
	tree_root(&r, sha, root);
	return true;
}
