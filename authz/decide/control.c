#include "authz/decide/control.h"

#include <assert.h>
#include <stdlib.h>

#include "authz/audit/hold.h"
#include "authz/base/background.h"
#include "authz/base/log.h"
#include "authz/decide/definitions.h"
#include "authz/decide/federation.h"
#include "authz/decide/fetching.h"
#include "authz/decide/import.h"
#include "authz/decide/issuer_keys.h"
#include "authz/decide/revocations.h"
#include "authz/decide/rollout_acts.h"
#include "authz/decide/witnessing.h"

#define LOOK_NS 250000000LL	/* how often the policies folder is looked at */
#define MINUTE_NS 60000000000LL /* refusals are put on record once a minute */
#define RECORD_BYTES (4 * 1024 * 1024)

static const struct attest_config join_tokens_alone;

void act_record_begin(struct act_record *r)
{
	memset(r, 0, sizeof(*r));
	arena_init(&r->arena, &mem_system, RECORD_BYTES);
	buf_in_arena(&r->text, &r->arena, LIMIT_LEAF);
	record_begin(&r->job.record, &r->text);
}

bool act_records_append(struct control *c, struct act_record *r, size_t n, struct err *e)
{
	struct audit_job *jobs[ACT_RECORDS_MAX];
	bool ok = true;

	assert(n && n <= ACT_RECORDS_MAX);
	for (size_t i = 0; i < n; i++) {
		jobs[i] = &r[i].job;
		ok = ok && record_ok(&r[i].job.record);
	}
	ok = ok ? audit_append_all(c->core->audit, jobs, n, e)
		: err_set(e, ERR_UNAVAILABLE, "the record of this act is too large");
	for (size_t i = 0; i < n; i++)
		arena_clear(&r[i].arena);
	return ok;
}

bool act_record_append(struct control *c, struct act_record *r, struct err *e)
{
	return act_records_append(c, r, 1, e);
}

static bool record_refusals(void *ctx, const char *listener, const char *code, uint64_t n)
{
	struct act_record r;
	struct err e = { 0 };

	act_record_begin(&r);
	record_int(&r.job.record, STR("count"), (int64_t)n);
	record_str(&r.job.record, STR("kind"), STR("request.refused"));
	record_str(&r.job.record, STR("listener"), str_c(listener));
	record_str(&r.job.record, STR("reason"), str_c(code));
	if (act_record_append(ctx, &r, &e))
		return true;
	log_event(LOG_WARN, "refusals.unrecorded", "listener=%s code=%s count=%llu why=\"%s\"",
		  listener, code, (unsigned long long)n, e.msg);
	return false;
}

/* What is due by the clock. */
static void housekeeping(struct control *c)
{
	int64_t now = clock_mono_ns(c->core->clock), wall = clock_wall_ms(c->core->clock);
	struct err e = { 0 };

	if (atomic_exchange(&c->reload, false)) {
		control_look(c, true);
		issuer_keys_refresh(c->issuer_keys);
	} else if (now >= c->next_look_ns) {
		c->next_look_ns = now + LOOK_NS;
		control_look(c, false);
	}
	clock_watch_look(c);
	definitions_tick(c);
	rollouts_tick(c, now);
	authorities_tick(c->authorities);
	federation_tick(c->federation);
	issuer_keys_tick(c->issuer_keys);
	if (now >= c->next_minute_ns) {
		c->next_minute_ns = now + MINUTE_NS;
		refusals_take(&c->core->refusals, record_refusals, c);
		if (!tokens_prune(c->tokens, wall, (int64_t)TOKEN_TTL_MAX * 1000, &e))
			log_event(LOG_WARN, "tokens.prune", "why=\"%s\"", e.msg);
		if (!registry_keep_seen(c->registry, &e))
			log_event(LOG_WARN, "registry.seen", "why=\"%s\"", e.msg);
		if (!revocations_prune(c->revocations, wall / 1000 - c->core->leeway_s, &e))
			log_event(LOG_WARN, "revocations.prune", "why=\"%s\"", e.msg);
		if (!attest_refresh(c->attest, wall, &e))
			log_event(LOG_WARN, "attest.refresh", "why=\"%s\"", e.msg);
		if (wall > c->leaf_ends_ms - 1800 * 1000 && !control_renew_leaf(c, &e))
			log_event(LOG_ERROR, "tls.leaf", "why=\"%s\"", e.msg);
	}
}

/* Decisions would go on with what the fronts know, and nobody could take anything away. */
static bool db_is_lost(struct control *c)
{
	struct err e;

	if (!db_broken(c->db))
		return false;
	err_code(&e, ERR_IO, "storage_io",
		 "%s cannot be written any more; the server must be restarted", c->config.db_path);
	if (c->config.fatal)
		c->config.fatal(c->config.ctx, &e);
	return true;
}

