/* Pins in the catalogue: what a load takes and refuses, and what is denied by them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "tests/policy/policy_help.h"

/* {"description":"d","name":"b"} and what it became */
#define DEFINITION "{\"name\":\"b\", \"description\":\"d\"}"
#define CANONICAL "{\"description\":\"d\",\"name\":\"b\"}"
#define ONE "sha256:e3b8354e0256772cb03654202acc94ee60c477885bb477915a7b22dc59c206e0"
#define TWO "sha256:0000000000000000000000000000000000000000000000000000000000000002"
#define THREE "sha256:0000000000000000000000000000000000000000000000000000000000000003"
#define TOOL "tool 'a/b' { effect = 'read', args = {} }\n"

static const struct {
	const char *why, *text;
	char kind; /* e error, w warning, - nothing */
	const char *part;
} rows[] = {
	{ "a digest", "tool 'a/b' { effect = 'read', args = {}, digest = '" TWO "' }", '-', "" },
	{ "pins", TOOL "pins 'a' { b = '" TWO "' }", '-', "" },
	{ "pins by table", TOOL "pins 'a' { b = { digest = '" TWO "' } }", '-', "" },
	{ "pins with a name that is no identifier",
	  "tool 'a/b-c/d' { effect = 'read', args = {} } pins 'a' { ['b-c/d'] = '" TWO "' }", '-',
	  "" },
	{ "no pins", "pins 'a' {}", '-', "" },
	{ "upper case",
	  TOOL "pins 'a' { b = 'sha256:"
	       "A000000000000000000000000000000000000000000000000000000000000002' }",
	  'e', "in lower case" },
	{ "no digest", TOOL "pins 'a' { b = 'sha256' }", 'e', "digest is \"sha256\"; expected" },
	{ "a number", TOOL "pins 'a' { b = 1 }", 'e', "digest is integer; expected" },
	{ "a number in a tool", "tool 'a/b' { effect = 'read', args = {}, digest = 1 }", 'e',
	  "pin of \"a/b\": digest is integer" },
	{ "a table without", TOOL "pins 'a' { b = {} }", 'e', "digest is missing" },
	{ "a list", TOOL "pins 'a' { b = { '" TWO "' } }", 'e', "digest is array" },
	{ "a slip", TOOL "pins 'a' { b = { digest = '" TWO "', definiton = '{}' } }", 'e',
	  "did you mean \"definition\"?" },
	{ "a definition of another digest",
	  TOOL "pins 'a' { b = { digest = '" TWO "', definition = '" DEFINITION "' } }", 'e',
	  "digest is not that of definition, which is sha256:" },
	{ "a definition that is no JSON",
	  TOOL "pins 'a' { b = { digest = '" TWO "', definition = '{' } }", 'e',
	  "no JSON object: invalid JSON at byte 1" },
	{ "a definition that is a list",
	  TOOL "pins 'a' { b = { digest = '" TWO "', definition = '[]' } }", 'e',
	  "no JSON object" },
	{ "a definition that is a table",
	  TOOL "pins 'a' { b = { digest = '" TWO "', definition = { name = 'b' } } }", 'e',
	  "expected a text of JSON" },
	{ "twice", TOOL "pins 'a' { b = '" TWO "' } pins 'a' { b = '" TWO "' }", 'e',
	  "\"a/b\" is already pinned at catalogue/c.lua:2" },
	{ "in both places",
	  "tool 'a/b' { effect = 'read', args = {}, digest = '" TWO "' }\npins 'a' { b = '" TWO
	  "' }",
	  'e', "already pinned" },
	{ "of no tool", TOOL "pins 'a' { bb = '" TWO "' }", 'w', "for no tool of the catalogue" },
	{ "of no tool, but near",
	  "tool 'files/read' { effect = 'read', args = {} }"
	  "pins 'files' { raed = '" TWO "' }",
	  'w', "did you mean \"files/read\"?" },
	{ "no server", "pins { b = '" TWO "' }", 'e', "pins needs a server" },
	{ "no table", "pins 'a' '" TWO "'", 'e', "pins holds no table" },
	{ "nothing behind", "local x = pins 'a'", 'e', "has no table" },
	{ "a list of pins", "pins 'a' { '" TWO "' }", 'e', "pins is a list" },
	{ "a function", "pins 'a' { b = fail }", 'e', "a function" },
	{ "a model has no pin", "model 'm' { digest = 7 }", '-', "" },
};

