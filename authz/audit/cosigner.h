/*
 * cosigner - have our checkpoints cosigned by witnesses (C2SP tlog-witness, the log's side).
 *
 * Purpose    A thread of its own hands the newest checkpoint, with a proof that it goes on from
 *            what a witness holds, to each of them in turn, and keeps what comes back in
 *            cosigned-checkpoint. Nobody ever waits for it. How many of them are needed is the
 *            verifier's policy, not ours: what came is kept.
 *            When a witness begins to fail, and when it is back, that is a record. One that holds
 *            more of this log than we do has seen a history that we have lost: "witness_ahead".
 * Ownership  Borrows its configuration; owns its thread.
 * Threads    cosigner_standing: any. cosigner_step: the thread's own, or a test's without one.
 */
#ifndef WRIT_AUDIT_COSIGNER_H
#define WRIT_AUDIT_COSIGNER_H

#include <stdatomic.h>

#include "authz/audit/audit.h"
#include "authz/audit/cosign.h"
#include "authz/base/snapshot.h"
#include "authz/net/fetch.h"

#define COSIGNER_MAX 16		      /* witnesses */
#define COSIGNER_DELAY_MAX_MS 3600000 /* between tries of one that fails */
#define COSIGNER_KEEP_S \
	600 /* one with more cosignatures is not replaced by one with fewer so soon */

struct cosigner_witness {
	const char *name; /* for people, without quotes and backslashes */
	const char *url;  /* prefix of add-checkpoint: https */
	struct note_key key;
};

struct cosigner_report {
	char name[NOTE_NAME_MAX + 1];
	char url[FETCH_URL_MAX + 1];
	uint64_t size;	   /* newest that it cosigned; 0: none */
	int64_t at_s;	   /* when, as it says; 0: never */
	unsigned failures; /* since then */
	const char *code;  /* of the last failure */
	char failed[400];  /* "" : nothing to say */
};

struct cosigner_config {
	const char *folder; /* the data folder */
	struct audit *audit;
	const struct cosigner_witness *witnesses;
	size_t n;
	int64_t interval_ms; /* between two checkpoints for one witness */
	const struct clock *clock;
	/* One POST; fetch_post in the service. @stop as in struct fetch. */
	bool (*post)(void *ctx, const char *url, struct str body, const atomic_bool *stop,
		     struct fetch_reply *out, struct err *e);
	/* A witness began to fail, or is back; for the log of events. May be NULL. */
	void (*tell)(void *ctx, const struct cosigner_report *r);
	void *ctx;
};

struct cosigner;

/* Read what is kept. No thread yet. */
MUST_USE bool cosigner_open(const struct cosigner_config *config, struct cosigner **out,
			    struct err *e);
MUST_USE bool cosigner_start(struct cosigner *c, struct err *e);
void cosigner_stop(struct cosigner *c);	 /* the log is still open; NULL is fine */
void cosigner_close(struct cosigner *c); /* NULL is fine */

/* One round over all witnesses that are due. How long until the next one, in milliseconds. */
int64_t cosigner_step(struct cosigner *c);

struct cosigner_standing {
	struct shared shared;
	size_t n;
	struct cosigner_report *items;
};
/* With a reference: release it. NULL: no witnesses. */
struct cosigner_standing *cosigner_standing(struct cosigner *c);

#endif
