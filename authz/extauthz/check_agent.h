/*
 * check_agent - who sent the request that a proxy asks about; private to authz/extauthz.
 *
 * Purpose    The certificate that the proxy verified, a JWT-SVID or a delegated token in the
 *            forwarded request, or, where an agent asks for itself, the caller. Two proofs must
 *            name one agent. A delegated token is good only beside the certificate of the agent
 *            that acts by it.
 * Ownership  The id lives in check->scratch.
 * Threads    The worker's own.
 */
#ifndef WRIT_EXTAUTHZ_CHECK_AGENT_H
#define WRIT_EXTAUTHZ_CHECK_AGENT_H

#include "authz/extauthz/check.h"

struct check_agent {
	struct str id;			     /* SPIFFE ID; empty: nobody proved anything */
	const struct delegation *delegation; /* on whose behalf it acts; NULL: its own */
	bool token_for_writ; /* the bearer token is good for writ's own interfaces: it must not
			      * reach the upstream */
};

/* False: a proof that is there is no good (ERR_UNAUTHENTICATED), or two contradict each other
 * (ERR_FORBIDDEN). */
MUST_USE bool check_agent_find(const struct check *c, struct check_agent *out, struct err *e);

#endif
