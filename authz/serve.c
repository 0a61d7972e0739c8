/*
 * The order of things. The signer is forked before any thread exists and gets no signal of the
 * terminal; the log is open before anything can be decided; the doors open last. On the way down:
 * doors first, then who decides, then who writes, then who signs.
 */
#include "authz/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/base/log.h"
#include "authz/config.h"
#include "authz/decide/control.h"
#include "authz/extauthz/grpc_front.h"
#include "authz/extauthz/http_front.h"
#include "authz/net/loop.h"
#include "authz/net/operators.h"
#include "authz/net/server.h"
#include "authz/server/router.h"
#include "authz/setup.h"
#include "authz/store/folder.h"
#include "authz/web.h"
#include "spiffe/attest_unix.h"
#include "spiffe/registry.h"
#include "spiffe/workload_api.h"

#define DRAIN_MS 5000
#define LIMIT_KEYS_AGENTS 65536
#define LIMIT_KEYS_ADDRESSES 16384

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

/* ---- what the modules call back ---- */

static bool sign_checkpoint(void *ctx, struct str text, uint8_t signature[static 64], struct err *e)
{
	struct serving *s = ctx;
	AUTO_BUF out;
	struct signer_job job = { .op = SIGNER_CHECKPOINT, .checkpoint = text, .out = &out };

	buf_init(&out, mem_system, 64);
	if (!signer_call(s->log_signer, &job, e))
		return false;
	if (out.n != 64)
		return err_set(e, ERR_INTERNAL, "the signer gave %zu bytes for a signature", out.n);
	memcpy(signature, out.p, 64);
	return true;
}

/* log.db or writ.db: whatever is done without them would be undone by the next start. */
static void storage_is_lost(void *ctx, const struct err *e)
{
	struct serving *s = ctx;

	log_event(LOG_ERROR, "storage.lost",
		  "why=\"%s\" next=\"writ stops; check the disk and start it again\"", e->msg);
	(void)!write(s->wake[1], "!", 1);
}

static void turn_begin(void *ctx)
{
	struct front *f = ctx;

	worker_turn_begin(f->worker);
	if (f->workload)
		workload_api_turn(f->workload);
}

/* Nothing else may wake the loop before the deadline of a record that does not come back. */
static void turn_end(void *ctx)
{
	struct front *f = ctx;
	int64_t deadline;

	worker_turn_end(f->worker);
	deadline = worker_deadline(f->worker);
	if (deadline)
		loop_timer_set(f->loop, &f->late, deadline);
}

static void is_late(struct loop_timer *t)
{
	struct front *f = (struct front *)(void *)((char *)t - offsetof(struct front, late));

	worker_turn_begin(f->worker);
}

static void signer_is_readable(struct loop_watch *w, uint32_t events)
{
	struct front *f = (struct front *)(void *)((char *)w -
						   offsetof(struct front, signer_watch));

	(void)events;
	signer_readable(f->signer);
}

static void complain(void *ctx, const char *line)
{
	(void)ctx;
	log_event(LOG_WARN, "operators.http", "text=\"%s\"", line);
}

static void *front_thread(void *arg)
{
	loop_run(((struct front *)arg)->loop);
	return NULL;
}

/* ---- start, in order ---- */

static bool open_folder(struct serving *s, struct err *e)
{
	if (!folder_open(NULL, s->config->data, &s->folder, e))
		return false;
	s->has_folder = true;
	return true;
}

/* How long things live. Whoever configures a longer life than the signer's usual bound raises it;
 * registrations cannot. */
static void fill_ttls(struct core *core, const struct config *c)
{
	core->x509_ttl = c->ttl.x509_s;
	core->jwt_ttl = c->ttl.jwt_s;
	core->x509_ttl_max = c->ttl.x509_s > SIGNER_X509_TTL_MAX_S ? c->ttl.x509_s
								   : SIGNER_X509_TTL_MAX_S;
	core->jwt_ttl_max = c->ttl.jwt_s > SIGNER_JWT_TTL_MAX_S ? c->ttl.jwt_s
								: SIGNER_JWT_TTL_MAX_S;
	core->join_token_ttl = c->ttl.join_token_s;
	core->leeway_s = c->ttl.leeway_s;
	core->orphan_ms = c->registry.orphan_s * 1000;
	core->token_max = c->limits.token;
}

