#include "authz/decide/federation.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "authz/base/log.h"
#include "authz/decide/federation_poll.h"

#define LOOK_NS 5000000000LL /* how often ages are looked at */

/* ---- what is in force ---- */

static struct federation_standing *make_standing(struct federation_desk *d, int64_t now)
{
	struct federation_standing *s = calloc(1, sizeof(*s));
	size_t n = federation_count(d->federation);

	if (!s)
		return NULL;
	s->peers = calloc(n + 1, sizeof(*s->peers));
	if (!s->peers) {
		free(s);
		return NULL;
	}
	s->n = n;
	for (size_t i = 0; i < n; i++) {
		const struct federation_peer *p = federation_at(d->federation, i);
		struct federation_report *r = &s->peers[i];

		memcpy(r->trust_domain, p->trust_domain, sizeof(r->trust_domain));
		memcpy(r->url, p->url, sizeof(r->url));
		memcpy(r->endpoint_id, p->endpoint_id, sizeof(r->endpoint_id));
		memcpy(r->by, p->by, sizeof(r->by));
		r->profile = p->profile;
		r->state = federation_state(p, now, d->settings.keep_s * 1000);
		r->added_ms = p->added_ms;
		r->fetched_ms = p->fetched_ms;
		r->has_sequence = p->has_sequence;
		r->busy = p->busy;
		r->sequence = p->sequence;
		r->attempts = p->attempts;
		r->refresh_s = p->refresh_s;
		r->failures = p->failures;
		r->authorities = p->set ? p->set->items[0]->nauthorities : 0;
		r->jwt_keys = p->set ? p->set->items[0]->njwt_keys : 0;
		if (p->failed.class != ERR_NONE)
			memcpy(r->failed, p->failed.msg, sizeof(r->failed));
		if (p->warned.class != ERR_NONE)
			memcpy(r->warned, p->warned.msg, sizeof(r->warned));
	}
	return s;
}

static void standing_free(struct shared *shared)
{
	struct federation_standing *s = (struct federation_standing *)(void *)shared;

	free(s->peers);
	free(s);
}

void federation_tell(struct federation_desk *d)
{
	struct federation_standing *s = make_standing(d, clock_wall_ms(d->control->core->clock));

	if (!s)
		return;
	shared_init(&s->shared, standing_free);
	slot_publish(&d->standing, &s->shared);
}

struct federation_standing *federation_standing(struct control *c)
{
	return c->federation ? (struct federation_standing *)slot_acquire(&c->federation->standing)
			     : NULL;
}

/* Who is in which state: if that changes, so does what may be used. */
static uint64_t states(struct federation_desk *d, int64_t now)
{
	uint64_t h = federation_count(d->federation);

	for (size_t i = 0; i < federation_count(d->federation); i++)
		h = h * 31 + federation_state(federation_at(d->federation, i), now,
					      d->settings.keep_s * 1000);
	return h;
}

/* Our own bundle as it stands, and beside it what may be used of others. */
bool federation_publish(struct federation_desk *d, struct err *e)
{
	struct core *core = d->control->core;
	struct bundle_set *old = (struct bundle_set *)slot_acquire(&core->bundles);
	int64_t now = clock_wall_ms(core->clock);
	struct bundle_set *set = bundle_set_new(atomic_load(&core->bundles.version) + 1, e);
	struct bundle *own = NULL;
	bool ok;

	for (size_t i = 0; old && i < old->n; i++)
		if (str_eq(old->items[i]->trust_domain, core->trust_domain))
			own = old->items[i];
	ok = set && (!own || bundle_set_share(set, own, e)) &&
	     federation_share(d->federation, set, now, d->settings.keep_s * 1000, e);
	bundle_set_release(old);
	if (!ok) {
		bundle_set_release(set);
		d->states = UINT64_MAX; /* the next look tries again */
		return false;
	}
	slot_publish(&core->bundles, &set->shared);
	d->states = states(d, now);
	federation_tell(d);
	return true;
}

void federation_settle(struct federation_desk *d, bool changed)
{
	struct err e = { 0 };

	if (!changed && states(d, clock_wall_ms(d->control->core->clock)) == d->states)
		federation_tell(d);
	else if (!federation_publish(d, &e))
		log_event(LOG_ERROR, "federation.publish", "why=\"%s\"", e.msg);
}

void federation_tick(struct federation_desk *d)
{
	int64_t now = clock_mono_ns(d->control->core->clock);

	for (size_t i = 0; i < federation_count(d->federation); i++) {
		struct federation_peer *p = federation_at(d->federation, i);

		if (!p->busy && now >= p->next_ns)
			federation_poll(d, p);
	}
	if (now < d->next_look_ns)
		return;
	d->next_look_ns = now + LOOK_NS;
	if (states(d, clock_wall_ms(d->control->core->clock)) == d->states)
		return;
	for (size_t i = 0; i < federation_count(d->federation); i++) {
		const struct federation_peer *p = federation_at(d->federation, i);
		enum federation_state s = federation_state(p,
							   clock_wall_ms(d->control->core->clock),
							   d->settings.keep_s * 1000);

		if (s == FEDERATION_STALE || s == FEDERATION_EXPIRED)
			log_event(LOG_WARN, "federation.old",
				  "trust_domain=%s state=%s why=\"%s\" effect=\"%s\"",
				  p->trust_domain, federation_state_name(s), p->failed.msg,
				  s == FEDERATION_STALE ? "its last bundle stays in use"
							: "nothing of it is trusted any more");
	}
	federation_settle(d, true);
}

