/* A JWT-SVID: by the bundle of the trust domain that "sub" names, and with a `typ` of its own, so
 * that no other token of the same keys is taken for one (JWT-SVID 2.3). */
#include <assert.h>

#include "spiffe/jwt_inside.h"

static bool answer(const struct jwt_cached *entry, const struct json *claims, struct arena *a,
		   struct jwt_svid *out, struct err *e)
{
	struct jwt_svid svid = { .expires_s = entry->expires_s, .claims = claims };

	svid.text = arena_dup(a, entry->id);
	if (!svid.text.p)
		return err_set(e, ERR_NOMEM, "no memory for a token's claims");
	if (!spiffe_id_parse_workload(svid.text, &svid.id, e))
		return false;
	*out = svid;
	return true;
}

static bool verify(struct jwt_verifier *v, struct str text, struct str audience, int64_t now_s,
		   struct arena *a, struct jwt_cached *entry, const struct json **claims,
		   struct err *e)
{
	struct jwt_token t = { 0 };
	const struct bundle *b;
	const struct json *sub;
	struct spiffe_id id;

	if (!jwt_take_apart(text, a, &t, e))
		return false;
	assert(t.alg && t.claims);
	if (t.has_typ && !str_eq(t.typ, STR("JWT")) && !str_eq(t.typ, STR("JOSE")))
		return jwt_refuse(e, "typ must be \"JWT\", \"JOSE\" or absent");
	sub = json_get_type(t.claims, STR("sub"), JSON_STRING);
	if (!sub)
		return jwt_refuse(e, "sub must be a SPIFFE ID");
	if (!spiffe_id_parse_workload(sub->s, &id, e))
		return jwt_as_refusal(e, "sub");
	b = bundle_find(v->bundles, id.trust_domain);
	if (!b)
		return err_code(e, ERR_UNAUTHENTICATED, JWT_CODE,
				"token: no trust bundle for trust domain \"%.*s\"",
				STR_FMT(id.trust_domain));
	if (!jwt_check_signature(v, b, &t, e) ||
	    !jwt_check_times(t.claims, now_s, v->leeway_s, entry, e) ||
	    !jwt_check_audience(t.claims, audience, e))
		return false;
	entry->id = sub->s;
	*claims = t.claims;
	return true;
}

bool jwt_svid_verify(struct jwt_verifier *v, struct bundle_set *bundles, struct str token,
		     struct str audience, int64_t now_s, struct arena *a, struct jwt_svid *out,
		     struct err *e)
{
	const struct str parts[] = { token, STR("\0"), audience };
	const struct jwt_cached *hit;
	struct jwt_cached entry = { 0 };
	const struct json *claims = NULL;

	jwt_verifier_use(v, bundles);
	if (audience.n == 0 || token.n > LIMIT_TOKEN) {
		v->counts.refused++;
		return jwt_refuse(e, audience.n ? "it is longer than 8 KiB"
						: "no audience is configured, so none is accepted");
	}
	sha256_parts(v->sha, parts, ARRAY_LEN(parts), entry.key);
	hit = jwt_cache_find(&v->cache, entry.key, now_s);
	if (hit) {
		v->counts.hits++;
		return answer(hit, NULL, a, out, e);
	}
	if (!verify(v, token, audience, now_s, a, &entry, &claims, e)) {
		v->counts.refused++;
		return false;
	}
	v->counts.verified++;
	jwt_cache_add(&v->cache, &entry);
	return answer(&entry, claims, a, out, e);
}