/* The formats that chain the rows of one file: the members that sheet 18.5 and 18.6 want, the
 * canonical form, and the hashes from row to row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>

#include "authz/audit/format.h"
#include "authz/base/json.h"
#include "authz/base/text.h"

#define HASH "0b46379ba7fe3e0a767bc6d935213b77d943b48e8d35711c19e9359ffce0f548"
#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

/* What a record says beside its frame, in the places where its members sort. */
struct said {
	const char *first, *before_kind, *kind, *after_node, *after_time;
};
#define AGENT "\"agent\":\"spiffe://a.example/x\","
#define DECISION(what) AGENT, "\"decision\":\"" what "\",", "authz.decision"
#define WRIT "spiffe://acme.example/writ/server"

/* And how the two formats put it. */
static const struct {
	struct said said;
	const char *principal, *outcome;   /* SEP-3004 */
	const char *type, *phase, *result; /* AAT */
} cases[] = {
	{ { DECISION("permit"), "", "" },
	  "spiffe://a.example/x",
	  "allowed",
	  "decision",
	  "pre_execution",
	  "success" },
	{ { DECISION("deny"), "", "" },
	  "spiffe://a.example/x",
	  "denied",
	  "decision",
	  "pre_execution",
	  "denied" },
	{ { DECISION("ask"), "", "" },
	  "spiffe://a.example/x",
	  "deferred",
	  "decision",
	  "pre_execution",
	  "escalated" },
	{ { "", "", "log.start", "", "" }, WRIT, "allowed", "lifecycle", "concurrent", "success" },
	{ { "", "", "log.gap", "", "" }, WRIT, "error", "error", "concurrent", "failure" },
	{ { "", "", "identity.refused", "\"pep\":\"unix:uid:7\",", "" },
	  "unix:uid:7",
	  "denied",
	  "lifecycle",
	  "concurrent",
	  "denied" },
	{ { AGENT, "", "authz.outcome", "\"outcome\":\"success\",", "" },
	  "spiffe://a.example/x",
	  "allowed",
	  "lifecycle",
	  "post_execution",
	  "success" },
	{ { "", "", "authz.outcome", "\"outcome\":\"failure\",", "" },
	  WRIT,
	  "error",
	  "lifecycle",
	  "post_execution",
	  "failure" },
	{ { "", "", "authz.outcome", "\"outcome\":\"timeout\",", "" },
	  WRIT,
	  "error",
	  "lifecycle",
	  "post_execution",
	  "timeout" },
	{ { "", "", "authz.outcome", "\"outcome\":\"not_executed\",", "" },
	  WRIT,
	  "error",
	  "lifecycle",
	  "post_execution",
	  "failure" },
	{ { "", "", "key.rotate", "\"outcome\":\"failed\",", "" },
	  WRIT,
	  "error",
	  "lifecycle",
	  "concurrent",
	  "failure" },
};

struct file {
	struct format_chain chain;
	struct format_record record;
	struct buf scratch, out;
	struct arena arena;
};

static int set_up(void **state)
{
	struct file *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->chain.sha = sha256_new(NULL);
	f->record.chain = &f->chain;
	buf_init(&f->scratch, mem_system, FORMAT_LEAF_MAX + 1);
	buf_init(&f->out, mem_system, (size_t)2 * FORMAT_ROW_MAX);
	arena_init(&f->arena, &mem_system, (size_t)16 << 20);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct file *f = *state;

	sha256_free(f->chain.sha);
	buf_clear(&f->scratch);
	buf_clear(&f->out);
	arena_clear(&f->arena);
	free(f);
	return 0;
}

/* The lines that a record adds to the file, the last newline taken off. */
static struct str lines(struct file *f, const struct audit_format *format, const struct said *said)
{
	struct str leaf = arena_printf(
		&f->arena,
		"{%s\"boot\":\"b1\",%s\"kind\":\"%s\",\"node\":\"n1\",%s\"prev\":\"" ZEROS
		"\",\"seq\":7,\"time\":1760000000123%s,\"v\":1}",
		said->first, said->before_kind, said->kind, said->after_node, said->after_time);
	struct err e = { 0 };

	if (!format_record_read(&f->record, STR("acme.example/writ"), leaf, STR(HASH), &f->scratch,
				&e))
		fail_msg("%.*s: %s", STR_FMT(leaf), e.msg);
	buf_reset(&f->out);
	audit_format_line(format, &f->record, &f->out);
	assert_true(buf_ok(&f->out) && str_ends(buf_str(&f->out), STR("\n")));
	return arena_dup(&f->arena, str_first(buf_str(&f->out), f->out.n - 1));
}

