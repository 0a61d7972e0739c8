/*
 * http_front - ext_authz over HTTP: Envoy, Istio, nginx, Traefik, HAProxy, Caddy.
 *
 * Purpose    One path below /ext-authz/ for each proxy, with that proxy's habits: where it puts
 *            the original request, and which answers it understands.
 * Ownership  Everything lives in the call's arena; the call is finished once, here.
 * Threads    The thread of call->home.
 *
 *     /ext-authz/PROXY[,name=value ...][/original/path]
 *
 * PROXY is a row of the table in http_front.c; the settings are those of check_setting, in percent
 * codes where they need them. They stand in the path because it is the operator's: Caddy appends
 * the client's query to its own, and Envoy sends the client's query alone.
 */
#ifndef WRIT_EXTAUTHZ_HTTP_FRONT_H
#define WRIT_EXTAUTHZ_HTTP_FRONT_H

#include "authz/decide/worker.h"
#include "authz/net/call.h"

/* Answer @call, which @caller sent; both texts may be empty. */
void http_front_check(struct worker *w, struct call *call, const struct caller *caller,
		      struct str request_id, struct str trace_id);

#endif
