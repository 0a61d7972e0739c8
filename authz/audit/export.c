#include "authz/audit/export.h"

#include "authz/audit/cosigned.h"
#include "authz/audit/note.h"
#include "authz/base/text.h"
#include "include/writ/words.h"

enum stage { STAGE_HEADER, STAGE_ROWS, STAGE_TRAILER, STAGE_DONE };

struct audit_export {
	struct audit_export_options options;
	const struct alloc *alloc;
	struct audit_reader *reader;
	struct sha256 *sha;
	enum stage stage;
	struct buf note;
	struct tree_range range; /* of the checkpoint, as it was stored with it */
	struct tree_proof hints;
	struct audit_export_counts counts;
	uint64_t done;		    /* records written */
	uint8_t header[SHA256_LEN]; /* of its line */
};

/* --- opening --- */

/* The range that the filter asks for, cut to what a checkpoint proves: for an open end the newest
 * one, else the first one behind the range, so that few records lie between. */
static bool choose_range(struct audit_export *x, struct err *e)
{
	const struct audit_filter *f = &x->options.filter;
	bool open_end = !f->to && !f->until_ms, found = false;
	uint64_t from, to;

	if (!audit_reader_start(x->reader, f, e))
		return false;
	audit_reader_left(x->reader, &from, &to);
	if (from < to && !open_end &&
	    !audit_reader_checkpoint(x->reader, to, &x->note, &x->range, &found, e))
		return false;
	if (from < to && !found &&
	    !audit_reader_checkpoint(x->reader, 0, &x->note, &x->range, &found, e))
		return false;
	if (found && to > x->range.n)
		to = x->range.n;
	if (!found || from >= to)
		return err_set(e, ERR_NOT_FOUND,
			       "nothing to export: no record of this range is covered by a signed "
			       "checkpoint");
	cosigned_add(x->options.folder, &x->note);
	x->counts.first = from;
	x->counts.count = to - from;
	x->counts.size = x->range.n;
	return true;
}

static bool find_hints(struct audit_export *x, struct err *e)
{
	uint64_t from = x->counts.first, to = from + x->counts.count;
	struct tree_range left;
	uint8_t saved[TREE_LEVELS * SHA256_LEN];

	if (!audit_reader_range(x->reader, from, &left, e))
		return false;
	x->hints.n = tree_range_save(&left, saved) / SHA256_LEN;
	memcpy(x->hints.hash, saved, x->hints.n * SHA256_LEN);
	return audit_reader_cover(x->reader, to, x->range.n, &x->hints, e);
}

static bool begin_walk(struct audit_export *x, struct err *e)
{
	struct audit_filter f = x->options.filter;

	f.since_ms = f.until_ms = 0; /* they chose the range; in it only the others withhold */
	f.from = x->counts.first;
	f.to = x->counts.first + x->counts.count;
	f.newest_first = false;
	f.all = true;
	return audit_reader_start(x->reader, &f, e);
}

bool audit_export_open(const struct audit_export_options *o, struct audit_export **out,
		       struct err *e)
{
	const struct alloc *alloc = o->alloc ? o->alloc : &mem_system;
	struct audit_export *x = mem_zero(alloc, sizeof(*x));

	if (!x)
		return err_set(e, ERR_NOMEM, "no memory for an export");
	x->options = *o;
	x->alloc = alloc;
	buf_init(&x->note, *alloc, NOTE_MAX);
	x->sha = sha256_new(e);
	if (!x->sha || !audit_reader_open(o->folder, alloc, &x->reader, e) || !choose_range(x, e) ||
	    !find_hints(x, e) || !begin_walk(x, e)) {
		audit_export_close(x);
		return false;
	}
	*out = x;
	return true;
}

void audit_export_close(struct audit_export *x)
{
	if (!x)
		return;
	audit_reader_close(x->reader);
	sha256_free(x->sha);
	buf_clear(&x->note);
	mem_free(x->alloc, x, sizeof(*x));
}

void audit_export_counts(const struct audit_export *x, struct audit_export_counts *c)
{
	*c = x->counts;
}

/* --- writing --- */

static void str_member(struct buf *b, const char *name, struct str value)
{
	if (!value.n)
		return;
	buf_printf(b, "\"%s\":", name);
	buf_json(b, value);
	buf_char(b, ',');
}

static void int_member(struct buf *b, const char *name, uint64_t v)
{
	buf_printf(b, "\"%s\":%llu,", name, (unsigned long long)v);
}

static void hashes_member(struct buf *b, const char *name, const uint8_t *p, size_t n)
{
	buf_printf(b, "\"%s\":\"", name);
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_char(b, ' ');
		buf_hex(b, p + i * SHA256_LEN, SHA256_LEN);
	}
	buf_lit(b, "\",");
}

/* In place of the comma after the last member. */
static void close_line(struct buf *b)
{
	if (buf_ok(b))
		b->n--;
	buf_lit(b, "}}\n");
}

