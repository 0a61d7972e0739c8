#include "authz/extauthz/check_agent.h"

#include "authz/base/text.h"
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

static bool from_xfcc(struct str v, struct str *out, struct err *e)
{
	struct str key, value;

	while (v.n) {
		if (!next_pair(&v, &key, &value, e))
			return false;
		if (!http_equal_fold(key, STR("URI")) || !value.n)
			continue;
		if (out->n)
			return ambiguous(e, "has more than one URI");
		*out = value;
	}
	return true;
}

/* What the proxy says of its client's certificate; empty: nothing. */
static bool by_proxy(const struct check *c, struct str *out, struct err *e)
{
	struct str v, said = { NULL, 0 };

	*out = c->principal;
	if (!c->peer_header.n)
		return !out->n || a_spiffe_id(*out, e);
	if (!one_header(c, c->peer_header, &v))
		return err_code(e, ERR_UNAUTHENTICATED, "peer_ambiguous",
				"header %.*s, which names the client, stands twice",
				STR_FMT(str_first(c->peer_header, 60)));
	if (!str_eq(c->peer_header, STR(XFCC)))
		said = v;
	else if (!from_xfcc(v, &said, e))
		return false;
	if (said.n && out->n && !str_eq(said, *out))
		return err_code(e, ERR_FORBIDDEN, "agents_differ",
				"the connection and header %.*s name two clients",
				STR_FMT(str_first(c->peer_header, 60)));
	if (said.n)
		*out = said;
	return !out->n || a_spiffe_id(*out, e);
}

/* ---- bearer tokens ---- */

/* Does the token claim to be a JWT-SVID? Others (API keys, foreign access tokens) are between agent
 * and upstream, and prove nothing here. */
static bool claims_svid(const struct check *c, struct str token)
{
	const struct json *claims, *sub;
	struct str head, payload, rest;
	struct err ignored;
	uint8_t *p;
	size_t n;

	if (!str_cut(token, '.', &head, &rest) || !str_cut(rest, '.', &payload, &rest))
		return false;
	p = arena_alloc(c->arena, payload.n + 4);
	if (!p || !text_unbase64(payload, BASE64_URL, p, &n) ||
	    !json_parse((struct str){ (char *)p, n }, &json_default_limits, c->arena, &claims,
			&ignored))
		return false;
	sub = json_get_type(claims, STR("sub"), JSON_STRING);
	return sub && str_starts(sub->s, STR("spiffe:"));
}

static bool by_token(const struct check *c, struct check_agent *out, struct str *id, struct err *e)
{
	struct worker *w = c->worker;
	struct str audience = c->audience.n ? c->audience : w->core->server_id;
	struct str v, token;
	struct jwt_svid svid;

	*id = (struct str){ NULL, 0 };
	if (!one_header(c, STR("authorization"), &v))
		return err_code(e, ERR_UNAUTHENTICATED, "invalid_token",
				"there is more than one Authorization header");
	if (v.n < 8 || strncasecmp(v.p, "bearer ", 7))
		return true;
	token = str_from(v, 7);
	if (token.n > w->core->token_max || !claims_svid(c, token))
		return true;
	if (!worker_bundle(w))
		return err_set(e, ERR_UNAUTHENTICATED, "writ has no trust bundle yet");
	if (!jwt_svid_verify(w->jwt, worker_bundle(w), token, audience,
			     clock_wall_ms(w->core->clock) / 1000, c->arena, &svid, e))
		return false;
	*id = svid.text;
	out->token_for_writ = str_eq(audience, w->core->server_id);
	return true;
}

bool check_agent_find(const struct check *c, struct check_agent *out, struct err *e)
{
	struct str peer, token;

	*out = (struct check_agent){ .token_for_writ = false };
	if (!by_proxy(c, &peer, e) || !by_token(c, out, &token, e))
		return false;
	if (peer.n && token.n && !str_eq(peer, token))
		return err_code(e, ERR_FORBIDDEN, "agents_differ",
				"the client certificate and the bearer token name two agents");
	out->id = peer.n ? peer : token;
	/* A sidecar of one agent, which asks as that agent. */
	if (!out->id.n && !(c->caller->roles & ROLE_PEP))
		out->id = c->caller->id;
	return true;
}
