/* spiffe/jwt_svid: every trap of the sheets is a row; libjwt reads what we write and we what it
 * writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <jwt.h>
#include <openssl/pem.h>

#include "authz/base/text.h"
#include "spiffe/crypto.h"
#include "spiffe/jwt_svid.h"
#include "tests/spiffe/forge.h"

#define SUB "\"sub\":\"spiffe://a.example/agent/7\""
#define EXP "\"exp\":1800000300"
#define AUD "\"aud\":[\"us\"]"
#define GOOD "{" SUB "," AUD "," EXP "}"
#define HEAD(alg, kid) "{\"alg\":\"" alg "\",\"kid\":\"" kid "\",\"typ\":\"JWT\"}"

enum key { RSA_2K, P256, P256B, P384, P521, OF_B, ED, KEYS };

static const char *const kinds[KEYS] = { "RSA2048", "P-256", "P-256",  "P-384",
					 "P-521",   "P-256", "ED25519" };
static const char *const kids[KEYS] = { "rsa", "p256", "p256b", "p384", "p521", "b", NULL };

static struct {
	EVP_PKEY *keys[KEYS];
	struct bundle_set *set;
	struct jwt_verifier *v; /* remembers nothing */
	struct arena arena;
} w;

static void add_key(struct bundle *b, const char *kid, EVP_PKEY *key)
{
	struct str spki = forge_spki(key);
	struct err e = { 0 };

	if (!bundle_add_jwt_key(b, str_c(kid), spki, &e))
		fail_msg("%s", e.msg);
	forge_free(spki);
}

/* Bundles of a.example (all keys but OF_B) and b.example; a.example also has an X.509 authority
 * with a key that is not among its JWT keys. */
static struct bundle_set *make_set(uint64_t generation, int without)
{
	struct bundle_set *set = bundle_set_new(generation, NULL);
	struct bundle *a, *b;

	assert_true(bundle_set_add(set, STR("a.example"), 1, 300, &a, NULL));
	assert_true(bundle_set_add(set, STR("b.example"), 1, 300, &b, NULL));
	for (int k = 0; k < KEYS; k++)
		if (kids[k] && k != OF_B && k != without)
			add_key(a, kids[k], w.keys[k]);
	add_key(b, "b", w.keys[OF_B]);
	return set;
}

static int set_up(void **state)
{
	(void)state;
	for (int k = 0; k < KEYS; k++)
		w.keys[k] = forge_key(kinds[k]);
	w.set = make_set(1, -1);
	w.v = jwt_verifier_new(&mem_system, 0, NULL);
	arena_init(&w.arena, &mem_system, 1 << 20);
	return w.v ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	jwt_verifier_free(w.v);
	bundle_set_release(w.set);
	for (int k = 0; k < KEYS; k++)
		EVP_PKEY_free(w.keys[k]);
	arena_clear(&w.arena);
	return 0;
}

static bool verify(struct jwt_verifier *v, struct bundle_set *set, struct str token, int64_t now_s,
		   struct jwt_svid *svid, struct err *e)
{
	arena_reset(&w.arena);
	return jwt_svid_verify(v, set, token, STR("us"), now_s, &w.arena, svid, e);
}

