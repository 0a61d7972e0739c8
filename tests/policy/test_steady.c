/* The same input gives the same bytes, in whatever state and company; no allocation that fails
 * makes a permit; sets are swapped without a trace. */
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

static const char rules[] =
	"local limits = { finance = 500, research = 100, ops = 50 }\n"
	"local function sum(t) local s = '' for k, v in pairs(t) do s = s .. k .. tostring(v) end return "
	"s end\n"
	"policy 'p' {\n"
	" deny 'seeded' { on = { action = 'tools/call' }, when = function(q) return sum(q.context.m) ~= "
	"'a1b2c3d4e5f6g7h8' end },\n"
	" ask 'large' { on = { tool = 'payments/create' }, when = function(q) return q.args.amount > "
	"limits[q.agent.team] end, approvers = 'leads', obligations = { { id = 'o', type = 'custom', properties = { b = 1, a = { 1, 2 } } } } },\n"
	" permit 'payments' { on = { tool = 'payments/create', agent = { team = { 'finance', 'ops' } } }, "
	"when = function(q) return time.between(q.now, '09:00', '18:00', 'Europe/Berlin') end, message = "
	"'go on', obligations = { { id = 'l', type = 'custom', properties = {} } } },\n"
	"}\n";

#define PAY(amount, team, m)                                                                       \
	("{\"action\":{\"name\":\"tools/call\",\"properties\":{\"amount\":" amount                 \
	 ",\"to\":\"x\"}},\"resource\":{\"type\":\"tool\",\"id\":\"payments/create\"},\"agent\":{" \
	 "\"team\":\"" team "\"},\"context\":{\"m\":{" m "}}}")
#define M "\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8"

static const char *const requests[] = {
	PAY("400", "finance", M),
	/* the same in another order */
	("{\"context\":{\"m\":{\"h\":8,\"c\":3,\"b\":2,\"g\":7,\"a\":1,\"f\":6,\"e\":5,\"d\":4}},"
	 "\"agent\":{\"team\":\"finance\"},\"resource\":{\"id\":\"payments/create\",\"type\":\"tool\"},"
	 "\"action\":{\"properties\":{\"to\":\"x\",\"amount\":4e2},\"name\":\"tools/call\"}}"),
	PAY("5000", "ops", M),
	PAY("1", "none", ""),
};

/* Everything that an answer or a record would hold. */
static const char *whole(struct policy_state *st, const char *request, struct arena *a)
{
	struct policy_result r = policy_help_ask(st, request, a);

	return arena_printf(a, "%s|%.*s|%.*s|%.*s|%.*s|%.*s|%u", policy_help_text(&r, a),
			    STR_FMT(r.message), STR_FMT(r.obligations), STR_FMT(r.approvers),
			    STR_FMT(r.error), STR_FMT(r.tool), r.instructions)
		.p;
}

static void same_input_same_bytes(void **state)
{
	struct policy_set *set = policy_help_rules(rules);
	struct policy_state *old = policy_state_new(set, &mem_system, &clock_system, NULL);
	struct arena keep, a;
	const char *first[ARRAY_LEN(requests)];

	(void)state;
	arena_init(&keep, &mem_system, 1 << 20);
	arena_init(&a, &mem_system, 1 << 20);
	for (size_t i = 0; i < ARRAY_LEN(requests); i++)
		first[i] = whole(old, requests[i], &keep);
	assert_non_null(strstr(
		first[0],
		"permit permitted p/payments|go on|[{\"id\":\"l\",\"properties\":{},\"type\":\"custom\"}]"));
	assert_string_equal(first[0], first[1]);
	assert_non_null(strstr(first[2], "ask approval_required p/large"));
	assert_non_null(strstr(first[3], "deny denied p/seeded"));
	for (int n = 0; n < 10000; n++, arena_reset(&a))
		policy_help_ask(old, requests[n % (int)ARRAY_LEN(requests)], &a);
	for (int n = 0; n < 20; n++) {
		struct policy_state *fresh = policy_state_new(set, &mem_system, &clock_system,
							      NULL);

		for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
			assert_string_equal(whole(old, requests[i], &keep), first[i]);
			assert_string_equal(whole(fresh, requests[i], &keep), first[i]);
		}
		policy_state_free(fresh);
	}
	policy_state_free(old);
	arena_clear(&keep);
	arena_clear(&a);
	shared_release(&set->shared);
}

