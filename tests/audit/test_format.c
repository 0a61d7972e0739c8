/* The formats for SIEMs: escaping by table, and what each schema requires of every kind. */
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
#include "include/writ/words.h"

#define HASH "0b46379ba7fe3e0a767bc6d935213b77d943b48e8d35711c19e9359ffce0f548"
#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"
#define NODE "\"node\":\"n1\""
#define TAIL "\"prev\":\"" ZEROS "\",\"seq\":7,\"time\":1760000000123"

static struct buf scratch, out;
static struct format_chain chain;
static struct format_record record = { .chain = &chain };

static int set_up(void **state)
{
	(void)state;
	buf_init(&scratch, mem_system, FORMAT_LEAF_MAX + 1);
	buf_init(&out, mem_system, (size_t)2 * FORMAT_ROW_MAX);
	chain = (struct format_chain){ .sha = sha256_new(NULL) };
	format_chain_name(&chain, STR("a file"));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	buf_clear(&scratch);
	buf_clear(&out);
	sha256_free(chain.sha);
	return 0;
}

/* One row of @format over @leaf, with a NUL behind it. */
static struct str row(const char *format, struct str leaf)
{
	const struct audit_format *f = audit_format_find(str_c(format), NULL);
	struct err e = { 0 };

	if (!format_record_read(&record, STR("acme.example/writ"), leaf, STR(HASH), &scratch, &e))
		fail_msg("%.*s: %s", STR_FMT(leaf), e.msg);
	buf_reset(&out);
	f->row(&record, &out);
	buf_char(&out, '\0');
	assert_true(buf_ok(&out));
	return str_first(buf_str(&out), out.n - 1);
}

static const char *leaf_with(const char *members_before_kind, const char *kind,
			     const char *after_node, const char *after_time)
{
	static char text[16384];

	/* act, action and agent come before boot, the others after it */
	bool first = members_before_kind[0] && members_before_kind[1] == 'a';

	snprintf(text, sizeof(text),
		 "{%s\"boot\":\"b1\",%s\"kind\":\"%s\"," NODE ",%s" TAIL "%s,\"v\":1}",
		 first ? members_before_kind : "", first ? "" : members_before_kind, kind,
		 after_node, after_time);
	return text;
}

static void csv_cells(void **state)
{
	static const struct {
		const char *why, *json, *cell;
	} cases[] = {
		{ "plain", "abc", ",abc," },
		{ "comma", "a,b", ",\"a,b\"," },
		{ "quote", "a\\\"b", ",\"a\"\"b\"," },
		{ "line feed", "a\\nb", ",\"a\nb\"," },
		{ "carriage return and line feed", "a\\r\\nb", ",\"a\r\nb\"," },
		{ "formula", "=1+1", ",\"'=1+1\"," },
		{ "a formula that leaves its quotes", "=cmd|' /C calc'!A0\\\"",
		  ",\"'=cmd|' /C calc'!A0\"\"\"," },
		{ "plus", "+1", ",\"'+1\"," },
		{ "minus", "-1", ",\"'-1\"," },
		{ "at", "@SUM(A1)", ",\"'@SUM(A1)\"," },
		{ "tab first", "\\t=1", ",\"'\t=1\"," },
		{ "carriage return first", "\\r=1", ",\"'\r=1\"," },
		{ "line feed first", "\\n=1", ",\"'\n=1\"," },
		{ "inside", "1=1+1-1@1", ",1=1+1-1@1," },
		{ "unicode", "\xc3\xa9\xf0\x9f\x9a\x80", ",\xc3\xa9\xf0\x9f\x9a\x80," },
		{ "control characters",
		  "a\\u0001b\x7f"
		  "c",
		  ",\"a\xef\xbf\xbd"
		  "b\xef\xbf\xbd"
		  "c\"," },
		{ "semicolon and apostrophe", "';drop", ",';drop," },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char leaf[1024];
		struct str got;

		snprintf(leaf, sizeof(leaf),
			 "{\"boot\":\"b1\",\"decision\":\"deny\",\"kind\":\"authz.decision\"," NODE
			 ",\"prev\":\"" ZEROS "\",\"reason\":\"%s\",\"seq\":7,"
			 "\"time\":1760000000123,\"v\":1}",
			 cases[i].json);
		got = row("csv", str_c(leaf));
		if (!strstr(got.p, cases[i].cell))
			fail_msg("%s: %s", cases[i].why, got.p);
		assert_true(
			str_starts(got, STR("7,2025-10-09T08:53:20.123Z,authz.decision,n1,b1,")));
		assert_true(str_ends(got, STR("," HASH)));
	}
}

