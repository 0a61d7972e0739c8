/*
 * service - what handlers may know of the running process.
 *
 * Purpose    Health, metrics, status and exports need more than a decision does: counters of all
 *            workers, the doors, where the log lies. The wiring (authz/serve*.c) fills this once,
 *            before the doors open.
 * Ownership  Borrowed from the wiring; outlives the doors.
 * Threads    Constant after start, but for the atomics.
 */
#ifndef WRIT_SERVER_SERVICE_H
#define WRIT_SERVER_SERVICE_H

#include "authz/audit/index.h"
#include "authz/decide/worker.h"
#include "authz/net/server.h"
#include "authz/server/open_log.h"
#include "authz/server/readers.h"

/* A weakened default, by name: what `writ doctor` lists. */
struct finding {
	const char *name, *message;
};

struct service {
	/* ext_authz is a front of its own beside this one: the wiring names it. */
	void (*ext_authz)(struct worker *w, struct call *call, const struct caller *caller,
			  struct str request_id, struct str trace_id);
	/* The same over gRPC; ..._refuse fills the reply with a denial. */
	void (*ext_authz_grpc)(struct worker *w, struct call *call, const struct caller *caller,
			       struct str request_id, struct str trace_id);
	void (*ext_authz_refuse)(struct call *call, const struct err *e);
	void (*ext_mcp)(struct worker *w, struct call *call, const struct caller *caller,
			struct str request_id, struct str trace_id);
	void (*ext_mcp_refuse)(struct call *call, const struct err *e);
	/* Answers on their way to the client. */
	void (*ext_proc)(struct worker *w, struct call *call, const struct caller *caller);
	void (*ext_proc_refuse)(struct call *call, const struct err *e);
	/* What a proxy says of requests that are over: a stream. @folder: of log.db. */
	void (*access_log)(struct worker *w, struct call *call, const struct caller *caller,
			   const char *folder, struct str trace_id);
	const char *folder; /* the data folder: log.db lies in it */
	const char *node;
	const char *config_file; /* or NULL */
	const char *public_url;	 /* as what AuthZEN clients know us; or NULL */
	uint32_t batch_max;	 /* evaluations in one request */
	int64_t started_ms;
	atomic_bool draining;
	struct signer *signer;
	struct sinks *sinks;	   /* NULL: none is configured */
	int64_t retain_s;	   /* audit.retain; INT64_MAX: for ever */
	struct index *index;	   /* of the log; set before the doors open */
	struct readers readers;	   /* the operators' home thread's */
	struct open_log log;	   /* the same thread's */
	struct cosigner *cosigner; /* of our witnesses; NULL: there are none */
	struct server *agents_door;
	struct worker *workers; /* of the front loops */
	size_t nworkers;
	const struct finding *findings;
	size_t nfindings;
	struct listener *listeners;
	size_t nlisteners;
};

#endif
