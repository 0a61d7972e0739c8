/* spiffe/signer_desk: what the signer signs, and what it refuses to a serving process gone bad. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "authz/base/text.h"
#include "spiffe/crypto.h"
#include "spiffe/signer_desk.h"
#include "spiffe/signer_wire.h"
#include "tests/spiffe/folder.h"
#include "tests/spiffe/forge.h"

#define YEAR (365 * 86400)
#define ROOT_A "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
#define ROOT_B "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=\n"

static struct {
	struct signer_keys keys;
	struct signer_desk *desk;
	struct clock_fixed now;
	struct buf spki;
	struct bundle_set *set;
} d;

static const struct signer_config desk_config = { .folder = folder,
						  .trust_domain = STR_INIT("a.example"),
						  .issuer = STR_INIT("https://a.example"),
						  .token_issuer = STR_INIT(
							  "https://a.example/oauth2"),
						  .x509_ttl_max_s = 3600,
						  .jwt_ttl_max_s = 300,
						  .channels = 1 };

static int open_desk(void **state)
{
	struct err e = { 0 };
	struct clock clock;
	EVP_PKEY *key = forge_key("P-256");

	if (fresh_folder(state) || !open_keys("a.example", &d.keys, &e))
		return -1;
	d.now.ms = (int64_t)FORGE_NOW * 1000;
	clock = clock_of_fixed(&d.now);
	d.desk = signer_desk_new(&desk_config, &d.keys, NULL, NULL, &clock, &e);
	buf_init(&d.spki, mem_system, 4096);
	if (!crypto_spki(key, &d.spki, &e))
		return -1;
	EVP_PKEY_free(key);
	return d.desk ? 0 : -1;
}

static int close_desk(void **state)
{
	signer_desk_free(d.desk);
	signer_keys_clear(&d.keys);
	buf_clear(&d.spki);
	return drop_folder(state);
}

/* Through the wire and back: the answer's class, with result or message in @out. */
static enum err_class ask(const struct signer_job *j, struct buf *out)
{
	struct buf request, answer;
	enum err_class class;
	struct str body;
	struct wire w = { 0 };

	buf_init(&request, mem_system, 1 << 20);
	buf_init(&answer, mem_system, 1 << 20);
	assert_true(wire_put_job(&request, j));
	assert_int_equal(wire_frame(buf_str(&request), &body), request.n);
	assert_true(signer_desk_answer(d.desk, body, &answer));
	assert_int_equal(wire_frame(buf_str(&answer), &body), answer.n);
	w.rest = body;
	class = (enum err_class)wire_u8(&w);
	buf_reset(out);
	buf_add(out, w.rest);
	buf_char(out, '\0');
	out->n--;
	buf_clear(&request);
	buf_clear(&answer);
	return class;
}

static struct signer_job good_x509(void)
{
	return (struct signer_job){ .op = SIGNER_X509_SVID,
				    .x509 = { .spiffe_id = STR("spiffe://a.example/agent/7"),
					      .spki = buf_str(&d.spki),
					      .not_before_s = FORGE_NOW - 10,
					      .not_after_s = FORGE_NOW + 3600 } };
}

static struct signer_job good_jwt(void)
{
	return (struct signer_job){ .op = SIGNER_JWT_SVID,
				    .jwt = { .spiffe_id = STR("spiffe://a.example/agent/7"),
					     .audience = { STR("us") },
					     .naudience = 1,
					     .issued_s = FORGE_NOW,
					     .expires_s = FORGE_NOW + 300 } };
}

static struct signer_job good_delegated(void)
{
	return (struct signer_job){ .op = SIGNER_DELEGATED_TOKEN,
				    .delegated = { .issuer = STR("https://a.example/oauth2"),
						   .subject = STR("alice"),
						   .subject_issuer = STR("https://idp.example"),
						   .audience = STR("us"),
						   .scope = STR("read"),
						   .chain = { STR("spiffe://a.example/agent/6"),
							      STR("spiffe://a.example/agent/7") },
						   .nchain = 2,
						   .id = STR("AAAAAAAAAAAAAAAAAAAAAA"),
						   .line = { STR("BBBBBBBBBBBBBBBBBBBBBA") },
						   .nline = 1,
						   .issued_s = FORGE_NOW,
						   .expires_s = FORGE_NOW + 300,
						   .bound = { 1, 2, 3 } } };
}

