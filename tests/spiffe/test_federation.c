/* Foreign bundles: each rule of the format as a row, then what is kept of them and for how long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#include "authz/base/text.h"
#include "spiffe/crypto.h"
#include "spiffe/federation.h"
#include "spiffe/federation_read.h"
#include "spiffe/jwk.h"
#include "tests/fault/tmp_dir.h"
#include "tests/spiffe/forge.h"

#define TD "foreign.example"

/* Two authorities and three JWT keys, as JWKs in text: what rows are put together from. */
static struct {
	EVP_PKEY *ca_key, *ca2_key, *rsa, *p256, *p521;
	char ca[4096], ca2[4096]; /* members after {"kty":..., */
	char rsa_jwk[2048], p256_jwk[512], p521_jwk[1024];
	char x5c[2048], x5c2[2048];
	char ca_numbers[512], ca2_numbers[512];
	char leaf_x5c[2048], rsa_x5c[4096];
} m;

static void numbers(EVP_PKEY *key, char *out, size_t max)
{
	struct bundle_set *set = bundle_set_new(0, NULL);
	struct bundle *b;
	struct str spki = forge_spki(key);
	struct err e = { 0 };
	const char *end;
	AUTO_BUF text;

	buf_init(&text, mem_system, 65536);
	assert_true(bundle_set_add(set, STR("x"), 0, 0, &b, &e));
	assert_true(bundle_add_jwt_key(b, STR("k"), spki, &e));
	bundle_json(b, &text); /* {"keys":[{"kty":...,"use" */
	buf_char(&text, '\0');
	end = strstr(text.p, ",\"use\"");
	assert_non_null(end);
	snprintf(out, max, "%.*s", (int)(end - text.p - 10), text.p + 10);
	forge_free(spki);
	bundle_set_release(set);
}

static void base64_of(X509 *cert, char *out, size_t max)
{
	struct str der = forge_der(cert);
	AUTO_BUF text;

	buf_init(&text, mem_system, 65536);
	text_base64(&text, BASE64_STD, der.p, der.n);
	snprintf(out, max, "%.*s", STR_FMT(buf_str(&text)));
	forge_free(der);
}

static void authority(EVP_PKEY *key, char *numbers_out, char *x5c, size_t max, char *jwk)
{
	X509 *cert = forge_authority(TD, key);

	numbers(key, numbers_out, 512);
	base64_of(cert, x5c, max);
	sprintf(jwk, "{%s,\"use\":\"x509-svid\",\"x5c\":[\"%s\"]}", numbers_out, x5c);
	X509_free(cert);
}

static void make_material(void)
{
	struct forge leaf = { .san = "URI:spiffe://" TD "/leaf",
			      .constraints = "critical,CA:FALSE",
			      .usage = "critical,digitalSignature" };
	X509 *cert;

	m.ca_key = forge_key("P-256");
	m.ca2_key = forge_key("P-384");
	m.rsa = forge_key("RSA2048");
	m.p256 = forge_key("P-256");
	m.p521 = forge_key("P-521");
	authority(m.ca_key, m.ca_numbers, m.x5c, sizeof(m.x5c), m.ca);
	authority(m.ca2_key, m.ca2_numbers, m.x5c2, sizeof(m.x5c2), m.ca2);
	numbers(m.rsa, m.rsa_jwk, sizeof(m.rsa_jwk));
	numbers(m.p256, m.p256_jwk, sizeof(m.p256_jwk));
	numbers(m.p521, m.p521_jwk, sizeof(m.p521_jwk));
	leaf.key = m.ca_key;
	cert = forge_cert(&leaf);
	base64_of(cert, m.leaf_x5c, sizeof(m.leaf_x5c));
	X509_free(cert);
}

static void free_material(void)
{
	EVP_PKEY_free(m.ca_key);
	EVP_PKEY_free(m.ca2_key);
	EVP_PKEY_free(m.rsa);
	EVP_PKEY_free(m.p256);
	EVP_PKEY_free(m.p521);
}

/* In rows: @A @B authorities; @a @b their numbers; @X @Y their certificates; @R @P @S the numbers
 * of the RSA, P-256 and P-521 keys; @L a leaf's certificate with the numbers of @a. ' stands for ".
 */
