/*
 * A whole export, on one core or several.
 *
 * A record's place and its chain can be checked from any record on, and a span of the tree from
 * any number on. So the file is cut at records, each piece is checked by a thread of its own, and
 * the pieces are joined: the next one must begin with the number, and follow the hash, that the one
 * before ended with. That is enough to see that all holds. If anything does not, the file is read
 * once more from its beginning to end: telling what was done needs the order.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/audit/flat.h"
#include "authz/audit/verify_parts.h"
#include "authz/base/text.h"

#define PIECE (256 * 1024)
#define SEGMENT_LEAST (1024 * 1024) /* bytes worth a thread */
#define SEGMENTS_MAX 64
#define WINDOW (4 * 1024 * 1024) /* where the first record of a segment is looked for, */
#define WINDOW_FIRST (64 * 1024) /* nearly always found in this much */

struct segment {
	int fd;
	off_t from, to;
	uint64_t first; /* its first record's number */
	struct verifier *v;
	const struct alloc *alloc;
	pthread_t thread;
	bool started, read;
};

/* --- reading --- */

static bool read_piece(int fd, char *p, size_t n, off_t at, size_t *got)
{
	ssize_t k;

	do
		k = pread(fd, p, n, at);
	while (k < 0 && errno == EINTR);
	*got = k > 0 ? (size_t)k : 0;
	return k >= 0;
}

static void *run_segment(void *segment)
{
	struct segment *s = segment;
	char *piece = mem_new(s->alloc, PIECE);
	size_t got = 1;

	s->read = piece != NULL;
	for (off_t at = s->from; s->read && at < s->to && got; at += (off_t)got) {
		size_t n = s->to - at < PIECE ? (size_t)(s->to - at) : PIECE;

		s->read = read_piece(s->fd, piece, n, at, &got);
		verifier_feed(s->v, (struct str){ piece, got });
		if (s->v->report.fault || s->v->stage == STAGE_UNREADABLE)
			break;
	}
	if (piece)
		mem_free(s->alloc, piece, PIECE);
	return NULL;
}

/* The first record that begins behind @at: where, and its number. */
static bool find_record(int fd, off_t at, const struct alloc *alloc, off_t *from, uint64_t *seq)
{
	char *window = mem_new(alloc, WINDOW);
	bool found = false;
	struct leaf leaf;

	if (!window)
		return false;
	for (size_t n = WINDOW_FIRST; !found && n <= WINDOW; n *= 8) {
		struct str rest = { window, 0 }, line;

		/* The line that @at lies in is the segment's before. */
		if (!read_piece(fd, window, n, at, &rest.n) || !str_cut(rest, '\n', &line, &rest))
			continue;
		while (!found && str_cut(rest, '\n', &line, &rest))
			if (leaf_scan(line, &leaf)) {
				*from = at + (off_t)(line.p - window);
				*seq = leaf.seq;
				found = true;
			}
	}
	mem_free(alloc, window, WINDOW);
	return found;
}

/* --- cutting and joining --- */

/* How many segments were made; the first belongs to the whole's own verifier. */
static size_t cut(struct segment *s, size_t n, int fd, off_t size, struct verifier *whole,
		  const struct verify_options *o)
{
	size_t made = 1;

	s[0] = (struct segment){ .fd = fd, .to = size, .v = whole, .alloc = whole->alloc };
	for (size_t i = 1; i < n; i++) {
		struct segment next = { .fd = fd, .to = size, .alloc = whole->alloc };
		struct err e;

		if (!find_record(fd, size / (off_t)n * (off_t)i, whole->alloc, &next.from,
				 &next.first) ||
		    next.from <= s[made - 1].from || next.first > (uint64_t)TREE_SIZE_MAX ||
		    !verifier_new(o, &next.v, &e))
			continue;
		next.v->segment = true;
		next.v->stage = STAGE_BODY;
		next.v->openings = true;
		verify_range(next.v, next.first, (uint64_t)TREE_SIZE_MAX, 0);
		s[made - 1].to = next.from;
		s[made++] = next;
	}
	whole->segment = true;
	return made;
}

static bool whole_so_far(const struct verifier *v)
{
	return !v->report.fault && v->chain.stage == CHAIN_FITS && !v->line.n &&
	       (v->stage == STAGE_BODY || v->stage == STAGE_AFTER) && buf_ok(&v->tail);
}

