#include "authz/decide/issue.h"

#include "spiffe/id.h"

#define SVID_BYTES (64 * 1024)

int64_t issue_ttl(const struct core *core, const struct registry_entry *agent, bool jwt)
{
	int64_t ttl = jwt ? agent->jwt_ttl_s : agent->x509_ttl_s;
	int64_t max = jwt ? core->jwt_ttl_max : core->x509_ttl_max;

	if (!ttl)
		ttl = jwt ? core->jwt_ttl : core->x509_ttl;
	return ttl > max ? max : ttl;
}

/* Fill the signer's job from the registry, never from what the caller sent beyond its key and its
 * audiences. No SVID outlives the registration. */
static bool prepare(struct issue *i, const struct core *core, const struct registry_entry *agent,
		    struct err *e)
{
	int64_t now_ms = clock_wall_ms(core->clock), now = now_ms / 1000, authority_end;
	bool jwt = i->naudience > 0;

	i->id = arena_dup(i->arena, agent->id);
	if (!i->id.p)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	i->expires_s = now + issue_ttl(core, agent, jwt);
	if (agent->expires_ms && i->expires_s > agent->expires_ms / 1000)
		i->expires_s = agent->expires_ms / 1000;
	authority_end = authorities_end_s(core->control, jwt ? AUTHORITY_JWT : AUTHORITY_X509);
	if (authority_end > now && i->expires_s > authority_end)
		i->expires_s = authority_end; /* past its end the signer says so */
	if (i->expires_s <= now)
		return err_code(e, ERR_FORBIDDEN, REASON_AGENT_EXPIRED,
				"the registration of %.*s ends this second", STR_FMT(i->id));
	buf_in_arena(&i->svid, i->arena, SVID_BYTES);
	i->job = (struct signer_job){ .op = jwt ? SIGNER_JWT_SVID : SIGNER_X509_SVID,
				      .out = &i->svid,
				      .user = i };
	if (jwt) {
		i->job.jwt = (struct jwt_request){ .spiffe_id = i->id,
						   .naudience = i->naudience,
						   .issued_s = now,
						   .expires_s = i->expires_s };
		memcpy(i->job.jwt.audience, i->audience, sizeof(i->audience));
	} else {
		i->job.x509 = (struct x509_request){ .spiffe_id = i->id,
						     .spki = i->spki,
						     .not_before_s = now - X509_SVID_BACKDATE_S,
						     .not_after_s = i->expires_s };
	}
	return true;
}

/* The record. Audiences are the caller's words: an opening. */
static void write_record(struct issue *i, struct record *r, struct arena *a, struct sha256 *sha,
			 const char *method)
{
	struct str chain = buf_str(&i->svid), svid;
	uint8_t hash[SHA256_LEN];
	struct buf b;

	record_str(r, STR("agent"), i->id);
	record_int(r, STR("expires"), i->expires_s);
	if (i->naudience) {
		buf_in_arena(&b, a, (size_t)JWT_AUDIENCES_MAX * JWT_AUDIENCE_MAX * 7);
		buf_lit(&b, "{\"audience\":[");
		for (size_t k = 0; k < i->naudience; k++) {
			if (k)
				buf_char(&b, ',');
			buf_json(&b, i->audience[k]);
		}
		buf_lit(&b, "]}");
		if (buf_ok(&b))
			record_commit(r, OPENING_INPUT, buf_str(&b), sha);
		else
			r->text->failed = true;
	}
	record_str(r, STR("kind"), STR("identity.issue"));
	record_str(r, STR("method"), str_c(method));
	record_str(r, STR("svid"), i->naudience ? STR("jwt") : STR("x509"));
	if (!i->naudience && x509_chain_next(&chain, &svid))
		sha256_of(sha, svid, hash); /* of the leaf, whatever stands above it */
	else
		sha256_of(sha, chain, hash);
	record_hash(r, STR("svid_sha256"), hash);
}

