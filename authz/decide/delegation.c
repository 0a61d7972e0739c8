#include "authz/decide/delegation.h"

#include <openssl/x509.h>

#include "authz/audit/record.h"
#include "authz/base/text.h"
#include "authz/decide/revocations.h"
#include "authz/decide/worker.h"

#define ACTORS_MAX 2048 /* bytes of the leaf's member: what a record would cut is left out */
#define CODE "invalid_token"

bool delegation_claimed(struct str token, struct arena *a)
{
	return delegated_token_claimed(token, a);
}

void delegation_describe(struct delegation *d)
{
	const struct delegated_token *t = &d->token;

	d->policy = (struct policy_delegation){ .scope = t->scope,
						.chain = t->chain,
						.nchain = t->nchain };
	if (t->subject_issuer.n) {
		d->policy.user = t->subject;
		d->policy.user_issuer = t->subject_issuer;
	}
}

/* Are the first @n of the chain active? */
static bool chain_holds(const struct worker *w, const struct delegated_token *t, size_t n,
			struct err *e)
{
	int64_t now_ms = clock_wall_ms(w->core->clock);

	for (size_t i = 0; i < n; i++) {
		const struct registry_entry *agent = registry_find(worker_registry(w), t->chain[i]);

		if (!agent || registry_state(agent, now_ms) != ENTRY_ACTIVE)
			return err_code(e, ERR_UNAUTHENTICATED, CODE,
					"token: an agent that it came through is not active any "
					"more");
	}
	return true;
}

static bool verify(struct worker *w, struct str token, const struct str *audiences, size_t n,
		   struct arena *a, const struct delegation **out, struct err *e)
{
	const struct delegated_expected x = { .trust_domain = w->core->trust_domain,
					      .issuer = w->core->token_issuer,
					      .audience = audiences,
					      .naudience = n,
					      .any_audience = n == 0,
					      .now_s = clock_wall_ms(w->core->clock) / 1000 };
	struct delegation *d = arena_zero(a, sizeof(*d));

	if (!d)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	if (!worker_bundle(w))
		return err_set(e, ERR_UNAUTHENTICATED, "writ has no trust bundle yet");
	if (!delegated_token_verify(w->jwt, worker_bundle(w), token, &x, a, &d->token, e))
		return false;
	if (revocations_hit(worker_revocations(w), &d->token, w->sha))
		return err_code(e, ERR_UNAUTHENTICATED, CODE, "token: it was revoked");
	delegation_describe(d);
	*out = d;
	return true;
}

/* The last one is judged by name and with a reason, when he asks. */
bool delegation_verify(struct worker *w, struct str token, struct str audience, struct arena *a,
		       const struct delegation **out, struct err *e)
{
	return verify(w, token, &audience, 1, a, out, e) &&
	       chain_holds(w, &(*out)->token, (*out)->token.nchain - 1, e);
}

bool delegation_look(struct worker *w, struct str token, const struct str *audiences, size_t n,
		     struct arena *a, const struct delegation **out, struct err *e)
{
	return verify(w, token, audiences, n, a, out, e) &&
	       chain_holds(w, &(*out)->token, (*out)->token.nchain, e);
}

bool delegation_thumbprint(const struct peer *p, uint8_t out[static SHA256_LEN])
{
	X509 *leaf = p->chain ? sk_X509_value(p->chain, 0) : NULL;
	unsigned n = 0;

	return leaf && X509_digest(leaf, EVP_sha256(), out, &n) == 1 && n == SHA256_LEN;
}

bool delegation_bound(const struct delegation *d, const struct peer *p, struct err *e)
{
	uint8_t hash[SHA256_LEN];

	if (!p->spiffe_id.n || !delegation_thumbprint(p, hash))
		return err_code(
			e, ERR_UNAUTHENTICATED, CODE,
			"token: it is bound to a client certificate and none was shown; use "
			"mutual TLS with the X.509-SVID that it was asked for with");
	if (!str_eq(p->spiffe_id, delegated_actor(&d->token)))
		return err_code(e, ERR_UNAUTHENTICATED, "callers_differ",
				"the client certificate names another agent than the one who acts "
				"by the token");
	return memcmp(hash, d->token.bound, sizeof(hash)) == 0 ||
	       err_code(e, ERR_UNAUTHENTICATED, CODE,
			"token: it is bound to another certificate of this agent; exchange it anew "
			"after an SVID was renewed");
}

/* ---- records ---- */

static void member(struct buf *b, const char *name, struct str value)
{
	buf_printf(b, "\"%s\":", name);
	buf_json(b, value);
}

void delegation_write_facts(struct buf *b, const struct delegation *d)
{
	const struct delegated_token *t = &d->token;

	buf_lit(b, "\"delegation\":{\"chain\":[");
	for (size_t i = 0; i < t->nchain; i++) {
		if (i)
			buf_char(b, ',');
		buf_json(b, t->chain[i]);
	}
	buf_lit(b, "],");
	member(b, "id", delegated_root(t));
	buf_char(b, ',');
	member(b, "jti", t->id);
	buf_char(b, ',');
	member(b, "scope", t->scope);
	if (t->subject_issuer.n) {
		buf_lit(b, ",\"user\":{");
		member(b, "id", t->subject);
		buf_char(b, ',');
		member(b, "issuer", t->subject_issuer);
		buf_char(b, '}');
	}
	buf_lit(b, "},");
}

static bool text(const struct json *v, struct str name, struct str *out)
{
	const struct json *m = json_get_type(v, name, JSON_STRING);

	if (m)
		*out = m->s;
	return m != NULL;
}

bool delegation_read_facts(const struct json *v, struct arena *a,
			   const struct policy_delegation **out)
{
	const struct json *chain = json_get_type(v, STR("chain"), JSON_ARRAY);
	const struct json *user = json_get(v, STR("user"));
	struct policy_delegation *d;
	struct str *ids;

	*out = NULL;
	if (!v)
		return true;
	d = arena_zero(a, sizeof(*d));
	ids = arena_alloc(a, ((chain ? chain->n : 0) + 1) * sizeof(*ids));
	if (!d || !ids || !chain || !text(v, STR("scope"), &d->scope) ||
	    (user &&
	     (!text(user, STR("id"), &d->user) || !text(user, STR("issuer"), &d->user_issuer))))
		return false;
	for (uint32_t i = 0; i < chain->n; i++) {
		if (chain->items[i].type != JSON_STRING)
			return false;
		ids[i] = chain->items[i].s;
	}
	d->chain = ids;
	d->nchain = chain->n;
	*out = d;
	return true;
}

void delegation_record_actors(struct record *r, const struct delegation *d, struct arena *a)
{
	struct buf b;

	if (!d)
		return;
	buf_in_arena(&b, a, ACTORS_MAX);
	for (size_t i = 0; i < d->token.nchain; i++) {
		if (i)
			buf_char(&b, ' ');
		buf_add(&b, d->token.chain[i]);
	}
	if (buf_ok(&b)) /* else the opening has them */
		record_str(r, STR("actors"), buf_str(&b));
}

void delegation_record_names(struct record *r, const struct delegation *d)
{
	if (d)
		record_str(r, STR("delegation"), delegated_root(&d->token));
}

void delegation_record_token(struct record *r, const struct delegation *d)
{
	if (d)
		record_str(r, STR("jti"), d->token.id);
}
