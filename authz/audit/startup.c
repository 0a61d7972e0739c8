/*
 * The checks of a start (audit-log sheet 14.5). Stored checkpoints carry their compact range, so
 * only the records since the newest one are read: what lies before is what that note signed.
 */
#include <inttypes.h>

#include "authz/audit/flat.h"
#include "authz/audit/log.h"
#include "authz/audit/rows.h"
#include "authz/store/file.h"

static bool rollback_detected(struct err *e, uint64_t have, uint64_t had)
{
	return err_code(e, ERR_CONFLICT, "rollback_detected",
			"rollback detected: " ROWS_FILE " holds %" PRIu64
			" records, but a checkpoint "
			"over %" PRIu64
			" was signed; going on would make a second history. Put the "
			"newest " ROWS_FILE " back, or move it and " LAST_CHECKPOINT
			" away to start "
			"a new log (keep both as evidence)",
			have, had);
}

static bool forked(struct err *e, uint64_t size)
{
	return err_code(e, ERR_CONFLICT, "rollback_detected",
			"rollback detected: the first %" PRIu64 " records of " ROWS_FILE " are not "
			"those that were signed; put the right " ROWS_FILE
			" back, or move it and " LAST_CHECKPOINT
			" away to start a new log (keep both as evidence)",
			size);
}

/* The last record: its hash and time are the next one's, its kind tells how the log ended. */
static bool read_last(struct log *l, uint64_t size, struct log_found *found, struct err *e)
{
	AUTO_STMT *s = NULL;
	struct leaf leaf;
	bool row;

	if (!db_prepare(l->db, "SELECT seq, body FROM leaf ORDER BY seq DESC LIMIT 1", &s, e) ||
	    !db_step(s, &row, e))
		return false;
	if (!row)
		return size == 0 ? true : rows_damaged(e, "it has no records, its tree has");
	if ((uint64_t)db_column_int(s, 0) + 1 != size)
		return rows_damaged(e,
				    "its last record is %" PRId64 ", its tree has %" PRIu64
				    " leaves",
				    db_column_int(s, 0), size);
	if (!leaf_scan(db_column_blob(s, 1), &leaf) || leaf.seq != size - 1)
		return rows_damaged(e, "record %" PRIu64 " is not readable", size - 1);
	tree_leaf_hash(l->sha, db_column_blob(s, 1), l->head.last_hash);
	l->head.last_ms = leaf.time_ms;
	found->unclean = !str_eq(leaf.kind, STR("log.close"));
	return true;
}

static bool read_head(struct log *l, struct log_found *found, struct err *e)
{
	AUTO_STMT *s = NULL;
	bool row;

	if (!db_prepare(l->db, "SELECT size, range FROM tree WHERE id = 0", &s, e) ||
	    !db_step(s, &row, e))
		return false;
	if (!row ||
	    !tree_range_load(&l->head.range, (uint64_t)db_column_int(s, 0), db_column_blob(s, 1)))
		return rows_damaged(e, "the tree has a wrong number of hashes");
	tree_root(&l->head.range, l->sha, found->root);
	return read_last(l, l->head.range.n, found, e);
}

/* What was pruned has its hashes, and a record that announced it. */
static bool check_prune(struct log *l, struct log_found *found, struct err *e)
{
	const struct rows_prune *p = &found->prune;
	int64_t tiles, first;

	if (!rows_prune(l->db, &found->prune, e))
		return false;
	if (!p->to)
		return true;
	if (!db_int(l->db, "SELECT coalesce(max(tile) + 1, 0) FROM hash", &tiles, e) ||
	    !db_int(l->db, "SELECT coalesce(min(seq), -1) FROM leaf", &first, e))
		return false;
	if (p->to > l->head.range.n || p->record >= l->head.range.n || p->record < p->to ||
	    (uint64_t)tiles != p->done / ROWS_TILE || (uint64_t)first != p->done)
		return rows_damaged(e,
				    "its records begin with %" PRId64 ", %" PRIu64
				    " were pruned, and there are hashes of %" PRId64,
				    first, p->done, tiles * ROWS_TILE);
	return true;
}

