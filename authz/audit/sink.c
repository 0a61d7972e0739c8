#include "authz/audit/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "authz/audit/read.h"
#include "authz/audit/sink_out.h"
#include "authz/audit/tree.h"
#include "authz/base/background.h"
#include "authz/base/snapshot.h"
#include "authz/base/text.h"
#include "authz/net/fetch.h"
#include "authz/store/file.h"

#define CURSOR_FORMAT "writ-sink/1"
#define CURSOR_MAX 1024
#define READ_AHEAD 8192 /* what file_read wants room for */

const char *const sink_type_names[SINK_TYPES + 1] = {
	[SINK_FILE] = "file",	    [SINK_STDOUT] = "stdout", [SINK_SYSLOG] = "syslog",
	[SINK_WEBHOOK] = "webhook", [SINK_OTLP] = "otlp",
};

static const struct sink_ops *const ops_of[SINK_TYPES] = {
	[SINK_FILE] = &sink_file_ops,	  [SINK_STDOUT] = &sink_stdout_ops,
	[SINK_SYSLOG] = &sink_syslog_ops, [SINK_WEBHOOK] = &sink_http_ops,
	[SINK_OTLP] = &sink_http_ops,
};

/* Why it does not work; replaced as a whole. */
struct trouble {
	struct shared shared;
	struct err why;
	int64_t since_ms;
	uint32_t in_row;
};

struct sink {
	const struct sinks_config *config;
	const struct sink_settings *settings;
	struct sink_out out;
	struct sink_page page;
	struct audit_reader *reader;
	struct sha256 *sha;
	struct buf scratch;
	struct format_record record;
	int folder;
	char cursor[SINK_NAME_MAX + 8]; /* the file's name */
	bool placed;			/* the cursor has been read */
	bool fresh;			/* there was none */
	uint32_t in_row;
	int64_t since_ms;
	atomic_uint_fast64_t next, sent, failures;
	struct slot trouble;
	atomic_bool stop;
	struct queue *inbox; /* nothing ever comes but the wake-up */
	pthread_t thread;
	bool running;
};

struct sinks {
	struct sinks_config config;
	size_t n;
	struct sink *items[SINKS_MAX];
};

/* ---- the cursor ---- */

/* The first line names the format, the second the log, the third the next record. */
static bool read_cursor(struct sink *s, struct err *e)
{
	struct str format, origin, number, rest;
	uint64_t next;
	AUTO_BUF text = { 0 };

	buf_init(&text, mem_system, CURSOR_MAX + READ_AHEAD);
	if (!file_read(s->folder, s->cursor, CURSOR_MAX, &text, e)) {
		if (e->class != ERR_NOT_FOUND)
			return false;
		err_none(e);
		s->fresh = true;
		s->placed = true;
		return true;
	}
	if (!str_cut(buf_str(&text), '\n', &format, &rest) ||
	    !str_cut(rest, '\n', &origin, &rest) || !str_cut(rest, '\n', &number, &rest) ||
	    rest.n || !str_eq(format, STR(CURSOR_FORMAT)) || !text_u64(number, INT64_MAX, &next))
		return err_set(e, ERR_IO,
			       "%s in the data folder is no cursor; if it is removed, this sink "
			       "begins with record 0 again",
			       s->cursor);
	if (!str_eq(origin, str_c(s->config->origin)))
		return err_set(e, ERR_CONFLICT,
			       "%s in the data folder is of the log %.*s; if it is removed, this "
			       "sink begins with record 0",
			       s->cursor, STR_FMT(str_first(origin, 100)));
	atomic_store(&s->next, next);
	s->placed = true;
	return true;
}

static bool write_cursor(struct sink *s, uint64_t next, struct err *e)
{
	char text[CURSOR_MAX];
	int n = snprintf(text, sizeof(text), CURSOR_FORMAT "\n%s\n%llu\n", s->config->origin,
			 (unsigned long long)next);

	if (n < 0 || (size_t)n >= sizeof(text))
		return err_set(e, ERR_INTERNAL, "the log's name is too long for a cursor");
	return file_replace(NULL, s->folder, s->cursor, (struct str){ text, (size_t)n }, 0600, e);
}

/* ---- a page ---- */

static bool add_row(struct sink *s, const struct audit_row *row, struct err *e)
{
	struct sink_page *p = &s->page;
	uint8_t hash[SHA256_LEN];
	char hex[2 * SHA256_LEN];

	tree_leaf_hash(s->sha, row->text, hash);
	text_hex(hash, sizeof(hash), hex);
	if (!format_record_read(&s->record, str_c(s->config->origin), row->text,
				(struct str){ hex, sizeof(hex) }, &s->scratch, e))
		return false;
	ops_of[s->settings->type]->append(&s->out, &s->record, p);
	if (!buf_ok(&p->text))
		return err_set(e, ERR_NOMEM, "no memory for a page of records");
	if (p->n == 0)
		p->first = row->seq;
	p->last = row->seq;
	p->ends[p->n++] = p->text.n;
	return true;
}

