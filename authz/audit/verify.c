/*
 * One pass. Records go through the chain (which finds where something was done) and the tree
 * (which alone proves that nothing was); the trailer then brings the signed root. After the first
 * fault the rest is only read for its counts.
 */
#include "authz/audit/verify.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "authz/audit/diagnose.h"
#include "authz/audit/envelope.h"
#include "authz/audit/export.h"
#include "authz/audit/flat.h"
#include "authz/audit/note.h"
#include "authz/base/text.h"

enum stage { STAGE_HEADER, STAGE_BODY, STAGE_AFTER, STAGE_UNREADABLE };

struct verifier {
	const struct alloc *alloc;
	struct sha256 *sha;
	struct buf line; /* an unfinished one */
	struct note_key key;
	bool has_key, has_held;
	struct buf held_text;
	struct checkpoint held; /* origin points into held_text */

	enum stage stage;
	uint64_t lines, first, count, size; /* of the header */
	bool openings;			    /* the header announces some */
	char header[2 * SHA256_LEN];	    /* hash of its line */
	struct chain_state chain;
	struct tree_span span, at_held; /* at_held: when the held size was reached */
	uint64_t records;
	char commits[OPENING_COUNT][2 * SHA256_LEN]; /* of the last leaf */
	unsigned committed, opened;		     /* bits of them */
	bool leaf_fits;				     /* the last record is a leaf that fits */
	struct verify_report report;
};

/* --- verdicts --- */

/* The first fault is the one that is told. */
static void fault(struct verifier *v, enum verify_fault f, const char *fmt, ...) PRINTF(3, 4);

static void fault(struct verifier *v, enum verify_fault f, const char *fmt, ...)
{
	va_list ap;
	char text[sizeof(v->report.why.msg)];

	if (v->report.fault)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	v->report.fault = f;
	err_code(&v->report.why, ERR_INVALID, verify_fault_name(f), "%s", text);
}

static void bad_record(struct verifier *v, uint64_t seq, uint64_t end)
{
	if (v->report.has_bad)
		return;
	v->report.has_bad = true;
	v->report.bad_seq = seq;
	v->report.bad_end = end;
}

static void unreadable(struct verifier *v, const char *what)
{
	v->stage = STAGE_UNREADABLE;
	err_set(&v->report.why, ERR_INVALID, "not a writ export: %s", what);
}

static void tell_chain(struct verifier *v)
{
	const struct chain_state *c = &v->chain;
	uint64_t at = c->bad_seq;

	if (v->report.fault || c->stage != CHAIN_BROKEN)
		return;
	switch (c->fault) {
	case FAULT_DELETION:
		fault(v, c->fault, "record %" PRIu64 " is missing (%" PRIu64 " in a row)", at,
		      c->bad_count);
		break;
	case FAULT_INSERTION:
		fault(v, c->fault, "at record %" PRIu64 " there is one too many", at);
		break;
	case FAULT_SWAP:
		fault(v, c->fault, "record %" PRIu64 " changed places with a later one", at);
		break;
	default:
		fault(v, c->fault, "record %" PRIu64 " was changed", at);
		break;
	}
	bad_record(v, at, at + c->bad_count);
}

/* --- the header --- */

static void on_header(struct verifier *v, struct str line)
{
	const struct str begins = STR("{\"header\":");
	uint8_t hash[SHA256_LEN];
	struct envelope x;

	if (!str_starts(line, begins) || !envelope_read(line, begins.n, ENVELOPE_HEADER, &x) ||
	    x.openings > 1) {
		unreadable(v, "it does not begin with a header");
		return;
	}
	if (!str_eq(x.format, STR(AUDIT_EXPORT_FORMAT))) {
		unreadable(v, "its format is not " AUDIT_EXPORT_FORMAT);
		return;
	}
	v->stage = STAGE_BODY;
	v->openings = x.openings;
	sha256_of(v->sha, line, hash);
	text_hex(hash, SHA256_LEN, v->header);
	v->first = v->report.first = v->span.from = x.first;
	v->count = v->report.count = x.count;
	v->size = v->report.size = x.size;
	snprintf(v->report.origin, sizeof(v->report.origin), "%.*s",
		 STR_FMT(str_first(x.origin, sizeof(v->report.origin) - 1)));
	chain_start(&v->chain, x.first);
	if (v->has_held && v->held.size == x.first)
		v->at_held = v->span;
	if (!x.count)
		fault(v, FAULT_EMPTY, "the export holds no records");
	else if (x.first > x.size || x.count > x.size - x.first)
		fault(v, FAULT_COUNT,
		      "the header claims records %" PRIu64 " to %" PRIu64 " of a log of %" PRIu64,
		      x.first, x.first + x.count - 1, x.size);
}

