/*
 * attest_file - the SHA-256 of an executable, remembered as long as the file stays what it was.
 *
 * Purpose    A caller's executable is hashed at each attestation; most callers are the same few.
 * Threads    What is remembered belongs to the calling thread.
 */
#ifndef WRIT_SPIFFE_ATTEST_FILE_H
#define WRIT_SPIFFE_ATTEST_FILE_H

#include <stdint.h>
#include <sys/stat.h>

#include "authz/base/digest.h"
#include "include/writ/err.h"

#define ATTEST_FILE_REMEMBERED 64 /* files per thread */

/* @st is fstat of @fd. False: it cannot be read, or changed while it was. */
MUST_USE bool attest_file_hash(int fd, const struct stat *st, uint8_t out[static SHA256_LEN]);

/* Files this thread has read so far. */
uint64_t attest_file_hashed(void);

#endif
