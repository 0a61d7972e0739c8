/* spiffe/crypto and spiffe/bundle: what strangers send as keys; the documents we publish. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <jansson.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "authz/base/text.h"
#include "spiffe/bundle.h"
#include "spiffe/crypto.h"
#include "tests/spiffe/forge.h"

/* ---- CSRs and public keys ---- */

enum spoil { FINE, BAD_SIGNATURE, OTHER_KEY, EXPLICIT_CURVE, TRAILING, WANTS_EVERYTHING };

static const struct {
	const char *why, *kind;
	enum spoil spoil;
	const char *says; /* NULL: accepted */
} csrs[] = {
	{ "P-256", "P-256", FINE, NULL },
	{ "P-384", "P-384", FINE, NULL },
	{ "RSA 2048", "RSA2048", FINE, NULL },
	{ "asks for a CA, names, another ID: only its key is taken", "P-256", WANTS_EVERYTHING,
	  NULL },
	{ "RSA 1024", "RSA1024", FINE, "1024 bits" },
	{ "P-521", "P-521", FINE, "P-256 or P-384" },
	{ "secp256k1", "secp256k1", FINE, "P-256 or P-384" },
	{ "Ed25519", "ED25519", FINE, "only EC" },
	{ "explicit parameters", "P-256", EXPLICIT_CURVE, "name their curve" },
	{ "signature changed", "P-256", BAD_SIGNATURE, "signature" },
	{ "signed by another key", "P-256", OTHER_KEY, "signature" },
	{ "bytes behind", "P-256", TRAILING, "follow" },
};

static void ask_for_everything(X509_REQ *req)
{
	STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();

	sk_X509_EXTENSION_push(exts, X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints,
							 "critical,CA:TRUE"));
	sk_X509_EXTENSION_push(exts, X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name,
							 "URI:spiffe://a.example/admin,DNS:evil"));
	X509_REQ_add_extensions(req, exts);
	sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
	X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(req), "CN", MBSTRING_ASC,
				   (const unsigned char *)"root", -1, -1, 0);
}

static void make_csr(const char *kind, enum spoil spoil, EVP_PKEY **key, struct buf *der)
{
	EVP_PKEY *other = forge_key("P-256"), *signer;
	X509_REQ *req = X509_REQ_new();
	unsigned char *p = NULL;
	int n;

	*key = forge_key(kind);
	signer = spoil == OTHER_KEY ? other : *key;
	if (spoil == EXPLICIT_CURVE)
		EVP_PKEY_set_utf8_string_param(*key, "encoding", "explicit");
	X509_REQ_set_version(req, 0);
	X509_REQ_set_pubkey(req, *key);
	if (spoil == WANTS_EVERYTHING)
		ask_for_everything(req);
	if (EVP_PKEY_is_a(signer, "ED25519"))
		assert_true(X509_REQ_sign(req, signer, NULL) > 0);
	else
		assert_true(X509_REQ_sign(req, signer, EVP_sha256()) > 0);
	n = i2d_X509_REQ(req, &p);
	buf_init(der, mem_system, 1 << 16);
	buf_add(der, (struct str){ (char *)p, (size_t)n });
	if (spoil == BAD_SIGNATURE)
		der->p[der->n - 1] ^= 1;
	if (spoil == TRAILING)
		buf_char(der, 0);
	OPENSSL_free(p);
	X509_REQ_free(req);
	EVP_PKEY_free(other);
}

static void takes_only_the_key_of_a_csr(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(csrs); i++) {
		struct buf der, pem, spki;
		struct err e = { 0 };
		EVP_PKEY *key;
		struct str want;
		bool ok;

		make_csr(csrs[i].kind, csrs[i].spoil, &key, &der);
		want = forge_spki(key);
		buf_init(&pem, mem_system, 1 << 16);
		buf_init(&spki, mem_system, 1 << 16);
		crypto_pem(&pem, "CERTIFICATE REQUEST", buf_str(&der));
		ok = crypto_spki_of_request(buf_str(&pem), &spki, &e);
		if (ok != !csrs[i].says || (ok && !str_eq(buf_str(&spki), want)) ||
		    (!ok && (e.class != ERR_INVALID || !strstr(e.msg, csrs[i].says))))
			fail_msg("%s: %s", csrs[i].why, e.msg);
		forge_free(want);
		buf_clear(&der);
		buf_clear(&pem);
		buf_clear(&spki);
		EVP_PKEY_free(key);
	}
}

