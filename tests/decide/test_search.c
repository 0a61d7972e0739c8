/* Searches: bounded in candidates, time and memory, charged for, on record once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>

#include "authz/decide/search.h"
#include "tests/decide/rig.h"

#define TOOLS 2100
#define ME "spiffe://test.example/agent/me"
#define PEP "spiffe://test.example/mesh/gw"

static const char rules[] = "policy 'p' { permit 'read' { on = { action = 'tools/call', effect = "
			    "'read' } } }";

static struct rig rig;
static struct arena arena;

static char *catalogue(void)
{
	char *text = malloc(TOOLS * (size_t)64), *at = text;

	assert_non_null(text);
	for (int i = 0; i < TOOLS; i++)
		at += sprintf(at, "tool 's/t%04d' { effect = '%s', args = {} }\n", i,
			      i % 3 ? "read" : "write");
	return text;
}

static int start(void **state)
{
	char *text = catalogue();

	(void)state;
	rig_start(&rig, rules, text);
	free(text);
	rig_agent(&rig, ME, "x");
	arena_init(&arena, &mem_system, 64 << 20);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	arena_clear(&arena);
	rig_stop(&rig);
	return 0;
}

struct outcome {
	struct search s;
	struct caller caller;
	struct err e;
	bool done;
};

static void done(struct search *s, const struct err *e)
{
	struct outcome *o = s->user;

	assert_false(o->done);
	o->done = true;
	o->e = *e;
}

/* Which tools may @agent call, asked by @caller? */
static void find_tools(struct outcome *o, struct arena *a, const char *agent, const char *caller,
		       unsigned roles, struct str after, uint32_t limit)
{
	static char text[300];
	const struct json *body;
	struct err e = { 0 };

	snprintf(
		text, sizeof(text),
		"{\"subject\":{\"type\":\"agent\",\"id\":\"%s\"},\"action\":{\"name\":\"tools/call\"},"
		"\"resource\":{\"type\":\"tool\"}}",
		agent);
	if (!json_parse(str_c(text), &json_default_limits, &arena, &body, &e))
		fail_msg("%s", e.msg);
	*o = (struct outcome){ .caller = {
				       .id = str_c(caller), .roles = roles, .proof = PROOF_MTLS } };
	o->s = (struct search){ .kind = SEARCH_RESOURCE,
				.request = { .subject = json_get(body, STR("subject")),
					     .action = json_get(body, STR("action")),
					     .resource = json_get(body, STR("resource")) },
				.caller = &o->caller,
				.arena = a,
				.after = after,
				.limit = limit,
				.done = done,
				.user = o };
	worker_turn_begin(&rig.worker);
	search_run(&rig.worker, &o->s);
	while (!o->done && rig_pump(&rig, 5000))
		;
	assert_true(o->done);
}

static void leaf_says(const char *part)
{
	const char *leaf = rig_leaf(&rig, rig_size(&rig) - 1);

	if (!strstr(leaf, part))
		fail_msg("no %s in %s", part, leaf);
}

static void a_page_looks_at_so_many(void **state)
{
	struct outcome o;
	struct str last;

	(void)state;
	find_tools(&o, &arena, ME, PEP, ROLE_PEP, (struct str){ NULL, 0 }, UINT32_MAX);
	assert_int_equal(o.e.class, ERR_NONE);
	assert_true(o.s.more && str_eq(o.s.last, STR("s/t1999")));
	assert_int_equal(o.s.n, 2000 - 667);
	leaf_says("\"candidates\":2000,");
	leaf_says("\"kind\":\"authz.search\"");
	leaf_says("\"results\":1333,\"search\":\"resource\"");
	last = o.s.last;
	find_tools(&o, &arena, ME, PEP, ROLE_PEP, last, UINT32_MAX);
	assert_false(o.s.more);
	assert_int_equal(o.s.n, 100 - 33);
	leaf_says("\"candidates\":100,");
	find_tools(&o, &arena, ME, PEP, ROLE_PEP, STR("s/t2099"), 9);
	assert_true(!o.s.more && o.s.n == 0);
}

static void results_bound_a_page_too(void **state)
{
	struct str after = { NULL, 0 };
	struct outcome o;
	size_t all = 0, pages = 0;

	(void)state;
	do {
		find_tools(&o, &arena, ME, PEP, ROLE_PEP, after, 64);
		assert_true(o.s.n <= 64 && (o.s.n == 64 || !o.s.more));
		after = o.s.last;
		all += o.s.n;
		pages++;
	} while (o.s.more);
	assert_int_equal(all, TOOLS / 3 * 2);
	assert_int_equal(pages, 22); /* 1,400 results */
}

