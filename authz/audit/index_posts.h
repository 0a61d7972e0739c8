/*
 * index_posts - entries of the index on their way into it, gathered by term.
 *
 * Purpose    Records come in order, the index wants each term's entries together: a chain for each
 *            term, in the order in which its entries came. Sorting all took more than writing.
 * Ownership  Twelve bytes an entry, made once; the terms take what they need, and give it back
 *            when there were many of them.
 * Threads    One owner at a time.
 */
#ifndef WRIT_AUDIT_INDEX_POSTS_H
#define WRIT_AUDIT_INDEX_POSTS_H

#include "authz/audit/index_terms.h"
#include "include/writ/err.h"

struct index_entry {
	uint32_t after; /* records after the first of all */
	uint32_t next;	/* of the same term, counted from 1; 0: none */
	uint16_t mark;
};

struct index_chain {
	uint64_t hash;
	uint32_t first, last; /* entries, counted from 1; 0: a free place */
	bool marked;
};

struct index_posts {
	struct index_entry *entries;
	struct index_chain *chains; /* open addressing; by hash after index_posts_sort */
	size_t places, nchains, n, max;
	uint64_t first; /* record of the first entry */
};

/* For at most @max entries. */
MUST_USE bool index_posts_init(struct index_posts *p, size_t max, struct err *e);
void index_posts_clear(struct index_posts *p); /* zeroed is fine */

/* None from now on. */
void index_posts_reset(struct index_posts *p);

/* Record @seq, which is none before the last, has @term. There must be room. False: no memory. */
MUST_USE bool index_posts_add(struct index_posts *p, struct index_term term, uint64_t seq,
			      struct err *e);

static inline bool index_posts_room(const struct index_posts *p, size_t n)
{
	return p->max - p->n >= n;
}

/* chains[0, nchains) by ascending hash. Only a reset may come after it. */
void index_posts_sort(struct index_posts *p);

#endif