static void pins_are_checked(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct policy_findings f;
		struct policy_set *set = policy_help_load(&f, "p.lua", "policy 'p' { deny 'a' {} }",
							  "catalogue/c.lua", rows[i].text, NULL);

		if (!set != (rows[i].kind == 'e') || (rows[i].kind == '-') != (f.n == 0) ||
		    (f.n && !policy_help_finding(&f, "catalogue/c.lua", rows[i].part)))
			fail_msg("%s: %s", rows[i].why, f.n ? f.items[0].message.p : "nothing");
		policy_findings_clear(&f);
		if (set)
			shared_release(&set->shared);
	}
}

static void pins_are_found(void **state)
{
	struct policy_set *set = policy_help_load(NULL, "p.lua", "policy 'p' { deny 'a' {} }",
						  "catalogue/c.lua",
						  TOOL "tool 'a/c' { effect = 'read', args = {} }\n"
						       "pins 'a' { c = '" TWO "',\n"
						       "  b = { digest = '" ONE
						       "', definition = [==[\n" DEFINITION
						       "\n]==] } }\n"
						       "pins '0' { z = '" THREE "' }",
						  NULL);
	const struct policy_pin *p;
	size_t n;

	(void)state;
	p = policy_set_pins(set, &n);
	assert_int_equal(n, 3);
	assert_true(str_eq(p[0].tool, STR("0/z")) && str_eq(p[2].tool, STR("a/c")));
	assert_true(str_eq(p[1].digest, STR(ONE)));
	assert_true(str_eq(p[1].definition, STR(CANONICAL)));
	assert_true(str_eq(p[1].file, STR("catalogue/c.lua")) && p[1].line == 3);
	assert_ptr_equal(policy_set_pin(set, STR("a/c")), &p[2]);
	assert_int_equal(p[2].definition.n, 0);
	assert_null(policy_set_pin(set, STR("0/z"))); /* no tool of the catalogue */
	assert_null(policy_set_pin(set, STR("a/d")));
	shared_release(&set->shared);
}

#define CALL(id, more)                                                                       \
	"{\"action\":{\"name\":\"tools/call\"},\"resource\":{\"type\":\"tool\",\"id\":\"" id \
	"\"" more "}}"
#define STATED(digest) ",\"properties\":{\"definition_digest\":\"" digest "\"}"
#define NOT_REVIEWED "is not the one that was reviewed"

