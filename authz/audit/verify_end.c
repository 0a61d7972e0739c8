/* The end: counts, signature, tree, and the checkpoint held before. */
#include <inttypes.h>
#include <stdio.h>

#include "authz/audit/flat.h"
#include "authz/audit/timestamp.h"
#include "authz/audit/verify_parts.h"
#include "authz/base/text.h"

/* --- the end --- */

static void check_counts(struct verifier *v, const struct envelope *x)
{
	uint64_t end = v->first + v->records;

	chain_end(&v->chain);
	verify_tell_chain(v);
	if (v->records < v->count) {
		verify_fault(v, FAULT_TRUNCATION,
			     "records from %" PRIu64 " on are missing: %" PRIu64 " of %" PRIu64
			     " are here",
			     end, v->records, v->count);
		verify_bad_record(v, end, v->first + v->count);
	} else if (v->records > v->count) {
		verify_fault(v, FAULT_INSERTION,
			     "record %" PRIu64 " and what follows are too many: "
			     "%" PRIu64 " were announced",
			     v->first + v->count, v->count);
		verify_bad_record(v, v->first + v->count, end);
	}
	if (x->count != v->count || x->first != v->first || x->size != v->size ||
	    x->withheld != v->report.withheld || x->openings != v->report.openings ||
	    (x->openings && !v->openings))
		verify_fault(v, FAULT_COUNT,
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
		verify_fault(v, FAULT_EDIT, "record %" PRIu64 " was changed", lo);
	else
		verify_fault(v, FAULT_REWRITE,
			     "a record from %" PRIu64 " to %" PRIu64
			     " was changed and those after it "
			     "chained anew: the signed root is another",
			     lo, hi - 1);
	verify_bad_record(v, lo, hi);
}

static void check_held(struct verifier *v, const struct tree_proof *hints)
{
	uint64_t m = v->held.size, end = v->first + v->records;
	uint8_t root[SHA256_LEN];
	bool known = false;

	if (m > v->size) {
		v->report.anchoring = VERDICT_NO;
		verify_fault(v, FAULT_TRUNCATION,
			     "this is a log of %" PRIu64
			     " records, the checkpoint held before is over %" PRIu64,
			     v->size, m);
		verify_bad_record(v, v->size, m);
		return;
	}
	if (m == v->size) {
		memcpy(root, v->report.root, SHA256_LEN);
		known = true;
	} else if (hints && m >= v->first && m <= end) {
		known = tree_span_root(&v->at_held, v->sha, hints, root);
	}
	if (!known)
		return;
	if (memcmp(root, v->held.root, SHA256_LEN) == 0) {
		if (v->report.anchoring == VERDICT_UNKNOWN)
			v->report.anchoring = VERDICT_YES;
		return;
	}
	v->report.anchoring = VERDICT_NO;
	verify_fault(v, FAULT_FORK,
		     "the first %" PRIu64
		     " records are not those of the checkpoint held before: two histories were "
		     "signed",
		     m);
}

void verify_pruned(struct verifier *v, uint64_t end, const uint8_t root[static SHA256_LEN])
{
	if (!end || v->prune.to != end)
		return;
	if (memcmp(root, v->prune.root, SHA256_LEN) != 0) {
		verify_fault(v, FAULT_FORK,
			     "the %" PRIu64 " records that record %" PRIu64
			     " says were pruned are not the first ones of this log",
			     end, v->prune.seq);
		return;
	}
	v->report.pruned = end;
	v->report.pruned_by = v->prune.seq;
}

/* What is before an export that does not begin at 0. */
static void check_pruned(struct verifier *v, const struct tree_proof *hints)
{
	struct tree_span before = { .from = v->first };
	uint8_t root[SHA256_LEN];

	if (v->first && tree_span_root(&before, v->sha, hints, root))
		verify_pruned(v, v->first, root);
}

void verify_anchors(struct verifier *v, const struct tree_proof *hints)
{
	if (v->at_least > v->size) {
		verify_fault(v, FAULT_TRUNCATION,
			     "this is a log of %" PRIu64 " records, at least %" PRIu64
			     " were expected",
			     v->size, v->at_least);
		verify_bad_record(v, v->size, v->at_least);
	}
	if (v->has_held)
		check_held(v, hints);
}

bool verify_keys(const struct verifier *v, const struct note *note, const struct checkpoint *c,
		 struct rotation_trust *t, struct err *e)
{
	struct note_key keys[VERIFY_KEYS_MAX];
	size_t n = 0;

	for (size_t i = 0; i < v->nkeys; i++)
		if (str_eq(c->origin, str_c(v->keys[i].name)))
			keys[n++] = v->keys[i];
	if (!n)
		return err_set(e, ERR_INVALID, "it is of log \"%.*s\", the key of \"%s\"",
			       STR_FMT(str_first(c->origin, 100)), v->keys[0].name);
	return rotations_verify(note, c, keys, n, t, e);
}

/* Whose the signature is, and how the given key leads to it. */
static void tell_key(struct verifier *v, const struct rotation_trust *t)
{
	struct verify_report *r = &v->report;
	size_t n = strlen(r->key_from);

	snprintf(r->key_id, sizeof(r->key_id), "%08x", t->key.id);
	if (t->since)
		snprintf(r->key_from + n, sizeof(r->key_from) - n,
			 ": %08x; %08x since record %" PRIu64 ", by the log's own record", t->given,
			 t->key.id, t->since - 1);
}

static bool wrong_note(struct verifier *v, const struct err *e)
{
	verify_fault(v, FAULT_SIGNATURE, "the checkpoint: %s", e->msg);
	return false;
}

static bool check_quorum(struct verifier *v, const struct note *n)
{
	uint64_t oldest;
	struct err e = { 0 };

	if (!v->policy || v->policy->quorum < 0)
		return true;
	if (witness_policy_met(v->policy, n, &oldest, &e)) {
		v->report.anchoring = VERDICT_YES;
		v->report.witnessed_s = oldest;
		return true;
	}
	v->report.anchoring = VERDICT_NO;
	if (e.class != ERR_UNAUTHENTICATED)
		return wrong_note(v, &e);
	v->quorum_missed = true;
	v->report.why = e;
	return true;
}

/* A time stamp was asked for: there must be one, and by an authority of those given. */
static bool check_stamp(struct verifier *v, const struct note *n)
{
	AUTO_BUF token;
	struct err e = { 0 };

	buf_init(&token, *v->alloc, 2 * TIMESTAMP_MAX);
	if (!v->tsa_ca.n)
		return true;
	if (!timestamp_find(n, &token)) {
		v->report.anchoring = VERDICT_NO;
		v->quorum_missed = true;
		err_code(&v->report.why, ERR_UNAUTHENTICATED, "no_timestamp",
			 "the checkpoint has no time stamp, which --tsa-ca asks for");
		return true;
	}
	if (!timestamp_verify(buf_str(&token), n->text, buf_str(&v->tsa_ca), &v->report.stamped_s,
			      &e)) {
		v->report.anchoring = VERDICT_NO;
		v->report.stamped_s = 0;
		return wrong_note(v, &e);
	}
	if (v->report.anchoring == VERDICT_UNKNOWN)
		v->report.anchoring = VERDICT_YES;
	return true;
}

bool verify_note(struct verifier *v, struct str bytes, struct checkpoint *c)
{
	struct rotation_trust trust;
	struct note note = { .n = 0 };
	struct err e = { 0 };

	if (!note_parse(bytes, &note, &e) || !checkpoint_parse(note.text, c, &e))
		return wrong_note(v, &e);
	if (v->nkeys) {
		v->report.authenticity = VERDICT_NO;
		if (!verify_keys(v, &note, c, &trust, &e))
			return wrong_note(v, &e);
		v->report.authenticity = VERDICT_YES;
		tell_key(v, &trust);
	}
	return check_quorum(v, &note) && check_stamp(v, &note);
}

static bool is_among(const struct rotations *all, const struct rotation *one)
{
	for (size_t i = 0; i < all->n; i++)
		if (memcmp(&all->at[i], one, sizeof(*one)) == 0)
			return true;
	return false;
}

/* The record of @r, and the note, do not tell the same. */
static void rotation_differs(struct verifier *v, const struct rotation *r, const char *how)
{
	verify_fault(v, FAULT_SIGNATURE, "the checkpoint: %s record %" PRIu64, how, r->size - 1);
	verify_bad_record(v, r->size - 1, r->size);
}

void verify_rotations(struct verifier *v, const struct checkpoint *c, struct str bytes)
{
	uint64_t end = v->first + v->records;
	const struct rotations *seen = &v->rotated;
	struct note note = { .n = 0 };
	struct rotations told;
	struct err e;

	if (!note_parse(bytes, &note, &e) || !rotations_read(&note, &told, &e)) {
		(void)wrong_note(v, &e);
		return;
	}
	for (size_t i = 0; i < seen->n; i++)
		if (seen->at[i].size < c->size && !is_among(&told, &seen->at[i]))
			rotation_differs(v, &seen->at[i], "it is not by the key that signs since");
	/* Of a record that is not here, or withheld, the note's word is enough: the old key signed
	 * it. */
	for (size_t i = 0; i < told.n && !v->report.piecemeal && !v->report.withheld; i++)
		if (told.at[i].size > v->first + v->absent && told.at[i].size <= end &&
		    !is_among(seen, &told.at[i]))
			rotation_differs(v, &told.at[i], "it names a key that is not the one of");
	if (v->rotated_often)
		verify_fault(v, FAULT_SIGNATURE, "the log took another key more than %d times",
			     ROTATIONS_MAX);
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
		verify_fault(v, FAULT_COUNT,
			     "the header is not the one that the trailer was written for");
	else if (!same_origin(v, c->origin))
		verify_fault(v, FAULT_COUNT, "the header names another log than the checkpoint");
	else if (!envelope_hashes(x->range, &nodes) ||
		 !tree_range_load(&stored, v->size,
				  (struct str){ (const char *)nodes.hash, nodes.n * SHA256_LEN }))
		verify_fault(v, FAULT_COUNT, "the trailer's range is not readable");
	if (v->report.fault)
		return;
	tree_root(&stored, v->sha, root);
	if (memcmp(root, c->root, SHA256_LEN) != 0)
		verify_fault(v, FAULT_COUNT, "the trailer's range does not make the signed root");
}

void verify_no_trailer(struct verifier *v)
{
	v->stage = STAGE_AFTER;
	verify_redacted(v);
	chain_end(&v->chain);
	verify_tell_chain(v);
	verify_fault(v, FAULT_COUNT, "the trailer is not readable");
}

/* Chain faults come first: they say what was done. Then the counts, the signature, the tree. */
void verify_trailer(struct verifier *v, struct str line, size_t prefix)
{
	struct checkpoint c = { .size = UINT64_MAX };
	struct tree_proof hints;
	struct envelope x;
	uint8_t root[SHA256_LEN];
	AUTO_BUF note;

	v->stage = STAGE_AFTER;
	buf_init(&note, *v->alloc, NOTE_MAX);
	if (!envelope_read(line, prefix, ENVELOPE_TRAILER, &x) ||
	    !envelope_hashes(x.hints, &hints) || !flat_unescape(x.checkpoint, &note)) {
		verify_no_trailer(v);
		return;
	}
	verify_redacted(v);
	check_counts(v, &x);
	if (!verify_note(v, buf_str(&note), &c) || v->report.fault)
		return;
	memcpy(v->report.root, c.root, SHA256_LEN);
	if (c.size != v->size) {
		bool short_of = c.size > v->size && v->first == 0 && v->records == v->size;

		verify_fault(v, short_of ? FAULT_TRUNCATION : FAULT_COUNT,
			     "the file says %" PRIu64 " records, its checkpoint %" PRIu64, v->size,
			     c.size);
		if (short_of)
			verify_bad_record(v, v->size, c.size);
		return;
	}
	if (!tree_span_finish(&v->span, v->sha, v->size, &hints, root)) {
		verify_fault(v, FAULT_COUNT, "the trailer's hints are not those of this range");
		return;
	}
	if (memcmp(root, c.root, SHA256_LEN) != 0) {
		locate(v, x.range, c.root);
		return;
	}
	check_rest(v, &x, &c);
	if (!v->report.fault)
		verify_rotations(v, &c, buf_str(&note));
	if (v->report.fault)
		return;
	v->report.integrity = VERDICT_YES;
	check_pruned(v, &hints);
	verify_anchors(v, &hints);
}