/* The record that each rotation is told in must be there, and tell it. */
static bool check_rotations(struct log *l, const struct rotations *r, uint64_t pruned,
			    struct err *e)
{
	AUTO_STMT *s = NULL;
	struct rotation told;
	bool row;

	if (!db_prepare(l->db, "SELECT body FROM leaf WHERE seq = ?1", &s, e))
		return false;
	for (size_t i = 0; i < r->n; i++) {
		if (r->at[i].size <= pruned)
			continue; /* its signature was checked, and its record is in the archive */
		db_bind_int(s, 1, (int64_t)r->at[i].size - 1);
		if (!db_step(s, &row, e))
			return false;
		if (!row || !rotation_of_leaf(db_column_blob(s, 0), &told) ||
		    memcmp(&told, &r->at[i], sizeof(told)) != 0)
			return rows_damaged(e,
					    "record %" PRIu64
					    " does not tell of the log key that follows",
					    r->at[i].size - 1);
		db_reset(s);
	}
	return true;
}

/* No rotation is missing: the oldest checkpoint is by the first key. */
static bool check_first_key(struct log *l, struct err *e)
{
	struct rows_checkpoint c;
	struct checkpoint read;
	struct note_key key;
	AUTO_BUF note;
	struct err why;

	buf_init(&note, mem_system, NOTE_MAX);
	if (!rows_checkpoint(l->db, ROWS_AT_LEAST, 0, &note, &c, e))
		return false;
	if (!c.found)
		return true;
	key = key_history_at(&l->keys, c.range.n);
	return checkpoint_open(buf_str(&note), &key, &read, &why) ||
	       err_code(e, ERR_CONFLICT, "wrong_log_key",
			"the stored checkpoint over %" PRIu64
			" records is not by this log's key (%08x): " ROWS_FILE
			" and keys/ do not belong together, restore both from the same backup",
			c.range.n, key.id);
}

/* Which key signs now is the log's word; the files must be able to follow it. */
static bool find_keys(struct log *l, const struct audit_config *c, struct log_found *found,
		      struct err *e)
{
	static const uint8_t none[32];
	struct rotations past;
	uint8_t first[32];

	memcpy(first, c->public_key, sizeof(first));
	if (!rows_rotations(l->db, first, &past, e) ||
	    !key_history_make(str_c(c->origin), first, &past, &l->keys, e) ||
	    !check_rotations(l, &past, found->prune.done, e))
		return false;
	if (memcmp(l->keys.current.public_key, c->public_key, 32) == 0) {
		found->left = memcmp(c->next_key, none, 32) != 0;
		return true;
	}
	if (memcmp(l->keys.current.public_key, c->next_key, 32) == 0) {
		found->taken = past.at[past.n - 1].size;
		return true;
	}
	return err_code(e, ERR_CONFLICT, "wrong_log_key",
			"since record %" PRIu64
			" the log's key is %08x, which keys/log.key is not: " ROWS_FILE
			" and keys/ are not of the same backup",
			past.at[past.n - 1].size - 1, l->keys.current.id);
}

/* A log that was put back to before its key was changed has no word of the key that signed. */
static bool is_ahead(const struct log *l, const struct audit_config *c, struct str note,
		     uint64_t *size)
{
	struct checkpoint read;
	struct note_key key;

	if (!note_key_make(str_c(c->origin), c->public_key, &key, NULL) ||
	    !checkpoint_open(note, &key, &read, NULL) || read.size <= l->head.range.n)
		return false;
	*size = read.size;
	return true;
}

