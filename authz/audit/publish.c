#include "authz/audit/publish.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "authz/audit/cosigned.h"
#include "authz/audit/note.h"
#include "authz/audit/read.h"
#include "authz/audit/rows.h"
#include "authz/audit/tiles.h"

struct publisher {
	const struct publish_options *o;
	const struct file_calls *calls;
	struct publish_report *report;
	struct audit_reader *reader;
	struct tiles *tiles;
	struct sha256 *sha;
	struct tiles_source source;
	int dir;
	struct buf note, before, piece;
};

static bool open_target(struct publisher *p, struct err *e)
{
	if (mkdir(p->o->to, 0755) && errno != EEXIST)
		return err_set(e, ERR_IO, "%s: cannot be made: %s", p->o->to, strerror(errno));
	p->dir = open(p->o->to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->dir < 0)
		return err_set(e, ERR_IO, "%s: %s", p->o->to, strerror(errno));
	return true;
}

/* --- what may be published --- */

static bool root_is(struct publisher *p, uint64_t size, const uint8_t root[static SHA256_LEN],
		    bool *same, struct err *e)
{
	uint8_t got[SHA256_LEN];

	err_none(e);
	if (!tree_subtree(&p->source.source, p->sha, 0, size, got))
		return e->class != ERR_NONE ? false
					    : err_set(e, ERR_INTERNAL, "the tree cannot be read");
	*same = memcmp(got, root, SHA256_LEN) == 0;
	return true;
}

/* The size to publish: of the newest checkpoint that witnesses cosigned, unless more is published
 * already; 0: the newest of all. */
static uint64_t cosigned_size(struct publisher *p)
{
	struct checkpoint c = { .size = 0 };
	struct note note = { .n = 0 };
	uint64_t size = 0;
	AUTO_BUF text;
	struct err e;

	buf_init(&text, mem_system, NOTE_MAX);
	if (!cosigned_read(p->o->folder, &text, &size, &e))
		return 0;
	buf_reset(&text);
	if (file_read(p->dir, PUBLISH_CHECKPOINT, NOTE_MAX, &text, &e) &&
	    (!note_parse(buf_str(&text), &note, &e) || !checkpoint_parse(note.text, &c, &e) ||
	     c.size > size))
		return 0;
	return size;
}

/* The newest checkpoint, and that the log still makes its root. */
static bool read_newest(struct publisher *p, struct checkpoint *c, struct err *e)
{
	struct tree_range range;
	struct note note;
	bool found, same;

	if (!audit_reader_checkpoint(p->reader, cosigned_size(p), &p->note, &range, &found, e))
		return false;
	cosigned_add(p->o->folder, &p->note);
	if (!found || !range.n)
		return err_set(e, ERR_NOT_FOUND,
			       "nothing to publish: no checkpoint has been signed yet");
	if (!note_parse(buf_str(&p->note), &note, e) || !checkpoint_parse(note.text, c, e) ||
	    c->size != range.n)
		return rows_damaged(e, "the checkpoint over %" PRIu64 " records is not one",
				    range.n);
	tiles_source(&p->source, p->tiles, c->size, e);
	if (!root_is(p, c->size, c->root, &same, e))
		return false;
	if (!same) { /* the records, or what was kept of them? */
		tiles_distrust(p->tiles);
		if (!root_is(p, c->size, c->root, &same, e))
			return false;
	}
	if (!same)
		return rows_damaged(e, "its records are not those of the checkpoint over %" PRIu64,
				    c->size);
	p->report->size = c->size;
	return true;
}

static bool fork_found(struct publisher *p, struct err *e, const char *what)
{
	return err_code(e, ERR_CONFLICT, "fork",
			"%s/" PUBLISH_CHECKPOINT " %s; publish into a new folder, and find out "
			"why before anybody else does",
			p->o->to, what);
}

/* What is published already must be the beginning of what will be. */
static bool check_before(struct publisher *p, const struct checkpoint *c, struct err *e)
{
	struct checkpoint old = { 0 };
	struct note note;
	bool same = true;

	if (!file_read(p->dir, PUBLISH_CHECKPOINT, NOTE_MAX, &p->before, e)) {
		if (e->class != ERR_NOT_FOUND)
			return false;
		err_none(e);
		return true;
	}
	if (!note_parse(buf_str(&p->before), &note, e) || !checkpoint_parse(note.text, &old, e))
		return err_prefix(e, "%s/" PUBLISH_CHECKPOINT, p->o->to);
	if (!str_eq(old.origin, c->origin))
		return fork_found(p, e, "is of another log");
	if (old.size > c->size)
		return fork_found(p, e, "is over more records than this log's newest one");
	if (old.size && !root_is(p, old.size, old.root, &same, e))
		return false;
	p->report->before = old.size;
	return same ? true : fork_found(p, e, "is not over the first records of this log");
}

/* --- files --- */

/* Only whole files are ever there, so one of the right size is the right one. */
static bool is_there(int folder, const char *name, const struct tile *t)
{
	struct stat st;

	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
		return false;
	return t->entries ? st.st_size >= 2 * (off_t)t->width
			  : st.st_size == (off_t)t->width * SHA256_LEN;
}

/* False: why is where the source puts it. Is a full tile the one whose root stands in the tile
 * above? Those at the right edge made the signed root, so from there down each is the right one. */
