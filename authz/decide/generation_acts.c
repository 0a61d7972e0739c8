#include "authz/decide/generation_acts.h"

#include <stdio.h>

#include "authz/base/log.h"
#include "authz/base/text.h"
#include "authz/decide/rollout_acts.h"
#include "authz/decide/signing.h"
#include "authz/policy/test.h"

void generation_refused(struct control *c, const struct policy_act *act, size_t errors,
			const uint8_t *hash, const char *reason)
{
	struct act_record r;
	struct err e = { 0 };

	act_record_begin(&r);
	record_str(&r.job.record, STR("act"), act->word);
	if (errors)
		record_int(&r.job.record, STR("errors"), (int64_t)errors);
	record_str(&r.job.record, STR("kind"), STR("policy.refused"));
	record_str(&r.job.record, STR("pep"), act->by);
	if (hash)
		record_hash(&r.job.record, STR("policy_sha256"), hash);
	record_str(&r.job.record, STR("reason"), str_c(reason));
	if (!act_record_append(c, &r, &e))
		log_event(LOG_WARN, "policy.unrecorded", "why=\"%s\"", e.msg);
}

bool generation_may_act(struct control *c, const struct policy_act *act, struct str if_match,
			struct generation_outcome *out, struct err *e)
{
	struct policy_standing *now = (struct policy_standing *)slot_acquire(&c->standing);
	struct str hash = now && now->generation ? str_c(now->hash) : STR("");
	bool same = !if_match.n || str_eq(if_match, hash);

	out->before = now ? now->generation : 0;
	shared_release(now ? &now->shared : NULL);
	if (c->config.files_only)
		return err_code(e, ERR_CONFLICT, "files_only",
				"policies.files_only is set: the policies folder is the only "
				"writer; change the files there");
	if (same)
		return true;
	generation_refused(c, act, 0, NULL, GENERATION_CONFLICT);
	return err_code(e, ERR_CONFLICT, GENERATION_CONFLICT,
			"generation %llu is in force, and its hash is not the one in If-Match: "
			"somebody changed the policies; look again",
			(unsigned long long)out->before);
}

/* The one way into force: what a set must pass is asked here, before it is stored. */
static bool put(struct control *c, struct policy_sources *s, const struct policy_act *act,
		struct generation_outcome *out, struct err *e)
{
	struct policy_standing *old = (struct policy_standing *)slot_acquire(&c->standing);
	struct policy_set *set = NULL;
	bool was_pinned = old && old->pinned;

	shared_release(old ? &old->shared : NULL);
	if (!control_activate_sources(c, s, act, &set, &out->findings, e)) {
		if (out->findings.errors)
			generation_refused(c, act, out->findings.errors, s->hash, "policy_refused");
		return false;
	}
	out->number = set->generation;
	memcpy(out->hash, set->hash, sizeof(out->hash));
	out->rules = policy_set_rule_count(set);
	out->pinned = act->pinned;
	out->changed = out->number != out->before || was_pinned != act->pinned;
	shared_release(&set->shared);
	return true;
}

/* The first failing test of a set, as one sentence. */
struct first_failure {
	char text[300];
};

static void note_failure(void *ctx, const struct policy_test_result *r)
{
	struct first_failure *f = ctx;

	if (r->outcome == POLICY_TEST_FAILED && !f->text[0])
		snprintf(f->text, sizeof(f->text), "%.*s:%d: %.*s: %.*s", STR_FMT(r->file), r->line,
			 STR_FMT(r->test), STR_FMT(r->message));
}

/* Without, the set need not be loaded once more to find none. */
static bool has_tests(const struct policy_sources *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (str_ends(s->files[i].path, STR("_test.lua")))
			return true;
	return false;
}

/* A set whose own tests fail does not say what its author meant. A set that does not load is left
 * to the activation, which names every mistake; one without tests has nothing to fail. */
static bool tests_pass(struct control *c, const struct policy_sources *s,
		       const struct policy_act *act, struct err *e)
{
	struct first_failure first = { "" };
	struct policy_test_options o = { .load = { .limits = c->config.limits },
					 .result = note_failure,
					 .ctx = &first };
	struct policy_test_report report = { 0 };
	struct err ignored;
	size_t failed;

	if (!has_tests(s) || !policy_test_run(s, &o, &report, &ignored))
		return true;
	failed = report.failed;
	policy_test_report_clear(&report);
	if (!failed)
		return true;
	generation_refused(c, act, failed, s->hash, "policy_tests_failed");
	return err_code(e, ERR_INVALID, "policy_tests_failed",
			"%zu of the set's own tests fail, so it is not applied; the first: %s",
			failed, first.text);
}

