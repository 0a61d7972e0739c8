/*
 * agents - reading what an administrator says of an agent.
 *
 * Purpose    Registering, updating and importing read the same members in the same way.
 * Ownership  What is read borrows from the JSON and lives in the arena.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_SERVER_AGENTS_H
#define WRIT_SERVER_AGENTS_H

#include "authz/base/json.h"
#include "spiffe/registry.h"

/* A misspelt member would silently grant something else than was meant. @known: NULL-terminated. */
MUST_USE bool agents_only_known(const struct json *body, const char *const *known, struct err *e);

/* spiffe_id, owner, purpose, attributes, selectors, ttl, jwt_ttl, expires. */
MUST_USE bool agents_read_spec(const struct json *body, struct arena *a, struct registry_spec *out,
			       struct err *e);

#endif
