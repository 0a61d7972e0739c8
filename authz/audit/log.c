#include "authz/audit/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "authz/audit/outcome.h"
#include "authz/audit/rows.h"
#include "authz/base/text.h"
#include "include/writ/words.h"

/* All openings of one record: the bodies of a few requests at most. */
#define OPENINGS_MAX (64 * 1024 * 1024)

static bool node_ok(struct str node)
{
	for (size_t i = 0; i < node.n; i++)
		if (!((node.p[i] >= 'a' && node.p[i] <= 'z') || node.p[i] == '-' ||
		      node.p[i] == '.' || (node.p[i] >= '0' && node.p[i] <= '9')))
			return false;
	return node.n > 0 && node.n <= LOG_NAME_MAX;
}

static bool prepare(struct log *l, struct err *e)
{
	return db_prepare(l->db, "INSERT INTO leaf(seq, body) VALUES (?1, ?2)", &l->leaf, e) &&
	       db_prepare(l->db,
			  "INSERT INTO opening(seq, answer, facts, input) VALUES (?1, ?2, ?3, ?4)",
			  &l->opening, e) &&
	       db_prepare(l->db, "UPDATE tree SET size = ?1, range = ?2 WHERE id = 0 AND size = ?3",
			  &l->tree, e) &&
	       db_prepare(l->db,
			  "INSERT OR IGNORE INTO checkpoint(size, note, range) VALUES (?1, ?2, ?3)",
			  &l->checkpoint, e) &&
	       closings_prepare(l->db, &l->closed, e);
}

static bool open_db(struct log *l, const char *folder, const char *vfs, struct err *e)
{
	/* Checkpoints of the WAL are ours: an automatic one would run inside a commit. */
	const struct db_options options = {
		.vfs = vfs,
		.create = true,
		.autocheckpoint = -1,
		.page_size = ROWS_PAGE,
		.gather = true,
		.runs = true,
		.shrinks = true,
	};
	char path[4200];

	if (snprintf(path, sizeof(path), "%s/" ROWS_FILE, folder) >= (int)sizeof(path))
		return err_set(e, ERR_INVALID, "the data folder's path is too long");
	return db_open(path, &options, &l->db, e) && rows_migrate(l->db, e) &&
	       closings_migrate(l->db, e) && prepare(l, e);
}

bool log_open(const struct audit_config *c, struct log **out, struct log_found *found,
	      struct buf *note, struct err *e)
{
	struct log *l = calloc(1, sizeof(*l));
	uint8_t boot[8];

	if (!l)
		return err_set(e, ERR_NOMEM, "no memory for the log");
	buf_init(&l->text, *c->alloc, 1 + LIMIT_LEAF + RECORD_OWN_MAX);
	buf_init(&l->openings, *c->alloc, OPENINGS_MAX);
	l->folder = -1;
	l->clock = c->clock;
	random_bytes(boot, sizeof(boot));
	text_hex(boot, sizeof(boot), l->boot);
	if (!node_ok(str_c(c->node))) {
		err_set(e, ERR_INVALID,
			"the node's name must be 1 to %d characters of a-z, 0-9, '.' and '-'",
			LOG_NAME_MAX);
		goto failed;
	}
	memcpy(l->node, c->node, strlen(c->node));
	l->folder = open(c->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l->folder < 0) {
		err_set(e, ERR_IO, "%s: cannot open the data folder: %s", c->folder,
			strerror(errno));
		goto failed;
	}
	l->sha = sha256_new(e);
	if (!l->sha || !open_db(l, c->folder, c->vfs, e) || !log_check(l, c, found, note, e))
		goto failed;
	*out = l;
	return true;
failed:
	log_close(l);
	return false;
}

void log_close(struct log *l)
{
	if (!l)
		return;
	log_rollback(l);
	db_finish(l->leaf);
	db_finish(l->opening);
	db_finish(l->tree);
	db_finish(l->checkpoint);
	db_finish(l->closed);
	db_close(l->db);
	sha256_free(l->sha);
	if (l->folder >= 0)
		close(l->folder);
	buf_clear(&l->text);
	buf_clear(&l->openings);
	free(l);
}

/* --- a batch --- */

bool log_begin(struct log *l, struct err *e)
{
	if (!db_begin(l->db, &l->tx, e))
		return false;
	l->next = l->head;
	l->begun = true;
	return true;
}

void log_rollback(struct log *l)
{
	if (l->begun)
		db_rollback(&l->tx);
	l->begun = false;
}