/* --- records and openings --- */

/* Commitments of the record before that nothing opened. */
static void count_redacted(struct verifier *v)
{
	v->report.redacted += (uint64_t)__builtin_popcount(v->committed & ~v->opened);
	v->committed = v->opened = 0;
}

static void on_record(struct verifier *v, const struct chain_record *r)
{
	count_redacted(v);
	v->records++;
	v->leaf_fits = chain_next(&v->chain, r) && r->is_leaf;
	/* More than were announced: the end will say so; the tree cannot hold them. */
	if (v->chain.stage != CHAIN_FITS || v->records > v->count || v->report.fault)
		return;
	tree_span_append(&v->span, v->sha, r->hash);
	if (v->has_held && v->first + v->records == v->held.size)
		v->at_held = v->span;
}

static void on_leaf(struct verifier *v, struct str line)
{
	struct chain_record r = { .present = true, .is_leaf = true };
	struct leaf leaf;

	r.shaped = leaf_scan(line, &leaf);
	r.seq = leaf.seq;
	if (r.shaped)
		memcpy(r.prev, leaf.prev.p, sizeof(r.prev));
	tree_leaf_hash(v->sha, line, r.hash);
	on_record(v, &r);
	for (enum opening o = OPENING_ANSWER; r.shaped && o < OPENING_COUNT; o++) {
		if (!leaf.commits[o].n)
			continue;
		memcpy(v->commits[o], leaf.commits[o].p, sizeof(v->commits[o]));
		v->committed |= 1u << o;
	}
}

static void on_withheld(struct verifier *v, struct str line, size_t prefix)
{
	struct chain_record r = { .present = true, .seq = v->chain.expect };

	r.shaped = line.n == prefix + 2 * SHA256_LEN + 2 && str_ends(line, STR("\"}")) &&
		   text_unhex(str_first(str_from(line, prefix), 2 * SHA256_LEN), r.hash,
			      SHA256_LEN);
	v->report.withheld++;
	on_record(v, &r);
}

static bool take(struct str *s, struct str lit)
{
	if (!str_starts(*s, lit))
		return false;
	*s = (struct str){ s->p + lit.n, s->n - lit.n };
	return true;
}

/* The value is the rest of the line: its bytes are what was committed to. */
static bool open_commitment(struct verifier *v, struct str s)
{
	uint8_t salt[SALT_LEN], hash[SHA256_LEN];
	char hex[2 * SHA256_LEN];
	struct str seq, name = { 0 };
	enum opening o;
	uint64_t n;

	for (o = OPENING_ANSWER; o < OPENING_COUNT; o++)
		if (take(&s, record_opening_name(o))) {
			name = record_opening_name(o);
			break;
		}
	if (!name.p || !take(&s, STR("\",\"salt\":\"")) ||
	    !text_unhex(str_first(s, 2 * SALT_LEN), salt, SALT_LEN))
		return false;
	s = str_from(s, 2 * SALT_LEN);
	if (!take(&s, STR("\",\"seq\":")) || !str_cut(s, ',', &seq, &s) ||
	    !text_u64(seq, INT64_MAX, &n) || n != v->chain.before.seq ||
	    !take(&s, STR("\"value\":")) || s.n < 3 || !str_ends(s, STR("}}")))
		return false;
	s.n -= 2;
	if (!(v->committed & 1u << o) || (v->opened & 1u << o))
		return false;
	v->opened |= 1u << o;
	record_commitment(v->sha, name, salt, s, hash);
	text_hex(hash, SHA256_LEN, hex);
	return memcmp(hex, v->commits[o], sizeof(hex)) == 0;
}

static void on_opening(struct verifier *v, struct str rest)
{
	v->report.openings++;
	if (v->report.fault || v->chain.stage != CHAIN_FITS)
		return;
	if (v->leaf_fits && open_commitment(v, rest))
		return;
	fault(v, FAULT_OPENING,
	      "an opening after record %" PRIu64 " is not what the record committed to",
	      v->first + v->records - 1);
	if (v->records)
		bad_record(v, v->first + v->records - 1, v->first + v->records);
}

/* --- the end --- */

