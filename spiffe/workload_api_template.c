/*
 * Templates for callers of the socket. What the kernel says of a process fills a template's
 * placeholders, and gives the ID of one agent: an instance, with a registration of its own, which
 * the control thread writes when the first such process comes. Until it is there a stream waits and
 * a call is parked; both are taken up again in the first turn that sees it.
 *
 * A caller may choose some of its selectors (a digest of an executable it wrote), so each user
 * registers no faster than strangers attest elsewhere (limits.attest_rate).
 */
#include <stdio.h>
#include <stdlib.h>

#include "spiffe/registry_template.h"
#include "spiffe/registry_view.h"
#include "spiffe/workload_api_inside.h"

#define COMING_MAX 1024 /* instances under way or refused lately */
#define RETRY_MS 5000	/* after a refusal */
#define EXPAND_MAX ((size_t)64 * 1024)

struct workload_coming {
	struct workload_coming *next;
	struct workload_api *api;
	struct task task; /* to the control thread and back */
	struct str id, template;
	struct workload_caller caller; /* a copy of its selectors */
	bool back;		       /* from the control thread */
	int64_t retry_ms;	       /* refused until then; 0: not refused */
	struct err failed;
};

static void free_coming(struct workload_coming *i)
{
	free(i->caller.selectors);
	free(i);
}

/* --- on the control thread --- */

/* What the loop saw may have changed since: what it wants is checked again here. */
static bool still_fits(const struct workload_coming *i, const struct registry_entry *t,
		       int64_t now_ms, struct err *e)
{
	struct arena a;
	struct str id;
	bool ok;

	if (!t || !t->template || registry_state(t, now_ms) != ENTRY_ACTIVE ||
	    !registry_holds(i->caller.selectors, i->caller.nselectors, t))
		return err_code(e, ERR_UNAVAILABLE, "no_identity",
				"the registration has changed meanwhile; try again");
	arena_init(&a, &mem_system, EXPAND_MAX);
	ok = template_expand(t->id, i->caller.selectors, i->caller.nselectors, STR(""), &a, &id,
			     e) &&
	     (str_eq(id, i->id) || err_set(e, ERR_UNAVAILABLE, "try again"));
	arena_clear(&a);
	return ok;
}

static void come_back(struct task *t);

static void on_control(struct task *t)
{
	struct workload_coming *i = LINK_OF(t, struct workload_coming, task);
	struct core *core = i->api->core;
	struct registry_view *view = (struct registry_view *)slot_acquire(&core->agents);
	const struct registry_entry *template = registry_look(view, i->template);
	int64_t now_ms = clock_wall_ms(core->clock);
	struct err e = { 0 };
	struct chain chain;

	if (!still_fits(i, template, now_ms, &e) ||
	    !issue_instance(core->control, template, i->id, STR("attest:unix"), now_ms, &e))
		i->failed = e;
	shared_release(&view->shared);
	t->run = come_back;
	chain_init(&chain);
	chain_add(&chain, &t->link);
	queue_push_always(i->api->worker->home->inbox, &chain);
}

/* --- on the loop --- */

static struct workload_coming *find(struct workload_api *w, struct str id)
{
	struct workload_coming *i = w->coming;

	while (i && !str_eq(i->id, id))
		i = i->next;
	return i;
}

static struct workload_coming *new_coming(struct workload_api *w,
					  const struct workload_caller *caller, struct str id,
					  struct str template)
{
	struct workload_coming *i = w->ncoming < COMING_MAX
					    ? calloc(1, sizeof(*i) + id.n + template.n)
					    : NULL;
	char *text;

	if (!i)
		return NULL;
	text = (char *)(i + 1);
	i->api = w;
	i->caller = *caller;
	if (!workload_copy_selectors(&i->caller)) {
		free(i);
		return NULL;
	}
	memcpy(text, id.p, id.n);
	memcpy(text + id.n, template.p, template.n);
	i->id = (struct str){ text, id.n };
	i->template = (struct str){ text + id.n, template.n };
	i->task.run = on_control;
	i->next = w->coming;
	w->coming = i;
	w->ncoming++;
	return i;
}

/* Have it registered, if this user may have one more now. */
static void ask_for(struct workload_coming *i, uid_t uid)
{
	struct core *core = i->api->core;
	char key[32];
	int64_t wait_ms = 0;

	snprintf(key, sizeof(key), "unix:uid:%lu", (unsigned long)uid);
	if (!core->control)
		err_set(&i->failed, ERR_UNAVAILABLE, "nothing is registered here");
	else if (!limit_take(core->attest_limit, str_c(key), clock_mono_ns(core->clock), &wait_ms))
		err_code(&i->failed, ERR_UNAVAILABLE, "rate_limited",
			 "too many agents of this user are registered by templates at once; try "
			 "again in %lld ms",
			 (long long)wait_ms);
	else if (control_do(core->control, &i->task, &i->failed))
		return;
	i->retry_ms = workload_now_ms(i->api) + (wait_ms ? wait_ms : RETRY_MS);
}