/* Columns of the head and of a row, as a reader of RFC 4180 counts them. */
static size_t columns(struct str line)
{
	bool quoted = false;
	size_t n = 1;

	for (size_t i = 0; i < line.n; i++) {
		if (line.p[i] == '"')
			quoted = !quoted;
		n += !quoted && line.p[i] == ',';
	}
	assert_false(quoted);
	return n;
}

static void csv_has_a_place_for_everything(void **state)
{
	struct str got;

	(void)state;
	got = row("csv", str_c(leaf_with("\"cause\":\"a,\\\"b\",", "log.gap", "", "")));
	assert_int_equal(columns(got), columns(str_c(format_csv.head)));
	assert_non_null(strstr(got.p, ",\"{\"\"cause\"\":\"\"a,\\\"\"b\"\"}\","));
	got = row("csv", str_c(leaf_with("", "log.close", "", "")));
	assert_int_equal(columns(got), columns(str_c(format_csv.head)));
}

static void cef_escapes(void **state)
{
	static const struct {
		const char *why, *json, *text;
	} cases[] = {
		{ "plain", "no_rule", " reason=no_rule " },
		{ "equals", "a=b", " reason=a\\=b " },
		{ "backslash", "a\\\\b", " reason=a\\\\b " },
		{ "pipe is not escaped here", "a|b", " reason=a|b " },
		{ "line feed", "a\\nb", " reason=a\\nb " },
		{ "carriage return", "a\\rb", " reason=a\\rb " },
		{ "a record of one's own", "x\\nCEF:0|evil|", " reason=x\\nCEF:0|evil| " },
		{ "a key of one's own", "x act=permit", " reason=x act\\=permit " },
		{ "control characters", "a\\u0001b\\u001bc\x7f", " reason=a b c  " },
		{ "unicode", "\xc3\xa9", " reason=\xc3\xa9 " },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char leaf[1024];
		struct str got;

		snprintf(leaf, sizeof(leaf),
			 "{\"boot\":\"b1\",\"decision\":\"deny\",\"kind\":\"authz.decision\"," NODE
			 ",\"prev\":\"" ZEROS "\",\"reason\":\"%s\",\"seq\":7,"
			 "\"time\":1760000000123,\"tool\":\"files/read\",\"v\":1}",
			 cases[i].json);
		got = row("cef", str_c(leaf));
		if (!strstr(got.p, cases[i].text))
			fail_msg("%s: %s", cases[i].why, got.p);
		assert_true(
			str_starts(got, STR("CEF:0|writ|writ|" WRIT_VERSION
					    "|authz.decision|Tool call denied|4|rt=1760000000123 "
					    "act=deny outcome=failure ")));
		assert_non_null(strstr(got.p, " cs2Label=leafHash cs2=" HASH " "));
		assert_non_null(strstr(got.p, " cn1Label=index cn1=7"));
		assert_null(memchr(got.p, '\n', got.n));
	}
}

static void cef_header_is_escaped(void **state)
{
	struct str got = row("cef", str_c(leaf_with("", "a|b\\\\c\\nd", "", "")));

	(void)state;
	assert_true(
		str_starts(got, STR("CEF:0|writ|writ|" WRIT_VERSION "|a\\|b\\\\c d|Record|1|rt=")));
}

