#include "tests/spiffe/forge.h"

#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "authz/base/text.h"

EVP_PKEY *forge_key(const char *kind)
{
	EVP_PKEY *key;

	if (strncmp(kind, "RSA", 3) == 0)
		key = EVP_RSA_gen((unsigned)strtoul(kind + 3, NULL, 10));
	else if (kind[1] == '-' || strncmp(kind, "secp", 4) == 0)
		key = EVP_EC_gen(kind);
	else
		key = EVP_PKEY_Q_keygen(NULL, NULL, kind);
	if (!key)
		abort();
	return key;
}

static void extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;

	if (!value)
		return;
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	if (!ext || X509_add_ext(cert, ext, -1) != 1)
		abort();
	X509_EXTENSION_free(ext);
}

X509 *forge_cert(const struct forge *f)
{
	static long serial;
	X509 *cert = X509_new(), *issuer = f->issuer ? f->issuer : cert;
	EVP_PKEY *key = f->key, *fresh = NULL;
	bool dated = f->from_s || f->to_s;

	if (!key)
		key = fresh = forge_key("P-256");
	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial);
	ASN1_TIME_set(X509_getm_notBefore(cert), FORGE_NOW + (dated ? f->from_s : -60));
	ASN1_TIME_set(X509_getm_notAfter(cert), FORGE_NOW + (dated ? f->to_s : 3600));
	X509_set_pubkey(cert, key);
	if (f->subject)
		X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
					   (const unsigned char *)f->subject, -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(issuer));
	extend(cert, issuer, NID_basic_constraints, f->constraints);
	extend(cert, issuer, NID_key_usage, f->usage);
	extend(cert, issuer, NID_ext_key_usage, f->purposes);
	extend(cert, issuer, NID_subject_alt_name, f->san);
	extend(cert, issuer, NID_subject_alt_name, f->san2);
	if (X509_sign(cert, f->issuer ? f->issuer_key : key, EVP_sha256()) <= 0)
		abort();
	EVP_PKEY_free(fresh);
	return cert;
}

X509 *forge_authority(const char *trust_domain, EVP_PKEY *key)
{
	char san[300], subject[64];
	struct forge f = { .san = san,
			   .constraints = "critical,CA:TRUE",
			   .usage = "critical,keyCertSign,cRLSign",
			   .subject = subject,
			   .key = key };

	snprintf(san, sizeof(san), "URI:spiffe://%s", trust_domain);
	snprintf(subject, sizeof(subject), "CA %.40s", trust_domain);
	return forge_cert(&f);
}

struct str forge_der(X509 *cert)
{
	unsigned char *p = NULL;
	int n = i2d_X509(cert, &p);

	if (n <= 0)
		abort();
	return (struct str){ (char *)p, (size_t)n };
}

struct str forge_spki(EVP_PKEY *key)
{
	unsigned char *p = NULL;
	int n = i2d_PUBKEY(key, &p);

	if (n <= 0)
		abort();
	return (struct str){ (char *)p, (size_t)n };
}

void forge_free(struct str s)
{
	void *p;

	memcpy(&p, &s.p, sizeof(p)); /* a str borrows, so its pointer is const; these are owned */
	OPENSSL_free(p);
}

/* DER to R||S by OpenSSL's own reader. */
static size_t raw_of_der(uint8_t *sig, size_t n, int width)
{
	const unsigned char *p = sig;
	ECDSA_SIG *s = d2i_ECDSA_SIG(NULL, &p, (long)n);

	if (!s || BN_bn2binpad(ECDSA_SIG_get0_r(s), sig, width) != width ||
	    BN_bn2binpad(ECDSA_SIG_get0_s(s), sig + width, width) != width)
		abort();
	ECDSA_SIG_free(s);
	return 2 * (size_t)width;
}

static size_t sign(const char *alg, EVP_PKEY *key, struct str text, uint8_t *sig, size_t room)
{
	const char *hash = strstr(alg, "512") ? "SHA512" : strstr(alg, "384") ? "SHA384" : "SHA256";
	bool ed = EVP_PKEY_is_a(key, "ED25519");
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *pctx = NULL;

	if (EVP_DigestSignInit_ex(ctx, &pctx, ed ? NULL : hash, NULL, NULL, key, NULL) != 1)
		abort();
	if (alg[0] == 'P' && (EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) != 1 ||
			      EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST) != 1))
		abort();
	if (EVP_DigestSign(ctx, sig, &room, (const unsigned char *)text.p, text.n) != 1)
		abort();
	EVP_MD_CTX_free(ctx);
	if (EVP_PKEY_is_a(key, "EC"))
		room = raw_of_der(sig, room, (EVP_PKEY_get_bits(key) + 7) / 8);
	return room;
}

void forge_jws(struct buf *out, const char *header, const char *payload, const char *alg,
	       EVP_PKEY *key)
{
	size_t start = out->n, n = 0;
	uint8_t sig[1024];

	text_base64(out, BASE64_URL, header, strlen(header));
	buf_char(out, '.');
	text_base64(out, BASE64_URL, payload, strlen(payload));
	if (strcmp(alg, "none") != 0)
		n = sign(alg, key, str_from(buf_str(out), start), sig, sizeof(sig));
	buf_char(out, '.');
	text_base64(out, BASE64_URL, sig, n);
}
