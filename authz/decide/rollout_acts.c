/*
 * The end of a roll-out must not depend on a disk that has room: the fronts are told first, and a
 * row that cannot be written is tried again every second. Until it is written a restart would carry
 * the roll-out on, which its gates would then end again.
 */
#include "authz/decide/rollout_acts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "authz/base/log.h"
#include "authz/decide/generation_acts.h"
#include "authz/decide/signing.h"

#define GATE_NS 1000000000LL  /* how often gates are judged */
#define SAVE_NS 10000000000LL /* how often what was counted is kept */

/* An end that has been decided, until it is written down. */
struct ending {
	bool due;
	enum rollout_state state;
	int64_t ended_ms;
	char by[2048], detail[200];
	const char *reason;
};

struct rollout_desk {
	struct rollout_store *store;
	struct rollout *running;      /* a reference; NULL: none */
	struct rollout_counts judged; /* up to which the gates have judged */
	struct ending ending;
	int64_t next_gate_ns, next_save_ns;
	uint64_t saved; /* evaluations as last kept */
};

/* ---- records ---- */

static void add_gate(struct record *r, struct str name, int64_t v)
{
	if (v >= 0)
		record_int(r, name, v);
}

static bool record_start(struct control *c, const struct rollout_row *row, const char *outcome,
			 const uint8_t hash[static 32], struct err *e)
{
	struct act_record r;
	struct record *rec = &r.job.record;

	act_record_begin(&r);
	record_str(rec, STR("act"), STR("start"));
	record_int(rec, STR("base"), (int64_t)row->base);
	record_int(rec, STR("generation"), (int64_t)row->candidate);
	record_str(rec, STR("kind"), STR("policy.rollout"));
	add_gate(rec, STR("max_deny_increase_ppm"), row->gates.max_deny_increase);
	add_gate(rec, STR("max_deny_ppm"), row->gates.max_deny);
	add_gate(rec, STR("max_error_ppm"), row->gates.max_error);
	add_gate(rec, STR("max_p99_us"), row->gates.max_p99_us);
	record_int(rec, STR("min_sample"), row->gates.min_sample);
	record_str(rec, STR("mode"), str_c(rollout_kind_names[row->kind]));
	record_str(rec, STR("outcome"), str_c(outcome));
	record_str(rec, STR("pep"), row->by);
	if (row->kind == ROLLOUT_CANARY)
		record_int(rec, STR("percent"), row->percent);
	record_hash(rec, STR("policy_sha256"), hash);
	record_int(rec, STR("rollout"), (int64_t)row->id);
	return act_record_append(c, &r, e);
}

static void record_end(struct control *c, const struct rollout_row *row,
		       const struct rollout_report *report)
{
	const struct rollout_counts *n = &report->counts;
	struct act_record r;
	struct record *rec = &r.job.record;
	struct err e = { 0 };

	act_record_begin(&r);
	record_str(rec, STR("act"), row->state == ROLLOUT_PROMOTED ? STR("promote") : STR("abort"));
	record_int(rec, STR("base"), (int64_t)row->base);
	record_int(rec, STR("changed"), (int64_t)report->changed);
	record_int(rec, STR("denied"),
		   (int64_t)n->sides[ROLLOUT_CANDIDATE].decisions[DECISION_DENY]);
	record_int(rec, STR("denied_in_force"),
		   (int64_t)n->sides[ROLLOUT_BASE].decisions[DECISION_DENY]);
	record_str(rec, STR("detail"), row->detail);
	record_int(rec, STR("errors"), (int64_t)n->sides[ROLLOUT_CANDIDATE].errors);
	record_int(rec, STR("evaluations"), (int64_t)rollout_evaluations(n, ROLLOUT_CANDIDATE));
	record_int(rec, STR("generation"), (int64_t)row->candidate);
	record_str(rec, STR("kind"), STR("policy.rollout"));
	record_str(rec, STR("mode"), str_c(rollout_kind_names[row->kind]));
	record_int(rec, STR("p99_us"), rollout_p99_us(n, ROLLOUT_CANDIDATE));
	record_str(rec, STR("pep"), row->ended_by);
	record_str(rec, STR("reason"), row->reason);
	record_int(rec, STR("rollout"), (int64_t)row->id);
	if (!act_record_append(c, &r, &e))
		log_event(LOG_ERROR, "rollout.unrecorded", "rollout=%" PRIu64 " why=\"%s\"",
			  row->id, e.msg);
}

