/*
 * policy_help - load policies from texts and put requests to them.
 *
 * Purpose    A request is one JSON text: subject, action, resource, context as AuthZEN has them;
 *            agent (a flat object; id owner state are writ's), pep and now beside them.
 * Threads    One owner.
 */
#ifndef WRIT_TESTS_POLICY_HELP_H
#define WRIT_TESTS_POLICY_HELP_H

#include "authz/policy/policy.h"

#define POLICY_HELP_NOW INT64_C(1772614800000) /* 2026-03-04 09:00 UTC, a Wednesday */

/* Load files given as path, text, path, text ..., NULL. NULL with *findings on errors. */
struct policy_set *policy_help_load(struct policy_findings *findings, ...);

/* Load one rule file beside a small catalogue; fails the test on errors. */
struct policy_set *policy_help_rules(const char *rules);
extern const char policy_help_catalogue[];

/* Read a request; the values live in @a. Fails the test if it is no JSON. */
void policy_help_request(const char *json, struct arena *a, struct policy_request *q);

/* Evaluate a request; the result lives in @a. */
struct policy_result policy_help_ask(struct policy_state *st, const char *json, struct arena *a);

/* "permit permitted finance/payments" and so on, for comparing. In @a. */
const char *policy_help_text(const struct policy_result *r, struct arena *a);

/* The first finding of @file (NULL: any) that says @part, or NULL. */
const struct policy_finding *policy_help_finding(const struct policy_findings *f, const char *file,
						 const char *part);

/* An allocator that counts live bytes and fails from the @fail_at-th call on (0: never). */
struct policy_help_alloc {
	struct alloc alloc;
	size_t live, peak, calls, fail_at;
};
void policy_help_alloc_init(struct policy_help_alloc *a);

#endif
