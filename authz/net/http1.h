/*
 * http1 - a strict reader of HTTP/1.1 requests, and the writer of replies.
 *
 * Purpose    Bytes in, a request out; no I/O, so tests and fuzzers need no socket. Whatever could
 *            be read in two ways is refused (RFC 9112 11.2, request smuggling): header names that
 *            are not tokens, bare CR or LF, folded lines, doubled or differing Content-Length,
 *            Content-Length beside Transfer-Encoding, codings other than "chunked", chunk
 *            extensions, trailers, targets that are not a plain path. How the bytes were cut into
 *            pieces never changes the outcome.
 * Ownership  What a request holds lives in the arena given to http1_begin.
 * Threads    One owner at a time.
 */
#ifndef WRIT_NET_HTTP1_H
#define WRIT_NET_HTTP1_H

#include <stdint.h>

#include "authz/base/arena.h"
#include "authz/base/buf.h"
#include "authz/net/call.h"
#include "include/writ/err.h"

struct http1_limits {
	size_t head;	/* bytes of request line and headers */
	size_t url;	/* bytes of the target */
	size_t headers; /* header lines */
	size_t body;
};

enum http1_state {
	HTTP1_MORE,	/* all input was used, more is needed */
	HTTP1_CONTINUE, /* the client waits for "100 Continue" before it sends the body */
	HTTP1_DONE,	/* a whole request; input after *used belongs to the next */
	HTTP1_REFUSED,	/* answer r->status and close: what follows cannot be trusted */
};

struct http1 {
	/* The request, complete at HTTP1_DONE. At HTTP1_REFUSED: as far as it was read. */
	struct str method, target, path, query;
	struct http_header *headers;
	size_t nheaders;
	struct str body;
	struct str request_id; /* X-Request-ID, or empty */
	bool keep_alive;       /* the client and the version allow another request */
	bool head_only;	       /* HEAD: the reply has no body */
	int status;	       /* of HTTP1_REFUSED */

	/* private */
	const struct http1_limits *limits;
	struct arena *arena;
	struct buf head, text; /* bytes of the head; of a chunked or split body */
	size_t line;	       /* where the line being read starts in head */
	size_t scanned;	       /* no line end before this in head */
	size_t headers_cap;
	size_t want;	 /* body or chunk bytes still to come */
	unsigned digits; /* of a chunk's size, so far */
	int phase;
	bool minor0, has_host, has_length, chunked, expect, close, cr;
};

void http1_begin(struct http1 *r, const struct http1_limits *limits, struct arena *a);

/* Read on. *used: how much of @in belongs to this request. @e is set at HTTP1_REFUSED. */
enum http1_state http1_feed(struct http1 *r, struct str in, size_t *used, struct err *e);

/* Append status line, headers and (unless @head_only) body of c->reply. @request_id may be empty.
 */
void http1_write(struct buf *out, const struct call *c, struct str request_id, bool keep_alive,
		 bool head_only);

#endif
