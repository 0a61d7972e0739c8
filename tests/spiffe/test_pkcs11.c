/* Tokens: which URI names which, and everything that may go wrong behind a module, with SoftHSM. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the ones above first */
#include <cmocka.h>
#include <p11-kit-1/p11-kit/pkcs11.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "spiffe/crypto.h"
#include "spiffe/jwt_svid.h"
#include "spiffe/pkcs11_key.h"
#include "spiffe/x509_svid.h"
#include "tests/fault/tmp_dir.h"
#include "tests/spiffe/softhsm.h"

/* ---- URIs ---- */

static const struct {
	const char *text, *says; /* no says: taken */
	struct pkcs11_uri uri;
} uris[] = {
	{ "pkcs11:token=writ", NULL, { .token = "writ" } },
	{ "pkcs11:token=My%20token%3b%25", NULL, { .token = "My token;%" } },
	{ "pkcs11:token=a=b&c", NULL, { .token = "a=b&c" } },
	{ "pkcs11:serial=0123;model=SoftHSM%20v2;manufacturer=SoftHSM%20project;token=x",
	  NULL,
	  { .token = "x",
	    .serial = "0123",
	    .model = "SoftHSM v2",
	    .manufacturer = "SoftHSM project" } },
	{ "pkcs11:slot-id=7", NULL, { .has_slot = true, .slot = 7 } },
	{ "pkcs11:token=12345678901234567890123456789012",
	  NULL,
	  { .token = "12345678901234567890123456789012" } },
	{ "pkcs11:token=123456789012345678901234567890123", "more than 32 bytes", { .slot = 0 } },
	{ "", "expected \"pkcs11:", { .slot = 0 } },
	{ "PKCS11:token=x", "expected \"pkcs11:", { .slot = 0 } },
	{ "pkcs11:", "expected NAME=VALUE", { .slot = 0 } },
	{ "pkcs11:token", "expected NAME=VALUE", { .slot = 0 } },
	{ "pkcs11:token=", "token is empty", { .slot = 0 } },
	{ "pkcs11:model=x", "names no token", { .slot = 0 } },
	{ "pkcs11:token=x;", "expected NAME=VALUE", { .slot = 0 } },
	{ "pkcs11:token=x;token=x", "twice", { .slot = 0 } },
	{ "pkcs11:slot-id=1;slot-id=1", "slot-id", { .slot = 0 } },
	{ "pkcs11:slot-id=0x1", "slot-id", { .slot = 0 } },
	{ "pkcs11:slot-id=-1", "slot-id", { .slot = 0 } },
	{ "pkcs11:token=a%2", "two hexadecimal digits", { .slot = 0 } },
	{ "pkcs11:token=a%", "two hexadecimal digits", { .slot = 0 } },
	{ "pkcs11:token=a%zz", "two hexadecimal digits", { .slot = 0 } },
	{ "pkcs11:token=a%00", "NUL", { .slot = 0 } },
	{ "pkcs11:token=a b", "0x20", { .slot = 0 } },
	{ "pkcs11:token=a/b", "0x2f", { .slot = 0 } },
	{ "pkcs11:token=x;object=key", "makes its own keys", { .slot = 0 } },
	{ "pkcs11:token=x;id=%01", "makes its own keys", { .slot = 0 } },
	{ "pkcs11:token=x;type=private", "makes its own keys", { .slot = 0 } },
	{ "pkcs11:token=x;x-vendor=1", "not understood", { .slot = 0 } },
	{ "pkcs11:token=x?pin-value=1234", "a query is not taken", { .slot = 0 } },
	{ "pkcs11:token=x?module-path=/a.so", "a query is not taken", { .slot = 0 } },
};

static void uris_name_tokens(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(uris); i++) {
		struct pkcs11_uri u = { 0 };
		struct err e = { 0 };
		bool ok = pkcs11_uri_parse(str_c(uris[i].text), &u, &e);

		if (ok != !uris[i].says || (!ok && !strstr(e.msg, uris[i].says)))
			fail_msg("%s: %s", uris[i].text, ok ? "taken" : e.msg);
		if (ok)
			assert_memory_equal(&u, &uris[i].uri, sizeof(u));
	}
}

/* ---- the module, with functions of ours before its own ---- */

