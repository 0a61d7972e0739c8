/*
 * access_log_message - the messages of Envoy's gRPC access log service, as far as they matter here.
 *
 * Purpose    Read a StreamAccessLogsMessage entry by entry: which decision of writ an HTTP request
 *            stood on, how it ended, and what it used if a filter says so. Fields that are not
 *            known are skipped, for newer proxies add some.
 * Ownership  What is read borrows from the message.
 * Threads    No state: call from any thread.
 * Standards  envoy/service/accesslog/v3/als.proto, envoy/data/accesslog/v3/accesslog.proto.
 */
#ifndef WRIT_EXTAUTHZ_ACCESS_LOG_MESSAGE_H
#define WRIT_EXTAUTHZ_ACCESS_LOG_MESSAGE_H

#include "authz/base/protobuf.h"
#include "authz/decide/worker.h"

#define ACCESS_LOG_FLAGS 28 /* fields of ResponseFlags */

struct access_log_message {
	bool identified;	  /* an identifier, which only a stream's first message has */
	struct str log_name;	  /* of it */
	bool tcp;		  /* entries of TCP connections */
	struct pb_reader entries; /* for access_log_next */
};

struct access_log_entry {
	bool intermediate;	/* the request goes on, another entry follows */
	struct str decisions;	/* evaluation ids, separated by commas; empty: none is known */
	uint32_t status;	/* of the response; 0: there was none */
	uint32_t flags;		/* 1u << field number of ResponseFlags */
	uint32_t attempts;	/* at an upstream; 0: none, or the proxy does not say */
	bool upstream;		/* one was chosen */
	uint64_t upstream_sent; /* bytes */
	uint64_t request_bytes, response_bytes; /* of the bodies */
	int64_t duration_ms;			/* -1: not said, as with the following */
	int64_t input_tokens, output_tokens, cost_micros;
	bool bad_usage;		     /* a number of them that is none */
	struct str cluster, details; /* details: response_code_details */
};

MUST_USE bool access_log_read(struct str message, struct access_log_message *out, struct err *e);

/* The next entry. False at the end, or with @e (class not ERR_NONE) when it is malformed. */
bool access_log_next(struct access_log_message *m, const struct usage_keys *keys,
		     struct access_log_entry *out, struct err *e);

/* What the flags and the status mean, as one of outcome_names. */
const char *access_log_outcome(const struct access_log_entry *entry);

/* ResponseFlags: the field's name by its number, 1 to ACCESS_LOG_FLAGS; else NULL. */
const char *access_log_flag(unsigned number);

#endif