static void *control_thread(void *arg)
{
	struct control *c = arg;
	struct err e = { 0 };
	struct chain tasks;
	bool lost = false;

	background_thread(); /* a set of 1,000 rules takes 10 ms to check */
	while (!atomic_load(&c->stop)) {
		if (queue_wait(c->inbox, &tasks, (int)(LOOK_NS / 1000000)))
			tasks_run(&tasks);
		housekeeping(c);
		lost = lost || db_is_lost(c);
	}
	/* Whoever still waits gets an answer. */
	while (queue_take(c->inbox, &tasks))
		tasks_run(&tasks);
	refusals_take(&c->core->refusals, record_refusals, c);
	rollouts_stop(c);
	if (!registry_keep_seen(c->registry, &e))
		log_event(LOG_WARN, "registry.seen", "why=\"%s\"", e.msg);
	return NULL;
}

static bool open_stores(struct control *c, struct err *e)
{
	struct db_options options = { .create = true };
	struct registry_config rc = { .trust_domain = c->core->trust_domain,
				      .slot = &c->core->agents,
				      .require = c->config.registry_require,
				      .max = c->config.registry_max,
				      .alloc = &mem_system };

	if (!db_open(c->config.db_path, &options, &c->db, e))
		return false;
	rc.db = c->db;
	return registry_open(&rc, &c->registry, e) && tokens_open(c->db, &c->tokens, e) &&
	       attest_open(c->config.attest, c->db, &c->attest, e) &&
	       generations_open(c->db, &c->generations, e) && holds_migrate(c->db, e) &&
	       revocations_open(c->db, &c->core->revocations, &c->revocations, e) &&
	       control_folder_open(c, e) && rollouts_open(c, e) && definitions_open(c, e) &&
	       (!c->config.witness || witnessing_open(c, c->config.witness, &c->witnessing, e)) &&
	       authorities_open(c, &c->config.authorities, &c->authorities, e);
}

bool control_open(const struct control_config *config, struct control **out, struct err *e)
{
	struct control *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(e, ERR_NOMEM, "no memory for the control thread");
	c->config = *config;
	if (!c->config.attest)
		c->config.attest = &join_tokens_alone;
	c->core = config->core;
	slot_init(&c->standing);
	atomic_init(&c->stop, false);
	atomic_init(&c->reload, false);
	c->inbox = queue_new(CONTROL_QUEUE, false, e);
	c->sha = c->inbox ? sha256_new(e) : NULL;
	c->signer = c->sha ? signer_client_new(config->signer, e) : NULL;
	if (!c->signer || !open_stores(c, e)) {
		control_close(c);
		return false;
	}
	c->core->control = c;
	*out = c;
	return true;
}

bool control_start(struct control *c, struct err *e)
{
	int rc;

	if (!authorities_start(c->authorities, e) || !control_renew_leaf(c, e) ||
	    !control_activate_stored(c, e))
		return false;
	rollouts_resume(c); /* before the folder is looked at: it waits while one runs */
	if (!fetching_open(c, &c->fetching, e) ||
	    !federation_desk_open(c, &c->config.federation, &c->federation, e) ||
	    !issuer_keys_open(c, &c->issuer_keys, e))
		return false;
	control_look(c, true);
	c->next_minute_ns = clock_mono_ns(c->core->clock) + MINUTE_NS;
	rc = pthread_create(&c->thread, NULL, control_thread, c);
	if (rc)
		return err_set(e, ERR_INTERNAL, "cannot start the control thread: %s",
			       strerror(rc));
	c->running = true;
	return true;
}

bool control_do(struct control *c, struct task *t, struct err *e)
{
	struct chain one;

	chain_init(&one);
	chain_add(&one, &t->link);
	if (!queue_push(c->inbox, &one))
		return err_set(e, ERR_UNAVAILABLE, "too many changes are waiting; try again");
	return true;
}

void control_reload(struct control *c)
{
	atomic_store(&c->reload, true);
}

void control_stop(struct control *c)
{
	fetching_stop(c->fetching);
	if (!c->running)
		return;
	atomic_store(&c->stop, true);
	queue_close(c->inbox);
	pthread_join(c->thread, NULL);
	c->running = false;
}

void control_close(struct control *c)
{
	if (!c)
		return;
	rollouts_close(c);
	definitions_close(c);
	control_folder_close(c);
	authorities_close(c->authorities);
	fetching_close(c->fetching);
	federation_desk_close(c->federation);
	issuer_keys_close(c->issuer_keys);
	witnessing_close(c->witnessing);
	generations_close(c->generations);
	import_drop(c);
	attest_close(c->attest);
	revocations_close(c->revocations);
	tokens_close(c->tokens);
	registry_close(c->registry);
	db_close(c->db);
	signer_client_free(c->signer);
	sha256_free(c->sha);
	queue_free(c->inbox);
	slot_clear(&c->standing);
	free(c);
}