static void cef_cuts_between_characters(void **state)
{
	char leaf[8192], reason[2100] = "";
	struct str got;
	const char *at, *end;

	(void)state;
	for (int i = 0; i < 1000; i++)
		strcat(reason, "\xc3\xa9");
	snprintf(leaf, sizeof(leaf),
		 "{\"boot\":\"b1\",\"kind\":\"request.refused\"," NODE ",\"prev\":\"" ZEROS
		 "\",\"reason\":\"%s\",\"seq\":7,\"time\":1,\"v\":1}",
		 reason);
	got = row("cef", str_c(leaf));
	at = strstr(got.p, " reason=");
	assert_non_null(at);
	end = strchr(at + 1, ' ');
	assert_int_equal(end - at - 8, 1022); /* 1,023 at most, and two bytes each */
}

/* ---- what schemas require ---- */

static const struct {
	const char *kind, *before, *after_node, *after_time;
	int class, activity;
} kinds[] = {
	{ "authz.decision", "\"decision\":\"deny\",\"generation\":3,",
	  "\"pep\":\"unix:0\",\"policy_sha256\":\"" HASH "\",", ",\"tool\":\"files/read\"", 6003,
	  99 },
	{ "authz.decision", "\"action\":\"models/invoke\",\"agent\":\"spiffe://a.example/x\",", "",
	  "", 6003, 99 },
	{ "authz.decision", "", "", "", 6003, 99 },
	{ "authz.search", "", "\"pep\":\"unix:0\",", "", 6003, 2 },
	{ "request.refused", "", "", "", 6003, 99 },
	{ "identity.issue", "\"agent\":\"spiffe://a.example/x\",", "", "", 3002, 3 },
	{ "identity.issue", "", "", "", 3002, 3 },
	{ "identity.refuse", "", "", "", 3002, 3 },
	{ "identity.revoke", "", "", "", 3002, 99 },
	{ "token.issue", "\"agent\":\"spiffe://a.example/x\",", "", "", 3002, 4 },
	{ "token.refuse", "\"agent\":\"spiffe://a.example/x\",", "", "", 3002, 4 },
	{ "token.revoke", "", "\"pep\":\"unix:0\",", "", 3002, 99 },
	{ "log.open", "", "", "", 1008, 6 },
	{ "log.close", "", "", "", 1008, 7 },
	{ "log.gap", "\"cause\":\"unclean_stop\",", "", "", 1008, 99 },
	{ "log.export", "", "\"pep\":\"unix:0\",", "", 1008, 3 },
	{ "log.prune", "", "", "", 1008, 2 },
	{ "log.redact", "", "", "", 1008, 99 },
	{ "key.rotate", "\"act\":\"prepare\",", "", "", 1008, 5 },
	{ "tool.definition", "", "", ",\"tool\":\"files/read\"", 3004, 3 },
	{ "key.federated", "", "", ",\"trust_domain\":\"b.example\"", 3004, 3 },
	{ "key.issuer", "\"issuer\":\"https://ci.example\",", "", "", 3004, 3 },
	{ "policy.load", "\"act\":\"watch\",", "", "", 3004, 3 },
	{ "policy.refused", "\"act\":\"watch\",", "", "", 3004, 3 },
	{ "policy.rollout", "\"act\":\"start\",", "", "", 3004, 3 },
	{ "admin.action", "\"act\":\"agent.register\",\"agent\":\"spiffe://a.example/x\",", "", "",
	  3004, 1 },
	{ "admin.action", "\"act\":\"agent.suspend\",\"agent\":\"spiffe://a.example/x\",", "", "",
	  3004, 12 },
	{ "admin.action", "\"act\":\"agent.resume\",\"agent\":\"spiffe://a.example/x\",", "", "",
	  3004, 8 },
	{ "admin.action", "\"act\":\"agent.retire\",\"agent\":\"spiffe://a.example/x\",", "", "",
	  3004, 4 },
	{ "admin.action", "\"act\":\"agent.token\",", "", "", 3004, 6 },
	{ "admin.action", "\"act\":\"federation.add\",", "", "", 3004, 1 },
	{ "admin.action", "\"act\":\"something.new\",", "", "", 3004, 99 },
	{ "usage.report", "", "", "", 3004, 99 },
	{ "never.heard.of", "", "", "", 3004, 99 },
};

