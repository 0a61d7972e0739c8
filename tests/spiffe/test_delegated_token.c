/* spiffe/delegated_token: what writ writes and reads of RFC 8693 and RFC 9068, every trap a row;
 * others read what we write, and take it for nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <jwt.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>
#include <openssl/pem.h>

#include "authz/base/text.h"
#include "spiffe/delegated_token.h"
#include "tests/jansson.h"
#include "tests/spiffe/forge.h"

#define ISS "https://writ.a.example"
#define A1 "spiffe://a.example/agent/helpdesk"
#define A2 "spiffe://a.example/agent/researcher"
#define X5T "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0" /* RFC 8705 Appendix A */
#define JTI0 "AAAAAAAAAAAAAAAAAAAAAA"
#define JTI1 "BBBBBBBBBBBBBBBBBBBBBA"

#define HEAD "{\"alg\":\"ES256\",\"kid\":\"k\",\"typ\":\"at+jwt\"}"
#define ACT(id) "\"act\":{\"iss\":\"" ISS "\",\"sub\":\"" id "\",\"sub_profile\":\"ai_agent\"}"
#define ACT2 \
	"\"act\":{\"iss\":\"" ISS "\",\"sub\":\"" A2 "\",\"sub_profile\":\"ai_agent\"," ACT(A1) "}"
#define WHO(sub, client) "\"sub\":\"" sub "\",\"client_id\":\"" client "\""
#define BASE "\"iss\":\"" ISS "\",\"aud\":\"us\",\"jti\":\"" JTI0 "\""
#define TIMES "\"iat\":1800000000,\"exp\":1800000300"
#define CNF "\"cnf\":{\"x5t#S256\":\"" X5T "\"}"
#define OWN(line, user) "\"" ISS "/claims\":{\"line\":[" line "]" user "}"
#define USER ",\"sub_iss\":\"https://idp.example\""
#define REST BASE "," TIMES "," CNF
#define B "{" REST "," WHO("alice", A1) "," ACT(A1) ",\"scope\":\"crm.read\"," OWN("", USER) "}"

static struct {
	EVP_PKEY *key, *other, *foreign;
	struct bundle_set *set;
	struct jwt_verifier *v, *caching;
	struct arena arena;
} w;

static void add_key(struct bundle *b, const char *kid, EVP_PKEY *key)
{
	struct str spki = forge_spki(key);

	assert_true(bundle_add_jwt_key(b, str_c(kid), spki, NULL));
	forge_free(spki);
}

static struct bundle_set *make_set(uint64_t generation)
{
	struct bundle_set *set = bundle_set_new(generation, NULL);
	struct bundle *a, *b;

	assert_true(bundle_set_add(set, STR("a.example"), 1, 300, &a, NULL));
	assert_true(bundle_set_add(set, STR("b.example"), 1, 300, &b, NULL));
	add_key(a, "k", w.key);
	add_key(b, "k", w.foreign);
	add_key(b, "f", w.foreign);
	return set;
}

static int set_up(void **state)
{
	(void)state;
	w.key = forge_key("P-256");
	w.other = forge_key("P-256");
	w.foreign = forge_key("P-256");
	w.set = make_set(1);
	w.v = jwt_verifier_new(&mem_system, 0, NULL);
	w.caching = jwt_verifier_new(&mem_system, 16, NULL);
	arena_init(&w.arena, &mem_system, 1 << 20);
	return w.v && w.caching ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	jwt_verifier_free(w.v);
	jwt_verifier_free(w.caching);
	bundle_set_release(w.set);
	EVP_PKEY_free(w.key);
	EVP_PKEY_free(w.other);
	EVP_PKEY_free(w.foreign);
	arena_clear(&w.arena);
	return 0;
}

static struct delegated_expected expected(int64_t now_s)
{
	static const struct str audience[] = { STR_INIT("spiffe://a.example/writ/server"),
					       STR_INIT("us") };

	return (struct delegated_expected){ .trust_domain = STR("a.example"),
					    .issuer = STR(ISS),
					    .audience = audience,
					    .naudience = 2,
					    .now_s = now_s };
}

static bool verify_by(struct jwt_verifier *v, struct str token, int64_t now_s,
		      struct delegated_token *t, struct err *e)
{
	struct delegated_expected x = expected(now_s);