static void the_desk_signs(void **state)
{
	struct signer_job x = good_x509(), j = good_jwt(), t = good_delegated();
	const struct delegated_expected expected = { .trust_domain = STR("a.example"),
						     .issuer = t.delegated.issuer,
						     .audience = &t.delegated.audience,
						     .naudience = 1,
						     .now_s = FORGE_NOW };
	struct delegated_token delegated;
	struct x509_svid svid;
	struct bundle_set *set = bundle_set_new(1, NULL);
	struct jwt_verifier *v = jwt_verifier_new(&mem_system, 0, NULL);
	struct str ca = forge_der(d.keys.authority), spki = forge_spki(d.keys.jwt);
	char kid[JWT_KID_LEN + 1];
	struct jwt_svid token;
	struct bundle *b;
	struct arena a;
	struct err e = { 0 };
	struct buf out;

	(void)state;
	arena_init(&a, &mem_system, 1 << 20);
	buf_init(&out, mem_system, 1 << 16);
	assert_true(jwt_kid(d.keys.jwt, kid, &e));
	assert_true(bundle_set_add(set, STR("a.example"), 1, 300, &b, &e));
	assert_true(bundle_add_authority(b, ca, &e));
	assert_true(bundle_add_jwt_key(b, str_c(kid), spki, &e));

	assert_int_equal(ask(&x, &out), ERR_NONE);
	if (!x509_svid_verify_der(set, (struct str[]){ buf_str(&out) }, 1, FORGE_NOW, &svid, &e))
		fail_msg("%s", e.msg);
	assert_string_equal(svid.text, "spiffe://a.example/agent/7");

	j.jwt.issuer = STR("https://a.example");
	assert_int_equal(ask(&j, &out), ERR_NONE);
	if (!jwt_svid_verify(v, set, buf_str(&out), STR("us"), FORGE_NOW, &a, &token, &e))
		fail_msg("%s", e.msg);
	assert_true(str_eq(json_get(token.claims, STR("iss"))->s, STR("https://a.example")));

	assert_int_equal(ask(&t, &out), ERR_NONE);
	if (!delegated_token_verify(v, set, buf_str(&out), &expected, &a, &delegated, &e))
		fail_msg("%s", e.msg);
	assert_true(str_eq(delegated_actor(&delegated), t.delegated.chain[1]));
	assert_true(str_eq(delegated_root(&delegated), t.delegated.line[0]));
	assert_memory_equal(delegated.bound, t.delegated.bound, sizeof(delegated.bound));

	x.x509.spiffe_id = STR("spiffe://a.example/writ/server");
	assert_true(x509_name_parse(STR("localhost"), &x.x509.names[0], &e));
	assert_true(x509_name_parse(STR("::1"), &x.x509.names[1], &e));
	x.x509.nnames = 2;
	assert_int_equal(ask(&x, &out), ERR_NONE);
	buf_clear(&out);
	arena_clear(&a);
	jwt_verifier_free(v);
	bundle_set_release(set);
	forge_free(ca);
	forge_free(spki);
}

