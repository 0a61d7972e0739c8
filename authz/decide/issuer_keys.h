/*
 * issuer_keys - fetch the keys of the issuers whose tokens attest agents, and put them into force.
 *
 * Purpose    The control thread knows what is due (spiffe/attest_source.h) and decides what becomes
 *            of an answer; another one fetches (fetching.h). Every change of keys, and the first of
 *            a row of documents that were refused, is a record before it is in force.
 * Ownership  A desk borrows the control's attestors.
 * Threads    issuer_keys_standing: any. The others: the control thread.
 */
#ifndef WRIT_DECIDE_ISSUER_KEYS_H
#define WRIT_DECIDE_ISSUER_KEYS_H

#include "authz/decide/control.h"
#include "spiffe/attest_source.h"

/* Publish how the sources stand. Nothing is fetched before the first tick. */
MUST_USE bool issuer_keys_open(struct control *c, struct issuer_keys_desk **out, struct err *e);
void issuer_keys_close(struct issuer_keys_desk *d); /* NULL is fine */

/* Fetch what is due; say so if keys have become too old. */
void issuer_keys_tick(struct issuer_keys_desk *d);

/* Fetch all of them now (SIGHUP). */
void issuer_keys_refresh(struct issuer_keys_desk *d);

/* ---- how they stand, for anybody ---- */

struct issuer_keys_report {
	struct str issuer, source; /* the configuration's */
	const char *kind;	   /* "oidc", "k8s", "users" */
	enum attest_source_state state;
	size_t keys;
	int64_t fetched_ms;
	uint64_t attempts;
	unsigned failures;
	bool busy;
	char failed[400]; /* "": nothing to say */
};

struct issuer_keys_standing {
	struct shared shared;
	size_t n;
	struct issuer_keys_report items[ATTEST_SOURCES];
};

/* With a reference: release it. NULL: none yet. */
struct issuer_keys_standing *issuer_keys_standing(struct control *c);

/* One sentence on what is wrong with @k, or "" if nothing is. */
const char *issuer_keys_trouble(const struct issuer_keys_report *k, char out[static 900]);

#endif
