/*
 * ext_proc - Envoy's external processing: the answers to MCP's list requests, filtered.
 *
 * Purpose    envoy.service.ext_proc.v3.ExternalProcessor/Process. ext_authz sees requests only;
 *            this sees the answer of a request that ext_authz let pass, and takes out of a list
 *            what the agent has no business with (list_filter.h). Which request it was, whose, and
 *            which server's, stands in the metadata that our CheckResponse left in Envoy, so
 *            nothing is read, proven or decided a second time. All other traffic is let go after
 *            its first message. A list that cannot be read is not passed on: encoded, cut off,
 *            neither JSON nor an event stream, a batch, a stream that outlives the request. Then
 *            the client gets an immediate response, and the log a request.refused.
 * Ownership  Everything lives in the call's arena; the call is finished once, here.
 * Threads    The thread of call->home.
 */
#ifndef WRIT_EXTAUTHZ_EXT_PROC_H
#define WRIT_EXTAUTHZ_EXT_PROC_H

#include "authz/decide/worker.h"
#include "authz/net/call.h"

/* Serve @call, which @caller opened and which outlives the call. */
void ext_proc_stream(struct worker *w, struct call *call, const struct caller *caller);

/* Fill the reply to a call that was refused before it came here. Then call_finish. */
void ext_proc_refuse(struct call *call, const struct err *e);

#endif
