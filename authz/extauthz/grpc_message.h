/*
 * grpc_message - the messages of envoy.service.auth.v3, as far as they matter here.
 *
 * Purpose    Read a CheckRequest: who asked the proxy, what for, and the operator's settings of
 *            the route. Write a CheckResponse. Envoy, Istio and agentgateway send and read them;
 *            fields that are not known are skipped, for newer proxies add some.
 * Ownership  What is read borrows from the message; lists live in the arena.
 * Threads    No state: call from any thread.
 * Standards  envoy/service/auth/v3/external_auth.proto and attribute_context.proto, and what they
 *            use of envoy/config/core/v3, envoy/type/v3, google.rpc and google.protobuf (fact sheet
 *            ext-authz 3 to 6).
 */
#ifndef WRIT_EXTAUTHZ_GRPC_MESSAGE_H
#define WRIT_EXTAUTHZ_GRPC_MESSAGE_H

#include "authz/extauthz/check.h"

#define GRPC_HEADERS_MAX 1000
#define GRPC_SETTINGS_MAX 64
/* A CheckResponse of ours is never larger: a body below 1 KiB, few headers. */
#define GRPC_RESPONSE_MAX (64 * 1024)

/* One entry of context_extensions. */
struct grpc_setting {
	struct str name, value;
};

struct grpc_described {
	bool http;     /* false: a TCP connection, of which there is nothing to read */
	struct str id; /* Envoy: a number; agentgateway: a traceparent */
	struct str method, host, scheme;
	struct str target;		   /* path and query, as sent */
	const struct http_header *headers; /* in lower case, without pseudo-headers */
	size_t nheaders;
	struct str body;
	bool body_as_text; /* bytes that are not UTF-8 have become others (sheet 1.6) */
	int64_t size;
	struct str principal;	/* source.principal: what the proxy verified; may be empty */
	struct str certificate; /* source.certificate: PEM in percent codes; may be empty */
	const struct grpc_setting *settings;
	size_t nsettings;
};

/* Read a CheckRequest. False: ERR_INVALID, "invalid_message" or "invalid_header", or
 * ERR_UNAVAILABLE; *out then means nothing. */
MUST_USE bool grpc_message_read(struct str message, struct arena *a, struct grpc_described *out,
				struct err *e);

/* Append @v as a CheckResponse. A verdict that cannot be written denies: see grpc_message_deny. */
void grpc_message_write(struct buf *b, const struct check_verdict *v);

/* Append a denial that needs nothing but @status (401, 403 ...) and a code for logs, in ASCII. */
void grpc_message_deny(struct buf *b, int status, struct str reason);

#endif
