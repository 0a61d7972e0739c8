#include "authz/net/tls.h"

#include <openssl/err.h>
#include <stdlib.h>

#include "authz/base/mem.h"
#include "authz/base/pem.h"

struct tls {
	struct tls_settings settings;
	SSL_CTX *ctx;
};

struct tls_session {
	SSL *ssl;
	struct tls *tls;
	struct tls_identity *identity; /* of a verified client */
	STACK_OF(X509) * chain;	       /* what that client sent */
	struct err why;		       /* of a refused one */
	bool done;		       /* the handshake; and nothing has broken since */
};

static bool openssl_failed(struct err *e, const char *what)
{
	char text[160];

	ERR_error_string_n(ERR_peek_last_error(), text, sizeof(text));
	ERR_clear_error();
	return err_set(e, ERR_INTERNAL, "%s: %s", what, text);
}

static void free_certificate(struct shared *s)
{
	struct tls_certificate *c = (struct tls_certificate *)s;

	X509_free(c->leaf);
	sk_X509_pop_free(c->chain, X509_free);
	EVP_PKEY_free(c->key);
	free(c);
}

struct tls_certificate *tls_certificate_new(X509 *leaf, STACK_OF(X509) * chain, EVP_PKEY *key,
					    struct err *e)
{
	struct tls_certificate *c;

	ERR_clear_error();
	if (X509_check_private_key(leaf, key) != 1) {
		openssl_failed(e, "the server's certificate and its private key do not belong "
				  "together");
		return NULL;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		err_set(e, ERR_NOMEM, "no memory for the server's certificate");
		return NULL;
	}
	shared_init(&c->shared, free_certificate);
	c->chain = chain ? X509_chain_up_ref(chain) : sk_X509_new_null();
	if (!c->chain || !X509_up_ref(leaf) || !EVP_PKEY_up_ref(key)) {
		sk_X509_pop_free(c->chain, X509_free);
		free(c);
		err_set(e, ERR_NOMEM, "no memory for the server's certificate");
		return NULL;
	}
	c->leaf = leaf;
	c->key = key;
	return c;
}

static STACK_OF(X509) * read_certs(struct str pem)
{
	BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
	STACK_OF(X509) *all = sk_X509_new_null();
	X509 *one;

	while (bio && all && (one = pem_certificate(bio)))
		if (!sk_X509_push(all, one))
			X509_free(one);
	BIO_free(bio);
	ERR_clear_error(); /* the last read found the end */
	return all;
}

struct tls_certificate *tls_certificate_from_pem(struct str certs, struct str key, struct err *e)
{
	STACK_OF(X509) *all = read_certs(certs);
	BIO *bio = BIO_new_mem_buf(key.p, (int)key.n);
	EVP_PKEY *pkey = bio ? pem_private_key(bio) : NULL;
	X509 *leaf = all ? sk_X509_shift(all) : NULL;
	struct tls_certificate *c = NULL;

	if (!leaf)
		err_set(e, ERR_INVALID, "the server's certificate is not in PEM form");
	else if (!pkey)
		err_set(e, ERR_INVALID,
			"the server's private key is not in PEM form, or needs a password");
	else
		c = tls_certificate_new(leaf, all, pkey, e);
	ERR_clear_error();
	X509_free(leaf);
	EVP_PKEY_free(pkey);
	BIO_free(bio);
	sk_X509_pop_free(all, X509_free);
	return c;
}

/* Called in each handshake: the certificate of this moment. */
static int choose_certificate(SSL *ssl, void *arg)
{
	struct tls *t = arg;
	struct tls_certificate *c = (struct tls_certificate *)slot_acquire(t->settings.certificate);
	int ok = c && SSL_use_cert_and_key(ssl, c->leaf, c->key, c->chain, 1);

	shared_release(c ? &c->shared : NULL);
	return ok;
}