static void bare_public_keys(void **state)
{
	static const struct {
		const char *kind;
		bool ok;
	} rows[] = { { "P-256", true },	   { "P-384", true },  { "RSA2048", true },
		     { "RSA1024", false }, { "P-521", false }, { "ED25519", false } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		EVP_PKEY *key = forge_key(rows[i].kind), *back = NULL;
		BIO *bio = BIO_new(BIO_s_mem());
		struct err e = { 0 };
		struct buf spki;
		char *pem;
		long n;

		PEM_write_bio_PUBKEY(bio, key);
		n = BIO_get_mem_data(bio, &pem);
		buf_init(&spki, mem_system, 1 << 16);
		if (crypto_spki_of_request((struct str){ pem, (size_t)n }, &spki, &e) != rows[i].ok)
			fail_msg("%s: %s", rows[i].kind, e.msg);
		if (rows[i].ok) {
			assert_true(crypto_key_of_spki(buf_str(&spki), &back, &e));
			assert_int_equal(EVP_PKEY_eq(key, back), 1);
			buf_char(&spki, 0);
			assert_false(crypto_key_of_spki(buf_str(&spki), &back, &e));
		}
		EVP_PKEY_free(back);
		EVP_PKEY_free(key);
		BIO_free(bio);
		buf_clear(&spki);
	}
}

/* A point that is not on the curve would leak a private key somewhere else. */
static void points_off_the_curve_are_refused(void **state)
{
	static const char *const kinds[] = { "P-256", "P-384" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		EVP_PKEY *key = forge_key(kinds[i]), *back = NULL;
		struct str spki = forge_spki(key);
		char copy[256];

		memcpy(copy, spki.p, spki.n);
		assert_true(crypto_key_of_spki((struct str){ copy, spki.n }, &back, NULL));
		EVP_PKEY_free(back);
		copy[spki.n - 1] ^= 1;
		assert_false(crypto_key_of_spki((struct str){ copy, spki.n }, &back, NULL));
		memset(copy + spki.n - 64, 0, 64);
		assert_false(crypto_key_of_spki((struct str){ copy, spki.n }, &back, NULL));
		forge_free(spki);
		EVP_PKEY_free(key);
	}
}

static void what_is_no_pem_is_refused(void **state)
{
	static const char *const texts[] = {
		"",
		"x",
		"-----BEGIN PUBLIC KEY-----",
		"-----BEGIN PUBLIC KEY----------END PUBLIC KEY-----",
		"-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----",
		"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
		"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
		"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----",
		"-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END PUBLIC KEY-----",
		"junk\n-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
	};
	char *big = malloc(CRYPTO_REQUEST_MAX + 1);
	struct buf spki;
	struct err e;

	(void)state;
	buf_init(&spki, mem_system, 1 << 16);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (crypto_spki_of_request(str_c(texts[i]), &spki, &e) || spki.n)
			fail_msg("%s", texts[i]);
	memset(big, ' ', CRYPTO_REQUEST_MAX + 1);
	assert_false(
		crypto_spki_of_request((struct str){ big, CRYPTO_REQUEST_MAX + 1 }, &spki, &e));
	assert_int_equal(e.class, ERR_TOO_LARGE);
	free(big);
	buf_clear(&spki);
}

static void private_keys_go_out_as_pkcs8(void **state)
{
	EVP_PKEY *key = NULL, *back;
	const unsigned char *p;
	struct buf der;

	(void)state;
	assert_true(crypto_generate(&key, NULL));
	buf_init(&der, mem_system, 4096);
	assert_true(crypto_pkcs8(key, &der, NULL));
	assert_int_equal(der.n, 138); /* the sheet, section 17 */
	p = (unsigned char *)der.p;
	back = d2i_AutoPrivateKey(NULL, &p, (long)der.n);
	assert_int_equal(EVP_PKEY_eq(key, back), 1);
	EVP_PKEY_free(back);
	EVP_PKEY_free(key);
	buf_clear(&der);
}

static void fingerprints(void **state)
{
	char text[CRYPTO_FINGERPRINT_MAX];

	(void)state;
	crypto_fingerprint(STR("abc"), text);
	assert_string_equal(text,
			    "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f2001"
			    "5ad");
}

/* ---- bundles ---- */

static struct {
	struct bundle_set *set;
	struct bundle *b;
	EVP_PKEY *ca_key[2], *jwt_key[3];
	X509 *ca[2];
} w;

static const char *const jwt_kinds[] = { "P-256", "P-521", "RSA2048" };