/* A sink without a cursor begins with what there is; one with a cursor was promised the rest. */
static bool skip_pruned(struct sink *s, uint64_t *from, struct err *e)
{
	const struct audit_filter f = { .from = *from };
	uint64_t pruned;

	if (!audit_reader_start(s->reader, &f, e))
		return false;
	pruned = audit_reader_pruned(s->reader);
	if (*from >= pruned)
		return true;
	if (!s->fresh) {
		(void)audit_reader_gone(s->reader, *from, e);
		return err_prefix(e,
				  "%s in the data folder is of an older copy: remove it to go on "
				  "with what is there",
				  s->cursor);
	}
	*from = pruned;
	atomic_store(&s->next, pruned);
	return true;
}

static bool gather(struct sink *s, struct err *e)
{
	struct audit_filter f = { .from = atomic_load(&s->next) };
	struct sink_page *p = &s->page;
	uint64_t size;

	buf_reset(&p->text);
	p->n = 0;
	if (!s->reader && !audit_reader_open(s->config->folder, NULL, &s->reader, e))
		return false;
	if (!audit_reader_size(s->reader, &size, e))
		return false;
	if (f.from > size)
		return err_set(e, ERR_CONFLICT,
			       "its cursor is at record %llu and the log has %llu: they are not of "
			       "one history",
			       (unsigned long long)f.from, (unsigned long long)size);
	if (!skip_pruned(s, &f.from, e))
		return false;
	if (f.from == size)
		return true;
	f.to = size - f.from > s->out.rows ? f.from + s->out.rows : size;
	if (!audit_reader_start(s->reader, &f, e))
		return false;
	while (p->n < s->out.rows && p->text.n < SINK_PAGE_BYTES) {
		struct audit_row row;
		bool got;

		if (!audit_reader_next(s->reader, 0, &row, &got, e))
			return false;
		if (!got)
			break;
		if (row.seq != f.from + p->n) /* never silently */
			return audit_reader_gone(s->reader, f.from + p->n, e);
		if (!add_row(s, &row, e))
			return false;
	}
	return true;
}

/* ---- one step ---- */

static void trouble_free(struct shared *shared)
{
	free(shared);
}

static void tell(struct sink *s, const struct err *why)
{
	struct trouble *t = calloc(1, sizeof(*t));

	if (!t)
		return; /* what was told before stays */
	shared_init(&t->shared, trouble_free);
	if (why)
		t->why = *why;
	t->since_ms = s->since_ms;
	t->in_row = s->in_row;
	slot_publish(&s->trouble, &t->shared);
}

static int64_t failed(struct sink *s, const struct err *why, uint32_t random)
{
	atomic_fetch_add(&s->failures, 1);
	if (s->in_row++ == 0) {
		s->since_ms = clock_wall_ms(s->config->clock);
		if (s->config->say)
			s->config->say(s->config->ctx, s->settings->name, why);
	}
	tell(s, why);
	/* A connection that was lost to the database may have been the reason. */
	audit_reader_close(s->reader);
	s->reader = NULL;
	return sink_delay_ms(s->in_row, random);
}

static void worked(struct sink *s)
{
	if (!s->in_row)
		return;
	s->in_row = 0;
	s->since_ms = 0;
	tell(s, NULL);
	if (s->config->say)
		s->config->say(s->config->ctx, s->settings->name, NULL);
}

int64_t sink_delay_ms(uint32_t failures, uint32_t random)
{
	int64_t ms = SINK_BACKOFF_MS;

	for (uint32_t i = 1; i < failures && ms < SINK_BACKOFF_MAX_MS; i++)
		ms *= 2;
	if (ms > SINK_BACKOFF_MAX_MS)
		ms = SINK_BACKOFF_MAX_MS;
	return ms / 2 + (int64_t)(random % (uint32_t)(ms / 2 + 1));
}

int64_t sink_step(struct sink *s, uint32_t random)
{
	struct err e = { 0 };

	if (!s->placed && !read_cursor(s, &e))
		return failed(s, &e, random);
	if (!gather(s, &e))
		return failed(s, &e, random);
	if (!s->page.n)
		return SINK_POLL_MS;
	if (!ops_of[s->settings->type]->send(&s->out, &s->page, &e)) {
		if (atomic_load(&s->stop))
			return 0;
		return failed(s, &e, random);
	}
	/* Taken. If the cursor cannot be kept the page goes out again, which is allowed; but not
	 * again and again at full speed. */
	if (!write_cursor(s, s->page.last + 1, &e))
		return failed(s, &e, random);
	atomic_store(&s->next, s->page.last + 1);
	atomic_fetch_add(&s->sent, s->page.n);
	worked(s);
	return 0;
}

