/* Each hazard of Lua in a server as a hostile policy: the answer is deny, within the budget, the
 * memory stays under its cap, and the next request on the same state comes out right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "authz/base/text.h"
#include "tests/policy/policy_help.h"

#define DOC(id, extra)                                                                            \
	"{\"action\":{\"name\":\"read\"},\"resource\":{\"type\":\"doc\",\"id\":\"" id "\"}" extra \
	"}"

/* @body is what `when` of a rule does that applies to the document "evil". The row expects the
 * reason, and for errors a part of the text. No reason: the set must not load, because of @part. */
static const struct {
	const char *why, *top, *body, *reason, *part;
} rows[] = {
	{ "1 load", "", "return load('return 1')()", NULL, "\"load\" is not known" },
	{ "1 loadstring", "", "return loadstring('x')", NULL, "\"loadstring\" is not known" },
	{ "1 dofile", "", "return dofile('/etc/passwd')", NULL, "\"dofile\" is not known" },
	{ "1 require", "", "return require('os')", NULL, "\"require\" is not known" },
	{ "1 package", "", "return package.loaded", NULL, "\"package\" is not known" },
	{ "2 string.dump", "", "return string.dump(fail)", NULL, "\"string\" is not known" },
	{ "2 str.dump", "", "return str.dump(fail)", NULL, "str has no \"dump\"" },
	{ "3 doubling a text", "", "local s = 'x' while true do s = s .. s end", "policy_budget",
	  "not enough memory" },
	{ "3 a table for ever", "", "local t = {} for i = 1, 1e9 do t[i] = i end", "policy_budget",
	  "" },
	{ "4 rep of a text", "", "local s = 'x' return s:rep(1e9) == ''", "policy_error", "rep" },
	{ "4 rep of nothing", "", "return (''):rep(2^50) == ''", "policy_error", "rep" },
	{ "5 table.move", "", "return table.move({}, 1, 2^50, 2)", NULL, "\"table\" is not known" },
	{ "6 find", "", "local s = 'aaa' return s:find('a-a-a-b') == nil", "policy_error", "find" },
	{ "6 match", "", "local s = 'aaa' return s:match('.-b') == nil", "policy_error", "match" },
	{ "6 gsub", "", "local s = 'a' return s:gsub('a', 'b') == 'b'", "policy_error", "gsub" },
	{ "6 gmatch", "", "local s = 'a' for x in s:gmatch('a') do end", "policy_error", "gmatch" },
	{ "7 contains, over and over", "",
	  "local s = q.context.big while true do if str.contains(s, 'b') then return true end end",
	  "policy_budget", "stopped" },
	{ "7 glob, over and over", "",
	  "while true do if glob('*a*a*a*a*b', q.context.big) then return true end end",
	  "policy_budget", "stopped" },
	{ "7 split, over and over", "",
	  "local by = str.sub(q.context.big, 1, 100) while true do str.split(q.context.big, by) end",
	  "policy_budget", "" },
	{ "7 split into too much", "", "return #str.split(q.context.big, 'a') > 0", "policy_error",
	  "more than 10000 parts" },
	{ "7 upper, over and over", "", "while true do str.upper(q.context.big) end",
	  "policy_budget", "" },
	{ "8 format", "", "return ('%99.99f'):format(1) == ''", "policy_error", "format" },
	{ "9 table.concat", "", "return table.concat({})", NULL, "\"table\" is not known" },
	{ "9 join of much", "",
	  "local t = {} for i = 1, 9000 do t[i] = q.context.big end return str.join(t, '') == ''",
	  "policy_budget", "" },
	{ "9 sorting pairs, over and over", "",
	  "local t = {} for i = 1, 2000 do t[i] = i end while true do for k in pairs(t) do break end "
	  "end",
	  "policy_budget", "" },
	{ "10 unpack", "", "return table.unpack({}, 1, 1e6)", NULL, "\"table\" is not known" },
	{ "10 varargs for ever", "local function f(...) return f(1, ...) end", "return f()",
	  "policy_budget", "" },
	{ "11 the text metatable", "", "return getmetatable('').__index", NULL,
	  "\"getmetatable\" is not known" },
	{ "12 adding to a text", "", "return '10' + 1 == 11", "policy_error", "arithmetic" },
	{ "12 negating a text", "", "return -'2' == -2", "policy_error", "arithmetic" },
	{ "12 comparing a text to a number", "", "return '600' > 500", "policy_error", "compare" },
	{ "13 finalizers", "", "return setmetatable({}, { __gc = fail })", NULL,
	  "\"setmetatable\" is not known" },
	{ "14 to be closed", "", "local x <close> = nil return true", NULL, "to be closed" },
	{ "15 coroutines", "", "return coroutine.wrap(fail)()", NULL,
	  "\"coroutine\" is not known" },
	{ "16 pcall", "", "while true do pcall(fail) end", NULL, "\"pcall\" is not known" },
	{ "16 xpcall", "", "while true do xpcall(fail, fail) end", NULL,
	  "\"xpcall\" is not known" },
	{ "17 error with a table", "", "return error({})", NULL, "\"error\" is not known" },
	{ "17 assert with a table", "", "return assert(false, {})", "policy_error",
	  "assertion failed" },
	{ "17 fail with control characters", "", "return fail('co\\27[31mde', 'a\\nb\\0c')",
	  "policy_error", "co?[31mde: a?b" },
	{ "17 fail with a table", "", "return fail({})", "policy_error", "a text was expected" },
	{ "17 a very long text", "", "return fail(q.context.big)", "policy_error", "aaaa" },
	{ "18 memory gone while C builds", "",
	  "local t = {} while true do t[#t + 1] = q.context.big "
	  ".. #t end",
	  "policy_budget", "" },
	{ "19 recursion", "local function f(n) return 1 + f(n + 1) end", "return f(1) == 0",
	  "policy_budget", "" },
	{ "19 recursion through C", "local function f(x) return any({ 1 }, f) end", "return f(1)",
	  "policy_error", "overflow" },
	{ "19 tail calls for ever", "local function f(n) return f(n) end", "return f(1)",
	  "policy_budget", "stopped after" },
	{ "21 debug", "", "return debug.sethook()", NULL, "\"debug\" is not known" },
	{ "22 collectgarbage", "", "return collectgarbage('stop')", NULL,
	  "\"collectgarbage\" is not known" },
	{ "23 os", "", "return os.exit(1)", NULL, "\"os\" is not known" },
	{ "23 io", "", "return io.open('/etc/passwd')", NULL, "\"io\" is not known" },
	{ "23 print", "", "return print('x')", NULL, "\"print\" is not known" },
	{ "24 rawset", "", "return rawset(str, 'x', 1)", NULL, "\"rawset\" is not known" },
	{ "24 rawget", "", "return rawget(str, 'x')", NULL, "\"rawget\" is not known" },
	{ "24 next", "", "return next(str)", NULL, "\"next\" is not known" },
	{ "25 a global", "", "x = 1 return true", NULL, "assignment to global \"x\"" },
	{ "25 a global at the top", "x = 1", "return true", NULL, "assignment to global \"x\"" },
	{ "25 _G", "", "return _G.str", NULL, "\"_G\" is not known" },
	{ "25 _ENV", "", "return _ENV['lo' .. 'ad']", NULL, "_ENV is not for policies" },
	{ "25 writing into the vocabulary", "", "str.lower = fail return true", "policy_error",
	  "read-only" },
	{ "25 writing into math", "", "local m = math m.huge = 0 return true", "policy_error",
	  "read-only" },
	{ "26 a table that remembers", "local seen = {}", "seen[1] = true return true",
	  "policy_error", "read-only" },
	{ "26 a table inside that remembers", "local seen = { a = { b = {} } }",
	  "seen.a.b[1] = true return true", "policy_error", "read-only" },
	{ "26 a table that remembers, behind a function",
	  "local seen = {} local function get() return seen end", "get().x = 1 return true",
	  "policy_error", "read-only" },
	{ "26 a table seen through pairs", "local seen = { a = {} }",
	  "for _, v in pairs(seen) do v.x = 1 end return true", "policy_error", "read-only" },
	{ "26 a table seen through ipairs", "local seen = { {} }",
	  "for _, v in ipairs(seen) do v.x = 1 end return true", "policy_error", "read-only" },
	{ "26 a number that remembers", "local n = 0", "n = n + 1 return true", NULL,
	  "assignment to \"n\"" },
	{ "26 a counter made by a function",
	  "local function counter() local n = 0 return function() n = n + 1 return n end end local c "
	  "= counter()",
	  "return c() > 0", NULL, "assignment to \"n\"" },
	{ "26 a kept iterator", "local it = pairs({ a = 1 })", "return it(nil, nil) == 'a'", NULL,
	  "an iterator must not be kept" },
	{ "26 q kept in a table", "local keep = {}", "keep.q = q return true", "policy_error",
	  "read-only" },
	{ "27 colliding keys", "",
	  "local t = {} for i = 1, 1e6 do t[i * 32767] = i end return true", "policy_budget", "" },
	{ "29 random", "", "return math.random() > 0", NULL, "math has no \"random\"" },
	{ "29 the address of a table", "", "return tostring({}) == ''", "policy_error",
	  "tostring takes" },
	{ "29 the address of a function", "", "return tostring(fail) == ''", "policy_error",
	  "tostring takes" },
	{ "30 NaN as a key", "", "local t = {} t[0/0] = 1 return true", "policy_error", "NaN" },
	{ "30 division by zero", "", "return 1 // 0 == 0", "policy_error", "zero" },
	{ "31 an absent table", "", "return q.context.user.name == 'x'", "policy_error",
	  "index a nil value" },
	{ "31 a misspelt member", "", "return not q.contexxt", NULL, "did you mean \"context\"" },
	{ "33 a loop for ever", "", "while true do end", "policy_budget", "200000 instructions" },
	{ "33 repeat for ever", "", "repeat until false", "policy_budget", "200000 instructions" },
	{ "33 goto for ever", "", "::a:: goto a", "policy_budget", "200000 instructions" },
	{ "33 a for with no end", "", "for i = 1, math.huge do end return true", "policy_budget",
	  "200000 instructions" },
	{ "2.1 bit operators", "", "return 1 & 3 == 1", NULL, "bit operators" },
	{ "2.1 bit not", "", "return ~1 == -2", NULL, "bit operators" },
	{ "2.1 const _ENV", "local _ENV <const> = {}", "return true", NULL, "_ENV" },
	{ "2.3 a bytecode file", "\x1bLua", "return true", NULL, "not UTF-8 text" },
	{ "2.5 a comparison as an index", "local T = { [true] = true, [false] = false }",
	  "local a = 1 return T[a < 2]", NULL, "a comparison as an index" },
};

