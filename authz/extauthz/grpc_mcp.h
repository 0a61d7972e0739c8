/*
 * grpc_mcp - agentgateway's hook for MCP: calls it has parsed, and lists it is about to send.
 *
 * Purpose    agentgateway.dev.ext_mcp.ExtMcp. CheckRequest judges one call like any other; its
 *            decision is a record. CheckResponse filters lists (list_filter.h) and lets all other
 *            results pass: it decides nothing.
 * Ownership  Everything lives in the call's arena; the call is finished once, here.
 * Threads    The thread of call->home.
 * Standards  ext_mcp.proto of agentgateway (fact sheet ext-authz 11.2).
 *
 * The agent is metadata `agent`, which the gateway computes (source.spiffeId), or a bearer JWT-SVID
 * among the headers. The tool server is metadata `server`, or the one name of the backend. Metadata
 * `definition_digest` is the setting of that name.
 */
#ifndef WRIT_EXTAUTHZ_GRPC_MCP_H
#define WRIT_EXTAUTHZ_GRPC_MCP_H

#include "authz/decide/worker.h"
#include "authz/net/call.h"

/* Answer @call, which @caller sent; both texts may be empty. Its path says which of the two. */
void grpc_mcp_check(struct worker *w, struct call *call, const struct caller *caller,
		    struct str request_id, struct str trace_id);

/* Fill the reply to a call that was refused before it came here. Then call_finish. */
void grpc_mcp_refuse(struct call *call, const struct err *e);

#endif
