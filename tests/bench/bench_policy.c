/* bench_policy [--json]: nanoseconds per evaluation of a request of 600 bytes, four rules applying,
 * with few and with many rules loaded; and what making a state anew costs. Values of one run
 * compare. --json: only what the table of scripts/bench has targets for, as one line of JSON. */
#include <stdio.h>
#include <stdlib.h>

#include "authz/policy/policy.h"

static const char request[] =
	"{\"subject\":{\"type\":\"agent\",\"id\":\"spiffe://acme.example/ns/fin/agent/a1\"},"
	"\"action\":{\"name\":\"tools/call\",\"properties\":{\"amount\":120.5,\"currency\":\"EUR\","
	"\"to\":\"DE89370400440532013000\",\"reference\":\"invoice 2026-0311\",\"urgent\":false}},"
	"\"resource\":{\"type\":\"tool\",\"id\":\"payments/create\",\"properties\":{\"server\":"
	"\"payments\",\"version\":\"2.4.1\",\"region\":\"eu-central-1\"}},"
	"\"context\":{\"session\":\"0f8fad5b-d9cb-469f-a165-70867728950e\",\"client\":{\"name\":"
	"\"assistant\",\"version\":\"1.19\",\"ip\":\"10.20.30.40\"},\"trace\":"
	"\"4bf92f3577b34da6a3ce929d0e0e4736\",\"tags\":[\"batch\",\"nightly\",\"eu\"],\"attempt\":1}}";

static const char four[] =
	"policy 'finance' {\n"
	" deny 'not at night' { on = { tool = 'payments/create' }, when = function(q) return not "
	"time.between(q.now, '06:00', '22:00', 'Europe/Berlin') end },\n"
	" ask 'over 500' { on = { tool = 'payments/create' }, when = function(q) return q.args.amount "
	"> 500 end },\n"
	" permit 'payments' { on = { tool = 'payments/create' }, when = function(q) return "
	"q.agent.team == 'finance' end },\n"
	" permit 'office' { on = { tool = 'payments/create' }, when = function(q) return "
	"str.starts_with(q.context.client.ip, '10.') and q.resource.properties.region == "
	"'eu-central-1' end },\n"
	"}\n";

/* Five apply, and the one without `when` decides. */
static const char five[] =
	"policy 'five' {\n"
	" permit 'one' { on = { tool = 'payments/create', agent = { team = 'finance' } } },\n"
	" permit 'two' { on = { tool = 'payments/create' }, when = function(q) return "
	"q.args.amount < 100 end },\n"
	" permit 'three' { on = { tool = 'payments/create' }, when = function(q) return "
	"q.agent.team == 'x' end },\n"
	" ask 'four' { on = { tool = 'payments/create' }, when = function(q) return q.args.amount > "
	"500 end },\n"
	" deny 'five' { on = { tool = 'payments/create' }, when = function(q) return q.args.currency "
	"~= 'EUR' end },\n"
	"}\n";

static const char plain[] =
	"policy 'finance' { permit 'payments' { on = { tool = 'payments/create', "
	"agent = { team = 'finance' } } } }\n";

static void die(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}

#define PER_FILE 1000 /* rules; a file holds 256 KiB at most */
#define FILES 12

static struct policy_set *load(const char *base, unsigned others)
{
	struct policy_file files[2 * FILES + 2] = { { STR("finance.lua"), str_c(base) } };
	struct policy_sources src;
	struct policy_set *set = NULL;
	struct arena a;
	struct buf tools;
	struct err e = { 0 };
	size_t n = 1;

	arena_init(&a, &mem_system, 64 << 20);
	buf_in_arena(&tools, &a, 1 << 20);
	buf_lit(&tools,
		"tool 'payments/create' { effect = 'spend', args = { amount = 'number', currency "
		"= 'string', to = 'string', reference = 'string?', urgent = 'boolean?' } }\n");
	files[n++] = (struct policy_file){ STR("catalogue/tools.lua"), buf_str(&tools) };
	for (unsigned first = 0; first < others; first += PER_FILE) {
		unsigned file = first / PER_FILE;
		struct buf rules, more;

		buf_in_arena(&rules, &a, 1 << 20);
		buf_in_arena(&more, &a, 1 << 20);
		buf_printf(&rules, "policy 'others-%u' {\n", file);
		for (unsigned i = first; i < first + PER_FILE && i < others; i++) {
			buf_printf(&more, "tool 's%u/call' { effect = 'read', args = {} }\n", i);
			buf_printf(
				&rules,
				"permit 'r%u' { on = { action = 'tools/call', tool = 's%u/call' }, "
				"when = function(q) return q.agent.team == 'team%u' end },\n",
				i, i, i);
		}
		buf_lit(&rules, "}\n");
		files[n++] = (struct policy_file){ arena_printf(&a, "others-%u.lua", file),
						   buf_str(&rules) };
		files[n++] = (struct policy_file){
			arena_printf(&a, "catalogue/others-%u.lua", file), buf_str(&more)
		};
	}
	if (!policy_sources_from(&src, files, n, &e) ||
	    !policy_set_load(&src, NULL, &set, NULL, &e))
		die("load", e.msg);
	policy_sources_clear(&src);
	arena_clear(&a);
	return set;
}

