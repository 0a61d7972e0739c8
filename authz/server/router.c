#include "authz/server/router.h"

#include <inttypes.h>
#include <stdio.h>

#include "authz/base/text.h"
#include "authz/net/grpc.h"
#include "authz/server/handlers.h"

#define METHOD_NOT_ALLOWED "method_not_allowed"
#define MEDIA_TYPE "media_type"
#define UNIMPLEMENTED "unimplemented"

/* A path that ends in a star stands for all that begin like it. */
static bool path_is(const struct route *r, struct str path)
{
	struct str own = str_c(r->path);

	if (own.p[own.n - 1] != '*')
		return str_eq(path, own);
	own.n--;
	return str_starts(path, own);
}

/* 405 names what would be right (RFC 9110 15.5.6). */
static void allow_header(struct call *c, unsigned door)
{
	struct buf b;

	buf_in_arena(&b, c->arena, 256);
	for (size_t i = 0; i < route_count; i++)
		if ((routes[i].doors & door) && path_is(&routes[i], c->path)) {
			if (b.n)
				buf_lit(&b, ", ");
			buf_add(&b, str_c(routes[i].method));
			if (!strcmp(routes[i].method, "GET"))
				buf_lit(&b, ", HEAD");
		}
	if (buf_ok(&b))
		call_reply_header(c, STR("allow"), buf_str(&b));
}

static const char *door_name(unsigned door)
{
	if (door & SIDE_WORKLOAD)
		return "workloads' door (listen.workload)";
	if (door == SIDE_WEB)
		return "public door (listen.web)";
	return door & SIDE_AGENTS ? "agents' door (listen.http, listen.https)"
				  : "operators' door (listen.operators, listen.admin)";
}

/* A gRPC method, and nothing else answers a gRPC call. */
static const struct route *find_method(const struct call *c, unsigned door, struct err *e)
{
	for (size_t i = 0; i < route_count; i++)
		if ((routes[i].doors & ROUTE_GRPC) && (routes[i].doors & door) &&
		    path_is(&routes[i], c->path))
			return &routes[i];
	err_code(e, ERR_NOT_FOUND, UNIMPLEMENTED, "there is no gRPC method %.*s at the %s",
		 STR_FMT(str_first(c->path, 120)), door_name(door));
	return NULL;
}

/* One server carries two doors of the agents' side: the listener tells which it is. */
static enum side side_of(const struct site *site, const struct call *c)
{
	return c->peer->listener->web ? SIDE_WEB : site->side;
}

static const struct route *find_route(const struct call *c, unsigned door, struct err *e)
{
	const struct route *other = NULL, *elsewhere = NULL;
	bool head = str_eq(c->method, STR("HEAD"));

	if (c->grpc)
		return find_method(c, door, e);
	for (size_t i = 0; i < route_count; i++) {
		const struct route *r = &routes[i];

		if (!path_is(r, c->path))
			continue;
		if ((r->doors & ROUTE_GRPC) && (r->doors & door)) {
			err_code(e, ERR_INVALID, MEDIA_TYPE,
				 "%s is a gRPC method: call it over HTTP/2 with Content-Type "
				 "application/grpc",
				 r->path);
			return NULL;
		}
		if (!(r->doors & door)) {
			elsewhere = r;
			continue;
		}
		if (!strcmp(r->method, ANY_METHOD) || str_eq(c->method, str_c(r->method)) ||
		    (head && !strcmp(r->method, "GET")))
			return r;
		other = r;
	}
	if (other)
		err_code(e, ERR_INVALID, METHOD_NOT_ALLOWED, "%.*s is not a method of %s; use %s",
			 STR_FMT(str_first(c->method, 20)), other->path, other->method);
	else
		err_code(e, ERR_NOT_FOUND, "not_found", "there is nothing at %.*s at the %s%s%s",
			 STR_FMT(str_first(c->path, 120)), door_name(door),
			 elsewhere ? "; it is at the " : "",
			 elsewhere ? door_name(elsewhere->doors) : "");
	return NULL;
}

/* traceparent (W3C Trace Context 3.2): version-traceid-parentid-flags, lower-case hex; version ff
 * and an id of zeros are invalid, and so is the header if it comes twice. */
static struct str trace_of(const struct call *c)
{
	static const uint8_t zeros[16];
	struct str v = call_header(c, STR("traceparent"));
	struct str trace = str_first(str_from(v, 3), 32);
	uint8_t version[1], id[16], parent[8];

