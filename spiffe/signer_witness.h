/*
 * signer_witness - the signer's side of being a witness of other logs.
 *
 * Purpose    Cosign the checkpoints of other logs (C2SP tlog-cosignature v1) with a key that signs
 *            nothing else. It sees no proofs, so it cannot judge whether a log goes on from what it
 *            signed before; but it remembers, for as long as it runs, and signs no smaller tree and
 *            no second root of one size, whatever the serving process asks for.
 * Ownership  By value but for the origins, which signer_witness_clear frees. The key is borrowed.
 * Threads    One owner.
 */
#ifndef WRIT_SPIFFE_SIGNER_WITNESS_H
#define WRIT_SPIFFE_SIGNER_WITNESS_H

#include <openssl/evp.h>
#include <stdint.h>

#include "authz/base/buf.h"
#include "include/writ/err.h"

#define SIGNER_WITNESS_LOGS 64 /* whose checkpoints one process signs */

struct signer_witness {
	EVP_PKEY *key; /* NULL: this signer is no witness */
	size_t n;
	struct {
		char *origin;
		uint64_t size;
		uint8_t root[32];
	} logs[SIGNER_WITNESS_LOGS];
};

/* Sign the checkpoint's @text at @at_s, seconds, which must be within a minute of @now_s. 64 bytes
 * are appended to @out. */
MUST_USE bool signer_witness_sign(struct signer_witness *w, struct str text, int64_t at_s,
				  int64_t now_s, struct buf *out, struct err *e);
void signer_witness_clear(struct signer_witness *w);

#endif
