/*
 * export_rows - the records of a range in another format (format.h), piece by piece.
 *
 * Purpose    What export.h is for jsonl, this is for CSV, CEF, OCSF, OTLP and CloudEvents: a stream
 *            with bounded memory. It proves nothing, and so reaches up to the end of the log and
 *            leaves records out that the filter does not want. The range is fixed when it is
 *            opened: the same range gives the same bytes again.
 * Ownership  It owns its reader; the strs of the options must live as long.
 * Threads    One owner at a time, beside the writer.
 */
#ifndef WRIT_AUDIT_EXPORT_ROWS_H
#define WRIT_AUDIT_EXPORT_ROWS_H

#include "authz/audit/format.h"
#include "authz/audit/read.h"

#define EXPORT_ROWS_PIECE (64 * 1024) /* about what one call appends */

struct export_rows;

struct export_rows_options {
	const char *folder;
	struct str origin;		   /* of the log */
	const struct audit_format *format; /* not NULL */
	struct audit_filter filter;	   /* newest_first, openings and all are not used */
	const struct alloc *alloc;	   /* NULL: mem_system */
};

/* ERR_NOT_FOUND: there is no record in this range. */
MUST_USE bool export_rows_open(const struct export_rows_options *o, struct export_rows **out,
			       struct err *e);

/* Append the next piece to @out. *done after the last one. */
MUST_USE bool export_rows_next(struct export_rows *x, struct buf *out, bool *done, struct err *e);

void export_rows_close(struct export_rows *x);

#endif
