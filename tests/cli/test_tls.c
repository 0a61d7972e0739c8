/* TLS with a server: who is believed, who is not, and what `svid` makes of an answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the ones above first */
#include <cmocka.h>
#include <ctype.h>
#include <openssl/err.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "authz/base/text.h"
#include "authz/cli/cli.h"
#include "authz/cli/client.h"
#include "spiffe/crypto.h"
#include "spiffe/x509_svid.h"
#include "tests/cli/server.h"

#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

/* An authority of a trust domain. */
struct authority {
	EVP_PKEY *key;
	X509 *cert;
	struct buf der, pem;
	char fingerprint[CRYPTO_FINGERPRINT_MAX];
};

static void authority_make(struct authority *a, const char *trust_domain)
{
	struct err e = { 0 };
	int64_t now = (int64_t)time(NULL);

	buf_init(&a->der, mem_system, 65536);
	buf_init(&a->pem, mem_system, 65536);
	if (!crypto_generate(&a->key, &e) ||
	    !x509_authority_issue(a->key, str_c(trust_domain), now - 60, now + 3600, &a->der, &e) ||
	    !crypto_certificate(buf_str(&a->der), &a->cert, &e))
		fail_msg("%s", e.msg);
	crypto_pem(&a->pem, "CERTIFICATE", buf_str(&a->der));
	crypto_fingerprint(buf_str(&a->der), a->fingerprint);
}

static void authority_clear(struct authority *a)
{
	EVP_PKEY_free(a->key);
	X509_free(a->cert);
	buf_clear(&a->der);
	buf_clear(&a->pem);
}

static X509 *leaf_make(const struct authority *a, const char *id, EVP_PKEY *key, int64_t life)
{
	int64_t now = (int64_t)time(NULL);
	struct x509_request r = { .spiffe_id = str_c(id),
				  .not_before_s = now - 50,
				  .not_after_s = now + life };
	X509 *cert = NULL;
	struct err e = { 0 };
	AUTO_BUF spki, der;

	buf_init(&spki, mem_system, 4096);
	buf_init(&der, mem_system, 65536);
	if (!crypto_spki(key, &spki, &e))
		fail_msg("%s", e.msg);
	r.spki = buf_str(&spki);
	if (!x509_svid_issue(a->cert, a->key, &r, &der, &e) ||
	    !crypto_certificate(buf_str(&der), &cert, &e))
		fail_msg("%s", e.msg);
	return cert;
}

static SSL_CTX *server_context(const struct authority *a, const char *id, int64_t life)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	EVP_PKEY *key = NULL;
	X509 *leaf;

	assert_true(crypto_generate(&key, NULL));
	leaf = leaf_make(a, id, key, life);
	assert_int_equal(SSL_CTX_use_certificate(ctx, leaf), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
	X509_free(leaf);
	EVP_PKEY_free(key);
	return ctx;
}

static const struct {
	const char *why, *domain, *id;
	int64_t life;
	bool foreign;	  /* signed by an authority we were not given, of the same name */
	const char *code; /* NULL: believed */
} servers[] = {
	{ "writ", "example.org", "spiffe://example.org/writ/server", 600, false, NULL },
	{ "an agent", "example.org", "spiffe://example.org/agent/a", 600, false, "wrong_server" },
	{ "below", "example.org", "spiffe://example.org/writ/server/x", 600, false,
	  "wrong_server" },
	{ "another domain's", "example.com", "spiffe://example.com/writ/server", 600, true,
	  "invalid_certificate" },
	{ "a stranger of the same name", "example.org", "spiffe://example.org/writ/server", 600,
	  true, "invalid_certificate" },
	{ "expired", "example.org", "spiffe://example.org/writ/server", -20, false,
	  "invalid_certificate" },
};

