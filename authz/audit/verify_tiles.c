/*
 * A folder of tiles: each record against the chain and its hash in the tile, each tile against the
 * one above, and all of it against the signed root. The chain is asked first: it says what was
 * done, where a tile only says that something was.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/audit/tiles.h"
#include "authz/audit/verify_parts.h"
#include "authz/store/file.h"

struct walk {
	struct verifier *v;
	int dir;
	struct buf hashes, entries, below;
	uint64_t differs; /* first record that is not the one of its tile */
	bool has_differs;
	struct tree_span pruned; /* over what has no bundle */
};

/* --- files --- */

/* Records below a tile, as a fault names them. */
static void bad_tile(struct walk *w, const struct tile *t)
{
	unsigned shift = 8 * t->level;
	uint64_t from = t->index * TILE_WIDTH << shift, to = from + ((uint64_t)t->width << shift);

	verify_bad_record(w->v, from, to < w->v->size ? to : w->v->size);
}

static bool missing(struct walk *w, const struct tile *t, const char *path, const char *why)
{
	bool last = (t->index * TILE_WIDTH + t->width) << 8 * t->level >= w->v->size;

	chain_end(&w->v->chain);
	verify_tell_chain(w->v);
	verify_fault(w->v, last ? FAULT_TRUNCATION : FAULT_DELETION, "%s is not there: %s", path,
		     why);
	bad_tile(w, t);
	return false;
}

