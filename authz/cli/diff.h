/*
 * diff - two texts side by side, line by line, as `diff -u` writes it.
 *
 * Purpose    What changed in the sources of two generations, for people.
 * Ownership  Borrows both texts.
 * Threads    No state.
 */
#ifndef WRIT_CLI_DIFF_H
#define WRIT_CLI_DIFF_H

#include "authz/base/buf.h"

/* Append the hunks that turn @a into @b; nothing if they are equal. Lines are made safe for a
 * terminal. Texts that are too different to compare cheaply are shown as one hunk. False: no
 * memory. */
MUST_USE bool diff_lines(struct buf *out, struct str a, struct str b);

#endif
