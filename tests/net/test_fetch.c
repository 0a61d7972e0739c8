/* The fetcher against servers that lie, stall, redirect and cannot prove who they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "authz/net/fetch.h"

/* ---- URLs ---- */

static const struct {
	const char *why, *url;
	const char *host, *port, *path; /* no host: refused */
} urls[] = {
	{ "plain", "https://example.org", "example.org", "443", "/" },
	{ "path", "https://example.org/a/b", "example.org", "443", "/a/b" },
	{ "port and query", "https://example.org:8443/a?b=c&d", "example.org", "8443", "/a?b=c&d" },
	{ "query alone", "https://example.org?x=1", "example.org", "443", "/?x=1" },
	{ "upper case", "https://EXAMPLE.org/A", "example.org", "443", "/A" },
	{ "inner hyphen", "https://a-b.example/", "a-b.example", "443", "/" },
	{ "IPv4", "https://127.0.0.1:1/", "127.0.0.1", "1", "/" },
	{ "IPv6", "https://[2001:db8::1]:444/", "2001:db8::1", "444", "/" },
	{ "IPv6 without port", "https://[::1]", "::1", "443", "/" },
	{ "percent", "https://h/%2e", "h", "443", "/%2e" },

	{ "http", "http://example.org/", NULL, NULL, NULL },
	{ "no scheme", "example.org", NULL, NULL, NULL },
	{ "upper scheme", "HTTPS://example.org/", NULL, NULL, NULL },
	{ "other scheme", "file:///etc/passwd", NULL, NULL, NULL },
	{ "empty", "", NULL, NULL, NULL },
	{ "no host", "https://", NULL, NULL, NULL },
	{ "no host, a path", "https:///a", NULL, NULL, NULL },
	{ "user info", "https://u@example.org/", NULL, NULL, NULL },
	{ "password", "https://u:p@example.org/", NULL, NULL, NULL },
	{ "user info by backslash", "https://good.example\\@evil.example/", NULL, NULL, NULL },
	{ "fragment", "https://example.org/#a", NULL, NULL, NULL },
	{ "fragment at once", "https://example.org#a", NULL, NULL, NULL },
	{ "space", "https://example.org/a b", NULL, NULL, NULL },
	{ "line break", "https://example.org/a\r\nX: y", NULL, NULL, NULL },
	{ "not ASCII", "https://ex\xc3\xa4mple.org/", NULL, NULL, NULL },
	{ "not ASCII in path", "https://example.org/\xc3\xa4", NULL, NULL, NULL },
	{ "underscore", "https://a_b.example/", NULL, NULL, NULL },
	{ "empty label", "https://a..b/", NULL, NULL, NULL },
	{ "trailing dot", "https://example.org./", NULL, NULL, NULL },
	{ "leading dot", "https://.example.org/", NULL, NULL, NULL },
	{ "leading hyphen", "https://-a.example/", NULL, NULL, NULL },
	{ "trailing hyphen", "https://a-.example/", NULL, NULL, NULL },
	{ "port 0", "https://h:0/", NULL, NULL, NULL },
	{ "port too high", "https://h:65536/", NULL, NULL, NULL },
	{ "no port", "https://h:/", NULL, NULL, NULL },
	{ "two ports", "https://h:1:2/", NULL, NULL, NULL },
	{ "port in words", "https://h:https/", NULL, NULL, NULL },
	{ "short IPv4", "https://127.1/", NULL, NULL, NULL },
	{ "one number", "https://2130706433/", NULL, NULL, NULL },
	{ "hexadecimal IPv4", "https://0x7f000001/", NULL, NULL, NULL },
	{ "hexadecimal part", "https://127.0.0.0x1/", NULL, NULL, NULL },
	{ "octal IPv4", "https://0177.0.0.1/", NULL, NULL, NULL },
	{ "IPv6 without brackets", "https://::1/", NULL, NULL, NULL },
	{ "IPv6 with zone", "https://[fe80::1%25eth0]/", NULL, NULL, NULL },
	{ "bracket left open", "https://[::1/", NULL, NULL, NULL },
	{ "behind the bracket", "https://[::1]x/", NULL, NULL, NULL },
};

