/*
 * The order is that of the sheet's section 5: who the client is, the subject's token, the actor's,
 * may_act and chain, target, scope, end; then the policies; then it is signed; then the record.
 */
#include "authz/decide/token_exchange.h"

#include <inttypes.h>

#include "authz/audit/outcome.h"
#include "authz/base/text.h"
#include "authz/decide/issue.h"
#include "spiffe/jws.h"

#define TOKEN_BYTES (LIMIT_TOKEN + 1)
#define REQUEST_BYTES (64 * 1024)

/* ---- refusals ---- */

static void over(void *owner, const struct recorded *r)
{
	struct token_exchange *x = owner;

	(void)r; /* refused either way */
	x->done(x, &x->said);
}

static const char *const type_names[] = { [SUBJECT_ACCESS_TOKEN] = "access_token",
					  [SUBJECT_ID_TOKEN] = "id_token",
					  [SUBJECT_JWT] = "jwt" };

/* What was asked for, and why it was refused: the client's words and ours about its tokens. */
static struct str asked_json(const struct token_exchange *x, const char *why, struct arena *a)
{
	struct buf b;

	buf_in_arena(&b, a, REQUEST_BYTES);
	buf_lit(&b, "{\"audience\":");
	buf_json(&b, x->target);
	if (x->request_id.n) {
		buf_lit(&b, ",\"request_id\":");
		buf_json(&b, x->request_id);
	}
	buf_lit(&b, ",\"scope\":");
	buf_json(&b, x->scope);
	buf_printf(&b, ",\"subject_token_type\":\"%s\"", type_names[x->type]);
	if (why) {
		buf_lit(&b, ",\"why\":");
		buf_json(&b, str_c(why));
	}
	buf_char(&b, '}');
	return buf_ok(&b) ? buf_str(&b) : (struct str){ NULL, 0 };
}

/* x->said and x->why are set. */
static void refuse(struct token_exchange *x)
{
	struct recorded none = { .ok = false };
	struct pending *p = pending_new(x->worker, &none.err);
	struct record *r = p ? &p->job.record : NULL;
	struct str asked;

	if (!p) {
		over(x, &none);
		return;
	}
	asked = asked_json(x, x->why.msg, &p->arena);
	if (x->caller->entry)
		record_str(r, STR("agent"), x->caller->id);
	if (asked.p)
		record_commit(r, OPENING_INPUT, asked, x->worker->sha);
	record_str(r, STR("kind"), STR("token.refuse"));
	record_str(r, STR("reason"), str_c(x->why.code ? x->why.code : "internal"));
	record_str(r, STR("trace_id"), x->trace_id);
	pending_stage(p, over, x);
}

#define SUBJECT_REFUSED                                                                     \
	"the subject token is not acceptable here: it must be of a known issuer, in its "   \
	"time, and addressed to this server or to this client; the record of this refusal " \
	"has the reason"

/* RFC 8693 2.2.2: whatever is wrong with a token is invalid_request. What exactly, the client is
 * not told: it could be somebody else's token that it probes. */
static void refuse_subject(struct token_exchange *x)
{
	if (x->why.class == ERR_UNAVAILABLE || x->why.class == ERR_NOMEM)
		err_code(&x->said, ERR_UNAVAILABLE, "temporarily_unavailable", "%s", x->why.msg);
	else
		err_code(&x->said, ERR_INVALID, "invalid_request", SUBJECT_REFUSED);
	refuse(x);
}

/* The client's own mistake, which it may know. */
static void refuse_request(struct token_exchange *x, const char *error, const char *reason,
			   const char *what)
{
	err_code(&x->said, ERR_INVALID, error, "%s", what);
	err_code(&x->why, ERR_INVALID, reason, "%s", what);
	refuse(x);
}

/* ---- who asks ---- */

static bool check_client(struct token_exchange *x)
{
	int64_t retry_ms = 0;

	if (!issue_entitled(x->caller, x->worker, &x->why)) {
		/* Unknown and unproven look alike (the sheet's section 1). */
		if (!x->caller->entry)
			err_code(&x->said, ERR_UNAUTHENTICATED, "invalid_client",
				 "the client must prove by mutual TLS that it is a registered, "
				 "active agent");
		else
			err_code(&x->said, ERR_INVALID, "unauthorized_client",
				 "this agent may not exchange tokens");
		return false;
	}
	if (decide_admit(x->worker, x->caller, 1, &retry_ms, &x->why))
		return true;
	err_code(&x->said, x->why.class, "temporarily_unavailable", "%s", x->why.msg);
	return false;
}

