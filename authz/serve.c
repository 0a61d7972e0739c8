/*
 * The order of things. The signer is forked before any thread exists and gets no signal of the
 * terminal; the log is open before anything can be decided; the doors open last. On the way down:
 * doors first, then who decides, then who writes, then who signs.
 */
#include "authz/serve.h"
#include "authz/audit/index.h"
#include "authz/audit/sink.h"

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
#include "authz/decide/control.h"
#include "authz/extauthz/access_log.h"
#include "authz/extauthz/ext_proc.h"
#include "authz/extauthz/grpc_front.h"
#include "authz/extauthz/grpc_mcp.h"
#include "authz/extauthz/http_front.h"
#include "authz/serving.h"
#include "authz/setup.h"
#include "authz/witnesses.h"

/* ---- start, in order ---- */

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
	s->service.retain_s = s->config->audit.retain_s < CONFIG_FOR_EVER
				      ? s->config->audit.retain_s
				      : INT64_MAX;
	s->service.ext_authz = http_front_check;
	s->service.ext_authz_grpc = grpc_front_check;
	s->service.ext_authz_refuse = grpc_front_refuse;
	s->service.ext_mcp = grpc_mcp_check;
	s->service.ext_mcp_refuse = grpc_mcp_refuse;
	s->service.ext_proc = ext_proc_stream;
	s->service.ext_proc_refuse = ext_proc_refuse;
	s->service.access_log = access_log_stream;
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
	serving_fill_ttls(&s->core, s->config);
	serving_raise_files(&s->config->limits);
	if (!setup_may_run(s->config, e) || !serving_open_folder(s, e) || !take_signals(s, e) ||
	    !serving_start_signer(s, e))
		return false;
	s->service.folder = s->folder.path;
	s->service.signer = s->signer;
	s->service.listeners = s->listeners;
	s->service.nlisteners = s->nlisteners;
	return serving_fill_core(s, e) && serving_open_log(s, e) && serving_open_index(s, e) &&
	       serving_start_control(s, e) && serving_open_agents_door(s, e) &&
	       serving_open_workload_door(s, e) && serving_start_sinks(s, e) &&
	       serving_open_operators_door(s, e) && serving_run_fronts(s, e);
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
	log_event(LOG_INFO, "config.read", "file=\"%s\"",
		  s->config->file ? s->config->file : "(defaults)");
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

static void stop(struct serving *s)
{
	serving_drain(s);
	if (s->operators)
		operators_stop(s->operators);
	for (size_t i = 0; i < s->nloops && s->fronts; i++)
		if (s->fronts[i].running) {
			loop_stop(s->fronts[i].loop);
			pthread_join(s->fronts[i].thread, NULL);
		}
	cosigner_stop(s->service.cosigner);
	if (s->core.control)
		control_stop(s->core.control);
	sinks_close(s->service.sinks);
	s->service.sinks = NULL;
	open_log_close(&s->service.log);
	index_close(s->service.index);
	audit_close(s->core.audit);
	s->core.audit = NULL; /* a task that comes back now finds that nothing can be recorded */
	for (size_t i = 0; i < s->nloops && s->fronts; i++)
		if (s->fronts[i].loop)
			loop_finish(s->fronts[i].loop);
	server_free(s->service.agents_door);
	server_free(s->workload_door);
	if (s->operators)
		operators_free(s->operators);
	open_log_close(&s->service.log); /* a reply that was left has opened it again */
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
	cosigner_close(s->service.cosigner);
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
	slot_clear(&s->core.definitions);
	slot_clear(&s->core.revocations);
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
	slot_init(&s->core.definitions);
	slot_init(&s->core.revocations);
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
