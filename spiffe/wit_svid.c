#include "spiffe/wit_svid.h"

#include <openssl/core_names.h>
#include <openssl/x509.h>

#include "authz/base/text.h"
#include "spiffe/crypto.h"
#include "spiffe/jwt_inside.h"

#define P256_BYTES 32
#define POINT (1 + 2 * P256_BYTES) /* uncompressed */

static void put_coordinate(struct buf *out, const char *name, const uint8_t *p)
{
	buf_printf(out, ",\"%s\":\"", name);
	text_base64(out, BASE64_URL, p, P256_BYTES);
	buf_char(out, '"');
}

static bool put_private(const EVP_PKEY *key, struct buf *out)
{
	uint8_t d[P256_BYTES];
	BIGNUM *n = NULL;
	bool ok = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &n) == 1 &&
		  BN_bn2binpad(n, d, sizeof(d)) == (int)sizeof(d);

	if (ok)
		put_coordinate(out, "d", d);
	mem_wipe(d, sizeof(d));
	BN_clear_free(n);
	return ok;
}

bool wit_jwk(const EVP_PKEY *key, bool private_part, struct buf *out, struct err *e)
{
	uint8_t point[POINT];
	char group[32];
	size_t n = 0;

	if (EVP_PKEY_get_group_name(key, group, sizeof(group), &n) != 1 ||
	    !str_eq(str_c(group), STR("prime256v1")) ||
	    EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point),
					    &n) != 1 ||
	    n != POINT || point[0] != 4)
		return crypto_err(e, "the key of a WIT-SVID must be a P-256 key");
	buf_lit(out, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"alg\":\"ES256\"");
	put_coordinate(out, "x", point + 1);
	put_coordinate(out, "y", point + 1 + P256_BYTES);
	if (private_part && !put_private(key, out))
		return crypto_err(e, "cannot write the key of a WIT-SVID");
	buf_char(out, '}');
	return buf_ok(out) || err_set(e, ERR_NOMEM, "no room for a key");
}

static bool payload(const struct wit_request *r, struct buf *json, struct err *e)
{
	const unsigned char *p = (const unsigned char *)r->spki.p;
	AUTO_PKEY *key = NULL;
	struct spiffe_id id;

	if (!spiffe_id_parse_workload(r->spiffe_id, &id, e))
		return false;
	if (r->issued_s <= 0 || r->expires_s <= r->issued_s)
		return err_set(e, ERR_INVALID, "a token must end after it begins");
	key = r->spki.n && r->spki.n <= CRYPTO_SPKI_MAX ? d2i_PUBKEY(NULL, &p, (long)r->spki.n)
							: NULL;
	if (!key || p != (const unsigned char *)r->spki.p + r->spki.n) {
		crypto_err(e, "the public key cannot be read");
		e->class = ERR_INVALID;
		return false;
	}
	buf_lit(json, "{\"cnf\":{\"jwk\":");
	if (!wit_jwk(key, false, json, e)) {
		e->class = ERR_INVALID;
		return false;
	}
	buf_lit(json, "},\"exp\":");
	buf_i64(json, r->expires_s);
	buf_lit(json, ",\"iat\":");
	buf_i64(json, r->issued_s);
	buf_lit(json, ",\"sub\":");
	buf_json(json, r->spiffe_id);
	buf_char(json, '}');
	return buf_ok(json) || err_set(e, ERR_NOMEM, "no room for a token");
}

bool wit_svid_issue(struct jwt_signer *s, const struct wit_request *r, struct buf *out,
		    struct err *e)
{
	AUTO_BUF json = { 0 };

	buf_init(&json, mem_system, LIMIT_TOKEN);
	return payload(r, &json, e) && jwt_sign(s, JWT_TYPE_WIT, buf_str(&json), out, e);
}

bool wit_kid_of(struct str token, char *kid, size_t max)
{
	uint8_t json[1024];
	struct str head, rest;
	size_t n = 0;
	const char *from, *to;

	if (!str_cut(token, '.', &head, &rest) || head.n > sizeof(json) ||
	    !text_unbase64(head, BASE64_URL, json, &n))
		return false;
	from = memmem(json, n, "\"kid\":\"", 7);
	if (!from)
		return false;
	from += 7;
	to = memchr(from, '"', n - (size_t)(from - (const char *)json));
	if (!to || (size_t)(to - from) >= max)
		return false;
	memcpy(kid, from, (size_t)(to - from));
	kid[to - from] = '\0';
	return true;
}