static void expand(const char *row, struct buf *out)
{
	static const struct {
		char mark;
		const char *text;
	} marks[] = { { 'A', m.ca },	      { 'B', m.ca2 },	   { 'a', m.ca_numbers },
		      { 'b', m.ca2_numbers }, { 'X', m.x5c },	   { 'Y', m.x5c2 },
		      { 'R', m.rsa_jwk },     { 'P', m.p256_jwk }, { 'S', m.p521_jwk },
		      { 'L', m.leaf_x5c } };

	for (; *row; row++) {
		if (*row != '@') {
			buf_char(out, *row == '\'' ? '"' : *row);
			continue;
		}
		row++;
		for (size_t i = 0; i < ARRAY_LEN(marks); i++)
			if (marks[i].mark == *row)
				buf_add(out, str_c(marks[i].text));
	}
}

#define JWT(k, kid) "{@" k ",'use':'jwt-svid','kid':'" kid "'}"
#define X5C(n, certs) "{@" n ",'use':'x509-svid','x5c':[" certs "]}"
#define ONE(key) "{'keys':[" key "]}"

static const struct {
	const char *why, *text;
	int authorities, keys; /* -1: refused */
	const char *says;
} documents[] = {
	{ "one authority", ONE("@A"), 1, 0, NULL },
	{ "two and three", ONE("@A,@B," JWT("R", "r") "," JWT("P", "p") "," JWT("S", "s")), 2, 3,
	  NULL },
	{ "keys of both uses in any order", ONE(JWT("P", "p") ",@A," JWT("R", "r") ",@B"), 2, 2,
	  NULL },
	{ "members in any order",
	  "{'spiffe_refresh_hint':300,'keys':[{'x5c':['@X'],'use':'x509-svid',@a}],"
	  "'spiffe_sequence':7}",
	  1, 0, NULL },
	{ "no keys at all: nothing is trusted", "{'keys':[]}", 0, 0, NULL },
	{ "only JWT keys", ONE(JWT("P", "p")), 0, 1, NULL },
	{ "unknown members", "{'keys':[@A],'x':[1,{}],'spiffe_other':null}", 1, 0, NULL },
	{ "unknown members of a key",
	  ONE("{@a,'use':'x509-svid','x5c':['@X'],'alg':'ES256',"
	      "'key_ops':['verify'],'x':1,'x5t':2}"),
	  -1, 0, "duplicate" },
	{ "alg and kid beside an authority",
	  ONE("{@a,'use':'x509-svid','x5c':['@X'],'alg':'ES256','kid':'k'}"), 1, 0, NULL },
	{ "the same authority twice", ONE("@A,@A"), 1, 0, NULL },
	{ "a kid that an authority has as well",
	  ONE("{@a,'use':'x509-svid','x5c':['@X'],"
	      "'kid':'p'}," JWT("P", "p")),
	  1, 1, NULL },
	{ "several certificates: the first", ONE(X5C("a", "'@X','@Y'")), 1, 0, NULL },
	{ "junk behind the first certificate", ONE(X5C("a", "'@X',5")), 1, 0, NULL },

	{ "passed over: no use", ONE("{@a,'x5c':['@X']},@B"), 1, 0, NULL },
	{ "passed over: other use", ONE("{@a,'use':'sig','kid':'k'},@B"), 1, 0, NULL },
	{ "passed over: use in other case", ONE("{@a,'use':'X509-SVID','x5c':['@X']},@B"), 1, 0,
	  NULL },
	{ "passed over: use is no string", ONE("{@a,'use':['x509-svid'],'x5c':['@X']},@B"), 1, 0,
	  NULL },
	{ "passed over: kty",
	  ONE("@A,{'kty':'OKP','crv':'Ed25519','x':'AA','use':'jwt-svid',"
	      "'kid':'o'},@B"),
	  2, 0, NULL },
	{ "passed over: secret", ONE("{'kty':'oct','k':'AA','use':'jwt-svid','kid':'o'},@B"), 1, 0,
	  NULL },
	{ "passed over: no kty", ONE("{'use':'jwt-svid','kid':'o'},@B"), 1, 0, NULL },
	{ "passed over: authority without x5c", ONE("{@a,'use':'x509-svid'},@B"), 1, 0, NULL },
	{ "passed over: wit", ONE("{@P,'use':'wit-svid','kid':'w'},@B"), 1, 0, NULL },

	{ "empty", "", -1, 0, "no JSON" },
	{ "an array", "[]", -1, 0, "no JSON object" },
	{ "no keys", "{}", -1, 0, "keys" },
	{ "keys no array", "{'keys':{}}", -1, 0, "keys" },
	{ "keys null", "{'keys':null}", -1, 0, "keys" },
	{ "a key no object", ONE("'x'"), -1, 0, "keys[0]: not an object" },
	{ "keys twice", "{'keys':[],'keys':[]}", -1, 0, "duplicate" },
	{ "use twice", ONE("{@a,'use':'x','use':'x509-svid','x5c':['@X']}"), -1, 0, "duplicate" },
	{ "trailing", "{'keys':[]} x", -1, 0, "end of file" },
	{ "not UTF-8", "{'keys':[],'x':'\xff'}", -1, 0, "decode" },
	{ "NUL", "{'keys':[],'x':'\\u0000'}", -1, 0, "NUL" },
	{ "x5c empty", ONE("{@a,'use':'x509-svid','x5c':[]}"), -1, 0, "x5c" },
	{ "x5c no array", ONE("{@a,'use':'x509-svid','x5c':'@X'}"), -1, 0, "x5c" },
	{ "x5c no string", ONE("{@a,'use':'x509-svid','x5c':[1]}"), -1, 0, "x5c" },
	{ "x5c with a line break", ONE("{@a,'use':'x509-svid','x5c':['@X\\n']}"), -1, 0,
	  "plain base64" },
	{ "x5c as PEM", ONE("{@a,'use':'x509-svid','x5c':['-----BEGIN CERTIFICATE-----']}"), -1, 0,
	  "plain base64" },
	{ "x5c without padding, in the other alphabet",
	  ONE("{@a,'use':'x509-svid','x5c':['A-_A']}"), -1, 0, "plain base64" },
	{ "x5c no certificate", ONE("{@a,'use':'x509-svid','x5c':['AAAA']}"), -1, 0, "keys[0]" },
	{ "x5c a leaf", ONE("{@a,'use':'x509-svid','x5c':['@L']}"), -1, 0, "not a CA" },
	{ "another key beside it", ONE("{@b,'use':'x509-svid','x5c':['@X']}"), -1, 0,
	  "not the key of the certificate" },
	{ "no key beside it", ONE("{'kty':'EC','use':'x509-svid','x5c':['@X']}"), -1, 0, "crv" },
	{ "JWT key without kid", ONE("{@P,'use':'jwt-svid'}"), -1, 0, "key id" },
	{ "JWT key with an empty kid", ONE(JWT("P", "")), -1, 0, "key id" },
	{ "JWT key with a number for kid", ONE("{@P,'use':'jwt-svid','kid':5}"), -1, 0, "key id" },
	{ "two JWT keys of one kid", ONE(JWT("P", "k") "," JWT("R", "k")), -1, 0, "twice" },
	{ "second of two is bad", ONE("@A," JWT("P", "")), -1, 0, "keys[1]" },
	{ "wit kid on a JWT key", ONE(JWT("P", "k") ",{@S,'use':'wit-svid','kid':'k'}"), -1, 0,
	  "wit-svid" },
	{ "sequence negative", "{'keys':[],'spiffe_sequence':-1}", -1, 0, "spiffe_sequence" },
	{ "sequence real", "{'keys':[],'spiffe_sequence':7.0}", -1, 0, "spiffe_sequence" },
	{ "sequence text", "{'keys':[],'spiffe_sequence':'7'}", -1, 0, "spiffe_sequence" },
	{ "sequence null", "{'keys':[],'spiffe_sequence':null}", -1, 0, "spiffe_sequence" },
	{ "hint negative", "{'keys':[],'spiffe_refresh_hint':-1}", -1, 0, "spiffe_refresh_hint" },
	{ "hint too large", "{'keys':[],'spiffe_refresh_hint':4294967296}", -1, 0,
	  "spiffe_refresh_hint" },
};