static struct clock_fixed hands = { 1000, 5000000000LL };
static struct clock stopped;
static CK_FUNCTION_LIST real, changed;
static unsigned logins, signatures, starts;
static CK_RV sign_says, login_says;
static CK_FLAGS token_flags;

static CK_RV count_login(CK_SESSION_HANDLE s, CK_USER_TYPE u, unsigned char *pin, CK_ULONG n)
{
	logins++;
	return login_says ? login_says : real.C_Login(s, u, pin, n);
}

static CK_RV count_start(void *args)
{
	starts++;
	return real.C_Initialize(args);
}

static CK_RV count_sign(CK_SESSION_HANDLE s, unsigned char *p, CK_ULONG n, unsigned char *sig,
			CK_ULONG *len)
{
	CK_RV rv = real.C_Sign(s, p, n, sig, len); /* either way the operation is over */

	signatures++;
	return sign_says ? sign_says : rv;
}

static CK_RV flag_token(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
	CK_RV rv = real.C_GetTokenInfo(slot, info);

	info->flags |= token_flags;
	return rv;
}

static struct pkcs11 *load(void)
{
	struct pkcs11 *p = NULL;
	struct err e = { 0 };

	stopped = clock_of_fixed(&hands);
	if (!pkcs11_load(SOFTHSM_MODULE, &stopped, &p, &e))
		fail_msg("%s", e.msg);
	real = changed = *(CK_FUNCTION_LIST *)*pkcs11_functions(p);
	changed.C_Login = count_login;
	changed.C_Sign = count_sign;
	changed.C_Initialize = count_start;
	changed.C_GetTokenInfo = flag_token;
	*pkcs11_functions(p) = &changed;
	logins = signatures = starts = 0;
	sign_says = login_says = CKR_OK;
	token_flags = 0;
	return p;
}

/* "" or the error's message. */
static const char *login(struct pkcs11 *p, const char *label, const char *pin,
			 struct pkcs11_token **out)
{
	static struct err e;
	struct pkcs11_uri u = { 0 };

	e = (struct err){ 0 };
	snprintf(u.token, sizeof(u.token), "%s", label);
	return pkcs11_login(p, &u, str_c(pin), out, &e) ? "" : e.msg;
}

struct made {
	uint8_t id[PKCS11_ID_LEN];
	struct buf spki;
};

static void make(struct pkcs11_token *t, const char *label, struct made *m)
{
	struct err e = { 0 };

	buf_init(&m->spki, mem_system, CRYPTO_SPKI_MAX);
	if (!pkcs11_generate(t, label, m->id, &m->spki, &e))
		fail_msg("%s", e.msg);
}

static struct str id_of(const struct made *m)
{
	return (struct str){ (const char *)m->id, sizeof(m->id) };
}

static bool sign_there(void *token, const uint8_t id[static PKCS11_ID_LEN],
		       const uint8_t digest[static SHA256_LEN],
		       uint8_t out[static PKCS11_SIGNATURE], struct err *e)
{
	struct pkcs11_key k = { .token = token };

	memcpy(k.id, id, sizeof(k.id));
	return pkcs11_sign(&k, digest, out, e);
}

static EVP_PKEY *open_key(struct pkcs11_token *t, const struct made *m)
{
	const struct pkcs11_way way = { sign_there, t };
	EVP_PKEY *key = NULL;
	struct err e = { 0 };

	if (!pkcs11_key_open(&way, id_of(m), buf_str(&m->spki), &key, &e))
		fail_msg("%s", e.msg);
	return key;
}

static bool still_there(struct pkcs11_token *t, const struct made *m)
{
	struct pkcs11_key k = { .token = t };
	uint8_t digest[SHA256_LEN] = { 1 }, sig[PKCS11_SIGNATURE];

	memcpy(k.id, m->id, sizeof(k.id));
	return pkcs11_sign(&k, digest, sig, NULL);
}