/* ---- the desk ---- */

bool rollouts_open(struct control *c, struct err *e)
{
	c->rollouts = calloc(1, sizeof(*c->rollouts));
	if (!c->rollouts)
		return err_set(e, ERR_NOMEM, "no memory for the roll-outs");
	return rollout_store_open(c->db, &c->rollouts->store, e);
}

void rollouts_close(struct control *c)
{
	struct rollout_desk *d = c->rollouts;

	if (!d)
		return;
	shared_release(d->running ? &d->running->shared : NULL);
	rollout_store_close(d->store);
	free(d);
	c->rollouts = NULL;
}

uint64_t rollouts_running(const struct control *c)
{
	return c->rollouts->running ? c->rollouts->running->id : 0;
}

bool rollouts_none(const struct control *c, struct err *e)
{
	uint64_t id = rollouts_running(c);

	if (!id)
		return true;
	return err_code(e, ERR_CONFLICT, "rollout_running",
			"roll-out %" PRIu64 " is running; promote or abort it first", id);
}

static struct rollout_report *new_report(struct err *e)
{
	struct rollout_report *r = calloc(1, sizeof(*r));

	if (!r)
		err_set(e, ERR_NOMEM, "no memory for what the roll-out counted");
	return r;
}

/* Keep the counts. Not worth a word if it fails: it is tried again. */
static void save(struct rollout_desk *d)
{
	struct err e = { 0 };
	struct rollout_report *report = new_report(&e);
	uint64_t n;

	if (!report)
		return;
	rollout_total(d->running, report);
	n = rollout_evaluations(&report->counts, ROLLOUT_CANDIDATE);
	if (n != d->saved && rollout_store_save(d->store, d->running->id, report, &e))
		d->saved = n;
	free(report);
}

/* ---- the end ---- */

/* Write an end down, on disk and on record. */
static bool write_end(struct control *c, const struct rollout_row *row,
		      const struct rollout_report *report, struct err *e)
{
	if (!rollout_store_end(c->rollouts->store, row, report, e))
		return false;
	record_end(c, row, report);
	log_event(row->state == ROLLOUT_PROMOTED ? LOG_INFO : LOG_WARN, "rollout.ended",
		  "rollout=%" PRIu64 " state=%s reason=%.*s detail=\"%.*s\"", row->id,
		  rollout_state_names[row->state], STR_FMT(row->reason), STR_FMT(row->detail));
	return true;
}

/* False: the end stays due. */
static bool settle(struct control *c, struct err *e)
{
	struct rollout_desk *d = c->rollouts;
	const struct ending *end = &d->ending;
	struct rollout_report *report = new_report(e);
	const struct rollout_row row = { .id = d->running->id,
					 .kind = d->running->kind,
					 .base = d->running->base,
					 .candidate = d->running->candidate->generation,
					 .state = end->state,
					 .ended_ms = end->ended_ms,
					 .ended_by = str_c(end->by),
					 .reason = str_c(end->reason),
					 .detail = str_c(end->detail) };
	bool ok;

	if (!report)
		return false;
	rollout_total(d->running, report);
	ok = write_end(c, &row, report, e);
	free(report);
	if (!ok)
		return false;
	shared_release(&d->running->shared);
	d->running = NULL;
	d->ending.due = false;
	return true;
}

/* The fronts first. @reason is static. */
static bool finish(struct control *c, enum rollout_state state, struct str by, const char *reason,
		   const char *detail, struct err *e)
{
	struct ending *end = &c->rollouts->ending;

	slot_publish(&c->core->rollouts, NULL);
	if (!end->due) { /* what ended it first did */
		end->due = true;
		end->state = state;
		end->ended_ms = clock_wall_ms(c->core->clock);
		end->reason = reason;
		snprintf(end->by, sizeof(end->by), "%.*s", STR_FMT(by));
		snprintf(end->detail, sizeof(end->detail), "%s", detail);
	}
	return settle(c, e);
}

