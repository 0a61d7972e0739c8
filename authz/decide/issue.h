/*
 * issue - SVIDs for those who proved who they are.
 *
 * Purpose    Three ways: a proof that some attestor takes (spiffe/attest.h), on the control thread,
 *            since using it up writes writ.db; mutual TLS with a current X.509-SVID (renewal and
 *            JWT-SVIDs, on the front loops, without blocking); and what the kernel says of a caller
 *            of the Workload API (on its loop). A bearer token of ours never mints a credential.
 *            What is signed leaves only after its record is on disk.
 * Ownership  An issue lives in the call's arena and borrows from it until `done` ran.
 * Threads    issue_svid, issue_workload: the worker's own. issue_attest: the control thread.
 */
#ifndef WRIT_DECIDE_ISSUE_H
#define WRIT_DECIDE_ISSUE_H

#include "authz/decide/control.h"

/* "run_" and 32 hexadecimal digits: one start of an agent, from its attestation on. */
#define ISSUE_RUN_MAX 37

/* What a stranger sends beside the key that is to be certified. */
struct attest_request {
	const struct attestor *attestor;
	const struct json *proof;
	struct str spiffe_id; /* which agent it wants to be, if several match; or empty */
	struct str name;      /* for {name} of a template; or empty */
};

struct issue {
	struct worker *worker; /* NULL on the control thread */
	struct arena *arena;
	struct str id;	 /* whom for */
	struct str spki; /* of an X.509-SVID, or a WIT-SVID: DER */
	bool wit;	 /* a WIT-SVID */
	struct str audience[JWT_AUDIENCES_MAX];
	size_t naudience; /* more than 0: a JWT-SVID */
	void (*done)(struct issue *i, bool ok, const struct err *e);
	void *user;
	int64_t uid; /* of issue_workload: who asked; -1: nobody did */
	/* the answer */
	struct str definition;	 /* the template that the agent is an instance of, or empty */
	char run[ISSUE_RUN_MAX]; /* of this attestation; empty: a renewal */
	struct buf svid;	 /* DER, or the token */
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

/* Check the proof, find the agent that it is for (an instance of a template is registered now),
 * use the proof up, and issue an X.509-SVID over i->spki; i->id is filled. A refusal after the
 * proof held is on record. Beside the attestors' own codes: no_entry, several_entries, id_taken,
 * template_value, agent_suspended and the like. In attest.c. */
MUST_USE bool issue_attest(struct control *c, struct issue *i, const struct attest_request *q,
			   struct err *e);

/* Have the instance @id of @template registered, unless it is there already: control thread. @by:
 * for the record, "attest:unix" and the like. Codes: id_taken, and those of registry_prepare. In
 * attest.c.
 */
MUST_USE bool issue_instance(struct control *c, const struct registry_entry *template,
			     struct str id, struct str by, int64_t now_ms, struct err *e);

/* May @caller be given credentials at all: over mutual TLS, registered and active, of our own trust
 * domain, and not an instance of a template that is suspended? Codes: mtls_required, unknown_agent,
 * foreign_trust_domain, agent_suspended. */
MUST_USE bool issue_entitled(const struct caller *caller, const struct worker *w, struct err *e);

/* ---- what issue.c and attest.c share ---- */

/* Fill the signer's job from the registry, never from what the caller sent beyond its key and its
 * audiences. No SVID outlives the registration. */
MUST_USE bool issue_prepare(struct issue *i, const struct core *core,
			    const struct registry_entry *agent, struct err *e);

/* What was issued, for the record. @opening: what the proof said, as JSON; may be empty. */
void issue_record(struct issue *i, struct record *r, struct arena *a, struct sha256 *sha,
		  const char *method, struct str opening);

#endif