static const struct {
	const char *why, *header, *payload, *alg;
	enum key key;
	const char *says; /* NULL: accepted */
} cases[] = {
	/* accepted: the nine algorithms */
	{ "RS256", HEAD("RS256", "rsa"), GOOD, "RS256", RSA_2K, NULL },
	{ "RS384", HEAD("RS384", "rsa"), GOOD, "RS384", RSA_2K, NULL },
	{ "RS512", HEAD("RS512", "rsa"), GOOD, "RS512", RSA_2K, NULL },
	{ "PS256", HEAD("PS256", "rsa"), GOOD, "PS256", RSA_2K, NULL },
	{ "PS384", HEAD("PS384", "rsa"), GOOD, "PS384", RSA_2K, NULL },
	{ "PS512", HEAD("PS512", "rsa"), GOOD, "PS512", RSA_2K, NULL },
	{ "ES256", HEAD("ES256", "p256"), GOOD, "ES256", P256, NULL },
	{ "ES384", HEAD("ES384", "p384"), GOOD, "ES384", P384, NULL },
	{ "ES512", HEAD("ES512", "p521"), GOOD, "ES512", P521, NULL },
	{ "second key by kid", HEAD("ES256", "p256b"), GOOD, "ES256", P256B, NULL },
	{ "no typ", "{\"alg\":\"ES256\",\"kid\":\"p256\"}", GOOD, "ES256", P256, NULL },
	{ "typ JOSE", "{\"alg\":\"ES256\",\"typ\":\"JOSE\"}", GOOD, "ES256", P256, NULL },
	{ "no kid: the second fitting key", "{\"alg\":\"ES256\"}", GOOD, "ES256", P256B, NULL },
	{ "aud a string", HEAD("ES256", "p256"), "{" SUB "," EXP ",\"aud\":\"us\"}", "ES256", P256,
	  NULL },
	{ "aud among several", HEAD("ES256", "p256"), "{" SUB "," EXP ",\"aud\":[\"x\",\"us\"]}",
	  "ES256", P256, NULL },
	{ "more claims", HEAD("ES256", "p256"),
	  "{" SUB "," AUD "," EXP ",\"iat\":1800000000,\"nbf\":1800000000,\"x\":{\"y\":[1]}}",
	  "ES256", P256, NULL },
	{ "exp as 1.8e9 is the same integer", HEAD("ES256", "p256"),
	  "{" SUB "," AUD ",\"exp\":1.8000003e9}", "ES256", P256, NULL },
	{ "just within leeway", HEAD("ES256", "p256"), "{" SUB "," AUD ",\"exp\":1799999971}",
	  "ES256", P256, NULL },
	{ "nbf within leeway", HEAD("ES256", "p256"),
	  "{" SUB "," AUD "," EXP ",\"nbf\":1800000030}", "ES256", P256, NULL },
	/* algorithms */
	{ "none", HEAD("none", "p256"), GOOD, "none", P256, "alg" },
	{ "ES256 without signature", HEAD("ES256", "p256"), GOOD, "none", P256, "signature" },
	{ "HS256", HEAD("HS256", "p256"), GOOD, "ES256", P256, "alg" },
	{ "HS384", HEAD("HS384", "p256"), GOOD, "ES256", P256, "alg" },
	{ "HS512", HEAD("HS512", "p256"), GOOD, "ES256", P256, "alg" },
	{ "EdDSA", HEAD("EdDSA", "ed"), GOOD, "EdDSA", ED, "alg" },
	{ "ES256K", HEAD("ES256K", "p256"), GOOD, "ES256", P256, "alg" },
	{ "lower case", HEAD("es256", "p256"), GOOD, "ES256", P256, "alg" },
	{ "no alg", "{\"kid\":\"p256\"}", GOOD, "ES256", P256, "alg" },
	{ "alg a number", "{\"alg\":256,\"kid\":\"p256\"}", GOOD, "ES256", P256, "alg" },
	{ "RS256 with an EC kid", HEAD("RS256", "p256"), GOOD, "ES256", P256, "does not fit" },
	{ "ES256 with an RSA kid", HEAD("ES256", "rsa"), GOOD, "RS256", RSA_2K, "does not fit" },
	{ "ES384 with a P-256 key", HEAD("ES384", "p256"), GOOD, "ES384", P256, "does not fit" },
	{ "ES256 with a P-384 key", HEAD("ES256", "p384"), GOOD, "ES256", P384, "does not fit" },
	{ "no falling back to a fitting key", HEAD("ES256", "p384"), GOOD, "ES256", P256,
	  "does not fit" },
	{ "says PS256, signed RS256", HEAD("PS256", "rsa"), GOOD, "RS256", RSA_2K, "signature" },
	{ "says RS256, signed PS256", HEAD("RS256", "rsa"), GOOD, "PS256", RSA_2K, "signature" },
	{ "says RS256, signed RS512", HEAD("RS256", "rsa"), GOOD, "RS512", RSA_2K, "signature" },
	/* header */
	{ "crit", "{\"alg\":\"ES256\",\"kid\":\"p256\",\"crit\":[\"exp\"],\"exp\":1}", GOOD,
	  "ES256", P256, "crit" },
	{ "jku", "{\"alg\":\"ES256\",\"kid\":\"p256\",\"jku\":\"https://x\"}", GOOD, "ES256", P256,
	  "jku" },
	{ "jwk", "{\"alg\":\"ES256\",\"jwk\":{}}", GOOD, "ES256", P256, "jwk" },
	{ "x5c", "{\"alg\":\"ES256\",\"x5c\":[]}", GOOD, "ES256", P256, "x5c" },
	{ "cty", "{\"alg\":\"ES256\",\"cty\":\"JWT\"}", GOOD, "ES256", P256, "cty" },
	{ "b64", "{\"alg\":\"ES256\",\"b64\":false}", GOOD, "ES256", P256, "b64" },
	{ "typ at+jwt", "{\"alg\":\"ES256\",\"kid\":\"p256\",\"typ\":\"at+jwt\"}", GOOD, "ES256",
	  P256, "typ" },
	{ "typ jwt", "{\"alg\":\"ES256\",\"kid\":\"p256\",\"typ\":\"jwt\"}", GOOD, "ES256", P256,
	  "typ" },
	{ "typ empty", "{\"alg\":\"ES256\",\"typ\":\"\"}", GOOD, "ES256", P256, "typ" },
	{ "typ null", "{\"alg\":\"ES256\",\"typ\":null}", GOOD, "ES256", P256, "typ" },
	{ "kid a number", "{\"alg\":\"ES256\",\"kid\":1}", GOOD, "ES256", P256, "kid" },
	{ "kid unknown", HEAD("ES256", "p999"), GOOD, "ES256", P256, "p999" },
	{ "kid empty", HEAD("ES256", ""), GOOD, "ES256", P256, "no JWT key" },
	{ "alg twice", "{\"alg\":\"none\",\"alg\":\"ES256\",\"kid\":\"p256\"}", GOOD, "ES256", P256,
	  "header" },
	{ "header an array", "[\"ES256\"]", GOOD, "ES256", P256, "object" },
	{ "header no JSON", "{alg}", GOOD, "ES256", P256, "header" },
	{ "header with trailing bytes", "{\"alg\":\"ES256\"} x", GOOD, "ES256", P256, "header" },
	/* claims */
	{ "no sub", HEAD("ES256", "p256"), "{" AUD "," EXP "}", "ES256", P256, "sub" },
	{ "sub a number", HEAD("ES256", "p256"), "{\"sub\":7," AUD "," EXP "}", "ES256", P256,
	  "sub" },
	{ "sub no SPIFFE ID", HEAD("ES256", "p256"), "{\"sub\":\"joe\"," AUD "," EXP "}", "ES256",
	  P256, "sub" },
	{ "sub without path", HEAD("ES256", "p256"),
	  "{\"sub\":\"spiffe://a.example\"," AUD "," EXP "}", "ES256", P256, "path" },
	{ "sub with a NUL", HEAD("ES256", "p256"),
	  "{\"sub\":\"spiffe://a.example/x\\u0000\"," AUD "," EXP "}", "ES256", P256, "payload" },
	{ "sub twice", HEAD("ES256", "p256"),
	  "{" SUB ",\"sub\":\"spiffe://a.example/x\"," AUD "," EXP "}", "ES256", P256, "payload" },
	{ "sub twice, one escaped", HEAD("ES256", "p256"),
	  "{" SUB ",\"s\\u0075b\":\"spiffe://a.example/x\"," AUD "," EXP "}", "ES256", P256,
	  "payload" },
	{ "sub of b signed by a", HEAD("ES256", "p256"),
	  "{\"sub\":\"spiffe://b.example/x\"," AUD "," EXP "}", "ES256", P256, "no JWT key" },
	{ "sub of a signed by b", HEAD("ES256", "b"), GOOD, "ES256", OF_B, "no JWT key" },
	{ "sub of a signed by b, no kid", "{\"alg\":\"ES256\"}", GOOD, "ES256", OF_B, "signature" },
	{ "no bundle", HEAD("ES256", "p256"), "{\"sub\":\"spiffe://c.example/x\"," AUD "," EXP "}",
	  "ES256", P256, "no trust bundle" },
	{ "no aud", HEAD("ES256", "p256"), "{" SUB "," EXP "}", "ES256", P256, "aud" },
	{ "aud wrong", HEAD("ES256", "p256"), "{" SUB "," EXP ",\"aud\":[\"them\"]}", "ES256", P256,
	  "others" },
	{ "aud has ours as a prefix", HEAD("ES256", "p256"), "{" SUB "," EXP ",\"aud\":\"us2\"}",
	  "ES256", P256, "others" },
	{ "aud in another case", HEAD("ES256", "p256"), "{" SUB "," EXP ",\"aud\":\"US\"}", "ES256",
	  P256, "others" },
	{ "aud empty string", HEAD("ES256", "p256"), "{" SUB "," EXP ",\"aud\":\"\"}", "ES256",
	  P256, "aud" },
	{ "aud empty array", HEAD("ES256", "p256"), "{" SUB "," EXP ",\"aud\":[]}", "ES256", P256,
	  "aud" },
	{ "aud with a number", HEAD("ES256", "p256"), "{" SUB "," EXP ",\"aud\":[\"us\",1]}",
	  "ES256", P256, "aud" },
	{ "aud an object", HEAD("ES256", "p256"), "{" SUB "," EXP ",\"aud\":{\"us\":1}}", "ES256",
	  P256, "aud" },
	{ "no exp", HEAD("ES256", "p256"), "{" SUB "," AUD "}", "ES256", P256, "exp" },
	{ "exp a string", HEAD("ES256", "p256"), "{" SUB "," AUD ",\"exp\":\"1800000300\"}",
	  "ES256", P256, "exp" },
	{ "exp a fraction", HEAD("ES256", "p256"), "{" SUB "," AUD ",\"exp\":1800000300.5}",
	  "ES256", P256, "exp" },
	{ "exp null", HEAD("ES256", "p256"), "{" SUB "," AUD ",\"exp\":null}", "ES256", P256,
	  "exp" },
	{ "exp huge", HEAD("ES256", "p256"), "{" SUB "," AUD ",\"exp\":1e300}", "ES256", P256,
	  "token" },
	{ "exp negative", HEAD("ES256", "p256"), "{" SUB "," AUD ",\"exp\":-1}", "ES256", P256,
	  "expired" },
	{ "expired by 5 minutes", HEAD("ES256", "p256"), "{" SUB "," AUD ",\"exp\":1799999700}",
	  "ES256", P256, "expired" },
	{ "expired by the leeway", HEAD("ES256", "p256"), "{" SUB "," AUD ",\"exp\":1799999970}",
	  "ES256", P256, "expired" },
	{ "nbf 5 minutes ahead", HEAD("ES256", "p256"),
	  "{" SUB "," AUD "," EXP ",\"nbf\":1800000300}", "ES256", P256, "nbf" },
	{ "nbf a string", HEAD("ES256", "p256"), "{" SUB "," AUD "," EXP ",\"nbf\":\"1\"}", "ES256",
	  P256, "nbf" },
	{ "iat 5 minutes ahead", HEAD("ES256", "p256"),
	  "{" SUB "," AUD "," EXP ",\"iat\":1800000300}", "ES256", P256, "iat" },
	{ "iat an object", HEAD("ES256", "p256"), "{" SUB "," AUD "," EXP ",\"iat\":{}}", "ES256",
	  P256, "iat" },
	{ "payload an array", HEAD("ES256", "p256"), "[" GOOD "]", "ES256", P256, "object" },
	{ "payload no JSON", HEAD("ES256", "p256"), "{" SUB, "ES256", P256, "payload" },
	{ "payload with a BOM", HEAD("ES256", "p256"), "\xef\xbb\xbf" GOOD, "ES256", P256,
	  "payload" },
	{ "payload not UTF-8", HEAD("ES256", "p256"), "{" SUB "," AUD "," EXP ",\"x\":\"\xff\"}",
	  "ES256", P256, "payload" },
	{ "another key of the same kind", HEAD("ES256", "p256"), GOOD, "ES256", P256B,
	  "signature" },
};