static void reads_urls(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
		struct fetch_url u;
		struct err e = { 0 };
		bool ok = fetch_url_parse(str_c(urls[i].url), &u, &e);

		if (ok != (urls[i].host != NULL))
			fail_msg("%s: %s", urls[i].why, ok ? "accepted" : e.msg);
		if (!ok && (strcmp(e.code, "invalid_url") != 0 || !strstr(e.msg, "expected")))
			fail_msg("%s: %s %s", urls[i].why, e.code, e.msg);
		if (ok && urls[i].host &&
		    (strcmp(u.host, urls[i].host) != 0 || strcmp(u.port, urls[i].port) != 0 ||
		     strcmp(u.path, urls[i].path) != 0))
			fail_msg("%s: host %s port %s path %s", urls[i].why, u.host, u.port,
				 u.path);
	}
}

/* For sinks: http, too, but to this machine only, by its address. */
static void reads_local_urls(void **state)
{
	static const struct {
		const char *url, *host, *port; /* no host: refused */
	} cases[] = {
		{ "http://127.0.0.1:4318/v1/logs", "127.0.0.1", "4318" },
		{ "http://127.1.2.3/", "127.1.2.3", "80" },
		{ "http://[::1]:4318/", "::1", "4318" },
		{ "https://example.org/", "example.org", "443" },
		{ "http://localhost:4318/", NULL, NULL },
		{ "http://127.evil.example/", NULL, NULL },
		{ "http://10.0.0.1/", NULL, NULL },
		{ "http://[::ffff:127.0.0.1]/", NULL, NULL },
		{ "http://0.0.0.0/", NULL, NULL },
		{ "http://collector/", NULL, NULL },
		{ "http://u@127.0.0.1/", NULL, NULL },
		{ "http://127.0.0.1/a\r\nX: y", NULL, NULL },
		{ "HTTP://127.0.0.1/", NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fetch_url u;
		struct err e = { 0 };
		bool ok = fetch_url_parse_local(str_c(cases[i].url), &u, &e);

		if (ok != (cases[i].host != NULL))
			fail_msg("%s: %s", cases[i].url, ok ? "accepted" : e.msg);
		if (!ok)
			continue;
		assert_string_equal(u.host, cases[i].host);
		assert_int_equal(u.plain, cases[i].url[4] == ':');
		assert_string_equal(u.port, cases[i].port);
	}
}

static void bounds_urls(void **state)
{
	char text[FETCH_URL_MAX + 2] = "https://h/";
	struct fetch_url u;
	struct err e = { 0 };

	(void)state;
	memset(text + strlen(text), 'a', sizeof(text) - strlen(text));
	assert_true(fetch_url_parse((struct str){ text, FETCH_URL_MAX }, &u, &e));
	assert_false(fetch_url_parse((struct str){ text, FETCH_URL_MAX + 1 }, &u, &e));
	/* An embedded NUL is a character like any other, and not one of a URL. */
	assert_false(fetch_url_parse((struct str){ "https://h\0.evil/", 16 }, &u, &e));
}

/* ---- addresses ---- */

enum reach { PUBLIC, PRIVATE, NEVER };

static const struct {
	const char *address;
	enum reach reach;
} addresses[] = {
	{ "1.1.1.1", PUBLIC },
	{ "9.255.255.255", PUBLIC },
	{ "11.0.0.0", PUBLIC },
	{ "100.63.255.255", PUBLIC },
	{ "100.128.0.0", PUBLIC },
	{ "172.15.255.255", PUBLIC },
	{ "172.32.0.0", PUBLIC },
	{ "168.63.129.17", PUBLIC },
	{ "223.255.255.255", PUBLIC },
	{ "2606:4700::1", PUBLIC },
	{ "2001:200::1", PUBLIC },
	{ "::ffff:1.1.1.1", PUBLIC },
	{ "64:ff9b::1.1.1.1", PUBLIC },
	{ "10.0.0.0", PRIVATE },
	{ "10.255.255.255", PRIVATE },
	{ "100.64.0.0", PRIVATE },
	{ "100.127.255.255", PRIVATE },
	{ "127.0.0.1", PRIVATE },
	{ "127.255.255.255", PRIVATE },
	{ "172.16.0.1", PRIVATE },
	{ "172.31.255.255", PRIVATE },
	{ "192.168.1.1", PRIVATE },
	{ "::1", PRIVATE },
	{ "fc00::1", PRIVATE },
	{ "fdff::1", PRIVATE },
	{ "::ffff:127.0.0.1", PRIVATE },
	{ "::ffff:10.1.2.3", PRIVATE },
	{ "64:ff9b::10.1.2.3", PRIVATE },
	{ "0.0.0.0", NEVER },
	{ "0.1.2.3", NEVER },
	{ "169.254.0.1", NEVER },
	{ "169.254.169.254", NEVER },
	{ "168.63.129.16", NEVER },
	{ "100.100.100.200", NEVER },
	{ "192.0.0.192", NEVER },
	{ "192.0.2.1", NEVER },
	{ "192.88.99.1", NEVER },
	{ "198.18.0.1", NEVER },
	{ "198.19.255.255", NEVER },
	{ "198.51.100.1", NEVER },
	{ "203.0.113.1", NEVER },
	{ "224.0.0.1", NEVER },
	{ "239.255.255.255", NEVER },
	{ "240.0.0.1", NEVER },
	{ "255.255.255.255", NEVER },
	{ "::", NEVER },
	{ "::2", NEVER },
	{ "fe80::1", NEVER },
	{ "fec0::1", NEVER },
	{ "ff02::1", NEVER },
	{ "fd00:ec2::254", NEVER },
	{ "2001::1", NEVER },
	{ "2001:db8::1", NEVER },
	{ "2002:7f00:1::", NEVER },
	{ "3fff::1", NEVER },
	{ "100::1", NEVER },
	{ "::ffff:169.254.169.254", NEVER },
	{ "64:ff9b::169.254.169.254", NEVER },
	{ "64:ff9b:1::1", NEVER },
};

static void judges_addresses(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
		struct sockaddr_in v4 = { .sin_family = AF_INET };
		struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
		const struct sockaddr *a = (const struct sockaddr *)(const void *)&v4;

		if (inet_pton(AF_INET, addresses[i].address, &v4.sin_addr) != 1) {
			assert_int_equal(inet_pton(AF_INET6, addresses[i].address, &v6.sin6_addr),
					 1);
			a = (const struct sockaddr *)(const void *)&v6;
		}
		if (dial_address_ok(a, false) != (addresses[i].reach == PUBLIC) ||
		    dial_address_ok(a, true) != (addresses[i].reach != NEVER))
			fail_msg("%s", addresses[i].address);
	}
}