static void reads_documents(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
		struct bundle_set *set = bundle_set_new(0, NULL);
		struct federation_document d;
		struct err e = { 0 };
		AUTO_BUF text;
		bool ok;

		buf_init(&text, mem_system, FEDERATION_DOCUMENT_MAX);
		expand(documents[i].text, &text);
		ok = federation_read(buf_str(&text), STR(TD), set, &d, &e);
		if (ok != (documents[i].authorities >= 0))
			fail_msg("%s: %s", documents[i].why, ok ? "accepted" : e.msg);
		if (!ok && (e.class != ERR_INVALID || strcmp(e.code, "invalid_bundle") != 0 ||
			    !strstr(e.msg, documents[i].says)))
			fail_msg("%s: %s: %s", documents[i].why, e.code, e.msg);
		if (ok && ((int)set->items[0]->nauthorities != documents[i].authorities ||
			   (int)set->items[0]->njwt_keys != documents[i].keys))
			fail_msg("%s: %zu authorities, %zu keys", documents[i].why,
				 set->items[0]->nauthorities, set->items[0]->njwt_keys);
		bundle_set_release(set);
	}
}

static void reads_numbers(void **state)
{
	static const struct {
		const char *text;
		bool has_sequence, has_hint;
		uint64_t sequence;
		uint32_t hint;
	} rows[] = {
		{ "{\"keys\":[]}", false, false, 0, 0 },
		{ "{\"keys\":[],\"spiffe_sequence\":0}", true, false, 0, 0 },
		{ "{\"keys\":[],\"spiffe_refresh_hint\":0}", false, true, 0, 0 },
		/* Beyond what a double holds exactly: a sequence may be a time in nanoseconds. */
		{ "{\"keys\":[],\"spiffe_sequence\":9007199254740993}", true, false,
		  9007199254740993u, 0 },
		{ "{\"keys\":[],\"spiffe_sequence\":9223372036854775807,"
		  "\"spiffe_refresh_hint\":4294967295}",
		  true, true, INT64_MAX, UINT32_MAX },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bundle_set *set = bundle_set_new(0, NULL);
		struct federation_document d;
		struct err e = { 0 };

		if (!federation_read(str_c(rows[i].text), STR(TD), set, &d, &e))
			fail_msg("%s: %s", rows[i].text, e.msg);
		if (d.has_sequence != rows[i].has_sequence || d.sequence != rows[i].sequence ||
		    d.has_hint != rows[i].has_hint || d.hint_s != rows[i].hint)
			fail_msg("%s", rows[i].text);
		bundle_set_release(set);
	}
}