static void forge(struct buf *token, size_t i)
{
	buf_init(token, mem_system, 1 << 16);
	forge_jws(token, cases[i].header, cases[i].payload, cases[i].alg, w.keys[cases[i].key]);
}

static void verifies_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct jwt_svid svid = { 0 };
		struct err e = { 0 };
		struct buf token;
		bool ok;

		forge(&token, i);
		ok = verify(w.v, w.set, buf_str(&token), FORGE_NOW, &svid, &e);
		if (ok != !cases[i].says ||
		    (ok && !str_eq(svid.text, STR("spiffe://a.example/agent/7"))) ||
		    (!ok && (e.class != ERR_UNAUTHENTICATED || !strstr(e.msg, cases[i].says) ||
			     strcmp(e.code, "invalid_token") != 0)))
			fail_msg("%s: %s", cases[i].why, ok ? "accepted" : e.msg);
		buf_clear(&token);
	}
}

/* The classic: HMAC with the text of the public key as the secret. */
static void hmac_with_the_public_key_is_refused(void **state)
{
	BIO *bio = BIO_new(BIO_s_mem());
	struct jwt_svid svid;
	struct err e = { 0 };
	char *pem, *text;
	jwt_t *jwt;
	long n;

	(void)state;
	PEM_write_bio_PUBKEY(bio, w.keys[P256]);
	n = BIO_get_mem_data(bio, &pem);
	assert_int_equal(jwt_new(&jwt), 0);
	jwt_add_grants_json(jwt, GOOD);
	jwt_set_alg(jwt, JWT_ALG_HS256, (unsigned char *)pem, (int)n);
	text = jwt_encode_str(jwt);
	assert_false(verify(w.v, w.set, str_c(text), FORGE_NOW, &svid, &e));
	assert_non_null(strstr(e.msg, "alg"));
	free(text);
	jwt_free(jwt);
	BIO_free(bio);
}