/* Required members of OCSF 1.8.0 (sheet 18.2); "a|b": at least one of them. class 0: every event.
 */
static const struct {
	int class;
	const char *path;
	enum json_type type;
} required[] = {
	{ 0, "activity_id", JSON_INT },
	{ 0, "category_uid", JSON_INT },
	{ 0, "class_uid", JSON_INT },
	{ 0, "type_uid", JSON_INT },
	{ 0, "severity_id", JSON_INT },
	{ 0, "time", JSON_INT },
	{ 0, "metadata.version", JSON_STRING },
	{ 0, "metadata.product.name", JSON_STRING },
	{ 0, "unmapped.writ.index", JSON_STRING },
	{ 0, "unmapped.writ.leaf_hash", JSON_STRING },
	{ 6003, "actor.user|actor.app_uid|actor.app_name|actor.session|actor.process", JSON_NULL },
	{ 6003, "api.operation", JSON_STRING },
	{ 6003, "src_endpoint.ip|src_endpoint.hostname|src_endpoint.uid|src_endpoint.name",
	  JSON_STRING },
	{ 6003, "action_id", JSON_INT },
	{ 6003, "disposition_id", JSON_INT },
	{ 3002, "user.name|user.uid", JSON_STRING },
	{ 3002, "service.name|dst_endpoint.ip", JSON_STRING },
	{ 3004, "entity.name|entity.uid", JSON_STRING },
	{ 1008, "device.type_id", JSON_INT },
	{ 1008, "device.hostname|device.name|device.uid|device.ip", JSON_STRING },
	{ 1008, "actor.user|actor.app_uid|actor.app_name", JSON_NULL },
	{ 1008, "log_name|log_provider|log_file", JSON_STRING },
};

/* "a.b|c": the first of the alternatives that is there. */
static const struct json *find(const struct json *v, const char *paths)
{
	struct str left = str_c(paths), one, part, rest;

	while (left.n) {
		const struct json *at = v;

		if (!str_cut(left, '|', &one, &left)) {
			one = left;
			left = (struct str){ 0 };
		}
		for (rest = one; at && rest.n; at = json_get(at, part))
			if (!str_cut(rest, '.', &part, &rest)) {
				part = rest;
				rest = (struct str){ 0 };
			}
		if (at)
			return at;
	}
	return NULL;
}

static const struct json *parse(struct arena *a, struct str text)
{
	const struct json *v;
	struct err e = { 0 };

	if (!json_parse(text, &json_default_limits, a, &v, &e))
		fail_msg("%s: %.*s", e.msg, STR_FMT(text));
	return v;
}

static int64_t number(const struct json *v, const char *path)
{
	const struct json *n = find(v, path);

	assert_true(n && n->type == JSON_INT);
	return n->i;
}

static void ocsf_has_what_the_schema_requires(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, (size_t)4 * 1024 * 1024);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct str got = row("ocsf",
				     str_c(leaf_with(kinds[i].before, kinds[i].kind,
						     kinds[i].after_node, kinds[i].after_time)));
		const struct json *v = parse(&a, got);

		for (size_t j = 0; j < ARRAY_LEN(required); j++) {
			const struct json *m = find(v, required[j].path);

			if (required[j].class && required[j].class != kinds[i].class)
				continue;
			if (!m || (required[j].type != JSON_NULL && m->type != required[j].type))
				fail_msg("%s: %s: %s", kinds[i].kind, required[j].path, got.p);
		}
		if (number(v, "class_uid") != kinds[i].class ||
		    number(v, "activity_id") != kinds[i].activity)
			fail_msg("%s: %s", kinds[i].kind, got.p);
		assert_int_equal(number(v, "category_uid"), kinds[i].class / 1000);
		assert_int_equal(number(v, "type_uid"), kinds[i].class * 100 + kinds[i].activity);
		if (kinds[i].activity == 99) /* then a name is required */
			assert_non_null(find(v, "activity_name"));
		assert_true(str_eq(find(v, "metadata.version")->s, STR("1.8.0")));
		assert_int_equal(number(v, "time"), 1760000000123);
	}
	arena_clear(&a);
}

