/*
 * The socket never blocks: each step waits in poll, for as long as the total deadline leaves and at
 * most 100 ms at a time, so that a stop is seen. Nothing that was looked up is looked up twice:
 * the address that was judged is the one connected to.
 */
#include "authz/net/fetch.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <resolv.h>
#include <stdio.h>
#include <unistd.h>

#include "authz/net/response.h"
#include "include/writ/words.h"

#define SLICE_MS 100
#define ADDRESSES_MAX 16 /* of one name that are tried */

/* One request to one URL. */
struct trip {
	const struct fetch *f;
	const struct clock *clock;
	const struct fetch_url *url;
	int64_t deadline_ns;
	int fd;
	SSL_CTX *ctx;
	SSL *ssl;
	struct err judged; /* why the judge said no */
};

/* Messages of a trip do not name the host: go() puts it before them. */
static bool openssl_says(struct err *e, const char *what)
{
	unsigned long code = ERR_peek_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return err_code(e, ERR_UNAVAILABLE, "no_connection", "%s: %s", what,
			reason ? reason : "the connection broke");
}

static bool in_time(const struct trip *t, int64_t *left_ms, struct err *e)
{
	int64_t left = t->deadline_ns - clock_mono_ns(t->clock);

	if (t->f->stop && atomic_load(t->f->stop))
		return err_code(e, ERR_UNAVAILABLE, "no_connection", "given up, writ is stopping");
	if (left <= 0)
		return err_code(e, ERR_TIMEOUT, "fetch_timeout", "no whole answer within %d ms",
				t->f->timeout_ms ? t->f->timeout_ms : FETCH_TIMEOUT_MS);
	*left_ms = (left + 999999) / 1000000;
	return true;
}

/* Until the socket is ready. False: the deadline, or a stop. */
static bool wait_for(const struct trip *t, short events, struct err *e)
{
	struct pollfd p = { .fd = t->fd, .events = events };
	int64_t left;

	while (in_time(t, &left, e)) {
		int rc = poll(&p, 1, left < SLICE_MS ? (int)left : SLICE_MS);

		if (rc > 0)
			return true;
		if (rc < 0 && errno != EINTR)
			return err_set(e, ERR_IO, "poll: %s", strerror(errno));
	}
	return false;
}

/* ---- who is it ---- */

static bool host_allowed(const struct fetch *f, const struct fetch_url *u, struct err *e)
{
	if (!f->hosts)
		return true;
	for (size_t i = 0; i < f->nhosts; i++)
		if (str_eq(f->hosts[i], str_c(u->host)))
			return true;
	return err_code(e, ERR_FORBIDDEN, "forbidden_host",
			"it is not among the hosts that the configuration names");
}

/* The resolver's patience is per thread; it is put back by nobody, since the threads that fetch do
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
static bool look_up(const struct trip *t, struct addrinfo **out, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_NUMERICSERV |
					      (t->url->literal ? AI_NUMERICHOST : 0) };
	struct addrinfo *all = NULL;
	int rc;

	hurry_resolver();
	rc = getaddrinfo(t->url->host, t->url->port, &hints, &all);
	if (rc != 0)
		return err_code(e, ERR_UNAVAILABLE, "unknown_host", "%s", gai_strerror(rc));
	for (const struct addrinfo *a = all; a; a = a->ai_next)
		if (!fetch_address_ok(a->ai_addr, t->f->private_ok)) {
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

static bool connect_one(struct trip *t, const struct addrinfo *a, struct err *e)
{
	int error = 0;
	socklen_t n = sizeof(error);

	t->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (t->fd < 0)
		return err_set(e, ERR_IO, "cannot make a socket: %s", strerror(errno));
	if (connect(t->fd, a->ai_addr, a->ai_addrlen) == 0)
		return true;
	if (errno != EINPROGRESS)
		error = errno;
	else if (!wait_for(t, POLLOUT, e))
		return false;
	else if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0)
		error = errno;
	if (!error)
		return true;
	return err_code(e, ERR_UNAVAILABLE, "no_connection", "port %s: %s", t->url->port,
			strerror(error));
}

static bool connect_any(struct trip *t, struct err *e)
{
	struct addrinfo *all = NULL;
	bool ok = false;
	int tried = 0;

	if (!look_up(t, &all, e))
		return false;
	for (const struct addrinfo *a = all; a && !ok && tried < ADDRESSES_MAX;
	     a = a->ai_next, tried++) {
		if (t->fd >= 0)
			close(t->fd);
		ok = connect_one(t, a, e);
	}
	freeaddrinfo(all);
	return ok;
}

/* ---- TLS ---- */

