/*
 * svid_follow_jwt - JWT-SVIDs and the JWT bundle as files, for `writ svid watch --socket`.
 *
 * Purpose    One file per audience, fetched by FetchJWTSVID and again at half of what is left of
 * its life, and the JWK Set of our own trust domain out of FetchJWTBundles. Ownership  Borrows the
 * command's options; owns the last message about bundles. Threads    One owner.
 */
#ifndef WRIT_CLI_SVID_FOLLOW_JWT_H
#define WRIT_CLI_SVID_FOLLOW_JWT_H

#include "authz/cli/svid_watch.h"

#define SVID_TOKENS_MAX 16 /* of one command */

struct svid_token {
	struct str audience;
	const char *file;   /* in the folder */
	int64_t renew_at_s; /* 0: at once */
	unsigned failures;  /* in a row */
};

struct svid_jwt {
	struct svid_token tokens[SVID_TOKENS_MAX];
	size_t ntokens;
	const char *bundle_file; /* NULL: not wanted */
	struct buf bundles;	 /* the last message, until it is on disk */
	bool failed;		 /* in the last turn */
	bool final;		 /* ... and the server would say the same for ever */
};

/* AUDIENCE=FILE, cut at the last '='. */
MUST_USE bool svid_token_read(const char *text, struct svid_token *out, struct err *e);

/* --jwt and --jwt-bundle. Refusals are ERR_INVALID "wrong_usage". */
MUST_USE bool svid_jwt_of(const struct cli *c, struct svid_jwt *out, struct err *e);
void svid_jwt_clear(struct svid_jwt *j);

/* A message of FetchJWTBundles: kept for the next turn. */
void svid_jwt_heard(struct svid_jwt *j, struct str message);

/* Write what is new and fetch what is due, for the identity of @w->now; returns in how many seconds
 * something is due again. What goes wrong is said on standard error, and tried again later. */
int64_t svid_jwt_turn(struct svid_jwt *j, struct svid_watch *w);

/* The identity is another, or gone: every token is due. */
void svid_jwt_forget(struct svid_jwt *j);

#endif
