/*
 * Streams. Whatever may have changed only marks streams as dirty; at the end of the loop's turn
 * each of those is looked at once: who is it still, what should it see, is that what it was told
 * last? A stream that waits for an SVID is looked at again when that has been made.
 */
#include <stdlib.h>

#include "spiffe/workload_api_inside.h"

#define TICK_NS 1000000000
#define LOOKS 32 /* at streams, before what they were sent leaves */

static void arm(struct workload_api *w)
{
	if (!w->sweep.at_ns && (w->nsubscribers || w->nidentities || w->ncoming))
		loop_timer_set(w->settings.loop, &w->sweep, loop_now(w->settings.loop) + TICK_NS);
}

/* Certificates end by the wall clock, which may be set: so it is asked every second. */
void workload_tick(struct loop_timer *t)
{
	struct workload_api *w = LINK_OF(t, struct workload_api, sweep);
	int64_t now = workload_now_ms(w);

	workload_identities_sweep(w, false);
	workload_coming_look(w);
	for (struct workload_subscriber *s = w->subscribers; s; s = s->next)
		if (s->look_ms && s->look_ms <= now)
			workload_touch(s);
	arm(w);
}

void workload_touch(struct workload_subscriber *s)
{
	struct workload_api *w = s->api;

	if (s->dirty)
		return;
	s->dirty = true;
	s->dirty_next = NULL;
	s->dirty_prev = w->dirty_last;
	*(w->dirty_last ? &w->dirty_last->dirty_next : &w->dirty) = s;
	w->dirty_last = s;
	loop_put_off(w->settings.loop, &w->look);
}

static void untouch(struct workload_subscriber *s)
{
	struct workload_api *w = s->api;

	if (!s->dirty)
		return;
	s->dirty = false;
	*(s->dirty_prev ? &s->dirty_prev->dirty_next : &w->dirty) = s->dirty_next;
	*(s->dirty_next ? &s->dirty_next->dirty_prev : &w->dirty_last) = s->dirty_prev;
}

void workload_touch_all(struct workload_api *w)
{
	for (struct workload_subscriber *s = w->subscribers; s; s = s->next)
		workload_touch(s);
}

void workload_touch_shown(const struct workload_identity *i)
{
	for (struct workload_showing *by = i->showing; by; by = by->next)
		workload_touch(by->subscriber);
}

/* The entry by whose selectors @entry is somebody's: an instance's are its template's. */
static const struct registry_entry *known_by(const struct registry_view *v,
					     const struct registry_entry *entry)
{
	return entry && entry->definition.n ? registry_look(v, entry->definition) : entry;
}

void workload_touch_concerned(struct workload_api *w, const struct registry_view *v,
			      const struct registry_changed *changed, size_t n)
{
	for (size_t k = 0; k < n; k++) {
		const struct registry_entry *was = known_by(v, changed[k].was);
		const struct registry_entry *is = known_by(v, changed[k].is);

		for (struct workload_subscriber *s = w->subscribers; s; s = s->next) {
			const struct workload_caller *c = &s->caller;

			if (!s->dirty &&
			    ((is && registry_holds(c->selectors, c->nselectors, is)) ||
			     (was && registry_holds(c->selectors, c->nselectors, was))))
				workload_touch(s);
		}
	}
}

/* The caller's selectors are copied into one block with their texts. */
bool workload_copy_selectors(struct workload_caller *c)
{
	struct registry_selector *copy;
	size_t size = c->nselectors * sizeof(*copy);
	char *at;

	for (size_t i = 0; i < c->nselectors; i++)
		size += c->selectors[i].type.n + c->selectors[i].value.n;
	copy = malloc(size + 1);
	if (!copy)
		return false;
	at = (char *)(copy + c->nselectors);
	for (size_t i = 0; i < c->nselectors; i++) {
		const struct registry_selector *s = &c->selectors[i];

		copy[i].type = (struct str){ at, s->type.n };
		memcpy(at, s->type.p, s->type.n);
		at += s->type.n;
		copy[i].value = (struct str){ at, s->value.n };
		memcpy(at, s->value.p, s->value.n);
		at += s->value.n;
	}
	c->selectors = copy;
	return true;
}

void *workload_subscriber_new(size_t size, const struct workload_caller *caller, struct err *e)
{
	struct workload_subscriber *s = calloc(1, size);

	if (s)
		s->caller = *caller;
	if (s && workload_copy_selectors(&s->caller))
		return s;
	free(s);
	err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	return NULL;
}

static void free_subscriber(struct workload_subscriber *s)
{
	if (s->kind->clear)
		s->kind->clear(s);
	free(s->caller.selectors);
	free(s);
}

static void show_nothing(struct workload_subscriber *s)
{
	for (size_t k = 0; k < s->nshown; k++)
		workload_identity_drop(&s->shown[k]);
	free(s->shown);
	s->shown = NULL;
	s->nshown = 0;
}