/* What we publish, we read: to the same keys. */
static void reads_what_is_written(void **state)
{
	struct bundle_set *set = bundle_set_new(0, NULL), *again = bundle_set_new(0, NULL);
	struct federation_document d;
	struct err e = { 0 };
	AUTO_BUF text, once, twice;

	(void)state;
	buf_init(&text, mem_system, 65536);
	buf_init(&once, mem_system, 65536);
	buf_init(&twice, mem_system, 65536);
	expand("{'keys':[@A,@B," JWT("R", "r") "," JWT("P", "p") "," JWT(
		       "S", "s") "],"
				 "'spiffe_sequence':12,'spiffe_refresh_hint':90}",
	       &text);
	assert_true(federation_read(buf_str(&text), STR(TD), set, &d, &e));
	bundle_json(set->items[0], &once);
	assert_true(federation_read(buf_str(&once), STR(TD), again, &d, &e));
	bundle_json(again->items[0], &twice);
	assert_true(str_eq(buf_str(&once), buf_str(&twice)));
	assert_int_equal(d.sequence, 12);
	assert_int_equal(d.hint_s, 90);
	bundle_set_release(set);
	bundle_set_release(again);
}

static void reads_pem(void **state)
{
	static const struct {
		const char *why;
		int n; /* certificates of the authority; then what comes behind */
		const char *behind;
		bool ok;
	} rows[] = {
		{ "one", 1, "", true },
		{ "white space", 1, "\n \r\n", true },
		{ "none", 0, "", false },
		{ "text behind", 1, "x", false },
		{ "text before", 0, "x", false },
		{ "twice the same", 2, "", false },
		{ "cut", 0, "-----BEGIN CERTIFICATE-----\nAAAA", false },
	};
	X509 *cert = forge_authority(TD, m.ca_key);
	struct str der = forge_der(cert);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bundle_set *set = bundle_set_new(0, NULL);
		struct err e = { 0 };
		AUTO_BUF text;
		bool ok;

		buf_init(&text, mem_system, 65536);
		for (int k = 0; k < rows[i].n; k++)
			crypto_pem(&text, "CERTIFICATE", der);
		buf_add(&text, str_c(rows[i].behind));
		ok = federation_read_pem(buf_str(&text), STR(TD), set, &e);
		if (ok != rows[i].ok)
			fail_msg("%s: %s", rows[i].why, ok ? "accepted" : e.msg);
		bundle_set_release(set);
	}
	forge_free(der);
	X509_free(cert);
}

