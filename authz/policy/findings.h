/*
 * findings - what a load has to say, collected.
 *
 * Purpose    A load goes on after a mistake, so that one run tells all of them.
 * Ownership  Items live in the findings' arena. Without memory the count still rises: a set
 *            with errors is never handed out.
 * Threads    One owner.
 */
#ifndef WRIT_POLICY_FINDINGS_H
#define WRIT_POLICY_FINDINGS_H

#include "authz/policy/policy.h"

void findings_init(struct policy_findings *f, const struct alloc *alloc);
void finding(struct policy_findings *f, bool error, struct str file, int line, const char *fmt, ...)
	PRINTF(5, 6);
/* Find the column of @f in @text, the source of its file. */
void finding_place(struct policy_finding *f, struct str text);
/* By file, line and text: what is printed does not depend on the order of tables. */
void findings_sort(struct policy_findings *f);

/* "; did you mean \"x\"?" or "". @text has room for 100 bytes. */
const char *did_you_mean(struct str word, const char *const *names, char text[static 100]);

#endif
