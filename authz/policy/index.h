/*
 * index - which rules may apply to a request, without looking at all of them.
 *
 * Purpose    Every rule is filed under the rarest of its conditions (of all its `on` values, the
 *            one that the fewest other rules name). A request looks up what it has for each kind
 *            of condition that is in use, and only the rules found there are compared in full.
 * Ownership  Lives in the set's arena, points into the set's rules.
 * Threads    Immutable once built.
 */
#ifndef WRIT_POLICY_INDEX_H
#define WRIT_POLICY_INDEX_H

#include "authz/policy/set.h"

/* What C knows of a request. */
struct facts {
	const struct policy_request *q;
	const struct json *action, *type, *id; /* texts, or NULL */
	const struct entry *tool, *model;      /* in the catalogue, or NULL */
};

struct index *index_build(const struct rule *rules, uint32_t n, struct arena *a);

/* The rules whose `on` is met, in their order, into @out (room for twice all
 * rules). */
uint32_t index_find(const struct index *ix, const struct facts *f, uint32_t *out);

/* Is this one condition met? */
bool index_meets(const struct condition *c, const struct facts *f);

#endif