	if (v.n < 55 || v.p[2] != '-' || v.p[35] != '-' || v.p[52] != '-' ||
	    !text_unhex(str_first(v, 2), version, 1) || version[0] == 0xff ||
	    !text_unhex(trace, id, sizeof(id)) || !memcmp(id, zeros, sizeof(id)) ||
	    !text_unhex(str_first(str_from(v, 36), 16), parent, sizeof(parent)) ||
	    call_header_count(c, STR("traceparent")) > 1)
		return (struct str){ NULL, 0 };
	return trace;
}

/* "admin or auditor" */
static void put_roles(struct buf *b, unsigned roles)
{
	static const char *const names[] = ROLE_NAMES;

	for (unsigned i = 0; names[i]; i++)
		if (roles & (1u << i)) {
			if (b->n)
				buf_lit(b, " or ");
			buf_add(b, str_c(names[i]));
		}
}

/* Does some role of the caller open this route? */
static bool may_use(struct request *r, const struct route *route, struct err *e)
{
	struct buf needed;

	if (!route->roles)
		return true;
	if (!r->caller.roles)
		return err_code(
			e, ERR_FORBIDDEN, "forbidden",
			"%.*s is authenticated but has no role here: it is neither a registered "
			"agent nor in `callers`",
			STR_FMT(r->caller.id));
	if (r->caller.roles & route->roles)
		return true;
	buf_in_arena(&needed, r->call->arena, 128);
	put_roles(&needed, route->roles);
	return err_code(e, ERR_FORBIDDEN, "forbidden",
			"%.*s may not use %s %s, which needs the role %.*s", STR_FMT(r->caller.id),
			route->method, route->path, STR_FMT(buf_str(&needed)));
}

/* Some routes are open on loopback and Unix sockets and want a role elsewhere. */
static bool open_here(const struct route *route, const struct call *c)
{
	return (route->roles & ROUTE_OPEN_LOCALLY) && c->peer->listener->loopback;
}

/* Host without its port. */
static struct str host_name(struct str host)
{
	struct str name = host, port;
	const char *end;

	if (host.n && host.p[0] == '[') {
		end = memchr(host.p, ']', host.n);
		name.n = end ? (size_t)(end - host.p) + 1 : host.n;
		/* What follows the address is a port or nothing. */
		return name.n == host.n || host.p[name.n] == ':' ? name : host;
	}
	(void)str_cut(host, ':', &name, &port);
	return name;
}

/* localhost, 127.0.0.0/8, [::1]. Names that only look like such an address are not. */
static bool is_local(struct str name)
{
	size_t dots = 0;

	if (str_eq(name, STR("[::1]")) ||
	    (name.n == 9 && !strncasecmp(name.p, "localhost", name.n)))
		return true;
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] == '.')
			dots++;
		else if (name.p[i] < '0' || name.p[i] > '9')
			return false;
	return dots == 3 && str_starts(name, STR("127."));
}

/* A site that is on loopback for `make run` must not be reachable from a web page (design 12): no
 * request of one, whatever else it proves. */
static bool browser_proof(const struct call *c, struct err *e)
{
	const struct listener_caller *l = c->peer->listener->user;
	struct str host = call_header(c, STR("host"));

	if (!l || (!l->roles && !l->id.n))
		return true;
	if (call_header(c, STR("origin")).p)
		return err_code(
			e, ERR_FORBIDDEN, "origin_refused",
			"this listener takes every local process for its fixed caller, so it "
			"refuses requests with an Origin header: a web page could send them");
	if (c->peer->listener->unix_socket || is_local(host_name(host)))
		return true;
	return err_code(
		e, ERR_FORBIDDEN, "host_refused",
		"this listener takes every local process for its fixed caller, so Host must be "
		"localhost or a loopback address, not \"%.*s\"",
		STR_FMT(str_first(host, 100)));
}

static void dispatch(const struct site *site, struct call *c)
{
	struct request *r = arena_alloc(c->arena, sizeof(*r));
	const struct route *route;
	struct err e;

	if (!r) {
		err_set(&e, ERR_UNAVAILABLE, "memory is short; try again later");
		call_fail(c, &e);
		call_finish(c);
		return;
	}
	memset(r, 0, offsetof(struct request, failed));
	err_none(&r->failed);
	r->call = c;
	r->site = site;
	r->worker = c->home->worker;
	r->request_id = call_header(c, STR("x-request-id"));
	r->trace_id = trace_of(c);
	route = find_route(c, side_of(site, c), &e);
	r->denies = route && (route->roles & ROUTE_DENIES);
	if (!route || !browser_proof(c, &e)) {
		request_fail(r, &e);
		return;
	}
	if (route->roles && !open_here(route, c)) {
		bool ok = route->roles & ROUTE_BY_TRANSPORT
				  ? caller_by_transport(r->worker, c, &r->caller, &e)
				  : caller_authenticate(r->worker, c, &r->caller, &e);

		if (!ok) {
			request_fail(r, &e);
			return;
		}
		if (!may_use(r, route, &e)) {
			request_fail(r, &e);
			return;
		}
	}
	route->handle(r);
}

