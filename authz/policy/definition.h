/*
 * definition - the definition of a tool, as an MCP server lists it: its digest, and what changed.
 *
 * Purpose    Agents and models see a tool as its server describes it, and a server may describe it
 *            otherwise tomorrow. The catalogue pins what was reviewed by its SHA-256; these are the
 *            digest, the lists that definitions come in, and a comparison that people can read.
 *            All members count, those that no revision knows too: whatever an agent or model may
 *            look at cannot change unseen. Nothing is left out, so nobody has to know what was.
 * Ownership  Everything lives in the caller's arena or borrows from the text that was parsed.
 * Threads    No state: call from any thread.
 * Standards  MCP 2024-11-05 to 2026-07-28, server/tools; RFC 8785 (canonical form).
 */
#ifndef WRIT_POLICY_DEFINITION_H
#define WRIT_POLICY_DEFINITION_H

#include "authz/base/digest.h"
#include "authz/base/json.h"

#define DEFINITION_DIGEST (7 + 2 * SHA256_LEN) /* bytes of "sha256:<hex>" */
#define DEFINITION_NAME_MAX 200		       /* bytes of a tool's name */
#define DEFINITIONS_MAX 2000		       /* tools of one list */

/* The canonical form of @tool and "sha256:<hex>" of it. p == NULL in both: no memory. */
struct definition {
	struct str name, text, digest;
};
struct definition definition_of(const struct json *tool, struct sha256 *sha, struct arena *a);

/* "sha256:" and 64 hexadecimal digits in lower case. */
bool definition_digest_ok(struct str s);

/* Read what holds a list of definitions: the result of tools/list, a JSON-RPC response with one, or
 * an array of tools. Every one of them must have a name, and none stands twice. *cursor: where the
 * server goes on; empty: that was all. Refused with ERR_INVALID "invalid_list"; a JSON-RPC error
 * with "mcp_error" and what it says. */
MUST_USE bool definition_list(const struct json *v, const struct json **tools, struct str *cursor,
			      struct err *e);

/* ---- what changed ---- */

struct definition_change {
	const char *how; /* "added", "removed", "changed" */
	struct str path; /* inputSchema.properties.url; names that are no identifiers in quotes */
	const struct json *was, *is; /* NULL: was not, is not there */
};
/* Tell @each every difference, in canonical order of the members, until it returns false. */
void definition_compare(const struct json *was, const struct json *is,
			bool (*each)(void *ctx, const struct definition_change *c), void *ctx);

/* The same in one line for a model and for logs, at most DEFINITION_CHANGES bytes: "description
 * changed, inputSchema.properties.url added, 3 more". The names in it are the server's own, and
 * whoever reads the line may do what it says: a name is shown if it is a short identifier, else as
 * "*", and values never. */
#define DEFINITION_CHANGES 200
void definition_changes(const struct json *was, const struct json *is, struct buf *out);

#endif
