/*
 * witness - who else must have signed a checkpoint: policy files and cosignatures.
 *
 * Purpose    A verifier's policy (C2SP tlog-policy): log keys, witnesses, groups of them, and the
 *            quorum that must have cosigned (C2SP tlog-cosignature v1, Ed25519). It comes from
 *            whoever verifies, never from the log's operator.
 * Ownership  By value; nothing is borrowed.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_AUDIT_WITNESS_H
#define WRIT_AUDIT_WITNESS_H

#include "authz/audit/note.h"

#define WITNESS_POLICY_MAX 65536 /* bytes of a policy file */
#define WITNESS_ITEMS_MAX 64	 /* of each: logs, witnesses and groups together */

/* A witness or a group of those before it. */
struct witness_item {
	char name[NOTE_NAME_MAX + 1];
	bool group;
	struct note_key key; /* of a witness */
	uint64_t members;    /* of a group: bits of items before it */
	unsigned least;	     /* so many of them */
};

struct witness_policy {
	struct note_key logs[WITNESS_ITEMS_MAX];
	size_t nlogs;
	struct witness_item items[WITNESS_ITEMS_MAX];
	size_t nitems;
	int quorum; /* an item; -1: none is wanted */
};

/* The message names the line. */
MUST_USE bool witness_policy_parse(struct str text, struct witness_policy *p, struct err *e);

/* Is the quorum met by good cosignatures of @n? *oldest is the time (seconds) of the oldest good
 * one, 0 if there is none. False with @e: it is not, or a known witness's signature is wrong. */
MUST_USE bool witness_policy_met(const struct witness_policy *p, const struct note *n,
				 uint64_t *oldest, struct err *e);

#endif