static void only_the_server_of_our_bundle_is_believed(void **state)
{
	const struct client_request q = { .method = "GET", .path = "/v1/status" };
	struct authority ours;

	(void)state;
	authority_make(&ours, "example.org");
	for (size_t i = 0; i < ARRAY_LEN(servers); i++) {
		struct client_tls tls = { .anchors = buf_str(&ours.pem) };
		struct scripted s = { .answer = STR(ANSWER) };
		struct authority theirs;
		struct err e = { 0 };
		AUTO_REPLY r = { 0 };
		bool ok;

		authority_make(&theirs, servers[i].domain);
		s.tls = server_context(servers[i].foreign ? &theirs : &ours, servers[i].id,
				       servers[i].life);
		scripted_start(&s);
		ok = client_call(&s.target, &tls, &q, &r, &e);
		scripted_stop(&s);
		if (ok != !servers[i].code || (!ok && strcmp(e.code, servers[i].code) != 0))
			fail_msg("%s: %s %s", servers[i].why, e.code ? e.code : "believed", e.msg);
		/* Nothing is said to one who is not believed. */
		assert_int_equal(s.request[0] != '\0', ok);
		SSL_CTX_free(s.tls);
		authority_clear(&theirs);
	}
	authority_clear(&ours);
}

static void without_a_bundle_nobody_is_believed(void **state)
{
	const struct client_request q = { .method = "GET", .path = "/" };
	struct authority ours, other;
	struct client_tls tls = { 0 };
	struct scripted s = { .answer = STR(ANSWER), .connections = 3 };
	struct err e = { 0 };
	AUTO_BUF both;

	(void)state;
	authority_make(&ours, "example.org");
	authority_make(&other, "example.com");
	s.tls = server_context(&ours, "spiffe://example.org/writ/server", 600);
	scripted_start(&s);
	for (int i = 0; i < 3; i++) {
		static const char *const codes[] = { "no_bundle", "invalid_bundle",
						     "invalid_bundle" };
		AUTO_REPLY r = { 0 };

		buf_init(&both, mem_system, 65536);
		if (i == 1)
			buf_lit(&both, "no certificate at all");
		if (i == 2) { /* two domains: whose server would it be? */
			buf_add(&both, buf_str(&ours.pem));
			buf_add(&both, buf_str(&other.pem));
		}
		tls.anchors = buf_str(&both);
		assert_false(client_call(&s.target, &tls, &q, &r, &e));
		assert_string_equal(e.code, codes[i]);
		buf_clear(&both);
	}
	scripted_stop(&s);
	SSL_CTX_free(s.tls);
	authority_clear(&ours);
	authority_clear(&other);
}

/* GET /bundle of a server with this authority. */
static char *bundle_answer(const struct authority *a)
{
	static char answer[8000];
	AUTO_BUF b;

	buf_init(&b, mem_system, 8000);
	buf_lit(&b,
		"{\"keys\":[{\"use\":\"jwt-svid\",\"kid\":\"a\"},{\"use\":\"x509-svid\",\"x5c\":[\"");
	text_base64(&b, BASE64_STD, a->der.p, a->der.n);
	buf_lit(&b, "\"]}]}");
	snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%.*s", b.n,
		 STR_FMT(buf_str(&b)));
	return answer;
}