/* The row of openings: salt and value in one blob each. False: no memory for a copy. */
static bool bind_openings(struct log *l, const struct record *r, uint64_t seq)
{
	size_t total = 0;
	char *at;

	for (int i = 0; i < OPENING_COUNT; i++)
		if (r->openings[i].value.p)
			total += SALT_LEN + r->openings[i].value.n;
	buf_reset(&l->openings);
	at = buf_room(&l->openings, total);
	if (!at)
		return false;
	db_bind_int(l->opening, 1, (int64_t)seq);
	for (int i = 0; i < OPENING_COUNT; i++) {
		struct str value = r->openings[i].value;

		if (!value.p) {
			db_bind_null(l->opening, 2 + i);
			continue;
		}
		memcpy(at, r->openings[i].salt, SALT_LEN);
		memcpy(at + SALT_LEN, value.p, value.n);
		db_bind_blob(l->opening, 2 + i, at, SALT_LEN + value.n);
		at += SALT_LEN + value.n;
	}
	return true;
}

static bool has_openings(const struct record *r)
{
	for (int i = 0; i < OPENING_COUNT; i++)
		if (r->openings[i].value.p)
			return true;
	return false;
}

/* Before anything else of the record is written: a decision is closed once. */
static enum log_added close_decision(struct log *l, const struct closing *c, struct err *e)
{
	bool added;

	if (!closings_add(l->db, l->closed, c, l->next.range.n, &added, e))
		return LOG_FAILED;
	if (added)
		return LOG_ADDED;
	err_code(e, ERR_CONFLICT, "closed_already", "this decision was closed before");
	return LOG_REFUSED;
}

enum log_added log_add(struct log *l, const struct record *r, struct audit_job *to, struct err *e)
{
	struct record_own own = { .boot = { l->boot, 16 }, .node = str_c(l->node) };
	int64_t now = clock_wall_ms(l->clock);
	bool opened = has_openings(r);
	char *leaf;
	size_t n;

	buf_reset(&l->text);
	leaf = record_ok(r) ? buf_room(&l->text, 1 + r->text->n + RECORD_OWN_MAX) : NULL;
	if (!leaf || (opened && !bind_openings(l, r, l->next.range.n))) {
		err_code(e, ERR_UNAVAILABLE, "audit_unavailable",
			 "the record does not fit into the log");
		return LOG_REFUSED;
	}
	if (to && to->closing) {
		enum log_added closed = close_decision(l, to->closing, e);

		if (closed != LOG_ADDED)
			return closed;
	}
	memcpy(own.prev, l->next.last_hash, SHA256_LEN);
	own.seq = l->next.range.n;
	/* Never decreasing, also when the system's clock is set back. */
	own.time_ms = now > l->next.last_ms ? now : l->next.last_ms;
	leaf[0] = 0;
	n = record_leaf(r, &own, leaf + 1);
	sha256_of(l->sha, (struct str){ leaf, 1 + n }, l->next.last_hash);
	tree_append(&l->next.range, l->sha, l->next.last_hash);
	l->next.last_ms = own.time_ms;
	db_bind_int(l->leaf, 1, (int64_t)own.seq);
	db_bind_blob(l->leaf, 2, leaf + 1, n);
	if (!db_run(l->leaf, e) || (opened && !db_run(l->opening, e)))
		return LOG_FAILED;
	if (to) {
		to->seq = own.seq;
		to->time_ms = own.time_ms;
		memcpy(to->leaf_hash, l->next.last_hash, SHA256_LEN);
	}
	return LOG_ADDED;
}

bool log_add_checkpoint(struct log *l, const struct tree_range *range, struct str note,
			struct err *e)
{
	uint8_t saved[TREE_LEVELS * SHA256_LEN];

	db_bind_int(l->checkpoint, 1, (int64_t)range->n);
	db_bind_blob(l->checkpoint, 2, note.p, note.n);
	db_bind_blob(l->checkpoint, 3, saved, tree_range_save(range, saved));
	return db_run(l->checkpoint, e);
}

static bool save_head(struct log *l, struct err *e)
{
	uint8_t saved[TREE_LEVELS * SHA256_LEN];

	if (l->next.range.n == l->head.range.n)
		return true;
	db_bind_int(l->tree, 1, (int64_t)l->next.range.n);
	db_bind_blob(l->tree, 2, saved, tree_range_save(&l->next.range, saved));
	db_bind_int(l->tree, 3, (int64_t)l->head.range.n);
	if (!db_run(l->tree, e))
		return false;
	/* Not our size: somebody else appended, and what we have in memory is no longer the log. */
	if (db_changes(l->db) != 1)
		return err_code(e, ERR_CONFLICT, "storage_constraint",
				ROWS_FILE " was written by another process; only one may");
	return true;
}

bool log_commit(struct log *l, struct err *e)
{
	bool ok = save_head(l, e) && db_commit(&l->tx, e);

	if (!ok) {
		log_rollback(l);
		return false;
	}
	l->begun = false;
	l->head = l->next;
	return true;
}
