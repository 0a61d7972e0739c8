/* spiffe/x509_svid: what we issue, by OpenSSL's own verifier; what we accept, by the sheet's table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <openssl/x509v3.h>

#include "spiffe/crypto.h"
#include "spiffe/x509_svid.h"
#include "tests/spiffe/forge.h"

#define LEAF_USAGE "critical,digitalSignature"
#define BOTH "serverAuth,clientAuth"
#define NOT_CA "critical,CA:FALSE"
#define ID "URI:spiffe://a.example/agent/7"

static struct {
	EVP_PKEY *a_key, *b_key, *other_key, *sub_key;
	X509 *a, *b;
	X509 *other; /* another authority that calls itself a.example */
	X509 *sub;   /* an intermediate below a */
	struct bundle_set *both;
} w;

static void add(struct bundle_set *set, const char *name, X509 *ca)
{
	struct str der = forge_der(ca);
	struct bundle *b;
	struct err e = { 0 };

	if (!bundle_set_add(set, str_c(name), 1, 300, &b, &e) || !bundle_add_authority(b, der, &e))
		fail_msg("%s", e.msg);
	forge_free(der);
}

static int set_up(void **state)
{
	struct forge sub = { .constraints = "critical,CA:TRUE",
			     .usage = "critical,keyCertSign",
			     .subject = "sub" };

	(void)state;
	w.a_key = forge_key("P-256");
	w.b_key = forge_key("P-384");
	w.other_key = forge_key("P-256");
	w.sub_key = forge_key("P-256");
	w.a = forge_authority("a.example", w.a_key);
	w.b = forge_authority("b.example", w.b_key);
	w.other = forge_authority("a.example", w.other_key);
	sub.key = w.sub_key;
	sub.issuer = w.a;
	sub.issuer_key = w.a_key;
	w.sub = forge_cert(&sub);
	w.both = bundle_set_new(1, NULL);
	add(w.both, "a.example", w.a);
	add(w.both, "b.example", w.b);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	bundle_set_release(w.both);
	X509_free(w.a);
	X509_free(w.b);
	X509_free(w.other);
	X509_free(w.sub);
	EVP_PKEY_free(w.a_key);
	EVP_PKEY_free(w.b_key);
	EVP_PKEY_free(w.other_key);
	EVP_PKEY_free(w.sub_key);
	return 0;
}

enum by { BY_A, BY_B, BY_OTHER, BY_SUB, BY_SUB_ALONE, BY_SELF };

