/* A server that follows a script: takes one connection, reads the head of a request, sends what it
 * was told to in pieces of a given size, hangs up. Optionally inside TLS. */
#ifndef WRIT_TESTS_CLI_SERVER_H
#define WRIT_TESTS_CLI_SERVER_H

#include <openssl/ssl.h>
#include <pthread.h>

#include "authz/cli/client.h"

struct scripted {
	struct str answer;
	const struct str *next; /* of the connections after the first; NULL: the same answer */
	size_t piece;		/* bytes per send; 0: all at once */
	SSL_CTX *tls;		/* or NULL */
	int connections;	/* to serve, one after the other */
	/* out */
	struct target target;
	char request[65536]; /* the last one, NUL-terminated */
	char first[1024];    /* the beginning of the first one */
	/* private */
	int listener;
	pthread_t thread;
	char folder[64];
};

/* On a Unix socket, or with @tls on a loopback port. */
void scripted_start(struct scripted *s);
/* Waits for the script to end. */
void scripted_stop(struct scripted *s);

#endif