static void what_it_signs_verifies(void **state)
{
	struct pkcs11 *p;
	struct pkcs11_token *t = NULL;
	struct made m = { 0 };
	char kid[JWT_KID_LEN + 1];
	struct jwt_signer *jwt;
	struct str audience = STR("a");
	struct jwt_request jr = { .spiffe_id = STR("spiffe://example.org/a"),
				  .issued_s = 1000,
				  .expires_s = 1300,
				  .audience = { audience },
				  .naudience = 1 };
	EVP_PKEY *key;
	X509 *cert = NULL;
	AUTO_BUF der = { 0 };
	AUTO_BUF token = { 0 };
	struct err e = { 0 };

	(void)state;
	softhsm_token("writ");
	p = load();
	assert_string_equal(login(p, "writ", SOFTHSM_PIN, &t), "");
	make(t, "writ x509 tag", &m);
	key = open_key(t, &m);
	/* an authority signs itself, as X509_sign does it, and OpenSSL's own code verifies */
	buf_init(&der, mem_system, 16384);
	if (!x509_authority_issue(key, STR("example.org"), 1000, 900000, &der, &e) ||
	    !crypto_certificate(buf_str(&der), &cert, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(X509_verify(cert, X509_get0_pubkey(cert)), 1);
	/* a leaf, by hand */
	der.n = 0;
	assert_true(
		x509_svid_issue(cert, key,
				&(struct x509_request){ .spiffe_id = STR("spiffe://example.org/a"),
							.spki = buf_str(&m.spki),
							.not_before_s = 1000,
							.not_after_s = 4600 },
				&der, &e));
	{
		AUTO_X509 *leaf = NULL;

		assert_true(crypto_certificate(buf_str(&der), &leaf, &e));
		assert_int_equal(X509_verify(leaf, X509_get0_pubkey(cert)), 1);
	}
	/* a token */
	assert_true(jwt_kid(key, kid, &e));
	jwt = jwt_signer_new(key, str_c(kid), &e);
	assert_non_null(jwt);
	buf_init(&token, mem_system, 16384);
	if (!jwt_svid_issue(jwt, &jr, &token, &e))
		fail_msg("%s", e.msg);
	jwt_signer_free(jwt);
	X509_free(cert);
	EVP_PKEY_free(key);
	buf_clear(&m.spki);
	pkcs11_unload(p);
}

static void keys_outlive_the_process_and_never_leave(void **state)
{
	struct pkcs11 *p;
	struct pkcs11_token *t = NULL;
	struct made m = { 0 }, other = { 0 };
	CK_OBJECT_HANDLE object = 0;
	CK_SESSION_HANDLE s;
	CK_SLOT_ID slots[2]; /* the token's, and an empty one that SoftHSM always shows */
	CK_ULONG n = 2;
	CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
	CK_ATTRIBUTE one = { CKA_CLASS, &class, sizeof(class) };
	char secret[256];
	CK_ATTRIBUTE value = { CKA_VALUE, secret, sizeof(secret) };
	EVP_PKEY *key = NULL;
	struct err e = { 0 };
	struct pkcs11_way way = { sign_there, NULL };

	(void)state;
	softhsm_token("writ");
	p = load();
	assert_string_equal(login(p, "writ", SOFTHSM_PIN, &t), "");
	make(t, "writ jwt tag", &m);
	pkcs11_unload(p);

	p = load();
	assert_string_equal(login(p, "writ", SOFTHSM_PIN, &t), "");
	EVP_PKEY_free(open_key(t, &m));
	way.ctx = t;
	assert_int_equal(real.C_GetSlotList(CK_TRUE, slots, &n), CKR_OK);
	assert_int_equal(real.C_OpenSession(slots[0], CKF_SERIAL_SESSION, NULL, NULL, &s), CKR_OK);
	assert_int_equal(real.C_FindObjectsInit(s, &one, 1), CKR_OK);
	assert_int_equal(real.C_FindObjects(s, &object, 1, &n), CKR_OK);
	assert_int_equal(n, 1);
	assert_int_equal(real.C_GetAttributeValue(s, object, &value, 1), CKR_ATTRIBUTE_SENSITIVE);
	/* an id that is not there, and a public half that is another's */
	make(t, "writ jwt tag", &other);
	assert_false(pkcs11_key_open(&way, id_of(&m), buf_str(&other.spki), &key, &e));
	assert_string_equal(e.code, "token_key_differs");
	m.id[0] ^= 1;
	assert_false(pkcs11_key_open(&way, id_of(&m), buf_str(&m.spki), &key, &e));
	assert_string_equal(e.code, "token_key_missing");
	assert_null(key);
	buf_clear(&m.spki);
	buf_clear(&other.spki);
	pkcs11_unload(p);
}

static void a_wrong_pin_is_shown_once(void **state)
{
	struct pkcs11 *p;
	struct pkcs11_token *t = NULL, *same = NULL;
	struct made m = { 0 };

	(void)state;
	softhsm_token("writ");
	p = load();
	assert_non_null(strstr(login(p, "writ", "0000", &t), "the PIN is wrong"));
	assert_int_equal(logins, 1);
	token_flags = CKF_USER_PIN_FINAL_TRY;
	assert_non_null(strstr(login(p, "writ", SOFTHSM_PIN, &t), "one more wrong PIN locks"));
	token_flags = CKF_USER_PIN_LOCKED;
	assert_non_null(strstr(login(p, "writ", SOFTHSM_PIN, &t), "is locked"));
	assert_int_equal(logins, 1);
	token_flags = 0;
	assert_string_equal(login(p, "writ", SOFTHSM_PIN, &t), "");
	assert_string_equal(login(p, "writ", SOFTHSM_PIN, &same), "");
	/* changed by somebody while writ runs: seen at the next session, and then no more tried */
	make(t, "l", &m);
	assert_true(still_there(t, &m));
	real.C_Finalize(NULL);
	login_says = CKR_PIN_INCORRECT;
	logins = 0;
	for (int i = 0; i < 5; i++)
		assert_false(still_there(t, &m));
	assert_int_equal(logins, 1);
	login_says = CKR_OK;
	assert_false(still_there(t, &m)); /* until a restart */
	assert_false(still_there(same, &m));
	assert_int_equal(logins, 1);
	buf_clear(&m.spki);
	pkcs11_unload(p);
}

static void which_token(void **state)
{
	struct pkcs11 *p;
	struct pkcs11_token *t = NULL;

	(void)state;
	softhsm_token("one");
	softhsm_token("two");
	softhsm_token("two");
	p = load();
	assert_non_null(strstr(login(p, "three", SOFTHSM_PIN, &t), "no token \"three\""));
	assert_non_null(strstr(login(p, "two", SOFTHSM_PIN, &t), "2 tokens are \"two\""));
	assert_non_null(strstr(login(p, "on", SOFTHSM_PIN, &t), "no token"));
	assert_int_equal(logins, 0);
	assert_string_equal(login(p, "one", SOFTHSM_PIN, &t), "");
	assert_string_equal(login(p, "one", SOFTHSM_PIN, &t), ""); /* of the other kind of key */
	assert_non_null(strstr(login(p, "one", SOFTHSM_PIN, &t), "two at most"));
	pkcs11_unload(p);
}

static void sessions_come_back(void **state)
{
	struct pkcs11 *p;
	struct pkcs11_token *t = NULL;
	struct made m = { 0 };
	CK_SLOT_ID slots[2];
	CK_ULONG n = 2;

	(void)state;
	softhsm_token("writ");
	p = load();
	assert_string_equal(login(p, "writ", SOFTHSM_PIN, &t), "");
	make(t, "l", &m);
	assert_true(still_there(t, &m));
	assert_int_equal(real.C_GetSlotList(CK_TRUE, slots, &n), CKR_OK);
	for (CK_ULONG i = 0; i < n; i++)
		assert_int_equal(real.C_CloseAllSessions(slots[i]), CKR_OK);
	assert_true(still_there(t, &m)); /* the server behind the module was restarted */
	real.C_Finalize(NULL);
	assert_true(still_there(t, &m));
	assert_int_equal(logins, 3);
	buf_clear(&m.spki);
	pkcs11_unload(p);
}

static void a_token_that_fails_is_not_hammered(void **state)
{
	struct pkcs11 *p;
	struct pkcs11_token *t = NULL;
	struct made m = { 0 };
	uint8_t digest[SHA256_LEN] = { 0 }, sig[80];
	size_t n = sizeof(sig);
	struct err e = { 0 };
	EVP_PKEY_CTX *ctx;
	EVP_PKEY *key;

	(void)state;
	softhsm_token("writ");
	p = load();
	assert_string_equal(login(p, "writ", SOFTHSM_PIN, &t), "");
	make(t, "l", &m);
	key = open_key(t, &m);
	assert_false(pkcs11_key_failed(key, &e));
	starts = 0;
	sign_says = CKR_DEVICE_REMOVED;
	ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	assert_int_equal(EVP_PKEY_sign_init(ctx), 1);
	for (int i = 0; i < 20; i++)
		assert_int_not_equal(EVP_PKEY_sign(ctx, sig, &n, digest, sizeof(digest)), 1);
	assert_int_equal(starts, 1); /* once a second, not each time */
	hands.ns += 2000000000LL;
	for (int i = 0; i < 20; i++)
		assert_int_not_equal(EVP_PKEY_sign(ctx, sig, &n, digest, sizeof(digest)), 1);
	assert_int_equal(starts, 2);
	assert_true(pkcs11_key_failed(key, &e));
	assert_int_equal(e.class, ERR_UNAVAILABLE);
	assert_non_null(strstr(e.msg, "the token was removed"));
	sign_says = CKR_OK;
	n = sizeof(sig);
	assert_int_equal(EVP_PKEY_sign(ctx, sig, &n, digest, sizeof(digest)), 1);
	assert_false(pkcs11_key_failed(key, &e));
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(key);
	buf_clear(&m.spki);
	pkcs11_unload(p);
}

static void leftovers_leave_and_nothing_else(void **state)
{
	struct pkcs11 *p;
	struct pkcs11_token *t = NULL;
	struct made m[4] = { 0 };
	char keep[2 * PKCS11_ID_LEN];
	struct err e = { 0 };
	size_t removed = 0;

	(void)state;
	softhsm_token("writ");
	p = load();
	assert_string_equal(login(p, "writ", SOFTHSM_PIN, &t), "");
	for (int i = 0; i < 3; i++)
		make(t, "writ x509 ours", &m[i]);
	make(t, "writ x509 theirs", &m[3]); /* another deployment's */
	memcpy(keep, m[0].id, PKCS11_ID_LEN);
	memset(keep + PKCS11_ID_LEN, 0, PKCS11_ID_LEN);
	assert_true(
		pkcs11_keep(t, "writ x509 ours", (struct str){ keep, sizeof(keep) }, &removed, &e));
	assert_int_equal(removed, 2);
	assert_true(still_there(t, &m[0]) && still_there(t, &m[3]));
	assert_false(still_there(t, &m[1]) || still_there(t, &m[2]));
	assert_true(
		pkcs11_keep(t, "writ x509 ours", (struct str){ keep, sizeof(keep) }, &removed, &e));
	assert_int_equal(removed, 0);
	for (int i = 0; i < 4; i++)
		buf_clear(&m[i].spki);
	pkcs11_unload(p);
}

static void modules_that_are_none(void **state)
{
	const char *loose = tmp_dir_path(state, "loose.so");
	struct pkcs11 *p = NULL;
	struct err e = { 0 };
	FILE *f = fopen(loose, "we");

	assert_non_null(f);
	fputs("no library", f);
	fclose(f);
	assert_false(pkcs11_load("libsofthsm2.so", NULL, &p, &e));
	assert_non_null(strstr(e.msg, "absolute path"));
	assert_false(pkcs11_load("/no/such/module.so", NULL, &p, &e));
	assert_non_null(strstr(e.msg, "No such file"));
	assert_int_equal(chmod(loose, 0666), 0);
	assert_false(pkcs11_load(loose, NULL, &p, &e));
	assert_non_null(strstr(e.msg, "may be written by others"));
	assert_int_equal(chmod(loose, 0600), 0);
	assert_false(pkcs11_load(loose, NULL, &p, &e));
	assert_non_null(strstr(e.msg, "cannot be loaded"));
	assert_false(pkcs11_load("/lib/x86_64-linux-gnu/libm.so.6", NULL, &p, &e) &&
		     pkcs11_load("/lib/aarch64-linux-gnu/libm.so.6", NULL, &p, &e));
	assert_null(p);
}

#define WITH_TOKENS(f) cmocka_unit_test_setup_teardown(f, softhsm_make, softhsm_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(uris_name_tokens),
		WITH_TOKENS(what_it_signs_verifies),
		WITH_TOKENS(keys_outlive_the_process_and_never_leave),
		WITH_TOKENS(a_wrong_pin_is_shown_once),
		WITH_TOKENS(which_token),
		WITH_TOKENS(sessions_come_back),
		WITH_TOKENS(a_token_that_fails_is_not_hammered),
		WITH_TOKENS(leftovers_leave_and_nothing_else),
		WITH_TOKENS(modules_that_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