static const struct {
	const char *why;
	struct forge f;
	enum by by;
	const char *id, *says; /* no id: refused, and the message holds `says` */
} cases[] = {
	{ "plain leaf",
	  { .san = ID, .constraints = NOT_CA, .usage = LEAF_USAGE, .purposes = BOTH },
	  BY_A,
	  "spiffe://a.example/agent/7",
	  NULL },
	{ "no EKU",
	  { .san = ID, .constraints = NOT_CA, .usage = LEAF_USAGE },
	  BY_A,
	  "spiffe://a.example/agent/7",
	  NULL },
	{ "with intermediate",
	  { .san = ID, .constraints = NOT_CA, .usage = LEAF_USAGE, .purposes = BOTH },
	  BY_SUB,
	  "spiffe://a.example/agent/7",
	  NULL },
	{ "DNS and e-mail names too",
	  { .san = ID ",DNS:x.example,email:a@b.c,IP:127.0.0.1",
	    .constraints = NOT_CA,
	    .usage = LEAF_USAGE,
	    .purposes = BOTH },
	  BY_A,
	  "spiffe://a.example/agent/7",
	  NULL },
	{ "empty subject, critical names",
	  { .san = "critical," ID, .constraints = NOT_CA, .usage = LEAF_USAGE, .purposes = BOTH },
	  BY_A,
	  "spiffe://a.example/agent/7",
	  NULL },
	{ "federated peer",
	  { .san = "URI:spiffe://b.example/x",
	    .constraints = NOT_CA,
	    .usage = LEAF_USAGE,
	    .purposes = BOTH },
	  BY_B,
	  "spiffe://b.example/x",
	  NULL },
	{ "keyAgreement as well",
	  { .san = ID,
	    .constraints = NOT_CA,
	    .usage = "critical,digitalSignature,keyAgreement",
	    .purposes = BOTH },
	  BY_A,
	  "spiffe://a.example/agent/7",
	  NULL },
	{ "other CA of the same name",
	  { .san = ID, .constraints = NOT_CA, .usage = LEAF_USAGE, .purposes = BOTH },
	  BY_OTHER,
	  NULL,
	  "" },
	{ "intermediate not sent",
	  { .san = ID, .constraints = NOT_CA, .usage = LEAF_USAGE, .purposes = BOTH },
	  BY_SUB_ALONE,
	  NULL,
	  "no authority in the bundle" },
	{ "self-signed",
	  { .san = ID, .constraints = NOT_CA, .usage = LEAF_USAGE, .purposes = BOTH },
	  BY_SELF,
	  NULL,
	  "self" },
	{ "expired",
	  { .san = ID,
	    .constraints = NOT_CA,
	    .usage = LEAF_USAGE,
	    .purposes = BOTH,
	    .from_s = -3600,
	    .to_s = -1 },
	  BY_A,
	  NULL,
	  "expired" },
	{ "not yet valid",
	  { .san = ID,
	    .constraints = NOT_CA,
	    .usage = LEAF_USAGE,
	    .purposes = BOTH,
	    .from_s = 60,
	    .to_s = 3600 },
	  BY_A,
	  NULL,
	  "not yet valid" },
	{ "a CA",
	  { .san = ID, .constraints = "critical,CA:TRUE", .usage = LEAF_USAGE, .purposes = BOTH },
	  BY_A,
	  NULL,
	  "CA certificate" },
	{ "keyCertSign",
	  { .san = ID,
	    .constraints = NOT_CA,
	    .usage = "critical,digitalSignature,keyCertSign",
	    .purposes = BOTH },
	  BY_A,
	  NULL,
	  "" },
	{ "cRLSign",
	  { .san = ID,
	    .constraints = NOT_CA,
	    .usage = "critical,digitalSignature,cRLSign",
	    .purposes = BOTH },
	  BY_A,
	  NULL,
	  "sign" },
	{ "no key usage",
	  { .san = ID, .constraints = NOT_CA, .purposes = BOTH },
	  BY_A,
	  NULL,
	  "no key usage" },
	{ "no digitalSignature",
	  { .san = ID, .constraints = NOT_CA, .usage = "critical,keyAgreement", .purposes = BOTH },
	  BY_A,
	  NULL,
	  "digitalSignature" },
	{ "only clientAuth",
	  { .san = ID, .constraints = NOT_CA, .usage = LEAF_USAGE, .purposes = "clientAuth" },
	  BY_A,
	  NULL,
	  "serverAuth" },
	{ "only serverAuth",
	  { .san = ID, .constraints = NOT_CA, .usage = LEAF_USAGE, .purposes = "serverAuth" },
	  BY_A,
	  NULL,
	  "clientAuth" },
	{ "two URIs",
	  { .san = ID ",URI:spiffe://a.example/b",
	    .constraints = NOT_CA,
	    .usage = LEAF_USAGE,
	    .purposes = BOTH },
	  BY_A,
	  NULL,
	  "more than one" },
	{ "two URIs, one no SPIFFE ID",
	  { .san = ID ",URI:https://a.example/b",
	    .constraints = NOT_CA,
	    .usage = LEAF_USAGE,
	    .purposes = BOTH },
	  BY_A,
	  NULL,
	  "more than one" },
	{ "names twice",
	  { .san = ID,
	    .constraints = NOT_CA,
	    .usage = LEAF_USAGE,
	    .purposes = BOTH,
	    .san2 = "DNS:x" },
	  BY_A,
	  NULL,
	  "" },
	{ "no URI",
	  { .san = "DNS:x.example", .constraints = NOT_CA, .usage = LEAF_USAGE, .purposes = BOTH },
	  BY_A,
	  NULL,
	  "no URI" },
	{ "no names",
	  { .constraints = NOT_CA, .usage = LEAF_USAGE, .purposes = BOTH },
	  BY_A,
	  NULL,
	  "no URI" },
	{ "https URI",
	  { .san = "URI:https://a.example/x",
	    .constraints = NOT_CA,
	    .usage = LEAF_USAGE,
	    .purposes = BOTH },
	  BY_A,
	  NULL,
	  "spiffe" },
	{ "ID without path",
	  { .san = "URI:spiffe://a.example",
	    .constraints = NOT_CA,
	    .usage = LEAF_USAGE,
	    .purposes = BOTH },
	  BY_A,
	  NULL,
	  "path" },
	{ "malformed ID",
	  { .san = "URI:spiffe://a.example/x/",
	    .constraints = NOT_CA,
	    .usage = LEAF_USAGE,
	    .purposes = BOTH },
	  BY_A,
	  NULL,
	  "segment" },
	{ "no bundle for its domain, though the chain holds",
	  { .san = "URI:spiffe://c.example/x",
	    .constraints = NOT_CA,
	    .usage = LEAF_USAGE,
	    .purposes = BOTH },
	  BY_A,
	  NULL,
	  "no trust bundle" },
	{ "an ID of b signed by a's authority",
	  { .san = "URI:spiffe://b.example/x",
	    .constraints = NOT_CA,
	    .usage = LEAF_USAGE,
	    .purposes = BOTH },
	  BY_A,
	  NULL,
	  "" },
};

