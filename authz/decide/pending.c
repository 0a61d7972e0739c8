/*
 * Records in the making. A pending record is on its worker's list from pending_stage until its
 * task comes back from the committer. At the deadline its owner is answered ("not on record") and
 * forgotten, but the memory stays: the committer may still be writing it.
 */
#include "authz/decide/pending.h"

#include <stdlib.h>

#include "authz/decide/worker.h"

#define PENDING_BYTES                                                            \
	(32 * 1024 * 1024) /* bound on one record's arena: canonical form of the \
			      largest body, and room to grow a buf */
#define SPARES_MAX 1024
/* What nobody waits for goes along with what somebody does: a flush of its own would be one that
 * the next decision waits for, and many at once would make one decision's batch long. */
#define RIDERS 4	     /* with each record that somebody waits for */
#define LULL_NS 5000000	     /* so long after the last such record the next is not waited for */
#define PATIENCE_NS 20000000 /* nor longer than this */

struct pending *pending_new(struct worker *w, struct err *e)
{
	struct pending *p = w->spare;

	if (p) {
		w->spare = p->after;
		w->spares--;
	} else {
		p = calloc(1, sizeof(*p));
		if (!p) {
			err_set(e, ERR_NOMEM, "no memory for a record");
			return NULL;
		}
		p->worker = w;
		arena_init(&p->arena, &mem_system, PENDING_BYTES);
	}
	p->before = p->after = NULL;
	p->owner = NULL;
	p->job.closing = NULL;
	buf_in_arena(&p->text, &p->arena, LIMIT_LEAF);
	(void)buf_room(&p->text, 1024); /* most fit; without memory the first member fails */
	record_begin(&p->job.record, &p->text);
	return p;
}

static void recycle(struct pending *p)
{
	struct worker *w = p->worker;

	arena_reset(&p->arena);
	if (w->spares >= SPARES_MAX) {
		arena_clear(&p->arena);
		free(p);
		return;
	}
	p->after = w->spare;
	w->spare = p;
	w->spares++;
}

void pending_drop(struct pending *p)
{
	if (p)
		recycle(p);
}

static void unlink_pending(struct pending *p)
{
	struct worker *w = p->worker;

	*(p->before ? &p->before->after : &w->oldest) = p->after;
	*(p->after ? &p->after->before : &w->newest) = p->before;
}

/* Tell the owner, once. */
static void answer(struct pending *p, const struct recorded *r)
{
	void *owner = p->owner;

	p->owner = NULL;
	if (owner)
		p->done(owner, r);
}

static void finished(struct pending *p)
{
	struct recorded r;

	r.ok = p->job.ok;
	r.seq = p->job.seq;
	r.time_ms = p->job.time_ms;
	memcpy(r.leaf, p->job.leaf_hash, sizeof(r.leaf));
	if (!r.ok)
		r.err = p->job.err;
	unlink_pending(p);
	answer(p, &r);
	recycle(p);
}

static struct pending *pending_of(struct task *t)
{
	return (struct pending *)(void *)((char *)t - offsetof(struct pending, job.task));
}

static void came_back(struct task *t)
{
	finished(pending_of(t));
}

static void stage(struct pending *p, void (*done)(void *owner, const struct recorded *r),
		  void *owner)
{
	struct worker *w = p->worker;

	p->done = done;
	p->owner = owner;
	p->deadline_ns = w->turn_ns + w->core->decision_ns;
	p->job.task.run = came_back;
	p->job.reply_to = w->home->inbox;
	p->job.ok = false;
	p->before = w->newest;
	p->after = NULL;
	*(w->newest ? &w->newest->after : &w->oldest) = p;
	w->newest = p;
}

void pending_stage(struct pending *p, void (*done)(void *owner, const struct recorded *r),
		   void *owner)
{
	stage(p, done, owner);
	chain_add(&p->worker->staged, &p->job.task.link);
}

void pending_stage_patient(struct pending *p, void (*done)(void *owner, const struct recorded *r),
			   void *owner)
{
	struct worker *w = p->worker;

	stage(p, done, owner);
	if (!w->patient.n)
		w->patient_ns = w->turn_ns;
	chain_add(&w->patient, &p->job.task.link);
}

