/*
 * call - one HTTP request on its way down and its reply on the way back.
 *
 * Purpose    What a handler sees of a request, whichever door and HTTP version it came through.
 *            A handler reads the request, fills the reply and calls call_finish - at once, or
 *            later when a record is on disk or the signer has answered.
 * Ownership  The door owns the call. Everything a handler makes for it lives in call->arena,
 *            which the door resets after the reply is sent. The request itself, and what a handler
 *            needs only while it runs, lives in call->scratch: as long as the arena, unless the
 *            handler lets go of it. A call outlives its connection: if the client goes away while
 *            it is pending, call_finish still must be called once and the reply is dropped.
 * Threads    A call belongs to the thread of call->home; call_finish is called there. Others
 *            reach that thread by pushing a struct task to home->inbox.
 */
#ifndef WRIT_NET_CALL_H
#define WRIT_NET_CALL_H

#include <stdint.h>
#include <sys/types.h>

#include "authz/base/arena.h"
#include "authz/base/buf.h"
#include "authz/base/queue.h"
#include "include/writ/err.h"

struct call;
struct grpc_call;

struct http_header {
	struct str name; /* lower case */
	struct str value;
};

/* A door's listening socket, as configured. */
struct listener {
	const char *name;    /* "http", "https", "operators", "admin": for logs, records, metrics */
	const char *address; /* "127.0.0.1:8080" or a socket's path */
	bool loopback;	     /* a loopback address or a Unix socket */
	bool unix_socket;
	bool tls;
	bool processes; /* a Unix socket whose callers are told apart by process: see peer.started;
			 * HTTP/2 by prior knowledge only */
	bool web; /* with the certificate of Web PKI, and for what is open to everybody alone */
	const void *user; /* the fixed caller or other settings, for the handlers */
};

/* Who is at the other end, as far as the transport proves it. */
struct peer {
	const struct listener *listener;
	char address[64]; /* "127.0.0.1:51234"; "unix" for Unix sockets */
	pid_t pid;	  /* of a Unix peer, SO_PEERCRED; else -1 */
	uid_t uid;
	gid_t gid;
	/* When that process started, at listeners with .processes (net/process.h); 0: it cannot be
	 * seen. */
	uint64_t started;
	struct str spiffe_id;	     /* of a verified client certificate; else empty */
	int64_t expires_ms;	     /* of that certificate, wall clock */
	uint64_t generation;	     /* of the trust it was verified with, as the verifier counts */
	struct stack_st_X509 *chain; /* what the client sent, leaf first, to verify it again; or
				      * NULL. A STACK_OF(X509), without OpenSSL's headers here */
};

/* A thread that serves calls: a front loop, or an operators' thread. */
struct home {
	struct queue *inbox; /* of struct task */
	unsigned index;	     /* 0.. among front loops; for operators' threads 0 */
	void *worker;	     /* the state the handlers keep per thread; set by the wiring */
};

#define REPLY_HEADERS_MAX 8

struct reply {
	int status;	  /* 100..599; 0 means call_finish without an answer: a bug */
	const char *type; /* Content-Type, static; NULL: no body */
	size_t nheaders;
	struct buf body; /* in call->arena */
	bool close;	 /* close the connection after the reply */
	/* For long replies at the operators' door: called on a thread of its own, beside handlers
	 * of other calls, until it returns false; appends the next piece to @out. @e set: the
	 * connection is cut (never a clean end). */
	bool (*more)(struct call *c, struct buf *out, struct err *e);
	void (*done)(struct call *c); /* when `more` is set: the reply is over, whoever ended it */
	struct http_header headers[REPLY_HEADERS_MAX]; /* last: see exchange_new */
};

struct call {
	struct arena *arena;   /* until the reply is sent */
	struct arena *scratch; /* until then, or call_let_go; may be the same */
	struct home *home;
	const struct peer *peer;
	struct str method; /* verbatim; compare exactly */
	struct str target; /* as received, "/a/b?x=1" */
	struct str path;   /* target up to '?', not decoded, starts with '/' */
	struct str query;  /* target after '?', or empty */
	const struct http_header *headers;
	size_t nheaders;
	struct str body;
	int64_t started_ns;	       /* monotonic: first byte of the request */
	struct grpc_call *grpc;	       /* a gRPC call, see authz/net/grpc.h; else NULL */
	bool gone;		       /* the client went away: long work may stop early */
	bool let_go;		       /* see call_let_go */
	void (*finish)(struct call *); /* the door's own, behind call_finish */
	void *user;		       /* the handler's own */
	struct reply reply;	       /* last: see exchange_new */
};

/* The first header @name (lower case), or an empty str with p == NULL. */
struct str call_header(const struct call *c, struct str name);
/* How often header @name occurs. */
size_t call_header_count(const struct call *c, struct str name);

/* When the handler returns, and the reply has to wait, nobody will look at the request any more
 * (headers, body, method, path: all are empty then), nor at anything in call->scratch. While
 * hundreds of calls wait for the disk, the same few blocks serve all that are being read: they stay
 * in the processor's cache, which the calls' own would fall out of. */
void call_let_go(struct call *c);

/* Add a reply header; both texts must live as long as the call. */
void call_reply_header(struct call *c, struct str name, struct str value);

/* What comes with a 401 (RFC 9110 15.5.2). */
void call_challenge(struct call *c);

/* Set status and type and make reply.body an empty buf of at most @max bytes. */
void call_reply(struct call *c, int status, const char *type, size_t max);

/* Fill the reply with {"error":{"status","code","message"}} by @e's class, or with a @status
 * that no class stands for (405, 408, 414, 431). Reply headers set before are kept. A gRPC call
 * gets the grpc-status of the class instead. */
void call_fail(struct call *c, const struct err *e);
void call_fail_as(struct call *c, int status, const struct err *e);

/* The reason phrase of @status, "Unknown" for one we never send. */
struct str call_reason(int status);

/* Answer. The last thing a handler does with the call. */
void call_finish(struct call *c);

/* What a door calls for each complete request. */
struct handler {
	void (*handle)(void *ctx, struct call *c);
	void *ctx;
	/* A request the door itself refused (a malformed one, over a limit): for counting. */
	void (*refused)(void *ctx, const struct listener *l, const struct err *e);
	/* Fill the reply to a gRPC call that the door refused before it was whole, where an error
	 * would be taken for a broken server. False: no such method, a gRPC error it is. */
	bool (*deny)(void *ctx, struct call *c, const struct err *e);
};

#endif
