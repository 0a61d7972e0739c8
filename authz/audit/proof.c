#include "authz/audit/proof.h"

#include <inttypes.h>

#include "authz/audit/cosigned.h"
#include "authz/audit/read.h"
#include "authz/audit/rows.h"
#include "authz/audit/tiles.h"
#include "authz/base/text.h"

/* --- making --- */

struct maker {
	const char *folder;
	const struct proof_ask *ask;
	struct audit_reader *reader;
	struct tiles *tiles;
	struct sha256 *sha;
	struct tiles_source source;
	uint64_t records;	  /* in the log */
	uint8_t root[SHA256_LEN]; /* that was signed */
};

/* Its place in the tree can be proven; its bytes are in the archive. */
static bool read_pruned(struct maker *m, struct log_proof *p, struct err *e)
{
	struct tree_range one = { 0 };

	if (m->ask->record) {
		(void)audit_reader_gone(m->reader, m->ask->a, e);
		return err_prefix(e, "its proof can be had without its text (--bare), but");
	}
	if (!audit_reader_leaf(m->reader, m->ask->a, &one, e))
		return false;
	memcpy(p->leaf, one.node[0], SHA256_LEN);
	return true;
}

static bool read_record(struct maker *m, struct log_proof *p, struct err *e)
{
	const struct audit_filter one = { .from = m->ask->a, .to = m->ask->a + 1, .all = true };
	struct audit_row row;
	bool got;

	if (!audit_reader_start(m->reader, &one, e))
		return false;
	if (m->ask->a < audit_reader_pruned(m->reader))
		return read_pruned(m, p, e);
	if (!audit_reader_next(m->reader, 0, &row, &got, e))
		return false;
	if (!got)
		return rows_damaged(e, "record %" PRIu64 " is missing", m->ask->a);
	tree_leaf_hash(m->sha, row.text, p->leaf);
	if (m->ask->record)
		buf_add(&p->record, row.text);
	return true;
}

/* What was asked for must be there: numbers come from outside. */
static bool check_ask(struct maker *m, struct err *e)
{
	const struct proof_ask *a = m->ask;

	if (!audit_reader_size(m->reader, &m->records, e))
		return false;
	if (a->kind == PROOF_INCLUSION && a->a >= m->records)
		return err_set(e, ERR_NOT_FOUND,
			       "there is no record %" PRIu64 ": the log has %" PRIu64, a->a,
			       m->records);
	if (a->kind == PROOF_CONSISTENCY && (!a->a || a->a > m->records))
		return err_set(e, ERR_NOT_FOUND,
			       "a proof of consistency goes from 1 to %" PRIu64
			       " records on, not from %" PRIu64,
			       m->records, a->a);
	if (a->kind == PROOF_RANGE && (a->a >= a->b || a->b > m->records))
		return err_set(e, ERR_NOT_FOUND,
			       "there are no records %" PRIu64 " to %" PRIu64
			       ": the log has %" PRIu64,
			       a->a, a->b, m->records);
	return true;
}

/* The checkpoint to prove by. */
static bool find_checkpoint(struct maker *m, struct log_proof *p, struct err *e)
{
	const struct proof_ask *a = m->ask;
	uint64_t reach = a->kind == PROOF_INCLUSION ? a->a + 1
			 : a->kind == PROOF_RANGE   ? a->b
						    : a->a;
	struct tree_range range;
	struct checkpoint c;
	struct note note;
	bool found;
	uint64_t size = a->size, cosigned;

	/* A receipt should carry what witnesses have signed, if that reaches it. */
	if (!size && a->kind == PROOF_INCLUSION &&
	    cosigned_read(m->folder, &p->note, &cosigned, e) && cosigned >= reach)
		size = cosigned;
	err_none(e);
	buf_reset(&p->note);
	if (!audit_reader_checkpoint(m->reader, size, &p->note, &range, &found, e))
		return false;
	cosigned_add(m->folder, &p->note);
	if (!found && a->size)
		return err_set(e, ERR_NOT_FOUND,
			       "no checkpoint was signed over %" PRIu64 " records or more",
			       a->size);
	if (!found || range.n < reach) {
		if (a->size)
			return err_set(e, ERR_NOT_FOUND,
				       "the tree of %" PRIu64 " records does not reach that far",
				       range.n);
		buf_reset(&p->note);
		return true;
	}
	if (!note_parse(buf_str(&p->note), &note, e) || !checkpoint_parse(note.text, &c, e) ||
	    c.size != range.n)
		return rows_damaged(e, "the checkpoint over %" PRIu64 " records is not one",
				    range.n);
	memcpy(m->root, c.root, SHA256_LEN);
	p->covered = true;
	p->size = c.size;
	return true;
}

