/* What attestors trust, from files: JWK sets of issuers, and certificates that vouch. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include "authz/base/pem.h"
#include "spiffe/attest_inside.h"

static bool read_file(const char *path, struct buf *out, struct stat *st, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = 1;

	if (fd < 0 || fstat(fd, st) || !S_ISREG(st->st_mode)) {
		int why = fd < 0 ? errno : EINVAL;

		if (fd >= 0)
			close(fd);
		return err_set(e, ERR_IO, "%s cannot be read: %s", path,
			       why == EINVAL ? "it is no plain file" : strerror(why));
	}
	while (n > 0) {
		char *at = buf_room(out, 16384);

		if (!at)
			break;
		n = read(fd, at, 16384);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n > 0)
			out->n += (size_t)n;
	}
	close(fd);
	if (n != 0 || !buf_ok(out))
		return err_set(e, ERR_IO, "%s cannot be read, or is larger than %d KiB", path,
			       JWKS_BYTES_MAX / 1024);
	return true;
}

static bool load(struct attest_keys *k, struct err *e)
{
	const char *path = k->config->jwks.p + strlen("file:");
	struct jwks *keys = NULL;
	AUTO_BUF text = { 0 };
	struct stat st = { 0 };

	buf_init(&text, mem_system, JWKS_BYTES_MAX + 16384);
	if (!read_file(path, &text, &st, e))
		return false;
	k->changed = st.st_mtim; /* also of a file that is wrong: said once, not each minute */
	if (!jwks_read(buf_str(&text), &keys, e))
		return err_prefix(e, "%s", path);
	jwks_free(k->keys);
	k->keys = keys;
	return true;
}

static bool load_named(struct attest_keys *k, struct err *e)
{
	return load(k, e) ||
	       err_prefix(e, "keys of %.*s", STR_FMT(str_first(k->config->issuer, 200)));
}

bool attest_keys_load(struct attest *a, struct attest_keys *k, const struct attest_issuer *config,
		      struct err *e)
{
	k->config = config;
	k->fetched = !str_starts(config->jwks, STR("file:"));
	return k->fetched ? attest_source_open(a, &k->source, config, e) : load_named(k, e);
}

bool attest_keys_refresh(struct attest_keys *k, struct err *e)
{
	struct stat st;

	if (!k->keys ||
	    (stat(k->config->jwks.p + strlen("file:"), &st) == 0 &&
	     st.st_mtim.tv_sec == k->changed.tv_sec && st.st_mtim.tv_nsec == k->changed.tv_nsec))
		return true;
	return load_named(k, e);
}

/* --- certificates --- */

static bool add_anchors(X509_STORE *store, const char *path, int *n, struct err *e)
{
	AUTO_BUF text = { 0 };
	struct stat st;
	X509 *cert;
	BIO *bio;
	bool ok = true;
	int before = *n;

	buf_init(&text, mem_system, JWKS_BYTES_MAX + 16384);
	if (!read_file(path, &text, &st, e))
		return false;
	bio = BIO_new_mem_buf(text.p, (int)text.n);
	while (ok && bio && (cert = pem_certificate(bio))) {
		ok = X509_check_purpose(cert, -1, 0) == 1 &&
		     (X509_get_extension_flags(cert) & EXFLAG_CA) &&
		     X509_STORE_add_cert(store, cert) == 1 && ++*n <= ATTEST_ANCHORS_MAX;
		X509_free(cert);
	}
	BIO_free(bio);
	crypto_err(NULL, "-"); /* the end of the file is an error to OpenSSL */
	return (ok && *n > before) ||
	       err_set(e, ERR_INVALID,
		       "attest.x509pop: %s: expected certificates of authorities (CA) in PEM, at "
		       "most %d in all",
		       path, ATTEST_ANCHORS_MAX);
}

bool attest_anchors_load(const struct attest_config *c, X509_STORE **out, struct err *e)
{
	X509_STORE *store = X509_STORE_new();
	bool ok = store || err_set(e, ERR_NOMEM, "no memory for certificates");
	int n = 0;

	for (size_t i = 0; ok && i < c->nx509pop; i++)
		ok = add_anchors(store, c->x509pop[i].p, &n, e);
	if (ok)
		*out = store;
	else
		X509_STORE_free(store);
	return ok;
}
