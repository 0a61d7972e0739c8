#include "authz/decide/erase.h"

#include <inttypes.h>

#define RANGES_MAX 2000 /* bytes: a text in a leaf is cut at RECORD_VALUE_MAX */

static void put_fields(unsigned which, struct buf *b)
{
	for (enum opening o = OPENING_ANSWER; o < OPENING_COUNT; o++)
		if (which & 1u << o)
			buf_printf(b, "%s%.*s", b->n ? "," : "", STR_FMT(record_opening_name(o)));
}

/* Why is a person's words, so it is in an opening: {"reason":...}. */
static bool put_reason(struct control *c, struct act_record *r, struct str reason)
{
	struct buf b;

	buf_in_arena(&b, &r->arena, 8 * HOLD_REASON_MAX);
	buf_lit(&b, "{\"reason\":");
	buf_json(&b, reason);
	buf_char(&b, '}');
	if (!buf_ok(&b))
		return false;
	record_commit(&r->job.record, OPENING_INPUT, buf_str(&b), c->sha);
	return true;
}

/* The record of an erasure names records and openings, and no person. */
static bool draft(struct control *c, const struct erase_act *act, size_t n, struct str ranges,
		  struct act_record *r)
{
	char room[64];
	struct buf fields;

	buf_init(&fields, mem_system, sizeof(room));
	put_fields(act->which, &fields);
	act_record_begin(r);
	record_str(&r->job.record, STR("basis"), act->basis);
	record_int(&r->job.record, STR("count"), (int64_t)n);
	record_str(&r->job.record, STR("fields"), buf_str(&fields));
	buf_clear(&fields);
	if (!put_reason(c, r, act->reason))
		return false;
	record_str(&r->job.record, STR("kind"), STR("log.redact"));
	record_str(&r->job.record, STR("pep"), act->by);
	record_str(&r->job.record, STR("records"), ranges);
	return record_ok(&r->job.record);
}

/* One transaction: as many of @rows as one record can name. *done: so many. */
static bool erase_part(struct control *c, struct erase_act *act, const struct erase_row *rows,
		       size_t n, size_t *done, struct err *e)
{
	struct erase_part *part = &act->parts[act->nparts];
	struct erasure x = { .rows = rows, .which = act->which };
	struct act_record r;
	struct buf ranges;
	bool ok;

	if (act->nparts == ERASE_PARTS)
		return err_set(e, ERR_INTERNAL, "an erasure of too many parts");
	buf_in_arena(&ranges, act->arena, RANGES_MAX + 64);
	x.n = erase_ranges(rows, n, RANGES_MAX, &ranges);
	ok = draft(c, act, x.n, buf_str(&ranges), &r)
		     ? audit_erase(c->core->audit, &x, &r.job, e)
		     : err_set(e, ERR_NOMEM, "no memory for the record of an erasure");
	arena_clear(&r.arena);
	if (!ok)
		return false;
	part->seq = r.job.seq;
	memcpy(part->leaf, r.job.leaf_hash, sizeof(part->leaf));
	part->records = buf_str(&ranges);
	act->nparts++;
	act->records += x.n;
	act->openings += x.openings;
	*done = x.n;
	return true;
}

bool erase_do(struct control *c, struct erase_act *act, struct err *e)
{
	struct erase_found *f = act->found;
	size_t at = 0, done = 0;

	if (act->skip_held && !holds_filter(c->db, f->rows, &f->n, &act->held, act->arena, e))
		return false;
	if (!holds_allow(c->db, f->rows, f->n, act->arena, e))
		return false;
	for (; at < f->n; at += done)
		if (!erase_part(c, act, f->rows + at, f->n - at, &done, e)) {
			if (at)
				err_prefix(e, "%zu of %zu records are erased and on record", at,
					   f->n);
			break;
		}
	act->forgotten = !at || audit_forget(c->core->audit);
	return at == f->n;
}

/* --- holds --- */

static bool record_hold(struct control *c, const char *what, const struct hold *h, struct str by,
			struct str reason, struct err *e)
{
	struct act_record r;

	act_record_begin(&r);
	record_str(&r.job.record, STR("act"), str_c(what));
	record_str(&r.job.record, STR("agent"), h->agent);
	if (h->from)
		record_int(&r.job.record, STR("from"), (int64_t)h->from);
	record_int(&r.job.record, STR("hold"), (int64_t)h->id);
	r.text.failed = r.text.failed || !put_reason(c, &r, reason);
	record_str(&r.job.record, STR("kind"), STR("admin.action"));
	record_str(&r.job.record, STR("pep"), by);
	if (h->since_ms)
		record_int(&r.job.record, STR("since"), h->since_ms);
	if (h->to)
		record_int(&r.job.record, STR("to"), (int64_t)h->to);
	if (h->until_ms)
		record_int(&r.job.record, STR("until"), h->until_ms);
	return act_record_append(c, &r, e);
}

bool hold_put_on(struct control *c, struct hold *h, struct err *e)
{
	if (!holds_add(c->db, h, e))
		return false;
	if (record_hold(c, "hold.add", h, h->by, h->reason, e))
		return true;
	return err_prefix(e, "hold %" PRIu64 " holds, but this act is not on record", h->id);
}

bool hold_take_off(struct control *c, uint64_t id, struct str by, struct str reason, struct err *e)
{
	struct arena a;
	struct hold *list, which = { 0 };
	size_t n = 0;
	bool ok;

	arena_init(&a, &mem_system, 8 * 1024 * 1024);
	ok = holds_list(c->db, &a, &list, &n, e);
	for (size_t i = 0; ok && i < n; i++)
		if (list[i].id == id)
			which = list[i];
	if (ok && !which.id)
		ok = err_code(e, ERR_NOT_FOUND, "unknown_hold",
			      "there is no hold %" PRIu64 "; see writ audit hold list", id);
	ok = ok && record_hold(c, "hold.remove", &which, by, reason, e) &&
	     holds_remove(c->db, id, e);
	arena_clear(&a);
	return ok;
}