/* A range's own nodes between its hints make the root. */
static bool range_holds(struct maker *m, const struct log_proof *p)
{
	struct tree_span span = { .from = m->ask->a };
	struct tree_coord at[TREE_HASHES_MAX];
	size_t n = tree_cover(m->ask->a, m->ask->b, at);
	uint8_t hash[SHA256_LEN];

	for (size_t i = 0; i < n; i++) {
		if (!m->source.source.node(m->source.source.ctx, at[i].level, at[i].index, hash))
			return false;
		tree_span_append_node(&span, m->sha, at[i].level, hash);
	}
	return tree_span_finish(&span, m->sha, p->size, &p->hashes, hash) &&
	       memcmp(hash, m->root, SHA256_LEN) == 0;
}

static bool make(struct maker *m, struct log_proof *p)
{
	const struct tree_source *src = &m->source.source;
	uint8_t old[SHA256_LEN];

	switch (m->ask->kind) {
	case PROOF_INCLUSION:
		return tree_prove_inclusion(src, m->sha, m->ask->a, p->size, &p->hashes) &&
		       tree_verify_inclusion(m->sha, m->ask->a, p->size, p->leaf, &p->hashes,
					     m->root);
	case PROOF_CONSISTENCY:
		return tree_prove_consistency(src, m->sha, m->ask->a, p->size, &p->hashes) &&
		       tree_subtree(src, m->sha, 0, m->ask->a, old) &&
		       tree_verify_consistency(m->sha, m->ask->a, p->size, &p->hashes, old,
					       m->root);
	case PROOF_RANGE:
		return tree_prove_range(src, m->ask->a, m->ask->b, p->size, &p->hashes) &&
		       range_holds(m, p);
	}
	return false;
}

static bool prove(struct maker *m, struct log_proof *p, struct err *e)
{
	if (!check_ask(m, e) || (m->ask->kind == PROOF_INCLUSION && !read_record(m, p, e)) ||
	    !find_checkpoint(m, p, e))
		return false;
	if (!buf_ok(&p->record) || !buf_ok(&p->note))
		return err_set(e, ERR_NOMEM, "no memory for a proof");
	if (!p->covered)
		return true;
	err_none(e);
	tiles_source(&m->source, m->tiles, p->size, e);
	if (make(m, p))
		return true;
	if (e->class != ERR_NONE)
		return false;
	/* Of the records, or of what was kept of them? */
	tiles_distrust(m->tiles);
	if (make(m, p))
		return true;
	return e->class != ERR_NONE
		       ? false
		       : rows_damaged(e,
				      "its records are not those of the checkpoint over %" PRIu64,
				      p->size);
}

bool proof_make(const char *folder, const struct alloc *alloc, const struct proof_ask *ask,
		struct log_proof *p, struct err *e)
{
	struct maker m = { .folder = folder, .ask = ask };
	bool ok;

	alloc = alloc ? alloc : &mem_system;
	*p = (struct log_proof){ 0 };
	buf_init(&p->note, *alloc, NOTE_MAX);
	buf_init(&p->record, *alloc, PROOF_RECORD_MAX);
	m.sha = sha256_new(e);
	ok = m.sha && audit_reader_open(folder, alloc, &m.reader, e) &&
	     tiles_open(folder, alloc, &m.tiles, e) && prove(&m, p, e);
	tiles_close(m.tiles);
	audit_reader_close(m.reader);
	sha256_free(m.sha);
	return ok;
}

void proof_clear(struct log_proof *p)
{
	buf_clear(&p->note);
	buf_clear(&p->record);
}