static char big_request[70000];

static void make_big(const char *id)
{
	int n = snprintf(
		big_request, sizeof(big_request),
		"{\"action\":{\"name\":\"read\"},\"resource\":{\"type\":\"doc\",\"id\":\"%s\"},"
		"\"context\":{\"big\":\"",
		id);

	memset(big_request + n, 'a', 60000);
	strcpy(big_request + n + 60000, "\"}}"); /* NOLINT: there is room */
}

static void check_row(size_t i, struct policy_help_alloc *pool)
{
	static char source[8192];
	struct policy_findings findings;
	struct policy_set *set;
	struct policy_state *st;
	struct policy_result r;
	const char *error, *said;
	struct arena a;
	int64_t took;
	/* Stands still where the row says what stops it, however slow we run: instructions or
	 * memory. Where it does not, wall time may be first. */
	struct clock_fixed hands = { POLICY_HELP_NOW, 1 };
	struct clock clock = rows[i].part[0] ? clock_of_fixed(&hands) : clock_system;

	snprintf(
		source, sizeof(source),
		"%s\npolicy 'p' {\n permit 'good' { on = { action = 'read', id = 'good' }, when = "
		"function(q) return str.len(q.resource.id) == 4 end },\n"
		" permit 'fallback' { on = { action = 'read' } },\n"
		" permit 'evil' { on = { action = 'read', id = 'evil' }, when = function(q) %s end } }",
		rows[i].top, rows[i].body);
	set = policy_help_load(&findings, "p.lua", source, NULL);
	if (!rows[i].reason) {
		const struct policy_finding *f = policy_help_finding(&findings, NULL, rows[i].part);

		if (set || !f || !f->error || f->line < 1)
			fail_msg("%s: loaded, or said \"%s\"", rows[i].why,
				 findings.n ? findings.items[0].message.p : "");
		policy_findings_clear(&findings);
		return;
	}
	if (!set)
		fail_msg("%s: %s", rows[i].why, findings.items[0].message.p);
	policy_findings_clear(&findings);
	arena_init(&a, &mem_system, 8 << 20);
	st = policy_state_new(set, &pool->alloc, &clock, NULL);
	make_big("evil");
	for (int again = 0; again < 3; again++) {
		took = clock_mono_ns(&clock_system);
		r = policy_help_ask(st, big_request, &a);
		took = clock_mono_ns(&clock_system) - took;
		error = r.error.p ? r.error.p : "";
		said = r.message.p ? r.message.p : "p.lua";
		if (r.decision != DECISION_DENY || !str_eq(r.reason, str_c(rows[i].reason)) ||
		    !strstr(error, rows[i].part) || !str_eq(r.rule, STR("p/evil")))
			fail_msg("%s: %s (%.*s)", rows[i].why, policy_help_text(&r, &a),
				 STR_FMT(r.error));
		if (!strstr(error, "p/evil: p.lua:") || !r.message.p || strstr(said, "p.lua") ||
		    !text_is_printable(r.error) || r.error.n > 700)
			fail_msg("%s: %s", rows[i].why, error);
		if (took > INT64_C(500000000)) /* 5 ms, on a busy machine under a sanitizer */
			fail_msg("%s: %lld ms", rows[i].why, (long long)took / 1000000);
		if (pool->peak > 4 << 20) /* 1 MiB + 16 * 60 KiB, and slack of size classes */
			fail_msg("%s: %zu bytes", rows[i].why, pool->peak);
		r = policy_help_ask(st, DOC("good", ""), &a);
		if (strcmp(policy_help_text(&r, &a), "permit permitted p/fallback") != 0)
			fail_msg("%s: then %s (%.*s)", rows[i].why, policy_help_text(&r, &a),
				 STR_FMT(r.error));
	}
	policy_state_free(st);
	arena_clear(&a);
	shared_release(&set->shared);
}