/* @v and then @s are one span of records. */
static bool join(struct verifier *v, struct verifier *s)
{
	char hex[2 * SHA256_LEN];

	text_hex(v->chain.before.hash, SHA256_LEN, hex);
	/* Nothing is too many, and the spans hold what was counted. */
	if (v->stage != STAGE_BODY || !v->records || !s->records || v->chain.expect != s->first ||
	    v->span.from + v->span.n != s->first || s->span.n != s->records ||
	    v->records > v->count || s->records > v->count - v->records ||
	    memcmp(hex, s->before_first, sizeof(hex)) != 0)
		return false;
	verify_redacted(v);
	verify_redacted(s);
	if (v->has_held && v->held.size > s->first && v->held.size <= s->first + s->records) {
		v->at_held = v->span;
		for (size_t i = 0; i < s->at_held.count; i++)
			tree_span_append_node(&v->at_held, v->sha, s->at_held.level[i],
					      s->at_held.hash[i]);
	}
	for (size_t i = 0; i < s->span.count; i++)
		tree_span_append_node(&v->span, v->sha, s->span.level[i], s->span.hash[i]);
	if (s->rotated_often || s->rotated.n > ROTATIONS_MAX - v->rotated.n)
		v->rotated_often = true;
	for (size_t i = 0; i < s->rotated.n && v->rotated.n < ROTATIONS_MAX; i++)
		v->rotated.at[v->rotated.n++] = s->rotated.at[i];
	if (s->prune.to)
		v->prune = s->prune;
	v->records += s->records;
	v->chain.expect = s->chain.expect;
	v->chain.before = s->chain.before;
	v->report.openings += s->report.openings;
	v->report.withheld += s->report.withheld;
	v->report.redacted += s->report.redacted;
	v->stage = s->stage;
	return true;
}

static bool join_all(struct segment *s, size_t n)
{
	struct verifier *v = s[0].v;
	const struct verifier *last = s[n - 1].v;

	for (size_t i = 0; i < n; i++)
		if (!s[i].read || !whole_so_far(s[i].v) || (i && !join(v, s[i].v)))
			return false;
	if (v->records > v->count || last->stage != STAGE_AFTER)
		return false;
	v->segment = false;
	v->stage = STAGE_BODY;
	verifier_feed(v, buf_str(&last->tail));
	return true;
}

/* True: all of it holds, and *r says so. */
static bool verify_segments(int fd, off_t size, const struct verify_options *o,
			    struct verify_report *r)
{
	struct segment s[SEGMENTS_MAX];
	size_t n = (size_t)(size / SEGMENT_LEAST), made;
	struct verifier *whole;
	struct err e;
	bool ok;

	if (n > o->threads)
		n = o->threads;
	if (n > SEGMENTS_MAX)
		n = SEGMENTS_MAX;
	if (n < 2 || !verifier_new(o, &whole, &e))
		return false;
	made = cut(s, n, fd, size, whole, o);
	for (size_t i = 1; i < made; i++)
		s[i].started = pthread_create(&s[i].thread, NULL, run_segment, &s[i]) == 0;
	(void)run_segment(&s[0]);
	for (size_t i = 1; i < made; i++)
		if (s[i].started)
			pthread_join(s[i].thread, NULL);
	ok = join_all(s, made);
	if (ok)
		verifier_finish(whole, r);
	for (size_t i = 0; i < made; i++)
		verifier_free(s[i].v);
	return ok && (r->result == VERIFY_HOLDS || r->result == VERIFY_UNAUTHENTICATED);
}

/* --- one after the other --- */

static bool verify_stream(int fd, const struct verify_options *o, struct verify_report *r,
			  struct err *e)
{
	const struct alloc *alloc = o->alloc ? o->alloc : &mem_system;
	struct verifier *v = NULL;
	char *piece;
	ssize_t n;

	if (!verifier_new(o, &v, e))
		return false;
	assert(v);
	piece = mem_new(alloc, PIECE);
	if (!piece) {
		verifier_free(v);
		return err_set(e, ERR_NOMEM, "no memory to verify");
	}
	while ((n = read(fd, piece, PIECE)) != 0) {
		if (n > 0)
			verifier_feed(v, (struct str){ piece, (size_t)n });
		else if (errno != EINTR)
			break;
	}
	if (n < 0) {
		verify_unreadable(v, "it cannot be read");
		err_set(&v->report.why, ERR_IO, "cannot read the export: %s", strerror(errno));
	}
	verifier_finish(v, r);
	mem_free(alloc, piece, PIECE);
	verifier_free(v);
	return true;
}

bool verify_fd(int fd, const struct verify_options *o, struct verify_report *r, struct err *e)
{
	struct stat st;

	if (o->threads > 1 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    lseek(fd, 0, SEEK_CUR) == 0 && verify_segments(fd, st.st_size, o, r))
		return true;
	return verify_stream(fd, o, r, e);
}