/* What is known of a/b: observed, pinned, accepted, changes. The catalogue pins TWO. */
static const struct {
	const char *why;
	struct policy_definition known;
	const char *request, *expect, *message;
} calls[] = {
#define KNOWN(o, p, a, c)                                                           \
	{                                                                           \
		STR_INIT("a/b"), STR_INIT(o), STR_INIT(p), STR_INIT(a), STR_INIT(c) \
	}
	{ "never seen", KNOWN("", "", "", ""), CALL("a/b", ""), "permit permitted p/a", "" },
	{ "as pinned", KNOWN(TWO, TWO, "", ""), CALL("a/b", ""), "permit permitted p/a", "" },
	{ "changed", KNOWN(THREE, TWO, "", "description changed"), CALL("a/b", ""),
	  "deny tool_definition_changed",
	  "the definition of a/b " NOT_REVIEWED ": description changed; your administrator" },
	{ "changed, nobody knows how", KNOWN(THREE, TWO, "", ""), CALL("a/b", ""),
	  "deny tool_definition_changed", NOT_REVIEWED "; your" },
	{ "changed, told against another pin", KNOWN(THREE, ONE, "", "title added"),
	  CALL("a/b", ""), "deny tool_definition_changed", NOT_REVIEWED "; your" },
	{ "changed and accepted", KNOWN(THREE, TWO, THREE, "title added"), CALL("a/b", ""),
	  "permit permitted p/a", "" },
	{ "another one was accepted", KNOWN(THREE, TWO, ONE, ""), CALL("a/b", ""),
	  "deny tool_definition_changed", "" },
	{ "accepted in place of another pin", KNOWN(THREE, ONE, THREE, ""), CALL("a/b", ""),
	  "deny tool_definition_changed", "" },
	{ "accepted, and as pinned again", KNOWN(TWO, TWO, THREE, ""), CALL("a/b", ""),
	  "permit permitted p/a", "" },
	{ "stated as pinned", KNOWN("", "", "", ""), CALL("a/b", STATED(TWO)),
	  "permit permitted p/a", "" },
	{ "stated as null", KNOWN("", "", "", ""),
	  CALL("a/b", ",\"properties\":{\"definition_digest\":null}"), "permit permitted p/a", "" },
	{ "other properties", KNOWN("", "", "", ""), CALL("a/b", ",\"properties\":{\"x\":1}"),
	  "permit permitted p/a", "" },
	{ "stated otherwise", KNOWN("", "", "", ""), CALL("a/b", STATED(THREE)),
	  "deny tool_definition_changed", "definition_digest stated for a/b" },
	{ "stated as a number", KNOWN("", "", "", ""),
	  CALL("a/b", ",\"properties\":{\"definition_digest\":2}"), "deny tool_definition_changed",
	  "" },
	{ "stated without sha256:", KNOWN("", "", "", ""),
	  CALL("a/b", STATED("0000000000000000000000000000000000000000000000000000000000000002")),
	  "deny tool_definition_changed", "" },
	{ "stated empty", KNOWN("", "", "", ""), CALL("a/b", STATED("")),
	  "deny tool_definition_changed", "" },
	{ "stated as accepted", KNOWN(TWO, TWO, THREE, ""), CALL("a/b", STATED(THREE)),
	  "permit permitted p/a", "" },
	{ "stated as pinned, seen otherwise", KNOWN(THREE, TWO, "", ""), CALL("a/b", STATED(TWO)),
	  "deny tool_definition_changed", NOT_REVIEWED },
	{ "seen as pinned, stated otherwise", KNOWN(TWO, TWO, "", ""), CALL("a/b", STATED(THREE)),
	  "deny tool_definition_changed", "stated" },
	{ "a tool without a pin", KNOWN(THREE, TWO, "", ""), CALL("a/free", STATED(THREE)),
	  "permit permitted p/a", "" },
	{ "another action", KNOWN(THREE, TWO, "", ""),
	  "{\"action\":{\"name\":\"tools/list\"},\"resource\":{\"type\":\"tool\",\"id\":\"a/b\"}}",
	  "permit permitted p/a", "" },
	{ "before the arguments", KNOWN(THREE, TWO, "", ""),
	  "{\"action\":{\"name\":\"tools/call\",\"properties\":{\"x\":1}},"
	  "\"resource\":{\"type\":\"tool\",\"id\":\"a/b\"}}",
	  "deny tool_definition_changed", "" },
};

