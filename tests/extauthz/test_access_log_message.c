/* StreamAccessLogsMessage: the field tables of als.proto and accesslog.proto (envoy/service and
 * envoy/data/accesslog/v3), and what an entry says of a call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <math.h>

#include "authz/decide/outcome.h"
#include "authz/extauthz/access_log_message.h"

#define S(text) ((struct str){ text, sizeof(text) - 1 })

static const struct usage_keys keys = { STR_INIT("io.envoy.ai_gateway"),
					STR_INIT("llm_input_token"), STR_INIT("llm_output_token"),
					STR_INIT("cost") };
static struct buf b;

static void fresh(void)
{
	buf_clear(&b);
	buf_init(&b, mem_system, 1 << 20);
}

/* A field of one message, by its path of numbers: what is written, and what is read of it. */
#define NEST 6
static void put(const uint32_t path[static NEST], uint64_t number, const char *text)
{
	size_t at[NEST], n = 0;

	while (n + 1 < NEST && path[n + 1]) {
		at[n] = pb_begin(&b, path[n]);
		n++;
	}
	if (text)
		pb_put_bytes(&b, path[n], str_c(text));
	else
		pb_put_u64(&b, path[n], number);
	while (n--)
		pb_end(&b, at[n]);
}

static bool read_one(struct access_log_entry *out, struct err *e)
{
	static struct access_log_message m;

	return access_log_read(buf_str(&b), &m, e) && access_log_next(&m, &keys, out, e);
}

/* http_logs 2, log_entry 1, then HTTPAccessLogEntry: common_properties 1, request 3, response 4. */
#define COMMON 2, 1, 1
#define AT(type, member) offsetof(struct access_log_entry, member), type
enum kind { TEXT, U32, U64, I64, BOOLEAN };

static const struct {
	const char *why;
	uint32_t path[NEST];
	const char *text; /* NULL: the number */
	uint64_t number;
	size_t offset;
	enum kind kind;
	uint64_t wanted;
} fields[] = {
	{ "upstream_remote_address", { COMMON, 13 }, "", 0, AT(BOOLEAN, upstream), 1 },
	{ "upstream_cluster", { COMMON, 15 }, "mcp", 0, AT(TEXT, cluster), 0 },
	{ "failed_local_healthcheck", { COMMON, 16, 1 }, NULL, 1, AT(U32, flags), 1u << 1 },
	{ "upstream_request_timeout", { COMMON, 16, 3 }, NULL, 1, AT(U32, flags), 1u << 3 },
	{ "a flag that is not set", { COMMON, 16, 3 }, NULL, 0, AT(U32, flags), 0 },
	{ "unauthorized_details", { COMMON, 16, 13 }, "\x08\x01", 0, AT(U32, flags), 1u << 13 },
	{ "downstream_remote_reset", { COMMON, 16, 28 }, NULL, 1, AT(U32, flags), 1u << 28 },
	{ "a flag of a newer proxy", { COMMON, 16, 29 }, NULL, 1, AT(U32, flags), 0 },
	{ "duration, seconds", { COMMON, 23, 1 }, NULL, 2, AT(I64, duration_ms), 2000 },
	{ "duration, nanos", { COMMON, 23, 2 }, NULL, 7999999, AT(I64, duration_ms), 7 },
	{ "time_to_last_downstream_tx_byte",
	  { COMMON, 12, 1 },
	  NULL,
	  3,
	  AT(I64, duration_ms),
	  3000 },
	{ "a duration below zero",
	  { COMMON, 23, 1 },
	  NULL,
	  UINT64_MAX,
	  AT(I64, duration_ms),
	  UINT64_MAX },
	{ "upstream_request_attempt_count", { COMMON, 24 }, NULL, 2, AT(U32, attempts), 2 },
	{ "intermediate_log_entry", { COMMON, 27 }, NULL, 1, AT(BOOLEAN, intermediate), 1 },
	{ "upstream_wire_bytes_sent", { COMMON, 31 }, NULL, 99, AT(U64, upstream_sent), 99 },
	{ "access_log_type NotSet", { COMMON, 33 }, NULL, 0, AT(BOOLEAN, intermediate), 0 },
	{ "DownstreamStart", { COMMON, 33 }, NULL, 4, AT(BOOLEAN, intermediate), 1 },
	{ "DownstreamPeriodic", { COMMON, 33 }, NULL, 5, AT(BOOLEAN, intermediate), 1 },
	{ "DownstreamEnd", { COMMON, 33 }, NULL, 6, AT(BOOLEAN, intermediate), 0 },
	{ "UpstreamEnd", { COMMON, 33 }, NULL, 9, AT(BOOLEAN, intermediate), 1 },
	{ "request_body_bytes", { 2, 1, 3, 12 }, NULL, 12, AT(U64, request_bytes), 12 },
	{ "response_code", { 2, 1, 4, 1, 1 }, NULL, 503, AT(U32, status), 503 },
	{ "response_body_bytes", { 2, 1, 4, 3 }, NULL, 5, AT(U64, response_bytes), 5 },
	{ "response_code_details", { 2, 1, 4, 6 }, "mcp", 0, AT(TEXT, details), 0 },
};