/* Shapes around a good token: each change of a byte or part must be refused. */
static void the_text_of_a_token_cannot_be_varied(void **state)
{
	static const struct {
		const char *why, *before, *after;
	} rows[] = {
		{ "newline behind", "", "\n" },	  { "blank in front", " ", "" },
		{ "padding behind", "", "=" },	  { "fourth part", "", ".x" },
		{ "empty fourth part", "", "." }, { "empty part in front", ".", "" },
		{ "Bearer", "Bearer ", "" },	  { "one more character", "", "A" },
	};
	struct buf token, varied;
	struct jwt_svid svid;
	struct str good;

	(void)state;
	buf_init(&token, mem_system, 1 << 16);
	buf_init(&varied, mem_system, 1 << 16);
	forge_jws(&token, HEAD("ES256", "p256"), GOOD, "ES256", w.keys[P256]);
	good = buf_str(&token);
	assert_true(verify(w.v, w.set, good, FORGE_NOW, &svid, NULL));
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		buf_reset(&varied);
		buf_add(&varied, str_c(rows[i].before));
		buf_add(&varied, good);
		buf_add(&varied, str_c(rows[i].after));
		if (verify(w.v, w.set, buf_str(&varied), FORGE_NOW, &svid, NULL))
			fail_msg("%s", rows[i].why);
	}
	/* every byte, each changed in one bit */
	for (size_t i = 0; i < good.n; i++) {
		buf_reset(&varied);
		buf_add(&varied, good);
		varied.p[i] = (char)(varied.p[i] ^ (1 << (i % 7)));
		if (verify(w.v, w.set, buf_str(&varied), FORGE_NOW, &svid, NULL))
			fail_msg("byte %zu changed", i);
	}
	for (size_t i = 0; i < good.n; i++)
		if (verify(w.v, w.set, str_first(good, i), FORGE_NOW, &svid, NULL))
			fail_msg("cut to %zu bytes", i);
	buf_clear(&token);
	buf_clear(&varied);
}