/* ---- JWKs ---- */

static const struct {
	const char *why;
	struct jwk jwk;
} bad_keys[] = {
	{ "no kty", { .crv = STR_INIT("P-256") } },
	{ "OKP", { .kty = STR_INIT("OKP") } },
	{ "kty in small letters", { .kty = STR_INIT("ec") } },
	{ "no crv", { .kty = STR_INIT("EC") } },
	{ "secp256k1", { .kty = STR_INIT("EC"), .crv = STR_INIT("secp256k1") } },
	{ "no x", { .kty = STR_INIT("EC"), .crv = STR_INIT("P-256") } },
	{ "short x",
	  { .kty = STR_INIT("EC"),
	    .crv = STR_INIT("P-256"),
	    .x = STR_INIT("AAAA"),
	    .y = STR_INIT("AAAA") } },
	{ "point off the curve",
	  { .kty = STR_INIT("EC"),
	    .crv = STR_INIT("P-256"),
	    .x = STR_INIT("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
	    .y = STR_INIT("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA") } },
	{ "padded",
	  { .kty = STR_INIT("EC"),
	    .crv = STR_INIT("P-256"),
	    .x = STR_INIT("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
	    .y = STR_INIT("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=") } },
	{ "RSA without n", { .kty = STR_INIT("RSA"), .e = STR_INIT("AQAB") } },
	{ "RSA short n", { .kty = STR_INIT("RSA"), .n = STR_INIT("AQAB"), .e = STR_INIT("AQAB") } },
};

static void refuses_keys(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad_keys); i++) {
		EVP_PKEY *key = NULL;
		struct err e = { 0 };

		if (jwk_key(&bad_keys[i].jwk, &key, &e))
			fail_msg("%s: accepted", bad_keys[i].why);
		if (e.class != ERR_INVALID || strcmp(e.code, "invalid_key") != 0 || !e.msg[0])
			fail_msg("%s: %s %s", bad_keys[i].why, e.code, e.msg);
	}
}

static void refuses_rsa_numbers(void **state)
{
	static const struct {
		const char *why, *e;
		bool zero; /* before n */
		bool ok;
	} rows[] = {
		{ "as it should be", "AQAB", false, true },
		{ "3", "Aw", false, true },
		{ "leading zero of n", "AQAB", true, false },
		{ "leading zero of e", "AAEAAQ", false, false },
		{ "1", "AQ", false, false },
		{ "even", "Ag", false, false },
		{ "empty", "", false, false },
		{ "nine bytes", "AQAAAAAAAAAB", false, false },
	};
	uint8_t n[257] = { 0 };
	AUTO_BUF plain, zeroed;

	(void)state;
	memset(n + 1, 0xc5, 256);
	buf_init(&plain, mem_system, 1024);
	buf_init(&zeroed, mem_system, 1024);
	text_base64(&plain, BASE64_URL, n + 1, 256);
	text_base64(&zeroed, BASE64_URL, n, 257);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct jwk k = { .kty = STR("RSA"),
				       .n = buf_str(rows[i].zero ? &zeroed : &plain),
				       .e = str_c(rows[i].e) };
		AUTO_PKEY *key = NULL;
		struct err e = { 0 };

		if (jwk_key(&k, &key, &e) != rows[i].ok)
			fail_msg("%s: %s", rows[i].why, rows[i].ok ? e.msg : "accepted");
	}
}

/* ---- what is kept ---- */

static const struct federation_spec web = { .trust_domain = STR_INIT(TD),
					    .url = STR_INIT("https://foreign.example/bundle"),
					    .profile = STR_INIT("https_web"),
					    .by = STR_INIT("unix:0") };

static void open_in(struct db **db, const char *path, struct federation **f)
{
	const struct db_options options = { .create = true };
	struct err e = { 0 };

	if (!db_open(path, &options, db, &e) || !federation_open(*db, STR("own.example"), f, &e))
		fail_msg("%s", e.msg);
}

