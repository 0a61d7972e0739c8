/*
 * The socket never blocks: each step waits in poll, for as long as the deadline leaves and at most
 * 100 ms at a time, so that a stop is seen. Nothing that was looked up is looked up twice: the
 * address that was judged is the one connected to.
 */
#include "authz/net/dial.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <resolv.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "authz/base/pem.h"

#define SLICE_MS 100
#define ADDRESSES_MAX 16 /* of one name that are tried */

/* Messages do not name the host: the caller puts it before them. */
static bool openssl_says(struct err *e, const char *what)
{
	unsigned long code = ERR_peek_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return err_code(e, ERR_UNAVAILABLE, "no_connection", "%s: %s", what,
			reason ? reason : "the connection broke");
}

static bool in_time(const struct dial_conn *c, int64_t *left_ms, struct err *e)
{
	int64_t left = c->deadline_ns - clock_mono_ns(c->to.clock);

	if (c->to.stop && atomic_load(c->to.stop))
		return err_code(e, ERR_UNAVAILABLE, "no_connection", "given up, writ is stopping");
	if (left <= 0)
		return err_code(e, ERR_TIMEOUT, "dial_timeout", "not done in time");
	*left_ms = (left + 999999) / 1000000;
	return true;
}

/* Until the socket is ready. False: the deadline, or a stop. */
static bool wait_for(const struct dial_conn *c, short events, struct err *e)
{
	struct pollfd p = { .fd = c->fd, .events = events };
	int64_t left;

	while (in_time(c, &left, e)) {
		int rc = poll(&p, 1, left < SLICE_MS ? (int)left : SLICE_MS);

		if (rc > 0)
			return true;
		if (rc < 0 && errno != EINTR)
			return err_set(e, ERR_IO, "poll: %s", strerror(errno));
	}
	return false;
}

/* ---- who is it ---- */

/* The resolver's patience is per thread; it is put back by nobody, since the threads that dial do
 * nothing else. */
static void hurry_resolver(void)
{
	if (!(_res.options & RES_INIT) && res_init() != 0)
		return;
	_res.retrans = 2;
	_res.retry = 2;
}

/* All addresses of the name, every one of them judged: a single private one among public ones is
 * how a name that was pointed inside looks. */
static bool look_up(const struct dial_conn *c, struct addrinfo **out, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_NUMERICSERV |
					      (c->to.literal ? AI_NUMERICHOST : 0) };
	struct addrinfo *all = NULL;
	int rc;

	hurry_resolver();
	rc = getaddrinfo(c->to.host, c->to.port, &hints, &all);
	if (rc != 0)
		return err_code(e, ERR_UNAVAILABLE, "unknown_host", "%s", gai_strerror(rc));
	for (const struct addrinfo *a = all; a; a = a->ai_next)
		if (!dial_address_ok(a->ai_addr, c->to.private_ok)) {
			char text[NI_MAXHOST] = "?";

			(void)getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL, 0,
					  NI_NUMERICHOST);
			freeaddrinfo(all);
			return err_code(e, ERR_FORBIDDEN, "forbidden_address",
					"its address %.64s is not a public one; writ connects to "
					"private ones only if `fetch.private` is set, and to a "
					"cloud's metadata never",
					text);
		}
	*out = all;
	return true;
}

static bool connect_one(struct dial_conn *c, const struct addrinfo *a, struct err *e)
{
	int error = 0;
	socklen_t n = sizeof(error);

	c->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		return err_set(e, ERR_IO, "cannot make a socket: %s", strerror(errno));
	if (connect(c->fd, a->ai_addr, a->ai_addrlen) == 0)
		return true;
	if (errno != EINPROGRESS)
		error = errno;
	else if (!wait_for(c, POLLOUT, e))
		return false;
	else if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0)
		error = errno;
	if (!error)
		return true;
	return err_code(e, ERR_UNAVAILABLE, "no_connection", "port %s: %s", c->to.port,
			strerror(error));
}

static bool connect_any(struct dial_conn *c, struct err *e)
{
	struct addrinfo *all = NULL;
	bool ok = false;
	int tried = 0;

	if (!look_up(c, &all, e))
		return false;
	for (const struct addrinfo *a = all; a && !ok && tried < ADDRESSES_MAX;
	     a = a->ai_next, tried++) {
		if (c->fd >= 0)
			close(c->fd);
		ok = connect_one(c, a, e);
	}
	freeaddrinfo(all);
	return ok;
}

/* ---- TLS ---- */

