/* Operation: /livez, /readyz, /version, /metrics, /v1/status, /v1/doctor. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "authz/server/handlers.h"
#include "authz/server/service.h"

void handle_livez(struct request *r)
{
	buf_lit(request_reply(r, 200), "{\"status\":\"alive\"}");
	request_send(r);
}

static struct policy_standing *standing_of(struct request *r)
{
	return (struct policy_standing *)slot_acquire(&r->worker->core->control->standing);
}

/* One check of readiness: {"name":"...","ok":...}, with "detail" saying why it is not,
 * or what is wrong although it is. */
static void add_check(void *ctx, const char *name, bool ok, const char *detail)
{
	struct buf *b = ctx;

	if (!buf_ok(b))
		return;
	buf_printf(b, "%s{\"name\":\"%s\",\"ok\":%s", b->p[b->n - 1] == '[' ? "" : ",", name,
		   ok ? "true" : "false");
	if (*detail) {
		buf_lit(b, ",\"detail\":");
		buf_json(b, str_c(detail));
	}
	buf_char(b, '}');
}

/* A folder that does not load is worth a word, also while an older set is in force. */
static const char *policy_detail(const struct policy_standing *s)
{
	if (!s)
		return "not loaded yet";
	if (s->failed.class != ERR_NONE)
		return s->failed.msg;
	return s->generation ? "" : "no policy set is in force: the folder is empty";
}

/* Without signatures decisions go on; so that is a word, not an error. */
static void signer_detail(struct signer *s, bool dead, char out[static 900])
{
	char why[400];
	size_t n = 0;

	if (dead) {
		snprintf(out, 900, "the process that holds the keys has ended");
		return;
	}
	for (int kind = 0; kind < AUTHORITY_KINDS; kind++)
		if (signer_failing(s, (enum authority_kind)kind, why) && n < 450)
			n += (size_t)snprintf(out + n, 900 - n,
					      "%sthe last %s-SVID could not be signed: %.380s",
					      n ? "; " : "",
					      kind == AUTHORITY_JWT ? "JWT" : "X.509", why);
}

bool health_ready(struct request *r,
		  void (*each)(void *ctx, const char *name, bool ok, const char *why), void *ctx)
{
	struct policy_standing *standing = standing_of(r);
	bool dead = signer_dead(r->site->service->signer);
	bool draining = atomic_load(&r->site->service->draining);
	char signer[900] = "";
	struct err e = { 0 };
	const struct {
		const char *name;
		bool ok;
		const char *why;
	} checks[] = {
		{ "audit", audit_ready(r->worker->core->audit, &e), e.msg },
		{ "policy", standing && standing->generation, policy_detail(standing) },
		{ "signer", !dead, signer },
		{ "serving", !draining, draining ? "the service is stopping" : "" },
	};
	bool all = true;

	signer_detail(r->site->service->signer, dead, signer);
	for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
		all = all && checks[i].ok;
		if (each)
			each(ctx, checks[i].name, checks[i].ok, checks[i].why);
	}
	shared_release(standing ? &standing->shared : NULL);
	return all;
}

void handle_readyz(struct request *r)
{
	struct buf *b = request_reply(r, 200);
	bool all;

	buf_lit(b, "{\"checks\":[");
	all = health_ready(r, add_check, b);
	federation_add_check(r, b);
	issuer_keys_add_check(r, b);
	buf_printf(b, "],\"status\":\"%s\"}", all ? "ready" : "unavailable");
	r->call->reply.status = all ? 200 : 503;
	request_send(r);
}

void handle_version(struct request *r)
{
	buf_lit(request_reply(r, 200),
		"{\"version\":\"" WRIT_VERSION "\",\"engine\":\"" WRIT_ENGINE "\"}");
	request_send(r);
}

/* ---- metrics, in the text format of OpenMetrics' ancestor (version 0.0.4) ---- */

static uint64_t sum(const struct service *s, size_t offset)
{
	uint64_t n = 0;

	for (size_t i = 0; i < s->nworkers; i++) {
		const char *counters = (const char *)&s->workers[i].counters;

		n += atomic_load_explicit((const atomic_uint_fast64_t *)(const void *)(counters +
										       offset),
					  memory_order_relaxed);
	}
	return n;
}
#define SUM(s, member) sum((s), offsetof(struct worker_counters, member))

