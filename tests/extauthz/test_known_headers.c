/* Headers by number: each known name is found and no other, and an index says what a search would.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "authz/extauthz/known_headers.h"
#include "tests/extauthz/traffic_help.h"

static void each_name_is_its_own(void **state)
{
	char other[64];

	(void)state;
	for (int h = HEADER_OTHER + 1; h < HEADERS; h++) {
		struct str name = header_names[h];

		if (header_of(name) != (enum header)h)
			fail_msg("%.*s is not found", STR_FMT(name));
		if (str_cmp(header_names[h - 1], name) >= 0)
			fail_msg("%.*s is not in order", STR_FMT(name));
		for (size_t i = 0; i < name.n; i++) {
			memcpy(other, name.p, name.n);
			other[i] = '!';
			if (header_of((struct str){ other, name.n }) != HEADER_OTHER ||
			    header_of((struct str){ other, i }) == (enum header)h)
				fail_msg("%.*s is %.*s", (int)name.n, other, STR_FMT(name));
		}
	}
	assert_int_equal(header_of((struct str){ NULL, 0 }), HEADER_OTHER);
	memset(other, 'x', sizeof(other));
	for (size_t n = 1; n <= sizeof(other); n++)
		assert_int_equal(header_of((struct str){ other, n }), HEADER_OTHER);
}

static void an_index_says_what_stands_where(void **state)
{
	const struct http_header all[] = {
		{ STR_INIT("x-other"), STR_INIT("1") },
		{ STR_INIT("host"), STR_INIT("a") },
		{ STR_INIT("x-writ-mine"), STR_INIT("2") },
		{ STR_INIT("accept"), { NULL, 0 } },
		{ STR_INIT("host"), STR_INIT("b") },
		{ STR_INIT("x-writ-agent"), STR_INIT("3") },
		{ STR_INIT("host"), STR_INIT("c") },
		{ { NULL, 0 }, STR_INIT("4") },
	};
	struct header_index index;

	(void)state;
	header_index(&index, all, ARRAY_LEN(all));
	assert_true(index.there == (HEADER_BIT(HEADER_HOST) | HEADER_BIT(HEADER_ACCEPT)));
	assert_true(index.twice == HEADER_BIT(HEADER_HOST));
	assert_true(str_eq(header_first(&index, HEADER_HOST), STR("a")));
	assert_non_null(header_first(&index, HEADER_ACCEPT).p);
	assert_int_equal(header_first(&index, HEADER_ACCEPT).n, 0);
	assert_null(header_first(&index, HEADER_ORIGIN).p);
	assert_int_equal(index.forged, 1);
	assert_false(index.other_mcp);
	header_index(&index, &(struct http_header){ STR_INIT("mcp-param-x"), STR_INIT("1") }, 1);
	assert_true(index.other_mcp);
	header_index(&index, NULL, 0);
	assert_true(!index.there && !index.twice && !index.forged && !index.other_mcp);
}

/* What policies see of the headers is the same whether they are taken out of the index or, as
 * where one stands twice or is not known, looked for. */
static const struct {
	const char *why, *headers, *seen;
} shown[] = {
	{ "none", "", "{}" },
	{ "nothing to show", "x-other: 1\nauthorization: Bearer x\nmcp-session-id: s\n", "{}" },
	{ "in an order of their own",
	  "user-agent: u\norigin: o\nmcp-protocol-version: 2025-06-18\ncontent-type: text/plain\n"
	  "accept: a\n",
	  "{\"accept\":\"a\",\"content-type\":\"text/plain\",\"mcp-protocol-version\":"
	  "\"2025-06-18\",\"origin\":\"o\",\"user-agent\":\"u\"}" },
	{ "an empty one", "accept: \n", "{\"accept\":\"\"}" },
	{ "all",
	  "x-goog-user-project: 1\nuser-agent: 2\norigin: 3\nopenai-project: 4\n"
	  "openai-organization: 5\nopenai-beta: 6\nmcp-protocol-version: 2025-06-18\nmcp-name: 8\n"
	  "mcp-method: 9\ncontent-type: 10\ncontent-encoding: identity\nanthropic-version: 12\n"
	  "anthropic-beta: 13\naccept: 14\na2a-version: 15\na2a-extensions: 16\n",
	  "{\"a2a-extensions\":\"16\",\"a2a-version\":\"15\",\"accept\":\"14\","
	  "\"anthropic-beta\":\"13\",\"anthropic-version\":\"12\",\"content-encoding\":\"identity\","
	  "\"content-type\":\"10\",\"mcp-method\":\"9\",\"mcp-name\":\"8\","
	  "\"mcp-protocol-version\":\"2025-06-18\",\"openai-beta\":\"6\","
	  "\"openai-organization\":\"5\",\"openai-project\":\"4\",\"origin\":\"3\","
	  "\"user-agent\":\"2\",\"x-goog-user-project\":\"1\"}" },
};

/* @looked_for: because there is one more, which is taken out of what was seen again. */
static void see(const char *why, const char *headers, bool looked_for, const char *seen)
{
	const struct json *object;
	struct json rest;
	struct traffic out;
	struct arena a;
	struct err e;
	AUTO_BUF text = { 0 };
	AUTO_BUF got = { 0 };
	AUTO_BUF again = { 0 };

	arena_init(&a, &mem_system, 1 << 20);
	buf_init(&text, mem_system, 4096);
	buf_init(&got, mem_system, 4096);
	buf_init(&again, mem_system, 4096);
	buf_printf(&text, "GET /a\n%s%s", looked_for ? "mcp-zz: 1\n" : "", headers);
	buf_char(&text, '\0');
	if (!traffic_read(traffic_request_of(why, "protocol=http", text.p, &a),
			  &json_default_limits, &a, &out, &e))
		fail_msg("%s: %s", why, e.msg);
	json_canonical(&got, out.http);
	if (!json_parse(buf_str(&got), &json_default_limits, &a, &object, &e))
		fail_msg("%s: %s", why, e.msg);
	json_canonical(&again, object);
	assert_true(str_eq(buf_str(&again), buf_str(&got)));
	buf_reset(&got);
	object = json_get(out.http, STR("headers"));
	if (looked_for) {
		struct json *items = arena_alloc(&a, object->n * sizeof(*items));

		rest = *object;
		rest.n = 0;
		rest.items = items;
		for (uint32_t i = 0; i < object->n; i++)
			if (!str_eq(object->items[i].name, STR("mcp-zz")))
				items[rest.n++] = object->items[i];
		assert_int_equal(rest.n, object->n - 1);
		object = &rest;
	}
	json_canonical(&got, object);
	if (!str_eq(buf_str(&got), str_c(seen)))
		fail_msg("%s: %.*s", why, STR_FMT(buf_str(&got)));
	arena_clear(&a);
}

static void both_ways_show_the_same(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(shown); i++)
		for (int looked_for = 0; looked_for < 2; looked_for++)
			see(shown[i].why, shown[i].headers, looked_for, shown[i].seen);
	see("twice", "accept: a\norigin: o\naccept: b\n", false,
	    "{\"accept\":\"a, b\",\"origin\":\"o\"}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_name_is_its_own),
		cmocka_unit_test(an_index_says_what_stands_where),
		cmocka_unit_test(both_ways_show_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
