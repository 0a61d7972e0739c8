#include "authz/cli/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <time.h>
#include <unistd.h>

#include "authz/store/file.h"
#include "spiffe/x509_svid.h"

#define PEM_FILE_MAX (1024 * 1024)

struct judge {
	const struct bundle_set *bundles;
	struct err err;
};

static int no_password(char *text, int n, int writing, void *ctx)
{
	(void)text, (void)n, (void)writing, (void)ctx;
	return -1; /* a question at the terminal would hang a program that calls us */
}

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
	SSL_CTX_set_default_passwd_cb(ctx, no_password);
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

/* The trust domain an authority is of: its one URI SAN, a SPIFFE ID without a path. */
static bool authority_domain(X509 *authority, struct buf *out, struct err *e)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(authority, NID_subject_alt_name, NULL, NULL);
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
		ok = ok && spiffe_id_parse(uri, &id, e) && id.path.n == 0;
		if (ok && uris++ == 0)
			buf_add(out, id.trust_domain);
	}
	GENERAL_NAMES_free(names);
	if (!ok || uris != 1 || !buf_ok(out))
		return err_code(e, ERR_INVALID, "invalid_bundle",
				"the bundle holds a certificate that is not the authority of a "
				"trust domain");
	return true;
}

static bool add_authority(struct bundle_set *set, X509 *authority, struct err *e)
{
	struct bundle *b;
	unsigned char *der = NULL;
	AUTO_BUF domain;
	int n;
	bool ok;

	buf_init(&domain, mem_system, SPIFFE_TRUST_DOMAIN_MAX);
	if (!authority_domain(authority, &domain, e))
		return false;
	if (set->n == 0 && !bundle_set_add(set, buf_str(&domain), 0, 0, &b, e))
		return false;
	b = set->items[0];
	if (!str_eq(b->trust_domain, buf_str(&domain)))
		return err_code(e, ERR_INVALID, "invalid_bundle",
				"the bundle holds authorities of two trust domains, %.*s and %.*s; "
				"give the one of the server",
				STR_FMT(b->trust_domain), STR_FMT(buf_str(&domain)));
	n = i2d_X509(authority, &der);
	if (n <= 0)
		return crypto_err(e, "cannot encode an authority");
	ok = bundle_add_authority(b, (struct str){ (char *)der, (size_t)n }, e);
	OPENSSL_free(der);
	return ok;
}

bool peer_bundles(struct str pem, struct bundle_set **out, struct err *e)
{
	BIO *in = BIO_new_mem_buf(pem.p, (int)pem.n);
	struct bundle_set *set = bundle_set_new(1, e);
	bool ok = in && set;

	while (ok) {
		AUTO_X509 *authority = PEM_read_bio_X509(in, NULL, no_password, NULL);

		if (!authority)
			break;
		ok = add_authority(set, authority, e);
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

static int judge_chain(X509_STORE_CTX *store, void *arg)
{
	struct judge *j = arg;
	struct x509_svid svid;
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(store);

	if (!x509_svid_verify(j->bundles, chain, (int64_t)time(NULL), &svid, &j->err))
		return 0;
	if (!str_eq(svid.id.trust_domain, j->bundles->items[0]->trust_domain) ||
	    !str_eq(svid.id.path, STR(SPIFFE_SERVER_PATH))) {
		err_code(&j->err, ERR_UNAUTHENTICATED, "wrong_server",
			 "the other end is %s, expected spiffe://%.*s" SPIFFE_SERVER_PATH,
			 svid.text, STR_FMT(j->bundles->items[0]->trust_domain));
		return 0;
	}
	return 1;
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
	struct bundle_set *set = NULL;
	struct judge j = { 0 };
	AUTO_BUF pem;
	bool ok;

	buf_init(&pem, mem_system, PEM_FILE_MAX);
	if (!unproven) {
		if (!read_anchors(tls, &pem, e) || !peer_bundles(buf_str(&pem), &set, e))
			return false;
		j.bundles = set;
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
	bundle_set_release(set);
	return ok;
}