static void hazards_end_in_deny(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct policy_help_alloc pool;

		policy_help_alloc_init(&pool);
		check_row(i, &pool);
		assert_int_equal(pool.live, 0);
	}
}

/* A clock that jumps each time it is read: the wall budget trips, whatever the instructions. */
struct jumping {
	int64_t ns;
};

static int64_t jump(void *ctx)
{
	struct jumping *j = ctx;

	return j->ns += 3000000;
}

static void wall_time_is_a_budget_of_its_own(void **state)
{
	struct policy_set *set = policy_help_rules(
		"policy 'p' { permit 'a' { on = { action = 'read' }, when = function(q) local n = 0 for "
		"i = 1, 5000 do n = n + i end return n > 0 end } }");
	struct jumping j = { 0 };
	struct clock slow = { jump, jump, &j };
	struct policy_state *st = policy_state_new(set, &mem_system, &slow, NULL);
	struct policy_result r;
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, 1 << 20);
	r = policy_help_ask(st, DOC("d", ""), &a);
	assert_string_equal(policy_help_text(&r, &a), "deny policy_budget p/a");
	if (!strstr(r.error.p, "stopped after 5 ms"))
		fail_msg("%s", r.error.p);
	policy_state_free(st);
	st = policy_state_new(set, &mem_system, &clock_system, NULL);
	r = policy_help_ask(st, DOC("d", ""), &a);
	assert_string_equal(policy_help_text(&r, &a), "permit permitted p/a");
	assert_true(r.instructions >= 10000 && r.instructions < 40000);
	policy_state_free(st);
	arena_clear(&a);
	shared_release(&set->shared);
}