static void check_counts(struct verifier *v, const struct envelope *x)
{
	uint64_t end = v->first + v->records;

	chain_end(&v->chain);
	tell_chain(v);
	if (v->records < v->count) {
		fault(v, FAULT_TRUNCATION,
		      "records from %" PRIu64 " on are missing: %" PRIu64 " of %" PRIu64
		      " are here",
		      end, v->records, v->count);
		bad_record(v, end, v->first + v->count);
	} else if (v->records > v->count) {
		fault(v, FAULT_INSERTION,
		      "record %" PRIu64 " and what follows are too many: "
		      "%" PRIu64 " were announced",
		      v->first + v->count, v->count);
		bad_record(v, v->first + v->count, end);
	}
	if (x->count != v->count || x->first != v->first || x->size != v->size ||
	    x->withheld != v->report.withheld || x->openings != v->report.openings ||
	    (x->openings && !v->openings))
		fault(v, FAULT_COUNT,
		      "the trailer's counts are not those of the header and the records");
}

/* Which part of the tree is another than the one that was signed? @range comes from the file, and
 * is believed only if it makes the signed root. */
static void locate(struct verifier *v, struct str range, const uint8_t root[static SHA256_LEN])
{
	uint64_t lo = v->first, hi = v->first + v->records;
	struct tree_proof nodes;
	struct tree_range stored;
	uint8_t got[SHA256_LEN];
	size_t i = 0;

	if (v->first == 0 && v->records == v->size && envelope_hashes(range, &nodes) &&
	    tree_range_load(&stored, v->size,
			    (struct str){ (const char *)nodes.hash, nodes.n * SHA256_LEN })) {
		tree_root(&stored, v->sha, got);
		if (memcmp(got, root, SHA256_LEN) == 0) {
			/* Biggest first on both sides; the first that differs holds the change. */
			for (hi = 0; i < v->span.count; i++) {
				lo = hi;
				hi += UINT64_C(1) << v->span.level[i];
				if (memcmp(v->span.hash[i], nodes.hash[i], SHA256_LEN) != 0)
					break;
			}
		}
	}
	if (hi - lo == 1)
		fault(v, FAULT_EDIT, "record %" PRIu64 " was changed", lo);
	else
		fault(v, FAULT_REWRITE,
		      "a record from %" PRIu64 " to %" PRIu64 " was changed and those after it "
		      "chained anew: the signed root is another",
		      lo, hi - 1);
	bad_record(v, lo, hi);
}

static void check_held(struct verifier *v, const struct tree_proof *hints)
{
	uint64_t m = v->held.size, end = v->first + v->records;
	uint8_t root[SHA256_LEN];
	bool known = false;

	if (m == v->size) {
		memcpy(root, v->report.root, SHA256_LEN);
		known = true;
	} else if (m >= v->first && m <= end) {
		known = tree_span_root(&v->at_held, v->sha, hints, root);
	} else if (m > v->size) {
		v->report.continuity = VERDICT_NO;
		fault(v, FAULT_TRUNCATION,
		      "the export is of a log of %" PRIu64
		      " records, the checkpoint held before of "
		      "%" PRIu64,
		      v->size, m);
		bad_record(v, v->size, m);
		return;
	}
	if (!known)
		return;
	v->report.continuity = memcmp(root, v->held.root, SHA256_LEN) == 0 ? VERDICT_YES
									   : VERDICT_NO;
	if (v->report.continuity == VERDICT_NO)
		fault(v, FAULT_FORK,
		      "the first %" PRIu64
		      " records are not those of the checkpoint held before: two "
		      "histories were signed",
		      m);
}

static void check_signature(struct verifier *v, struct str note, struct checkpoint *c)
{
	struct note parsed;
	struct err e;

	if (!note_parse(note, &parsed, &e) || !checkpoint_parse(parsed.text, c, &e)) {
		fault(v, FAULT_SIGNATURE, "the trailer's checkpoint: %s", e.msg);
		c->size = UINT64_MAX;
		return;
	}
	if (!v->has_key)
		return;
	v->report.authenticity = VERDICT_NO;
	if (!checkpoint_open(note, &v->key, c, &e)) {
		fault(v, FAULT_SIGNATURE, "the trailer's checkpoint: %s", e.msg);
		return;
	}
	v->report.authenticity = VERDICT_YES;
	snprintf(v->report.key_id, sizeof(v->report.key_id), "%08x", v->key.id);
}

static bool same_origin(const struct verifier *v, struct str signed_one)
{
	AUTO_BUF text; /* as the header spells it, in quotes */
	size_t max = sizeof(v->report.origin) - 1;

	buf_init(&text, *v->alloc, NOTE_MAX);
	buf_json(&text, signed_one);
	return buf_ok(&text) && text.n >= 2 &&
	       str_eq(str_first((struct str){ text.p + 1, text.n - 2 }, max),
		      str_c(v->report.origin));
}

