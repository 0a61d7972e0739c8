#include "authz/audit/export_rows.h"

#include "authz/audit/tree.h"
#include "authz/base/text.h"

#define SCAN 4096 /* rows looked at in one call, if none of them is wanted */

struct export_rows {
	struct export_rows_options options;
	const struct alloc *alloc;
	struct audit_reader *reader;
	struct sha256 *sha;
	struct buf scratch;
	struct format_record record;
	struct format_chain chain;
	bool headed;
};

bool export_rows_open(const struct export_rows_options *o, struct export_rows **out, struct err *e)
{
	const struct alloc *alloc = o->alloc ? o->alloc : &mem_system;
	struct export_rows *x = mem_zero(alloc, sizeof(*x));
	struct audit_filter f = o->filter;
	uint64_t from, to;

	if (!x)
		return err_set(e, ERR_NOMEM, "no memory for an export");
	x->options = *o;
	x->alloc = alloc;
	buf_init(&x->scratch, *alloc, FORMAT_LEAF_MAX + 1);
	f.newest_first = f.openings = f.all = false;
	x->sha = x->chain.sha = sha256_new(e);
	x->record.chain = &x->chain;
	if (!x->sha || !audit_reader_open(o->folder, alloc, &x->reader, e) ||
	    !audit_reader_start(x->reader, &f, e)) {
		export_rows_close(x);
		return false;
	}
	audit_reader_left(x->reader, &from, &to);
	if (from >= to) {
		export_rows_close(x);
		return err_set(e, ERR_NOT_FOUND, "nothing to export: no record is in this range");
	}
	*out = x;
	return true;
}

void export_rows_close(struct export_rows *x)
{
	if (!x)
		return;
	audit_reader_close(x->reader);
	sha256_free(x->sha);
	buf_clear(&x->scratch);
	mem_free(x->alloc, x, sizeof(*x));
}

static bool write_row(struct export_rows *x, const struct audit_row *row, struct buf *out,
		      struct err *e)
{
	uint8_t hash[SHA256_LEN];
	char hex[2 * SHA256_LEN];

	tree_leaf_hash(x->sha, row->text, hash);
	text_hex(hash, sizeof(hash), hex);
	if (!format_record_read(&x->record, x->options.origin, row->text,
				(struct str){ hex, sizeof(hex) }, &x->scratch, e))
		return false;
	audit_format_line(x->options.format, &x->record, out);
	return true;
}

bool export_rows_next(struct export_rows *x, struct buf *out, bool *done, struct err *e)
{
	size_t end = out->n + EXPORT_ROWS_PIECE;

	*done = false;
	if (!x->headed && x->options.format->head)
		buf_add(out, str_c(x->options.format->head));
	x->headed = true;
	while (buf_ok(out) && out->n < end) {
		struct audit_row row;
		uint64_t from, to;
		bool got;

		if (!audit_reader_next(x->reader, SCAN, &row, &got, e))
			return false;
		if (!got) {
			audit_reader_left(x->reader, &from, &to);
			*done = from >= to;
			break;
		}
		if (!write_row(x, &row, out, e))
			return false;
	}
	return buf_ok(out) ? true : err_set(e, ERR_NOMEM, "no memory for a piece of the export");
}
