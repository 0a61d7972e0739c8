/*
 * svid x509: get an identity over HTTP.
 *
 * The private key is made here and never leaves; the server sees a CSR. What comes back is verified
 * like any other SVID before it replaces a good one on disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <openssl/err.h>
#include <pwd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "authz/base/clock.h"
#include "authz/base/pem.h"
#include "authz/base/text.h"
#include "authz/cli/commands.h"
#include "authz/cli/peer.h"
#include "authz/cli/print.h"
#include "authz/cli/svid.h"
#include "authz/store/file.h"
#include "spiffe/federation_read.h"
#include "spiffe/x509_svid.h"

#define PEM_BYTES (256 * 1024)

static void free_request(X509_REQ **r)
{
	X509_REQ_free(*r);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/* A CSR for @key: the key and the proof that we hold it, nothing else. */
static bool put_csr(EVP_PKEY *key, struct buf *pem, struct err *e)
{
	__attribute__((cleanup(free_request))) X509_REQ *r = X509_REQ_new();
	unsigned char *der = NULL;
	int n;

	if (!r || X509_REQ_set_version(r, 0) != 1 || X509_REQ_set_pubkey(r, key) != 1 ||
	    X509_REQ_sign(r, key, EVP_sha256()) <= 0 || (n = i2d_X509_REQ(r, &der)) <= 0)
		return crypto_err(e, "cannot make a certificate request");
	crypto_pem(pem, "CERTIFICATE REQUEST", (struct str){ (char *)der, (size_t)n });
	OPENSSL_free(der);
	return true;
}

static bool put_key(EVP_PKEY *key, struct buf *pem, struct err *e)
{
	AUTO_BUF der;
	bool ok;

	buf_init(&der, mem_system, PEM_BYTES);
	ok = crypto_pkcs8(key, &der, e);
	if (ok)
		crypto_pem(pem, "PRIVATE KEY", buf_str(&der));
	if (der.p)
		mem_wipe(der.p, der.n);
	return ok;
}

static STACK_OF(X509) * read_chain(struct str pem)
{
	STACK_OF(X509) *chain = sk_X509_new_null();
	BIO *in = BIO_new_mem_buf(pem.p, (int)pem.n);
	X509 *cert;

	while (chain && in && sk_X509_num(chain) < X509_SVID_CHAIN_MAX &&
	       (cert = pem_certificate(in)))
		if (!sk_X509_push(chain, cert))
			X509_free(cert);
	ERR_clear_error(); /* the end of the text is one */
	BIO_free(in);
	return chain;
}

/* Is what the server gave an SVID for @key and @id, under the bundle it gave? */
static bool holds(struct str svid, struct str bundle, EVP_PKEY *key, int64_t now_s,
		  struct svid_found *out, struct err *e)
{
	STACK_OF(X509) *chain = read_chain(svid);
	struct bundle_set *set = NULL;
	struct x509_svid found;
	bool ok = (sk_X509_num(chain) > 0 ||
		   err_set(e, ERR_INVALID, "it is no certificate in PEM")) &&
		  x509_svid_claim(sk_X509_value(chain, 0), &found, e) &&
		  peer_bundles(bundle, found.id.trust_domain, &set, e) &&
		  x509_svid_verify(set, chain, now_s, &found, e);

	if (ok && X509_check_private_key(sk_X509_value(chain, 0), key) != 1)
		ok = err_set(e, ERR_INTERNAL, "it is for another identity or another key");
	if (ok && !x509_times(sk_X509_value(chain, 0), &out->from_s, &out->to_s))
		ok = err_set(e, ERR_INTERNAL, "its times cannot be read");
	if (ok)
		snprintf(out->spiffe_id, sizeof(out->spiffe_id), "%s", found.text);
	ERR_clear_error();
	bundle_set_release(set);
	sk_X509_pop_free(chain, X509_free);
	return ok;
}

static bool check_svid(struct str svid, struct str bundle, struct str id, EVP_PKEY *key,
		       struct svid_found *out, struct err *e)
{
	bool ok = holds(svid, bundle, key, (int64_t)time(NULL), out, e);

