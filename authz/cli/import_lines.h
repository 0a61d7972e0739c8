/*
 * import_lines - on which line of a Lua file an entry of `agents` begins.
 *
 * Purpose    Lua values do not know where they came from, and a message about one of a hundred
 *            thousand entries is of no use without its line.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_CLI_IMPORT_LINES_H
#define WRIT_CLI_IMPORT_LINES_H

#include <stdint.h>

#include "include/writ/str.h"

/* The line of the @index-th (from 1) table within the constructor of the global `agents`; 0 if it
 * is not written out there (made by a loop, say). */
int import_line_of(struct str text, uint64_t index);

#endif
