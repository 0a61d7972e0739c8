/* FetchJWTSVID and ValidateJWTSVID. */
#include "authz/base/protobuf.h"
#include "spiffe/workload_api_inside.h"

struct fetch {
	struct workload_api *w;
	struct call *call;
	size_t n, open; /* tokens asked for; not there yet */
	bool failed;
	struct err why;
	struct {
		struct issue issue;
		struct str hint;
	} one[];
};

static void answer(struct fetch *f)
{
	struct buf *b;

	if (f->failed) {
		workload_fail(f->call, f->w, &f->why);
		return;
	}
	b = grpc_reply(f->call, WORKLOAD_MESSAGE_MAX);
	for (size_t i = 0; i < f->n; i++)
		workload_put_jwt_svid(b, f->one[i].issue.id, buf_str(&f->one[i].issue.svid),
				      f->one[i].hint);
	call_finish(f->call);
}

static void issued(struct issue *issue, bool ok, const struct err *e)
{
	struct fetch *f = issue->user;

	if (!ok && !f->failed) {
		f->failed = true;
		f->why = *e;
	}
	if (--f->open == 0)
		answer(f);
}

/* Those of @entries that were asked for: the one of @id, or all. */
static bool choose(struct workload_entries *entries, struct str id, struct err *e)
{
	if (!id.n)
		return true;
	for (size_t i = 0; i < entries->n; i++)
		if (str_eq(entries->entry[i]->id, id)) {
			entries->entry[0] = entries->entry[i];
			entries->hint[0] = entries->hint[i];
			entries->n = 1;
			return true;
		}
	return err_code(e, ERR_FORBIDDEN, "no_identity", "this process is not entitled to %.*s",
			STR_FMT(str_first(id, 200)));
}

static void issue_all(struct workload_api *w, struct call *c,
		      const struct workload_entries *entries, const struct workload_jwt_request *q)
{
	struct fetch *f = arena_zero(c->arena, sizeof(*f) + entries->n * sizeof(f->one[0]));
	struct err e = { 0 };

	if (!f) {
		err_set(&e, ERR_UNAVAILABLE, "memory is short; try again later");
		workload_fail(c, w, &e);
		return;
	}
	f->w = w;
	f->call = c;
	f->n = entries->n;
	f->open = entries->n + 1; /* one for us: an issue may be over at once */
	for (size_t i = 0; i < f->n; i++) {
		struct issue *issue = &f->one[i].issue;

		f->one[i].hint = arena_dup(c->arena, entries->hint[i]);
		issue->worker = w->worker;
		issue->arena = c->arena;
		issue->uid = (int64_t)c->peer->uid;
		issue->naudience = q->naudience;
		memcpy(issue->audience, q->audience, sizeof(q->audience));
		issue->done = issued;
		issue->user = f;
		issue_workload(issue, entries->entry[i]);
	}
	if (--f->open == 0)
		answer(f);
}

void workload_fetch_jwt_svid(struct workload_api *w, struct call *c)
{
	struct workload_jwt_request q;
	struct workload_caller caller;
	struct workload_entries entries;
	struct err e = { 0 };

	if (!workload_read_jwt(c->body, &q, &e) || !workload_limit(w, c, &e) ||
	    !workload_attest(w, c, &caller, &e) || !workload_entries(w, &caller, &entries, &e))
		workload_fail(c, w, &e);
	else if (entries.coming)
		workload_park(w, c, workload_fetch_jwt_svid);
	else if (choose(&entries, q.spiffe_id, &e))
		issue_all(w, c, &entries, &q);
	else
		workload_fail(c, w, &e);
}

/* With the bundles the caller may see: who has no identity sees our own only. */
static bool validate(struct workload_api *w, struct call *c,
		     const struct workload_validate_request *q, struct jwt_svid *svid,
		     bool *foreign, struct err *e)
{
	struct workload_caller caller;
	struct workload_entries entries;
	struct err none = { 0 };

	if (!workload_attest(w, c, &caller, e))
		return false;
	if (!worker_bundle(w->worker))
		return err_set(e, ERR_UNAVAILABLE, "writ is starting; try again");
	if (!jwt_svid_verify(w->jwt, worker_bundle(w->worker), q->svid, q->audience,
			     workload_now_ms(w) / 1000, c->arena, svid, e)) {
		if (e->class == ERR_UNAUTHENTICATED)
			e->class = ERR_INVALID;
		return false;
	}
	*foreign = !spiffe_id_member_of(&svid->id, w->core->trust_domain);
	if (*foreign && (!workload_entries(w, &caller, &entries, &none) || !entries.n))
		return err_code(e, ERR_INVALID, "invalid_token",
				"the token is of trust domain %.*s, and a process without an "
				"identity sees no foreign bundle",
				STR_FMT(svid->id.trust_domain));
	if (*foreign && !workload_sees(w, &entries, svid->id.trust_domain))
		return err_code(e, ERR_INVALID, "invalid_token",
				"the token is of trust domain %.*s, whose bundle this process does "
				"not see (federates_with of its registration)",
				STR_FMT(svid->id.trust_domain));
	return svid->claims || err_set(e, ERR_UNAVAILABLE, "the token's claims are not at hand");
}

void workload_validate_jwt_svid(struct workload_api *w, struct call *c)
{
	struct workload_validate_request q;
	struct jwt_svid svid = { .claims = NULL };
	struct err e = { 0 };
	bool foreign = false;

	if (!workload_read_validate(c->body, &q, &e) || !workload_limit(w, c, &e) ||
	    !validate(w, c, &q, &svid, &foreign, &e)) {
		workload_fail(c, w, &e);
		return;
	}
	workload_put_validated(grpc_reply(c, WORKLOAD_MESSAGE_MAX), svid.text, svid.claims,
			       foreign);
	call_finish(c);
}
