#include "spiffe/workload_api.h"

#include <stdlib.h>

#include "spiffe/workload_api_inside.h"

#define SPIFFE_SERVICE "/SpiffeWorkloadAPI/"
#define SDS_SERVICE "/envoy.service.secret.v3.SecretDiscoveryService/"
#define SECURITY_HEADER "workload.spiffe.io"
#define SCRATCH_MAX ((size_t)32 * 1024 * 1024)
#define CHANGES 16 /* changed entries at once, up to which only those concerned are looked at */

static const struct {
	const char *path;
	void (*handle)(struct workload_api *w, struct call *c);
	bool wit; /* with that setting only */
} methods[] = {
	{ SPIFFE_SERVICE "FetchX509SVID", workload_fetch_x509_svid, false },
	{ SPIFFE_SERVICE "FetchX509Bundles", workload_fetch_x509_bundles, false },
	{ SPIFFE_SERVICE "FetchJWTSVID", workload_fetch_jwt_svid, false },
	{ SPIFFE_SERVICE "FetchJWTBundles", workload_fetch_jwt_bundles, false },
	{ SPIFFE_SERVICE "ValidateJWTSVID", workload_validate_jwt_svid, false },
	{ SPIFFE_SERVICE "FetchWITSVID", workload_fetch_wit_svid, true },
	{ SPIFFE_SERVICE "FetchWITBundles", workload_fetch_wit_bundles, true },
	{ SDS_SERVICE "StreamSecrets", workload_stream_secrets, false },
	{ SDS_SERVICE "FetchSecrets", workload_fetch_secrets, false },
};

int64_t workload_now_ms(const struct workload_api *w)
{
	return clock_wall_ms(w->core->clock);
}

/* Clients give up for good on INVALID_ARGUMENT and try again on the other two, so whatever is no
 * fault of theirs is UNAVAILABLE (sheet 7). */
void workload_fail(struct call *c, const struct workload_api *w, const struct err *e)
{
	struct err said = *e;

	if (said.class != ERR_INVALID && said.class != ERR_FORBIDDEN)
		said.class = ERR_UNAVAILABLE;
	refusals_count(&w->core->refusals, c->peer->listener->name, e->code);
	call_fail(c, &said);
	call_finish(c);
}

bool workload_limit(struct workload_api *w, const struct call *c, struct err *e)
{
	int64_t wait_ms = 0;
	struct str key = arena_printf(c->arena, "unix:uid:%lu", (unsigned long)c->peer->uid);

	if (limit_take(w->core->agent_limit, key, clock_mono_ns(w->core->clock), &wait_ms))
		return true;
	return err_code(e, ERR_UNAVAILABLE, "rate_limited",
			"too many calls of this user; try again in %lld ms", (long long)wait_ms);
}

/* The guard against requests that somebody was made to send: exactly once, exactly this. */
static bool has_security_header(const struct call *c)
{
	return call_header_count(c, STR(SECURITY_HEADER)) == 1 &&
	       str_eq(call_header(c, STR(SECURITY_HEADER)), STR("true"));
}

void workload_api_handle(void *api, struct call *c)
{
	struct workload_api *w = api;
	bool spiffe = str_starts(c->path, STR(SPIFFE_SERVICE));
	struct err e = { 0 };

	if (!c->grpc || (!spiffe && !str_starts(c->path, STR(SDS_SERVICE)))) {
		w->settings.next.handle(w->settings.next.ctx, c);
		return;
	}
	if (spiffe && !has_security_header(c)) {
		err_code(
			&e, ERR_INVALID, "security_header",
			"security header missing from request: every call must carry metadata " SECURITY_HEADER
			": true");
		workload_fail(c, w, &e);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (str_eq(c->path, str_c(methods[i].path)) &&
		    (!methods[i].wit || w->settings.wit)) {
			methods[i].handle(w, c);
			return;
		}
	err_code(&e, ERR_NOT_FOUND, "unimplemented", "there is no method %.*s here",
		 STR_FMT(str_first(c->path, 120)));
	refusals_count(&w->core->refusals, c->peer->listener->name, e.code);
	grpc_fail(c, GRPC_UNIMPLEMENTED, &e);
	call_finish(c);
}

void workload_api_refused(void *api, const struct listener *l, const struct err *e)
{
	const struct workload_api *w = api;

	refusals_count(&w->core->refusals, l->name, e->code);
}

void workload_api_turn(struct workload_api *w)
{
	struct registry_changed changed[CHANGES];
	const struct registry_view *was = w->view;
	struct registry_view *is = (struct registry_view *)w->worker->registry.obj;
	bool bundles = w->bundle_version != w->worker->bundle.version;
	size_t n = 0;

	if (w->coming)
		workload_coming_look(w);
	if (!bundles && was == is)
		return;
	if (is != was) {
		n = was && is ? registry_changes(was, is, changed, CHANGES) : CHANGES + 1;
		if (n <= CHANGES)
			workload_touch_concerned(w, is, changed, n);
		if (is)
			shared_acquire(&is->shared);
		registry_view_release(&was);
		w->view = is;
	}
	w->bundle_version = w->worker->bundle.version;
	if (bundles)
		workload_identities_sweep(w, true);
	if (bundles || n > CHANGES)
		workload_touch_all(w);
}

struct workload_api *workload_api_new(const struct workload_api_settings *s, struct err *e)
{
	struct workload_api *w = calloc(1, sizeof(*w));

	if (!w) {
		err_set(e, ERR_NOMEM, "no memory for the Workload API");
		return NULL;
	}
	w->settings = *s;
	w->worker = s->worker;
	w->core = s->worker->core;
	w->sweep.fire = workload_tick;
	w->look.run = workload_look_dirty;
	arena_init(&w->scratch, &mem_system, SCRATCH_MAX);
	arena_init(&w->names, &mem_system, SCRATCH_MAX);
	tally_init(&w->users, &mem_system);
	w->sha = sha256_new(e);
	w->jwt = w->sha ? jwt_verifier_new(&mem_system, 0, e) : NULL;
	if (!w->jwt) {
		workload_api_free(w);
		return NULL;
	}
	jwt_verifier_leeway(w->jwt, w->core->leeway_s);
	slot_watch(&w->core->agents, s->worker->home->inbox);
	slot_watch(&w->core->bundles, s->worker->home->inbox);
	workload_api_turn(w);
	return w;
}

void workload_api_free(struct workload_api *w)
{
	if (!w)
		return;
	slot_watch(&w->core->agents, NULL);
	slot_watch(&w->core->bundles, NULL);
	loop_timer_stop(w->settings.loop, &w->sweep);
	workload_identities_free(w);
	workload_coming_free(w);
	arena_clear(&w->names);
	tally_clear(&w->users);
	shared_release(w->view ? &w->view->shared : NULL);
	jwt_verifier_free(w->jwt);
	sha256_free(w->sha);
	arena_clear(&w->scratch);
	free(w);
}
