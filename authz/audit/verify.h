/*
 * verify - check an export offline, and say what exactly is wrong with it.
 *
 * Purpose    Needs the file (or a folder of tiles, or one record's proof) and the log's verifier
 *            key, nothing of the machine that wrote it. Five verdicts are kept apart: the records
 *            are whole (chain and tree), they are all there (counts against the checkpoint), they
 *            are the log's (signature), somebody else has seen them (a checkpoint held before,
 *            witnesses), and what is redacted. The key comes from outside; one found in the file
 *            proves nothing.
 * Ownership  Bytes are fed in pieces of any size; at most one line is held.
 * Threads    One owner at a time.
 */
#ifndef WRIT_AUDIT_VERIFY_H
#define WRIT_AUDIT_VERIFY_H

#include "authz/base/buf.h"
#include "include/writ/err.h"

#define VERIFY_LINE_MAX (16 * 1024 * 1024)	/* bytes of one line */
#define VERIFY_GIVEN_MAX 16			/* keys given by themselves */
#define VERIFY_KEYS_MAX (VERIFY_GIVEN_MAX + 64) /* and those of a policy */

/* What was done to the log, as far as the file shows. */
enum verify_fault {
	FAULT_NONE = 0,
	FAULT_EDIT,	  /* a record's bytes changed */
	FAULT_DELETION,	  /* records are missing inside */
	FAULT_INSERTION,  /* a record is too many */
	FAULT_SWAP,	  /* records changed places */
	FAULT_TRUNCATION, /* records are missing at the end */
	FAULT_REWRITE,	  /* changed, and the chain computed anew: only the signed root shows it */
	FAULT_FORK,	  /* signed, but not the history that was signed before */
	FAULT_OPENING,	  /* an opening is not what the record committed to */
	FAULT_COUNT,	  /* header, trailer and content disagree */
	FAULT_SIGNATURE,  /* the checkpoint is not signed by the given key */
	FAULT_EMPTY,	  /* nothing in it: never a success */
};
const char *verify_fault_name(enum verify_fault f);

/* The values are exit statuses of `writ audit verify`. */
enum verify_result {
	VERIFY_HOLDS = 0,
	VERIFY_BROKEN = 1,
	VERIFY_UNAUTHENTICATED = 3, /* consistent, but no key from outside */
	VERIFY_UNREADABLE = 4,	    /* no export of this format */
};

enum verdict { VERDICT_NO, VERDICT_YES, VERDICT_UNKNOWN };

/* Of the commitments in the records. */
enum redaction {
	REDACTION_NONE,	   /* each is opened, and fits */
	REDACTION_SOME,	   /* some have no opening here */
	REDACTION_ALL,	   /* none has */
	REDACTION_BROKEN,  /* an opening is not what was committed to */
	REDACTION_UNKNOWN, /* the records are not whole, so nothing can be counted */
};

struct verify_report {
	enum verify_result result;
	enum verify_fault fault; /* the first one */
	bool has_bad;		 /* the record is known */
	uint64_t bad_seq;	 /* first bad record, or the first missing one */
	uint64_t bad_end;	 /* with FAULT_REWRITE: it is one of [bad_seq, bad_end) */
	struct err why;		 /* one sentence; empty if all holds */

	/* The five verdicts. */
	enum verdict integrity;	   /* nothing changed since the checkpoint was signed */
	enum verdict completeness; /* yes: every record of the range in full; no: some withheld;
				    * unknown: only hashes are here, or one record */
	enum verdict authenticity; /* signed by a key given from outside */
	enum verdict anchoring;	   /* goes on from the checkpoint held before, and the witnesses
				    * of the policy have signed; unknown: neither was given */
	enum redaction redaction;

	bool piecemeal; /* tiles without records, or the proof of one */

	uint64_t first, count, size; /* range [first, first + count) of a tree of @size */
	uint64_t pruned;    /* records [0, pruned) are not here, and that they were pruned */
	uint64_t pruned_by; /* is said by this record, with the right root; pruned 0: nothing */
	uint64_t withheld;  /* records present as a hash only */
	uint64_t openings, redacted; /* commitments opened; commitments without an opening */
	char origin[256];
	char key_id[9];	      /* of the key that verified; empty: none */
	char key_from[160];   /* "given", "given: <id>, ..." if the log changed keys since, "none:
				 ..." */
	uint64_t witnessed_s; /* of the oldest cosignature that the quorum counts; 0: none */
	int64_t stamped_s;    /* of the time stamp that was checked; 0: none */
	uint8_t root[32];
};

struct verifier;

struct verify_options {
	struct str vkey;       /* from outside, one or more with white space between; empty:
				* structure only */
	struct str checkpoint; /* a signed note held from before; empty: none */
	struct str tsa_ca; /* PEM: the checkpoint must have a time stamp under these; empty: none */
	struct str policy; /* a witness policy; its logs' keys are from outside, too */
	uint64_t at_least; /* records that the log must hold */
	unsigned threads;  /* of verify_fd over a regular file; 0 or 1: this one alone */
	const struct alloc *alloc;
};

/* Fails if the key or the held checkpoint is malformed (usage, exit 2). */
MUST_USE bool verifier_new(const struct verify_options *o, struct verifier **out, struct err *e);
void verifier_feed(struct verifier *v, struct str bytes);

/* No more bytes. */
void verifier_finish(struct verifier *v, struct verify_report *r);
void verifier_free(struct verifier *v);

/* All of it over a file descriptor. A read error is VERIFY_UNREADABLE. */
MUST_USE bool verify_fd(int fd, const struct verify_options *o, struct verify_report *r,
			struct err *e);

/* A folder of tiles, with or without records (`writ audit publish`, or any tlog-tiles log of
 * writ's records). Fails as verify_fd does. */
MUST_USE bool verify_tiles(const char *folder, const struct verify_options *o,
			   struct verify_report *r, struct err *e);

/* A .tlog-proof. @record: the record's bytes; p == NULL: they are in the proof's extra line. */
MUST_USE bool verify_proof(struct str proof, struct str record, const struct verify_options *o,
			   struct verify_report *r, struct err *e);

/* The report as one JSON object, for programs. */
void verify_report_json(const struct verify_report *r, struct buf *out);

#endif
