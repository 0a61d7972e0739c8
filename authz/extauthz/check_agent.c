#include "authz/extauthz/check_agent.h"

#include "authz/base/text.h"
#include "authz/decide/delegation.h"
#include "authz/extauthz/known_headers.h"
#include "authz/net/chars.h"
#include "spiffe/id.h"

#define XFCC "x-forwarded-client-cert"

/* The one header @name. False: it is there more than once. */
static bool one_header(const struct check *c, struct str name, struct str *out)
{
	const struct traffic_request *r = &c->request;

	*out = (struct str){ NULL, 0 };
	for (size_t i = 0; i < r->nheaders; i++) {
		if (!str_eq(r->headers[i].name, name))
			continue;
		if (out->p)
			return false;
		*out = r->headers[i].value;
		if (!out->p)
			out->p = "";
	}
	return true;
}

static bool a_spiffe_id(struct str text, struct err *e)
{
	struct spiffe_id id;
	struct err why;

	if (spiffe_id_parse(text, &id, &why) && id.path.n)
		return true;
	return err_code(e, ERR_UNAUTHENTICATED, "invalid_peer",
			"the proxy's client is \"%.*s\", which is no SPIFFE ID of an agent",
			STR_FMT(str_first(text, 120)));
}

/* What is known of the certificate behind the proxy. */
struct peer_proof {
	struct str id; /* SPIFFE ID; empty: nothing is */
	bool has_certificate;
	uint8_t certificate[SHA256_LEN];
};

/* ---- X-Forwarded-Client-Cert (ext-authz sheet 6.2) ---- */

static bool ambiguous(struct err *e, const char *what)
{
	return err_code(e, ERR_UNAUTHENTICATED, "peer_ambiguous",
			"X-Forwarded-Client-Cert %s; let the proxy set it alone (SANITIZE_SET)",
			what);
}

/* The next Key=Value, up to a semicolon outside of quotes. False: malformed, or a second element.
 */
static bool next_pair(struct str *rest, struct str *key, struct str *value, struct err *e)
{
	bool quoted = false;
	size_t i = 0;

	for (; i < rest->n && (quoted || rest->p[i] != ';'); i++) {
		if (quoted && rest->p[i] == '\\')
			i++;
		else if (rest->p[i] == '"')
			quoted = !quoted;
		else if (!quoted && rest->p[i] == ',')
			return ambiguous(e, "has more than one element");
	}
	if (quoted || i > rest->n || !str_cut(str_first(*rest, i), '=', key, value))
		return ambiguous(e, "is malformed");
	*rest = str_from(*rest, i + 1);
	return true;
}

struct xfcc {
	struct str uri, hash; /* empty: not said */
};

static bool from_xfcc(struct str v, struct xfcc *out, struct err *e)
{
	struct str key, value, *to;

	while (v.n) {
		if (!next_pair(&v, &key, &value, e))
			return false;
		to = http_equal_fold(key, STR("URI"))	 ? &out->uri
		     : http_equal_fold(key, STR("Hash")) ? &out->hash
							 : NULL;
		if (!to || !value.n)
			continue;
		if (to->n)
			return ambiguous(e, "has more than one URI or Hash");
		*to = value;
	}
	return true;
}

/* Envoy writes the hash in small hex digits. What is none fits no certificate. */
static bool take_hash(struct str hash, struct peer_proof *out, struct err *e)
{
	uint8_t bytes[SHA256_LEN];

	if (!hash.n)
		return true;
	if (!text_unhex(hash, bytes, sizeof(bytes)))
		memset(bytes, 0, sizeof(bytes));
	if (out->has_certificate && memcmp(out->certificate, bytes, sizeof(bytes)) != 0)
		return ambiguous(e, "and the connection show two certificates");
	out->has_certificate = true;
	memcpy(out->certificate, bytes, sizeof(bytes));
	return true;
}

/* What the proxy says of its client's certificate. */
static bool by_proxy(const struct check *c, struct peer_proof *proof, struct err *e)
{
	struct str v, said, *out = &proof->id;
	struct xfcc xfcc = { 0 };

	*proof = (struct peer_proof){ .id = c->principal, .has_certificate = c->has_certificate };
	memcpy(proof->certificate, c->certificate, sizeof(proof->certificate));
	if (!c->peer_header.n)
		return !out->n || a_spiffe_id(*out, e);
	if (!one_header(c, c->peer_header, &v))
		return err_code(e, ERR_UNAUTHENTICATED, "peer_ambiguous",
				"header %.*s, which names the client, stands twice",
				STR_FMT(str_first(c->peer_header, 60)));
	if (!str_eq(c->peer_header, STR(XFCC)))
		xfcc.uri = v;
	else if (!from_xfcc(v, &xfcc, e) || !take_hash(xfcc.hash, proof, e))
		return false;
	said = xfcc.uri;
	if (said.n && out->n && !str_eq(said, *out))
		return err_code(e, ERR_FORBIDDEN, "agents_differ",
				"the connection and header %.*s name two clients",
				STR_FMT(str_first(c->peer_header, 60)));
	if (said.n)
		*out = said;
	return !out->n || a_spiffe_id(*out, e);
}

