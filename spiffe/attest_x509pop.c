/*
 * x509pop: a certificate of an existing PKI, and a signature that only its holder can make.
 *
 * {"chain": PEM, leaf first, "nonce": from POST /v1/attest/challenge, "signature": base64 of a
 * signature with SHA-256 (ECDSA in DER; RSA-PSS with a salt of 32 bytes) over the text
 *
 *     writ x509pop v1\n<nonce>\n<SHA-256 of the SubjectPublicKeyInfo to be certified, hex>\n
 *
 * so that who relays an answer cannot put his own key under it.
 *
 * x509pop:subject:cn:<cn> x509pop:serialnumber:<hex> x509pop:san:dns:<name> x509pop:san:uri:<uri>,
 * and x509pop:ca:fingerprint:<SHA-1, hex> for each certificate above the leaf.
 *
 * A nonce is random bytes, its end, and a MAC over both: a stranger who asks for thousands costs no
 * memory. It is remembered when it was used.
 */
#include <endian.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "authz/base/pem.h"
#include "authz/base/text.h"
#include "spiffe/attest_inside.h"
#include "spiffe/x509_svid.h"

#define CODE "invalid_certificate"
#define CHAIN_MAX 5 /* certificates, the leaf included */
#define CHAIN_BYTES (32 * 1024)
#define SIGNATURE_MAX 1024 /* bytes: RSA of 8192 bits */
#define RANDOM_BYTES 24
#define MAC_BYTES 16
#define NONCE_BYTES (RANDOM_BYTES + 8 + MAC_BYTES)
#define SANS_MAX 16

static bool refuse(struct err *e, const char *what)
{
	crypto_err(NULL, "-"); /* empties OpenSSL's queue */
	return err_code(e, ERR_UNAUTHENTICATED, CODE, "x509pop: %s", what);
}

/* --- the nonce --- */

static bool mac_of(const struct attest *a, const uint8_t *nonce, uint8_t out[static SHA256_LEN])
{
	unsigned n = 0;

	return HMAC(EVP_sha256(), a->nonce_key, sizeof(a->nonce_key), nonce, RANDOM_BYTES + 8, out,
		    &n) &&
	       n == SHA256_LEN;
}

void attest_challenge(const struct attest *a, int64_t now_ms, char out[static ATTEST_NONCE_TEXT])
{
	uint64_t ends = htobe64((uint64_t)(now_ms / 1000 + ATTEST_NONCE_S));
	uint8_t nonce[NONCE_BYTES], mac[SHA256_LEN] = { 0 };
	struct buf b;

	random_bytes(nonce, RANDOM_BYTES);
	memcpy(nonce + RANDOM_BYTES, &ends, 8);
	if (!mac_of(a, nonce, mac)) /* then nobody can be let in; an unmeant nonce says so */
		random_bytes(mac, sizeof(mac));
	memcpy(nonce + RANDOM_BYTES + 8, mac, MAC_BYTES);
	buf_init(&b, mem_system, ATTEST_NONCE_TEXT);
	text_base64(&b, BASE64_URL, nonce, sizeof(nonce));
	memset(out, 0, ATTEST_NONCE_TEXT);
	if (buf_ok(&b))
		memcpy(out, b.p, b.n);
	buf_clear(&b);
}

bool attest_nonce_check(const struct attest *a, struct str nonce, int64_t now_ms, struct err *e)
{
	uint8_t bytes[ATTEST_NONCE_TEXT], mac[SHA256_LEN];
	uint64_t ends;
	size_t n = 0;

	if (nonce.n != ATTEST_NONCE_TEXT - 1 || !text_unbase64(nonce, BASE64_URL, bytes, &n) ||
	    n != NONCE_BYTES || !mac_of(a, bytes, mac) ||
	    CRYPTO_memcmp(mac, bytes + RANDOM_BYTES + 8, MAC_BYTES) != 0)
		return err_code(e, ERR_UNAUTHENTICATED, "invalid_nonce",
				"x509pop: nonce is none of this server's; get one by POST "
				"/v1/attest/challenge");
	memcpy(&ends, bytes + RANDOM_BYTES, 8);
	if ((uint64_t)(now_ms / 1000) >= be64toh(ends))
		return err_code(e, ERR_UNAUTHENTICATED, "invalid_nonce",
				"x509pop: nonce has expired; one is good for %d s", ATTEST_NONCE_S);
	return true;
}

/* --- the certificate --- */

struct claim {
	struct str nonce, signature;
	STACK_OF(X509) * chain;
};

static void claim_clear(struct claim *k)
{
	sk_X509_pop_free(k->chain, X509_free);
}