/* A partial tile, or the full one that it became. */
static bool read_tile(struct walk *w, const struct tile *t, struct buf *out)
{
	struct tile full = *t;
	char path[TILE_PATH_MAX], other[TILE_PATH_MAX];
	size_t max = t->entries ? TILES_BUNDLE_MAX : TILE_BYTES, at = 0;
	size_t want = (size_t)t->width * SHA256_LEN;
	int fd;

	tile_path(t, path);
	full.width = TILE_WIDTH;
	tile_path(&full, other);
	buf_reset(out);
	fd = openat(w->dir, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && t->width < TILE_WIDTH)
		fd = openat(w->dir, other, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return missing(w, t, path, strerror(errno));
	for (;;) {
		char *room = buf_room(out, 65536);
		ssize_t n = room && at <= max ? read(fd, room, 65536) : -1;

		if (n < 0 && room && at <= max && errno == EINTR)
			continue;
		if (n <= 0) {
			close(fd);
			if (!room) { /* says nothing about the log */
				verify_unreadable(w->v, "memory is short");
				return false;
			}
			if (n < 0)
				return missing(w, t, path, "it is too large or not readable");
			break;
		}
		out->n += (size_t)n;
		at += (size_t)n;
	}
	if (t->entries || (out->n >= want && out->n % SHA256_LEN == 0))
		return true;
	verify_fault(w->v, FAULT_EDIT, "%s holds %zu bytes, not %zu", path, out->n, want);
	bad_tile(w, t);
	return false;
}

/* --- records --- */

static const uint8_t *hash_at(const struct buf *b, size_t i)
{
	return (const uint8_t *)b->p + i * SHA256_LEN;
}

/* Is the record that was just fed the one that its tile has? */
static void compare(struct walk *w, uint64_t first, unsigned width)
{
	const struct chain_record *r = &w->v->chain.before;

	if (w->has_differs || !w->v->leaf_fits || r->seq < first || r->seq >= first + width ||
	    memcmp(r->hash, hash_at(&w->hashes, r->seq - first), SHA256_LEN) == 0)
		return;
	w->has_differs = true;
	w->differs = r->seq;
}

/* Records as they stand in a bundle; what is left over is fed as well and will not fit. */
static void feed_bundle(struct walk *w, uint64_t first, unsigned width)
{
	struct str rest = buf_str(&w->entries);

	while (rest.n) {
		size_t n = rest.n < 2 ? 0
				      : (size_t)(unsigned char)rest.p[0] << 8 |
						(unsigned char)rest.p[1];

		if (rest.n < 2 || n > rest.n - 2)
			n = rest.n - (rest.n < 2 ? rest.n : 2);
		verify_leaf(w->v, str_first(str_from(rest, 2), n));
		rest = str_from(rest, 2 + n);
		compare(w, first, width);
	}
}

static void feed_hashes(struct walk *w, unsigned width)
{
	struct verifier *v = w->v;

	for (unsigned i = 0; i < width; i++) {
		tree_span_append(&v->span, v->sha, hash_at(&w->hashes, i));
		if (v->has_held && ++v->records == v->held.size)
			v->at_held = v->span;
		else if (!v->has_held)
			v->records++;
	}
}

/* The first bundles may be gone: the log will have to say so. */
static bool is_absent(struct walk *w, const struct tile *t)
{
	uint64_t first = t->index * TILE_WIDTH;
	char path[TILE_PATH_MAX];
	struct stat st;

	tile_path(t, path);
	if (t->width < TILE_WIDTH || w->v->absent != first || fstatat(w->dir, path, &st, 0) == 0 ||
	    errno != ENOENT)
		return false;
	w->v->absent = first + TILE_WIDTH;
	chain_start(&w->v->chain, w->v->absent);
	return true;
}

static bool walk_records(struct walk *w)
{
	struct tile t = { .level = 0 };

	for (;; t.index++) {
		t.width = tile_width(0, t.index, w->v->size);
		if (!t.width)
			return true;
		t.entries = false;
		if (!read_tile(w, &t, &w->hashes))
			return false;
		if (w->v->report.piecemeal) {
			feed_hashes(w, t.width);
			continue;
		}
		t.entries = true;
		if (is_absent(w, &t)) {
			feed_hashes(w, t.width);
			continue;
		}
		if (!read_tile(w, &t, &w->entries))
			return false;
		if (w->v->absent == t.index * TILE_WIDTH)
			w->pruned = w->v->span;
		feed_bundle(w, t.index * TILE_WIDTH, t.width);
		if (w->v->chain.stage == CHAIN_BROKEN)
			return true;
	}
}

/* --- tiles --- */

static void root_of_tile(struct sha256 *sha, const struct buf *hashes, uint8_t out[SHA256_LEN])
{
	struct tree_range r = { 0 };

	for (size_t i = 0; i < TILE_WIDTH; i++)
		tree_append(&r, sha, hash_at(hashes, i));
	tree_root(&r, sha, out);
}

/* Each hash of tile @t is the root of the tile below. */
static bool check_tile(struct walk *w, const struct tile *t)
{
	struct tile below = { .level = t->level - 1, .width = TILE_WIDTH };
	uint8_t root[SHA256_LEN];
	char path[TILE_PATH_MAX];

	if (!read_tile(w, t, &w->hashes))
		return false;
	for (unsigned i = 0; i < t->width; i++) {
		below.index = t->index * TILE_WIDTH + i;
		if (!read_tile(w, &below, &w->below))
			return false;
		root_of_tile(w->v->sha, &w->below, root);
		if (memcmp(root, hash_at(&w->hashes, i), SHA256_LEN) == 0)
			continue;
		tile_path(t, path);
		verify_fault(w->v, FAULT_EDIT, "%s is not over the tiles below it", path);
		bad_tile(w, &below);
		return false;
	}
	return true;
}

static bool check_upper(struct walk *w)
{
	for (unsigned level = 1; level < TILE_LEVELS; level++) {
		struct tile t = { .level = level };

		for (;; t.index++) {
			t.width = tile_width(level, t.index, w->v->size);
			if (!t.width)
				break;
			if (!check_tile(w, &t))
				return false;
		}
	}
	return true;
}

/* --- all of it --- */

static void check_records(struct walk *w)
{
	struct verifier *v = w->v;

	chain_end(&v->chain);
	verify_tell_chain(v);
	if (v->records < v->size) {
		verify_fault(v, FAULT_TRUNCATION,
			     "records from %" PRIu64 " on are missing: %" PRIu64 " of %" PRIu64
			     " are here",
			     v->records, v->records, v->size);
		verify_bad_record(v, v->records, v->size);
	} else if (v->records > v->size) {
		verify_fault(v, FAULT_INSERTION,
			     "record %" PRIu64 " and what follows are too many: %" PRIu64
			     " were signed",
			     v->size, v->size);
		verify_bad_record(v, v->size, v->records);
	}
	if (w->has_differs) {
		verify_fault(v, FAULT_EDIT, "record %" PRIu64 " is not the one of its tile",
			     w->differs);
		verify_bad_record(v, w->differs, w->differs + 1);
	}
}

/* Bundles that are not there were pruned, and a record says so. */
static void check_absent(struct walk *w)
{
	const struct tree_proof none = { 0 };
	struct verifier *v = w->v;
	uint8_t root[SHA256_LEN];

	if (!v->absent)
		return;
	if (v->prune.to < v->absent) {
		verify_fault(v, FAULT_DELETION,
			     "records 0 to %" PRIu64
			     " are not there, and none says that they were pruned",
			     v->absent - 1);
		verify_bad_record(v, 0, v->absent);
	} else if (tree_span_root(&w->pruned, v->sha, &none, root)) {
		verify_pruned(v, v->absent, root);
	}
}

static void check_root(struct walk *w, const struct checkpoint *c, struct str note)
{
	const struct tree_proof none = { 0 };
	struct verifier *v = w->v;
	uint8_t root[SHA256_LEN];

	if (v->report.fault || !check_upper(w))
		return;
	if (!tree_span_finish(&v->span, v->sha, v->size, &none, root) ||
	    memcmp(root, c->root, SHA256_LEN) != 0) {
		verify_fault(v, FAULT_REWRITE,
			     "a record from 0 to %" PRIu64 " was changed, and those after it and "
			     "the tiles made anew: the signed root is another",
			     v->size - 1);
		verify_bad_record(v, 0, v->size);
		return;
	}
	verify_rotations(v, c, note);
	if (v->report.fault)
		return;
	check_absent(w);
	if (v->report.fault && v->report.fault != FAULT_FORK)
		return;
	v->report.integrity = VERDICT_YES;
	verify_anchors(v, &none);
}

static void check_folder(struct walk *w, struct buf *note)
{
	struct verifier *v = w->v;
	struct checkpoint c;
	struct stat st;

	if (!file_read(w->dir, "checkpoint", NOTE_MAX, note, &v->report.why)) {
		v->stage = STAGE_UNREADABLE;
		return;
	}
	if (!verify_note(v, buf_str(note), &c))
		return;
	snprintf(v->report.origin, sizeof(v->report.origin), "%.*s", STR_FMT(c.origin));
	memcpy(v->report.root, c.root, SHA256_LEN);
	verify_range(v, 0, c.size, c.size);
	if (!c.size) {
		verify_fault(v, FAULT_EMPTY, "the log holds no records");
		return;
	}
	v->report.piecemeal = fstatat(w->dir, "tile/entries", &st, 0) != 0;
	if (!walk_records(w))
		return;
	verify_redacted(v);
	check_records(w);
	check_root(w, &c, buf_str(note));
}

bool verify_tiles(const char *folder, const struct verify_options *o, struct verify_report *r,
		  struct err *e)
{
	struct walk w = { .dir = -1 };
	AUTO_BUF note = { 0 };

	if (!verifier_new(o, &w.v, e))
		return false;
	w.v->stage = STAGE_AFTER;
	buf_init(&note, *w.v->alloc, 2 * NOTE_MAX);
	buf_init(&w.hashes, *w.v->alloc, TILE_BYTES + 2 * 65536);
	buf_init(&w.below, *w.v->alloc, TILE_BYTES + 2 * 65536);
	buf_init(&w.entries, *w.v->alloc, TILES_BUNDLE_MAX + 2 * 65536);
	w.dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (w.dir < 0) {
		w.v->stage = STAGE_UNREADABLE;
		err_set(&w.v->report.why, ERR_IO, "%s: %s", folder, strerror(errno));
	} else {
		check_folder(&w, &note);
		close(w.dir);
	}
	verify_conclude(w.v, r);
	verifier_free(w.v);
	buf_clear(&w.hashes);
	buf_clear(&w.below);
	buf_clear(&w.entries);
	return true;
}
