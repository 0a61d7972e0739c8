/*
 * The order of checks is the order of trust: what the caller may ask about, then who the agent is,
 * then how often, then the policies. Whatever stops early is still a decision with a record.
 */
#include "authz/decide/decide.h"

#include <inttypes.h>

#include "authz/base/text.h"
#include "authz/decide/decide_inside.h"
#include "authz/decide/definitions.h"
#include "authz/decide/delegation.h"
#include "authz/decide/rollout_beside.h"

static struct str text_of(const struct json *v, struct str name)
{
	const struct json *m = json_get_type(v, name, JSON_STRING);

	return m ? m->s : (struct str){ NULL, 0 };
}

/* Design 12, Who: subject.type "agent" carries the SPIFFE ID itself, "identity" and "user" name a
 * person and put the agent into the context. */
static struct str agent_of(const struct decision_request *q)
{
	struct str type = text_of(q->subject, STR("type"));

	if (str_eq_short(type, STR("agent")))
		return text_of(q->subject, STR("id"));
	if (str_eq_short(type, STR("identity")) || str_eq_short(type, STR("user"))) {
		/* An agent that is named by something else than a text is one nobody knows. */
		if (q->context && json_get(q->context, STR("agent")) &&
		    !json_get_type(q->context, STR("agent"), JSON_STRING))
			return STR("");
		return text_of(q->context, STR("agent"));
	}
	return (struct str){ NULL, 0 };
}

static struct policy_result denial(const char *reason, const char *message)
{
	return (struct policy_result){ .decision = DECISION_DENY,
				       .reason = str_c(reason),
				       .message = str_c(message) };
}

static void deny(struct inquiry *i, const char *reason, const char *message)
{
	i->answer.result = denial(reason, message);
}

/* Is this agent known, and may it act at all? False: denied. */
static bool check_agent(struct inquiry *i)
{
	if (!i->agent_id.p)
		return true;
	i->agent = registry_find(worker_registry(i->w), i->agent_id);
	switch (i->agent ? registry_state(i->agent, i->now_ms) : ENTRY_RETIRED) {
	case ENTRY_ACTIVE:
		registry_note_seen(i->agent, i->now_ms);
		return true;
	case ENTRY_SUSPENDED:
		deny(i, REASON_AGENT_SUSPENDED, "This agent is suspended; ask your administrator.");
		return false;
	case ENTRY_EXPIRED:
		deny(i, REASON_AGENT_EXPIRED,
		     "This agent's registration has expired; ask your administrator to renew it.");
		return false;
	case ENTRY_RETIRED:
		break;
	}
	i->agent = NULL;
	deny(i, REASON_UNKNOWN_AGENT,
	     "This agent is not registered; ask your administrator to register it.");
	return false;
}

/* May this caller ask about this agent? An agent may ask about itself only. */
static bool check_caller(struct inquiry *i)
{
	const struct caller *c = i->d->caller;

	if (c->roles & ROLE_PEP)
		return true;
	if (i->agent_id.p && str_eq(i->agent_id, c->id) &&
	    str_eq(text_of(i->d->request.subject, STR("type")), STR("agent")))
		return true;
	i->agent_id = (struct str){ NULL, 0 };
	deny(i, REASON_SUBJECT_MISMATCH,
	     "An agent may ask about itself only: send your own SPIFFE ID as subject.");
	return false;
}

/* A token says who acts, and is of no use to ask about another. */
static bool check_actor(struct inquiry *i)
{
	if (!i->delegation || str_eq(i->agent_id, delegated_actor(&i->delegation->token)))
		return true;
	i->agent_id = (struct str){ NULL, 0 };
	deny(i, REASON_SUBJECT_MISMATCH,
	     "The token says which agent acts: send that SPIFFE ID as subject.");
	return false;
}

/* The registry and the policies are strangers: the same pairs under two names. */
static const struct policy_attribute *attributes_of(const struct inquiry *i)
{
	_Static_assert(sizeof(struct policy_attribute) == sizeof(struct registry_attribute) &&
			       offsetof(struct policy_attribute, value) ==
				       offsetof(struct registry_attribute, value),
		       "one layout");
	return (const struct policy_attribute *)(const void *)i->agent->attributes;
}

