/*
 * Streams. Whatever may have changed only marks streams as dirty; at the end of the loop's turn
 * each of those is looked at once: who is it still, what should it see, is that what it was told
 * last? A stream that waits for an SVID is looked at again when that has been made.
 */
#include "spiffe/workload_api_inside.h"

#define TICK_NS 1000000000

static void arm(struct workload_api *w)
{
	if (!w->sweep.at_ns && (w->nsubscribers || w->nidentities))
		loop_timer_set(w->settings.loop, &w->sweep, loop_now(w->settings.loop) + TICK_NS);
}

/* Certificates end by the wall clock, which may be set: so it is asked every second. */
void workload_tick(struct loop_timer *t)
{
	struct workload_api *w = LINK_OF(t, struct workload_api, sweep);
	int64_t now = workload_now_ms(w);

	workload_identities_sweep(w, false);
	for (struct workload_subscriber *s = w->subscribers; s; s = s->next)
		if (s->look_ms && s->look_ms <= now)
			workload_touch(s);
	arm(w);
}

void workload_touch(struct workload_subscriber *s)
{
	s->dirty = true;
	loop_put_off(s->api->settings.loop, &s->api->look);
}

static bool shows(const struct workload_subscriber *s, const struct workload_identity *i)
{
	for (size_t k = 0; k < s->nshown; k++)
		if (s->shown[k] == i)
			return true;
	return false;
}

void workload_touch_all(struct workload_api *w, const struct workload_identity *i)
{
	for (struct workload_subscriber *s = w->subscribers; s; s = s->next)
		if (!i || s->waiting || shows(s, i))
			workload_touch(s);
}

void workload_unsubscribe(struct workload_subscriber *s)
{
	struct workload_api *w = s->api;

	for (size_t k = 0; k < s->nshown; k++)
		workload_identity_drop(s->shown[k]);
	s->nshown = 0;
	if (s->kind->clear)
		s->kind->clear(s);
	*(s->prev ? &s->prev->next : &w->subscribers) = s->next;
	if (s->next)
		s->next->prev = s->prev;
	w->nsubscribers--;
}

void workload_ended(struct call *c)
{
	workload_unsubscribe(c->user);
	call_finish(c);
}

const struct grpc_events workload_stream_events = { .ended = workload_ended };

void workload_end(struct workload_subscriber *s, const struct err *e)
{
	struct workload_api *w = s->api;
	struct call *c = s->call;

	workload_unsubscribe(s);
	workload_fail(c, w, e);
}

/* Hold what is shown now, then let go what was shown before: what stays is not given back. */
static bool hold(struct workload_subscriber *s, const struct workload_entries *entries,
		 struct err *e)
{
	struct workload_identity *now[WORKLOAD_ENTRIES_MAX];
	size_t n = 0;

	for (size_t k = 0; k < entries->n; k++) {
		struct workload_identity *i = workload_identity(s->api, entries->entry[k],
								s->caller.peer->uid);

		if (!i)
			break;
		workload_identity_hold(i);
		now[n++] = i;
	}
	for (size_t k = 0; k < s->nshown; k++)
		workload_identity_drop(s->shown[k]);
	for (size_t k = 0; k < n; k++)
		s->shown[k] = now[k];
	s->nshown = n;
	return n == entries->n || err_set(e, ERR_UNAVAILABLE,
					  "%d identities are in use at once, which is all that are "
					  "kept; try again later",
					  WORKLOAD_IDENTITIES_MAX);
}

bool workload_show(struct workload_subscriber *s, const struct workload_entries *entries,
		   bool *wait, struct err *e)
{
	if (!hold(s, entries, e))
		return false;
	for (size_t k = 0; k < s->nshown; k++) {
		const struct workload_identity *i = s->shown[k];

		/* Whoever was told something keeps it while a further one cannot be had. */
		if (workload_identity_ready(i))
			continue;
		if (i->busy || (s->sent && !i->svid.n))
			*wait = true;
		else
			return err_set(e, ERR_UNAVAILABLE, "no SVID for %.*s: %s",
				       STR_FMT(str_first(i->id, 120)), i->failed.msg);
	}
	return true;
}

