/*
 * signing - policy sets that only the holder of a key can put into force.
 *
 * Purpose    Where `policies.key` pins public keys, a set comes into force only with a signature of
 *            one of them over its content hash and a version, and never with a lower version than
 *            one that was in force before, unless somebody says so: what was once signed and then
 *            replaced for a reason does not come back by copying it.
 *            The signature is a signed note (C2SP signed-note, Ed25519; authz/audit/note.h) in the
 *            file SIGNING_FILE beside the rules. Its text is
 *                writ policy set v1
 *                version <number>
 *                sha256 <64 small hexadecimal digits>
 *            The file is no *.lua, so it is not part of the set nor of the hash that it signs.
 * Ownership  Borrows everything.
 * Threads    Statements, keys and signing_open: any. The rest: the control thread.
 */
#ifndef WRIT_DECIDE_SIGNING_H
#define WRIT_DECIDE_SIGNING_H

#include "authz/audit/note.h"
#include "authz/audit/record.h"
#include "authz/policy/policy.h"

#define SIGNING_FILE POLICY_SIGNATURE_FILE
#define SIGNING_KEYS 16				      /* that may be pinned at once */
#define SIGNING_VERSION_MAX INT64_C(9007199254740991) /* 2^53-1: it is written to records */

struct signing_statement {
	uint64_t version; /* 1 to SIGNING_VERSION_MAX */
	uint8_t hash[SHA256_LEN];
};

/* The text that is signed, without signatures. */
void signing_format(struct buf *out, const struct signing_statement *s);
MUST_USE bool signing_parse(struct str text, struct signing_statement *out, struct err *e);

struct signing_keys {
	struct note_key keys[SIGNING_KEYS];
	size_t n;
};

/* Verifier keys ("name+hhhhhhhh+base64") separated by blanks, as `writ policy sign` prints them. */
MUST_USE bool signing_keys_parse(struct str text, struct signing_keys *out, struct err *e);

/* Is @note a statement about the set of @hash, signed by one of @keys? @by is the one. Codes:
 * policy_unsigned (@note is empty), policy_signature. */
MUST_USE bool signing_open(struct str note, const struct signing_keys *keys,
			   const uint8_t hash[static SHA256_LEN], struct signing_statement *out,
			   const struct note_key **by, struct err *e);

struct control;
struct policy_act;

/* May the set of @s come into force by @act? Yes if no key is pinned. Sets of stored generations
 * are held by the signature that they came with, and may be older: whoever goes back says so.
 * A refusal is on record. Codes as signing_open, and policy_older. */
MUST_USE bool signing_admits(struct control *c, const struct policy_sources *s,
			     const struct policy_act *act, struct err *e);

/* Name who signed the set of @hash, in a record about it; nothing if no key is pinned. Members
 * signed_by and signed_version. */
void signing_record(struct control *c, const uint8_t hash[static SHA256_LEN], struct record *r);

#endif
