/* Arbitrary policy files: a load ends within its budget, gives a set or an error and never both,
 * and whatever was loaded answers a request without a permit that its own texts could not give. */
#include <stdlib.h>

#include "authz/policy/policy.h"

static const char request[] =
	"{\"subject\":{\"type\":\"agent\",\"id\":\"spiffe://a.b/c\"},\"action\":{\"name\":\"tools/call\","
	"\"properties\":{\"amount\":5,\"list\":[1,\"x\",{}]}},\"resource\":{\"type\":\"tool\",\"id\":\"a/b\"},"
	"\"context\":{\"text\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\"}}";

static void ask(struct policy_set *set, bool may_permit)
{
	struct policy_state *st = policy_state_new(set, &mem_system, &clock_system, NULL);
	struct policy_request q = { .pep = STR("p"),
				    .agent_id = STR("spiffe://a.b/c"),
				    .now_ms = 1 };
	const struct json *v = NULL;
	struct policy_result first, again;
	struct arena a;
	int64_t t;

	arena_init(&a, &mem_system, 16 << 20);
	if (!st || !json_parse(str_c(request), &json_default_limits, &a, &v, NULL))
		abort();
	q.subject = json_get(v, STR("subject"));
	q.action = json_get(v, STR("action"));
	q.resource = json_get(v, STR("resource"));
	q.context = json_get(v, STR("context"));
	t = clock_mono_ns(&clock_system);
	policy_evaluate(st, &q, &a, &first);
	policy_evaluate(st, &q, &a, &again);
	if (clock_mono_ns(&clock_system) - t > INT64_C(3000000000))
		abort(); /* it escaped its budget */
	if (first.decision == DECISION_PERMIT && !may_permit)
		abort();
	/* Wall time may stop one and not the other. */
	if (!str_eq(first.reason, STR(REASON_POLICY_BUDGET)) &&
	    !str_eq(again.reason, STR(REASON_POLICY_BUDGET)) &&
	    (first.decision != again.decision || !str_eq(first.rule, again.rule) ||
	     !str_eq(first.error, again.error)))
		abort();
	policy_state_free(st);
	arena_clear(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str text = { (const char *)p, n };
	struct policy_file files[] = {
		{ STR_INIT("catalogue/c.lua"), STR_INIT("tool 'a/b' { effect = 'read' }") },
		{ STR_INIT("p.lua"), text },
	};
	struct policy_sources src;
	struct policy_findings f;
	struct policy_set *set = NULL;
	struct err e = { 0 };
	bool ok;

	if (n > 16384 || !policy_sources_from(&src, files, 2, &e))
		return 0;
	ok = policy_set_load(&src, NULL, &set, &f, &e);
	if (ok != (set != NULL) || ok != (f.errors == 0) || ok != (e.class == ERR_NONE))
		abort();
	policy_findings_clear(&f);
	policy_sources_clear(&src);
	if (set) {
		ask(set, n && memmem(p, n, "permit", 6) != NULL);
		shared_release(&set->shared);
	}
	return 0;
}
