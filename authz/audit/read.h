/*
 * read - walk the records of log.db from another thread or process.
 *
 * Purpose    For tail, search and export. Rows are read page by page in short transactions: a
 *            long one would keep the WAL from being reused while decisions go on.
 * Ownership  A row points into the reader and lives until the next call on it; one that is passed
 *            lives for the call that it is passed to.
 * Threads    One owner at a time; any number of readers beside the writer.
 */
#ifndef WRIT_AUDIT_READ_H
#define WRIT_AUDIT_READ_H

#include "authz/audit/flat.h"
#include "authz/audit/record.h"
#include "authz/audit/tree.h"

struct audit_reader;

struct audit_filter {
	struct str agent, decision, kind; /* exact; empty: any. "authz.*": a family of kinds */
	int64_t since_ms, until_ms;	  /* [since, until); 0: open */
	uint64_t from, to;		  /* [from, to) of seq; to == 0: to the end */
	bool newest_first;
	bool openings; /* read them too */
	bool all;      /* give rows that do not match as well, with matches == false */
};

struct audit_row {
	uint64_t seq;
	struct str text; /* the leaf */
	struct leaf leaf;
	bool matches;
	struct {
		bool held; /* not erased, not absent */
		uint8_t salt[SALT_LEN];
		struct str value;
	} openings[OPENING_COUNT];
};

MUST_USE bool audit_reader_open(const char *folder, const struct alloc *alloc,
				struct audit_reader **out, struct err *e);
void audit_reader_close(struct audit_reader *r);

/* Records committed by now. */
MUST_USE bool audit_reader_size(struct audit_reader *r, uint64_t *size, struct err *e);

/* Records [0, this) were pruned, as of the last start: a walk begins behind them, and a filter that
 * asks for one of them alone finds nothing. */
uint64_t audit_reader_pruned(const struct audit_reader *r);
/* Records [0, *upto) that are on their way out; 0: none are. */
MUST_USE bool audit_reader_going(struct audit_reader *r, uint64_t *upto, struct err *e);
/* Record @seq was asked for and is not there: false with why, pruned or damaged. */
bool audit_reader_gone(struct audit_reader *r, uint64_t seq, struct err *e);

/* Start over with a filter, whose strs must live as long as the walk. Times are found by bisection
 * (they never decrease), so the walk begins where it should. */
MUST_USE bool audit_reader_start(struct audit_reader *r, const struct audit_filter *f,
				 struct err *e);

/* The next row. At the end of the walk *got is false; a walk of at most @scan rows may also end
 * without a match, *got false and audit_reader_at saying where to go on. 0: no bound. */
MUST_USE bool audit_reader_next(struct audit_reader *r, size_t scan, struct audit_row *row,
				bool *got, struct err *e);

/* Use @row, quickly: the WAL waits. False: enough for now, no more rows in this call. */
typedef bool audit_reader_use(void *ctx, const struct audit_row *row);

/* The next page of the walk, each row passed to @use where SQLite has it: who copies it anyway need
 * not do so twice. Unless the filter asks for something that a record says, records are not looked
 * into: row->leaf is empty. Not to be mixed with audit_reader_next in one walk. */
MUST_USE bool audit_reader_pass(struct audit_reader *r, audit_reader_use *use, void *ctx,
				struct err *e);

/* The seq range that is left to walk, [*from, *to); empty: done. */
void audit_reader_left(const struct audit_reader *r, uint64_t *from, uint64_t *to);

/* A stored checkpoint: the smallest of at least @least records, or with @least == 0 the newest.
 * Its note is appended to @note, its compact range is in *range. *found false: there is none. */
MUST_USE bool audit_reader_checkpoint(struct audit_reader *r, uint64_t least, struct buf *note,
				      struct tree_range *range, bool *found, struct err *e);

/* The compact range over the first @size records, from the nearest stored one before. */
MUST_USE bool audit_reader_range(struct audit_reader *r, uint64_t size, struct tree_range *range,
				 struct err *e);

/* The range of the one record @seq: one->node[0] is its leaf hash. */
MUST_USE bool audit_reader_leaf(struct audit_reader *r, uint64_t seq, struct tree_range *one,
				struct err *e);

/* Append to @out the perfect nodes that cover [lo, hi), computed from the records in it. */
MUST_USE bool audit_reader_cover(struct audit_reader *r, uint64_t lo, uint64_t hi,
				 struct tree_proof *out, struct err *e);

#endif
