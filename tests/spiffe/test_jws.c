/* Tokens of configured issuers, and the sets their keys come in; forged by code we do not share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <openssl/core_names.h>
#include <stdio.h>

#include "authz/base/text.h"
#include "spiffe/jws.h"
#include "tests/spiffe/forge.h"

static void number(struct buf *out, const char *name, EVP_PKEY *key, const char *param, int width)
{
	unsigned char room[1024];
	BIGNUM *n = NULL;

	assert_int_equal(EVP_PKEY_get_bn_param(key, param, &n), 1);
	if (!width)
		width = BN_num_bytes(n);
	assert_int_equal(BN_bn2binpad(n, room, width), width);
	BN_free(n);
	buf_printf(out, ",\"%s\":\"", name);
	text_base64(out, BASE64_URL, room, (size_t)width);
	buf_char(out, '"');
}

/* {"kty":...} of @key with @more behind. */
static void put_jwk(struct buf *out, EVP_PKEY *key, const char *more)
{
	unsigned char raw[32];
	size_t n = sizeof(raw);

	if (EVP_PKEY_is_a(key, "RSA")) {
		buf_lit(out, "{\"kty\":\"RSA\"");
		number(out, "n", key, OSSL_PKEY_PARAM_RSA_N, 0);
		number(out, "e", key, OSSL_PKEY_PARAM_RSA_E, 0);
	} else if (EVP_PKEY_is_a(key, "ED25519")) {
		assert_int_equal(EVP_PKEY_get_raw_public_key(key, raw, &n), 1);
		buf_lit(out, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"");
		text_base64(out, BASE64_URL, raw, n);
		buf_char(out, '"');
	} else {
		int bits = EVP_PKEY_get_bits(key);

		buf_printf(out, "{\"kty\":\"EC\",\"crv\":\"P-%d\"", bits);
		number(out, "x", key, OSSL_PKEY_PARAM_EC_PUB_X, (bits + 7) / 8);
		number(out, "y", key, OSSL_PKEY_PARAM_EC_PUB_Y, (bits + 7) / 8);
	}
	buf_printf(out, "%s}", more);
}

static const struct {
	const char *why, *key, *jwk, *header, *alg, *says; /* no says: holds */
} tokens[] = {
	{ "RS256", "RSA2048", ",\"kid\":\"k\"", "{\"alg\":\"RS256\",\"kid\":\"k\"}", "RS256",
	  NULL },
	{ "RS512 by its key", "RSA2048", ",\"kid\":\"k\",\"alg\":\"RS512\"",
	  "{\"alg\":\"RS512\",\"kid\":\"k\"}", "RS512", NULL },
	{ "PS256 by its key", "RSA2048", ",\"kid\":\"k\",\"alg\":\"PS256\"",
	  "{\"alg\":\"PS256\",\"kid\":\"k\"}", "PS256", NULL },
	{ "ES256", "P-256", ",\"kid\":\"k\"", "{\"alg\":\"ES256\",\"kid\":\"k\"}", "ES256", NULL },
	{ "ES384", "P-384", ",\"kid\":\"k\"", "{\"alg\":\"ES384\",\"kid\":\"k\"}", "ES384", NULL },
	{ "ES512", "P-521", ",\"kid\":\"k\"", "{\"alg\":\"ES512\",\"kid\":\"k\"}", "ES512", NULL },
	{ "other members", "P-256", ",\"kid\":\"k\"",
	  "{\"alg\":\"ES256\",\"kid\":\"k\",\"typ\":\"JWT\",\"x5t\":\"a\"}", "ES256", NULL },
	{ "the only key", "P-256", "", "{\"alg\":\"ES256\"}", "ES256", NULL },
	{ "RS512 of a key for RS256", "RSA2048", ",\"kid\":\"k\"",
	  "{\"alg\":\"RS512\",\"kid\":\"k\"}", "RS512", "its key is for RS256" },
	{ "PS256 of a key for RS256", "RSA2048", ",\"kid\":\"k\"",
	  "{\"alg\":\"PS256\",\"kid\":\"k\"}", "PS256", "its key is for RS256" },
	{ "signed otherwise than said", "RSA2048", ",\"kid\":\"k\"",
	  "{\"alg\":\"RS256\",\"kid\":\"k\"}", "PS256", "does not hold" },
	{ "another kid", "P-256", ",\"kid\":\"k\"", "{\"alg\":\"ES256\",\"kid\":\"l\"}", "ES256",
	  "no key \"l\"" },
	{ "a kid like a path", "P-256", ",\"kid\":\"k\"", "{\"alg\":\"ES256\",\"kid\":\"../../k\"}",
	  "ES256", "no key" },
	{ "none", "P-256", ",\"kid\":\"k\"", "{\"alg\":\"none\",\"kid\":\"k\"}", "none", "" },
	{ "crit", "P-256", "", "{\"alg\":\"ES256\",\"crit\":[\"x\"]}", "ES256", "\"crit\"" },
	{ "x5c", "P-256", "", "{\"alg\":\"ES256\",\"x5c\":[\"x\"]}", "ES256", "\"x5c\"" },
	{ "alg twice", "P-256", "", "{\"alg\":\"ES256\",\"alg\":\"none\"}", "ES256", "header" },
	{ "no alg", "P-256", "", "{\"kid\":\"k\"}", "ES256", "alg is missing" },
	{ "kid is a number", "P-256", "", "{\"alg\":\"ES256\",\"kid\":1}", "ES256", "kid" },
};

