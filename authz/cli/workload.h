/*
 * workload - ask a SPIFFE Workload API, writ's or another's: for one message, or for all that come.
 *
 * Purpose    gRPC over HTTP/2 on a Unix socket, as the standard's Workload Endpoint has it: no TLS,
 *            the security header on each call. workload_ask reads the first message, then it is
 *            over; workload_follow stays, with several streams on one connection.
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

#define WORKLOAD_STREAMS 2 /* on one connection */
#define WORKLOAD_ENOUGH ((int64_t)-1)

struct workload_stream {
	const char *method;
	struct str request;
	/* A message, which lives until this returns. False: enough of all streams. */
	bool (*each)(void *ctx, struct str message);
};

struct workload_follow {
	struct workload_stream streams[WORKLOAD_STREAMS];
	size_t n;
	void *ctx;
	/* NULL, or called once the first messages of all streams are there, then whenever something
	 * came and when the seconds that it returned are over. WORKLOAD_ENOUGH ends it. */
	int64_t (*turn)(void *ctx);
};

/* The same for streams: true when one of the calls found that it was enough. False with @e: the
 * server ended one of them, as above, or is gone (ERR_UNAVAILABLE). Only first messages must come
 * in time. */
MUST_USE bool workload_follow(const char *uri, const struct workload_follow *f, struct err *e);

#endif
