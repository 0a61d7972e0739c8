#include "spiffe/bundle.h"

#include <openssl/core_names.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "authz/base/text.h"
#include "spiffe/crypto.h"

#define JWK_BYTES_MAX 1024 /* of one number in a JWK: RSA of 8192 bits */

static void free_keys(struct bundle_jwt_key *keys, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		EVP_PKEY_free(keys[i].key);
		free(keys[i].text);
	}
}

static void bundle_free(struct bundle *b)
{
	if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < b->nauthorities; i++)
		X509_free(b->authorities[i]);
	free_keys(b->jwt_keys, b->njwt_keys);
	free_keys(b->wit_keys, b->nwit_keys);
	X509_STORE_free(b->store);
	free(b->distrusted);
	free(b->tainted);
	free(b->name);
	free(b);
}

static void set_free(struct shared *shared)
{
	struct bundle_set *s = (struct bundle_set *)(void *)shared;

	for (size_t i = 0; i < s->n; i++)
		bundle_free(s->items[i]);
	free(s->items);
	free(s);
}

struct bundle_set *bundle_set_new(uint64_t generation, struct err *e)
{
	struct bundle_set *s = calloc(1, sizeof(*s));

	if (!s) {
		err_set(e, ERR_NOMEM, "no memory for trust bundles");
		return NULL;
	}
	shared_init(&s->shared, set_free);
	s->generation = generation;
	return s;
}

static bool dup_str(struct str s, char **text, struct str *out)
{
	*text = strndup(s.p, s.n);
	if (*text)
		*out = (struct str){ *text, s.n };
	return *text != NULL;
}

/* Room for one more bundle, of a trust domain that has none in the set. */
static bool room_for(struct bundle_set *s, struct str trust_domain, struct err *e)
{
	struct bundle **items;

	if (bundle_find(s, trust_domain))
		return err_set(e, ERR_CONFLICT, "trust domain %.*s has a bundle already",
			       STR_FMT(trust_domain));
	if (s->n == BUNDLE_DOMAINS_MAX)
		return err_set(e, ERR_TOO_LARGE, "more than %d trust domains", BUNDLE_DOMAINS_MAX);
	items = realloc(s->items, (s->n + 1) * sizeof(struct bundle *));
	if (!items)
		return err_set(e, ERR_NOMEM, "no memory for a trust bundle");
	s->items = items;
	return true;
}

bool bundle_set_share(struct bundle_set *s, struct bundle *b, struct err *e)
{
	if (!room_for(s, b->trust_domain, e))
		return false;
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	s->items[s->n++] = b;
	return true;
}

bool bundle_set_share_others(struct bundle_set *s, const struct bundle_set *from, struct str except,
			     struct err *e)
{
	for (size_t i = 0; from && i < from->n; i++)
		if (!str_eq(from->items[i]->trust_domain, except) &&
		    !bundle_set_share(s, from->items[i], e))
			return false;
	return true;
}

bool bundle_set_add(struct bundle_set *s, struct str trust_domain, uint64_t sequence,
		    uint32_t refresh_hint_s, struct bundle **out, struct err *e)
{
	struct bundle *b;

	if (!room_for(s, trust_domain, e))
		return false;
	b = calloc(1, sizeof(*b));
	if (b)
		atomic_init(&b->refs, 1);
	if (!b || !dup_str(trust_domain, &b->name, &b->trust_domain) ||
	    !(b->store = X509_STORE_new())) {
		bundle_free(b);
		return err_set(e, ERR_NOMEM, "no memory for a trust bundle");
	}
	b->sequence = sequence;
	b->refresh_hint_s = refresh_hint_s;
	s->items[s->n++] = b;
	*out = b;
	return true;
}

/* Which of the kinds a JWK can express is this key? */
static bool key_type(const EVP_PKEY *key, enum bundle_key_type *type)
{
	static const struct {
		const char *group;
		enum bundle_key_type type;
	} curves[] = {
		{ "prime256v1", BUNDLE_KEY_P256 },
		{ "secp384r1", BUNDLE_KEY_P384 },
		{ "secp521r1", BUNDLE_KEY_P521 },
	};
	char group[64] = "";
	size_t n;

	if (EVP_PKEY_is_a(key, "RSA")) {
		int bits = EVP_PKEY_get_bits(key);

		*type = BUNDLE_KEY_RSA;
		return bits >= 2048 && bits <= JWK_BYTES_MAX * 8;
	}
	if (!EVP_PKEY_is_a(key, "EC") ||
	    !EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof(group),
					    &n))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(curves); i++)
		if (strcmp(group, curves[i].group) == 0) {
			*type = curves[i].type;
			return true;
		}
	return false;
}