/* An actor_token may say again who the client is, and nothing else. */
static bool check_actor(struct token_exchange *x)
{
	struct worker *w = x->worker;
	struct jwt_svid svid;

	if (!x->actor_token.p)
		return true;
	if (!worker_bundle(w))
		return err_set(&x->why, ERR_UNAVAILABLE, "writ has no trust bundle yet");
	if (!jwt_svid_verify(w->jwt, worker_bundle(w), x->actor_token, w->core->server_id,
			     clock_wall_ms(w->core->clock) / 1000, x->arena, &svid, &x->why))
		return err_prefix(&x->why, "actor_token");
	return str_eq(svid.text, x->caller->id) ||
	       err_code(&x->why, ERR_UNAUTHENTICATED, "callers_differ",
			"actor_token names another agent than the client certificate");
}

/* ---- the subject ---- */

/* Is it one of ours? Nothing is proven by that. */
static bool is_ours(const struct token_exchange *x)
{
	const struct json *iss;
	struct err ignored;
	struct jws j;

	if (!delegation_claimed(x->subject_token, x->arena) ||
	    !jws_read(x->subject_token, x->arena, &j, &ignored))
		return false;
	iss = json_get_type(j.claims, STR("iss"), JSON_STRING);
	return iss && str_eq(iss->s, x->worker->core->token_issuer);
}

/* A token of ours that was addressed to the client, or to us by whoever acts by it. Whom it is
 * addressed to is the point: one meant for a third service is not to be had for whoever holds it.
 */
static bool read_parent(struct token_exchange *x)
{
	const struct core *core = x->worker->core;
	const struct str audiences[] = { core->token_issuer, core->server_id, x->caller->id };
	const struct delegated_token *t;

	if (!delegation_look(x->worker, x->subject_token, audiences, ARRAY_LEN(audiences), x->arena,
			     &x->parent, &x->why))
		return false;
	t = &x->parent->token;
	x->ends_s = t->expires_s;
	if (str_eq(delegated_actor(t), x->caller->id))
		return delegation_bound(x->parent, x->peer, &x->why);
	return str_eq(t->audience, x->caller->id) ||
	       err_code(&x->why, ERR_UNAUTHENTICATED, "invalid_token",
			"token: another agent acts by it, and it is not addressed to this client");
}

/* The client's own SVID: it acts for itself. Somebody else's would be that agent's authority in the
 * hands of whoever got hold of a token of five minutes. */
static bool read_own_svid(struct token_exchange *x)
{
	struct worker *w = x->worker;
	struct jwt_svid svid;

	if (!worker_bundle(w))
		return err_set(&x->why, ERR_UNAVAILABLE, "writ has no trust bundle yet");
	if (!jwt_svid_verify(w->jwt, worker_bundle(w), x->subject_token, w->core->server_id,
			     clock_wall_ms(w->core->clock) / 1000, x->arena, &svid, &x->why))
		return false;
	x->any_scope = true;
	return str_eq(svid.text, x->caller->id) ||
	       err_code(&x->why, ERR_UNAUTHENTICATED, "callers_differ",
			"token: an SVID of another agent is no subject; let it exchange its own "
			"for a token that is addressed to this client");
}

void token_exchange_person(struct token_exchange *x, struct control *c)
{
	if (attest_user(c->attest, x->subject_token, x->type == SUBJECT_ACCESS_TOKEN,
			clock_wall_ms(c->core->clock), x->arena, &x->person, &x->why))
		x->ends_s = x->person.expires_s;
}

/* ---- what comes out ---- */

/* RFC 8693 4.4: if the subject says who may act for it, nobody else may. */
static bool check_may_act(struct token_exchange *x)
{
	const struct json *may = x->person.may_act;
	const struct json *sub = json_get_type(may, STR("sub"), JSON_STRING);
	const struct json *iss = json_get(may, STR("iss"));

	if (!may ||
	    (sub && str_eq(sub->s, x->caller->id) &&
	     (!iss || (iss->type == JSON_STRING && str_eq(iss->s, x->worker->core->token_issuer)))))
		return true;
	return err_code(&x->why, ERR_FORBIDDEN, "may_act",
			"token: may_act names another who may act for its subject");
}