static int ask_judge(X509_STORE_CTX *store, void *arg)
{
	struct dial_conn *c = arg;
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(store);
	bool ok = chain && sk_X509_num(chain) > 0 && c->to.judge(c->to.ctx, chain, &c->judged);

	X509_STORE_CTX_set_error(store, ok ? X509_V_OK : X509_V_ERR_APPLICATION_VERIFICATION);
	return ok;
}

static bool trust_web(struct dial_conn *c, struct err *e)
{
	X509_VERIFY_PARAM *p = SSL_get0_param(c->ssl);
	bool ok;

	if (c->to.ca_file)
		ok = SSL_CTX_load_verify_file(c->ctx, c->to.ca_file) == 1;
	else
		ok = SSL_CTX_set_default_verify_paths(c->ctx) == 1;
	if (!ok) {
		ERR_clear_error();
		return c->to.ca_file
			       ? err_code(
					 e, ERR_INVALID, "untrusted_server",
					 "cannot read the authorities of Web PKI from %s, which "
					 "`fetch.ca_file` or a `ca_file` of its own names: expected "
					 "certificates in PEM",
					 c->to.ca_file)
			       : err_code(
					 e, ERR_INVALID, "untrusted_server",
					 "cannot read the system's authorities of Web PKI: install "
					 "ca-certificates, or name a file by `fetch.ca_file`");
	}
	X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
						   X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	X509_VERIFY_PARAM_set_depth(p, DIAL_CHAIN_MAX);
	X509_VERIFY_PARAM_set_auth_level(p, 2); /* no RSA below 2048, no SHA-1 */
	return c->to.literal ? X509_VERIFY_PARAM_set1_ip_asc(p, c->to.host) == 1
			     : X509_VERIFY_PARAM_set1_host(p, c->to.host, 0) == 1;
}

/* The name for the other end to choose its certificate by, and the protocol to speak. */
static bool introduce(struct dial_conn *c)
{
	unsigned char alpn[33];
	size_t n = c->to.alpn ? strlen(c->to.alpn) : 0;
	char host[256];

	snprintf(host, sizeof(host), "%s", c->to.host);
	if (!c->to.literal && SSL_set_tlsext_host_name(c->ssl, host) != 1)
		return false;
	if (!n)
		return true;
	if (n >= sizeof(alpn))
		return false;
	alpn[0] = (unsigned char)n;
	memcpy(alpn + 1, c->to.alpn, n);
	return SSL_set_alpn_protos(c->ssl, alpn, (unsigned)n + 1) == 0;
}

static bool show_certificate(struct dial_conn *c, struct err *e)
{
	if (!c->to.cert_file)
		return true;
	SSL_CTX_set_default_passwd_cb(c->ctx, pem_no_passphrase);
	if (SSL_CTX_use_certificate_chain_file(c->ctx, c->to.cert_file) == 1 &&
	    SSL_CTX_use_PrivateKey_file(c->ctx, c->to.key_file, SSL_FILETYPE_PEM) == 1 &&
	    SSL_CTX_check_private_key(c->ctx) == 1)
		return true;
	return openssl_says(e, "our own certificate or key cannot be used");
}

static bool set_up_tls(struct dial_conn *c, struct err *e)
{
	ERR_clear_error();
	c->ctx = SSL_CTX_new(TLS_client_method());
	if (!c->ctx || !SSL_CTX_set_min_proto_version(c->ctx, TLS1_2_VERSION) ||
	    !SSL_CTX_set_cipher_list(c->ctx, "ECDHE+AESGCM:ECDHE+CHACHA20"))
		return openssl_says(e, "cannot set up TLS");
	SSL_CTX_set_max_cert_list(c->ctx, 64 * 1024);
	SSL_CTX_set_verify(c->ctx, SSL_VERIFY_PEER, NULL);
	if (c->to.judge)
		SSL_CTX_set_cert_verify_callback(c->ctx, ask_judge, c);
	if (!show_certificate(c, e))
		return false;
	c->ssl = SSL_new(c->ctx);
	if (!c->ssl || SSL_set_fd(c->ssl, c->fd) != 1 || !introduce(c))
		return openssl_says(e, "cannot set up TLS");
	return c->to.judge || trust_web(c, e);
}

/* Wait for what OpenSSL waits for. False: it failed (@e unset if it is OpenSSL's to tell). */
static bool tls_wait(struct dial_conn *c, int rc, bool *broken, struct err *e)
{
	int why = SSL_get_error(c->ssl, rc);

	*broken = why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE;
	if (*broken)
		return false;
	return wait_for(c, why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, e);
}

