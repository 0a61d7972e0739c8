/*
 * Verifying. The bytes that were signed are the bytes that are read: one strict parse of header and
 * payload, then the signature over the received text, then the claims of that same parse.
 *
 * Nothing in a token chooses how it is verified. Whoever reads it says whose bundle its key must be
 * in, and the key's type says which algorithms fit; "alg" must be one of them.
 */
#include "spiffe/jwt_inside.h"

#include <openssl/rsa.h>

#include "authz/base/text.h"

#define KEYS_TRIED_MAX 8 /* for a token without kid: 60 us each, before we know who asks */
#define RAW_ES_MAX 132

struct jwt_algorithm {
	struct str name;
	enum bundle_key_type type;
	const char *hash;
	size_t raw; /* bytes of an ES signature; 0: RSA */
	bool pss;
};

static const struct jwt_algorithm algorithms[] = {
	{ STR_INIT("RS256"), BUNDLE_KEY_RSA, "SHA256", 0, false },
	{ STR_INIT("RS384"), BUNDLE_KEY_RSA, "SHA384", 0, false },
	{ STR_INIT("RS512"), BUNDLE_KEY_RSA, "SHA512", 0, false },
	{ STR_INIT("ES256"), BUNDLE_KEY_P256, "SHA256", 64, false },
	{ STR_INIT("ES384"), BUNDLE_KEY_P384, "SHA384", 96, false },
	{ STR_INIT("ES512"), BUNDLE_KEY_P521, "SHA512", 132, false },
	{ STR_INIT("PS256"), BUNDLE_KEY_RSA, "SHA256", 0, true },
	{ STR_INIT("PS384"), BUNDLE_KEY_RSA, "SHA384", 0, true },
	{ STR_INIT("PS512"), BUNDLE_KEY_RSA, "SHA512", 0, true },
};

static const struct json_limits token_limits = {
	.string = LIMIT_TOKEN, .depth = 16, .members = 64, .values = 1024
};

bool jwt_refuse(struct err *e, const char *what)
{
	err_code(e, ERR_UNAUTHENTICATED, JWT_CODE, "token: %s", what);
	return false;
}

bool jwt_as_refusal(struct err *e, const char *where)
{
	if (e && e->class != ERR_NOMEM) {
		e->class = ERR_UNAUTHENTICATED;
		e->code = JWT_CODE;
	}
	err_prefix(e, "token: %s", where);
	return false;
}

struct jwt_verifier *jwt_verifier_new(const struct alloc *alloc, size_t cache, struct err *e)
{
	struct jwt_verifier *v = mem_zero(alloc, sizeof(*v));

	if (v) {
		v->alloc = *alloc;
		v->leeway_s = JWT_LEEWAY_S;
		v->work = EVP_MD_CTX_new();
		v->sha = sha256_new(e);
	}
	if (!v || !v->work || !v->sha || !jwt_cache_init(&v->cache, &v->alloc, cache)) {
		jwt_verifier_free(v);
		err_set(e, ERR_NOMEM, "no memory for a verifier of tokens");
		return NULL;
	}
	return v;
}

void jwt_verifier_leeway(struct jwt_verifier *v, int64_t seconds)
{
	v->leeway_s = seconds;
}

/* Another set of bundles: whatever was concluded from the old one is void. */
static void forget(struct jwt_verifier *v)
{
	for (size_t i = 0; i < JWT_PREPARED_MAX; i++) {
		EVP_MD_CTX_free(v->prepared[i].ctx);
		v->prepared[i] = (struct jwt_prepared){ 0 };
	}
	if (v->cache.alloc)
		jwt_cache_forget(&v->cache);
	bundle_set_release(v->bundles);
	v->bundles = NULL;
}

void jwt_verifier_free(struct jwt_verifier *v)
{
	struct alloc alloc;

	if (!v)
		return;
	alloc = v->alloc;
	forget(v);
	if (v->cache.alloc)
		jwt_cache_clear(&v->cache);
	EVP_MD_CTX_free(v->work);
	sha256_free(v->sha);
	mem_free(&alloc, v, sizeof(*v));
}