/* Offer a document; the code of the refusal, or NULL. */
static const char *offer(struct federation *f, const char *row, int64_t now,
			 enum federation_change *change, const char **warned)
{
	struct federation_peer *p = federation_find(f, STR(TD));
	struct federation_news news;
	static struct err e;
	AUTO_BUF text;

	memset(&e, 0, sizeof(e));
	buf_init(&text, mem_system, FEDERATION_DOCUMENT_MAX);
	expand(row, &text);
	if (!federation_look(f, p, buf_str(&text), &news, &e))
		return e.code;
	*change = news.change;
	*warned = news.warned.class != ERR_NONE ? news.warned.code : NULL;
	if (!federation_take(f, p, &news, buf_str(&text), now, &e))
		return e.code;
	return NULL;
}

static void keeps_the_newest(void **state)
{
	static const struct {
		const char *why, *text, *refused, *warned;
		bool changed;
		int keys;
	} rows[] = {
		{ "first", "{'keys':[@A],'spiffe_sequence':5}", NULL, NULL, true, 1 },
		{ "the same", "{'keys':[@A],'spiffe_sequence':5}", NULL, NULL, false, 1 },
		{ "up", "{'keys':[@A,@B],'spiffe_sequence':6}", NULL, NULL, true, 2 },
		{ "down", "{'keys':[],'spiffe_sequence':5}", "sequence_went_down", NULL, false, 2 },
		{ "to zero", "{'keys':[],'spiffe_sequence':0}", "sequence_went_down", NULL, false,
		  2 },
		{ "malformed", "{'keys':1}", "invalid_bundle", NULL, false, 2 },
		{ "PEM", "-----BEGIN CERTIFICATE-----", "invalid_bundle", NULL, false, 2 },
		{ "changed under one number", "{'keys':[@B],'spiffe_sequence':6}", NULL,
		  "sequence_unchanged", true, 1 },
		{ "no number: the newest wins", "{'keys':[@A,@B]}", NULL, NULL, true, 2 },
		{ "any number after none", "{'keys':[@A],'spiffe_sequence':1}", NULL, NULL, true,
		  1 },
		{ "empty", "{'keys':[],'spiffe_sequence':2}", NULL, NULL, true, 0 },
	};
	struct federation *f = NULL;
	struct db *db = NULL;
	struct err e = { 0 };

	open_in(&db, tmp_dir_path(state, "writ.db"), &f);
	assert_true(federation_add(f, &web, 1000, &e));
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		enum federation_change change = FEDERATION_SAME;
		const char *warned = NULL;
		const char *code = offer(f, rows[i].text, 2000 + (int64_t)i, &change, &warned);
		const struct federation_peer *p;

		if ((code != NULL) != (rows[i].refused != NULL) ||
		    (code && strcmp(code, rows[i].refused) != 0))
			fail_msg("%s: %s", rows[i].why, code ? code : "taken");
		if (!code && ((warned != NULL) != (rows[i].warned != NULL) ||
			      (change == FEDERATION_CHANGED) != rows[i].changed))
			fail_msg("%s: warned %s, change %d", rows[i].why, warned ? warned : "-",
				 change);
		/* What was taken is there after a restart. */
		federation_close(f);
		assert_true(federation_open(db, STR("own.example"), &f, &e));
		p = federation_find(f, STR(TD));
		assert_non_null(p->set);
		if ((int)p->set->items[0]->nauthorities != rows[i].keys)
			fail_msg("%s: %zu authorities", rows[i].why,
				 p->set->items[0]->nauthorities);
	}
	federation_close(f);
	db_close(db);
}

/* A poll that brings nothing new leaves the objects: what is verified by them stays remembered. */
static void the_same_again_changes_no_object(void **state)
{
	enum federation_change change = FEDERATION_SAME;
	const char *warned = NULL;
	const struct bundle *held;
	struct federation *f = NULL;
	struct db *db = NULL;
	struct err e = { 0 };

	open_in(&db, tmp_dir_path(state, "writ.db"), &f);
	assert_true(federation_add(f, &web, 0, &e));
	assert_null(offer(f, "{'keys':[@A],'spiffe_sequence':1}", 1000, &change, &warned));
	assert_null(offer(f, "{'keys':[@B],'spiffe_sequence':1}", 2000, &change, &warned));
	assert_non_null(warned);
	held = federation_at(f, 0)->set->items[0];
	assert_null(offer(f, "{'keys':[@B],'spiffe_sequence':1}", 3000, &change, &warned));
	assert_int_equal(change, FEDERATION_SAME);
	assert_ptr_equal(federation_at(f, 0)->set->items[0], held);
	assert_int_equal(federation_at(f, 0)->fetched_ms, 3000);
	assert_int_equal(federation_at(f, 0)->warned.class, ERR_CONFLICT);
	federation_close(f);
	db_close(db);
}