/* ---- a server ---- */

struct authority {
	EVP_PKEY *key;
	X509 *cert;
	char file[32];
};

static X509 *certificate(EVP_PKEY *key, const char *san, X509 *issuer, EVP_PKEY *issuer_key)
{
	X509 *x = X509_new();
	X509V3_CTX ctx;
	X509_EXTENSION *ext;

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), san ? 2 : 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -60);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
				   (const unsigned char *)(san ? "leaf" : "ca"), -1, -1, 0);
	X509_set_issuer_name(x, X509_get_subject_name(issuer ? issuer : x));
	X509_set_pubkey(x, key);
	X509V3_set_ctx(&ctx, issuer ? issuer : x, x, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, NID_basic_constraints,
				  san ? "critical,CA:FALSE" : "critical,CA:TRUE");
	X509_add_ext(x, ext, -1);
	X509_EXTENSION_free(ext);
	if (san) {
		ext = X509V3_EXT_conf_nid(NULL, &ctx, NID_subject_alt_name, san);
		X509_add_ext(x, ext, -1);
		X509_EXTENSION_free(ext);
	}
	assert_true(X509_sign(x, issuer_key, EVP_sha256()) > 0);
	return x;
}

static void authority_open(struct authority *a)
{
	FILE *f;
	int fd;

	a->key = EVP_EC_gen("P-256");
	a->cert = certificate(a->key, NULL, NULL, a->key);
	strcpy(a->file, "/tmp/writ-fetch-XXXXXX");
	fd = mkstemp(a->file);
	assert_true(fd >= 0);
	f = fdopen(fd, "w");
	PEM_write_X509(f, a->cert);
	fclose(f);
}

