/* Token exchange over HTTP (RFC 8693 2, RFC 6749 5): the form in, the decision below, JSON out. */
#include "authz/server/oauth.h"

#include <inttypes.h>

#include "authz/base/text.h"
#include "authz/decide/token_exchange.h"
#include "authz/server/handlers.h"

#define GRANT "urn:ietf:params:oauth:grant-type:token-exchange"
#define TYPES "urn:ietf:params:oauth:token-type:"

/* ---- errors ---- */

static void send_error(struct request *r, const struct err *e)
{
	struct buf *b;

	call_reply(r->call, err_status(e->class), "application/json", 4096);
	b = &r->call->reply.body;
	buf_lit(b, "{\"error\":");
	buf_json(b, str_c(e->code ? e->code : "invalid_request"));
	buf_lit(b, ",\"error_description\":");
	buf_json(b, str_c(e->msg));
	buf_char(b, '}');
	call_reply_header(r->call, STR("cache-control"), STR("no-store"));
	call_reply_header(r->call, STR("pragma"), STR("no-cache"));
	if (e->class == ERR_UNAUTHENTICATED)
		call_challenge(r->call);
	if (e->class == ERR_UNAVAILABLE || e->class == ERR_RATE)
		call_reply_header(r->call, STR("retry-after"), STR("1"));
	call_finish(r->call);
}

static void on_record(void *owner, const struct recorded *done)
{
	struct request *r = owner;

	(void)done; /* refused either way */
	send_error(r, &r->failed);
}

void oauth_fail(struct request *r, const struct err *e, bool recorded)
{
	r->failed = *e;
	if (recorded) {
		send_error(r, e);
	} else if (r->caller.proof == PROOF_NONE || err_status(e->class) >= 500) {
		refusals_count(&r->site->core->refusals, r->call->peer->listener->name, e->code);
		send_error(r, e);
	} else {
		worker_refuse(r->worker, &r->caller, e, on_record, r);
	}
}

static bool fail(struct request *r, const char *error, const char *what)
{
	struct err e = { 0 };

	err_code(&e, ERR_INVALID, error, "%s", what);
	oauth_fail(r, &e, false);
	return false;
}

/* ---- forms ---- */

static bool is_form(struct str type)
{
	struct str media = type, parameters;

	(void)str_cut(type, ';', &media, &parameters);
	while (media.n && (media.p[media.n - 1] == ' ' || media.p[media.n - 1] == '\t'))
		media.n--;
	return media.n == 33 && !strncasecmp(media.p, "application/x-www-form-urlencoded", 33);
}

static bool none_twice(const struct form *f, const char *const *once, struct err *e)
{
	for (size_t i = 0; once[i]; i++)
		if (form_count(f, str_c(once[i])) > 1)
			return err_code(e, ERR_INVALID, "invalid_request",
					"parameter %s is there more than once", once[i]);
	return true;
}

bool oauth_form(struct request *r, const char *const *once, struct form *out)
{
	struct err e = { 0 };

	/* A proxy's log has the query, and caches have it too. */
	if (r->call->query.n)
		return fail(r, "invalid_request", "parameters belong into the body, not the query");
	if (!is_form(call_header(r->call, STR("content-type"))))
		return fail(r, "invalid_request",
			    "Content-Type must be application/x-www-form-urlencoded");
	if (form_parse(r->call->body, r->call->arena, out, &e) && none_twice(out, once, &e))
		return true;
	e.code = "invalid_request";
	oauth_fail(r, &e, false);
	return false;
}

struct buf *oauth_reply(struct request *r)
{
	struct buf *b = request_reply(r, 200);

	call_reply_header(r->call, STR("cache-control"), STR("no-store"));
	call_reply_header(r->call, STR("pragma"), STR("no-cache"));
	return b;
}

/* ---- token exchange ---- */

struct desk {
	struct token_exchange x;
	struct request *r;
};

/* The scope that was asked for, and so was given: it is refused rather than narrowed. */
static void exchanged(struct token_exchange *x, const struct err *e)
{
	const struct delegated_token *t = &x->delegation.token;
	struct desk *d = x->user;
	struct buf *b;

	if (e) {
		oauth_fail(d->r, e, true);
		return;
	}
	b = oauth_reply(d->r);
	buf_lit(b, "{\"access_token\":\"");
	buf_add(b, buf_str(&x->token)); /* base64url and dots */
	buf_printf(b,
		   "\",\"expires_in\":%" PRId64 ",\"issued_token_type\":\"" TYPES
		   "access_token\",\"scope\":",
		   t->expires_s - t->issued_s);
	buf_json(b, t->scope);
	buf_lit(b, ",\"token_type\":\"Bearer\"}");
	request_send(d->r);
}

static void act_person(struct request *r, struct control *c)
{
	token_exchange_person(&((struct desk *)r->user)->x, c);
}

static void reply_person(struct request *r)
{
	token_exchange_resume(&((struct desk *)r->user)->x);
}

/* Who the client is, by its connection alone (RFC 8705 2): what comes in the request could be
 * somebody else's, and a bearer token must not be able to make another. */
static bool client(struct request *r, const struct form *f)
{
	struct str id = form_get(f, STR("client_id"));
	struct err e = { 0 };

	if (call_header(r->call, STR("authorization")).p ||
	    form_get(f, STR("client_assertion")).p || form_get(f, STR("client_secret")).p)
		return fail(r, "invalid_request",
			    "clients prove themselves by mutual TLS alone, so neither an "
			    "Authorization header nor client_assertion or client_secret belongs "
			    "into the request");
	if (caller_by_transport(r->worker, r->call, &r->caller, &e) &&
	    r->caller.proof == PROOF_MTLS && (!id.p || str_eq(id, r->caller.id)))
		return true;
	r->caller.proof = PROOF_NONE; /* counted: nobody in particular was refused */
	err_code(&e, ERR_UNAUTHENTICATED, "invalid_client",
		 "the client must prove by mutual TLS that it is a registered, active agent%s",
		 id.p ? ", and client_id must be its SPIFFE ID" : "");
	oauth_fail(r, &e, false);
	return false;
}

