#include "spiffe/signer_hold.h"

#include <openssl/x509v3.h>

#include "spiffe/crypto.h"
#include "spiffe/signer_wire.h"

#define SECRET_ROOM (12 * 1024)
#define LIFE_MIN_S 3600 /* an authority that ends sooner is not worth making */

/* What a sealed key is bound to: the name of its file. */
static struct str seal_name(enum authority_kind kind, struct str id, char out[static 128])
{
	int n = snprintf(out, 128, "%s-%.*s", authority_kind_name(kind), STR_FMT(id));

	return (struct str){ out, n > 0 && n < 128 ? (size_t)n : 0 };
}

/* ---- making ---- */

struct fresh {
	EVP_PKEY *key;
	char id[AUTHORITY_ID_MAX + 1];
	int64_t begins_s, ends_s;
	struct buf chain; /* DER: certificate of an X.509 authority, and what is above it */
};

static void auto_fresh(struct fresh *f)
{
	EVP_PKEY_free(f->key);
	buf_clear(&f->chain);
}

static bool certify(const struct signer_hold *h, struct fresh *f, struct err *e)
{
	AUTO_X509 *cert = NULL;
	bool ok;

	if (h->upstream)
		ok = x509_intermediate_issue(&h->upstream->issuer, f->key, h->trust_domain,
					     f->begins_s, f->ends_s, &f->chain, e);
	else
		ok = x509_authority_issue(f->key, h->trust_domain, f->begins_s, f->ends_s,
					  &f->chain, e);
	if (!ok || !crypto_certificate(buf_str(&f->chain), &cert, e) ||
	    !x509_authority_id(cert, f->id, e))
		return false;
	if (!x509_times(cert, &f->begins_s, &f->ends_s)) /* an upstream may have cut them short */
		return crypto_err(e, "cannot read the times of a new authority");
	if (h->upstream)
		buf_add(&f->chain, buf_str(&h->upstream->chain));
	return buf_ok(&f->chain) || err_set(e, ERR_NOMEM, "no room for a chain");
}

static bool make(const struct signer_hold *h, enum authority_kind kind, int64_t now_s,
		 struct fresh *f, struct err *e)
{
	buf_init(&f->chain, mem_system, SIGNER_FRAME_MAX);
	f->begins_s = now_s - X509_SVID_BACKDATE_S;
	f->ends_s = now_s + h->ttl_s;
	if (!crypto_generate(&f->key, e))
		return false;
	if (kind == AUTHORITY_JWT)
		return jwt_kid(f->key, f->id, e);
	if (!certify(h, f, e))
		return false;
	if (f->ends_s - now_s < LIFE_MIN_S)
		return err_set(e, ERR_UNAVAILABLE,
			       "authority.upstream: the certificate ends in %lld s; renew it and "
			       "restart writ",
			       (long long)(f->ends_s - now_s));
	return true;
}

/* Kind, times, PKCS#8 and chain under one seal, so that no part can be exchanged. */
static bool seal_fresh(const struct signer_hold *h, enum authority_kind kind, const struct fresh *f,
		       struct buf *pem, struct err *e)
{
	AUTO_SECRET pkcs8 = { 0 };
	AUTO_SECRET plain = { 0 };
	char name[128];

	buf_init(&pkcs8, mem_system, SECRET_ROOM);
	buf_init(&plain, mem_system, SECRET_ROOM);
	if (!buf_room(&pkcs8, 1024) || !buf_room(&plain, SECRET_ROOM))
		return err_set(e, ERR_NOMEM, "no memory for a key");
	if (!crypto_pkcs8(f->key, &pkcs8, e))
		return false;
	wire_put_u8(&plain, (uint8_t)kind);
	wire_put_i64(&plain, f->begins_s);
	wire_put_i64(&plain, f->ends_s);
	wire_put_str(&plain, buf_str(&pkcs8));
	wire_put_str(&plain, buf_str(&f->chain));
	if (!buf_ok(&plain))
		return err_set(e, ERR_NOMEM, "no room for a key");
	return seal_close(&h->keys->seal, seal_name(kind, str_c(f->id), name), buf_str(&plain), pem,
			  e);
}