bool bundle_add_authority(struct bundle *b, struct str der, struct err *e)
{
	AUTO_X509 *cert = NULL;
	enum bundle_key_type type;
	uint32_t flags;

	if (b->nauthorities == BUNDLE_AUTHORITIES_MAX)
		return err_set(e, ERR_TOO_LARGE, "more than %d X.509 authorities in one bundle",
			       BUNDLE_AUTHORITIES_MAX);
	if (!crypto_certificate(der, &cert, e))
		return false;
	/* Fills the extension cache now: filling it lazily is a data race between readers. */
	if (X509_check_purpose(cert, -1, 0) != 1)
		return err_set(e, ERR_INVALID, "authority: its extensions are malformed");
	flags = X509_get_extension_flags(cert);
	if (!(flags & EXFLAG_BCONS) || !(flags & EXFLAG_CA) || !(flags & EXFLAG_KUSAGE) ||
	    !(X509_get_key_usage(cert) & KU_KEY_CERT_SIGN))
		return err_set(e, ERR_INVALID,
			       "authority: not a CA certificate with key usage keyCertSign");
	if (!X509_get0_pubkey(cert) || !key_type(X509_get0_pubkey(cert), &type))
		return err_set(
			e, ERR_INVALID,
			"authority: its key is neither RSA >= 2048 nor EC P-256, P-384, P-521");
	for (size_t i = 0; i < b->nauthorities; i++)
		if (X509_cmp(b->authorities[i], cert) == 0)
			return err_set(e, ERR_CONFLICT, "authority: in the bundle already");
	if (X509_STORE_add_cert(b->store, cert) != 1)
		return crypto_err(e, "cannot add an authority to a trust store");
	b->authorities[b->nauthorities++] = cert;
	cert = NULL;
	return true;
}

bool bundle_taint(struct bundle *b, struct str id, struct err *e)
{
	char(*more)[BUNDLE_TAINTED_ID + 1];

	if (id.n > BUNDLE_TAINTED_ID || b->ntainted == BUNDLE_TAINTED_MAX)
		return err_set(e, ERR_TOO_LARGE, "more than %d tainted authorities",
			       BUNDLE_TAINTED_MAX);
	more = realloc(b->tainted, (b->ntainted + 1) * sizeof(*more));
	if (!more)
		return err_set(e, ERR_NOMEM, "no memory for a tainted authority");
	b->tainted = more;
	memcpy(more[b->ntainted], id.p, id.n);
	more[b->ntainted++][id.n] = '\0';
	return true;
}

bool bundle_tainted(const struct bundle *b, struct str id)
{
	for (size_t i = 0; i < b->ntainted; i++)
		if (str_eq(str_c(b->tainted[i]), id))
			return true;
	return false;
}

bool bundle_distrust(struct bundle *b, struct str spki, struct err *e)
{
	uint8_t(*more)[BUNDLE_HASH];

	if (b->ndistrusted == BUNDLE_DISTRUSTED_MAX)
		return err_set(e, ERR_TOO_LARGE, "more than %d distrusted authorities",
			       BUNDLE_DISTRUSTED_MAX);
	more = realloc(b->distrusted, (b->ndistrusted + 1) * sizeof(*more));
	if (!more)
		return err_set(e, ERR_NOMEM, "no memory for a trust bundle");
	b->distrusted = more;
	crypto_sha256(spki, b->distrusted[b->ndistrusted++]);
	return true;
}

/* When in doubt, it is. */
bool bundle_distrusts(const struct bundle *b, const X509 *ca)
{
	uint8_t hash[BUNDLE_HASH];
	unsigned char *der = NULL;
	bool found = false;
	int n;

	if (!b->ndistrusted)
		return false;
	n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(ca), &der);
	if (n <= 0)
		return true;
	crypto_sha256((struct str){ (const char *)der, (size_t)n }, hash);
	OPENSSL_free(der);
	for (size_t i = 0; i < b->ndistrusted && !found; i++)
		found = memcmp(hash, b->distrusted[i], sizeof(hash)) == 0;
	return found;
}

static bool has_kid(const struct bundle_jwt_key *keys, size_t n, struct str kid)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(keys[i].kid, kid))
			return true;
	return false;
}