static void a_bundle_by_hand_yields(void **state)
{
	struct federation_spec spec = web;
	enum federation_change change = FEDERATION_SAME;
	const char *warned = NULL;
	struct federation *f = NULL;
	struct db *db = NULL;
	struct err e = { 0 };
	AUTO_BUF text;

	buf_init(&text, mem_system, 65536);
	expand("{'keys':[@A],'spiffe_sequence':100}", &text);
	spec.bundle = buf_str(&text);
	open_in(&db, tmp_dir_path(state, "writ.db"), &f);
	assert_true(federation_add(f, &spec, 1000, &e));
	federation_close(f);
	assert_true(federation_open(db, STR("own.example"), &f, &e));
	assert_int_equal(federation_find(f, STR(TD))->fetched_ms, 1000);
	assert_null(offer(f, "{'keys':[@B],'spiffe_sequence':1}", 2000, &change, &warned));
	federation_close(f);
	db_close(db);
}

static void ages(void **state)
{
	static const struct {
		int64_t age_ms;
		enum federation_state state;
	} rows[] = {
		{ 0, FEDERATION_FRESH },	  { 360000, FEDERATION_FRESH },
		{ 360001, FEDERATION_STALE },	  { 86400000, FEDERATION_STALE },
		{ 86400001, FEDERATION_EXPIRED },
	};
	enum federation_change change = FEDERATION_SAME;
	const char *warned = NULL;
	struct federation *f = NULL;
	struct db *db = NULL;
	struct err e = { 0 };

	open_in(&db, tmp_dir_path(state, "writ.db"), &f);
	assert_true(federation_add(f, &web, 0, &e));
	assert_int_equal(federation_state(federation_at(f, 0), 0, 86400000), FEDERATION_NONE);
	assert_null(offer(f, "{'keys':[@A],'spiffe_refresh_hint':120}", 5000, &change, &warned));
	assert_int_equal(federation_at(f, 0)->refresh_s, 120);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t now = 5000 + rows[i].age_ms;
		struct bundle_set *set = bundle_set_new(1, &e);

		assert_int_equal(federation_state(federation_at(f, 0), now, 86400000),
				 rows[i].state);
		/* What is too old is not there at all. */
		assert_true(federation_share(f, set, now, 86400000, &e));
		assert_int_equal(bundle_find(set, STR(TD)) != NULL,
				 rows[i].state != FEDERATION_EXPIRED);
		bundle_set_release(set);
	}
	federation_close(f);
	db_close(db);
}

static void bounds_the_hint(void **state)
{
	static const struct {
		const char *text;
		uint32_t refresh_s;
	} rows[] = {
		{ "{'keys':[]}", 300 },
		{ "{'keys':[],'spiffe_refresh_hint':0}", 60 },
		{ "{'keys':[],'spiffe_refresh_hint':59}", 60 },
		{ "{'keys':[],'spiffe_refresh_hint':61}", 61 },
		{ "{'keys':[],'spiffe_refresh_hint':86401}", 86400 },
		{ "{'keys':[],'spiffe_refresh_hint':4294967295}", 86400 },
	};
	enum federation_change change = FEDERATION_SAME;
	const char *warned = NULL;
	struct federation *f = NULL;
	struct db *db = NULL;
	struct err e = { 0 };

	open_in(&db, tmp_dir_path(state, "writ.db"), &f);
	assert_true(federation_add(f, &web, 0, &e));
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_null(offer(f, rows[i].text, 1, &change, &warned));
		assert_int_equal(federation_at(f, 0)->refresh_s, rows[i].refresh_s);
	}
	federation_close(f);
	db_close(db);
}

