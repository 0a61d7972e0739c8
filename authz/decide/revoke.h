/*
 * revoke - take a delegated token, or all tokens for a user, back.
 *
 * Purpose    One act of the control thread: what takes away is committed and in force on every
 *            front before it is put on record (kind token.revoke), so a log that cannot write
 *            does not keep a stolen token alive.
 * Ownership  Borrows everything.
 * Threads    The control thread.
 */
#ifndef WRIT_DECIDE_REVOKE_H
#define WRIT_DECIDE_REVOKE_H

#include "authz/decide/control.h"

#define REVOKE_REASON_MAX 1000 /* bytes */

struct revoke_act {
	struct str by;	   /* who asks */
	bool by_holder;	   /* the agent that holds the token, and not an admin */
	struct str reason; /* a person's words; may be empty */
	/* one of: */
	struct str jti; /* and when it ends; 0: that is not known */
	int64_t expires_s;
	struct str user, issuer; /* all tokens that were issued until now */
};

/* Codes: invalid_request (that is no jti), too_many_revocations. */
MUST_USE bool revoke(struct control *c, const struct revoke_act *act, struct err *e);

#endif
