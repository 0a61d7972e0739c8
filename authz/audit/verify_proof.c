/* One record and its proof: says nothing about any other record. */
#include <inttypes.h>
#include <stdio.h>

#include "authz/audit/flat.h"
#include "authz/audit/proof.h"
#include "authz/audit/verify_parts.h"
#include "authz/base/text.h"

/* The record's bytes: given, or in the extra line, and not two different ones. */
static bool find_record(struct verifier *v, const struct proof_file *p, struct buf *own,
			struct str *record)
{
	char *room;
	size_t n;

	if (p->extra.n) {
		room = buf_room(own, p->extra.n);
		if (!room || !text_unbase64(p->extra, BASE64_STD, (uint8_t *)room, &n)) {
			verify_unreadable(v, "the proof's extra line is no base64");
			return false;
		}
		own->n = n;
	}
	if (!p->extra.n && !record->p) {
		verify_unreadable(v, "the record is not in the proof; give its bytes with "
				     "--record FILE");
		return false;
	}
	if (p->extra.n && record->p && !str_eq(*record, buf_str(own))) {
		verify_fault(v, FAULT_EDIT, "the record given is not the one in the proof");
		verify_bad_record(v, p->index, p->index + 1);
	}
	if (!record->p)
		*record = buf_str(own);
	return true;
}

static void check(struct verifier *v, const struct proof_file *p, struct str record)
{
	uint8_t hash[SHA256_LEN];
	struct checkpoint c;
	struct leaf leaf;

	verify_range(v, p->index, 1, 0);
	if (!verify_note(v, p->note, &c))
		return;
	v->size = v->report.size = c.size;
	snprintf(v->report.origin, sizeof(v->report.origin), "%.*s", STR_FMT(c.origin));
	memcpy(v->report.root, c.root, SHA256_LEN);
	if (p->index >= c.size) {
		verify_fault(v, FAULT_COUNT,
			     "the proof is of record %" PRIu64 ", its checkpoint over %" PRIu64
			     " records",
			     p->index, c.size);
		return;
	}
	tree_leaf_hash(v->sha, record, hash);
	if (!leaf_scan(record, &leaf) || leaf.seq != p->index ||
	    !tree_verify_inclusion(v->sha, p->index, c.size, hash, &p->path, c.root)) {
		verify_fault(v, FAULT_EDIT,
			     "this is not record %" PRIu64
			     " of the log that was signed: the record, its number or its proof was "
			     "changed",
			     p->index);
		verify_bad_record(v, p->index, p->index + 1);
		return;
	}
	for (enum opening o = OPENING_ANSWER; o < OPENING_COUNT; o++)
		v->report.redacted += leaf.commits[o].n != 0;
	if (str_eq(leaf.kind, STR("key.rotate")))
		verify_rotation(v, record);
	verify_rotations(v, &c, p->note);
	if (v->report.fault)
		return;
	v->report.integrity = VERDICT_YES;
	verify_anchors(v, NULL);
}

bool verify_proof(struct str proof, struct str record, const struct verify_options *o,
		  struct verify_report *r, struct err *e)
{
	struct proof_file p;
	struct verifier *v;
	AUTO_BUF own = { 0 };

	if (!verifier_new(o, &v, e))
		return false;
	v->stage = STAGE_AFTER;
	v->report.piecemeal = true;
	buf_init(&own, *v->alloc, PROOF_FILE_MAX);
	if (!proof_file_parse(proof, &p, &v->report.why))
		v->stage = STAGE_UNREADABLE;
	else if (find_record(v, &p, &own, &record))
		check(v, &p, record);
	verify_conclude(v, r);
	verifier_free(v);
	return true;
}