static void write_header(struct audit_export *x, struct buf *b)
{
	const struct audit_filter *f = &x->options.filter;
	struct str origin = { 0 }, rest;
	size_t from = b->n;

	(void)str_cut(buf_str(&x->note), '\n', &origin, &rest);
	buf_lit(b, "{\"header\":{");
	int_member(b, "count", x->counts.count);
	str_member(b, "filter_agent", f->agent);
	str_member(b, "filter_decision", f->decision);
	str_member(b, "filter_kind", f->kind);
	if (f->since_ms)
		int_member(b, "filter_since", (uint64_t)f->since_ms);
	if (f->until_ms)
		int_member(b, "filter_until", (uint64_t)f->until_ms);
	int_member(b, "first", x->counts.first);
	str_member(b, "format", STR(AUDIT_EXPORT_FORMAT));
	int_member(b, "openings", f->openings);
	str_member(b, "origin", origin);
	int_member(b, "size", x->counts.size);
	str_member(b, "tool", STR("writ " WRIT_VERSION));
	str_member(b, "vkey", x->options.vkey);
	close_line(b);
	if (buf_ok(b))
		sha256_of(x->sha, (struct str){ b->p + from, b->n - 1 - from }, x->header);
}

bool audit_export_manifest(struct audit_export *x, uint8_t hash[static SHA256_LEN], struct err *e)
{
	struct buf line;
	bool ok;

	buf_init(&line, *x->alloc, AUDIT_EXPORT_PIECE);
	write_header(x, &line);
	ok = buf_ok(&line);
	buf_clear(&line);
	if (!ok)
		return err_set(e, ERR_NOMEM, "no memory for the header of an export");
	memcpy(hash, x->header, SHA256_LEN);
	return true;
}

static void write_opening(struct buf *b, const struct audit_row *row, struct str seq,
			  enum opening o)
{
	buf_lit(b, "{\"opening\":{\"name\":\"");
	buf_add(b, record_opening_name(o));
	buf_lit(b, "\",\"salt\":\"");
	buf_hex(b, row->openings[o].salt, SALT_LEN);
	buf_lit(b, "\",\"seq\":");
	buf_add(b, seq);
	buf_lit(b, ",\"value\":");
	buf_add(b, row->openings[o].value);
	buf_lit(b, "}}\n");
}

static void write_row(struct audit_export *x, const struct audit_row *row, struct buf *b)
{
	uint8_t hash[SHA256_LEN];
	char digits[TEXT_U64_MAX];
	struct str seq = { digits, 0 };

	if (!row->matches) {
		tree_leaf_hash(x->sha, row->text, hash);
		buf_lit(b, "{\"leaf_hash\":\"");
		buf_hex(b, hash, SHA256_LEN);
		buf_lit(b, "\"}\n");
		x->counts.withheld++;
		return;
	}
	buf_add(b, row->text);
	buf_char(b, '\n');
	seq.n = text_put_u64(row->seq, digits);
	for (enum opening o = OPENING_ANSWER; o < OPENING_COUNT; o++)
		if (x->options.filter.openings && row->openings[o].held) {
			write_opening(b, row, seq, o);
			x->counts.openings++;
		}
}

/* The compact range was stored with the checkpoint, not computed from the records of today: if
 * these were changed since, it tells in which part of the tree. */
static void write_trailer(struct audit_export *x, struct buf *b)
{
	uint8_t saved[TREE_LEVELS * SHA256_LEN];

	buf_lit(b, "{\"trailer\":{");
	str_member(b, "checkpoint", buf_str(&x->note));
	int_member(b, "count", x->counts.count);
	int_member(b, "first", x->counts.first);
	hashes_member(b, "header", x->header, 1);
	hashes_member(b, "hints", x->hints.hash[0], x->hints.n);
	int_member(b, "openings", x->counts.openings);
	hashes_member(b, "range", saved, tree_range_save(&x->range, saved) / SHA256_LEN);
	int_member(b, "size", x->counts.size);
	int_member(b, "withheld", x->counts.withheld);
	close_line(b);
}

struct piece {
	struct audit_export *x;
	struct buf *out;
	size_t end;
};

static bool put_row(void *ctx, const struct audit_row *row)
{
	struct piece *p = ctx;

	write_row(p->x, row, p->out);
	p->x->done++;
	return buf_ok(p->out) && p->out->n < p->end;
}

/* If memory is short, the caller says so. */
static bool write_rows(struct audit_export *x, struct buf *b, struct err *e)
{
	struct piece p = { x, b, b->n + AUDIT_EXPORT_PIECE };

	if (!audit_reader_pass(x->reader, put_row, &p, e))
		return false;
	if (x->done == x->counts.count)
		x->stage = STAGE_TRAILER;
	return true;
}

bool audit_export_next(struct audit_export *x, struct buf *out, bool *done, struct err *e)
{
	*done = false;
	switch (x->stage) {
	case STAGE_HEADER:
		write_header(x, out);
		x->stage = STAGE_ROWS;
		break;
	case STAGE_ROWS:
		if (!write_rows(x, out, e))
			return false;
		break;
	case STAGE_TRAILER:
		write_trailer(x, out);
		x->stage = STAGE_DONE;
		*done = true;
		break;
	case STAGE_DONE:
		*done = true;
		break;
	}
	return buf_ok(out) ? true : err_set(e, ERR_NOMEM, "no memory for a piece of the export");
}