void rollouts_tick(struct control *c, int64_t now_ns)
{
	struct rollout_desk *d = c->rollouts;
	struct rollout_counts now, since;
	char why[200] = "";
	const char *gate;
	struct err e = { 0 };

	if (!d->running || now_ns < d->next_gate_ns)
		return;
	d->next_gate_ns = now_ns + GATE_NS;
	if (d->ending.due) {
		if (!settle(c, &e))
			log_event(LOG_WARN, "rollout.unwritten", "why=\"%s\"", e.msg);
		return;
	}
	if (now_ns >= d->next_save_ns) {
		d->next_save_ns = now_ns + SAVE_NS;
		save(d);
	}
	rollout_total_counts(d->running, &now);
	rollout_counts_since(&now, &d->judged, &since);
	if (!rollout_judgeable(&d->running->gates, &since))
		return;
	d->judged = now; /* what comes next is judged anew, or old good days would hide it */
	gate = rollout_tripped(&d->running->gates, &since, why);
	if (gate && !finish(c, ROLLOUT_ABORTED, STR("writ:gate"), gate, why, &e))
		log_event(LOG_WARN, "rollout.unwritten", "why=\"%s\"", e.msg);
}

void rollouts_stop(struct control *c)
{
	if (c->rollouts->running && !c->rollouts->ending.due)
		save(c->rollouts);
}

/* ---- the start ---- */

static struct rollout *make_run(const struct rollout_row *row, struct policy_set *candidate,
				struct rollout_report *carried)
{
	struct rollout *r = rollout_new(candidate, carried);

	if (!r)
		return NULL;
	r->id = row->id;
	r->kind = row->kind;
	r->base = row->base;
	r->percent = row->percent;
	memcpy(r->salt, row->salt, sizeof(r->salt));
	r->gates = row->gates;
	r->started_ms = row->started_ms;
	return r;
}

static void run(struct control *c, struct rollout *r)
{
	struct rollout_desk *d = c->rollouts;
	int64_t now = clock_mono_ns(c->core->clock);

	d->running = r;
	d->ending.due = false;
	rollout_total_counts(r, &d->judged);
	d->saved = rollout_evaluations(&d->judged, ROLLOUT_CANDIDATE);
	d->next_gate_ns = now + GATE_NS;
	d->next_save_ns = now + SAVE_NS;
	shared_acquire(&r->shared);
	slot_publish(&c->core->rollouts, &r->shared);
	log_event(LOG_INFO, "rollout.running",
		  "rollout=%" PRIu64 " mode=%s generation=%" PRIu64 " percent=%u", r->id,
		  rollout_kind_names[r->kind], r->candidate->generation, r->percent);
}

/* A stored generation, or new sources, as a set with its number. */
static bool load_candidate(struct control *c, const struct rollout_wish *w, struct policy_set **out,
			   struct policy_findings *findings, struct err *e)
{
	const struct policy_act act = { .word = STR("rollout"),
					.by = w->by,
					.message = w->message };
	struct policy_sources s;
	bool ok;

	if (!w->number)
		return generation_keep(c, w->sources, &act, out, findings, e);
	if (!generations_load(c->generations, w->number, &s, e))
		return false;
	ok = signing_admits(c, &s, &act, e) &&
	     policy_set_load(&s, &c->config.limits, out, findings, e);
	policy_sources_clear(&s);
	if (ok)
		(*out)->generation = w->number;
	return ok;
}

static void fill_gates(struct rollout_row *row, const struct rollout_wish *w)
{
	struct rollout_gates *g = &row->gates;

	*g = w->gates;
	if (g->min_sample < 1)
		g->min_sample = ROLLOUT_MIN_SAMPLE;
	/* A shadow that fails harms as well: one that runs into its budget costs 5 ms each time. */
	if (g->max_error < 0)
		g->max_error = ROLLOUT_MAX_ERROR;
	if (g->max_deny_increase < 0 && row->kind == ROLLOUT_CANARY)
		g->max_deny_increase = ROLLOUT_MAX_DENY_INCREASE;
}

/* Row, record, and only then the fronts. */
static bool put_to_work(struct control *c, struct rollout_row *row, struct rollout *r,
			struct err *e)
{
	AUTO_TX tx = { 0 };
	struct err ignored = { 0 };

	if (!db_begin(c->db, &tx, e) || !rollout_store_insert(c->rollouts->store, row, e))
		return false;
	r->id = row->id;
	if (!record_start(c, row, "done", r->candidate->hash, e))
		return false;
	if (db_commit(&tx, e)) {
		run(c, r);
		return true;
	}
	/* The log now tells of something that did not happen: say so there too. */
	if (!record_start(c, row, "failed", r->candidate->hash, &ignored))
		log_event(LOG_ERROR, "rollout.unrecorded", "why=\"%s\"", ignored.msg);
	return false;
}