static int64_t steps;

static int64_t stepping(void *ctx)
{
	(void)ctx;
	return steps += SEARCH_NS / 10; /* each look at the clock takes that long */
}

static void time_bounds_a_page(void **state)
{
	struct clock slow = { rig.clock.wall_ms, stepping, rig.clock.ctx };
	struct str after = { NULL, 0 };
	struct outcome o;
	size_t all = 0, pages = 0;

	(void)state;
	rig.core.clock = &slow;
	do {
		find_tools(&o, &arena, ME, PEP, ROLE_PEP, after, UINT32_MAX);
		assert_int_equal(o.e.class, ERR_NONE);
		assert_true(o.s.n <= 11);
		assert_true(!o.s.more || str_cmp(o.s.last, after) > 0); /* it gets on */
		after = o.s.last;
		all += o.s.n;
		pages++;
	} while (o.s.more);
	rig.core.clock = &rig.clock;
	assert_int_equal(all, TOOLS / 3 * 2);
	assert_true(pages > 100);
}

static void what_has_no_prospect_ends_at_once(void **state)
{
	static const struct {
		const char *agent, *caller;
		unsigned roles;
	} rows[] = {
		{ "spiffe://test.example/agent/none", PEP, ROLE_PEP },
		{ ME, "spiffe://test.example/agent/other", ROLE_AGENT },
	};
	struct outcome o;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		find_tools(&o, &arena, rows[i].agent, rows[i].caller, rows[i].roles,
			   (struct str){ NULL, 0 }, UINT32_MAX);
		assert_int_equal(o.e.class, ERR_NONE);
		assert_true(o.s.n == 0 && !o.s.more);
		leaf_says("\"candidates\":1,");
	}
}

static void agents_pay_for_what_is_looked_at(void **state)
{
	struct outcome o;
	int n = 0;

	(void)state;
	do
		find_tools(&o, &arena, ME, ME, ROLE_AGENT, (struct str){ NULL, 0 }, UINT32_MAX);
	while (o.e.class == ERR_NONE && ++n < 100);
	assert_int_equal(o.e.class, ERR_RATE);
	assert_true(o.s.retry_ms > 0);
	assert_in_range(n, 12, 13); /* 400 saved up, 1 + 2,000 / 64 for each */
	find_tools(&o, &arena, ME, PEP, ROLE_PEP, (struct str){ NULL, 0 }, 1);
	assert_int_equal(o.e.class, ERR_NONE); /* PEPs are not limited */
	find_tools(&o, &arena, ME, PEP, ROLE_AUDITOR, (struct str){ NULL, 0 }, 1);
	assert_int_equal(o.e.class, ERR_FORBIDDEN);
}

/* With less and less memory: all of it, or an error; never a part. */
static void short_memory_is_an_error(void **state)
{
	struct outcome o;
	bool failed = false, went = false;

	(void)state;
	for (size_t max = 0; max < 40 * 1024; max += 512) {
		struct arena small;

		arena_init(&small, &mem_system, max);
		find_tools(&o, &small, ME, PEP, ROLE_PEP, (struct str){ NULL, 0 }, 300);
		if (o.e.class == ERR_NONE)
			assert_true(o.s.n == 300 && o.s.more && o.s.last.n);
		else
			assert_int_equal(o.e.class, ERR_UNAVAILABLE);
		failed = failed || o.e.class != ERR_NONE;
		went = went || o.e.class == ERR_NONE;
		arena_clear(&small);
	}
	assert_true(failed && went);
}

static void without_policies_nothing_is_found(void **state)
{
	struct outcome o;

	(void)state;
	slot_clear(&rig.core.policies);
	slot_init(&rig.core.policies);
	worker_clear(&rig.worker);
	assert_true(worker_init(&rig.worker, &rig.core, &rig.home, NULL, &o.e));
	find_tools(&o, &arena, ME, PEP, ROLE_PEP, (struct str){ NULL, 0 }, 9);
	assert_int_equal(o.e.class, ERR_NONE);
	assert_true(o.s.n == 0 && !o.s.more);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
	const struct CMUnitTest tests[] = {
		T(a_page_looks_at_so_many),
		T(results_bound_a_page_too),
		T(time_bounds_a_page),
		T(what_has_no_prospect_ends_at_once),
		T(agents_pay_for_what_is_looked_at),
		T(short_memory_is_an_error),
		T(without_policies_nothing_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
