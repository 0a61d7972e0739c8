/*
 * svid x509, svid jwt: get an identity over HTTP.
 *
 * The private key is made here and never leaves; the server sees a CSR. What comes back is verified
 * like any other SVID before it replaces a good one on disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/peer.h"
#include "authz/cli/print.h"
#include "authz/store/file.h"
#include "spiffe/x509_svid.h"

#define PATH_BYTES 4096
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
	       (cert = PEM_read_bio_X509(in, NULL, NULL, NULL)))
		if (!sk_X509_push(chain, cert))
			X509_free(cert);
	ERR_clear_error(); /* the end of the text is one */
	BIO_free(in);
	return chain;
}

/* Is what the server gave an SVID for @key and @id, under the bundle it gave? */
static bool check_svid(struct str svid, struct str bundle, struct str id, EVP_PKEY *key,
		       struct err *e)
{
	STACK_OF(X509) *chain = read_chain(svid);
	struct bundle_set *set = NULL;
	struct x509_svid found;
	struct spiffe_id asked;
	bool ok = spiffe_id_parse_workload(id, &asked, e) &&
		  peer_bundles(bundle, asked.trust_domain, &set, e) &&
		  x509_svid_verify(set, chain, (int64_t)time(NULL), &found, e);

	if (ok && (!str_eq(str_c(found.text), id) ||
		   X509_check_private_key(sk_X509_value(chain, 0), key) != 1))
		ok = err_set(e, ERR_INTERNAL, "it is for another identity or another key");
	ERR_clear_error();
	bundle_set_release(set);
	sk_X509_pop_free(chain, X509_free);
	if (!ok && e)
		return err_prefix(e, "the server gave an SVID that does not hold");
	return ok;
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

	return dir ? dir : ".";
}

/* Our own SVID in the folder stands in for --svid, --key and --bundle that are not given. */
struct own {
	char svid[PATH_BYTES], key[PATH_BYTES], bundle[PATH_BYTES];
};

static void use_own(const struct cli *c, struct own *own, struct api *api)
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

/* The token itself, or "@FILE", so that it need not stand in the list of processes. */
static bool read_token(const char *given, struct buf *out, struct err *e)
{
	if (given[0] != '@') {
		buf_add(out, str_c(given));
	} else if (!api_read_file(given + 1, 4096, out, e)) {
		return false;
	}
	while (out->n && strchr(" \r\n", out->p[out->n - 1]))
		out->n--;
	if (out->n == 0 || !text_is_printable(buf_str(out)))
		return err_code(e, ERR_INVALID, "wrong_usage", "--join-token: no token in it");
	return true;
}

struct x509_job {
	EVP_PKEY *key;
	struct api api;
	struct own own;
	struct buf body, anchors;
	const char *path;
};

/* By join token where one is given, else by the SVID at hand. */
static bool prepare(struct cli *c, struct x509_job *j, struct err *e)
{
	const char *token = cli_value(c, "--join-token");
	const char *fingerprint = cli_value(c, "--fingerprint");
	AUTO_BUF csr, secret;

	buf_init(&csr, mem_system, PEM_BYTES);
	buf_init(&secret, mem_system, 65536);
	if (!crypto_generate(&j->key, e) || !put_csr(j->key, &csr, e) ||
	    !api_open(c, token ? API_AGENTS : API_TLS, &j->api, e))
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
	if (token) {
		if (!read_token(token, &secret, e))
			return false;
		buf_lit(&j->body, "\"join_token\":");
		buf_json(&j->body, buf_str(&secret));
		buf_char(&j->body, ',');
		j->path = "/v1/attest";
	} else {
		use_own(c, &j->own, &j->api);
		j->path = "/v1/svid/x509";
	}
	buf_lit(&j->body, "\"csr\":");
	buf_json(&j->body, buf_str(&csr));
	buf_char(&j->body, '}');
	return true;
}

/* Key first: a reader that sees the new SVID finds its key. Each file is replaced whole. */
static bool write_files(const char *dir, EVP_PKEY *key, struct str svid, struct str bundle,
			struct err *e)
{
	__attribute__((cleanup(close_fd))) int fd = open_dir(dir, e);
	AUTO_BUF pem;
	bool ok;

	buf_init(&pem, mem_system, PEM_BYTES);
	if (fd < 0)
		return false;
	ok = put_key(key, &pem, e) && file_replace(NULL, fd, "key.pem", buf_str(&pem), 0600, e) &&
	     file_replace(NULL, fd, "svid.pem", svid, 0644, e) &&
	     file_replace(NULL, fd, "bundle.pem", bundle, 0644, e);
	if (pem.p)
		mem_wipe(pem.p, pem.n);
	return ok;
}

