/*
 * registry_template - entries whose SPIFFE ID is a pattern: one entry, many agents.
 *
 * Purpose    spiffe://td/ns/{k8s.ns}/sa/{k8s.sa}/agent/{name} stands for every agent whose proof
 *            gives the values. A placeholder is a whole path segment: {TYPE.KEY} is the one
 *            attested selector TYPE:KEY:VALUE (a "." in KEY stands for ":"), {name} is what the
 *            agent calls itself. A value must be a path segment as it stands; nothing is escaped or
 *            folded, so no value reaches into another segment.
 * Ownership  Results live in the arena.
 * Threads    No state: call from any thread.
 *
 * Two templates that could give the same ID are not registered side by side, and an ID that exists
 * already belongs to whoever made it: so nobody gets into another template's part of the names.
 */
#ifndef WRIT_SPIFFE_REGISTRY_TEMPLATE_H
#define WRIT_SPIFFE_REGISTRY_TEMPLATE_H

#include "spiffe/registry.h"

#define TEMPLATE_PLACEHOLDERS 8 /* in one ID */
#define TEMPLATE_VALUE 253	/* bytes of a value */

/* Refusals: invalid_spiffe_id, reserved_path. */
MUST_USE bool template_check(struct str id, struct err *e);

/* Is there an ID that both could give? Either may be a plain ID. */
bool template_overlap(struct str a, struct str b);

/* The ID that @template gives for a proof. @name may be empty. Refusals, ERR_FORBIDDEN:
 * template_value (a value is missing, ambiguous or no path segment), reserved_path. */
MUST_USE bool template_expand(struct str template, const struct registry_selector *attested,
			      size_t n, struct str name, struct arena *a, struct str *out,
			      struct err *e);

#endif
