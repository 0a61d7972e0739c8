#include "authz/audit/tiles.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "authz/audit/rows.h"
#include "authz/base/text.h"
#include "authz/store/file.h"

struct held {
	uint64_t index;
	unsigned width; /* hashes that are here; 0: none */
	uint8_t hash[TILE_WIDTH][SHA256_LEN];
};

struct tiles {
	const struct alloc *alloc;
	struct db *db;
	struct db_stmt *rows;
	struct sha256 *sha;
	int kept;      /* <data>/tiles/<log>; -1: nothing is kept */
	bool distrust; /* write what is kept, do not read it */
	struct held held[TILE_LEVELS];
};

/* --- folders --- */

int tiles_folder(int dir, const char *path, mode_t mode, const char **name)
{
	int at = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *slash;

	while (at >= 0 && (slash = strchr(path, '/'))) {
		char part[64];
		int next = -1;

		if (snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path) <
			    (int)sizeof(part) &&
		    (mkdirat(at, part, mode) == 0 || errno == EEXIST))
			next = openat(at, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		close(at);
		at = next;
		path = slash + 1;
	}
	*name = path;
	return at;
}

/* Tiles of another log that once lay in this folder must not be taken for ours: the folder is
 * named by the first record's hash, which holds a random boot number. */
static void open_kept(struct tiles *t, const char *folder)
{
	struct tree_range first = { 0 };
	char path[64], hex[17] = { 0 };
	const char *name;
	int data;

	t->kept = -1;
	if (!rows_subtree(t->db, t->sha, 0, 1, &first, NULL))
		return;
	text_hex(first.node[0], 8, hex);
	data = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (data < 0)
		return;
	snprintf(path, sizeof(path), TILES_FOLDER "/%s/x", hex);
	t->kept = tiles_folder(data, path, 0700, &name);
	close(data);
}

/* --- opening --- */

bool tiles_open(const char *folder, const struct alloc *alloc, struct tiles **out, struct err *e)
{
	const struct db_options options = { .read_only = true,
					    .autocheckpoint = -1,
					    .busy_ms = 1000 };
	struct tiles *t;
	char path[4200];

	alloc = alloc ? alloc : &mem_system;
	t = mem_zero(alloc, sizeof(*t));
	if (!t)
		return err_set(e, ERR_NOMEM, "no memory to read the log's tree");
	t->alloc = alloc;
	t->kept = -1;
	t->sha = sha256_new(e);
	if (snprintf(path, sizeof(path), "%s/" ROWS_FILE, folder) >= (int)sizeof(path))
		err_set(e, ERR_INVALID, "the data folder's path is too long");
	else if (t->sha && db_open(path, &options, &t->db, e) &&
		 db_prepare(t->db,
			    "SELECT seq, body FROM leaf WHERE seq >= ?1 AND seq < ?2 ORDER BY seq",
			    &t->rows, e)) {
		open_kept(t, folder);
		*out = t;
		return true;
	}
	tiles_close(t);
	return false;
}

void tiles_close(struct tiles *t)
{
	if (!t)
		return;
	db_finish(t->rows);
	db_close(t->db);
	sha256_free(t->sha);
	if (t->kept >= 0)
		close(t->kept);
	mem_free(t->alloc, t, sizeof(*t));
}

/* --- what is kept --- */

bool tiles_pruned(struct tiles *t, uint64_t *upto, struct err *e)
{
	return rows_pruned(t->db, upto, e);
}

void tiles_distrust(struct tiles *t)
{
	t->distrust = true;
	for (unsigned i = 0; i < TILE_LEVELS; i++)
		t->held[i].width = 0;
}

static bool read_kept(struct tiles *t, const struct tile *which, struct held *h)
{
	size_t want = (size_t)which->width * SHA256_LEN;
	char path[TILE_PATH_MAX];
	ssize_t n;
	int fd;

	if (t->kept < 0 || t->distrust)
		return false;
	tile_path(which, path);
	fd = openat(t->kept, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, h->hash, want);
	close(fd);
	return n == (ssize_t)want;
}

static int not_flushed(int fd)
{
	(void)fd;
	return 0;
}

/* Failing to keep a tile is no failure: it is computed again next time. Nor is it flushed, which
 * would take longer than computing it: what a crash spoils makes no signed root, and is not
 * believed. */
static void keep(struct tiles *t, const struct tile *which, const struct held *h)
{
	struct file_calls calls = file_system_calls;
	char path[TILE_PATH_MAX];
	const char *name;
	struct err e;
	int folder;

	if (t->kept < 0)
		return;
	calls.fsync = not_flushed;
	tile_path(which, path);
	folder = tiles_folder(t->kept, path, 0700, &name);
	if (folder < 0)
		return;
	(void)!file_replace(&calls, folder, name,
			    (struct str){ (const char *)h->hash,
					  (size_t)which->width * SHA256_LEN },
			    0600, &e);
	close(folder);
}

/* How many of the @width hashes are kept: of a full tile all, of an upper one that still grows what
 * the last time needed. */
static unsigned from_kept(struct tiles *t, unsigned level, uint64_t index, unsigned width,
			  struct held *h)
{
	struct tile which = { .level = level, .index = index, .width = width };

	if (width < TILE_WIDTH && level == 0)
		return 0;
	for (; which.width && (level || which.width == TILE_WIDTH); which.width--)
		if (read_kept(t, &which, h))
			return which.width;
	return 0;
}

