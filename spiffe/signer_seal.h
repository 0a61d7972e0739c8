/*
 * signer_seal - private keys at rest: sealed under one storage key, which a key file may encrypt.
 *
 * Purpose    keys/storage.key holds 32 random bytes. Every key that is made while writ runs leaves
 *            the signer only sealed under it (AES-256-GCM; the name of what is sealed is bound in),
 *            so the serving process can put it on disk without ever seeing it. If a key file is
 *            configured, storage.key itself is encrypted under it (HKDF-SHA-256, AES-256-GCM), and
 *            so is everything else: whoever reads the disk or a backup without that file has
 *            nothing. Changing to encryption, or to another key file, replaces one small file.
 * Ownership  A seal holds its key by value: seal_clear wipes it. Only the signer has one.
 * Threads    One owner.
 */
#ifndef WRIT_SPIFFE_SIGNER_SEAL_H
#define WRIT_SPIFFE_SIGNER_SEAL_H

#include <stdint.h>

#include "authz/base/buf.h"
#include "include/writ/err.h"

#define SEAL_FILE "storage.key"
#define SEAL_KEY_LEN 32
#define SEAL_LABEL "WRIT SEALED KEY" /* of the PEM block */
#define SEAL_KEY_FILE_MIN 32	     /* bytes of a key file: as many as the key it protects */
#define SEAL_KEY_FILE_MAX 4096

struct seal {
	uint8_t key[SEAL_KEY_LEN];
	bool encrypted; /* under a key file */
};

/* Read <folder>/storage.key, open as @dir, or make it if @create. @key_file encrypts it, NULL: not;
 * a plain one is encrypted on the way. ERR_NOT_FOUND if it is not there and not to be made;
 * ERR_FORBIDDEN with what to do if the key file is missing, loose or the wrong one. */
MUST_USE bool seal_open(int dir, const char *folder, const char *key_file, bool create,
			struct seal *out, struct err *e);
void seal_clear(struct seal *s);

/* Seal @plain as a PEM block, appended to @pem; and back. @name says what it is: sealed under one
 * name, it does not open under another. */
MUST_USE bool seal_close(const struct seal *s, struct str name, struct str plain, struct buf *pem,
			 struct err *e);
MUST_USE bool seal_break(const struct seal *s, struct str name, struct str pem, struct buf *plain,
			 struct err *e);

/* Secrets in a buf: wiped when they leave their scope. Give it room from the start: growing would
 * leave copies behind. */
void seal_auto_wipe(struct buf *b);
#define AUTO_SECRET __attribute__((cleanup(seal_auto_wipe))) struct buf

#endif