static void metric(struct buf *b, const char *name, const char *type, const char *help)
{
	buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void one(struct buf *b, const char *name, const char *type, const char *help, uint64_t v)
{
	metric(b, name, type, help);
	buf_printf(b, "%s %" PRIu64 "\n", name, v);
}

static void add_refusal(void *b, const char *listener, const char *code, uint64_t n)
{
	buf_printf(b, "writ_refused_total{listener=\"%s\",code=\"%s\"} %" PRIu64 "\n", listener,
		   code, n);
}

static void add_refusals(struct buf *b, struct refusals *all)
{
	metric(b, "writ_refused_total", "counter", "Requests refused before authentication.");
	refusals_totals(all, add_refusal, b);
}

static uint64_t resident_bytes(void)
{
	unsigned long long size = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (!f)
		return 0;
	/* NOLINTNEXTLINE(cert-err34-c): the kernel's own numbers */
	if (fscanf(f, "%llu %llu", &size, &resident) != 2)
		resident = 0;
	fclose(f);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void add_decisions(struct buf *b, const struct service *s)
{
	metric(b, "writ_decisions_total", "counter", "Decisions answered, by decision.");
	buf_printf(b,
		   "writ_decisions_total{decision=\"permit\"} %" PRIu64 "\n"
		   "writ_decisions_total{decision=\"ask\"} %" PRIu64 "\n"
		   "writ_decisions_total{decision=\"deny\"} %" PRIu64 "\n",
		   SUM(s, decisions[DECISION_PERMIT]), SUM(s, decisions[DECISION_ASK]),
		   SUM(s, decisions[DECISION_DENY]));
	one(b, "writ_decisions_unrecorded_total", "counter",
	    "Denials because the record could not be written.", SUM(s, unrecorded));
	metric(b, "writ_access_log_total", "counter",
	       "Reports of access logs by what came of them, and entries that report nothing.");
	buf_printf(b,
		   "writ_access_log_total{result=\"closed\"} %" PRIu64 "\n"
		   "writ_access_log_total{result=\"passed\"} %" PRIu64 "\n"
		   "writ_access_log_total{result=\"refused\"} %" PRIu64 "\n",
		   SUM(s, log_closed), SUM(s, log_passed), SUM(s, log_refused));
	metric(b, "writ_svids_issued_total", "counter", "SVIDs issued, by type.");
	buf_printf(b,
		   "writ_svids_issued_total{type=\"x509\"} %" PRIu64 "\n"
		   "writ_svids_issued_total{type=\"jwt\"} %" PRIu64 "\n"
		   "writ_svids_issued_total{type=\"wit\"} %" PRIu64 "\n",
		   SUM(s, issued_x509), SUM(s, issued_jwt), SUM(s, issued_wit));
}

void handle_metrics(struct request *r)
{
	const struct service *s = r->site->service;
	struct policy_standing *standing = standing_of(r);
	struct server_stats door;
	struct audit_status log;
	struct buf *b;

	audit_status(r->worker->core->audit, &log);
	server_stats(s->agents_door, &door);
	call_reply(r->call, 200, "text/plain; version=0.0.4; charset=utf-8", LIMIT_BODY);
	b = &r->call->reply.body;
	add_decisions(b, s);
	add_refusals(b, &r->site->core->refusals);
	one(b, "writ_log_records", "gauge", "Records in the log.", log.size);
	one(b, "writ_log_checkpoint_records", "gauge",
	    "Records the newest signed checkpoint covers.", log.checkpoint_size);
	one(b, "writ_log_waiting", "gauge", "Records waiting for the disk.", log.waiting);
	one(b, "writ_log_batches_total", "counter", "Transactions of the log.", log.batches);
	one(b, "writ_log_refused_total", "counter", "Records the log could not take.", log.refused);
	add_index_metrics(b, r);
	one(b, "writ_connections", "gauge", "Open connections at the agents' door.",
	    door.connections);
	one(b, "writ_requests_total", "counter", "Requests at the agents' door.", door.requests);
	one(b, "writ_policy_generation", "gauge", "Number of the policy set in force; 0: none.",
	    standing ? standing->generation : 0);
	one(b, "writ_policy_rules", "gauge", "Rules of the policy set in force.",
	    standing ? standing->rules : 0);
	one(b, "writ_policy_folder_ok", "gauge", "1 if the policies folder loads as it is now.",
	    standing && standing->failed.class == ERR_NONE);
	add_rollout_metrics(b, r);
	add_authority_metrics(b, r);
	federation_add_metrics(r, b);
	issuer_keys_add_metrics(r, b);
	sinks_add_metrics(r, b);
	tools_add_metrics(r, b);
	witness_add_metrics(r, b);
	one(b, "process_resident_memory_bytes", "gauge", "Resident memory.", resident_bytes());
	one(b, "process_start_time_seconds", "gauge", "Start of the process.",
	    (uint64_t)(s->started_ms / 1000));
	shared_release(standing ? &standing->shared : NULL);
	request_send(r);
}

/* ---- status and doctor ---- */

static void add_policy_status(struct buf *b, const struct policy_standing *p)
{
	char since[CLOCK_RFC3339_MAX];

	buf_printf(b, ",\"policy\":{\"generation\":%" PRIu64, p ? p->generation : 0);
	if (p && p->generation) {
		clock_rfc3339(p->since_ms, since);
		buf_printf(b, ",\"hash\":\"%s\",\"rules\":%zu,\"since\":\"%s\",\"pinned\":%s",
			   p->hash, p->rules, since, p->pinned ? "true" : "false");
	}
	if (p && p->failed.class != ERR_NONE) {
		buf_lit(b, ",\"refused\":");
		buf_json(b, str_c(p->failed.msg));
	}
	buf_char(b, '}');
}

static void add_audit_status(struct buf *b, struct request *r)
{
	struct audit_status log;
	struct err e = { 0 };
	bool ready = audit_ready(r->worker->core->audit, &e);

	audit_status(r->worker->core->audit, &log);
	buf_printf(b,
		   ",\"audit\":{\"writable\":%s,\"size\":%" PRIu64 ",\"checkpoint\":%" PRIu64
		   ",\"waiting\":%zu,\"key_id\":\"%s\"",
		   ready ? "true" : "false", log.size, log.checkpoint_size, log.waiting,
		   log.log_key_id);
	if (log.prune_to)
		buf_printf(b, ",\"pruned\":%" PRIu64 ",\"prune_to\":%" PRIu64, log.pruned,
			   log.prune_to);
	if (!ready) {
		buf_lit(b, ",\"why\":");
		buf_json(b, str_c(e.msg));
	}
	buf_char(b, '}');
}

void handle_status(struct request *r)
{
	const struct service *s = r->site->service;
	struct policy_standing *standing = standing_of(r);
	char started[CLOCK_RFC3339_MAX];
	struct buf *b = request_reply(r, 200);

	clock_rfc3339(s->started_ms, started);
	buf_printf(b,
		   "{\"version\":\"%s\",\"engine\":\"%s\",\"started_at\":\"%s\",\"trust_domain\":",
		   WRIT_VERSION, WRIT_ENGINE, started);
	buf_json(b, r->site->core->trust_domain);
	buf_lit(b, ",\"node\":");
	buf_json(b, str_c(s->node));
	buf_printf(b,
		   ",\"agents\":%zu,\"decisions\":{\"permit\":%" PRIu64 ",\"ask\":%" PRIu64
		   ",\"deny\":%" PRIu64 ",\"unrecorded\":%" PRIu64 "}",
		   worker_registry(r->worker) ? worker_registry(r->worker)->n : 0,
		   SUM(s, decisions[DECISION_PERMIT]), SUM(s, decisions[DECISION_ASK]),
		   SUM(s, decisions[DECISION_DENY]), SUM(s, unrecorded));
	add_policy_status(b, standing);
	add_rollout_status(b, r);
	add_audit_status(b, r);
	add_index_status(b, r);
	add_authority_status(b, r);
	issuer_keys_add_status(r, b);
	sinks_add_status(r, b);
	buf_lit(b, ",\"witness\":{");
	witness_add_status(r, b);
	buf_lit(b, "},\"listen\":{");
	for (size_t i = 0; i < s->nlisteners; i++) {
		if (i)
			buf_char(b, ',');
		buf_json(b, str_c(s->listeners[i].name));
		buf_char(b, ':');
		buf_json(b, str_c(s->listeners[i].address));
	}
	buf_printf(b, "},\"weakened\":%zu,\"ready\":%s}", s->nfindings,
		   standing && standing->generation && audit_ready(r->worker->core->audit, NULL)
			   ? "true"
			   : "false");
	shared_release(standing ? &standing->shared : NULL);
	request_send(r);
}

static void add_finding(struct buf *b, const char *name, const char *severity, struct str message)
{
	if (!buf_ok(b))
		return;
	buf_printf(b, "%s{\"name\":\"%s\",\"severity\":\"%s\",\"message\":",
		   b->p[b->n - 1] == '[' ? "" : ",", name, severity);
	buf_json(b, message);
	buf_char(b, '}');
}

/* What keeps the server from being ready is an error; what a check has a word about, a warning. */
static void add_trouble(void *ctx, const char *name, bool ok, const char *why)
{
	if (!ok || *why)
		add_finding(ctx, name, ok ? "warning" : "error", str_c(why));
}

void handle_doctor(struct request *r)
{
	const struct service *s = r->site->service;
	struct buf *b = request_reply(r, 200), message;

	buf_lit(b, "{\"findings\":[");
	(void)health_ready(r, add_trouble, b);
	for (size_t i = 0; i < s->nfindings; i++)
		add_finding(b, s->findings[i].name, "warning", str_c(s->findings[i].message));
	buf_in_arena(&message, r->call->arena, 1024);
	if (authority_finding(r, &message))
		add_finding(b, "authority_overdue", "warning", buf_str(&message));
	federation_add_findings(r, b);
	issuer_keys_add_findings(r, b);
	sinks_add_findings(r, b);
	tools_add_findings(r, b);
	witness_add_findings(r, b);
	buf_lit(b, "]}");
	request_send(r);
}
