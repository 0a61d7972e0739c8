/*
 * grpc.health.v1.Health: what /readyz says, for gateways and probes that speak gRPC. The service
 * asked about is "" (the whole server) or one that answers at this door.
 */
#include "authz/base/protobuf.h"
#include "authz/net/grpc.h"
#include "authz/server/handlers.h"

#define LOOK_NS 1000000000 /* how often a watched state is looked at */

enum serving { SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3 };

struct watch {
	struct request *r;
	enum serving said;
};

/* Is @service the first part of a method's path at this door? */
static bool is_service(const struct request *r, struct str service)
{
	for (size_t i = 0; i < route_count; i++) {
		struct str own, method, path = str_from(str_c(routes[i].path), 1);

		if ((routes[i].doors & ROUTE_GRPC) && (routes[i].doors & r->site->side) &&
		    str_cut(path, '/', &own, &method) && str_eq(own, service))
			return true;
	}
	return service.n == 0;
}

/* HealthCheckRequest { 1 service } */
static bool read_request(struct request *r, struct str *service)
{
	struct pb_reader in = pb_reader(r->call->body);
	struct pb_field f;
	struct err e = { 0 };

	*service = (struct str){ NULL, 0 };
	while (pb_next(&in, &f))
		if (f.number == 1)
			pb_string(&in, &f, service);
	if (pb_ok(&in, "HealthCheckRequest", &e))
		return true;
	request_fail(r, &e);
	return false;
}

static enum serving now_of(struct request *r)
{
	return health_ready(r, NULL, NULL) ? SERVING : NOT_SERVING;
}

void handle_health_check(struct request *r)
{
	struct str service;
	struct err e = { 0 };

	if (!read_request(r, &service))
		return;
	if (!is_service(r, service)) {
		err_set(&e, ERR_NOT_FOUND, "there is no service \"%.*s\" here; \"\" asks about all",
			STR_FMT(str_first(service, 120)));
		request_fail(r, &e);
		return;
	}
	pb_put_u64(grpc_reply(r->call, 16), 1, now_of(r));
	call_finish(r->call);
}

static void say(struct watch *w, enum serving s)
{
	char text[4];
	struct buf b = { .p = text, .cap = sizeof(text), .max = sizeof(text) };
	struct err e = { 0 };

	if (w->said != s) {
		pb_put_u64(&b, 1, s);
		w->said = s;
		if (!grpc_send(w->r->call, buf_str(&b))) {
			err_set(&e, ERR_UNAVAILABLE, "memory is short; try again later");
			call_fail(w->r->call, &e);
			call_finish(w->r->call);
			return;
		}
	}
	if (s != SERVICE_UNKNOWN) /* what is unknown at this door stays so */
		grpc_wake_at(w->r->call, clock_mono_ns(w->r->worker->core->clock) + LOOK_NS);
}

static void look(struct call *c)
{
	struct watch *w = c->user;

	say(w, now_of(w->r));
}

static const struct grpc_events watching = { .wake = look, .ended = call_finish };

void handle_health_watch(struct request *r)
{
	struct watch *w;
	struct str service;

	if (!read_request(r, &service))
		return;
	w = request_alloc(r, sizeof(*w));
	if (!w)
		return;
	w->r = r;
	r->call->user = w;
	grpc_stream(r->call, &watching);
	say(w, is_service(r, service) ? now_of(r) : SERVICE_UNKNOWN);
}
