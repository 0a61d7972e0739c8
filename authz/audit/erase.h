/*
 * erase - take openings out of the log for good; the proofs stay.
 *
 * Purpose    A record holds commitments; the values and their salts are openings beside it, and
 *            may have to go: one of them, those of one record, or of all records of an agent or
 *            about a person. A commitment is over a whole opening, so an opening goes whole, or
 *            not at all. Records, chain and tree are not touched. The transaction that erases also
 *            writes the `log.redact` record that says so, and then the write-ahead log is emptied,
 *            where the erased pages still are.
 * Ownership  What is found lives in the caller's arena.
 * Threads    erase_find: any, beside the writer. audit_erase and audit_forget block until the
 *            committer has done it: not from a front loop.
 */
#ifndef WRIT_AUDIT_ERASE_H
#define WRIT_AUDIT_ERASE_H

#include "authz/audit/audit.h"
#include "authz/audit/outcome.h"
#include "authz/base/arena.h"

#define ERASE_STEP 256	 /* records found, and erased in one transaction, at most */
#define ERASE_SCAN 20000 /* records looked at by one erase_find */

#define ERASE_ALL ((1u << OPENING_COUNT) - 1) /* sum of 1 << enum opening */

/* The opening that a path of a request or an answer is in ("args.password", "message", or the name
 * of an opening itself). False: there is none. */
MUST_USE bool erase_opening_of(struct str path, enum opening *out);

/* --- what is there to be erased --- */

struct erase_ask {
	const uint64_t *seqs; /* these records and the reports that close them; or else: */
	size_t nseqs;
	struct str agent;  /* records of this agent; or */
	struct str person; /* records with an opening in which this is the whole of a text */
	int64_t since_ms, until_ms; /* [since, until); 0: open */
	uint64_t from;		    /* go on from this record */
	unsigned which;		    /* openings */
};

struct erase_row {
	uint64_t seq;
	int64_t time_ms;
	struct str agent; /* or empty */
};

struct erase_found {
	struct erase_row rows[ERASE_STEP]; /* ascending seq; each holds one of the openings */
	size_t n;
	uint64_t next; /* where to go on; 0: that was all */
};

/* A number in @seqs that is no record's is ERR_NOT_FOUND. */
MUST_USE bool erase_find(const char *folder, const struct erase_ask *ask, struct arena *a,
			 struct erase_found *out, struct err *e);

/* --- erasing --- */

struct erasure {
	const struct erase_row *rows; /* at most ERASE_STEP */
	size_t n;
	unsigned which;
	uint64_t openings; /* filled in: so many were there and are gone */
};

/* Erase and append @job's record, in one transaction. */
MUST_USE bool audit_erase(struct audit *a, struct erasure *x, struct audit_job *job, struct err *e);

/* Empty the write-ahead log. False: a reader keeps it; the checkpointer tries again each second. */
bool audit_forget(struct audit *a);

/* "3,5-7" for rows of these numbers, as many as fit into @max bytes; how many did. */
size_t erase_ranges(const struct erase_row *rows, size_t n, size_t max, struct buf *out);

/* --- the committer's --- */
struct log;
MUST_USE bool log_erase(struct log *l, struct erasure *x, struct err *e);

#endif
