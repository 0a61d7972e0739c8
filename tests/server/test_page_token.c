/* Page tokens: they say where to go on, to the one who got them, for what was asked, for a while.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>

#include "authz/base/text.h"
#include "authz/server/page_token.h"

#define NOW 1700000000000

static const uint8_t key[32] = { 1, 2, 3 }, other_key[32] = { 1, 2, 4 };
static const uint8_t request[SHA256_LEN] = { 9 }, other_request[SHA256_LEN] = { 8 };

static struct arena arena;
static struct sha256 *sha;

static int start(void **state)
{
	(void)state;
	arena_init(&arena, &mem_system, 1 << 20);
	sha = sha256_new(NULL);
	return sha ? 0 : -1;
}

static int stop(void **state)
{
	(void)state;
	arena_clear(&arena);
	sha256_free(sha);
	return 0;
}

static struct str token(struct str after, uint32_t limit)
{
	struct page_token t = { NOW + PAGE_TOKEN_MS, limit, after };
	struct buf b;

	buf_in_arena(&b, &arena, 2 * PAGE_TOKEN_TEXT);
	page_token_write(&b, &t, key, request, sha);
	return buf_ok(&b) ? buf_str(&b) : (struct str){ NULL, 0 };
}

static void reads_what_was_written(void **state)
{
	static const struct {
		const char *after;
		uint32_t limit;
	} rows[] = {
		{ "", 0 },
		{ "a", 1 },
		{ "spiffe://example.org/agent/7", 4294967295 },
		{ "t\xc3\xb6ol/\x01", 65536 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct str text = token(str_c(rows[i].after), rows[i].limit);
		struct page_token t = { 0 };
		struct err e = { 0 };

		if (!page_token_read(text, key, request, sha, NOW, &arena, &t, &e))
			fail_msg("row %zu: %s", i, e.msg);
		assert_true(str_eq(t.after, str_c(rows[i].after)));
		assert_int_equal(t.limit, rows[i].limit);
		assert_int_equal(t.expires_ms, NOW + PAGE_TOKEN_MS);
		for (size_t k = 0; k < text.n; k++) /* it travels in JSON, and in URLs */
			assert_non_null(memchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwx"
					       "yz0123456789-_",
					       text.p[k], 64));
	}
}

static void refused(const char *why, struct str text, const uint8_t *k, const uint8_t *q,
		    int64_t now, const char *part)
{
	struct page_token t = { .limit = 77 };
	struct err e = { 0 };

	if (page_token_read(text, k, q, sha, now, &arena, &t, &e))
		fail_msg("%s: accepted", why);
	if (e.class != ERR_INVALID || strcmp(e.code, "invalid_page_token") != 0 ||
	    !strstr(e.msg, part))
		fail_msg("%s: %s %s", why, e.code, e.msg);
	assert_int_equal(t.limit, 77);
}

static void refuses_all_others(void **state)
{
	struct str good = token(STR("spiffe://example.org/agent/7"), 2);
	char text[PAGE_TOKEN_TEXT];

	(void)state;
	refused("other key", good, other_key, request, NOW, "another search");
	refused("other request", good, key, other_request, NOW, "another search");
	refused("too old", good, key, request, NOW + PAGE_TOKEN_MS + 1, "expired");
	refused("empty", STR(""), key, request, NOW, "none of ours");
	refused("words", STR("next page please"), key, request, NOW, "none of ours");
	refused("padding", STR("AQ=="), key, request, NOW, "none of ours");
	refused("short", STR("AQAA"), key, request, NOW, "none of ours");
	memset(text, 'A', sizeof(text));
	refused("other version", (struct str){ text, 200 }, key, request, NOW, "none of ours");
	text[1] = 'Q';
	refused("made up", (struct str){ text, 200 }, key, request, NOW, "another search");
	refused("full length", (struct str){ text, sizeof(text) }, key, request, NOW, "another");
	for (size_t n = 0; n < good.n; n++)
		refused("cut", str_first(good, n), key, request, NOW, "");
	for (size_t i = 0; i < good.n; i++) {
		memcpy(text, good.p, good.n);
		text[i] = text[i] == 'B' ? 'C' : 'B';
		refused("altered", (struct str){ text, good.n }, key, request, NOW, "");
	}
}

static void a_name_too_long_is_no_token(void **state)
{
	char name[PAGE_TOKEN_TEXT];

	(void)state;
	memset(name, 'a', sizeof(name));
	assert_non_null(token((struct str){ name, 2048 }, 1).p);
	assert_null(token((struct str){ name, sizeof(name) }, 1).p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_was_written),
		cmocka_unit_test(refuses_all_others),
		cmocka_unit_test(a_name_too_long_is_no_token),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
