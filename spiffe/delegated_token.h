/*
 * delegated_token - who acts now, and on whose behalf: access tokens that writ issues itself.
 *
 * Purpose    A JWT access token (RFC 9068) with the actors of RFC 8693: "sub" is the user, or the
 *            agent that began without one; "act" is who acts now, and in it who acted before. It is
 *            signed with the JWT keys of our own trust domain and is no JWT-SVID, nor can be taken
 *            for one: the header's typ is "at+jwt", which JWT-SVIDs must not have, and JWT-SVIDs
 *            are refused here for want of it. Every one is bound to the certificate of the actor
 *            that asked for it (RFC 8705 3.1). What issuer and audience it must have, the reader
 *            says.
 *            What is writ's own stands in the claim "<iss>/claims": "sub_iss", who vouched for the
 *            user; "line", the jti of each token that this one came from, so that revoking one of
 *            them reaches it without a look at what was issued.
 * Ownership  What is read lives in the caller's arena.
 * Threads    As jwt_svid.h: verifier and signer have one owner each.
 */
#ifndef WRIT_SPIFFE_DELEGATED_TOKEN_H
#define WRIT_SPIFFE_DELEGATED_TOKEN_H

#include "authz/base/digest.h"
#include "spiffe/jwt_svid.h"

#define DELEGATED_CHAIN_MAX 8	  /* agents in one token; the configuration may allow fewer */
#define DELEGATED_SUBJECT_MAX 512 /* bytes of a user's name */
#define DELEGATED_SCOPE_MAX 1024  /* bytes of all scopes */
#define DELEGATED_ID_LEN 22	  /* characters of a jti: 128 bits in base64url */
#define DELEGATED_TYPE "at+jwt"

struct delegated_token {
	struct str issuer;
	struct str subject;	   /* the user; or, without one, the SPIFFE ID of chain[0] */
	struct str subject_issuer; /* who vouched for the user; empty: there is none */
	struct str audience;
	struct str scope; /* names with one blank between them; may be empty */
	/* SPIFFE IDs, in the order in which they came to act: the last acts now. */
	struct str chain[DELEGATED_CHAIN_MAX];
	size_t nchain;
	struct str id;			      /* jti */
	struct str line[DELEGATED_CHAIN_MAX]; /* of the tokens it came from, the first first */
	size_t nline;
	int64_t issued_s, expires_s;
	uint8_t bound[SHA256_LEN]; /* SHA-256 of the actor's certificate (DER) */
};

/* The one who acts now. */
static inline struct str delegated_actor(const struct delegated_token *t)
{
	return t->chain[t->nchain - 1];
}

/* The whole delegation's name: the jti of the first token of the line. */
static inline struct str delegated_root(const struct delegated_token *t)
{
	return t->nline ? t->line[0] : t->id;
}

/* Does the header of @token say that it means to be one of these? Nothing is proven by that. */
bool delegated_token_claimed(struct str token, struct arena *a);

struct delegated_expected {
	struct str trust_domain; /* whose keys */
	struct str issuer;
	const struct str *audience; /* one of these */
	size_t naudience;
	bool any_audience; /* of those who ask what a token is, not to be let in by it */
	int64_t now_s;
};

/* Verify @token. It says nothing about who presents it: compare @out->bound. Refusals are
 * ERR_UNAUTHENTICATED, code "invalid_token". */
MUST_USE bool delegated_token_verify(struct jwt_verifier *v, struct bundle_set *bundles,
				     struct str token, const struct delegated_expected *x,
				     struct arena *a, struct delegated_token *out, struct err *e);

/* Append the token to @out. Refused with ERR_INVALID: texts that are empty, too long or no
 * printable UTF-8, agents that are no SPIFFE IDs or act twice, a user without an issuer, a life
 * that ends before it begins; with ERR_TOO_LARGE: more than LIMIT_TOKEN bytes. */
MUST_USE bool delegated_token_issue(struct jwt_signer *s, const struct delegated_token *t,
				    struct buf *out, struct err *e);

/* Append the claims of @t as members of a JSON object, without braces: as a token has them, and as
 * introspection tells them (RFC 7662 2.2). */
void delegated_token_claims(const struct delegated_token *t, struct buf *out);

/* Names with one blank between them (RFC 6749 3.3); none is there twice. Empty is fine. */
bool delegated_scope_valid(struct str scope);
/* Is each name of @part one of @whole? */
bool delegated_scope_within(struct str part, struct str whole);

/* A new jti. */
void delegated_new_id(char out[static DELEGATED_ID_LEN + 1]);

#endif