static void every_field(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		struct access_log_entry got = { 0 };
		const char *at = (const char *)&got + fields[i].offset;
		uint64_t value = 0;
		struct err e;

		fresh();
		put(fields[i].path, fields[i].number, fields[i].text);
		if (!read_one(&got, &e))
			fail_msg("%s: %s", fields[i].why, e.msg);
		if (fields[i].kind == TEXT)
			assert_true(str_eq(*(const struct str *)(const void *)at, S("mcp")));
		else if (fields[i].kind == BOOLEAN)
			value = *(const bool *)at;
		else if (fields[i].kind == U32)
			value = *(const uint32_t *)(const void *)at;
		else
			value = *(const uint64_t *)(const void *)at;
		if (value != fields[i].wanted)
			fail_msg("%s: read %llu", fields[i].why, (unsigned long long)value);
	}
}

/* ---- metadata ---- */

static void put_value(const char *space, const char *name, const char *text, double number)
{
	static const uint32_t path[] = { 2, 1, 1, 17, 1 };
	size_t at[8], n = 0;

	for (; n < ARRAY_LEN(path); n++)
		at[n] = pb_begin(&b, path[n]);
	pb_put_bytes(&b, 1, str_c(space));
	at[n++] = pb_begin(&b, 2); /* Struct */
	at[n++] = pb_begin(&b, 1); /* fields */
	pb_put_bytes(&b, 1, str_c(name));
	at[n++] = pb_begin(&b, 2); /* Value */
	if (text)
		pb_put_bytes(&b, 3, str_c(text));
	else
		pb_put_double(&b, 2, number);
	while (n--)
		pb_end(&b, at[n]);
}