static void authority_close(struct authority *a)
{
	unlink(a->file);
	X509_free(a->cert);
	EVP_PKEY_free(a->key);
}

/* Serves the answers, one to a connection, in pieces. */
struct served {
	const char *const *answers;
	const char *san;
	size_t piece;
	bool stall; /* sends nothing, keeps the connection */
	bool drip;  /* sends one byte each 10 ms, for ever */
	bool cut;   /* ends without a goodbye */
	int tls;    /* highest version, or 0 */
	int fd;
	uint16_t port;
	SSL_CTX *ctx;
	pthread_t thread;
	atomic_bool stop;
	char asked[4096]; /* all requests */
};

static void answer(struct served *s, SSL *ssl, const char *text)
{
	size_t n = strlen(text), at = strlen(s->asked), done = 0;

	while (!strstr(s->asked + at, "\r\n\r\n")) {
		int rc = SSL_read(ssl, s->asked + at, (int)(sizeof(s->asked) - 1 - at));

		if (rc <= 0)
			return;
		s->asked[at + (size_t)rc] = '\0';
	}
	while (s->stall && !atomic_load(&s->stop))
		usleep(2000);
	while (s->drip && !atomic_load(&s->stop) && SSL_write(ssl, "x", 1) > 0)
		usleep(10000);
	while (!s->stall && !s->drip && done < n) {
		size_t some = s->piece && s->piece < n - done ? s->piece : n - done;

		if (SSL_write(ssl, text + done, (int)some) <= 0)
			return;
		done += some;
	}
	if (!s->cut)
		SSL_shutdown(ssl);
}

static void *serve(void *arg)
{
	struct served *s = arg;

	for (size_t i = 0; s->answers[i]; i++) {
		int fd = accept(s->fd, NULL, NULL);
		SSL *ssl;

		if (fd < 0 || atomic_load(&s->stop)) {
			if (fd >= 0)
				close(fd);
			break;
		}
		ssl = SSL_new(s->ctx);
		SSL_set_fd(ssl, fd);
		if (SSL_accept(ssl) == 1)
			answer(s, ssl, s->answers[i]);
		SSL_free(ssl);
		close(fd);
	}
	return NULL;
}

static void served_start(struct served *s, const struct authority *a)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(at);
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *leaf = certificate(key, s->san, a->cert, a->key);

	s->ctx = SSL_CTX_new(TLS_server_method());
	if (s->tls) {
		SSL_CTX_set_security_level(s->ctx, 0);
		SSL_CTX_set_min_proto_version(s->ctx, TLS1_VERSION);
		SSL_CTX_set_max_proto_version(s->ctx, s->tls);
	}
	assert_true(SSL_CTX_use_cert_and_key(s->ctx, leaf, key, NULL, 1));
	X509_free(leaf);
	EVP_PKEY_free(key);
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->fd, (struct sockaddr *)(void *)&at, sizeof(at)), 0);
	assert_int_equal(listen(s->fd, 8), 0);
	getsockname(s->fd, (struct sockaddr *)(void *)&at, &n);
	s->port = ntohs(at.sin_port);
	atomic_init(&s->stop, false);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void served_stop(struct served *s)
{
	atomic_store(&s->stop, true);
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	close(s->fd);
	SSL_CTX_free(s->ctx);
}

#define HTTP_OK "HTTP/1.1 200 OK\r\n"
#define JSON_TYPE "Content-Type: application/json\r\n"
#define BODY "Content-Length: 2\r\n\r\n{}"
#define GOOD HTTP_OK JSON_TYPE BODY
#define TO(where) "HTTP/1.1 302 Found\r\nLocation: " where "\r\nContent-Length: 0\r\n\r\n"

