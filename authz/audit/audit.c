#include "authz/audit/audit.h"

#include <stdio.h>
#include <stdlib.h>

#include "authz/audit/parts.h"
#include "authz/audit/rows.h"
#include "include/writ/words.h"

/* --- opening --- */

static bool append_drafted(struct audit *a, struct record *r, struct err *e)
{
	struct audit_job job = { .record = *r };

	return record_ok(r) ? audit_append(a, &job, e)
			    : err_set(e, ERR_NOMEM, "no memory for a record");
}

/* The first records of a run: that the run before ended badly, and what this one goes on from. */
static bool write_opening(struct audit *a, const struct log_found *found, struct err *e)
{
	uint64_t size = atomic_load(&a->size);
	AUTO_BUF text;
	struct record r;

	buf_init(&text, a->alloc, LIMIT_LEAF);
	if (size && found->unclean) {
		record_begin(&r, &text);
		record_str(&r, STR("cause"), STR("unclean_stop"));
		record_str(&r, STR("kind"), STR("log.gap"));
		record_int(&r, STR("last_seq"), (int64_t)size - 1);
		if (!append_drafted(a, &r, e))
			return false;
	}
	buf_reset(&text);
	record_begin(&r, &text);
	record_str(&r, STR("anchor"), found->no_anchor ? STR("missing") : (struct str){ 0 });
	record_str(&r, STR("kind"), STR("log.open"));
	record_str(&r, STR("log_key"), str_c(a->id.name));
	record_hash(&r, STR("previous_root"), found->root);
	record_int(&r, STR("previous_size"), (int64_t)size);
	record_str(&r, STR("version"), STR(WRIT_VERSION));
	return append_drafted(a, &r, e);
}

static bool open_wal(struct audit *a, struct err *e)
{
	const struct db_options options = { .vfs = a->config.vfs,
					    .autocheckpoint = -1,
					    .runs = true };
	char path[4200];

	snprintf(path, sizeof(path), "%s/" ROWS_FILE, a->folder);
	return db_open(path, &options, &a->wal, e);
}

static bool start(struct audit *a, pthread_t *thread, void *(*body)(void *), bool *started,
		  struct err *e)
{
	int code = pthread_create(thread, NULL, body, a);

	*started = code == 0;
	return *started ? true : err_set(e, ERR_IO, "cannot start a thread: %s", strerror(code));
}

static void stop_threads(struct audit *a)
{
	/* The checkpointer waits for its orders to be served, so it ends before who serves them. */
	atomic_store(&a->closing, true);
	atomic_store(&a->stop, true);
	if (a->checkpointing) {
		queue_wake(a->requests);
		pthread_join(a->checkpointer, NULL);
	}
	atomic_store(&a->last_order, true);
	if (a->committing) {
		queue_wake(a->jobs);
		pthread_join(a->committer, NULL);
	}
	a->committing = a->checkpointing = false;
}

static void free_audit(struct audit *a)
{
	stop_threads(a);
	db_close(a->wal);
	log_close(a->log);
	queue_free(a->jobs);
	queue_free(a->orders);
	queue_free(a->requests);
	slot_clear(&a->keys);
	buf_clear(&a->own);
	buf_clear(&a->note);
	free(a->folder);
	free(a);
}

static bool open_parts(struct audit *a, struct err *e)
{
	struct log_found found;

	a->folder = strdup(a->config.folder);
	a->jobs = queue_new(SIZE_MAX, false, e); /* bounded by a->waiting */
	a->orders = queue_new(16, false, e);
	a->requests = queue_new(1024, false, e);
	if (!a->folder || !a->jobs || !a->orders || !a->requests)
		return err_set(e, ERR_NOMEM, "no memory for the log");
	if (!log_open(&a->config, &a->log, &found, &a->note, e) || !open_wal(a, e))
		return false;
	a->id = a->log->keys.first;
	if (!rotate_publish(a, &a->log->keys, e))
		return false;
	/* A stop cut a rotation off: the record decides whether it happened. */
	if ((found.taken || found.left) && !a->config.switch_key(a->config.ctx, found.taken, e))
		return false;
	a->note_size = found.checkpoint_size;
	atomic_store(&a->size, a->log->head.range.n);
	atomic_store(&a->checkpoint_size, found.checkpoint_size);
	atomic_store(&a->pruned, found.prune.done);
	atomic_store(&a->prune_to, found.prune.to);
	atomic_store(&a->prune_record, found.prune.record);
	atomic_store(&a->forget, found.unclean); /* the run before may have been cut off at it */
	return start(a, &a->committer, committer_main, &a->committing, e) &&
	       write_opening(a, &found, e) &&
	       start(a, &a->checkpointer, checkpointer_main, &a->checkpointing, e);
}

