/* ProcessingRequest and ProcessingResponse: the field tables of external_processor.proto
 * (envoy/service/ext_proc/v3) and processing_mode.proto. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "authz/extauthz/ext_proc_message.h"

#define S(text) ((struct str){ text, sizeof(text) - 1 })

static struct buf b;

static void fresh(void)
{
	buf_clear(&b);
	buf_init(&b, mem_system, 1 << 20);
}

static void put_pair(const char *key, uint32_t field, const char *value)
{
	size_t at = pb_begin(&b, 1);

	pb_put_bytes(&b, 1, str_c(key));
	pb_put_bytes(&b, field, str_c(value));
	pb_end(&b, at);
}

/* HttpHeaders: 1 headers { 1 headers: HeaderValue }, 3 end_of_stream. */
static void headers(void **state)
{
	struct proc_request q;
	size_t at, map;
	struct err e;

	(void)state;
	for (uint32_t part = PROC_REQUEST_HEADERS; part <= PROC_RESPONSE_HEADERS; part++) {
		fresh();
		at = pb_begin(&b, part);
		map = pb_begin(&b, 1);
		put_pair(":status", 3, "200");
		put_pair("content-type", 3, "application/json");
		put_pair("content-encoding", 2, "gzip"); /* as older proxies have it */
		put_pair("x-other", 3, "\xff");
		pb_end(&b, map);
		pb_put_u64(&b, 3, 1);
		pb_end(&b, at);
		assert_true(proc_read(buf_str(&b), &q, &e));
		assert_int_equal(q.part, part);
		assert_true(q.end_of_stream && !q.twice && !q.observed && !q.has_mode);
		assert_true(str_eq(q.status, S("200")));
		assert_true(str_eq(q.content_type, S("application/json")));
		assert_true(str_eq(q.content_encoding, S("gzip")));
		assert_false(q.checked.known);
	}
	fresh();
	at = pb_begin(&b, 3);
	map = pb_begin(&b, 1);
	put_pair("content-type", 3, "application/json");
	put_pair("content-type", 3, "text/plain");
	pb_end(&b, map);
	pb_end(&b, at);
	assert_true(proc_read(buf_str(&b), &q, &e));
	assert_true(q.twice && !q.content_encoding.p && !q.end_of_stream);
}

/* HttpBody: 1 body, 2 end_of_stream. */
static void bodies(void **state)
{
	struct proc_request q;
	struct err e;

	(void)state;
	for (uint32_t part = PROC_REQUEST_BODY; part <= PROC_RESPONSE_BODY; part++)
		for (uint64_t last = 0; last < 2; last++) {
			size_t at;

			fresh();
			at = pb_begin(&b, part);
			pb_put_bytes(&b, 1, S("a\0b"));
			pb_put_u64(&b, 2, last);
			pb_end(&b, at);
			assert_true(proc_read(buf_str(&b), &q, &e));
			assert_int_equal(q.part, part);
			assert_true(str_eq(q.body, S("a\0b")));
			assert_int_equal(q.end_of_stream, last);
		}
}

static void put_member(const char *name, const char *value)
{
	size_t entry = pb_begin(&b, 1), at;

	pb_put_bytes(&b, 1, str_c(name));
	at = pb_begin(&b, 2);
	pb_put_bytes(&b, 3, str_c(value));
	pb_end(&b, at);
	pb_end(&b, entry);
}

static void put_namespace(const char *name, const char *list)
{
	size_t entry = pb_begin(&b, 1), at;

	pb_put_bytes(&b, 1, str_c(name));
	at = pb_begin(&b, 2);
	put_member("decision_id", "ev_1");
	put_member("agent", "spiffe://example.org/a");
	put_member("list", list);
	put_member("server", "files");
	put_member("rpc_id", "7");
	put_member("style", "jsonrpc");
	pb_end(&b, at);
	pb_end(&b, entry);
}

