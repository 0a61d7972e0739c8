/*
 * verify_parts - what the files of the verifier share.
 *
 * Purpose    One state: records go through the chain (which finds where something was done) and
 *            the tree (which alone proves that nothing was), wherever they come from; then the
 *            signed root is brought. verify_lines reads an export's lines, verify_tiles a folder
 *            of tiles; verify_end judges counts, signature and tree.
 * Ownership  verifier_new makes it, verifier_free frees it.
 * Threads    One owner at a time.
 */
#ifndef WRIT_AUDIT_VERIFY_PARTS_H
#define WRIT_AUDIT_VERIFY_PARTS_H

#include "authz/audit/diagnose.h"
#include "authz/audit/envelope.h"
#include "authz/audit/note.h"
#include "authz/audit/record.h"
#include "authz/audit/rotation.h"
#include "authz/audit/verify.h"
#include "authz/audit/witness.h"

enum stage { STAGE_HEADER, STAGE_BODY, STAGE_AFTER, STAGE_UNREADABLE };

struct verifier {
	const struct alloc *alloc;
	struct sha256 *sha;
	struct buf line; /* an unfinished one */
	struct note_key keys[VERIFY_KEYS_MAX];
	size_t nkeys;
	struct witness_policy *policy; /* NULL: none was given */
	bool has_held, quorum_missed;
	struct buf held_text, tsa_ca;
	struct checkpoint held; /* origin points into held_text */
	uint64_t at_least;

	enum stage stage;
	uint64_t lines, first, count, size; /* of the header */
	bool openings;			    /* the header announces some */
	char header[2 * SHA256_LEN];	    /* hash of its line */
	struct chain_state chain;
	struct tree_span span, at_held; /* at_held: when the held size was reached */
	struct rotations rotated;	/* that records tell of */
	bool rotated_often;		/* more of them than a log can have */
	uint64_t records;
	uint64_t absent; /* of tiles: records [0, absent) have no bundle */
	struct {
		uint64_t seq, to; /* of the last log.prune record; to 0: there is none */
		uint8_t root[SHA256_LEN];
	} prune;
	char commits[OPENING_COUNT][2 * SHA256_LEN]; /* of the last leaf */
	unsigned committed, opened;		     /* bits of them */
	bool leaf_fits;				     /* the last record is a leaf that fits */
	bool segment;	 /* a piece of an export, see verify_fd.c: the trailer goes to tail */
	struct buf tail; /* of a segment: the trailer and what follows */
	char before_first[2 * SHA256_LEN]; /* prev of the first record */
	struct verify_report report;
};

/* --- verify.c: verdicts --- */

/* The first fault is the one that is told. */
void verify_fault(struct verifier *v, enum verify_fault f, const char *fmt, ...) PRINTF(3, 4);
void verify_bad_record(struct verifier *v, uint64_t seq, uint64_t end);
void verify_unreadable(struct verifier *v, const char *what);
/* What the chain found, if it found anything. */
void verify_tell_chain(struct verifier *v);

/* --- verify_lines.c: records --- */

void verify_line(struct verifier *v, struct str line);
/* Where the records are: set once, before the first. */
void verify_range(struct verifier *v, uint64_t first, uint64_t count, uint64_t size);
void verify_leaf(struct verifier *v, struct str leaf);
/* Keep what a `key.rotate` record of the log's own key says. */
void verify_rotation(struct verifier *v, struct str leaf);
/* Commitments of the record before that nothing opened. */
void verify_redacted(struct verifier *v);

/* --- verify_end.c: the signed root --- */

void verify_trailer(struct verifier *v, struct str line, size_t prefix);
/* What stands in its place is none. */
void verify_no_trailer(struct verifier *v);
/* Parse and judge the note: whose it is, its quorum. False: a fault was told. */
bool verify_note(struct verifier *v, struct str note, struct checkpoint *c);
/* By a key from outside, or one that it leads to? */
bool verify_keys(const struct verifier *v, const struct note *note, const struct checkpoint *c,
		 struct rotation_trust *t, struct err *e);
/* Do the records tell of the same keys as the note, which verify_note accepted? */
void verify_rotations(struct verifier *v, const struct checkpoint *c, struct str note);
/* Keep what a `log.prune` record says. */
void verify_prune(struct verifier *v, struct str leaf, uint64_t seq);
/* Records [0, @end) are not here; @root is over them. Does the log say that they were pruned? */
void verify_pruned(struct verifier *v, uint64_t end, const uint8_t root[static SHA256_LEN]);
/* Does the log reach as far as was demanded, and go on from the checkpoint held before? @hints as
 * of tree_span_root for v->at_held. */
void verify_anchors(struct verifier *v, const struct tree_proof *hints);
/* The result, from what was found. */
void verify_conclude(struct verifier *v, struct verify_report *r);

#endif
