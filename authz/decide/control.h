/*
 * control - the one thread that changes things: registry, tokens, policies, writ's own leaf.
 *
 * Purpose    All that writes writ.db or publishes a snapshot happens here, one act after the
 *            other, so no act needs a lock and their order in the log is the order they happened
 *            in. Others hand it tasks; a task's run() executes here and pushes its own answer
 *            back to whoever waits.
 * Ownership  control_open borrows everything in its configuration but the database, which it
 *            opens and owns.
 * Threads    control_do: any. The acts of admin.h, generation_acts.h and rollout_acts.h: from
 *            tasks only.
 */
#ifndef WRIT_DECIDE_CONTROL_H
#define WRIT_DECIDE_CONTROL_H

#include <pthread.h>

#include "authz/decide/authorities.h"
#include "authz/decide/clock_watch.h"
#include "authz/decide/worker.h"
#include "authz/policy/generations.h"
#include "authz/store/db.h"
#include "spiffe/attest.h"

#define CONTROL_QUEUE 1024 /* tasks that may wait */

struct fetching;	  /* decide/fetching.h */
struct definitions;	  /* decide/definitions.h */
struct federation_desk;	  /* decide/federation.h */
struct revocation_desk;	  /* decide/revocations.h */
struct issuer_keys_desk;  /* decide/issuer_keys.h */
struct witnessing;	  /* decide/witnessing.h */
struct witnessing_config; /* the same */

/* How trust bundles and keys of others are fetched. */
struct federation_settings {
	const char *ca_file; /* or NULL: see net/fetch.h */
	bool private_ok;
	int64_t keep_s; /* how long a bundle is used without being confirmed */
};

struct control_config {
	struct core *core;
	const char *db_path;	 /* "<data>/writ.db" */
	const char *policies;	 /* folder of rules, catalogue and tests */
	const char *policy_keys; /* whose signature a set needs (signing.h); NULL: none */
	bool watch;		 /* activate a changed folder by itself */
	bool files_only;	 /* the folder is the only writer: apply and activate are refused */
	struct policy_limits limits;
	const struct attest_config *attest;
	unsigned registry_require; /* sum of enum registry_require */
	size_t registry_max;
	struct signer *signer;
	struct slot *certificate; /* of struct tls_certificate: writ's own TLS leaf */
	const struct str *names;  /* further SANs of that leaf */
	size_t nnames;
	/* writ.db cannot be used any more: nobody could be suspended, so the service has to stop.
	 * Called once, on the control thread; may be NULL. */
	void (*fatal)(void *ctx, const struct err *e);
	void *ctx;
	struct authorities_config authorities;
	struct federation_settings federation;
	const struct witnessing_config *witness; /* NULL: of no log */
};

/* How the policies stand: for status, /readyz and metrics. Written by the control thread, read
 * through a slot. */
struct policy_standing {
	struct shared shared;
	uint64_t generation; /* 0: none in force */
	char hash[65];
	size_t rules;
	int64_t since_ms;
	bool pinned;
	struct err failed; /* the folder as it is now does not load: why; else ERR_NONE */
};

struct import;

struct control {
	struct control_config config;
	struct core *core;
	struct db *db;
	struct registry *registry;
	struct tokens *tokens;
	struct attest *attest;
	struct import *import; /* going on, or NULL */
	struct generations *generations;
	struct rollout_desk *rollouts; /* rollout_acts.h */
	struct definitions *definitions;
	struct authorities *authorities;
	struct revocation_desk *revocations;
	struct witnessing *witnessing;	      /* NULL: of no log */
	struct fetching *fetching;	      /* from control_start to control_close */
	struct federation_desk *federation;   /* the same */
	struct issuer_keys_desk *issuer_keys; /* the same */
	struct signer_client *signer;
	struct sha256 *sha;
	struct queue *inbox;	      /* of struct task */
	struct slot standing;	      /* struct policy_standing */
	struct folder_memory *folder; /* rollout.c */
	uint64_t folder_seen;	      /* fingerprint of the policies folder as last looked at */
	int64_t leaf_ends_ms;
	struct clock_watch clock_watch;
	int64_t next_minute_ns, next_look_ns;
	pthread_t thread;
	bool running;
	atomic_bool stop, reload;
};

/* Open writ.db and publish the registry. The log must be open: each act is a record. */
MUST_USE bool control_open(const struct control_config *c, struct control **out, struct err *e);

/* Have the signer use the active authorities, make writ's TLS leaf, put the policies into force
 * that were so at the last stop or that the folder holds now, and start the thread. */
MUST_USE bool control_start(struct control *c, struct err *e);

/* Have @t run on the control thread. False: too much waits already. */
MUST_USE bool control_do(struct control *c, struct task *t, struct err *e);

/* Look at the policies folder again now, and fetch issuers' keys (SIGHUP). From any thread;
 * async-signal-safe. */
void control_reload(struct control *c);

void control_stop(struct control *c);
void control_close(struct control *c); /* NULL is fine */

/* ---- for the acts: control thread only ---- */

/* A record of the control thread's own. Begin, add members through job.record, then append. */
struct act_record {
	struct audit_job job;
	struct arena arena;
	struct buf text;
};
void act_record_begin(struct act_record *r);
/* Wait until it is on disk. Clears @r, also on failure. */
MUST_USE bool act_record_append(struct control *c, struct act_record *r, struct err *e);
/* The same with up to ACT_RECORDS_MAX at once: who waits for the disk once for each of many keeps
 * all other acts waiting. */
#define ACT_RECORDS_MAX 64
MUST_USE bool act_records_append(struct control *c, struct act_record *r, size_t n, struct err *e);

/* rollout.c */

/* What the policies folder held is remembered in writ.db. */
MUST_USE bool control_folder_open(struct control *c, struct err *e);
void control_folder_close(struct control *c);

/* What puts a policy set into force, as it goes on record. */
struct policy_act {
	struct str word; /* "watch", "apply", "activate" */
	struct str by, message;
	bool pinned;	  /* the watched folder does not replace it */
	bool allow_older; /* than what was signed and in force before */
};
/* Load, store and put in force; nothing happens if it is so already. *set (with a reference) is
 * what is in force then. @findings may be NULL. */
bool control_activate_sources(struct control *c, struct policy_sources *s,
			      const struct policy_act *act, struct policy_set **set,
			      struct policy_findings *findings, struct err *e);
bool control_activate_folder(struct control *c, struct str by, struct err *e);
/* Take the folder as looked at: only what changes in it from now on is activated. */
void control_folder_seen(struct control *c);
bool control_activate_stored(struct control *c, struct err *e);
/* @asked: by somebody, at start or by SIGHUP; then it does not matter whether it is watched. */
void control_look(struct control *c, bool asked);
bool control_renew_leaf(struct control *c, struct err *e);

#endif