/* What proves nothing about the records must still be what the exporter wrote. */
static void check_rest(struct verifier *v, const struct envelope *x, const struct checkpoint *c)
{
	uint8_t root[SHA256_LEN];
	struct tree_range stored;
	struct tree_proof nodes;

	if (!str_eq(x->header, (struct str){ v->header, sizeof(v->header) }))
		fault(v, FAULT_COUNT, "the header is not the one that the trailer was written for");
	else if (!same_origin(v, c->origin))
		fault(v, FAULT_COUNT, "the header names another log than the checkpoint");
	else if (!envelope_hashes(x->range, &nodes) ||
		 !tree_range_load(&stored, v->size,
				  (struct str){ (const char *)nodes.hash, nodes.n * SHA256_LEN }))
		fault(v, FAULT_COUNT, "the trailer's range is not readable");
	if (v->report.fault)
		return;
	tree_root(&stored, v->sha, root);
	if (memcmp(root, c->root, SHA256_LEN) != 0)
		fault(v, FAULT_COUNT, "the trailer's range does not make the signed root");
}

/* Chain faults come first: they say what was done. Then the counts, the signature, the tree. */
static void on_trailer(struct verifier *v, struct str line, size_t prefix)
{
	struct checkpoint c = { .size = UINT64_MAX };
	struct tree_proof hints;
	struct envelope x;
	uint8_t root[SHA256_LEN];
	AUTO_BUF note;

	v->stage = STAGE_AFTER;
	count_redacted(v);
	buf_init(&note, *v->alloc, NOTE_MAX);
	if (!envelope_read(line, prefix, ENVELOPE_TRAILER, &x) ||
	    !envelope_hashes(x.hints, &hints) || !flat_unescape(x.checkpoint, &note)) {
		chain_end(&v->chain);
		tell_chain(v);
		fault(v, FAULT_COUNT, "the trailer is not readable");
		return;
	}
	check_counts(v, &x);
	check_signature(v, buf_str(&note), &c);
	if (v->report.fault)
		return;
	memcpy(v->report.root, c.root, SHA256_LEN);
	if (c.size != v->size) {
		bool short_of = c.size > v->size && v->first == 0 && v->records == v->size;

		fault(v, short_of ? FAULT_TRUNCATION : FAULT_COUNT,
		      "the file says %" PRIu64 " records, its checkpoint %" PRIu64, v->size,
		      c.size);
		if (short_of)
			bad_record(v, v->size, c.size);
		return;
	}
	if (!tree_span_finish(&v->span, v->sha, v->size, &hints, root)) {
		fault(v, FAULT_COUNT, "the trailer's hints are not those of this range");
		return;
	}
	if (memcmp(root, c.root, SHA256_LEN) != 0) {
		locate(v, x.range, c.root);
		return;
	}
	check_rest(v, &x, &c);
	if (v->report.fault)
		return;
	v->report.integrity = VERDICT_YES;
	if (v->has_held)
		check_held(v, &hints);
}

/* --- lines --- */

static void on_line(struct verifier *v, struct str line)
{
	const struct str opening = STR("{\"opening\":{\"name\":\"");
	const struct str withheld = STR("{\"leaf_hash\":\""), trailer = STR("{\"trailer\":");

	v->lines++;
	switch (v->stage) {
	case STAGE_HEADER:
		on_header(v, line);
		break;
	case STAGE_BODY:
		if (str_starts(line, opening))
			on_opening(v, str_from(line, opening.n));
		else if (str_starts(line, trailer))
			on_trailer(v, line, trailer.n);
		else if (str_starts(line, withheld))
			on_withheld(v, line, withheld.n);
		else
			on_leaf(v, line);
		break;
	case STAGE_AFTER:
		fault(v, FAULT_INSERTION, "something stands behind the trailer");
		break;
	case STAGE_UNREADABLE:
		break;
	}
}

void verifier_feed(struct verifier *v, struct str bytes)
{
	struct str line;

	while (v->stage != STAGE_UNREADABLE && str_cut(bytes, '\n', &line, &bytes)) {
		if (!v->line.n) {
			on_line(v, line); /* most lines lie in one piece and are not copied */
			continue;
		}
		buf_add(&v->line, line);
		if (!buf_ok(&v->line))
			break;
		on_line(v, buf_str(&v->line));
		buf_reset(&v->line);
	}
	if (v->stage == STAGE_UNREADABLE)
		return;
	buf_add(&v->line, bytes);
	if (!buf_ok(&v->line))
		unreadable(v, "a line is longer than 16 MiB, or memory is short");
}

