/*
 * Issuing leaves, in DER by hand: a certificate of ours is a fixed text but for serial number,
 * issuer, times, key and names. Building it from OpenSSL's structures takes twice as long as the
 * signature; tests/spiffe/test_x509.c holds this text against what OpenSSL builds.
 */
#include <openssl/ec.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>

#include "authz/base/text.h"
#include "spiffe/crypto.h"
#include "spiffe/x509_svid.h"

#define SERIAL_BYTES 16
#define TBS_MAX (SPIFFE_ID_MAX + X509_SVID_NAMES_MAX * X509_SVID_DNS_MAX + CRYPTO_SPKI_MAX + 4096)
#define SIGNATURE_MAX 1024 /* bytes: RSA 8192 */
#define KEY_ID_LEN 20	   /* SHA-1 */

enum {
	TAG_INTEGER = 0x02,
	TAG_BITS = 0x03,
	TAG_OCTETS = 0x04,
	TAG_UTC = 0x17,
	TAG_TIME = 0x18,
	TAG_SEQUENCE = 0x30,
	TAG_EXTENSIONS = 0xa3,
	NAME_DNS = 0x82,
	NAME_URI = 0x86,
	NAME_IP = 0x87
};

#define BYTES(...) (const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ })

static void put(struct buf *b, const void *p, size_t n)
{
	buf_add(b, (struct str){ p, n });
}

/* All from @from on becomes the content of an element: its head is put before it. */
static void wrap(struct buf *b, size_t from, uint8_t tag)
{
	size_t n = b->n - from, k = 0;
	uint8_t head[4] = { tag };

	if (n < 0x80) {
		head[++k] = (uint8_t)n;
	} else if (n < 0x100) {
		head[++k] = 0x81;
		head[++k] = (uint8_t)n;
	} else {
		head[++k] = 0x82;
		head[++k] = (uint8_t)(n >> 8);
		head[++k] = (uint8_t)n;
	}
	k++;
	if (n > UINT16_MAX || !buf_room(b, k)) {
		b->failed = true;
		return;
	}
	memmove(b->p + from + k, b->p + from, n);
	memcpy(b->p + from, head, k);
	b->n += k;
}

static void element(struct buf *b, uint8_t tag, const void *p, size_t n)
{
	size_t from = b->n;

	put(b, p, n);
	wrap(b, from, tag);
}

static void serial(struct buf *b)
{
	uint8_t bytes[1 + SERIAL_BYTES] = { 0 }; /* a zero before, lest it be negative */

	random_bytes(bytes + 1, SERIAL_BYTES);
	bytes[1] |= 1; /* never zero, always 16 bytes */
	if (bytes[1] & 0x80)
		element(b, TAG_INTEGER, bytes, sizeof(bytes));
	else
		element(b, TAG_INTEGER, bytes + 1, SERIAL_BYTES);
}

/* RFC 5280 4.1.2.5: two digits of the year until 2049. */
static bool moment(struct buf *b, int64_t s)
{
	time_t t = (time_t)s;
	struct tm tm;
	char text[32];
	int n, year;

	if (!gmtime_r(&t, &tm) || tm.tm_year < 50 || tm.tm_year > 8099)
		return false;
	year = tm.tm_year + 1900;
	n = snprintf(text, sizeof(text), "%0*d%02d%02d%02d%02d%02dZ", year < 2050 ? 2 : 4,
		     year < 2050 ? year % 100 : year, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
		     tm.tm_min, tm.tm_sec);
	element(b, year < 2050 ? TAG_UTC : TAG_TIME, text, (size_t)n);
	return true;
}

/* SubjectPublicKeyInfo of P-256 up to the uncompressed point: one spelling, by far the most common.
 * OpenSSL's decoders take 250 us for a key and a signature is 20, so this one is checked and copied
 * by hand. */
static const uint8_t p256_head[] = { 0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48,
				     0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
				     0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00 };
#define P256_POINT 65

/* Made once and only read after that: making it takes as long as a signature. */
static const EC_GROUP *p256(void)
{
	static _Atomic(EC_GROUP *) made;
	EC_GROUP *group = atomic_load(&made), *none = NULL;

	if (group)
		return group;
	group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	if (group && !atomic_compare_exchange_strong(&made, &none, group)) {
		EC_GROUP_free(group); /* another thread was first */
		group = none;
	}
	return group;
}

static bool on_p256(const uint8_t *point)
{
	const EC_GROUP *group = p256();
	EC_POINT *at = group ? EC_POINT_new(group) : NULL;
	bool ok = at && EC_POINT_oct2point(group, at, point, P256_POINT, NULL) == 1;

	EC_POINT_free(at);
	return ok;
}

