/* spiffe/x509_leaf: what is written by hand is, byte for byte, what OpenSSL builds of the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <openssl/x509v3.h>

#include "spiffe/crypto.h"
#include "spiffe/x509_svid.h"
#include "tests/spiffe/forge.h"

static void extension(X509 *cert, X509 *ca, int nid, const char *text)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;

	X509V3_set_ctx(&ctx, ca, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, text);
	assert_non_null(ext);
	assert_int_equal(X509_add_ext(cert, ext, -1), 1);
	X509_EXTENSION_free(ext);
}

/* By the authority's own key identifier; one of others may have none: then as RFC 5280 4.2.1.2
 * makes one. */
static void authority_key(X509 *cert, X509 *ca)
{
	AUTHORITY_KEYID *id = AUTHORITY_KEYID_new();
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	id->keyid = X509_get_ext_d2i(ca, NID_subject_key_identifier, NULL, NULL);
	if (!id->keyid) {
		assert_int_equal(X509_pubkey_digest(ca, EVP_sha1(), hash, &n), 1);
		id->keyid = ASN1_OCTET_STRING_new();
		assert_int_equal(ASN1_OCTET_STRING_set(id->keyid, hash, (int)n), 1);
	}
	assert_int_equal(X509_add1_ext_i2d(cert, NID_authority_key_identifier, id, 0,
					   X509V3_ADD_APPEND),
			 1);
	AUTHORITY_KEYID_free(id);
}

static X509 *our_authority(EVP_PKEY *key)
{
	struct buf der;
	struct err e = { 0 };
	X509 *ca = NULL;

	buf_init(&der, mem_system, 8192);
	if (!x509_authority_issue(key, STR("a.example"), 1600000000, 5000000000, &der, &e) ||
	    !crypto_certificate(buf_str(&der), &ca, &e))
		fail_msg("%s", e.msg);
	buf_clear(&der);
	return ca;
}

/* The same certificate, from OpenSSL's structures; only the serial number is taken from @ours. */
static X509 *by_openssl(X509 *ours, X509 *ca, EVP_PKEY *ca_key, const struct x509_request *r,
			EVP_PKEY *key, const char *names)
{
	X509 *cert = X509_new();

	assert_true(cert && X509_set_version(cert, X509_VERSION_3) &&
		    X509_set_serialNumber(cert, X509_get_serialNumber(ours)) &&
		    X509_set_issuer_name(cert, X509_get_subject_name(ca)) &&
		    ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)r->not_before_s) &&
		    ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)r->not_after_s) &&
		    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "O", MBSTRING_UTF8,
					       (const unsigned char *)"writ", -1, -1, 0) &&
		    X509_set_pubkey(cert, key));
	extension(cert, ca, NID_basic_constraints, "critical,CA:FALSE");
	extension(cert, ca, NID_key_usage, "critical,digitalSignature");
	extension(cert, ca, NID_ext_key_usage, "serverAuth,clientAuth");
	extension(cert, ca, NID_subject_key_identifier, "hash");
	authority_key(cert, ca);
	extension(cert, ca, NID_subject_alt_name, names);
	assert_true(X509_sign(cert, ca_key,
			      EVP_PKEY_get_bits(ca_key) == 384 ? EVP_sha384() : EVP_sha256()) > 0);
	return cert;
}

static void same(X509 *ca, EVP_PKEY *ca_key, const struct x509_request *r, EVP_PKEY *key,
		 const char *names)
{
	struct buf der;
	struct err e = { 0 };
	X509 *ours = NULL, *theirs;
	unsigned char *a = NULL, *b = NULL;
	const X509_ALGOR *inner, *outer;
	int n, m;

	buf_init(&der, mem_system, 65536);
	if (!x509_svid_issue(ca, ca_key, r, &der, &e) ||
	    !crypto_certificate(buf_str(&der), &ours, &e))
		fail_msg("%s: %s", names, e.msg);
	assert_int_equal(X509_verify(ours, ca_key), 1);
	theirs = by_openssl(ours, ca, ca_key, r, key, names);
	n = i2d_re_X509_tbs(ours, &a);
	m = i2d_re_X509_tbs(theirs, &b);
	assert_int_equal(n, m);
	assert_memory_equal(a, b, (size_t)n);
	X509_get0_signature(NULL, &outer, ours);
	inner = X509_get0_tbs_sigalg(ours);
	assert_int_equal(X509_ALGOR_cmp(inner, outer), 0);
	assert_int_equal(X509_ALGOR_cmp(inner, X509_get0_tbs_sigalg(theirs)), 0);
	OPENSSL_free(a);
	OPENSSL_free(b);
	/* Nothing but the signature's own length is left to differ. */
	a = NULL;
	n = i2d_X509(ours, &a);
	assert_int_equal((size_t)n, der.n);
	assert_memory_equal(a, der.p, der.n);
	OPENSSL_free(a);
	X509_free(ours);
	X509_free(theirs);
	buf_clear(&der);
}

