/*
 * Issuing JWT-SVIDs: ES256 only, header alg, kid, typ; aud always an array, times always integers.
 * And the signature under any payload, whose header says by typ what kind of token it is.
 */
#include <stdlib.h>

#include "authz/base/text.h"
#include "spiffe/jwt_inside.h"
#include "spiffe/wit_svid.h"

#define P256_BYTES 32
#define DER_MAX 80

struct jwt_signer {
	struct sha256 *sha;
	EVP_PKEY_CTX *ctx;
	EVP_MD *md;
	struct {
		char text[512]; /* base64url of the header and '.' */
		size_t n;
	} headers[JWT_TYPES];
};

static const char *const types[JWT_TYPES] = {
	[JWT_TYPE_SVID] = "JWT", [JWT_TYPE_DELEGATED] = "at+jwt", [JWT_TYPE_WIT] = "wit+jwt"
};

bool jwt_kid(const EVP_PKEY *key, char kid[static JWT_KID_LEN + 1], struct err *e)
{
	AUTO_BUF spki = { 0 };
	AUTO_BUF text = { 0 };
	uint8_t hash[SHA256_LEN];

	buf_init(&spki, mem_system, CRYPTO_SPKI_MAX);
	buf_init(&text, mem_system, 64);
	if (!crypto_spki(key, &spki, e))
		return false;
	crypto_sha256(buf_str(&spki), hash);
	text_base64(&text, BASE64_URL, hash, sizeof(hash));
	if (!buf_ok(&text) || text.n < JWT_KID_LEN)
		return err_set(e, ERR_NOMEM, "no memory for a key id");
	memcpy(kid, text.p, JWT_KID_LEN);
	kid[JWT_KID_LEN] = '\0';
	return true;
}

static bool write_header(struct jwt_signer *s, struct str kid, enum jwt_type type)
{
	AUTO_BUF json = { 0 };
	AUTO_BUF text = { 0 };

	buf_init(&json, mem_system, 384);
	buf_init(&text, mem_system, sizeof(s->headers[type].text));
	buf_lit(&json, "{\"alg\":\"ES256\",\"kid\":");
	buf_json(&json, kid);
	buf_printf(&json, ",\"typ\":\"%s\"}", types[type]);
	text_base64(&text, BASE64_URL, json.p, json.n);
	buf_char(&text, '.');
	if (!buf_ok(&json) || !buf_ok(&text))
		return false;
	memcpy(s->headers[type].text, text.p, text.n);
	s->headers[type].n = text.n;
	return true;
}

/* For tokens of the types from @first to @last. */
static struct jwt_signer *signer_of(EVP_PKEY *p256, struct str kid, enum jwt_type first,
				    enum jwt_type last, struct err *e)
{
	struct jwt_signer *s = calloc(1, sizeof(*s));
	bool ok;

	if (s && !(s->sha = sha256_new(e))) {
		jwt_signer_free(s);
		return NULL;
	}
	if (s) {
		s->ctx = EVP_PKEY_CTX_new_from_pkey(NULL, p256, NULL);
		s->md = EVP_MD_fetch(NULL, "SHA256", NULL);
	}
	ok = s && s->ctx && s->md;
	for (enum jwt_type t = first; ok && t <= last; t++)
		ok = write_header(s, kid, t);
	if (!ok || EVP_PKEY_sign_init(s->ctx) != 1 ||
	    EVP_PKEY_CTX_set_signature_md(s->ctx, s->md) != 1) {
		jwt_signer_free(s);
		crypto_err(e, "cannot prepare the JWT key for signing");
		return NULL;
	}
	return s;
}

struct jwt_signer *jwt_signer_new(EVP_PKEY *p256, struct str kid, struct err *e)
{
	return signer_of(p256, kid, JWT_TYPE_SVID, JWT_TYPE_DELEGATED, e);
}

struct jwt_signer *wit_signer_new(EVP_PKEY *p256, struct str kid, struct err *e)
{
	return signer_of(p256, kid, JWT_TYPE_WIT, JWT_TYPE_WIT, e);
}

void jwt_signer_free(struct jwt_signer *s)
{
	if (!s)
		return;
	EVP_PKEY_CTX_free(s->ctx);
	EVP_MD_free(s->md);
	sha256_free(s->sha);
	free(s);
}