static STACK_OF(X509) * chain_of(struct forge f, enum by by)
{
	X509 *issuers[] = { w.a, w.b, w.other, w.sub, w.sub, NULL };
	EVP_PKEY *keys[] = { w.a_key, w.b_key, w.other_key, w.sub_key, w.sub_key, NULL };
	STACK_OF(X509) *chain = sk_X509_new_null();

	f.issuer = issuers[by];
	f.issuer_key = keys[by];
	sk_X509_push(chain, forge_cert(&f));
	if (by == BY_SUB && X509_up_ref(w.sub))
		sk_X509_push(chain, w.sub);
	return chain;
}

static void verifies_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		STACK_OF(X509) *chain = chain_of(cases[i].f, cases[i].by);
		struct x509_svid svid = { 0 };
		struct err e = { 0 };
		bool ok = x509_svid_verify(w.both, chain, FORGE_NOW, &svid, &e);

		if (ok != !!cases[i].id || (ok && strcmp(svid.text, cases[i].id) != 0) ||
		    (ok && svid.not_after_s != FORGE_NOW + 3600) ||
		    (!ok && (e.class != ERR_UNAUTHENTICATED || !strstr(e.msg, cases[i].says))))
			fail_msg("%s: %s", cases[i].why, ok ? svid.text : e.msg);
		sk_X509_pop_free(chain, X509_free);
	}
}

static bool claims(struct str der, struct x509_svid *out)
{
	struct err e = { 0 };
	bool ok = x509_svid_claim_der(der, out, &e);

	if (!ok && (e.class != ERR_UNAUTHENTICATED || strcmp(e.code, "invalid_certificate") != 0))
		fail_msg("%s: %s", e.code, e.msg);
	return ok;
}

/* Reading the names alone says of each certificate what reading all of it says. */
static void names_alone_say_the_same(void **state)
{
	size_t good = 0, bad = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		STACK_OF(X509) *chain = chain_of(cases[i].f, cases[i].by);
		struct str der = forge_der(sk_X509_value(chain, 0));
		struct x509_svid whole = { 0 }, names = { 0 };
		bool ok = x509_svid_claim(sk_X509_value(chain, 0), &whole, NULL);

		if (claims(der, &names) != ok || strcmp(names.text, whole.text) != 0 ||
		    !str_eq(names.id.path, whole.id.path))
			fail_msg("%s: \"%s\", not \"%s\"", cases[i].why, names.text, whole.text);
		*(ok ? &good : &bad) += 1;
		forge_free(der);
		sk_X509_pop_free(chain, X509_free);
	}
	assert_true(good > 0 && bad > 0);
}

/* Cut anywhere, with a byte more, or with any byte of its frame changed: no certificate, or one
 * that OpenSSL reads the same name out of. */
static void a_broken_certificate_has_no_name(void **state)
{
	STACK_OF(X509) *chain = chain_of((struct forge){ .san = ID, .usage = LEAF_USAGE }, BY_A);
	struct str der = forge_der(sk_X509_value(chain, 0));
	struct x509_svid svid, whole;
	char copy[2048];

	(void)state;
	assert_in_range(der.n, 100, sizeof(copy) - 1);
	assert_true(claims(der, &svid));
	for (size_t n = 0; n < der.n; n++)
		assert_false(claims(str_first(der, n), &svid));
	memcpy(copy, der.p, der.n);
	copy[der.n] = '\0';
	assert_false(claims((struct str){ copy, der.n + 1 }, &svid));
	for (size_t i = 0; i < der.n; i++) {
		const struct str changed = { copy, der.n };
		X509 *cert = NULL;

		copy[i] = (char)(der.p[i] ^ 0x21);
		if (crypto_certificate(changed, &cert, NULL) &&
		    (claims(changed, &svid) != x509_svid_claim(cert, &whole, NULL) ||
		     (claims(changed, &svid) && strcmp(svid.text, whole.text) != 0)))
			fail_msg("byte %zu", i);
		X509_free(cert);
		(void)claims(changed, &svid);
		copy[i] = der.p[i];
	}
	forge_free(der);
	sk_X509_pop_free(chain, X509_free);
}

