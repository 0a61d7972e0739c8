/*
 * explain - why a request is decided as it is, rule by rule.
 *
 * Purpose    For people who write policies: which rules were considered, which conditions of `on`
 *            were met, what each `when` said, and where all that stands. It decides the request as
 *            policy_evaluate does and then looks at every rule by itself, so the decision path
 *            carries nothing for it.
 * Ownership  A trace lives in the caller's arena.
 * Threads    As the state.
 */
#ifndef WRIT_POLICY_EXPLAIN_H
#define WRIT_POLICY_EXPLAIN_H

#include "authz/policy/policy.h"

enum trace_when {
	TRACE_NOT_ASKED, /* `on` was not met */
	TRACE_NONE,	 /* there is no `when`: `on` decides */
	TRACE_TRUE,
	TRACE_FALSE,
	TRACE_ERROR,
};
extern const char *const trace_when_names[];

struct trace_condition {
	struct str text; /* "action = tools/call" */
	bool met;
};

struct trace_rule {
	struct str rule, file, on; /* "finance/payments", "finance.lua", all of `on` as a text */
	const char *effect;
	int line;
	bool applies; /* every condition of `on` is met */
	bool decides; /* its name is in the answer */
	enum trace_when when;
	struct str error; /* of TRACE_ERROR: file, line, what */
	const struct trace_condition *conditions;
	size_t nconditions;
};

struct policy_trace {
	struct policy_result result;
	bool reached; /* false: refused before the rules, by catalogue or arguments */
	const struct trace_rule *rules; /* those that apply first, in order of evaluation */
	size_t n, napply;
};

MUST_USE bool policy_explain(struct policy_state *st, const struct policy_request *q,
			     struct arena *a, struct policy_trace *out, struct err *e);

#endif