	if (ok && !str_eq(str_c(out->spiffe_id), id))
		ok = err_set(e, ERR_INTERNAL, "it is for another identity or another key");
	return ok || err_prefix(e, "the server gave an SVID that does not hold");
}

static int open_dir(const char *dir, struct err *e)
{
	int fd;

	if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
		err_set(e, ERR_IO, "%s: %s", dir, strerror(errno));
		return -1;
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		err_set(e, ERR_IO, "%s: %s", dir, strerror(errno));
	return fd;
}

static const char *dir_of(const struct cli *c)
{
	const char *dir = cli_value(c, "--dir");

	return dir ? dir : SVID_DIR_DEFAULT;
}

/* "0640": never readable by all, and never writable by others than its owner. */
static bool read_mode(const char *text, mode_t *out, struct err *e)
{
	mode_t mode = 0;
	size_t n = strlen(text);

	for (size_t i = 0; i < n && n <= 4; i++)
		mode = mode * 8 +
		       (mode_t)(text[i] >= '0' && text[i] <= '7' ? text[i] - '0' : 07777);
	if (n > 4)
		mode = 07777;
	if (!(mode & 0400) || mode & ~(mode_t)0640)
		return err_code(e, ERR_INVALID, "wrong_usage",
				"--key-mode %.20s: expected 0400, 0440, 0600 or 0640", text);
	*out = mode;
	return true;
}

/* "USER" or "USER:GROUP"; USER alone brings its own group. */
static bool read_owner(const char *text, struct svid_files *f, struct err *e)
{
	struct str user = str_c(text), group = { NULL, 0 };
	const struct passwd *pw;
	const struct group *gr;
	char name[64];

	(void)str_cut(str_c(text), ':', &user, &group);
	snprintf(name, sizeof(name), "%.*s", STR_FMT(str_first(user, 60)));
	pw = getpwnam(name); /* NOLINT(concurrency-mt-unsafe): one thread */
	if (!pw)
		return err_code(e, ERR_INVALID, "wrong_usage", "--owner: no user %s here", name);
	f->owner = pw->pw_uid;
	f->group = pw->pw_gid;
	if (!group.p)
		return true;
	snprintf(name, sizeof(name), "%.*s", STR_FMT(str_first(group, 60)));
	gr = getgrnam(name); /* NOLINT(concurrency-mt-unsafe): one thread */
	if (!gr)
		return err_code(e, ERR_INVALID, "wrong_usage", "--owner: no group %s here", name);
	f->group = gr->gr_gid;
	return true;
}

bool svid_files_of(const struct cli *c, struct svid_files *out, struct err *e)
{
	const char *mode = cli_value(c, "--key-mode"), *owner = cli_value(c, "--owner");

	*out = (struct svid_files){ dir_of(c), 0600, (uid_t)-1, (gid_t)-1 };
	return (!mode || read_mode(mode, &out->key_mode, e)) &&
	       (!owner || read_owner(owner, out, e));
}

void svid_use_own(const struct cli *c, struct svid_own *own, struct api *api)
{
	const char *dir = dir_of(c);

	snprintf(own->svid, sizeof(own->svid), "%s/svid.pem", dir);
	snprintf(own->key, sizeof(own->key), "%s/key.pem", dir);
	snprintf(own->bundle, sizeof(own->bundle), "%s/bundle.pem", dir);
	if (!api->tls.svid) {
		api->tls.svid = own->svid;
		api->tls.key = own->key;
	}
	if (!cli_value(c, "--bundle") && access(own->bundle, R_OK) == 0)
		api->tls.bundle = own->bundle;
}

struct x509_job {
	EVP_PKEY *key;
	struct api api;
	struct svid_own own;
	struct buf body, anchors;
	const char *path;
};

