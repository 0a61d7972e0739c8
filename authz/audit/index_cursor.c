#include "authz/audit/index_cursor.h"

#define COLUMNS "SELECT block, last, data FROM posting WHERE term = ?1 AND block "

bool index_cursor_open(struct db *db, struct index_term term, struct index_cursor *c, struct err *e)
{
	c->term = term;
	c->loaded = false;
	return db_prepare(db, COLUMNS "<= ?2 ORDER BY block DESC LIMIT 1", &c->at, e) &&
	       db_prepare(db, COLUMNS "> ?2 ORDER BY block LIMIT 1", &c->after, e);
}

void index_cursor_close(struct index_cursor *c)
{
	db_finish(c->at);
	db_finish(c->after);
	c->at = c->after = NULL;
}

static bool load(struct index_cursor *c, struct db_stmt *with, uint64_t seq, bool *row,
		 struct err *e)
{
	AUTO_RESET *q = with;

	c->loaded = false;
	db_bind_int(q, 1, (int64_t)c->term.hash);
	db_bind_int(q, 2, (int64_t)seq);
	if (!db_step(q, row, e))
		return false;
	if (!*row)
		return true;
	c->first = (uint64_t)db_column_int(q, 0);
	c->last = (uint64_t)db_column_int(q, 1);
	c->n = index_block_decode(db_column_blob(q, 2), c->first, c->term, c->seqs);
	if (c->n < 0 || c->first > c->last || c->last > INT64_MAX ||
	    (c->n && c->seqs[c->n - 1] > c->last))
		return err_code(e, ERR_IO, "storage_corrupt", INDEX_FILE " has a malformed block");
	c->loaded = true;
	return true;
}

/* How many entries of the block are before @seq. */
static int before(const struct index_cursor *c, uint64_t seq)
{
	int lo = 0, hi = c->n;

	while (lo < hi) {
		int mid = lo + (hi - lo) / 2;

		if (c->seqs[mid] < seq)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool leap_up(struct index_cursor *c, uint64_t *seq, bool *found, uint64_t *blocks,
		    struct err *e)
{
	bool row = c->loaded && c->first <= *seq;
	int i;

	if (!row) {
		++*blocks;
		if (!load(c, c->at, *seq, &row, e))
			return false;
	}
	for (;;) {
		if (row) {
			i = before(c, *seq);
			if (i < c->n) {
				*seq = c->seqs[i];
				*found = true;
				return true;
			}
		}
		++*blocks;
		if (!load(c, c->after, row ? c->first : *seq, &row, e))
			return false;
		if (!row)
			return true;
	}
}

static bool leap_down(struct index_cursor *c, uint64_t *seq, bool *found, uint64_t *blocks,
		      struct err *e)
{
	uint64_t at = *seq;
	bool row = c->loaded && c->first <= at && at <= c->last;
	int i;

	for (;; row = false) {
		if (!row) {
			++*blocks;
			if (!load(c, c->at, at, &row, e))
				return false;
			if (!row)
				return true;
		}
		i = at < INT64_MAX ? before(c, at + 1) : c->n;
		if (i) {
			*seq = c->seqs[i - 1];
			*found = true;
			return true;
		}
		if (!c->first)
			return true;
		at = c->first - 1;
	}
}

bool index_cursor_leap(struct index_cursor *c, bool down, uint64_t *seq, bool *found,
		       uint64_t *blocks, struct err *e)
{
	*found = false;
	return down ? leap_down(c, seq, found, blocks, e) : leap_up(c, seq, found, blocks, e);
}
