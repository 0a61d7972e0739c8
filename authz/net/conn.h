/*
 * conn - the inside of the agents' door: connections, exchanges, and a server's part per loop.
 *
 * Purpose    For the files of the door only. A shard is what the server has on one loop. A conn is
 *            one socket; an exchange is one call with its arena and what its HTTP version keeps,
 *            and a room is where its request is read into.
 * Ownership  Conns, exchanges and rooms come from the shard's free lists and go back there. An
 * exchange that is pending when its socket dies keeps its conn (and so call->peer) alive until
 *            call_finish: `pending` counts them.
 * Threads    All of a shard belongs to its loop's thread, except the server's atomics.
 */
#ifndef WRIT_NET_CONN_H
#define WRIT_NET_CONN_H

#include <stdatomic.h>
#include <sys/socket.h>

#include "authz/base/tally.h"
#include "authz/net/http1.h"
#include "authz/net/http2_mem.h"
#include "authz/net/server.h"
#include "authz/net/tls.h"

#define READ_SIZE (64 * 1024) /* bytes taken from a socket at once */
#define OUT_SOFT (256 * 1024) /* bytes of replies built before they are sent */
#define KEEP_EXCHANGES 1024   /* on a shard's free list: HTTP/2 has that many under way */
#define KEEP_CONNS 256
#ifdef __SANITIZE_ADDRESS__
#define KEEP_ROOMS 0 /* who looks at what it has let go of is found out */
#else
#define KEEP_ROOMS 64
#endif
#define LINGER_MS 1000 /* after a refusal, for the client to read it */
#define GRACE_MS 250   /* while draining, for what is not a whole request yet; and to linger */

struct conn;
struct http2;
struct nghttp2_session;

enum conn_state {
	CONN_HANDSHAKE, /* TLS */
	CONN_DETECT,	/* plain: HTTP/1 or HTTP/2? */
	CONN_HTTP1,
	CONN_HTTP2,
	CONN_LINGER, /* all is said; input is thrown away until the client closes */
	CONN_DEAD,   /* the socket is closed; waits for pending calls */
};

/* call->scratch: the request, and what its handler needs while it runs. */
struct room {
	struct arena arena;
	struct room *next; /* of the free list */
};

struct exchange {
	struct call call; /* first: call_finish turns a call into its exchange */
	struct arena arena;
	struct room *room;	/* NULL: let go */
	struct grpc_call *grpc; /* room for call.grpc, once it was needed */
	struct conn *conn;
	struct exchange *prev, *next; /* of the connection's streams; next of the free list */
	struct str request_id;
	size_t charged; /* bytes counted in shard->in_flight */
	bool handed;	/* to the handler */
	bool handing;	/* the handler is being called right now */
	bool finished;	/* by the handler */
	bool head_only;
	struct http1 http1;
	struct { /* of an HTTP/2 stream; all before `why` starts as zero */
		int32_t id;
		struct buf body;
		struct http_header *all; /* call.headers, while they are read */
		size_t headers_cap, head_bytes, sent;
		uint64_t length; /* Content-Length, if has_length */
		int64_t answered_ns;
		struct str authority; /* p == NULL: not given */
		bool has_length, has_host, has_scheme, regular, trailers;
		bool complete; /* END_STREAM has come */
		bool closed;   /* by either side; the exchange waits for call_finish */
		int refuse;    /* status to refuse with; 0: none */
		struct err why;
	} h2;
};

struct conn {
	struct loop_watch watch;
	struct loop_timer timer;
	struct loop_later later;
	struct shard *shard;
	struct conn *prev, *next; /* of shard->conns; next of the free list */
	enum conn_state state;
	struct peer peer;
	struct tls_session *tls;
	struct http2 *h2;
	struct exchange *current; /* HTTP/1: being read or served */
	size_t pending;		  /* calls handed out and not finished */
	struct buf in;		  /* read but not yet understood */
	struct buf unsent;
	size_t unsent_at;
	int64_t moved_ns; /* when a byte of unsent last left */
	bool readable;	  /* the socket may have more: it is edge-triggered */
	bool writable;	  /* no EPOLLOUT is awaited */
	bool hangup;	  /* an end of file is under way */
	bool eof;	  /* the client sends no more */
	bool close;	  /* once all replies are sent */
	bool linger;	  /* then wait for the client to close */
	bool counted;	  /* among its user's connections */
};