bool audit_open(const struct audit_config *c, struct audit **out, struct err *e)
{
	struct audit *a = calloc(1, sizeof(*a));

	if (!a)
		return err_set(e, ERR_NOMEM, "no memory for the log");
	a->config = *c;
	a->alloc = c->alloc ? *c->alloc : mem_system;
	a->config.alloc = &a->alloc;
	if (!a->config.queue)
		a->config.queue = LIMIT_QUEUE;
	if (!a->config.checkpoint_ms)
		a->config.checkpoint_ms = CHECKPOINT_MS;
	chain_init(&a->pending);
	slot_init(&a->keys);
	buf_init(&a->own, a->alloc, LIMIT_LEAF);
	buf_init(&a->note, a->alloc, NOTE_MAX);
	if (!open_parts(a, e)) {
		free_audit(a);
		return false;
	}
	*out = a;
	return true;
}

/* --- records --- */

static bool refuse(struct audit *a, size_t n, struct err *e, const char *why)
{
	atomic_fetch_add(&a->refused, n);
	return err_code(e, ERR_UNAVAILABLE, "audit_unavailable",
			"the audit log cannot be written: %s", why ? why : "stopped");
}

bool audit_submit(struct audit *a, struct chain *jobs, struct err *e)
{
	size_t n = jobs->n;

	if (atomic_load(&a->closing))
		return refuse(a, n, e, "the server is stopping");
	if (atomic_load(&a->state) == STATE_DEAD)
		return refuse(a, n, e, atomic_load(&a->trouble));
	/* Counted until answered, not until taken: what a batch holds is memory, too. */
	if (atomic_fetch_add(&a->waiting, n) + n > a->config.queue) {
		atomic_fetch_sub(&a->waiting, n);
		return refuse(a, n, e, "too many records are waiting; try again");
	}
	queue_push_always(a->jobs, jobs);
	return true;
}

static void append_done(struct task *t)
{
	struct audit_job *job = LINK_OF(t, struct audit_job, task);

	waiter_wake(job->wake);
}

bool audit_append_all(struct audit *a, struct audit_job *const *jobs, size_t n, struct err *e)
{
	struct waiter w;
	struct chain c;

	if (!waiter_init(&w, e))
		return false;
	chain_init(&c);
	for (size_t i = 0; i < n; i++) {
		jobs[i]->reply_to = NULL;
		jobs[i]->wake = w.fd;
		jobs[i]->task.run = append_done;
		chain_add(&c, &jobs[i]->task.link);
	}
	if (!audit_submit(a, &c, e)) {
		waiter_clear(&w);
		return false;
	}
	for (uint64_t done = 0; done < n;)
		done += waiter_wait(&w);
	waiter_clear(&w);
	for (size_t i = 0; i < n; i++)
		if (!jobs[i]->ok) {
			*e = jobs[i]->err;
			return false;
		}
	return true;
}

bool audit_append(struct audit *a, struct audit_job *job, struct err *e)
{
	return audit_append_all(a, &job, 1, e);
}

bool audit_ready(struct audit *a, struct err *e)
{
	if (atomic_load(&a->state) == STATE_OK && !atomic_load(&a->closing))
		return true;
	return err_code(e, ERR_UNAVAILABLE, "audit_unavailable",
			"the audit log cannot be written: %s",
			atomic_load(&a->closing) ? "the server is stopping"
						 : atomic_load(&a->trouble));
}

void audit_status(struct audit *a, struct audit_status *s)
{
	*s = (struct audit_status){
		.size = atomic_load(&a->size),
		.checkpoint_size = atomic_load(&a->checkpoint_size),
		.waiting = atomic_load(&a->waiting),
		.batches = atomic_load(&a->batches),
		.refused = atomic_load(&a->refused),
		.unsigned_since = atomic_load(&a->unsigned_in_row),
		.wal_pages = atomic_load(&a->wal_pages),
		.pruned = atomic_load(&a->pruned),
		.prune_to = atomic_load(&a->prune_to),
	};
	snprintf(s->log_key_id, sizeof(s->log_key_id), "%08x", a->id.id);
}

bool request_run(struct audit *a, struct request *r, struct err *e)
{
	struct chain c;

	if (!waiter_init(&r->waiter, e))
		return false;
	chain_init(&c);
	chain_add(&c, &r->waiter.task.link);
	if (!queue_push(a->requests, &c)) {
		waiter_clear(&r->waiter);
		return err_set(e, ERR_UNAVAILABLE, "too many wait for a checkpoint; try again");
	}
	waiter_wait(&r->waiter);
	waiter_clear(&r->waiter);
	if (!r->ok)
		*e = r->err;
	return r->ok;
}

bool audit_checkpoint(struct audit *a, struct buf *out, struct err *e)
{
	struct request r = { .out = out };

	return request_run(a, &r, e);
}

void audit_close(struct audit *a)
{
	struct order last = { .what = ORDER_LAST };
	struct err e = { 0 };
	AUTO_BUF note;

	buf_init(&note, mem_system, NOTE_MAX);
	if (!a)
		return;
	atomic_store(&a->closing, true);
	/* Both are tried, and neither can be repaired here: the next start sees what is missing. */
	if (order_run(a, &last, &e))
		(void)!audit_checkpoint(a, &note, &e);
	free_audit(a);
}