bool rollout_start(struct control *c, const struct rollout_wish *w, struct rollout_row *out,
		   struct policy_findings *findings, struct err *e)
{
	const struct policy_act act = { .word = STR("rollout"), .by = w->by };
	struct generation_outcome now = { 0 };
	struct policy_set *candidate = NULL;
	struct rollout_row row = { .kind = w->kind,
				   .percent = w->kind == ROLLOUT_CANARY ? w->percent : 0,
				   .by = w->by,
				   .message = w->message,
				   .started_ms = clock_wall_ms(c->core->clock) };
	struct rollout *r;

	if (!generation_may_act(c, &act, w->if_match, &now, e) || !rollouts_none(c, e))
		return false;
	if (!now.before)
		return err_code(e, ERR_CONFLICT, REASON_NO_POLICY,
				"no policies are in force to compare with; apply some first");
	if (!load_candidate(c, w, &candidate, findings, e))
		return false;
	if (candidate->generation == now.before) {
		shared_release(&candidate->shared);
		return err_code(e, ERR_CONFLICT, "already_in_force",
				"generation %" PRIu64 " is in force already", now.before);
	}
	row.base = now.before;
	row.candidate = candidate->generation;
	fill_gates(&row, w);
	random_bytes(row.salt, sizeof(row.salt));
	r = make_run(&row, candidate, NULL);
	if (!r)
		return err_set(e, ERR_NOMEM, "no memory for the roll-out");
	if (!put_to_work(c, &row, r, e)) {
		shared_release(&r->shared);
		return false;
	}
	*out = row; /* nothing may fail any more: it runs */
	return true;
}

/* ---- the acts that end it ---- */

void rollout_tag(const struct rollout_row *row, char out[static ROLLOUT_TAG_MAX])
{
	snprintf(out, ROLLOUT_TAG_MAX, "%" PRIu64 "-%s", row->id, rollout_state_names[row->state]);
}

static bool may_end(struct control *c, const struct rollout_end *end, struct rollout_row *row,
		    struct arena *a, struct err *e)
{
	char tag[ROLLOUT_TAG_MAX];

	if (!rollout_look(c, end->id, row, a, e))
		return false;
	rollout_tag(row, tag);
	if (end->if_match.n && !str_eq(end->if_match, str_c(tag)))
		return err_code(e, ERR_CONFLICT, ROLLOUT_CONFLICT,
				"roll-out %" PRIu64 " is %s, which is not what If-Match says; look "
				"again",
				row->id, rollout_state_names[row->state]);
	if (row->id == rollouts_running(c))
		return true;
	return err_code(e, ERR_CONFLICT, "rollout_ended", "roll-out %" PRIu64 " was %s already",
			row->id, rollout_state_names[row->state]);
}

/* As it is now. It is not read back: what was done must not be answered with an error. @by is the
 * caller's, who may have come upon an end that another one had begun. */
static void ended(const struct control *c, struct rollout_row *row, struct str by)
{
	row->state = c->rollouts->ending.state;
	row->ended_ms = c->rollouts->ending.ended_ms;
	row->ended_by = by;
	row->reason = str_c(c->rollouts->ending.reason);
}

bool rollout_abort(struct control *c, const struct rollout_end *end, struct rollout_row *out,
		   struct arena *a, struct err *e)
{
	const char *why = str_eq(end->reason, STR("rollback")) ? "rollback" : "asked";
	struct rollout_row row;

	if (!may_end(c, end, &row, a, e) || !finish(c, ROLLOUT_ABORTED, end->by, why, "", e))
		return false;
	ended(c, &row, end->by);
	*out = row;
	return true;
}

bool rollout_promote(struct control *c, const struct rollout_end *end, struct rollout_row *out,
		     struct arena *a, struct err *e)
{
	const struct policy_act act = { .word = STR("promote"), .by = end->by };
	struct generation_outcome now = { 0 };
	struct policy_sources s;
	struct policy_set *set = NULL;
	struct rollout_row row;
	bool ok;

