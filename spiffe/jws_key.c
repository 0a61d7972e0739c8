#include "spiffe/jws_key.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <stdlib.h>

#include "authz/base/text.h"
#include "spiffe/crypto.h"

#define NUMBER_MAX 1024 /* bytes of one number in a JWK: RSA of 8192 bits */
#define KID_MAX 256

struct algorithm {
	const char *name, *kty, *crv, *group, *hash;
	size_t width; /* bytes of a coordinate; the signature has two such numbers */
	bool pss, usual;
};

/* `usual`: of a key that does not say. */
static const struct algorithm algorithms[] = {
	{ "RS256", "RSA", NULL, NULL, "SHA256", 0, false, true },
	{ "RS384", "RSA", NULL, NULL, "SHA384", 0, false, false },
	{ "RS512", "RSA", NULL, NULL, "SHA512", 0, false, false },
	{ "PS256", "RSA", NULL, NULL, "SHA256", 0, true, false },
	{ "PS384", "RSA", NULL, NULL, "SHA384", 0, true, false },
	{ "PS512", "RSA", NULL, NULL, "SHA512", 0, true, false },
	{ "ES256", "EC", "P-256", "prime256v1", "SHA256", 32, false, true },
	{ "ES384", "EC", "P-384", "secp384r1", "SHA384", 48, false, true },
	{ "ES512", "EC", "P-521", "secp521r1", "SHA512", 66, false, true },
	{ "EdDSA", "OKP", "Ed25519", NULL, NULL, 32, false, true },
};

struct jws_key {
	EVP_PKEY *key;
	const struct algorithm *alg;
	char kid[KID_MAX];
	size_t kid_n;
};

struct jwks {
	struct jws_key keys[JWKS_KEYS_MAX];
	size_t n;
};

static bool bad(struct err *e, const char *what)
{
	crypto_err(NULL, "-"); /* empties OpenSSL's queue */
	return err_code(e, ERR_INVALID, "invalid_jwks", "JWK set: %s", what);
}

static struct str member(const struct json *jwk, const char *name)
{
	const struct json *v = json_get_type(jwk, str_c(name), JSON_STRING);

	return v ? v->s : (struct str){ 0 };
}

static bool number(const struct json *jwk, const char *name, uint8_t room[static NUMBER_MAX + 3],
		   size_t *n)
{
	struct str text = member(jwk, name);

	return text.n && text.n <= NUMBER_MAX / 3 * 4 && text_unbase64(text, BASE64_URL, room, n) &&
	       *n > 0;
}

/* The one row that the key's own members name; NULL: a kind that is passed over. */
static const struct algorithm *algorithm_of(const struct json *jwk)
{
	struct str kty = member(jwk, "kty"), crv = member(jwk, "crv"), alg = member(jwk, "alg");

	for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
		const struct algorithm *a = &algorithms[i];

		if (str_eq(kty, str_c(a->kty)) && (!a->crv || str_eq(crv, str_c(a->crv))) &&
		    (json_get(jwk, STR("alg")) ? str_eq(alg, str_c(a->name)) : a->usual))
			return a;
	}
	return NULL;
}

static EVP_PKEY *from_params(const char *type, OSSL_PARAM_BLD *bld)
{
	OSSL_PARAM *params = bld ? OSSL_PARAM_BLD_to_param(bld) : NULL;
	EVP_PKEY_CTX *ctx = params ? EVP_PKEY_CTX_new_from_name(NULL, type, NULL) : NULL;
	EVP_PKEY *key = NULL;

	if (ctx && EVP_PKEY_fromdata_init(ctx) == 1 &&
	    EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
		key = NULL;
	EVP_PKEY_CTX_free(ctx);
	OSSL_PARAM_free(params);
	return key;
}

static EVP_PKEY *rsa_key(const struct json *jwk)
{
	uint8_t n[NUMBER_MAX + 3], ex[NUMBER_MAX + 3];
	size_t nn = 0, nex = 0;
	OSSL_PARAM_BLD *bld;
	BIGNUM *bn = NULL, *be = NULL;
	EVP_PKEY *key = NULL;

	/* An exponent of more than eight bytes is a way to make verifying slow. */
	if (!number(jwk, "n", n, &nn) || !number(jwk, "e", ex, &nex) || nex > 8)
		return NULL;
	bld = OSSL_PARAM_BLD_new();
	bn = BN_bin2bn(n, (int)nn, NULL);
	be = BN_bin2bn(ex, (int)nex, NULL);
	if (bld && bn && be && BN_is_odd(be) && !BN_is_one(be) &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, bn) == 1 &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, be) == 1)
		key = from_params("RSA", bld);
	OSSL_PARAM_BLD_free(bld);
	BN_free(bn);
	BN_free(be);
	return key;
}

