/*
 * config_lines - on which line of a Lua file a setting was written.
 *
 * Purpose    Lua values do not know where they came from, and "line 14" is half of a good message.
 *            A light reader of table constructors notes the line of each key ("limits.body",
 *            "callers[2].role"). It never decides what a value is; that is Lua's business. What it
 *            does not understand it skips, and the message names the line of the nearest parent.
 * Ownership  Paths live in the arena.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_CONFIG_LINES_H
#define WRIT_CONFIG_LINES_H

#include "authz/base/arena.h"

#define CONFIG_LINES_MAX 4096 /* keys whose line is known; of later ones the parent's is */

struct config_line {
	struct str path;
	int line;
};
struct config_lines {
	struct config_line *items;
	size_t n;
	struct str twice; /* a key that stands twice in one constructor, or empty */
	int twice_line;
};

/* Read @text. Without memory fewer lines are known; nothing else fails. */
void config_lines_read(struct config_lines *l, struct str text, struct arena *a);

/* The line of @path or of its nearest known parent; 0 if none is known. */
int config_lines_find(const struct config_lines *l, struct str path);

#endif
