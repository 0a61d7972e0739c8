/*
 * revocations - delegated tokens that are void before their time.
 *
 * Purpose    A token is revoked by its jti, and all that were exchanged from it go with it, since
 *            each carries the jti of its line (spiffe/delegated_token.h). A user is revoked by
 * name: every token for that user that was issued until then is void. What is revoked is committed
 * to writ.db, then every front sees it within a turn of its loop; a row is kept until the last
 * token it can concern has ended. Of users, only a hash is kept. Ownership  A desk borrows the
 * database; a view is a snapshot (core.revocations). Threads    A desk: the control thread. A view:
 * any.
 */
#ifndef WRIT_DECIDE_REVOCATIONS_H
#define WRIT_DECIDE_REVOCATIONS_H

#include "authz/base/snapshot.h"
#include "authz/store/db.h"
#include "spiffe/delegated_token.h"

#define REVOCATIONS_MAX 100000
#define REVOCATIONS_OF_ONE 1000 /* by one agent: it cannot take the room of others */
#define REVOCATION_KEY 16	/* bytes */

struct revocation {
	uint8_t key[REVOCATION_KEY];
	int64_t before_s;  /* tokens issued until then; INT64_MAX: whenever */
	int64_t expires_s; /* when nothing is left that it could concern */
};

/* By jti; false: that is none. */
MUST_USE bool revocation_of_token(struct str id, int64_t expires_s, struct revocation *out);
/* By user: all tokens issued until @now_s; none of them lives longer than @life_s. */
void revocation_of_user(struct str issuer, struct str user, int64_t now_s, int64_t life_s,
			struct sha256 *sha, struct revocation *out);

struct revocations; /* a view */

/* Is @t, or one it came from, or its user, revoked? @r may be NULL: nothing is. */
bool revocations_hit(const struct revocations *r, const struct delegated_token *t,
		     struct sha256 *sha);

struct revocation_desk;

/* Reads what is stored, and publishes it to @slot. */
MUST_USE bool revocations_open(struct db *db, struct slot *slot, struct revocation_desk **out,
			       struct err *e);
void revocations_close(struct revocation_desk *d); /* NULL is fine */

/* Durable and published when it returns. @by: the agent whose share it counts against; empty: an
 * admin's, which no share bounds. Refused with ERR_UNAVAILABLE "too_many_revocations": there is no
 * room, and the token lives. */
MUST_USE bool revocations_add(struct revocation_desk *d, const struct revocation *r, struct str by,
			      struct err *e);

/* Forget what concerns nothing any more. */
MUST_USE bool revocations_prune(struct revocation_desk *d, int64_t now_s, struct err *e);

size_t revocations_count(const struct revocation_desk *d);

#endif
