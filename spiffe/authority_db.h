/*
 * authority_db - the authorities of our trust domain as rows of writ.db.
 *
 * Purpose    Which authorities there are, what each is, and what the trust bundle holds of it. The
 *            rows say it, not the key files: a file without a row is no authority. The database
 *            itself refuses two active ones of a kind, an id that changes its key, and a row that
 *            is deleted or comes back from revoked or retired.
 * Ownership  authority_db borrows the db and owns its rows; they live until the next change.
 * Threads    One owner.
 */
#ifndef WRIT_SPIFFE_AUTHORITY_DB_H
#define WRIT_SPIFFE_AUTHORITY_DB_H

#include "authz/base/buf.h"
#include "authz/store/db.h"
#include "spiffe/authority.h"

#define AUTHORITY_ROWS_MAX (AUTHORITY_KINDS * AUTHORITY_MAX)
#define AUTHORITY_CHAIN_MAX (12 * 1024) /* bytes of DER */
#define AUTHORITY_ROOTS_MAX (64 * 1024)

struct authority_row {
	struct authority a;
	bool first; /* its key is in the files of the first start (signer_keys.h) */
	struct str spki;
	struct str chain; /* X.509: its certificate and those above it; DER, one behind the other */
	struct str roots; /* X.509 with an upstream: what the bundle holds instead; else empty */
	struct str by;	  /* who prepared it */
	char *memory;	  /* private: what the texts point to */
};

struct authority_db {
	struct db *db;
	struct db_stmt *insert, *update, *list, *history, *distrusted, *read_meta, *write_meta;
	struct authority_row rows[AUTHORITY_ROWS_MAX]; /* those in the bundle, in order of making */
	const struct authority *all[AUTHORITY_ROWS_MAX]; /* the same, for authority.h */
	size_t n;
	uint64_t sequence; /* spiffe_sequence: grows with each change */
	uint64_t reissue;  /* the sequence of the last taint or revocation; 0: none */
};

MUST_USE bool authority_db_open(struct authority_db *d, struct db *db, struct err *e);
void authority_db_close(struct authority_db *d);

/* Read the rows again (those that are in the bundle). On failure nothing changed. */
MUST_USE bool authority_db_load(struct authority_db *d, struct err *e);

/* The row in the bundle with this id, or NULL. */
const struct authority_row *authority_db_find(const struct authority_db *d, struct str id);
/* The active one of a kind, or NULL. */
const struct authority_row *authority_db_active(const struct authority_db *d,
						enum authority_kind kind);

/* ---- changes: each one transaction, and the rows are read again after it ---- */

/* A new one; its state, times and texts as in @row. */
MUST_USE bool authority_db_add(struct authority_db *d, const struct authority_row *row,
			       struct err *e);

/* @a takes the state @to at @now_s; activation makes the active one old in the same step. */
MUST_USE bool authority_db_move(struct authority_db *d, const struct authority *a,
				enum authority_state to, int64_t now_s, struct err *e);

/* Those that have left the bundle, newest first, at most @max. */
MUST_USE bool authority_db_left(struct authority_db *d, size_t max,
				void (*each)(void *ctx, const struct authority *a), void *ctx,
				struct err *e);

/* The public keys of revoked X.509 authorities whose roots may still be in the bundle, newest
 * first, at most BUNDLE_DISTRUSTED_MAX; false from @each ends it. */
MUST_USE bool authority_db_distrusted(struct authority_db *d,
				      bool (*each)(void *ctx, struct str spki, struct err *e),
				      void *ctx, struct err *e);

#endif
