/*
 * parts - what audit, committer and checkpointer share.
 *
 * Purpose    Three threads meet here: any that hands over records, the committer that owns the
 *            log, the checkpointer that owns the signed note. They pass messages; what more than
 *            one reads is atomic.
 * Ownership  audit_open makes it, audit_close frees it.
 * Threads    Said per member.
 */
#ifndef WRIT_AUDIT_PARTS_H
#define WRIT_AUDIT_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "authz/audit/audit.h"
#include "authz/audit/log.h"
#include "authz/base/snapshot.h"

#define BATCH_MAX 1000 /* records in one transaction */
/* When the WAL is moved into the database: at 64 MiB of pages of ROWS_PAGE. What counts is the
 * file. A batch of one record commits three pages, most of them anew, so at a low rate records are
 * a small part of it; and a file that grows costs more than its room: each commit takes new memory
 * from the page cache and writes the blocks that say where the file is, one after the other, before
 * its sync is over. Begun anew it is overwritten in place. Moving slows the commits beside it, so
 * it should touch few records in a hundred: with 32 in flight p99 is three times p50 from 32 to 128
 * MiB. */
#define WAL_PAGES_MAX 8000
#define CHECKPOINT_MS 1000 /* between signed checkpoints, if records came, unless configured */
#define PROBE_MS 1000	   /* between tries while the log cannot be written */

/* Someone who sleeps until a task of his was run: an eventfd, because its number may be closed
 * the moment he woke, where a condition variable would still be in use by the one who wakes. */
struct waiter {
	struct task task;
	int fd;
};
bool waiter_init(struct waiter *w, struct err *e);
uint64_t waiter_wait(struct waiter *w); /* until waiter_run ran, and how often; may be used again */
void waiter_clear(struct waiter *w);
void waiter_run(struct task *t); /* for task.run */
void waiter_wake(int fd);

/* What the checkpointer and audit_close want of the committer. */
struct order {
	struct waiter waiter;
	enum {
		ORDER_HEAD,
		ORDER_STORE,
		ORDER_LAST,
		ORDER_ERASE,
		ORDER_FORGET,
		ORDER_ROTATE,
		ORDER_PRUNE,
		ORDER_PRUNE_TILE
	} what;
	struct key_change *change;	 /* ROTATE */
	const struct prune_order *prune; /* PRUNE: what, with job */
	uint64_t tile;			 /* PRUNE_TILE: its first record */
	struct erasure *erasure;	 /* ERASE: what, and */
	struct audit_job *job;		 /* the record that says so */
	struct tree_range range; /* HEAD: the committed one, filled in; STORE: of the note */
	struct str note;	 /* STORE */
	bool ok;
	struct err err;
};

/* The log takes another key. */
struct key_change {
	uint8_t key[32];
	struct str by;
	struct note_key before; /* of the committer's order: who signs until now */
	struct rotation made;	/* filled in */
};

/* What audit_checkpoint and audit_rotate want of the checkpointer. */
struct request {
	struct waiter waiter;
	struct buf *out;
	struct key_change *change; /* NULL: a checkpoint */
	bool ok;
	struct err err;
};

/* Have the checkpointer do it, and wait. */
MUST_USE bool request_run(struct audit *a, struct request *r, struct err *e);

enum log_state {
	STATE_OK,
	STATE_STUCK, /* the last batch failed, but the next may not: full disk, no memory */
	STATE_DEAD,  /* never again in this process */
};

struct audit {
	struct audit_config config;
	struct alloc alloc;
	char *folder;
	struct slot keys;   /* of struct audit_keys; published by the checkpointer */
	struct note_key id; /* the first key: what evaluation ids and the log itself are named by */

	struct queue *jobs;	/* to the committer */
	struct queue *orders;	/* to the committer, which is woken through jobs */
	struct queue *requests; /* to the checkpointer */
	pthread_t committer, checkpointer;
	bool committing, checkpointing; /* the threads were started; of audit_open and _close */

	/* Read by anyone. */
	atomic_int state;
	atomic_uint_fast64_t size, checkpoint_size, batches, refused, unsigned_in_row;
	atomic_size_t waiting;
	/* Records below pruned are gone, those below prune_to go once prune_record is signed. */
	atomic_uint_fast64_t pruned, prune_to, prune_record;
	atomic_uint wal_pages;
	atomic_bool restart;	       /* set by the checkpointer: one RESTART, please */
	atomic_bool forget;	       /* the WAL holds what was erased: empty it */
	atomic_bool closing;	       /* no new records */
	atomic_bool stop;	       /* the checkpointer ends when it has nothing left */
	atomic_bool last_order;	       /* it has ended: so does the committer */
	_Atomic(const char *) trouble; /* why the state is not OK; static text */

	/* The committer's. */
	struct log *log;
	struct chain pending;
	uint64_t lost;	/* records refused since the log got stuck; for log.gap */
	int wal_asked;	/* pages at which the checkpointer was last asked */
	struct buf own; /* drafts of the log's own records */

	/* The checkpointer's. */
	struct db *wal;
	struct buf note; /* newest stored and shown */
	uint64_t note_size;
	int64_t tick_ns;
};

struct audit_keys {
	struct shared shared;
	struct key_history history;
};
/* --- prune.c: the checkpointer's. One tile more goes. How long to wait before the next one, in
 * milliseconds; 0: there is none to go now. --- */
int prune_step(struct audit *a);

/* --- rotate.c --- */
MUST_USE bool rotate_publish(struct audit *a, const struct key_history *h, struct err *e);
/* The committer's: the old key's signature; then record and row, in an open transaction. */
MUST_USE bool rotate_hand_over(struct audit *a, struct key_change *x, struct err *e);
MUST_USE bool rotate_fill(struct audit *a, struct key_change *x, struct err *e);
/* The checkpointer's. */
MUST_USE bool rotate_now(struct audit *a, struct key_change *x, struct err *e);
/* Sign, store and show the tree of @range, which is committed. */
MUST_USE bool checkpoint_over(struct audit *a, const struct tree_range *range, struct err *e);

void *committer_main(void *audit);
void *checkpointer_main(void *audit);

/* Give an order to the committer and wait for it. */
bool order_run(struct audit *a, struct order *o, struct err *e);

#endif
