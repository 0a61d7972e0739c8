/*
 * rotation - the keys of a log, one after the other, and how trust goes from each to the next.
 *
 * Purpose    When a log takes another key, the one before signs that it does: which log, after how
 *            many records, and the new public key. That signature is in the log, in the
 *            `key.rotate` record that is the last one under the old key, and it goes with every
 *            later checkpoint, as one more line of the note, so that who holds an older key can
 *            still tell whose signature he sees, wherever the checkpoint goes. The line is of a
 *            private type (signed-note 0xFF); readers that do not know it pass over it.
 * Ownership  Everything is by value.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_AUDIT_ROTATION_H
#define WRIT_AUDIT_ROTATION_H

#include "authz/audit/note.h"

#define ROTATIONS_MAX 64	   /* of one log */
#define ROTATION_NAME "rotation"   /* of the line */
#define ROTATION_ID 0x4b92e676u	   /* first 4 bytes of H("rotation" 0x0A 0xFF "key.rotate") */
#define ROTATION_LEN (8 + 32 + 64) /* bytes of one in the line: size, key, signature */

/* The old key signs checkpoints over at most @size records, @key those over more. */
struct rotation {
	uint64_t size; /* the record that says so is number size - 1 */
	uint8_t key[32];
	uint8_t signature[64]; /* by the key before, over rotation_text */
};

struct rotations {
	size_t n; /* ascending sizes */
	struct rotation at[ROTATIONS_MAX];
};

/* What the old key signs, appended to @out. */
void rotation_text(struct str origin, uint64_t size, const uint8_t key[static 32], struct buf *out);

/* Append the line with those that came before a checkpoint over @size records; nothing if there
 * are none. */
void rotations_line(const struct rotations *r, uint64_t size, struct buf *out);

/* What the line of a note says, unverified; r->n == 0: it has none. False: it is malformed. */
MUST_USE bool rotations_read(const struct note *n, struct rotations *r, struct err *e);

/* Who signed a checkpoint, and why he is believed. */
struct rotation_trust {
	struct note_key key; /* that signed */
	uint32_t given;	     /* id of the key from outside: the same, or one before it */
	uint64_t since;	     /* records under earlier keys; 0: it is the first, or was given */
};

/* Is the checkpoint @c of @n signed by the key that is in force at its size, as one of @keys (of
 * this origin, from outside) and the note's rotations say? A key that has handed over is not. */
MUST_USE bool rotations_verify(const struct note *n, const struct checkpoint *c,
			       const struct note_key *keys, size_t count, struct rotation_trust *t,
			       struct err *e);

/* The rotation that a `key.rotate` record of the log's own key tells. False: @leaf is none. One
 * that is malformed is one of no key, which no line can hold. */
bool rotation_of_leaf(struct str leaf, struct rotation *r);

/* --- the log's own side --- */

struct key_history {
	struct note_key first;
	struct rotations past;
	struct note_key current;
};

/* From the first key and what the log says came after it; verifies each signature. */
MUST_USE bool key_history_make(struct str origin, const uint8_t first[static 32],
			       const struct rotations *past, struct key_history *h, struct err *e);

/* The key that signs checkpoints over @size records. */
struct note_key key_history_at(const struct key_history *h, uint64_t size);

#endif
