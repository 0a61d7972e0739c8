/*
 * tree - the Merkle tree of RFC 6962 2.1 (= RFC 9162 2.1): hashes, roots, proofs.
 *
 * Purpose    One compact range (the roots of the perfect subtrees, O(log n)) serves the committer,
 *            the exporter and the verifier; proofs are made over any source of perfect nodes and
 *            checked by numbers alone: a proof of the wrong length is refused before hashing.
 * Ownership  Everything is by value; a source borrows its context.
 * Threads    No state: call from any thread, with a sha256 of one's own.
 */
#ifndef WRIT_AUDIT_TREE_H
#define WRIT_AUDIT_TREE_H

#include "authz/base/digest.h"

#define TREE_LEVELS 63
#define TREE_SIZE_MAX INT64_MAX
#define TREE_HASHES_MAX (2 * TREE_LEVELS) /* of the longest proof, that of a range */

/* The perfect subtrees of the first n leaves: node[k] is valid if bit k of n is set. */
struct tree_range {
	uint64_t n;
	uint8_t node[TREE_LEVELS][SHA256_LEN];
};

struct tree_proof {
	size_t n;
	uint8_t hash[TREE_HASHES_MAX][SHA256_LEN];
};

/* H(0x00 || leaf), H(0x01 || left || right). @out may be @left or @right. */
void tree_leaf_hash(struct sha256 *sha, struct str leaf, uint8_t out[static SHA256_LEN]);
void tree_node_hash(struct sha256 *sha, const uint8_t left[static SHA256_LEN],
		    const uint8_t right[static SHA256_LEN], uint8_t out[static SHA256_LEN]);

/* Append one leaf, or a perfect subtree of 2^level leaves; r->n must be a multiple of its size. */
void tree_append(struct tree_range *r, struct sha256 *sha, const uint8_t leaf[static SHA256_LEN]);
void tree_append_node(struct tree_range *r, struct sha256 *sha, unsigned level,
		      const uint8_t node[static SHA256_LEN]);
void tree_root(const struct tree_range *r, struct sha256 *sha, uint8_t out[static SHA256_LEN]);

/* The nodes of the set bits of n, biggest first: how a range is stored, and also cover(0, n).
 * Load refuses anything but popcount(n) hashes. */
size_t tree_range_save(const struct tree_range *r, uint8_t out[static TREE_LEVELS * SHA256_LEN]);
MUST_USE bool tree_range_load(struct tree_range *r, uint64_t n, struct str saved);

/* Perfect node (level, index), over leaves [index << level, (index + 1) << level). */
struct tree_source {
	bool (*node)(void *ctx, unsigned level, uint64_t index, uint8_t out[static SHA256_LEN]);
	void *ctx;
};

/* Root over leaves [lo, hi) of the source; lo == 0 or a range that the recursion meets. */
MUST_USE bool tree_subtree(const struct tree_source *src, struct sha256 *sha, uint64_t lo,
			   uint64_t hi, uint8_t out[static SHA256_LEN]);

/* Proofs; false if the source fails or the numbers are out of range. */
MUST_USE bool tree_prove_inclusion(const struct tree_source *src, struct sha256 *sha, uint64_t m,
				   uint64_t n, struct tree_proof *p);
MUST_USE bool tree_prove_consistency(const struct tree_source *src, struct sha256 *sha, uint64_t m,
				     uint64_t n, struct tree_proof *p);

MUST_USE bool tree_verify_inclusion(struct sha256 *sha, uint64_t i, uint64_t n,
				    const uint8_t leaf[static SHA256_LEN],
				    const struct tree_proof *p,
				    const uint8_t root[static SHA256_LEN]);
MUST_USE bool tree_verify_consistency(struct sha256 *sha, uint64_t a, uint64_t b,
				      const struct tree_proof *p,
				      const uint8_t root_a[static SHA256_LEN],
				      const uint8_t root_b[static SHA256_LEN]);

/* The fewest perfect nodes that cover [lo, hi), left to right. */
struct tree_coord {
	unsigned level;
	uint64_t index;
};
size_t tree_cover(uint64_t lo, uint64_t hi, struct tree_coord out[static TREE_HASHES_MAX]);

/* Hints for the contiguous range [a, b) of n leaves: cover(0, a) then cover(b, n). */
MUST_USE bool tree_prove_range(const struct tree_source *src, uint64_t a, uint64_t b, uint64_t n,
			       struct tree_proof *p);

/* The leaves of a range as they stream by, before its hints are known: cover(from, from + n). */
struct tree_span {
	uint64_t from, n;
	size_t count;
	uint8_t level[TREE_HASHES_MAX];
	uint8_t hash[TREE_HASHES_MAX][SHA256_LEN];
};
void tree_span_append(struct tree_span *s, struct sha256 *sha,
		      const uint8_t leaf[static SHA256_LEN]);

/* A perfect subtree of 2^level leaves; s->from + s->n must be a multiple of its size. So two spans
 * that stand side by side are joined: append the nodes of the second. */
void tree_span_append_node(struct tree_span *s, struct sha256 *sha, unsigned level,
			   const uint8_t node[static SHA256_LEN]);

/* The root of the first s->from + s->n leaves; hints: at least those of cover(0, s->from). */
MUST_USE bool tree_span_root(const struct tree_span *s, struct sha256 *sha,
			     const struct tree_proof *hints, uint8_t root[static SHA256_LEN]);

/* The root of all n leaves; exactly the hints of tree_prove_range. */
MUST_USE bool tree_span_finish(const struct tree_span *s, struct sha256 *sha, uint64_t n,
			       const struct tree_proof *hints, uint8_t root[static SHA256_LEN]);

#endif