struct door {
	struct loop_watch watch;
	struct loop_timer retry;
	struct shard *shard;
	const struct listener *listener;
	struct door *next;
	unsigned port;
	bool watched;
};

struct shard {
	struct server *server;
	struct loop *loop;
	struct task drain;
	struct door *doors;
	struct conn *conns, *free_conns;
	struct exchange *free_exchanges;
	struct room *free_rooms;
	size_t nfree_conns, nfree_exchanges, nfree_rooms;
	struct http2_mem http2_mem;
	struct tally users; /* connections of each, at a listener with .processes */
	struct buf out;	    /* replies of the connection being served */
	char *read;	    /* READ_SIZE bytes */
	bool draining;
	/* Written by this shard only, read by others. */
	atomic_size_t in_flight; /* bytes of requests */
	atomic_uint_fast64_t requests;
};

struct server {
	struct server_settings settings;
	struct alloc alloc;
	struct server_limits limits;
	struct http1_limits http1;
	struct shard *shards;
	size_t nshards;
	atomic_bool draining;
	atomic_size_t connections;
	atomic_uint_fast64_t accepted, turned_away, refused;
};

/* exchange.c */
size_t server_in_flight(const struct server *s);
struct exchange *exchange_new(struct conn *c);
void exchange_free(struct exchange *x);
/* Nobody looks at the request, nor at anything in call->scratch, any more. */
void exchange_let_go(struct exchange *x);
void exchange_clear(struct shard *s); /* its free exchanges and rooms, for good */
/* Count @bytes as x's; false when all requests together are over the limit. */
bool exchange_charge(struct exchange *x, size_t bytes);
/* Does the client's certificate still hold? Asked before each request, and each further message of
 * one that streams. Without one there is nothing to ask. */
bool exchange_proven(struct exchange *x, struct err *e);
/* Hand the request to the handler (or answer 401 for it). True: the reply is there already. */
bool exchange_hand(struct exchange *x);
/* Fill the reply with the door's own refusal, and count it. */
void exchange_refuse(struct exchange *x, int status, const struct err *e);
/* Make the reply of a finished call ready to be written: whole and with a status. */
void exchange_seal(struct exchange *x);

/* conn.c */
void conn_open(struct shard *s, const struct listener *l, int fd,
	       const struct sockaddr_storage *from);
void conn_close(struct conn *c); /* at once; may free it */
void conn_free(struct conn *c);
void conn_drain(struct conn *c);
void conn_wake(struct conn *c); /* serve it at the end of the turn */
void conn_deadline(struct conn *c, int64_t ms);

/* conn_http1.c: use @in, as far as possible now; *used of it is done with. */
void conn_http1(struct conn *c, struct str in, size_t *used);
void conn_http1_finish(struct conn *c); /* write the reply that has come, if it has */
/* The deadline passed. True: serve on (there may be something to send); false: close. */
bool conn_http1_timeout(struct conn *c);

/* http2.c */
bool http2_open(struct conn *c);
void http2_close(struct conn *c);
bool http2_read(struct conn *c, struct str in); /* false: cut the connection */
bool http2_has_more(const struct conn *c); /* http2_write stopped because shard->out was full */
bool http2_write(struct conn *c);	   /* fill shard->out */
bool http2_over(const struct conn *c);	   /* nothing more to read or write */
void http2_drain(struct conn *c);
void http2_answer(struct exchange *x); /* the call is finished */
bool http2_timeout(struct conn *c);    /* as conn_http1_timeout */
struct nghttp2_session *http2_session(const struct conn *c);

/* http2_message.c */
/* The stream's request breaks a rule: it is refused once its head has been read. */
void http2_spoil(struct exchange *x, int status, enum err_class class, const char *code,
		 const char *msg);
void http2_read_header(struct exchange *x, struct http_header h);
void http2_check_head(struct exchange *x); /* all headers are there */

#endif
