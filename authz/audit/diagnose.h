/*
 * diagnose - follow the chain of an export and tell what was done to it.
 *
 * Purpose    Each record says its place (seq) and the hash of the one before (prev); both are
 *            compared with what was computed, never with what is stored. At the first that does
 *            not fit, the next one or two decide between edit, deletion, insertion and swap.
 * Ownership  By value.
 * Threads    One owner at a time.
 */
#ifndef WRIT_AUDIT_DIAGNOSE_H
#define WRIT_AUDIT_DIAGNOSE_H

#include "authz/audit/verify.h"

/* What one line says. */
struct chain_record {
	bool present; /* there is such a record */
	bool is_leaf; /* else a leaf hash only: its place is believed until the next one */
	bool shaped;  /* the line is a leaf at all */
	uint64_t seq;
	char prev[64];	  /* in hexadecimal, as it stands there */
	uint8_t hash[32]; /* recomputed; of a withheld one as given */
};

struct chain_state {
	uint64_t expect;	     /* seq of the next record */
	struct chain_record before;  /* the last one that fitted */
	struct chain_record suspect; /* the one that did not */
	enum { CHAIN_FITS, CHAIN_SUSPECT, CHAIN_NEAR_SWAP, CHAIN_FAR_SWAP, CHAIN_BROKEN } stage;
	uint64_t at; /* place of the suspect */
	enum verify_fault fault;
	uint64_t bad_seq, bad_count; /* of a deletion: so many from bad_seq on */
};

void chain_start(struct chain_state *c, uint64_t first);

/* The next record. True while everything fits. */
bool chain_next(struct chain_state *c, const struct chain_record *r);

/* There is no next one: decide what was left open. */
void chain_end(struct chain_state *c);

#endif
