/*
 * note - signed notes and checkpoints (C2SP signed-note, tlog-checkpoint).
 *
 * Purpose    Read, write and verify the signed root of the log. Strict: a malformed line makes
 *            the whole note malformed; a known key whose signature fails rejects the note; a note
 *            that no known key signed is rejected. Unknown keys are ignored (witnesses, rotation).
 * Ownership  A parsed note borrows its text.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_AUDIT_NOTE_H
#define WRIT_AUDIT_NOTE_H

#include "authz/base/buf.h"
#include "authz/base/digest.h"

#define NOTE_MAX 65536
#define NOTE_SIGNATURES_MAX 100
#define NOTE_NAME_MAX 255
#define NOTE_ED25519 0x01
#define NOTE_COSIGNATURE 0x04 /* Ed25519 with a time, by a witness */
#define NOTE_ID_LEN 8	      /* hex digits of a key id */

/* A verifier key: "name+hhhhhhhh+base64(type || key)". */
struct note_key {
	char name[NOTE_NAME_MAX + 1];
	uint32_t id;
	uint8_t public_key[32];
};

/* Refuses names that are empty, too long, hold white space, control characters or '+'. */
MUST_USE bool note_key_make(struct str name, const uint8_t public_key[static 32],
			    struct note_key *k, struct err *e);
/* The same for a key of NOTE_COSIGNATURE. */
MUST_USE bool note_key_make_as(struct str name, uint8_t type, const uint8_t public_key[static 32],
			       struct note_key *k, struct err *e);
MUST_USE bool note_key_parse(struct str vkey, struct note_key *k, struct err *e);
/* The same for one of NOTE_COSIGNATURE. Its id is another, so neither is taken for the other. */
MUST_USE bool note_key_parse_as(struct str vkey, uint8_t type, struct note_key *k, struct err *e);
void note_key_format(const struct note_key *k, struct buf *out);
void note_key_format_as(const struct note_key *k, uint8_t type, struct buf *out);

struct note_signature {
	struct str name;
	uint32_t id;
	struct str base64; /* of key id and signature */
};

struct note {
	struct str text; /* what is signed: the final newline is in, the blank line is not */
	size_t n;
	struct note_signature signatures[NOTE_SIGNATURES_MAX];
};

MUST_USE bool note_parse(struct str bytes, struct note *n, struct err *e);

/* Verified by at least one of @keys, and no signature of one of them is bad. */
MUST_USE bool note_verify(const struct note *n, const struct note_key *keys, size_t count,
			  struct err *e);

/* Is @n cosigned by the witness @k (C2SP tlog-cosignature v1)? *at: when, in seconds. */
enum cosigned { COSIGNED_NOT, COSIGNED_BADLY, COSIGNED };
enum cosigned note_cosigned(const struct note *n, const struct note_key *k, uint64_t *at);

/* A plain Ed25519 signature over @text. */
bool note_ed25519(const uint8_t key[static 32], struct str text,
		  const uint8_t signature[static 64]);

/* Append "\n— name base64\n": text || this = a note with one signature. */
void note_sign_line(struct buf *out, const struct note_key *k, const uint8_t signature[static 64]);

struct checkpoint {
	struct str origin;
	uint64_t size;
	uint8_t root[SHA256_LEN];
};

/* The text of a checkpoint, without signatures. */
void checkpoint_format(struct buf *out, const struct checkpoint *c);
MUST_USE bool checkpoint_parse(struct str text, struct checkpoint *c, struct err *e);

/* Parse a signed checkpoint, verify it by @key and require that its origin is the key's name. */
MUST_USE bool checkpoint_open(struct str note, const struct note_key *key, struct checkpoint *c,
			      struct err *e);

#endif
