/*
 * sink - follow the log: send each record, in order, to where the organisation collects them.
 *
 * Purpose    A file, standard output, syslog (RFC 5424), a signed webhook, OTLP over HTTP. A sink
 *            is a reader of the log with a stored cursor, and nothing more: what decides and what
 *            writes the log do not know it. It reads a page, sends it, waits until the other end
 *            has taken it, and only then moves its cursor; so a sink that is down for days loses
 *            nothing, slows nothing, and holds one page in memory. After a crash the last page may
 *            come twice: every row has the record's number, receivers drop what they have.
 * Ownership  The settings are borrowed and outlive the sinks.
 * Threads    One thread per sink, so that none waits for another. sinks_open and sinks_close from
 *            one thread; sinks_status from any.
 *
 *	sinks_open(&config, &sinks, &e);  ...  sinks_close(sinks);
 */
#ifndef WRIT_AUDIT_SINK_H
#define WRIT_AUDIT_SINK_H

#include "authz/audit/format.h"
#include "authz/base/clock.h"

#define SINK_NAME_MAX 32
#define SINKS_MAX 16
#define SINK_PAGE_ROWS 256
#define SINK_PAGE_BYTES ((size_t)256 * 1024) /* and one row more */
#define SINK_POLL_MS 250		     /* at the end of the log */
#define SINK_BACKOFF_MS 1000		     /* after the first failure, then doubled, ... */
#define SINK_BACKOFF_MAX_MS 300000	     /* ... up to five minutes */

enum sink_type { SINK_FILE, SINK_STDOUT, SINK_SYSLOG, SINK_WEBHOOK, SINK_OTLP, SINK_TYPES };
extern const char *const sink_type_names[SINK_TYPES + 1]; /* "file" ..., NULL */

struct sink_settings {
	const char *name; /* [a-z0-9-], 1 to 32; its cursor is kept under this name */
	enum sink_type type;
	const struct audit_format *format;
	/* SINK_FILE: an absolute path. SINK_SYSLOG: "unix:PATH", "udp:HOST:PORT", "tcp:HOST:PORT",
	 * "tls:HOST:PORT".
	 * SINK_WEBHOOK, SINK_OTLP: a URL (fetch_url_parse_local). SINK_STDOUT: not used. */
	const char *target;
	const char *secret_file; /* SINK_WEBHOOK: holds "whsec_<base64>", for its owner only */
	const char *token_file;	 /* or NULL; SINK_WEBHOOK, SINK_OTLP: a bearer token */
	/* SINK_SYSLOG over TLS, or NULL: whom to believe (PEM; else sinks_config.ca_file), and what
	 * to show: a certificate with its chain, and its key, for its owner only. */
	const char *ca_file, *cert_file, *key_file;
};

/* Is @target one that a sink of this type can have? ERR_INVALID says what was expected. */
MUST_USE bool sink_target_ok(enum sink_type type, const char *target, struct err *e);

struct sinks_config {
	const char *folder; /* the data folder: log.db, and the cursors as sink-NAME */
	const char *origin; /* of the log */
	const struct sink_settings *items;
	size_t n;	     /* at most SINKS_MAX */
	const char *ca_file; /* of Web PKI; NULL: the system's */
	const struct clock *clock;
	/* A sink began to fail (@why) or works again (NULL). From its thread; may be NULL. */
	void (*say)(void *ctx, const char *name, const struct err *why);
	void *ctx;
};

struct sinks;
MUST_USE bool sinks_open(const struct sinks_config *c, struct sinks **out, struct err *e);
/* Within a second, but for a name that is just being looked up. NULL is fine. */
void sinks_close(struct sinks *s);

struct sink_status {
	const char *name, *type, *format;
	uint64_t next;			   /* the first record that has not been taken */
	uint64_t sent, failures, rejected; /* rejected: of those sent, by an OTLP collector */
	uint32_t in_row;		   /* failures since something was taken */
	int64_t since_ms;		   /* when these began; 0: it works */
	struct err why;
};
size_t sinks_count(const struct sinks *s); /* NULL: 0 */
void sinks_status(struct sinks *s, size_t i, struct sink_status *out);

/* ---- for the thread, and for tests with a clock of their own ---- */

struct sink;
MUST_USE bool sink_new(const struct sinks_config *c, size_t i, struct sink **out, struct err *e);
void sink_free(struct sink *s);

/* Send the next page, if there is one. How long to wait before the next call, in milliseconds; 0:
 * there may be more at once. @random chooses the jitter. */
int64_t sink_step(struct sink *s, uint32_t random);
void sink_status(struct sink *s, struct sink_status *out);

/* Half to all of the back-off of that many failures in a row. */
int64_t sink_delay_ms(uint32_t failures, uint32_t random);

#endif