/* In place of OpenSSL's own check: who is trusted is for the wiring to say. */
static int verify_chain(X509_STORE_CTX *x, void *arg)
{
	struct tls *t = arg;
	const SSL *ssl = X509_STORE_CTX_get_ex_data(x, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_session *s = ssl ? SSL_get_app_data(ssl) : NULL;
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(x);
	struct tls_identity *id;
	bool ok;

	X509_STORE_CTX_set_error(x, X509_V_ERR_APPLICATION_VERIFICATION);
	if (!s || !chain || sk_X509_num(chain) < 1 || !t->settings.verifier.verify)
		return 0;
	id = calloc(1, sizeof(*id));
	if (!id) {
		err_set(&s->why, ERR_NOMEM, "no memory to verify a client");
		return 0;
	}
	ok = t->settings.verifier.verify(t->settings.verifier.ctx, chain, id, &s->why);
	ERR_clear_error();
	if (!ok) {
		free(id);
		return 0;
	}
	free(s->identity);
	sk_X509_pop_free(s->chain, X509_free);
	s->identity = id;
	s->chain = X509_chain_up_ref(chain);
	if (s->chain)
		X509_STORE_CTX_set_error(x, X509_V_OK);
	return s->chain != NULL;
}

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *len,
			   const unsigned char *in, unsigned int n, void *arg)
{
	static const unsigned char ours[] = "\x02h2\x08http/1.1";
	unsigned char *chosen = NULL;

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto(&chosen, len, ours, sizeof(ours) - 1, in, n) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static bool set_up(struct tls *t, SSL_CTX *ctx)
{
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
					 SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				      SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify(ctx, t->settings.verifier.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE,
			   NULL);
	SSL_CTX_set_cert_verify_callback(ctx, verify_chain, t);
	SSL_CTX_set_cert_cb(ctx, choose_certificate, t);
	SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
	SSL_CTX_set_max_cert_list(ctx, 64 * 1024);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) &&
	       SSL_CTX_set_num_tickets(ctx, 0) &&
	       SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20");
}

struct tls *tls_new(const struct tls_settings *s, struct err *e)
{
	struct tls *t = calloc(1, sizeof(*t));

	ERR_clear_error();
	if (t) {
		t->settings = *s;
		t->ctx = SSL_CTX_new(TLS_server_method());
	}
	if (t && t->ctx && set_up(t, t->ctx))
		return t;
	openssl_failed(e, "cannot set up TLS");
	tls_free(t);
	return NULL;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	SSL_CTX_free(t->ctx);
	free(t);
}

const struct tls_verifier *tls_verifier_of(const struct tls *t)
{
	return &t->settings.verifier;
}

struct tls_session *tls_session_new(struct tls *t, int fd, struct err *e)
{
	struct tls_session *s = calloc(1, sizeof(*s));

	ERR_clear_error();
	if (s) {
		s->tls = t;
		s->ssl = SSL_new(t->ctx);
	}
	if (s && s->ssl && SSL_set_fd(s->ssl, fd) && SSL_set_app_data(s->ssl, s)) {
		SSL_set_accept_state(s->ssl);
		return s;
	}
	openssl_failed(e, "cannot start TLS on a connection");
	tls_session_free(s);
	return NULL;
}

void tls_session_free(struct tls_session *s)
{
	if (!s)
		return;
	SSL_free(s->ssl);
	free(s->identity);
	sk_X509_pop_free(s->chain, X509_free);
	free(s);
}

void tls_goodbye(struct tls_session *s)
{
	if (!s->done)
		return;
	s->done = false;
	ERR_clear_error();
	(void)SSL_shutdown(s->ssl);
	ERR_clear_error();
}

static enum tls_result result(struct tls_session *s, int rc)
{
	switch (SSL_get_error(s->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		return TLS_READ;
	case SSL_ERROR_WANT_WRITE:
		return TLS_WRITE;
	case SSL_ERROR_ZERO_RETURN:
		return TLS_CLOSED;
	default:
		s->done = false; /* no goodbye after a broken one */
		return TLS_FAILED;
	}
}

enum tls_result tls_handshake(struct tls_session *s, struct err *e)
{
	enum tls_result r;
	int rc;

	ERR_clear_error();
	rc = SSL_do_handshake(s->ssl);
	if (rc == 1) {
		s->done = true;
		return TLS_OK;
	}
	r = result(s, rc);
	if (r == TLS_FAILED && s->why.class)
		*e = s->why;
	else if (r == TLS_FAILED && ERR_peek_error())
		err_code(e, ERR_UNAUTHENTICATED, "tls_handshake", "the TLS handshake failed: %s",
			 ERR_reason_error_string(ERR_peek_last_error()));
	ERR_clear_error();
	return r;
}

enum tls_result tls_read(struct tls_session *s, void *p, size_t max, size_t *n)
{
	int rc;

	*n = 0;
	ERR_clear_error();
	rc = SSL_read_ex(s->ssl, p, max, n);
	return rc == 1 ? TLS_OK : result(s, rc);
}

enum tls_result tls_write(struct tls_session *s, const void *p, size_t len, size_t *n)
{
	int rc;

	*n = 0;
	ERR_clear_error();
	rc = SSL_write_ex(s->ssl, p, len, n);
	return rc == 1 ? TLS_OK : result(s, rc);
}

bool tls_is_http2(const struct tls_session *s)
{
	const unsigned char *p = NULL;
	unsigned int n = 0;

	SSL_get0_alpn_selected(s->ssl, &p, &n);
	return n == 2 && memcmp(p, "h2", 2) == 0;
}

const struct tls_identity *tls_identity_of(const struct tls_session *s)
{
	return s->identity;
}

STACK_OF(X509) * tls_chain_of(const struct tls_session *s)
{
	return s->chain;
}
