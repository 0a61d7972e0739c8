/*
 * tiles - the hash tiles and entry bundles of a log, beside its writer.
 *
 * Purpose    A full tile never changes, so it is computed from the records when it is first asked
 *            for and kept as a file below <data>/tiles; after that a proof reads a few files
 *            instead of the log. What is kept is a convenience: a proof made from it is checked
 *            against the signed root before anyone sees it, and the folder may be removed.
 * Ownership  Owns its connection and one tile of each level.
 * Threads    One owner at a time; any number beside each other and the writer.
 */
#ifndef WRIT_AUDIT_TILES_H
#define WRIT_AUDIT_TILES_H

#include <sys/types.h>

#include "authz/audit/tile_path.h"
#include "authz/base/buf.h"

#define TILES_FOLDER "tiles"
#define TILES_BUNDLE_MAX (TILE_WIDTH * (2 + 65535)) /* bytes of an entry bundle */

struct tiles;

/* Of the log in data folder @folder. A folder that cannot be written costs time, nothing else. */
MUST_USE bool tiles_open(const char *folder, const struct alloc *alloc, struct tiles **out,
			 struct err *e);
void tiles_close(struct tiles *t);

/* Records [0, *upto) were pruned: their hashes are here, bundles of them are not. */
MUST_USE bool tiles_pruned(struct tiles *t, uint64_t *upto, struct err *e);

/* What is kept has not made the signed root: compute all anew from here on, and keep that. */
void tiles_distrust(struct tiles *t);

/* Append the hashes, or the records each behind its length (2 bytes, big-endian). All of them must
 * be in the log: ask tile_width first. */
MUST_USE bool tiles_read(struct tiles *t, const struct tile *which, struct buf *out, struct err *e);

/* Perfect nodes of the tree of the first @size records. Why a node could not be had is in @why,
 * which lives as long as the source. */
struct tiles_source {
	struct tiles *tiles;
	uint64_t size;
	struct err *why;
	struct tree_source source; /* .ctx is this struct */
};
void tiles_source(struct tiles_source *s, struct tiles *t, uint64_t size, struct err *why);

/* Open, and make if they are not there, the folders on the way to @path (all but its last name)
 * below @dir. The folder's descriptor, and *name inside @path; -1 with errno. */
int tiles_folder(int dir, const char *path, mode_t mode, const char **name);

#endif
