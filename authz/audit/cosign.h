/*
 * cosign - what a log and a witness say to each other (C2SP tlog-witness, tlog-cosignature v1).
 *
 * Purpose    The body of add-checkpoint and its answers, the message that a witness signs, and the
 *            judgement whether a checkpoint goes on from the one the witness holds. Both sides use
 *            it: the log that asks (cosigner.h) and the witness that answers (decide/witnessing.h).
 * Ownership  What is parsed borrows its text.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_AUDIT_COSIGN_H
#define WRIT_AUDIT_COSIGN_H

#include "authz/audit/note.h"
#include "authz/audit/tree.h"

#define COSIGN_PROOF_MAX 63 /* hashes of a consistency proof */
#define COSIGN_REQUEST_MAX (NOTE_MAX + COSIGN_PROOF_MAX * 45 + 32) /* bytes of a body */
#define COSIGN_PATH "/add-checkpoint"
#define COSIGN_SIZE_TYPE "text/x.tlog.size" /* of a 409, whose body is "<size>\n" */

/* The body: "old <size>\n", the consistency proof from @old, a base64 hash per line, an empty line,
 * the signed checkpoint. */
struct cosign_request {
	uint64_t old;
	struct tree_proof proof;
	struct str note;
};
void cosign_request_format(const struct cosign_request *r, struct buf *out);
/* The note is not parsed. ERR_INVALID "malformed_checkpoint" with the line. */
MUST_USE bool cosign_request_parse(struct str body, struct cosign_request *r, struct err *e);

/* The body of a 409: the size that the witness holds. */
MUST_USE bool cosign_size_parse(struct str body, uint64_t *size);

/* What a witness signs: a header, the time in seconds, the checkpoint's text. */
void cosign_message(struct buf *out, uint64_t at_s, struct str text);
/* One line of a 200, and of the note from then on. */
void cosign_line(struct buf *out, const struct note_key *k, uint64_t at_s,
		 const uint8_t signature[static 64]);

/* Put the cosignature of @k out of the lines of a 200 behind @note, into @out. Lines of other keys
 * are dropped. False: malformed, no line of @k, or not over this checkpoint. */
MUST_USE bool cosign_answer(struct str note, struct str lines, const struct note_key *k,
			    struct buf *out, uint64_t *at_s, struct err *e);

/* What a witness holds of one log. */
struct cosign_held {
	bool found; /* else: nothing yet, as of size 0 */
	uint64_t size;
	uint8_t root[SHA256_LEN];
};

enum cosign_verdict {
	COSIGN_FOLLOWS,	  /* sign it */
	COSIGN_OLD_AHEAD, /* 400: old is more than the checkpoint's size */
	COSIGN_OTHER_OLD, /* 409: old is not what is held */
	COSIGN_FORK,	  /* 422: the same size with another root: a lie, whoever shows it */
	COSIGN_NO_PROOF,  /* 422: nothing shows that it goes on from what is held */
};
/* The word of a verdict in records and answers, and its HTTP status. */
const char *cosign_verdict_name(enum cosign_verdict v);
int cosign_verdict_status(enum cosign_verdict v);

/* Does @c, whose signature was checked, go on from @held by @r? */
enum cosign_verdict cosign_judge(struct sha256 *sha, const struct cosign_held *held,
				 const struct cosign_request *r, const struct checkpoint *c);

#endif