static void order_of_files_changes_nothing(void **state)
{
	static const char one[] =
		"policy 'a' { permit 'x' { on = { action = 'r' } }, deny 'x2' { when = "
		"function(q) return false end } }";
	static const char two[] =
		"policy 'b' { permit 'x' { on = { action = 'r' }, when = function(q) return "
		"true end }, ask 'y' { on = { action = 'r' } } }";
	struct policy_set *ab = policy_help_load(NULL, "1.lua", one, "2.lua", two, NULL);
	struct policy_set *ba = policy_help_load(NULL, "1.lua", two, "2.lua", one, NULL);
	struct policy_state *s1 = policy_state_new(ab, &mem_system, &clock_system, NULL);
	struct policy_state *s2 = policy_state_new(ba, &mem_system, &clock_system, NULL);
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, 1 << 20);
	assert_string_equal(whole(s1, "{\"action\":{\"name\":\"r\"}}", &a),
			    whole(s2, "{\"action\":{\"name\":\"r\"}}", &a));
	policy_state_free(s1);
	policy_state_free(s2);
	shared_release(&ab->shared);
	shared_release(&ba->shared);
	arena_clear(&a);
}

static void the_index_finds_what_applies(void **state)
{
	struct arena a;
	struct buf b;
	struct policy_set *set;
	struct policy_state *st;

	(void)state;
	arena_init(&a, &mem_system, 64 << 20);
	buf_in_arena(&b, &a, 1 << 20);
	buf_lit(&b, "policy 'p' {\n");
	for (int i = 0; i < 500; i++)
		buf_printf(
			&b,
			"permit 'r%03d' { on = { action = 'act%d', agent = { team = 't%d', tier = { 'x', 'k%d' "
			"} } } },\n",
			i, i % 7, i % 11, i % 3);
	buf_lit(&b, "}");
	buf_char(&b, '\0');
	set = policy_help_load(NULL, "r.lua", b.p, NULL);
	st = policy_state_new(set, &mem_system, &clock_system, NULL);
	for (int act = 0; act < 8; act++)
		for (int team = 0; team < 12; team++)
			for (int tier = 0; tier < 4; tier++) {
				const char *want = "deny no_rule";
				struct policy_result r;

				for (int i = 499; i >= 0; i--)
					if (i % 7 == act && i % 11 == team && i % 3 == tier)
						want = arena_printf(&a, "permit permitted p/r%03d",
								    i)
							       .p;
				r = policy_help_ask(
					st,
					arena_printf(
						&a,
						"{\"action\":{\"name\":\"act%d\"},\"agent\":{\"team\":\"t%d\","
						"\"tier\":\"k%d\"}}",
						act, team, tier)
						.p,
					&a);
				assert_string_equal(policy_help_text(&r, &a), want);
			}
	policy_state_free(st);
	shared_release(&set->shared);
	arena_clear(&a);
}

/* Every allocation of a state failing in turn: no crash, no leak, and a permit only where the
 * whole memory would give one. */
static void no_failing_allocation_permits(void **state)
{
	static const char hostile[] =
		"{\"action\":{\"name\":\"tools/call\",\"properties\":{\"amount\":4000,\"to\":\"x\"}},"
		"\"resource\":{\"type\":\"tool\",\"id\":\"payments/create\"},\"agent\":{\"team\":\"finance\"},"
		"\"context\":{\"m\":{}}}";
	struct policy_set *set = policy_help_rules(rules);
	bool complete = false;

	(void)state;
	for (size_t fail = 1; !complete; fail++) {
		struct policy_help_alloc pool;
		struct policy_state *st;
		struct err e = { 0 };
		struct arena a;

		policy_help_alloc_init(&pool);
		pool.fail_at = fail;
		arena_init(&a, &mem_system, 1 << 20);
		st = policy_state_new(set, &pool.alloc, &clock_system, &e);
		if (st) {
			struct policy_result bad = policy_help_ask(st, hostile, &a), good;

			assert_int_equal(bad.decision, DECISION_DENY);
			good = policy_help_ask(st, requests[0], &a);
			complete = good.decision == DECISION_PERMIT && pool.calls < fail;
			if (!complete && good.decision != DECISION_DENY &&
			    strcmp(policy_help_text(&good, &a), "permit permitted p/payments") != 0)
				fail_msg("%zu: %s", fail, policy_help_text(&good, &a));
			pool.fail_at = 0; /* memory is back: so are the answers */
			good = policy_help_ask(st, requests[0], &a);
			assert_string_equal(policy_help_text(&good, &a),
					    "permit permitted p/payments");
			policy_state_free(st);
		}
		arena_clear(&a);
		assert_int_equal(pool.live, 0);
	}
	shared_release(&set->shared);
}