static bool add_key(struct bundle *b, bool wit, struct str kid, struct str spki, struct err *e)
{
	const unsigned char *p = (const unsigned char *)spki.p;
	size_t *n = wit ? &b->nwit_keys : &b->njwt_keys;
	struct bundle_jwt_key *slot = (wit ? b->wit_keys : b->jwt_keys) + *n;
	const char *what = wit ? "WIT" : "JWT";
	AUTO_PKEY *key = NULL;
	enum bundle_key_type type;

	if (*n == BUNDLE_JWT_KEYS_MAX)
		return err_set(e, ERR_TOO_LARGE, "more than %d %s keys in one bundle",
			       BUNDLE_JWT_KEYS_MAX, what);
	if (kid.n == 0 || kid.n > BUNDLE_KID_MAX || !text_is_utf8(kid) || !text_is_printable(kid))
		return err_set(e, ERR_INVALID,
			       "%s key: a key id of 1 to %d printable bytes is required", what,
			       BUNDLE_KID_MAX);
	if (has_kid(b->jwt_keys, b->njwt_keys, kid) || has_kid(b->wit_keys, b->nwit_keys, kid))
		return err_set(e, ERR_CONFLICT, "%s key: key id \"%.*s\" occurs twice", what,
			       STR_FMT(kid));
	if (spki.n == 0 || spki.n > CRYPTO_SPKI_MAX ||
	    !(key = d2i_PUBKEY(NULL, &p, (long)spki.n)) ||
	    p != (const unsigned char *)spki.p + spki.n || !key_type(key, &type)) {
		crypto_err(NULL, "-"); /* empties the queue */
		return err_set(e, ERR_INVALID,
			       "%s key \"%.*s\": neither RSA >= 2048 nor EC P-256, P-384, P-521",
			       what, STR_FMT(kid));
	}
	if (!dup_str(kid, &slot->text, &slot->kid))
		return err_set(e, ERR_NOMEM, "no memory for a %s key", what);
	slot->key = key;
	slot->type = type;
	++*n;
	key = NULL;
	return true;
}

bool bundle_add_jwt_key(struct bundle *b, struct str kid, struct str spki, struct err *e)
{
	return add_key(b, false, kid, spki, e);
}

bool bundle_add_wit_key(struct bundle *b, struct str kid, struct str spki, struct err *e)
{
	return add_key(b, true, kid, spki, e);
}

bool bundle_has_wit_key(const struct bundle *b, struct str kid)
{
	return has_kid(b->wit_keys, b->nwit_keys, kid);
}

const struct bundle *bundle_find(const struct bundle_set *s, struct str trust_domain)
{
	for (size_t i = 0; s && i < s->n; i++)
		if (str_eq(s->items[i]->trust_domain, trust_domain))
			return s->items[i];
	return NULL;
}

/* ,"name":"<base64url of the number>"; @width 0: its minimal bytes, else padded to @width. */
static bool jwk_number(struct buf *out, const char *name, const EVP_PKEY *key, const char *param,
		       int width)
{
	uint8_t bytes[JWK_BYTES_MAX];
	BIGNUM *bn = NULL;
	int n = -1;

	if (EVP_PKEY_get_bn_param(key, param, &bn) == 1 && BN_num_bytes(bn) <= JWK_BYTES_MAX)
		n = BN_bn2binpad(bn, bytes, width ? width : BN_num_bytes(bn));
	BN_free(bn);
	if (n < 0)
		return false;
	buf_printf(out, ",\"%s\":\"", name);
	text_base64(out, BASE64_URL, bytes, (size_t)n);
	buf_char(out, '"');
	return true;
}

static const struct {
	const char *crv, *alg;
	int width;
} kinds[] = {
	[BUNDLE_KEY_RSA] = { NULL, "RS256", 0 },
	[BUNDLE_KEY_P256] = { "P-256", "ES256", 32 },
	[BUNDLE_KEY_P384] = { "P-384", "ES384", 48 },
	[BUNDLE_KEY_P521] = { "P-521", "ES512", 66 },
};

