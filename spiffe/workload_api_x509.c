/* FetchX509SVID, FetchX509Bundles, FetchJWTBundles: the streams that show SVIDs and bundles. */
#include "spiffe/workload_api_inside.h"

/* Map entries of the foreign bundles that the caller sees and that have authorities. */
static void put_foreign(struct workload_api *w, const struct workload_entries *entries,
			struct buf *out, uint32_t field)
{
	const struct bundle_set *set = worker_bundle(w->worker);
	struct buf der;

	for (size_t k = 0; k < set->n; k++) {
		const struct bundle *b = set->items[k];

		if (!b->nauthorities || str_eq(b->trust_domain, w->core->trust_domain) ||
		    !workload_sees(w, entries, b->trust_domain))
			continue;
		buf_in_arena(&der, &w->scratch, WORKLOAD_MESSAGE_MAX);
		bundle_der(b, &der);
		out->failed = out->failed || !buf_ok(&der);
		workload_put_bundle(out, field, b->trust_domain, buf_str(&der));
	}
}

static bool own_der(struct workload_api *w, struct buf *der, struct err *e)
{
	const struct bundle *own = workload_own_bundle(w);

	buf_in_arena(der, &w->scratch, WORKLOAD_MESSAGE_MAX);
	if (own)
		bundle_der(own, der);
	return (own && buf_ok(der)) ||
	       err_set(e, ERR_UNAVAILABLE, "the trust bundle is not there yet; try again");
}

static bool build_svids(struct workload_subscriber *s, const struct workload_entries *entries,
			struct buf *out, bool *wait, struct err *e)
{
	struct buf bundle;

	if (!workload_show(s, entries, WORKLOAD_X509, wait, e))
		return false;
	if (*wait)
		return true;
	if (!own_der(s->api, &bundle, e))
		return false;
	for (size_t k = 0; k < s->nshown; k++) {
		const struct workload_identity *i = s->shown[k].identity;
		struct workload_x509_svid svid = { .spiffe_id = i->id,
						   .x509_svid = buf_str(&i->svid),
						   .key = buf_str(&i->key),
						   .bundle = buf_str(&bundle),
						   .hint = entries->hint[k] };

		workload_put_x509_svid(out, &svid);
	}
	put_foreign(s->api, entries, out, WORKLOAD_X509_SVID_FEDERATED);
	return true;
}

static bool build_x509_bundles(struct workload_subscriber *s,
			       const struct workload_entries *entries, struct buf *out, bool *wait,
			       struct err *e)
{
	struct buf bundle;

	(void)wait;
	if (!own_der(s->api, &bundle, e))
		return false;
	workload_put_bundle(out, WORKLOAD_X509_BUNDLES, s->api->core->trust_domain,
			    buf_str(&bundle));
	put_foreign(s->api, entries, out, WORKLOAD_X509_BUNDLES);
	return true;
}

void workload_put_jwks(struct workload_subscriber *s, const struct bundle *b, enum bundle_jwks kind,
		       uint32_t field, struct buf *out)
{
	struct buf jwks;

	buf_in_arena(&jwks, &s->api->scratch, WORKLOAD_MESSAGE_MAX);
	bundle_jwks(b, kind, &jwks);
	out->failed = out->failed || !buf_ok(&jwks);
	workload_put_bundle(out, field, b->trust_domain, buf_str(&jwks));
}

/* A trust domain without JWT keys has an empty set: clients cannot read empty bytes. */
static bool build_jwt_bundles(struct workload_subscriber *s, const struct workload_entries *entries,
			      struct buf *out, bool *wait, struct err *e)
{
	const struct bundle_set *set = worker_bundle(s->api->worker);

	(void)wait;
	(void)e;
	for (size_t k = 0; k < set->n; k++) {
		if (!workload_sees(s->api, entries, set->items[k]->trust_domain))
			continue;
		workload_put_jwks(s, set->items[k], BUNDLE_JWKS_WORKLOAD, WORKLOAD_JWT_BUNDLES,
				  out);
	}
	return true;
}

void workload_open_stream(struct workload_api *w, struct call *c, const struct workload_kind *kind)
{
	struct workload_subscriber *s = NULL;
	struct workload_caller caller;
	struct err e = { 0 };

	if (workload_read_empty(c->body, &e) && workload_limit(w, c, &e) &&
	    workload_attest(w, c, &caller, &e) &&
	    (s = workload_subscriber_new(sizeof(*s), &caller, &e)))
		workload_subscribe(w, c, s, kind, &workload_stream_events);
	else
		workload_fail(c, w, &e);
}

void workload_fetch_x509_svid(struct workload_api *w, struct call *c)
{
	static const struct workload_kind kind = { .build = build_svids, .needs_identity = true };

	workload_open_stream(w, c, &kind);
}

void workload_fetch_x509_bundles(struct workload_api *w, struct call *c)
{
	static const struct workload_kind kind = { .build = build_x509_bundles,
						   .needs_identity = true };

	workload_open_stream(w, c, &kind);
}

void workload_fetch_jwt_bundles(struct workload_api *w, struct call *c)
{
	static const struct workload_kind kind = { .build = build_jwt_bundles,
						   .needs_identity = true };

	workload_open_stream(w, c, &kind);
}
