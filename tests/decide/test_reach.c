/* Who could and what could: pages that leave nobody out, bounds, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>

#include "authz/decide/reach.h"
#include "tests/decide/rig.h"

#define TOOLS 300
#define AGENTS 150

static const char rules[] =
	"policy 'p' {\n"
	"  permit 'read' { on = { action = 'tools/call', effect = 'read', agent = { team = 'a' } } },\n"
	"  ask 'large' { on = { action = 'models/invoke', model = { tier = 3 } },\n"
	"    when = function(q) return q.now > 0 end },\n"
	"}\n";

static struct rig rig;
static struct arena arena;

static int start(void **state)
{
	char *text = malloc(TOOLS * (size_t)80 + 200), *at = text;

	(void)state;
	assert_non_null(text);
	for (int i = 0; i < TOOLS; i++)
		at += sprintf(at, "tool 's/t%04d' { effect = '%s', args = {} }\n", i,
			      i % 3 ? "read" : "write");
	sprintf(at, "model 'gpt-large' { tier = 3 }\nmodel 'gpt-small' { tier = 1 }\n");
	rig_start(&rig, rules, text);
	free(text);
	for (int i = 0; i < AGENTS; i++) {
		char id[64];

		snprintf(id, sizeof(id), "spiffe://test.example/agent/%d", i);
		rig_agent(&rig, id, i % 2 ? "a" : "b");
	}
	rig_change(&rig, "spiffe://test.example/agent/1", REGISTRY_SUSPEND);
	arena_init(&arena, &mem_system, 64 << 20);
	worker_turn_begin(&rig.worker);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	arena_clear(&arena);
	rig_stop(&rig);
	return 0;
}

static bool who(struct reach *r, const char *type, const char *id, struct str after, size_t limit,
		struct err *e)
{
	*r = (struct reach){ .arena = &arena, .after = after, .limit = limit };
	*e = (struct err){ 0 };
	return reach_who(&rig.worker, r,
			 str_eq(str_c(type), STR("tool")) ? STR("tools/call")
							  : STR("models/invoke"),
			 str_c(type), str_c(id), e);
}

static bool what(struct reach *r, const char *agent, struct str after, size_t limit, struct err *e)
{
	const struct registry_entry *entry = registry_find(worker_registry(&rig.worker),
							   str_c(agent));

	*r = (struct reach){ .arena = &arena, .after = after, .limit = limit };
	*e = (struct err){ 0 };
	assert_non_null(entry);
	return reach_what(&rig.worker, r, entry, e);
}

/* Every active agent of team a, each once, whatever the size of a page. */
static void pages_of_who_leave_nobody_out(void **state)
{
	static const size_t limits[] = { 1, 7, 64, 1000 };

	(void)state;
	for (size_t l = 0; l < ARRAY_LEN(limits); l++) {
		bool seen[AGENTS] = { false };
		struct str after = { NULL, 0 };
		size_t all = 0, pages = 0;
		struct reach r;
		struct err e;

		do {
			assert_true(who(&r, "tool", "s/t0001", after, limits[l], &e));
			assert_true(r.n <= limits[l]);
			for (size_t i = 0; i < r.n; i++) {
				long n = strtol(r.results[i].name.p +
							strlen("spiffe://test.example/agent/"),
						NULL, 10);

				assert_false(seen[n]);
				seen[n] = true;
				assert_int_equal(r.results[i].could, COULD_PERMIT);
				assert_int_equal(r.results[i].n, 1);
				all++;
			}
			after = r.last;
			assert_true(++pages < 1000);
		} while (r.more);
		assert_int_equal(all, AGENTS / 2 - 1); /* one is suspended */
		assert_false(seen[1]);
		assert_true(seen[3]);
		assert_false(seen[2]);
	}
}

static void pages_of_what_go_through_tools_and_models(void **state)
{
	static const size_t limits[] = { 1, 13, 200, 1000 };

	(void)state;
	for (size_t l = 0; l < ARRAY_LEN(limits); l++) {
		struct str after = { NULL, 0 }, before = { NULL, 0 };
		size_t tools = 0, models = 0, pages = 0;
		struct reach r;
		struct err e;

		do {
			assert_true(
				what(&r, "spiffe://test.example/agent/3", after, limits[l], &e));
			for (size_t i = 0; i < r.n; i++) {
				const struct reach_result *x = &r.results[i];

				if (str_eq(str_c(x->kind), STR("model"))) {
					assert_true(str_eq(x->name, STR("gpt-large")));
					assert_int_equal(x->could, COULD_DEPENDS);
					assert_int_equal(x->rules[0].when_line, 4);
					models++;
					continue;
				}
				assert_true(str_cmp(x->name, before) > 0);
				before = x->name;
				tools++;
			}
			after = r.last;
			assert_true(++pages < 1000);
		} while (r.more);
		assert_int_equal(tools, TOOLS / 3 * 2);
		assert_int_equal(models, 1);
	}
}

static void who_is_refused_what_does_not_exist(void **state)
{
	struct reach r;
	struct err e;

	(void)state;
	assert_false(who(&r, "tool", "no/such", (struct str){ NULL, 0 }, 10, &e));
	assert_string_equal(e.code, "unknown_tool");
	assert_false(who(&r, "model", "s/t0001", (struct str){ NULL, 0 }, 10, &e));
	assert_string_equal(e.code, "unknown_model");
	assert_false(what(&r, "spiffe://test.example/agent/3", STR("x"), 10, &e));
	assert_string_equal(e.code, "invalid_request");
	/* Suspended: denied everything. */
	assert_true(what(&r, "spiffe://test.example/agent/1", (struct str){ NULL, 0 }, 10, &e));
	assert_int_equal(r.n, 0);
	assert_false(r.more);
}

static void without_policies_it_says_so(void **state)
{
	struct reach r;
	struct err e;

	(void)state;
	slot_publish(&rig.core.policies, NULL);
	worker_turn_begin(&rig.worker);
	assert_false(who(&r, "tool", "s/t0001", (struct str){ NULL, 0 }, 10, &e));
	assert_string_equal(e.code, "no_policy");
	assert_false(what(&r, "spiffe://test.example/agent/3", (struct str){ NULL, 0 }, 10, &e));
	assert_string_equal(e.code, "no_policy");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_of_who_leave_nobody_out),
		cmocka_unit_test(pages_of_what_go_through_tools_and_models),
		cmocka_unit_test(who_is_refused_what_does_not_exist),
		cmocka_unit_test(without_policies_it_says_so),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
