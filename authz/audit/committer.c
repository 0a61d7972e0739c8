/*
 * The one thread that writes records. While one flush runs the next batch gathers in the queue, so
 * load makes batches bigger by itself and nothing waits on purpose. A job is reported done only
 * after COMMIT returned; any failure before that takes database and head back together.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "authz/audit/erase.h"
#include "authz/audit/parts.h"
#include "authz/audit/prune.h"

/* --- waiting --- */

bool waiter_init(struct waiter *w, struct err *e)
{
	w->task.run = waiter_run;
	w->fd = eventfd(0, EFD_CLOEXEC);
	return w->fd >= 0 ? true
			  : err_set(e, ERR_IO, "cannot create an eventfd: %s", strerror(errno));
}

void waiter_wake(int fd)
{
	uint64_t one = 1;

	(void)!write(fd, &one, sizeof(one));
}

void waiter_run(struct task *t)
{
	waiter_wake(LINK_OF(t, struct waiter, task)->fd);
}

uint64_t waiter_wait(struct waiter *w)
{
	uint64_t count = 0;

	while (read(w->fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	return count;
}

void waiter_clear(struct waiter *w)
{
	close(w->fd);
}

bool order_run(struct audit *a, struct order *o, struct err *e)
{
	struct chain c;

	if (!waiter_init(&o->waiter, e))
		return false;
	chain_init(&c);
	chain_add(&c, &o->waiter.task.link);
	queue_push_always(a->orders, &c);
	queue_wake(a->jobs);
	waiter_wait(&o->waiter);
	waiter_clear(&o->waiter);
	if (!o->ok)
		*e = o->err;
	return o->ok;
}

/* --- answers --- */

/* One push per receiver and batch: a push is a lock, and often a system call. */
#define RECEIVERS 16

struct answers {
	size_t n;
	struct {
		struct queue *to;
		struct chain tasks;
	} at[RECEIVERS];
};

static void answers_send(struct answers *all)
{
	for (size_t i = 0; i < all->n; i++)
		queue_push_always(all->at[i].to, &all->at[i].tasks);
	all->n = 0;
}

static void answers_add(struct answers *all, struct audit_job *job)
{
	size_t i = 0;

	if (!job->reply_to) {
		job->task.run(&job->task);
		return;
	}
	while (i < all->n && all->at[i].to != job->reply_to)
		i++;
	if (i == RECEIVERS) {
		answers_send(all);
		i = 0;
	}
	if (i == all->n) {
		all->at[i].to = job->reply_to;
		chain_init(&all->at[i].tasks);
		all->n++;
	}
	chain_add(&all->at[i].tasks, &job->task.link);
}

/* The first @n pending jobs are over. */
static void answer(struct audit *a, size_t n)
{
	struct answers all = { 0 };

	atomic_fetch_sub(&a->waiting, n);
	for (size_t i = 0; i < n; i++) {
		struct link *l = a->pending.first;

		/* Unlink first: the job is its owner's as soon as it was answered. */
		a->pending.first = l->next;
		a->pending.n--;
		answers_add(&all, LINK_OF(l, struct audit_job, task.link));
	}
	if (!a->pending.first)
		chain_init(&a->pending);
	answers_send(&all);
}

/* --- records of the log's own --- */

static bool add_own(struct audit *a, struct record *r, struct err *e)
{
	if (!record_ok(r))
		return err_set(e, ERR_NOMEM, "no memory for a record of the log's own");
	return log_add(a->log, r, NULL, e) == LOG_ADDED;
}

/* After a time in which records were refused, the first one on disk says so (sheet 14.6). */
static bool add_gap(struct audit *a, struct err *e)
{
	struct record r;

	buf_reset(&a->own);
	record_begin(&r, &a->own);
	record_str(&r, STR("cause"), STR("not_writable"));
	record_str(&r, STR("kind"), STR("log.gap"));
	record_int(&r, STR("refused"), (int64_t)a->lost);
	return add_own(a, &r, e);
}

static bool add_last(struct audit *a, struct err *e)
{
	struct record r;

	buf_reset(&a->own);
	record_begin(&r, &a->own);
	record_str(&r, STR("kind"), STR("log.close"));
	return add_own(a, &r, e);
}

/* --- batches --- */

static void die(struct audit *a, const char *why, const struct err *e)
{
	struct err said = *e;

	atomic_store(&a->trouble, why);
	atomic_store(&a->state, STATE_DEAD);
	if (a->config.fatal)
		a->config.fatal(a->config.ctx, &said);
}

/* The batch failed and was rolled back: what does that mean for the next one? */
static void note_failure(struct audit *a, const struct err *e)
{
	if (db_broken(a->log->db)) {
		die(a, "the disk failed or log.db is damaged; the server must be restarted", e);
	} else if (e->class == ERR_CONFLICT) {
		die(a, "another process wrote to log.db; the server must be restarted", e);
	} else {
		atomic_store(&a->trouble,
			     str_eq(str_c(e->code), STR("disk_full"))
				     ? "the disk is full; make room, writing resumes by itself"
				     : "the last try to write failed; it is tried again");
		atomic_store(&a->state, STATE_STUCK);
	}
}

static bool fill_batch(struct audit *a, size_t n, struct order *store, bool last, struct err *e)
{
	struct link *l = a->pending.first;

	if (atomic_load(&a->state) == STATE_STUCK && !add_gap(a, e))
		return false;
	for (size_t i = 0; i < n; i++, l = l->next) {
		struct audit_job *job = LINK_OF(l, struct audit_job, task.link);
		struct err why;
		enum log_added added = log_add(a->log, &job->record, job, &why);

		job->ok = added == LOG_ADDED;
		if (added != LOG_ADDED)
			*(added == LOG_FAILED ? e : &job->err) = why;
		if (added == LOG_FAILED)
			return false;
	}
	if (store && !log_add_checkpoint(a->log, &store->range, store->note, e))
		return false;
	return !last || add_last(a, e);
}

/* The sentence that a caller of a failed batch gets; what SQLite said is for the operator. */
static void fail_jobs(struct audit *a, size_t n)
{
	struct link *l = a->pending.first;
	const char *trouble = atomic_load(&a->trouble);

	for (size_t i = 0; i < n; i++, l = l->next) {
		struct audit_job *job = LINK_OF(l, struct audit_job, task.link);

		job->ok = false;
		err_code(&job->err, ERR_UNAVAILABLE, "audit_unavailable",
			 "the audit log cannot be written: %s", trouble ? trouble : "stopped");
	}
	atomic_fetch_add(&a->refused, n);
	a->lost += n;
}

/* Commit up to BATCH_MAX pending jobs, a checkpoint, the log's last record. */
static bool run_batch(struct audit *a, struct order *store, bool last, struct err *e)
{
	size_t n = a->pending.n < BATCH_MAX ? a->pending.n : BATCH_MAX;
	bool ok = false;

	if (atomic_load(&a->state) == STATE_DEAD) {
		err_code(e, ERR_UNAVAILABLE, "audit_unavailable",
			 "the audit log cannot be written: %s", atomic_load(&a->trouble));
	} else {
		ok = log_begin(a->log, e) && fill_batch(a, n, store, last, e) &&
		     log_commit(a->log, e);
		if (!ok) {
			log_rollback(a->log);
			note_failure(a, e);
		}
	}
	if (ok) {
		a->lost = 0;
		atomic_store(&a->state, STATE_OK);
		atomic_store(&a->size, a->log->head.range.n);
		atomic_fetch_add(&a->batches, 1);
	} else {
		fail_jobs(a, n);
	}
	answer(a, n);
	return ok;
}

/* Openings and the record that says that they are gone, a new key and the record that says so,
 * records and the hashes that stay of them: both or neither. */
static bool fill_alone(struct audit *a, struct order *o)
{
	if (o->what == ORDER_ROTATE)
		return rotate_fill(a, o->change, &o->err);
	if (o->what == ORDER_PRUNE)
		return log_prune(a->log, o->prune, o->job, &o->err);
	if (o->what == ORDER_PRUNE_TILE)
		return log_prune_tile(a->log, o->tile, &o->err);
	return log_erase(a->log, o->erasure, &o->err) &&
	       log_add(a->log, &o->job->record, o->job, &o->err) == LOG_ADDED;
}

/* An order alone in its transaction: what it fails of must not fail decisions. */
static bool run_alone(struct audit *a, struct order *o)
{
	struct err *e = &o->err;

	if (atomic_load(&a->state) != STATE_OK)
		return err_code(e, ERR_UNAVAILABLE, "audit_unavailable",
				"the audit log cannot be written: %s", atomic_load(&a->trouble));
	/* Not begun yet: what the signer refuses is no failure of the log's. */
	if (o->what == ORDER_ROTATE && !rotate_hand_over(a, o->change, e))
		return false;
	if (!log_begin(a->log, e) || !fill_alone(a, o) || !log_commit(a->log, e)) {
		log_rollback(a->log);
		/* Pruning can wait for room; decisions need not know of it. */
		if (o->what != ORDER_PRUNE_TILE || db_broken(a->log->db))
			note_failure(a, e);
		return false;
	}
	o->range = a->log->head.range;
	atomic_store(&a->size, a->log->head.range.n);
	return true;
}

/* --- the WAL --- */

/* What was erased is still in old pages of the WAL. */
static bool empty_the_wal(struct audit *a, struct err *e)
{
	if (!db_checkpoint(a->log->db, DB_TRUNCATE, NULL, NULL, e))
		return false;
	a->wal_asked = 0;
	atomic_store(&a->forget, false);
	return true;
}

/* The checkpointer moves most pages while commits go on; the rest, and going back to the start of
 * the file, needs a moment without a commit, which only this thread can choose. */
static void mind_the_wal(struct audit *a)
{
	int pages = db_wal(a->log->db);
	struct err e;

	atomic_store(&a->wal_pages, (unsigned)pages);
	if (atomic_exchange(&a->restart, false)) {
		/* Kept from it by a reader: it will end, and growth asks again. */
		(void)!db_checkpoint(a->log->db, DB_RESTART, NULL, NULL, &e);
		a->wal_asked = db_wal(a->log->db);
	} else if (pages < a->wal_asked) {
		a->wal_asked = 0; /* SQLite began the file anew by itself */
	} else if (pages - a->wal_asked >= WAL_PAGES_MAX) {
		a->wal_asked = pages;
		queue_wake(a->requests);
	}
}

/* --- the thread --- */

static void finish_order(struct order *o, bool ok)
{
	o->ok = ok;
	waiter_run(&o->waiter.task);
}

static void serve_orders(struct audit *a)
{
	struct chain c;
	struct link *next;

	(void)queue_take(a->orders, &c);
	for (struct link *l = c.first; l; l = next) {
		struct order *o = LINK_OF(l, struct order, waiter.task.link);

		next = l->next;
		if (o->what == ORDER_HEAD) {
			o->range = a->log->head.range;
			finish_order(o, true);
			continue;
		}
		if (o->what == ORDER_FORGET) {
			finish_order(o, empty_the_wal(a, &o->err));
			continue;
		}
		if (o->what != ORDER_STORE && o->what != ORDER_LAST) {
			finish_order(o, run_alone(a, o));
			continue;
		}
		while (o->what == ORDER_LAST && a->pending.n)
			(void)run_batch(a, NULL, false, &o->err);
		finish_order(o, run_batch(a, o->what == ORDER_STORE ? o : NULL,
					  o->what == ORDER_LAST, &o->err));
	}
}

/* Add what has come to what is pending; sleep if there is nothing to do. */
static void gather(struct audit *a)
{
	struct chain c;
	int timeout = atomic_load(&a->state) == STATE_STUCK ? PROBE_MS : -1;

	if (a->pending.n >= BATCH_MAX)
		return;
	if (a->pending.n ? !queue_take(a->jobs, &c) : !queue_wait(a->jobs, &c, timeout))
		return;
	*a->pending.end = c.first;
	a->pending.end = c.end;
	a->pending.n += c.n;
}

void *committer_main(void *audit)
{
	struct audit *a = audit;
	struct err e;

	for (;;) {
		gather(a);
		if (a->pending.n || atomic_load(&a->state) == STATE_STUCK)
			(void)run_batch(a, NULL, false, &e);
		serve_orders(a);
		mind_the_wal(a);
		if (atomic_load(&a->last_order) && !a->pending.n && !queue_len(a->jobs))
			return NULL;
	}
}