/* By proof (a join token, say) where one is given, else by the SVID at hand. */
static bool prepare(struct cli *c, struct x509_job *j, bool by_proof, struct err *e)
{
	const bool proof = by_proof && svid_proof_given(c);
	const char *fingerprint = by_proof || !svid_proof_given(c) ? cli_value(c, "--fingerprint")
								   : NULL;
	AUTO_BUF csr;

	buf_init(&csr, mem_system, PEM_BYTES);
	if (!crypto_generate(&j->key, e) || !put_csr(j->key, &csr, e) ||
	    !api_open(c, proof ? API_AGENTS : API_TLS, &j->api, e))
		return false;
	if (fingerprint) {
		if (j->api.target.kind != TARGET_HTTPS)
			return err_code(e, ERR_INVALID, "wrong_usage",
					"--fingerprint is for a server at https://");
		if (!client_first_contact(&j->api.target, fingerprint, &j->anchors, e))
			return false;
		j->api.tls.anchors = buf_str(&j->anchors);
	}
	buf_char(&j->body, '{');
	if (proof) {
		if (!svid_proof_put(c, &j->api, j->key, &j->body, e))
			return false;
		j->path = "/v1/attest";
	} else {
		svid_use_own(c, &j->own, &j->api);
		j->path = "/v1/svid/x509";
	}
	buf_lit(&j->body, "\"csr\":");
	buf_json(&j->body, buf_str(&csr));
	buf_char(&j->body, '}');
	return true;
}

/* Whose a file becomes is settled where its mode is: before it has its name. */
static uid_t new_owner = (uid_t)-1;
static gid_t new_group = (gid_t)-1;

static int chmod_and_own(int fd, mode_t mode)
{
	if ((new_owner != (uid_t)-1 || new_group != (gid_t)-1) &&
	    fchown(fd, new_owner, new_group) != 0)
		return -1;
	return fchmod(fd, mode);
}

static bool put_file(const struct svid_files *files, int dir, const char *name, struct str text,
		     mode_t mode, struct err *e)
{
	struct file_calls calls = file_system_calls;

	calls.fchmod = chmod_and_own;
	new_owner = files->owner;
	new_group = files->group;
	return file_replace(&calls, dir, name, text, mode, e);
}

bool svid_put_file(const struct svid_files *files, const char *name, struct str text, mode_t mode,
		   struct err *e)
{
	__attribute__((cleanup(close_fd))) int fd = open_dir(files->dir, e);

	return fd >= 0 && put_file(files, fd, name, text, mode, e);
}

#define OLD_KEY "key.pem.old" /* while key.pem is newer than svid.pem */

/* Key first: a reader that sees the new SVID finds its key. Each file is replaced whole. The old
 * key stays until the new SVID is there: a power cut between the two must not cost the identity. */
static bool write_files(const struct svid_files *files, EVP_PKEY *key, struct str svid,
			struct str bundle, struct err *e)
{
	__attribute__((cleanup(close_fd))) int fd = open_dir(files->dir, e);
	AUTO_BUF pem;
	bool ok;

	buf_init(&pem, mem_system, PEM_BYTES);
	if (fd < 0)
		return false;
	ok = put_key(key, &pem, e);
	if (ok && linkat(fd, "key.pem", fd, OLD_KEY, 0) != 0 && errno != ENOENT && errno != EEXIST)
		ok = err_set(e, ERR_IO, "%s/" OLD_KEY ": %s", files->dir, strerror(errno));
	ok = ok && put_file(files, fd, "key.pem", buf_str(&pem), files->key_mode, e) &&
	     put_file(files, fd, "svid.pem", svid, 0644, e);
	if (ok)
		(void)unlinkat(fd, OLD_KEY, 0);
	ok = ok && put_file(files, fd, "bundle.pem", bundle, 0644, e);
	if (pem.p)
		mem_wipe(pem.p, pem.n);
	return ok;
}

bool svid_keep(const struct svid_files *files, EVP_PKEY *key, struct str id, struct str svid,
	       struct str bundle, struct svid_found *out, struct err *e)
{
	return check_svid(svid, bundle, id, key, out, e) &&
	       write_files(files, key, svid, bundle, e);
}

/* The members of the server's answer, checked and on disk. */
static bool keep(const struct svid_files *files, EVP_PKEY *key, const struct json *v,
		 struct svid_found *out, struct err *e)
{
	const struct json *id = json_get_type(v, STR("spiffe_id"), JSON_STRING);
	const struct json *svid = json_get_type(v, STR("x509_svid"), JSON_STRING);
	const struct json *bundle = json_get_type(v, STR("bundle"), JSON_STRING);