/* 8 metadata_context, 10 observability_mode, 11 protocol_config { 2 response_body_mode }. */
static void around_it(void **state)
{
	struct proc_request q;
	struct err e;
	size_t at;

	(void)state;
	fresh();
	pb_put_bytes(&b, 2, S(""));
	at = pb_begin(&b, 8);
	put_namespace("envoy.filters.http.ext_authz", "tools/list");
	put_namespace("envoy.filters.http.lua", "forged");
	pb_end(&b, at);
	pb_put_bytes(&b, 9, S("\xff")); /* attributes: not looked into */
	at = pb_begin(&b, 11);
	pb_put_u64(&b, 1, 1);
	pb_put_u64(&b, 2, 2);
	pb_end(&b, at);
	pb_put_u64(&b, 99, 1);
	assert_true(proc_read(buf_str(&b), &q, &e));
	assert_true(q.checked.known && q.has_mode);
	assert_int_equal(q.response_body_mode, PROC_BODY_BUFFERED);
	assert_true(str_eq(q.checked.decisions, S("ev_1")));
	assert_true(str_eq(q.checked.agent, S("spiffe://example.org/a")));
	assert_true(str_eq(q.checked.list, S("tools/list")));
	assert_true(str_eq(q.checked.server, S("files")));
	assert_true(str_eq(q.checked.rpc_id, S("7")));
	assert_true(str_eq(q.checked.style, S("jsonrpc")));
	pb_put_u64(&b, 10, 1);
	assert_true(proc_read(buf_str(&b), &q, &e) && q.observed);
	fresh();
	pb_put_u64(&b, 1, 1); /* async_mode, before observability_mode */
	pb_put_bytes(&b, 7, S(""));
	assert_true(proc_read(buf_str(&b), &q, &e) && q.observed);
	assert_int_equal(q.part, PROC_RESPONSE_TRAILERS);
}

static const struct {
	const char *why;
	struct str message;
} bad[] = {
	{ "nothing", STR_INIT("") },
	{ "two parts", STR_INIT("\x12\x00\x1a\x00") },
	{ "one part twice", STR_INIT("\x12\x00\x12\x00") },
	{ "headers that are a number", STR_INIT("\x10\x01") },
	{ "a body that is a number", STR_INIT("\x2a\x02\x08\x01") },
	{ "cut off", STR_INIT("\x2a\x05\x0a") },
	{ "metadata that is cut off", STR_INIT("\x12\x00\x42\x02\x0a\x05") },
	{ "no metadata", STR_INIT("\x12\x00\x40\x01") },
};

static void malformed(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct proc_request q;
		struct err e = { 0 };

		if (proc_read(bad[i].message, &q, &e))
			fail_msg("%s: taken", bad[i].why);
		assert_string_equal(e.code, "invalid_message");
	}
}

static void is_written(const char *why, struct str wanted)
{
	if (!buf_ok(&b) || !str_eq(buf_str(&b), wanted))
		fail_msg("%s", why);
}

/* ProcessingResponse: 1 to 6 answer 2 to 7, 7 immediate_response. */
static void answers(void **state)
{
	(void)state;
	for (uint32_t part = PROC_REQUEST_HEADERS; part <= PROC_RESPONSE_TRAILERS; part++) {
		const bool trailers = part >= PROC_REQUEST_TRAILERS;
		char text[4] = { (char)((part - 1) << 3 | 2), trailers ? 0 : 2, 0x0a, 0 };

		fresh();
		proc_put_continue(&b, (enum proc_part)part);
		is_written("continue", (struct str){ text, trailers ? 2 : 4 });
	}
	fresh();
	proc_put_plain(&b); /* request_headers 1, response 1, header_mutation 2, remove_headers 2 */
	is_written("plain", S("\x0a\x15\x0a\x13\x12\x11\x12\x0f"
			      "accept-encoding"));
	fresh();
	proc_put_body(&b, S("[]"));
	assert_true(memmem(b.p, b.n,
			   "\x0a\x0e"
			   "content-length\x1a\x01"
			   "2",
			   19));
	assert_true(memmem(b.p, b.n, "\x12\x00\x18\x02", 4)); /* overwrite, old and new */
	assert_true(memmem(b.p, b.n,
			   "\x12\x04"
			   "etag",
			   6));
	assert_true(memmem(b.p, b.n, "\x1a\x04\x0a\x02[]", 6)); /* body_mutation 3, body 1 */
	fresh();
	proc_put_immediate(&b, 405, S("r"), S("{}"));
	assert_true(str_starts(buf_str(&b), S("\x3a")));
	assert_true(memmem(b.p, b.n, "\x0a\x03\x08\x95\x03", 5)); /* status 1, code 1 */
	assert_true(memmem(b.p, b.n, "\x1a\x02{}\x2a\x01r", 7));
	assert_true(memmem(b.p, b.n,
			   "\x0a\x05"
			   "allow\x1a",
			   8));
	buf_clear(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(headers),   cmocka_unit_test(bodies),	cmocka_unit_test(around_it),
		cmocka_unit_test(malformed), cmocka_unit_test(answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
