#include "authz/audit/index_build.h"

#include <stdlib.h>

#include "authz/audit/read.h"
#include "authz/audit/tree.h"

struct index_build {
	char *folder;
	const char *vfs;
	struct sha256 *sha;
	struct audit_reader *log;
	struct index_store *store;
	struct index_head head;
	struct index_progress progress;
	bool again;   /* begin anew */
	bool reading; /* the log: what fails now is not the index */
	struct index_post *posts;
	size_t nposts, nmarks;
	struct index_mark marks[INDEX_POSTS / INDEX_MARK_EVERY];
};

bool index_build_new(const char *folder, const char *vfs, struct index_build **out, struct err *e)
{
	struct index_build *b = calloc(1, sizeof(*b));

	if (b) {
		b->folder = strdup(folder);
		b->posts = malloc(INDEX_POSTS * sizeof(*b->posts));
		b->vfs = vfs;
	}
	if (!b || !b->folder || !b->posts) {
		index_build_free(b);
		return err_set(e, ERR_NOMEM, "no memory to index the log");
	}
	b->sha = sha256_new(e);
	if (!b->sha) {
		index_build_free(b);
		return false;
	}
	*out = b;
	return true;
}

static void close_both(struct index_build *b)
{
	audit_reader_close(b->log);
	index_store_close(b->store);
	b->log = NULL;
	b->store = NULL;
}

void index_build_free(struct index_build *b)
{
	if (!b)
		return;
	close_both(b);
	sha256_free(b->sha);
	free(b->posts);
	free(b->folder);
	free(b);
}

void index_build_again(struct index_build *b)
{
	b->again = true;
}

/* --- where to go on --- */

/* The record @seq, which must be there. */
static bool read_one(struct index_build *b, uint64_t seq, struct audit_row *row, bool *got,
		     struct err *e)
{
	const struct audit_filter f = { .from = seq, .to = seq + 1 };

	return audit_reader_start(b->log, &f, e) && audit_reader_next(b->log, 1, row, got, e);
}

/* Is the last record in the index the one in the log? */
static bool fits(struct index_build *b, bool *yes, struct err *e)
{
	uint8_t hash[SHA256_LEN];
	struct audit_row row;
	bool got = false;

	*yes = b->head.next <= b->progress.size;
	if (!*yes || !b->head.next)
		return true;
	b->reading = true;
	if (!read_one(b, b->head.next - 1, &row, &got, e))
		return false;
	b->reading = false;
	*yes = false;
	if (!got)
		return true;
	tree_leaf_hash(b->sha, row.text, hash);
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

static bool open_both(struct index_build *b, struct err *e)
{
	bool yes = false;

	b->reading = true;
	if (!b->log && !audit_reader_open(b->folder, &mem_system, &b->log, e))
		return false;
	if (!audit_reader_size(b->log, &b->progress.size, e))
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

static bool take_row(struct index_build *b, const struct audit_row *row, struct err *e)
{
	struct index_term terms[INDEX_TERMS_MAX];
	size_t n;

	if (!index_terms(row->text, terms, &n))
		return err_code(e, ERR_IO, "storage_corrupt", "record %llu is not readable",
				(unsigned long long)row->seq);
	for (size_t i = 0; i < n; i++)
		b->posts[b->nposts++] = (struct index_post){ terms[i], row->seq };
	if (row->seq % INDEX_MARK_EVERY == 0)
		b->marks[b->nmarks++] = (struct index_mark){ row->seq, row->leaf.time_ms };
	return true;
}

/* Read until the log ends or the memory is used. */
static bool gather(struct index_build *b, struct index_head *head, struct err *e)
{
	const struct audit_filter f = { .from = b->head.next, .to = b->progress.size };
	struct audit_row row;
	bool got = true;

	b->nposts = b->nmarks = 0;
	b->reading = true;
	*head = b->head;
	if (!audit_reader_start(b->log, &f, e))
		return false;
	while (b->nposts + INDEX_TERMS_MAX <= INDEX_POSTS && b->nmarks < ARRAY_LEN(b->marks) &&
	       head->next < b->progress.size) {
		if (!audit_reader_next(b->log, 0, &row, &got, e))
			return false;
		if (!got)
			break;
		if (!take_row(b, &row, e))
			return false;
		head->next = row.seq + 1;
		if (head->next == b->progress.size || b->nposts + INDEX_TERMS_MAX > INDEX_POSTS ||
		    b->nmarks == ARRAY_LEN(b->marks))
			tree_leaf_hash(b->sha, row.text, head->hash);
	}
	b->reading = false;
	return true;
}

static bool step(struct index_build *b, struct err *e)
{
	struct index_head head;

	if (!open_both(b, e))
		return false;
	if (b->head.next == b->progress.size)
		return true;
	if (!gather(b, &head, e) ||
	    !index_store_add(b->store, b->posts, b->nposts, b->marks, b->nmarks, &head, e))
		return false;
	b->head = head;
	return true;
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