	arena_reset(&w.arena);
	return delegated_token_verify(v, w.set, token, &x, &w.arena, t, e);
}

static bool verify(struct str token, struct delegated_token *t, struct err *e)
{
	return verify_by(w.v, token, FORGE_NOW, t, e);
}

static const struct {
	const char *why, *header, *payload;
	const char *says; /* NULL: accepted */
} cases[] = {
	{ "B: an agent for a user", HEAD, B, NULL },
	{ "A: an agent for itself", HEAD,
	  "{" REST "," WHO(A1, A1) ",\"sub_profile\":\"ai_agent\"," OWN("", "") "}", NULL },
	{ "C: the second hop", HEAD,
	  "{" REST "," WHO("alice", A2) "," ACT2 "," OWN("\"" JTI1 "\"", USER) "}", NULL },
	{ "an agent for an agent", HEAD,
	  "{" REST "," WHO(A1, A2) "," ACT(A2) "," OWN("\"" JTI1 "\"", "") "}", NULL },
	{ "typ with application/",
	  "{\"alg\":\"ES256\",\"kid\":\"k\",\"typ\":\"application/at+jwt\"}", B, NULL },
	{ "further claims", HEAD,
	  "{" REST "," WHO("alice", A1) "," ACT(A1) ",\"acr\":\"2\"," OWN("", USER) "}", NULL },
	/* the header */
	{ "a JWT-SVID's typ", "{\"alg\":\"ES256\",\"kid\":\"k\",\"typ\":\"JWT\"}", B, "typ" },
	{ "no typ", "{\"alg\":\"ES256\",\"kid\":\"k\"}", B, "typ" },
	{ "typ in capitals", "{\"alg\":\"ES256\",\"kid\":\"k\",\"typ\":\"AT+JWT\"}", B, "typ" },
	{ "a DPoP proof", "{\"alg\":\"ES256\",\"kid\":\"k\",\"typ\":\"dpop+jwt\"}", B, "typ" },
	{ "no kid", "{\"alg\":\"ES256\",\"typ\":\"at+jwt\"}", B, "kid" },
	{ "kid of nobody", "{\"alg\":\"ES256\",\"kid\":\"x\",\"typ\":\"at+jwt\"}", B,
	  "no JWT key" },
	{ "a key of another trust domain", "{\"alg\":\"ES256\",\"kid\":\"f\",\"typ\":\"at+jwt\"}",
	  B, "no JWT key" },
	{ "kid with a path", "{\"alg\":\"ES256\",\"kid\":\"../k\",\"typ\":\"at+jwt\"}", B,
	  "no JWT key" },
	{ "none", "{\"alg\":\"none\",\"kid\":\"k\",\"typ\":\"at+jwt\"}", B, "alg" },
	{ "HS256", "{\"alg\":\"HS256\",\"kid\":\"k\",\"typ\":\"at+jwt\"}", B, "alg" },
	{ "RS256 with an EC key", "{\"alg\":\"RS256\",\"kid\":\"k\",\"typ\":\"at+jwt\"}", B,
	  "does not fit" },
	{ "crit", "{\"alg\":\"ES256\",\"crit\":[\"x\"],\"kid\":\"k\",\"typ\":\"at+jwt\",\"x\":1}",
	  B, "crit" },
	{ "jku", "{\"alg\":\"ES256\",\"jku\":\"https://x\",\"kid\":\"k\",\"typ\":\"at+jwt\"}", B,
	  "jku" },
	{ "alg twice", "{\"alg\":\"ES256\",\"alg\":\"none\",\"kid\":\"k\",\"typ\":\"at+jwt\"}", B,
	  "second time" },
	/* issuer, audience, times */
	{ "another issuer", HEAD,
	  "{\"iss\":\"https://writ.b.example\",\"aud\":\"us\",\"jti\":\"" JTI0 "\"," TIMES "," CNF
	  "," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "iss" },
	{ "issuer with a slash", HEAD,
	  "{\"iss\":\"" ISS "/\",\"aud\":\"us\",\"jti\":\"" JTI0 "\"," TIMES "," CNF
	  "," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "iss" },
	{ "for somebody else", HEAD,
	  "{\"iss\":\"" ISS "\",\"aud\":\"them\",\"jti\":\"" JTI0 "\"," TIMES "," CNF
	  "," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "addressed to others" },
	{ "for several", HEAD,
	  "{\"iss\":\"" ISS "\",\"aud\":[\"us\"],\"jti\":\"" JTI0 "\"," TIMES "," CNF
	  "," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "aud" },
	{ "expired", HEAD,
	  "{" BASE ",\"iat\":1799999000,\"exp\":1799999970," CNF
	  "," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "expired" },
	{ "expired, within leeway", HEAD,
	  "{" BASE ",\"iat\":1799999000,\"exp\":1799999971," CNF
	  "," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  NULL },
	{ "not yet", HEAD,
	  "{" REST ",\"nbf\":1800000031," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "not valid yet" },
	{ "from the future", HEAD,
	  "{" BASE ",\"iat\":1800000031,\"exp\":1800000300," CNF
	  "," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "future" },
	{ "no iat", HEAD,
	  "{" BASE ",\"exp\":1800000300," CNF
	  "," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "iat" },
	{ "no exp", HEAD,
	  "{" BASE ",\"iat\":1800000000," CNF
	  "," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "exp" },
	{ "exp a text", HEAD,
	  "{" BASE ",\"iat\":1800000000,\"exp\":\"1800000300\"," CNF
	  "," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "exp" },
	{ "exp a fraction", HEAD,
	  "{" BASE ",\"iat\":1800000000,\"exp\":1800000300.5," CNF
	  "," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "exp" },
	{ "exp 2^63", HEAD,
	  "{" BASE ",\"iat\":1800000000,\"exp\":9223372036854775808," CNF
	  "," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "payload" },
	{ "exp negative", HEAD,
	  "{" BASE ",\"iat\":-2,\"exp\":-1," CNF
	  "," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "expired" },
	{ "a claim twice", HEAD,
	  "{" REST "," WHO("alice", A1) "," ACT(A1) ",\"sub\":\"bob\"," OWN("", USER) "}",
	  "payload" },
	/* who */
	{ "no sub", HEAD, "{" REST ",\"client_id\":\"" A1 "\"," ACT(A1) "," OWN("", USER) "}",
	  "sub" },
	{ "sub empty", HEAD, "{" REST "," WHO("", A1) "," ACT(A1) "," OWN("", USER) "}", "sub" },
	{ "a user named like an agent", HEAD,
	  "{" REST "," WHO("spiffe://a.example/agent/boss", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "SPIFFE" },
	{ "a user of nobody", HEAD, "{" REST "," WHO("alice", A1) "," ACT(A1) "," OWN("", "") "}",
	  "SPIFFE" },
	{ "a user alone", HEAD, "{" REST "," WHO("alice", A1) "," OWN("", USER) "}", "chain" },
	{ "client_id of another", HEAD,
	  "{" REST "," WHO("alice", A2) "," ACT(A1) "," OWN("", USER) "}", "client_id" },
	{ "no client_id", HEAD, "{" REST ",\"sub\":\"alice\"," ACT(A1) "," OWN("", USER) "}",
	  "client_id" },
	{ "act a text", HEAD,
	  "{" REST "," WHO("alice", A1) ",\"act\":\"" A1 "\"," OWN("", USER) "}", "act" },
	{ "act without sub", HEAD,
	  "{" REST "," WHO("alice", A1) ",\"act\":{\"iss\":\"" ISS "\"}," OWN("", USER) "}",
	  "act" },
	{ "act without iss", HEAD,
	  "{" REST "," WHO("alice", A1) ",\"act\":{\"sub\":\"" A1 "\"}," OWN("", USER) "}", "act" },
	{ "act of another issuer", HEAD,
	  "{" REST "," WHO("alice", A1) ",\"act\":{\"iss\":\"https://x\",\"sub\":\"" A1
					"\"}," OWN("", USER) "}",
	  "another issuer" },
	{ "an actor that is no agent", HEAD,
	  "{" REST "," WHO("alice", "bob") "," ACT("bob") "," OWN("", USER) "}", "actor" },
	{ "an agent twice", HEAD, "{" REST "," WHO(A1, A2) "," ACT2 "," OWN("", "") "}", "twice" },
	/* the rest */
	{ "no jti", HEAD,
	  "{\"iss\":\"" ISS "\",\"aud\":\"us\"," TIMES "," CNF
	  "," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "jti" },
	{ "jti of another shape", HEAD,
	  "{\"iss\":\"" ISS "\",\"aud\":\"us\",\"jti\":\"1\"," TIMES "," CNF
	  "," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "jti" },
	{ "no cnf: anybody's", HEAD,
	  "{" BASE "," TIMES "," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}", "cnf" },
	{ "cnf of a key", HEAD,
	  "{" BASE "," TIMES ",\"cnf\":{\"jkt\":\"" X5T
	  "\"}," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "cnf" },
	{ "cnf of both", HEAD,
	  "{" BASE "," TIMES ",\"cnf\":{\"jkt\":\"" X5T "\",\"x5t#S256\":\"" X5T
	  "\"}," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "cnf" },
	{ "cnf in hex", HEAD,
	  "{" BASE "," TIMES ",\"cnf\":{\"x5t#S256\":\"0380ed2f626650c840b2f263e6d2b29fae12ab39ae5"
	  "db32b25ad27efad72e6fd\"}," WHO("alice", A1) "," ACT(A1) "," OWN("", USER) "}",
	  "cnf" },
	{ "scope with two blanks", HEAD,
	  "{" REST "," WHO("alice", A1) "," ACT(A1) ",\"scope\":\"a  b\"," OWN("", USER) "}",
	  "scope" },
	{ "scope twice", HEAD,
	  "{" REST "," WHO("alice", A1) "," ACT(A1) ",\"scope\":\"a b a\"," OWN("", USER) "}",
	  "scope" },
	{ "scope a list", HEAD,
	  "{" REST "," WHO("alice", A1) "," ACT(A1) ",\"scope\":[\"a\"]," OWN("", USER) "}",
	  "scope" },
	{ "without our claims", HEAD, "{" REST "," WHO("alice", A1) "," ACT(A1) "}", "claims" },
	{ "a line of other texts", HEAD,
	  "{" REST "," WHO("alice", A1) "," ACT(A1) "," OWN("\"x\"", USER) "}", "line" },
	{ "a line of numbers", HEAD,
	  "{" REST "," WHO("alice", A1) "," ACT(A1) "," OWN("1", USER) "}", "line" },
};

static void reads_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct delegated_token t;
		struct err e = { 0 };
		struct buf token;
		bool ok;

		buf_init(&token, mem_system, 1 << 16);
		forge_jws(&token, cases[i].header, cases[i].payload, "ES256", w.key);
		ok = verify(buf_str(&token), &t, &e);
		if (ok != !cases[i].says || (!ok && !strstr(e.msg, cases[i].says)))
			fail_msg("%s: %s", cases[i].why, ok ? "accepted" : e.msg);
		if (!ok && (e.class != ERR_UNAUTHENTICATED || strcmp(e.code, "invalid_token") != 0))
			fail_msg("%s: class %d code %s", cases[i].why, e.class, e.code);
		buf_clear(&token);
	}
}

