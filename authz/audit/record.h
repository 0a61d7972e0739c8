/*
 * record - draft one leaf of the log: flat canonical JSON of strings and integers.
 *
 * Purpose    A leaf is written once, in canonical order of member names, by the thread that has
 *            something to record; the committer only fills the gaps it alone knows (prev,
 *            seq, time) without parsing or sorting. Foreign and personal values go to openings:
 *            the leaf holds a salted commitment of each (audit-log sheet 12.1).
 * Ownership  A record's bytes live in the buf it was begun with, its openings where the caller
 *            put them; both must live until the record is committed.
 * Threads    One owner at a time.
 */
#ifndef WRIT_AUDIT_RECORD_H
#define WRIT_AUDIT_RECORD_H

#include "authz/base/buf.h"
#include "authz/base/digest.h"

#define SALT_LEN 16

enum opening { OPENING_ANSWER, OPENING_FACTS, OPENING_INPUT, OPENING_COUNT };

struct record {
	struct buf *text;		 /* members so far */
	size_t at_prev, at_seq, at_time; /* where the committer inserts its members */
	struct str last;		 /* name of the last member: order is asserted */
	struct {
		struct str value; /* canonical JSON; p == NULL: no such opening */
		uint8_t salt[SALT_LEN];
	} openings[OPENING_COUNT];
};

/* Start a record in an empty @text. Members boot,
 * node, prev, seq, time and v are the log's own and must not be added. */
void record_begin(struct record *r, struct buf *text);

/* Add members in strictly ascending order of name (asserted). Empty values are left out. Values
 * that are no UTF-8 or longer than 2,048 bytes are cut and repaired, never refused. "kind" is
 * added like any other, at its place, and is required. */
void record_str(struct record *r, struct str name, struct str value);
void record_int(struct record *r, struct str name, int64_t value);
void record_hash(struct record *r, struct str name, const uint8_t hash[static SHA256_LEN]);

/* Add "<name>_commit" over @value with a fresh salt and keep the opening. In order like any other
 * member. */
void record_commit(struct record *r, enum opening which, struct str value, struct sha256 *sha);

/* Was everything written? False only if the buf was too small or out of memory. */
bool record_ok(const struct record *r);

/* commit(name, salt, value) of the sheet's 12.1; for verifiers. */
void record_commitment(struct sha256 *sha, struct str name, const uint8_t salt[static SALT_LEN],
		       struct str value, uint8_t out[static SHA256_LEN]);

#endif
