#include "authz/audit/index_build.h"

#include <stdio.h>
#include <stdlib.h>

#include "authz/audit/flat.h"
#include "authz/audit/rows.h"
#include "authz/audit/tree.h"

#define PAGE_ROWS 1024 /* read in one transaction */

struct index_build {
	char *folder;
	const char *vfs;
	struct sha256 *sha;
	struct db *log;
	struct db_stmt *leaves; /* of [?1, ?2) */
	struct index_store *store;
	struct index_head head;
	struct index_progress progress;
	bool again;   /* begin anew */
	bool reading; /* the log: what fails now is not the index */
	struct index_posts posts;
	struct index_memo memo;
	size_t nmarks;
	struct index_mark marks[INDEX_POSTS / INDEX_MARK_EVERY];
};

bool index_build_new(const char *folder, const char *vfs, struct index_build **out, struct err *e)
{
	struct index_build *b = calloc(1, sizeof(*b));

	if (b)
		b->folder = strdup(folder);
	if (!b || !b->folder) {
		index_build_free(b);
		return err_set(e, ERR_NOMEM, "no memory to index the log");
	}
	b->vfs = vfs;
	b->sha = sha256_new(e);
	if (!b->sha || !index_posts_init(&b->posts, INDEX_POSTS, e)) {
		index_build_free(b);
		return false;
	}
	*out = b;
	return true;
}

static void close_both(struct index_build *b)
{
	db_finish(b->leaves);
	db_close(b->log);
	index_store_close(b->store);
	b->leaves = NULL;
	b->log = NULL;
	b->store = NULL;
}

void index_build_free(struct index_build *b)
{
	if (!b)
		return;
	close_both(b);
	sha256_free(b->sha);
	index_posts_clear(&b->posts);
	free(b->folder);
	free(b);
}

void index_build_again(struct index_build *b)
{
	b->again = true;
}

/* --- where to go on --- */

/* Is the last record in the index the one in the log? */
static bool fits(struct index_build *b, bool *yes, struct err *e)
{
	AUTO_RESET *q = b->leaves;
	uint8_t hash[SHA256_LEN];
	uint64_t pruned;
	bool row = false;

	*yes = b->head.next <= b->progress.size;
	if (!*yes || !b->head.next)
		return true;
	b->reading = true;
	if (!rows_pruned(b->log, &pruned, e))
		return false;
	if (b->head.next <= pruned) { /* nothing is pruned that was not indexed, but who knows */
		b->reading = false;
		return true;
	}
	db_bind_int(q, 1, (int64_t)b->head.next - 1);
	db_bind_int(q, 2, (int64_t)b->head.next);
	if (!db_step(q, &row, e))
		return false;
	b->reading = false;
	*yes = false;
	if (!row)
		return true;
	tree_leaf_hash(b->sha, db_column_blob(q, 1), hash);
	*yes = memcmp(hash, b->head.hash, SHA256_LEN) == 0;
	return true;
}

static bool begin_anew(struct index_build *b, struct err *e)
{
	if (!index_store_clear(b->store, e) || !index_store_head(b->store, &b->head, e))
		return false;
	b->again = false;
	b->progress.rebuilds++;
	return true;
}

static bool open_store(struct index_build *b, struct err *e)
{
	bool other;

	if (index_store_open(b->folder, b->vfs, &b->store, e))
		return true;
	other = str_eq(str_c(e->code), STR("index_version")) ||
		str_eq(str_c(e->code), STR("storage_corrupt"));
	if (!other)
		return false;
	index_store_remove(b->folder);
	b->progress.rebuilds++;
	b->again = false;
	err_none(e);
	return index_store_open(b->folder, b->vfs, &b->store, e);
}

static bool open_log(struct index_build *b, struct err *e)
{
	const struct db_options o = {
		.read_only = true, .autocheckpoint = -1, .busy_ms = 1000, .runs = true
	};
	char path[4200];

	if (snprintf(path, sizeof(path), "%s/" ROWS_FILE, b->folder) >= (int)sizeof(path))
		return err_set(e, ERR_INVALID, "the data folder's path is too long");
	return db_open(path, &o, &b->log, e) &&
	       db_prepare(b->log,
			  "SELECT seq, body FROM leaf WHERE seq >= ?1 AND seq < ?2 ORDER BY seq",
			  &b->leaves, e);
}