	if (!id || !svid || !bundle)
		return err_code(e, ERR_INTERNAL, "bad_response",
				"the server's answer has no spiffe_id, x509_svid or bundle");
	return svid_keep(files, key, id->s, svid->s, bundle->s, out, e);
}

static void say(struct cli *c, const char *dir, const struct svid_found *found)
{
	char expires[CLOCK_RFC3339_MAX];
	AUTO_BUF b;

	buf_init(&b, mem_system, 65536);
	clock_rfc3339(found->to_s * 1000, expires);
	if (c->json) {
		buf_lit(&b, "{\"spiffe_id\":");
		buf_json(&b, str_c(found->spiffe_id));
		buf_printf(&b, ",\"expires_at\":\"%s\",\"dir\":", expires);
		buf_json(&b, str_c(dir));
		buf_lit(&b, "}\n");
	} else {
		buf_printf(&b, "spiffe_id: %s\nexpires_at: %s\n", found->spiffe_id, expires);
		buf_printf(&b, "wrote %s/svid.pem, %s/key.pem, %s/bundle.pem\n", dir, dir, dir);
	}
	fwrite(b.p, 1, b.n, c->out);
}

static int get_x509(struct cli *c, struct x509_job *j)
{
	struct client_request q = { .method = "POST" };
	struct svid_files files;
	struct svid_found found;
	struct err e = { 0 };
	AUTO_ANSWER a = { 0 };
	int exit_code = CLI_FAILED;

	if (!svid_files_of(c, &files, &e))
		return cli_fail(c, &e);
	if (cli_value(c, "--socket")) {
		if (!svid_from_workload(c, &files, &found, &e))
			return cli_fail(c, &e);
		say(c, files.dir, &found);
		return CLI_DONE;
	}
	if (!prepare(c, j, svid_proof_given(c), &e))
		return cli_fail(c, &e);
	q.path = j->path;
	q.body = buf_str(&j->body);
	if (!api_ask(c, &j->api, &q, true, &a, &exit_code))
		return exit_code;
	if (!keep(&files, j->key, a.value, &found, &e))
		return cli_fail(c, &e);
	say(c, files.dir, &found);
	return CLI_DONE;
}

static void job_clear(struct x509_job *j)
{
	if (j->body.p)
		mem_wipe(j->body.p, j->body.n); /* a token that was not used yet */
	buf_clear(&j->body);
	buf_clear(&j->anchors);
	EVP_PKEY_free(j->key);
}

int run_svid_x509(struct cli *c)
{
	struct x509_job j = { 0 };
	int exit_code;

	buf_init(&j.body, mem_system, PEM_BYTES);
	buf_init(&j.anchors, mem_system, PEM_BYTES);
	exit_code = get_x509(c, &j);
	job_clear(&j);
	return exit_code;
}

/* ---- for those who watch ---- */

static bool ask_and_keep(struct x509_job *j, const struct svid_files *files, struct svid_found *out,
			 struct err *e)
{
	const struct client_request q = { .method = "POST",
					  .path = j->path,
					  .body = buf_str(&j->body) };
	const struct json *v = NULL;
	struct arena a;
	AUTO_REPLY r = { 0 };
	bool ok;

	if (!client_ask(&j->api.target, &j->api.tls, &q, &r, e))
		return false;
	arena_init(&a, &mem_system, CLIENT_BODY);
	ok = json_parse(buf_str(&r.body), &json_default_limits, &a, &v, e) &&
	     keep(files, j->key, v, out, e);
	arena_clear(&a);
	return ok;
}

bool svid_obtain(struct cli *c, const struct svid_files *files, bool by_proof,
		 struct svid_found *out, struct err *e)
{
	struct x509_job j = { 0 };
	bool ok;

	buf_init(&j.body, mem_system, PEM_BYTES);
	buf_init(&j.anchors, mem_system, PEM_BYTES);
	ok = prepare(c, &j, by_proof, e) && ask_and_keep(&j, files, out, e);
	job_clear(&j);
	return ok;
}

