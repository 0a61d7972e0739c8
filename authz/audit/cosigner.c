#include "authz/audit/cosigner.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "authz/audit/cosigned.h"
#include "authz/audit/proof.h"
#include "authz/audit/read.h"
#include "authz/store/file.h"
#include "include/writ/words.h"

#define TRIES 3 /* of one round: the size that a witness holds is learned from its 409 */
#define MS 1000000LL

/* One witness, as the thread knows it. */
struct party {
	const struct cosigner_witness *witness;
	uint64_t held; /* what it holds, as far as we know */
	int64_t next_ns;
	struct cosigner_report report;
};

struct cosigner {
	struct cosigner_config config;
	struct party parties[COSIGNER_MAX];
	struct buf kept; /* what is in the file; empty: nothing */
	uint64_t kept_size;
	size_t kept_lines;    /* of our witnesses */
	int64_t kept_since_s; /* when it was written */
	struct queue *wake;
	struct slot standing;
	pthread_t thread;
	bool running;
	atomic_bool stop;
};

/* ---- standing ---- */

static void standing_free(struct shared *shared)
{
	struct cosigner_standing *s = (struct cosigner_standing *)(void *)shared;

	free(s->items);
	free(s);
}

static void publish(struct cosigner *c)
{
	struct cosigner_standing *s = calloc(1, sizeof(*s));

	if (!s)
		return;
	s->items = calloc(c->config.n + 1, sizeof(*s->items));
	if (!s->items) {
		free(s);
		return;
	}
	s->n = c->config.n;
	for (size_t i = 0; i < s->n; i++)
		s->items[i] = c->parties[i].report;
	shared_init(&s->shared, standing_free);
	slot_publish(&c->standing, &s->shared);
}

struct cosigner_standing *cosigner_standing(struct cosigner *c)
{
	return c ? (struct cosigner_standing *)slot_acquire(&c->standing) : NULL;
}

/* ---- records ---- */

/* An outage and its end, not each try. */
static void record_change(struct cosigner *c, const struct party *p)
{
	const struct cosigner_report *r = &p->report;
	struct audit_job job = { .wake = 0 };
	AUTO_BUF text;
	struct err e;

	if (c->config.tell)
		c->config.tell(c->config.ctx, r);
	buf_init(&text, mem_system, LIMIT_LEAF);
	record_begin(&job.record, &text);
	record_str(&job.record, STR("kind"), STR("log.witness"));
	record_str(&job.record, STR("outcome"), r->failed[0] ? STR("failed") : STR("cosigned"));
	record_str(&job.record, STR("reason"), r->failed[0] ? str_c(r->code) : (struct str){ 0 });
	record_int(&job.record, STR("size"), (int64_t)r->size);
	record_str(&job.record, STR("witness"), str_c(r->name));
	if (record_ok(&job.record))
		(void)!audit_append(c->config.audit, &job, &e);
}

/* ---- one request ---- */

/* What shows that the checkpoint of @size records goes on from @old. */
static bool find_proof(struct cosigner *c, uint64_t old, uint64_t size, struct tree_proof *out,
		       struct err *e)
{
	const struct proof_ask ask = { .kind = PROOF_CONSISTENCY, .a = old, .size = size };
	struct log_proof p;
	bool ok;

	out->n = 0;
	if (!old || old == size)
		return true;
	ok = proof_make(c->config.folder, &mem_system, &ask, &p, e);
	if (ok && (!p.covered || p.size != size))
		ok = err_set(e, ERR_INTERNAL, "no proof from %llu to %llu records",
			     (unsigned long long)old, (unsigned long long)size);
	if (ok)
		*out = p.hashes;
	proof_clear(&p);
	return ok;
}

static bool unexpected(struct err *e, const struct fetch_reply *reply)
{
	return err_code(e, ERR_INTERNAL,
			reply->status == 403   ? "witness_forbids"
			: reply->status == 404 ? "witness_knows_not"
			: reply->status == 422 ? "witness_disagrees"
					       : "unexpected_status",
			"it answered with status %d%s", reply->status,
			reply->status == 403   ? ": it has another key of this log"
			: reply->status == 404 ? ": it is not configured for this log"
			: reply->status == 422
				? ": it does not see that this log goes on from what "
				  "it cosigned"
				: "");
}

/* The size that the witness holds, and whether we can go on from there. */
static bool take_size(struct party *p, const struct fetch_reply *reply, uint64_t size,
		      struct err *e)
{
	uint64_t held;

	if (strcmp(reply->type, COSIGN_SIZE_TYPE) != 0 ||
	    !cosign_size_parse(buf_str(&reply->body), &held) || held == p->held)
		return err_code(e, ERR_INTERNAL, "bad_cosignature",
				"its 409 does not say which size it holds");
	p->held = held;
	if (held > size)
		return err_code(e, ERR_CONFLICT, "witness_ahead",
				"it cosigned %llu records of this log, which has %llu: records "
				"were lost, or somebody else signs with this log's key",
				(unsigned long long)held, (unsigned long long)size);
	return true;
}