static void other_serializations_are_refused(void **state)
{
	static const char *const texts[] = {
		"",
		".",
		"..",
		"...",
		"{\"payload\":\"e30\",\"protected\":\"e30\",\"signature\":\"e30\"}",
		"{\"payload\":\"e30\",\"signatures\":[]}",
		"e30.e30",
		"e30.e30.e30.e30.e30",
		"e30=.e30.e30",
		"e31.e30.e30",
		"e+0.e30.e30",
	};
	struct jwt_svid svid;
	char *big;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		assert_false(verify(w.v, w.set, str_c(texts[i]), FORGE_NOW, &svid, NULL));
	big = malloc(LIMIT_TOKEN + 1);
	memset(big, 'A', LIMIT_TOKEN + 1);
	big[4] = big[8] = '.';
	assert_false(verify(w.v, w.set, (struct str){ big, LIMIT_TOKEN }, FORGE_NOW, &svid, NULL));
	assert_false(
		verify(w.v, w.set, (struct str){ big, LIMIT_TOKEN + 1 }, FORGE_NOW, &svid, NULL));
	free(big);
}

static void without_an_audience_nothing_is_accepted(void **state)
{
	struct jwt_svid svid;
	struct buf token;

	(void)state;
	buf_init(&token, mem_system, 1 << 16);
	forge_jws(&token, HEAD("ES256", "p256"), "{" SUB "," EXP ",\"aud\":[\"\",\"us\"]}", "ES256",
		  w.keys[P256]);
	assert_false(jwt_svid_verify(w.v, w.set, buf_str(&token), STR(""), FORGE_NOW, &w.arena,
				     &svid, NULL));
	assert_true(verify(w.v, w.set, buf_str(&token), FORGE_NOW, &svid, NULL));
	buf_clear(&token);
}