/* The client acts last. Whoever acts now and asks again makes the chain no longer. */
static bool make_chain(struct token_exchange *x)
{
	struct delegated_token *t = &x->delegation.token;
	const struct delegated_token *from = x->parent ? &x->parent->token : NULL;

	for (size_t i = 0; from && i < from->nchain; i++)
		t->chain[t->nchain++] = from->chain[i];
	if (from && str_eq(delegated_actor(from), x->caller->id))
		return true;
	for (size_t i = 0; i < t->nchain; i++)
		if (str_eq(t->chain[i], x->caller->id))
			return err_code(&x->why, ERR_FORBIDDEN, "chain_loop",
					"this agent acted in the chain before");
	if (t->nchain >= x->worker->core->delegation_depth || t->nchain >= DELEGATED_CHAIN_MAX)
		return err_code(&x->why, ERR_FORBIDDEN, "chain_too_long",
				"the chain has %zu agents, as many as delegation.depth allows",
				t->nchain);
	t->chain[t->nchain++] = x->caller->id;
	return true;
}

/* Each token adds its jti to the line of the next. */
static bool make_line(struct token_exchange *x)
{
	struct delegated_token *t = &x->delegation.token;
	const struct delegated_token *from = x->parent ? &x->parent->token : NULL;

	if (!from)
		return true;
	if (from->nline >= DELEGATED_CHAIN_MAX)
		return err_code(&x->why, ERR_FORBIDDEN, "chain_too_long",
				"the token was exchanged as often as one may be");
	for (size_t i = 0; i < from->nline; i++)
		t->line[t->nline++] = from->line[i];
	t->line[t->nline++] = from->id;
	return true;
}

static void make_subject(struct token_exchange *x)
{
	struct delegated_token *t = &x->delegation.token;

	if (x->parent) {
		t->subject = x->parent->token.subject;
		t->subject_issuer = x->parent->token.subject_issuer;
	} else if (x->person.subject.n) {
		t->subject = x->person.subject;
		t->subject_issuer = x->person.issuer;
	} else {
		t->subject = x->caller->id;
	}
}

static void earlier(int64_t *end_s, int64_t other_s)
{
	if (other_s > 0 && other_s < *end_s)
		*end_s = other_s;
}

/* No later than what it comes from, the certificate it is bound to, the registration, the key. */
static bool make_life(struct token_exchange *x)
{
	const struct core *core = x->worker->core;
	/* As it is now: the caller's own was looked up before the issuer's keys were asked. */
	const struct registry_entry *agent = registry_find(worker_registry(x->worker),
							   x->caller->id);
	struct delegated_token *t = &x->delegation.token;

	t->issued_s = clock_wall_ms(core->clock) / 1000;
	t->expires_s = t->issued_s + core->delegated_ttl;
	earlier(&t->expires_s, t->issued_s + core->jwt_ttl_max);
	earlier(&t->expires_s, x->ends_s);
	earlier(&t->expires_s, x->peer->expires_ms / 1000);
	if (agent) /* else the decision denies */
		earlier(&t->expires_s, agent->expires_ms / 1000);
	if (core->control)
		earlier(&t->expires_s, authorities_end_s(core->control, AUTHORITY_JWT));
	return t->expires_s > t->issued_s ||
	       err_code(&x->why, ERR_FORBIDDEN, "expired",
			"what the token comes from, or is bound to, ends this second");
}

static bool make_token(struct token_exchange *x)
{
	struct delegated_token *t = &x->delegation.token;
	char id[DELEGATED_ID_LEN + 1];

	delegated_new_id(id);
	t->issuer = x->worker->core->token_issuer;
	t->audience = x->target;
	t->scope = x->scope;
	t->id = arena_dup(x->arena, str_c(id));
	make_subject(x);
	if (!t->id.p)
		return err_set(&x->why, ERR_UNAVAILABLE, "memory is short; try again later");
	if (!delegation_thumbprint(x->peer, t->bound))
		return err_code(&x->why, ERR_UNAUTHENTICATED, "mtls_required",
				"there is no client certificate to bind the token to");
	if (!make_chain(x) || !make_line(x) || !make_life(x))
		return false;
	delegation_describe(&x->delegation);
	return true;
}

