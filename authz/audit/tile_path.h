/*
 * tile_path - the names of tiles (C2SP tlog-tiles), and which of them a tree of some size has.
 *
 * Purpose    A tile is 256 consecutive hashes of one level (8 levels of the tree apart), a bundle
 *            256 records. Server, publisher and verifier all find them by these names.
 * Ownership  By value.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_AUDIT_TILE_PATH_H
#define WRIT_AUDIT_TILE_PATH_H

#include "authz/audit/tree.h"
#include "include/writ/str.h"

#define TILE_WIDTH 256
#define TILE_LEVELS 8 /* 8 * 8 tree levels are more than a tree has */
#define TILE_BYTES (TILE_WIDTH * SHA256_LEN)
#define TILE_PATH_MAX 64

struct tile {
	bool entries;	/* a bundle of records; level is 0 */
	unsigned level; /* below TILE_LEVELS */
	uint64_t index;
	unsigned width; /* 1..TILE_WIDTH; below: a partial one */
};

/* "tile/0/x001/234", "tile/1/000.p/17", "tile/entries/000", with a NUL; its length. */
size_t tile_path(const struct tile *t, char out[static TILE_PATH_MAX]);

/* Only the one spelling of a name is one. */
MUST_USE bool tile_path_parse(struct str path, struct tile *t);

/* How many hashes tile (@level, @index) has in a tree of @size: 0..TILE_WIDTH. */
unsigned tile_width(unsigned level, uint64_t index, uint64_t size);

#endif
