/*
 * serving - what runs in `writ serve`; the private side of serve.
 *
 * Purpose    The parts (serve_parts.c: signer, log, control) and the doors with their loops
 *            (serve_doors.c) are each put together here; serve.c says in which order.
 * Ownership  A serving owns every part; serve.c takes them apart.
 * Threads    main's. What the modules call back on threads of theirs touches its own part only.
 */
#ifndef WRIT_SERVING_H
#define WRIT_SERVING_H

#include <pthread.h>

#include "authz/config.h"
#include "authz/net/loop.h"
#include "authz/net/operators.h"
#include "authz/net/server.h"
#include "authz/server/router.h"
#include "authz/server/service.h"
#include "authz/store/folder.h"
#include "authz/web.h"
#include "spiffe/workload_api.h"

/* One front: a loop, its thread, its worker. */
struct front {
	struct loop *loop;
	struct signer_client *signer;
	struct loop_watch signer_watch;
	struct loop_timer late; /* when the oldest record that waits is given up */
	struct worker *worker;
	struct workload_api *workload; /* of the last one, if workloads have a door; else NULL */
	pthread_t thread;
	bool running;
};

struct serving {
	struct config *config;
	struct arena arena;
	struct folder folder;
	bool has_folder;
	struct signer *signer;
	struct signer_client *log_signer;
	struct core core;
	struct service service;
	struct site agents_site, operators_site, workload_site;
	struct slot certificate;
	struct tls *tls, *web_tls;
	struct web web;
	struct front *fronts;
	size_t nfronts; /* of the agents' door */
	size_t nloops;	/* and one for the Workload API: it waits for what a decision must not */
	struct server *workload_door;
	struct worker operators_worker;
	struct operators *operators;
	struct listener *listeners;
	size_t nlisteners;
	int signals, wake[2]; /* signalfd; a pipe by which other threads ask main to stop */
};

/* ---- the parts, in the order of starting ---- */

bool serving_open_folder(struct serving *s, struct err *e);
void serving_fill_ttls(struct core *core, const struct config *c);
bool serving_start_signer(struct serving *s, struct err *e);
bool serving_fill_core(struct serving *s, struct err *e);
bool serving_open_log(struct serving *s, struct err *e);
/* Behind the log, and never in its way: what it cannot do it tries again. */
bool serving_open_index(struct serving *s, struct err *e);
bool serving_start_control(struct serving *s, struct err *e);
/* Those of the configuration; none is fine. */
bool serving_start_sinks(struct serving *s, struct err *e);

/* ---- the log's key (log_key.c); @serving is a struct serving ---- */

/* What the log asks of the signer (audit.h). One at a time: of its committer and checkpointer only
 * one asks while the other waits for it. */
bool log_key_sign(void *serving, struct str text, uint8_t signature[static 64], struct err *e);
bool log_key_hand_over(void *serving, uint64_t size, uint8_t signature[static 64], struct err *e);
bool log_key_switch(void *serving, uint64_t size, struct err *e);

/* ---- the doors ---- */

/* Be allowed as many open files as connections are. */
void serving_raise_files(const struct config_limits *l);
bool serving_open_agents_door(struct serving *s, struct err *e);
bool serving_open_workload_door(struct serving *s, struct err *e);
bool serving_open_operators_door(struct serving *s, struct err *e);
/* All loops begin: from here on there are answers. */
bool serving_run_fronts(struct serving *s, struct err *e);
/* No new connections; wait for those that are open, but not for ever. */
void serving_drain(struct serving *s);

#endif