static void waits_between_polls(void **state)
{
	static const struct {
		uint32_t refresh_s;
		bool held;
		unsigned failures;
		int64_t most; /* and 90% at least */
	} rows[] = {
		{ 300, true, 0, 300 },	   { 300, false, 0, 300 },   { 300, true, 1, 300 },
		{ 300, true, 2, 600 },	   { 300, true, 4, 2400 },   { 300, true, 5, 2400 },
		{ 300, true, 4000, 2400 }, { 300, false, 1, 10 },    { 300, false, 2, 20 },
		{ 300, false, 9, 2560 },   { 300, false, 10, 3600 }, { 300, false, 4000, 3600 },
		{ 86400, true, 3, 86400 }, { 60, true, 9, 480 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (uint32_t r = 0; r < 5000; r += 37) {
			int64_t s = fetch_delay(rows[i].refresh_s, rows[i].held, rows[i].failures,
						r);

			if (s > rows[i].most || s < rows[i].most * 9 / 10)
				fail_msg("row %zu: %lld s", i, (long long)s);
		}
}

static void relationships_depend_on_each_other(void **state)
{
	const struct federation_spec by_other = {
		.trust_domain = STR_INIT("third.example"),
		.url = STR_INIT("https://b.example/"),
		.profile = STR_INIT("https_spiffe"),
		.endpoint_id = STR_INIT("spiffe://" TD "/bundles"),
	};
	const struct federation_spec by_own = {
		.trust_domain = STR_INIT("fourth.example"),
		.url = STR_INIT("https://b.example/"),
		.profile = STR_INIT("https_spiffe"),
		.endpoint_id = STR_INIT("spiffe://own.example/bundles"),
	};
	struct federation *f = NULL;
	struct db *db = NULL;
	struct err e = { 0 };

	open_in(&db, tmp_dir_path(state, "writ.db"), &f);
	assert_false(federation_add(f, &by_other, 0, &e));
	assert_true(federation_add(f, &by_own, 0, &e));
	assert_true(federation_add(f, &web, 0, &e));
	assert_true(federation_add(f, &by_other, 0, &e));
	assert_false(federation_add(f, &web, 0, &e));
	assert_string_equal(e.code, "federation_exists");
	assert_string_equal(federation_at(f, 0)->trust_domain, TD);
	assert_string_equal(federation_at(f, 1)->trust_domain, "fourth.example");
	assert_string_equal(federation_at(f, 2)->trust_domain, "third.example");
	assert_false(federation_remove(f, STR(TD), &e));
	assert_string_equal(e.code, "federation_in_use");
	assert_true(federation_remove(f, STR("third.example"), &e));
	assert_true(federation_remove(f, STR(TD), &e));
	assert_false(federation_remove(f, STR(TD), &e));
	assert_int_equal(e.class, ERR_NOT_FOUND);
	assert_int_equal(federation_count(f), 1);
	federation_close(f);
	assert_true(federation_open(db, STR("own.example"), &f, &e));
	assert_int_equal(federation_count(f), 1);
	assert_string_equal(federation_at(f, 0)->endpoint_id, "spiffe://own.example/bundles");
	assert_int_equal(federation_at(f, 0)->profile, FEDERATION_SPIFFE);
	federation_close(f);
	db_close(db);
}

static int set_up(void **state)
{
	(void)state;
	make_material();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free_material();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_documents),
		cmocka_unit_test(reads_numbers),
		cmocka_unit_test(reads_what_is_written),
		cmocka_unit_test(reads_pem),
		cmocka_unit_test(refuses_keys),
		cmocka_unit_test(refuses_rsa_numbers),
		cmocka_unit_test_setup_teardown(keeps_the_newest, tmp_dir_make, tmp_dir_remove),
		cmocka_unit_test_setup_teardown(the_same_again_changes_no_object, tmp_dir_make,
						tmp_dir_remove),
		cmocka_unit_test_setup_teardown(a_bundle_by_hand_yields, tmp_dir_make,
						tmp_dir_remove),
		cmocka_unit_test_setup_teardown(ages, tmp_dir_make, tmp_dir_remove),
		cmocka_unit_test_setup_teardown(bounds_the_hint, tmp_dir_make, tmp_dir_remove),
		cmocka_unit_test(waits_between_polls),
		cmocka_unit_test_setup_teardown(relationships_depend_on_each_other, tmp_dir_make,
						tmp_dir_remove),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
