/* spiffe/signer_hold: authorities made, sealed, taken into hand; alone or under an upstream CA. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "spiffe/crypto.h"
#include "spiffe/jws.h"
#include "spiffe/signer_desk.h"
#include "spiffe/signer_wire.h"
#include "spiffe/wit_svid.h"
#include "tests/spiffe/folder.h"
#include "tests/spiffe/forge.h"

#define MONTH (30 * 86400)

static struct {
	struct signer_keys keys;
	struct signer_upstream upstream;
	struct signer_desk *desk;
	struct clock_fixed now;
	struct buf spki;
	EVP_PKEY *root_key, *ca_key;
	X509 *root, *ca;
	char certificate[128], key[128], bundle[128];
} d;

static void open_desk(bool upstream)
{
	struct signer_config c = { .folder = folder,
				   .trust_domain = STR_INIT("a.example"),
				   .channels = 1 };
	struct clock clock = clock_of_fixed(&d.now);
	struct err e = { 0 };

	signer_desk_free(d.desk);
	d.desk = signer_desk_new(&c, &d.keys, upstream ? &d.upstream : NULL, NULL, &clock, &e);
	if (!d.desk)
		fail_msg("%s", e.msg);
}

static int set_up(void **state)
{
	EVP_PKEY *key = forge_key("P-256");
	struct err e = { 0 };
	bool ok;

	memset(&d, 0, sizeof(d));
	if (fresh_folder(state) || !open_keys("a.example", &d.keys, &e))
		return -1;
	d.now.ms = (int64_t)FORGE_NOW * 1000;
	buf_init(&d.spki, mem_system, 4096);
	ok = crypto_spki(key, &d.spki, &e);
	EVP_PKEY_free(key);
	open_desk(false);
	return ok ? 0 : -1;
}

static int tear_down(void **state)
{
	signer_desk_free(d.desk);
	signer_upstream_clear(&d.upstream);
	signer_keys_clear(&d.keys);
	buf_clear(&d.spki);
	X509_free(d.root);
	X509_free(d.ca);
	EVP_PKEY_free(d.root_key);
	EVP_PKEY_free(d.ca_key);
	return drop_folder(state);
}

/* Through the wire: the answer's class, with result or message in @out. */
static enum err_class ask(const struct signer_job *j, struct buf *out)
{
	struct buf request, answer;
	struct wire w = { 0 };
	enum err_class class;
	struct str body;

	buf_init(&request, mem_system, 1 << 20);
	buf_init(&answer, mem_system, 1 << 20);
	buf_clear(out);
	buf_init(out, mem_system, 1 << 20);
	assert_true(wire_put_job(&request, j));
	assert_true(wire_frame(buf_str(&request), &body) > 0);
	assert_true(signer_desk_answer(d.desk, body, &answer));
	assert_true(wire_frame(buf_str(&answer), &body) > 0);
	w.rest = body;
	class = (enum err_class)wire_u8(&w);
	buf_add(out, w.rest);
	buf_char(out, '\0');
	out->n--;
	buf_clear(&request);
	buf_clear(&answer);
	return class;
}

static struct signer_made make(enum authority_kind kind, struct buf *out)
{
	struct signer_job j = { .op = SIGNER_MAKE_KEY, .make = kind };
	struct signer_made made;
	struct err e = { 0 };

	if (ask(&j, out) != ERR_NONE)
		fail_msg("%s", out->p);
	if (!signer_made_read(buf_str(out), &made, &e))
		fail_msg("%s", e.msg);
	return made;
}

static enum err_class use(enum authority_kind kind, struct str id, struct str sealed,
			  struct buf *out)
{
	struct signer_job j = { .op = SIGNER_USE_KEY, .use = { kind, id, sealed } };

	return ask(&j, out);
}

static struct signer_job wit_job(int64_t from_s, int64_t to_s)
{
	return (struct signer_job){ .op = SIGNER_WIT_SVID,
				    .wit = { .spiffe_id = STR("spiffe://a.example/agent/7"),
					     .spki = buf_str(&d.spki),
					     .issued_s = from_s,
					     .expires_s = to_s } };
}

