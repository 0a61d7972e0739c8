/*
 * issue - SVIDs for those who proved who they are.
 *
 * Purpose    Three ways: a join token, once (attest, on the control thread, since using up a token
 *            writes writ.db), and mutual TLS with a current X.509-SVID (renewal and JWT-SVIDs, on
 *            the front loops, without blocking), and what the kernel says of a caller of the
 * Workload API (on its loop). A bearer token never mints a credential. What is signed leaves only
 * after its record is on disk. Ownership  An issue lives in the call's arena and borrows from it
 * until `done` ran. Threads    issue_svid: the worker's own. issue_attest: the control thread.
 */
#ifndef WRIT_DECIDE_ISSUE_H
#define WRIT_DECIDE_ISSUE_H

#include "authz/decide/control.h"

struct issue {
	struct worker *worker; /* NULL on the control thread */
	struct arena *arena;
	struct str id;	 /* whom for */
	struct str spki; /* of an X.509-SVID: DER */
	struct str audience[JWT_AUDIENCES_MAX];
	size_t naudience; /* more than 0: a JWT-SVID */
	void (*done)(struct issue *i, bool ok, const struct err *e);
	void *user;
	int64_t uid; /* of issue_workload: who asked; -1: nobody did */
	/* the answer */
	struct buf svid; /* DER, or the token */
	int64_t expires_s;
	struct signer_job job;
	const char *method; /* private */
};

/* How long an SVID of @agent lives, in seconds, if its registration does not end before. */
int64_t issue_ttl(const struct core *core, const struct registry_entry *agent, bool jwt);

/* For the registered agent of @caller, which came over mutual TLS. Refuses (done with an error)
 * other proofs, unregistered, suspended and expired agents. */
void issue_svid(struct issue *i, const struct caller *caller);

/* For @agent, an entry of the worker's registry that a local process was found to be. Audiences, or
 * i->spki, say what for; i->uid goes on record. `done` runs once, perhaps at once. */
void issue_workload(struct issue *i, const struct registry_entry *agent);

/* Use up @token and issue an X.509-SVID over i->spki for its agent; i->id is filled. */
MUST_USE bool issue_attest(struct control *c, struct issue *i, struct str token, struct err *e);

#endif
