/*
 * sse - read server-sent events, as far as they have come.
 *
 * Purpose    The data of each event, one after the other, from a body that may still grow; an event
 *            counts once the blank line behind it is there. Names, ids, retries and comments of
 *            events are stepped over.
 * Ownership  Borrows the body; data is appended to the caller's buf.
 * Threads    No state but the reader's place.
 * Standards  WHATWG HTML 9.2.6 (event stream interpretation), with LF and CR LF as ends of lines.
 */
#ifndef WRIT_NET_SSE_H
#define WRIT_NET_SSE_H

#include "authz/base/buf.h"

struct sse {
	size_t at; /* bytes of the body that were read; begin with 0 */
};

/* The next event that has data: its lines, with LF between them, in @data, which is emptied before.
 * False: none is complete yet. @body begins as it did before. */
bool sse_next(struct sse *s, struct str body, struct buf *data);

#endif
