#include "authz/decide/caller.h"

#include <inttypes.h>
#include <stdlib.h>

#include "authz/base/pattern.h"
#include "authz/decide/delegation.h"
#include "authz/decide/worker.h"

#define RULES_BYTES (16 * 1024 * 1024)

static void rules_free(struct shared *s)
{
	struct caller_rules *r = (struct caller_rules *)s;

	arena_clear(&r->arena);
	free(r);
}

struct caller_rules *caller_rules_new(void)
{
	struct caller_rules *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	shared_init(&r->shared, rules_free);
	arena_init(&r->arena, &mem_system, RULES_BYTES);
	return r;
}

/* The union of all entries that match; the first that names a server or wants bare answers wins. */
static void add_rule(struct caller *c, const struct caller_rule *r)
{
	c->roles |= r->roles;
	if (!c->server.n)
		c->server = r->server;
	c->bare = c->bare || r->bare;
}

static void by_spiffe_id(struct worker *w, struct caller *c)
{
	const struct caller_rules *rules = worker_rules(w);
	const struct registry_entry *agent = registry_find(worker_registry(w), c->id);
	int64_t now_ms;

	for (size_t i = 0; rules && i < rules->n; i++)
		if (rules->rules[i].spiffe_id.p && pattern_match(rules->rules[i].spiffe_id, c->id))
			add_rule(c, &rules->rules[i]);
	if (!agent)
		return;
	now_ms = clock_wall_ms(w->core->clock);
	switch (registry_state(agent, now_ms)) {
	case ENTRY_ACTIVE:
		registry_note_seen(agent, now_ms);
		c->roles |= ROLE_AGENT;
		c->entry = agent;
		return;
	case ENTRY_SUSPENDED:
	case ENTRY_EXPIRED:
		/* Whatever `callers` gave it is taken away. It may still ask about itself, to be
		 * told so by its denial. */
		c->roles = ROLE_AGENT;
		return;
	case ENTRY_RETIRED:
		c->roles = 0;
		return;
	}
}

static void by_uid(struct worker *w, const struct call *call, struct caller *c)
{
	const struct caller_rules *rules = worker_rules(w);
	const struct listener_caller *l = call->peer->listener->user;

	for (size_t i = 0; rules && i < rules->n; i++)
		if (rules->rules[i].by_uid && rules->rules[i].uid == call->peer->uid)
			add_rule(c, &rules->rules[i]);
	if (l && l->admin_socket && rules && rules->own_uid == call->peer->uid)
		c->roles |= ROLE_ADMIN;
}

/* The bearer token, if there is one. False: the header is unusable. */
static bool bearer(const struct worker *w, const struct call *call, struct str *token,
		   struct err *e)
{
	struct str v = call_header(call, STR("authorization"));

	*token = (struct str){ NULL, 0 };
	if (!v.p)
		return true;
	if (call_header_count(call, STR("authorization")) > 1)
		return err_code(e, ERR_UNAUTHENTICATED, "invalid_token",
				"there is more than one Authorization header");
	if (v.n < 8 || strncasecmp(v.p, "bearer ", 7))
		return err_code(e, ERR_UNAUTHENTICATED, "invalid_token",
				"Authorization must be \"Bearer <token>\", with a JWT-SVID or a "
				"delegated token");
	*token = str_from(v, 7);
	if (token->n > w->core->token_max)
		return err_code(e, ERR_UNAUTHENTICATED, "invalid_token",
				"the token has %zu bytes, at most %zu are accepted", token->n,
				w->core->token_max);
	return true;
}

/* The agent that acts by a delegated token, which its certificate proves it to be. Whatever else
 * that agent may do, for another it asks as an agent. */
static bool by_delegated(struct worker *w, const struct call *call, struct str token,
			 struct caller *c, struct err *e)
{
	const struct delegation *d;

	if (!delegation_verify(w, token, w->core->server_id, call->arena, &d, e) ||
	    !delegation_bound(d, call->peer, e))
		return false;
	c->proof = PROOF_DELEGATED;
	c->id = delegated_actor(&d->token);
	c->delegation = d;
	by_spiffe_id(w, c);
	c->roles &= ROLE_AGENT;
	return true;
}

static bool by_token(struct worker *w, const struct call *call, struct str token, struct caller *c,
		     struct err *e)
{
	struct jwt_svid svid;

	if (delegation_claimed(token, call->arena))
		return by_delegated(w, call, token, c, e);
	if (!worker_bundle(w))
		return err_set(e, ERR_UNAUTHENTICATED, "writ has no trust bundle yet");
	if (!jwt_svid_verify(w->jwt, worker_bundle(w), token, w->core->server_id,
			     clock_wall_ms(w->core->clock) / 1000, call->arena, &svid, e))
		return false;
	/* Two proofs that name two callers: one of them is stolen or misrouted. */
	if (call->peer->spiffe_id.n && !str_eq(call->peer->spiffe_id, svid.text))
		return err_code(
			e, ERR_UNAUTHENTICATED, "callers_differ",
			"the client certificate and the bearer token name different callers");
	c->proof = PROOF_JWT;
	c->id = svid.text;
	by_spiffe_id(w, c);
	return true;
}

/* The caller that the configuration gives to everybody who reaches this listener. */
static bool by_listener(struct worker *w, const struct call *call, const struct listener_caller *l,
			struct caller *c, struct err *e)
{
	struct buf name;

	c->proof = PROOF_FIXED;
	c->roles = l->roles;
	c->server = l->server;
	c->bare = l->bare;
	if (l->id.n) {
		c->id = l->id;
		by_spiffe_id(w, c);
		return true;
	}
	buf_in_arena(&name, call->arena, 1024);
	buf_lit(&name, "listener:");
	buf_add(&name, str_c(call->peer->listener->name));
	c->id = buf_str(&name);
	return buf_ok(&name) || err_set(e, ERR_UNAVAILABLE, "memory is short");
}

static bool by_transport(struct worker *w, const struct call *call, struct caller *c, struct err *e)
{
	const struct peer *p = call->peer;
	const struct listener_caller *l = p->listener->user;

	if (p->spiffe_id.n) {
		c->proof = PROOF_MTLS;
		c->id = p->spiffe_id;
		by_spiffe_id(w, c);
		return true;
	}
	if (p->listener->unix_socket) {
		c->proof = PROOF_UNIX;
		c->id = arena_printf(call->arena, "unix:%lu", (unsigned long)p->uid);
		by_uid(w, call, c);
		if (c->roles || !l || (!l->roles && !l->id.n))
			return c->id.p || err_set(e, ERR_UNAVAILABLE, "memory is short");
	}
	if (l && (l->roles || l->id.n))
		return by_listener(w, call, l, c, e);
	return err_set(e, ERR_UNAUTHENTICATED,
		       "nobody is authenticated: use a client certificate (X.509-SVID) or "
		       "\"Authorization: Bearer <JWT-SVID>\" with audience %.*s",
		       STR_FMT(w->core->server_id));
}

bool caller_by_transport(struct worker *w, const struct call *call, struct caller *out,
			 struct err *e)
{
	struct caller c = { 0 };

	if (!by_transport(w, call, &c, e))
		return false;
	*out = c;
	return true;
}

bool caller_authenticate(struct worker *w, const struct call *call, struct caller *out,
			 struct err *e)
{
	struct caller c = { 0 };
	struct str token;

	if (!bearer(w, call, &token, e))
		return false;
	if (token.p ? !by_token(w, call, token, &c, e) : !by_transport(w, call, &c, e))
		return false;
	*out = c;
	return true;
}
