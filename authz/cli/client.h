/*
 * client - a small blocking HTTP/1.1 client for writ's own interfaces.
 *
 * Purpose    One request per connection, over a Unix socket, plain HTTP to loopback, or TLS whose
 *            peer must present spiffe://<trust domain>/writ/server under a bundle we were given.
 *            The other end is not trusted to be sane: status line, headers, lengths and chunks
 *            are read strictly and within bounds, and a reply that ends early is an error.
 * Ownership  A reply is cleared by its caller. Targets and requests borrow their texts.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_CLI_CLIENT_H
#define WRIT_CLI_CLIENT_H

#include "authz/base/buf.h"
#include "include/writ/err.h"

#define CLIENT_HEADERS (16 * 1024)    /* bytes of status line and headers */
#define CLIENT_BODY (8 * 1024 * 1024) /* bytes of a body that is kept in memory */
#define CLIENT_TIMEOUT_MS 30000	      /* connect, and longest silence of the other end */
#define TARGET_NAME_MAX 300

enum target_kind { TARGET_UNIX, TARGET_HTTP, TARGET_HTTPS };

struct target {
	enum target_kind kind;
	char path[108]; /* of a Unix socket */
	char host[256]; /* without brackets */
	char port[6];
};

/* "unix:PATH", "http://LOOPBACK[:PORT]", "https://HOST[:PORT]"; nothing after the port but '/'. */
MUST_USE bool target_parse(const char *text, struct target *t, struct err *e);
/* The text a person knows the target by. */
const char *target_name(const struct target *t, char out[static TARGET_NAME_MAX]);

/* Who we are and whom we believe, for TLS; all may be NULL or empty. */
struct client_tls {
	const char *svid, *key; /* PEM files of our own X.509-SVID; both or neither */
	const char *bundle;	/* PEM file of the authorities of the server's trust domain */
	struct str anchors;	/* the same in memory; stands above the file */
};

struct client_request {
	const char *method, *path; /* path with its query, already encoded */
	struct str body;	   /* p == NULL: none */
	const char *type;	   /* of the body; NULL: JSON */
	/* Takes a body of status 200 bit by bit instead of keeping it; NULL: keep. */
	bool (*sink)(void *ctx, struct str bytes, struct err *e);
	void *ctx;
};

struct client_reply {
	int status;
	bool json;	 /* the body is declared to be JSON */
	struct buf body; /* all but what went to the sink */
};

/* Send and read. True: there is a whole reply, of whatever status. */
MUST_USE bool client_call(const struct target *t, const struct client_tls *tls,
			  const struct client_request *q, struct client_reply *r, struct err *e);

/* client_call, and any status but 2xx is an error: its class from the status, code and message
 * from the body's {"error":...}, or as OAuth has them. */
MUST_USE bool client_ask(const struct target *t, const struct client_tls *tls,
			 const struct client_request *q, struct client_reply *r, struct err *e);

void client_reply_clear(struct client_reply *r);

/* First contact over https: read the server's bundle without believing it, and append to @pem the
 * one authority in it whose SHA-256 is @fingerprint ("sha256:<hex>", or as openssl prints it). */
MUST_USE bool client_first_contact(const struct target *t, const char *fingerprint, struct buf *pem,
				   struct err *e);

/* Append @s as one component of a query (RFC 3986 unreserved kept, all else %XX). */
void client_encode(struct buf *b, struct str s);

#define AUTO_REPLY __attribute__((cleanup(client_reply_clear))) struct client_reply

#endif
