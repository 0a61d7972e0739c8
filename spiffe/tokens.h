/*
 * tokens - join tokens: one use, a short life, one registered agent.
 *
 * Purpose    The first secret of an agent that nothing else vouches for. 160 random bits as text
 *            that survives command lines and mail ("wjt_" and 32 letters and digits, lower case);
 *            only its SHA-256 is stored, so the database and its backups let nobody in. A token is
 *            marked as used in the one statement that checks it: of two that present it at once,
 *            one gets in.
 *            The hash is looked up by equality and nothing is compared in constant time: what a
 *            caller could learn by timing is a prefix of the SHA-256 of a guess, and no guess of
 *            160 random bits can be steered by it.
 * Ownership  Borrows the db; owns its statements.
 * Threads    The control thread, like all that writes writ.db. Other processes on the same file
 *            are safe (that is what the one statement is for).
 */
#ifndef WRIT_SPIFFE_TOKENS_H
#define WRIT_SPIFFE_TOKENS_H

#include "spiffe/registry.h"

#define TOKEN_TEXT 37 /* "wjt_" + 32 + NUL */
#define TOKEN_TTL 600 /* seconds, unless asked otherwise */
#define TOKEN_TTL_MAX (24 * 3600)
#define TOKEN_PER_AGENT 100 /* that may wait to be used */

struct tokens;

struct token {
	uint64_t number; /* what records and lists call it; never secret */
	struct str id;	 /* the agent */
	int64_t created_ms, expires_ms;
	int64_t used_ms; /* 0: not yet */
	struct str by;	 /* who asked for it */
};

MUST_USE bool tokens_open(struct db *db, struct tokens **out, struct err *e);
void tokens_close(struct tokens *t);

/* Make a token for @id, which @view must know as active (or as suspended: it may be resumed
 * before the token is used). @text gets the secret; the caller wipes it. @number is for the record.
 */
MUST_USE bool token_create(struct tokens *t, const struct registry_view *view, struct str id,
			   int64_t ttl_s, int64_t now_ms, struct str by,
			   char text[static TOKEN_TEXT], uint64_t *number, struct err *e);

/* Use it up. On success *id (in @a) is the agent to vouch for. Refusals, all ERR_UNAUTHENTICATED:
 * join_token_invalid (not even the shape of one), join_token_unknown, join_token_used,
 * join_token_expired, and - the token is kept - unknown_agent, agent_suspended, agent_expired,
 * agent_retired. */
MUST_USE bool token_use(struct tokens *t, const struct registry_view *view, struct str text,
			int64_t now_ms, struct arena *a, struct str *id, uint64_t *number,
			struct err *e);

/* Unused and unexpired tokens of @id (empty: of all), oldest first. */
MUST_USE bool tokens_list(struct tokens *t, struct str id, int64_t now_ms,
			  void (*each)(void *ctx, const struct token *token), void *ctx,
			  struct err *e);

/* Take back all unused tokens of @id: part of suspending and retiring. *n may be NULL. */
MUST_USE bool tokens_revoke(struct tokens *t, struct str id, int64_t now_ms, int64_t *n,
			    struct err *e);

/* Forget what was used or expired more than @age_ms ago (it then counts as unknown). */
MUST_USE bool tokens_prune(struct tokens *t, int64_t now_ms, int64_t age_ms, struct err *e);

#endif
