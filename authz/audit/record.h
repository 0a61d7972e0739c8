/*
 * record - draft one leaf of the log: flat canonical JSON of strings and integers.
 *
 * Purpose    A leaf is written once, in canonical order of member names, by the thread that has
 *            something to record; the committer only fills the gaps it alone knows (boot, node,
 *            prev, seq, time, v) without parsing or sorting. Foreign and personal values go to
 *            openings: the leaf holds a salted commitment of each (audit-log sheet 12.1).
 * Ownership  A record's bytes live in the buf it was begun with, its openings where the caller
 *            put them; both must live until the record is committed.
 * Threads    One owner at a time.
 */
#ifndef WRIT_AUDIT_RECORD_H
#define WRIT_AUDIT_RECORD_H

#include "authz/base/buf.h"
#include "authz/base/digest.h"

#define SALT_LEN 16
#define RECORD_VALUE_MAX 2048 /* bytes of one string in a leaf; longer ones are cut */

enum opening { OPENING_ANSWER, OPENING_FACTS, OPENING_INPUT, OPENING_COUNT };

/* Members that the log itself fills in, in canonical order. */
enum record_gap { GAP_BOOT, GAP_NODE, GAP_PREV, GAP_SEQ, GAP_TIME, GAP_V, GAP_COUNT };

struct record {
	struct buf *text;	/* members so far, each as "name":value and a comma */
	size_t at[GAP_COUNT];	/* where the committer inserts its members */
	unsigned gaps;		/* how many of them are placed; the rest stand at the end */
	size_t last_at, last_n; /* name of the last member, in text: order is asserted */
	uint64_t last_key;	/* its first eight bytes */
	struct {
		struct str value; /* canonical JSON; p == NULL: no such opening */
		uint8_t salt[SALT_LEN];
	} openings[OPENING_COUNT];
};

/* Start a record in an empty @text. Members boot, node, prev, seq, time and v are the log's own
 * and must not be added. */
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

/* Was everything written, and does it fit into a leaf? */
bool record_ok(const struct record *r);

/* "answer", "facts", "input": the name inside the commitment and the stem of the leaf's member. */
struct str record_opening_name(enum opening which);

/* commit(name, salt, value) of the sheet's 12.1; for verifiers. */
void record_commitment(struct sha256 *sha, struct str name, const uint8_t salt[static SALT_LEN],
		       struct str value, uint8_t out[static SHA256_LEN]);

/* For the committer: what it alone knows. */
struct record_own {
	struct str boot, node; /* [a-z0-9.-], at most 64 bytes each */
	uint8_t prev[SHA256_LEN];
	uint64_t seq;
	int64_t time_ms;
};
#define RECORD_OWN_MAX 512 /* bytes that the log's own members can add */

/* Write the leaf to @out, room for r->text->n + RECORD_OWN_MAX bytes; its length is returned. */
size_t record_leaf(const struct record *r, const struct record_own *own, char *out);

#endif
