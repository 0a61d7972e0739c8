/*
 * export_file - an export as lines, for tests that do to it what an attacker would.
 *
 * Purpose    Make one from a log, change it line by line, join it, verify it.
 * Ownership  The file owns its lines.
 * Threads    One test at a time.
 */
#ifndef WRIT_TESTS_AUDIT_EXPORT_FILE_H
#define WRIT_TESTS_AUDIT_EXPORT_FILE_H

#include "authz/audit/export.h"
#include "authz/audit/verify.h"
#include "tests/audit/fixture.h"

#define FILE_LINES 400

struct export_file {
	char *line[FILE_LINES]; /* without newline */
	size_t n;
};

/* Export what @filter says; the test fails if it cannot. */
void file_make(struct export_file *x, struct fixture *f, const struct audit_filter *filter);
void file_clear(struct export_file *x);

/* The line of record number @i of the file (from 0), and how many lines it has with its
 * openings. */
size_t file_record(const struct export_file *x, size_t i, size_t *lines);
size_t file_records(const struct export_file *x);

void file_delete(struct export_file *x, size_t at, size_t n);
void file_insert(struct export_file *x, size_t at, const char *line);
/* Replace the first @from in line @at by @to; the test fails if it is not there. */
void file_edit(struct export_file *x, size_t at, const char *from, const char *to);
/* Chain all records anew, from record @i on. */
void file_rechain(struct export_file *x, struct fixture *f, size_t i);

void file_join(const struct export_file *x, struct buf *out);
void file_verify(const struct export_file *x, const struct verify_options *o,
		 struct verify_report *r);

#endif
