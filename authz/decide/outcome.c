/*
 * Looked up on the front's thread, so that the committer does for a report what it does for any
 * record, and one insert. Of two reports at the same moment the committer takes the first; the
 * other one is looked up again.
 */
#include "authz/decide/outcome.h"

#include <inttypes.h>

#include "authz/audit/mask.h"
#include "authz/audit/tree.h"
#include "authz/base/text.h"

const char *const outcome_names[] = { "success",   "failure",	   "timeout",
				      "cancelled", "not_executed", NULL };

struct closings *worker_closings(struct worker *w, const char *folder, struct err *e)
{
	if (!w->closings && !closings_open(folder, &w->closings, e))
		return NULL;
	return w->closings;
}

bool evaluation_seq(const struct core *core, struct str id, uint64_t *seq, struct err *e)
{
	struct str prefix = STR("ev_"), key, number;

	if (!str_starts(id, prefix) || !str_cut(str_from(id, prefix.n), '_', &key, &number) ||
	    !text_u64(number, (uint64_t)TREE_SIZE_MAX - 1, seq))
		return err_code(
			e, ERR_INVALID, "invalid_request",
			"\"%.*s\" is no evaluation id; expected ev_<key id>_<seq>, as it stood "
			"in the answer",
			STR_FMT(str_first(id, 60)));
	if (!str_eq(key, str_c(core->log_key_id)))
		return err_code(e, ERR_NOT_FOUND, "unknown_evaluation",
				"%.*s is of another log: this one's key is %s",
				STR_FMT(str_first(id, 60)), core->log_key_id);
	return true;
}

/* ---- what a report says ---- */

static bool read_number(const struct json *body, const char *name, int64_t *out, struct err *e)
{
	const struct json *v = json_get(body, str_c(name));

	*out = -1;
	if (!v)
		return true;
	if (v->type != JSON_INT || v->i < 0)
		return err_code(e, ERR_INVALID, "invalid_request",
				"%s must be a whole number from 0 on", name);
	*out = v->i;
	return true;
}

static bool read_outcome(struct outcome_report *o, const struct json *body, struct err *e)
{
	const struct json *v = json_get_type(body, STR("outcome"), JSON_STRING);
	const struct json *detail = json_get(body, STR("detail"));
	struct buf b;

	for (const char *const *n = outcome_names; v && *n && !o->outcome.p; n++)
		if (str_eq(v->s, str_c(*n)))
			o->outcome = str_c(*n);
	if (!o->outcome.p)
		return err_code(e, ERR_INVALID, "invalid_request",
				"outcome must be one of success, failure, timeout, cancelled, "
				"not_executed");
	if (detail) {
		buf_in_arena(&b, o->arena, OUTCOME_DETAIL_MAX);
		o->masked = mask_canonical(o->worker->core->mask, &b, STR("detail"), detail);
		if (!buf_ok(&b))
			return err_code(e, ERR_TOO_LARGE, "too_large",
					"detail is longer than %d bytes; report a summary",
					OUTCOME_DETAIL_MAX);
		o->detail = buf_str(&b);
	}
	return read_number(body, "duration_ms", &o->duration_ms, e);
}

static bool read_usage(struct outcome_report *o, const struct json *body, struct err *e)
{
	if (!read_number(body, "input_tokens", &o->input_tokens, e) ||
	    !read_number(body, "output_tokens", &o->output_tokens, e) ||
	    !read_number(body, "cost_micros", &o->cost_micros, e))
		return false;
	if (o->input_tokens < 0 && o->output_tokens < 0 && o->cost_micros < 0)
		return err_code(e, ERR_INVALID, "invalid_request",
				"say at least one of input_tokens, output_tokens and cost_micros");
	return true;
}

bool outcome_read(struct outcome_report *o, const struct json *body, struct err *e)
{
	const struct json *id = json_get_type(body, STR("evaluation_id"), JSON_STRING);
	struct buf b;

	o->duration_ms = o->input_tokens = o->output_tokens = o->cost_micros = -1;
	if (!id)
		return err_code(e, ERR_INVALID, "invalid_request",
				"evaluation_id is missing: the string that stood in the answer");
	if (!evaluation_seq(o->worker->core, id->s, &o->seq, e) ||
	    !(o->kind == CLOSING_OUTCOME ? read_outcome : read_usage)(o, body, e))
		return false;
	buf_in_arena(&b, o->arena, LIMIT_BODY);
	json_canonical(&b, body);
	o->text = buf_str(&b);
	return buf_ok(&b) ? true : err_set(e, ERR_NOMEM, "no memory for this report");
}

/* ---- on record ---- */