static void calls_are_held_to_pins(void **state)
{
	struct policy_set *set = policy_help_load(
		NULL, "p.lua",
		"policy 'p' { permit 'a' { on = { action = { 'tools/call', 'tools/list' } } } }",
		"catalogue/c.lua",
		TOOL "tool 'a/free' { effect = 'read', args = {} }\npins 'a' { b = '" TWO "' }",
		NULL);
	struct policy_state *st = policy_state_new(set, &mem_system, &clock_system, NULL);
	struct policy_definition known[3] = { { .tool = STR_INIT("a/a") },
					      { .tool = STR_INIT("a/b") },
					      { .tool = STR_INIT("a/c") } };
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, (size_t)1024 * 1024);
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		struct policy_request q;
		struct policy_result r;
		bool looked;

		known[1] = calls[i].known;
		policy_help_request(calls[i].request, &a, &q);
		q.definitions = known;
		q.ndefinitions = ARRAY_LEN(known);
		policy_evaluate(st, &q, &a, &r);
		looked = strstr(calls[i].request, "a/b") && !strstr(calls[i].request, "tools/list");
		if (strcmp(policy_help_text(&r, &a), calls[i].expect) != 0 ||
		    !strstr(arena_dup(&a, r.message).p, calls[i].message) ||
		    (r.definition == &known[1]) != looked)
			fail_msg("%s: %s %.*s", calls[i].why, policy_help_text(&r, &a),
				 STR_FMT(r.message));
		q.definitions = NULL; /* nothing is known at all */
		q.ndefinitions = 0;
		policy_evaluate(st, &q, &a, &r);
		assert_null(r.definition);
	}
	arena_clear(&a);
	policy_state_free(st);
	shared_release(&set->shared);
}

/* Bytes of the arena that one evaluation takes, and of calls of the allocator in *taken. */
static size_t cost(struct policy_state *st, const char *tool, const struct policy_definition *known,
		   size_t n, struct policy_help_alloc *pool, struct arena *a, size_t *taken)
{
	struct policy_request request_of, *q = &request_of;
	struct policy_result r;
	char request[300];
	const char *from;

	snprintf(request, sizeof(request), CALL("%s", ""), tool);
	policy_help_request(request, a, q);
	q->definitions = known;
	q->ndefinitions = n;
	from = a->next;
	*taken = pool->calls;
	policy_evaluate(st, q, a, &r);
	*taken = pool->calls - *taken;
	assert_int_equal(r.decision, DECISION_PERMIT);
	return (size_t)(a->next - from);
}

/* On the path of a decision a pin is a comparison: it allocates nothing more. */
static void a_pin_costs_no_allocation(void **state)
{
	struct policy_help_alloc pool;
	struct policy_definition known[100];
	struct policy_set *set = policy_help_load(
		NULL, "p.lua", "policy 'p' { permit 'a' { on = { action = 'tools/call' } } }",
		"catalogue/c.lua",
		"tool 'a/pin' { effect = 'read', args = {}, digest = '" TWO "' }\n"
		"tool 'a/not' { effect = 'read', args = {} }\n",
		NULL);
	struct policy_state *st;
	size_t taken, plain;
	struct arena a;

	(void)state;
	policy_help_alloc_init(&pool);
	arena_init(&a, &pool.alloc, (size_t)1024 * 1024);
	st = policy_state_new(set, &pool.alloc, &clock_system, NULL);
	assert_non_null(st);
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		known[i] = (struct policy_definition){ .tool = arena_printf(&a,
									    i == 50  ? "a/pin"
									    : i < 50 ? "a/a%zu"
										     : "a/z%02zu",
									    10 + i),
						       .observed = STR(TWO) };
	plain = cost(st, "a/not", NULL, 0, &pool, &a, &taken);
	for (size_t n = 0; n <= ARRAY_LEN(known); n += ARRAY_LEN(known))
		if (cost(st, "a/pin", known, n, &pool, &a, &taken) != plain || taken)
			fail_msg("%zu known: not %zu bytes, or %zu allocations", n, plain, taken);
	arena_clear(&a);
	policy_state_free(st);
	shared_release(&set->shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pins_are_checked),
		cmocka_unit_test(pins_are_found),
		cmocka_unit_test(calls_are_held_to_pins),
		cmocka_unit_test(a_pin_costs_no_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
