/*
 * sink_out - where a sink sends its pages; the private side of sink.h.
 *
 * Purpose    A table of operations per type of sink: how a record becomes part of a page, and how
 *            a page is handed over. `send` returns only when the other end has taken all of it,
 *            as far as its protocol can tell.
 * Threads    The sink's own.
 */
#ifndef WRIT_AUDIT_SINK_OUT_H
#define WRIT_AUDIT_SINK_OUT_H

#include <stdatomic.h>

#include "authz/audit/sink.h"
#include "authz/net/dial.h"

#define SINK_SEND_MS 10000 /* for one page */

/* A page under way. */
struct sink_page {
	struct buf text;
	size_t ends[SINK_PAGE_ROWS]; /* of each row in the text */
	size_t n;
	uint64_t first, last; /* records */
};

/* What the operations of a type share. */
struct sink_out {
	const struct sink_settings *settings;
	const struct sinks_config *config;
	const atomic_bool *stop;
	int fd;		       /* -1: not open */
	uint64_t dev, ino;     /* of the open file */
	struct dial_conn conn; /* syslog over TCP and TLS, to: */
	char host[256], port[6];
	size_t rows; /* in a page, at most; a receiver that finds it too large halves it */
	atomic_uint_fast64_t rejected; /* by the receiver, which took the rest */
};

struct sink_ops {
	/* Append @r to @page->text, the row number @page->n of it. */
	void (*append)(const struct sink_out *o, const struct format_record *r,
		       struct sink_page *page);
	MUST_USE bool (*send)(struct sink_out *o, struct sink_page *page, struct err *e);
};
extern const struct sink_ops sink_file_ops, sink_stdout_ops, sink_syslog_ops, sink_http_ops;

/* Until @fd is ready. False: the deadline (of o->config->clock), or a stop. */
MUST_USE bool sink_wait(const struct sink_out *o, int fd, short events, int64_t deadline_ns,
			struct err *e);

void sink_out_close(struct sink_out *o);

/* syslog: what stands before the record. */
void sink_syslog_head(const struct format_record *r, struct buf *out);

/* Standard Webhooks: "v1,<base64>" over "id.seconds.body", by the secret "whsec_<base64>". */
MUST_USE bool sink_sign(struct str secret, struct str id, int64_t seconds, struct str body,
			struct buf *out, struct err *e);

/* Is this file, which holds a secret, one that its owner alone can read and change? One that is not
 * there is for whoever reads it to tell. */
MUST_USE bool sink_owner_only(const char *path, struct err *e);

/* "unix:PATH", "udp:HOST:PORT", "tcp:HOST:PORT" or "tls:HOST:PORT". */
enum sink_address_kind { ADDRESS_UNIX, ADDRESS_UDP, ADDRESS_TCP, ADDRESS_TLS };
struct sink_address {
	enum sink_address_kind kind;
	char host[256]; /* or the path */
	char port[6];
};
MUST_USE bool sink_address_parse(const char *text, struct sink_address *a, struct err *e);

#endif
