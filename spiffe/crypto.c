#include "spiffe/crypto.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "authz/base/text.h"

static void crypto_auto_req(X509_REQ **p)
{
	X509_REQ_free(*p);
}

static void crypto_auto_pkcs8(PKCS8_PRIV_KEY_INFO **p)
{
	PKCS8_PRIV_KEY_INFO_free(*p); /* wipes the key's octets */
}

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192 /* verifying with larger ones is a denial of service */

bool crypto_err(struct err *e, const char *fmt, ...)
{
	unsigned long code = ERR_get_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;
	char text[240];
	va_list ap;

	ERR_clear_error();
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set(e, ERR_INTERNAL, "%s (%s)", text,
		       reason ? reason : "OpenSSL gave no reason");
}

/* The queue may hold why a stranger's bytes did not parse; that is no error of ours. */
static bool refuse(struct err *e, const char *what)
{
	ERR_clear_error();
	return err_set(e, ERR_INVALID, "%s", what);
}

bool crypto_generate(EVP_PKEY **out, struct err *e)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");

	if (!key)
		return crypto_err(e, "cannot generate a P-256 key");
	*out = key;
	return true;
}

static bool ec_acceptable(const EVP_PKEY *key, struct err *e)
{
	char group[64] = "", encoding[32] = "";
	size_t n;

	/* Explicit parameters let a sender bring a curve of his own that contains our base point.
	 */
	if (!EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_EC_ENCODING, encoding,
					    sizeof(encoding), &n) ||
	    strcmp(encoding, OSSL_PKEY_EC_ENCODING_GROUP) != 0)
		return refuse(e, "public key: EC parameters must name their curve");
	if (!EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof(group),
					    &n) ||
	    (strcmp(group, "prime256v1") != 0 && strcmp(group, "secp384r1") != 0)) {
		ERR_clear_error();
		return err_set(e, ERR_INVALID,
			       "public key: curve \"%s\" is not accepted; use P-256 or P-384",
			       group);
	}
	return true;
}

bool crypto_key_acceptable(const EVP_PKEY *key, struct err *e)
{
	int bits = EVP_PKEY_get_bits(key);

	if (EVP_PKEY_is_a(key, "EC"))
		return ec_acceptable(key, e);
	if (!EVP_PKEY_is_a(key, "RSA"))
		return refuse(e, "public key: only EC P-256, EC P-384 and RSA keys are accepted");
	if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
		return err_set(e, ERR_INVALID,
			       "public key: RSA of %d bits is not accepted; use %d to %d", bits,
			       RSA_BITS_MIN, RSA_BITS_MAX);
	return true;
}

/* Append what an i2d function writes. */
#define APPEND_DER(b, i2d, obj, e)                                                   \
	do {                                                                         \
		int n_ = i2d((obj), NULL);                                           \
		unsigned char *at_ = n_ > 0 ? (void *)buf_room((b), (size_t)n_) : 0; \
		if (n_ <= 0)                                                         \
			return crypto_err((e), "cannot encode a key");               \
		if (!at_)                                                            \
			return err_set((e), ERR_NOMEM, "no room for a key");         \
		i2d((obj), &at_);                                                    \
		(b)->n += (size_t)n_;                                                \
	} while (0)

bool crypto_spki(const EVP_PKEY *key, struct buf *der, struct err *e)
{
	APPEND_DER(der, i2d_PUBKEY, key, e);
	return true;
}

bool crypto_pkcs8(const EVP_PKEY *key, struct buf *der, struct err *e)
{
	__attribute__((cleanup(crypto_auto_pkcs8))) PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);

	if (!info)
		return crypto_err(e, "cannot encode a private key");
	APPEND_DER(der, i2d_PKCS8_PRIV_KEY_INFO, info, e);
	return true;
}

bool crypto_key_of_spki(struct str der, EVP_PKEY **out, struct err *e)
{
	const unsigned char *p = (const unsigned char *)der.p;
	AUTO_PKEY *key = NULL;

	if (der.n == 0 || der.n > CRYPTO_SPKI_MAX)
		return err_set(e, ERR_INVALID, "public key: %zu bytes of DER, 1 to %d are expected",
			       der.n, CRYPTO_SPKI_MAX);
	key = d2i_PUBKEY(NULL, &p, (long)der.n);
	if (!key)
		return refuse(e, "public key: not a SubjectPublicKeyInfo of a kind we know");
	if (p != (const unsigned char *)der.p + der.n)
		return refuse(e, "public key: bytes follow its end");
	if (!crypto_key_acceptable(key, e))
		return false;
	*out = key;
	key = NULL;
	return true;
}

static bool spki_bounded(const EVP_PKEY *key, struct buf *spki, struct err *e)
{
	return crypto_key_acceptable(key, e) && crypto_spki(key, spki, e);
}

bool crypto_spki_of_csr(struct str der, struct buf *spki, struct err *e)
{
	const unsigned char *p = (const unsigned char *)der.p;
	__attribute__((cleanup(crypto_auto_req))) X509_REQ *req = NULL;
	EVP_PKEY *key;

	if (der.n == 0 || der.n > CRYPTO_REQUEST_MAX)
		return err_set(e, ERR_TOO_LARGE, "CSR: %zu bytes of DER, 1 to %d are accepted",
			       der.n, CRYPTO_REQUEST_MAX);
	req = d2i_X509_REQ(NULL, &p, (long)der.n);
	if (!req)
		return refuse(e, "CSR: not a PKCS#10 certification request");
	if (p != (const unsigned char *)der.p + der.n)
		return refuse(e, "CSR: bytes follow its end");
	key = X509_REQ_get0_pubkey(req);
	if (!key)
		return refuse(e, "CSR: its public key cannot be read");
	/* The kind of key first: verifying with a monstrous one costs seconds. */
	if (!crypto_key_acceptable(key, e))
		return err_prefix(e, "CSR");
	if (X509_REQ_verify(req, key) != 1)
		return refuse(e,
			      "CSR: its signature does not hold, so its sender does not prove to "
			      "have the private key");
	return crypto_spki(key, spki, e);
}