/* Nanoseconds of one evaluation, the best of many rounds. */
static int64_t evaluate(const char *name, const char *base, unsigned others, size_t *rules)
{
	struct policy_set *set = load(base, others);
	struct policy_state *st = policy_state_new(set, &mem_system, &clock_system, NULL);
	static const struct policy_attribute attributes[] = {
		{ STR_INIT("env"), STR_INIT("prod") }, { STR_INIT("team"), STR_INIT("finance") }
	};
	struct policy_request q = { .pep = STR("spiffe://acme.example/gateway"),
				    .agent_id = STR("spiffe://acme.example/ns/fin/agent/a1"),
				    .agent_owner = STR("ann"),
				    .agent_state = STR("active"),
				    .attributes = attributes,
				    .nattributes = 2,
				    .now_ms = INT64_C(1772614800000) };
	const struct json *v = NULL;
	struct policy_result r;
	struct arena input, a;
	struct err e = { 0 };
	int64_t best = INT64_MAX;

	arena_init(&input, &mem_system, 1 << 20);
	arena_init(&a, &mem_system, 1 << 20);
	if (!st || !json_parse(str_c(request), &json_default_limits, &input, &v, &e))
		die("start", e.msg);
	q.subject = json_get(v, STR("subject"));
	q.action = json_get(v, STR("action"));
	q.resource = json_get(v, STR("resource"));
	q.context = json_get(v, STR("context"));
	for (int round = 0; round < 31; round++) {
		int64_t t = clock_mono_ns(&clock_system);

		for (int i = 0; i < 2000; i++) {
			arena_reset(&a);
			policy_evaluate(st, &q, &a, &r);
		}
		t = (clock_mono_ns(&clock_system) - t) / 2000;
		best = t < best ? t : best;
	}
	if (r.decision != DECISION_PERMIT)
		die(name, r.error.n ? r.error.p : r.message.p);
	*rules = policy_set_rule_count(set);
	arena_clear(&a);
	arena_clear(&input);
	policy_state_free(st);
	shared_release(&set->shared);
	return best;
}

static void measure(const char *name, const char *base, unsigned others)
{
	size_t rules;
	int64_t ns = evaluate(name, base, others, &rules);

	printf("%-44s %6zu rules %8lld ns\n", name, rules, (long long)ns);
}

/* Few and many in turn, so that drift hits both alike. */
static void put_json(void)
{
	int64_t few = INT64_MAX, many = INT64_MAX, alone = INT64_MAX, ns;
	size_t rules;

	for (int round = 0; round < 3; round++) {
		ns = evaluate("few", five, 5, &rules);
		few = ns < few ? ns : few;
		ns = evaluate("many", five, 9995, &rules);
		many = ns < many ? ns : many;
		ns = evaluate("on alone", plain, 9999, &rules);
		alone = ns < alone ? ns : alone;
	}
	printf("{\"few_ns\":%lld,\"many_ns\":%lld,\"on_alone_ns\":%lld}\n", (long long)few,
	       (long long)many, (long long)alone);
}

static void measure_state(unsigned others)
{
	struct policy_set *set = load(four, others);
	int64_t t = clock_mono_ns(&clock_system);

	for (int i = 0; i < 200; i++)
		policy_state_free(policy_state_new(set, &mem_system, &clock_system, NULL));
	t = (clock_mono_ns(&clock_system) - t) / 200;
	printf("%-44s %6zu rules %8lld ns\n", "a state made and freed", policy_set_rule_count(set),
	       (long long)t);
	shared_release(&set->shared);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--json") == 0) {
		put_json();
		return 0;
	}
	printf("request of %zu bytes\n", sizeof(request) - 1);
	measure("on alone", plain, 0);
	measure("on alone", plain, 1000);
	measure("four rules with when", four, 0);
	measure("four rules with when", four, 1000);
	measure("five rules apply", five, 5);
	measure("five rules apply", five, 9995);
	measure_state(0);
	measure_state(1000);
	return 0;
}
