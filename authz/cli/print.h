/*
 * print - what a person reads: safe text, tables, and values of a reply.
 *
 * Purpose    A reply holds names that others chose; none of them may move the cursor, change
 *            colours or turn the reading direction of a terminal.
 * Ownership  Borrows everything.
 * Threads    No state.
 */
#ifndef WRIT_CLI_PRINT_H
#define WRIT_CLI_PRINT_H

#include <stdio.h>

#include "authz/base/buf.h"
#include "authz/base/json.h"

/* Append @s with control characters, direction marks and malformed UTF-8 as '?'. */
void print_safe(struct buf *b, struct str s);
/* The same to a stream. */
void print_text(FILE *out, struct str s);
/* The bytes of the first character of @s, which is not empty, and the character; *shown: it is none
 * of those. */
size_t print_char(struct str s, uint32_t *c, bool *shown);
/* A Lua string: every byte that is not plain ASCII as an escape, so that the file is safe in any
 * editor and terminal. */
void print_lua(struct buf *b, struct str s);

/* A value in a person's words: a string bare, an array with commas, an object as name=value. */
void print_value(struct buf *b, const struct json *v);

/* "name: value" per member, nested objects as "outer.inner: value"; arrays of objects as a line
 * for each. */
void print_object(FILE *out, const struct json *v);

/* A table: a heading and the member of each object of @rows, columns as wide as needed. */
struct column {
	const char *heading, *member;
};
void print_table(FILE *out, const struct column *columns, size_t n, const struct json *rows,
		 bool heading);

/* Milliseconds or seconds are for machines: RFC 3339 of a number of ms, or the text itself. */
void print_time(struct buf *b, const struct json *v);

#endif
