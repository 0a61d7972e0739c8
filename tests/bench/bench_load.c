/*
 * The load generator: one thread, epoll, HTTP/1.1 or HTTP/2, TLS with client certificates, Unix
 * sockets; as fast as answered, or at a fixed rate. `bench_load --help` says how.
 *
 * At a fixed rate latency counts from the moment a request was due if it had to wait for a free
 * connection (else a slow server would slow down the questions and look fast), but from its
 * sending if only the timer of this program was late.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>

#include "tests/bench/load_lane.h"

#define DRAIN_NS 2000000000LL /* for what is under way at the end */
#define REOPEN_MAX 1000	      /* per connection, when it broke */

int64_t load_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void load_number(char *bytes, const struct template *t, uint64_t number)
{
	char *p = bytes + t->at;

	for (size_t i = t->width; i-- > 1; number /= 10)
		p[i] = (char)('0' + number % 10);
	p[0] = '1';
}

static void find_run(struct template *t)
{
	const char *at = t->bytes && t->n ? memchr(t->bytes, '@', t->n) : NULL;

	if (!at)
		return;
	t->at = (size_t)(at - t->bytes);
	while (t->at + t->width < t->n && t->bytes[t->at + t->width] == '@')
		t->width++;
	if (t->width < 4) /* an ordinary '@' of an address is left alone */
		t->width = 0;
}

static bool read_body(struct load *l, struct err *e)
{
	FILE *f = l->o.body_file ? fopen(l->o.body_file, "rb") : NULL;
	const size_t max = 16 * 1024 * 1024;

	if (!l->o.body_file)
		return true;
	if (!f)
		return err_set(e, ERR_IO, "--body %s: %s", l->o.body_file, strerror(errno));
	l->body.bytes = malloc(max);
	if (l->body.bytes)
		l->body.n = fread(l->body.bytes, 1, max, f);
	fclose(f);
	if (!l->body.n)
		return err_set(e, ERR_IO, "--body %s: cannot be read, or is empty", l->o.body_file);
	find_run(&l->body);
	return true;
}

/* The bytes of an HTTP/1.1 request, once for all. */
static bool build_request(struct load *l, struct err *e)
{
	const struct options *o = &l->o;
	size_t room = l->body.n + strlen(o->path) + 65536;
	char *p = malloc(room);
	int n;

	l->request.bytes = p;
	if (!p)
		return err_set(e, ERR_NOMEM, "out of memory");
	n = snprintf(p, room, "%s %s HTTP/1.1\r\nHost: localhost\r\n", o->method, o->path);
	for (unsigned i = 0; i < o->nheaders; i++)
		n += snprintf(p + n, room - (size_t)n, "%.4000s\r\n", o->headers[i]);
	if (l->body.n)
		n += snprintf(p + n, room - (size_t)n,
			      "Content-Type: application/json\r\nContent-Length: %zu\r\n",
			      l->body.n);
	n += snprintf(p + n, room - (size_t)n, "\r\n");
	if (l->body.n)
		memcpy(p + n, l->body.bytes, l->body.n);
	l->request = (struct template){ .bytes = p, .n = (size_t)n + l->body.n };
	if (l->body.width) {
		l->request.at = (size_t)n + l->body.at;
		l->request.width = l->body.width;
	}
	return true;
}

/* Answers are alike: the text is most often where it was in the last one. */
static bool has_expected(struct load *l, struct str body)
{
	const char *at;

	if (str_starts(str_from(body, l->expect_at), l->expect))
		return true;
	at = body.n ? memmem(body.p, body.n, l->expect.p, l->expect.n) : NULL;
	if (at)
		l->expect_at = (size_t)(at - body.p);
	return at != NULL;
}

void load_answered(struct lane *c, const struct answer *a)
{
	struct load *l = c->load;
	struct stats *s = &l->stats;
	bool good = a->status >= 200 && a->status < 300;
	bool right = (!l->o.grpc || a->grpc == 0) && has_expected(l, a->body);

	if (l->answers) {
		fwrite(a->body.p, 1, a->body.n, l->answers);
		fputc('\n', l->answers);
	}
	if ((!good && !s->non_2xx) || (good && !right && !s->wrong))
		fprintf(stderr, "first %s answer: %d%s %.*s\n", good ? "wrong" : "refusing",
			a->status, l->o.grpc && a->grpc ? ", grpc-status not 0:" : "",
			(int)(a->body.n < 500 ? a->body.n : 500), a->body.n ? a->body.p : "");
	/* Mistakes count at any time, speed only in the window. */
	s->non_2xx += !good;
	s->wrong += good && !right;
	s->statuses[a->status]++;
	if (l->measuring)
		load_stats_add(s, a->latency);
}

static bool begin(struct lane *c, int64_t start)
{
	struct load *l = c->load;

	l->number++;
	return l->o.streams ? load_h2_request(c, start) : load_h1_request(c, start);
}

bool load_next(struct lane *c)
{
	struct load *l = c->load;
	int64_t now;

	if (l->o.rate) {
		if (!c->listed)
			l->idle[l->nidle++] = c;
		c->listed = true;
		return true;
	}
	now = load_now();
	while (c->inflight < c->slots && !l->stopping && l->number < l->allowed)
		if (!begin(c, now))
			return false;
	return true;
}

