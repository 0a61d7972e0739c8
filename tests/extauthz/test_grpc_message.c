/* CheckRequest and CheckResponse: the field tables and error paths of the fact sheet ext-authz 3 to
 * 6, 14. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "authz/base/protobuf.h"
#include "authz/extauthz/grpc_message.h"

#define S(text) ((struct str){ text, sizeof(text) - 1 })

/* ---- building requests ---- */

/* "1/4/2" opens messages; a call ends them again. */
static struct buf in_path(const uint32_t *path, size_t n, struct str inside)
{
	struct buf b;
	size_t at[8];

	buf_init(&b, mem_system, 1 << 24);
	for (size_t i = 0; i < n; i++)
		at[i] = pb_begin(&b, path[i]);
	buf_add(&b, inside);
	while (n--)
		pb_end(&b, at[n]);
	assert_true(buf_ok(&b));
	return b;
}

static void put_pair(struct buf *b, uint32_t field, struct str name, struct str value,
		     uint32_t value_field)
{
	size_t at = pb_begin(b, field);

	pb_put_bytes(b, 1, name);
	pb_put_bytes(b, value_field, value);
	pb_end(b, at);
}

static bool read_it(struct str message, struct arena *a, struct grpc_described *d, struct err *e)
{
	arena_init(a, &mem_system, 1 << 24);
	return grpc_message_read(message, a, d, e);
}

/* Read what stands in attributes.request.http. */
static bool read_http(struct str http, struct arena *a, struct grpc_described *d, struct err *e)
{
	static const uint32_t path[] = { 1, 4, 2 };
	static struct buf b; /* what is read points into it */
	bool ok;

	buf_clear(&b);
	b = in_path(path, 3, http);
	ok = read_it(buf_str(&b), a, d, e);
	return ok;
}

static struct buf fresh(void)
{
	struct buf b;

	buf_init(&b, mem_system, 1 << 24);
	return b;
}

/* ---- the tables of the sheet ---- */

static void every_field(void **state)
{
	struct buf m = fresh();
	size_t attributes = pb_begin(&m, 1), at, inside;
	struct grpc_described d;
	struct arena a;
	struct err e;

	(void)state;
	at = pb_begin(&m, 1); /* source: address, service, principal, certificate */
	inside = pb_begin(&m, 1);
	pb_end(&m, inside);
	pb_put_text(&m, 2, S("spiffe://example.org/agent/forged"));
	pb_put_text(&m, 4, S("spiffe://example.org/agent/a"));
	pb_put_text(&m, 5, S("-----BEGIN%20"));
	pb_end(&m, at);
	at = pb_begin(&m, 2); /* destination: its principal is not the client's */
	pb_put_text(&m, 4, S("spiffe://example.org/gateway"));
	pb_end(&m, at);
	at = pb_begin(&m, 4);
	inside = pb_begin(&m, 1); /* time */
	pb_end(&m, inside);
	inside = pb_begin(&m, 2);
	pb_put_text(&m, 1, S("17"));
	pb_put_text(&m, 2, S("POST"));
	put_pair(&m, 3, S(":method"), S("DELETE"), 2);
	put_pair(&m, 3, S("content-type"), S("application/json"), 2);
	pb_put_text(&m, 4, S("/mcp?x=1"));
	pb_put_text(&m, 5, S("files.example"));
	pb_put_text(&m, 6, S("https"));
	pb_put_text(&m, 7, S("ignored=1"));
	pb_put_text(&m, 8, S("ignored"));
	pb_put_u64(&m, 9, 4);
	pb_put_text(&m, 10, S("HTTP/2"));
	pb_put_bytes(&m, 12,
		     S("a\0\xff"
		       "b"));
	pb_put_u64(&m, 99, 1); /* a newer proxy's */
	pb_end(&m, inside);
	pb_end(&m, at);
	put_pair(&m, 10, S("protocol"), S("mcp"), 2);
	put_pair(&m, 10, S("server"), S("files"), 2);
	pb_put_bytes(&m, 11, S("\x0a\x00"));
	pb_put_bytes(&m, 14, S("\xff\xff")); /* unknown: not looked into */
	pb_end(&m, attributes);
	pb_put_bytes(&m, 7, S("new"));

	assert_true(read_it(buf_str(&m), &a, &d, &e));
	assert_true(d.http);
	assert_true(str_eq(d.principal, S("spiffe://example.org/agent/a")));
	assert_true(str_eq(d.certificate, S("-----BEGIN%20")));
	assert_true(str_eq(d.method, S("POST")));
	assert_true(str_eq(d.target, S("/mcp?x=1")));
	assert_true(str_eq(d.host, S("files.example")));
	assert_true(str_eq(d.scheme, S("https")));
	assert_true(str_eq(d.body, S("a\0\xff"
				     "b")));
	assert_false(d.body_as_text);
	assert_int_equal(d.size, 4);
	assert_int_equal(d.nheaders, 1);
	assert_true(str_eq(d.headers[0].name, S("content-type")));
	assert_true(str_eq(d.headers[0].value, S("application/json")));
	assert_int_equal(d.nsettings, 2);
	assert_true(str_eq(d.settings[0].name, S("protocol")));
	assert_true(str_eq(d.settings[1].value, S("files")));
	arena_clear(&a);
	buf_clear(&m);
}