/* May this caller say what became of that record? */
static bool check_decision(const struct outcome_report *o, const struct closing_found *f,
			   struct err *e)
{
	if (!f->record && o->seq < f->pruned)
		return err_code(e, ERR_NOT_FOUND, "pruned",
				"decision %" PRIu64 " was pruned: it is in an archive, and nothing "
				"can be reported on it any more",
				o->seq);
	if (!f->record || !str_eq(f->leaf.kind, STR("authz.decision")))
		return err_code(e, ERR_NOT_FOUND, "unknown_evaluation",
				"there is no decision %" PRIu64 " in this log", o->seq);
	if (!str_eq(f->pep, o->caller->id))
		return err_code(e, ERR_FORBIDDEN, "foreign_evaluation",
				"decision %" PRIu64
				" was asked for by another PEP; only the one that "
				"asked may report on it",
				o->seq);
	if (!str_eq(f->leaf.decision, STR("permit")))
		return err_code(e, ERR_CONFLICT, "not_permitted",
				"decision %" PRIu64
				" was no permit, so nothing can have come of it",
				o->seq);
	return true;
}

static void end(struct outcome_report *o)
{
	o->done(o);
}

static bool look_up(struct outcome_report *o, struct closing_found *f)
{
	struct closings *c = worker_closings(o->worker, o->folder, &o->failed);

	return c && closings_find(c, o->seq, o->kind, o->text, o->arena, f, &o->failed) &&
	       check_decision(o, f, &o->failed);
}

/* True: there is nothing left to do, the report was made before or cannot be made any more. */
static bool is_closed(struct outcome_report *o, const struct closing_found *f)
{
	const char *what = o->kind == CLOSING_OUTCOME ? "outcome" : "usage";

	if (f->state == CLOSING_NONE)
		return false;
	o->record = f->by;
	o->repeated = f->state == CLOSING_SAME;
	if (!o->repeated)
		err_code(&o->failed, ERR_CONFLICT, "already_reported",
			 "the %s of decision %" PRIu64 " is on record as number %" PRIu64
			 "%s; a record is never changed",
			 what, o->seq, f->by,
			 f->state == CLOSING_ERASED ? ", and its details were erased"
						    : " and says something else");
	return true;
}

static void on_record(void *owner, const struct recorded *r)
{
	struct outcome_report *o = owner;
	struct closing_found f;

	if (r->ok) {
		o->record = r->seq;
		memcpy(o->leaf, r->leaf, sizeof(o->leaf));
	} else if (r->err.class != ERR_CONFLICT) {
		o->failed = r->err;
	} else if (look_up(o, &f) && !is_closed(o, &f)) {
		o->failed = r->err; /* cannot be: the row was there */
	}
	end(o);
}

static void number(struct record *r, struct str name, int64_t v)
{
	if (v >= 0)
		record_int(r, name, v);
}

/* The leaf. Members in ascending order of name. */
static bool write_record(struct outcome_report *o, const struct closing_found *f, struct pending *p)
{
	struct record *rec = &p->job.record;
	struct closing *closing = arena_zero(&p->arena, sizeof(*closing));
	struct str detail = arena_dup(&p->arena, o->detail);

	if (!closing || (o->detail.p && !detail.p))
		return false;
	closing->seq = o->seq;
	closing->kind = o->kind;
	closing_say(closing, o->worker->sha, o->text);
	p->job.closing = closing;
	record_str(rec, STR("agent"), f->leaf.agent);
	record_int(rec, STR("closes"), (int64_t)o->seq);
	number(rec, STR("cost_micros"), o->cost_micros);
	number(rec, STR("duration_ms"), o->duration_ms);
	if (o->detail.p)
		record_commit(rec, OPENING_INPUT, detail, o->worker->sha);
	number(rec, STR("input_tokens"), o->input_tokens);
	record_str(rec, STR("kind"),
		   o->kind == CLOSING_OUTCOME ? STR("authz.outcome") : STR("authz.usage"));
	if (o->masked)
		record_int(rec, STR("masked"), (int64_t)o->masked);
	record_str(rec, STR("outcome"), o->outcome);
	number(rec, STR("output_tokens"), o->output_tokens);
	record_str(rec, STR("pep"), o->caller->id);
	record_str(rec, STR("trace_id"), o->trace_id);
	return record_ok(rec);
}

void outcome_report(struct outcome_report *o)
{
	struct closing_found f;
	struct pending *p;

	err_none(&o->failed);
	if (!look_up(o, &f) || is_closed(o, &f)) {
		end(o);
		return;
	}
	p = pending_new(o->worker, &o->failed);
	if (p && write_record(o, &f, p)) {
		(o->patient ? pending_stage_patient : pending_stage)(p, on_record, o);
		return;
	}
	if (p)
		err_code(&o->failed, ERR_UNAVAILABLE, "audit_unavailable",
			 "memory is short; the report is not on record, send it again");
	pending_drop(p);
	end(o);
}
