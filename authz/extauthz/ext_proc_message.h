/*
 * ext_proc_message - the messages of Envoy's external processing, as far as they matter here.
 *
 * Purpose    Read a ProcessingRequest: which part of a request or response it is, and what writ's
 *            answer to the Check of that request left in Envoy's metadata. Write
 * ProcessingResponses. Fields that are not known are skipped. Ownership  What is read borrows from
 * the message. Threads    No state: call from any thread. Standards
 * envoy/service/ext_proc/v3/external_processor.proto,
 *            envoy/extensions/filters/http/ext_proc/v3/processing_mode.proto.
 */
#ifndef WRIT_EXTAUTHZ_EXT_PROC_MESSAGE_H
#define WRIT_EXTAUTHZ_EXT_PROC_MESSAGE_H

#include "authz/base/protobuf.h"

/* Numbers of the fields of ProcessingRequest's oneof. An answer to part n is field n - 1. */
enum proc_part {
	PROC_NONE = 0,
	PROC_REQUEST_HEADERS = 2,
	PROC_RESPONSE_HEADERS = 3,
	PROC_REQUEST_BODY = 4,
	PROC_RESPONSE_BODY = 5,
	PROC_REQUEST_TRAILERS = 6,
	PROC_RESPONSE_TRAILERS = 7,
};

/* ProcessingMode.BodySendMode */
enum proc_body_mode { PROC_BODY_NONE = 0, PROC_BODY_BUFFERED = 2 };

/* What the Check left (grpc_write.c). */
struct proc_checked {
	bool known; /* there is a decision */
	struct str decisions, agent, list, server, rpc_id, style;
};

struct proc_request {
	enum proc_part part;
	bool end_of_stream; /* of headers: there is no body; of a body: this is all of it */
	bool observed;	    /* observability_mode: nobody follows an answer */
	bool has_mode;	    /* protocol_config, in a stream's first message */
	int32_t response_body_mode;
	struct proc_checked checked;
	/* Of headers. p == NULL: there is none. */
	struct str status, content_type, content_encoding;
	bool twice; /* one of the three stands there twice */
	struct str body;
};

MUST_USE bool proc_read(struct str message, struct proc_request *out, struct err *e);

/* ---- answers; each is one ProcessingResponse ---- */

/* Go on. */
void proc_put_continue(struct buf *b, enum proc_part part);
/* Go on with a request whose answer can be read: without Accept-Encoding. */
void proc_put_plain(struct buf *b);
/* Go on with @body in place of the one that came, and without what described that one. */
void proc_put_body(struct buf *b, struct str body);
/* Answer the client with this instead. @body is JSON. */
void proc_put_immediate(struct buf *b, int status, struct str reason, struct str body);

#endif