bool signer_hold_make(const struct signer_hold *h, enum authority_kind kind, int64_t now_s,
		      struct buf *out, struct err *e)
{
	__attribute__((cleanup(auto_fresh))) struct fresh f = { 0 };
	AUTO_BUF pem = { 0 };
	AUTO_BUF spki = { 0 };

	buf_init(&pem, mem_system, SIGNER_FRAME_MAX);
	buf_init(&spki, mem_system, CRYPTO_SPKI_MAX);
	if (!make(h, kind, now_s, &f, e) || !seal_fresh(h, kind, &f, &pem, e) ||
	    !crypto_spki(f.key, &spki, e))
		return false;
	wire_put_str(out, str_c(f.id));
	wire_put_i64(out, f.begins_s);
	wire_put_i64(out, f.ends_s);
	wire_put_str(out, buf_str(&spki));
	wire_put_str(out, buf_str(&f.chain));
	wire_put_str(out, buf_str(&pem));
	return true;
}

/* ---- using ---- */

static bool own_pkcs8(struct str der, EVP_PKEY **out, struct err *e)
{
	const unsigned char *p = (const unsigned char *)der.p;
	PKCS8_PRIV_KEY_INFO *info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &p, (long)der.n);

	*out = info ? EVP_PKCS82PKEY(info) : NULL;
	PKCS8_PRIV_KEY_INFO_free(info);
	return *out || crypto_err(e, "cannot read a sealed key");
}

static bool take_jwt(struct signer_hold *h, EVP_PKEY *key, int64_t ends_s, struct str id,
		     struct err *e)
{
	char kid[JWT_KID_LEN + 1];
	struct jwt_signer *s;

	if (!jwt_kid(key, kid, e))
		return false;
	if (!str_eq(id, str_c(kid)))
		return err_set(e, ERR_INVALID, "signer: the key's id is %s, not %.*s", kid,
			       STR_FMT(str_first(id, 64)));
	s = jwt_signer_new(key, str_c(kid), e);
	if (!s)
		return false;
	jwt_signer_free(h->jwt);
	EVP_PKEY_free(h->jwt_key);
	EVP_PKEY_up_ref(key);
	h->jwt = s;
	h->jwt_key = key;
	h->jwt_ends_s = ends_s;
	return true;
}

static bool is_self_signed(const X509 *cert)
{
	return X509_NAME_cmp(X509_get_subject_name(cert), X509_get_issuer_name(cert)) == 0;
}

/* @chain: the certificate of @key, and what is above it. */
static bool take_x509(struct signer_hold *h, EVP_PKEY *key, struct str chain, struct str id,
		      struct err *e)
{
	struct str rest = chain, first;
	char own[X509_ID_LEN + 1];
	AUTO_BUF behind = { 0 };
	AUTO_X509 *cert = NULL;

	if (!x509_chain_next(&rest, &first) || !crypto_certificate(first, &cert, e) ||
	    !x509_authority_id(cert, own, e))
		return err_set(e, ERR_INVALID, "signer: the authority has no certificate");
	if (!str_eq(id, str_c(own)))
		return err_set(e, ERR_INVALID, "signer: the authority's id is %s, not %.*s", own,
			       STR_FMT(str_first(id, 64)));
	if (X509_check_private_key(cert, key) != 1)
		return crypto_err(e, "signer: the authority's certificate is of another key");
	if (X509_check_purpose(cert, -1, 0) != 1) /* fills the cache of extensions */
		return crypto_err(e, "signer: the authority's certificate is malformed");
	buf_init(&behind, mem_system, SIGNER_FRAME_MAX);
	if (!is_self_signed(cert))
		buf_add(&behind, chain);
	if (!buf_ok(&behind))
		return err_set(e, ERR_NOMEM, "no memory for a chain");
	EVP_PKEY_up_ref(key);
	EVP_PKEY_free(h->x509_key);
	X509_free(h->authority);
	buf_clear(&h->chain);
	h->x509_key = key;
	h->authority = cert;
	h->chain = behind;
	cert = NULL;
	behind = (struct buf){ 0 };
	return true;
}