/* The same of a load: a set comes out whole or not at all. */
static void no_failing_allocation_loads_half(void **state)
{
	struct policy_file files[] = { { STR_INIT("catalogue/c.lua"),
					 str_c(policy_help_catalogue) },
				       { STR_INIT("r.lua"), str_c(rules) } };
	struct policy_sources src;
	bool complete = false;

	(void)state;
	assert_true(policy_sources_from(&src, files, 2, NULL));
	for (size_t fail = 1; !complete; fail++) {
		struct policy_help_alloc pool;
		struct policy_options o = { .alloc = &pool.alloc };
		struct policy_set *set = NULL;
		struct err e = { 0 };

		policy_help_alloc_init(&pool);
		pool.fail_at = fail;
		if (policy_set_load_with(&src, &o, &set, NULL, &e)) {
			complete = pool.calls < fail;
			assert_int_equal(policy_set_rule_count(set), 3);
			shared_release(&set->shared);
		} else {
			assert_null(set);
			assert_true(e.msg[0] != '\0');
		}
		assert_int_equal(pool.live, 0);
	}
	policy_sources_clear(&src);
}

/* An arena that is full gives deny, never a permit that lost its obligations. */
static void a_full_arena_denies(void **state)
{
	struct policy_set *set = policy_help_rules(rules);
	struct policy_state *st = policy_state_new(set, &mem_system, &clock_system, NULL);
	struct arena a, input;
	struct policy_request q;
	struct policy_result r;
	bool permitted = false;

	(void)state;
	arena_init(&input, &mem_system, 1 << 20);
	policy_help_request(requests[0], &input, &q);
	for (size_t room = 0; room < 600; room += 8) {
		arena_init(&a, &mem_system, room);
		policy_evaluate(st, &q, &a, &r);
		permitted = r.decision == DECISION_PERMIT;
		if (permitted
			    ? !str_eq(r.obligations,
				      STR("[{\"id\":\"l\",\"properties\":{},\"type\":\"custom\"}]"))
			    : !str_eq(r.reason, STR(REASON_POLICY_ERROR)))
			fail_msg("%zu bytes: %.*s", room, STR_FMT(r.reason));
		arena_clear(&a);
	}
	assert_true(permitted);
	policy_state_free(st);
	arena_clear(&input);
	shared_release(&set->shared);
}

static void a_thousand_swaps(void **state)
{
	struct slot slot;
	struct held held = { 0 };
	struct policy_state *st = NULL;
	struct arena a;

	(void)state;
	slot_init(&slot);
	arena_init(&a, &mem_system, 1 << 20);
	for (int i = 0; i < 1000; i++) {
		char source[128];
		struct policy_result r;
		struct policy_set *set;
		bool changed = false;

		snprintf(
			source, sizeof(source),
			"policy 'p%d' { permit 'a' { on = { action = 'r' }, when = function(q) return "
			"q.context.n == %d end } }",
			i, i);
		set = policy_help_load(NULL, "p.lua", source, NULL);
		set->generation = (uint64_t)i;
		slot_publish(&slot, &set->shared);
		set = (struct policy_set *)slot_refresh(&slot, &held, &changed);
		assert_true(changed && set->generation == (uint64_t)i);
		policy_state_free(st);
		st = policy_state_new(set, &mem_system, &clock_system, NULL);
		snprintf(source, sizeof(source),
			 "{\"action\":{\"name\":\"r\"},\"context\":{\"n\":%d}}", i);
		r = policy_help_ask(st, source, &a);
		snprintf(source, sizeof(source), "permit permitted p%d/a", i);
		assert_string_equal(policy_help_text(&r, &a), source);
		arena_reset(&a);
	}
	policy_state_free(st);
	held_clear(&held);
	slot_clear(&slot);
	arena_clear(&a);
}

/* An old generation keeps its zones, whatever the machine's say by then. */
static void stored_zones_are_used(void **state)
{
	struct policy_set *set = policy_help_rules(rules), *again = NULL;
	struct policy_file files[] = { { STR_INIT("catalogue/c.lua"),
					 str_c(policy_help_catalogue) },
				       { STR_INIT("r.lua"), str_c(rules) } };
	struct policy_options o = { .zoneinfo = "/nonexistent" };
	struct policy_sources src;
	struct err e = { 0 };

	(void)state;
	assert_true(policy_sources_from(&src, files, 2, NULL));
	assert_false(policy_set_load_with(&src, &o, &again, NULL, &e));
	assert_non_null(strstr(e.msg, "no time zone \"Europe/Berlin\""));
	o.zones = policy_set_zones(set, &o.nzones);
	assert_int_equal(o.nzones, 1);
	if (!policy_set_load_with(&src, &o, &again, NULL, &e))
		fail_msg("%s", e.msg);
	policy_sources_clear(&src);
	shared_release(&set->shared);
	shared_release(&again->shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_input_same_bytes),
		cmocka_unit_test(order_of_files_changes_nothing),
		cmocka_unit_test(the_index_finds_what_applies),
		cmocka_unit_test(no_failing_allocation_permits),
		cmocka_unit_test(no_failing_allocation_loads_half),
		cmocka_unit_test(a_full_arena_denies),
		cmocka_unit_test(a_thousand_swaps),
		cmocka_unit_test(stored_zones_are_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
