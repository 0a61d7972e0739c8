/*
 * load - what the parts of the load generator share.
 *
 * Purpose    One thread drives many connections and measures; it must cost far less than what
 *            it measures, because both share the cores. Requests are bytes built beforehand; of
 *            an answer the length, the status, the expected text and, if the requests are gRPC,
 *            grpc-status are looked at.
 * Ownership  struct load owns everything below it; load_clear frees it.
 * Threads    One.
 */
#ifndef WRIT_TESTS_LOAD_H
#define WRIT_TESTS_LOAD_H

#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include "include/writ/err.h"
#include "include/writ/str.h"

#define LOAD_HEADERS_MAX 8
#define LOAD_NAME_MAX 64 /* bytes of a header's name */

struct options {
	struct sockaddr_storage address;
	socklen_t address_len;
	const char *to; /* as given */
	unsigned connections;
	unsigned streams; /* per HTTP/2 connection; 0: HTTP/1.1 */
	double seconds, warmup;
	uint64_t count; /* 0: by time */
	unsigned rate;	/* requests per second at fixed times; 0: as fast as they are answered */
	const char *method, *path, *body_file, *expect, *answers;
	const char *headers[LOAD_HEADERS_MAX];
	unsigned nheaders;
	bool typed, grpc; /* Content-Type is among them; it is gRPC's */
	bool tls;
	const char *cert, *key, *ca;
	bool quiet, tolerant;
};

/* Fills @o; an address that is neither loopback nor a Unix socket is refused. */
MUST_USE bool load_options_parse(struct options *o, int argc, char **argv, struct err *e);
void load_options_usage(FILE *to);

/* Latencies in buckets of 1/64 relative width, and counts. */
#define STATS_SUB 64
#define STATS_BUCKETS (STATS_SUB * 40)

struct stats {
	uint64_t buckets[STATS_BUCKETS];
	uint64_t requests, non_2xx, wrong, broken, reopened;
	uint64_t statuses[600];
	int64_t max_ns, sum_ns, began_ns, ended_ns;
};

void load_stats_add(struct stats *s, int64_t latency_ns);
double load_stats_us(const struct stats *s, double quantile);
void load_stats_print(const struct stats *s, const struct options *o);

/* A text that may hold one run of '@': it is overwritten with a number that differs from one
 * request to the next and starts with 1, so that it is a number in JSON as well as a text. */
struct template
{
	char *bytes;
	size_t n, at, width;
};
void load_number(char *bytes, const struct template *t, uint64_t number);

struct load {
	struct options o;
	struct template body;	 /* HTTP/2: the body */
	struct template request; /* HTTP/1.1: head and body */
	struct stats stats;
	struct lane *lanes;
	SSL_CTX *tls;
	FILE *answers;
	struct str expect;
	size_t expect_at; /* where it was in the last answer */
	int epoll;
	int64_t read_at; /* HTTP/2: when the bytes came that are looked at */
	uint64_t number; /* requests begun */
	uint64_t allowed;
	uint64_t inflight;
	unsigned open;
	bool measuring, stopping;
	struct lane **idle; /* rate mode: connections that may have a free slot */
	size_t nidle;
};

struct lane {
	struct load *load;
	int fd;
	SSL *ssl;
	bool want_write, closing;
	bool listed;	/* among load->idle */
	unsigned slots; /* requests at a time, as the server allows */
	unsigned inflight, reopenings;
	char *out;
	size_t out_n, out_at, out_cap;
	char *in;
	size_t in_n, in_cap;
	int64_t start; /* HTTP/1.1: of the one request in flight */
	struct h2 *h2;
};

int64_t load_now(void);

/* How a protocol version takes part. All return false if the connection is beyond use. */
bool load_h1_request(struct lane *c, int64_t start);
bool load_h1_readable(struct lane *c);
bool load_h2_open(struct lane *c); /* while it blocks; also if this fails, close is due */
void load_h2_close(struct lane *c);
bool load_h2_request(struct lane *c, int64_t start); /* queued; leaves with load_h2_flush */
bool load_h2_flush(struct lane *c);
bool load_h2_readable(struct lane *c);

/* Bytes in and out of a connection, TLS or not. */
bool lane_send(struct lane *c, const char *p, size_t n);
bool lane_flush(struct lane *c);
/* Room for @n more bytes of what lane_flush sends, to be filled at once. NULL: no memory. */
char *lane_room(struct lane *c, size_t n);
/* Returns bytes read, 0 if there are none now, -1 at the end or on error. */
ssize_t lane_receive(struct lane *c, char *p, size_t n);

struct answer {
	int status;
	int grpc; /* grpc-status; -1: none */
	struct str body;
	int64_t latency;
};

/* A request of @c was answered. */
void load_answered(struct lane *c, const struct answer *a);
/* A slot of @c is free: begin the next request, or park the slot. */
bool load_next(struct lane *c);

#endif
