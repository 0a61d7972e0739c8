/*
 * witnessing - writ as a witness: cosign the checkpoints of other logs (C2SP tlog-witness).
 *
 * Purpose    For each log of the configuration one row of writ.db says the newest tree that was
 *            cosigned. A checkpoint is cosigned only if its log's key signed it and a proof shows
 *            that it goes on from that row; the row is on disk, and the act on record, before the
 *            cosignature leaves. A cosignature that did not leave is asked for again.
 *            What the log signed in contradiction to the row is evidence: it goes on record whole.
 * Ownership  A witnessing owns its statements; it borrows the control's database and the
 *            configuration.
 * Threads    witnessing_read and the states: any. The rest: the control thread.
 */
#ifndef WRIT_DECIDE_WITNESSING_H
#define WRIT_DECIDE_WITNESSING_H

#include <stdatomic.h>

#include "authz/audit/cosign.h"
#include "authz/decide/control.h"

#define WITNESSING_MAX 64    /* logs */
#define WITNESSING_RATE 20   /* requests per second and address ... */
#define WITNESSING_BURST 100 /* ... and what one may save up */

/* Whose checkpoints are cosigned. A log may have several keys: one row each. */
struct witnessed_log {
	const char *origin;
	struct note_key key;
};

struct witnessing_config {
	const struct witnessed_log *logs;
	size_t n;		/* 0: no witness */
	uint8_t public_key[32]; /* of the key that cosigns */
	const char *name;	/* of that key: "<trust domain>/writ/witness" */
};

/* How one origin stands, for status and metrics. */
struct witnessing_state {
	const char *origin;
	atomic_uint_fast64_t size, at_s;	       /* newest cosigned, and when; 0: none yet */
	atomic_uint_fast64_t cosigned, refused, forks; /* since the start; forks of the refused */
	/* The control thread's. */
	int64_t refusal_due_ns; /* until then refusals are counted, not recorded */
	uint64_t unrecorded;
	uint8_t fork[32]; /* root of the last fork on record */
};

struct witnessing;

/* False also if the key is not the one that the rows were cosigned with. */
MUST_USE bool witnessing_open(struct control *c, const struct witnessing_config *config,
			      struct witnessing **out, struct err *e);
void witnessing_close(struct witnessing *w); /* NULL is fine */

/* The key's vkey, type 4. */
void witnessing_vkey(const struct witnessing *w, struct buf *out);
/* All of them, *n of them. */
const struct witnessing_state *witnessing_states(const struct witnessing *w, size_t *n);

/* May this address ask now? Who asks is known only when a signature has been checked, which is
 * work. False: in *wait_ms. From any thread. */
bool witnessing_admit(struct witnessing *w, struct str address, int64_t now_ns, int64_t *wait_ms);

/* A request to cosign. Borrows the body. */
struct witness_ask {
	struct cosign_request request;
	struct note note;
	struct checkpoint checkpoint;
	size_t log; /* of witnessing_states */
	/* witnessing_act: */
	enum cosign_verdict verdict;
	uint64_t held;	 /* size, for a 409 */
	struct buf *out; /* the cosignature's line is appended */
};

/* Parse a body and check the log's signature. ERR_INVALID, ERR_TOO_LARGE; ERR_NOT_FOUND
 * "unknown_log"; ERR_FORBIDDEN "bad_signature". */
MUST_USE bool witnessing_read(const struct witnessing *w, struct str body, struct witness_ask *a,
			      struct err *e);

/* Judge, and cosign what follows. True: the verdict is in @a. False: it could not be stored, signed
 * or recorded, so there is no answer. */
MUST_USE bool witnessing_act(struct control *c, struct witness_ask *a, struct err *e);

/* The last cosigned checkpoint of the log whose origin has this SHA-256. ERR_NOT_FOUND. */
MUST_USE bool witnessing_last(struct control *c, const uint8_t origin_hash[static SHA256_LEN],
			      struct buf *out, struct err *e);

#endif