/* Parsed, and canonical by RFC 8785, byte for byte. */
static const struct json *canonical(struct file *f, struct str line)
{
	const struct json *v;
	struct err e = { 0 };
	AUTO_BUF again = { 0 };

	if (!json_parse(line, &json_default_limits, &f->arena, &v, &e))
		fail_msg("%s: %.*s", e.msg, STR_FMT(line));
	buf_init(&again, mem_system, FORMAT_ROW_MAX);
	json_canonical(&again, v);
	if (!str_eq(buf_str(&again), line))
		fail_msg("%.*s\nis not canonical, but\n%.*s", STR_FMT(line),
			 STR_FMT(buf_str(&again)));
	return v;
}

static struct str text_of(const struct json *v, const char *name)
{
	const struct json *m = json_get_type(v, str_c(name), JSON_STRING);

	if (!m) {
		fail_msg("no %s in %.*s", name, STR_FMT(v->raw));
		abort(); /* not reached; clang-tidy does not know */
	}
	return m->s;
}

static void assert_says(const struct json *v, const char *name, const char *want)
{
	struct str got = text_of(v, name);

	if (!str_eq(got, str_c(want)))
		fail_msg("%s is \"%.*s\", not \"%s\", in %.*s", name, STR_FMT(got), want,
			 STR_FMT(v->raw));
}

static struct str hash_of(struct file *f, struct str text)
{
	char hex[2 * SHA256_LEN];
	uint8_t hash[SHA256_LEN];

	sha256_of(f->chain.sha, text, hash);
	text_hex(hash, sizeof(hash), hex);
	return arena_dup(&f->arena, (struct str){ hex, sizeof(hex) });
}

/* ---- SEP-3004 ---- */

/* A row as it must be; its event_hash. @before: that of the row before, empty for the first. */
static struct str check_sep3004(struct file *f, struct str line, struct str before)
{
	const struct json *v = canonical(f, line), *extensions;
	struct str hash = text_of(v, "event_hash"), core;
	size_t cut = strlen("{\"event_hash\":\"\",") + 64;

	core = arena_printf(&f->arena, "{%.*s", STR_FMT(str_from(line, cut)));
	assert_true(str_eq(hash, hash_of(f, core)));
	if (before.n)
		assert_true(str_eq(text_of(v, "previous_hash"), before));
	else
		assert_non_null(json_get_type(v, STR("previous_hash"), JSON_NULL));
	assert_int_equal(v->n, 9);
	assert_says(v, "event_id", "acme.example/writ/7");
	assert_says(v, "occurred_at", "2025-10-09T08:53:20.123Z");
	assert_non_null(json_get(v, STR("tool_name")));
	extensions = json_get_type(v, STR("extensions"), JSON_OBJECT);
	assert_int_equal(extensions->n, 1);
	assert_says(json_get(extensions, STR("writ")), "index", "7");
	assert_says(json_get(extensions, STR("writ")), "leaf_hash", HASH);
	return hash;
}

static void sep3004_is_a_chain_of_canonical_rows(void **state)
{
	struct file *f = *state;
	struct str hash = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct str line = lines(f, &format_sep3004, &cases[i].said);
		const struct json *v = canonical(f, line);

		hash = check_sep3004(f, line, hash);
		assert_says(v, "event_type", cases[i].said.kind);
		assert_says(v, "outcome", cases[i].outcome);
		assert_says(v, "principal_id", cases[i].principal);
	}
}

/* Strings are NFC, trimmed of spaces, without control characters, whatever the log holds. */
static void sep3004_strings_are_plain(void **state)
{
	static const struct {
		const char *tool, *shown;
	} rows[] = {
		{ "files/read", "files/read" },
		{ " files/read ", "%20files/read%20" },
		{ "a b", "a b" },
		{ "100%", "100%25" },
		{ "caf\xc3\xa9", "caf%C3%A9" },
		{ "cafe\xcc\x81", "cafe%CC%81" },
		{ "a\\u0001\\n\x7f", "a%01%0A%7F" },
		{ "\\\"\\\\", "\"\\" },
	};
	struct file *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct str tool = arena_printf(&f->arena, ",\"tool\":\"%s\"", rows[i].tool);
		struct said said = { DECISION("permit"), "", tool.p };

		assert_says(canonical(f, lines(f, &format_sep3004, &said)), "tool_name",
			    rows[i].shown);
	}
}