static bool start_signer(struct serving *s, struct err *e)
{
	char *keys = folder_path(&s->folder, "keys");
	struct signer_config c = { .folder = keys,
				   .trust_domain = str_c(s->config->trust_domain),
				   .issuer = str_c(s->config->jwt.issuer),
				   .x509_ttl_max_s = s->core.x509_ttl_max,
				   .jwt_ttl_max_s = s->core.jwt_ttl_max,
				   .authority_ttl_s = s->config->ttl.authority_s,
				   .channels = (unsigned)s->nloops + 2 };
	bool ok = (keys || err_set(e, ERR_NOMEM, "no memory")) &&
		  setup_keys(s->config, getenv("CREDENTIALS_DIRECTORY"), &s->arena, &c, e) &&
		  signer_start(&c, &s->signer, e);

	free(keys);
	if (!ok)
		return false;
	s->log_signer = signer_client_new(s->signer, e);
	return s->log_signer != NULL;
}

static bool fill_core(struct serving *s, struct err *e)
{
	const struct config_limits *l = &s->config->limits;
	struct core *core = &s->core;
	struct caller_rules *callers;
	struct bundle_set *bundle;

	core->clock = &clock_system;
	core->trust_domain = str_c(s->config->trust_domain);
	core->issuer = str_c(s->config->jwt.issuer);
	core->server_id = arena_printf(&s->arena, "spiffe://%s" SPIFFE_SERVER_PATH,
				       s->config->trust_domain);
	core->json = (struct json_limits){
		.string = l->string, .depth = l->depth, .members = l->members, .values = l->values
	};
	core->decision_ns = (int64_t)l->decision_ms * 1000000;
	random_bytes(core->search_key, sizeof(core->search_key));
	core->agent_limit = limit_new(l->agent_rate, l->agent_burst, LIMIT_KEYS_AGENTS, e);
	core->attest_limit = core->agent_limit ? limit_new(l->attest_rate, l->attest_burst,
							   LIMIT_KEYS_ADDRESSES, e)
					       : NULL;
	if (!core->attest_limit || !core->server_id.p)
		return err_set(e, ERR_NOMEM, "no memory for the limits");
	callers = setup_callers(s->config, e);
	if (!callers)
		return false;
	slot_publish(&core->callers, &callers->shared);
	bundle = setup_bundle(s->config, signer_public(s->signer), e);
	if (!bundle)
		return false;
	slot_publish(&core->bundles, &bundle->shared);
	return true;
}

static bool open_log(struct serving *s, struct err *e)
{
	struct str origin = arena_printf(&s->arena, "%s/writ", s->config->trust_domain);
	struct audit_config c = { .folder = s->folder.path,
				  .origin = origin.p,
				  .node = s->config->node,
				  .queue = s->config->limits.queue,
				  .checkpoint_ms = s->config->audit.checkpoint_ms,
				  .clock = &clock_system,
				  .sign = sign_checkpoint,
				  .ctx = s,
				  .fatal = storage_is_lost };
	struct audit_status status;

	memcpy(c.public_key, signer_public(s->signer)->log_key, sizeof(c.public_key));
	if (!origin.p)
		return err_set(e, ERR_NOMEM, "no memory");
	if (!audit_open(&c, &s->core.audit, e))
		return false;
	audit_status(s->core.audit, &status);
	memcpy(s->core.log_key_id, status.log_key_id, sizeof(s->core.log_key_id));
	return true;
}