/* The connection is beyond use: count what that costs, and open it again. */
static void lost(struct lane *c)
{
	struct load *l = c->load;
	bool clean = c->inflight == 0;
	struct err e;

	l->stats.broken += c->inflight;
	l->stats.reopened++;
	lane_shut(c);
	l->open--;
	if (l->stopping || (!clean && ++c->reopenings > REOPEN_MAX))
		return;
	if (!lane_open(c, &e)) {
		lane_shut(c);
		return;
	}
	if (!load_next(c) || (l->o.streams && !load_h2_flush(c))) {
		l->stats.broken += c->inflight;
		lane_shut(c);
		l->open--;
	}
}

static void serve(struct lane *c, uint32_t events)
{
	bool ok = true;

	if (c->fd < 0)
		return;
	if (events & EPOLLOUT)
		ok = lane_flush(c);
	if (ok && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		ok = c->load->o.streams ? load_h2_readable(c) : load_h1_readable(c);
	if (!ok)
		lost(c);
}

/* Rate mode: begin what is due. Returns when the next is. */
static int64_t keep_pace(struct load *l, int64_t t0, bool *behind)
{
	for (;;) {
		int64_t due = t0 + (int64_t)((double)l->number * 1e9 / l->o.rate), now = load_now();
		struct lane *c = NULL;

		if (l->stopping || l->number >= l->allowed || due > now) {
			*behind = false;
			return due;
		}
		/* Whether there is a free slot is seen here; who has none is listed again when
		 * an answer has come. */
		while (l->nidle && !c) {
			c = l->idle[l->nidle - 1];
			if (c->fd >= 0 && c->inflight < c->slots)
				break;
			c->listed = false;
			c = NULL;
			l->nidle--;
		}
		if (!c) {
			*behind = true;
			return due;
		}
		if (!begin(c, *behind ? due : now) || (l->o.streams && !load_h2_flush(c)))
			lost(c);
	}
}

static void run(struct load *l)
{
	struct epoll_event events[512];
	int64_t t0 = load_now(), start = t0 + (int64_t)(l->o.warmup * 1e9), end, next = 0;
	bool behind = false;

	end = l->o.count ? INT64_MAX - DRAIN_NS : start + (int64_t)(l->o.seconds * 1e9);
	l->stats.began_ns = start;
	l->measuring = l->o.warmup == 0;
	while (l->open) {
		int64_t now = load_now(), wait = 100000000;
		struct timespec ts;
		int n;

		if (!l->measuring && !l->stopping && now >= start) {
			l->measuring = true;
			l->stats.began_ns = now;
		}
		if (!l->stopping && (now >= end || (l->number >= l->allowed && l->inflight == 0))) {
			l->stopping = true;
			l->measuring = false;
			l->stats.ended_ns = now;
		}
		if (l->stopping && (l->inflight == 0 || now > l->stats.ended_ns + DRAIN_NS))
			break;
		if (l->o.rate && !l->stopping) {
			next = keep_pace(l, t0, &behind) - load_now();
			wait = behind || next > wait ? wait : next < 0 ? 0 : next;
		}
		ts = (struct timespec){ .tv_nsec = wait };
		n = epoll_pwait2(l->epoll, events, ARRAY_LEN(events), &ts, NULL);
		for (int i = 0; i < n; i++)
			serve(events[i].data.ptr, events[i].events);
	}
	l->stats.broken += l->inflight;
	if (!l->stats.ended_ns)
		l->stats.ended_ns = load_now();
}

static bool prepare(struct load *l, struct err *e)
{
	const struct options *o = &l->o;

	l->allowed = o->count ? o->count : UINT64_MAX;
	l->expect = str_c(o->expect);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->lanes = calloc(o->connections, sizeof(*l->lanes));
	l->idle = calloc(o->connections, sizeof(void *));
	if (l->epoll < 0 || !l->lanes || !l->idle)
		return err_set(e, ERR_NOMEM, "out of memory or descriptors");
	for (unsigned i = 0; i < o->connections; i++)
		l->lanes[i] = (struct lane){ .load = l, .fd = -1 };
	if (!read_body(l, e) || !build_request(l, e) || (o->tls && !lane_tls(l, e)))
		return false;
	if (o->answers && !(l->answers = fopen(o->answers, "ae")))
		return err_set(e, ERR_IO, "--answers %s: %s", o->answers, strerror(errno));
	for (unsigned i = 0; i < o->connections; i++)
		if (!lane_open(&l->lanes[i], e))
			return false;
	for (unsigned i = 0; i < o->connections; i++) {
		struct lane *c = &l->lanes[i];

		if (!load_next(c) || (o->streams && !load_h2_flush(c)))
			return err_set(e, ERR_IO, "%s closed a new connection", o->to);
	}
	return true;
}

static void load_clear(struct load *l)
{
	for (unsigned i = 0; l->lanes && i < l->o.connections; i++)
		lane_free(&l->lanes[i]);
	free(l->lanes);
	free(l->idle);
	free(l->body.bytes);
	free(l->request.bytes);
	SSL_CTX_free(l->tls);
	if (l->answers)
		fclose(l->answers);
}

int main(int argc, char **argv)
{
	static struct load l;
	struct err e = { 0 };
	int rc = 2;

	prctl(PR_SET_TIMERSLACK, 1UL); /* the default of 50 us is as long as what is measured */
	if (!load_options_parse(&l.o, argc, argv, &e)) {
		fprintf(stderr, "bench_load: %s\n", e.msg);
		return 2;
	}
	if (prepare(&l, &e)) {
		run(&l);
		load_stats_print(&l.stats, &l.o);
		rc = !l.o.tolerant &&
		     (l.stats.non_2xx || l.stats.wrong || l.stats.broken || !l.stats.requests);
	} else {
		fprintf(stderr, "bench_load: %s\n", e.msg);
	}
	load_clear(&l);
	return rc;
}