static int ask_judge(X509_STORE_CTX *store, void *arg)
{
	struct trip *t = arg;
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(store);
	bool ok = chain && sk_X509_num(chain) > 0 && t->f->judge(t->f->ctx, chain, &t->judged);

	X509_STORE_CTX_set_error(store, ok ? X509_V_OK : X509_V_ERR_APPLICATION_VERIFICATION);
	return ok;
}

static bool trust_web(struct trip *t, struct err *e)
{
	X509_VERIFY_PARAM *p = SSL_get0_param(t->ssl);
	bool ok;

	if (t->f->ca_file)
		ok = SSL_CTX_load_verify_file(t->ctx, t->f->ca_file) == 1;
	else
		ok = SSL_CTX_set_default_verify_paths(t->ctx) == 1;
	if (!ok) {
		ERR_clear_error();
		return err_code(
			e, ERR_INVALID, "untrusted_server",
			"cannot read the authorities of Web PKI from %s; see `fetch.ca_file`",
			t->f->ca_file ? t->f->ca_file : "the system's store");
	}
	X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
						   X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	X509_VERIFY_PARAM_set_depth(p, FETCH_CHAIN_MAX);
	X509_VERIFY_PARAM_set_auth_level(p, 2); /* no RSA below 2048, no SHA-1 */
	return t->url->literal ? X509_VERIFY_PARAM_set1_ip_asc(p, t->url->host) == 1
			       : X509_VERIFY_PARAM_set1_host(p, t->url->host, 0) == 1;
}

static bool set_up_tls(struct trip *t, struct err *e)
{
	static const unsigned char http1[] = "\x08http/1.1";
	char host[sizeof(t->url->host)];

	ERR_clear_error();
	t->ctx = SSL_CTX_new(TLS_client_method());
	if (!t->ctx || !SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION) ||
	    !SSL_CTX_set_cipher_list(t->ctx, "ECDHE+AESGCM:ECDHE+CHACHA20"))
		return openssl_says(e, "cannot set up TLS");
	SSL_CTX_set_max_cert_list(t->ctx, 64 * 1024);
	SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
	if (t->f->judge)
		SSL_CTX_set_cert_verify_callback(t->ctx, ask_judge, t);
	t->ssl = SSL_new(t->ctx);
	memcpy(host, t->url->host, sizeof(host));
	if (!t->ssl || SSL_set_fd(t->ssl, t->fd) != 1 ||
	    SSL_set_alpn_protos(t->ssl, http1, sizeof(http1) - 1) != 0 ||
	    (!t->url->literal && SSL_set_tlsext_host_name(t->ssl, host) != 1))
		return openssl_says(e, "cannot set up TLS");
	return t->f->judge || trust_web(t, e);
}

/* Wait for what OpenSSL waits for. False: it failed (@e unset if it is OpenSSL's to tell). */
static bool tls_wait(struct trip *t, int rc, bool *broken, struct err *e)
{
	int why = SSL_get_error(t->ssl, rc);

	*broken = why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE;
	if (*broken)
		return false;
	return wait_for(t, why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, e);
}