void workload_unsubscribe(struct workload_subscriber *s)
{
	struct workload_api *w = s->api;

	untouch(s);
	show_nothing(s);
	tally_drop(&w->users, s->caller.peer->uid);
	*(s->prev ? &s->prev->next : &w->subscribers) = s->next;
	if (s->next)
		s->next->prev = s->prev;
	w->nsubscribers--;
	free_subscriber(s);
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
	struct err why = *e;

	workload_unsubscribe(s);
	workload_fail(c, w, &why);
}

static bool shows_just(const struct workload_subscriber *s, struct workload_identity *const *all,
		       size_t n)
{
	if (s->nshown != n)
		return false;
	for (size_t k = 0; k < n; k++)
		if (s->shown[k].identity != all[k])
			return false;
	return true;
}

/* Hold what is shown now, then let go what was shown before: what stays is not given back. */
static bool hold(struct workload_subscriber *s, struct workload_identity *const *all, size_t n)
{
	struct workload_showing *now;

	if (shows_just(s, all, n))
		return true;
	now = n ? calloc(n, sizeof(*now)) : NULL;
	if (n && !now)
		return false;
	for (size_t k = 0; k < n; k++) {
		now[k].subscriber = s;
		workload_identity_hold(all[k], &now[k]);
	}
	show_nothing(s);
	s->shown = now;
	s->nshown = n;
	return true;
}

/* The identities of @entries, each being made if need be. */
static bool hold_all(struct workload_subscriber *s, const struct workload_entries *entries,
		     enum workload_svid kind, struct err *e)
{
	struct workload_identity *all[WORKLOAD_ENTRIES_MAX];

	for (size_t k = 0; k < entries->n; k++) {
		all[k] = workload_identity(s->api, entries->entry[k], kind, s->caller.peer->uid);
		if (!all[k])
			return err_set(e, ERR_UNAVAILABLE,
				       "%zu identities are in use at once, which is all that are "
				       "kept (limits.workload_streams); try again later",
				       s->api->settings.streams);
	}
	return hold(s, all, entries->n) ||
	       err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
}

bool workload_show(struct workload_subscriber *s, const struct workload_entries *entries,
		   enum workload_svid kind, bool *wait, struct err *e)
{
	if (!hold_all(s, entries, kind, e))
		return false;
	for (size_t k = 0; k < s->nshown; k++) {
		const struct workload_identity *i = s->shown[k].identity;

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

	buf_in_arena(&out, &w->scratch, WORKLOAD_MESSAGE_MAX);
	ok = workload_alive(&s->caller, &e) &&
	     (workload_entries(w, &s->caller, &entries, &e) ||
	      (!s->kind->needs_identity && e.class == ERR_FORBIDDEN));
	/* The first message is whole. Later on a further identity follows when it is there. */
	wait = ok && entries.coming && (!s->sent || !entries.n);
	ok = ok && (wait ||
		    (s->kind->build(s, &entries, &out, &wait, &e) && (wait || send(s, &out, &e))));
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

static struct workload_subscriber *pop_dirty(struct workload_api *w)
{
	struct workload_subscriber *s = w->dirty;

	w->dirty = s->dirty_next;
	*(w->dirty ? &w->dirty->dirty_prev : &w->dirty_last) = NULL;
	s->dirty = false;
	return s;
}

void workload_look_dirty(struct loop_later *l)
{
	struct workload_api *w = LINK_OF(l, struct workload_api, look);

	/* Some at a time: what is sent leaves in between, and others have their turn. */
	for (int n = 0; w->dirty && n < LOOKS; n++)
		look(pop_dirty(w));
	if (w->dirty)
		loop_put_off(w->settings.loop, l);
}

void workload_subscribe(struct workload_api *w, struct call *c, struct workload_subscriber *s,
			const struct workload_kind *kind, const struct grpc_events *events)
{
	struct err e = { 0 };

	s->kind = kind;
	if (w->nsubscribers >= w->settings.streams ||
	    !tally_add(&w->users, c->peer->uid, w->settings.user_streams)) {
		err_code(&e, ERR_UNAVAILABLE, "rate_limited",
			 "too many streams are open; a user may have %zu "
			 "(limits.workload_user_streams), all together %zu "
			 "(limits.workload_streams)",
			 w->settings.user_streams, w->settings.streams);
		free_subscriber(s);
		workload_fail(c, w, &e);
		return;
	}
	s->api = w;
	s->call = c;
	s->next = w->subscribers;
	if (s->next)
		s->next->prev = s;
	w->subscribers = s;
	w->nsubscribers++;
	c->user = s;
	grpc_stream(c, events);
	grpc_release_request(c);
	arm(w);
	look(s);
}