void sink_status(struct sink *s, struct sink_status *out)
{
	struct trouble *t = (struct trouble *)slot_acquire(&s->trouble);

	*out = (struct sink_status){ .name = s->settings->name,
				     .type = sink_type_names[s->settings->type],
				     .format = s->settings->format->name,
				     .next = atomic_load(&s->next),
				     .sent = atomic_load(&s->sent),
				     .failures = atomic_load(&s->failures),
				     .rejected = atomic_load(&s->out.rejected) };
	if (t) {
		out->in_row = t->in_row;
		out->since_ms = t->since_ms;
		out->why = t->why;
	}
	shared_release(t ? &t->shared : NULL);
}

/* ---- life ---- */

bool sink_new(const struct sinks_config *c, size_t i, struct sink **out, struct err *e)
{
	struct sink *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(e, ERR_NOMEM, "no memory for a sink");
	s->config = c;
	s->settings = &c->items[i];
	s->out = (struct sink_out){ .settings = s->settings,
				    .config = c,
				    .stop = &s->stop,
				    .fd = -1,
				    .conn = { .fd = -1 },
				    .rows = SINK_PAGE_ROWS };
	slot_init(&s->trouble);
	buf_init(&s->page.text, mem_system, SINK_PAGE_BYTES + 2 * (size_t)FORMAT_ROW_MAX);
	buf_init(&s->scratch, mem_system, FORMAT_LEAF_MAX + 1);
	snprintf(s->cursor, sizeof(s->cursor), "sink-%s", s->settings->name);
	s->folder = open(c->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->folder < 0)
		err_set(e, ERR_IO, "%s: %s", c->folder, strerror(errno));
	else
		s->sha = sha256_new(e);
	if (!s->sha) {
		sink_free(s);
		return false;
	}
	*out = s;
	return true;
}

void sink_free(struct sink *s)
{
	if (!s)
		return;
	audit_reader_close(s->reader);
	sink_out_close(&s->out);
	sha256_free(s->sha);
	slot_clear(&s->trouble);
	buf_clear(&s->page.text);
	buf_clear(&s->scratch);
	queue_free(s->inbox);
	if (s->folder >= 0)
		close(s->folder);
	free(s);
}

static void *sink_thread(void *arg)
{
	struct sink *s = arg;
	struct chain nothing;
	uint32_t random;

	background_thread();
	while (!atomic_load(&s->stop)) {
		int64_t ms;

		random_bytes(&random, sizeof(random));
		ms = sink_step(s, random);
		if (ms && !atomic_load(&s->stop))
			(void)queue_wait(s->inbox, &nothing, (int)ms);
	}
	return NULL;
}

static bool run(struct sink *s, struct err *e)
{
	int rc;

	s->inbox = queue_new(1, false, e);
	if (!s->inbox)
		return false;
	rc = pthread_create(&s->thread, NULL, sink_thread, s);
	if (rc)
		return err_set(e, ERR_INTERNAL, "cannot start a sink: %s", strerror(rc));
	s->running = true;
	return true;
}

bool sinks_open(const struct sinks_config *c, struct sinks **out, struct err *e)
{
	struct sinks *s = calloc(1, sizeof(*s));
	bool ok = s || err_set(e, ERR_NOMEM, "no memory for the sinks");

	if (s)
		s->config = *c;
	for (size_t i = 0; ok && i < c->n && i < SINKS_MAX; i++) {
		ok = sink_new(&s->config, i, &s->items[i], e);
		s->n += ok;
		ok = ok && run(s->items[i], e);
	}
	if (!ok) {
		sinks_close(s);
		return false;
	}
	*out = s;
	return true;
}

void sinks_close(struct sinks *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n; i++) {
		atomic_store(&s->items[i]->stop, true);
		if (s->items[i]->running)
			queue_wake(s->items[i]->inbox);
	}
	for (size_t i = 0; i < s->n; i++) {
		if (s->items[i]->running)
			pthread_join(s->items[i]->thread, NULL);
		sink_free(s->items[i]);
	}
	free(s);
}

size_t sinks_count(const struct sinks *s)
{
	return s ? s->n : 0;
}

void sinks_status(struct sinks *s, size_t i, struct sink_status *out)
{
	sink_status(s->items[i], out);
}

bool sink_target_ok(enum sink_type type, const char *target, struct err *e)
{
	struct sink_address address;
	struct fetch_url url;

	if (type == SINK_SYSLOG)
		return sink_address_parse(target, &address, e);
	if (type == SINK_WEBHOOK || type == SINK_OTLP)
		return fetch_url_parse_local(str_c(target), &url, e);
	return true;
}