bool crypto_spki_of_request(struct str pem, struct buf *spki, struct err *e)
{
	AUTO_BUF der = { 0 };
	AUTO_PKEY *key = NULL;

	if (pem.n > CRYPTO_REQUEST_MAX)
		return err_set(e, ERR_TOO_LARGE, "CSR or public key: %zu bytes, at most %d", pem.n,
			       CRYPTO_REQUEST_MAX);
	buf_init(&der, mem_system, CRYPTO_REQUEST_MAX);
	if (memmem(pem.p ? pem.p : "", pem.n, "-----BEGIN PUBLIC KEY-----", 26))
		return crypto_unpem(pem, "PUBLIC KEY", &der, e) &&
		       crypto_key_of_spki(buf_str(&der), &key, e) && spki_bounded(key, spki, e);
	if (!memmem(pem.p ? pem.p : "", pem.n, "-----BEGIN CERT", 15))
		return err_set(
			e, ERR_INVALID,
			"neither a public key (-----BEGIN PUBLIC KEY-----) nor a certificate "
			"request (-----BEGIN CERTIFICATE REQUEST-----) in PEM");
	return crypto_unpem(pem, "CERTIFICATE REQUEST", &der, e) &&
	       crypto_spki_of_csr(buf_str(&der), spki, e);
}

void crypto_pem(struct buf *b, const char *label, struct str der)
{
	buf_printf(b, "-----BEGIN %s-----\n", label);
	for (size_t at = 0; at < der.n; at += 48) {
		size_t n = der.n - at < 48 ? der.n - at : 48;

		text_base64(b, BASE64_STD, der.p + at, n);
		buf_char(b, '\n');
	}
	buf_printf(b, "-----END %s-----\n", label);
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct str trim(struct str s)
{
	while (s.n && is_space(s.p[0]))
		s = str_from(s, 1);
	while (s.n && is_space(s.p[s.n - 1]))
		s.n--;
	return s;
}

/* The base64 of a block without its line breaks, decoded. */
static bool unarmour(struct str body, struct buf *der)
{
	AUTO_BUF text = { 0 };
	char *at;
	size_t n = 0;

	buf_init(&text, mem_system, body.n + 1);
	for (size_t i = 0; i < body.n; i++)
		if (!is_space(body.p[i]))
			buf_char(&text, body.p[i]);
	at = buf_room(der, text.n / 4 * 3 + 3);
	if (!at || !buf_ok(&text) || text.n == 0 ||
	    !text_unbase64(buf_str(&text), BASE64_STD, (uint8_t *)at, &n))
		return false;
	der->n += n;
	return true;
}

bool crypto_unpem(struct str text, const char *label, struct buf *der, struct err *e)
{
	char begin[64], end[64];
	struct str body = trim(text);

	snprintf(begin, sizeof(begin), "-----BEGIN %s-----", label);
	snprintf(end, sizeof(end), "-----END %s-----", label);
	if (!str_starts(body, str_c(begin)) || !str_ends(body, str_c(end)) ||
	    body.n < strlen(begin) + strlen(end))
		return err_set(e, ERR_INVALID, "PEM: one block from \"%s\" to \"%s\" is expected",
			       begin, end);
	body = str_from(body, strlen(begin));
	body.n -= strlen(end);
	if (!unarmour(body, der))
		return err_set(e, ERR_INVALID, "PEM: what stands after \"%s\" is no base64", begin);
	return true;
}

bool crypto_certificate(struct str der, X509 **out, struct err *e)
{
	const unsigned char *p = (const unsigned char *)der.p;
	AUTO_X509 *cert = NULL;

	if (der.n == 0 || der.n > CRYPTO_REQUEST_MAX)
		return err_set(e, ERR_INVALID, "certificate: %zu bytes, 1 to %d are accepted",
			       der.n, CRYPTO_REQUEST_MAX);
	cert = d2i_X509(NULL, &p, (long)der.n);
	if (!cert)
		return refuse(e, "certificate: not an X.509 certificate in DER");
	if (p != (const unsigned char *)der.p + der.n)
		return refuse(e, "certificate: bytes follow its end");
	*out = cert;
	cert = NULL;
	return true;
}

void crypto_sha256(struct str text, uint8_t out[static SHA256_LEN])
{
	size_t n = 0;

	if (EVP_Q_digest(NULL, "SHA256", NULL, text.p, text.n, out, &n) != 1 || n != SHA256_LEN)
		abort(); /* as in base/digest: nothing true could be said any more */
}

void crypto_fingerprint(struct str der, char out[static CRYPTO_FINGERPRINT_MAX])
{
	uint8_t hash[SHA256_LEN];

	crypto_sha256(der, hash);
	memcpy(out, "sha256:", 7);
	text_hex(hash, sizeof(hash), out + 7);
	out[7 + 2 * SHA256_LEN] = '\0';
}

void crypto_auto_pkey(EVP_PKEY **p)
{
	EVP_PKEY_free(*p);
}

void crypto_auto_x509(X509 **p)
{
	X509_free(*p);
}

void crypto_auto_md_ctx(EVP_MD_CTX **p)
{
	EVP_MD_CTX_free(*p);
}

void crypto_auto_pkey_ctx(EVP_PKEY_CTX **p)
{
	EVP_PKEY_CTX_free(*p);
}