/* The front loops bracket their turns themselves; at the operators' door a turn is one request. */
void router_handle(void *ctx, struct call *c)
{
	const struct site *site = ctx;
	struct worker *w = c->home->worker;

	if (site->side != SIDE_OPERATORS) {
		dispatch(site, c);
		return;
	}
	worker_turn_begin(w);
	dispatch(site, c);
	worker_turn_end(w);
}

void router_refused(void *ctx, const struct listener *l, const struct err *e)
{
	const struct site *site = ctx;

	refusals_count(&site->core->refusals, l->name, e->code);
}

/* A message that is too large must not be a way past a proxy that lets everything through when its
 * authorizer fails. */
bool router_deny(void *ctx, struct call *c, const struct err *e)
{
	const struct site *site = ctx;
	const struct route *route;
	struct err ignored;

	route = find_method(c, side_of(site, c), &ignored);
	if (!route || !(route->roles & ROUTE_DENIES))
		return false;
	ext_authz_refuse(site, c, e);
	return true;
}

static void send_failure(struct request *r, const struct err *e)
{
	if (r->denies) {
		ext_authz_refuse(r->site, r->call, e);
		call_finish(r->call);
		return;
	}
	if (r->call->grpc && !strcmp(e->code, UNIMPLEMENTED)) {
		grpc_fail(r->call, GRPC_UNIMPLEMENTED, e);
	} else if (!strcmp(e->code, METHOD_NOT_ALLOWED)) {
		allow_header(r->call, side_of(r->site, r->call));
		call_fail_as(r->call, 405, e);
	} else {
		call_fail(r->call, e);
	}
	if (e->class == ERR_UNAUTHENTICATED)
		call_challenge(r->call);
	if (e->class == ERR_RATE)
		call_reply_header(r->call, STR("retry-after"),
				  arena_printf(r->call->arena, "%" PRId64, r->retry_ms / 1000 + 1));
	call_finish(r->call);
}

static void refusal_recorded(void *owner, const struct recorded *done)
{
	struct request *r = owner;

	(void)done; /* refused either way */
	send_failure(r, &r->failed);
}

void request_fail(struct request *r, const struct err *e)
{
	r->failed = *e;
	if (r->caller.proof == PROOF_NONE || err_status(e->class) >= 500) {
		refusals_count(&r->site->core->refusals, r->call->peer->listener->name, e->code);
		send_failure(r, e);
		return;
	}
	worker_refuse(r->worker, &r->caller, e, refusal_recorded, r);
}

void *request_alloc(struct request *r, size_t n)
{
	void *p = arena_zero(r->call->arena, n);
	struct err e = { 0 };

	if (!p) {
		err_set(&e, ERR_UNAVAILABLE, "memory is short; try again later");
		request_fail(r, &e);
	}
	return p;
}

/* application/json, with or without parameters (RFC 9110 8.3.1). */
static bool is_json(struct str type)
{
	struct str media = type, parameters;

	(void)str_cut(type, ';', &media, &parameters);
	while (media.n && (media.p[media.n - 1] == ' ' || media.p[media.n - 1] == '\t'))
		media.n--;
	return media.n == 16 && !strncasecmp(media.p, "application/json", 16);
}

const struct json *request_json(struct request *r)
{
	struct str type = call_header(r->call, STR("content-type"));
	const struct json *body = NULL;
	struct err e;

	err_none(&e);
	if (!is_json(type))
		err_code(&e, ERR_INVALID, "media_type",
			 "Content-Type must be application/json, not \"%.*s\"",
			 STR_FMT(str_first(type, 80)));
	else if (!r->call->body.n)
		err_code(&e, ERR_INVALID, "invalid_json", "the body is empty; send a JSON object");
	else if (json_parse(r->call->body, &r->site->core->json, r->call->scratch, &body, &e) &&
		 body->type != JSON_OBJECT)
		err_code(&e, ERR_INVALID, "invalid_request",
			 "the body must be a JSON object, not %s", json_type_name(body->type));
	if (e.class != ERR_NONE) {
		request_fail(r, &e);
		return NULL;
	}
	return body;
}

const struct json *request_member(struct request *r, const struct json *body, const char *name,
				  enum json_type t)
{
	const struct json *v = json_get(body, str_c(name));
	struct err e = { 0 };