static void a_leaf_above_a_leaf_is_no_authority(void **state)
{
	struct forge middle = {
		.san = ID, .constraints = NOT_CA, .usage = LEAF_USAGE, .purposes = BOTH
	};
	struct forge low = {
		.san = ID, .constraints = NOT_CA, .usage = LEAF_USAGE, .purposes = BOTH
	};
	STACK_OF(X509) *chain = sk_X509_new_null();
	EVP_PKEY *key = forge_key("P-256");
	struct x509_svid svid;
	struct err e = { 0 };

	(void)state;
	middle.subject = "agent";
	middle.key = key;
	middle.issuer = w.a;
	middle.issuer_key = w.a_key;
	low.issuer = forge_cert(&middle);
	low.issuer_key = key;
	sk_X509_push(chain, forge_cert(&low));
	sk_X509_push(chain, low.issuer);
	assert_false(x509_svid_verify(w.both, chain, FORGE_NOW, &svid, &e));
	sk_X509_pop_free(chain, X509_free);
	EVP_PKEY_free(key);
}

static void an_intermediate_can_be_an_anchor(void **state)
{
	STACK_OF(X509) *chain = chain_of((struct forge){ .san = ID,
							 .constraints = NOT_CA,
							 .usage = LEAF_USAGE,
							 .purposes = BOTH },
					 BY_SUB_ALONE);
	struct bundle_set *set = bundle_set_new(2, NULL);
	struct x509_svid svid;
	struct err e = { 0 };

	(void)state;
	add(set, "a.example", w.sub);
	if (!x509_svid_verify(set, chain, FORGE_NOW, &svid, &e))
		fail_msg("%s", e.msg);
	bundle_set_release(set);

	/* An empty set, and none at all, trust nobody. */
	set = bundle_set_new(3, NULL);
	assert_false(x509_svid_verify(set, chain, FORGE_NOW, &svid, &e));
	assert_false(x509_svid_verify(NULL, chain, FORGE_NOW, &svid, &e));
	assert_false(x509_svid_verify(set, NULL, FORGE_NOW, &svid, &e));
	bundle_set_release(set);
	sk_X509_pop_free(chain, X509_free);
}

/* A set that replaces one trust domain shares the bundles of the others; each outlives the set it
 * was made for. */
static void sets_share_bundles(void **state)
{
	struct bundle_set *old = bundle_set_new(1, NULL), *new = bundle_set_new(2, NULL);
	struct bundle *b;
	struct err e = { 0 };

	(void)state;
	add(old, "a.example", w.a);
	add(old, "b.example", w.b);
	if (!bundle_set_share_others(new, old, STR("a.example"), &e))
		fail_msg("%s", e.msg);
	assert_ptr_equal(bundle_find(new, STR("b.example")), bundle_find(old, STR("b.example")));
	assert_null(bundle_find(new, STR("a.example")));
	assert_false(bundle_set_share(new, old->items[1], &e));
	assert_int_equal(e.class, ERR_CONFLICT);
	assert_true(bundle_set_add(new, STR("a.example"), 2, 300, &b, &e));
	bundle_set_release(old);
	assert_int_equal(bundle_find(new, STR("b.example"))->nauthorities, 1);
	assert_true(bundle_set_share_others(new, NULL, STR(""), &e));
	bundle_set_release(new);
}

static void weak_keys_in_a_chain_are_refused(void **state)
{
	struct forge f = {
		.san = ID, .constraints = NOT_CA, .usage = LEAF_USAGE, .purposes = BOTH
	};
	STACK_OF(X509) *chain = sk_X509_new_null();
	struct x509_svid svid;
	struct err e = { 0 };

	(void)state;
	f.key = forge_key("RSA1024");
	f.issuer = w.a;
	f.issuer_key = w.a_key;
	sk_X509_push(chain, forge_cert(&f));
	assert_false(x509_svid_verify(w.both, chain, FORGE_NOW, &svid, &e));
	assert_non_null(strstr(e.msg, "key too weak"));
	sk_X509_pop_free(chain, X509_free);
	EVP_PKEY_free(f.key);
}