static bool read_chain(struct str pem, STACK_OF(X509) * chain, struct err *e)
{
	BIO *bio = pem.n <= CHAIN_BYTES ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
	X509 *cert;

	while (bio && sk_X509_num(chain) <= CHAIN_MAX && (cert = pem_certificate(bio)))
		if (sk_X509_push(chain, cert) <= 0)
			X509_free(cert);
	BIO_free(bio);
	if (sk_X509_num(chain) < 1 || sk_X509_num(chain) > CHAIN_MAX)
		return refuse(e, "chain must be 1 to 5 certificates in PEM, leaf first");
	crypto_err(NULL, "-");
	return true;
}

static bool read_claim(const struct json *proof, struct claim *k, struct err *e)
{
	static const char *const names[] = { "chain", "nonce", "signature" };
	struct str values[ARRAY_LEN(names)];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const struct json *v = json_get_type(proof, str_c(names[i]), JSON_STRING);

		if (!v)
			return err_code(e, ERR_INVALID, "invalid_request",
					"x509pop must be an object with the strings chain, nonce "
					"and signature; %s is missing",
					names[i]);
		values[i] = v->s;
	}
	k->nonce = values[1];
	k->signature = values[2];
	k->chain = sk_X509_new_null();
	if (!k->chain)
		return err_set(e, ERR_NOMEM, "no memory for a chain");
	return read_chain(values[0], k->chain, e);
}

static bool check_leaf(X509 *leaf, struct err *e)
{
	uint32_t flags;

	if (X509_check_purpose(leaf, -1, 0) != 1)
		return refuse(e, "the certificate's extensions are malformed");
	flags = X509_get_extension_flags(leaf);
	if ((flags & EXFLAG_CA) ||
	    ((flags & EXFLAG_KUSAGE) && (X509_get_key_usage(leaf) & KU_KEY_CERT_SIGN)))
		return refuse(e, "it is a CA certificate; those do not authenticate");
	if ((flags & EXFLAG_KUSAGE) && !(X509_get_key_usage(leaf) & KU_DIGITAL_SIGNATURE))
		return refuse(e, "its key usage lacks digitalSignature");
	if ((flags & EXFLAG_XKUSAGE) && !(X509_get_extended_key_usage(leaf) & XKU_SSL_CLIENT))
		return refuse(e, "its extended key usage lacks clientAuth");
	if (!X509_get0_pubkey(leaf) || !crypto_key_acceptable(X509_get0_pubkey(leaf), e)) {
		if (e)
			e->class = ERR_UNAUTHENTICATED;
		return err_prefix(e, "x509pop");
	}
	return true;
}

/* The path to one of our anchors, leaf first; sk_X509_pop_free it. */
static bool find_path(const struct attest *a, const struct claim *k, int64_t now_s,
		      STACK_OF(X509) * *path, struct err *e)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	X509_VERIFY_PARAM *param;
	bool ok;

	if (!ctx || !X509_STORE_CTX_init(ctx, a->anchors, sk_X509_value(k->chain, 0), k->chain)) {
		X509_STORE_CTX_free(ctx);
		return crypto_err(e, "cannot start a verification");
	}
	param = X509_STORE_CTX_get0_param(ctx);
	X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN); /* every anchor is one */
	X509_VERIFY_PARAM_set_time(param, (time_t)now_s);
	X509_VERIFY_PARAM_set_depth(param, CHAIN_MAX);
	X509_VERIFY_PARAM_set_auth_level(param, 2); /* no RSA below 2048, no SHA-1 */
	ok = X509_verify_cert(ctx) == 1;
	if (ok)
		*path = X509_STORE_CTX_get1_chain(ctx);
	else
		refuse(e, X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
	X509_STORE_CTX_free(ctx);
	return ok && (*path || err_set(e, ERR_NOMEM, "no memory for a chain"));
}

static bool check_signature(const struct attest_call *c, const struct claim *k, struct err *e)
{
	EVP_PKEY *key = X509_get0_pubkey(sk_X509_value(k->chain, 0));
	uint8_t signature[SIGNATURE_MAX + 3], hash[SHA256_LEN];
	char hex[2 * SHA256_LEN];
	AUTO_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *pctx = NULL;
	struct str text;
	size_t n = 0;
	bool ok;

	crypto_sha256(c->spki, hash);
	text_hex(hash, sizeof(hash), hex);
	text = arena_printf(c->arena, "writ x509pop v1\n%.*s\n%.*s\n", STR_FMT(k->nonce),
			    (int)sizeof(hex), hex);
	if (!text.p || !ctx)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	if (k->signature.n > SIGNATURE_MAX / 3 * 4 ||
	    !text_unbase64(k->signature, BASE64_STD, signature, &n))
		return refuse(e, "signature must be padded base64");
	ok = EVP_DigestVerifyInit_ex(ctx, &pctx, "SHA256", NULL, NULL, key, NULL) == 1 &&
	     (!EVP_PKEY_is_a(key, "RSA") ||
	      (EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
	       EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST) == 1)) &&
	     EVP_DigestVerify(ctx, signature, n, (const unsigned char *)text.p, text.n) == 1;
	return ok || refuse(e, "the signature over nonce and public key does not hold");
}