	if (v && v->type == t)
		return v;
	if (!v)
		err_code(&e, ERR_INVALID, "invalid_request", "%s is missing; it must be of type %s",
			 name, json_type_name(t));
	else
		err_code(&e, ERR_INVALID, "invalid_request", "%s must be of type %s, not %s", name,
			 json_type_name(t), json_type_name(v->type));
	request_fail(r, &e);
	return NULL;
}

struct buf *request_reply(struct request *r, int status)
{
	call_reply(r->call, status, "application/json", (size_t)4 * LIMIT_BODY);
	return &r->call->reply.body;
}

void request_send(struct request *r)
{
	struct err e;

	if (!buf_ok(&r->call->reply.body)) {
		err_set(&e, ERR_UNAVAILABLE, "the answer is too large or memory is short");
		call_fail(r->call, &e);
	}
	call_finish(r->call);
}

void request_send_made(struct request *r, const struct buf *out)
{
	*request_reply(r, 200) = *out; /* with its failure, if it has one */
	request_send(r);
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* %XX and nothing else; the result is UTF-8 without control characters. */
static bool percent_decode(const struct request *r, struct str in, struct str *out)
{
	char *p = arena_alloc(r->call->arena, in.n + 1);
	size_t n = 0;

	if (!p)
		return false;
	for (size_t i = 0; i < in.n; i++) {
		int hi, lo;

		if (in.p[i] != '%') {
			p[n++] = in.p[i];
			continue;
		}
		if (in.n - i < 3)
			return false;
		hi = hex_value(in.p[i + 1]);
		lo = hex_value(in.p[i + 2]);
		if (hi < 0 || lo < 0)
			return false;
		p[n++] = (char)(hi << 4 | lo);
		i += 2;
	}
	*out = (struct str){ p, n };
	return text_is_utf8(*out) && text_is_printable(*out);
}

/* The first parameter of @rest, which is cut off. */
static bool next_parameter(struct str *rest, struct str *key, struct str *value)
{
	struct str part = *rest;

	if (!rest->n)
		return false;
	if (!str_cut(*rest, '&', &part, rest))
		rest->n = 0;
	*value = (struct str){ "", 0 };
	if (!str_cut(part, '=', key, value))
		*key = part;
	return true;
}

bool request_query_only(struct request *r, const char *const *known)
{
	struct str rest = r->call->query, key, value;
	struct err e = { 0 };

	while (next_parameter(&rest, &key, &value)) {
		const char *const *k = known;
		const char *near;

		while (*k && !str_eq(key, str_c(*k)))
			k++;
		if (*k)
			continue;
		near = text_nearest(key, known);
		err_code(&e, ERR_INVALID, "unknown_parameter",
			 "\"%.*s\" is no query parameter of %.*s%s%s%s",
			 STR_FMT(str_first(key, 64)), STR_FMT(str_first(r->call->path, 100)),
			 near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
		request_fail(r, &e);
		return false;
	}
	return true;
}

bool request_query(const struct request *r, struct str name, struct str *value, struct err *e)
{
	struct str rest = r->call->query, raw = { NULL, 0 }, key, val;
	bool found = false;

	while (next_parameter(&rest, &key, &val)) {
		if (!str_eq(key, name))
			continue;
		if (found)
			return err_code(e, ERR_INVALID, "invalid_request",
					"query parameter %.*s is given twice", STR_FMT(name));
		found = true;
		raw = val;
	}
	if (!found)
		return false;
	if (!percent_decode(r, raw, value))
		return err_code(e, ERR_INVALID, "invalid_request",
				"query parameter %.*s is not well encoded", STR_FMT(name));
	return true;
}

static void back_from_control(struct task *t)
{
	struct request *r = (struct request *)(void *)((char *)t - offsetof(struct request, task));
	struct worker *worker = r->worker; /* at the operators' door an answered request is gone */

	if (r->failed.class != ERR_NONE) {
		struct err e = r->failed;

		request_fail(r, &e);
	} else {
		r->reply(r);
	}
	worker_turn_end(worker);
}

static void run_on_control(struct task *t)
{
	struct request *r = (struct request *)(void *)((char *)t - offsetof(struct request, task));
	struct chain back;

	r->act(r, r->site->core->control);
	r->task.run = back_from_control;
	chain_init(&back);
	chain_add(&back, &r->task.link);
	queue_push_always(r->call->home->inbox, &back);
}

bool request_on_control(struct request *r, void (*act)(struct request *r, struct control *c),
			void (*reply)(struct request *r))
{
	struct err e = { 0 };

	r->act = act;
	r->reply = reply;
	r->task.run = run_on_control;
	if (control_do(r->site->core->control, &r->task, &e))
		return true;
	request_fail(r, &e);
	return false;
}