/* One INTEGER of a DER signature as @P256_BYTES big-endian bytes; @at moves past it. */
static bool der_integer(const uint8_t *der, size_t n, size_t *at, uint8_t out[static P256_BYTES])
{
	size_t len;

	if (n - *at < 2 || der[*at] != 0x02)
		return false;
	len = der[*at + 1];
	*at += 2;
	if (len == 0 || len > n - *at || len > P256_BYTES + 1)
		return false;
	if (len == P256_BYTES + 1) { /* a sign byte */
		(*at)++;
		len--;
	}
	memset(out, 0, P256_BYTES - len);
	memcpy(out + P256_BYTES - len, der + *at, len);
	*at += len;
	return true;
}

/* JWS wants R and S side by side (RFC 7518 3.4), OpenSSL gives a DER sequence. */
static bool raw_signature(const uint8_t *der, size_t n, uint8_t out[static 2 * P256_BYTES])
{
	size_t at = 2;

	return n > 2 && der[0] == 0x30 && der[1] == n - 2 && der_integer(der, n, &at, out) &&
	       der_integer(der, n, &at, out + P256_BYTES) && at == n;
}

static bool payload(const struct jwt_request *r, struct buf *json, struct err *e)
{
	struct spiffe_id id;

	if (!spiffe_id_parse_workload(r->spiffe_id, &id, e))
		return false;
	if (r->naudience == 0 || r->naudience > JWT_AUDIENCES_MAX)
		return err_set(e, ERR_INVALID, "audience: 1 to %d values are expected",
			       JWT_AUDIENCES_MAX);
	buf_lit(json, "{\"aud\":[");
	for (size_t i = 0; i < r->naudience; i++) {
		struct str aud = r->audience[i];

		if (aud.n == 0 || aud.n > JWT_AUDIENCE_MAX || !text_is_utf8(aud) ||
		    !text_is_printable(aud))
			return err_set(e, ERR_INVALID,
				       "audience: each value has 1 to %d bytes of printable UTF-8",
				       JWT_AUDIENCE_MAX);
		if (i)
			buf_char(json, ',');
		buf_json(json, aud);
	}
	if (r->issued_s <= 0 || r->expires_s <= r->issued_s)
		return err_set(e, ERR_INVALID, "a token must end after it begins");
	buf_lit(json, "],\"exp\":");
	buf_i64(json, r->expires_s);
	buf_lit(json, ",\"iat\":");
	buf_i64(json, r->issued_s);
	if (r->issuer.n) {
		buf_lit(json, ",\"iss\":");
		buf_json(json, r->issuer);
	}
	buf_lit(json, ",\"sub\":");
	buf_json(json, r->spiffe_id);
	buf_char(json, '}');
	return true;
}

bool jwt_sign(struct jwt_signer *s, enum jwt_type type, struct str json, struct buf *out,
	      struct err *e)
{
	uint8_t hash[SHA256_LEN], der[DER_MAX], raw[2 * P256_BYTES];
	size_t n = sizeof(der), start = out->n;

	if (!s->headers[type].n)
		return err_set(e, ERR_INVALID, "this key signs no tokens of type %s", types[type]);
	buf_add(out, (struct str){ s->headers[type].text, s->headers[type].n });
	text_base64(out, BASE64_URL, json.p, json.n);
	/* We must be able to read what we write: 86 characters of signature follow. */
	if (!buf_ok(out) || out->n - start + 87 > LIMIT_TOKEN) {
		out->n = start;
		return err_set(e, ERR_TOO_LARGE, "the token would have more than %d bytes",
			       LIMIT_TOKEN);
	}
	sha256_of(s->sha, str_from(buf_str(out), start), hash);
	if (EVP_PKEY_sign(s->ctx, der, &n, hash, sizeof(hash)) != 1 ||
	    !raw_signature(der, n, raw)) {
		out->n = start;
		return crypto_err(e, "cannot sign a token");
	}
	buf_char(out, '.');
	text_base64(out, BASE64_URL, raw, sizeof(raw));
	if (!buf_ok(out))
		return err_set(e, ERR_NOMEM, "no room for a token");
	return true;
}

bool jwt_svid_issue(struct jwt_signer *s, const struct jwt_request *r, struct buf *out,
		    struct err *e)
{
	AUTO_BUF json = { 0 };

	buf_init(&json, mem_system, LIMIT_TOKEN);
	if (!payload(r, &json, e))
		return false;
	if (!buf_ok(&json))
		return err_set(e, ERR_TOO_LARGE, "the token would have more than %d bytes",
			       LIMIT_TOKEN);
	return jwt_sign(s, JWT_TYPE_SVID, buf_str(&json), out, e);
}
