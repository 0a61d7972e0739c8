/*
 * authority - what a signing authority of the trust domain may become, and when.
 *
 * Purpose    One state machine for X.509 authorities and JWT keys, without clock, storage or key:
 *
 *                prepared --activate--> active --(the next one is activated)--> old
 *                old --taint--> tainted;  prepared, old, tainted --revoke--> revoked
 *                old, tainted, prepared --retire (by the clock)--> retired
 *
 *            A prepared authority is in the trust bundle and signs nothing: verifiers learn it
 *            before they meet it (SPIFFE Trust Domain and Bundle, 4.3). The active one signs. An
 *            old one signs no more, and stays in the bundle until the last SVID it can have signed
 *            is over. A tainted one is believed to be in wrong hands: what it signed is issued anew
 *            at once, so that it can be revoked. Revoked and retired ones are in no bundle.
 * Ownership  Nothing is kept.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_SPIFFE_AUTHORITY_H
#define WRIT_SPIFFE_AUTHORITY_H

#include <stdint.h>

#include "include/writ/err.h"

#define AUTHORITY_ID_MAX 64 /* bytes: 40 of an X.509 authority, 32 of a JWT key */
#define AUTHORITY_TOKEN 32  /* hexadecimal digits of a key's id in a token */

/* In the bundle at one time, of one kind: further ones are refused until some have left. */
#define AUTHORITY_MAX 16

enum authority_kind { AUTHORITY_X509, AUTHORITY_JWT, AUTHORITY_WIT, AUTHORITY_KINDS };

/* As stored: numbers are never given another meaning. */
enum authority_state {
	AUTHORITY_PREPARED = 1,
	AUTHORITY_ACTIVE,
	AUTHORITY_OLD,
	AUTHORITY_TAINTED,
	AUTHORITY_REVOKED,
	AUTHORITY_RETIRED,
};

enum authority_verb {
	AUTHORITY_NOTHING,
	AUTHORITY_PREPARE,
	AUTHORITY_ACTIVATE,
	AUTHORITY_TAINT,
	AUTHORITY_REVOKE,
	AUTHORITY_RETIRE,
};

const char *authority_kind_name(enum authority_kind k);	  /* "x509", "jwt", "wit" */
const char *authority_state_name(enum authority_state s); /* "prepared" ... */
const char *authority_verb_name(enum authority_verb v);	  /* "prepare" ... */
/* False: no such kind. */
MUST_USE bool authority_kind_parse(struct str name, enum authority_kind *out);

struct authority {
	enum authority_kind kind;
	enum authority_state state;
	/* Of an X.509 authority its subject key identifier in hexadecimal, of a JWT key its kid:
	 * both come from the public key, so that one id can never mean two keys. */
	char id[AUTHORITY_ID_MAX + 1];
	char token[AUTHORITY_TOKEN + 1];   /* "": its key is a file */
	int64_t not_before_s, not_after_s; /* since 1970 */
	int64_t prepared_s;		   /* in the bundle since */
	int64_t activated_s, stopped_s;	   /* signed from, to; 0: not yet */
};

/* Is it in the trust bundle? */
bool authority_trusted(const struct authority *a);

/* ---- times ---- */

struct authority_times {
	int64_t ttl_s;		/* life of an authority that is made now: 3,600 and more */
	int64_t svid_ttl_max_s; /* longest life of an SVID of this kind */
	int64_t refresh_hint_s; /* how often verifiers look at the bundle */
	int64_t leeway_s;	/* how far clocks may be apart */
};

/* When what is due, in seconds; "before" counts back from the end of the active authority. */
struct authority_plan {
	int64_t prepare_before_s;  /* half its life, at most 30 days */
	int64_t activate_before_s; /* a sixth, at most 7 days; no SVID is cut short by its issuer,
				    * as long as a third of the life is enough for that */
	int64_t propagate_s;	   /* from prepared to active at least: 3 refresh hints */
	int64_t linger_s;	   /* an old one stays in the bundle: the life of an SVID */
};
struct authority_plan authority_plan(const struct authority_times *t);

/* ---- transitions ---- */

/* What @a becomes by @verb; false (ERR_CONFLICT, "authority_state") if it may not. Prepare has no
 * authority to start from: see authority_may_prepare. */
MUST_USE bool authority_after(const struct authority *a, enum authority_verb verb,
			      enum authority_state *out, struct err *e);

/* May one more of @kind be prepared beside the @n of @all? One at a time waits to be activated. */
MUST_USE bool authority_may_prepare(const struct authority *const *all, size_t n,
				    enum authority_kind kind, struct err *e);

/* May @a be activated now, or would verifiers meet it that have not read it yet? Then @e says from
 * when on (ERR_CONFLICT, "authority_not_propagated"). */
MUST_USE bool authority_propagated(const struct authority_plan *p, const struct authority *a,
				   int64_t now_s, struct err *e);

/* What is due by the clock for @kind among @all: the verb, and in *which for whom (untouched for
 * AUTHORITY_PREPARE and AUTHORITY_NOTHING). Call again after it was done, until nothing is. */
enum authority_verb authority_due(const struct authority_plan *p,
				  const struct authority *const *all, size_t n,
				  enum authority_kind kind, int64_t now_s, size_t *which);

/* When authority_due will next have something to say if nobody acts; INT64_MAX: never. For people:
 * status and metrics. */
int64_t authority_next_s(const struct authority_plan *p, const struct authority *const *all,
			 size_t n, enum authority_kind kind);

#endif