static void want(struct workload_api *w, const struct workload_caller *caller, struct str id,
		 struct str template, struct workload_entries *out)
{
	struct workload_coming *i = find(w, id);

	if (!i) {
		i = new_coming(w, caller, id, template);
		if (i)
			ask_for(i, caller->peer->uid);
	}
	if (i && !i->retry_ms)
		out->coming = true;
	else if (i)
		out->refused = i->failed;
	else
		err_set(&out->refused, ERR_UNAVAILABLE, "busy; try again later");
}

size_t workload_instances(struct workload_api *w, const struct workload_caller *caller,
			  const struct registry_entry **found, size_t n, size_t max,
			  struct workload_entries *out)
{
	const struct registry_view *view = worker_registry(w->worker);
	const struct registry_entry *templates[WORKLOAD_ENTRIES_MAX];
	int64_t now_ms = workload_now_ms(w);
	size_t ntemplates = registry_match_templates(view, caller->selectors, caller->nselectors,
						     now_ms, templates, ARRAY_LEN(templates));

	arena_reset(&w->names);
	for (size_t i = 0; i < ntemplates; i++) {
		const struct registry_entry *entry;
		struct str id;

		/* {name} and what this process does not show: not for it. */
		if (!template_expand(templates[i]->id, caller->selectors, caller->nselectors,
				     STR(""), &w->names, &id, NULL))
			continue;
		entry = registry_find(view, id);
		if (!entry)
			want(w, caller, id, templates[i]->id, out);
		else if (str_eq(entry->definition, templates[i]->id) &&
			 registry_state(entry, now_ms) == ENTRY_ACTIVE)
			view_keep(found, &n, max, entry);
	}
	return n;
}

void workload_park(struct workload_api *w, struct call *c,
		   void (*handle)(struct workload_api *w, struct call *c))
{
	struct workload_parked *p = arena_zero(c->arena, sizeof(*p));
	struct err e = { 0 };

	if (!p) {
		err_set(&e, ERR_UNAVAILABLE, "memory is short; try again later");
		workload_fail(c, w, &e);
		return;
	}
	*p = (struct workload_parked){ w->parked, c, handle };
	w->parked = p;
}

/* Take up what waited: it finds the instance now, or that it was refused. */
static void take_up(struct workload_api *w)
{
	struct workload_parked *p = w->parked;
	struct err stopping = { 0 };

	err_set(&stopping, ERR_UNAVAILABLE, "the server is stopping; connect again");
	w->parked = NULL;
	for (struct workload_subscriber *s = w->subscribers; s; s = s->next)
		if (s->waiting)
			workload_touch(s);
	while (p) {
		struct workload_parked *next = p->next;
		struct call *c = p->call;

		if (c->gone)
			call_finish(c);
		else if (loop_stopped(w->settings.loop))
			workload_fail(c, w, &stopping);
		else
			p->handle(w, c);
		p = next;
	}
}

/* This turn's view of the registry may be older than the answer: the next one is not. */
static void come_back(struct task *t)
{
	struct workload_coming *i = LINK_OF(t, struct workload_coming, task);

	i->back = true;
	queue_wake(i->api->worker->home->inbox);
	if (loop_stopped(i->api->settings.loop)) /* there is no next one */
		take_up(i->api);
}

/* Those that are refused are forgotten after a while, and asked for again. */
static bool is_over(const struct workload_coming *i, int64_t now_ms)
{
	return i->retry_ms ? i->retry_ms <= now_ms : i->back && !i->failed.class;
}

/* Whoever the template may be for. */
static void touch_holders(struct workload_api *w, struct str template)
{
	const struct registry_entry *t = registry_look(worker_registry(w->worker), template);

	for (struct workload_subscriber *s = w->subscribers; t && s; s = s->next)
		if (registry_holds(s->caller.selectors, s->caller.nselectors, t))
			workload_touch(s);
}

void workload_coming_look(struct workload_api *w)
{
	int64_t now_ms = workload_now_ms(w);
	bool news = false;

	for (struct workload_coming **at = &w->coming; *at;) {
		struct workload_coming *i = *at;

		if (i->back && i->failed.class && !i->retry_ms) {
			i->retry_ms = now_ms + RETRY_MS;
			news = true;
		}
		if (!is_over(i, now_ms)) {
			at = &i->next;
			continue;
		}
		if (i->retry_ms)
			touch_holders(w, i->template);
		*at = i->next;
		w->ncoming--;
		free_coming(i);
		news = true;
	}
	if (news)
		take_up(w);
}

void workload_coming_free(struct workload_api *w)
{
	while (w->coming) {
		struct workload_coming *i = w->coming;

		w->coming = i->next;
		free_coming(i);
	}
}
