/* A small HTTP/2 client on nghttp2, over a plain or TLS socket, driven with the server's turns. */
#ifndef WRIT_TESTS_NET_H2CLIENT_H
#define WRIT_TESTS_NET_H2CLIENT_H

#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>

#include "tests/net/fixture.h"

#define H2_STREAMS 400

struct h2_reply {
	int status;
	char text[8192]; /* header lines "name: value\n", an empty line, the body */
	size_t n;
	size_t body_bytes; /* that came, also past the end of text */
	bool closed;
	uint32_t code;	  /* of the close */
	const char *body; /* to be sent */
	size_t body_n, sent;
	bool hold; /* do not end the body */
};

struct h2_client {
	struct net *t;
	nghttp2_session *session;
	int fd;
	SSL *ssl;
	struct h2_reply replies[H2_STREAMS]; /* by stream id / 2 */
	bool closed, goaway;
	int writes; /* reads of ours that found bytes: how often the server wrote */
};

extern bool h2_slow; /* a client that is opened now gives no window back by itself */

void h2_open(struct h2_client *c, struct net *t, const struct listener *l, SSL_CTX *tls);
void h2_close(struct h2_client *c);
/* Submit with these headers ("name", "value", ..., NULL); @body may be NULL. */
struct h2_reply *h2_send(struct h2_client *c, const char *const *headers, const char *body,
			 size_t n);
struct h2_reply *h2_get(struct h2_client *c, const char *path);
/* Serve and read until nothing more comes. */
void h2_pump(struct h2_client *c);
int32_t h2_id(const struct h2_client *c, const struct h2_reply *r);

#endif