static void header_map(void **state)
{
	struct buf h = fresh();
	struct grpc_described d;
	struct arena a;
	struct err e;
	size_t at;

	(void)state;
	put_pair(&h, 3, S("x-a"), S("1"), 2);
	at = pb_begin(&h, 13);
	put_pair(&h, 1, S(":path"), S("/other"), 3);
	put_pair(&h, 1, S("x-b"), S("2"), 3);
	put_pair(&h, 1, S("x-b"), S("\xff"), 3);
	put_pair(&h, 1, S("x-c"), S("3"), 2);
	pb_end(&h, at);
	assert_true(read_http(buf_str(&h), &a, &d, &e));
	assert_int_equal(d.nheaders, 4); /* both forms, order and duplicates kept */
	assert_true(str_eq(d.headers[0].name, S("x-a")));
	assert_true(str_eq(d.headers[1].value, S("2")));
	assert_true(str_eq(d.headers[2].value, S("\xff")));
	assert_true(str_eq(d.headers[3].value, S("3")));
	arena_clear(&a);
	buf_clear(&h);
}

static void bodies(void **state)
{
	static const struct {
		struct str text, raw;
		bool both, ok, as_text;
		struct str body;
	} rows[] = {
		{ STR_INIT("{}"), STR_INIT(""), false, true, true, STR_INIT("{}") },
		{ STR_INIT(""), STR_INIT("{}"), false, true, false, STR_INIT("{}") },
		{ STR_INIT("{}"), STR_INIT("{}"), true, true, false, STR_INIT("{}") },
		{ STR_INIT("{}"), STR_INIT(""), true, true, true, STR_INIT("{}") },
		{ STR_INIT("[]"), STR_INIT("{}"), true, false, false, STR_INIT("") },
		{ STR_INIT(""), STR_INIT(""), false, true, false, STR_INIT("") },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf h = fresh();
		struct grpc_described d;
		struct arena a;
		struct err e;
		bool ok;

		if (rows[i].text.n || rows[i].both)
			pb_put_bytes(&h, 11, rows[i].text);
		if (rows[i].raw.n || rows[i].both)
			pb_put_bytes(&h, 12, rows[i].raw);
		ok = read_http(buf_str(&h), &a, &d, &e);
		if (ok != rows[i].ok ||
		    (ok && (!str_eq(d.body, rows[i].body) || d.body_as_text != rows[i].as_text)))
			fail_msg("row %d", (int)i);
		arena_clear(&a);
		buf_clear(&h);
	}
}

static void sizes(void **state)
{
	struct buf h = fresh();
	struct grpc_described d;
	struct arena a;
	struct err e;

	(void)state;
	pb_put_i64(&h, 9, -1); /* agentgateway: the body was cut */
	assert_true(read_http(buf_str(&h), &a, &d, &e));
	assert_int_equal(d.size, -1);
	arena_clear(&a);
	buf_clear(&h);
}

static void not_http(void **state)
{
	struct grpc_described d;
	struct arena a;
	struct err e;

	(void)state;
	assert_true(read_it(S("\x0a\x00"), &a, &d, &e)); /* attributes, empty: TCP */
	assert_false(d.http);
	arena_clear(&a);
	assert_true(read_it(S("\x0a\x02\x22\x00"), &a, &d, &e)); /* a request without http */
	assert_false(d.http);
	arena_clear(&a);
}

/* ---- what is refused ---- */

