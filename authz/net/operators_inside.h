/*
 * operators_inside - the inside of the operators' door, for its own files only.
 *
 * Purpose    An opcall is a request between libmicrohttpd's thread and the home thread. It is in
 *            one of the two's hands at a time: libmicrohttpd reads the request, suspends the
 *            connection and pushes the opcall; home runs the handler and resumes; libmicrohttpd
 *            sends. For a streamed reply it goes to and fro once per piece, between libmicrohttpd
 *            and the thread of streams, which stands back further: an export has no end in sight,
 *            and neither decisions nor other operators are to wait for it. So nothing in an opcall
 *            needs a lock: the queue one way and MHD_resume_connection the other are the fences.
 * Ownership  An opcall is made when its request line is read and freed when libmicrohttpd says
 *            the request is over (by home, if it has a streamed reply to wind up). A client is
 *            one connection's peer, and outlives its opcalls.
 * Threads    See above.
 */
#ifndef WRIT_NET_OPERATORS_INSIDE_H
#define WRIT_NET_OPERATORS_INSIDE_H

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "authz/net/operators.h"

#define OPERATORS_HEAD (16 * 1024) /* memory per connection, and so the most of a head */
#define OPERATORS_PIECE (64 * 1024)
#define OPERATORS_REQUEST_S 30 /* from the request line to the last byte of the body */

struct opdoor {
	struct operators *o;
	const struct listener *listener;
	struct MHD_Daemon *daemon;
	int fd;
	unsigned port;
	struct opdoor *next;
};

/* A thread that runs tasks until it is told to end. */
struct opthread {
	struct queue *inbox;
	pthread_t thread;
	struct task end;
	bool started;
	bool ended; /* its own */
};

struct operators {
	struct operators_settings settings;
	struct alloc alloc;
	struct operators_limits limits;
	struct home home;
	struct opdoor *doors;
	struct opthread handlers; /* the home thread */
	struct opthread streams;  /* makes the pieces of streamed replies */
	bool stopped;
	struct opcall *first;	 /* in home's hands; home's own */
	struct task cut;	 /* home gives back all it has */
	atomic_bool draining;	 /* no request is handed over any more */
	atomic_bool cutting;	 /* streams are cut */
	atomic_size_t in_flight; /* bytes of bodies */
	atomic_size_t active;	 /* opcalls */
};

/* One connection. */
struct opclient {
	struct operators *o;
	struct peer peer;
	struct tls_identity *identity;
	STACK_OF(X509) * chain;
};

enum opstate { OP_NEW, OP_READING, OP_HOME, OP_BACK, OP_SENT };

struct opcall {
	struct call call; /* first */
	struct task task; /* to home or streams */
	struct arena arena;
	struct opdoor *door;
	struct opclient *client;
	struct peer peer; /* a copy: the call may outlive its connection */
	struct MHD_Connection *connection;
	struct opcall *prev, *next; /* of operators.first */
	enum opstate state;
	struct buf body;
	size_t dropped; /* body bytes of a request already refused */
	struct str request_id;
	int refuse; /* status, or 0 */
	struct err why;
	bool handed, finished, orphan;
	struct buf piece; /* of a streamed reply */
	size_t piece_at;
	bool last; /* this is the last piece */
	bool broken;
};

/* operators.c */
void operators_push(struct operators *o, struct task *t);	/* to home */
void operators_push_piece(struct operators *o, struct task *t); /* to streams */
void operators_handle(struct task *t);				/* home: run the handler */
void operators_piece(struct task *t);				/* streams: make the next piece */
void operators_over(struct task *t);				/* home: wind up a streamed reply */
void opcall_free(struct opcall *x);

/* operators_call.c: libmicrohttpd's callbacks; the first argument is the opdoor */
void *operators_uri(void *cls, const char *uri, struct MHD_Connection *connection);
enum MHD_Result operators_access(void *cls, struct MHD_Connection *connection, const char *url,
				 const char *method, const char *version, const char *data,
				 size_t *n, void **con_cls);
void operators_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
			 enum MHD_RequestTerminationCode why);

/* operators_tls.c */
void operators_tls_begin(struct opclient *c, gnutls_session_t session);
int operators_tls_certificate(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
			      gnutls_pcert_st **certs, unsigned int *ncerts,
			      gnutls_ocsp_data_st **ocsp, unsigned int *nocsp,
			      gnutls_privkey_t *key, unsigned int *flags);

#endif