static void evaluate(struct inquiry *i, struct policy_state *st, struct policy_result *out)
{
	const struct definition_view *definitions = worker_definitions(i->w);
	const struct decision_request *q = &i->d->request;
	struct policy_request pq = {
		.subject = q->subject,
		.action = q->action,
		.resource = q->resource,
		.context = q->context,
		.http = q->http,
		.pep = i->d->caller->id,
		.server = i->d->caller->server,
		.delegation = i->delegation ? &i->delegation->policy : NULL,
		.now_ms = i->now_ms,
	};

	if (i->agent) {
		pq.agent_id = i->agent->id;
		pq.agent_owner = i->agent->owner;
		pq.agent_state = STR("active");
		pq.attributes = attributes_of(i);
		pq.nattributes = i->agent->nattributes;
	}
	if (definitions) {
		pq.definitions = definitions->known;
		pq.ndefinitions = definitions->n;
	}
	policy_evaluate(st, &pq, i->d->arena, out);
}

/* A PEP denies what it cannot carry out (AuthZEN 1.0, 7). Said before the record is made, so that
 * the record says what is enforced; its obligations stay in it. */
void decide_bare(struct policy_result *r)
{
	if (r->decision != DECISION_PERMIT || !r->obligations.n)
		return;
	r->decision = DECISION_DENY;
	r->reason = STR(REASON_OBLIGATIONS);
	r->message = STR("The permit has obligations that a proxy cannot carry out; ask writ "
			 "through a client that can.");
}

/* By one set: the one in force, or a roll-out's candidate. */
static void judge_by(struct inquiry *i, enum rollout_side side, struct policy_result *out)
{
	bool candidate = side == ROLLOUT_CANDIDATE;
	struct policy_state *st = candidate ? i->w->candidate : i->w->state;
	const struct err *why = candidate ? &i->w->no_candidate : &i->w->no_state;

	if (st) {
		evaluate(i, st, out);
	} else if (candidate || worker_policy(i->w)) {
		*out = denial(REASON_POLICY_ERROR,
			      "The policies cannot be run; tell your administrator.");
		out->error = arena_dup(i->d->arena, str_c(why->msg));
	} else {
		*out = denial(REASON_NO_POLICY, "No policy is in force, so nothing is allowed.");
	}
	if (i->d->bare)
		decide_bare(out);
}

static void note_set(struct inquiry *i, const struct policy_set *set)
{
	i->answer.generation = set->generation;
	memcpy(i->policy_hash, set->hash, sizeof(i->policy_hash));
}

/* While a roll-out runs: what counts first, then the other, each on the clock. */
static void judge_both(struct inquiry *i)
{
	struct beside *b = i->beside;
	const struct policy_set *base = worker_policy(i->w);
	enum rollout_side first = b->canary ? ROLLOUT_CANDIDATE : ROLLOUT_BASE;
	enum rollout_side second = b->canary ? ROLLOUT_BASE : ROLLOUT_CANDIDATE;
	int64_t at = clock_mono_ns(i->w->core->clock), then, end;

	if (b->canary)
		note_set(i, b->rollout->candidate);
	b->generation = !b->canary ? b->rollout->candidate->generation
			: base	   ? base->generation
				   : 0;
	judge_by(i, first, &i->answer.result);
	then = clock_mono_ns(i->w->core->clock);
	judge_by(i, second, &b->result);
	end = clock_mono_ns(i->w->core->clock);
	beside_compare(b, &i->answer.result);
	if (b->tally) {
		rollout_count(b->tally, first, &i->answer.result, then - at);
		rollout_count(b->tally, second, &b->result, end - then);
	}
}

/* What is denied before the rules names the set in force. */
static bool may_be_judged(struct inquiry *i)
{
	i->agent_id = agent_of(&i->d->request);
	if (worker_policy(i->w))
		note_set(i, worker_policy(i->w));
	return check_caller(i) && check_actor(i) && check_agent(i);
}

static void judge(struct inquiry *i)
{
	if (!may_be_judged(i))
		return;
	i->beside = beside_begin(i->w, i->agent ? i->agent->id : (struct str){ NULL, 0 },
				 i->d->in_force, i->d->arena);
	if (i->beside)
		judge_both(i);
	else
		judge_by(i, ROLLOUT_BASE, &i->answer.result);
}

/* ---- the answer ---- */

static void unrecorded(struct inquiry *i, const struct err *why)
{
	deny(i, REASON_AUDIT_UNAVAILABLE,
	     "The decision could not be put on record, so it is a denial; try again later.");
	i->answer.recorded = false;
	i->answer.unrecorded = *why;
	worker_count(&i->w->counters.unrecorded);
}

/* "ev_<log key id>_<seq>" */
static void name_evaluation(struct inquiry *i)
{
	struct str key = str_c(i->w->core->log_key_id);
	char *at = i->answer.evaluation_id;

	_Static_assert(sizeof(i->answer.evaluation_id) >
			       3 + sizeof(i->w->core->log_key_id) + TEXT_U64_MAX,
		       "room for any number");
	memcpy(at, "ev_", 3);
	memcpy(at + 3, key.p, key.n);
	at += 3 + key.n;
	*at++ = '_';
	at[text_put_u64(i->answer.seq, at)] = '\0';
}