bool generation_apply(struct control *c, struct policy_sources *s, struct str by,
		      struct str message, struct str if_match, bool allow_older,
		      struct generation_outcome *out, struct err *e)
{
	const struct policy_act act = {
		.word = STR("apply"), .by = by, .message = message, .allow_older = allow_older
	};

	/* Whose set it is comes first: what nobody signed is not even run as a test. */
	if (!generation_may_act(c, &act, if_match, out, e) || !rollouts_none(c, e) ||
	    !signing_admits(c, s, &act, e) || !tests_pass(c, s, &act, e) ||
	    !put(c, s, &act, out, e))
		return false;
	/* What changed in the folder while a rollback kept it out is older than this act. */
	control_folder_seen(c);
	return true;
}

bool generation_keep(struct control *c, struct policy_sources *s, const struct policy_act *act,
		     struct policy_set **set, struct policy_findings *findings, struct err *e)
{
	struct policy_set *made = NULL;
	bool stored;

	if (!signing_admits(c, s, act, e) || !tests_pass(c, s, act, e) ||
	    !generations_recall(c->generations, s, e))
		return false;
	if (!policy_set_load(s, &c->config.limits, &made, findings, e)) {
		if (findings && findings->errors)
			generation_refused(c, act, findings->errors, s->hash, "policy_refused");
		return false;
	}
	if (!generations_store(c->generations, s, made, act->by, act->message,
			       clock_wall_ms(c->core->clock), &made->generation, &stored, e)) {
		shared_release(&made->shared);
		return false;
	}
	*set = made;
	return true;
}

/* A rollback ends a roll-out, whatever else it does. */
static bool end_rollout(struct control *c, struct str by, struct generation_outcome *out,
			struct err *e)
{
	const struct rollout_end end = { .by = by, .reason = STR("rollback") };
	struct rollout_row row;
	struct arena a;
	bool ok;

	if (!rollouts_running(c))
		return true;
	arena_init(&a, &mem_system, 65536);
	ok = rollout_abort(c, &end, &row, &a, e);
	out->rollout = ok ? row.id : 0;
	arena_clear(&a);
	return ok;
}

/* How things stand, for an act that left the set in force as it is. */
static void stays(struct control *c, struct generation_outcome *out)
{
	struct policy_standing *now = (struct policy_standing *)slot_acquire(&c->standing);
	struct policy_set *set = (struct policy_set *)slot_acquire(&c->core->policies);

	if (set) {
		out->number = set->generation;
		memcpy(out->hash, set->hash, sizeof(out->hash));
		out->rules = policy_set_rule_count(set);
	}
	out->pinned = now && now->pinned;
	shared_release(now ? &now->shared : NULL);
	shared_release(set ? &set->shared : NULL);
}

struct previous {
	uint64_t active, number;
};

static void look_for_previous(void *ctx, const struct generation_activation *act)
{
	struct previous *p = ctx;

	if (!p->number && act->number != p->active)
		p->number = act->number;
}

bool generation_activate(struct control *c, uint64_t number, struct str by, struct str if_match,
			 struct generation_outcome *out, struct err *e)
{
	const struct policy_act act = { .word = STR("activate"), .by = by, .pinned = true };
	struct policy_sources s;
	bool ok;

	if (!generation_may_act(c, &act, if_match, out, e) || !end_rollout(c, by, out, e))
		return false;
	if (!number && out->rollout) {
		stays(c, out);
		return true;
	}
	if (!number) {
		struct previous p = { .active = out->before };

		if (!generations_history(c->generations, 1000, look_for_previous, &p, e))
			return false;
		number = p.number;
		if (!number)
			return err_code(e, ERR_NOT_FOUND, "no_previous_generation",
					"no other generation was ever in force");
	}
	if (!generations_load(c->generations, number, &s, e))
		return false;
	ok = put(c, &s, &act, out, e);
	policy_sources_clear(&s);
	return ok;
}