void jwt_verifier_use(struct jwt_verifier *v, struct bundle_set *bundles)
{
	if (v->bundles == bundles)
		return;
	forget(v);
	shared_acquire(&bundles->shared);
	v->bundles = bundles;
}

struct jwt_verifier_counts jwt_verifier_counts(const struct jwt_verifier *v)
{
	return v->counts;
}

/* Strict base64url of one part, into the arena. */
static bool decode(struct str part, struct arena *a, uint8_t **out, size_t *n)
{
	*out = arena_alloc(a, part.n / 4 * 3 + 6);
	return *out && part.n > 0 && text_unbase64(part, BASE64_URL, *out, n);
}

/* The JSON object that a part holds, or NULL. */
static const struct json *object(struct str part, const char *where, struct arena *a, struct err *e)
{
	const struct json *v = NULL;
	uint8_t *bytes;
	size_t n;

	if (!decode(part, a, &bytes, &n)) {
		err_code(e, ERR_UNAUTHENTICATED, JWT_CODE,
			 "token: %s is no base64url without padding", where);
		return NULL;
	}
	if (!json_parse((struct str){ (char *)bytes, n }, &token_limits, a, &v, e)) {
		jwt_as_refusal(e, where);
		return NULL;
	}
	if (!v || v->type != JSON_OBJECT) {
		err_code(e, ERR_UNAUTHENTICATED, JWT_CODE, "token: %s is no JSON object", where);
		return NULL;
	}
	return v;
}

static bool read_header(const struct json *h, struct jwt_token *t, struct err *e)
{
	const struct json *alg = json_get_type(h, STR("alg"), JSON_STRING);
	const struct json *typ = json_get(h, STR("typ")), *kid = json_get(h, STR("kid"));

	/* jku, x5u, jwk, crit ... : nothing that could lead verification elsewhere (RFC 7515 4.1)
	 */
	for (uint32_t i = 0; i < h->n; i++) {
		struct str name = h->items[i].name;

		if (!str_eq(name, STR("alg")) && !str_eq(name, STR("kid")) &&
		    !str_eq(name, STR("typ")))
			return err_code(e, ERR_UNAUTHENTICATED, JWT_CODE,
					"token: header member \"%.*s\" is not allowed; only alg, "
					"kid and typ are",
					STR_FMT(str_first(name, 64)));
	}
	for (size_t i = 0; alg && i < ARRAY_LEN(algorithms); i++)
		if (str_eq(algorithms[i].name, alg->s))
			t->alg = &algorithms[i];
	if (!t->alg)
		return jwt_refuse(
			e, "alg must be one of RS256 RS384 RS512 ES256 ES384 ES512 PS256 PS384 "
			   "PS512");
	if (typ && typ->type != JSON_STRING)
		return jwt_refuse(e, "typ must be a string");
	if (kid && kid->type != JSON_STRING)
		return jwt_refuse(e, "kid must be a string");
	t->has_typ = typ != NULL;
	if (typ)
		t->typ = typ->s;
	t->has_kid = kid != NULL;
	if (kid)
		t->kid = kid->s;
	return true;
}

bool jwt_take_apart(struct str text, struct arena *a, struct jwt_token *t, struct err *e)
{
	struct str header, payload, signature, rest;
	const struct json *h;

	if (text.n > LIMIT_TOKEN)
		return err_code(e, ERR_UNAUTHENTICATED, JWT_CODE, "token: %zu bytes, at most %d",
				text.n, LIMIT_TOKEN);
	if (!str_cut(text, '.', &header, &rest) || !str_cut(rest, '.', &payload, &signature) ||
	    (signature.n && memchr(signature.p, '.', signature.n)))
		return jwt_refuse(e,
				  "three parts with '.' between them are expected (compact JWS)");
	t->signing_input = str_first(text, header.n + 1 + payload.n);
	h = object(header, "the header", a, e);
	if (!h || !read_header(h, t, e))
		return false;
	if (!decode(signature, a, &t->signature, &t->signature_len))
		return jwt_refuse(e, "the signature is no base64url without padding");
	t->claims = object(payload, "the payload", a, e);
	return t->claims != NULL;
}

