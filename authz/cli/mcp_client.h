/*
 * mcp_client - ask an MCP server which tools it has, over streamable HTTP.
 *
 * Purpose    The revision without sessions (2026-07-28) is tried first, then initialize with what
 *            came before; answers as JSON or as an event stream; all pages of the list. By the
 *            guarded fetcher: https, or http on this machine, every step within a deadline and a
 *            bound. A session that the server opened is ended.
 * Ownership  The list owns its texts.
 * Threads    Blocks; one owner.
 * Standards  MCP 2025-03-26 to 2026-07-28, basic/transports, basic/lifecycle, server/tools.
 */
#ifndef WRIT_CLI_MCP_CLIENT_H
#define WRIT_CLI_MCP_CLIENT_H

#include "authz/base/arena.h"
#include "authz/base/json.h"

#define MCP_PAGES_MAX 200	       /* of one list */
#define MCP_PAGE_MAX (8 * 1024 * 1024) /* bytes of one answer */
#define MCP_TIMEOUT_MS 15000	       /* of one request and its answer */

struct mcp_server {
	const char *url;
	const char *token;   /* sent as Authorization: Bearer; or NULL */
	const char *ca_file; /* PEM of the authorities of Web PKI; NULL: the system's */
};

struct mcp_tools {
	struct arena arena;
	const struct json **items; /* objects with names, none twice */
	size_t n;
	char revision[16]; /* that was spoken */
};

/* Whatever comes of it, mcp_tools_clear. Errors name the step: ERR_UNAUTHENTICATED "mcp_token" if a
 * token is wanted, "mcp_error", "mcp_answer", "mcp_revision", "mcp_redirect", those of fetch_post,
 * and "invalid_list". */
MUST_USE bool mcp_list_tools(const struct mcp_server *s, struct mcp_tools *out, struct err *e);
void mcp_tools_clear(struct mcp_tools *t);

/* The same by hand: an empty list, then a page after the other. *cursor as definition_list has it.
 */
MUST_USE bool mcp_tools_init(struct mcp_tools *t, struct err *e);
MUST_USE bool mcp_tools_add(struct mcp_tools *t, const struct json *page, struct str *cursor,
			    struct err *e);
MUST_USE bool mcp_tools_read(struct mcp_tools *t, struct str text, struct str *cursor,
			     struct err *e);

/* The answer with the number @id in a body of media type @type: a JSON-RPC response with result or
 * error, alone or among the events of a stream. NULL: not there, or not yet. */
const struct json *mcp_find_answer(const char *type, struct str body, int64_t id, struct arena *a);

#define AUTO_MCP_TOOLS __attribute__((cleanup(mcp_tools_clear))) struct mcp_tools

#endif
