#include "tests/decide/rig.h"

#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>

#include "authz/audit/read.h"

/* What was sent, and what is made of it: apart, so that a test of faults finds the second empty. */
static struct arena request_arena, answer_arena;

static bool sign(void *ctx, struct str text, uint8_t signature[static 64], struct err *e)
{
	struct rig *r = ctx;
	EVP_MD_CTX *m = EVP_MD_CTX_new();
	size_t n = 64;
	bool ok = m && EVP_DigestSignInit(m, NULL, NULL, NULL, r->log_key) == 1 &&
		  EVP_DigestSign(m, signature, &n, (const unsigned char *)text.p, text.n) == 1;

	EVP_MD_CTX_free(m);
	return ok || err_set(e, ERR_INTERNAL, "cannot sign");
}

static void fatal(void *ctx, const struct err *e)
{
	(void)e;
	atomic_fetch_add(&((struct rig *)ctx)->fatal, 1);
}

static void start_log(struct rig *r, const struct rig_options *o)
{
	struct audit_config c = { .folder = r->folder,
				  .origin = "test.example/writ",
				  .node = "test",
				  .queue = o->queue ? o->queue : 64,
				  .clock = &r->clock,
				  .sign = sign,
				  .ctx = r,
				  .fatal = fatal };
	struct audit_status status;
	struct err e = { 0 };
	size_t n = 32;

	r->log_key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	assert_non_null(r->log_key);
	assert_int_equal(EVP_PKEY_get_raw_public_key(r->log_key, c.public_key, &n), 1);
	if (!audit_open(&c, &r->core.audit, &e))
		fail_msg("audit_open: %s", e.msg);
	audit_status(r->core.audit, &status);
	memcpy(r->core.log_key_id, status.log_key_id, sizeof(r->core.log_key_id));
}

static void start_registry(struct rig *r)
{
	struct db_options options = { .create = true };
	struct registry_config c = { .trust_domain = STR_INIT("test.example"),
				     .slot = &r->core.agents,
				     .alloc = &mem_system };
	struct err e = { 0 };
	char path[128];

	snprintf(path, sizeof(path), "%s/writ.db", r->folder);
	if (!db_open(path, &options, &r->db, &e))
		fail_msg("db_open: %s", e.msg);
	c.db = r->db;
	if (!registry_open(&c, &r->registry, &e))
		fail_msg("registry_open: %s", e.msg);
}

void rig_policies(struct rig *r, const char *source, const char *catalogue, uint64_t generation)
{
	struct policy_file files[] = { { STR_INIT("catalogue/tools.lua"), str_c(catalogue) },
				       { STR_INIT("rules.lua"), str_c(source) } };
	struct policy_sources s;
	struct policy_set *set = NULL;
	struct err e = { 0 };
	size_t from = catalogue ? 0 : 1;

	if (!policy_sources_from(&s, files + from, 2 - from, &e) ||
	    !policy_set_load(&s, &policy_default_limits, &set, NULL, &e)) {
		fail_msg("policies: %s", e.msg);
		return;
	}
	policy_sources_clear(&s);
	set->generation = generation;
	slot_publish(&r->core.policies, &set->shared);
}

static void start_core(struct rig *r)
{
	struct caller_rules *rules = caller_rules_new();

	r->core.clock = &r->clock;
	r->core.trust_domain = STR("test.example");
	r->core.server_id = STR("spiffe://test.example/writ/server");
	r->core.token_issuer = STR("https://writ.test.example");
	r->core.json = json_default_limits;
	r->core.decision_ns = 2000000000;
	r->core.x509_ttl = r->core.x509_ttl_max = 3600;
	r->core.jwt_ttl = r->core.jwt_ttl_max = 300;
	r->core.delegated_ttl = 300;
	r->core.delegation_depth = 4;
	r->core.join_token_ttl = 600;
	r->core.leeway_s = 30;
	r->core.token_max = LIMIT_TOKEN;
	r->core.agent_limit = limit_new(200, 400, 1024, NULL);
	r->core.attest_limit = limit_new(1, 10, 1024, NULL);
	slot_init(&r->core.policies);
	slot_init(&r->core.bundles);
	slot_init(&r->core.callers);
	slot_init(&r->core.agents);
	slot_init(&r->core.rollouts);
	slot_init(&r->core.definitions);
	slot_init(&r->core.revocations);
	assert_non_null(rules);
	slot_publish(&r->core.callers, &rules->shared);
}

void rig_start_with(struct rig *r, const struct rig_options *o)
{
	struct err e = { 0 };

	memset(r, 0, sizeof(*r));
	snprintf(r->folder, sizeof(r->folder), "%s/writ-rig-XXXXXX", o->base ? o->base : "/tmp");
	assert_non_null(mkdtemp(r->folder));
	r->time = (struct clock_fixed){ o->now_ms ? o->now_ms : 1800000000000, 1000000000 };
	r->clock = clock_of_fixed(&r->time);
	start_core(r);
	start_log(r, o);
	if (!o->no_registry)
		start_registry(r);
	if (o->source)
		rig_policies(r, o->source, o->catalogue, 7);
	r->home.inbox = queue_new(1024, false, &e);
	assert_non_null(r->home.inbox);
	if (!worker_init(&r->worker, &r->core, &r->home, NULL, &e))
		fail_msg("worker_init: %s", e.msg);
	arena_init(&request_arena, &mem_system, (size_t)64 * 1024 * 1024);
	arena_init(&answer_arena, &mem_system, (size_t)64 * 1024 * 1024);
}

