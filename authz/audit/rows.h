/*
 * rows - what the writer and the readers of log.db both ask of its tables.
 *
 * Purpose    The schema in one place, stored checkpoints with their compact ranges, and the tree
 *            recomputed over a stretch of leaves, so that a start and an export look at the few
 *            records since the nearest checkpoint and not at all of them.
 * Ownership  Borrows the connection; statements live for one call.
 * Threads    The connection's owner.
 */
#ifndef WRIT_AUDIT_ROWS_H
#define WRIT_AUDIT_ROWS_H

#include "authz/audit/rotation.h"
#include "authz/audit/tree.h"
#include "authz/base/buf.h"
#include "authz/store/db.h"

#define ROWS_FILE "log.db"
/* Fewer and fuller pages than with 4,096: about 15 % less CPU per record with 32 and 128 in flight
 * (medians of four rounds in turn), and a record alone is no slower. With 16,384 it is. */
#define ROWS_PAGE 8192

/* Bring a new or older file to this version's tables. */
MUST_USE bool rows_migrate(struct db *db, struct err *e);

enum rows_pick { ROWS_NEWEST, ROWS_AT_LEAST, ROWS_AT_MOST };

struct rows_checkpoint {
	bool found;
	struct tree_range range; /* its n is the checkpoint's size */
};

/* The newest checkpoint, the smallest of at least @size or the largest of at most @size records.
 * Its note is appended to @note (NULL: not wanted), with the line of the key rotations before it.
 */
MUST_USE bool rows_checkpoint(struct db *db, enum rows_pick pick, uint64_t size, struct buf *note,
			      struct rows_checkpoint *c, struct err *e);

/* The key rotations that records tell of, and the key before the first of them (untouched if there
 * are none). */
MUST_USE bool rows_rotations(struct db *db, uint8_t first[static 32], struct rotations *r,
			     struct err *e);
MUST_USE bool rows_add_rotation(struct db *db, const uint8_t before[static 32],
				const struct rotation *r, struct err *e);

/* Records [0, *upto) have left the database; their leaf hashes stay, in tiles of ROWS_TILE. */
#define ROWS_TILE 256
MUST_USE bool rows_pruned(struct db *db, uint64_t *upto, struct err *e);
/* What was announced last, and how far all of it is done. */
struct rows_prune {
	uint64_t done, to, record;
};
MUST_USE bool rows_prune(struct db *db, struct rows_prune *p, struct err *e);
MUST_USE bool rows_tile(struct db *db, uint64_t tile, uint8_t out[static ROWS_TILE * SHA256_LEN],
			struct err *e);
/* Record @seq is not there: ERR_NOT_FOUND "pruned" with where it went, else as rows_damaged. */
bool rows_gone(struct db *db, uint64_t seq, struct err *e);

/* Append the hashes of leaves [range->n, upto). A missing row is ERR_IO "storage_corrupt". */
MUST_USE bool rows_append(struct db *db, struct sha256 *sha, uint64_t upto,
			  struct tree_range *range, struct err *e);

/* The perfect or ragged subtree over leaves [from, to) alone. */
MUST_USE bool rows_subtree(struct db *db, struct sha256 *sha, uint64_t from, uint64_t to,
			   struct tree_range *range, struct err *e);

/* The compact range over the first @size records, from the nearest stored one. */
MUST_USE bool rows_range(struct db *db, struct sha256 *sha, uint64_t size, struct tree_range *range,
			 struct err *e);

/* Records in the log: the tree's size, which a commit keeps equal to the leaves' number. */
MUST_USE bool rows_size(struct db *db, uint64_t *size, struct err *e);

bool rows_damaged(struct err *e, const char *fmt, ...) PRINTF(2, 3);

#endif
