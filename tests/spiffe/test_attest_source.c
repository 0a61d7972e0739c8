/* Keys that are fetched: where discovery leads, when a fetch is due, how long keys are worth
 * something. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#include "spiffe/attest_source.h"
#include "tests/fault/tmp_dir.h"

#define NOW 1800000000000LL
#define SECOND 1000000000LL
#define KEY(kid)                                                    \
	"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"" kid "\"," \
	"\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}"
#define ONE "{\"keys\":[" KEY("a") "]}"
#define TWO "{\"keys\":[" KEY("a") "," KEY("b") "]}"

static const struct {
	const char *issuer, *url;
} urls[] = {
	/* Discovery 4.1: a final slash goes before the path is put behind. */
	{ "https://a.b", "https://a.b/.well-known/openid-configuration" },
	{ "https://a.b/", "https://a.b/.well-known/openid-configuration" },
	{ "https://a.b/c/d", "https://a.b/c/d/.well-known/openid-configuration" },
	{ "https://a.b/c/", "https://a.b/c/.well-known/openid-configuration" },
};

static const struct {
	const char *document, *says; /* no says: read, to https://a.b/keys */
} documents[] = {
	{ "{\"issuer\":\"https://a.b\",\"jwks_uri\":\"https://a.b/keys\"}", NULL },
	{ "{\"x\":[1,{}],\"jwks_uri\":\"https://a.b/keys\",\"issuer\":\"https://a.b\"}", NULL },
	{ "{\"issuer\":\"https://a.b/\",\"jwks_uri\":\"https://a.b/keys\"}", "not the configured" },
	{ "{\"issuer\":\"https://A.b\",\"jwks_uri\":\"https://a.b/keys\"}", "not the configured" },
	{ "{\"jwks_uri\":\"https://a.b/keys\"}", "expected an object" },
	{ "{\"issuer\":\"https://a.b\"}", "expected an object" },
	{ "{\"issuer\":[\"https://a.b\"],\"jwks_uri\":\"https://a.b/keys\"}",
	  "expected an object" },
	{ "{\"issuer\":\"https://a.b\",\"issuer\":\"https://a.b\",\"jwks_uri\":\"https://a.b/keys\"}",
	  "discovery document: " },
	{ "[]", "expected an object" },
	{ "", "discovery document: " },
	{ "<html>", "discovery document: " },
};

static void discovery(void **state)
{
	char url[FETCH_URL_MAX + 1], long_one[FETCH_URL_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
		assert_true(attest_discovery_url(str_c(urls[i].issuer), url));
		assert_string_equal(url, urls[i].url);
	}
	memset(long_one, 'a', sizeof(long_one));
	assert_false(attest_discovery_url((struct str){ long_one, sizeof(long_one) }, url));
	for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
		struct err e = { 0 };
		bool ok = attest_discovery_read(str_c(documents[i].document), STR("https://a.b"),
						url, &e);

		if (ok != !documents[i].says || (!ok && !strstr(e.msg, documents[i].says)))
			fail_msg("%s: %s", documents[i].document, e.msg);
		if (ok)
			assert_string_equal(url, "https://a.b/keys");
		else
			assert_string_equal(e.code, "invalid_discovery");
	}
}

struct world {
	struct db *db;
	struct attest *attest;
	struct attest_source *source;
};