/* A serving process that was taken over gets nothing beyond what the configuration allows. */
static void the_desk_refuses(void **state)
{
	struct signer_job x[16], j[12], t[12];
	size_t nx = 0, nj = 0, nt = 0;
	struct buf out, weak;
	EVP_PKEY *rsa = forge_key("RSA1024");

	(void)state;
	buf_init(&out, mem_system, 1 << 16);
	buf_init(&weak, mem_system, 4096);
	assert_true(crypto_spki(rsa, &weak, NULL));
	for (size_t i = 0; i < ARRAY_LEN(x); i++)
		x[i] = good_x509();
	for (size_t i = 0; i < ARRAY_LEN(j); i++)
		j[i] = good_jwt();
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		t[i] = good_delegated();
	x[nx++].x509.spiffe_id = STR("spiffe://b.example/agent/7");
	x[nx++].x509.spiffe_id = STR("spiffe://a.example");
	x[nx++].x509.spiffe_id = STR("spiffe://a.example/a/../b");
	x[nx++].x509.spiffe_id = STR("spiffe://a.example/writ/admin");
	x[nx++].x509.spiffe_id = STR("spiffe://a.example/writ");
	x[nx++].x509.spiffe_id = STR("");
	x[nx++].x509.not_after_s = FORGE_NOW + 3600 + 61;
	x[nx++].x509.not_after_s = FORGE_NOW - 10;
	x[nx++].x509.not_after_s = INT64_MAX;
	x[nx++].x509.not_before_s = FORGE_NOW - 61;
	x[nx++].x509.not_before_s = FORGE_NOW + 61;
	x[nx++].x509.not_before_s = INT64_MIN;
	x[nx++].x509.spki = STR("");
	x[nx++].x509.spki = buf_str(&weak);
	x[nx].x509.nnames = 1; /* names for a workload */
	x[nx++].x509.names[0].dns = STR("localhost");
	x[nx].x509.spiffe_id = STR("spiffe://a.example/writ/server");
	x[nx].x509.nnames = 1; /* no DNS name */
	x[nx++].x509.names[0].dns = STR("localhost,DNS:evil");
	j[nj++].jwt.spiffe_id = STR("spiffe://b.example/agent/7");
	j[nj++].jwt.spiffe_id = STR("spiffe://a.example/writ/x");
	j[nj++].jwt.spiffe_id = STR("spiffe://a.example");
	j[nj++].jwt.expires_s = FORGE_NOW + 300 + 61;
	j[nj++].jwt.expires_s = FORGE_NOW;
	j[nj++].jwt.expires_s = -1;
	j[nj++].jwt.issued_s = FORGE_NOW - 61;
	j[nj++].jwt.issued_s = FORGE_NOW + 61;
	j[nj++].jwt.naudience = 0;
	j[nj++].jwt.audience[0] = STR("");
	j[nj++].jwt.issuer = STR("https://b.example");
	j[nj++].jwt.audience[0] = STR("a\0b");
	t[nt++].delegated.issuer = STR("https://a.example");
	t[nt++].delegated.issuer = STR("");
	t[nt++].delegated.chain[1] = STR("spiffe://b.example/agent/7");
	t[nt++].delegated.chain[0] = STR("spiffe://b.example/agent/6");
	t[nt++].delegated.chain[1] = STR("spiffe://a.example/writ/server");
	t[nt++].delegated.chain[1] = STR("spiffe://a.example/writ/admin");
	t[nt++].delegated.nchain = 0;
	t[nt++].delegated.subject = STR("spiffe://a.example/agent/1");
	t[nt++].delegated.expires_s = FORGE_NOW + 300 + 61;
	t[nt++].delegated.expires_s = -1;
	t[nt++].delegated.issued_s = FORGE_NOW - 61;
	t[nt++].delegated.id = STR("1");
	assert_int_equal(nt, ARRAY_LEN(t));
	assert_int_equal(nx, ARRAY_LEN(x));
	assert_int_equal(nj, ARRAY_LEN(j));
	for (size_t i = 0; i < nx; i++)
		if (ask(&x[i], &out) != ERR_INVALID || out.n < 10)
			fail_msg("x509 row %zu: %s", i, out.p);
	for (size_t i = 0; i < nj; i++)
		if (ask(&j[i], &out) != ERR_INVALID || out.n < 10)
			fail_msg("jwt row %zu: %s", i, out.p);
	for (size_t i = 0; i < nt; i++)
		if (ask(&t[i], &out) != ERR_INVALID || out.n < 10)
			fail_msg("delegated row %zu: %s", i, out.p);
	x[0] = good_x509();
	assert_int_equal(ask(&x[0], &out), ERR_NONE); /* it was not the desk's mood */
	EVP_PKEY_free(rsa);
	buf_clear(&out);
	buf_clear(&weak);
}

static void an_expired_authority_signs_nothing(void **state)
{
	struct signer_job x = good_x509();
	struct buf out;

	(void)state;
	buf_init(&out, mem_system, 1 << 16);
	d.now.ms += (int64_t)(YEAR + 1) * 1000;
	x.x509.not_before_s += YEAR + 20;
	x.x509.not_after_s += YEAR;
	assert_int_equal(ask(&x, &out), ERR_UNAVAILABLE);
	buf_clear(&out);
}