struct str jwt_typ(struct str text, struct arena *a)
{
	const struct json *h, *typ;
	struct str header, rest;
	struct err ignored;

	if (text.n > LIMIT_TOKEN || !str_cut(text, '.', &header, &rest))
		return (struct str){ NULL, 0 };
	h = object(header, "the header", a, &ignored);
	typ = json_get_type(h, STR("typ"), JSON_STRING);
	return typ ? typ->s : (struct str){ NULL, 0 };
}

/* The parts of a DER integer: no leading zeros but one where the top bit is set. */
static size_t der_integer(uint8_t *at, const uint8_t *p, size_t n)
{
	size_t pad;

	while (n > 1 && *p == 0) {
		p++;
		n--;
	}
	pad = *p >> 7;
	at[0] = 0x02;
	at[1] = (uint8_t)(n + pad);
	at[2] = 0;
	memcpy(at + 2 + pad, p, n);
	return 2 + pad + n;
}

/* R||S of fixed width to the DER sequence that OpenSSL reads. */
static size_t der_signature(uint8_t out[static RAW_ES_MAX + 16], const uint8_t *raw, size_t n)
{
	uint8_t body[RAW_ES_MAX + 8];
	size_t len = der_integer(body, raw, n / 2), head = 2;

	len += der_integer(body + len, raw + n / 2, n / 2);
	out[0] = 0x30;
	out[1] = (uint8_t)len;
	if (len > 127) {
		out[1] = 0x81;
		out[2] = (uint8_t)len;
		head = 3;
	}
	memcpy(out + head, body, len);
	return head + len;
}

/* A fresh prepared context, or NULL. */
static EVP_MD_CTX *prepare(EVP_PKEY *key, const struct jwt_algorithm *alg)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *pctx = NULL;

	if (ctx && EVP_DigestVerifyInit_ex(ctx, &pctx, alg->hash, NULL, NULL, key, NULL) == 1 &&
	    (!alg->pss || (EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
			   EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST) == 1)))
		return ctx;
	EVP_MD_CTX_free(ctx);
	return NULL;
}

static const EVP_MD_CTX *prepared_for(struct jwt_verifier *v, EVP_PKEY *key,
				      const struct jwt_algorithm *alg)
{
	struct jwt_prepared *slot;
	EVP_MD_CTX *ctx;

	for (size_t i = 0; i < JWT_PREPARED_MAX; i++)
		if (v->prepared[i].key == key && v->prepared[i].alg == alg)
			return v->prepared[i].ctx;
	ctx = prepare(key, alg);
	if (!ctx)
		return NULL;
	slot = &v->prepared[v->next_prepared];
	v->next_prepared = (v->next_prepared + 1) % JWT_PREPARED_MAX;
	EVP_MD_CTX_free(slot->ctx);
	*slot = (struct jwt_prepared){ key, alg, ctx };
	return ctx;
}

static bool signed_by(struct jwt_verifier *v, EVP_PKEY *key, const struct jwt_token *t)
{
	uint8_t der[RAW_ES_MAX + 16];
	const uint8_t *sig = t->signature;
	size_t n = t->signature_len;
	const EVP_MD_CTX *ready;
	bool ok;

	if (t->alg->raw) {
		if (n != t->alg->raw)
			return false;
		n = der_signature(der, sig, n);
		sig = der;
	} else if (n != (size_t)EVP_PKEY_get_size(key)) {
		return false;
	}
	ready = prepared_for(v, key, t->alg);
	ok = ready && EVP_MD_CTX_copy_ex(v->work, ready) == 1 &&
	     EVP_DigestVerify(v->work, sig, n, (const unsigned char *)t->signing_input.p,
			      t->signing_input.n) == 1;
	if (!ok)
		crypto_err(NULL, "-"); /* empties OpenSSL's queue */
	return ok;
}