/* RFC 5280 4.2.1.2 (1): the SHA-1 of the public key's bits. A label, not a security value. */
static bool key_id_of(const void *bits, size_t n, uint8_t id[static KEY_ID_LEN], struct err *e)
{
	size_t len = KEY_ID_LEN;

	return EVP_Q_digest(NULL, "SHA1", NULL, bits, n, id, &len) == 1 ||
	       crypto_err(e, "cannot hash a key");
}

/* Any other key: in OpenSSL's spelling, not the stranger's. */
static bool other_key(struct buf *b, struct str spki, uint8_t id[static KEY_ID_LEN], struct err *e)
{
	AUTO_PKEY *key = NULL;
	X509_PUBKEY *public = NULL;
	unsigned char *der = NULL;
	const unsigned char *bits;
	int n, nbits;
	bool ok;

	if (!crypto_key_of_spki(spki, &key, e))
		return false;
	if (X509_PUBKEY_set(&public, key) != 1)
		return crypto_err(e, "cannot set the key of a certificate");
	n = i2d_X509_PUBKEY(public, &der);
	ok = n > 0 && X509_PUBKEY_get0_param(NULL, &bits, &nbits, NULL, public) == 1;
	if (ok) {
		put(b, der, (size_t)n);
		ok = key_id_of(bits, (size_t)nbits, id, e);
	} else {
		crypto_err(e, "cannot set the key of a certificate");
	}
	OPENSSL_free(der);
	X509_PUBKEY_free(public);
	return ok;
}

static bool subject_key(struct buf *b, struct str spki, uint8_t id[static KEY_ID_LEN],
			struct err *e)
{
	const char *point = spki.p + sizeof(p256_head);

	if (spki.n != sizeof(p256_head) + P256_POINT ||
	    memcmp(spki.p, p256_head, sizeof(p256_head)) != 0 || *point != 4)
		return other_key(b, spki, id, e);
	if (!on_p256((const uint8_t *)point)) {
		crypto_err(NULL, "-"); /* empties the queue */
		return err_set(e, ERR_INVALID, "public key: its point is not on P-256");
	}
	put(b, spki.p, spki.n);
	return key_id_of(point, P256_POINT, id, e);
}

/* A CA of others may have no subject key identifier: then its key is named as ours would be. */
static bool authority_key_id(struct buf *b, X509 *authority, struct err *e)
{
	const ASN1_OCTET_STRING *id = X509_get0_subject_key_id(authority);
	size_t from = b->n;

	put(b, BYTES(0x06, 0x03, 0x55, 0x1d, 0x23));
	size_t value = b->n;

	if (id) {
		element(b, 0x80, ASN1_STRING_get0_data(id), (size_t)ASN1_STRING_length(id));
	} else {
		unsigned char hash[EVP_MAX_MD_SIZE];
		unsigned n = 0;

		if (X509_pubkey_digest(authority, EVP_sha1(), hash, &n) != 1)
			return crypto_err(e, "cannot hash a key");
		element(b, 0x80, hash, n);
	}
	wrap(b, value, TAG_SEQUENCE);
	wrap(b, value, TAG_OCTETS);
	wrap(b, from, TAG_SEQUENCE);
	return true;
}

static void alternative_names(struct buf *b, const struct x509_request *r)
{
	size_t from = b->n, value;

	put(b, BYTES(0x06, 0x03, 0x55, 0x1d, 0x11));
	value = b->n;
	element(b, NAME_URI, r->spiffe_id.p, r->spiffe_id.n);
	for (size_t i = 0; i < r->nnames; i++)
		if (r->names[i].dns.p)
			element(b, NAME_DNS, r->names[i].dns.p, r->names[i].dns.n);
		else
			element(b, NAME_IP, r->names[i].ip, r->names[i].ip_len);
	wrap(b, value, TAG_SEQUENCE);
	wrap(b, value, TAG_OCTETS);
	wrap(b, from, TAG_SEQUENCE);
}

/* Basic constraints (cA false) and key usage (digitalSignature), both critical; serverAuth and
 * clientAuth. */
static const uint8_t fixed_extensions[] = {
	0x30, 0x0c, 0x06, 0x03, 0x55, 0x1d, 0x13, 0x01, 0x01, 0xff, 0x04, 0x02,
	0x30, 0x00, 0x30, 0x0e, 0x06, 0x03, 0x55, 0x1d, 0x0f, 0x01, 0x01, 0xff,
	0x04, 0x04, 0x03, 0x02, 0x07, 0x80, 0x30, 0x1d, 0x06, 0x03, 0x55, 0x1d,
	0x25, 0x04, 0x16, 0x30, 0x14, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05,
	0x07, 0x03, 0x01, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03,
	0x02, 0x30, 0x1d, 0x06, 0x03, 0x55, 0x1d, 0x0e, 0x04, 0x16, 0x04, KEY_ID_LEN
}; /* the last: subject key identifier, up to its bytes */