static struct str subject_scope(const struct token_exchange *x)
{
	return x->parent ? x->parent->token.scope : x->person.scope;
}

/* ---- on record, and out ---- */

static void on_record(void *owner, const struct recorded *r)
{
	struct token_exchange *x = owner;

	if (r->ok) {
		worker_count(&x->worker->counters.issued_jwt);
		x->done(x, NULL);
		return;
	}
	err_code(&x->said, ERR_UNAVAILABLE, "temporarily_unavailable",
		 "the token could not be put on record, so it is not given; try again later");
	x->done(x, &x->said);
}

/* `facts`: the user, by whom erasure and searches find it; `input`: what was asked for. */
static bool write_record(struct token_exchange *x, struct pending *p)
{
	const struct delegated_token *t = &x->delegation.token;
	struct record *r = &p->job.record;
	struct str asked = asked_json(x, NULL, &p->arena);
	struct closing *closing = arena_zero(&p->arena, sizeof(*closing));
	struct buf facts;

	buf_in_arena(&facts, &p->arena, LIMIT_BODY);
	buf_char(&facts, '{');
	delegation_write_facts(&facts, &x->delegation);
	buf_printf(&facts, "\"now\":%" PRId64 "}", t->issued_s * 1000);
	if (!closing || !asked.p || !buf_ok(&facts))
		return false;
	/* What came of the permit is this token: nobody else has to report it. */
	*closing = (struct closing){ .seq = x->decision, .kind = CLOSING_OUTCOME };
	closing_say(closing, x->worker->sha, t->id);
	p->job.closing = closing;
	delegation_record_actors(r, &x->delegation, &p->arena);
	record_str(r, STR("agent"), x->caller->id);
	delegation_record_names(r, &x->delegation);
	record_int(r, STR("evaluation"), (int64_t)x->decision);
	record_int(r, STR("expires"), t->expires_s);
	record_commit(r, OPENING_FACTS, buf_str(&facts), x->worker->sha);
	record_commit(r, OPENING_INPUT, asked, x->worker->sha);
	delegation_record_token(r, &x->delegation);
	record_str(r, STR("kind"), STR("token.issue"));
	if (t->nline)
		record_str(r, STR("parent"), t->line[t->nline - 1]);
	record_str(r, STR("trace_id"), x->trace_id);
	return record_ok(r);
}

static void on_signature(struct signer_job *job)
{
	struct token_exchange *x = job->user;
	struct pending *p;

	if (!job->ok || !buf_ok(&x->token)) {
		x->why = job->err;
		if (job->err.class == ERR_TOO_LARGE || job->err.class == ERR_INVALID) {
			refuse_request(x, "invalid_request", "token_too_large",
				       "the token would be longer than writ accepts itself: ask "
				       "for a shorter target, scope or chain");
			return;
		}
		err_code(&x->said, ERR_UNAVAILABLE, "temporarily_unavailable", "%s", job->err.msg);
		x->done(x, &x->said);
		return;
	}
	p = pending_new(x->worker, &x->why);
	if (p && write_record(x, p)) {
		pending_stage(p, on_record, x);
		return;
	}
	pending_drop(p);
	on_record(x, &(struct recorded){ .ok = false });
}

static void sign(struct token_exchange *x)
{
	buf_in_arena(&x->token, x->arena, TOKEN_BYTES);
	x->job = (struct signer_job){ .op = SIGNER_DELEGATED_TOKEN,
				      .delegated = x->delegation.token,
				      .out = &x->token,
				      .done = on_signature,
				      .user = x };
	if (!x->worker->signer)
		err_set(&x->why, ERR_UNAVAILABLE, "tokens are issued at the agents' door");
	else if (signer_send(x->worker->signer, &x->job, &x->why))
		return;
	err_code(&x->said, ERR_UNAVAILABLE, "temporarily_unavailable", "%s", x->why.msg);
	x->done(x, &x->said);
}

/* ---- the policies ---- */

