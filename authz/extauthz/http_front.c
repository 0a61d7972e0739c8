/* Envoy takes 200 alone for a yes and 5xx for a broken authorizer, nginx any 2xx, and 401 and 403
 * alone for a no: so a yes is 200, and a no is never 2xx or 5xx. */
#include "authz/extauthz/http_front.h"

#include "authz/base/text.h"
#include "authz/extauthz/check.h"
#include "authz/extauthz/parts.h"

#define PREFIX "/ext-authz/"

/* Where the original request stands. */
enum place { IN_REQUEST, IN_HEADERS };

static const struct proxy {
	struct str name;
	enum place place;
	bool only_401_403;
	bool removes; /* x-envoy-auth-headers-to-remove is known */
} proxies[] = {
	{ STR_INIT("envoy"), IN_REQUEST, false, true },
	{ STR_INIT("istio"), IN_REQUEST, false, true },
	{ STR_INIT("nginx"), IN_HEADERS, true, false },
	{ STR_INIT("traefik"), IN_HEADERS, false, false },
	{ STR_INIT("caddy"), IN_HEADERS, false, false },
	{ STR_INIT("haproxy"), IN_HEADERS, false, false },
	{ STR_INIT("check"), IN_HEADERS, false, false },
};

struct front {
	struct call *call;
	const struct proxy *proxy;
	struct check *check;
	struct err e;
};

/* ---- the answer ---- */

static void reply_headers(struct call *call, const struct check_verdict *v)
{
	for (size_t i = 0; i < v->nheaders && call->reply.nheaders < REPLY_HEADERS_MAX - 1; i++)
		call_reply_header(call, v->headers[i].name, v->headers[i].value);
}

static void reply_removals(struct front *f, const struct check_verdict *v)
{
	struct buf b;

	if (!f->proxy || !f->proxy->removes || !v->nremove)
		return;
	buf_in_arena(&b, f->call->arena, 1024);
	for (size_t i = 0; i < v->nremove; i++) {
		if (i)
			buf_lit(&b, ", ");
		buf_add(&b, v->remove[i]);
	}
	if (buf_ok(&b))
		call_reply_header(f->call, STR("x-envoy-auth-headers-to-remove"), buf_str(&b));
}

static void answer(struct check *c, const struct check_verdict *v)
{
	struct front *f = c->user;

	if (v->allow) {
		call_reply(f->call, 200, NULL, 64);
		reply_headers(f->call, v);
		reply_removals(f, v);
	} else {
		call_reply(f->call, v->status, v->body.n ? "application/json" : NULL, 4096);
		buf_add(&f->call->reply.body, v->body);
		reply_headers(f->call, v);
	}
	call_finish(f->call);
}

/* ---- the request ---- */

#define refuse_front(f, code, ...) err_code(&(f)->e, ERR_INVALID, code, __VA_ARGS__)

/* One name=value. */
static bool setting(struct front *f, struct str text)
{
	struct str name, value, plain;

	if (!str_cut(text, '=', &name, &value))
		return refuse_front(f, "invalid_route", "\"%.*s\" is no setting; write name=value",
				    STR_FMT(str_first(text, 60)));
	if (!percent_decode(f->call->scratch, value, &plain))
		return refuse_front(f, "invalid_route", "setting %.*s is not well encoded",
				    STR_FMT(str_first(name, 40)));
	return check_setting(f->check, name, plain, &f->e);
}

/* "PROXY,name=value,...": what the operator wrote. */
static bool read_own_path(struct front *f, struct str *original)
{
	struct str rest = str_from(f->call->path, sizeof(PREFIX) - 1), own = rest, one;
	const struct listener_caller *l = f->call->peer->listener->user;

	*original = (struct str){ NULL, 0 };
	if (str_cut(rest, '/', &own, &rest))
		*original = (struct str){ rest.p - 1, rest.n + 1 };
	one = own;
	if (!str_cut(own, ',', &one, &own))
		own.n = 0;
	for (size_t i = 0; i < ARRAY_LEN(proxies); i++)
		if (str_eq(one, proxies[i].name))
			f->proxy = &proxies[i];
	if (!f->proxy)
		return refuse_front(f, "invalid_route",
				    "\"%.*s\" is no proxy; the path is /ext-authz/ and envoy, "
				    "istio, nginx, traefik, caddy, haproxy or check, then "
				    "settings after commas",
				    STR_FMT(str_first(one, 40)));
	f->check->only_401_403 = f->proxy->only_401_403;
	if (l && l->protocol.n && !check_setting(f->check, STR("protocol"), l->protocol, &f->e))
		return false;
	while (own.n) {
		one = own;
		if (!str_cut(own, ',', &one, &own))
			own.n = 0;
		if (!setting(f, one))
			return false;
	}
	return true;
}

/* The one value of several names for one thing: a proxy sets one of them, a client may have sent
 * the other. */
static bool agreed(struct front *f, const struct str *names, size_t n, const char *what,
		   struct str *out)
{
	*out = (struct str){ NULL, 0 };
	for (size_t i = 0; i < f->call->nheaders; i++)
		for (size_t k = 0; k < n; k++) {
			struct str v = f->call->headers[i].value;

			if (!str_eq(f->call->headers[i].name, names[k]))
				continue;
			if (out->p && !str_eq(*out, v))
				return refuse_front(f, "conflicting_headers",
						    "two headers name two values for the "
						    "original %s; let the proxy set them all",
						    what);
			*out = v;
			out->p = v.p ? v.p : "";
		}
	return true;
}