static EVP_PKEY *ec_key(const struct json *jwk, const struct algorithm *a)
{
	uint8_t point[1 + 2 * (NUMBER_MAX + 3)], y[NUMBER_MAX + 3];
	size_t nx = 0, ny = 0;
	OSSL_PARAM_BLD *bld;
	EVP_PKEY *key = NULL;

	/* Coordinates have their full width (RFC 7518 6.2.1.2). */
	if (!number(jwk, "x", point + 1, &nx) || !number(jwk, "y", y, &ny) || nx != a->width ||
	    ny != a->width)
		return NULL;
	point[0] = 4; /* uncompressed */
	memcpy(point + 1 + nx, y, ny);
	bld = OSSL_PARAM_BLD_new();
	if (bld &&
	    OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, a->group, 0) == 1 &&
	    OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + nx + ny) == 1)
		key = from_params("EC", bld);
	OSSL_PARAM_BLD_free(bld);
	return key;
}

static EVP_PKEY *key_of(const struct json *jwk, const struct algorithm *a)
{
	uint8_t x[NUMBER_MAX + 3];
	size_t n = 0;

	if (strcmp(a->kty, "RSA") == 0)
		return rsa_key(jwk);
	if (strcmp(a->kty, "EC") == 0)
		return ec_key(jwk, a);
	return number(jwk, "x", x, &n) && n == a->width
		       ? EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x, n)
		       : NULL;
}

static bool is_sound(EVP_PKEY *key)
{
	EVP_PKEY_CTX *ctx;
	bool ok;

	if (EVP_PKEY_is_a(key, "RSA"))
		return EVP_PKEY_get_bits(key) >= 2048 && EVP_PKEY_get_bits(key) <= 8192;
	ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	ok = ctx && EVP_PKEY_public_check(ctx) == 1; /* a point of the curve */
	EVP_PKEY_CTX_free(ctx);
	return ok;
}

static bool passed_over(const struct json *jwk, const struct algorithm *a)
{
	const struct json *use = json_get(jwk, STR("use"));

	return !a || (use && (use->type != JSON_STRING || !str_eq(use->s, STR("sig"))));
}

static bool add(struct jwks *k, const struct json *jwk, struct err *e)
{
	const struct algorithm *a = jwk->type == JSON_OBJECT ? algorithm_of(jwk) : NULL;
	struct jws_key *slot = &k->keys[k->n];
	struct str kid;

	if (jwk->type != JSON_OBJECT)
		return bad(e, "\"keys\" holds something that is no object");
	if (json_get(jwk, STR("d")))
		return bad(e, "it holds a private key: whoever wrote it gave it away");
	if (passed_over(jwk, a))
		return true;
	if (k->n == JWKS_KEYS_MAX)
		return bad(e, "more than 64 keys");
	kid = member(jwk, "kid");
	if (kid.n > KID_MAX || (json_get(jwk, STR("kid")) && !kid.n))
		return bad(e, "a key id (kid) must be a string of 1 to 256 bytes");
	for (size_t i = 0; i < k->n; i++)
		if (kid.n && str_eq(kid, (struct str){ k->keys[i].kid, k->keys[i].kid_n }))
			return bad(e, "two keys have the same key id (kid)");
	slot->key = key_of(jwk, a);
	if (slot->key)
		k->n++; /* freed with the set from here on */
	if (!slot->key || !is_sound(slot->key))
		return bad(e, "a key is malformed, or RSA below 2048 bits");
	slot->alg = a;
	if (kid.n)
		memcpy(slot->kid, kid.p, kid.n);
	slot->kid_n = kid.n;
	return true;
}