static const struct {
	const char *why;
	const char *answers[5];
	unsigned redirects;
	size_t body_max;
	const char *code; /* NULL: fetched */
} answers[] = {
	{ "json", { GOOD }, 0, 0, NULL },
	{ "with a charset",
	  { HTTP_OK "Content-Type: Application/JSON; charset=utf-8\r\n" BODY },
	  0,
	  0,
	  NULL },
	{ "identity", { HTTP_OK JSON_TYPE "Content-Encoding: identity\r\n" BODY }, 0, 0, NULL },
	{ "chunks",
	  { HTTP_OK JSON_TYPE "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n" },
	  0,
	  0,
	  NULL },
	{ "exactly the bound", { GOOD }, 0, 2, NULL },
	{ "redirect to a path", { TO("/new"), GOOD }, 1, 0, NULL },
	{ "two redirects", { TO("/new"), TO("/newer?x=y"), GOOD }, 2, 0, NULL },
	{ "307",
	  { "HTTP/1.1 307 T\r\nLocation: /n\r\nContent-Length: 0\r\n\r\n", GOOD },
	  1,
	  0,
	  NULL },

	{ "over the bound", { GOOD }, 0, 1, "response_too_large" },
	{ "404", { "HTTP/1.1 404 No\r\n" JSON_TYPE BODY }, 0, 0, "unexpected_status" },
	{ "204", { "HTTP/1.1 204 No\r\n\r\n" }, 0, 0, "unexpected_status" },
	{ "206", { "HTTP/1.1 206 P\r\n" JSON_TYPE BODY }, 0, 0, "unexpected_status" },
	{ "redirect not asked for", { TO("/new") }, 0, 0, "unexpected_status" },
	{ "one redirect too many", { TO("/a"), TO("/b") }, 1, 0, "unexpected_redirect" },
	{ "for ever", { TO("/a"), TO("/a"), TO("/a"), TO("/a") }, 3, 0, "unexpected_redirect" },
	{ "301 is not temporary",
	  { "HTTP/1.1 301 M\r\nLocation: /n\r\nContent-Length: 0\r\n\r\n" },
	  1,
	  0,
	  "unexpected_status" },
	{ "to another host", { TO("https://localhost/") }, 1, 0, "unexpected_redirect" },
	{ "to another port", { TO("https://127.0.0.1:1/") }, 1, 0, "unexpected_redirect" },
	{ "to a host by two slashes", { TO("//evil.example/") }, 1, 0, "invalid_url" },
	{ "to http", { TO("http://127.0.0.1/") }, 1, 0, "invalid_url" },
	{ "to nowhere", { "HTTP/1.1 302 F\r\nContent-Length: 0\r\n\r\n" }, 1, 0, "invalid_url" },
	{ "html", { HTTP_OK "Content-Type: text/html\r\n" BODY }, 0, 0, "unexpected_type" },
	{ "no type", { HTTP_OK BODY }, 0, 0, "unexpected_type" },
	{ "a longer type",
	  { HTTP_OK "Content-Type: application/jsonx\r\n" BODY },
	  0,
	  0,
	  "unexpected_type" },
	{ "gzip",
	  { HTTP_OK JSON_TYPE "Content-Encoding: gzip\r\n" BODY },
	  0,
	  0,
	  "unexpected_type" },
	{ "cut", { HTTP_OK JSON_TYPE "Content-Length: 3\r\n\r\n{}" }, 0, 0, "truncated_response" },
	{ "no framing", { HTTP_OK JSON_TYPE "\r\n{}" }, 0, 0, "bad_response" },
	{ "smuggling",
	  { HTTP_OK JSON_TYPE "Transfer-Encoding: chunked\r\n" BODY },
	  0,
	  0,
	  "bad_response" },
	{ "no http", { "hello\r\n\r\n" }, 0, 0, "bad_response" },
};

static void url_of(const struct served *s, const char *path, char out[64])
{
	snprintf(out, 64, "https://127.0.0.1:%u%s", s->port, path);
}

static void check_fetch(const struct fetch *f, const char *why, const char *code)
{
	struct err e = { 0 };
	AUTO_BUF body = { 0 };
	bool ok = fetch_get(f, &body, &e);

	if (ok != (code == NULL))
		fail_msg("%s: %s", why, ok ? "accepted" : e.msg);
	if (code && (!e.code || strcmp(e.code, code) != 0))
		fail_msg("%s: %s: %s", why, e.code, e.msg);
	/* Whichever setting the file came from, the message leads to it. */
	if (f->ca_file && strstr(e.msg, "cannot read the authorities") &&
	    (!strstr(e.msg, f->ca_file) || !strstr(e.msg, "`ca_file`")))
		fail_msg("%s: %s", why, e.msg);
	if (ok && !str_eq(buf_str(&body), STR("{}")))
		fail_msg("%s: body %.*s", why, STR_FMT(buf_str(&body)));
}