static void on_record(void *owner, const struct recorded *r)
{
	struct issue *i = owner;

	if (r->ok)
		worker_count(i->naudience ? &i->worker->counters.issued_jwt
					  : &i->worker->counters.issued_x509);
	i->done(i, r->ok, r->ok ? NULL : &r->err);
}

static void on_signature(struct signer_job *job)
{
	struct issue *i = job->user;
	struct err e = { 0 };
	struct pending *p;

	if (!job->ok || !buf_ok(&i->svid)) {
		i->done(i, false, &job->err);
		return;
	}
	p = pending_new(i->worker, &e);
	if (p) {
		write_record(i, &p->job.record, &p->arena, i->worker->sha, i->method);
		if (i->uid >= 0)
			record_int(&p->job.record, STR("uid"), i->uid);
		if (record_ok(&p->job.record)) {
			pending_stage(p, on_record, i);
			return;
		}
		err_set(&e, ERR_UNAVAILABLE, "the record of this SVID is too large");
		pending_drop(p);
	}
	i->done(i, false, &e);
}

static bool is_ours(struct str text, const struct core *core, struct err *e)
{
	struct spiffe_id id;

	if (!spiffe_id_parse_workload(text, &id, e) ||
	    !spiffe_id_member_of(&id, core->trust_domain))
		return err_code(e, ERR_FORBIDDEN, "foreign_trust_domain",
				"%.*s is of another trust domain; writ issues SVIDs for %.*s only",
				STR_FMT(text), STR_FMT(core->trust_domain));
	return true;
}

static bool entitled(const struct caller *caller, const struct core *core, struct err *e)
{
	if (caller->proof != PROOF_MTLS)
		return err_code(
			e, ERR_FORBIDDEN, "mtls_required",
			"SVIDs are issued over mutual TLS only: a bearer token must not be able "
			"to make itself last for ever");
	if (!caller->entry)
		return err_code(e, ERR_FORBIDDEN, REASON_UNKNOWN_AGENT,
				"%.*s is not a registered, active agent", STR_FMT(caller->id));
	return is_ours(caller->id, core, e);
}

/* Have it signed; the rest follows in on_signature. */
static void sign(struct issue *i)
{
	struct worker *w = i->worker;
	struct err e = { 0 };

	i->job.done = on_signature;
	if (!w->signer)
		err_set(&e, ERR_UNAVAILABLE, "SVIDs are issued at the agents' door");
	else if (signer_send(w->signer, &i->job, &e))
		return;
	i->done(i, false, &e);
}

void issue_svid(struct issue *i, const struct caller *caller)
{
	struct err e = { 0 };

	i->method = "mtls";
	i->uid = -1;
	if (entitled(caller, i->worker->core, &e) && prepare(i, i->worker->core, caller->entry, &e))
		sign(i);
	else
		i->done(i, false, &e);
}

void issue_workload(struct issue *i, const struct registry_entry *agent)
{
	struct err e = { 0 };

	i->method = "workload_api";
	if (is_ours(agent->id, i->worker->core, &e) && prepare(i, i->worker->core, agent, &e))
		sign(i);
	else
		i->done(i, false, &e);
}

bool issue_attest(struct control *c, struct issue *i, struct str token, struct err *e)
{
	struct registry_view *view = (struct registry_view *)slot_acquire(&c->core->agents);
	struct act_record r;
	uint64_t number;
	bool ok;

	/* Using up the token is committed before anything is signed or recorded. */
	ok = token_use(c->tokens, view, token, clock_wall_ms(c->core->clock), i->arena, &i->id,
		       &number, e) &&
	     prepare(i, c->core, registry_find(view, i->id), e);
	shared_release(&view->shared);
	if (!ok || !signer_call(c->signer, &i->job, e))
		return false;
	act_record_begin(&r);
	write_record(i, &r.job.record, &r.arena, c->sha, "join_token");
	record_int(&r.job.record, STR("token"), (int64_t)number);
	return act_record_append(c, &r, e);
}
