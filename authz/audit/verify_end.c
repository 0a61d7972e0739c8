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

/* The keys of this origin, from outside. */
static size_t keys_of(const struct verifier *v, struct str origin, struct note_key *keys)
{
	size_t n = 0;

	for (size_t i = 0; i < v->nkeys; i++)
		if (str_eq(origin, str_c(v->keys[i].name)))
			keys[n++] = v->keys[i];
	return n;
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
	struct note_key keys[VERIFY_KEYS_MAX];
	struct note note = { .n = 0 };
	size_t n;
	struct err e = { 0 };

	if (!note_parse(bytes, &note, &e) || !checkpoint_parse(note.text, c, &e))
		return wrong_note(v, &e);
	if (v->nkeys) {
		v->report.authenticity = VERDICT_NO;
		n = keys_of(v, c->origin, keys);
		if (!n) {
			err_set(&e, ERR_INVALID, "it is of log \"%.*s\", the key of \"%s\"",
				STR_FMT(str_first(c->origin, 100)), v->keys[0].name);
			return wrong_note(v, &e);
		}
		if (!note_verify(&note, keys, n, &e))
			return wrong_note(v, &e);
		v->report.authenticity = VERDICT_YES;
		for (size_t i = 0; i < n && !v->report.key_id[0]; i++)
			if (note_verify(&note, &keys[i], 1, &e))
				snprintf(v->report.key_id, sizeof(v->report.key_id), "%08x",
					 keys[i].id);
	}
	return check_quorum(v, &note) && check_stamp(v, &note);
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

/* Chain faults come first: they say what was done. Then the counts, the signature, the tree. */
void verify_trailer(struct verifier *v, struct str line, size_t prefix)
{
	struct checkpoint c = { .size = UINT64_MAX };
	struct tree_proof hints;
	struct envelope x;
	uint8_t root[SHA256_LEN];
	AUTO_BUF note;

	v->stage = STAGE_AFTER;
	verify_redacted(v);
	buf_init(&note, *v->alloc, NOTE_MAX);
	if (!envelope_read(line, prefix, ENVELOPE_TRAILER, &x) ||
	    !envelope_hashes(x.hints, &hints) || !flat_unescape(x.checkpoint, &note)) {
		chain_end(&v->chain);
		verify_tell_chain(v);
		verify_fault(v, FAULT_COUNT, "the trailer is not readable");
		return;
	}
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
	if (v->report.fault)
		return;
	v->report.integrity = VERDICT_YES;
	verify_anchors(v, &hints);
}
