/*
 * audit - the log: one writer, one chain, nothing answered before it is on disk.
 *
 * Purpose    Records are drafted by the threads that have something to say, handed over in
 *            chains, and committed in batches by one committer thread: sequence number, time,
 *            previous hash, leaf, compact range and openings in one transaction of log.db.
 * Ownership  A job belongs to the log from audit_submit until its task runs; what its strs
 *            point to must live as long.
 * Threads    audit_submit: any. Tasks run where job->reply_to is taken. audit_wait blocks.
 */
#ifndef WRIT_AUDIT_AUDIT_H
#define WRIT_AUDIT_AUDIT_H

#include "authz/audit/record.h"
#include "authz/audit/rotation.h"
#include "authz/base/clock.h"
#include "authz/base/queue.h"
#include "include/writ/err.h"

struct audit;
struct closing; /* outcome.h */

struct audit_config {
	const char *folder;    /* the data folder; log.db and last-checkpoint live in it */
	const char *origin;    /* "<trust_domain>/writ" */
	const char *node;      /* this machine's name, [a-z0-9.-] */
	size_t queue;	       /* records that may wait; LIMIT_QUEUE */
	int64_t checkpoint_ms; /* between signed checkpoints; 0: 1,000 */
	const struct clock *clock;
	uint8_t public_key[32]; /* Ed25519, of the log key (keys/log.key) */
	uint8_t next_key[32];	/* of keys/log-next.key, left by a stop in a rotation; or zeros */
	const struct alloc *alloc; /* NULL: mem_system */
	const char *vfs;	   /* SQLite file system of log.db; NULL: the system's */
	/* Sign @text with the log key (the signer process does it). Called by the checkpointer
	 * thread; blocks. */
	bool (*sign)(void *ctx, struct str text, uint8_t signature[static 64], struct err *e);
	/* For audit_rotate. The log key's signature that the one which was made last follows after
	 * @size records (rotation_text); called by the committer: blocks. */
	bool (*hand_over)(void *ctx, uint64_t size, uint8_t signature[static 64], struct err *e);
	/* Have log-next.key take the place of log.key, on disk and in the signer, which from now on
	 * signs checkpoints over more than @size records; 0: there will be no rotation,
	 * log-next.key goes. Called by the checkpointer, and by audit_open to finish what a stop
	 * cut off. */
	bool (*switch_key)(void *ctx, uint64_t size, struct err *e);
	void *ctx;
	/* Called once, from the committer, when the log can never be written again by this
	 * process (a failed fsync, I/O error, corruption): the process must stop. */
	void (*fatal)(void *ctx, const struct err *e);
};

struct audit_job {
	struct task task; /* run on reply_to when the job is over */
	struct queue
		*reply_to;    /* NULL: the task runs on the committer's thread and must not block */
	struct record record; /* the draft, see record.h */
	/* The decision that this record closes, or NULL. If it was closed before, the record is not
	 * written: ERR_CONFLICT "closed_already". */
	const struct closing *closing;
	int wake; /* audit_append's own */
	/* Filled before the task runs: */
	bool ok;	/* on disk */
	struct err err; /* if not: ERR_UNAVAILABLE, "audit_unavailable", and why */
	uint64_t seq;
	int64_t time_ms;
	uint8_t leaf_hash[32];
};

/* Open or create log.db, run the start-up checks (audit-log sheet 14.5), write log.open (after
 * an unclean stop: log.gap first), start committer and checkpointer. ERR_CONFLICT with code
 * "rollback_detected": the log is older than a checkpoint that was shown; it must not go on. */
MUST_USE bool audit_open(const struct audit_config *c, struct audit **out, struct err *e);

/* Hand over a chain of jobs (linked by task.link). If the queue is full or the log is not
 * writable, nothing is taken and false: the caller answers audit_unavailable for each. */
MUST_USE bool audit_submit(struct audit *a, struct chain *jobs, struct err *e);

/* Append one record and wait until it is on disk. Not from a front loop. job->task and
 * job->reply_to are used up. */
MUST_USE bool audit_append(struct audit *a, struct audit_job *job, struct err *e);
/* The same with @n of them, at least one, at once: in order, and for few flushes. False if one of
 * them is not on disk; each says for itself. */
MUST_USE bool audit_append_all(struct audit *a, struct audit_job *const *jobs, size_t n,
			       struct err *e);

/* Writable right now? For /readyz; @e says why not. */
bool audit_ready(struct audit *a, struct err *e);

struct audit_status {
	uint64_t size;		  /* records */
	uint64_t checkpoint_size; /* of the newest signed checkpoint */
	size_t waiting;		  /* handed over, not yet over */
	uint64_t batches, refused;
	uint64_t unsigned_since; /* checkpoints that could not be signed or stored, in a row */
	uint64_t pruned;	 /* records [0, pruned) have left the database */
	uint64_t prune_to;	 /* and those below this are on their way */
	uint32_t wal_pages;	 /* of the write-ahead log since it was last reset */
	char log_key_id[9];	 /* 8 hex digits: of its first key, in evaluation ids for ever */
};
void audit_status(struct audit *a, struct audit_status *s);

/* Sign a checkpoint over everything committed by now, store it, append the note to @out. */
MUST_USE bool audit_checkpoint(struct audit *a, struct buf *out, struct err *e);

/* The log's verifier key of today ("vkey", signed-note 3.2). */
void audit_vkey(struct audit *a, struct buf *out);

/* All its keys, first to current. */
void audit_keys(struct audit *a, struct key_history *out);

/* From now on @key signs, which the signer has made and keys/log-next.key holds: a `key.rotate`
 * record of the old key's signature for it, a last checkpoint by the old key, and the switch. @by
 * goes on record. *seq: of the record. Blocks. False: the old key goes on, and log-next.key may be
 * removed; but "rotation_unfinished": the log has taken it, and the next start finishes what this
 * one could not. */
MUST_USE bool audit_rotate(struct audit *a, const uint8_t key[static 32], struct str by,
			   uint64_t *seq, struct err *e);

/* Commit what waits, write log.close, sign a last checkpoint, stop the threads, free. Nobody may
 * submit any more; what comes nevertheless is refused. NULL is fine. */
void audit_close(struct audit *a);

#endif
