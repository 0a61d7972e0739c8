/*
 * lint - what works, and is hardly what was meant.
 *
 * Purpose    Rules that say the same as another, that can never apply or never matter; a `when`
 *            that does not look at the request or answers with something else than true or false;
 *            attributes of agents that no declaration knows. Warnings only: the set may run.
 * Ownership  Findings only.
 * Threads    No state.
 */
#ifndef WRIT_POLICY_LINT_H
#define WRIT_POLICY_LINT_H

#include "authz/policy/rules.h"

/* The whole set, after it was loaded and while its sources are there. */
void lint_set(struct job *j);

/* The tokens of one rule file: every `when` in it. */
void lint_source(struct job *j, struct str text);

#endif