static const char *const kinds[] = { "P-256", "P-384", "RSA2048" };

static void each_kind_of_key(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		EVP_PKEY *ca_key = forge_key(kinds[i]);
		X509 *ca = i ? forge_authority("a.example", ca_key) : our_authority(ca_key);

		for (size_t j = 0; j < ARRAY_LEN(kinds); j++)
			for (int round = 0; round < 20;
			     round++) { /* serial numbers with and without the high bit */
				EVP_PKEY *key = forge_key(kinds[j]);
				struct buf spki;
				struct err e = { 0 };
				struct x509_request r = { .spiffe_id = STR(
								  "spiffe://a.example/agent/7"),
							  .not_before_s = 1700000000,
							  .not_after_s = 1700003600 + round };

				buf_init(&spki, mem_system, 4096);
				assert_true(crypto_spki(key, &spki, &e));
				r.spki = buf_str(&spki);
				same(ca, ca_key, &r, key, "URI:spiffe://a.example/agent/7");
				buf_clear(&spki);
				EVP_PKEY_free(key);
				if (j == 2)
					break; /* RSA keys are slow to make */
			}
		X509_free(ca);
		EVP_PKEY_free(ca_key);
	}
}

/* Lengths take one, two or three bytes, at each level by itself. */
static void each_length(void **state)
{
	static char id[SPIFFE_ID_MAX + 1], names[SPIFFE_ID_MAX + 64];
	EVP_PKEY *ca_key = forge_key("P-256"), *key = forge_key("P-256");
	X509 *ca = our_authority(ca_key);
	struct buf spki;
	struct err e = { 0 };

	(void)state;
	buf_init(&spki, mem_system, 4096);
	assert_true(crypto_spki(key, &spki, &e));
	for (size_t n = 20; n <= SPIFFE_ID_MAX; n += n < 300 ? 1 : 97) {
		struct x509_request r = { .spki = buf_str(&spki),
					  .not_before_s = 1700000000,
					  .not_after_s = 1700003600 };

		memset(id, 'a', n);
		memcpy(id, "spiffe://a.example/", strlen("spiffe://a.example/"));
		id[n] = '\0';
		r.spiffe_id = (struct str){ id, n };
		snprintf(names, sizeof(names), "URI:%s", id);
		same(ca, ca_key, &r, key, names);
	}
	buf_clear(&spki);
	X509_free(ca);
	EVP_PKEY_free(ca_key);
	EVP_PKEY_free(key);
}

static void names_and_times(void **state)
{
	static const struct {
		int64_t begins, ends;
	} times[] = {
		{ 1700000000, 1700003600 },
		{ 1709164799, 1709164800 }, /* 2024-02-28, a leap year */
		{ 946684799, 946684800 },
		{ 2524607990, 2524607999 }, /* until the end of 2049 */
		{ 2524607999, 2524608000 },
		{ 4102444800, 4102448400 }, /* from 2050, from 2100 on */
	};
	EVP_PKEY *ca_key = forge_key("P-256"), *key = forge_key("P-256");
	struct forge f = { .constraints = "critical,CA:TRUE",
			   .usage = "critical,keyCertSign",
			   .subject = "root",
			   .key = ca_key,
			   .issuer_key = ca_key,
			   .from_s = 900000000 - FORGE_NOW,
			   .to_s = 5000000000 - FORGE_NOW };
	X509 *ca = forge_cert(&f);
	struct buf spki;
	struct err e = { 0 };
	struct x509_request r = { .spiffe_id = STR("spiffe://a.example/x"), .nnames = 4 };

	(void)state;
	buf_init(&spki, mem_system, 4096);
	assert_true(crypto_spki(key, &spki, &e));
	r.spki = buf_str(&spki);
	assert_true(x509_name_parse(STR("localhost"), &r.names[0], &e));
	assert_true(x509_name_parse(STR("10.0.0.1"), &r.names[1], &e));
	assert_true(x509_name_parse(STR("::1"), &r.names[2], &e));
	assert_true(x509_name_parse(STR("a.b.example"), &r.names[3], &e));
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		r.not_before_s = times[i].begins;
		r.not_after_s = times[i].ends;
		same(ca, ca_key, &r, key,
		     "URI:spiffe://a.example/x,DNS:localhost,IP:10.0.0.1,IP:::1,DNS:a.b.example");
	}
	buf_clear(&spki);
	X509_free(ca);
	EVP_PKEY_free(ca_key);
	EVP_PKEY_free(key);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_kind_of_key),
		cmocka_unit_test(each_length),
		cmocka_unit_test(names_and_times),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
