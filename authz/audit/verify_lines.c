/* The lines of an export: header, records, openings; and records wherever they come from. */
#include <inttypes.h>
#include <stdio.h>

#include "authz/audit/export.h"
#include "authz/audit/flat.h"
#include "authz/audit/verify_parts.h"
#include "authz/base/text.h"

/* --- the header --- */

void verify_range(struct verifier *v, uint64_t first, uint64_t count, uint64_t size)
{
	v->first = v->report.first = v->span.from = first;
	v->count = v->report.count = count;
	v->size = v->report.size = size;
	chain_start(&v->chain, first);
	if (v->has_held && v->held.size == first)
		v->at_held = v->span;
}

static void on_header(struct verifier *v, struct str line)
{
	const struct str begins = STR("{\"header\":");
	uint8_t hash[SHA256_LEN];
	struct envelope x;

	if (!str_starts(line, begins) || !envelope_read(line, begins.n, ENVELOPE_HEADER, &x) ||
	    x.openings > 1) {
		verify_unreadable(v, "it does not begin with a header");
		return;
	}
	if (!str_eq(x.format, STR(AUDIT_EXPORT_FORMAT))) {
		verify_unreadable(v, "its format is not " AUDIT_EXPORT_FORMAT);
		return;
	}
	v->stage = STAGE_BODY;
	v->openings = x.openings;
	sha256_of(v->sha, line, hash);
	text_hex(hash, SHA256_LEN, v->header);
	snprintf(v->report.origin, sizeof(v->report.origin), "%.*s",
		 STR_FMT(str_first(x.origin, sizeof(v->report.origin) - 1)));
	verify_range(v, x.first, x.count, x.size);
	if (!x.count)
		verify_fault(v, FAULT_EMPTY, "the export holds no records");
	else if (x.first > x.size || x.count > x.size - x.first)
		verify_fault(v, FAULT_COUNT,
			     "the header claims records %" PRIu64 " to %" PRIu64
			     " of a log of %" PRIu64,
			     x.first, x.first + x.count - 1, x.size);
}

/* --- records and openings --- */

void verify_redacted(struct verifier *v)
{
	v->report.redacted += (uint64_t)__builtin_popcount(v->committed & ~v->opened);
	v->committed = v->opened = 0;
}

static void on_record(struct verifier *v, const struct chain_record *r)
{
	verify_redacted(v);
	v->records++;
	v->leaf_fits = chain_next(&v->chain, r) && r->is_leaf;
	/* More than were announced: the end will say so; the tree cannot hold them. */
	if (v->chain.stage != CHAIN_FITS || v->records > v->count || v->report.fault)
		return;
	tree_span_append(&v->span, v->sha, r->hash);
	if (v->has_held && v->first + v->records == v->held.size)
		v->at_held = v->span;
}

void verify_rotation(struct verifier *v, struct str line)
{
	struct rotation r;

	if (!rotation_of_leaf(line, &r))
		return;
	if (v->rotated.n < ROTATIONS_MAX)
		v->rotated.at[v->rotated.n++] = r;
	else
		v->rotated_often = true;
}

void verify_prune(struct verifier *v, struct str line, uint64_t seq)
{
	uint8_t root[SHA256_LEN];
	bool has_root = false;
	int64_t to = 0;
	struct flat_member m;
	struct flat f;

	flat_begin(&f, line);
	while (flat_next(&f, &m)) {
		if (str_eq(m.name, STR("root")) && m.is_string)
			has_root = text_unhex(m.value, root, sizeof(root));
		else if (str_eq(m.name, STR("to")) && !m.is_string)
			to = m.integer;
	}
	if (!has_root || to <= 0)
		return;
	v->prune.seq = seq;
	v->prune.to = (uint64_t)to;
	memcpy(v->prune.root, root, sizeof(root));
}

void verify_leaf(struct verifier *v, struct str line)
{
	struct chain_record r = { .present = true, .is_leaf = true };
	struct leaf leaf;

	r.shaped = leaf_scan(line, &leaf);
	r.seq = leaf.seq;
	if (r.shaped) {
		memcpy(r.prev, leaf.prev.p, sizeof(r.prev));
		if (!v->records)
			memcpy(v->before_first, r.prev, sizeof(r.prev));
	}
	tree_leaf_hash(v->sha, line, r.hash);
	on_record(v, &r);
	if (v->leaf_fits && str_eq(leaf.kind, STR("key.rotate")))
		verify_rotation(v, line);
	else if (v->leaf_fits && str_eq(leaf.kind, STR("log.prune")))
		verify_prune(v, line, leaf.seq);
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
	verify_fault(v, FAULT_OPENING,
		     "an opening after record %" PRIu64 " is not what the record committed to",
		     v->first + v->records - 1);
	if (v->records)
		verify_bad_record(v, v->first + v->records - 1, v->first + v->records);
}

/* --- lines --- */

static void keep_tail(struct verifier *v, struct str line)
{
	v->stage = STAGE_AFTER;
	buf_add(&v->tail, line);
	buf_char(&v->tail, '\n');
}

/* Where all that the header announced has been, only the trailer can follow: a line that is nothing
 * at all is that one, spoiled, and no record. */
static bool is_spoiled_trailer(const struct verifier *v, struct str line)
{
	struct leaf leaf;

	return !v->segment && v->records == v->count && !leaf_scan(line, &leaf);
}

void verify_line(struct verifier *v, struct str line)
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
		else if (str_starts(line, trailer) && v->segment)
			keep_tail(v, line);
		else if (str_starts(line, trailer))
			verify_trailer(v, line, trailer.n);
		else if (str_starts(line, withheld))
			on_withheld(v, line, withheld.n);
		else if (is_spoiled_trailer(v, line))
			verify_no_trailer(v);
		else
			verify_leaf(v, line);
		break;
	case STAGE_AFTER:
		if (v->segment) {
			keep_tail(v, line);
			break;
		}
		verify_fault(v, FAULT_INSERTION, "something stands behind the trailer");
		break;
	case STAGE_UNREADABLE:
		break;
	}
}
