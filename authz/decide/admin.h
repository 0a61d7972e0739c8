/*
 * admin - what administrators do to agents, each act on record.
 *
 * Purpose    Registry changes and join tokens in the order that keeps the log honest: what grants
 *            is on record before it holds, what takes away holds before it is on record.
 * Threads    Control thread only (from a task).
 */
#ifndef WRIT_DECIDE_ADMIN_H
#define WRIT_DECIDE_ADMIN_H

#include "authz/decide/control.h"

/* Carry out @change; change->by is who asks. On success the new view is published. */
MUST_USE bool admin_change(struct control *c, const struct registry_change *change, struct err *e);

struct admin_token {
	char text[TOKEN_TEXT]; /* secret: wipe it */
	uint64_t number;
	int64_t expires_ms;
};

/* Make a join token for a registered agent of our own trust domain. */
MUST_USE bool admin_token(struct control *c, struct str id, int64_t ttl_s, struct str by,
			  struct admin_token *out, struct err *e);

/* Put an act without a change on record: exports, checkpoints on demand. */
MUST_USE bool admin_record(struct control *c, const char *act, struct str by, struct err *e);

#endif
