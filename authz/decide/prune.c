#include "authz/decide/prune.h"

#define HOLDS_ARENA ((size_t)8 * 1024 * 1024)

uint64_t prune_holds_mark(const struct hold *holds, size_t n)
{
	uint64_t mark = n;

	for (size_t i = 0; i < n; i++) /* numbers are never used twice */
		mark = mark * 1000003 + holds[i].id;
	return mark;
}

static bool same_holds(struct control *c, uint64_t mark, struct err *e)
{
	struct hold *list = NULL;
	struct arena a;
	size_t n = 0;
	bool ok;

	arena_init(&a, &mem_system, HOLDS_ARENA);
	ok = holds_list(c->db, &a, &list, &n, e);
	if (ok && prune_holds_mark(list, n) != mark)
		ok = err_code(e, ERR_CONFLICT, "prune_changed",
			      "a legal hold was put on or taken off meanwhile; look again");
	arena_clear(&a);
	return ok;
}

/* Members in ascending order. */
static bool draft(struct control *c, const struct prune_act *act, struct act_record *r)
{
	struct record *rec = &r->job.record;
	struct buf why;

	act_record_begin(r);
	record_str(rec, STR("archive"), act->order.archive);
	record_hash(rec, STR("archive_sha256"), act->archive_sha256);
	record_int(rec, STR("count"), (int64_t)(act->order.to - act->order.from));
	record_int(rec, STR("from"), (int64_t)act->order.from);
	if (act->reason.n) {
		buf_in_arena(&why, &r->arena, 8 * HOLD_REASON_MAX);
		buf_lit(&why, "{\"reason\":");
		buf_json(&why, act->reason);
		buf_char(&why, '}');
		if (!buf_ok(&why))
			return false;
		record_commit(rec, OPENING_INPUT, buf_str(&why), c->sha);
	}
	record_str(rec, STR("kind"), STR("log.prune"));
	record_str(rec, STR("pep"), act->by);
	record_hash(rec, STR("root"), act->root);
	record_int(rec, STR("to"), (int64_t)act->order.to);
	return record_ok(rec);
}

bool prune_do(struct control *c, struct prune_act *act, struct err *e)
{
	struct act_record r;
	bool ok;

	if (!same_holds(c, act->holds, e))
		return false;
	ok = draft(c, act, &r) ? audit_prune(c->core->audit, &act->order, &r.job, e)
			       : err_set(e, ERR_NOMEM, "no memory for the record of pruning");
	act->seq = r.job.seq;
	arena_clear(&r.arena);
	return ok;
}