static const struct {
	const char *space, *name, *text;
	double number;
	const char *decisions;
	int64_t input, output, cost;
	bool bad;
} values[] = {
	{ "envoy.filters.http.ext_authz", "decision_id", "ev_1", 0, "ev_1", -1, -1, -1, false },
	{ "envoy.filters.http.ext_authz", "x-writ-decision-id", "ev_1,ev_2", 0, "ev_1,ev_2", -1, -1,
	  -1, false },
	{ "envoy.filters.http.ext_authz", "decision_id", NULL, 1, "", -1, -1, -1, false },
	{ "envoy.filters.http.ext_authz", "llm_input_token", NULL, 1, "", -1, -1, -1, false },
	{ "envoy.filters.http.jwt_authn", "decision_id", "ev_1", 0, "", -1, -1, -1, false },
	{ "io.envoy.ai_gateway", "decision_id", "ev_1", 0, "", -1, -1, -1, false },
	{ "io.envoy.ai_gateway", "llm_input_token", NULL, 12, "", 12, -1, -1, false },
	{ "io.envoy.ai_gateway", "llm_output_token", NULL, 0, "", -1, 0, -1, false },
	{ "io.envoy.ai_gateway", "cost", NULL, 9007199254740991.0, "", -1, -1, 9007199254740991,
	  false },
	{ "io.envoy.ai_gateway", "llm_total_token", NULL, 12, "", -1, -1, -1, false },
	{ "io.envoy.ai_gateway", "llm_input_token", "12", 0, "", -1, -1, -1, true },
	{ "io.envoy.ai_gateway", "llm_input_token", NULL, -1, "", -1, -1, -1, true },
	{ "io.envoy.ai_gateway", "llm_input_token", NULL, 1.5, "", -1, -1, -1, true },
	{ "io.envoy.ai_gateway", "llm_input_token", NULL, 1e300, "", -1, -1, -1, true },
	{ "io.envoy.ai_gateway", "llm_input_token", NULL, (double)NAN, "", -1, -1, -1, true },
};

static void metadata(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		struct access_log_entry got = { 0 };
		struct err e;

		fresh();
		put_value(values[i].space, values[i].name, values[i].text, values[i].number);
		assert_true(read_one(&got, &e));
		if (!str_eq(got.decisions, str_c(values[i].decisions)) ||
		    got.input_tokens != values[i].input || got.output_tokens != values[i].output ||
		    got.cost_micros != values[i].cost || got.bad_usage != values[i].bad)
			fail_msg("row %zu: %.*s %lld %lld %lld %d", i, STR_FMT(got.decisions),
				 (long long)got.input_tokens, (long long)got.output_tokens,
				 (long long)got.cost_micros, got.bad_usage);
	}
}

/* ---- outcomes ---- */

#define F(n) (1u << (n))

static const struct {
	const char *why, *outcome;
	uint32_t status, flags, attempts;
	uint64_t sent;
	bool upstream;
} outcomes[] = {
	{ "an answer", "success", 200, 0, 1, 100, true },
	{ "a redirection", "success", 302, 0, 1, 100, true },
	{ "an error of the upstream", "failure", 500, 0, 1, 100, true },
	{ "a refusal of the upstream", "failure", 404, 0, 1, 100, true },
	{ "an old proxy that counts nothing", "failure", 500, 0, 0, 0, true },
	{ "no answer and no flag", "failure", 0, 0, 1, 100, true },
	{ "delayed on purpose", "success", 200, F(10), 1, 100, true },
	{ "from a cache", "success", 200, F(21), 0, 0, false },
	{ "no healthy upstream", "not_executed", 503, F(2), 0, 0, false },
	{ "connection failed", "not_executed", 503, F(6), 1, 0, true },
	{ "connection failed at a retry", "failure", 503, F(6), 2, 100, true },
	{ "connection failed, and an old proxy's retry", "failure", 503, F(6) | F(16), 2, 0, true },
	{ "no route", "not_executed", 404, F(9), 0, 0, false },
	{ "rate limit", "not_executed", 429, F(12), 0, 0, false },
	{ "denied by another filter", "not_executed", 403, F(13), 0, 0, false },
	{ "the proxy's own 413", "not_executed", 413, 0, 0, 0, false },
	{ "upstream timeout", "timeout", 504, F(3), 1, 100, true },
	{ "idle", "timeout", 408, F(17), 1, 100, true },
	{ "client gone", "cancelled", 0, F(15), 1, 100, true },
	{ "client reset while the answer came", "cancelled", 200, F(28), 1, 100, true },
	{ "reset by the upstream", "failure", 503, F(5), 1, 100, true },
	{ "a broken answer", "failure", 200, F(24), 1, 100, true },
};