static bool required(struct front *f, struct str v, const char *what, const char *name)
{
	return v.n || refuse_front(f, "not_described",
				   "the proxy does not say what the original %s is; let it send %s",
				   what, name);
}

/* An absolute URL (ingress controllers) down to its target. */
static struct str target_of(struct str url)
{
	struct str rest;

	if (!str_starts(url, STR("http://")) && !str_starts(url, STR("https://")))
		return url;
	rest = str_from(url, str_starts(url, STR("https://")) ? 8 : 7);
	for (size_t i = 0; i < rest.n; i++)
		if (rest.p[i] == '/')
			return str_from(rest, i);
	return (struct str){ NULL, 0 };
}

static void set_target(struct traffic_request *q, struct str target)
{
	q->path = target;
	q->query = (struct str){ NULL, 0 };
	(void)str_cut(target, '?', &q->path, &q->query);
}

/* Headers of the subrequest that are not the original request's. */
static bool own_header(struct str name)
{
	static const struct str names[] = {
		STR_INIT("x-forwarded-method"), STR_INIT("x-original-method"),
		STR_INIT("x-forwarded-uri"),	STR_INIT("x-original-uri"),
		STR_INIT("x-original-url"),	STR_INIT("x-forwarded-host"),
		STR_INIT("x-forwarded-proto"),	STR_INIT("host"),
		STR_INIT("content-length"),	STR_INIT("transfer-encoding"),
		STR_INIT("connection"),
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_eq(name, names[i]))
			return true;
	return false;
}

static bool copy_headers(struct front *f)
{
	struct call *call = f->call;
	struct http_header *h = arena_alloc(call->scratch, (call->nheaders + 1) * sizeof(*h));
	struct traffic_request *q = &f->check->request;

	if (!h)
		return err_set(&f->e, ERR_UNAVAILABLE, "memory is short; try again later");
	for (size_t i = 0; i < call->nheaders; i++)
		if (!own_header(call->headers[i].name))
			h[q->nheaders++] = call->headers[i];
	q->headers = h;
	return true;
}

static bool from_headers(struct front *f, struct str below)
{
	static const struct str methods[] = { STR_INIT("x-forwarded-method"),
					      STR_INIT("x-original-method") };
	static const struct str uris[] = { STR_INIT("x-forwarded-uri"),
					   STR_INIT("x-original-uri") };
	static const struct str urls[] = { STR_INIT("x-original-url") };
	static const struct str hosts[] = { STR_INIT("x-forwarded-host") };
	static const struct str schemes[] = { STR_INIT("x-forwarded-proto") };
	struct traffic_request *q = &f->check->request;
	struct str uri, url;

	if (below.n > 1)
		return refuse_front(f, "invalid_route",
				    "with this proxy nothing follows the settings; found \"%.*s\"",
				    STR_FMT(str_first(below, 60)));
	if (!agreed(f, methods, 2, "method", &q->method) || !agreed(f, uris, 2, "path", &uri) ||
	    !agreed(f, urls, 1, "path", &url) || !agreed(f, hosts, 1, "host", &q->host) ||
	    !agreed(f, schemes, 1, "scheme", &q->scheme))
		return false;
	url = target_of(url);
	if (uri.n && url.n && !str_eq(uri, url))
		return refuse_front(f, "conflicting_headers",
				    "X-Original-URL and the forwarded path name two requests");
	if (!uri.n)
		uri = url;
	if (!required(f, q->method, "method", "X-Forwarded-Method") ||
	    !required(f, uri, "path", "X-Forwarded-Uri"))
		return false;
	set_target(q, uri);
	/* Caddy appends the client's query to ours; whatever else stands there was meant as a
	 * setting and would be forgotten silently. */
	if (f->call->query.n && !str_eq(f->call->query, q->query))
		return refuse_front(f, "invalid_route",
				    "settings stand in the path, after commas, not in the query");
	return copy_headers(f);
}

static bool from_request(struct front *f, struct str below)
{
	struct traffic_request *q = &f->check->request;
	struct call *call = f->call;

	if (!below.n)
		return refuse_front(f, "not_described",
				    "the original path is missing; it follows the settings");
	q->method = call->method;
	q->path = below;
	q->query = call->query;
	q->host = call_header(call, STR("host"));
	q->headers = call->headers;
	q->nheaders = call->nheaders;
	return true;
}

void http_front_check(struct worker *w, struct call *call, const struct caller *caller,
		      struct str request_id, struct str trace_id)
{
	struct front *f = arena_alloc(call->arena, sizeof(*f));
	struct check *c = check_new(w, call->arena, call->scratch);
	struct str below;
	struct err e;

	if (!f || !c) {
		err_set(&e, ERR_UNAVAILABLE, "memory is short; try again later");
		call_fail_as(call, 403, &e); /* 5xx would let it through where the proxy says so */
		call_finish(call);
		return;
	}
	*f = (struct front){ .call = call, .check = c };
	c->caller = caller;
	c->request_id = request_id;
	c->trace_id = trace_id;
	c->request.body = call->body;
	c->done = answer;
	c->user = f;
	call_let_go(call);
	if (read_own_path(f, &below) &&
	    (f->proxy->place == IN_REQUEST ? from_request(f, below) : from_headers(f, below)))
		check_run(c);
	else
		check_refuse(c, &f->e);
}