/* A rule's reason may be the error that the client gets. */
static const char *error_of(struct str reason)
{
	static const char *const errors[] = { "invalid_target", "invalid_scope",
					      "unauthorized_client", "invalid_request" };

	for (size_t i = 0; i < ARRAY_LEN(errors); i++)
		if (str_eq(reason, str_c(errors[i])))
			return errors[i];
	/* Nobody said that this client may have a token for that target. */
	return str_eq(reason, STR(REASON_NO_RULE)) || str_eq(reason, STR(REASON_NO_POLICY))
		       ? "invalid_target"
		       : "invalid_request";
}

/* The decision is on record, so a no needs no record of its own. */
static void decided(struct evaluation *d, const struct decision_answer *a)
{
	struct token_exchange *x = d->user;

	x->decision = a->seq;
	if (!a->recorded) {
		err_code(&x->said, ERR_UNAVAILABLE, "temporarily_unavailable",
			 "the decision could not be put on record; try again later");
		x->done(x, &x->said);
	} else if (a->result.decision != DECISION_PERMIT) {
		err_code(&x->said, ERR_INVALID, error_of(a->result.reason),
			 "the policies do not allow this exchange; the record %s has the reason",
			 a->evaluation_id);
		x->done(x, &x->said);
	} else if (a->result.obligations.n) {
		refuse_request(x, "invalid_request", "obligations",
			       "the rule that permits this exchange has obligations, which cannot "
			       "be met here");
	} else {
		sign(x);
	}
}

static const struct json *request_of(struct token_exchange *x)
{
	const struct delegated_token *t = &x->delegation.token;
	const struct json *v = NULL;
	struct str rest = t->scope, name;
	struct err ignored;
	struct buf b;

	buf_in_arena(&b, x->arena, REQUEST_BYTES);
	buf_lit(&b, "{\"action\":{\"name\":\"token/exchange\",\"properties\":{\"scope\":[");
	while (rest.n) {
		name = rest;
		if (!str_cut(rest, ' ', &name, &rest))
			rest.n = 0;
		buf_json(&b, name);
		if (rest.n)
			buf_char(&b, ',');
	}
	buf_printf(&b,
		   "],\"subject_token_type\":\"%s\",\"ttl\":%" PRId64 "}},\"resource\":{\"id\":",
		   type_names[x->type], t->expires_s - t->issued_s);
	buf_json(&b, t->audience);
	buf_lit(&b, ",\"type\":\"audience\"},\"subject\":{\"id\":");
	buf_json(&b, x->caller->id);
	buf_lit(&b, ",\"type\":\"agent\"}}");
	if (!buf_ok(&b) || !json_parse(buf_str(&b), &json_default_limits, x->arena, &v, &ignored))
		return NULL;
	return v;
}

static void ask_policies(struct token_exchange *x)
{
	const struct json *v = request_of(x);

	if (!v) {
		err_code(&x->said, ERR_UNAVAILABLE, "temporarily_unavailable",
			 "memory is short; try again later");
		x->done(x, &x->said);
		return;
	}
	x->evaluation = (struct evaluation){
		.caller = x->caller, .arena = x->arena, .admitted = true, .done = decided, .user = x
	};
	x->evaluation.request = (struct decision_request){ .subject = json_get(v, STR("subject")),
							   .action = json_get(v, STR("action")),
							   .resource = json_get(v, STR("resource")),
							   .delegation = &x->delegation,
							   .request_id = x->request_id,
							   .trace_id = x->trace_id };
	(void)decide(x->worker, &x->evaluation);
}

void token_exchange_resume(struct token_exchange *x)
{
	if (x->why.class != ERR_NONE || !check_may_act(x) || !make_token(x))
		refuse_subject(x);
	else if (!x->any_scope && !delegated_scope_within(x->scope, subject_scope(x)))
		refuse_request(x, "invalid_scope", "invalid_scope",
			       "scope is wider than that of the subject token");
	else
		ask_policies(x);
}

bool token_exchange_begin(struct token_exchange *x)
{
	bool ours = x->type != SUBJECT_ID_TOKEN && is_ours(x);

	err_none(&x->why);
	err_none(&x->said);
	if (!check_client(x)) {
		refuse(x);
		return false;
	}
	if (!check_actor(x)) {
		refuse_subject(x);
		return false;
	}
	if (!ours && x->type != SUBJECT_JWT)
		return true;
	if (ours ? read_parent(x) : read_own_svid(x))
		token_exchange_resume(x);
	else
		refuse_subject(x);
	return false;
}
