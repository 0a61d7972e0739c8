/*
 * attest - who a stranger is, by something other than an SVID.
 *
 * Purpose    One table of attestors (attest.c). Each takes one kind of proof and gives selectors,
 *            by which the registry knows the agent; a join token gives the agent itself. A new
 *            attestor is a file with a struct attestor and a row of the table. What a proof gives
 *            is checked facts only: values that could not stand in a registration are left out,
 *            and so match nothing.
 * Ownership  attest_open borrows the db, which it adds a table to; the configuration's texts must
 *            outlive it. What a proof gives lives in the call's arena.
 * Threads    The control thread, but for attest_challenge: any.
 *
 * A proof is used up before anything is issued for it, in one statement, and stays used up over a
 * restart: a token of others until it ends (unless its issuer may be re-used), a nonce for its
 * minute. What leads to nothing - no entry matches - is not used up.
 */
#ifndef WRIT_SPIFFE_ATTEST_H
#define WRIT_SPIFFE_ATTEST_H

#include "authz/base/json.h"
#include "spiffe/tokens.h"

#define ATTEST_SELECTORS 64	/* of one proof */
#define ATTEST_ISSUERS 32	/* of each kind */
#define ATTEST_USED_MAX 100000	/* proofs remembered; beyond that none is taken */
#define ATTEST_NONCE_S 60	/* how long a challenge waits */
#define ATTEST_LIFE_MAX_S 86400 /* of a token, from now on */
#define ATTEST_NONCE_TEXT 65	/* 48 bytes in base64url, and NUL */

struct attest_issuer {
	struct str cluster; /* Kubernetes only */
	bool users;	    /* vouches for people (attest_user.h) and attests no agent */
	struct str issuer, audience;
	struct str jwks;	  /* "file:/path", an https URL or "discover" (attest_source.h) */
	const char *ca_file;	  /* PEM of who vouches for that server; NULL: fetch.ca_file */
	const struct str *claims; /* OIDC only: those that become selectors */
	size_t nclaims;
	struct str scopes; /* of users: what a token without scope of its own stands for */
	bool reuse;
};

struct attest_config {
	const struct attest_issuer *oidc, *k8s;
	size_t noidc, nk8s;
	const struct attest_issuer *users;
	size_t nusers;
	const struct str *x509pop; /* paths of PEM files with CA certificates */
	size_t nx509pop;
	int64_t leeway_s;
	int64_t refresh_s; /* between two fetches of keys */
	int64_t keep_s;	   /* how long keys are used without being confirmed */
};

struct attest;

/* Reads all keys and certificates: a file that is missing or wrong is named. Keys that are fetched
 * are those of before, if there are any. */
MUST_USE bool attest_open(const struct attest_config *c, struct db *db, struct attest **out,
			  struct err *e);
void attest_close(struct attest *a); /* NULL is fine */

/* Read the keys again where a file has changed; a file that cannot be read leaves the keys as they
 * were, and *e says so. Forget proofs that ended, and stored keys past their keep time. */
MUST_USE bool attest_refresh(struct attest *a, int64_t now_ms, struct err *e);

/* A nonce to be signed, good for ATTEST_NONCE_S. Nothing is remembered of it. */
void attest_challenge(const struct attest *a, int64_t now_ms, char out[static ATTEST_NONCE_TEXT]);

struct attest_call {
	struct attest *attest;
	struct tokens *tokens;
	const struct registry_view *view;
	const struct json *proof; /* the member of the request that is named like the attestor */
	struct str spki;	  /* DER of the key that an SVID is wanted for */
	int64_t now_ms;
	struct arena *arena;
};

struct attested {
	struct str agent;		     /* of a join token: whom it is for */
	uint64_t token_number;		     /* of a join token */
	struct registry_selector *selectors; /* ATTEST_SELECTORS */
	size_t n;
	struct str once;       /* what must not come again, or empty */
	int64_t once_until_ms; /* until then; later the proof does not hold by itself */
};

struct attestor {
	const char *name; /* in requests and records: "join_token" */
	const char *what; /* for messages: "a string from `writ agent token`" */
	/* Refusals: ERR_UNAUTHENTICATED of a proof that does not hold, ERR_INVALID of one that has
	 * not even its shape. */
	bool (*prove)(const struct attest_call *c, struct attested *out, struct err *e);
};

/* The attestor named @name, or NULL; all of them, NULL-terminated. */
const struct attestor *attestor_find(struct str name);
extern const struct attestor *const attestors[];

/* Check a proof. *out is filled, in the call's arena. */
MUST_USE bool attest_prove(const struct attestor *t, const struct attest_call *c,
			   struct attested *out, struct err *e);

/* Use it up, once it is settled that something is issued for it, and before that is done.
 * Refusals: ERR_UNAUTHENTICATED "proof_used", ERR_UNAVAILABLE "too_many_proofs". */
MUST_USE bool attest_use(struct attest *a, const struct attested *proof, struct err *e);

/* --- for attestors --- */

/* Add TYPE:KEY:VALUE; what could not stand in a registration is left out. False: no memory. */
MUST_USE bool attested_add(const struct attest_call *c, struct attested *out, const char *type,
			   struct str key, struct str value, struct err *e);

extern const struct attestor attest_join_token, attest_oidc, attest_k8s_psat, attest_x509pop;

#endif
