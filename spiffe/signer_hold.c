#include "spiffe/signer_hold.h"

#include <openssl/x509v3.h>

#include "spiffe/crypto.h"
#include "spiffe/signer_wire.h"
#include "spiffe/wit_svid.h"

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
	struct buf token, spki; /* of a key in a token: its id, its public half */
	char id[AUTHORITY_ID_MAX + 1];
	int64_t begins_s, ends_s;
	struct buf chain; /* DER: certificate of an X.509 authority, and what is above it */
};

static void auto_fresh(struct fresh *f)
{
	EVP_PKEY_free(f->key);
	buf_clear(&f->token);
	buf_clear(&f->spki);
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

static bool make_key(const struct signer_hold *h, enum authority_kind kind, struct fresh *f,
		     struct err *e)
{
	buf_init(&f->token, mem_system, PKCS11_ID_LEN);
	buf_init(&f->spki, mem_system, CRYPTO_SPKI_MAX);
	if (signer_token_makes(h->token, kind))
		return signer_token_make(h->token, kind, &f->token, &f->spki, &f->key, e);
	return crypto_generate(&f->key, e) && crypto_spki(f->key, &f->spki, e);
}

static bool make(const struct signer_hold *h, enum authority_kind kind, int64_t now_s,
		 struct fresh *f, struct err *e)
{
	buf_init(&f->chain, mem_system, SIGNER_FRAME_MAX);
	f->begins_s = now_s - X509_SVID_BACKDATE_S;
	f->ends_s = now_s + h->ttl_s;
	if (!make_key(h, kind, f, e))
		return false;
	if (kind != AUTHORITY_X509)
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

/* Kind, times, PKCS#8 and chain under one seal, so that no part can be exchanged. Of a key in a
 * token its public half in place of PKCS#8, and its id at the end. */
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
	if (f->token.n)
		buf_add(&pkcs8, buf_str(&f->spki));
	else if (!crypto_pkcs8(f->key, &pkcs8, e))
		return false;
	wire_put_u8(&plain, (uint8_t)kind);
	wire_put_i64(&plain, f->begins_s);
	wire_put_i64(&plain, f->ends_s);
	wire_put_str(&plain, buf_str(&pkcs8));
	wire_put_str(&plain, buf_str(&f->chain));
	if (f->token.n)
		wire_put_str(&plain, buf_str(&f->token));
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

	buf_init(&pem, mem_system, SIGNER_FRAME_MAX);
	if (!make(h, kind, now_s, &f, e) || !seal_fresh(h, kind, &f, &pem, e))
		return false; /* what is in a token already is swept up as a leftover */
	wire_put_str(out, str_c(f.id));
	wire_put_i64(out, f.begins_s);
	wire_put_i64(out, f.ends_s);
	wire_put_str(out, buf_str(&f.spki));
	wire_put_str(out, buf_str(&f.chain));
	wire_put_str(out, buf_str(&pem));
	wire_put_str(out, buf_str(&f.token));
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

/* A key of tokens: @wit says which. */
static bool take_token_key(struct signer_hold *h, bool wit, EVP_PKEY *key, int64_t ends_s,
			   struct str id, struct err *e)
{
	struct jwt_signer **signer = wit ? &h->wit : &h->jwt, *s;
	EVP_PKEY **held = wit ? &h->wit_key : &h->jwt_key;
	char kid[JWT_KID_LEN + 1];

	if (!jwt_kid(key, kid, e))
		return false;
	if (!str_eq(id, str_c(kid)))
		return err_set(e, ERR_INVALID, "signer: the key's id is %s, not %.*s", kid,
			       STR_FMT(str_first(id, 64)));
	s = wit ? wit_signer_new(key, str_c(kid), e) : jwt_signer_new(key, str_c(kid), e);
	if (!s)
		return false;
	jwt_signer_free(*signer);
	EVP_PKEY_free(*held);
	EVP_PKEY_up_ref(key);
	*signer = s;
	*held = key;
	*(wit ? &h->wit_ends_s : &h->jwt_ends_s) = ends_s;
	return true;
}

static bool is_self_signed(const X509 *cert)
{
	return X509_NAME_cmp(X509_get_subject_name(cert), X509_get_issuer_name(cert)) == 0;
}

/* X509_check_private_key does not know a key in a token. */
static bool is_key_of(const X509 *cert, const EVP_PKEY *key)
{
	AUTO_BUF a = { 0 };
	AUTO_BUF b = { 0 };

	buf_init(&a, mem_system, CRYPTO_SPKI_MAX);
	buf_init(&b, mem_system, CRYPTO_SPKI_MAX);
	return crypto_spki(X509_get0_pubkey(cert), &a, NULL) && crypto_spki(key, &b, NULL) &&
	       str_eq(buf_str(&a), buf_str(&b));
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
	if (!is_key_of(cert, key))
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

	if (kind == AUTHORITY_WIT || (kind == AUTHORITY_JWT ? !h->keys->jwt : !h->keys->x509))
		return err_set(e, ERR_NOT_FOUND, "signer: the first %s key is gone",
			       authority_kind_name(kind));
	if (kind == AUTHORITY_JWT)
		return take_token_key(h, false, h->keys->jwt, INT64_MAX, id, e);
	buf_init(&der, mem_system, SIGNER_FRAME_MAX);
	if (!first_der(h, &der))
		return err_set(e, ERR_NOMEM, "no memory for a certificate");
	return take_x509(h, h->keys->x509, buf_str(&der), id, e);
}

/* What was sealed. */
struct unsealed {
	struct str key; /* PKCS#8; of one in a token its public half */
	struct str chain, token;
	int64_t ends_s;
};

static bool read_unsealed(struct str plain, enum authority_kind kind, struct unsealed *out,
			  struct err *e)
{
	struct wire w = { .rest = plain };
	int64_t begins;

	*out = (struct unsealed){ 0 };
	if (wire_u8(&w) != (uint8_t)kind)
		w.bad = true;
	begins = wire_i64(&w);
	out->ends_s = wire_i64(&w);
	out->key = wire_str(&w);
	out->chain = wire_str(&w);
	if (w.rest.n)
		out->token = wire_str(&w);
	if (w.bad || w.rest.n || begins >= out->ends_s ||
	    (out->token.n && out->token.n != PKCS11_ID_LEN))
		return err_set(e, ERR_INVALID, "signer: what was sealed is malformed");
	return true;
}

bool signer_hold_use(struct signer_hold *h, enum authority_kind kind, struct str id,
		     struct str sealed, struct err *e)
{
	AUTO_SECRET plain = { 0 };
	AUTO_PKEY *key = NULL;
	struct unsealed u = { 0 };
	char name[128];
	bool ok;

	if (id.n == 0 || id.n > AUTHORITY_ID_MAX)
		return err_set(e, ERR_INVALID, "signer: an id of 1 to %d bytes is expected",
			       AUTHORITY_ID_MAX);
	buf_init(&plain, mem_system, SECRET_ROOM + 1);
	if (!sealed.n) {
		ok = use_first(h, kind, id, e);
	} else {
		if (!buf_room(&plain, SECRET_ROOM))
			return err_set(e, ERR_NOMEM, "no memory for a key");
		ok = seal_break(&h->keys->seal, seal_name(kind, id, name), sealed, &plain, e) &&
		     read_unsealed(buf_str(&plain), kind, &u, e) &&
		     (u.token.n ? signer_token_use(h->token, kind, u.token, u.key, &key, e)
				: own_pkcs8(u.key, &key, e)) &&
		     (kind == AUTHORITY_X509
			      ? take_x509(h, key, u.chain, id, e)
			      : take_token_key(h, kind == AUTHORITY_WIT, key, u.ends_s, id, e));
	}
	if (!ok)
		return false;
	memset(h->in_token[kind], 0, PKCS11_ID_LEN);
	if (u.token.n)
		memcpy(h->in_token[kind], u.token.p, u.token.n);
	return true;
}

bool signer_hold_keep(const struct signer_hold *h, enum authority_kind kind, struct str tokens,
		      size_t *removed, struct err *e)
{
	AUTO_BUF all = { 0 };

	buf_init(&all, mem_system, SIGNER_FRAME_MAX);
	buf_add(&all, tokens);
	buf_add(&all, (struct str){ (const char *)h->in_token[kind], PKCS11_ID_LEN });
	return buf_ok(&all) ? signer_token_keep(h->token, kind, buf_str(&all), removed, e)
			    : err_set(e, ERR_NOMEM, "no memory for a list of keys");
}

void signer_hold_blame(const struct signer_hold *h, enum authority_kind kind, struct err *e)
{
	if (h->token)
		(void)pkcs11_key_failed(kind == AUTHORITY_JWT ? h->jwt_key : h->x509_key, e);
}

bool signer_hold_init(struct signer_hold *h, const struct signer_keys *keys,
		      const struct signer_upstream *upstream, struct signer_token *token,
		      struct str trust_domain, int64_t ttl_s, struct err *e)
{
	char id[AUTHORITY_ID_MAX + 1];

	*h = (struct signer_hold){
		.keys = keys,
		.upstream = upstream,
		.token = token,
		.trust_domain = trust_domain,
		.ttl_s = ttl_s,
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
	jwt_signer_free(h->wit);
	EVP_PKEY_free(h->wit_key);
	EVP_PKEY_free(h->x509_key);
	X509_free(h->authority);
	buf_clear(&h->chain);
	*h = (struct signer_hold){ 0 };
}
