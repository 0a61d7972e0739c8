#include "spiffe/signer_upstream.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/base/pem.h"
#include "authz/store/file.h"
#include "spiffe/crypto.h"
#include "spiffe/signer_seal.h"

#define FILE_MAX (256 * 1024)
#define READ_AHEAD 8192 /* room that file_read wants beyond its bound */

void signer_upstream_clear(struct signer_upstream *u)
{
	X509_free(u->issuer.cert);
	EVP_PKEY_free(u->issuer.key);
	buf_clear(&u->chain);
	*u = (struct signer_upstream){ 0 };
}

static BIO *open_pem(const char *path, struct buf *text, struct err *e)
{
	BIO *bio;

	buf_init(text, mem_system, FILE_MAX + READ_AHEAD);
	if (!buf_room(text, FILE_MAX + READ_AHEAD) ||
	    !file_read(AT_FDCWD, path, FILE_MAX, text, e)) {
		err_prefix(e, "authority.upstream: %s", path);
		return NULL;
	}
	bio = BIO_new_mem_buf(text->p, (int)text->n);
	if (!bio)
		err_set(e, ERR_NOMEM, "no memory for %s", path);
	return bio;
}

bool upstream_read_pem(const char *path, size_t max, struct buf *der, struct err *e)
{
	AUTO_BUF text = { 0 };
	BIO *bio = open_pem(path, &text, e);
	size_t start = der->n;
	X509 *cert;

	if (!bio)
		return false;
	while ((cert = pem_certificate(bio))) {
		int n = i2d_X509(cert, NULL);
		unsigned char *at = n > 0 ? (unsigned char *)buf_room(der, (size_t)n) : NULL;

		if (at) {
			i2d_X509(cert, &at);
			der->n += (size_t)n;
		}
		X509_free(cert);
	}
	BIO_free(bio);
	crypto_err(NULL, "-"); /* the end of the file is an error to OpenSSL */
	if (!buf_ok(der) || der->n - start > max)
		return err_set(
			e, ERR_TOO_LARGE,
			"authority.upstream: the certificates of %s have more than %zu bytes", path,
			max);
	return der->n > start ||
	       err_set(e, ERR_INVALID, "authority.upstream: %s holds no certificate in PEM", path);
}

static bool read_key(const char *path, EVP_PKEY **out, struct err *e)
{
	AUTO_SECRET text = { 0 };
	struct stat st;
	BIO *bio;

	if (stat(path, &st) == 0 && (st.st_mode & 027))
		return err_set(
			e, ERR_FORBIDDEN,
			"authority.upstream.key: %s has mode %04o, open to others: chmod 600 %s",
			path, (unsigned)(st.st_mode & 07777), path);
	bio = open_pem(path, &text, e);
	if (!bio)
		return false;
	*out = pem_private_key(bio);
	BIO_free(bio);
	if (*out)
		return true;
	crypto_err(NULL, "-");
	return err_set(e, ERR_INVALID,
		       "authority.upstream.key: %s holds no private key in PEM without a password",
		       path);
}

/* May it sign an authority that signs leaves? */
static bool check_issuer(const struct signer_upstream *u, const struct upstream_files *f,
			 int64_t now_s, struct err *e)
{
	int64_t begins, ends;
	uint32_t flags;
	X509 *cert = u->issuer.cert;

	if (X509_check_purpose(cert, -1, 0) != 1 || !x509_times(cert, &begins, &ends))
		return crypto_err(e, "authority.upstream: %s is malformed", f->certificate);
	flags = X509_get_extension_flags(cert);
	if (!(flags & EXFLAG_CA) || !(flags & EXFLAG_KUSAGE) ||
	    !(X509_get_key_usage(cert) & KU_KEY_CERT_SIGN))
		return err_set(e, ERR_INVALID,
			       "authority.upstream: the first certificate of %s is no CA with key "
			       "usage keyCertSign",
			       f->certificate);
	if (X509_get_pathlen(cert) == 0)
		return err_set(e, ERR_INVALID,
			       "authority.upstream: %s has path length 0, so it may sign leaves "
			       "only; an authority below it needs 1",
			       f->certificate);
	if (now_s < begins || now_s >= ends)
		return err_set(e, ERR_INVALID, "authority.upstream: %s is %s", f->certificate,
			       now_s < begins ? "not valid yet" : "expired; renew it");
	if (X509_check_private_key(cert, u->issuer.key) == 1)
		return true;
	crypto_err(NULL, "-");
	return err_set(e, ERR_INVALID, "authority.upstream: %s is not the key of %s", f->key,
		       f->certificate);
}