bool jwks_read(struct str text, struct jwks **out, struct err *e)
{
	static const struct json_limits limits = {
		.string = 65536, .depth = 8, .members = 64, .values = 16384
	};
	const struct json *set = NULL, *keys;
	struct jwks *k = calloc(1, sizeof(*k));
	struct arena arena;
	bool ok = k != NULL;

	arena_init(&arena, &mem_system, 8 * JWKS_BYTES_MAX);
	if (!k)
		err_set(e, ERR_NOMEM, "no memory for a JWK set");
	else if (text.n > JWKS_BYTES_MAX)
		ok = bad(e, "it is larger than 512 KiB");
	else if (!json_parse(text, &limits, &arena, &set, e))
		ok = err_prefix(e, "JWK set");
	keys = ok ? json_get_type(set, STR("keys"), JSON_ARRAY) : NULL;
	if (ok && !keys)
		ok = bad(e, "expected an object with an array \"keys\"");
	for (uint32_t i = 0; ok && i < keys->n; i++)
		ok = add(k, &keys->items[i], e);
	if (ok && !k->n)
		ok = bad(e, "it has no key that verifies signatures");
	arena_clear(&arena);
	if (!ok) {
		jwks_free(k);
		return false;
	}
	*out = k;
	return true;
}

void jwks_free(struct jwks *k)
{
	for (size_t i = 0; k && i < k->n; i++)
		EVP_PKEY_free(k->keys[i].key);
	free(k);
}

size_t jwks_count(const struct jwks *k)
{
	return k->n;
}

const struct jws_key *jwks_find(const struct jwks *k, struct str kid)
{
	if (!kid.n)
		return k->n == 1 ? &k->keys[0] : NULL;
	for (size_t i = 0; i < k->n; i++)
		if (str_eq(kid, (struct str){ k->keys[i].kid, k->keys[i].kid_n }))
			return &k->keys[i];
	return NULL;
}

const char *jws_key_alg(const struct jws_key *k)
{
	return k->alg->name;
}

/* R||S of fixed width to the DER that OpenSSL reads; its length, or 0. */
static int der_signature(struct str raw, unsigned char **der)
{
	const unsigned char *p = (const unsigned char *)raw.p;
	ECDSA_SIG *sig = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(p, (int)(raw.n / 2), NULL);
	BIGNUM *s = BN_bin2bn(p + raw.n / 2, (int)(raw.n / 2), NULL);
	int n = 0;

	if (sig && r && s && ECDSA_SIG_set0(sig, r, s) == 1) {
		r = s = NULL; /* handed over */
		n = i2d_ECDSA_SIG(sig, der);
	}
	BN_free(r);
	BN_free(s);
	ECDSA_SIG_free(sig);
	return n > 0 ? n : 0;
}

bool jws_key_verify(const struct jws_key *k, struct str text, struct str signature)
{
	bool ec = strcmp(k->alg->kty, "EC") == 0, ok;
	AUTO_MD_CTX *ctx = EVP_MD_CTX_new();
	const unsigned char *sig = (const unsigned char *)signature.p;
	unsigned char *der = NULL;
	EVP_PKEY_CTX *pctx = NULL;
	int n = (int)signature.n;

	if (!ctx || signature.n > NUMBER_MAX || (ec && signature.n != 2 * k->alg->width))
		return false;
	if (ec) {
		n = der_signature(signature, &der);
		sig = der;
	}
	ok = n > 0 &&
	     EVP_DigestVerifyInit_ex(ctx, &pctx, k->alg->hash, NULL, NULL, k->key, NULL) == 1 &&
	     (!k->alg->pss ||
	      (EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
	       EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST) == 1)) &&
	     EVP_DigestVerify(ctx, sig, (size_t)n, (const unsigned char *)text.p, text.n) == 1;
	OPENSSL_free(der);
	if (!ok)
		crypto_err(NULL, "-");
	return ok;
}