/* Many keys, no kid: the work is bounded. */
static void keys_tried_without_kid_are_bounded(void **state)
{
	struct bundle_set *set = bundle_set_new(9, NULL);
	struct jwt_svid svid;
	struct bundle *b;
	struct buf token;
	char kid[16];

	(void)state;
	assert_true(bundle_set_add(set, STR("a.example"), 1, 300, &b, NULL));
	for (int i = 0; i < 8; i++) {
		snprintf(kid, sizeof(kid), "k%d", i);
		add_key(b, kid, w.keys[P256B]);
	}
	add_key(b, "last", w.keys[P256]);
	buf_init(&token, mem_system, 1 << 16);
	forge_jws(&token, "{\"alg\":\"ES256\"}", GOOD, "ES256", w.keys[P256]);
	assert_false(verify(w.v, set, buf_str(&token), FORGE_NOW, &svid, NULL));
	buf_reset(&token);
	forge_jws(&token, HEAD("ES256", "last"), GOOD, "ES256", w.keys[P256]);
	assert_true(verify(w.v, set, buf_str(&token), FORGE_NOW, &svid, NULL));
	buf_clear(&token);
	bundle_set_release(set);
}

/* ---- the cache gives the answer that verification would give ---- */

static void the_cache_forgets_in_time(void **state)
{
	struct jwt_verifier *v = jwt_verifier_new(&mem_system, 64, NULL);
	struct bundle_set *next = make_set(2, P256);
	struct jwt_svid svid;
	struct buf token, other;
	struct str text;

	(void)state;
	buf_init(&token, mem_system, 1 << 16);
	buf_init(&other, mem_system, 1 << 16);
	forge_jws(&token, HEAD("ES256", "p256"), "{" SUB "," AUD "," EXP ",\"iat\":1800000000}",
		  "ES256", w.keys[P256]);
	text = buf_str(&token);
	assert_true(verify(v, w.set, text, FORGE_NOW, &svid, NULL));
	assert_non_null(svid.claims);
	assert_true(verify(v, w.set, text, FORGE_NOW, &svid, NULL));
	assert_null(svid.claims);
	assert_true(str_eq(svid.id.path, STR("/agent/7")));
	assert_int_equal(svid.expires_s, FORGE_NOW + 300);
	assert_int_equal(jwt_verifier_counts(v).hits, 1);
	assert_int_equal(jwt_verifier_counts(v).verified, 1);

	/* another audience, another signature over the same: no hit */
	assert_false(
		jwt_svid_verify(v, w.set, text, STR("them"), FORGE_NOW, &w.arena, &svid, NULL));
	buf_add(&other, text);
	other.p[other.n - 3] ^= 1;
	assert_false(verify(v, w.set, buf_str(&other), FORGE_NOW, &svid, NULL));

	/* its end, and a clock that was set back */
	assert_true(verify(v, w.set, text, FORGE_NOW + 329, &svid, NULL));
	assert_false(verify(v, w.set, text, FORGE_NOW + 330, &svid, NULL));
	assert_true(verify(v, w.set, text, FORGE_NOW, &svid, NULL));
	assert_false(verify(v, w.set, text, FORGE_NOW - 31, &svid, NULL));

	/* the key is gone from the next set, and back in the one after */
	assert_true(verify(v, w.set, text, FORGE_NOW, &svid, NULL));
	assert_false(verify(v, next, text, FORGE_NOW, &svid, NULL));
	assert_true(verify(v, w.set, text, FORGE_NOW, &svid, NULL));
	jwt_verifier_free(v);
	bundle_set_release(next);
	buf_clear(&token);
	buf_clear(&other);
}

static size_t blocks;

static void *count(void *ctx, void *p, size_t old, size_t n)
{
	size_t *left = ctx;

	if (n && left && (*left)-- == 0)
		return NULL;
	if (!p && n)
		blocks++;
	if (p && !n)
		blocks--;
	return mem_system.fn(NULL, p, old, n);
}

