/*
 * workload - ask a SPIFFE Workload API, writ's or another's: one call, one message.
 *
 * Purpose    gRPC over HTTP/2 on a Unix socket, as the standard's Workload Endpoint has it: no TLS,
 * the security header on each call. Of a stream the first message is read, then it is over.
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

#endif