/* One POST. *again: with another old size. */
static bool ask(struct cosigner *c, struct party *p, struct str note, uint64_t size,
		struct buf *cosigned, bool *again, struct err *e)
{
	struct cosign_request q = { .old = p->held, .note = note };
	struct fetch_reply reply = { .status = 0 };
	char url[FETCH_URL_MAX + 32];
	uint64_t at;
	AUTO_BUF body;
	bool ok;

	*again = false;
	buf_init(&body, mem_system, COSIGN_REQUEST_MAX);
	if (!find_proof(c, q.old, size, &q.proof, e))
		return false;
	cosign_request_format(&q, &body);
	if (!buf_ok(&body))
		return err_set(e, ERR_NOMEM, "no memory for a request");
	snprintf(url, sizeof(url), "%s" COSIGN_PATH, p->witness->url);
	if (!c->config.post(c->config.ctx, url, buf_str(&body), &c->stop, &reply, e))
		return false;
	if (reply.status == 200) {
		ok = cosign_answer(note, buf_str(&reply.body), &p->witness->key, cosigned, &at, e);
		if (ok)
			p->report.at_s = (int64_t)at;
	} else if (reply.status == 409) {
		ok = *again = take_size(p, &reply, size, e);
	} else {
		ok = unexpected(e, &reply);
	}
	buf_clear(&reply.body);
	return ok;
}

/* @cosigned: the note with this witness's line behind what was there. */
static bool submit(struct cosigner *c, struct party *p, struct str note, uint64_t size,
		   struct buf *cosigned, struct err *e)
{
	bool again = true;

	if (p->held > size)
		p->held = 0; /* ask it anew: it may have been set right */
	for (int i = 0; i < TRIES && again; i++)
		if (!ask(c, p, note, size, cosigned, &again, e))
			return false;
	if (again)
		return err_code(e, ERR_INTERNAL, "bad_cosignature",
				"it names another size at each request");
	p->held = size;
	p->report.size = size;
	return true;
}

/* ---- what is kept ---- */

static size_t count_lines(const struct cosigner *c, struct str note)
{
	struct note n = { .n = 0 };
	size_t count = 0;
	uint64_t at;

	if (!note_parse(note, &n, NULL))
		return 0;
	for (size_t i = 0; i < c->config.n; i++)
		count += note_cosigned(&n, &c->config.witnesses[i].key, &at) == COSIGNED;
	return count;
}

