/*
 * FetchWITSVID and FetchWITBundles (Workload API 7, incubating): a token bound to a key, and that
 * key. Only where the setting workload.wit asks for it; else both are UNIMPLEMENTED, as the
 * standard says.
 */
#include <stdlib.h>

#include "spiffe/workload_api_inside.h"

struct wit {
	struct workload_subscriber s; /* first */
	char *spiffe_id;	      /* that was asked for; NULL: all */
};

/* Those that were asked for. */
static bool choose(const struct wit *t, const struct workload_entries *all,
		   struct workload_entries *out, struct err *e)
{
	*out = *all;
	if (!t->spiffe_id)
		return true;
	out->n = 0;
	for (size_t k = 0; k < all->n && !out->n; k++)
		if (str_eq(all->entry[k]->id, str_c(t->spiffe_id))) {
			out->entry[0] = all->entry[k];
			out->hint[0] = all->hint[k];
			out->n = 1;
		}
	return out->n || err_code(e, ERR_FORBIDDEN, "no_identity",
				  "this process is not entitled to %.200s", t->spiffe_id);
}

static bool build_svids(struct workload_subscriber *s, const struct workload_entries *entries,
			struct buf *out, bool *wait, struct err *e)
{
	struct workload_entries wanted;

	if (!choose((struct wit *)s, entries, &wanted, e) ||
	    !workload_show(s, &wanted, WORKLOAD_WIT, wait, e))
		return false;
	for (size_t k = 0; k < s->nshown && !*wait; k++) {
		const struct workload_identity *i = s->shown[k].identity;

		workload_put_wit_svid(out, i->id, buf_str(&i->svid), buf_str(&i->key),
				      wanted.hint[k]);
	}
	return true;
}

static void clear(struct workload_subscriber *s)
{
	free(((struct wit *)s)->spiffe_id);
}

void workload_fetch_wit_svid(struct workload_api *w, struct call *c)
{
	static const struct workload_kind kind = { .build = build_svids,
						   .clear = clear,
						   .needs_identity = true };
	struct workload_caller caller;
	struct wit *t = NULL;
	struct err e = { 0 };
	struct str id;

	if (!workload_read_wit(c->body, &id, &e) || !workload_limit(w, c, &e) ||
	    !workload_attest(w, c, &caller, &e) ||
	    !(t = workload_subscriber_new(sizeof(*t), &caller, &e))) {
		workload_fail(c, w, &e);
		return;
	}
	if (id.n)
		t->spiffe_id = strndup(id.p, id.n);
	if (id.n && !t->spiffe_id) {
		err_set(&e, ERR_UNAVAILABLE, "memory is short; try again later");
		free(t->s.caller.selectors);
		free(t);
		workload_fail(c, w, &e);
		return;
	}
	workload_subscribe(w, c, &t->s, &kind, &workload_stream_events);
}

/* A trust domain without WIT keys does no WIT-SVIDs: nothing is said of it. */
static bool build_bundles(struct workload_subscriber *s, const struct workload_entries *entries,
			  struct buf *out, bool *wait, struct err *e)
{
	const struct bundle_set *set = worker_bundle(s->api->worker);

	(void)wait;
	(void)e;
	for (size_t k = 0; k < set->n; k++) {
		const struct bundle *b = set->items[k];

		if (!workload_sees(s->api, entries, b->trust_domain) ||
		    (!b->nwit_keys && !str_eq(b->trust_domain, s->api->core->trust_domain)))
			continue;
		workload_put_jwks(s, b, BUNDLE_JWKS_WIT, WORKLOAD_WIT_BUNDLES, out);
	}
	return true;
}

void workload_fetch_wit_bundles(struct workload_api *w, struct call *c)
{
	static const struct workload_kind kind = { .build = build_bundles, .needs_identity = true };

	workload_open_stream(w, c, &kind);
}
