/*
 * yaml - read other programs' YAML (or JSON) as JSON values.
 *
 * Purpose    `writ doctor` looks into configurations of proxies, which are YAML. libyaml reads the
 *            syntax: a format of that size is not for a reader of our own, and nothing on a
 * server's path comes here. Plain scalars mean what YAML 1.2's JSON schema says (true, null,
 *            numbers); everything else is text. Anchors are followed, as far as the bound goes.
 *            Merge keys and keys that are not text are refused.
 * Ownership  Values live in the arena.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_CLI_YAML_H
#define WRIT_CLI_YAML_H

#include "authz/base/json.h"

#define YAML_BYTES_MAX (4 * 1024 * 1024) /* of a file, and of it as JSON */

/* *out is an array of the documents in @text. False: ERR_INVALID with line and reason, or
 * ERR_TOO_LARGE. */
MUST_USE bool yaml_read(struct str text, struct arena *a, const struct json **out, struct err *e);

#endif
