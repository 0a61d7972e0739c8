#include "authz/cli/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <time.h>
#include <unistd.h>

#include "authz/base/pem.h"
#include "authz/store/file.h"
#include "spiffe/x509_svid.h"

#define PEM_FILE_MAX (1024 * 1024)

struct judge {
	struct str anchors; /* PEM */
	struct str own;	    /* trust domain of our own SVID; empty: we have none */
	struct err err;
};

/* OpenSSL says nothing useful of a file that is not there. */
static bool is_readable(const char *path, const char *what, struct err *e)
{
	if (access(path, R_OK) == 0)
		return true;
	return err_code(e, ERR_INVALID, "no_svid",
			"%s %s: %s; `writ svid x509 --join-token` fetches a first SVID, and --dir "
			"or --svid and --key name one that is there",
			what, path, strerror(errno));
}

SSL_CTX *peer_context(const struct client_tls *tls, struct err *e)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1) {
		SSL_CTX_free(ctx);
		crypto_err(e, "cannot set up TLS");
		return NULL;
	}
	if (tls && tls->svid &&
	    (!is_readable(tls->svid, "the SVID", e) ||
	     (tls->key && !is_readable(tls->key, "the key of the SVID,", e)))) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	SSL_CTX_set_default_passwd_cb(ctx, pem_no_passphrase);
	if (tls && tls->svid &&
	    (SSL_CTX_use_certificate_chain_file(ctx, tls->svid) != 1 ||
	     SSL_CTX_use_PrivateKey_file(ctx, tls->key ? tls->key : "", SSL_FILETYPE_PEM) != 1 ||
	     SSL_CTX_check_private_key(ctx) != 1)) {
		crypto_err(e, "cannot use the SVID %s with the key %s", tls->svid,
			   tls->key ? tls->key : "(none: --key)");
		e->class = ERR_INVALID;
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

/* The trust domain of the one URI SAN of @cert, a SPIFFE ID; *found false: it has no URI at all.
 * False: it has others. */
static bool domain_of(X509 *cert, bool with_path, struct buf *out, bool *found, struct err *e)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	struct spiffe_id id = { 0 };
	int uris = 0;
	bool ok = true;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		struct str uri;

		if (name->type != GEN_URI)
			continue;
		uri = (struct str){ (const char *)ASN1_STRING_get0_data(name->d.ia5),
				    (size_t)ASN1_STRING_length(name->d.ia5) };
		ok = ok && spiffe_id_parse(uri, &id, e) && (id.path.n > 0) == with_path;
		if (ok && uris++ == 0)
			buf_add(out, id.trust_domain);
	}
	GENERAL_NAMES_free(names);
	*found = uris > 0;
	return ok && uris <= 1 && buf_ok(out);
}

/* An authority names its trust domain; an organisation's root, which stands in the bundle of a
 * domain whose authority is signed by it, does not, and is taken for one of @domain. */
static bool add_authority(struct bundle_set *set, X509 *authority, struct str domain, struct err *e)
{
	struct bundle *b;
	unsigned char *der = NULL;
	AUTO_BUF own;
	bool found, ok;
	int n;

	buf_init(&own, mem_system, SPIFFE_TRUST_DOMAIN_MAX);
	ok = domain_of(authority, false, &own, &found, e);
	if (!ok || (!found && !domain.n))
		return err_code(e, ERR_INVALID, "invalid_bundle",
				"the bundle holds a certificate that is not the authority of a "
				"trust domain");
	if (found)
		domain = buf_str(&own);
	if (set->n == 0 && !bundle_set_add(set, domain, 0, 0, &b, e))
		return false;
	b = set->items[0];
	if (!str_eq(b->trust_domain, domain))
		return err_code(e, ERR_INVALID, "invalid_bundle",
				"the bundle holds authorities of two trust domains, %.*s and %.*s; "
				"give the one of the server",
				STR_FMT(b->trust_domain), STR_FMT(domain));
	n = i2d_X509(authority, &der);
	if (n <= 0)
		return crypto_err(e, "cannot encode an authority");
	ok = bundle_add_authority(b, (struct str){ (char *)der, (size_t)n }, e);
	OPENSSL_free(der);
	return ok;
}

