/*
 * scan - what can be said of a policy file without running it.
 *
 * Purpose    Two looks, each where it sees best. Over the tokens of the source: members of q that
 *            do not exist, attributes that no tool has, time zones, and constructs that this
 *            Lua compiles wrongly. Over the compiled code: names that are not known, writing to
 *            globals and to variables that live on between calls.
 * Ownership  Findings only.
 * Threads    No state.
 */
#ifndef WRIT_POLICY_SCAN_H
#define WRIT_POLICY_SCAN_H

#include "authz/policy/rules.h"

/* Over the tokens. Zones found are handed to @zone; @literal: named straight in a call of
 * time.*, so it must exist. Run after the catalogue was read. */
void scan_source(struct job *j, struct str text,
		 void (*zone)(struct job *j, struct str name, int line, bool literal));

/* Over the output of lua_dump of this very library. @words: names known besides the prelude's. */
void scan_dump(struct job *j, struct str dump, const char *const *words);

/* The lines that have code inside of functions, from the same; a line may come twice. */
void scan_lines(struct str dump, void (*line)(void *ctx, int line), void *ctx);

#endif
