#include "authz/audit/read.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "authz/audit/rows.h"
#include "authz/base/text.h"

/* A page is what one short transaction reads: so many rows, or the row that passes the bytes. What
 * was read ahead is dropped where it ends (run_vfs.h), so it must not be too short. */
#define PAGE_ROWS 512
#define PAGE_BYTES (1024 * 1024)
#define PAGE_MAX (128 * 1024 * 1024) /* one row of the largest openings and a page before it */

struct blob {
	size_t at, n; /* in page */
	bool held;
};

struct page_row {
	uint64_t seq;
	struct blob text, openings[OPENING_COUNT];
};

struct audit_reader {
	const struct alloc *alloc;
	struct db *db;
	struct db_stmt *up, *down, *time;
	struct sha256 *sha;
	struct audit_filter filter;
	uint64_t pruned;
	uint64_t from, to; /* left to walk, less what the page still holds */
	struct buf page;
	struct page_row rows[PAGE_ROWS];
	size_t count, next; /* rows of the page; the next one to give */
};

/* A walk needs no page twice, and buffers that stay in the processor's cache are twice as fast. */
#define CACHE_KIB 256

#define COLUMNS "l.seq, l.body, o.answer, o.facts, o.input"
#define TABLES " FROM leaf l LEFT JOIN opening o ON ?3 AND o.seq = l.seq"
#define RANGE " WHERE l.seq >= ?1 AND l.seq < ?2 ORDER BY l.seq "

static bool prepare(struct audit_reader *r, struct err *e)
{
	return db_prepare(r->db, "SELECT " COLUMNS TABLES RANGE, &r->up, e) &&
	       db_prepare(r->db, "SELECT " COLUMNS TABLES RANGE "DESC", &r->down, e) &&
	       db_prepare(r->db, "SELECT body FROM leaf WHERE seq = ?1", &r->time, e);
}

bool audit_reader_open(const char *folder, const struct alloc *alloc, struct audit_reader **out,
		       struct err *e)
{
	const struct db_options options = { .read_only = true,
					    .autocheckpoint = -1,
					    .busy_ms = 1000,
					    .cache_kib = CACHE_KIB,
					    .runs = true };
	struct audit_reader *r;
	char path[4200];

	alloc = alloc ? alloc : &mem_system;
	r = mem_zero(alloc, sizeof(*r));
	if (!r)
		return err_set(e, ERR_NOMEM, "no memory to read the log");
	r->alloc = alloc;
	buf_init(&r->page, *alloc, PAGE_MAX);
	r->sha = sha256_new(e);
	if (snprintf(path, sizeof(path), "%s/" ROWS_FILE, folder) >= (int)sizeof(path))
		err_set(e, ERR_INVALID, "the data folder's path is too long");
	else if (r->sha && db_open(path, &options, &r->db, e) && prepare(r, e)) {
		*out = r;
		return true;
	}
	audit_reader_close(r);
	return false;
}

void audit_reader_close(struct audit_reader *r)
{
	if (!r)
		return;
	db_finish(r->up);
	db_finish(r->down);
	db_finish(r->time);
	db_close(r->db);
	sha256_free(r->sha);
	buf_clear(&r->page);
	mem_free(r->alloc, r, sizeof(*r));
}

uint64_t audit_reader_pruned(const struct audit_reader *r)
{
	return r->pruned;
}

bool audit_reader_going(struct audit_reader *r, uint64_t *upto, struct err *e)
{
	struct rows_prune p;

	if (!rows_prune(r->db, &p, e))
		return false;
	*upto = p.to > p.done ? p.to : 0;
	return true;
}

bool audit_reader_gone(struct audit_reader *r, uint64_t seq, struct err *e)
{
	return rows_gone(r->db, seq, e);
}

bool audit_reader_size(struct audit_reader *r, uint64_t *size, struct err *e)
{
	return rows_size(r->db, size, e);
}

/* --- where a walk begins --- */

static bool time_of(struct audit_reader *r, uint64_t seq, int64_t *ms, struct err *e)
{
	AUTO_RESET *s = r->time;
	struct leaf leaf;
	bool row;

	db_bind_int(s, 1, (int64_t)seq);
	if (!db_step(s, &row, e))
		return false;
	if (!row || !leaf_scan(db_column_blob(s, 0), &leaf))
		return rows_damaged(e, "record %llu is not readable", (unsigned long long)seq);
	*ms = leaf.time_ms;
	return true;
}