static bool start_control(struct serving *s, struct err *e)
{
	char *db = folder_path(&s->folder, "writ.db");
	struct str *names = arena_zero(&s->arena, (s->config->tls.san.nnames + 1) * sizeof(*names));
	struct control_config c = {
		.core = &s->core,
		.db_path = db,
		.policies = s->config->policies.dir,
		.policy_keys = s->config->policies.key,
		.watch = s->config->policies.watch,
		.files_only = s->config->policies.files_only,
		.limits = { s->config->limits.policy_instructions, s->config->limits.policy_ms,
			    s->config->limits.policy_memory },
		.attest = setup_attest(s->config, &s->arena),
		.registry_require = setup_require(s->config),
		.registry_max = s->config->registry.max_entries,
		.signer = s->signer,
		.certificate = &s->certificate,
		.names = names,
		.nnames = s->config->tls.san.nnames,
		.fatal = storage_is_lost,
		.ctx = s,
		.authorities = { .data = s->folder.path,
				 .ttl_s = s->config->ttl.authority_s,
				 .x509_ttl_max_s = s->core.x509_ttl_max,
				 .jwt_ttl_max_s = s->core.jwt_ttl_max,
				 .leeway_s = s->core.leeway_s,
				 .upstream_bundle = s->config->authority.bundle }
	};
	struct control *control = NULL;
	bool ok;

	c.federation = (struct federation_settings){ s->config->fetch.ca_file,
						     s->config->fetch.private_ok,
						     s->config->federation.keep_s };
	for (size_t i = 0; names && i < s->config->tls.san.nnames; i++)
		names[i] = str_c(s->config->tls.san.names[i]);
	ok = db && names && c.attest ? control_open(&c, &control, e)
				     : err_set(e, ERR_NOMEM, "no memory");
	free(db);
	return ok && control_start(control, e);
}

static bool make_front(struct serving *s, size_t i, struct err *e)
{
	struct front *f = &s->fronts[i];
	struct loop_settings ls = { .clock = clock_system,
				    .index = (unsigned)i,
				    .turn_begin = turn_begin,
				    .turn_end = turn_end,
				    .ctx = f };

	f->worker = &s->service.workers[i];
	f->late.fire = is_late;
	f->loop = loop_new(&ls, e);
	f->signer = f->loop ? signer_client_new(s->signer, e) : NULL;
	if (!f->signer ||
	    !worker_init(&s->service.workers[i], &s->core, loop_home(f->loop), f->signer, e))
		return false;
	f->signer_watch = (struct loop_watch){ signer_client_fd(f->signer), signer_is_readable };
	return loop_watch(f->loop, &f->signer_watch, 1 /* EPOLLIN */, e);
}

static bool is_operators(const struct listener *l)
{
	return l->name == config_door_names[DOOR_OPERATORS] ||
	       l->name == config_door_names[DOOR_ADMIN];
}

static bool is_workload(const struct listener *l)
{
	return l->name == config_door_names[DOOR_WORKLOAD];
}

static struct server_limits limits_of(const struct config_limits *l)
{
	return (struct server_limits){ .connections = l->connections,
				       .body = l->body,
				       .head = l->headers,
				       .url = l->url,
				       .in_flight = l->in_flight,
				       .request_ms = l->request_ms };
}

static bool open_agents_door(struct serving *s, struct err *e)
{
	struct tls_settings ts = { &s->certificate, setup_verifier(&s->core) };
	struct tls_settings web = { .certificate = &s->web.certificate };
	struct server_settings ss = { .clock = clock_system,
				      .handler = { router_handle, &s->agents_site, router_refused },
				      .limits = limits_of(&s->config->limits) };
	struct loop **loops = arena_zero(&s->arena, s->nfronts * sizeof(struct loop *));

	if (!loops)
		return err_set(e, ERR_NOMEM, "no memory");
	for (size_t i = 0; i < s->nfronts; i++) {
		if (!make_front(s, i, e))
			return false;
		loops[i] = s->fronts[i].loop;
	}
	s->tls = tls_new(&ts, e);
	ss.tls = s->tls;
	s->web.cert_file = s->config->tls.web.certificate;
	s->web.key_file = s->config->tls.web.key;
	if (!web_look(&s->web, e) || (s->web.cert_file && !(s->web_tls = tls_new(&web, e))))
		return false;
	ss.web = s->web_tls;
	if (s->tls)
		s->service.agents_door = server_new(&ss, loops, s->nfronts, e);
	if (!s->service.agents_door)
		return false;
	for (size_t i = 0; i < s->nlisteners; i++)
		if (!is_operators(&s->listeners[i]) && !is_workload(&s->listeners[i]) &&
		    !server_listen(s->service.agents_door, &s->listeners[i], 0666, e))
			return false;
	return true;
}

