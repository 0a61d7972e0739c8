#include "authz/decide/issue.h"

#include "authz/base/text.h"
#include "spiffe/authority.h"
#include "spiffe/crypto.h"
#include "spiffe/id.h"

#define SVID_BYTES (64 * 1024)
#define X509_SERIAL_MAX 20 /* bytes, RFC 5280 4.1.2.2 */

int64_t issue_ttl(const struct core *core, const struct registry_entry *agent, bool jwt)
{
	int64_t ttl = jwt ? agent->jwt_ttl_s : agent->x509_ttl_s;
	int64_t max = jwt ? core->jwt_ttl_max : core->x509_ttl_max;

	if (!ttl)
		ttl = jwt ? core->jwt_ttl : core->x509_ttl;
	return ttl > max ? max : ttl;
}

/* By whose kind of keys it is signed. */
static enum authority_kind kind_of(const struct issue *i)
{
	return i->naudience ? AUTHORITY_JWT : i->wit ? AUTHORITY_WIT : AUTHORITY_X509;
}

bool issue_prepare(struct issue *i, const struct core *core, const struct registry_entry *agent,
		   struct err *e)
{
	int64_t now_ms = clock_wall_ms(core->clock), now = now_ms / 1000, authority_end;
	bool jwt = i->naudience > 0;

	i->id = arena_dup(i->arena, agent->id);
	i->definition = arena_dup(i->arena, agent->definition);
	if (!i->id.p || !i->definition.p)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	i->expires_s = now + issue_ttl(core, agent, jwt);
	if (agent->expires_ms && i->expires_s > agent->expires_ms / 1000)
		i->expires_s = agent->expires_ms / 1000;
	authority_end = authorities_end_s(core->control, kind_of(i));
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
						   .expires_s = i->expires_s,
						   .issuer = core->issuer };
		memcpy(i->job.jwt.audience, i->audience, sizeof(i->audience));
	} else if (i->wit) {
		i->job.op = SIGNER_WIT_SVID;
		i->job.wit = (struct wit_request){ .spiffe_id = i->id,
						   .spki = i->spki,
						   .issued_s = now,
						   .expires_s = i->expires_s };
	} else {
		i->job.x509 = (struct x509_request){ .spiffe_id = i->id,
						     .spki = i->spki,
						     .not_before_s = now - X509_SVID_BACKDATE_S,
						     .not_after_s = i->expires_s };
	}
	return true;
}

/* The audiences are the caller's words. */
static struct str audience_json(const struct issue *i, struct arena *a)
{
	struct buf b;

	buf_in_arena(&b, a, (size_t)JWT_AUDIENCES_MAX * JWT_AUDIENCE_MAX * 7);
	buf_lit(&b, "{\"audience\":[");
	for (size_t k = 0; k < i->naudience; k++) {
		if (k)
			buf_char(&b, ',');
		buf_json(&b, i->audience[k]);
	}
	buf_lit(&b, "]}");
	return buf_ok(&b) ? buf_str(&b) : (struct str){ NULL, 0 };
}

/* As in the certificate, without the sign byte; its length, or 0. */
static size_t serial_hex(struct str der, char out[static 2 * X509_SERIAL_MAX])
{
	AUTO_X509 *cert = NULL;
	const uint8_t *p;
	int n;

	if (!crypto_certificate(der, &cert, NULL))
		return 0;
	p = ASN1_STRING_get0_data(X509_get0_serialNumber(cert));
	n = ASN1_STRING_length(X509_get0_serialNumber(cert));
	if (n < 1 || n > X509_SERIAL_MAX)
		return 0;
	text_hex(p, (size_t)n, out);
	return 2 * (size_t)n;
}

void issue_record(struct issue *i, struct record *r, struct arena *a, struct sha256 *sha,
		  const char *method, struct str opening)
{
	struct str chain = buf_str(&i->svid), leaf = chain;
	enum authority_kind kind = kind_of(i);
	char serial[2 * X509_SERIAL_MAX];
	uint8_t hash[SHA256_LEN];

	record_str(r, STR("agent"), i->id);
	if (i->definition.n)
		record_str(r, STR("definition"), i->definition);
	record_int(r, STR("expires"), i->expires_s);
	if (i->naudience)
		opening = audience_json(i, a);
	if (opening.n)
		record_commit(r, OPENING_INPUT, opening, sha);
	else if (i->naudience)
		r->text->failed = true;
	record_str(r, STR("kind"), STR("identity.issue"));
	record_str(r, STR("method"), str_c(method));
	if (i->run[0])
		record_str(r, STR("run"), str_c(i->run));
	/* Of the leaf, whatever stands above it. */
	if (kind == AUTHORITY_X509 && !x509_chain_next(&chain, &leaf))
		leaf = buf_str(&i->svid);
	if (kind == AUTHORITY_X509)
		record_str(r, STR("serial"), (struct str){ serial, serial_hex(leaf, serial) });
	record_str(r, STR("svid"), str_c(authority_kind_name(kind)));
	sha256_of(sha, leaf, hash);
	record_hash(r, STR("svid_sha256"), hash);
}

static void on_record(void *owner, const struct recorded *r)
{
	struct issue *i = owner;

	if (r->ok)
		worker_count(i->naudience ? &i->worker->counters.issued_jwt
			     : i->wit	  ? &i->worker->counters.issued_wit
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
		issue_record(i, &p->job.record, &p->arena, i->worker->sha, i->method,
			     (struct str){ NULL, 0 });
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

/* An instance lives by its template: with that suspended, nothing more is issued to it. */
static bool template_holds(const struct worker *w, const struct registry_entry *agent,
			   struct err *e)
{
	const struct registry_entry *t;

	if (!agent->definition.n)
		return true;
	t = registry_look(worker_registry(w), agent->definition);
	return (t && registry_state(t, clock_wall_ms(w->core->clock)) == ENTRY_ACTIVE) ||
	       err_code(e, ERR_FORBIDDEN, REASON_AGENT_SUSPENDED,
			"%.*s, of which this agent is an instance, is not active",
			STR_FMT(str_first(agent->definition, 200)));
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

bool issue_entitled(const struct caller *caller, const struct worker *w, struct err *e)
{
	if (caller->proof != PROOF_MTLS)
		return err_code(
			e, ERR_FORBIDDEN, "mtls_required",
			"SVIDs are issued over mutual TLS only: a bearer token must not be able "
			"to make itself last for ever");
	if (!caller->entry)
		return err_code(e, ERR_FORBIDDEN, REASON_UNKNOWN_AGENT,
				"%.*s is not a registered, active agent", STR_FMT(caller->id));
	return is_ours(caller->id, w->core, e) && template_holds(w, caller->entry, e);
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
	if (issue_entitled(caller, i->worker, &e) &&
	    issue_prepare(i, i->worker->core, caller->entry, &e))
		sign(i);
	else
		i->done(i, false, &e);
}

void issue_workload(struct issue *i, const struct registry_entry *agent)
{
	struct err e = { 0 };

	i->method = "workload_api";
	if (is_ours(agent->id, i->worker->core, &e) && template_holds(i->worker, agent, &e) &&
	    issue_prepare(i, i->worker->core, agent, &e))
		sign(i);
	else
		i->done(i, false, &e);
}
