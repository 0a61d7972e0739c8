/*
 * authorities - the signing keys of the trust domain: made, used, withdrawn, each act on record.
 *
 * Purpose    Brings three things along together: the rows in writ.db, which say what each authority
 *            is; the sealed key files in keys/, which only the signer can open; and the trust
 *            bundle, which holds every authority that is not revoked or retired. The order of
 *            steps is such that a stop after any of them leaves one that works: a new key is on
 *            disk and in the bundle before it signs, and an old key's file goes last. By itself,
 *            by the clock: prepare, activate, retire (spiffe/authority.h).
 * Ownership  Borrows the control thread's database, signer and configuration.
 * Threads    The control thread, but for authority_standing (through a slot: any).
 */
#ifndef WRIT_DECIDE_AUTHORITIES_H
#define WRIT_DECIDE_AUTHORITIES_H

#include "authz/base/snapshot.h"
#include "authz/store/file.h"
#include "spiffe/authority_db.h"
#include "spiffe/crypto.h"

struct control;

struct authorities_config {
	const char *data; /* the data folder: bundle.pem, keys/; NULL: nothing is kept in files, and
			   * rotation is refused (tests of other things) */
	int64_t ttl_s;	  /* life of a new authority; 0: the signer's default */
	int64_t x509_ttl_max_s, jwt_ttl_max_s;
	bool wit; /* keys of WIT-SVIDs are wanted; else those that are there run out */
	int64_t leeway_s;
	uint32_t refresh_hint_s;	 /* 0: 300 */
	bool has_token[AUTHORITY_KINDS]; /* keys of the kind may be in a token */
	bool token[AUTHORITY_KINDS];	 /* new ones are made there */
	const char *upstream_bundle;	 /* PEM file with the organisation's roots; NULL: none */
	const struct file_calls *calls;	 /* of writing files; NULL: the system's */
};

/* How the authorities stand: for status, metrics and `writ authority show`. */
struct authority_standing {
	struct shared shared;
	uint64_t sequence, reissue;
	struct authority all[AUTHORITY_ROWS_MAX]; /* those in the bundle */
	size_t n;
	int64_t next_s[AUTHORITY_KINDS]; /* when something is due by the clock; INT64_MAX: nothing
					  */
	struct err failed;		 /* why what is due could not be done; else ERR_NONE */
};

struct authorities {
	struct control *c;
	struct authorities_config config;
	struct authority_db db;
	struct authority_plan plan[AUTHORITY_KINDS];
	int data, keys;	      /* folders; -1: none */
	struct buf roots;     /* DER of upstream_bundle */
	bool stale;	      /* what is published is not what the rows say: publish again */
	int64_t next_ns;      /* when the clock is asked again */
	struct slot standing; /* struct authority_standing */
};

MUST_USE bool authorities_open(struct control *c, const struct authorities_config *config,
			       struct authorities **out, struct err *e);
void authorities_close(struct authorities *a); /* NULL is fine */

/* At the start, before anything is signed: take the keys of the first start on, have the signer use
 * the active ones, remove files that stand for nothing, do what is due, publish the bundle. */
MUST_USE bool authorities_start(struct authorities *a, struct err *e);

/* Do what is due by the clock; once a minute at most, failures are logged and tried again. */
void authorities_tick(struct authorities *a);

/* Publish the bundle as the rows have it, beside the other domains' bundles that are published
 * now; and bundle.pem. */
MUST_USE bool authorities_publish(struct authorities *a, struct err *e);

/* Fingerprint of the certificate in the bundle that what is signed now leads to: first contact. */
void authorities_fingerprint(const struct authorities *a, char out[static CRYPTO_FINGERPRINT_MAX]);

/* When the active authority of @kind ends: no SVID outlives it. INT64_MAX: not known. Any thread.
 */
int64_t authorities_end_s(const struct control *c, enum authority_kind kind);

/* ---- acts (authority_acts.c); @by is who asks ---- */

/* *out is the authority as it is after the act. */
MUST_USE bool authority_prepare(struct authorities *a, enum authority_kind kind, struct str by,
				struct authority *out, struct err *e);

/* @force: even if verifiers may not have read it yet. */
MUST_USE bool authority_activate(struct authorities *a, struct str id, bool force, struct str by,
				 struct authority *out, struct err *e);

/* @verb: taint, revoke or retire. It holds from here on, also if the record then fails. */
MUST_USE bool authority_withdraw(struct authorities *a, struct str id, enum authority_verb verb,
				 struct str by, struct authority *out, struct err *e);

/* Have the signer use the one that the rows call active. */
MUST_USE bool authority_use_active(struct authorities *a, enum authority_kind kind, struct err *e);

/* ---- key files (authority_files.c) ---- */

/* Write, read (appended to @pem) the sealed key of an authority. */
MUST_USE bool authority_file_write(struct authorities *a, enum authority_kind kind, struct str id,
				   struct str pem, struct err *e);
MUST_USE bool authority_file_read(struct authorities *a, const struct authority *of,
				  struct buf *pem, struct err *e);

/* Remove every key that is neither prepared nor active, here and in a token. What cannot be removed
 * is logged, and tried again at the next act or start. */
void authority_files_sweep(struct authorities *a);

#endif
