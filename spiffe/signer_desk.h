/*
 * signer_desk - the table of what the signer does, and its checks.
 *
 * Purpose    The signer's side of each request, without process or socket, so that tests and the
 *            fuzzer reach it. It believes nothing: the serving process may have been taken over.
 * Ownership  A desk borrows the keys, the upstream and the configuration; the log's keys change
 *            under its hands.
 * Threads    One owner.
 */
#ifndef WRIT_SPIFFE_SIGNER_DESK_H
#define WRIT_SPIFFE_SIGNER_DESK_H

#include "authz/base/clock.h"
#include "spiffe/signer.h"
#include "spiffe/signer_keys.h"

struct signer_desk;

/* @upstream NULL: authorities are self-signed. @token NULL: all keys are files. */
struct signer_desk *signer_desk_new(const struct signer_config *c, struct signer_keys *k,
				    const struct signer_upstream *upstream,
				    struct signer_token *token, const struct clock *clock,
				    struct err *e);
void signer_desk_free(struct signer_desk *d);

/* Answer one request: @body is a frame's body, the answer is appended to @out as a frame. False
 * only if @out is full. */
MUST_USE bool signer_desk_answer(struct signer_desk *d, struct str body, struct buf *out);

/* The first frame a signer sends: what is public, or why it cannot start. */
void signer_desk_greet(const struct signer_desk *d, bool confined, struct buf *out);
void signer_desk_regret(const struct err *e, struct buf *out);

#endif
