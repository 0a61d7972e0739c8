/*
 * proof - what shows one record, or one size of the log, to somebody who holds the log's key.
 *
 * Purpose    Inclusion (this record is in the log), consistency (this log goes on from that one)
 *            and range (these records are all there is between a and b), each made from stored
 *            tiles, checked against the signed root before it is given out; and the .tlog-proof
 *            file (C2SP tlog-proof) that carries the first.
 * Ownership  What a proof holds is in the buf that it was made with, or borrows the parsed text.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_AUDIT_PROOF_H
#define WRIT_AUDIT_PROOF_H

#include "authz/audit/note.h"
#include "authz/audit/tree.h"

#define PROOF_FILE_MAX (512 * 1024) /* bytes of a .tlog-proof */
#define PROOF_RECORD_MAX 65535

/* One record's proof. writ puts the record itself into the extra line: a file proves it alone. */
struct proof_file {
	struct str extra; /* base64 as it stands there; empty: no such line */
	uint64_t index;
	struct tree_proof path;
	struct str note; /* the signed checkpoint */
};
void proof_file_format(const struct proof_file *p, struct buf *out);
MUST_USE bool proof_file_parse(struct str text, struct proof_file *p, struct err *e);

/* --- proofs of a log --- */

enum proof_kind { PROOF_INCLUSION, PROOF_CONSISTENCY, PROOF_RANGE };

struct proof_ask {
	enum proof_kind kind;
	/* Inclusion: record a. Consistency: from the tree of a records. Range: records [a, b). */
	uint64_t a, b;
	uint64_t size; /* by the checkpoint over the fewest records from this on; 0: the newest */
	bool record;   /* of an inclusion: give the record, too */
};

struct log_proof {
	bool covered; /* false: no checkpoint covers what was asked for yet; only leaf is set */
	struct tree_proof hashes;
	uint64_t size;
	uint8_t leaf[SHA256_LEN]; /* of record a */
	struct buf note, record;
};

/* @folder is the data folder. ERR_NOT_FOUND: there is no such record. ERR_IO "storage_corrupt":
 * what was computed does not make the signed root. Clear @p in any case. */
MUST_USE bool proof_make(const char *folder, const struct alloc *alloc, const struct proof_ask *ask,
			 struct log_proof *p, struct err *e);
void proof_clear(struct log_proof *p);

#endif
