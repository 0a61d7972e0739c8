/*
 * What others need in order to believe what we issue: our trust bundle (SPIFFE Federation 5), and
 * for those who know OpenID Connect and not SPIFFE a discovery document and a JWK Set.
 *
 * The issuer is a setting and never taken from Host, so that nobody can have a document cached
 * that names somebody else.
 */
#include "authz/base/digest.h"
#include "authz/base/text.h"
#include "authz/server/handlers.h"
#include "authz/server/service.h"

static const struct bundle *own_bundle(struct request *r)
{
	struct bundle_set *set = worker_bundle(r->worker);
	const struct bundle *b = set ? bundle_find(set, r->worker->core->trust_domain) : NULL;
	struct err e = { 0 };

	if (!b) {
		err_set(&e, ERR_UNAVAILABLE, "the trust bundle is not loaded yet");
		request_fail(r, &e);
	}
	return b;
}

/* Does If-None-Match name this tag (RFC 9110 13.1.2)? Weak tags compare as well. */
static bool matches(struct str header, struct str tag)
{
	struct str item, rest = header;
	bool more = true;

	while (more && rest.p) {
		more = str_cut(rest, ',', &item, &rest);
		if (!more)
			item = rest;
		while (item.n && item.p[0] == ' ')
			item = str_from(item, 1);
		while (item.n && item.p[item.n - 1] == ' ')
			item.n--;
		if (str_starts(item, STR("W/")))
			item = str_from(item, 2);
		if (str_eq(item, tag) || str_eq(item, STR("*")))
			return true;
	}
	return false;
}

/* Its tag is the hash of its bytes: a poller that has it already gets 304 and no body. */
void handle_bundle(struct request *r)
{
	const struct bundle *bundle = own_bundle(r);
	char *text = bundle ? request_alloc(r, 2 * SHA256_LEN + 2) : NULL;
	uint8_t hash[SHA256_LEN];
	struct str tag = { text, 2 * SHA256_LEN + 2 };
	struct buf *b;

	if (!text)
		return;
	b = request_reply(r, 200);
	bundle_json(bundle, b);
	sha256_of(r->worker->sha, buf_str(b), hash);
	text[0] = text[tag.n - 1] = '"';
	text_hex(hash, sizeof(hash), text + 1);
	call_reply_header(r->call, STR("cache-control"), STR("no-cache"));
	call_reply_header(r->call, STR("etag"), tag);
	if (buf_ok(b) && matches(call_header(r->call, STR("if-none-match")), tag)) {
		r->call->reply.status = 304;
		buf_reset(b);
	}
	request_send(r);
}

/* Relying parties that keep keys for hours would refuse tokens of a new one. */
static void not_kept(struct request *r)
{
	call_reply_header(r->call, STR("cache-control"),
			  STR("no-cache, no-store, must-revalidate"));
	call_reply_header(r->call, STR("pragma"), STR("no-cache"));
	call_reply_header(r->call, STR("expires"), STR("0"));
	call_reply_header(r->call, STR("access-control-allow-origin"), STR("*"));
}

void handle_keys(struct request *r)
{
	const struct bundle *bundle = own_bundle(r);

	if (!bundle)
		return;
	bundle_jwks(bundle, BUNDLE_JWKS_OIDC, request_reply(r, 200));
	not_kept(r);
	request_send(r);
}

/* The algorithms of the keys in the bundle, each once. */
static void add_algorithms(struct buf *b, const struct bundle *bundle)
{
	static const char *const names[] = { [BUNDLE_KEY_RSA] = "RS256",
					     [BUNDLE_KEY_P256] = "ES256",
					     [BUNDLE_KEY_P384] = "ES384",
					     [BUNDLE_KEY_P521] = "ES512" };
	bool first = true;

	for (size_t t = 0; t < ARRAY_LEN(names); t++)
		for (size_t i = 0; i < bundle->njwt_keys; i++)
			if (bundle->jwt_keys[i].type == (enum bundle_key_type)t) {
				buf_printf(b, "%s\"%s\"", first ? "" : ",", names[t]);
				first = false;
				break;
			}
}

void handle_openid_configuration(struct request *r)
{
	struct str issuer = r->worker->core->issuer;
	const struct bundle *bundle = own_bundle(r);
	struct err e = { 0 };
	struct buf *b;

	if (!bundle)
		return;
	if (!issuer.n) {
		err_code(
			&e, ERR_NOT_FOUND, "no_issuer",
			"writ is no OpenID issuer until jwt.issuer names the https URL that others "
			"know it by");
		request_fail(r, &e);
		return;
	}
	b = request_reply(r, 200);
	buf_lit(b, "{\"issuer\":");
	buf_json(b, issuer);
	buf_lit(b, ",\"jwks_uri\":\"");
	buf_add(b, issuer); /* a URL: nothing in it needs escaping */
	buf_lit(b, "/keys\",\"authorization_endpoint\":\"\",\"response_types_supported\":"
		   "[\"id_token\"],\"subject_types_supported\":[\"public\"],"
		   "\"id_token_signing_alg_values_supported\":[");
	add_algorithms(b, bundle);
	buf_lit(b, "],\"claims_supported\":[\"iss\",\"sub\",\"aud\",\"exp\",\"iat\"]}");
	not_kept(r);
	request_send(r);
}
