/* spiffe/attest_user: tokens that say for whom an agent may ask, each trap of the sheet's list of
 * subject tokens a row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#include "authz/base/text.h"
#include "spiffe/attest_user.h"
#include "tests/fault/tmp_dir.h"
#include "tests/spiffe/forge.h"

#define ISS "https://idp.example"
#define WHO(sub) "{\"iss\":\"" ISS "\",\"sub\":\"" sub "\",\"aud\":\"writ\""
#define TIMES ",\"iat\":1800000000,\"exp\":1800000300"
#define GOOD WHO("alice") TIMES "}"
#define ID "{\"alg\":\"EdDSA\",\"kid\":\"k\",\"typ\":\"JWT\"}"
#define ACCESS "{\"alg\":\"EdDSA\",\"kid\":\"k\",\"typ\":\"at+jwt\"}"

static const struct {
	const char *why, *header, *payload;
	bool access;
	const char *scope, *says; /* no says: holds */
} rows[] = {
	{ "an ID token", ID, GOOD, false, "crm.read", NULL },
	{ "without typ", "{\"alg\":\"EdDSA\",\"kid\":\"k\"}", GOOD, false, "crm.read", NULL },
	{ "an access token", ACCESS, WHO("alice") TIMES ",\"scope\":\"a b\"}", true, "a b", NULL },
	{ "its typ in full", "{\"alg\":\"EdDSA\",\"kid\":\"k\",\"typ\":\"application/at+jwt\"}",
	  GOOD, true, "crm.read", NULL },
	{ "scope of no names", ACCESS, WHO("alice") TIMES ",\"scope\":\"\"}", true, "", NULL },
	{ "scope of another form", ACCESS, WHO("alice") TIMES ",\"scope\":[\"a\"]}", true, "",
	  NULL },
	{ "scope that cannot be read", ACCESS, WHO("alice") TIMES ",\"scope\":\"a  a\"}", true, "",
	  NULL },
	{ "writ among its audiences", ID,
	  "{\"iss\":\"" ISS "\",\"sub\":\"alice\",\"aud\":[\"x\",\"writ\"]" TIMES "}", false,
	  "crm.read", NULL },
	{ "typ JWT where at+jwt is due", ID, GOOD, true, NULL, "typ" },
	{ "no typ where at+jwt is due", "{\"alg\":\"EdDSA\",\"kid\":\"k\"}", GOOD, true, NULL,
	  "typ" },
	{ "an access token as ID token", ACCESS, GOOD, false, NULL, "typ" },
	{ "a logout token as ID token", "{\"alg\":\"EdDSA\",\"kid\":\"k\",\"typ\":\"logout+jwt\"}",
	  GOOD, false, NULL, "typ" },
	{ "typ a number", "{\"alg\":\"EdDSA\",\"kid\":\"k\",\"typ\":1}", GOOD, false, NULL, "typ" },
	{ "for a third service", ID,
	  "{\"iss\":\"" ISS "\",\"sub\":\"alice\",\"aud\":\"crm\"" TIMES "}", false, NULL,
	  "addressed to others" },
	{ "without audience", ID, "{\"iss\":\"" ISS "\",\"sub\":\"alice\"" TIMES "}", false, NULL,
	  "addressed to others" },
	{ "an issuer with a slash", ID,
	  "{\"iss\":\"" ISS "/\",\"sub\":\"alice\",\"aud\":\"writ\"" TIMES "}", false, NULL,
	  "none of those" },
	{ "an issuer in capitals", ID,
	  "{\"iss\":\"https://IDP.example\",\"sub\":\"alice\",\"aud\":\"writ\"" TIMES "}", false,
	  NULL, "none of those" },
	{ "the issuer of CI jobs", ID,
	  "{\"iss\":\"https://ci.example\",\"sub\":\"job\",\"aud\":\"writ\"" TIMES "}", false, NULL,
	  "none of those" },
	{ "expired", ID, WHO("alice") ",\"iat\":1799999000,\"exp\":1799999970}", false, NULL,
	  "expired" },
	{ "not yet valid", ID, WHO("alice") TIMES ",\"nbf\":1800000031}", false, NULL,
	  "not valid yet" },
	{ "from the future", ID, WHO("alice") ",\"iat\":1800000031,\"exp\":1800000300}", false,
	  NULL, "future" },
	{ "exp a text", ID, WHO("alice") ",\"iat\":1800000000,\"exp\":\"1800000300\"}", false, NULL,
	  "exp" },
	{ "exp a fraction", ID, WHO("alice") ",\"iat\":1800000000,\"exp\":1800000300.5}", false,
	  NULL, "exp" },
	{ "exp negative", ID, WHO("alice") ",\"iat\":1800000000,\"exp\":-1}", false, NULL, "exp" },
	{ "exp 2^63", ID, WHO("alice") ",\"iat\":1800000000,\"exp\":9223372036854775808}", false,
	  NULL, "payload" },
	{ "a claim twice", ID, WHO("alice") TIMES ",\"sub\":\"bob\"}", false, NULL, "payload" },
	{ "no sub", ID, "{\"iss\":\"" ISS "\",\"aud\":\"writ\"" TIMES "}", false, NULL, "sub" },
	{ "sub empty", ID, WHO("") TIMES "}", false, NULL, "sub" },
	{ "sub an agent", ID, WHO("spiffe://a.example/agent/1") TIMES "}", false, NULL, "sub" },
	{ "sub with a line break", ID, WHO("a\\nb") TIMES "}", false, NULL, "sub" },
	{ "none", "{\"alg\":\"none\",\"kid\":\"k\"}", GOOD, false, NULL, "alg" },
	{ "HS256", "{\"alg\":\"HS256\",\"kid\":\"k\"}", GOOD, false, NULL, "alg" },
	{ "jku", "{\"alg\":\"EdDSA\",\"jku\":\"https://x\",\"kid\":\"k\"}", GOOD, false, NULL,
	  "jku" },
	{ "crit", "{\"alg\":\"EdDSA\",\"crit\":[\"x\"],\"kid\":\"k\",\"x\":1}", GOOD, false, NULL,
	  "crit" },
	{ "kid with a path", "{\"alg\":\"EdDSA\",\"kid\":\"../../etc/passwd\"}", GOOD, false, NULL,
	  "no key" },
};