static void sep3004_strings_have_a_bound(void **state)
{
	struct file *f = *state;
	char *tool = malloc(9101);
	struct said said = { DECISION("permit"), "", tool };
	struct str got;

	assert_non_null(tool);
	memset(tool, 'a', 9101);
	memcpy(tool, ",\"tool\":\"", 9);
	tool[9 + 8191] = ' '; /* the cut falls behind a space, which must not end it */
	memcpy(tool + 9099, "\"", 2);
	got = text_of(canonical(f, lines(f, &format_sep3004, &said)), "tool_name");
	assert_int_equal(got.n, 8191);
	free(tool);
}

/* ---- Agent Audit Trail ---- */

static void assert_uuid4(struct str s)
{
	assert_int_equal(s.n, 36);
	for (size_t i = 0; i < s.n; i++) {
		if (i == 8 || i == 13 || i == 18 || i == 23)
			assert_int_equal(s.p[i], '-');
		else
			assert_non_null(strchr("0123456789abcdef", s.p[i]));
	}
	assert_int_equal(s.p[14], '4');
	assert_non_null(strchr("89ab", s.p[19]));
}

/* The twelve members, and the hash of the line before (none for the first). */
static const struct json *check_aat(struct file *f, struct str line, struct str before)
{
	const struct json *v = canonical(f, line);

	assert_int_equal(v->n, 12);
	assert_uuid4(text_of(v, "record_id"));
	assert_uuid4(text_of(v, "session_id"));
	assert_says(v, "timestamp", "2025-10-09T08:53:20.123Z");
	assert_says(v, "agent_version", "0.0.0");
	assert_says(v, "trust_level", "L0");
	assert_non_null(json_get_type(v, STR("parent_record_id"), JSON_NULL));
	if (before.n)
		assert_true(str_eq(text_of(v, "prev_hash"), hash_of(f, before)));
	else
		assert_non_null(json_get_type(v, STR("prev_hash"), JSON_NULL));
	return v;
}

static void aat_is_one_session(void **state)
{
	struct file *f = *state;
	struct str before = { 0 }, session = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct str line = lines(f, &format_aat, &cases[i].said), start = { 0 };
		const struct json *v, *detail;

		if (i == 0) { /* two lines: the session begins */
			assert_true(str_cut(line, '\n', &start, &line));
			v = check_aat(f, start, before);
			session = text_of(v, "session_id");
			assert_says(v, "action_type", "lifecycle");
			assert_says(v, "record_phase", "concurrent");
			assert_says(json_get(v, STR("action_detail")), "event", "session_start");
			assert_says(json_get(v, STR("action_detail")), "format",
				    "draft-sharif-agent-audit-trail-06");
			before = start;
		}
		v = check_aat(f, line, before);
		before = line;
		assert_true(str_eq(text_of(v, "session_id"), session));
		assert_says(v, "agent_id", cases[i].principal);
		assert_says(v, "action_type", cases[i].type);
		assert_says(v, "record_phase", cases[i].phase);
		assert_says(v, "outcome", cases[i].result);
		detail = json_get(v, STR("action_detail"));
		assert_says(detail, "index", "7");
		assert_says(detail, "leaf_hash", HASH);
		if (strcmp(cases[i].type, "decision") == 0)
			assert_says(detail, "decision_type", "authorization");
		else
			assert_says(detail, "event", cases[i].said.kind);
	}
}

static void they_are_refused_where_there_is_no_end(void **state)
{
	struct err e = { 0 };

	(void)state;
	assert_ptr_equal(audit_format_find(STR("aat"), &e), &format_aat);
	assert_null(audit_format_find_endless(STR("aat"), &e));
	assert_non_null(strstr(e.msg, "writ audit export --format aat"));
	assert_null(audit_format_find_endless(STR("sep-3004"), &e));
	assert_null(audit_format_find_endless(STR("xml"), &e));
	assert_ptr_equal(audit_format_find_endless(STR("csv"), &e), &format_csv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sep3004_is_a_chain_of_canonical_rows, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(sep3004_strings_are_plain, set_up, tear_down),
		cmocka_unit_test_setup_teardown(sep3004_strings_have_a_bound, set_up, tear_down),
		cmocka_unit_test_setup_teardown(aat_is_one_session, set_up, tear_down),
		cmocka_unit_test(they_are_refused_where_there_is_no_end),
	};

	return cmocka_run_group_tests_name("format_chained", tests, NULL, NULL);
}
