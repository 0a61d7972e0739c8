/*
 * prelude - every word a policy may use, and no other.
 *
 *   type tostring tonumber ipairs pairs select assert fail has any all glob cidr spiffe
 *   math.  abs ceil floor max min tointeger type maxinteger mininteger huge
 *   str.   lower upper sub len starts_with ends_with contains split trim join
 *   time.  between weekday minutes date
 *   path.  normal within
 *   url.   parse
 *
 * Purpose    No patterns, no coroutines, no pcall, no metatables, no clock, no randomness, no
 *            way to make code or to reach the outside. What works on texts charges by their
 *            length. pairs goes through keys in sorted order, so a decision cannot depend on
 *            the seed of Lua's hash.
 * Threads    As the state.
 */
#ifndef WRIT_POLICY_PRELUDE_H
#define WRIT_POLICY_PRELUDE_H

#include <lua.h>

#include "include/writ/str.h"

struct prelude_word {
	const char *name;
	lua_CFunction fn;
};

/* Build the vocabulary table with metatables, leave it on the stack. May raise. @host adds
 * words of its own (policy, permit ...; ends with a NULL name; may be NULL). */
void prelude_push(lua_State *L, const struct prelude_word *host);

/* Push a fresh environment for one file over the vocabulary at @words. May raise. */
void prelude_push_env(lua_State *L, int words);

/* Names for checks and for "did you mean": of globals, and of a table's members; NULL-ended. */
extern const char *const prelude_globals[];
const char *const *prelude_members(struct str table); /* NULL: no such table */

/* Freeze what the function at @index keeps between calls: tables among its upvalues become
 * read-only. Raises on what cannot be frozen. @memo: index of a table used for one file. */
void prelude_freeze(lua_State *L, int index, int memo);

/* Parts, by subject: each leaves a table (or sets words in the one on top). */
void prelude_open_str(lua_State *L);
void prelude_open_math(lua_State *L);
void prelude_open_time(lua_State *L);
void prelude_open_path(lua_State *L);
void prelude_open_url(lua_State *L);
void prelude_open_list(lua_State *L); /* has any all pairs, into the table on top */
void prelude_open_net(lua_State *L);  /* glob cidr spiffe, into the table on top */

/* Set the functions of @words (NULL-ended) in the table on top. */
void prelude_set(lua_State *L, const struct prelude_word *words);

/* Argument @i as text, charged by its length; raises unless it is a string. */
struct str prelude_text(lua_State *L, int i, const char *what);

#endif