static bool shake_hands(struct dial_conn *c, struct err *e)
{
	long verified;
	bool broken;
	int rc;

	if (!set_up_tls(c, e))
		return false;
	while ((rc = SSL_connect(c->ssl)) != 1)
		if (!tls_wait(c, rc, &broken, e)) {
			verified = SSL_get_verify_result(c->ssl);
			if (!broken)
				return false;
			if (c->judged.class != ERR_NONE) {
				ERR_clear_error();
				if (e)
					*e = c->judged;
				return false;
			}
			if (verified != X509_V_OK) {
				ERR_clear_error();
				return err_code(e, ERR_UNAUTHENTICATED, "untrusted_server",
						"its certificate does not hold: %s",
						X509_verify_cert_error_string(verified));
			}
			return openssl_says(e, "the TLS handshake failed");
		}
	return true;
}

static bool send_plain(struct dial_conn *c, struct str bytes, struct err *e)
{
	while (bytes.n) {
		ssize_t n = send(c->fd, bytes.p, bytes.n, MSG_NOSIGNAL);

		if (n >= 0)
			bytes = str_from(bytes, (size_t)n);
		else if (errno != EAGAIN && errno != EINTR)
			return err_code(e, ERR_UNAVAILABLE, "no_connection", "cannot send: %s",
					strerror(errno));
		else if (!wait_for(c, POLLOUT, e))
			return false;
	}
	return true;
}

bool dial_send(struct dial_conn *c, struct str bytes, struct err *e)
{
	bool broken;
	size_t n = 0;

	if (c->to.plain)
		return send_plain(c, bytes, e);
	while (bytes.n) {
		ERR_clear_error();
		if (SSL_write_ex(c->ssl, bytes.p, bytes.n, &n) == 1)
			bytes = str_from(bytes, n);
		else if (!tls_wait(c, 0, &broken, e))
			return broken ? openssl_says(e, "cannot send") : false;
	}
	return true;
}

static bool read_plain(struct dial_conn *c, char *p, size_t n, size_t *got, struct err *e)
{
	for (;;) {
		ssize_t rc;

		if (!wait_for(c, POLLIN, e))
			return false;
		rc = recv(c->fd, p, n, 0);
		if (rc >= 0) {
			*got = (size_t)rc;
			return true;
		}
		if (errno != EAGAIN && errno != EINTR)
			return err_code(e, ERR_UNAVAILABLE, "no_connection", "cannot read: %s",
					strerror(errno));
	}
}

bool dial_read(struct dial_conn *c, char *p, size_t n, size_t *got, struct err *e)
{
	int64_t left;
	bool broken;

	*got = 0;
	for (;;) {
		/* Also when bytes keep coming, one by one: a drip must not outlive the deadline. */
		if (!in_time(c, &left, e))
			return false;
		if (c->to.plain)
			return read_plain(c, p, n, got, e);
		ERR_clear_error();
		if (SSL_read_ex(c->ssl, p, n, got) == 1)
			return true;
		/* Only a close_notify is an end: a cut by a stranger on the wire is not. */
		if (SSL_get_error(c->ssl, 0) == SSL_ERROR_ZERO_RETURN)
			return true;
		if (!tls_wait(c, 0, &broken, e))
			return broken ? openssl_says(e, "cannot read") : false;
	}
}

bool dial_alive(struct dial_conn *c)
{
	char waste[512];
	size_t n;

	for (int tries = 0; c->fd >= 0 && tries < 16; tries++) {
		ssize_t got;

		if (c->ssl) {
			int why;

			ERR_clear_error();
			if (SSL_read_ex(c->ssl, waste, sizeof(waste), &n) == 1)
				continue;
			why = SSL_get_error(c->ssl, 0);
			return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE;
		}
		got = recv(c->fd, waste, sizeof(waste), MSG_DONTWAIT);
		if (got == 0)
			return false;
		if (got < 0 && errno != EINTR)
			return errno == EAGAIN;
	}
	return false; /* closed, or it talks without end */
}

bool dial_open(struct dial_conn *c, const struct dial *to, int64_t deadline_ns, struct err *e)
{
	*c = (struct dial_conn){ .to = *to, .deadline_ns = deadline_ns, .fd = -1 };
	return connect_any(c, e) && (to->plain || shake_hands(c, e));
}

void dial_close(struct dial_conn *c)
{
	if (c->ssl)
		(void)SSL_shutdown(c->ssl);
	SSL_free(c->ssl);
	SSL_CTX_free(c->ctx);
	ERR_clear_error();
	if (c->fd >= 0)
		close(c->fd);
	c->ssl = NULL;
	c->ctx = NULL;
	c->fd = -1;
}