/* All certificates of @ders, owned by the stack; the bundle's also go to @store. */
static bool load_all(struct str ders, STACK_OF(X509) * stack, X509_STORE *store)
{
	struct str der;

	while (x509_chain_next(&ders, &der)) {
		X509 *cert = NULL;
		bool ok = crypto_certificate(der, &cert, NULL) &&
			  (!store || X509_STORE_add_cert(store, cert) == 1);

		if (!ok || (stack && sk_X509_push(stack, cert) <= 0)) {
			X509_free(cert);
			return false;
		}
		if (!stack)
			X509_free(cert);
	}
	return true;
}

static bool leads_to(const struct signer_upstream *u, struct str chain, struct str roots,
		     const struct upstream_files *f, int64_t now_s, struct err *e)
{
	STACK_OF(X509) *above = sk_X509_new_null();
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	bool ok = above && store && ctx && load_all(chain, above, NULL) &&
		  load_all(roots, NULL, store) &&
		  X509_STORE_CTX_init(ctx, store, u->issuer.cert, above) == 1;

	if (!ok) {
		crypto_err(e, "authority.upstream: cannot check the chain");
	} else {
		X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_PARTIAL_CHAIN);
		X509_STORE_CTX_set_time(ctx, 0, (time_t)now_s);
		ok = X509_verify_cert(ctx) == 1 ||
		     err_set(e, ERR_INVALID,
			     "authority.upstream: %s does not lead to a root of %s (%s)",
			     f->certificate, f->bundle,
			     X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
		crypto_err(NULL, "-");
	}
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	sk_X509_pop_free(above, X509_free);
	return ok;
}

/* What SVIDs carry besides our own authority: the file's certificates but self-signed ones, which
 * verifiers have from the bundle or not at all. */
static bool keep_chain(struct signer_upstream *u, struct str all, struct err *e)
{
	struct str der;
	size_t n = 0;

	buf_init(&u->chain, mem_system, UPSTREAM_CHAIN_MAX);
	while (x509_chain_next(&all, &der)) {
		AUTO_X509 *cert = NULL;

		if (!crypto_certificate(der, &cert, e))
			return false;
		if (X509_NAME_cmp(X509_get_subject_name(cert), X509_get_issuer_name(cert)) == 0)
			continue;
		buf_add(&u->chain, der);
		if (++n > UPSTREAM_DEPTH || !buf_ok(&u->chain))
			return err_set(
				e, ERR_TOO_LARGE,
				"authority.upstream: more than %d certificates, or %d bytes, "
				"stand between our authority and the root",
				UPSTREAM_DEPTH, UPSTREAM_CHAIN_MAX);
	}
	return true;
}

bool signer_upstream_open(const struct upstream_files *f, int64_t now_s,
			  struct signer_upstream *out, struct err *e)
{
	struct signer_upstream u = { .issuer.constrain = f->constrain };
	AUTO_BUF chain = { 0 };
	AUTO_BUF roots = { 0 };
	struct str rest, first;

	buf_init(&chain, mem_system, FILE_MAX);
	buf_init(&roots, mem_system, FILE_MAX);
	if (upstream_read_pem(f->certificate, FILE_MAX, &chain, e) &&
	    upstream_read_pem(f->bundle, FILE_MAX, &roots, e)) {
		rest = buf_str(&chain);
		if (x509_chain_next(&rest, &first) &&
		    crypto_certificate(first, &u.issuer.cert, e) &&
		    read_key(f->key, &u.issuer.key, e) && check_issuer(&u, f, now_s, e) &&
		    leads_to(&u, rest, buf_str(&roots), f, now_s, e) &&
		    keep_chain(&u, buf_str(&chain), e)) {
			*out = u;
			return true;
		}
	}
	signer_upstream_clear(&u);
	return false;
}