static void what_an_entry_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(outcomes); i++) {
		const struct access_log_entry entry = { .status = outcomes[i].status,
							.flags = outcomes[i].flags,
							.attempts = outcomes[i].attempts,
							.upstream_sent = outcomes[i].sent,
							.upstream = outcomes[i].upstream };
		const char *got = access_log_outcome(&entry);
		bool known = false;

		if (strcmp(got, outcomes[i].outcome) != 0)
			fail_msg("%s: %s", outcomes[i].why, got);
		for (const char *const *n = outcome_names; *n; n++)
			known |= strcmp(*n, got) == 0;
		assert_true(known);
	}
	for (unsigned i = 1; i <= ACCESS_LOG_FLAGS; i++)
		assert_non_null(access_log_flag(i));
	assert_null(access_log_flag(0));
	assert_null(access_log_flag(ACCESS_LOG_FLAGS + 1));
}

/* ---- messages ---- */

static void messages(void **state)
{
	static const uint32_t log_name[NEST] = { 1, 2 }, node[NEST] = { 1, 1, 1 };
	static const uint32_t status[NEST] = { 2, 1, 4, 1, 1 };
	struct access_log_message m;
	struct access_log_entry entry;
	struct err e;
	size_t at, n = 0;

	(void)state;
	fresh();
	put(node, 0, "edge-1");
	put(log_name, 0, "writ");
	assert_true(access_log_read(buf_str(&b), &m, &e));
	assert_true(m.identified && !m.tcp);
	assert_false(access_log_next(&m, &keys, &entry, &e));
	assert_int_equal(e.class, ERR_NONE);
	fresh();
	assert_true(access_log_read(buf_str(&b), &m, &e)); /* an empty one */
	assert_false(m.identified);
	at = pb_begin(&b, 2);
	for (int i = 0; i < 3; i++)
		pb_put_bytes(&b, 1, S("\x22\x04\x0a\x02\x08\x64")); /* status 100 */
	pb_put_bytes(&b, 9, S("new"));
	pb_end(&b, at);
	pb_put_bytes(&b, 9, S("new"));
	assert_true(access_log_read(buf_str(&b), &m, &e));
	while (access_log_next(&m, &keys, &entry, &e)) {
		assert_int_equal(entry.status, 100);
		n++;
	}
	assert_int_equal(n, 3);
	put(status, 200, NULL);
	assert_false(access_log_read(buf_str(&b), &m, &e)); /* a second list */
	fresh();
	pb_put_bytes(&b, 3, S(""));
	assert_true(access_log_read(buf_str(&b), &m, &e));
	assert_true(m.tcp);
}

static const struct {
	const char *why;
	struct str message;
} bad[] = {
	{ "cut off", STR_INIT("\x12\x05\x0a") },
	{ "an identifier that is a number", STR_INIT("\x08\x01") },
	{ "a name that is not UTF-8", STR_INIT("\x0a\x03\x12\x01\xff") },
	{ "entries that are a number", STR_INIT("\x10\x01") },
	{ "an entry that is a number", STR_INIT("\x12\x02\x08\x01") },
	{ "common_properties that are a number", STR_INIT("\x12\x04\x0a\x02\x08\x01") },
	{ "a status past 32 bits", STR_INIT("\x12\x0c\x0a\x0a\x22\x08\x0a\x06\x08\x80\x80\x80\x80"
					    "\x10") },
	{ "metadata that is cut off", STR_INIT("\x12\x07\x0a\x05\x0a\x03\x8a\x01\x09") },
};

static void malformed(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct access_log_message m;
		struct access_log_entry entry;
		struct err e = { 0 };

		if (access_log_read(bad[i].message, &m, &e) &&
		    (access_log_next(&m, &keys, &entry, &e) || e.class == ERR_NONE))
			fail_msg("%s: taken", bad[i].why);
		assert_int_equal(e.class, ERR_INVALID);
		assert_string_equal(e.code, "invalid_message");
	}
	buf_clear(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_field),	      cmocka_unit_test(metadata),
		cmocka_unit_test(what_an_entry_says), cmocka_unit_test(messages),
		cmocka_unit_test(malformed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