static struct delegated_token sample(void)
{
	struct delegated_token t = { .issuer = STR(ISS),
				     .subject = STR("alice@idp"),
				     .subject_issuer = STR("https://idp.example"),
				     .audience = STR("us"),
				     .scope = STR("crm.read crm.write"),
				     .chain = { STR(A1), STR(A2) },
				     .nchain = 2,
				     .id = STR(JTI0),
				     .line = { STR(JTI1) },
				     .nline = 1,
				     .issued_s = FORGE_NOW,
				     .expires_s = FORGE_NOW + 300 };

	for (size_t i = 0; i < sizeof(t.bound); i++)
		t.bound[i] = (uint8_t)i;
	return t;
}

static bool issue(const struct delegated_token *t, struct buf *out, struct err *e)
{
	struct jwt_signer *s = jwt_signer_new(w.key, STR("k"), NULL);
	bool ok;

	buf_init(out, mem_system, LIMIT_TOKEN + 1);
	ok = delegated_token_issue(s, t, out, e);
	jwt_signer_free(s);
	return ok;
}

static void reads_what_it_writes(void **state)
{
	struct delegated_token t = sample(), got = { 0 };
	struct err e = { 0 };
	struct buf token;

	(void)state;
	for (int alone = 0; alone < 2; alone++) {
		if (alone) { /* an agent that began by itself */
			t.subject = STR(A1);
			t.subject_issuer = STR("");
			t.nline = 0;
			t.nchain = 1;
			t.scope = STR("");
		}
		if (!issue(&t, &token, &e) || !verify(buf_str(&token), &got, &e))
			fail_msg("%s", e.msg);
		assert_true(delegated_token_claimed(buf_str(&token), &w.arena));
		assert_true(str_eq(got.subject, t.subject));
		assert_true(str_eq(got.subject_issuer, t.subject_issuer));
		assert_true(str_eq(got.audience, t.audience) && str_eq(got.issuer, t.issuer));
		assert_true(str_eq(got.scope, t.scope) && str_eq(got.id, t.id));
		assert_int_equal(got.nchain, t.nchain);
		for (size_t i = 0; i < t.nchain; i++)
			assert_true(str_eq(got.chain[i], t.chain[i]));
		assert_int_equal(got.nline, t.nline);
		assert_true(str_eq(delegated_root(&got), alone ? STR(JTI0) : STR(JTI1)));
		assert_int_equal(got.issued_s, t.issued_s);
		assert_int_equal(got.expires_s, t.expires_s);
		assert_memory_equal(got.bound, t.bound, sizeof(t.bound));
		buf_clear(&token);
	}
}