/* The committer takes nothing: every staged record fails here and now. */
static void fail_staged(struct worker *w, const struct err *why)
{
	struct link *l = w->staged.first, *next;

	chain_init(&w->staged);
	for (; l; l = next) {
		struct pending *p = pending_of(LINK_OF(l, struct task, link));

		next = l->next;
		p->job.ok = false;
		p->job.err = *why;
		finished(p);
	}
}

#ifdef WRIT_BENCH_UNRECORDED
/* `make bench` measures what a record costs by building once without (never the product): what
 * was staged is answered as if it were on disk. */
static bool submit(struct worker *w, struct err *e)
{
	struct link *l = w->staged.first, *next;

	(void)e;
	chain_init(&w->staged);
	for (; l; l = next) {
		struct pending *p = pending_of(LINK_OF(l, struct task, link));

		next = l->next;
		p->job.ok = true;
		finished(p);
	}
	return true;
}
#else
static bool submit(struct worker *w, struct err *e)
{
	if (!w->core->audit) /* closed: what still comes back while the service stops */
		return err_code(e, ERR_UNAVAILABLE, REASON_AUDIT_UNAVAILABLE,
				"the server is stopping");
	return audit_submit(w->core->audit, &w->staged, e);
}
#endif

static bool waits_for_others(const struct worker *w)
{
	return w->turn_ns - w->hurry_ns < LULL_NS && w->turn_ns - w->patient_ns < PATIENCE_NS;
}

/* A few of the patient go with each record that somebody waits for; without such, all of them. */
static void let_ride(struct worker *w)
{
	size_t room = w->staged.n ? RIDERS * w->staged.n : SIZE_MAX;

	if (w->staged.n)
		w->hurry_ns = w->turn_ns;
	else if (waits_for_others(w))
		return;
	while (w->patient.n && room--) {
		struct link *l = w->patient.first;

		w->patient.first = l->next;
		w->patient.n--;
		chain_add(&w->staged, l);
	}
	if (!w->patient.n)
		chain_init(&w->patient);
}

void worker_turn_end(struct worker *w)
{
	struct err e;

	if (w->signer)
		signer_flush(w->signer);
	if (w->patient.n || w->staged.n)
		let_ride(w);
	if (w->staged.first && !submit(w, &e))
		fail_staged(w, &e);
}

/* A turn that took longer than the deadline is our lateness, not the log's: what the committer has
 * handed back meanwhile is on disk, and its owners are told so. At the operators' door a task may
 * be a request, which is a turn of its own: that one takes no more. */
static void take_what_came_back(struct worker *w)
{
	struct chain c;

	if (w->taking || !w->home->inbox || !queue_take(w->home->inbox, &c))
		return;
	w->taking = true;
	tasks_run(&c);
	w->taking = false;
}

/* Owners whose record is late get their answer; the record stays where it is. */
void pending_expire(struct worker *w)
{
	if (w->oldest && w->oldest->deadline_ns <= w->turn_ns)
		take_what_came_back(w);
	for (struct pending *p = w->oldest, *after; p && p->deadline_ns <= w->turn_ns; p = after) {
		struct recorded late = { .ok = false };

		after = p->after;
		err_code(&late.err, ERR_UNAVAILABLE, REASON_AUDIT_UNAVAILABLE,
			 "the record was not on disk after %lld ms",
			 (long long)(w->core->decision_ns / 1000000));
		answer(p, &late);
	}
}

int64_t worker_deadline(const struct worker *w)
{
	const struct pending *p = w->oldest;
	int64_t due = w->patient.n ? w->patient_ns + PATIENCE_NS : 0;

	while (p && !p->owner) /* answered already; only while the log is stuck */
		p = p->after;
	if (p && (!due || p->deadline_ns < due))
		due = p->deadline_ns;
	return due;
}

void worker_refuse(struct worker *w, const struct caller *c, const struct err *why,
		   void (*done)(void *owner, const struct recorded *r), void *owner)
{
	struct recorded none = { .ok = false };
	struct pending *p = pending_new(w, &none.err);

	if (!p) {
		done(owner, &none);
		return;
	}
	record_str(&p->job.record, STR("kind"), STR("request.refused"));
	record_str(&p->job.record, STR("pep"), c->id);
	record_str(&p->job.record, STR("reason"), str_c(why->code));
	pending_stage(p, done, owner);
}
