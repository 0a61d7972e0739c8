/*
 * load - what the parts of the load generator share.
 *
 * Purpose    One thread drives many connections and measures; it must cost far less than what
 *            it measures, because both share the cores. Requests are bytes built beforehand, a
 *            reply is looked at as far as its length and its status need.
 * Ownership  struct load owns everything below it; load_clear frees it.
 * Threads    One.
 */
#ifndef WRIT_TESTS_LOAD_H
#define WRIT_TESTS_LOAD_H

#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include "include/writ/err.h"

#define LOAD_HEADERS_MAX 8

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
	int epoll;
	uint64_t number; /* requests begun */
	uint64_t allowed;
	uint64_t inflight;
	unsigned open;
	bool measuring, stopping;
	struct lane **idle; /* rate mode: connections with a free slot */
	size_t nidle;
};

struct lane {
	struct load *load;
	int fd;
	SSL *ssl;
	bool want_write, closing;
	unsigned inflight, reopenings;
	char *out;
	size_t out_n, out_at, out_cap;
	char *in;
	size_t in_n, in_cap;
	int64_t start; /* HTTP/1.1: of the one request in flight */
	nghttp2_session *h2;
	struct stream *streams; /* HTTP/2: all that were ever needed */
	struct stream *spare;
};

int64_t load_now(void);

/* How a protocol version takes part. All return false if the connection is beyond use. */
bool load_h1_request(struct lane *c, int64_t start);
bool load_h1_readable(struct lane *c);
bool load_h2_open(struct lane *c);
void load_h2_close(struct lane *c);
bool load_h2_request(struct lane *c, int64_t start); /* queued; leaves with load_h2_flush */
bool load_h2_flush(struct lane *c);
bool load_h2_readable(struct lane *c);

/* Bytes in and out of a connection, TLS or not. */
bool lane_send(struct lane *c, const char *p, size_t n);
bool lane_flush(struct lane *c);
/* Returns bytes read, 0 if there are none now, -1 at the end or on error. */
ssize_t lane_receive(struct lane *c, char *p, size_t n);

/* A request of @c was answered. */
void load_answered(struct lane *c, int status, struct str body, int64_t start);
/* A slot of @c is free: begin the next request, or park the slot. */
bool load_next(struct lane *c);

#endif
