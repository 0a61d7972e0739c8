/*
 * attest_user - for whom an agent may ask: people, as a configured OpenID Connect issuer names
 * them.
 *
 * Purpose    Reads what an agent shows in an exchange as its subject_token (RFC 8693 2.1): an ID
 *            token or an access token (RFC 9068) of an issuer of `delegation.users`, under that
 *            issuer's own keys, addressed to writ and to nobody else's interface. These issuers
 *            are apart from those that attest agents: what vouches for a person makes no agent,
 *            and a CI job is nobody's user.
 * Ownership  What is read lives in the call's arena.
 * Threads    The control thread, which has the keys.
 */
#ifndef WRIT_SPIFFE_ATTEST_USER_H
#define WRIT_SPIFFE_ATTEST_USER_H

#include "spiffe/attest.h"
#include "spiffe/delegated_token.h"

struct attested_user {
	struct str issuer, subject;
	struct str scope; /* names with one blank between; empty: none, as is one of another form */
	const struct json *may_act; /* as it stands there, or NULL (RFC 8693 4.4) */
	int64_t expires_s;
};

/* @access: an access token, whose typ says so; else an ID token. Refusals: ERR_UNAUTHENTICATED of a
 * token that does not hold, ERR_UNAVAILABLE while there are no keys. */
MUST_USE bool attest_user(struct attest *attest, struct str token, bool access, int64_t now_ms,
			  struct arena *a, struct attested_user *out, struct err *e);

#endif