	if (!may_end(c, end, &row, a, e) ||
	    !generation_may_act(c, &act, (struct str){ NULL, 0 }, &now, e))
		return false;
	if (c->rollouts->ending.due)
		return err_code(e, ERR_CONFLICT, "rollout_ended", "roll-out %" PRIu64 " has ended",
				row.id);
	if (!generations_load(c->generations, row.candidate, &s, e))
		return false;
	ok = control_activate_sources(c, &s, &act, &set, NULL, e);
	policy_sources_clear(&s);
	if (!ok)
		return false;
	shared_release(&set->shared);
	/* What changed in the folder meanwhile is older than this act. */
	control_folder_seen(c);
	if (!finish(c, ROLLOUT_PROMOTED, end->by, "asked", "", e))
		return false;
	ended(c, &row, end->by);
	*out = row;
	return true;
}

/* ---- after a restart ---- */

/* Why it cannot go on; NULL: it can, and *out is its candidate. */
static const char *carry_on(struct control *c, const struct rollout_row *row,
			    struct policy_set **out, char detail[static 200])
{
	struct policy_standing *now = (struct policy_standing *)slot_acquire(&c->standing);
	uint64_t in_force = now ? now->generation : 0;
	const struct rollout_wish w = { .number = row->candidate };
	struct err e = { 0 };

	shared_release(now ? &now->shared : NULL);
	if (!load_candidate(c, &w, out, NULL, &e)) {
		snprintf(detail, 200, "%.190s", e.msg);
		return "candidate_lost";
	}
	if (c->config.files_only) {
		snprintf(detail, 200, "policies.files_only is set now");
		return "files_only";
	}
	if (in_force == row->candidate) /* stopped in the middle of a promotion */
		return "promoted";
	if (in_force == row->base)
		return NULL;
	snprintf(detail, 200, "generation %" PRIu64 " is in force, not %" PRIu64, in_force,
		 row->base);
	return "base_changed";
}

/* Its candidate is gone, so there is nothing to carry on, not even for a moment. */
static void end_lost(struct control *c, struct rollout_row *row, const char *why,
		     const char *detail, const struct rollout_report *report)
{
	struct err e = { 0 };

	row->state = ROLLOUT_ABORTED;
	row->ended_ms = clock_wall_ms(c->core->clock);
	row->ended_by = STR("writ:start");
	row->reason = str_c(why);
	row->detail = str_c(detail);
	if (!write_end(c, row, report, &e))
		log_event(LOG_ERROR, "rollout.unwritten", "why=\"%s\"", e.msg);
}

void rollouts_resume(struct control *c)
{
	struct rollout_desk *d = c->rollouts;
	struct policy_set *candidate = NULL;
	struct rollout_report *report;
	struct rollout_row row;
	struct rollout *r;
	const char *why;
	char detail[200] = "";
	struct arena a;
	struct err e = { 0 };

	arena_init(&a, &mem_system, 65536);
	report = new_report(&e);
	if (!report || !rollout_store_get(d->store, 0, &a, &row, &e) ||
	    !rollout_store_report(d->store, row.id, report, &e)) {
		if (e.class != ERR_NOT_FOUND)
			log_event(LOG_ERROR, "rollout.stored", "why=\"%s\"", e.msg);
		free(report);
		arena_clear(&a);
		return;
	}
	why = carry_on(c, &row, &candidate, detail);
	if (!candidate) {
		end_lost(c, &row, why, detail, report);
		free(report);
	} else if ((r = make_run(&row, candidate, report))) {
		run(c, r);
		if (why && !finish(c,
				   str_eq(str_c(why), STR("promoted")) ? ROLLOUT_PROMOTED
								       : ROLLOUT_ABORTED,
				   STR("writ:start"), why, detail, &e))
			log_event(LOG_WARN, "rollout.unwritten", "why=\"%s\"", e.msg);
	}
	arena_clear(&a);
}

/* ---- looking ---- */

bool rollout_look(struct control *c, uint64_t id, struct rollout_row *out, struct arena *a,
		  struct err *e)
{
	return rollout_store_get(c->rollouts->store, id, a, out, e);
}

bool rollout_count_up(struct control *c, uint64_t id, struct rollout_report *out, struct err *e)
{
	if (id && id == rollouts_running(c)) {
		rollout_total(c->rollouts->running, out);
		return true;
	}
	return rollout_store_report(c->rollouts->store, id, out, e);
}

bool rollout_list(struct control *c, uint64_t before, size_t max,
		  void (*each)(void *ctx, const struct rollout_row *row), void *ctx, struct err *e)
{
	return rollout_store_list(c->rollouts->store, before, max, each, ctx, e);
}