static bool open_both(struct index_build *b, struct err *e)
{
	bool yes = false;

	b->reading = true;
	if ((!b->log && !open_log(b, e)) || !rows_size(b->log, &b->progress.size, e))
		return false;
	b->reading = false;
	if (b->store && !index_store_in_place(b->store)) {
		index_store_close(b->store);
		b->store = NULL;
	}
	if (!b->store) {
		if (!open_store(b, e) || !index_store_head(b->store, &b->head, e) ||
		    !fits(b, &yes, e))
			return false;
		b->again |= !yes;
	}
	return !b->again || begin_anew(b, e);
}

/* --- one step --- */

static bool unreadable(uint64_t seq, struct err *e)
{
	return rows_damaged(e, "record %llu is not readable", (unsigned long long)seq);
}

static bool take_row(struct index_build *b, struct str leaf, uint64_t seq, struct err *e)
{
	struct index_term terms[INDEX_TERMS_MAX];
	struct leaf all;
	size_t n;

	if (!index_terms(leaf, &b->memo, terms, &n))
		return unreadable(seq, e);
	for (size_t i = 0; i < n; i++)
		if (!index_posts_add(&b->posts, terms[i], seq, e))
			return false;
	if (seq % INDEX_MARK_EVERY)
		return true;
	if (!leaf_scan(leaf, &all))
		return unreadable(seq, e);
	b->marks[b->nmarks++] = (struct index_mark){ seq, all.time_ms };
	return true;
}

static bool room(const struct index_build *b)
{
	return index_posts_room(&b->posts, INDEX_TERMS_MAX) && b->nmarks < ARRAY_LEN(b->marks);
}

/* One transaction's rows: as many as there are below @end and fit. */
static bool take_page(struct index_build *b, struct index_head *head, uint64_t end, struct err *e)
{
	AUTO_RESET *q = b->leaves;
	struct str leaf = { 0 };
	bool row = true;

	db_bind_int(q, 1, (int64_t)head->next);
	db_bind_int(q, 2, (int64_t)end);
	while (head->next < end && room(b)) {
		if (!db_step(q, &row, e))
			return false;
		if (!row || (uint64_t)db_column_int(q, 0) != head->next)
			return rows_gone(b->log, head->next, e);
		leaf = db_column_blob(q, 1);
		if (!take_row(b, leaf, head->next, e))
			return false;
		head->next++;
	}
	if (leaf.p)
		tree_leaf_hash(b->sha, leaf, head->hash);
	return true;
}

/* Read until the log ends or the memory is used. What was pruned is not looked for. */
static bool gather(struct index_build *b, struct index_head *head, struct err *e)
{
	uint64_t pruned;

	index_posts_reset(&b->posts);
	b->nmarks = 0;
	b->reading = true;
	*head = b->head;
	if (!rows_pruned(b->log, &pruned, e))
		return false;
	if (head->next < pruned)
		head->next = pruned;
	while (head->next < b->progress.size && room(b)) {
		uint64_t left = b->progress.size - head->next;

		if (!take_page(b, head, head->next + (left < PAGE_ROWS ? left : PAGE_ROWS), e))
			return false;
	}
	b->reading = false;
	return true;
}

static bool step(struct index_build *b, struct err *e)
{
	struct index_head head;
	uint64_t pruned;

	if (!open_both(b, e))
		return false;
	if (b->head.next == b->progress.size)
		return true;
	if (!gather(b, &head, e) ||
	    !index_store_add(b->store, &b->posts, b->marks, b->nmarks, &head, e))
		return false;
	b->head = head;
	return rows_pruned(b->log, &pruned, e) && index_store_forget(b->store, pruned, e);
}

/* What every call ends with: @ok tells how it went. */
static bool done(struct index_build *b, bool ok, struct index_progress *p, const struct err *e)
{
	bool damaged = !ok && !b->reading && str_eq(str_c(e->code), STR("storage_corrupt"));

	b->progress.indexed = ok ? b->head.next : b->progress.indexed;
	b->progress.more = ok && b->head.next < b->progress.size;
	if (!ok)
		close_both(b);
	if (damaged) {
		index_store_remove(b->folder);
		b->progress.indexed = 0;
		b->progress.rebuilds++;
	}
	*p = b->progress;
	return ok;
}

bool index_build_look(struct index_build *b, struct index_progress *p, struct err *e)
{
	b->reading = false;
	return done(b, open_both(b, e), p, e);
}

bool index_build_step(struct index_build *b, struct index_progress *p, struct err *e)
{
	b->reading = false;
	return done(b, step(b, e), p, e);
}