/* Keep the tile as it is now, instead of its smaller self. */
static void keep_grown(struct tiles *t, unsigned level, uint64_t index, unsigned had,
		       const struct held *h)
{
	struct tile which = { .level = level, .index = index, .width = h->width };
	char path[TILE_PATH_MAX];

	if (h->width < TILE_WIDTH && level == 0)
		return;
	keep(t, &which, h);
	if (!had || t->kept < 0)
		return;
	which.width = had;
	tile_path(&which, path);
	(void)unlinkat(t->kept, path, 0);
}

/* --- hashes --- */

static bool from_rows(struct tiles *t, uint64_t from, unsigned width, struct held *h, struct err *e)
{
	AUTO_RESET *s = t->rows;
	uint8_t pruned[ROWS_TILE * SHA256_LEN];
	uint64_t upto;
	bool row;

	db_bind_int(s, 1, (int64_t)from);
	db_bind_int(s, 2, (int64_t)(from + width));
	for (unsigned i = 0; i < width; i++) {
		if (!db_step(s, &row, e))
			return false;
		if (!row || (uint64_t)db_column_int(s, 0) != from + i) {
			if (!rows_pruned(t->db, &upto, e) || from >= upto)
				return rows_damaged(e, "record %llu is missing",
						    (unsigned long long)from + i);
			if (!rows_tile(t->db, from / ROWS_TILE, pruned, e))
				return false;
			memcpy(h->hash, pruned, (size_t)width * SHA256_LEN);
			return true;
		}
		tree_leaf_hash(t->sha, db_column_blob(s, 1), h->hash[i]);
	}
	return true;
}

/* The root over 2^d consecutive hashes. */
static void fold(struct sha256 *sha, const uint8_t (*hash)[SHA256_LEN], unsigned d,
		 uint8_t out[static SHA256_LEN])
{
	uint8_t row[TILE_WIDTH / 2][SHA256_LEN];
	size_t n = (size_t)1 << d;

	if (!d) {
		memcpy(out, hash[0], SHA256_LEN);
		return;
	}
	for (size_t i = 0; i < n / 2; i++)
		tree_node_hash(sha, hash[2 * i], hash[2 * i + 1], row[i]);
	for (n /= 2; n > 1; n /= 2)
		for (size_t i = 0; i < n / 2; i++)
			tree_node_hash(sha, row[2 * i], row[2 * i + 1], row[i]);
	memcpy(out, row[0], SHA256_LEN);
}

/* Make t->held[level] the tile @index with at least @width hashes. Depth: TILE_LEVELS. */
static bool load(struct tiles *t, unsigned level, uint64_t index, unsigned width, // NOLINT
		 struct err *e)
{
	struct held *h = &t->held[level];
	unsigned had;

	if (h->index == index && h->width >= width)
		return true;
	h->width = 0;
	had = from_kept(t, level, index, width, h);
	if (had < width && level == 0 && !from_rows(t, index * TILE_WIDTH, width, h, e))
		return false;
	for (unsigned i = had; level && i < width; i++) {
		if (!load(t, level - 1, index * TILE_WIDTH + i, TILE_WIDTH, e))
			return false;
		fold(t->sha, t->held[level - 1].hash, 8, h->hash[i]);
	}
	h->index = index;
	h->width = width;
	if (had < width)
		keep_grown(t, level, index, had, h);
	return true;
}

/* --- reading --- */

static bool read_entries(struct tiles *t, const struct tile *which, struct buf *out, struct err *e)
{
	AUTO_RESET *s = t->rows;
	uint64_t from = which->index * TILE_WIDTH;
	bool row;

	db_bind_int(s, 1, (int64_t)from);
	db_bind_int(s, 2, (int64_t)(from + which->width));
	for (unsigned i = 0; i < which->width; i++) {
		struct str body;

		if (!db_step(s, &row, e))
			return false;
		body = row ? db_column_blob(s, 1) : (struct str){ 0 };
		if (!row || (uint64_t)db_column_int(s, 0) != from + i)
			return rows_gone(t->db, from + i, e);
		if (body.n > UINT16_MAX)
			return rows_damaged(e, "record %llu is too long",
					    (unsigned long long)from + i);
		buf_char(out, (char)(body.n >> 8));
		buf_char(out, (char)body.n);
		buf_add(out, body);
	}
	return buf_ok(out) ? true : err_set(e, ERR_NOMEM, "no memory for a bundle of records");
}

bool tiles_read(struct tiles *t, const struct tile *which, struct buf *out, struct err *e)
{
	assert(which->width && which->width <= TILE_WIDTH && which->level < TILE_LEVELS);
	if (which->entries)
		return read_entries(t, which, out, e);
	if (!load(t, which->level, which->index, which->width, e))
		return false;
	buf_add(out, (struct str){ (const char *)t->held[which->level].hash,
				   (size_t)which->width * SHA256_LEN });
	return buf_ok(out) ? true : err_set(e, ERR_NOMEM, "no memory for a tile");
}

static bool source_node(void *ctx, unsigned level, uint64_t index, uint8_t out[static SHA256_LEN])
{
	struct tiles_source *s = ctx;
	unsigned tile_level = level / 8, d = level % 8;
	uint64_t first = index << d, tile = first / TILE_WIDTH;
	unsigned at = (unsigned)(first % TILE_WIDTH), need = at + (1u << d);
	unsigned has = tile_width(tile_level, tile, s->size);

	if (has < need)
		return err_set(s->why, ERR_INTERNAL, "a proof asked for a node beyond its tree");
	if (!load(s->tiles, tile_level, tile, has, s->why))
		return false;
	fold(s->tiles->sha, &s->tiles->held[tile_level].hash[at], d, out);
	return true;
}

void tiles_source(struct tiles_source *s, struct tiles *t, uint64_t size, struct err *why)
{
	*s = (struct tiles_source){ t, size, why, { source_node, s } };
}