static void world_open(struct world *w, void **state, const char *jwks)
{
	static struct attest_issuer issuer;
	static const struct db_options options = { .create = true };
	struct attest_config c = {
		.oidc = &issuer, .noidc = 1, .leeway_s = 30, .refresh_s = 300, .keep_s = 3600
	};
	struct err e = { 0 };

	issuer = (struct attest_issuer){ .issuer = STR("https://a.b"),
					 .audience = STR("writ"),
					 .jwks = str_c(jwks) };
	if (!db_open(tmp_dir_path(state, "writ.db"), &options, &w->db, &e) ||
	    !attest_open(&c, w->db, &w->attest, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(attest_sources(w->attest), 1);
	w->source = attest_source_at(w->attest, 0);
}

static void world_close(struct world *w)
{
	attest_close(w->attest);
	db_close(w->db);
}

static bool take(struct world *w, const char *document, int64_t now_ms)
{
	struct attest_news news;
	struct err e = { 0 };
	bool changed;

	if (!attest_source_look(w->attest, w->source, str_c(document), &news, &e))
		fail_msg("%s", e.msg);
	changed = news.changed;
	if (!attest_source_take(w->attest, w->source, &news, str_c(document), now_ms, &e))
		fail_msg("%s", e.msg);
	return changed;
}

static enum attest_source_state at(const struct world *w, int64_t ms)
{
	return attest_source_state(w->attest, w->source, ms);
}

static void kept_over_a_restart_but_not_for_ever(void **state)
{
	struct attest_news news;
	struct err e = { 0 };
	struct world w;

	world_open(&w, state, "https://a.b/keys");
	assert_int_equal(at(&w, NOW), SOURCE_NONE);
	assert_true(take(&w, ONE, NOW));
	assert_false(take(&w, ONE, NOW + 1000)); /* confirmed */
	assert_true(take(&w, TWO, NOW + 2000));
	assert_false(attest_source_look(w.attest, w.source, STR("{\"keys\":[]}"), &news, &e));
	assert_string_equal(e.code, "invalid_jwks");
	world_close(&w);

	world_open(&w, state, "https://a.b/keys");
	assert_int_equal(jwks_count(w.source->keys), 2);
	assert_int_equal(at(&w, NOW + 2000 + 900000), SOURCE_FRESH);
	assert_int_equal(at(&w, NOW + 2001 + 900000), SOURCE_STALE);
	assert_int_equal(at(&w, NOW + 2000 + 3600000), SOURCE_STALE);
	assert_int_equal(at(&w, NOW + 2001 + 3600000), SOURCE_EXPIRED);
	assert_false(take(&w, TWO, NOW + 9000000)); /* the same keys, confirmed at last */
	assert_int_equal(at(&w, NOW + 9000000), SOURCE_FRESH);
	world_close(&w);

	world_open(&w, state,
		   "https://elsewhere.b/keys"); /* of another source nothing is taken over */
	assert_int_equal(at(&w, NOW + 9000000), SOURCE_NONE);
	world_close(&w);

	world_open(&w, state, "https://a.b/keys");
	assert_int_equal(at(&w, NOW + 9000000), SOURCE_FRESH);
	assert_true(attest_refresh(w.attest, NOW + 9000001 + 3600000, &e));
	world_close(&w);
	world_open(&w, state, "https://a.b/keys"); /* too old to be worth a place on disk */
	assert_int_equal(at(&w, NOW), SOURCE_NONE);
	world_close(&w);
}

static void one_early_fetch_a_minute(void **state)
{
	struct world w;
	int64_t t = 1000 * SECOND;

	world_open(&w, state, ATTEST_DISCOVER);
	assert_true(attest_source_due(w.source, t));
	assert_false(attest_source_due(w.source, t)); /* under way */
	w.source->busy = false;
	w.source->next_ns = t + 300 * SECOND;
	assert_false(attest_source_due(w.source, t + SECOND));
	w.source->wanted = true;
	assert_true(attest_source_due(w.source, t + SECOND));
	w.source->busy = false;
	for (int64_t s = 2; s <= 60; s++) { /* tokens with made-up key ids, one after the other */
		w.source->wanted = true;
		assert_false(attest_source_due(w.source, t + s * SECOND));
	}
	assert_true(attest_source_due(w.source, t + 61 * SECOND));
	w.source->busy = false;
	assert_false(attest_source_due(w.source, t + 200 * SECOND)); /* nobody asks */
	w.source->wanted = true;
	w.source->early_ns = t + 400 * SECOND;
	assert_true(attest_source_due(w.source, t + 300 * SECOND)); /* due anyway */
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(discovery),
		cmocka_unit_test_setup_teardown(kept_over_a_restart_but_not_for_ever, tmp_dir_make,
						tmp_dir_remove),
		cmocka_unit_test_setup_teardown(one_early_fetch_a_minute, tmp_dir_make,
						tmp_dir_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