static void on_record(void *owner, const struct recorded *r)
{
	struct inquiry *i = owner;

	if (r->ok) {
		i->answer.recorded = true;
		i->answer.seq = r->seq;
		memcpy(i->answer.leaf, r->leaf, sizeof(i->answer.leaf));
		name_evaluation(i);
	}
	beside_end(i->beside, &i->answer.result, r->ok, r->seq);
	if (!r->ok)
		unrecorded(i, &r->err);
	worker_count(&i->w->counters.decisions[i->answer.result.decision]);
	i->d->done(i->d, &i->answer);
}

static void record(struct inquiry *i)
{
	struct err e;
	struct pending *p = pending_new(i->w, &e);

	if (p && decide_write_record(i, p)) {
		pending_stage(p, on_record, i);
		return;
	}
	if (p)
		err_code(&e, ERR_UNAVAILABLE, REASON_AUDIT_UNAVAILABLE,
			 "the record of this request is too large or memory is short");
	pending_drop(p);
	on_record(i, &(struct recorded){ .ok = false, .err = e });
}

/* ---- refusals of an authenticated caller: a record, but no decision ---- */

static void on_refusal_record(void *owner, const struct recorded *r)
{
	struct inquiry *i = owner;

	(void)r; /* refused either way */
	i->d->done(i->d, &i->answer);
}

static void refuse(struct inquiry *i)
{
	worker_count(&i->w->counters.refused);
	worker_refuse(i->w, i->d->caller, &i->answer.refused, on_refusal_record, i);
}

/* Roles and rate. PEPs speak for many and are not limited. */
bool decide_admit(struct worker *w, const struct caller *c, uint32_t n, int64_t *retry_ms,
		  struct err *e)
{
	int64_t now;

	if (!(c->roles & (ROLE_AGENT | ROLE_PEP)))
		return err_set(e, ERR_FORBIDDEN,
			       "%.*s may not ask for decisions: it has neither role agent nor pep",
			       STR_FMT(c->id));
	if (c->roles & ROLE_PEP)
		return true;
	now = clock_mono_ns(w->core->clock);
	for (uint32_t i = 0; i < n; i++)
		if (!limit_take(w->core->agent_limit, c->id, now, retry_ms))
			return err_set(e, ERR_RATE,
				       "too many requests from %.*s; try again in %" PRId64 " ms",
				       STR_FMT(c->id), *retry_ms);
	return true;
}

/* Clears what is read; the messages of 400 bytes stay as they are. */
static void begin(struct inquiry *i, struct worker *w, struct evaluation *d)
{
	memset(i, 0, offsetof(struct inquiry, answer.refused));
	err_none(&i->answer.refused);
	err_none(&i->answer.unrecorded);
	i->d = d;
	i->w = w;
	i->delegation = d->request.delegation ? d->request.delegation : d->caller->delegation;
	i->started_ns = clock_mono_ns(w->core->clock);
	i->now_ms = clock_wall_ms(w->core->clock);
	deny(i, REASON_NO_RULE, "");
}

enum decision decide(struct worker *w, struct evaluation *d)
{
	static const struct decision_answer none = {
		.refused = { ERR_UNAVAILABLE, "unavailable", "memory is short; try again later" }
	};
	struct inquiry *i = arena_alloc(d->arena, sizeof(*i));
	enum decision judged;

	if (!i) {
		d->done(d, &none);
		return DECISION_DENY;
	}
	begin(i, w, d);
	if (!d->admitted &&
	    !decide_admit(w, d->caller, 1, &i->answer.retry_ms, &i->answer.refused)) {
		refuse(i);
		return DECISION_DENY;
	}
	judge(i);
	judged = i->answer.result.decision;
	record(i); /* may end the request, and its arena with it */
	return judged;
}

void decide_peek(struct worker *w, struct evaluation *d, struct policy_result *out)
{
	struct inquiry i;

	begin(&i, w, d);
	if (may_be_judged(&i))
		judge_by(&i, ROLLOUT_BASE, &i.answer.result);
	*out = i.answer.result;
}

bool decide_in_canary(struct worker *w, struct evaluation *d)
{
	struct rollout *r = worker_rollout(w);
	struct inquiry i;

	if (!r || r->kind != ROLLOUT_CANARY)
		return false;
	begin(&i, w, d);
	return may_be_judged(&i) && i.agent && rollout_picks(r, i.agent->id, w->sha);
}