static bool keep(struct cli *c, EVP_PKEY *key, const struct json *v, struct err *e)
{
	const struct json *id = json_get_type(v, STR("spiffe_id"), JSON_STRING);
	const struct json *svid = json_get_type(v, STR("x509_svid"), JSON_STRING);
	const struct json *bundle = json_get_type(v, STR("bundle"), JSON_STRING);
	const struct json *expires = json_get_type(v, STR("expires_at"), JSON_STRING);
	const char *dir = dir_of(c);
	AUTO_BUF b = { 0 };

	if (!id || !svid || !bundle || !expires)
		return err_code(e, ERR_INTERNAL, "bad_response",
				"the server's answer has no spiffe_id, x509_svid, bundle or "
				"expires_at");
	if (!check_svid(svid->s, bundle->s, id->s, key, e) ||
	    !write_files(dir, key, svid->s, bundle->s, e))
		return false;
	buf_init(&b, mem_system, 65536);
	if (c->json) {
		buf_lit(&b, "{\"spiffe_id\":");
		buf_json(&b, id->s);
		buf_lit(&b, ",\"expires_at\":");
		buf_json(&b, expires->s);
		buf_lit(&b, ",\"dir\":");
		buf_json(&b, str_c(dir));
		buf_lit(&b, "}\n");
	} else {
		buf_lit(&b, "spiffe_id: ");
		print_safe(&b, id->s);
		buf_lit(&b, "\nexpires_at: ");
		print_safe(&b, expires->s);
		buf_printf(&b, "\nwrote %s/svid.pem, %s/key.pem, %s/bundle.pem\n", dir, dir, dir);
	}
	fwrite(b.p, 1, b.n, c->out);
	return true;
}

static int get_x509(struct cli *c, struct x509_job *j)
{
	struct client_request q = { .method = "POST" };
	struct err e = { 0 };
	AUTO_ANSWER a = { 0 };
	int exit_code = CLI_FAILED;

	if (!prepare(c, j, &e))
		return cli_fail(c, &e);
	q.path = j->path;
	q.body = buf_str(&j->body);
	if (!api_ask(c, &j->api, &q, true, &a, &exit_code))
		return exit_code;
	return keep(c, j->key, a.value, &e) ? CLI_DONE : cli_fail(c, &e);
}

int run_svid_x509(struct cli *c)
{
	struct x509_job j = { 0 };
	int exit_code;

	buf_init(&j.body, mem_system, PEM_BYTES);
	buf_init(&j.anchors, mem_system, PEM_BYTES);
	exit_code = get_x509(c, &j);
	if (j.body.p)
		mem_wipe(j.body.p, j.body.n); /* a token that was not used yet */
	buf_clear(&j.body);
	buf_clear(&j.anchors);
	EVP_PKEY_free(j.key);
	return exit_code;
}

static int put_token(struct cli *c, const struct answer *a)
{
	const struct json *svid = json_get_type(a->value, STR("svid"), JSON_STRING);
	const char *output = cli_value(c, "--output");
	struct err e = { 0 };

	if (!svid || !text_is_printable(svid->s)) {
		err_code(&e, ERR_INTERNAL, "bad_response", "the server's answer has no svid");
		return cli_fail(c, &e);
	}
	if (output && !file_replace(NULL, AT_FDCWD, output, svid->s, 0600, &e))
		return cli_fail(c, &e);
	if (c->json)
		answer_print(c, a);
	else if (!output)
		fprintf(c->out, "%.*s\n", STR_FMT(svid->s));
	return CLI_DONE;
}

int run_svid_jwt(struct cli *c)
{
	struct client_request q = { .method = "POST", .path = "/v1/svid/jwt" };
	struct api api;
	struct own own;
	struct err e = { 0 };
	AUTO_ANSWER a = { 0 };
	AUTO_BUF b = { 0 };
	const char *audience;
	size_t at = 0;
	int exit_code = CLI_FAILED;

	buf_init(&b, mem_system, PEM_BYTES);
	buf_lit(&b, "{\"audience\":");
	while ((audience = cli_next(c, "--audience", &at))) {
		buf_char(&b, buf_str(&b).p[b.n - 1] == ':' ? '[' : ',');
		buf_json(&b, str_c(audience));
	}
	buf_lit(&b, "]}");
	if (!cli_flag(c, "--audience"))
		return cli_misuse(c, "--audience is missing: whom the token is for");
	if (!api_open(c, API_TLS, &api, &e))
		return cli_fail(c, &e);
	use_own(c, &own, &api);
	q.body = buf_str(&b);
	if (!api_ask(c, &api, &q, true, &a, &exit_code))
		return exit_code;
	return put_token(c, &a);
}