static void sign(enum authority_kind kind, struct buf *out)
{
	int64_t now = d.now.ms / 1000;
	struct signer_job j = { .op = SIGNER_X509_SVID,
				.x509 = { .spiffe_id = STR("spiffe://a.example/agent/7"),
					  .spki = buf_str(&d.spki),
					  .not_before_s = now - 10,
					  .not_after_s = now + 3600 } };

	if (kind == AUTHORITY_JWT)
		j = (struct signer_job){ .op = SIGNER_JWT_SVID,
					 .jwt = { .spiffe_id = STR("spiffe://a.example/agent/7"),
						  .audience = { STR("us") },
						  .naudience = 1,
						  .issued_s = now,
						  .expires_s = now + 300 } };
	if (kind == AUTHORITY_WIT)
		j = wit_job(now, now + 3600);
	if (ask(&j, out) != ERR_NONE)
		fail_msg("%s", out->p);
}

/* Is it a token under the WIT key @m? */
static bool is_wit_of(struct str token, const struct signer_made *m, struct arena *a)
{
	const unsigned char *p = (const unsigned char *)m->spki.p;
	EVP_PKEY *key = d2i_PUBKEY(NULL, &p, (long)m->spki.n);
	struct buf jwk, set;
	struct jwks *keys = NULL;
	struct err e = { 0 };
	struct jws jws = { .header = NULL };
	bool ok;

	buf_in_arena(&jwk, a, 4096);
	buf_in_arena(&set, a, 4096);
	assert_true(wit_jwk(key, false, &jwk, &e));
	buf_printf(&set, "{\"keys\":[{\"kid\":\"%.*s\",%.*s]}", STR_FMT(m->id),
		   STR_FMT(str_from(buf_str(&jwk), 1)));
	if (!jwks_read(buf_str(&set), &keys, &e) || !jws_read(token, a, &jws, &e))
		fail_msg("%s", e.msg);
	ok = jws_verify(&jws, keys, &e);
	if (ok) {
		assert_true(str_eq(json_get(jws.header, STR("typ"))->s, STR("wit+jwt")));
		assert_null(json_get(jws.claims, STR("aud")));
		assert_non_null(json_get(json_get(jws.claims, STR("cnf")), STR("jwk")));
	}
	jwks_free(keys);
	EVP_PKEY_free(key);
	return ok;
}

/* Does what is signed now verify against the authority alone? */
static bool signs_with(enum authority_kind kind, const struct signer_made *m)
{
	struct bundle_set *set = bundle_set_new(1, NULL);
	struct jwt_verifier *v = jwt_verifier_new(&mem_system, 0, NULL);
	struct str chain[4], rest = m->chain, der;
	struct buf out = { 0 };
	struct x509_svid svid;
	struct jwt_svid jwt;
	struct arena a;
	struct bundle *b;
	struct err e = { 0 };
	size_t n = 0;
	bool ok;

	arena_init(&a, &mem_system, 1 << 20);
	assert_true(bundle_set_add(set, STR("a.example"), 1, 300, &b, &e));
	sign(kind, &out);
	if (kind == AUTHORITY_WIT) {
		ok = is_wit_of(buf_str(&out), m, &a);
	} else if (kind == AUTHORITY_JWT) {
		assert_true(bundle_add_jwt_key(b, m->id, m->spki, &e));
		ok = jwt_svid_verify(v, set, buf_str(&out), STR("us"), d.now.ms / 1000, &a, &jwt,
				     &e);
	} else {
		assert_true(x509_chain_next(&rest, &der));
		if (!bundle_add_authority(b, der, &e))
			fail_msg("%s", e.msg);
		for (rest = buf_str(&out); n < 4 && x509_chain_next(&rest, &chain[n]); n++)
			;
		ok = x509_svid_verify_der(set, chain, n, d.now.ms / 1000, &svid, &e);
	}
	arena_clear(&a);
	jwt_verifier_free(v);
	bundle_set_release(set);
	buf_clear(&out);
	return ok;
}

