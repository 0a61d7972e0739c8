/*
 * grpc_inside - a gRPC call's part of an exchange; for the files of the door only.
 *
 * Purpose    grpc.c reads (frames in, deadlines, what ends a call), grpc_reply.c writes (headers,
 *            messages, trailers). http2.c hands over at the marked places.
 * Ownership  The exchange keeps its room; grpc_close gives back timers and buffers.
 */
#ifndef WRIT_NET_GRPC_INSIDE_H
#define WRIT_NET_GRPC_INSIDE_H

#include <nghttp2/nghttp2.h>

#include "authz/net/conn.h"
#include "authz/net/grpc.h"

struct grpc_call {
	struct exchange *x;
	const struct grpc_events *events; /* it streams; else NULL */
	struct loop_timer deadline, wake, stall;
	enum grpc_status status; /* of the end */
	struct str message;
	bool settled; /* nobody changes the status any more */
	bool encoded; /* the client may compress: grpc-encoding says how */
	bool opened;  /* the response's headers have been submitted */
	bool over;    /* and its end */
	bool stopping;
	bool release;	   /* the request's memory, when the first message has left */
	uint64_t received; /* bytes of DATA */
	/* in: what came while the call was held, at most a window */
	struct buf waiting;
	bool held;
	bool taking; /* grpc_data or grpc_release is at work, further up */
	bool ended;  /* END_STREAM came while it was held */
	/* out: the message that is leaving, and the one behind it */
	uint8_t prefix[GRPC_PREFIX];
	struct str leaving; /* points into reply.body or `out` */
	bool busy;	    /* `leaving` is not gone yet */
	size_t sent;	    /* of prefix and message */
	struct buf out, next;
	bool has_next;
	int64_t moved_ns; /* when a byte last left, or the first began to wait */
};

/* ---- grpc.c, called by http2.c ---- */

/* The head is complete: is it a gRPC call? Then x->call.grpc is set, or the request is spoilt. */
void grpc_open(struct exchange *x);
/* DATA. Returns how many bytes of it wait: the client's window stays smaller by them. */
size_t grpc_data(struct exchange *x, struct str in);
void grpc_complete(struct exchange *x); /* END_STREAM */
void grpc_gone(struct exchange *x);	/* the stream is closed, the call pending; may free x */
void grpc_drain(struct exchange *x);
void grpc_close(struct exchange *x); /* the exchange goes back */

/* End a pending call from this side. */
void grpc_cut(struct grpc_call *g, enum grpc_status status, const char *why);

/* ---- http2.c ---- */

#define HTTP2_WINDOW (256 * 1024) /* bytes of one stream that a client sends ahead */

/* @n bytes of what waited are done with: the client may send as many more. */
void http2_consumed(struct exchange *x, size_t n);

/* Points at both texts, which nghttp2 reads until the block is submitted. */
nghttp2_nv http2_header(struct str name, struct str value);
/* The same for a value that does not come again: it stays out of HPACK's table. */
nghttp2_nv http2_header_once(struct str name, struct str value);

/* ---- grpc_reply.c ---- */

void grpc_answer(struct exchange *x);  /* the call is finished: for http2_answer */
void grpc_wipe(struct grpc_call *g);   /* give back the buffers of messages */
void grpc_forget(struct grpc_call *g); /* drop what has not begun to leave */
/* Count what is held for the call, in both directions. False: the server's limit is reached. */
bool grpc_charge(struct grpc_call *g);

#endif