/* R||S under the token's text, by OpenSSL's own reader of signatures. */
static bool openssl_says(struct str token)
{
	struct str text = str_first(token, token.n - 87);
	unsigned char raw[80], *der = NULL;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	ECDSA_SIG *sig = ECDSA_SIG_new();
	size_t n = 0;
	int len;
	bool ok;

	assert_true(text_unbase64(str_from(token, token.n - 86), BASE64_URL, raw, &n));
	assert_int_equal(n, 64);
	ECDSA_SIG_set0(sig, BN_bin2bn(raw, 32, NULL), BN_bin2bn(raw + 32, 32, NULL));
	len = i2d_ECDSA_SIG(sig, &der);
	ok = EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, w.key) == 1 &&
	     EVP_DigestVerify(ctx, der, (size_t)len, (const unsigned char *)text.p, text.n) == 1;
	OPENSSL_free(der);
	ECDSA_SIG_free(sig);
	EVP_MD_CTX_free(ctx);
	return ok;
}

/* The claims as somebody else's JSON reader sees them. */
static void others_read_what_we_write(void **state)
{
	static const struct {
		const char *name, *text;
	} claims[] = {
		{ "iss", ISS },
		{ "sub", "alice@idp" },
		{ "aud", "us" },
		{ "client_id", A2 },
		{ "scope", "crm.read crm.write" },
		{ "jti", JTI0 },
	};
	struct delegated_token t = sample();
	struct str head, payload = { 0 }, rest;
	struct err e = { 0 };
	struct buf token;
	uint8_t json[4096];
	json_t *v, *act;
	size_t n = 0;

	(void)state;
	for (int i = 0; i < 50; i++) { /* R or S begins with a zero byte once in 128 */
		assert_true(issue(&t, &token, &e));
		assert_true(openssl_says(buf_str(&token)));
		if (i < 49)
			buf_clear(&token);
	}
	assert_true(str_cut(buf_str(&token), '.', &head, &rest) &&
		    str_cut(rest, '.', &payload, &rest));
	assert_true(text_unbase64(head, BASE64_URL, json, &n));
	assert_true(str_eq((struct str){ (char *)json, n }, STR(HEAD)));
	assert_true(text_unbase64(payload, BASE64_URL, json, &n));
	v = json_loadb((char *)json, n, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(v);
	for (size_t i = 0; i < ARRAY_LEN(claims); i++)
		assert_string_equal(json_string_value(json_object_get(v, claims[i].name)),
				    claims[i].text);
	assert_int_equal(json_integer_value(json_object_get(v, "iat")), FORGE_NOW);
	assert_int_equal(json_integer_value(json_object_get(v, "exp")), FORGE_NOW + 300);
	act = json_object_get(v, "act");
	assert_string_equal(json_string_value(json_object_get(act, "sub")), A2);
	act = json_object_get(act, "act");
	assert_string_equal(json_string_value(json_object_get(act, "sub")), A1);
	assert_null(json_object_get(act, "act"));
	json_decref(v);
	buf_clear(&token);
}

/* RFC 8705, Appendix A: the thumbprint as it is written, and as it is read. */
static void binds_as_the_rfc_does(void **state)
{
	static const char hex[] =
		"0380ed2f626650c840b2f263e6d2b29fae12ab39ae5db32b25ad27efad72e6fd";
	struct delegated_token t = sample(), got;
	uint8_t json[4096];
	struct str head, payload, rest;
	struct err e = { 0 };
	struct buf token;
	size_t n = 0;

	(void)state;
	assert_true(text_unhex(str_c(hex), t.bound, sizeof(t.bound)));
	assert_true(issue(&t, &token, &e) && verify(buf_str(&token), &got, &e));
	assert_memory_equal(got.bound, t.bound, sizeof(t.bound));
	assert_true(str_cut(buf_str(&token), '.', &head, &rest) &&
		    str_cut(rest, '.', &payload, &rest) &&
		    text_unbase64(payload, BASE64_URL, json, &n));
	assert_non_null(memmem(json, n, CNF, sizeof(CNF) - 1));
	buf_clear(&token);
}

/* Who reads JWTs of any kind does not read these: typ says that they are of another. */
static void libjwt_takes_it_for_no_jwt(void **state)
{
	BIO *bio = BIO_new(BIO_s_mem());
	struct delegated_token t = sample();
	struct err e = { 0 };
	struct buf token;
	jwt_t *jwt = NULL;
	char *pem;
	long n;

	(void)state;
	PEM_write_bio_PUBKEY(bio, w.key);
	n = BIO_get_mem_data(bio, &pem);
	assert_true(issue(&t, &token, &e));
	buf_char(&token, '\0');
	assert_int_not_equal(jwt_decode(&jwt, token.p, (unsigned char *)pem, (int)n), 0);
	buf_clear(&token);
	BIO_free(bio);
}

/* Neither is ever taken for the other, whatever else they say. */
static void it_is_no_svid(void **state)
{
	struct delegated_token t = sample(), got;
	struct jwt_signer *s = jwt_signer_new(w.key, STR("k"), NULL);
	struct jwt_request r = { .spiffe_id = STR(A1),
				 .audience = { STR("us") },
				 .naudience = 1,
				 .issued_s = FORGE_NOW,
				 .expires_s = FORGE_NOW + 300,
				 .issuer = STR(ISS) };
	struct err e = { 0 };
	struct jwt_svid svid;
	struct buf token;

	(void)state;
	t.subject = STR(A1); /* the worst case: sub and aud are those of a JWT-SVID */
	t.subject_issuer = STR("");
	t.nchain = 1;
	assert_true(issue(&t, &token, &e));
	arena_reset(&w.arena);
	assert_false(jwt_svid_verify(w.v, w.set, buf_str(&token), STR("us"), FORGE_NOW, &w.arena,
				     &svid, &e));
	assert_non_null(strstr(e.msg, "typ"));
	buf_reset(&token);
	assert_true(jwt_svid_issue(s, &r, &token, &e));
	assert_false(delegated_token_claimed(buf_str(&token), &w.arena));
	assert_false(verify(buf_str(&token), &got, &e));
	assert_non_null(strstr(e.msg, "typ"));
	jwt_signer_free(s);
	buf_clear(&token);
}

/* The second text of one token: s becomes n - s. It verifies, so a text is no name of a token. */
static void mirror(struct buf *token)
{
	BIGNUM *n = NULL, *s;
	EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	size_t dot = token->n - 86, len = 0;
	uint8_t raw[80];

	assert_true(text_unbase64(str_from(buf_str(token), dot), BASE64_URL, raw, &len));
	assert_int_equal(len, 64);
	n = BN_dup(EC_GROUP_get0_order(group));
	s = BN_bin2bn(raw + 32, 32, NULL);
	assert_int_equal(BN_sub(s, n, s), 1);
	assert_int_equal(BN_bn2binpad(s, raw + 32, 32), 32);
	token->n = dot;
	text_base64(token, BASE64_URL, raw, 64);
	BN_free(n);
	BN_free(s);
	EC_GROUP_free(group);
}

static void a_second_text_is_the_same_token(void **state)
{
	struct delegated_token t = sample(), one, two;
	struct err e = { 0 };
	struct buf token, other;

	(void)state;
	assert_true(issue(&t, &token, &e));
	buf_init(&other, mem_system, LIMIT_TOKEN + 1);
	buf_add(&other, buf_str(&token));
	mirror(&other);
	assert_false(str_eq(buf_str(&token), buf_str(&other)));
	for (int i = 0; i < 2; i++) { /* twice: from the memory as well */
		assert_true(verify_by(w.caching, buf_str(&token), FORGE_NOW, &one, &e));
		assert_true(str_eq(one.id, STR(JTI0)));
		assert_true(verify_by(w.caching, buf_str(&other), FORGE_NOW, &two, &e));
		assert_true(str_eq(two.id, STR(JTI0)));
	}
	assert_int_equal(jwt_verifier_counts(w.caching).hits, 2);
	assert_int_equal(jwt_verifier_counts(w.caching).verified, 2);
	/* What is remembered is that the signature holds; the rest is looked at each time. */
	assert_false(verify_by(w.caching, buf_str(&token), FORGE_NOW + 330, &one, &e));
	/* Another spelling of the last character is no text at all. */
	other.p[other.n - 1] ^= 1;
	assert_false(verify(buf_str(&other), &two, &e));
	other.n--;
	assert_false(verify(buf_str(&other), &two, &e));
	buf_clear(&token);
	buf_clear(&other);
}

static void chains_are_bounded(void **state)
{
	struct delegated_token t = sample(), got;
	char ids[DELEGATED_CHAIN_MAX + 1][64], payload[4096];
	struct err e = { 0 };
	struct buf token, deep;

	(void)state;
	t.nchain = DELEGATED_CHAIN_MAX;
	for (size_t i = 0; i <= DELEGATED_CHAIN_MAX; i++) {
		snprintf(ids[i], sizeof(ids[i]), "spiffe://a.example/agent/%zu", i);
		if (i < DELEGATED_CHAIN_MAX)
			t.chain[i] = str_c(ids[i]);
	}
	if (!issue(&t, &token, &e) || !verify(buf_str(&token), &got, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(got.nchain, DELEGATED_CHAIN_MAX);
	assert_true(str_eq(delegated_actor(&got), str_c(ids[DELEGATED_CHAIN_MAX - 1])));
	buf_clear(&token);
	/* one more, by hand: by a user, and by an agent that began */
	for (int alone = 0; alone < 2; alone++) {
		buf_init(&deep, mem_system, sizeof(payload));
		buf_printf(&deep, "{" REST ",\"sub\":\"%s\",\"client_id\":\"%s\"",
			   alone ? ids[0] : "alice", ids[DELEGATED_CHAIN_MAX]);
		for (size_t i = DELEGATED_CHAIN_MAX + 1; i-- > (size_t)alone;)
			buf_printf(&deep, ",\"act\":{\"iss\":\"" ISS "\",\"sub\":\"%s\"", ids[i]);
		for (size_t i = DELEGATED_CHAIN_MAX + 1; i-- > (size_t)alone;)
			buf_char(&deep, '}');
		buf_printf(&deep, ",%s}", alone ? OWN("", "") : OWN("", USER));
		buf_char(&deep, '\0');
		buf_init(&token, mem_system, 1 << 16);
		forge_jws(&token, HEAD, deep.p, "ES256", w.key);
		assert_false(verify(buf_str(&token), &got, &e));
		assert_non_null(strstr(e.msg, "too long"));
		buf_clear(&token);
		buf_clear(&deep);
	}
}

static void signatures_that_do_not_hold(void **state)
{
	struct delegated_token got;
	struct err e = { 0 };
	struct buf token;

	(void)state;
	buf_init(&token, mem_system, 1 << 16);
	forge_jws(&token, HEAD, B, "ES256", w.other);
	assert_false(verify(buf_str(&token), &got, &e));
	/* kid "k" is also the name of a key of b.example */
	buf_reset(&token);
	forge_jws(&token, HEAD, B, "ES256", w.foreign);
	assert_false(verify(buf_str(&token), &got, &e));
	buf_reset(&token);
	forge_jws(&token, HEAD, B, "none", w.key);
	assert_false(verify(buf_str(&token), &got, &e));
	buf_clear(&token);
}

static void bad_tokens_are_not_issued(void **state)
{
	static char big[LIMIT_TOKEN];
	struct delegated_token bad[16];
	struct err e = { 0 };
	struct buf token;
	size_t n = 0;

	(void)state;
	memset(big, 'a', sizeof(big));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		bad[i] = sample();
	bad[n++].subject = STR("");
	bad[n++].subject = STR("a\nb");
	bad[n++].subject = (struct str){ big, DELEGATED_SUBJECT_MAX + 1 };
	bad[n++].subject = STR(A1);
	bad[n++].subject_issuer = STR("");
	bad[n++].nchain = 0;
	bad[n++].chain[1] = STR(A1);
	bad[n++].chain[0] = STR("joe");
	bad[n++].id = STR("");
	bad[n++].line[0] = STR("x");
	bad[n++].audience = STR("");
	bad[n++].audience = (struct str){ big, JWT_AUDIENCE_MAX + 1 };
	bad[n++].issuer = STR("");
	bad[n++].scope = STR(" a");
	bad[n++].scope = STR("a\"b");
	bad[n++].expires_s = FORGE_NOW;
	assert_int_equal(n, ARRAY_LEN(bad));
	for (size_t i = 0; i < n; i++) {
		if (issue(&bad[i], &token, &e) || e.class != ERR_INVALID)
			fail_msg("row %zu: %s", i, e.msg);
		assert_int_equal(token.n, 0);
		buf_clear(&token);
	}
	/* each text is short enough, together they are not */
	bad[0] = sample();
	bad[0].audience = (struct str){ big, JWT_AUDIENCE_MAX };
	bad[0].issuer = (struct str){ big, 1024 };
	bad[0].subject_issuer = (struct str){ big, 1024 };
	assert_false(issue(&bad[0], &token, &e));
	assert_int_equal(e.class, ERR_TOO_LARGE);
	buf_clear(&token);
}

static void scopes(void **state)
{
	static const struct {
		const char *part, *whole;
		bool valid, within;
	} rows[] = {
		{ "", "", true, true },
		{ "", "a", true, true },
		{ "a", "", true, false },
		{ "a", "a b", true, true },
		{ "b a", "a b", true, true },
		{ "A", "a", true, false },
		{ "ab", "a b", true, false },
		{ "a b", "ab", true, false },
		{ "crm.read:all!#[]~", "crm.read:all!#[]~", true, true },
		{ " a", "a", false, false },
		{ "a ", "a", false, false },
		{ "a  b", "a b", false, false },
		{ "a a", "a", false, true },
		{ "a\tb", "a\tb", false, true },
		{ "a\\b", "a\\b", false, true },
		{ "\"", "\"", false, true },
		{ "\xc3\xa4", "\xc3\xa4", false, true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (delegated_scope_valid(str_c(rows[i].part)) != rows[i].valid)
			fail_msg("valid: \"%s\"", rows[i].part);
		if (rows[i].valid && delegated_scope_within(str_c(rows[i].part),
							    str_c(rows[i].whole)) != rows[i].within)
			fail_msg("\"%s\" within \"%s\"", rows[i].part, rows[i].whole);
	}
}

static void ids_are_new(void **state)
{
	char one[DELEGATED_ID_LEN + 1], two[DELEGATED_ID_LEN + 1];
	struct delegated_token t = sample();
	struct err e = { 0 };
	struct buf token;

	(void)state;
	delegated_new_id(one);
	delegated_new_id(two);
	assert_string_not_equal(one, two);
	t.id = str_c(one);
	if (!issue(&t, &token, &e))
		fail_msg("%s: %s", one, e.msg);
	buf_clear(&token);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_table),
		cmocka_unit_test(reads_what_it_writes),
		cmocka_unit_test(others_read_what_we_write),
		cmocka_unit_test(binds_as_the_rfc_does),
		cmocka_unit_test(libjwt_takes_it_for_no_jwt),
		cmocka_unit_test(it_is_no_svid),
		cmocka_unit_test(a_second_text_is_the_same_token),
		cmocka_unit_test(chains_are_bounded),
		cmocka_unit_test(signatures_that_do_not_hold),
		cmocka_unit_test(bad_tokens_are_not_issued),
		cmocka_unit_test(scopes),
		cmocka_unit_test(ids_are_new),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