static void made_keys_are_sealed_and_used(void **state)
{
	(void)state;
	for (int kind = 0; kind < AUTHORITY_KINDS; kind++) {
		enum authority_kind k = (enum authority_kind)kind;
		struct buf one = { 0 }, two = { 0 }, out = { 0 };
		struct signer_made a = make(k, &one), b = make(k, &two);
		char tampered[SIGNER_FRAME_MAX];

		assert_false(str_eq(a.id, b.id));
		assert_int_equal(a.ends_s, FORGE_NOW + MONTH);
		assert_int_equal(a.chain.n > 0, k == AUTHORITY_X509);
		if (k == AUTHORITY_WIT) { /* the first start has made none */
			struct signer_job j = wit_job(FORGE_NOW, FORGE_NOW + 60);

			assert_int_equal(ask(&j, &out), ERR_UNAVAILABLE);
		} else {
			assert_false(signs_with(k, &a)); /* made is not used */
		}
		if (use(k, a.id, a.sealed, &out) != ERR_NONE)
			fail_msg("%s", out.p);
		assert_true(signs_with(k, &a));

		/* Under another name, as the other kind, or changed, it does not open. */
		assert_int_equal(use(k, b.id, a.sealed, &out), ERR_FORBIDDEN);
		assert_int_equal(use((enum authority_kind) !kind, a.id, a.sealed, &out),
				 ERR_FORBIDDEN);
		memcpy(tampered, b.sealed.p, b.sealed.n);
		tampered[100] = tampered[100] == 'A' ? 'B' : 'A'; /* within the second line */
		assert_int_equal(use(k, b.id, (struct str){ tampered, b.sealed.n }, &out),
				 ERR_FORBIDDEN);
		assert_int_equal(use(k, STR(""), a.sealed, &out), ERR_INVALID);
		assert_int_equal(use(k, b.id, STR("x"), &out), ERR_INVALID);
		/* The first start's, under a wrong name. */
		assert_int_equal(use(k, b.id, STR(""), &out),
				 k == AUTHORITY_WIT ? ERR_NOT_FOUND : ERR_INVALID);
		assert_true(signs_with(k, &a)); /* none of that took it out of hand */

		assert_int_equal(use(k, b.id, b.sealed, &out), ERR_NONE);
		assert_true(signs_with(k, &b));
		assert_false(signs_with(k, &a));
		buf_clear(&one);
		buf_clear(&two);
		buf_clear(&out);
	}
}

static void the_first_keys_can_be_taken_back(void **state)
{
	struct buf one = { 0 }, out = { 0 };
	struct signer_made a = make(AUTHORITY_X509, &one), first = { 0 };
	struct str der = forge_der(d.keys.authority);
	char id[X509_ID_LEN + 1];

	(void)state;
	assert_true(x509_authority_id(d.keys.authority, id, NULL));
	first.chain = der;
	assert_true(signs_with(AUTHORITY_X509, &first));
	assert_int_equal(use(AUTHORITY_X509, a.id, a.sealed, &out), ERR_NONE);
	assert_false(signs_with(AUTHORITY_X509, &first));
	assert_int_equal(use(AUTHORITY_X509, str_c(id), STR(""), &out), ERR_NONE);
	assert_true(signs_with(AUTHORITY_X509, &first));
	forge_free(der);
	buf_clear(&one);
	buf_clear(&out);
}

static void nothing_is_signed_past_the_end(void **state)
{
	struct buf one = { 0 }, out = { 0 };

	(void)state;
	for (int kind = 0; kind < AUTHORITY_KINDS; kind++) {
		struct signer_made a = make((enum authority_kind)kind, &one);
		struct signer_job j = { .op = SIGNER_JWT_SVID,
					.jwt = { .spiffe_id = STR("spiffe://a.example/agent/7"),
						 .audience = { STR("us") },
						 .naudience = 1 } };

		assert_int_equal(use((enum authority_kind)kind, a.id, a.sealed, &out), ERR_NONE);
		d.now.ms = (a.ends_s + 10) * 1000;
		j.jwt.issued_s = a.ends_s + 10;
		j.jwt.expires_s = a.ends_s + 20;
		if (kind == AUTHORITY_X509)
			j = (struct signer_job){ .op = SIGNER_X509_SVID,
						 .x509 = { .spiffe_id = STR(
								   "spiffe://a.example/agent/7"),
							   .spki = buf_str(&d.spki),
							   .not_before_s = a.ends_s,
							   .not_after_s = a.ends_s + 3600 } };
		if (kind == AUTHORITY_WIT)
			j = wit_job(a.ends_s + 10, a.ends_s + 20);
		assert_int_equal(ask(&j, &out), ERR_UNAVAILABLE);
		assert_non_null(strstr(out.p, "expired"));
		d.now.ms = (int64_t)FORGE_NOW * 1000;
	}
	buf_clear(&one);
	buf_clear(&out);
}

