/*
 * denial - a denial in the words that each client understands; private to authz/extauthz.
 *
 * Purpose    Status, headers and body of a denied request, by protocol and by the route's style
 *            (agent-protocols sheet 4, 6, 7.5). Texts may go to a language model: short, nothing
 *            secret.
 * Ownership  In check->arena.
 * Threads    No state.
 */
#ifndef WRIT_EXTAUTHZ_DENIAL_H
#define WRIT_EXTAUTHZ_DENIAL_H

#include "authz/extauthz/check.h"

struct denial {
	int status;  /* as it would be over plain HTTP: 400, 401, 403, 413, 429 */
	bool policy; /* a decision, not a malformed request: may be a JSON-RPC answer with 200 */
	struct str reason, message;
	struct str acr; /* a step-up that would help, or empty */
	bool bad_token; /* with 401: there was a token, and it was no good */
};

/* Fill @v but for agent, evaluation_ids and retry_s, which are the caller's; evaluation_ids is
 * there already. */
void denial_write(const struct check *c, const struct traffic *t, const struct denial *d,
		  struct check_verdict *v);

#endif