static struct {
	EVP_PKEY *key, *ci;
	struct db *db;
	struct attest *attest;
	struct attest_issuer oidc, users;
	struct arena arena;
} w;

static void put_keys(const char *path, EVP_PKEY *key)
{
	unsigned char raw[32];
	size_t n = sizeof(raw);
	FILE *f = fopen(path, "w");
	struct buf x;

	buf_init(&x, mem_system, 64);
	assert_int_equal(EVP_PKEY_get_raw_public_key(key, raw, &n), 1);
	text_base64(&x, BASE64_URL, raw, n);
	assert_non_null(f);
	fprintf(f,
		"{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"k\",\"x\":\"%.*s\"}]}",
		STR_FMT(buf_str(&x)));
	fclose(f);
	buf_clear(&x);
}

static void set_up(void **state)
{
	static const struct db_options options = { .create = true };
	struct attest_config c = { .oidc = &w.oidc,
				   .noidc = 1,
				   .users = &w.users,
				   .nusers = 1,
				   .leeway_s = 30,
				   .refresh_s = 300,
				   .keep_s = 3600 };
	static char users[256], ci[256];
	struct err e = { 0 };

	w.key = forge_key("ED25519");
	w.ci = forge_key("ED25519");
	snprintf(users, sizeof(users), "file:%s", tmp_dir_path(state, "users.json"));
	put_keys(users + 5, w.key);
	snprintf(ci, sizeof(ci), "file:%s", tmp_dir_path(state, "ci.json"));
	put_keys(ci + 5, w.ci);
	w.users = (struct attest_issuer){ .issuer = STR(ISS),
					  .audience = STR("writ"),
					  .jwks = str_c(users),
					  .scopes = STR("crm.read"),
					  .users = true };
	w.oidc = (struct attest_issuer){ .issuer = STR("https://ci.example"),
					 .audience = STR("writ"),
					 .jwks = str_c(ci) };
	arena_init(&w.arena, &mem_system, 1 << 20);
	if (!db_open(tmp_dir_path(state, "writ.db"), &options, &w.db, &e) ||
	    !attest_open(&c, w.db, &w.attest, &e))
		fail_msg("%s", e.msg);
}

static void tear_down(void)
{
	attest_close(w.attest);
	db_close(w.db);
	EVP_PKEY_free(w.key);
	EVP_PKEY_free(w.ci);
	arena_clear(&w.arena);
}

static bool ask(const char *header, const char *payload, EVP_PKEY *key, bool access,
		struct attested_user *out, struct err *e)
{
	struct buf token;
	bool ok;

	arena_reset(&w.arena);
	buf_in_arena(&token, &w.arena, 1 << 16);
	forge_jws(&token, header, payload, "EdDSA", key);
	ok = attest_user(w.attest, buf_str(&token), access, (int64_t)FORGE_NOW * 1000, &w.arena,
			 out, e);
	return ok;
}

static void users_of_the_table(void **state)
{
	set_up(state);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct attested_user u = { 0 };
		struct err e = { 0 };
		bool ok = ask(rows[i].header, rows[i].payload, w.key, rows[i].access, &u, &e);

		if (ok != !rows[i].says || (!ok && !strstr(e.msg, rows[i].says)))
			fail_msg("%s: %s", rows[i].why, ok ? "holds" : e.msg);
		if (!ok && e.class != ERR_UNAUTHENTICATED)
			fail_msg("%s: class %d", rows[i].why, e.class);
		if (ok && (!str_eq(u.subject, STR("alice")) || !str_eq(u.issuer, STR(ISS)) ||
			   !str_eq(u.scope, str_c(rows[i].scope)) || u.expires_s != 1800000300))
			fail_msg("%s: %.*s, scope %.*s", rows[i].why, STR_FMT(u.subject),
				 STR_FMT(u.scope));
	}
	tear_down();
}

/* Keys of one list say nothing in the other, whatever the token calls itself. */
static void issuers_of_jobs_know_no_users(void **state)
{
	struct attested_user u;
	struct err e = { 0 };

	set_up(state);
	assert_false(ask(ID, GOOD, w.ci, false, &u, &e));
	assert_non_null(strstr(e.msg, "signature"));
	tear_down();
}

static void who_may_act_is_handed_on(void **state)
{
	struct attested_user u = { 0 };
	struct err e = { 0 };

	set_up(state);
	if (!ask(ACCESS, WHO("alice") TIMES ",\"may_act\":{\"sub\":\"spiffe://a/b\"}}", w.key, true,
		 &u, &e))
		fail_msg("%s", e.msg);
	assert_true(str_eq(json_get(u.may_act, STR("sub"))->s, STR("spiffe://a/b")));
	assert_true(ask(ID, GOOD, w.key, false, &u, &e));
	assert_null(u.may_act);
	tear_down();
}

#define WITH_FOLDER(f) cmocka_unit_test_setup_teardown(f, tmp_dir_make, tmp_dir_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FOLDER(users_of_the_table),
		WITH_FOLDER(issuers_of_jobs_know_no_users),
		WITH_FOLDER(who_may_act_is_handed_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