static bool first_der(const struct signer_hold *h, struct buf *der)
{
	unsigned char *at;
	int n = i2d_X509(h->keys->authority, NULL);

	at = n > 0 ? (unsigned char *)buf_room(der, (size_t)n) : NULL;
	if (!at)
		return false;
	i2d_X509(h->keys->authority, &at);
	der->n += (size_t)n;
	return true;
}

/* Of the first start. */
static bool use_first(struct signer_hold *h, enum authority_kind kind, struct str id, struct err *e)
{
	AUTO_BUF der = { 0 };

	if (kind == AUTHORITY_JWT ? !h->keys->jwt : !h->keys->x509)
		return err_set(e, ERR_NOT_FOUND, "signer: the first %s key is gone",
			       authority_kind_name(kind));
	if (kind == AUTHORITY_JWT)
		return take_jwt(h, h->keys->jwt, INT64_MAX, id, e);
	buf_init(&der, mem_system, SIGNER_FRAME_MAX);
	if (!first_der(h, &der))
		return err_set(e, ERR_NOMEM, "no memory for a certificate");
	return take_x509(h, h->keys->x509, buf_str(&der), id, e);
}

bool signer_hold_use(struct signer_hold *h, enum authority_kind kind, struct str id,
		     struct str sealed, struct err *e)
{
	AUTO_SECRET plain = { 0 };
	AUTO_PKEY *key = NULL;
	struct str pkcs8, chain;
	int64_t begins, ends;
	struct wire w = { 0 };
	char name[128];

	if (id.n == 0 || id.n > AUTHORITY_ID_MAX)
		return err_set(e, ERR_INVALID, "signer: an id of 1 to %d bytes is expected",
			       AUTHORITY_ID_MAX);
	if (!sealed.n)
		return use_first(h, kind, id, e);
	buf_init(&plain, mem_system, SECRET_ROOM + 1);
	if (!buf_room(&plain, SECRET_ROOM))
		return err_set(e, ERR_NOMEM, "no memory for a key");
	if (!seal_break(&h->keys->seal, seal_name(kind, id, name), sealed, &plain, e))
		return false;
	w.rest = buf_str(&plain);
	if (wire_u8(&w) != (uint8_t)kind)
		w.bad = true;
	begins = wire_i64(&w);
	ends = wire_i64(&w);
	pkcs8 = wire_str(&w);
	chain = wire_str(&w);
	if (w.bad || w.rest.n || begins >= ends)
		return err_set(e, ERR_INVALID, "signer: what was sealed is malformed");
	if (!own_pkcs8(pkcs8, &key, e))
		return false;
	return kind == AUTHORITY_JWT ? take_jwt(h, key, ends, id, e)
				     : take_x509(h, key, chain, id, e);
}

bool signer_hold_init(struct signer_hold *h, const struct signer_keys *keys,
		      const struct signer_upstream *upstream, struct str trust_domain,
		      int64_t ttl_s, struct err *e)
{
	char id[AUTHORITY_ID_MAX + 1];

	*h = (struct signer_hold){
		.keys = keys, .upstream = upstream, .trust_domain = trust_domain, .ttl_s = ttl_s
	};
	if (keys->jwt && (!jwt_kid(keys->jwt, id, e) || !use_first(h, AUTHORITY_JWT, str_c(id), e)))
		return false;
	return !keys->x509 || (x509_authority_id(keys->authority, id, e) &&
			       use_first(h, AUTHORITY_X509, str_c(id), e));
}

void signer_hold_clear(struct signer_hold *h)
{
	jwt_signer_free(h->jwt);
	EVP_PKEY_free(h->jwt_key);
	EVP_PKEY_free(h->x509_key);
	X509_free(h->authority);
	buf_clear(&h->chain);
	*h = (struct signer_hold){ 0 };
}