static void verifies_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
		EVP_PKEY *key = forge_key(tokens[i].key);
		AUTO_BUF set = { 0 };
		AUTO_BUF token = { 0 };
		struct jwks *keys = NULL;
		struct arena arena;
		struct err e = { 0 };
		struct jws j;
		bool ok;

		buf_init(&set, mem_system, 65536);
		buf_init(&token, mem_system, 65536);
		arena_init(&arena, &mem_system, 1 << 20);
		buf_lit(&set, "{\"keys\":[");
		put_jwk(&set, key, tokens[i].jwk);
		buf_lit(&set, "]}");
		if (!jwks_read(buf_str(&set), &keys, &e))
			fail_msg("%s: %s", tokens[i].why, e.msg);
		forge_jws(&token, tokens[i].header, "{\"a\":1}", tokens[i].alg, key);
		ok = jws_read(buf_str(&token), &arena, &j, &e) && jws_verify(&j, keys, &e);
		if (ok != !tokens[i].says || (!ok && !strstr(e.msg, tokens[i].says)))
			fail_msg("%s: %s", tokens[i].why, ok ? "taken" : e.msg);
		if (!ok) {
			assert_int_equal(e.class, ERR_UNAUTHENTICATED);
		} else { /* and not with any one byte of it changed */
			for (size_t k = 0; k < token.n; k += 7) {
				char was = token.p[k];

				token.p[k] = was == 'A' ? 'B' : 'A';
				assert_false(jws_read(buf_str(&token), &arena, &j, &e) &&
					     jws_verify(&j, keys, &e));
				token.p[k] = was;
				arena_reset(&arena);
			}
		}
		jwks_free(keys);
		arena_clear(&arena);
		EVP_PKEY_free(key);
	}
}

#define X "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
#define Y "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
#define GOOD "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" X "\",\"y\":\"" Y "\",\"kid\":\"1\"}"

static const struct {
	const char *why, *text;
	size_t n; /* 0: refused */
} sets[] = {
	{ "RFC 7515 A.3's key", "{\"keys\":[" GOOD "]}", 1 },
	{ "unknown members", "{\"keys\":[" GOOD "],\"spiffe_sequence\":1}", 1 },
	{ "kinds we do not know",
	  "{\"keys\":[{\"kty\":\"x\"},{},{\"kty\":\"oct\",\"k\":\"A\"}," GOOD "]}", 1 },
	{ "for encryption",
	  "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"use\":\"enc\"}," GOOD "]}", 1 },
	{ "of an algorithm that signs nothing",
	  "{\"keys\":[{\"kty\":\"RSA\",\"alg\":\"RSA-OAEP\"}," GOOD "]}", 1 },
	{ "equal key ids", "{\"keys\":[" GOOD "," GOOD "]}", 0 },
	{ "no keys", "{\"keys\":[]}", 0 },
	{ "none that verifies", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}", 0 },
	{ "no array", "{\"keys\":{}}", 0 },
	{ "no object", "[]", 0 },
	{ "no JSON", "{\"keys\":[", 0 },
	{ "member twice", "{\"keys\":[],\"keys\":[" GOOD "]}", 0 },
	{ "key is a string", "{\"keys\":[\"x\"," GOOD "]}", 0 },
	{ "not on the curve",
	  "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" X "\",\"y\":\"" X "\"}]}", 0 },
	{ "short coordinate",
	  "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAA\",\"y\":\"" Y "\"}]}", 0 },
	{ "coordinates of another curve",
	  "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-384\",\"x\":\"" X "\",\"y\":\"" Y "\"}]}", 0 },
	{ "padding",
	  "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" X "=\",\"y\":\"" Y "\"}]}", 0 },
	{ "RSA of 8 bits", "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"_w\",\"e\":\"AQAB\"}]}", 0 },
	{ "RSA without exponent", "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"_w\"}]}", 0 },
	{ "private", "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"d\":\"AA\"}," GOOD "]}", 0 },
	{ "key id is a number", "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":1}]}", 0 },
};

static void reads_the_sets(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
		struct jwks *keys = NULL;
		struct err e = { 0 };
		bool ok = jwks_read(str_c(sets[i].text), &keys, &e);

		if (ok != (sets[i].n > 0) || (ok && jwks_count(keys) != sets[i].n))
			fail_msg("%s: %s", sets[i].why, ok ? "taken" : e.msg);
		jwks_free(keys);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verifies_the_table),
		cmocka_unit_test(reads_the_sets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
