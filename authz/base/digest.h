/*
 * digest - SHA-256 and random bytes, without an allocation on each call.
 *
 * Purpose    A context is made once and used again; a short text costs its hashing and little more.
 * Ownership  A sha256 owns its context.
 * Threads    One struct per thread.
 */
#ifndef WRIT_DIGEST_H
#define WRIT_DIGEST_H

#include <stdint.h>

#include "include/writ/err.h"

#define SHA256_LEN 32

struct sha256; /* a reusable context */

struct sha256 *sha256_new(struct err *e);
void sha256_free(struct sha256 *s);

/* H(parts[0] || parts[1] || ...). libcrypto cannot fail here short of memory corruption;
 * if it does the process aborts, since nothing true could be recorded any more. */
void sha256_parts(struct sha256 *s, const struct str *parts, size_t n,
		  uint8_t out[static SHA256_LEN]);
void sha256_of(struct sha256 *s, struct str text, uint8_t out[static SHA256_LEN]);

/* The same over what comes in pieces: begin, add ..., end. */
void sha256_begin(struct sha256 *s);
void sha256_add(struct sha256 *s, struct str piece);
void sha256_end(struct sha256 *s, uint8_t out[static SHA256_LEN]);

/* @n random bytes for a salt, at most 64, from a pool that RAND_bytes fills 1 KiB at a time: one
 * call of it costs more than the digest that the salt goes into. What was given out is wiped from
 * the pool. Make the context after the last fork, or two processes give out the same bytes. */
void sha256_salt(struct sha256 *s, void *out, size_t n);

/* @n random bytes (RAND_bytes), for identifiers and salts. Aborts if the system has none:
 * a predictable salt or token is worse than no service. */
void random_bytes(void *out, size_t n);

#endif