static void one_history_of_the_log(void **state)
{
	static const struct {
		const char *why;
		struct str text;
		enum err_class want;
	} rows[] = {
		{ "first", STR_INIT("a.example/writ\n0\n" ROOT_A), ERR_NONE },
		{ "other origin", STR_INIT("b.example/writ\n7\n" ROOT_A), ERR_INVALID },
		{ "origin with a blank", STR_INIT("a.example/writ \n7\n" ROOT_A), ERR_INVALID },
		{ "leading zero", STR_INIT("a.example/writ\n07\n" ROOT_A), ERR_INVALID },
		{ "sign", STR_INIT("a.example/writ\n+7\n" ROOT_A), ERR_INVALID },
		{ "short root", STR_INIT("a.example/writ\n7\nAAAA\n"), ERR_INVALID },
		{ "fourth line", STR_INIT("a.example/writ\n7\n" ROOT_A "x\n"), ERR_INVALID },
		{ "no last newline", STR_INIT("a.example/writ\n7\nAAAA"), ERR_INVALID },
		{ "a token", STR_INIT("eyJhbGciOiJFZERTQSJ9.e30"), ERR_INVALID },
		{ "empty", STR_INIT(""), ERR_INVALID },
		{ "seven", STR_INIT("a.example/writ\n7\n" ROOT_A), ERR_NONE },
		{ "the same again", STR_INIT("a.example/writ\n7\n" ROOT_A), ERR_NONE },
		{ "seven, another root", STR_INIT("a.example/writ\n7\n" ROOT_B), ERR_CONFLICT },
		{ "six", STR_INIT("a.example/writ\n6\n" ROOT_A), ERR_CONFLICT },
		{ "eight", STR_INIT("a.example/writ\n8\n" ROOT_B), ERR_NONE },
	};
	struct buf out;

	(void)state;
	buf_init(&out, mem_system, 1 << 16);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct signer_job j = { .op = SIGNER_CHECKPOINT, .checkpoint = rows[i].text };
		EVP_MD_CTX *ctx = EVP_MD_CTX_new();

		if (ask(&j, &out) != rows[i].want)
			fail_msg("%s: %s", rows[i].why, out.p);
		if (rows[i].want == ERR_NONE) {
			assert_int_equal(out.n, 64);
			EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, d.keys.log);
			assert_int_equal(EVP_DigestVerify(ctx, (unsigned char *)out.p, out.n,
							  (const unsigned char *)rows[i].text.p,
							  rows[i].text.n),
					 1);
		}
		EVP_MD_CTX_free(ctx);
	}
	buf_clear(&out);
}

static bool is_signed(EVP_PKEY *key, struct str text, const struct buf *signature)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = signature->n == 64 && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
		  EVP_DigestVerify(ctx, (const unsigned char *)signature->p, 64,
				   (const unsigned char *)text.p, text.n) == 1;

	EVP_MD_CTX_free(ctx);
	return ok;
}

static enum err_class ask_of_size(enum signer_op op, uint64_t size, struct buf *out)
{
	struct signer_job j = { .op = op, .hand_over = size };

	return ask(&j, out);
}

static enum err_class checkpoint_of(unsigned size, struct buf *out)
{
	char text[100];
	struct signer_job j = { .op = SIGNER_CHECKPOINT };

	snprintf(text, sizeof(text), "a.example/writ\n%u\n" ROOT_A, size);
	j.checkpoint = str_c(text);
	return ask(&j, out);
}