static void ocsf_outcomes(void **state)
{
	static const struct {
		const char *decision;
		int status, action, disposition, severity;
	} cases[] = {
		{ "permit", 1, 1, 1, 1 },
		{ "deny", 2, 2, 2, 2 },
		{ "ask", 2, 2, 23, 2 },
	};
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, (size_t)1024 * 1024);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char decision[40];
		const struct json *v;

		snprintf(decision, sizeof(decision), "\"decision\":\"%s\",", cases[i].decision);
		v = parse(&a, row("ocsf", str_c(leaf_with(decision, "authz.decision", "", ""))));
		assert_int_equal(number(v, "status_id"), cases[i].status);
		assert_int_equal(number(v, "action_id"), cases[i].action);
		assert_int_equal(number(v, "disposition_id"), cases[i].disposition);
		assert_int_equal(number(v, "severity_id"), cases[i].severity);
	}
	arena_clear(&a);
}

static void otlp_is_what_collectors_read(void **state)
{
	struct arena a;
	const struct json *v, *attribute = NULL, *list;

	(void)state;
	arena_init(&a, &mem_system, (size_t)1024 * 1024);
	v = parse(&a, row("otlp", str_c(leaf_with("\"decision\":\"deny\",", "authz.decision", "",
						  ",\"tool\":\"files/read\",\"trace_id\":"
						  "\"4bf92f3577b34da6a3ce929d0e0e4736\""))));
	assert_true(str_eq(find(v, "timeUnixNano")->s, STR("1760000000123000000")));
	assert_int_equal(number(v, "severityNumber"), 13);
	assert_true(str_eq(find(v, "eventName")->s, STR("writ.authz.decision")));
	assert_true(str_eq(find(v, "traceId")->s, STR("4bf92f3577b34da6a3ce929d0e0e4736")));
	list = find(v, "attributes");
	for (uint32_t i = 0; i < list->n; i++)
		if (str_eq(json_get(&list->items[i], STR("key"))->s, STR("writ.log.index")))
			attribute = &list->items[i];
	assert_non_null(attribute);
	assert_true(str_eq(find(attribute, "value.intValue")->s, STR("7"))); /* as a string */
	buf_reset(&out);
	audit_format_line(&format_otlp, &record, &out);
	assert_true(str_ends(buf_str(&out), STR("]}]}]}\n")));
	v = parse(&a, str_first(buf_str(&out), out.n - 1));
	assert_non_null(json_get_type(v, STR("resourceLogs"), JSON_ARRAY));
	arena_clear(&a);
}

static void cloudevents_have_their_members(void **state)
{
	static const char *const members[] = { "id",   "source",   "specversion", "type",
					       "time", "leafhash", "logindex" };
	const char *leaf = leaf_with("\"agent\":\"spiffe://a.example/x\",", "authz.decision", "",
				     "");
	struct arena a;
	const struct json *v;

	(void)state;
	arena_init(&a, &mem_system, (size_t)1024 * 1024);
	v = parse(&a, row("cloudevents", str_c(leaf)));
	for (size_t i = 0; i < ARRAY_LEN(members); i++)
		assert_non_null(json_get_type(v, str_c(members[i]), JSON_STRING));
	assert_true(str_eq(find(v, "id")->s, STR("acme.example/writ/7")));
	assert_true(str_eq(find(v, "source")->s, STR("acme.example/writ")));
	assert_true(str_eq(find(v, "specversion")->s, STR("1.0")));
	assert_true(str_eq(find(v, "type")->s, STR("writ.authz.decision")));
	assert_true(str_eq(find(v, "data")->raw, str_c(leaf))); /* verbatim: it can be hashed */
	arena_clear(&a);
}

