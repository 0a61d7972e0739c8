/*
 * The thread that signs, because signing waits for another process, and that moves the WAL into
 * the database, because that writes much. The order of a checkpoint (sheet 14.3): committed size,
 * signature, row on disk, copy outside the database on disk, and only then shown.
 */
#include "authz/audit/parts.h"
#include "authz/store/file.h"

/* Sign the tree of @range into @note. A signer with another key would make a log that cannot be
 * opened again, so what it gave is checked while nothing depends on it. */
static bool sign_note(struct audit *a, const struct key_history *keys,
		      const struct tree_range *range, struct buf *note, struct err *e)
{
	struct checkpoint c = { .origin = str_c(a->id.name), .size = range->n }, read;
	struct sha256 *sha = sha256_new(e);
	uint8_t signature[64];

	if (!sha)
		return false;
	tree_root(range, sha, c.root);
	sha256_free(sha);
	checkpoint_format(note, &c);
	if (!buf_ok(note))
		return err_set(e, ERR_NOMEM, "no memory for a checkpoint");
	if (!a->config.sign(a->config.ctx, buf_str(note), signature, e))
		return err_prefix(e, "the checkpoint over %llu records was not signed",
				  (unsigned long long)c.size);
	note_sign_line(note, &keys->current, signature);
	if (!buf_ok(note))
		return err_set(e, ERR_NOMEM, "no memory for a checkpoint");
	return checkpoint_open(buf_str(note), &keys->current, &read, e);
}

/* Sign, store, and only then show. What is stored is without the line of rotations, which every
 * reader adds. */
static bool sign_and_store(struct audit *a, const struct key_history *keys,
			   const struct tree_range *range, struct err *e)
{
	struct order store = { .what = ORDER_STORE, .range = *range };
	AUTO_BUF note;

	buf_init(&note, a->alloc, NOTE_MAX);
	if (!sign_note(a, keys, range, &note, e))
		return false;
	store.note = buf_str(&note);
	if (!order_run(a, &store, e))
		return false;
	rotations_line(&keys->past, range->n, &note);
	store.note = buf_str(&note);
	if (!buf_ok(&note))
		return err_set(e, ERR_NOMEM, "no memory for a checkpoint");
	if (!file_replace(NULL, a->log->folder, LAST_CHECKPOINT, store.note, 0644, e))
		return false;
	buf_reset(&a->note);
	buf_add(&a->note, store.note);
	if (!buf_ok(&a->note)) {
		buf_reset(&a->note); /* next time is a new one */
		return err_set(e, ERR_NOMEM, "no memory for a checkpoint");
	}
	a->note_size = range->n;
	atomic_store(&a->checkpoint_size, range->n);
	return true;
}

bool checkpoint_over(struct audit *a, const struct tree_range *range, struct err *e)
{
	struct audit_keys *keys = (struct audit_keys *)slot_acquire(&a->keys);
	bool ok = sign_and_store(a, &keys->history, range, e);

	shared_release(&keys->shared);
	return ok;
}

/* Bring a->note up to everything committed by now. */
static bool checkpoint_now(struct audit *a, struct err *e)
{
	struct order head = { .what = ORDER_HEAD };

	if (!order_run(a, &head, e))
		return false;
	if (a->note.n && head.range.n == a->note_size)
		return true;
	return checkpoint_over(a, &head.range, e);
}

static bool checkpoint_counted(struct audit *a, struct err *e)
{
	bool ok = checkpoint_now(a, e);

	a->tick_ns = clock_mono_ns(&clock_system);
	if (ok)
		atomic_store(&a->unsigned_in_row, 0);
	else
		atomic_fetch_add(&a->unsigned_in_row, 1);
	return ok;
}

static void serve_requests(struct audit *a, struct chain *c)
{
	struct err e = { 0 };
	bool ok = checkpoint_counted(a, &e);
	struct link *next;

	for (struct link *l = c->first; l; l = next) {
		struct request *r = LINK_OF(l, struct request, waiter.task.link);

		next = l->next;
		if (r->change) {
			r->ok = rotate_now(a, r->change, &r->err);
			waiter_run(&r->waiter.task);
			continue;
		}
		r->ok = ok;
		r->err = e;
		if (ok)
			buf_add(r->out, buf_str(&a->note));
		waiter_run(&r->waiter.task);
	}
}

/* While the first pass writes, commits go on; so the second pass moves what came meanwhile, and
 * little is left for the pause that the committer makes. */
static void move_the_wal(struct audit *a)
{
	struct err e;

	if (atomic_load(&a->wal_pages) < WAL_PAGES_MAX || atomic_load(&a->restart))
		return;
	for (int pass = 0; pass < 2; pass++)
		/* If this connection is lost the committer moves all, and knows how to fail. */
		if (!db_checkpoint(a->wal, DB_PASSIVE, NULL, NULL, &e) && !db_broken(a->wal))
			return;
	atomic_store(&a->restart, true);
	queue_wake(a->jobs);
}

/* A reader kept the WAL from being emptied after an erasure. */
static void try_to_forget(struct audit *a)
{
	struct order o = { .what = ORDER_FORGET };
	struct err e;

	if (atomic_load(&a->forget) && db_checkpoint(a->wal, DB_PASSIVE, NULL, NULL, &e))
		(void)!order_run(a, &o, &e);
}

static int until_tick_ms(const struct audit *a)
{
	int64_t passed = (clock_mono_ns(&clock_system) - a->tick_ns) / 1000000;

	return passed >= a->config.checkpoint_ms ? 0 : (int)(a->config.checkpoint_ms - passed);
}

void *checkpointer_main(void *audit)
{
	struct audit *a = audit;
	struct chain c;
	struct err e;

	a->tick_ns = clock_mono_ns(&clock_system);
	for (;;) {
		int pause = prune_step(a), tick = until_tick_ms(a);
		bool asked = queue_wait(a->requests, &c, pause && pause < tick ? pause : tick);

		move_the_wal(a);
		if (asked)
			serve_requests(a, &c);
		else if (until_tick_ms(a) == 0) {
			a->tick_ns = clock_mono_ns(&clock_system);
			try_to_forget(a);
			if (atomic_load(&a->size) != a->note_size &&
			    atomic_load(&a->state) == STATE_OK)
				(void)checkpoint_counted(a, &e);
		}
		if (atomic_load(&a->stop) && !queue_len(a->requests))
			return NULL;
	}
}
