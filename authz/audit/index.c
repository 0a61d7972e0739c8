#include "authz/audit/index.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "authz/audit/index_build.h"
#include "authz/audit/index_pace.h"
#include "authz/base/background.h"
#include "authz/base/clock.h"
#include "authz/base/queue.h"

#define TICK_MS 250
#define RETRY_MS 1000 /* after a failure; doubled each time, up to... */
#define RETRY_MAX_MS 60000

struct index {
	int tick_ms;
	struct index_build *build; /* the thread's, as is */
	struct index_pace pace;
	struct queue *wake; /* holds nothing: to be woken by */
	pthread_t thread;
	atomic_bool stop, again;
	atomic_uint_fast64_t indexed, rebuilds, failures;
	_Atomic(const char *) trouble; /* NULL: the last step did not fail */
};

static const char *trouble_of(const struct err *e)
{
	struct str code = str_c(e->code);

	if (str_eq(code, STR("disk_full")))
		return "the disk is full; make room, indexing resumes by itself";
	if (str_eq(code, STR("storage_corrupt")))
		return "index.db or log.db is damaged; the index is made anew, log.db is checked "
		       "by `writ audit verify`";
	if (e->class == ERR_NOMEM)
		return "memory is short; it is tried again";
	return "the last try to read log.db or write index.db failed; it is tried again";
}

static void show(struct index *x, const struct index_progress *p, const char *trouble)
{
	atomic_store(&x->indexed, p->indexed);
	atomic_store(&x->rebuilds, p->rebuilds);
	atomic_store(&x->trouble, trouble);
}

/* Look, and add what is next unless that can wait. */
static bool advance(struct index *x, struct index_progress *p, struct err *e)
{
	if (!index_build_look(x->build, p, e))
		return false;
	if (index_pace_waits(&x->pace, p->size, p->indexed, clock_mono_ns(&clock_system))) {
		p->more = false;
		return true;
	}
	return !p->more || index_build_step(x->build, p, e);
}

/* Until the index is behind the log by nothing, or can wait, or must stop. How long to sleep
 * then. */
static int catch_up(struct index *x, int retry_ms)
{
	struct index_progress p;
	struct err e;

	do {
		err_none(&e);
		if (atomic_exchange(&x->again, false))
			index_build_again(x->build);
		if (!advance(x, &p, &e)) {
			show(x, &p, trouble_of(&e));
			atomic_fetch_add(&x->failures, 1);
			return retry_ms
				       ? (retry_ms < RETRY_MAX_MS / 2 ? 2 * retry_ms : RETRY_MAX_MS)
				       : RETRY_MS;
		}
		show(x, &p, NULL);
	} while (p.more && !atomic_load(&x->stop));
	return 0;
}

static void *index_main(void *index)
{
	struct index *x = index;
	struct chain none;
	int retry_ms = 0;

	background_thread();
	while (!atomic_load(&x->stop)) {
		retry_ms = catch_up(x, retry_ms);
		(void)queue_wait(x->wake, &none, retry_ms ? retry_ms : x->tick_ms);
	}
	return NULL;
}

bool index_open(const struct index_config *c, struct index **out, struct err *e)
{
	struct index *x = calloc(1, sizeof(*x));
	int code;

	if (!x)
		return err_set(e, ERR_NOMEM, "no memory for the index");
	x->tick_ms = c->tick_ms ? c->tick_ms : TICK_MS;
	x->pace.lag_max = INDEX_LAG_MAX;
	x->wake = queue_new(1, false, e);
	if (!x->wake || !index_build_new(c->folder, c->vfs, &x->build, e)) {
		queue_free(x->wake);
		free(x);
		return false;
	}
	code = pthread_create(&x->thread, NULL, index_main, x);
	if (code) {
		index_build_free(x->build);
		queue_free(x->wake);
		free(x);
		return err_set(e, ERR_IO, "cannot start a thread: %s", strerror(code));
	}
	*out = x;
	return true;
}

void index_close(struct index *x)
{
	if (!x)
		return;
	atomic_store(&x->stop, true);
	queue_wake(x->wake);
	pthread_join(x->thread, NULL);
	index_build_free(x->build);
	queue_free(x->wake);
	free(x);
}

void index_rebuild(struct index *x)
{
	atomic_store(&x->again, true);
	queue_wake(x->wake);
}

void index_status(struct index *x, struct index_status *s)
{
	/* In the order in which they are written, backwards: a counted failure has its why. */
	uint64_t failures = atomic_load(&x->failures);
	const char *trouble = atomic_load(&x->trouble);

	*s = (struct index_status){ .indexed = atomic_load(&x->indexed),
				    .rebuilds = atomic_load(&x->rebuilds),
				    .failures = failures,
				    .failing = trouble != NULL,
				    .trouble = trouble ? trouble : "" };
}
