/*
 * delegation - on whose behalf a caller or an agent acts, out of a delegated token.
 *
 * Purpose    Turns a token (spiffe/delegated_token.h) into what decisions, policies and records
 *            use. Verified means: signed by us, for this audience, in its time, not revoked, and
 * each agent before the one that acts now is still registered and active: with one suspended, all
 *            that went through it is void. The one that acts now is judged by the decision itself.
 *            Who presents the token is the caller's to compare: delegation_bound.
 * Ownership  A delegation lives in the arena it was verified into.
 * Threads    The worker's own.
 */
#ifndef WRIT_DECIDE_DELEGATION_H
#define WRIT_DECIDE_DELEGATION_H

#include "authz/policy/policy.h"
#include "spiffe/delegated_token.h"

struct peer;
struct record;
struct worker;

struct delegation {
	struct delegated_token token;
	struct policy_delegation policy; /* the same, in the words of policies */
};

/* Is @token, a bearer token of any kind, meant to be one of these? */
bool delegation_claimed(struct str token, struct arena *a);

/* Verify a token that is for @audience. Refusals: ERR_UNAUTHENTICATED "invalid_token". */
MUST_USE bool delegation_verify(struct worker *w, struct str token, struct str audience,
				struct arena *a, const struct delegation **out, struct err *e);
/* The same for one of @n audiences, and the one who acts now must be active, too: of those who are
 * shown a token by somebody else. 0: for whomever, to tell what a token is and not to let anybody
 * in by it. */
MUST_USE bool delegation_look(struct worker *w, struct str token, const struct str *audiences,
			      size_t n, struct arena *a, const struct delegation **out,
			      struct err *e);

/* Fill d->policy from d->token. */
void delegation_describe(struct delegation *d);

/* Is the client certificate of @p the one that @d is bound to (RFC 8705 3)? */
MUST_USE bool delegation_bound(const struct delegation *d, const struct peer *p, struct err *e);

/* SHA-256 of the client certificate; false: there is none. */
bool delegation_thumbprint(const struct peer *p, uint8_t out[static SHA256_LEN]);

/* The member "delegation" of the opening `facts`, with a comma behind it. */
void delegation_write_facts(struct buf *b, const struct delegation *d);
/* And back, for replay: NULL if @v is none. False: no memory, or not what was written. */
MUST_USE bool delegation_read_facts(const struct json *v, struct arena *a,
				    const struct policy_delegation **out);

/* The leaf's members: who acted ("actors", SPIFFE IDs with a blank between), and opaque names of
 * the whole delegation and of the token. Each at its place in the order of the leaf. */
void delegation_record_actors(struct record *r, const struct delegation *d, struct arena *a);
void delegation_record_names(struct record *r, const struct delegation *d);
void delegation_record_token(struct record *r, const struct delegation *d);

#endif