/* The first seq in [lo, hi) that is not before @ms. */
static bool bisect(struct audit_reader *r, uint64_t lo, uint64_t hi, int64_t ms, uint64_t *out,
		   struct err *e)
{
	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;
		int64_t at = 0;

		if (!time_of(r, mid, &at, e))
			return false;
		if (at < ms)
			lo = mid + 1;
		else
			hi = mid;
	}
	*out = lo;
	return true;
}

bool audit_reader_start(struct audit_reader *r, const struct audit_filter *f, struct err *e)
{
	uint64_t size, from = f->from, to;

	if (!rows_size(r->db, &size, e) || !rows_pruned(r->db, &r->pruned, e))
		return false;
	to = f->to && f->to < size ? f->to : size;
	if (from < r->pruned)
		from = r->pruned;
	if (from > to)
		from = to;
	if (f->until_ms && !bisect(r, from, to, f->until_ms, &to, e))
		return false;
	if (f->since_ms && !bisect(r, from, to, f->since_ms, &from, e))
		return false;
	r->filter = *f;
	r->from = from;
	r->to = to;
	r->count = r->next = 0;
	return true;
}

/* --- pages --- */

/* What one row of the walk is handed to, inside the transaction. *enough: stop behind it. */
typedef bool use_row(struct audit_reader *r, struct db_stmt *s, void *ctx, bool *enough,
		     struct err *e);

/* The next rows of the range, in one short transaction. */
static bool read_rows(struct audit_reader *r, use_row *use, void *ctx, struct err *e)
{
	uint64_t n = r->to - r->from < PAGE_ROWS ? r->to - r->from : PAGE_ROWS;
	bool down = r->filter.newest_first, enough = false, row = true;
	AUTO_RESET *s = down ? r->down : r->up;

	db_bind_int(s, 1, (int64_t)(down ? r->to - n : r->from));
	db_bind_int(s, 2, (int64_t)(down ? r->to : r->from + n));
	db_bind_int(s, 3, r->filter.openings);
	for (; n && !enough; n--) {
		uint64_t want = down ? r->to - 1 : r->from;

		if (!db_step(s, &row, e))
			return false;
		if (!row || (uint64_t)db_column_int(s, 0) != want)
			return rows_gone(r->db, want, e); /* while this walk went on */
		if (!use(r, s, ctx, &enough, e))
			return false;
		if (down)
			r->to--;
		else
			r->from++;
	}
	return true;
}

static bool copy(struct audit_reader *r, struct str s, struct blob *out)
{
	*out = (struct blob){ .at = r->page.n, .n = s.n, .held = s.p != NULL };
	if (s.p)
		buf_add(&r->page, s);
	return buf_ok(&r->page);
}

static bool copy_row(struct audit_reader *r, struct db_stmt *s, void *ctx, bool *enough,
		     struct err *e)
{
	struct page_row *row = &r->rows[r->count];
	bool ok;

	(void)ctx;
	row->seq = (uint64_t)db_column_int(s, 0);
	ok = copy(r, db_column_blob(s, 1), &row->text);
	for (int i = 0; ok && i < OPENING_COUNT; i++)
		ok = copy(r, db_column_blob(s, 2 + i), &row->openings[i]);
	if (!ok)
		return err_set(e, ERR_NOMEM, "no memory to read record %llu",
			       (unsigned long long)row->seq);
	r->count++;
	*enough = r->page.n >= PAGE_BYTES;
	return true;
}

static bool load_page(struct audit_reader *r, struct err *e)
{
	r->count = r->next = 0;
	buf_reset(&r->page);
	return read_rows(r, copy_row, NULL, e);
}

/* --- rows --- */

static bool kind_matches(struct str kind, struct str want)
{
	if (str_ends(want, STR(".*")))
		return str_starts(kind, str_first(want, want.n - 1));
	return str_eq(kind, want);
}

/* Values in a leaf are escaped, and no name that a filter can ask for needs escaping: agents,
 * decisions and kinds are plain ASCII. */
static bool matches(const struct audit_filter *f, const struct leaf *l)
{
	return (!f->agent.n || str_eq(f->agent, l->agent)) &&
	       (!f->decision.n || str_eq(f->decision, l->decision)) &&
	       (!f->kind.n || kind_matches(l->kind, f->kind)) &&
	       (!f->since_ms || l->time_ms >= f->since_ms) &&
	       (!f->until_ms || l->time_ms < f->until_ms);
}

/* Is there anything that only the record itself can tell? */
static bool asks(const struct audit_filter *f)
{
	return f->agent.n || f->decision.n || f->kind.n || f->since_ms || f->until_ms;
}

