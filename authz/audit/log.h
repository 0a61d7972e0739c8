/*
 * log - the writing side of log.db, without threads: start-up checks and batches.
 *
 * Purpose    One connection, its statements, and the head of the log: compact range, last hash,
 *            last time. A batch works on a copy of the head that replaces it only after COMMIT,
 *            so database and memory go back together when anything fails.
 * Ownership  The log owns its connection and buffers.
 * Threads    One owner at a time: first who opens it, then the committer.
 */
#ifndef WRIT_AUDIT_LOG_H
#define WRIT_AUDIT_LOG_H

#include "authz/audit/audit.h"
#include "authz/audit/rotation.h"
#include "authz/audit/rows.h"
#include "authz/audit/tree.h"
#include "authz/store/db.h"

#define LAST_CHECKPOINT "last-checkpoint"
#define LOG_NAME_MAX 64 /* bytes of a node's name */

struct log_head {
	struct tree_range range;
	uint8_t last_hash[SHA256_LEN]; /* zeros: no record yet */
	int64_t last_ms;
};

/* What the start-up checks found, for log.open and log.gap. */
struct log_found {
	bool unclean;	/* the last record is no log.close */
	bool no_anchor; /* checkpoints were made, but last-checkpoint is not there */
	uint8_t root[SHA256_LEN];
	uint64_t checkpoint_size; /* of the newest stored one */
	struct rows_prune prune;  /* how far it is */
	uint64_t taken;		  /* records after which log-next.key signs, but log.key is still
				   * there: finish it; or 0 */
	bool left;		  /* log-next.key was made for a rotation that did not happen */
};

struct log {
	int folder; /* open while the log is; also read by the checkpointer */
	struct db *db;
	struct db_stmt *leaf, *opening, *tree, *checkpoint, *closed;
	struct db_tx tx;
	struct sha256 *sha;
	struct buf text, openings; /* the leaf after its 0x00; salts and values side by side */
	struct log_head head, next;
	struct key_history keys; /* as the log was opened */
	char node[LOG_NAME_MAX + 1], boot[17];
	const struct clock *clock;
	bool begun;
};

/* Opens, migrates and checks. @note gets the newest stored checkpoint, if any. */
MUST_USE bool log_open(const struct audit_config *c, struct log **out, struct log_found *found,
		       struct buf *note, struct err *e);
void log_close(struct log *l);

MUST_USE bool log_begin(struct log *l, struct err *e);

enum log_added {
	LOG_ADDED,
	LOG_REFUSED, /* this record cannot be written (too large, no memory); the batch goes on */
	LOG_FAILED,  /* roll back */
};
MUST_USE enum log_added log_add(struct log *l, const struct record *r, struct audit_job *to,
				struct err *e);
MUST_USE bool log_add_checkpoint(struct log *l, const struct tree_range *range, struct str note,
				 struct err *e);
/* On failure everything is as before log_begin. */
MUST_USE bool log_commit(struct log *l, struct err *e);
void log_rollback(struct log *l);

/* --- startup.c --- */

/* Does what the file says agree with itself, with the newest signed checkpoint in it, and with
 * the copy outside? Fills l->head. */
MUST_USE bool log_check(struct log *l, const struct audit_config *c, struct log_found *found,
			struct buf *note, struct err *e);

#endif
