/*
 * event_stream - server-sent events, taken apart and put together again.
 *
 * Purpose    MCP servers answer with application/json or with a stream of events, one JSON-RPC
 *            message each. To change a message on its way, the others must leave as they came.
 * Ownership  What is read borrows from the text, but for the data of an event that came in several
 *            lines, which is put together in the arena.
 *            A byte order mark at the beginning of a stream is the caller's to take off.
 * Threads    No state: call from any thread.
 * Standards  HTML Living Standard 9.2.5 and 9.2.6 (parsing and interpreting an event stream).
 */
#ifndef WRIT_EXTAUTHZ_EVENT_STREAM_H
#define WRIT_EXTAUTHZ_EVENT_STREAM_H

#include "authz/base/arena.h"
#include "authz/base/buf.h"

struct event {
	struct str raw;	 /* all its lines, with the empty one at its end if it is there */
	struct str data; /* its lines joined with U+000A; empty: nobody is told of such an event */
};

/* The next event of @text, which becomes what is behind it. False at the end, or without memory
 * (then *text is not empty). Lines behind the last empty one are an event too: a client that
 * does not throw them away would read it. */
bool event_next(struct str *text, struct arena *a, struct event *out);

/* Append @e with @data in place of its own; what else it says stays. */
void event_put(struct buf *b, const struct event *e, struct str data);

#endif