static bool check_ahead(struct log *l, const struct audit_config *c, struct err *e)
{
	uint64_t size;
	AUTO_BUF note;

	buf_init(&note, mem_system, NOTE_MAX);
	if (!file_read(l->folder, LAST_CHECKPOINT, NOTE_MAX, &note, NULL) ||
	    !is_ahead(l, c, buf_str(&note), &size))
		return true;
	return rollback_detected(e, l->head.range.n, size);
}

/* Is @range the tree that @note signed? */
static bool note_matches(struct log *l, struct str note, const struct tree_range *range,
			 struct err *e)
{
	struct checkpoint c;
	uint8_t root[SHA256_LEN];

	const struct note_key key = key_history_at(&l->keys, range->n);

	if (!checkpoint_open(note, &key, &c, e))
		return err_prefix(e,
				  "the stored checkpoint over %" PRIu64 " records is not by this "
				  "log's key",
				  range->n);
	tree_root(range, l->sha, root);
	if (c.size != range->n || memcmp(root, c.root, SHA256_LEN) != 0)
		return forked(e, range->n);
	return true;
}

/* From the newest stored checkpoint, over the records since, to the stored head. */
static bool check_stored(struct log *l, struct log_found *found, struct buf *note, struct err *e)
{
	struct rows_checkpoint c;
	struct tree_range range = { 0 };
	uint8_t root[SHA256_LEN];

	if (!rows_checkpoint(l->db, ROWS_NEWEST, 0, note, &c, e))
		return false;
	if (c.found) {
		if (c.range.n > l->head.range.n)
			return rollback_detected(e, l->head.range.n, c.range.n);
		if (!note_matches(l, buf_str(note), &c.range, e))
			return false;
		range = c.range;
		found->checkpoint_size = c.range.n;
	}
	if (!rows_append(l->db, l->sha, l->head.range.n, &range, e))
		return false;
	tree_root(&range, l->sha, root);
	if (memcmp(root, found->root, SHA256_LEN) != 0)
		return rows_damaged(e,
				    "the records since the checkpoint over %" PRIu64
				    " are not those of its tree",
				    found->checkpoint_size);
	return true;
}

static bool open_anchor(const struct log *l, struct str note, struct checkpoint *c, struct err *e)
{
	struct note_key key;
	struct note n;

	if (!note_parse(note, &n, e) || !checkpoint_parse(n.text, c, e))
		return false;
	key = key_history_at(&l->keys, c->size);
	return checkpoint_open(note, &key, c, e);
}

/* The copy outside the database: what was shown must still be there. */
static bool check_anchor(struct log *l, struct log_found *found, struct err *e)
{
	AUTO_BUF note;
	struct checkpoint c;
	struct tree_range range;
	uint8_t root[SHA256_LEN];

	buf_init(&note, mem_system, NOTE_MAX);
	if (!file_read(l->folder, LAST_CHECKPOINT, NOTE_MAX, &note, e)) {
		if (e->class != ERR_NOT_FOUND)
			return false;
		*e = (struct err){ 0 };
		found->no_anchor = found->checkpoint_size > 0;
		return true;
	}
	if (!open_anchor(l, buf_str(&note), &c, e))
		return err_prefix(e, LAST_CHECKPOINT);
	if (c.size > l->head.range.n)
		return rollback_detected(e, l->head.range.n, c.size);
	if (!rows_range(l->db, l->sha, c.size, &range, e))
		return false;
	tree_root(&range, l->sha, root);
	return memcmp(root, c.root, SHA256_LEN) == 0 ? true : forked(e, c.size);
}

bool log_check(struct log *l, const struct audit_config *c, struct log_found *found,
	       struct buf *note, struct err *e)
{
	*found = (struct log_found){ 0 };
	return read_head(l, found, e) && check_prune(l, found, e) && check_ahead(l, c, e) &&
	       find_keys(l, c, found, e) && check_stored(l, found, note, e) &&
	       check_anchor(l, found, e) && check_first_key(l, e);
}
