#include "spiffe/jws.h"

#include "authz/base/text.h"
#include "include/writ/words.h"
#include "spiffe/jws_key.h"

#define CODE "invalid_token"

static const struct json_limits limits = {
	.string = LIMIT_TOKEN, .depth = 16, .members = 64, .values = 1024
};

static bool refuse(struct err *e, const char *what)
{
	return err_code(e, ERR_UNAUTHENTICATED, CODE, "token: %s", what);
}

/* One part: strict base64url. */
static bool decode(struct str part, struct arena *a, struct str *out)
{
	uint8_t *room = arena_alloc(a, part.n / 4 * 3 + 6);
	size_t n = 0;

	if (!room || !part.n || !text_unbase64(part, BASE64_URL, room, &n))
		return false;
	*out = (struct str){ (char *)room, n };
	return true;
}

static bool object(struct str part, const char *where, struct arena *a, const struct json **out,
		   struct err *e)
{
	struct str text;

	if (!decode(part, a, &text))
		return err_code(e, ERR_UNAUTHENTICATED, CODE,
				"token: %s is no base64url without padding", where);
	if (!json_parse(text, &limits, a, out, e)) {
		if (e && e->class != ERR_NOMEM) {
			e->class = ERR_UNAUTHENTICATED;
			e->code = CODE;
		}
		return err_prefix(e, "token: %s", where);
	}
	return (*out)->type == JSON_OBJECT ||
	       err_code(e, ERR_UNAUTHENTICATED, CODE, "token: %s is no JSON object", where);
}

static bool check_header(const struct json *h, struct jws *out, struct err *e)
{
	static const char *const leading[] = { "jku", "jwk", "x5u", "x5c", "crit", "b64" };
	const struct json *kid = json_get(h, STR("kid"));

	for (size_t i = 0; i < ARRAY_LEN(leading); i++)
		if (json_get(h, str_c(leading[i])))
			return err_code(e, ERR_UNAUTHENTICATED, CODE,
					"token: header member \"%s\" is not allowed: a token does "
					"not say how it is verified",
					leading[i]);
	if (!json_get_type(h, STR("alg"), JSON_STRING))
		return refuse(e, "alg is missing");
	if (kid && kid->type != JSON_STRING)
		return refuse(e, "kid must be a string");
	if (kid)
		out->kid = kid->s;
	return true;
}

bool jws_read(struct str token, struct arena *a, struct jws *out, struct err *e)
{
	struct str header, payload, signature, rest;
	struct jws j = { 0 };

	if (token.n > LIMIT_TOKEN)
		return err_code(e, ERR_UNAUTHENTICATED, CODE, "token: %zu bytes, at most %d",
				token.n, LIMIT_TOKEN);
	if (!str_cut(token, '.', &header, &rest) || !str_cut(rest, '.', &payload, &signature) ||
	    (signature.n && memchr(signature.p, '.', signature.n)))
		return refuse(e, "three parts with '.' between them are expected (compact JWS)");
	j.signing_input = str_first(token, header.n + 1 + payload.n);
	if (!object(header, "the header", a, &j.header, e) || !check_header(j.header, &j, e) ||
	    !object(payload, "the payload", a, &j.claims, e))
		return false;
	if (!decode(signature, a, &j.signature))
		return refuse(e, "the signature is no base64url without padding");
	*out = j;
	return true;
}

bool jws_verify(const struct jws *j, const struct jwks *keys, struct err *e)
{
	const struct json *alg = json_get_type(j->header, STR("alg"), JSON_STRING);
	const struct jws_key *key;

	if (!alg)
		return refuse(e, "alg is missing");
	key = jwks_find(keys, j->kid);
	if (!key)
		return err_code(e, ERR_UNAUTHENTICATED, CODE,
				j->kid.n ? "token: its issuer has no key \"%.*s\""
					 : "token: it names no key, and its issuer has several%.*s",
				STR_FMT(str_first(j->kid, 64)));
	if (!str_eq(alg->s, str_c(jws_key_alg(key))))
		return err_code(e, ERR_UNAUTHENTICATED, CODE,
				"token: alg is %.*s, but its key is for %s",
				STR_FMT(str_first(alg->s, 20)), jws_key_alg(key));
	return jws_key_verify(key, j->signing_input, j->signature) ||
	       refuse(e, "the signature does not hold");
}

/* --- claims --- */

static bool time_claim(const struct json *claims, const char *name, bool required, int64_t *out,
		       struct err *e)
{
	const struct json *c = json_get(claims, str_c(name));

	if (!c && !required)
		return true;
	if (!c || c->type != JSON_INT || c->i < 0)
		return err_code(e, ERR_UNAUTHENTICATED, CODE,
				"token: %s must be an integer (seconds since 1970)", name);
	*out = c->i;
	return true;
}

static bool check_times(const struct json *claims, const struct jws_expected *x, int64_t *exp,
			struct err *e)
{
	int64_t nbf = 0, iat = 0;

	if (!time_claim(claims, "exp", true, exp, e) || !time_claim(claims, "iat", true, &iat, e) ||
	    !time_claim(claims, "nbf", false, &nbf, e))
		return false;
	if (x->now_s >= *exp + x->leeway_s)
		return refuse(e, "it has expired");
	if (*exp > x->now_s + x->life_max_s)
		return err_code(e, ERR_UNAUTHENTICATED, CODE,
				"token: it lives for more than %lld s from now; ask for a shorter "
				"one",
				(long long)x->life_max_s);
	if (iat > x->now_s + x->leeway_s)
		return refuse(e, "it was issued in the future (iat)");
	if (nbf > x->now_s + x->leeway_s)
		return refuse(e, "it is not valid yet (nbf)");
	return true;
}

static bool check_audience(const struct json *claims, struct str ours, struct err *e)
{
	const struct json *aud = json_get(claims, STR("aud"));
	bool found = aud && aud->type == JSON_STRING && str_eq(aud->s, ours);

	for (uint32_t i = 0; aud && aud->type == JSON_ARRAY && i < aud->n; i++) {
		if (aud->items[i].type != JSON_STRING)
			return refuse(e, "aud must be a string or an array of strings");
		found |= str_eq(aud->items[i].s, ours);
	}
	return (found && ours.n) ||
	       err_code(e, ERR_UNAUTHENTICATED, CODE,
			"token: aud does not contain \"%.*s\": it is addressed to others",
			STR_FMT(str_first(ours, 128)));
}

bool jws_check(const struct jws *j, const struct jws_expected *x, int64_t *expires_s, struct err *e)
{
	const struct json *iss = json_get_type(j->claims, STR("iss"), JSON_STRING);

	if (!iss || !x->issuer.n || !str_eq(iss->s, x->issuer))
		return err_code(e, ERR_UNAUTHENTICATED, CODE, "token: iss is not \"%.*s\"",
				STR_FMT(str_first(x->issuer, 128)));
	return check_audience(j->claims, x->audience, e) && check_times(j->claims, x, expires_s, e);
}