static bool token_type(struct request *r, struct str text, enum subject_type *out)
{
	static const struct {
		struct str name;
		enum subject_type type;
	} types[] = {
		{ STR_INIT(TYPES "access_token"), SUBJECT_ACCESS_TOKEN },
		{ STR_INIT(TYPES "id_token"), SUBJECT_ID_TOKEN },
		{ STR_INIT(TYPES "jwt"), SUBJECT_JWT },
	};

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (str_eq(text, types[i].name)) {
			*out = types[i].type;
			return true;
		}
	return fail(r, "invalid_request",
		    "subject_token_type must be one of " TYPES "access_token, " TYPES
		    "id_token and " TYPES "jwt");
}

/* An absolute URI without fragment (RFC 8707 2): a scheme, a colon, something. */
static bool is_resource(struct str s)
{
	struct str scheme, rest;

	if (!str_cut(s, ':', &scheme, &rest) || !scheme.n || !rest.n || memchr(s.p, '#', s.n) ||
	    memchr(s.p, ' ', s.n))
		return false;
	for (size_t i = 0; i < scheme.n; i++) {
		char c = scheme.p[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

		if (!letter && (i == 0 || !((c >= '0' && c <= '9') || memchr("+-.", c, 3))))
			return false;
	}
	return true;
}

/* One target: a token for two could be used at either with what is meant for the other. */
static bool read_target(struct request *r, const struct form *f, struct token_exchange *x)
{
	struct str resource = form_get(f, STR("resource")), audience = form_get(f, STR("audience"));

	if (form_count(f, STR("resource")) + form_count(f, STR("audience")) != 1)
		return fail(r, "invalid_target",
			    "say by one resource or one audience whom the token is for");
	if (resource.p && !is_resource(resource))
		return fail(r, "invalid_target",
			    "resource must be an absolute URI without a fragment");
	x->target = resource.p ? resource : audience;
	return x->target.n <= JWT_AUDIENCE_MAX ||
	       fail(r, "invalid_target", "the target's name is too long");
}

static bool read_actor(struct request *r, const struct form *f, struct token_exchange *x)
{
	struct str type = form_get(f, STR("actor_token_type"));

	x->actor_token = form_get(f, STR("actor_token"));
	if (!x->actor_token.p != !type.p)
		return fail(r, "invalid_request",
			    "actor_token and actor_token_type belong together");
	return !type.p || str_eq(type, STR(TYPES "jwt")) ||
	       fail(r, "invalid_request", "actor_token_type must be " TYPES "jwt: a JWT-SVID");
}

static bool read_wanted(struct request *r, const struct form *f)
{
	struct str wanted = form_get(f, STR("requested_token_type"));

	if (wanted.p && !str_eq(wanted, STR(TYPES "access_token")) &&
	    !str_eq(wanted, STR(TYPES "jwt")))
		return fail(r, "invalid_request",
			    "requested_token_type must be " TYPES "access_token or absent");
	if (form_get(f, STR("authorization_details")).p)
		return fail(r, "invalid_authorization_details",
			    "this server knows no type of authorization_details");
	return true;
}

static bool read_exchange(struct request *r, const struct form *f, struct token_exchange *x)
{
	struct str type = form_get(f, STR("subject_token_type"));

	x->subject_token = form_get(f, STR("subject_token"));
	x->scope = form_get(f, STR("scope"));
	if (!x->subject_token.p || !type.p)
		return fail(r, "invalid_request",
			    "subject_token and subject_token_type are required");
	if (!token_type(r, type, &x->type) || !read_actor(r, f, x) || !read_wanted(r, f) ||
	    !read_target(r, f, x))
		return false;
	return delegated_scope_valid(x->scope) ||
	       fail(r, "invalid_scope",
		    "scope must be names with one blank between them, each there once");
}

static void start(struct request *r, const struct form *f)
{
	struct desk *d = request_alloc(r, sizeof(*d));
	struct token_exchange *x = &d->x;

	if (!d)
		return;
	d->r = r;
	r->user = d;
	x->worker = r->worker;
	x->arena = r->call->arena;
	x->caller = &r->caller;
	x->peer = r->call->peer;
	x->request_id = r->request_id;
	x->trace_id = r->trace_id;
	x->done = exchanged;
	x->user = d;
	if (read_exchange(r, f, x) && token_exchange_begin(x))
		request_on_control(r, act_person, reply_person);
}

void handle_oauth_token(struct request *r)
{
	static const char *const once[] = { "grant_type",
					    "client_id",
					    "client_assertion",
					    "client_secret",
					    "subject_token",
					    "subject_token_type",
					    "actor_token",
					    "actor_token_type",
					    "requested_token_type",
					    "scope",
					    "authorization_details",
					    NULL };
	struct form f;
	struct str grant;

	if (!oauth_form(r, once, &f) || !client(r, &f))
		return;
	grant = form_get(&f, STR("grant_type"));
	if (!grant.p)
		fail(r, "invalid_request", "grant_type is missing");
	else if (!str_eq(grant, STR(GRANT)))
		fail(r, "unsupported_grant_type", "the one grant_type here is " GRANT);
	else
		start(r, &f);
}
