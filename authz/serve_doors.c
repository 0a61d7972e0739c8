/*
 * The doors: a loop and a worker for each front of the agents' door, one more for the Workload
 * API, and the operators' door with its own threads.
 */
#include "authz/serving.h"

#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "authz/base/log.h"
#include "authz/setup.h"
#include "spiffe/attest_unix.h"

#define DRAIN_MS 5000
#define FILES_BESIDE 512 /* descriptors of databases, listeners, operators and the like */

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

/* Shells and old service managers allow 1,024 descriptors, more only on request. */
void serving_raise_files(const struct config_limits *l)
{
	rlim_t wanted = (rlim_t)l->connections + l->workload_connections + FILES_BESIDE;
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur >= wanted)
		return;
	r.rlim_cur = r.rlim_max == RLIM_INFINITY || r.rlim_max > wanted ? wanted : r.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur < wanted)
		log_event(LOG_WARN, "files.few",
			  "allowed=%llu wanted=%llu why=\"limits.connections and "
			  "limits.workload_connections together; raise LimitNOFILE\"",
			  (unsigned long long)r.rlim_cur, (unsigned long long)wanted);
}

bool serving_open_agents_door(struct serving *s, struct err *e)
{
	struct tls_settings ts = { &s->certificate, setup_verifier(&s->core) };
	struct tls_settings web = { .certificate = &s->web.certificate };
	struct server_settings ss = { .clock = clock_system,
				      .handler = { router_handle, &s->agents_site, router_refused,
						   router_deny },
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
bool serving_open_workload_door(struct serving *s, struct err *e)
{
	struct front *f = &s->fronts[s->nfronts];
	struct server_settings ss = { .clock = clock_system,
				      .limits = limits_of(&s->config->limits) };
	struct workload_api_settings ws = { .worker = &s->service.workers[s->nfronts],
					    .next = { router_handle, &s->workload_site,
						      router_refused, NULL },
					    .streams = s->config->limits.workload_streams,
					    .user_streams = s->config->limits.workload_user_streams,
					    .wit = s->config->workload.wit,
					    .selectors = attest_unix_selectors };

	if (s->nloops == s->nfronts)
		return true;
	ss.limits.connections = s->config->limits.workload_connections;
	ss.limits.user_connections = s->config->limits.workload_user_connections;
	if (!make_front(s, s->nfronts, e))
		return false;
	ws.loop = f->loop;
	f->workload = workload_api_new(&ws, e);
	if (!f->workload)
		return false;
	ss.handler = (struct handler){ workload_api_handle, f->workload, workload_api_refused,
				       NULL };
	s->workload_door = server_new(&ss, &f->loop, 1, e);
	for (size_t i = 0; s->workload_door && i < s->nlisteners; i++)
		if (is_workload(&s->listeners[i]) &&
		    !server_listen(s->workload_door, &s->listeners[i], 0666, e))
			return false;
	return s->workload_door != NULL;
}

bool serving_open_operators_door(struct serving *s, struct err *e)
{
	struct operators_settings os = { .clock = clock_system,
					 .handler = { router_handle, &s->operators_site,
						      router_refused, NULL },
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

bool serving_run_fronts(struct serving *s, struct err *e)
{
	for (size_t i = 0; i < s->nloops; i++) {
		int rc = pthread_create(&s->fronts[i].thread, NULL, front_thread, &s->fronts[i]);

		if (rc)
			return err_set(e, ERR_INTERNAL, "cannot start a front: %s", strerror(rc));
		s->fronts[i].running = true;
	}
	return true;
}

void serving_drain(struct serving *s)
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