/* ---- upstream ---- */

static void put_pem(const char *path, X509 *one, X509 *two, EVP_PKEY *key, mode_t mode)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	if (one)
		assert_int_equal(PEM_write_X509(f, one), 1);
	if (two)
		assert_int_equal(PEM_write_X509(f, two), 1);
	if (key)
		assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
}

/* A root, and below it the CA that signs for us. */
static void forge_organisation(const char *kind, const char *constraints)
{
	struct forge ca = { .constraints = constraints,
			    .usage = "critical,keyCertSign,cRLSign",
			    .from_s = -3600,
			    .to_s = 86400,
			    .subject = "Issuing CA" };

	X509_free(d.root);
	X509_free(d.ca);
	EVP_PKEY_free(d.root_key);
	EVP_PKEY_free(d.ca_key);
	d.root_key = forge_key(kind);
	d.ca_key = forge_key(kind);
	d.root = forge_authority("org.example", d.root_key);
	ca.key = d.ca_key;
	ca.issuer = d.root;
	ca.issuer_key = d.root_key;
	d.ca = forge_cert(&ca);
	snprintf(d.certificate, sizeof(d.certificate), "%s/ca.pem", base);
	snprintf(d.key, sizeof(d.key), "%s/ca.key", base);
	snprintf(d.bundle, sizeof(d.bundle), "%s/roots.pem", base);
	put_pem(d.certificate, d.ca, d.root, NULL, 0644);
	put_pem(d.key, NULL, NULL, d.ca_key, 0600);
	put_pem(d.bundle, d.root, NULL, NULL, 0644);
}

static bool open_upstream(bool constrain, struct err *e)
{
	const struct upstream_files files = { d.certificate, d.key, d.bundle, constrain };

	signer_upstream_clear(&d.upstream);
	return signer_upstream_open(&files, FORGE_NOW, &d.upstream, e);
}

#define CA "critical,CA:TRUE"

