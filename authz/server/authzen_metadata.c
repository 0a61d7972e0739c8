/*
 * AuthZEN 1.0, what this decision point is and offers (sheet section 6). A client throws the
 * document away unless policy_decision_point is, byte for byte, the identifier that it built the
 * address from: so that is either the configured public_url or, over TLS, what the client itself
 * used.
 */
#include "authz/server/handlers.h"
#include "authz/server/service.h"

#define WELL_KNOWN "/.well-known/authzen-configuration"
#define SCHEME "https://"

/* Characters of a path (RFC 3986 3.3), percent-encoding included. */
static bool plain_path(struct str path)
{
	for (size_t i = 0; i < path.n; i++) {
		char c = path.p[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
		    !memchr("-._~/%!$&'()*+,;=:@", c, 19))
			return false;
	}
	return true;
}

/* Path of the configured URL: what stands behind its host. */
static struct str path_of(struct str url)
{
	struct str rest = str_from(url, sizeof(SCHEME) - 1);
	const char *slash = rest.n ? memchr(rest.p, '/', rest.n) : NULL;

	return slash ? str_from(rest, (size_t)(slash - rest.p)) : (struct str){ NULL, 0 };
}

/* The identifier, and where the endpoints are below. False: there is none here. */
static bool identify(const struct request *r, struct str *identifier, struct str *base,
		     struct err *e)
{
	const struct call *c = r->call;
	struct str url = str_c(r->site->service->public_url);
	struct str suffix = str_from(c->path, sizeof(WELL_KNOWN) - 1);
	struct str host = call_header(c, STR("host"));

	if (url.n) {
		*identifier = *base = url;
		while (base->n && base->p[base->n - 1] == '/')
			base->n--;
		if (str_eq(suffix, path_of(url)))
			return true;
		return err_set(e, ERR_NOT_FOUND, "this decision point is %.*s and no other",
			       STR_FMT(url));
	}
	if (!c->peer->listener->tls || !host.n)
		return err_set(e, ERR_NOT_FOUND,
			       "the metadata speak of an https URL and this listener has none; ask "
			       "over TLS, or set public_url");
	if (!plain_path(suffix))
		return err_set(e, ERR_NOT_FOUND, "there is nothing at this path");
	*base = arena_printf(c->arena, SCHEME "%.*s", STR_FMT(host));
	*identifier = arena_printf(c->arena, SCHEME "%.*s%.*s", STR_FMT(host), STR_FMT(suffix));
	return base->p && identifier->p ? true : err_set(e, ERR_UNAVAILABLE, "memory is short");
}

static void url_member(struct buf *b, struct str name, struct str base, struct str path)
{
	buf_char(b, ',');
	buf_json(b, name);
	buf_lit(b, ":\"");
	buf_add(b, base);
	buf_add(b, path);
	buf_char(b, '"');
}

void handle_authzen_metadata(struct request *r)
{
	static const struct {
		struct str name, path;
	} endpoints[] = {
		{ STR_INIT("access_evaluation_endpoint"), STR_INIT("/access/v1/evaluation") },
		{ STR_INIT("access_evaluations_endpoint"), STR_INIT("/access/v1/evaluations") },
		{ STR_INIT("search_subject_endpoint"), STR_INIT("/access/v1/search/subject") },
		{ STR_INIT("search_resource_endpoint"), STR_INIT("/access/v1/search/resource") },
		{ STR_INIT("search_action_endpoint"), STR_INIT("/access/v1/search/action") },
	};
	struct str identifier, base;
	struct err e = { 0 };
	struct buf *b;

	if (!identify(r, &identifier, &base, &e)) {
		request_fail(r, &e);
		return;
	}
	b = request_reply(r, 200);
	call_reply_header(r->call, STR("cache-control"), STR("max-age=3600"));
	buf_lit(b, "{\"policy_decision_point\":");
	buf_json(b, identifier);
	for (size_t i = 0; i < ARRAY_LEN(endpoints); i++)
		url_member(b, endpoints[i].name, base, endpoints[i].path);
	/* Of the obligations profile: what rules may oblige to. */
	buf_lit(b, ",\"supported_obligations\":"
		   "[\"step-up\",\"notification\",\"session_termination\",\"custom\"]");
	/* Our own: a client ignores what it does not know. */
	buf_lit(b, ",\"evaluations_max\":");
	buf_i64(b, r->site->service->batch_max);
	buf_char(b, '}');
	request_send(r);
}
