/*
 * response - read one HTTP/1.1 response from a stream of bytes.
 *
 * Purpose    All knowledge of how a response is written: strict, bounded, blind to where the
 *            bytes come from, so tests and a fuzzer feed it without a socket. Bodies are framed
 *            by Content-Length or chunked, else by the end of the connection only if the server
 *            said "Connection: close"; anything else is refused, since a cut could not be told
 *            from an end. `writ` on the command line and the fetcher (fetch.h) both read by it.
 * Ownership  Borrows everything; the caller sets up r->body with its bound, and clears it.
 * Threads    One owner.
 */
#ifndef WRIT_NET_RESPONSE_H
#define WRIT_NET_RESPONSE_H

#include "authz/base/buf.h"
#include "include/writ/err.h"

#define RESPONSE_HEADERS (16 * 1024) /* bytes of status line and headers */
#define RESPONSE_TYPE_MAX 127	     /* bytes of a media type that is kept */
#define RESPONSE_LOCATION_MAX 2047   /* bytes of a Location that is kept */
#define RESPONSE_KEPT_MAX 1023	     /* bytes of the header that is asked for */

struct response_source {
	/* Up to @n bytes into @p; *got 0 at the end of the stream. */
	bool (*read)(void *ctx, char *p, size_t n, size_t *got, struct err *e);
	void *ctx;
};

struct response_want {
	/* Takes a body of status 200 bit by bit instead of keeping it; NULL: keep. */
	bool (*sink)(void *ctx, struct str bytes, struct err *e);
	void *ctx;
	/* Asked whenever more of a body of status 200 was kept: is this all that is wanted? Then
	 * the rest is not read. NULL: never. */
	bool (*enough)(void *ctx, struct str body);
	const char *keep; /* name of a header whose value is kept, lower case; NULL: none */
	const char *hint; /* ends the sentence of a malformed answer: "; is this ...?"; or NULL */
};

struct response {
	int status;
	bool json;			  /* the body is declared to be application/json */
	bool encoded;			  /* it has a Content-Encoding other than identity */
	char type[RESPONSE_TYPE_MAX + 1]; /* media type, lower case, no parameters; "": none */
	char location[RESPONSE_LOCATION_MAX + 1]; /* "": none, or longer than that */
	char kept[RESPONSE_KEPT_MAX + 1];	  /* "": the header is not there */
	bool cut;				  /* it was enough: the rest was not read */
	struct buf body;			  /* all but what went to the sink */
};

/* Read status, headers and body. A malformed answer is ERR_INTERNAL "bad_response", one that ends
 * early ERR_UNAVAILABLE "truncated_response", a body over its bound ERR_TOO_LARGE. */
MUST_USE bool response_read(const struct response_source *source, const struct response_want *want,
			    struct response *r, struct err *e);

#endif