static void an_upstream_signs_our_authority(void **state)
{
	static const char *const kinds[] = { "P-256", "P-384", "RSA2048" };

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_LEN(kinds); i++) {
		struct buf one = { 0 }, out = { 0 };
		struct str rest, der, root;
		struct signer_made a;
		struct bundle_set *set = bundle_set_new(1, NULL);
		struct str chain[4];
		struct x509_svid svid;
		struct bundle *b;
		struct err e = { 0 };
		X509 *cert = NULL;
		size_t n = 0;

		forge_organisation(kinds[i / 2], CA ",pathlen:1");
		if (!open_upstream(i % 2, &e))
			fail_msg("%s", e.msg);
		open_desk(true);
		a = make(AUTHORITY_X509, &one);
		/* It ends with the CA above it, and signs leaves only. */
		assert_int_equal(a.ends_s, FORGE_NOW + 86400);
		rest = a.chain;
		assert_true(x509_chain_next(&rest, &der));
		assert_true(crypto_certificate(der, &cert, &e));
		assert_int_equal(X509_get_pathlen(cert), 0);
		assert_int_equal(X509_get_key_usage(cert), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
		assert_int_equal(X509_get_ext_by_NID(cert, NID_name_constraints, -1) >= 0, i % 2);
		X509_free(cert);
		assert_int_equal(use(AUTHORITY_X509, a.id, a.sealed, &out), ERR_NONE);

		/* The bundle holds the root alone; the SVID brings leaf, authority, issuing CA. */
		root = forge_der(d.root);
		assert_true(bundle_set_add(set, STR("a.example"), 1, 300, &b, &e));
		assert_true(bundle_add_authority(b, root, &e));
		sign(AUTHORITY_X509, &out);
		for (rest = buf_str(&out); n < 4 && x509_chain_next(&rest, &chain[n]); n++)
			;
		assert_int_equal(n, 3);
		if (!x509_svid_verify_der(set, chain, n, FORGE_NOW, &svid, &e))
			fail_msg("%s %zu: %s", kinds[i / 2], i % 2, e.msg);
		assert_false(x509_svid_verify_der(set, chain, 1, FORGE_NOW, &svid, &e));
		assert_true(x509_svid_verify_chain(set, buf_str(&out), FORGE_NOW, &svid, &e));
		assert_true(str_eq(x509_chain_leaf(buf_str(&out)), chain[0]));
		assert_int_equal(x509_chain_leaf(str_from(buf_str(&out), 1)).n, 0);
		buf_char(&out, 'x');
		assert_false(x509_svid_verify_chain(set, buf_str(&out), FORGE_NOW, &svid, &e));
		/* Revoked: nothing leads through it, though the root stays. */
		assert_true(bundle_distrust(b, buf_str(&d.spki), &e)); /* of somebody else */
		assert_true(x509_svid_verify_der(set, chain, n, FORGE_NOW, &svid, &e));
		assert_true(bundle_distrust(b, a.spki, &e));
		assert_false(x509_svid_verify_der(set, chain, n, FORGE_NOW, &svid, &e));
		assert_non_null(strstr(e.msg, "revoked"));
		bundle_set_release(set);
		forge_free(root);
		buf_clear(&one);
		buf_clear(&out);
	}
}

static void wrong_key(void)
{
	put_pem(d.key, NULL, NULL, d.root_key, 0600);
}

static void loose_key(void)
{
	assert_int_equal(chmod(d.key, 0644), 0);
}

static void no_key(void)
{
	put_pem(d.key, d.ca, NULL, NULL, 0600);
}

static void locked_key(void)
{
	FILE *f = fopen(d.key, "we");

	assert_non_null(f);
	assert_int_equal(PEM_write_PKCS8PrivateKey(f, d.ca_key, EVP_aes_128_cbc(), "pw", 2, NULL,
						   NULL),
			 1);
	fclose(f);
}

static void other_root(void)
{
	EVP_PKEY *key = forge_key("P-256");
	X509 *root = forge_authority("other.example", key);

	put_pem(d.bundle, root, NULL, NULL, 0644);
	X509_free(root);
	EVP_PKEY_free(key);
}

static void no_bundle(void)
{
	unlink(d.bundle);
}

static void not_pem(void)
{
	put_pem(d.certificate, NULL, NULL, d.ca_key, 0644);
}

static void an_upstream_that_cannot_work_is_refused(void **state)
{
	static const struct {
		const char *constraints, *says;
		void (*spoil)(void);
	} rows[] = {
		{ CA, NULL, NULL },
		{ CA ",pathlen:0", "path length 0", NULL },
		{ "critical,CA:FALSE", "is no CA", NULL },
		{ CA, "is not the key of", wrong_key },
		{ CA, "chmod 600", loose_key },
		{ CA, "holds no private key", no_key },
		{ CA, "without a password", locked_key },
		{ CA, "does not lead to a root", other_root },
		{ CA, "no such file", no_bundle },
		{ CA, "holds no certificate", not_pem },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err e = { 0 };
		bool ok;

		forge_organisation("P-256", rows[i].constraints);
		if (rows[i].spoil)
			rows[i].spoil();
		ok = open_upstream(false, &e);
		if (ok != !rows[i].says || (!ok && !strstr(e.msg, rows[i].says)))
			fail_msg("%zu: %s", i, e.msg);
	}
}

#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(made_keys_are_sealed_and_used),
		IN_FOLDER(the_first_keys_can_be_taken_back),
		IN_FOLDER(nothing_is_signed_past_the_end),
		IN_FOLDER(an_upstream_signs_our_authority),
		IN_FOLDER(an_upstream_that_cannot_work_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
