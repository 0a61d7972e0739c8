/*
 * rollout_store - roll-outs as rows of writ.db.
 *
 * Purpose    A roll-out survives a restart with its salt, so the same agents stay in it, and with
 *            what it has counted; and it can be looked at when it is over. At most one is running:
 *            the database itself sees to that.
 * Ownership  Borrows the db; owns its statements. Texts of a row live in the arena that was given.
 * Threads    The control thread.
 */
#ifndef WRIT_DECIDE_ROLLOUT_STORE_H
#define WRIT_DECIDE_ROLLOUT_STORE_H

#include "authz/decide/rollout_run.h"
#include "authz/store/db.h"

enum rollout_state { ROLLOUT_RUNNING, ROLLOUT_PROMOTED, ROLLOUT_ABORTED };
extern const char *const rollout_state_names[]; /* "running", "promoted", "aborted" */

struct rollout_row {
	uint64_t id; /* from 1, never used again */
	enum rollout_kind kind;
	enum rollout_state state;
	uint64_t candidate, base; /* generations */
	unsigned percent;	  /* of a canary; else 0 */
	uint8_t salt[ROLLOUT_SALT];
	struct rollout_gates gates;
	int64_t started_ms, ended_ms; /* ended_ms: 0 while it runs */
	struct str by, message;	      /* who started it, and what for */
	/* Who ended it; why ("asked", a gate's name...), and in a sentence. */
	struct str ended_by, reason, detail;
};

struct rollout_store;

MUST_USE bool rollout_store_open(struct db *db, struct rollout_store **out, struct err *e);
void rollout_store_close(struct rollout_store *s); /* NULL is fine */

/* A new row that is running; row->id is set. ERR_CONFLICT if another one is. */
MUST_USE bool rollout_store_insert(struct rollout_store *s, struct rollout_row *row, struct err *e);
/* What it has counted so far. */
MUST_USE bool rollout_store_save(struct rollout_store *s, uint64_t id,
				 const struct rollout_report *report, struct err *e);
/* End the running one by what @row says of its end, with all it has counted. */
MUST_USE bool rollout_store_end(struct rollout_store *s, const struct rollout_row *row,
				const struct rollout_report *report, struct err *e);

/* @id 0: the running one. ERR_NOT_FOUND if there is none. */
MUST_USE bool rollout_store_get(struct rollout_store *s, uint64_t id, struct arena *a,
				struct rollout_row *out, struct err *e);
/* As saved last; an empty one if nothing was. */
MUST_USE bool rollout_store_report(struct rollout_store *s, uint64_t id, struct rollout_report *out,
				   struct err *e);
/* Newest first, those below @before (0: all), at most @max. */
MUST_USE bool rollout_store_list(struct rollout_store *s, uint64_t before, size_t max,
				 void (*each)(void *ctx, const struct rollout_row *row), void *ctx,
				 struct err *e);

#endif