static void der_chains(void **state)
{
	STACK_OF(X509) *chain = chain_of((struct forge){ .san = ID,
							 .constraints = NOT_CA,
							 .usage = LEAF_USAGE,
							 .purposes = BOTH },
					 BY_SUB);
	struct str der[2] = { forge_der(sk_X509_value(chain, 0)), forge_der(w.sub) }, longer;
	struct x509_svid svid;
	struct err e = { 0 };
	char *more;

	(void)state;
	if (!x509_svid_verify_der(w.both, der, 2, FORGE_NOW, &svid, &e))
		fail_msg("%s", e.msg);
	assert_true(str_eq(svid.id.path, STR("/agent/7")));
	assert_false(x509_svid_verify_der(w.both, der, 1, FORGE_NOW, &svid, &e));
	assert_false(x509_svid_verify_der(w.both, der, 0, FORGE_NOW, &svid, &e));
	more = malloc(der[0].n + 1);
	memcpy(more, der[0].p, der[0].n);
	more[der[0].n] = 0;
	longer = der[0];
	der[0] = (struct str){ more, longer.n + 1 };
	assert_false(x509_svid_verify_der(w.both, der, 2, FORGE_NOW, &svid, &e));
	free(more);
	forge_free(longer);
	forge_free(der[1]);
	sk_X509_pop_free(chain, X509_free);
}

/* ---- what we issue ---- */

static X509 *cert_of(const struct buf *der)
{
	X509 *cert = NULL;
	struct err e = { 0 };

	if (!crypto_certificate(buf_str(der), &cert, &e))
		fail_msg("%s", e.msg);
	return cert;
}

static X509 *issue(X509 *ca, EVP_PKEY *ca_key, EVP_PKEY *key, int64_t ttl_s,
		   const struct x509_name *names, size_t n)
{
	struct x509_request r = { .spiffe_id = STR("spiffe://a.example/agent/7"),
				  .not_before_s = FORGE_NOW - 10,
				  .not_after_s = FORGE_NOW + ttl_s,
				  .nnames = n };
	struct str spki = forge_spki(key);
	struct err e = { 0 };
	struct buf der;
	X509 *cert;

	for (size_t i = 0; i < n; i++)
		r.names[i] = names[i];
	r.spki = spki;
	buf_init(&der, mem_system, 8192);
	if (!x509_svid_issue(ca, ca_key, &r, &der, &e))
		fail_msg("%s", e.msg);
	cert = cert_of(&der);
	buf_clear(&der);
	forge_free(spki);
	return cert;
}

static X509 *our_authority(EVP_PKEY *key)
{
	struct err e = { 0 };
	struct buf der;
	X509 *ca;

	buf_init(&der, mem_system, 8192);
	if (!x509_authority_issue(key, STR("a.example"), FORGE_NOW - 10, FORGE_NOW + 86400, &der,
				  &e))
		fail_msg("%s", e.msg);
	ca = cert_of(&der);
	buf_clear(&der);
	return ca;
}

static int critical(X509 *cert, int nid)
{
	int at = X509_get_ext_by_NID(cert, nid, -1);

	return at < 0 ? -1 : X509_EXTENSION_get_critical(X509_get_ext(cert, at));
}

/* OpenSSL's own verifier as a TLS client and server would run it, strictly. */
static void openssl_accepts(X509 *ca, X509 *leaf, X509_STORE_CTX *ctx, const char *purpose)
{
	X509_STORE *store = X509_STORE_new();

	X509_STORE_add_cert(store, ca);
	X509_STORE_CTX_init(ctx, store, leaf, NULL);
	X509_STORE_CTX_set_default(ctx, purpose);
	X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE);
	X509_STORE_CTX_set_time(ctx, 0, FORGE_NOW);
	if (X509_verify_cert(ctx) != 1)
		fail_msg("%s: %s", purpose,
			 X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
	X509_STORE_CTX_cleanup(ctx);
	X509_STORE_free(store);
}