static EVP_PKEY *read_key(struct str pem)
{
	BIO *in = BIO_new_mem_buf(pem.p, (int)pem.n);
	EVP_PKEY *key = in ? pem_private_key(in) : NULL;

	ERR_clear_error();
	BIO_free(in);
	return key;
}

static bool pair_holds(int fd, const char *key_name, int64_t now_s, struct svid_found *out,
		       struct err *e)
{
	AUTO_BUF svid, key, bundle;
	AUTO_PKEY *pkey = NULL;
	bool ok;

	buf_init(&svid, mem_system, PEM_BYTES);
	buf_init(&key, mem_system, PEM_BYTES);
	buf_init(&bundle, mem_system, PEM_BYTES);
	ok = file_read(fd, "svid.pem", PEM_BYTES, &svid, e) &&
	     file_read(fd, key_name, PEM_BYTES, &key, e) &&
	     file_read(fd, "bundle.pem", PEM_BYTES, &bundle, e);
	if (ok) {
		pkey = read_key(buf_str(&key));
		ok = pkey ? holds(buf_str(&svid), buf_str(&bundle), pkey, now_s, out, e)
			  : err_set(e, ERR_INVALID, "%s is no private key in PEM", key_name);
	}
	if (key.p)
		mem_wipe(key.p, key.n);
	return ok;
}

bool svid_on_disk(const struct svid_files *files, int64_t now_s, struct svid_found *out,
		  struct err *e)
{
	__attribute__((cleanup(close_fd))) int fd = open(files->dir,
							 O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_set(e, ERR_NOT_FOUND, "%s: %s", files->dir, strerror(errno));
	if (pair_holds(fd, "key.pem", now_s, out, e)) {
		(void)unlinkat(fd, OLD_KEY, 0); /* cut off right after: of no use any more */
		return true;
	}
	/* We were cut off between the new key and its SVID: the old pair is still good. */
	if (pair_holds(fd, OLD_KEY, now_s, out, NULL) && renameat(fd, OLD_KEY, fd, "key.pem") == 0)
		return true;
	return err_prefix(e, "the SVID in %s", files->dir);
}

/* The server's bundle as PEM; its trust domain is that of the one we have. */
static bool read_bundle(struct str document, struct buf *pem, int64_t *next_s, struct err *e)
{
	struct federation_document d = { 0 };
	struct bundle_set *set = bundle_set_new(0, e);
	bool ok = set && federation_read(document, STR("ours"), set, &d, e);

	if (ok && !set->items[0]->nauthorities)
		ok = err_set(e, ERR_INVALID, "the server's bundle has no X.509 authority");
	if (ok) {
		bundle_pem(set->items[0], pem);
		*next_s = d.has_hint && d.hint_s >= 10 ? d.hint_s : 300;
	}
	bundle_set_release(set);
	return ok && buf_ok(pem);
}

bool svid_refresh_bundle(struct cli *c, const struct svid_files *files, bool *changed,
			 int64_t *next_s, struct err *e)
{
	const struct client_request q = { .method = "GET", .path = "/bundle" };
	__attribute__((cleanup(close_fd))) int fd = open_dir(files->dir, e);
	AUTO_BUF old, pem;
	AUTO_REPLY r = { 0 };
	struct api api;
	struct svid_own own = { "", "", "" };

	*changed = false;
	buf_init(&old, mem_system, PEM_BYTES);
	buf_init(&pem, mem_system, PEM_BYTES);
	if (fd < 0 || !file_read(fd, "bundle.pem", PEM_BYTES, &old, e) ||
	    !api_open(c, API_TLS, &api, e))
		return false;
	svid_use_own(c, &own, &api);
	if (!client_ask(&api.target, &api.tls, &q, &r, e) ||
	    !read_bundle(buf_str(&r.body), &pem, next_s, e))
		return false;
	if (str_eq(buf_str(&old), buf_str(&pem)))
		return true;
	*changed = true;
	return put_file(files, fd, "bundle.pem", buf_str(&pem), 0644, e);
}
