/*
 * grpc_front - ext_authz over gRPC: Envoy, Istio, agentgateway and what is built on them.
 *
 * Purpose    envoy.service.auth.v3.Authorization/Check. The answer is always a CheckResponse that
 *            allows or denies in so many words: a gRPC error would leave it to the proxy's
 *            failure_mode_allow.
 * Ownership  Everything lives in the call's arena; the call is finished once, here.
 * Threads    The thread of call->home.
 *
 * Settings of the route stand in context_extensions, by the names of check_setting. `gateway`,
 * `vhost` and names that begin with x- are the operator's own notes; any other name is refused, for
 * a misspelt setting would be none.
 */
#ifndef WRIT_EXTAUTHZ_GRPC_FRONT_H
#define WRIT_EXTAUTHZ_GRPC_FRONT_H

#include "authz/decide/worker.h"
#include "authz/net/call.h"

/* Answer @call, which @caller sent; both texts may be empty. */
void grpc_front_check(struct worker *w, struct call *call, const struct caller *caller,
		      struct str request_id, struct str trace_id);

/* Fill the reply to a Check that was refused before it came here (no credentials, no role). Then
 * call_finish. */
void grpc_front_refuse(struct call *call, const struct err *e);

#endif