/* --- what it says --- */

/* Exactly one common name, or none is given. */
static bool add_subject(const struct attest_call *c, struct attested *out, X509 *leaf,
			struct err *e)
{
	X509_NAME *name = X509_get_subject_name(leaf);
	int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
	unsigned char *utf8 = NULL;
	bool ok;
	int n;

	if (at < 0 || X509_NAME_get_index_by_NID(name, NID_commonName, at) >= 0)
		return true;
	n = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
	ok = n <= 0 || attested_add(c, out, "x509pop", STR("subject:cn"),
				    (struct str){ (char *)utf8, (size_t)n }, e);
	OPENSSL_free(utf8);
	return ok;
}

static bool add_serial(const struct attest_call *c, struct attested *out, X509 *leaf, struct err *e)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(leaf);
	const uint8_t *p = ASN1_STRING_get0_data(serial);
	int n = ASN1_STRING_length(serial);
	char hex[2 * 64];

	if (n < 1 || n > 64)
		return true;
	text_hex(p, (size_t)n, hex);
	return attested_add(c, out, "x509pop", STR("serialnumber"),
			    (struct str){ hex, 2 * (size_t)n }, e);
}

static bool add_names(const struct attest_call *c, struct attested *out, X509 *leaf, struct err *e)
{
	int critical = -1;
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, &critical, NULL);
	bool ok = true;

	for (int i = 0; ok && i < sk_GENERAL_NAME_num(names) && i < SANS_MAX; i++) {
		const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);
		const char *key = n->type == GEN_DNS   ? "san:dns"
				  : n->type == GEN_URI ? "san:uri"
						       : NULL;

		if (key)
			ok = attested_add(c, out, "x509pop", str_c(key),
					  (struct str){
						  (const char *)ASN1_STRING_get0_data(n->d.ia5),
						  (size_t)ASN1_STRING_length(n->d.ia5) },
					  e);
	}
	GENERAL_NAMES_free(names);
	return ok;
}

static bool add_authorities(const struct attest_call *c, struct attested *out,
			    STACK_OF(X509) * path, struct err *e)
{
	for (int i = 1; i < sk_X509_num(path); i++) {
		uint8_t hash[EVP_MAX_MD_SIZE];
		char hex[2 * EVP_MAX_MD_SIZE];
		unsigned n = 0;

		if (X509_digest(sk_X509_value(path, i), EVP_sha1(), hash, &n) != 1)
			return refuse(e, "a certificate of its chain cannot be read");
		text_hex(hash, n, hex);
		if (!attested_add(c, out, "x509pop", STR("ca:fingerprint"),
				  (struct str){ hex, 2 * (size_t)n }, e))
			return false;
	}
	return true;
}

static bool prove_claim(const struct attest_call *c, const struct claim *k, struct attested *out,
			struct err *e)
{
	X509 *leaf = sk_X509_value(k->chain, 0);
	STACK_OF(X509) *path = NULL;
	bool ok;

	ok = attest_nonce_check(c->attest, k->nonce, c->now_ms, e) && check_leaf(leaf, e) &&
	     find_path(c->attest, k, c->now_ms / 1000, &path, e) && check_signature(c, k, e) &&
	     add_subject(c, out, leaf, e) && add_serial(c, out, leaf, e) &&
	     add_authorities(c, out, path, e) && add_names(c, out, leaf, e);
	out->once = k->nonce;
	out->once_until_ms = c->now_ms + ATTEST_NONCE_S * 1000;
	sk_X509_pop_free(path, X509_free);
	return ok;
}

static bool prove(const struct attest_call *c, struct attested *out, struct err *e)
{
	struct claim k = { 0 };
	bool ok;

	if (!c->attest->anchors)
		return err_code(e, ERR_UNAUTHENTICATED, "unknown_issuer",
				"x509pop: no certificates are configured (attest.x509pop)");
	ok = read_claim(c->proof, &k, e) && prove_claim(c, &k, out, e);
	claim_clear(&k);
	return ok;
}

const struct attestor attest_x509pop = { "x509pop", "an object with chain, nonce and signature",
					 prove };