static void the_cache_is_bounded_and_frees(void **state)
{
	const struct alloc counting = { count, NULL };
	struct jwt_verifier *v = jwt_verifier_new(&counting, 8, NULL);
	struct jwt_svid svid;
	struct buf token;
	char payload[200];

	(void)state;
	buf_init(&token, mem_system, 1 << 16);
	for (int i = 0; i < 40; i++) {
		snprintf(payload, sizeof(payload), "{" SUB "," AUD ",\"exp\":%d}",
			 FORGE_NOW + 1 + i);
		buf_reset(&token);
		forge_jws(&token, HEAD("ES256", "p256"), payload, "ES256", w.keys[P256]);
		assert_true(verify(v, w.set, buf_str(&token), FORGE_NOW, &svid, NULL));
	}
	assert_true(blocks <= 8 + 2); /* eight IDs, the table, the verifier */
	assert_true(verify(v, w.set, buf_str(&token), FORGE_NOW, &svid, NULL));
	assert_int_equal(jwt_verifier_counts(v).hits, 1);
	jwt_verifier_free(v);
	assert_int_equal(blocks, 0);
	buf_clear(&token);
}

/* Without memory a good token is refused or accepted, a bad one never accepted, nothing leaks. */
static void every_allocation_failing_in_turn(void **state)
{
	struct buf good, bad;
	bool done = false;

	(void)state;
	buf_init(&good, mem_system, 1 << 16);
	buf_init(&bad, mem_system, 1 << 16);
	forge_jws(&good, HEAD("ES256", "p256"), GOOD, "ES256", w.keys[P256]);
	forge_jws(&bad, HEAD("ES256", "p256"), GOOD, "ES256", w.keys[P256B]);
	for (size_t n = 0; !done; n++) {
		size_t left = n;
		const struct alloc failing = { count, &left };
		struct jwt_verifier *v = jwt_verifier_new(&failing, 8, NULL);
		struct jwt_svid svid;
		struct arena a;

		arena_init(&a, &failing, 1 << 20);
		if (v) {
			assert_false(jwt_svid_verify(v, w.set, buf_str(&bad), STR("us"), FORGE_NOW,
						     &a, &svid, NULL));
			done = jwt_svid_verify(v, w.set, buf_str(&good), STR("us"), FORGE_NOW, &a,
					       &svid, NULL) &&
			       left > 0 && left < SIZE_MAX / 2;
		}
		arena_clear(&a);
		jwt_verifier_free(v);
		assert_int_equal(blocks, 0);
		assert_true(n < 100);
	}
	buf_clear(&good);
	buf_clear(&bad);
}

/* ---- issuing ---- */

static void issue(struct buf *out, const char *aud1, const char *aud2)
{
	struct jwt_request r = { .spiffe_id = STR("spiffe://a.example/agent/7"),
				 .audience = { str_c(aud1), str_c(aud2) },
				 .naudience = aud2 ? 2 : 1,
				 .issued_s = FORGE_NOW,
				 .expires_s = FORGE_NOW + 300 };
	struct jwt_signer *s = jwt_signer_new(w.keys[P256], STR("p256"), NULL);
	struct err e = { 0 };

	buf_init(out, mem_system, LIMIT_TOKEN);
	if (!jwt_svid_issue(s, &r, out, &e))
		fail_msg("%s", e.msg);
	jwt_signer_free(s);
}

static void libjwt_reads_what_we_write(void **state)
{
	BIO *bio = BIO_new(BIO_s_mem());
	struct jwt_svid svid;
	struct err e = { 0 };
	struct buf token;
	char *pem, *aud;
	jwt_t *jwt;
	long n;

	(void)state;
	PEM_write_bio_PUBKEY(bio, w.keys[P256]);
	n = BIO_get_mem_data(bio, &pem);
	for (int i = 0; i < 50; i++) { /* R or S begins with a zero byte once in 128 */
		issue(&token, "us", "x \"quoted\" \xc3\xa4");
		buf_char(&token, '\0');
		assert_int_equal(jwt_decode(&jwt, token.p, (unsigned char *)pem, (int)n), 0);
		assert_int_equal(jwt_get_alg(jwt), JWT_ALG_ES256);
		assert_string_equal(jwt_get_header(jwt, "kid"), "p256");
		assert_string_equal(jwt_get_header(jwt, "typ"), "JWT");
		assert_string_equal(jwt_get_grant(jwt, "sub"), "spiffe://a.example/agent/7");
		assert_int_equal(jwt_get_grant_int(jwt, "exp"), FORGE_NOW + 300);
		assert_int_equal(jwt_get_grant_int(jwt, "iat"), FORGE_NOW);
		aud = jwt_get_grants_json(jwt, "aud");
		assert_string_equal(aud, "[\"us\",\"x \\\"quoted\\\" \xc3\xa4\"]");
		free(aud);
		jwt_free(jwt);
		token.n--;
		if (!verify(w.v, w.set, buf_str(&token), FORGE_NOW, &svid, &e))
			fail_msg("%s", e.msg);
		assert_int_equal(svid.claims->n, 4); /* aud exp iat sub */
		buf_clear(&token);
	}
	BIO_free(bio);
}

