/*
 * token_exchange - one token for another (RFC 8693): an agent gets a delegated token.
 *
 * Purpose    The client proves itself by mutual TLS, shows whom it acts for (a user's token of a
 *            configured issuer, a delegated token that was addressed to it, or its own SVID) and
 *            says what the new token is for. What comes out is never more than what went in: scope
 *            within the subject's, an end no later than the subject's, a chain with this client
 *            last and nobody twice. Whether it comes out at all the policies say, by a decision
 *            like any other: action "token/exchange" on a resource of type "audience". Then it is
 *            signed, put on record, and only then given.
 * Ownership  An exchange lives in the call's arena and borrows from it until `done` ran.
 * Threads    token_exchange_person: the control thread, which has the issuers' keys. The rest, and
 *            `done`: the worker's own.
 */
#ifndef WRIT_DECIDE_TOKEN_EXCHANGE_H
#define WRIT_DECIDE_TOKEN_EXCHANGE_H

#include "authz/decide/control.h"
#include "authz/decide/decide.h"
#include "authz/decide/delegation.h"
#include "spiffe/attest_user.h"

/* What the client calls the subject's token (RFC 8693 3). */
enum subject_type { SUBJECT_ACCESS_TOKEN, SUBJECT_ID_TOKEN, SUBJECT_JWT };

struct token_exchange {
	struct worker *worker;
	struct arena *arena;
	const struct caller *caller;
	const struct peer *peer;
	struct str request_id, trace_id;
	enum subject_type type;
	struct str subject_token;
	struct str actor_token; /* a JWT-SVID; p == NULL: none */
	struct str target;	/* whom the token is for */
	struct str scope;	/* names with one blank between; may be empty */
	/* Runs once. @e NULL: the token is there. Else e->code is an `error` of RFC 6749 5.2 or RFC
	 * 8693 2.2.2, and e->msg says to the client no more than it may know; the record of the
	 * refusal has the reason. */
	void (*done)(struct token_exchange *x, const struct err *e);
	void *user;
	/* the answer */
	struct buf token;
	struct delegation delegation;
	/* private */
	struct attested_user person;
	const struct delegation *parent; /* the subject's token, if it is one of ours */
	int64_t ends_s;			 /* no later than that */
	bool any_scope;			 /* the subject's is not bounded */
	struct evaluation evaluation;
	struct signer_job job;
	uint64_t decision;
	struct err why;	 /* the reason, for the record */
	struct err said; /* the same, for the client */
};

/* Begin. True: the subject is a user's token, so token_exchange_person has to run on the control
 * thread, and token_exchange_resume here after it. False: `done` ran, or will. */
MUST_USE bool token_exchange_begin(struct token_exchange *x);
void token_exchange_person(struct token_exchange *x, struct control *c);
void token_exchange_resume(struct token_exchange *x);

#endif