bool peer_bundles(struct str pem, struct str domain, struct bundle_set **out, struct err *e)
{
	BIO *in = BIO_new_mem_buf(pem.p, (int)pem.n);
	struct bundle_set *set = bundle_set_new(1, e);
	bool ok = in && set;

	while (ok) {
		AUTO_X509 *authority = pem_certificate(in);

		if (!authority)
			break;
		ok = add_authority(set, authority, domain, e);
	}
	ERR_clear_error(); /* the end of the file is one */
	BIO_free(in);
	if (ok && set->n == 0)
		ok = err_code(e, ERR_INVALID, "invalid_bundle", "the bundle holds no certificate");
	if (!ok) {
		bundle_set_release(set);
		return false;
	}
	*out = set;
	return true;
}

/* The server under @set. */
static bool judge_server(struct bundle_set *set, STACK_OF(X509) * chain, struct err *e)
{
	struct str domain = set->items[0]->trust_domain;
	struct x509_svid svid;

	if (!x509_svid_verify(set, chain, (int64_t)time(NULL), &svid, e))
		return err_prefix(e,
				  "the server is nobody that our bundle knows; if its "
				  "authorities were replaced, take bundle.pem of its data folder "
				  "anew, or a join token and --fingerprint");
	if (str_eq(svid.id.trust_domain, domain) && str_eq(svid.id.path, STR(SPIFFE_SERVER_PATH)))
		return true;
	return err_code(e, ERR_UNAUTHENTICATED, "wrong_server",
			"the other end is %s, expected spiffe://%.*s" SPIFFE_SERVER_PATH, svid.text,
			STR_FMT(domain));
}

/* Roots that name no trust domain are taken for those of our own SVID's; at first contact, when
 * there is none, for those of the server's own word: then whoever the root lets be a writ is one.
 */
static int judge_chain(X509_STORE_CTX *store, void *arg)
{
	struct judge *j = arg;
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(store);
	struct bundle_set *set = NULL;
	AUTO_BUF claimed;
	bool found, ok;

	buf_init(&claimed, mem_system, SPIFFE_TRUST_DOMAIN_MAX);
	if (!j->own.n && sk_X509_num(chain) > 0 &&
	    !domain_of(sk_X509_value(chain, 0), true, &claimed, &found, &j->err))
		buf_reset(&claimed);
	err_none(&j->err);
	ok = peer_bundles(j->anchors, j->own.n ? j->own : buf_str(&claimed), &set, &j->err) &&
	     judge_server(set, chain, &j->err);
	bundle_set_release(set);
	return ok;
}

static bool read_anchors(const struct client_tls *tls, struct buf *pem, struct err *e)
{
	if (tls && tls->anchors.n) {
		buf_add(pem, tls->anchors);
		return true;
	}
	if (!tls || !tls->bundle)
		return err_code(
			e, ERR_UNAUTHENTICATED, "no_bundle",
			"no bundle to judge the server by; give --bundle FILE (bundle.pem of the "
			"server's data folder), or with a join token --fingerprint HEX");
	return file_read(AT_FDCWD, tls->bundle, PEM_FILE_MAX, pem, e);
}

bool peer_connect(SSL *ssl, const struct client_tls *tls, bool unproven, struct err *e)
{
	X509 *svid = SSL_get_certificate(ssl);
	struct judge j = { 0 };
	struct err ignored = { 0 };
	AUTO_BUF pem;
	AUTO_BUF own;
	bool ok, found;

	buf_init(&pem, mem_system, PEM_FILE_MAX);
	buf_init(&own, mem_system, SPIFFE_TRUST_DOMAIN_MAX);
	if (!unproven) {
		if (!read_anchors(tls, &pem, e))
			return false;
		if (svid && !domain_of(svid, true, &own, &found, &ignored))
			buf_reset(&own); /* no SVID: the server will say so */
		j.anchors = buf_str(&pem);
		j.own = buf_str(&own);
		SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
		SSL_CTX_set_cert_verify_callback(SSL_get_SSL_CTX(ssl), judge_chain, &j);
	}
	ok = SSL_connect(ssl) == 1;
	if (!ok && j.err.class != ERR_NONE) {
		ERR_clear_error();
		*e = j.err;
	} else if (!ok) {
		crypto_err(e, "cannot shake hands with the server");
		e->class = ERR_UNAVAILABLE;
	}
	SSL_CTX_set_cert_verify_callback(SSL_get_SSL_CTX(ssl), NULL, NULL);
	return ok;
}