static void we_read_what_libjwt_writes(void **state)
{
	static const struct {
		jwt_alg_t alg;
		enum key key;
	} rows[] = {
		{ JWT_ALG_RS256, RSA_2K }, { JWT_ALG_RS384, RSA_2K }, { JWT_ALG_RS512, RSA_2K },
		{ JWT_ALG_ES256, P256 },   { JWT_ALG_ES384, P384 },   { JWT_ALG_ES512, P521 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		BIO *bio = BIO_new(BIO_s_mem());
		struct jwt_svid svid;
		struct err e = { 0 };
		char *pem, *text;
		jwt_t *jwt;
		long n;

		PEM_write_bio_PrivateKey(bio, w.keys[rows[i].key], NULL, NULL, 0, NULL, NULL);
		n = BIO_get_mem_data(bio, &pem);
		assert_int_equal(jwt_new(&jwt), 0);
		jwt_add_header(jwt, "kid", kids[rows[i].key]);
		jwt_add_grants_json(jwt, GOOD);
		assert_int_equal(jwt_set_alg(jwt, rows[i].alg, (unsigned char *)pem, (int)n), 0);
		text = jwt_encode_str(jwt);
		if (!verify(w.v, w.set, str_c(text), FORGE_NOW, &svid, &e))
			fail_msg("%s: %s", jwt_alg_str(rows[i].alg), e.msg);
		free(text);
		jwt_free(jwt);
		BIO_free(bio);
	}
}

static void bad_requests_are_not_issued(void **state)
{
	const struct jwt_request good = { .spiffe_id = STR("spiffe://a.example/x"),
					  .audience = { STR("us") },
					  .naudience = 1,
					  .issued_s = FORGE_NOW,
					  .expires_s = FORGE_NOW + 300 };
	struct jwt_request bad[9];
	struct jwt_signer *s = jwt_signer_new(w.keys[P256], STR("p256"), NULL);
	char *big = malloc(LIMIT_TOKEN);
	struct buf out;

	(void)state;
	memset(big, 'a', LIMIT_TOKEN);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		bad[i] = good;
	bad[0].spiffe_id = STR("spiffe://a.example");
	bad[1].spiffe_id = STR("joe");
	bad[2].naudience = 0;
	bad[3].audience[0] = STR("");
	bad[4].audience[0] = STR("a\nb");
	bad[5].audience[0] = STR("\xff");
	bad[6].audience[0] = (struct str){ big, JWT_AUDIENCE_MAX + 1 };
	bad[7].expires_s = FORGE_NOW;
	bad[8].naudience = 4;
	for (int i = 0; i < 4; i++)
		bad[8].audience[i] = (struct str){ big, JWT_AUDIENCE_MAX }; /* together too long */
	buf_init(&out, mem_system, 1 << 16);
	assert_true(jwt_svid_issue(s, &good, &out, NULL));
	buf_reset(&out);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (jwt_svid_issue(s, &bad[i], &out, NULL))
			fail_msg("row %zu", i);
		assert_int_equal(out.n, 0);
	}
	buf_clear(&out);
	jwt_signer_free(s);
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verifies_the_table),
		cmocka_unit_test(hmac_with_the_public_key_is_refused),
		cmocka_unit_test(the_text_of_a_token_cannot_be_varied),
		cmocka_unit_test(other_serializations_are_refused),
		cmocka_unit_test(without_an_audience_nothing_is_accepted),
		cmocka_unit_test(keys_tried_without_kid_are_bounded),
		cmocka_unit_test(the_cache_forgets_in_time),
		cmocka_unit_test(the_cache_is_bounded_and_frees),
		cmocka_unit_test(every_allocation_failing_in_turn),
		cmocka_unit_test(libjwt_reads_what_we_write),
		cmocka_unit_test(we_read_what_libjwt_writes),
		cmocka_unit_test(bad_requests_are_not_issued),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
