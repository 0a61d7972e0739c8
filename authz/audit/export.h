/*
 * export - the log, or a part of it, as one file that can be verified without this machine.
 *
 * Purpose    Write the JSON Lines file of FORMAT.md piece by piece, so that a server streams it
 *            with bounded memory. A part is a contiguous range, proven by hints; what a filter
 *            holds back stands in it as a leaf hash, so gaps show. A file never claims more than
 *            the signed checkpoint in its trailer covers.
 * Ownership  The export owns its reader; the strs of the options must live as long.
 * Threads    One owner at a time, beside the writer.
 */
#ifndef WRIT_AUDIT_EXPORT_H
#define WRIT_AUDIT_EXPORT_H

#include "authz/audit/read.h"

#define AUDIT_EXPORT_FORMAT "writ-audit-export/1"
#define AUDIT_EXPORT_PIECE (512 * 1024) /* about what one call appends, in one transaction */

struct audit_export;

struct audit_export_options {
	const char *folder;
	struct str vkey;	    /* of the log; goes into the header as a convenience */
	struct audit_filter filter; /* newest_first and all are not used */
	const struct alloc *alloc;
};

/* Fix the range and find the checkpoint it is proven by: take one (audit_checkpoint) before, if
 * the newest records are to be in it. ERR_NOT_FOUND: the range holds no checkpointed record. */
MUST_USE bool audit_export_open(const struct audit_export_options *o, struct audit_export **out,
				struct err *e);

/* SHA-256 of the header's line, without its newline: range, filters and counts of this export, to
 * be put on record before it is shown, so that they cannot be changed in it afterwards. False: no
 * memory. */
MUST_USE bool audit_export_manifest(struct audit_export *x, uint8_t hash[static SHA256_LEN],
				    struct err *e);

/* Append the next piece to @out. *done after the last one. */
MUST_USE bool audit_export_next(struct audit_export *x, struct buf *out, bool *done, struct err *e);

struct audit_export_counts {
	uint64_t first, count, size; /* [first, first + count) of a tree of @size */
	uint64_t withheld, openings;
};
void audit_export_counts(const struct audit_export *x, struct audit_export_counts *c);

void audit_export_close(struct audit_export *x);

#endif