void rig_start(struct rig *r, const char *source, const char *catalogue)
{
	rig_start_with(r, &(struct rig_options){ .source = source, .catalogue = catalogue });
}

void rig_stop(struct rig *r)
{
	char command[128];

	while (r->worker.oldest && rig_pump(r, 2000))
		;
	audit_close(r->core.audit);
	while (rig_pump(r, 0))
		;
	worker_clear(&r->worker);
	queue_free(r->home.inbox);
	registry_close(r->registry);
	db_close(r->db);
	slot_clear(&r->core.policies);
	slot_clear(&r->core.bundles);
	slot_clear(&r->core.callers);
	slot_clear(&r->core.agents);
	slot_clear(&r->core.rollouts);
	slot_clear(&r->core.definitions);
	slot_clear(&r->core.revocations);
	limit_free(r->core.agent_limit);
	limit_free(r->core.attest_limit);
	EVP_PKEY_free(r->log_key);
	arena_clear(&request_arena);
	arena_clear(&answer_arena);
	snprintf(command, sizeof(command), "rm -rf %s", r->folder);
	if (system(command)) /* NOLINT(cert-env33-c): a test's own folder */
		fail_msg("cannot remove %s", r->folder);
}

void rig_agent(struct rig *r, const char *id, const char *team)
{
	struct registry_attribute attribute = { STR_INIT("team"), str_c(team) };
	struct registry_change c = { .verb = REGISTRY_REGISTER,
				     .spec = { .id = str_c(id),
					       .owner = STR_INIT("ops@test.example"),
					       .attributes = &attribute,
					       .nattributes = 1 },
				     .by = STR_INIT("test"),
				     .now_ms = r->time.ms };
	struct err e = { 0 };

	if (!registry_apply(r->registry, &c, &e))
		fail_msg("register %s: %s", id, e.msg);
	worker_turn_begin(&r->worker);
}

void rig_change(struct rig *r, const char *id, enum registry_verb verb)
{
	struct registry_change c = { .verb = verb,
				     .spec = { .id = str_c(id) },
				     .by = STR_INIT("test"),
				     .now_ms = r->time.ms };
	struct err e = { 0 };

	if (!registry_apply(r->registry, &c, &e))
		fail_msg("change %s: %s", id, e.msg);
	worker_turn_begin(&r->worker);
}

bool rig_pump(struct rig *r, int ms)
{
	struct chain tasks;

	if (r->core.audit)
		worker_turn_end(&r->worker);
	/* A log that takes nothing answers at once. */
	if (!queue_wait(r->home.inbox, &tasks, r->worker.oldest ? ms : 0))
		return false;
	tasks_run(&tasks);
	return true;
}

static void answered(struct evaluation *v, const struct decision_answer *a)
{
	struct rig_answer *out = v->user;

	if (out->done)
		fail_msg("answered twice");
	out->done = true;
	out->a = *a;
}

struct rig_answer *rig_ask_only(struct rig *r, struct str caller_id, unsigned roles,
				const char *request)
{
	struct caller *caller;
	struct evaluation *v;
	struct rig_answer *out;
	const struct json *body = NULL;
	struct err e = { 0 };

	/* The last answer may still wait for its late record: then its memory must stay. */
	if (!r->worker.oldest) {
		arena_reset(&request_arena);
		arena_clear(&answer_arena);
	}
	caller = arena_zero(&request_arena, sizeof(*caller));
	v = arena_zero(&request_arena, sizeof(*v));
	out = arena_zero(&request_arena, sizeof(*out));
	assert_true(caller && v && out);
	if (!json_parse(arena_dup(&request_arena, str_c(request)), &r->core.json, &request_arena,
			&body, &e))
		fail_msg("%s: %s", request, e.msg);
	*caller = (struct caller){
		.id = caller_id, .roles = roles, .proof = PROOF_MTLS, .delegation = r->delegation
	};
	v->request = (struct decision_request){ .subject = json_get(body, STR("subject")),
						.action = json_get(body, STR("action")),
						.resource = json_get(body, STR("resource")),
						.context = json_get(body, STR("context")) };
	v->caller = caller;
	v->arena = &answer_arena;
	v->done = answered;
	v->user = out;
	if (r->before)
		r->before(r->ctx);
	worker_turn_begin(&r->worker);
	decide(&r->worker, v);
	return out;
}

struct rig_answer rig_ask(struct rig *r, struct str caller_id, unsigned roles, const char *request)
{
	struct rig_answer *out = rig_ask_only(r, caller_id, roles, request);

	while (!out->done && rig_pump(r, 5000))
		;
	if (r->after)
		r->after(r->ctx);
	return *out;
}

uint64_t rig_size(struct rig *r)
{
	struct audit_status s;

	audit_status(r->core.audit, &s);
	return s.size;
}

const char *rig_leaf(struct rig *r, uint64_t seq)
{
	static char text[LIMIT_LEAF + 1];
	struct audit_reader *reader;
	struct audit_filter f = { .from = seq, .to = seq + 1 };
	struct audit_row row = { 0 };
	struct err e = { 0 };
	bool got = false;

	if (!audit_reader_open(r->folder, &mem_system, &reader, &e) ||
	    !audit_reader_start(reader, &f, &e) || !audit_reader_next(reader, 0, &row, &got, &e) ||
	    !got || !row.text.p) {
		fail_msg("no leaf %llu: %s", (unsigned long long)seq, e.msg);
		return "";
	}
	memcpy(text, row.text.p, row.text.n);
	text[row.text.n] = '\0';
	audit_reader_close(reader);
	return text;
}