static bool is_right(struct publisher *p, const struct tile *t, bool *right)
{
	const struct tree_source *src = &p->source.source;
	uint8_t above[SHA256_LEN], root[SHA256_LEN];
	struct tree_range r = { 0 };

	*right = true;
	if (t->entries || t->width < TILE_WIDTH)
		return true;
	if (!src->node(src->ctx, 8 * t->level + 8, t->index, above))
		return false;
	for (size_t i = 0; i < TILE_WIDTH; i++)
		tree_append(&r, p->sha, (const uint8_t *)p->piece.p + i * SHA256_LEN);
	tree_root(&r, p->sha, root);
	*right = memcmp(root, above, SHA256_LEN) == 0;
	return true;
}

static bool read_tile(struct publisher *p, const struct tile *t, struct err *e)
{
	bool right;

	for (int twice = 0; twice < 2; twice++) {
		buf_reset(&p->piece);
		if (!tiles_read(p->tiles, t, &p->piece, e) || !is_right(p, t, &right))
			return false;
		if (right)
			return true;
		tiles_distrust(p->tiles);
	}
	return rows_damaged(e, "records from %" PRIu64 " on are not those that were signed",
			    t->index * TILE_WIDTH << 8 * t->level);
}

static bool put_tile(struct publisher *p, const struct tile *t, struct err *e)
{
	char path[TILE_PATH_MAX];
	const char *name;
	int folder;
	bool ok = true;

	tile_path(t, path);
	folder = tiles_folder(p->dir, path, 0755, &name);
	if (folder < 0)
		return err_set(e, ERR_IO, "%s/%s: its folder cannot be made: %s", p->o->to, path,
			       strerror(errno));
	if (is_there(folder, name, t)) {
		p->report->there++;
	} else {
		ok = read_tile(p, t, e) &&
		     file_replace(p->calls, folder, name, buf_str(&p->piece), 0644, e);
		p->report->written += ok;
	}
	close(folder);
	return ok;
}

/* All of one level, or all bundles. */
static bool put_level(struct publisher *p, bool entries, unsigned level, struct err *e)
{
	struct tile t = { .entries = entries, .level = level };
	uint64_t pruned = 0;

	/* What was published before they were pruned is there; what was not is in their archive. */
	if (entries && !tiles_pruned(p->tiles, &pruned, e))
		return false;
	t.index = pruned / TILE_WIDTH;
	p->report->pruned += pruned;
	for (;; t.index++) {
		t.width = tile_width(level, t.index, p->report->size);
		if (!t.width)
			return true;
		if (!put_tile(p, &t, e))
			return false;
		if (t.width < TILE_WIDTH)
			return true;
	}
}

static bool put_all(struct publisher *p, struct err *e)
{
	if (p->o->entries && !put_level(p, true, 0, e))
		return false;
	for (unsigned level = 0; level < TILE_LEVELS; level++)
		if (!put_level(p, false, level, e))
			return false;
	/* Also the folders that were made on the way. */
	if (syncfs(p->dir))
		return err_set(e, ERR_IO, "%s: cannot be flushed to disk: %s", p->o->to,
			       strerror(errno));
	return true;
}

/* Partial tiles that are full now; readers fall back to these. What cannot be removed stays. */
static void drop_partials(struct publisher *p, bool entries, unsigned level)
{
	uint64_t had = p->report->before >> 8 * level, has = p->report->size >> 8 * level;
	struct tile t = { entries, level, had / TILE_WIDTH, 1 };
	char path[TILE_PATH_MAX];
	const char *name;
	int folder;

	if (had % TILE_WIDTH == 0 || t.index >= has / TILE_WIDTH)
		return;
	tile_path(&t, path);
	folder = tiles_folder(p->dir, path, 0755, &name);
	if (folder < 0)
		return;
	for (unsigned w = 1; w < TILE_WIDTH; w++) {
		snprintf(path, sizeof(path), "%u", w);
		(void)p->calls->unlinkat(folder, path, 0);
	}
	close(folder);
	t.width = TILE_WIDTH;
	tile_path(&t, path);
	strcat(path, ".p"); /* NOLINT: a path has room for .p/255 */
	(void)p->calls->unlinkat(p->dir, path, AT_REMOVEDIR);
}

/* --- all of it --- */

static bool run(struct publisher *p, struct err *e)
{
	struct checkpoint c = { 0 };

	if (!open_target(p, e) || !read_newest(p, &c, e) || !check_before(p, &c, e) ||
	    !put_all(p, e))
		return false;
	if (!str_eq(buf_str(&p->before), buf_str(&p->note)) &&
	    !file_replace(p->calls, p->dir, PUBLISH_CHECKPOINT, buf_str(&p->note), 0644, e))
		return false;
	drop_partials(p, true, 0);
	for (unsigned level = 0; level < TILE_LEVELS; level++)
		drop_partials(p, false, level);
	return true;
}

bool publish(const struct publish_options *o, struct publish_report *r, struct err *e)
{
	const struct alloc *alloc = o->alloc ? o->alloc : &mem_system;
	struct publisher p = {
		.o = o, .calls = o->calls ? o->calls : &file_system_calls, .report = r, .dir = -1
	};
	bool ok;

	*r = (struct publish_report){ 0 };
	buf_init(&p.note, *alloc, NOTE_MAX);
	buf_init(&p.before, *alloc, 2 * NOTE_MAX);
	buf_init(&p.piece, *alloc, TILES_BUNDLE_MAX);
	p.sha = sha256_new(e);
	ok = p.sha && audit_reader_open(o->folder, alloc, &p.reader, e) &&
	     tiles_open(o->folder, alloc, &p.tiles, e) && run(&p, e);
	tiles_close(p.tiles);
	audit_reader_close(p.reader);
	sha256_free(p.sha);
	if (p.dir >= 0)
		close(p.dir);
	buf_clear(&p.note);
	buf_clear(&p.before);
	buf_clear(&p.piece);
	return ok;
}