static bool shake_hands(struct trip *t, struct err *e)
{
	long verified;
	bool broken;
	int rc;

	if (!set_up_tls(t, e))
		return false;
	while ((rc = SSL_connect(t->ssl)) != 1)
		if (!tls_wait(t, rc, &broken, e)) {
			verified = SSL_get_verify_result(t->ssl);
			if (!broken)
				return false;
			if (t->judged.class != ERR_NONE) {
				ERR_clear_error();
				if (e)
					*e = t->judged;
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

static bool send_plain(struct trip *t, struct str bytes, struct err *e)
{
	while (bytes.n) {
		ssize_t n = send(t->fd, bytes.p, bytes.n, MSG_NOSIGNAL);

		if (n >= 0)
			bytes = str_from(bytes, (size_t)n);
		else if (errno != EAGAIN && errno != EINTR)
			return err_code(e, ERR_UNAVAILABLE, "no_connection", "cannot send: %s",
					strerror(errno));
		else if (!wait_for(t, POLLOUT, e))
			return false;
	}
	return true;
}

static bool send_all(struct trip *t, struct str bytes, struct err *e)
{
	bool broken;
	size_t n = 0;

	if (t->url->plain)
		return send_plain(t, bytes, e);
	while (bytes.n) {
		ERR_clear_error();
		if (SSL_write_ex(t->ssl, bytes.p, bytes.n, &n) == 1)
			bytes = str_from(bytes, n);
		else if (!tls_wait(t, 0, &broken, e))
			return broken ? openssl_says(e, "cannot send") : false;
	}
	return true;
}

static bool read_plain(struct trip *t, char *p, size_t n, size_t *got, struct err *e)
{
	for (;;) {
		ssize_t rc;

		if (!wait_for(t, POLLIN, e))
			return false;
		rc = recv(t->fd, p, n, 0);
		if (rc >= 0) {
			*got = (size_t)rc;
			return true;
		}
		if (errno != EAGAIN && errno != EINTR)
			return err_code(e, ERR_UNAVAILABLE, "no_connection", "cannot read: %s",
					strerror(errno));
	}
}

static bool read_some(void *ctx, char *p, size_t n, size_t *got, struct err *e)
{
	struct trip *t = ctx;
	int64_t left;
	bool broken;

	*got = 0;
	for (;;) {
		/* Also when bytes keep coming, one by one: a drip must not outlive the deadline. */
		if (!in_time(t, &left, e))
			return false;
		if (t->url->plain)
			return read_plain(t, p, n, got, e);
		ERR_clear_error();
		if (SSL_read_ex(t->ssl, p, n, got) == 1)
			return true;
		/* Only a close_notify is an end: a cut by a stranger on the wire is not. */
		if (SSL_get_error(t->ssl, 0) == SSL_ERROR_ZERO_RETURN)
			return true;
		if (!tls_wait(t, 0, &broken, e))
			return broken ? openssl_says(e, "cannot read") : false;
	}
}

static bool ask(struct trip *t, struct err *e)
{
	const char *colon = strchr(t->url->host, ':');
	AUTO_BUF b;

	buf_init(&b, mem_system, (size_t)4 * FETCH_URL_MAX);
	buf_printf(&b, "%s %s HTTP/1.1\r\nHost: %s%s%s", t->f->post.p ? "POST" : "GET",
		   t->url->path, colon ? "[" : "", t->url->host, colon ? "]" : "");
	if (strcmp(t->url->port, t->url->plain ? "80" : "443") != 0)
		buf_printf(&b, ":%s", t->url->port);
	buf_lit(&b, "\r\nConnection: close\r\nAccept: ");
	if (!t->f->types)
		buf_lit(&b, "application/json");
	for (size_t i = 0; t->f->types && t->f->types[i]; i++)
		buf_printf(&b, "%s%s", i ? ", " : "", t->f->types[i]);
	buf_lit(&b, "\r\nAccept-Encoding: identity\r\nUser-Agent: writ/" WRIT_VERSION "\r\n");
	if (t->f->post.p) {
		buf_printf(&b, "Content-Type: %s\r\nContent-Length: %zu\r\n", t->f->post_type,
			   t->f->post.n);
		buf_add(&b, t->f->headers);
	}
	buf_lit(&b, "\r\n");
	if (!buf_ok(&b))
		return err_set(e, ERR_NOMEM, "no memory for a request");
	return send_all(t, buf_str(&b), e) && (!t->f->post.p || send_all(t, t->f->post, e));
}

static void trip_end(struct trip *t)
{
	if (t->ssl)
		(void)SSL_shutdown(t->ssl);
	SSL_free(t->ssl);
	SSL_CTX_free(t->ctx);
	ERR_clear_error();
	if (t->fd >= 0)
		close(t->fd);
}

/* One request and its answer, of whatever status. */
static bool go(const struct fetch *f, const struct clock *clock, const struct fetch_url *url,
	       int64_t deadline_ns, struct response *r, struct err *e)
{
	struct trip t = {
		.f = f, .clock = clock, .url = url, .deadline_ns = deadline_ns, .fd = -1
	};
	const struct response_source source = { read_some, &t };
	const struct response_want want = { 0 };
	bool ok = host_allowed(f, url, e) && connect_any(&t, e) &&
		  (url->plain || shake_hands(&t, e)) && ask(&t, e) &&
		  response_read(&source, &want, r, e);

	trip_end(&t);
	return ok || err_prefix(e, "%s", url->host);
}

/* ---- what came back ---- */

static bool type_wanted(const struct fetch *f, const struct response *r)
{
	if (!f->types)
		return r->json;
	for (size_t i = 0; f->types[i]; i++)
		if (strcmp(f->types[i], r->type) == 0)
			return true;
	return false;
}

static bool answer_fits(const struct fetch *f, const struct fetch_url *u, const struct response *r,
			struct err *e)
{
	if (r->status != 200)
		return err_code(e, ERR_INTERNAL, "unexpected_status",
				"%s answered with status %d, expected 200", u->host, r->status);
	if (r->encoded)
		return err_code(e, ERR_INTERNAL, "unexpected_type",
				"%s sent its answer encoded, which was not asked for", u->host);
	if (!type_wanted(f, r))
		return err_code(e, ERR_INTERNAL, "unexpected_type", "%s sent %.60s, expected %s",
				u->host, r->type[0] ? r->type : "no media type",
				f->types ? f->types[0] : "application/json");
	return true;
}

/* The next URL: the same host and port, whether it is written in full or as a path. */
static bool redirect(struct fetch_url *u, const struct response *r, struct err *e)
{
	struct str to = str_c(r->location);
	struct fetch_url next;
	AUTO_BUF whole;

	buf_init(&whole, mem_system, 2 * FETCH_URL_MAX);
	if (str_starts(to, STR("/")) && !str_starts(to, STR("//"))) {
		const char *colon = strchr(u->host, ':');

		buf_printf(&whole, "https://%s%s%s:%s", colon ? "[" : "", u->host, colon ? "]" : "",
			   u->port);
		buf_add(&whole, to);
		to = buf_str(&whole);
	}
	if (!fetch_url_parse(to, &next, e)) {
		if (e)
			e->class = ERR_INTERNAL;
		return err_prefix(e, "%s redirects", u->host);
	}
	if (strcmp(next.host, u->host) != 0 || strcmp(next.port, u->port) != 0)
		return err_code(e, ERR_INTERNAL, "unexpected_redirect",
				"%s redirects to %.100s port %s; writ follows a redirect within "
				"the same host and port only",
				u->host, next.host, next.port);
	*u = next;
	return true;
}

bool fetch_get(const struct fetch *f, struct buf *body, struct err *e)
{
	const struct clock *clock = f->clock ? f->clock : &clock_system;
	int64_t ms = f->timeout_ms ? f->timeout_ms : FETCH_TIMEOUT_MS;
	int64_t deadline = clock_mono_ns(clock) + ms * 1000000;
	struct fetch_url url;

	if (!fetch_url_parse(f->url, &url, e))
		return false;
	for (unsigned hops = 0;; hops++) {
		struct response r = { 0 };
		bool ok;

		buf_init(&r.body, mem_system, f->body_max ? f->body_max : FETCH_BODY_MAX);
		ok = go(f, clock, &url, deadline, &r, e);
		if (ok && f->redirects && (r.status == 302 || r.status == 307)) {
			buf_clear(&r.body);
			if (hops == f->redirects)
				return err_code(e, ERR_INTERNAL, "unexpected_redirect",
						"%s redirects more than %u times", url.host,
						f->redirects);
			if (!redirect(&url, &r, e))
				return false;
			continue;
		}
		if (!ok || !answer_fits(f, &url, &r, e)) {
			buf_clear(&r.body);
			return false;
		}
		*body = r.body;
		return true;
	}
}

bool fetch_post(const struct fetch *f, struct fetch_reply *out, struct err *e)
{
	const struct clock *clock = f->clock ? f->clock : &clock_system;
	int64_t ms = f->timeout_ms ? f->timeout_ms : FETCH_TIMEOUT_MS;
	int64_t deadline = clock_mono_ns(clock) + ms * 1000000;
	struct fetch_url url;
	struct response r = { 0 };

	if (!fetch_url_parse_local(f->url, &url, e))
		return false;
	buf_init(&r.body, mem_system, f->body_max ? f->body_max : FETCH_BODY_MAX);
	if (!go(f, clock, &url, deadline, &r, e) ||
	    (r.encoded &&
	     !err_code(e, ERR_INTERNAL, "unexpected_type",
		       "%s sent its answer encoded, which was not asked for", url.host))) {
		buf_clear(&r.body);
		return false;
	}
	out->status = r.status;
	memcpy(out->type, r.type, sizeof(out->type));
	out->body = r.body;
	return true;
}

int64_t fetch_delay(uint32_t refresh_s, bool held, unsigned failures, uint32_t random)
{
	int64_t base = refresh_s, most;
	unsigned doublings = failures ? failures - 1 : 0;

	if (failures && !held)
		base = 10;
	most = refresh_s > 3600 ? refresh_s : 3600;
	base <<= doublings < 9 ? doublings : 9;
	if (held && base > (int64_t)refresh_s * 8)
		base = (int64_t)refresh_s * 8;
	if (base > most)
		base = most;
	return base - (int64_t)((uint64_t)base * (random % 1000) / 10000);
}