static void malformed(void **state)
{
	static const struct {
		const char *why;
		struct str message;
		const char *says;
	} rows[] = {
		{ "empty", STR_INIT(""), "no attributes" },
		{ "without attributes", STR_INIT("\x10\x01"), "no attributes" },
		{ "cut off", STR_INIT("\x0a\x05\x0a"), "CheckRequest" },
		{ "attributes that are a number", STR_INIT("\x08\x01"), "CheckRequest" },
		{ "attributes twice", STR_INIT("\x0a\x00\x0a\x00"), "twice" },
		{ "source twice", STR_INIT("\x0a\x04\x0a\x00\x0a\x00"), "twice" },
		{ "request twice", STR_INIT("\x0a\x04\x22\x00\x22\x00"), "twice" },
		{ "http twice", STR_INIT("\x0a\x06\x22\x04\x12\x00\x12\x00"), "twice" },
		{ "a group", STR_INIT("\x0b\x0c"), "CheckRequest" },
		{ "field 0", STR_INIT("\x02\x00"), "CheckRequest" },
		{ "an overlong varint", STR_INIT("\x0a\x80\x00"), "CheckRequest" },
		{ "a principal that is not UTF-8", STR_INIT("\x0a\x05\x0a\x03\x22\x01\xff"),
		  "UTF-8" },
		{ "a method that is not UTF-8", STR_INIT("\x0a\x07\x22\x05\x12\x03\x12\x01\xff"),
		  "UTF-8" },
		{ "a setting twice",
		  STR_INIT("\x0a\x0e\x52\x05\x0a\x01"
			   "a"
			   "\x12\x00\x52\x05\x0a\x01"
			   "a"
			   "\x12\x00"),
		  "context_extensions" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct grpc_described d;
		struct arena a;
		struct err e;

		if (read_it(rows[i].message, &a, &d, &e))
			fail_msg("%s: read", rows[i].why);
		if (e.class != ERR_INVALID || strcmp(e.code, "invalid_message") != 0 ||
		    !strstr(e.msg, rows[i].says))
			fail_msg("%s: %s %s", rows[i].why, e.code, e.msg);
		arena_clear(&a);
	}
}

static void bad_headers(void **state)
{
	enum { PLAIN, MAP, LONGER, FORMS };
	static const struct {
		struct str name, value;
		bool ok;
	} rows[] = {
		{ STR_INIT("x-a"), STR_INIT("tab\there"), true },
		{ STR_INIT("x_a.b~c!d"), STR_INIT("1"), true }, /* a token, though no usual one */
		{ STR_INIT("x-a-name-of-more-than-sixteen"), STR_INIT("1"), true },
		{ STR_INIT("x-a-name-of-more-than-sixteeN"), STR_INIT("1"), false },
		{ STR_INIT("X-a-name-of-more-than-sixteen"), STR_INIT("1"), false },
		{ STR_INIT("x-a"), STR_INIT("\x80\xff"), true },
		{ STR_INIT(":anything"), STR_INIT("\n"), true }, /* left out */
		{ STR_INIT("x-a"), STR_INIT("a\0b"), false },
		{ STR_INIT("x-a"), STR_INIT("a\r\nb: c"), false },
		{ STR_INIT("x-a"), STR_INIT("\x7f"), false },
		{ STR_INIT("X-A"), STR_INIT("1"), false },
		{ STR_INIT("x a"), STR_INIT("1"), false },
		{ STR_INIT("x:a"), STR_INIT("1"), false },
		{ STR_INIT("x\0a"), STR_INIT("1"), false },
		{ STR_INIT(""), STR_INIT("1"), false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (int form = PLAIN; form < FORMS; form++) {
			bool raw = form == MAP;
			struct buf h = fresh();
			struct grpc_described d;
			struct arena a;
			struct err e = { 0 };
			size_t at = raw ? pb_begin(&h, 13) : 0;

			put_pair(&h, raw ? 1 : 3, rows[i].name, rows[i].value, raw ? 3 : 2);
			if (raw)
				pb_end(&h, at);
			if (form == LONGER) { /* an entry with a field that is not known */
				pb_put_u64(&h, 7, 1);
				h.p[1] = (char)(h.p[1] + 2);
			}
			if (read_http(buf_str(&h), &a, &d, &e) != rows[i].ok ||
			    (!rows[i].ok && strcmp(e.code, "invalid_header") != 0))
				fail_msg("row %d: %s", (int)i, e.msg);
			arena_clear(&a);
			buf_clear(&h);
		}
}

static void too_many(void **state)
{
	for (size_t n = GRPC_HEADERS_MAX; n <= GRPC_HEADERS_MAX + 1; n++) {
		struct buf h = fresh();
		struct grpc_described d;
		struct arena a;
		struct err e;
		size_t at;

		(void)state;
		for (size_t i = 0; i < n / 2; i++)
			put_pair(&h, 3, S("x-a"), S("1"), 2);
		at = pb_begin(&h, 13);
		for (size_t i = n / 2; i < n; i++)
			put_pair(&h, 1, S("x-a"), S("1"), 3);
		pb_end(&h, at);
		assert_int_equal(read_http(buf_str(&h), &a, &d, &e), n <= GRPC_HEADERS_MAX);
		arena_clear(&a);
		buf_clear(&h);
	}
}

static void too_many_settings(void **state)
{
	static const uint32_t path[] = { 1 };

	(void)state;
	for (char n = GRPC_SETTINGS_MAX; n <= GRPC_SETTINGS_MAX + 1; n++) {
		struct buf h = fresh(), m;
		struct grpc_described d;
		struct arena a;
		struct err e;

		for (char i = 0; i < n; i++)
			put_pair(&h, 10, (struct str){ (char[]){ (char)(i + 1) }, 1 }, S("1"), 2);
		m = in_path(path, 1, buf_str(&h));
		assert_int_equal(read_it(buf_str(&m), &a, &d, &e), n <= GRPC_SETTINGS_MAX);
		arena_clear(&a);
		buf_clear(&m);
		buf_clear(&h);
	}
}

static void no_memory(void **state)
{
	struct grpc_described d;
	struct arena a;
	struct err e;

	static const struct str needy[] = {
		STR_INIT("\x0a\x0c\x22\x0a\x12\x08\x1a\x06\x0a\x01"
			 "a\x12\x01"
			 "b"), /* a header */
		STR_INIT("\x0a\x08\x52\x06\x0a\x01"
			 "a\x12\x01"
			 "b"), /* a setting */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(needy); i++)
		for (size_t max = 0; max < 2; max++) {
			arena_init(&a, &mem_system, max);
			assert_false(grpc_message_read(needy[i], &a, &d, &e));
			assert_int_equal(e.class, ERR_UNAVAILABLE);
			arena_clear(&a);
		}
}

/* ---- answers ---- */

static bool field_of(struct str message, uint32_t number, struct pb_field *out)
{
	struct pb_reader in = pb_reader(message);
	struct pb_field f = { .number = 0 };
	struct err e = { 0 };
	bool found = false;

	*out = (struct pb_field){ .number = 0 };
	while (pb_next(&in, &f))
		if (f.number == number && !found) {
			*out = f;
			found = true;
		}
	if (!pb_ok(&in, "CheckResponse", &e))
		fail_msg("%s", e.msg);
	return found;
}

static uint64_t code_of(struct str message)
{
	struct pb_field f = { .number = 0 };

	if (!field_of(message, 1, &f) || !field_of(f.bytes, 1, &f))
		return 0;
	return f.value;
}

static uint64_t http_of(struct str message)
{
	struct pb_field f = { .number = 0 };

	assert_true(field_of(message, 2, &f));
	assert_true(field_of(f.bytes, 1, &f));
	assert_true(field_of(f.bytes, 1, &f));
	return f.value;
}

static void denials_are_never_code_zero(void **state)
{
	static const struct {
		int status;
		uint64_t code, http;
	} rows[] = {
		{ 400, 3, 400 }, { 401, 16, 401 }, { 403, 7, 403 },
		{ 413, 8, 413 }, { 429, 8, 429 },  { 200, 7, 200 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct check_verdict v = { .status = rows[i].status,
					   .reason = S("no_rule"),
					   .content_type = S("application/json"),
					   .body = S("{}") };
		struct buf b = fresh();

		grpc_message_write(&b, &v);
		assert_int_equal(code_of(buf_str(&b)), rows[i].code);
		assert_int_equal(http_of(buf_str(&b)), rows[i].http);
		buf_clear(&b);
		grpc_message_deny(&b, rows[i].status, S("x"));
		assert_true(code_of(buf_str(&b)) != 0);
		assert_true(http_of(buf_str(&b)) >= 400);
		buf_clear(&b);
	}
}

/* By the byte: what three proxies read as "replace" (sheet 4.4). */
static void an_allow(void **state)
{
	struct check_verdict v = { .allow = true,
				   .status = 200,
				   .reason = S("permitted"),
				   .headers = { { STR_INIT("x-writ-agent"), STR_INIT("a") } },
				   .nheaders = 1,
				   .remove = { STR_INIT("authorization") },
				   .nremove = 1 };
	static const struct str wanted = STR_INIT(
		"\x0a\x0b\x12\x09permitted"
		"\x1a\x28\x12\x17\x0a\x11\x0a\x0cx-writ-agent\x12\x01"
		"a"
		"\x12\x00\x18\x02"
		"\x2a\x0d"
		"authorization");
	struct buf b = fresh();
	struct pb_field f = { .number = 0 };
	struct str got;

	(void)state;
	grpc_message_write(&b, &v);
	got = buf_str(&b);
	assert_true(str_starts(got, wanted));
	assert_int_equal(code_of(got), 0);
	assert_false(field_of(got, 2, &f));
	assert_true(field_of(got, 3, &f));
	assert_false(field_of(f.bytes, 6, &f)); /* no decision, no id */
	buf_clear(&b);
}

static void metadata(void **state)
{
	struct check_verdict v = { .status = 403,
				   .reason = S("no_rule"),
				   .agent = S("spiffe://a/b"),
				   .evaluation_ids = S("ev_1"),
				   .rule = S("p/r"),
				   .generation = 7 };
	static const char *const names[] = { "decision_id", "reason_code", "agent", "rule",
					     "generation" };
	static const char *const values[] = { "ev_1", "no_rule", "spiffe://a/b", "p/r", NULL };
	struct buf b = fresh();
	struct pb_field f = { .number = 0 }, k = f, val = f, inner = f;
	struct pb_reader in;
	size_t n = 0;

	(void)state;
	grpc_message_write(&b, &v);
	assert_true(field_of(buf_str(&b), 4, &f));
	for (in = pb_reader(f.bytes); pb_next(&in, &f); n++) {
		assert_true(n < 5 && f.number == 1);
		assert_true(field_of(f.bytes, 1, &k) && field_of(f.bytes, 2, &val));
		assert_true(str_eq(k.bytes, str_c(names[n])));
		if (values[n]) {
			assert_true(field_of(val.bytes, 3, &inner));
			assert_true(str_eq(inner.bytes, str_c(values[n])));
		} else {
			double seven = 7;

			assert_true(field_of(val.bytes, 2, &inner));
			assert_memory_equal(&inner.value, &seven, 8);
		}
	}
	assert_int_equal(n, 5);
	buf_clear(&b);
}

/* What cannot be written denies, an allow too. */
static void what_does_not_fit_denies(void **state)
{
	static char id[5000];
	struct check_verdict v = { .allow = true,
				   .status = 200,
				   .reason = S("permitted"),
				   .evaluation_ids = { id, sizeof(id) } };
	struct buf b;

	(void)state;
	memset(id, 'e', sizeof(id));
	for (size_t max = 64; max < sizeof(id); max += 512) {
		buf_init(&b, mem_system, max);
		grpc_message_write(&b, &v);
		assert_true(buf_ok(&b));
		assert_int_equal(code_of(buf_str(&b)), 7);
		assert_int_equal(http_of(buf_str(&b)), 403);
		buf_clear(&b);
	}
	id[7] = (char)0xff; /* not UTF-8: proxies would refuse the whole message */
	buf_init(&b, mem_system, GRPC_RESPONSE_MAX);
	grpc_message_write(&b, &v);
	assert_true(buf_ok(&b));
	assert_int_equal(code_of(buf_str(&b)), 7);
	buf_clear(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_field),
		cmocka_unit_test(header_map),
		cmocka_unit_test(bodies),
		cmocka_unit_test(sizes),
		cmocka_unit_test(not_http),
		cmocka_unit_test(malformed),
		cmocka_unit_test(bad_headers),
		cmocka_unit_test(too_many),
		cmocka_unit_test(too_many_settings),
		cmocka_unit_test(no_memory),
		cmocka_unit_test(denials_are_never_code_zero),
		cmocka_unit_test(an_allow),
		cmocka_unit_test(metadata),
		cmocka_unit_test(what_does_not_fit_denies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