/* The next moment at which an entry ends by itself. */
static int64_t next_end(const struct workload_entries *entries)
{
	int64_t at = 0;

	for (size_t k = 0; k < entries->n; k++)
		if (entries->entry[k]->expires_ms && (!at || entries->entry[k]->expires_ms < at))
			at = entries->entry[k]->expires_ms;
	return at;
}

static bool send(struct workload_subscriber *s, struct buf *out, struct err *e)
{
	uint8_t digest[SHA256_LEN];

	if (!buf_ok(out))
		return err_set(e, ERR_UNAVAILABLE,
			       "what this process may see does not fit into one message of 4 MiB");
	sha256_of(s->api->sha, buf_str(out), digest);
	if (s->sent && !s->force && !memcmp(digest, s->digest, sizeof(digest)))
		return true;
	if (s->kind->finish)
		s->kind->finish(s, out);
	if (!buf_ok(out))
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	s->force = false;
	memcpy(s->digest, digest, sizeof(digest));
	s->sent = true;
	return grpc_send(s->call, buf_str(out)) ||
	       err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
}

static void done(struct workload_subscriber *s)
{
	struct call *c = s->call;

	workload_unsubscribe(s);
	call_finish(c);
}

static void look(struct workload_subscriber *s)
{
	struct workload_api *w = s->api;
	struct workload_entries entries = { .n = 0 };
	struct err e = { 0 };
	bool wait = false, ok;
	struct buf out;

	s->dirty = false;
	buf_in_arena(&out, &w->scratch, WORKLOAD_MESSAGE_MAX);
	ok = workload_alive(&s->caller, &e) &&
	     (workload_entries(w, &s->caller, &entries, &e) ||
	      (!s->kind->needs_identity && e.class == ERR_FORBIDDEN)) &&
	     s->kind->build(s, &entries, &out, &wait, &e) && (wait || send(s, &out, &e));
	s->waiting = wait;
	s->look_ms = next_end(&entries);
	if (out.p)
		mem_wipe(out.p, out.cap); /* private keys */
	arena_reset(&w->scratch);
	if (!ok)
		workload_end(s, &e);
	else if (s->kind->once && s->sent)
		done(s);
}

void workload_look_dirty(struct loop_later *l)
{
	struct workload_api *w = LINK_OF(l, struct workload_api, look);

	for (struct workload_subscriber *s = w->subscribers, *next; s; s = next) {
		next = s->next;
		if (s->dirty)
			look(s);
	}
}

static size_t streams_of(const struct workload_api *w, uid_t uid)
{
	size_t n = 0;

	for (const struct workload_subscriber *s = w->subscribers; s; s = s->next)
		n += s->caller.peer->uid == uid;
	return n;
}

void workload_subscribe(struct workload_api *w, struct call *c, struct workload_subscriber *s,
			const struct workload_kind *kind, const struct grpc_events *events)
{
	struct err e = { 0 };

	if (w->nsubscribers >= WORKLOAD_STREAMS_MAX ||
	    streams_of(w, c->peer->uid) >= WORKLOAD_STREAMS_UID) {
		err_code(&e, ERR_UNAVAILABLE, "rate_limited",
			 "too many streams are open; a user may have %d, all together %d",
			 WORKLOAD_STREAMS_UID, WORKLOAD_STREAMS_MAX);
		if (kind->clear)
			kind->clear(s);
		workload_fail(c, w, &e);
		return;
	}
	s->api = w;
	s->call = c;
	s->kind = kind;
	s->next = w->subscribers;
	if (s->next)
		s->next->prev = s;
	w->subscribers = s;
	w->nsubscribers++;
	c->user = s;
	grpc_stream(c, events);
	arm(w);
	look(s);
}
