/*
 * access_log - Envoy's gRPC access log as a feed of outcomes and usage.
 *
 * Purpose    envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs. Envoy says of each
 *            request how it ended; the entry of one that stood on a permit of ours names it in its
 *            metadata, and closes it as POST /v1/audit/outcome and, where a filter counted tokens,
 *            POST /v1/usage would: by the same code, and with the same refusals, which nobody is
 *            there to be told and which are counted (writ_refused_total). Envoy waits for no answer
 *            and drops what it cannot send; nothing here makes it wait, or a decision.
 * Bounds     ACCESS_LOG_STREAMS streams and core->reports_max reports under way on one loop,
 *            ACCESS_LOG_SLOTS of one stream, ACCESS_LOG_TURN entries in one turn of the loop. What
 *            comes meanwhile is held back (grpc_hold), down to the proxy.
 * Ownership  A stream lives in its call's arena, each report in an arena of its slot.
 * Threads    The thread of call->home.
 */
#ifndef WRIT_EXTAUTHZ_ACCESS_LOG_H
#define WRIT_EXTAUTHZ_ACCESS_LOG_H

#include "authz/decide/worker.h"
#include "authz/net/call.h"

#define ACCESS_LOG_STREAMS 256
#define ACCESS_LOG_SLOTS 8
#define ACCESS_LOG_TURN 64

/* Serve @call, which @caller opened; log.db lies in @folder. All three outlive the call. */
void access_log_stream(struct worker *w, struct call *call, const struct caller *caller,
		       const char *folder, struct str trace_id);

#endif