/* ---- bearer tokens ---- */

enum token_kind { TOKEN_FOREIGN, TOKEN_SVID, TOKEN_DELEGATED };

/* What does the token claim to be? Tokens of others (API keys, foreign access tokens) are between
 * agent and upstream, and prove nothing here. */
static enum token_kind claims(const struct check *c, struct str token)
{
	const struct json *payload, *iss, *sub;
	struct str head, part, rest;
	struct err ignored;
	uint8_t *p;
	size_t n;

	if (!str_cut(token, '.', &head, &rest) || !str_cut(rest, '.', &part, &rest))
		return TOKEN_FOREIGN;
	p = arena_alloc(c->scratch, part.n + 4);
	if (!p || !text_unbase64(part, BASE64_URL, p, &n) ||
	    !json_parse((struct str){ (char *)p, n }, &json_default_limits, c->scratch, &payload,
			&ignored))
		return TOKEN_FOREIGN;
	iss = json_get_type(payload, STR("iss"), JSON_STRING);
	sub = json_get_type(payload, STR("sub"), JSON_STRING);
	if (iss && str_eq(iss->s, c->worker->core->token_issuer) &&
	    delegation_claimed(token, c->scratch))
		return TOKEN_DELEGATED;
	return sub && str_starts(sub->s, STR("spiffe:")) ? TOKEN_SVID : TOKEN_FOREIGN;
}

static bool by_svid(const struct check *c, struct str token, struct str audience, struct str *id,
		    struct err *e)
{
	struct worker *w = c->worker;
	struct jwt_svid svid;

	if (!worker_bundle(w))
		return err_set(e, ERR_UNAUTHENTICATED, "writ has no trust bundle yet");
	if (!jwt_svid_verify(w->jwt, worker_bundle(w), token, audience,
			     clock_wall_ms(w->core->clock) / 1000, c->scratch, &svid, e))
		return false;
	*id = svid.text;
	return true;
}

static bool by_token(const struct check *c, struct check_agent *out, struct str *id, struct err *e)
{
	struct worker *w = c->worker;
	struct str audience = c->audience.n ? c->audience : w->core->server_id;
	struct str v, token;
	enum token_kind kind;

	*id = (struct str){ NULL, 0 };
	if (c->request.index->twice & HEADER_BIT(HEADER_AUTHORIZATION))
		return err_code(e, ERR_UNAUTHENTICATED, "invalid_token",
				"there is more than one Authorization header");
	v = header_first(c->request.index, HEADER_AUTHORIZATION);
	if (v.n < 8 || strncasecmp(v.p, "bearer ", 7))
		return true;
	token = str_from(v, 7);
	kind = token.n <= w->core->token_max ? claims(c, token) : TOKEN_FOREIGN;
	if (kind == TOKEN_FOREIGN)
		return true;
	if (kind == TOKEN_SVID
		    ? !by_svid(c, token, audience, id, e)
		    : !delegation_verify(w, token, audience, c->scratch, &out->delegation, e))
		return false;
	if (out->delegation)
		*id = delegated_actor(&out->delegation->token);
	out->token_for_writ = str_eq(audience, w->core->server_id);
	return true;
}

/* The token is bound to the actor's certificate. The proxy verified that one: where it shows it, it
 * is compared; where it only tells whose it is, this is what there is to compare, and an agent
 * without the actor's own SVID gets no further by either. */
static bool is_bound(const struct peer_proof *peer, const struct delegation *d, struct err *e)
{
	if (!d)
		return true;
	if (!peer->id.n)
		return err_code(e, ERR_UNAUTHENTICATED, "invalid_token",
				"the delegated token is bound to its agent's certificate, and the "
				"proxy names no client that showed one");
	return !peer->has_certificate ||
	       memcmp(peer->certificate, d->token.bound, sizeof(peer->certificate)) == 0 ||
	       err_code(e, ERR_UNAUTHENTICATED, "invalid_token",
			"the delegated token is bound to another certificate of this agent; "
			"exchange it anew after an SVID was renewed");
}

bool check_agent_find(const struct check *c, struct check_agent *out, struct err *e)
{
	struct peer_proof peer;
	struct str token;

	*out = (struct check_agent){ .token_for_writ = false };
	if (!by_proxy(c, &peer, e) || !by_token(c, out, &token, e))
		return false;
	/* A sidecar of one agent, which asks as that agent. */
	if (!peer.id.n && (out->delegation || !token.n) && !(c->caller->roles & ROLE_PEP))
		peer.id = c->caller->id;
	if (peer.id.n && token.n && !str_eq(peer.id, token))
		return err_code(e, ERR_FORBIDDEN, "agents_differ",
				"the client certificate and the bearer token name two agents");
	out->id = peer.id.n ? peer.id : token;
	return is_bound(&peer, out->delegation, e);
}