static void a_fingerprint_picks_one_authority(void **state)
{
	struct authority ours, other;
	struct scripted s = { .connections = 4 };
	char colons[3 * SHA256_LEN + 1] = "";
	const char *given[4];
	struct err e = { 0 };

	(void)state;
	authority_make(&ours, "example.org");
	authority_make(&other, "example.org");
	for (size_t i = 0; i < SHA256_LEN; i++) /* as openssl prints it */
		snprintf(colons + 3 * i, 4, "%c%c%s", toupper(ours.fingerprint[7 + 2 * i]),
			 toupper(ours.fingerprint[8 + 2 * i]), i + 1 < SHA256_LEN ? ":" : "");
	given[0] = ours.fingerprint;
	given[1] = ours.fingerprint + strlen("sha256:");
	given[2] = colons;
	given[3] = other.fingerprint;
	s.answer = str_c(bundle_answer(&ours));
	s.tls = server_context(&ours, "spiffe://example.org/writ/server", 600);
	scripted_start(&s);
	for (int i = 0; i < 4; i++) {
		AUTO_BUF pem;
		bool ok;

		buf_init(&pem, mem_system, 65536);
		ok = client_first_contact(&s.target, given[i], &pem, &e);
		if (ok != (i < 3) || (ok && !str_eq(buf_str(&pem), buf_str(&ours.pem))))
			fail_msg("%s: %s", given[i], e.msg);
	}
	scripted_stop(&s);
	assert_string_equal(e.code, "wrong_fingerprint");
	SSL_CTX_free(s.tls);
	{
		AUTO_BUF pem;

		buf_init(&pem, mem_system, 65536);
		assert_false(client_first_contact(&s.target, "sha256:1234", &pem, &e));
		assert_string_equal(e.code, "wrong_usage");
	}
	authority_clear(&ours);
	authority_clear(&other);
}

/* `writ svid x509` against an answer whose SVID is not for the key we made: nothing is written. */
static void an_svid_for_another_key_is_not_kept(void **state)
{
	char folder[] = "/tmp/writ-test-XXXXXX", path[64], server[TARGET_NAME_MAX];
	char *argv[] = { "writ",  "svid", "x509",     "--join-token", "t",
			 "--dir", path,	  "--server", server,	      NULL };
	struct scripted s = { 0 };
	struct authority ours;
	EVP_PKEY *key = NULL;
	FILE *out, *err;
	char *text = NULL, *said = NULL, answer[16000];
	size_t n = 0, nsaid = 0;
	X509 *leaf;
	unsigned char *der = NULL;
	AUTO_BUF b;
	int len;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/id", folder);
	authority_make(&ours, "example.org");
	assert_true(crypto_generate(&key, NULL));
	leaf = leaf_make(&ours, "spiffe://example.org/a", key, 600);
	len = i2d_X509(leaf, &der);
	buf_init(&b, mem_system, 16000);
	crypto_pem(&b, "CERTIFICATE", (struct str){ (char *)der, (size_t)len });
	{
		AUTO_BUF body;

		buf_init(&body, mem_system, 16000);
		buf_lit(&body, "{\"spiffe_id\":\"spiffe://example.org/a\",\"expires_at\":\"x\","
			       "\"x509_svid\":");
		buf_json(&body, buf_str(&b));
		buf_lit(&body, ",\"bundle\":");
		buf_json(&body, buf_str(&ours.pem));
		buf_char(&body, '}');
		snprintf(answer, sizeof(answer),
			 "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%.*s", body.n,
			 STR_FMT(buf_str(&body)));
	}
	s.answer = str_c(answer);
	scripted_start(&s);
	target_name(&s.target, server);
	out = open_memstream(&said, &nsaid);
	err = open_memstream(&text, &n);
	assert_int_equal(cli_run(cli_commands, out, err, 9, argv), 1);
	fclose(err);
	scripted_stop(&s);
	assert_non_null(strstr(text, "does not hold: it is for another identity or another key"));
	assert_non_null(
		strstr(s.request, "{\"join_token\":\"t\",\"csr\":\"-----BEGIN CERTIFICATE REQ"));
	assert_null(strstr(s.request, "PRIVATE"));
	assert_int_equal(access(path, F_OK), -1);
	rmdir(folder);
	fclose(out);
	free(text);
	free(said);
	OPENSSL_free(der);
	X509_free(leaf);
	EVP_PKEY_free(key);
	authority_clear(&ours);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_server_of_our_bundle_is_believed),
		cmocka_unit_test(without_a_bundle_nobody_is_believed),
		cmocka_unit_test(a_fingerprint_picks_one_authority),
		cmocka_unit_test(an_svid_for_another_key_is_not_kept),
	};

	signal(SIGPIPE, SIG_IGN); /* as cli_main does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
