/*
 * value - data out of Lua: attributes, conditions, obligations.
 *
 * Purpose    What a policy file states as data is taken out of Lua once, as struct json, and is
 *            from then on plain immutable C.
 * Ownership  Lives in the arena that is handed in.
 * Threads    As the state.
 */
#ifndef WRIT_POLICY_VALUE_H
#define WRIT_POLICY_VALUE_H

#include <lua.h>

#include "authz/base/json.h"

/* Copy the value at @index. False: *why says what cannot be data. Never raises. */
MUST_USE bool value_from_lua(lua_State *L, int index, struct arena *a, struct json *out,
			     const char **why);

/* Equal scalars: type and value. Integral numbers have one type. */
bool value_equal(const struct json *a, const struct json *b);

/* Of a scalar: the same for equal ones. Another @seed is another hash. */
uint64_t value_hash(uint64_t seed, const struct json *v);

/* The canonical text in the arena; p == NULL without memory. */
struct str value_canonical(const struct json *v, struct arena *a);

#endif