/* A log's key is followed by one that was made here, and never signs again. */
static void the_log_takes_another_key(void **state)
{
	struct signer_job make = { .op = SIGNER_MAKE_LOG_KEY };
	struct signer_made_log made;
	EVP_PKEY *old = d.keys.log, *new;
	struct buf out, text;
	struct err e = { 0 };

	(void)state;
	EVP_PKEY_up_ref(old);
	buf_init(&out, mem_system, 1 << 16);
	buf_init(&text, mem_system, 1 << 16);
	assert_int_equal(checkpoint_of(8, &out), ERR_NONE);
	assert_int_equal(ask_of_size(SIGNER_HAND_OVER, 9, &out), ERR_CONFLICT); /* to whom? */
	assert_int_equal(ask_of_size(SIGNER_SWITCH_LOG_KEY, 9, &out), ERR_CONFLICT);
	assert_int_equal(ask(&make, &out), ERR_NONE);
	assert_true(signer_made_log_read(buf_str(&out), &made, &e));
	assert_true(str_starts(made.sealed, STR("-----BEGIN WRIT SEALED KEY-----\n")));
	new = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, made.key, 32);
	assert_int_equal(ask_of_size(SIGNER_HAND_OVER, 8, &out), ERR_CONFLICT);
	assert_int_equal(ask_of_size(SIGNER_HAND_OVER, UINT64_MAX, &out), ERR_CONFLICT);
	buf_lit(&text, "writ/key.rotate/v1\na.example/writ\n9\n");
	text_base64(&text, BASE64_STD, made.key, 32);
	buf_char(&text, '\n');
	assert_int_equal(ask_of_size(SIGNER_HAND_OVER, 9, &out), ERR_NONE);
	assert_true(is_signed(old, buf_str(&text), &out));
	assert_int_equal(checkpoint_of(9, &out), ERR_NONE);
	assert_true(is_signed(old, STR("a.example/writ\n9\n" ROOT_A), &out));
	assert_int_equal(ask_of_size(SIGNER_SWITCH_LOG_KEY, 0, &out), ERR_CONFLICT);
	assert_int_equal(ask_of_size(SIGNER_SWITCH_LOG_KEY, 9, &out), ERR_NONE);
	assert_int_equal(checkpoint_of(9, &out), ERR_CONFLICT);
	assert_int_equal(checkpoint_of(10, &out), ERR_NONE);
	assert_true(is_signed(new, STR("a.example/writ\n10\n" ROOT_A), &out));
	assert_false(is_signed(old, STR("a.example/writ\n10\n" ROOT_A), &out));
	assert_int_equal(ask_of_size(SIGNER_HAND_OVER, 12, &out), ERR_CONFLICT);
	for (size_t cut = 0; cut < out.n; cut++)
		assert_false(signer_made_log_read(str_first(buf_str(&out), cut), &made, &e));
	EVP_PKEY_free(new);
	EVP_PKEY_free(old);
	buf_clear(&out);
	buf_clear(&text);
}

static void malformed_requests_are_answered(void **state)
{
	struct signer_job x = good_x509(), j = good_jwt(), t = good_delegated();
	struct buf request, answer;
	struct str body;

	(void)state;
	buf_init(&request, mem_system, 1 << 16);
	buf_init(&answer, mem_system, 1 << 20);
	assert_true(wire_put_job(&request, &x));
	assert_true(wire_put_job(&request, &t));
	assert_true(wire_put_job(&request, &j));
	for (size_t at = 0; at < request.n;) {
		ssize_t n = wire_frame(str_from(buf_str(&request), at), &body);

		/* cut anywhere, and with a byte too many */
		for (size_t cut = 0; cut < body.n; cut++) {
			buf_reset(&answer);
			assert_true(signer_desk_answer(d.desk, str_first(body, cut), &answer));
			assert_int_equal(answer.p[4], ERR_INVALID);
		}
		body.n++;
		if (at + (size_t)n < request.n) {
			buf_reset(&answer);
			assert_true(signer_desk_answer(d.desk, body, &answer));
			assert_int_equal(answer.p[4], ERR_INVALID);
		}
		at += (size_t)n;
	}
	for (int op = 0; op < 256; op++) {
		char c = (char)op;

		buf_reset(&answer);
		assert_true(signer_desk_answer(d.desk, (struct str){ &c, 1 }, &answer));
		/* The one request that is an op and nothing else. */
		assert_int_equal(answer.p[4], op == SIGNER_MAKE_LOG_KEY ? ERR_NONE : ERR_INVALID);
	}
	assert_int_equal(wire_frame(STR("\0\0\0\0"), &body), -1);
	assert_int_equal(wire_frame(STR("\x7f\0\0\0"), &body), -1);
	assert_int_equal(wire_frame(STR("\0\0\0"), &body), 0);
	buf_clear(&request);
	buf_clear(&answer);
}

#define AT_DESK(f) cmocka_unit_test_setup_teardown(f, open_desk, close_desk)

int main(void)
{
	const struct CMUnitTest tests[] = {
		AT_DESK(the_desk_signs),
		AT_DESK(the_desk_refuses),
		AT_DESK(an_expired_authority_signs_nothing),
		AT_DESK(one_history_of_the_log),
		AT_DESK(the_log_takes_another_key),
		AT_DESK(malformed_requests_are_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