/* ---- acts ---- */

static struct str spec_json(struct arena *a, const struct federation_spec *s)
{
	struct buf b;

	buf_in_arena(&b, a, 65536);
	buf_printf(&b, "{\"bundle\":%s,\"endpoint_spiffe_id\":", s->bundle.n ? "true" : "false");
	buf_json(&b, s->endpoint_id);
	buf_lit(&b, ",\"profile\":");
	buf_json(&b, s->profile);
	buf_lit(&b, ",\"url\":");
	buf_json(&b, s->url);
	buf_char(&b, '}');
	return buf_ok(&b) ? buf_str(&b) : (struct str){ NULL, 0 };
}

static bool record_act(struct control *c, const char *act, const struct federation_spec *spec,
		       const char *outcome, struct err *e)
{
	struct act_record r;

	act_record_begin(&r);
	record_str(&r.job.record, STR("act"), str_c(act));
	if (spec->url.n) {
		struct str opening = spec_json(&r.arena, spec);

		if (opening.p)
			record_commit(&r.job.record, OPENING_INPUT, opening, c->sha);
		else
			r.text.failed = true;
	}
	record_str(&r.job.record, STR("kind"), STR("admin.action"));
	record_str(&r.job.record, STR("outcome"), str_c(outcome));
	record_str(&r.job.record, STR("pep"), spec->by);
	record_str(&r.job.record, STR("trust_domain"), spec->trust_domain);
	return act_record_append(c, &r, e);
}

bool federation_act_add(struct control *c, const struct federation_spec *spec, struct err *e)
{
	struct federation_desk *d = c->federation;
	struct err ignored = { 0 };

	if (!federation_check(d->federation, spec, e) ||
	    !record_act(c, "federation.add", spec, "done", e))
		return false;
	if (!federation_add(d->federation, spec, clock_wall_ms(c->core->clock), e)) {
		/* The log now tells of something that did not happen: say so there too. */
		if (!record_act(c, "federation.add", spec, "failed", &ignored))
			log_event(LOG_ERROR, "admin.unrecorded", "why=\"%s\"", ignored.msg);
		return false;
	}
	if (!federation_publish(d, e))
		return err_prefix(e, "the relationship is stored and not in force yet");
	federation_poll(d, federation_find(d->federation, spec->trust_domain));
	federation_tell(d);
	return true;
}

bool federation_act_remove(struct control *c, struct str trust_domain, struct str by, struct err *e)
{
	const struct federation_spec spec = { .trust_domain = trust_domain, .by = by };

	if (!federation_remove(c->federation->federation, trust_domain, e))
		return false;
	if (!federation_publish(c->federation, e))
		return err_prefix(e, "the relationship is deleted and still in force; stop writ");
	if (!record_act(c, "federation.remove", &spec, "done", e))
		return err_prefix(e, "the relationship has ended, but this act is not on record");
	return true;
}

bool federation_act_refresh(struct control *c, struct str trust_domain, struct str by,
			    struct err *e)
{
	const struct federation_spec spec = { .trust_domain = trust_domain, .by = by };
	struct federation_desk *d = c->federation;

	if (trust_domain.n && !federation_find(d->federation, trust_domain))
		return err_code(e, ERR_NOT_FOUND, "unknown_federation",
				"there is no relationship with %.*s",
				STR_FMT(str_first(trust_domain, 255)));
	if (!record_act(c, "federation.refresh", &spec, "done", e))
		return false;
	for (size_t i = 0; i < federation_count(d->federation); i++) {
		struct federation_peer *p = federation_at(d->federation, i);

		if (!p->busy && (!trust_domain.n || str_eq(str_c(p->trust_domain), trust_domain)))
			federation_poll(d, p);
	}
	federation_tell(d);
	return true;
}

const char *federation_trouble(const struct federation_report *p, char out[static 700])
{
	char since[CLOCK_RFC3339_MAX];

	out[0] = '\0';
	clock_rfc3339(p->fetched_ms, since);
	if (p->state == FEDERATION_NONE && p->failures)
		snprintf(out, 700, "no bundle of %s yet, so nothing of it is trusted: %.300s",
			 p->trust_domain, p->failed);
	else if (p->state == FEDERATION_EXPIRED)
		snprintf(
			out, 700,
			"the bundle of %s is of %s, which is too old: nothing of it is trusted any "
			"more: %.300s",
			p->trust_domain, since, p->failed);
	else if (p->state == FEDERATION_STALE || p->failures)
		snprintf(out, 700, "the bundle of %s is of %s and stays in use: %.300s",
			 p->trust_domain, since, p->failed);
	else if (p->warned[0])
		snprintf(out, 700, "%s: %.300s", p->trust_domain, p->warned);
	return out;
}