static void issues_what_the_standard_wants(void **state)
{
	static const char *const kinds[] = { "P-256", "P-384", "RSA2048" };
	EVP_PKEY *ca_key = forge_key("P-256");
	X509 *ca = our_authority(ca_key);
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	struct bundle_set *set = bundle_set_new(1, NULL);

	(void)state;
	add(set, "a.example", ca);
	assert_int_equal(X509_get_key_usage(ca), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
	assert_int_equal(critical(ca, NID_basic_constraints), 1);
	assert_int_equal(critical(ca, NID_key_usage), 1);
	assert_int_equal(critical(ca, NID_ext_key_usage), -1);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		EVP_PKEY *key = forge_key(kinds[i]);
		X509 *leaf = issue(ca, ca_key, key, 3600, NULL, 0);
		STACK_OF(X509) *chain = sk_X509_new_null();
		const ASN1_INTEGER *serial = X509_get0_serialNumber(leaf);
		struct x509_svid svid;
		struct err e = { 0 };

		openssl_accepts(ca, leaf, ctx, "ssl_client");
		openssl_accepts(ca, leaf, ctx, "ssl_server");
		assert_int_equal(X509_get_version(leaf), X509_VERSION_3);
		assert_int_equal(X509_get_key_usage(leaf), KU_DIGITAL_SIGNATURE);
		assert_int_equal(X509_get_extended_key_usage(leaf),
				 XKU_SSL_SERVER | XKU_SSL_CLIENT);
		assert_int_equal(critical(leaf, NID_basic_constraints), 1);
		assert_int_equal(critical(leaf, NID_key_usage), 1);
		assert_int_equal(critical(leaf, NID_subject_alt_name), 0);
		assert_true(X509_NAME_entry_count(X509_get_subject_name(leaf)) > 0);
		assert_int_equal(ASN1_STRING_length(serial), 16);
		assert_int_equal(ASN1_STRING_type(serial), V_ASN1_INTEGER); /* positive */
		assert_int_equal(EVP_PKEY_eq(X509_get0_pubkey(leaf), key), 1);
		assert_int_equal(ASN1_OCTET_STRING_cmp(X509_get0_authority_key_id(leaf),
						       X509_get0_subject_key_id(ca)),
				 0);
		sk_X509_push(chain, leaf);
		if (!x509_svid_verify(set, chain, FORGE_NOW, &svid, &e))
			fail_msg("%s", e.msg);
		assert_string_equal(svid.text, "spiffe://a.example/agent/7");
		sk_X509_pop_free(chain, X509_free);
		EVP_PKEY_free(key);
	}
	bundle_set_release(set);
	X509_STORE_CTX_free(ctx);
	X509_free(ca);
	EVP_PKEY_free(ca_key);
}

static void a_leaf_never_outlives_its_authority(void **state)
{
	EVP_PKEY *key = forge_key("P-256");
	X509 *ca = our_authority(key);
	X509 *leaf = issue(ca, key, key, 10 * 86400, NULL, 0);
	struct x509_request late = { .spiffe_id = STR("spiffe://a.example/x"),
				     .not_before_s = FORGE_NOW + 2 * 86400,
				     .not_after_s = FORGE_NOW + 3 * 86400 };
	int64_t from, to;
	struct err e = { 0 };
	struct buf der;

	(void)state;
	assert_true(x509_times(leaf, &from, &to));
	assert_int_equal(from, FORGE_NOW - 10);
	assert_int_equal(to, FORGE_NOW + 86400);
	late.spki = forge_spki(key);
	buf_init(&der, mem_system, 8192);
	assert_false(x509_svid_issue(ca, key, &late, &der, &e));
	assert_int_equal(e.class, ERR_UNAVAILABLE);
	assert_int_equal(der.n, 0);
	forge_free(late.spki);
	X509_free(leaf);
	X509_free(ca);
	EVP_PKEY_free(key);
}