/* Its own loop, after those of the agents' door. */
static bool open_workload_door(struct serving *s, struct err *e)
{
	struct front *f = &s->fronts[s->nfronts];
	struct server_settings ss = { .clock = clock_system,
				      .limits = limits_of(&s->config->limits) };
	struct workload_api_settings ws = { .worker = &s->service.workers[s->nfronts],
					    .next = { router_handle, &s->workload_site,
						      router_refused },
					    .selectors = attest_unix_selectors };

	if (s->nloops == s->nfronts)
		return true;
	if (!make_front(s, s->nfronts, e))
		return false;
	ws.loop = f->loop;
	f->workload = workload_api_new(&ws, e);
	if (!f->workload)
		return false;
	ss.handler = (struct handler){ workload_api_handle, f->workload, workload_api_refused };
	s->workload_door = server_new(&ss, &f->loop, 1, e);
	for (size_t i = 0; s->workload_door && i < s->nlisteners; i++)
		if (is_workload(&s->listeners[i]) &&
		    !server_listen(s->workload_door, &s->listeners[i], 0666, e))
			return false;
	return s->workload_door != NULL;
}

static bool open_operators_door(struct serving *s, struct err *e)
{
	struct operators_settings os = { .clock = clock_system,
					 .handler = { router_handle, &s->operators_site,
						      router_refused },
					 .certificate = &s->certificate,
					 .verifier = setup_verifier(&s->core),
					 .complain = complain,
					 .limits = { .body = s->config->limits.body,
						     .url = s->config->limits.url,
						     .in_flight = s->config->limits.in_flight } };

	s->operators = operators_new(&os, e);
	if (!s->operators ||
	    !worker_init(&s->operators_worker, &s->core, operators_home(s->operators), NULL, e))
		return false;
	for (size_t i = 0; i < s->nlisteners; i++)
		if (is_operators(&s->listeners[i]) &&
		    !operators_listen(s->operators, &s->listeners[i], setup_admin_mode(s->config),
				      e))
			return false;
	return operators_start(s->operators, e);
}

static bool run_fronts(struct serving *s, struct err *e)
{
	for (size_t i = 0; i < s->nloops; i++) {
		int rc = pthread_create(&s->fronts[i].thread, NULL, front_thread, &s->fronts[i]);

		if (rc)
			return err_set(e, ERR_INTERNAL, "cannot start a front: %s", strerror(rc));
		s->fronts[i].running = true;
	}
	return true;
}