static void takes_what_it_asked_for(void **state)
{
	struct authority a;

	(void)state;
	authority_open(&a);
	for (size_t i = 0; i < ARRAY_LEN(answers); i++)
		for (size_t piece = 0; piece < 2; piece++) {
			struct served s = { .answers = answers[i].answers,
					    .san = "IP:127.0.0.1",
					    .piece = piece };
			char url[64];
			struct fetch f = { .redirects = answers[i].redirects,
					   .body_max = answers[i].body_max,
					   .private_ok = true,
					   .ca_file = a.file };

			served_start(&s, &a);
			url_of(&s, "/old?q", url);
			f.url = str_c(url);
			check_fetch(&f, answers[i].why, answers[i].code);
			served_stop(&s);
			assert_true(strncmp(s.asked,
					    "GET /old?q HTTP/1.1\r\nHost: 127.0.0.1:", 37) == 0);
		}
	authority_close(&a);
}

/* ---- who is it ---- */

static bool says_yes(void *ctx, STACK_OF(X509) * chain, struct err *e)
{
	(void)e;
	++*(int *)ctx;
	return sk_X509_num(chain) >= 1;
}

static bool says_no(void *ctx, STACK_OF(X509) * chain, struct err *e)
{
	(void)ctx;
	(void)chain;
	return err_code(e, ERR_UNAUTHENTICATED, "wrong_id", "it is somebody else");
}

enum trust { OWN_CA, OTHER_CA, SYSTEM_CA, NO_FILE, JUDGE_YES, JUDGE_NO };

static const struct {
	const char *why, *san;
	enum trust trust;
	int tls;
	bool local; /* private addresses are fine */
	const char *host, *code;
} servers[] = {
	{ "address", "IP:127.0.0.1", OWN_CA, 0, true, NULL, NULL },
	{ "one of its names", "DNS:a.example,IP:127.0.0.1", OWN_CA, 0, true, NULL, NULL },
	{ "allowed host", "IP:127.0.0.1", OWN_CA, 0, true, "127.0.0.1", NULL },
	{ "TLS 1.2", "IP:127.0.0.1", OWN_CA, TLS1_2_VERSION, true, NULL, NULL },
	{ "judged, no name asked", "URI:spiffe://td/x", JUDGE_YES, 0, true, NULL, NULL },
	{ "TLS 1.1", "IP:127.0.0.1", OWN_CA, TLS1_1_VERSION, true, NULL, "no_connection" },
	{ "another name", "DNS:other.example", OWN_CA, 0, true, NULL, "untrusted_server" },
	{ "another address", "IP:127.0.0.2", OWN_CA, 0, true, NULL, "untrusted_server" },
	{ "address as a name", "DNS:127.0.0.1", OWN_CA, 0, true, NULL, "untrusted_server" },
	{ "URI only", "URI:spiffe://td/x", OWN_CA, 0, true, NULL, "untrusted_server" },
	{ "another authority", "IP:127.0.0.1", OTHER_CA, 0, true, NULL, "untrusted_server" },
	{ "the system's", "IP:127.0.0.1", SYSTEM_CA, 0, true, NULL, "untrusted_server" },
	{ "no such file", "IP:127.0.0.1", NO_FILE, 0, true, NULL, "untrusted_server" },
	{ "judge says no", "IP:127.0.0.1", JUDGE_NO, 0, true, NULL, "wrong_id" },
	{ "loopback", "IP:127.0.0.1", OWN_CA, 0, false, NULL, "forbidden_address" },
	{ "loopback, judged", "IP:127.0.0.1", JUDGE_YES, 0, false, NULL, "forbidden_address" },
	{ "host not named", "IP:127.0.0.1", OWN_CA, 0, true, "a.example", "forbidden_host" },
};

