/*
 * outcome - which decisions are closed: what became of them was reported.
 *
 * Purpose    A permit is a promise that something may be done; what was done, and what it used, is
 *            reported later by the PEP and is a record of its own. This table says for each
 *            decision which record closed it, so that it is closed once, a repeated report is known
 *            as one, and those still open can be listed. The committer writes a row in the
 *            transaction of the record; so neither is ever there alone.
 * Ownership  A lookup owns its connection. What it finds is copied to the caller's arena.
 * Threads    closings_add: the committer's. A lookup: one owner at a time, beside the writer.
 */
#ifndef WRIT_AUDIT_OUTCOME_H
#define WRIT_AUDIT_OUTCOME_H

#include "authz/audit/flat.h"
#include "authz/audit/record.h"
#include "authz/base/arena.h"
#include "authz/store/db.h"

enum closing_kind { CLOSING_OUTCOME = 1, CLOSING_USAGE = 2 }; /* as stored */

/* What a record closes. */
struct closing {
	uint64_t seq; /* of the decision */
	enum closing_kind kind;
	/* What was said, so that its repetition is told from something else: salted, because a
	 * report is short and could be guessed, and wiped when the report is erased. */
	uint8_t salt[SALT_LEN], said[SHA256_LEN];
};

/* Fill in salt and said for a report whose canonical text is @text. */
void closing_say(struct closing *c, struct sha256 *sha, struct str text);

/* --- the committer's --- */

MUST_USE bool closings_migrate(struct db *db, struct err *e);

/* A row for @c, closed by record @by. *added false: it was closed before. Within a transaction.
 * @s: prepared by closings_prepare. */
MUST_USE bool closings_prepare(struct db *db, struct db_stmt **s, struct err *e);
MUST_USE bool closings_add(struct db *db, struct db_stmt *s, const struct closing *c, uint64_t by,
			   bool *added, struct err *e);

/* --- looking up --- */

struct closings;

MUST_USE bool closings_open(const char *folder, struct closings **out, struct err *e);
void closings_close(struct closings *c); /* NULL is fine */

enum closing_state {
	CLOSING_NONE,	/* open */
	CLOSING_SAME,	/* closed, and @text is what was said */
	CLOSING_OTHER,	/* closed, and something else was said */
	CLOSING_ERASED, /* closed, and what was said is no longer known */
};

struct closing_found {
	bool record;	  /* there is a record of this number */
	uint64_t pruned;  /* if not: records [0, pruned) are in archives */
	struct leaf leaf; /* its members, still escaped */
	struct str pep;	  /* its "pep", not escaped */
	enum closing_state state;
	uint64_t by; /* the record that closed it */
};

/* The record @seq, and whether it is closed by @kind with a report of canonical text @text. */
MUST_USE bool closings_find(struct closings *c, uint64_t seq, enum closing_kind kind,
			    struct str text, struct arena *a, struct closing_found *out,
			    struct err *e);

/* The records that close @seq; *n is 0 to 2. */
MUST_USE bool closings_of(struct closings *c, uint64_t seq, uint64_t by[static 2], size_t *n,
			  struct err *e);

/* Is decision @seq closed by an outcome? */
MUST_USE bool closings_has_outcome(struct closings *c, uint64_t seq, bool *closed, struct err *e);

/* The value of text member @name of leaf @text, not escaped; empty if absent. In @a. */
struct str leaf_text(struct str text, struct str name, struct arena *a);

#endif
