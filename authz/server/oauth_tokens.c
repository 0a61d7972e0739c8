/* What becomes of a token that is out: introspection (RFC 7662), revocation (RFC 7009); and what
 * this server offers (RFC 8414). */
#include <inttypes.h>

#include "authz/base/text.h"
#include "authz/decide/delegation.h"
#include "authz/decide/revoke.h"
#include "authz/server/handlers.h"
#include "authz/server/oauth.h"
#include "authz/server/service.h"

#define WELL_KNOWN "/.well-known/oauth-authorization-server"
#define SCHEME "https://"

static const char *const token_once[] = { "token", "token_type_hint", "client_id", NULL };

/* Any proof will do: what is told or taken away here makes no credential. */
static bool authenticate(struct request *r)
{
	struct err e = { 0 };

	if (caller_authenticate(r->worker, r->call, &r->caller, &e) && r->caller.roles)
		return true;
	r->caller.proof = PROOF_NONE;
	err_code(&e, ERR_UNAUTHENTICATED, "invalid_client",
		 "the caller must prove who it is, as at every other endpoint");
	oauth_fail(r, &e, false);
	return false;
}

static bool read_token(struct request *r, struct str *token)
{
	struct err e = { 0 };
	struct form f;

	if (!oauth_form(r, token_once, &f) || !authenticate(r))
		return false;
	*token = form_get(&f, STR("token"));
	if (token->p)
		return true;
	err_code(&e, ERR_INVALID, "invalid_request", "token is missing");
	oauth_fail(r, &e, false);
	return false;
}

/* One of ours that still lives. False: none, or, with @e, it cannot be told now. */
static bool look(struct request *r, struct str token, const struct delegation **out, struct err *e)
{
	if (delegation_look(r->worker, token, NULL, 0, r->call->arena, out, e))
		return (*out)->token.expires_s > clock_wall_ms(r->worker->core->clock) / 1000;
	if (e->class == ERR_UNAUTHENTICATED)
		err_none(e);
	return false;
}

static bool unavailable(struct request *r, struct err *e)
{
	if (e->class == ERR_NONE)
		return false;
	e->class = ERR_UNAVAILABLE;
	e->code = "temporarily_unavailable";
	oauth_fail(r, e, false);
	return true;
}

/* ---- introspection ---- */

/* A token is for whoever it is addressed to and for who acts by it to know; and for those whose
 * work is to judge or to look on. */
static bool may_see(const struct request *r, const struct delegated_token *t)
{
	return (r->caller.roles & (ROLE_PEP | ROLE_ADMIN | ROLE_AUDITOR)) ||
	       str_eq(r->caller.id, t->audience) || str_eq(r->caller.id, delegated_actor(t));
}

void handle_oauth_introspect(struct request *r)
{
	const struct delegation *d = NULL;
	struct err e = { 0 };
	struct str token;
	struct buf *b;

	if (!read_token(r, &token))
		return;
	if (!look(r, token, &d, &e)) {
		if (unavailable(r, &e))
			return;
		d = NULL;
	}
	b = oauth_reply(r);
	if (!d || !may_see(r, &d->token)) {
		buf_lit(b, "{\"active\":false}");
	} else {
		buf_lit(b, "{\"active\":true,");
		delegated_token_claims(&d->token, b);
		buf_lit(b, ",\"token_type\":\"Bearer\"}");
	}
	request_send(r);
}

/* ---- revocation ---- */

static void act_revoke(struct request *r, struct control *c)
{
	(void)!revoke(c, r->user, &r->failed);
}

/* RFC 7009 2.2: nothing but that it is done. */
static void reply_revoked(struct request *r)
{
	call_reply_header(r->call, STR("cache-control"), STR("no-store"));
	call_reply(r->call, 200, "application/json", 64);
	buf_lit(&r->call->reply.body, "{}");
	request_send(r);
}

static void revoke_own(struct request *r, const struct delegated_token *t)
{
	struct revoke_act *act = request_alloc(r, sizeof(*act));

	if (!act)
		return;
	act->by = r->caller.id;
	act->by_holder = !(r->caller.roles & ROLE_ADMIN);
	act->jti = t->id;
	act->expires_s = t->expires_s;
	r->user = act;
	request_on_control(r, act_revoke, reply_revoked);
}

void handle_oauth_revoke(struct request *r)
{
	const struct delegation *d = NULL;
	struct err e = { 0 };
	struct str token;

	if (!read_token(r, &token))
		return;
	if (!look(r, token, &d, &e)) {
		/* Dead or of somebody else: there is nothing to take back. */
		if (!unavailable(r, &e))
			reply_revoked(r);
	} else if (!(r->caller.roles & ROLE_ADMIN) &&
		   !str_eq(r->caller.id, delegated_actor(&d->token))) {
		err_code(&e, ERR_INVALID, "unauthorized_client",
			 "this token is another client's to revoke, or an admin's");
		oauth_fail(r, &e, false);
	} else {
		revoke_own(r, &d->token);
	}
}

/* ---- by an admin ---- */