/* "kty":... and the key material of RFC 7518, without the braces. */
static void jwk_material(struct buf *out, const EVP_PKEY *key, enum bundle_key_type type)
{
	bool ok;

	if (type == BUNDLE_KEY_RSA) {
		buf_lit(out, "\"kty\":\"RSA\"");
		ok = jwk_number(out, "n", key, OSSL_PKEY_PARAM_RSA_N, 0) &&
		     jwk_number(out, "e", key, OSSL_PKEY_PARAM_RSA_E, 0);
	} else {
		int width = kinds[type].width; /* leading zeros stay: RFC 7518 6.2.1.2 */

		buf_printf(out, "\"kty\":\"EC\",\"crv\":\"%s\"", kinds[type].crv);
		ok = jwk_number(out, "x", key, OSSL_PKEY_PARAM_EC_PUB_X, width) &&
		     jwk_number(out, "y", key, OSSL_PKEY_PARAM_EC_PUB_Y, width);
	}
	if (!ok)
		out->failed = true;
}

static void jwk_of_authority(struct buf *out, X509 *cert)
{
	const EVP_PKEY *key = X509_get0_pubkey(cert);
	enum bundle_key_type type = BUNDLE_KEY_RSA;
	unsigned char *der = NULL;
	int n = i2d_X509(cert, &der);

	if (n <= 0 || !key_type(key, &type)) {
		out->failed = true;
		return;
	}
	buf_char(out, '{');
	jwk_material(out, key, type);
	buf_lit(out, ",\"use\":\"x509-svid\",\"x5c\":[\"");
	text_base64(out, BASE64_STD, der, (size_t)n);
	buf_lit(out, "\"]}");
	OPENSSL_free(der);
}

static void jwk_of_jwt_key(struct buf *out, const struct bundle_jwt_key *k, const char *use,
			   bool alg)
{
	buf_char(out, '{');
	jwk_material(out, k->key, k->type);
	buf_printf(out, ",\"use\":\"%s\",\"kid\":", use);
	buf_json(out, k->kid);
	if (alg)
		buf_printf(out, ",\"alg\":\"%s\"", kinds[k->type].alg);
	buf_char(out, '}');
}

void bundle_json(const struct bundle *b, struct buf *out)
{
	const char *comma = "";

	buf_lit(out, "{\"keys\":[");
	for (size_t i = 0; i < b->nauthorities; i++, comma = ",") {
		buf_add(out, str_c(comma));
		jwk_of_authority(out, b->authorities[i]);
	}
	for (size_t i = 0; i < b->njwt_keys; i++, comma = ",") {
		buf_add(out, str_c(comma));
		jwk_of_jwt_key(out, &b->jwt_keys[i], "jwt-svid", false);
	}
	for (size_t i = 0; i < b->nwit_keys; i++, comma = ",") {
		buf_add(out, str_c(comma));
		jwk_of_jwt_key(out, &b->wit_keys[i], "wit-svid", false);
	}
	buf_printf(out, "],\"spiffe_sequence\":%llu,\"spiffe_refresh_hint\":%u}",
		   (unsigned long long)b->sequence, b->refresh_hint_s);
}

void bundle_jwks(const struct bundle *b, enum bundle_jwks kind, struct buf *out)
{
	static const char *const uses[] = { [BUNDLE_JWKS_OIDC] = "sig",
					    [BUNDLE_JWKS_WORKLOAD] = "jwt-svid",
					    [BUNDLE_JWKS_WIT] = "wit-svid" };
	bool wit = kind == BUNDLE_JWKS_WIT;
	const struct bundle_jwt_key *keys = wit ? b->wit_keys : b->jwt_keys;

	buf_lit(out, "{\"keys\":[");
	for (size_t i = 0; i < (wit ? b->nwit_keys : b->njwt_keys); i++) {
		if (i)
			buf_char(out, ',');
		jwk_of_jwt_key(out, &keys[i], uses[kind], kind == BUNDLE_JWKS_OIDC);
	}
	buf_lit(out, "]}");
}

static void each_der(const struct bundle *b, struct buf *out,
		     void (*each)(struct buf *out, struct str der))
{
	for (size_t i = 0; i < b->nauthorities; i++) {
		unsigned char *der = NULL;
		int n = i2d_X509(b->authorities[i], &der);

		if (n > 0)
			each(out, (struct str){ (char *)der, (size_t)n });
		else
			out->failed = true;
		OPENSSL_free(der);
	}
}

static void pem_block(struct buf *out, struct str der)
{
	crypto_pem(out, "CERTIFICATE", der);
}

void bundle_pem(const struct bundle *b, struct buf *out)
{
	each_der(b, out, pem_block);
}

void bundle_der(const struct bundle *b, struct buf *out)
{
	each_der(b, out, buf_add);
}