/* Many keys, deep nesting, long texts: what a request can bring is bounded and does no harm. */
static void large_requests_are_taken(void **state)
{
	struct policy_set *set = policy_help_rules(
		"policy 'p' { permit 'a' { on = { action = 'read' }, when = function(q) local n = 0 for "
		"k, v in pairs(q.context.keys) do n = n + v end return n == 200 and "
		"not has(q.context.list, 'x') and #q.context.list == 20000 end } }");
	struct policy_state *st = policy_state_new(set, &mem_system, &clock_system, NULL);
	struct policy_result r;
	struct arena a;
	struct buf b;

	(void)state;
	arena_init(&a, &mem_system, 64 << 20);
	buf_in_arena(&b, &a, 8 << 20);
	buf_lit(&b, "{\"action\":{\"name\":\"read\"},\"resource\":{\"type\":\"doc\",\"id\":\"d\"},"
		    "\"context\":{\"keys\":{");
	for (int i = 0; i < 200; i++)
		buf_printf(&b, "%s\"k%d\":1", i ? "," : "", i);
	buf_lit(&b, "},\"list\":[0");
	for (int i = 1; i < 20000; i++)
		buf_printf(&b, ",%d", i);
	buf_lit(&b, "]}}");
	buf_char(&b, '\0');
	r = policy_help_ask(st, b.p, &a);
	if (r.decision != DECISION_PERMIT && !str_eq(r.reason, STR(REASON_POLICY_BUDGET)))
		fail_msg("%s (%.*s)", policy_help_text(&r, &a), STR_FMT(r.error));
	policy_state_free(st);
	arena_clear(&a);
	shared_release(&set->shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hazards_end_in_deny),
		cmocka_unit_test(wall_time_is_a_budget_of_its_own),
		cmocka_unit_test(large_requests_are_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