static bool read_text(const struct json *body, const char *name, size_t max, struct str *out,
		      struct err *e)
{
	const struct json *v = json_get(body, str_c(name));

	if (v && (v->type != JSON_STRING || !v->s.n || v->s.n > max || !text_is_printable(v->s)))
		return err_code(e, ERR_INVALID, "invalid_request",
				"%s must be a printable text of at most %zu bytes", name, max);
	if (v)
		*out = v->s;
	return true;
}

/* By jti, or by user and issuer: never by both, and never by a misspelt member. */
static bool read_act(const struct json *body, struct revoke_act *act, struct err *e)
{
	if (!read_text(body, "jti", DELEGATED_ID_LEN, &act->jti, e) ||
	    !read_text(body, "user", DELEGATED_SUBJECT_MAX, &act->user, e) ||
	    !read_text(body, "issuer", 1024, &act->issuer, e) ||
	    !read_text(body, "reason", REVOKE_REASON_MAX, &act->reason, e))
		return false;
	return (act->jti.n > 0) != (act->user.n > 0 && act->issuer.n > 0) &&
			       (!act->jti.n || (!act->user.n && !act->issuer.n))
		       ? true
		       : err_code(e, ERR_INVALID, "invalid_request",
				  "say what to revoke: jti (a token and all that came from it), or "
				  "user and issuer (all tokens for that user)");
}

static void reply_act(struct request *r)
{
	buf_lit(request_reply(r, 200), "{\"revoked\":true}");
	request_send(r);
}

void handle_delegations_revoke(struct request *r)
{
	static const char *const known[] = { "jti", "user", "issuer", "reason", NULL };
	const struct json *body = request_json(r);
	struct revoke_act *act = body ? request_alloc(r, sizeof(*act)) : NULL;
	struct err e = { 0 };

	if (!act || !members_only(r, body, known))
		return;
	act->by = r->caller.id;
	r->user = act;
	if (read_act(body, act, &e))
		request_on_control(r, act_revoke, reply_act);
	else
		request_fail(r, &e);
}

/* ---- metadata ---- */

/* What stands behind the host of an https URL. */
static struct str path_of(struct str url)
{
	struct str rest = str_from(url, sizeof(SCHEME) - 1);
	const char *slash = rest.n ? memchr(rest.p, '/', rest.n) : NULL;

	return slash ? str_from(rest, (size_t)(slash - rest.p)) : (struct str){ NULL, 0 };
}

static struct str base_of(const struct request *r, struct str issuer)
{
	struct str url = str_c(r->site->service->public_url);

	if (!url.n) /* the issuer's own host */
		return str_first(issuer, issuer.n - path_of(issuer).n);
	while (url.n && url.p[url.n - 1] == '/')
		url.n--;
	return url;
}

void handle_oauth_metadata(struct request *r)
{
	static const struct {
		struct str name, path;
	} endpoints[] = {
		{ STR_INIT("token_endpoint"), STR_INIT("/oauth2/token") },
		{ STR_INIT("introspection_endpoint"), STR_INIT("/oauth2/introspect") },
		{ STR_INIT("revocation_endpoint"), STR_INIT("/oauth2/revoke") },
		{ STR_INIT("jwks_uri"), STR_INIT("/keys") },
	};
	struct str issuer = r->worker->core->token_issuer, base;
	struct str suffix = str_from(r->call->path, sizeof(WELL_KNOWN) - 1);
	struct err e = { 0 };
	struct buf *b;

	/* The document's issuer is the one its address was built from (RFC 8414 3.3). */
	if (!str_starts(issuer, STR(SCHEME)) || !str_eq(suffix, path_of(issuer))) {
		if (str_starts(issuer, STR(SCHEME)))
			err_set(&e, ERR_NOT_FOUND,
				"the issuer here is %.*s: ask " WELL_KNOWN "%.*s",
				STR_FMT(str_first(issuer, 150)),
				STR_FMT(str_first(path_of(issuer), 100)));
		else
			err_set(&e, ERR_NOT_FOUND,
				"this server has no https URL as issuer of tokens until "
				"delegation.issuer names one");
		request_fail(r, &e);
		return;
	}
	base = base_of(r, issuer);
	b = request_reply(r, 200);
	call_reply_header(r->call, STR("cache-control"), STR("max-age=300"));
	buf_lit(b, "{\"issuer\":");
	buf_json(b, issuer);
	for (size_t i = 0; i < ARRAY_LEN(endpoints); i++) {
		buf_char(b, ',');
		buf_json(b, endpoints[i].name);
		buf_lit(b, ":\"");
		buf_add(b, base); /* URLs that were checked: nothing in them needs escaping */
		buf_add(b, endpoints[i].path);
		buf_char(b, '"');
	}
	buf_lit(b,
		",\"grant_types_supported\":[\"urn:ietf:params:oauth:grant-type:token-exchange\"],"
		"\"response_types_supported\":[],"
		"\"token_endpoint_auth_methods_supported\":[\"tls_client_auth\"],"
		"\"tls_client_certificate_bound_access_tokens\":true}");
	request_send(r);
}