/* Signals come through a descriptor; every thread started later inherits the mask. */
static bool take_signals(struct serving *s, struct err *e)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	if (pthread_sigmask(SIG_BLOCK, &set, NULL) || pipe2(s->wake, O_CLOEXEC | O_NONBLOCK) ||
	    (s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
		return err_set(e, ERR_IO, "cannot take signals: %s", strerror(errno));
	return true;
}

static bool prepare(struct serving *s, const char *config_path, struct err *e)
{
	const char *file = config_choose(config_path, getenv("WRIT_CONFIG"));
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (!config_load(file, &s->config, e))
		return false;
	log_set_level((enum log_level)s->config->log_level);
	s->nfronts = s->config->loops ? s->config->loops : cores > 2 ? (size_t)cores - 1 : 1;
	if (s->nfronts > SIGNER_CHANNELS_MAX - 3)
		s->nfronts = SIGNER_CHANNELS_MAX - 3;
	s->nloops = s->nfronts;
	for (size_t i = 0; i < s->config->nlisteners; i++)
		if (s->config->listeners[i].door == DOOR_WORKLOAD)
			s->nloops = s->nfronts + 1;
	s->fronts = calloc(s->nloops, sizeof(*s->fronts));
	s->service.workers = calloc(s->nloops, sizeof(*s->service.workers));
	if (!s->fronts || !s->service.workers)
		return err_set(e, ERR_NOMEM, "no memory for %zu fronts", s->nfronts);
	s->service.nworkers = s->nloops;
	s->service.findings = setup_findings(s->config, &s->arena, &s->service.nfindings);
	s->service.node = s->config->node;
	s->service.config_file = s->config->file;
	s->service.public_url = s->config->public_url;
	s->service.batch_max = s->config->limits.batch;
	s->service.ext_authz = http_front_check;
	s->service.ext_authz_grpc = grpc_front_check;
	s->service.ext_authz_refuse = grpc_front_refuse;
	s->service.started_ms = clock_wall_ms(&clock_system);
	s->agents_site = (struct site){ &s->core, SIDE_AGENTS, &s->service };
	s->operators_site = (struct site){ &s->core, SIDE_OPERATORS, &s->service };
	s->workload_site = (struct site){ &s->core, SIDE_WORKLOAD, &s->service };
	return setup_listeners(s->config, &s->arena, &s->listeners, &s->nlisteners, e);
}

static bool start(struct serving *s, const char *config_path, struct err *e)
{
	umask(077);
	if (!prepare(s, config_path, e))
		return false;
	fill_ttls(&s->core, s->config);
	if (!setup_may_run(s->config, e) || !open_folder(s, e) || !take_signals(s, e) ||
	    !start_signer(s, e))
		return false;
	s->service.folder = s->folder.path;
	s->service.signer = s->signer;
	s->service.listeners = s->listeners;
	s->service.nlisteners = s->nlisteners;
	return fill_core(s, e) && open_log(s, e) && start_control(s, e) && open_agents_door(s, e) &&
	       open_workload_door(s, e) && open_operators_door(s, e) && run_fronts(s, e);
}

static bool is_fixed(const struct listener *l)
{
	const struct listener_caller *who = l->user;

	return who->roles || who->id.n;
}

static void announce(const struct serving *s)
{
	printf("writ " WRIT_VERSION ": trust domain %s, data in %s\n", s->config->trust_domain,
	       s->folder.path);
	for (size_t i = 0; i < s->nlisteners; i++) {
		const struct listener *l = &s->listeners[i];

		printf("  %-10s %s%s%s\n", l->name,
		       l->unix_socket ? "unix:"
		       : l->tls	      ? "https://"
				      : "http://",
		       l->address, is_fixed(l) ? "  (fixed caller)" : "");
	}
	for (size_t i = 0; i < s->service.nfindings; i++)
		printf("  weakened: %s: %s\n", s->service.findings[i].name,
		       s->service.findings[i].message);
	printf("ready\n");
	fflush(stdout);
}

/* ---- running ---- */

static void say_change(void *ctx, const char *name, bool restart)
{
	(void)ctx;
	log_event(restart ? LOG_WARN : LOG_INFO, "config.changed", "setting=%s effect=\"%s\"", name,
		  restart ? "after a restart" : "now");
}

/* SIGHUP: the policies folder, the callers and the log level take effect; the rest is named. */
static void reload(struct serving *s)
{
	struct caller_rules *callers;
	struct config *fresh = NULL;
	struct err e = { 0 };

	control_reload(s->core.control);
	callers = config_load(s->config->file, &fresh, &e) ? setup_callers(fresh, &e) : NULL;
	if (!callers) {
		config_free(fresh);
		log_event(LOG_ERROR, "config.refused", "why=\"%s\" effect=\"nothing changed\"",
			  e.msg);
		return;
	}
	config_diff(s->config, fresh, say_change, NULL);
	log_set_level((enum log_level)fresh->log_level);
	slot_publish(&s->core.callers, &callers->shared);
	if (setup_admin_mode(fresh) != setup_admin_mode(s->config))
		log_event(LOG_WARN, "config.changed",
			  "setting=\"mode of listen.admin\" effect=\"after a restart\"");
	config_free(fresh);
}

/* Until it is time to stop. False: because something broke. */
static bool run(struct serving *s)
{
	struct pollfd fds[] = { { .fd = s->signals, .events = POLLIN },
				{ .fd = s->wake[0], .events = POLLIN } };
	struct signalfd_siginfo info;
	struct err e = { 0 };

	for (;;) {
		(void)poll(fds, ARRAY_LEN(fds), 1000);
		if (fds[1].revents)
			return false;
		if (signer_dead(s->signer)) {
			log_event(LOG_ERROR, "signer.dead", "next=\"writ stops; start it again\"");
			return false;
		}
		if (!web_look(&s->web, &e))
			log_event(LOG_ERROR, "tls.web", "why=\"%s\" effect=\"the old one stays\"",
				  e.msg);
		while (read(s->signals, &info, sizeof(info)) == sizeof(info)) {
			if (info.ssi_signo != SIGHUP)
				return true;
			reload(s);
		}
	}
}

/* ---- stop, in order; everything may be half built ---- */

static void drain(struct serving *s)
{
	if (!s->service.agents_door)
		return;
	atomic_store(&s->service.draining, true);
	server_drain(s->service.agents_door);
	if (s->workload_door)
		server_drain(s->workload_door);
	for (int ms = 0;
	     ms < DRAIN_MS && (server_connections(s->service.agents_door) ||
			       (s->workload_door && server_connections(s->workload_door)));
	     ms += 10)
		usleep(10000);
}

static void stop(struct serving *s)
{
	drain(s);
	if (s->operators)
		operators_stop(s->operators);
	for (size_t i = 0; i < s->nloops && s->fronts; i++)
		if (s->fronts[i].running) {
			loop_stop(s->fronts[i].loop);
			pthread_join(s->fronts[i].thread, NULL);
		}
	if (s->core.control)
		control_stop(s->core.control);
	audit_close(s->core.audit);
	s->core.audit = NULL; /* a task that comes back now finds that nothing can be recorded */
	for (size_t i = 0; i < s->nloops && s->fronts; i++)
		if (s->fronts[i].loop)
			loop_finish(s->fronts[i].loop);
	server_free(s->service.agents_door);
	server_free(s->workload_door);
	if (s->operators)
		operators_free(s->operators);
	for (size_t i = 0; i < s->nloops && s->fronts && s->service.workers; i++) {
		if (s->fronts[i].loop)
			loop_timer_stop(s->fronts[i].loop, &s->fronts[i].late);
		if (s->fronts[i].loop && s->fronts[i].signer_watch.ready)
			loop_unwatch(s->fronts[i].loop, &s->fronts[i].signer_watch);
		signer_client_free(s->fronts[i].signer);
		workload_api_free(s->fronts[i].workload);
		if (s->service.workers[i].core)
			worker_clear(&s->service.workers[i]);
		loop_free(s->fronts[i].loop);
	}
	if (s->operators_worker.core)
		worker_clear(&s->operators_worker);
	control_close(s->core.control);
	tls_free(s->tls);
	tls_free(s->web_tls);
	signer_client_free(s->log_signer);
	signer_stop(s->signer);
}

static void release(struct serving *s)
{
	slot_clear(&s->certificate);
	slot_clear(&s->web.certificate);
	slot_clear(&s->core.policies);
	slot_clear(&s->core.bundles);
	slot_clear(&s->core.callers);
	slot_clear(&s->core.agents);
	slot_clear(&s->core.rollouts);
	limit_free(s->core.agent_limit);
	limit_free(s->core.attest_limit);
	free(s->fronts);
	free(s->service.workers);
	if (s->has_folder)
		folder_close(&s->folder);
	arena_clear(&s->arena);
	config_free(s->config);
	free(s);
}

int serve_main(const char *config_path)
{
	struct serving *s = calloc(1, sizeof(*s));
	struct err e = { 0 };
	bool ok;

	if (!s)
		return 1;
	arena_init(&s->arena, &mem_system, (size_t)4 * 1024 * 1024);
	slot_init(&s->certificate);
	slot_init(&s->web.certificate);
	slot_init(&s->core.policies);
	slot_init(&s->core.bundles);
	slot_init(&s->core.callers);
	slot_init(&s->core.agents);
	slot_init(&s->core.rollouts);
	ok = start(s, config_path, &e);
	if (ok) {
		announce(s);
		ok = run(s);
		log_event(LOG_INFO, "stopping", "after=\"%s\"", ok ? "signal" : "failure");
	} else {
		fprintf(stderr, "writ: serve: %s\n", e.msg);
	}
	stop(s);
	release(s);
	return ok ? 0 : 1;
}
