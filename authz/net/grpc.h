/*
 * grpc - gRPC over the doors' HTTP/2: a message in, one message or many out.
 *
 * Purpose    A gRPC request comes to a handler like any other: as a struct call, whose body is the
 *            protobuf message without its five-byte prefix. A unary handler fills reply.body with
 *            a message and calls call_finish; call_fail answers with the grpc-status of the error's
 *            class. A handler that streams says so with grpc_stream and then sends messages as
 *            they come, from the thread of call->home, until it calls call_finish. Framing,
 *            compression flags, grpc-timeout, trailers and the client's cancelling are dealt with
 *            here (gRPC over HTTP/2, "PROTOCOL-HTTP2.md").
 *            A client that streams is held while its messages cannot be taken (grpc_hold): what it
 *            sends then waits, at most a window of it here and the rest at the client.
 * Ownership  As of a call. Messages that were sent are copied; at most two of one stream are kept:
 *            the one that is leaving and the newest. So each must say the whole state: a message
 *            that has not begun to leave is replaced by the next. A reader that takes nothing for
 *            send_ms is cut off (RESOURCE_EXHAUSTED).
 * Threads    The call's own.
 */
#ifndef WRIT_NET_GRPC_H
#define WRIT_NET_GRPC_H

#include "authz/net/call.h"

enum grpc_status {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_ALREADY_EXISTS = 6,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_ABORTED = 10,
	GRPC_OUT_OF_RANGE = 11,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_DATA_LOSS = 15,
	GRPC_UNAUTHENTICATED = 16,
};

#define GRPC_TYPE "application/grpc"
#define GRPC_PREFIX 5 /* bytes before a message: compressed?, length */

/* The status of a class of errors: the one table. */
enum grpc_status grpc_status_of(enum err_class class);

/* Answer with a status that no class stands for (UNIMPLEMENTED, NOT_FOUND of a front's own ...).
 * Then call_finish. Only for a call that has c->grpc. */
void grpc_fail(struct call *c, enum grpc_status status, const struct err *e);

/* Begin the reply of a unary call: an empty buf of at most @max bytes for the message. */
struct buf *grpc_reply(struct call *c, size_t max);

/* What happens to a streaming call. Any may be NULL but `ended`. */
struct grpc_events {
	/* A further message of the client; call->body is not touched, @message lives until this
	 * returns, or until grpc_release if the call is held then. NULL: one message is all that is
	 * accepted. */
	void (*message)(struct call *c, struct str message);
	/* The client has no more messages. It still reads. */
	void (*half_closed)(struct call *c);
	/* The time of grpc_wake_at has come. */
	void (*wake)(struct call *c);
	/* It is over: the client has gone or cancelled, its deadline has passed, or the server
	 * stops. Give up what is held for it and call call_finish; the status is settled. */
	void (*ended)(struct call *c);
};

/* From now on the call streams. Once, from the handler, before it returns. */
void grpc_stream(struct call *c, const struct grpc_events *events);

/* Take no further message, and no end of messages, until grpc_release. From the handler or from
 * events->message. */
void grpc_hold(struct call *c);
/* Go on; what has waited comes in before this returns, up to a message that holds again. */
void grpc_release(struct call *c);

/* Send @message now, or in place of the one that still waits. False: no room for it in what all
 * requests together may hold; end the call. */
MUST_USE bool grpc_send(struct call *c, struct str message);

/* The handler needs nothing of the request any more, and has nothing in c->arena: all of that is
 * given back when the next message has left. For streams that stay open for days. */
void grpc_release_request(struct call *c);

/* Have events->wake called at @mono_ns (by the loop's clock) or shortly after; the last one counts;
 * 0: not at all. */
void grpc_wake_at(struct call *c, int64_t mono_ns);

/* ---- its words; for tests and clients ---- */

/* grpc-timeout: 1 to 8 digits and a unit of "HMSmun". *ns INT64_MAX: longer than matters. */
MUST_USE bool grpc_timeout_parse(struct str text, int64_t *ns);

/* grpc-message: UTF-8 in printable ASCII, everything else as %XX. */
void grpc_percent(struct buf *b, struct str text);

#endif