static int set_up(void **state)
{
	static const char *const ca_kinds[] = { "P-384", "RSA2048" };

	(void)state;
	w.set = bundle_set_new(7, NULL);
	assert_true(bundle_set_add(w.set, STR("a.example"), 12, 300, &w.b, NULL));
	for (int i = 0; i < 2; i++) {
		struct str der;

		w.ca_key[i] = forge_key(ca_kinds[i]);
		w.ca[i] = forge_authority("a.example", w.ca_key[i]);
		der = forge_der(w.ca[i]);
		assert_true(bundle_add_authority(w.b, der, NULL));
		forge_free(der);
	}
	for (size_t i = 0; i < ARRAY_LEN(jwt_kinds); i++) {
		struct str spki;

		w.jwt_key[i] = forge_key(jwt_kinds[i]);
		spki = forge_spki(w.jwt_key[i]);
		assert_true(bundle_add_jwt_key(w.b, str_c(jwt_kinds[i]), spki, NULL));
		forge_free(spki);
	}
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	bundle_set_release(w.set);
	for (int i = 0; i < 2; i++) {
		X509_free(w.ca[i]);
		EVP_PKEY_free(w.ca_key[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(jwt_kinds); i++)
		EVP_PKEY_free(w.jwt_key[i]);
	return 0;
}

static json_t *parse(const struct buf *text)
{
	json_error_t error;
	json_t *j = json_loadb(text->p, text->n, JSON_REJECT_DUPLICATES, &error);

	if (!buf_ok(text) || !j)
		fail_msg("%s", j ? "buf failed" : error.text);
	return j;
}

static const char *member(const json_t *j, const char *name)
{
	return json_string_value(json_object_get(j, name));
}

/* The number in a JWK is the key's, in as many bytes as the standard wants. */
static void number_is(const json_t *jwk, const char *name, const EVP_PKEY *key, const char *param,
		      int width)
{
	uint8_t bytes[1024], want[1024];
	struct str text = str_c(member(jwk, name));
	BIGNUM *bn = NULL;
	size_t n;

	assert_true(text_unbase64(text, BASE64_URL, bytes, &n));
	assert_int_equal(EVP_PKEY_get_bn_param(key, param, &bn), 1);
	assert_int_equal(n, width ? width : BN_num_bytes(bn));
	BN_bn2binpad(bn, want, (int)n);
	assert_memory_equal(bytes, want, n);
	BN_free(bn);
}

static void material_is(const json_t *jwk, const EVP_PKEY *key)
{
	int width = (EVP_PKEY_get_bits(key) + 7) / 8;

	if (EVP_PKEY_is_a(key, "RSA")) {
		assert_string_equal(member(jwk, "kty"), "RSA");
		assert_string_equal(member(jwk, "e"), "AQAB");
		number_is(jwk, "n", key, "n", 0);
		return;
	}
	assert_string_equal(member(jwk, "kty"), "EC");
	assert_string_equal(member(jwk, "crv"), width == 32   ? "P-256"
						: width == 48 ? "P-384"
							      : "P-521");
	number_is(jwk, "x", key, "qx", width);
	number_is(jwk, "y", key, "qy", width);
}

static void the_bundle_document(void **state)
{
	struct buf text, der;
	json_t *doc, *keys;

	(void)state;
	buf_init(&text, mem_system, 1 << 16);
	buf_init(&der, mem_system, 1 << 16);
	bundle_json(w.b, &text);
	doc = parse(&text);
	keys = json_object_get(doc, "keys");
	assert_int_equal(json_object_size(doc), 3);
	assert_int_equal(json_integer_value(json_object_get(doc, "spiffe_sequence")), 12);
	assert_int_equal(json_integer_value(json_object_get(doc, "spiffe_refresh_hint")), 300);
	assert_int_equal(json_array_size(keys), 5);
	for (size_t i = 0; i < 2; i++) {
		json_t *jwk = json_array_get(keys, i), *x5c = json_object_get(jwk, "x5c");
		struct str want = forge_der(w.ca[i]);

		assert_string_equal(member(jwk, "use"), "x509-svid");
		assert_null(json_object_get(jwk, "kid"));
		assert_null(json_object_get(jwk, "alg"));
		assert_int_equal(json_array_size(x5c), 1);
		buf_reset(&der);
		text_base64(&der, BASE64_STD, want.p, want.n);
		assert_true(
			str_eq(buf_str(&der), str_c(json_string_value(json_array_get(x5c, 0)))));
		material_is(jwk, w.ca_key[i]);
		forge_free(want);
	}
	for (size_t i = 0; i < 3; i++) {
		json_t *jwk = json_array_get(keys, 2 + i);

		assert_string_equal(member(jwk, "use"), "jwt-svid");
		assert_string_equal(member(jwk, "kid"), jwt_kinds[i]);
		assert_null(json_object_get(jwk, "x5c"));
		assert_null(json_object_get(jwk, "alg"));
		material_is(jwk, w.jwt_key[i]);
	}
	json_decref(doc);
	buf_clear(&text);
	buf_clear(&der);
}

static void key_sets_hold_jwt_keys_only(void **state)
{
	static const char *const algs[] = { "ES256", "ES512", "RS256" };
	struct bundle *empty;
	struct buf text;
	json_t *doc;

	(void)state;
	buf_init(&text, mem_system, 1 << 16);
	bundle_jwks(w.b, BUNDLE_JWKS_OIDC, &text);
	doc = parse(&text);
	assert_int_equal(json_object_size(doc), 1);
	assert_int_equal(json_array_size(json_object_get(doc, "keys")), 3);
	for (size_t i = 0; i < 3; i++) {
		json_t *jwk = json_array_get(json_object_get(doc, "keys"), i);

		assert_string_equal(member(jwk, "use"), "sig");
		assert_string_equal(member(jwk, "alg"), algs[i]);
		assert_string_equal(member(jwk, "kid"), jwt_kinds[i]);
		material_is(jwk, w.jwt_key[i]);
	}
	json_decref(doc);
	buf_reset(&text);
	bundle_jwks(w.b, BUNDLE_JWKS_WORKLOAD, &text);
	doc = parse(&text);
	assert_string_equal(member(json_array_get(json_object_get(doc, "keys"), 0), "use"),
			    "jwt-svid");
	json_decref(doc);
	buf_reset(&text);
	assert_true(bundle_set_add(w.set, STR("empty.example"), 0, 300, &empty, NULL));
	bundle_jwks(empty, BUNDLE_JWKS_WORKLOAD, &text);
	assert_true(str_eq(buf_str(&text), STR("{\"keys\":[]}")));
	buf_clear(&text);
}

static void roots_in_pem_and_der(void **state)
{
	struct buf text;
	BIO *bio;
	const unsigned char *p;

	(void)state;
	buf_init(&text, mem_system, 1 << 16);
	bundle_pem(w.b, &text);
	bio = BIO_new_mem_buf(text.p, (int)text.n);
	for (int i = 0; i < 2; i++) {
		X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);

		assert_int_equal(X509_cmp(cert, w.ca[i]), 0);
		X509_free(cert);
	}
	BIO_free(bio);
	buf_reset(&text);
	bundle_der(w.b, &text);
	p = (unsigned char *)text.p;
	for (int i = 0; i < 2; i++) {
		X509 *cert = d2i_X509(NULL, &p, (long)(text.p + text.n - (const char *)p));

		assert_int_equal(X509_cmp(cert, w.ca[i]), 0);
		X509_free(cert);
	}
	assert_ptr_equal(p, text.p + text.n);
	buf_clear(&text);
}

static void what_does_not_belong_in_a_bundle(void **state)
{
	struct forge leaf = { .san = "URI:spiffe://a.example/x",
			      .constraints = "critical,CA:FALSE",
			      .usage = "critical,digitalSignature" };
	struct forge no_usage = { .constraints = "critical,CA:TRUE", .subject = "x" };
	X509 *certs[3] = { forge_cert(&leaf), forge_cert(&no_usage), w.ca[0] };
	EVP_PKEY *keys[2] = { forge_key("ED25519"), forge_key("RSA1024") };
	struct str good = forge_spki(w.jwt_key[0]);
	struct bundle *b;
	struct err e;

	(void)state;
	for (int i = 0; i < 3; i++) { /* a leaf; no keyCertSign; there already */
		struct str der = forge_der(certs[i]);

		assert_false(bundle_add_authority(w.b, der, &e));
		forge_free(der);
	}
	for (int i = 0; i < 2; i++) {
		struct str spki = forge_spki(keys[i]);

		assert_false(bundle_add_jwt_key(w.b, STR("new"), spki, &e));
		forge_free(spki);
		EVP_PKEY_free(keys[i]);
	}
	assert_false(bundle_add_authority(w.b, STR("x"), &e));
	assert_false(bundle_add_jwt_key(w.b, STR(""), good, &e));
	assert_false(bundle_add_jwt_key(w.b, STR("P-256"), good, &e));
	assert_non_null(strstr(e.msg, "twice"));
	assert_false(bundle_set_add(w.set, STR("a.example"), 1, 1, &b, &e));
	assert_int_equal(w.b->nauthorities, 2);
	assert_int_equal(w.b->njwt_keys, 3);
	assert_ptr_equal(bundle_find(w.set, STR("a.example")), w.b);
	assert_null(bundle_find(w.set, STR("a.exampl")));
	assert_null(bundle_find(NULL, STR("a.example")));
	forge_free(good);
	X509_free(certs[0]);
	X509_free(certs[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_only_the_key_of_a_csr),
		cmocka_unit_test(bare_public_keys),
		cmocka_unit_test(points_off_the_curve_are_refused),
		cmocka_unit_test(what_is_no_pem_is_refused),
		cmocka_unit_test(private_keys_go_out_as_pkcs8),
		cmocka_unit_test(fingerprints),
		cmocka_unit_test(the_bundle_document),
		cmocka_unit_test(key_sets_hold_jwt_keys_only),
		cmocka_unit_test(roots_in_pem_and_der),
		cmocka_unit_test(what_does_not_belong_in_a_bundle),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