static void knows_its_servers(void **state)
{
	static const char *const good[] = { GOOD, NULL };
	struct authority own, other;

	(void)state;
	authority_open(&own);
	authority_open(&other);
	for (size_t i = 0; i < ARRAY_LEN(servers); i++) {
		struct served s = { .answers = good, .san = servers[i].san, .tls = servers[i].tls };
		const struct str host = str_c(servers[i].host);
		enum trust trust = servers[i].trust;
		int judged = 0;
		char url[64];
		struct fetch f = { .private_ok = servers[i].local,
				   .hosts = servers[i].host ? &host : NULL,
				   .nhosts = 1,
				   .ca_file = trust == OWN_CA	  ? own.file
					      : trust == OTHER_CA ? other.file
					      : trust == NO_FILE  ? "/nowhere/at-all"
								  : NULL,
				   .judge = trust == JUDGE_YES	? says_yes
					    : trust == JUDGE_NO ? says_no
								: NULL,
				   .ctx = &judged };

		served_start(&s, &own);
		url_of(&s, "/", url);
		f.url = str_c(url);
		check_fetch(&f, servers[i].why, servers[i].code);
		assert_int_equal(judged, trust == JUDGE_YES && servers[i].local);
		served_stop(&s);
	}
	authority_close(&own);
	authority_close(&other);
}

/* ---- time ---- */

static void keeps_its_deadline(void **state)
{
	static const char *const good[] = { GOOD, NULL };
	const struct served kinds[] = { { .stall = true }, { .drip = true }, { .cut = true } };
	struct authority a;

	(void)state;
	authority_open(&a);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct served s = kinds[i];
		char url[64];
		struct fetch f = { .private_ok = true, .ca_file = a.file, .timeout_ms = 300 };

		s.answers = good;
		s.san = "IP:127.0.0.1";
		served_start(&s, &a);
		url_of(&s, "/", url);
		f.url = str_c(url);
		/* A whole answer is whole, however the connection ends. */
		check_fetch(&f, "slow", s.cut ? NULL : s.stall || s.drip ? "fetch_timeout" : NULL);
		served_stop(&s);
	}
	authority_close(&a);
}

static void gives_up_when_told(void **state)
{
	static const char *const good[] = { GOOD, NULL };
	struct served s = { .answers = good, .san = "IP:127.0.0.1", .stall = true };
	atomic_bool stop = true;
	struct authority a;
	char url[64];
	struct fetch f = { .private_ok = true, .stop = &stop, .timeout_ms = 600000 };

	(void)state;
	authority_open(&a);
	f.ca_file = a.file;
	served_start(&s, &a);
	url_of(&s, "/", url);
	f.url = str_c(url);
	check_fetch(&f, "stopping", "no_connection");
	served_stop(&s);
	authority_close(&a);
}

static void says_when_nobody_is_there(void **state)
{
	struct served s = { .answers = (const char *const[]){ NULL }, .san = "IP:127.0.0.1" };
	struct authority a;
	char url[64];
	struct fetch f = { .private_ok = true };

	(void)state;
	authority_open(&a);
	served_start(&s, &a);
	url_of(&s, "/", url);
	served_stop(&s);
	f.ca_file = a.file;
	f.url = str_c(url);
	check_fetch(&f, "nobody", "no_connection");
	f.url = STR("https://no-such-host.invalid/");
	check_fetch(&f, "no such name", "unknown_host");
	f.url = STR("https://169.254.169.254/latest/meta-data");
	check_fetch(&f, "metadata", "forbidden_address");
	f.url = STR("http://127.0.0.1/");
	check_fetch(&f, "not https", "invalid_url");
	authority_close(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_urls),
		cmocka_unit_test(reads_local_urls),
		cmocka_unit_test(bounds_urls),
		cmocka_unit_test(judges_addresses),
		cmocka_unit_test(takes_what_it_asked_for),
		cmocka_unit_test(knows_its_servers),
		cmocka_unit_test(keeps_its_deadline),
		cmocka_unit_test(gives_up_when_told),
		cmocka_unit_test(says_when_nobody_is_there),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