/* The hash follows the key: P-384 signs with SHA-384, all else with SHA-256. */
static const struct algorithm {
	const char *key, *hash;
	int bits; /* 0: any */
	uint8_t der[15];
	size_t n;
} algorithms[] = {
	{ "EC",
	  "SHA384",
	  384,
	  { 0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03 },
	  12 },
	{ "EC",
	  "SHA256",
	  0,
	  { 0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02 },
	  12 },
	{ "RSA",
	  "SHA256",
	  0,
	  { 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05,
	    0x00 },
	  15 },
};

static const struct algorithm *algorithm_of(const EVP_PKEY *key)
{
	for (size_t i = 0; i < ARRAY_LEN(algorithms); i++)
		if (EVP_PKEY_is_a(key, algorithms[i].key) &&
		    (!algorithms[i].bits || algorithms[i].bits == EVP_PKEY_get_bits(key)))
			return &algorithms[i];
	return NULL;
}

/* TBSCertificate (RFC 5280 4.1.2), from the start of @b on. */
static bool to_be_signed(struct buf *b, X509 *authority, const struct algorithm *a,
			 const struct x509_request *r, int64_t ends, struct err *e)
{
	uint8_t key_id[KEY_ID_LEN];
	const unsigned char *issuer;
	size_t n, from;

	put(b, BYTES(0xa0, 0x03, 0x02, 0x01, 0x02)); /* version 3 */
	serial(b);
	put(b, a->der, a->n);
	if (X509_NAME_get0_der(X509_get_subject_name(authority), &issuer, &n) != 1)
		return crypto_err(e, "cannot read the name of the authority");
	put(b, issuer, n);
	from = b->n;
	if (!moment(b, r->not_before_s) || !moment(b, ends))
		return err_set(e, ERR_INVALID, "cannot set the times of a certificate");
	wrap(b, from, TAG_SEQUENCE);
	put(b, BYTES(0x30, 0x0f, 0x31, 0x0d, 0x30, 0x0b, 0x06, 0x03, 0x55, 0x04, 0x0a, 0x0c, 0x04,
		     'w', 'r', 'i', 't')); /* O=writ */
	if (!subject_key(b, r->spki, key_id, e))
		return false;
	from = b->n;
	put(b, fixed_extensions, sizeof(fixed_extensions));
	put(b, key_id, sizeof(key_id));
	if (!authority_key_id(b, authority, e))
		return false;
	alternative_names(b, r);
	wrap(b, from, TAG_SEQUENCE);
	wrap(b, from, TAG_EXTENSIONS);
	wrap(b, 0, TAG_SEQUENCE);
	return true;
}

static bool signed_by(EVP_PKEY *key, const struct algorithm *a, struct buf *b, struct err *e)
{
	AUTO_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t bits[1 + SIGNATURE_MAX] = { 0 }; /* no unused bits */
	size_t n = SIGNATURE_MAX;

	if (!buf_ok(b))
		return err_set(e, ERR_NOMEM, "no room for a certificate");
	if (!ctx || EVP_DigestSignInit_ex(ctx, NULL, a->hash, NULL, NULL, key, NULL) != 1 ||
	    EVP_DigestSign(ctx, bits + 1, &n, (const unsigned char *)b->p, b->n) != 1)
		return crypto_err(e, "cannot sign a certificate");
	put(b, a->der, a->n);
	element(b, TAG_BITS, bits, n + 1);
	wrap(b, 0, TAG_SEQUENCE);
	return true;
}

bool x509_svid_issue(X509 *authority, EVP_PKEY *authority_key, const struct x509_request *r,
		     struct buf *der, struct err *e)
{
	const struct algorithm *a = algorithm_of(authority_key);
	AUTO_BUF b = { 0 };
	struct spiffe_id id;
	int64_t begins, ends;

	if (!spiffe_id_parse_workload(r->spiffe_id, &id, e))
		return false;
	if (!x509_times(authority, &begins, &ends))
		return crypto_err(e, "cannot read the end of the authority");
	if (r->not_before_s >= ends)
		return err_set(e, ERR_UNAVAILABLE,
			       "the X.509 authority has expired: nothing can be signed with it");
	if (ends > r->not_after_s) /* an SVID never outlives its issuer */
		ends = r->not_after_s;
	if (ends <= r->not_before_s)
		return err_set(e, ERR_INVALID, "a certificate must end after it begins");
	if (!a)
		return err_set(e, ERR_INVALID, "the X.509 authority's key is neither EC nor RSA");
	buf_init(&b, mem_system, TBS_MAX);
	if (!to_be_signed(&b, authority, a, r, ends, e) || !signed_by(authority_key, a, &b, e))
		return false;
	buf_add(der, buf_str(&b));
	if (!buf_ok(&b) || !buf_ok(der))
		return err_set(e, ERR_NOMEM, "no room for a certificate");
	return true;
}