/* The short way for P-256 keys checks what the long way checks. */
static void keys_that_cannot_be_are_not_certified(void **state)
{
	EVP_PKEY *key = forge_key("P-256"), *big = forge_key("P-521");
	struct x509_request r = { .spiffe_id = STR("spiffe://a.example/x"),
				  .not_before_s = FORGE_NOW - 10,
				  .not_after_s = FORGE_NOW + 3600 };
	X509 *ca = our_authority(key);
	struct str spki = forge_spki(key), other = forge_spki(big);
	char copy[128];
	struct err e = { 0 };
	struct buf der;

	(void)state;
	buf_init(&der, mem_system, 8192);
	memcpy(copy, spki.p, spki.n);
	r.spki = (struct str){ copy, spki.n };
	assert_true(x509_svid_issue(ca, key, &r, &der, &e));
	buf_reset(&der);
	copy[spki.n - 1] ^= 1;
	assert_false(x509_svid_issue(ca, key, &r, &der, &e));
	assert_non_null(strstr(e.msg, "not on P-256"));
	memset(copy + spki.n - 64, 0, 64);
	assert_false(x509_svid_issue(ca, key, &r, &der, &e));
	memset(copy + spki.n - 64, 0xff, 64);
	assert_false(x509_svid_issue(ca, key, &r, &der, &e));
	memcpy(copy, spki.p, spki.n);
	r.spki.n--;
	assert_false(x509_svid_issue(ca, key, &r, &der, &e));
	r.spki = other;
	assert_false(x509_svid_issue(ca, key, &r, &der, &e));
	assert_int_equal(der.n, 0);
	forge_free(spki);
	forge_free(other);
	buf_clear(&der);
	X509_free(ca);
	EVP_PKEY_free(key);
	EVP_PKEY_free(big);
}

static void names_of_our_own_leaf(void **state)
{
	EVP_PKEY *key = forge_key("P-256");
	X509 *ca = our_authority(key), *leaf;
	struct x509_name names[3];
	struct err e = { 0 };

	(void)state;
	assert_true(x509_name_parse(STR("localhost"), &names[0], &e));
	assert_true(x509_name_parse(STR("127.0.0.1"), &names[1], &e));
	assert_true(x509_name_parse(STR("::1"), &names[2], &e));
	leaf = issue(ca, key, key, 3600, names, 3);
	assert_int_equal(X509_check_host(leaf, "localhost", 0, 0, NULL), 1);
	assert_int_equal(X509_check_host(leaf, "example.org", 0, 0, NULL), 0);
	assert_int_equal(X509_check_ip_asc(leaf, "127.0.0.1", 0), 1);
	assert_int_equal(X509_check_ip_asc(leaf, "::1", 0), 1);
	assert_int_equal(X509_check_ip_asc(leaf, "127.0.0.2", 0), 0);
	X509_free(leaf);
	X509_free(ca);
	EVP_PKEY_free(key);
}

static void names_are_read_strictly(void **state)
{
	static const struct {
		const char *in;
		int kind; /* -1 refused, 0 DNS, 4, 16 */
	} rows[] = {
		{ "localhost", 0 },   { "a-b.c_d.example", 0 },
		{ "10.1.2.3", 4 },    { "::1", 16 },
		{ "fe80::1", 16 },    { "", -1 },
		{ "a..b", -1 },	      { ".a", -1 },
		{ "a.", -1 },	      { "-a", -1 },
		{ "a-", -1 },	      { "a b", -1 },
		{ "a,DNS:evil", -1 }, { "*.example", -1 },
		{ "a/b", -1 },	      { "x:1", -1 },
	};
	char label[70];
	struct x509_name name;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		bool ok = x509_name_parse(str_c(rows[i].in), &name, NULL);

		if (ok != (rows[i].kind >= 0) || (ok && name.ip_len != rows[i].kind) ||
		    (ok && !name.dns.p != (rows[i].kind > 0)))
			fail_msg("%s", rows[i].in);
	}
	memset(label, 'a', sizeof(label));
	assert_true(x509_name_parse((struct str){ label, 63 }, &name, NULL));
	assert_false(x509_name_parse((struct str){ label, 64 }, &name, NULL));
	assert_false(x509_name_parse(STR("a\0b"), &name, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verifies_the_table),
		cmocka_unit_test(names_alone_say_the_same),
		cmocka_unit_test(a_broken_certificate_has_no_name),
		cmocka_unit_test(a_leaf_above_a_leaf_is_no_authority),
		cmocka_unit_test(an_intermediate_can_be_an_anchor),
		cmocka_unit_test(sets_share_bundles),
		cmocka_unit_test(weak_keys_in_a_chain_are_refused),
		cmocka_unit_test(der_chains),
		cmocka_unit_test(issues_what_the_standard_wants),
		cmocka_unit_test(a_leaf_never_outlives_its_authority),
		cmocka_unit_test(keys_that_cannot_be_are_not_certified),
		cmocka_unit_test(names_of_our_own_leaf),
		cmocka_unit_test(names_are_read_strictly),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