static bool keep(struct cosigner *c, struct str note, uint64_t size, size_t lines, struct err *e)
{
	int64_t now = clock_wall_ms(c->config.clock) / 1000;
	int dir;
	bool ok;

	/* Fewer cosignatures may miss somebody's quorum that the one before met. */
	if (lines < c->kept_lines && c->kept_size != size &&
	    now - c->kept_since_s < COSIGNER_KEEP_S && now >= c->kept_since_s)
		return true;
	dir = open(c->config.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_set(e, ERR_IO, "cannot open %s", c->config.folder);
	ok = file_replace(NULL, dir, COSIGNED_FILE, note, 0644, e);
	close(dir);
	if (!ok)
		return false;
	buf_reset(&c->kept);
	buf_add(&c->kept, note);
	c->kept_size = size;
	c->kept_lines = lines;
	c->kept_since_s = now;
	return true;
}

/* ---- rounds ---- */

static int64_t delay_ms(const struct cosigner *c, unsigned failures)
{
	int64_t ms = c->config.interval_ms;

	while (failures-- > 1 && ms < COSIGNER_DELAY_MAX_MS)
		ms *= 2;
	return ms < COSIGNER_DELAY_MAX_MS ? ms : COSIGNER_DELAY_MAX_MS;
}

static void settle(struct cosigner *c, struct party *p, bool ok, const struct err *e)
{
	struct cosigner_report *r = &p->report;
	const char *code = e->code ? e->code : "failed";
	bool changed = ok ? r->failed[0] != '\0' : !r->failed[0] || strcmp(r->code, code) != 0;

	if (ok) {
		r->failures = 0;
		r->failed[0] = '\0';
	} else {
		r->failures++;
		r->code = code;
		memcpy(r->failed, e->msg, sizeof(r->failed));
	}
	p->next_ns = clock_mono_ns(c->config.clock) + delay_ms(c, r->failures) * MS;
	if (changed && !atomic_load(&c->stop))
		record_change(c, p);
}

static bool read_newest(struct cosigner *c, struct buf *note, uint64_t *size, struct err *e)
{
	struct audit_reader *reader = NULL;
	struct tree_range range = { 0 };
	bool found = false;
	bool ok = audit_reader_open(c->config.folder, &mem_system, &reader, e) &&
		  audit_reader_checkpoint(reader, 0, note, &range, &found, e);

	audit_reader_close(reader);
	*size = range.n;
	return ok && found;
}

/* All that are due, over one checkpoint. */
static void round_of(struct cosigner *c, struct buf *note, uint64_t size)
{
	size_t lines = 0, before = note->n;
	struct err e;

	if (size == c->kept_size && c->kept.n) { /* others may be added to it */
		buf_reset(note);
		buf_add(note, buf_str(&c->kept));
		lines = c->kept_lines;
		before = note->n;
	}
	for (size_t i = 0; i < c->config.n && !atomic_load(&c->stop); i++) {
		struct party *p = &c->parties[i];
		AUTO_BUF with = { 0 };
		bool ok;

		if (clock_mono_ns(c->config.clock) < p->next_ns || p->report.size == size)
			continue;
		buf_init(&with, mem_system, NOTE_MAX);
		err_none(&e);
		ok = submit(c, p, buf_str(note), size, &with, &e);
		if (ok) {
			buf_reset(note);
			buf_add(note, buf_str(&with));
			lines++;
		}
		settle(c, p, ok, &e);
	}
	if (note->n != before && buf_ok(note) && !keep(c, buf_str(note), size, lines, &e))
		for (size_t i = 0; i < c->config.n; i++)
			if (c->parties[i].report.size == size) {
				c->parties[i].report.size = 0; /* once more, then */
				settle(c, &c->parties[i], false, &e);
			}
}

int64_t cosigner_step(struct cosigner *c)
{
	int64_t now = clock_mono_ns(c->config.clock), next = INT64_MAX;
	bool due = false;
	uint64_t size;
	AUTO_BUF note;
	struct err e;

	for (size_t i = 0; i < c->config.n; i++)
		due = due || now >= c->parties[i].next_ns;
	buf_init(&note, mem_system, NOTE_MAX);
	if (due && read_newest(c, &note, &size, &e)) {
		round_of(c, &note, size);
		publish(c);
	}
	now = clock_mono_ns(c->config.clock);
	for (size_t i = 0; i < c->config.n; i++)
		if (c->parties[i].next_ns < next)
			next = c->parties[i].next_ns;
	/* Due, but there was nothing new: look again soon. */
	return next <= now ? (c->config.interval_ms < 1000 ? c->config.interval_ms : 1000)
			   : (next - now + MS - 1) / MS;
}

static void *cosigner_thread(void *arg)
{
	struct cosigner *c = arg;
	struct chain none;

	while (!atomic_load(&c->stop)) {
		int64_t ms = cosigner_step(c);

		if (!atomic_load(&c->stop))
			(void)queue_wait(c->wake, &none, ms > 60000 ? 60000 : (int)ms);
	}
	return NULL;
}

/* ---- life ---- */

/* What the file says that each of them has cosigned. */
static void recall(struct cosigner *c)
{
	struct note n = { .n = 0 };
	uint64_t at, size;
	struct err e;

	/* A damaged file is replaced by the next round. */
	if (!cosigned_read(c->config.folder, &c->kept, &size, &e) ||
	    !note_parse(buf_str(&c->kept), &n, &e)) {
		buf_reset(&c->kept);
		return;
	}
	c->kept_size = size;
	c->kept_lines = count_lines(c, buf_str(&c->kept));
	c->kept_since_s = clock_wall_ms(c->config.clock) / 1000;
	for (size_t i = 0; i < c->config.n; i++)
		if (note_cosigned(&n, &c->config.witnesses[i].key, &at) == COSIGNED) {
			c->parties[i].held = c->parties[i].report.size = size;
			c->parties[i].report.at_s = (int64_t)at;
		}
}

bool cosigner_open(const struct cosigner_config *config, struct cosigner **out, struct err *e)
{
	struct cosigner *c;

	if (config->n > COSIGNER_MAX)
		return err_set(e, ERR_INVALID, "more than %d witnesses", COSIGNER_MAX);
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(e, ERR_NOMEM, "no memory for the witnesses");
	c->config = *config;
	slot_init(&c->standing);
	atomic_init(&c->stop, false);
	buf_init(&c->kept, mem_system, NOTE_MAX);
	for (size_t i = 0; i < config->n; i++) {
		struct party *p = &c->parties[i];

		p->witness = &config->witnesses[i];
		snprintf(p->report.name, sizeof(p->report.name), "%s", p->witness->name);
		snprintf(p->report.url, sizeof(p->report.url), "%s", p->witness->url);
	}
	c->wake = queue_new(1, false, e);
	if (!c->wake) {
		cosigner_close(c);
		return false;
	}
	recall(c);
	publish(c);
	*out = c;
	return true;
}

bool cosigner_start(struct cosigner *c, struct err *e)
{
	int rc = pthread_create(&c->thread, NULL, cosigner_thread, c);

	if (rc)
		return err_set(e, ERR_INTERNAL, "cannot start the thread for witnesses: %s",
			       strerror(rc));
	c->running = true;
	return true;
}

void cosigner_stop(struct cosigner *c)
{
	if (!c || !c->running)
		return;
	atomic_store(&c->stop, true);
	queue_wake(c->wake);
	pthread_join(c->thread, NULL);
	c->running = false;
}

void cosigner_close(struct cosigner *c)
{
	if (!c)
		return;
	cosigner_stop(c);
	queue_free(c->wake);
	buf_clear(&c->kept);
	slot_clear(&c->standing);
	free(c);
}
