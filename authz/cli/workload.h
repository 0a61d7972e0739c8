/*
 * workload - ask a SPIFFE Workload API, writ's or another's: for one message, or for all that come.
 *
 * Purpose    gRPC over HTTP/2 on a Unix socket, as the standard's Workload Endpoint has it: no TLS,
 * the security header on each call. workload_ask reads the first message, then it is over;
 *            workload_follow stays.
 * Ownership  The message is appended to the caller's buf, whose bound is the message's.
 * Threads    One owner.
 */
#ifndef WRIT_CLI_WORKLOAD_H
#define WRIT_CLI_WORKLOAD_H

#include "authz/base/buf.h"
#include "include/writ/err.h"

#define WORKLOAD_REPLY_MAX ((size_t)4 * 1024 * 1024) /* what SPIFFE clients take */

/* @uri is "unix:///ABSOLUTE/PATH". @method is such as "FetchX509SVID". What the server refuses is
 * an error with the server's own words: PERMISSION_DENIED is ERR_FORBIDDEN, INVALID_ARGUMENT
 * ERR_INVALID, UNAVAILABLE ERR_UNAVAILABLE. */
MUST_USE bool workload_ask(const char *uri, const char *method, struct str request,
			   struct buf *message, struct err *e);

/* The same for a stream: @each is called for every message, which lives until it returns, and ends
 * it by returning false: true. False with @e: the server ended it, as above, or is gone
 * (ERR_UNAVAILABLE). Only the first message must come in time. */
MUST_USE bool workload_follow(const char *uri, const char *method, struct str request,
			      bool (*each)(void *ctx, struct str message), void *ctx,
			      struct err *e);

#endif