/* --- the verifier --- */

static bool set_keys(struct verifier *v, const struct verify_options *o, struct err *e)
{
	if (o->vkey.n) {
		if (!note_key_parse(o->vkey, &v->key, e))
			return false;
		v->has_key = true;
	}
	if (!o->checkpoint.n)
		return true;
	if (!v->has_key)
		return err_set(
			e, ERR_INVALID,
			"a checkpoint held before says nothing without the log's key (--key)");
	buf_add(&v->held_text, o->checkpoint);
	if (!buf_ok(&v->held_text))
		return err_set(e, ERR_INVALID, "the held checkpoint is longer than 64 KiB");
	if (!checkpoint_open(buf_str(&v->held_text), &v->key, &v->held, e))
		return err_prefix(e, "the held checkpoint");
	v->has_held = true;
	return true;
}

bool verifier_new(const struct verify_options *o, struct verifier **out, struct err *e)
{
	const struct alloc *alloc = o->alloc ? o->alloc : &mem_system;
	struct verifier *v = mem_zero(alloc, sizeof(*v));

	if (!v)
		return err_set(e, ERR_NOMEM, "no memory to verify");
	v->alloc = alloc;
	buf_init(&v->line, *alloc, VERIFY_LINE_MAX);
	buf_init(&v->held_text, *alloc, NOTE_MAX);
	v->sha = sha256_new(e);
	if (!v->sha || !set_keys(v, o, e)) {
		verifier_free(v);
		return false;
	}
	v->report.integrity = VERDICT_NO;
	v->report.authenticity = VERDICT_UNKNOWN;
	v->report.continuity = VERDICT_UNKNOWN;
	v->report.key_from = v->has_key ? "given" : "none: a key in the file proves nothing";
	*out = v;
	return true;
}

void verifier_free(struct verifier *v)
{
	if (!v)
		return;
	sha256_free(v->sha);
	buf_clear(&v->line);
	buf_clear(&v->held_text);
	mem_free(v->alloc, v, sizeof(*v));
}

void verifier_finish(struct verifier *v, struct verify_report *r)
{
	if (v->stage == STAGE_HEADER && !v->line.n)
		unreadable(v, "it is empty");
	if (v->stage == STAGE_HEADER)
		unreadable(v, "it does not begin with a header");
	if (v->stage == STAGE_AFTER && v->line.n)
		fault(v, FAULT_INSERTION, "something stands behind the trailer");
	if (v->stage == STAGE_BODY) {
		chain_end(&v->chain);
		tell_chain(v);
		fault(v, FAULT_TRUNCATION,
		      "the file ends before its trailer: records from %" PRIu64
		      " on may be missing",
		      v->first + v->records);
		bad_record(v, v->first + v->records, v->first + v->count);
	}
	if (v->report.fault)
		v->report.integrity = VERDICT_NO;
	v->report.completeness = v->report.fault || v->report.withheld ? VERDICT_NO : VERDICT_YES;
	v->report.result = v->stage == STAGE_UNREADABLE ? VERIFY_UNREADABLE
			   : v->report.fault		? VERIFY_BROKEN
			   : !v->has_key		? VERIFY_UNAUTHENTICATED
							: VERIFY_HOLDS;
	if (v->report.result == VERIFY_UNAUTHENTICATED)
		err_set(&v->report.why, ERR_UNAUTHENTICATED,
			"consistent in itself, but nothing says whose it is: give the log's key "
			"(writ audit key) with --key");
	*r = v->report;
}

bool verify_fd(int fd, const struct verify_options *o, struct verify_report *r, struct err *e)
{
	const struct alloc *alloc = o->alloc ? o->alloc : &mem_system;
	const size_t size = 256 * 1024;
	struct verifier *v = NULL;
	char *piece;
	ssize_t n;

	if (!verifier_new(o, &v, e))
		return false;
	assert(v);
	piece = mem_new(alloc, size);
	if (!piece) {
		verifier_free(v);
		return err_set(e, ERR_NOMEM, "no memory to verify");
	}
	while ((n = read(fd, piece, size)) != 0) {
		if (n > 0)
			verifier_feed(v, (struct str){ piece, (size_t)n });
		else if (errno != EINTR)
			break;
	}
	if (n < 0) {
		unreadable(v, "it cannot be read");
		err_set(&v->report.why, ERR_IO, "cannot read the export: %s", strerror(errno));
	}
	verifier_finish(v, r);
	mem_free(alloc, piece, size);
	verifier_free(v);
	return true;
}
