/*
 * registry_match - which entries are a caller's, by the selectors that were attested for it.
 *
 * Purpose    An entry matches when it has selectors and the caller holds all of them (SPIFFE sheet
 *            12.2). Each entry is filed under one of its selectors, the rarest when it was written;
 *            so a look-up visits the files of the caller's own selectors and nothing else, and
 *            costs the same among a hundred thousand entries and among a hundred.
 * Ownership  Files point to boxes without counting them: a view's files name only boxes that the
 *            same view holds by ID. Tables and files are counted and shared by successive views.
 * Threads    Looking up: any. match_reserve, _file and _unfile: the control thread, on a view that
 *            is not published yet.
 */
#ifndef WRIT_SPIFFE_REGISTRY_MATCH_H
#define WRIT_SPIFFE_REGISTRY_MATCH_H

#include "spiffe/registry_view.h"

/* As registry_match, for selectors as one line each ("unix:uid:1000"), the way attestors give
 * them. What is no selector matches nothing. At most REGISTRY_ATTESTED are looked at. */
#define REGISTRY_ATTESTED 512
size_t registry_view_match(const struct registry_view *v, const struct str *selectors, size_t n,
			   int64_t now_ms, const struct registry_entry **out, size_t max);

/* --- for registry_view.c --- */

struct match_shard;

void match_shard_acquire(struct match_shard *s); /* NULL is fine */
void match_shard_release(struct match_shard *s);

/* Where @entry is to be filed: *hash of its rarest selector. False: nowhere (it has no selectors,
 * or is retired). */
bool match_choose(const struct view *v, const struct registry_entry *entry, uint64_t *hash);

/* Make room for one more under @hash. False: no memory, and nobody sees a difference. */
MUST_USE bool match_reserve(struct view *v, uint64_t hash);
/* After match_reserve of the same @hash: these cannot fail. */
void match_file(struct view *v, uint64_t hash, const struct box *b);
void match_unfile(struct view *v, uint64_t hash, const struct box *b);

#endif