static bool judge(const struct audit_filter *f, struct audit_row *row, struct err *e)
{
	if (!leaf_scan(row->text, &row->leaf))
		return rows_damaged(e, "record %llu is not readable", (unsigned long long)row->seq);
	row->matches = matches(f, &row->leaf);
	return true;
}

static void fill_opening(struct audit_row *row, int i, struct str o)
{
	row->openings[i].held = o.p && o.n >= SALT_LEN;
	if (!row->openings[i].held)
		return;
	memcpy(row->openings[i].salt, o.p, SALT_LEN);
	row->openings[i].value = str_from(o, SALT_LEN);
}

static bool fill_row(struct audit_reader *r, const struct page_row *p, struct audit_row *row,
		     struct err *e)
{
	row->seq = p->seq;
	row->text = (struct str){ r->page.p + p->text.at, p->text.n };
	for (int i = 0; i < OPENING_COUNT; i++) {
		const struct blob *o = &p->openings[i];

		fill_opening(row, i, (struct str){ o->held ? r->page.p + o->at : NULL, o->n });
	}
	return judge(&r->filter, row, e);
}

bool audit_reader_next(struct audit_reader *r, size_t scan, struct audit_row *row, bool *got,
		       struct err *e)
{
	*got = false;
	for (size_t seen = 0; !scan || seen < scan; seen++) {
		if (r->next == r->count) {
			if (r->from == r->to)
				return true;
			if (!load_page(r, e))
				return false;
		}
		if (!fill_row(r, &r->rows[r->next++], row, e))
			return false;
		if (row->matches || r->filter.all) {
			*got = true;
			return true;
		}
	}
	return true;
}

struct pass {
	audit_reader_use *use;
	void *ctx;
};

static bool pass_row(struct audit_reader *r, struct db_stmt *s, void *ctx, bool *enough,
		     struct err *e)
{
	const struct pass *p = ctx;
	struct audit_row row = { .seq = (uint64_t)db_column_int(s, 0),
				 .text = db_column_blob(s, 1),
				 .matches = true };

	for (int i = 0; i < OPENING_COUNT; i++)
		fill_opening(&row, i, db_column_blob(s, 2 + i));
	if (asks(&r->filter) && !judge(&r->filter, &row, e))
		return false;
	*enough = (row.matches || r->filter.all) && !p->use(p->ctx, &row);
	return true;
}

bool audit_reader_pass(struct audit_reader *r, audit_reader_use *use, void *ctx, struct err *e)
{
	struct pass p = { use, ctx };

	assert(r->next == r->count);
	return read_rows(r, pass_row, &p, e);
}

void audit_reader_left(const struct audit_reader *r, uint64_t *from, uint64_t *to)
{
	uint64_t held = r->count - r->next;

	*from = r->filter.newest_first ? r->from : r->from - held;
	*to = r->filter.newest_first ? r->to + held : r->to;
}

/* --- checkpoints --- */

bool audit_reader_checkpoint(struct audit_reader *r, uint64_t least, struct buf *note,
			     struct tree_range *range, bool *found, struct err *e)
{
	struct rows_checkpoint c;

	if (!rows_checkpoint(r->db, least ? ROWS_AT_LEAST : ROWS_NEWEST, least, note, &c, e))
		return false;
	*found = c.found;
	if (c.found)
		*range = c.range;
	return true;
}

bool audit_reader_range(struct audit_reader *r, uint64_t size, struct tree_range *range,
			struct err *e)
{
	return rows_range(r->db, r->sha, size, range, e);
}

bool audit_reader_leaf(struct audit_reader *r, uint64_t seq, struct tree_range *one, struct err *e)
{
	*one = (struct tree_range){ 0 };
	return rows_subtree(r->db, r->sha, seq, seq + 1, one, e);
}

bool audit_reader_cover(struct audit_reader *r, uint64_t lo, uint64_t hi, struct tree_proof *out,
			struct err *e)
{
	struct tree_coord at[TREE_HASHES_MAX];
	size_t n = tree_cover(lo, hi, at);

	for (size_t i = 0; i < n; i++) {
		struct tree_range sub = { 0 };
		uint64_t from = at[i].index << at[i].level;

		if (out->n == TREE_HASHES_MAX)
			return err_set(e, ERR_INTERNAL, "a proof of too many hashes");
		if (!rows_subtree(r->db, r->sha, from, from + (UINT64_C(1) << at[i].level), &sub,
				  e))
			return false;
		tree_root(&sub, r->sha, out->hash[out->n++]);
	}
	return true;
}