bool jwt_check_signature(struct jwt_verifier *v, const struct bundle *b, const struct jwt_token *t,
			 struct err *e)
{
	unsigned tried = 0;

	for (size_t i = 0; i < b->njwt_keys; i++) {
		const struct bundle_jwt_key *k = &b->jwt_keys[i];

		if (t->has_kid) {
			if (!str_eq(k->kid, t->kid))
				continue;
			/* The named key or none: no falling back to another that would fit. */
			if (k->type != t->alg->type)
				return jwt_refuse(
					e, "alg does not fit the type of the key that kid names");
			return signed_by(v, k->key, t) ||
			       jwt_refuse(e, "the signature does not hold");
		}
		if (k->type == t->alg->type && tried++ < KEYS_TRIED_MAX && signed_by(v, k->key, t))
			return true;
	}
	if (t->has_kid)
		return err_code(e, ERR_UNAUTHENTICATED, JWT_CODE,
				"token: no JWT key \"%.*s\" in the bundle of trust domain %.*s",
				STR_FMT(str_first(t->kid, 64)), STR_FMT(b->trust_domain));
	return jwt_refuse(e, tried ? "the signature does not hold"
				   : "no JWT key in the trust domain's bundle fits alg");
}

/* An integer claim; absent is fine unless @required. */
static bool time_claim(const struct json *claims, const char *name, bool required, int64_t *out,
		       struct err *e)
{
	const struct json *c = json_get(claims, str_c(name));

	if (!c && !required)
		return true;
	if (!c || c->type != JSON_INT)
		return err_code(e, ERR_UNAUTHENTICATED, JWT_CODE,
				"token: %s must be an integer (seconds since 1970)", name);
	*out = c->i;
	return true;
}

bool jwt_check_audience(const struct json *claims, struct str ours, struct err *e)
{
	const struct json *aud = json_get(claims, STR("aud"));
	bool found = false;

	if (aud && aud->type == JSON_STRING && aud->s.n)
		found = str_eq(aud->s, ours);
	else if (!aud || aud->type != JSON_ARRAY || aud->n == 0)
		return jwt_refuse(e, "aud must be a string or an array of strings, not empty");
	for (uint32_t i = 0; aud->type == JSON_ARRAY && i < aud->n; i++) {
		if (aud->items[i].type != JSON_STRING)
			return jwt_refuse(e,
					  "aud must be a string or an array of strings, not empty");
		found = found || str_eq(aud->items[i].s, ours);
	}
	if (!found)
		return err_code(e, ERR_UNAUTHENTICATED, JWT_CODE,
				"token: aud does not contain \"%.*s\": it is addressed to others",
				STR_FMT(str_first(ours, 128)));
	return true;
}

bool jwt_check_times(const struct json *claims, int64_t now_s, int64_t leeway_s,
		     struct jwt_cached *entry, struct err *e)
{
	int64_t exp = 0, nbf = INT64_MIN / 2, iat = INT64_MIN / 2;

	if (!time_claim(claims, "exp", true, &exp, e) ||
	    !time_claim(claims, "nbf", false, &nbf, e) ||
	    !time_claim(claims, "iat", false, &iat, e))
		return false;
	entry->expires_s = exp;
	entry->until_s = exp + leeway_s;
	entry->from_s = (nbf > iat ? nbf : iat) - leeway_s;
	if (now_s >= entry->until_s)
		return jwt_refuse(e, "it has expired");
	if (now_s < entry->from_s)
		return jwt_refuse(e, nbf >= iat ? "it is not valid yet (nbf)"
						: "it was issued in the future (iat)");
	return true;
}