/* Whatever stands in a member, JSON stays JSON and a line stays a line. */
static void hostile_values_stay_inside(void **state)
{
	static const char *const values[] = {
		"\\n{\\\"header\\\":1}", "\\\"},\\\"evil\\\":{", "\\u0001\\u001f", "\\\\",
		"\xe2\x80\xa8",		 "\xf0\x9f\x9a\x80",	 "</script>",	   "%s%n",
	};
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, (size_t)16 * 1024 * 1024);
	for (size_t i = 0; i < ARRAY_LEN(values); i++)
		for (size_t k = 0; audit_formats[k]; k++) {
			char before[200], leaf[1024];
			struct str got;

			snprintf(before, sizeof(before), "\"action\":\"%s\",\"agent\":\"%s\",",
				 values[i], values[i]);
			snprintf(leaf, sizeof(leaf),
				 "{%s\"boot\":\"b\",\"kind\":\"authz.decision\"," NODE "," TAIL
				 ",\"tool\":\"%s\",\"v\":1}",
				 before, values[i]);
			got = row(audit_formats[k]->name, str_c(leaf));
			if (audit_formats[k] == &format_csv)
				assert_int_equal(columns(got), columns(str_c(format_csv.head)));
			else
				assert_null(memchr(got.p, '\n', got.n));
			if (audit_formats[k] != &format_csv && audit_formats[k] != &format_cef)
				(void)parse(&a, got);
		}
	arena_clear(&a);
}

/* A leaf as large as leaves get, of what grows most. */
static void the_largest_leaf_fits(void **state)
{
	static char leaf[FORMAT_LEAF_MAX + 1];
	static const char start[] = "{\"agent\":\"",
			  end[] = "\",\"boot\":\"b\",\"kind\":\"authz.decision\"," NODE "," TAIL
				  ",\"v\":1}";
	static const char unit[] = "\\u001f";
	size_t n = sizeof(start) - 1;

	(void)state;
	memcpy(leaf, start, n);
	while (n + sizeof(unit) - 1 + sizeof(end) - 1 <= FORMAT_LEAF_MAX) {
		memcpy(leaf + n, unit, sizeof(unit) - 1);
		n += sizeof(unit) - 1;
	}
	memcpy(leaf + n, end, sizeof(end));
	for (size_t k = 0; audit_formats[k]; k++) {
		struct str got = row(audit_formats[k]->name, str_c(leaf));

		assert_true(got.n < FORMAT_ROW_MAX);
	}
}

static void what_is_no_leaf_is_refused(void **state)
{
	static const char *const leaves[] = { "", "{}", "[]", "{\"v\":1}",
					      "{\"boot\":\"b\",\"kind\":\"k\"}" };
	struct err e = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(leaves); i++)
		assert_false(format_record_read(&record, STR("o"), str_c(leaves[i]), STR(HASH),
						&scratch, &e));
	assert_null(audit_format_find(STR("xml"), &e));
	assert_string_equal(e.code, "invalid_request");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(csv_cells),
		cmocka_unit_test(csv_has_a_place_for_everything),
		cmocka_unit_test(cef_escapes),
		cmocka_unit_test(cef_header_is_escaped),
		cmocka_unit_test(cef_cuts_between_characters),
		cmocka_unit_test(ocsf_has_what_the_schema_requires),
		cmocka_unit_test(ocsf_outcomes),
		cmocka_unit_test(otlp_is_what_collectors_read),
		cmocka_unit_test(cloudevents_have_their_members),
		cmocka_unit_test(hostile_values_stay_inside),
		cmocka_unit_test(the_largest_leaf_fits),
		cmocka_unit_test(what_is_no_leaf_is_refused),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
