/*
 * reply - read one HTTP/1.1 response from a stream of bytes.
 *
 * Purpose    All knowledge of how a response is written: strict, bounded, blind to where the
 *            bytes come from, so tests and a fuzzer feed it without a socket. Bodies are framed
 *            by Content-Length or chunked, else by the end of the connection only if the server
 *            said "Connection: close"; anything else is refused, since a cut could not be told
 *            from an end.
 * Ownership  Borrows everything.
 * Threads    One owner.
 */
#ifndef WRIT_CLI_REPLY_H
#define WRIT_CLI_REPLY_H

#include "authz/cli/client.h"

struct reply_source {
	/* Up to @n bytes into @p; *got 0 at the end of the stream. */
	bool (*read)(void *ctx, char *p, size_t n, size_t *got, struct err *e);
	void *ctx;
};

/* Read status, headers and body of an answer to @q. r->body is set up by the caller. */
MUST_USE bool reply_read(const struct reply_source *source, const struct client_request *q,
			 struct client_reply *r, struct err *e);

#endif
