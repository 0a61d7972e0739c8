/*
 * GET /v1/audit/export: the log, or a part of it, in one of the formats. The same range gives the
 * same bytes, so an export that was cut off goes on with offset=N, the bytes that are there
 * already; who asks compares where the two meet.
 */
#include <inttypes.h>

#include "authz/audit/cosigned.h"
#include "authz/audit/export.h"
#include "authz/audit/export_rows.h"
#include "authz/audit/timestamp.h"
#include "authz/decide/admin.h"
#include "authz/server/handlers.h"
#include "authz/server/service.h"

struct export
{
	const struct audit_format *format;
	struct audit_export *proven; /* jsonl, or */
	struct export_rows *rows;    /* any other format */
	struct audit_filter filter;
	struct buf vkey;
	uint64_t skip;	/* bytes that are still to be left out */
	bool witnessed; /* up to the newest checkpoint that witnesses cosigned */
	bool stamped;	/* up to the newest one with a time stamp */
};

/* In the order of a leaf's members. */
static void record_filter(struct record *rec, const struct export *x,
			  const uint8_t header[static SHA256_LEN])
{
	const struct audit_filter *f = &x->filter;

	record_str(rec, STR("filter_agent"), f->agent);
	record_str(rec, STR("filter_decision"), f->decision);
	record_str(rec, STR("filter_kind"), f->kind);
	if (f->since_ms)
		record_int(rec, STR("filter_since"), f->since_ms);
	if (f->until_ms)
		record_int(rec, STR("filter_until"), f->until_ms);
	record_str(rec, STR("format"), str_c(x->format->name));
	if (f->from)
		record_int(rec, STR("from"), (int64_t)f->from);
	if (x->proven)
		record_hash(rec, STR("header"), header);
	record_str(rec, STR("kind"), STR("log.export"));
	if (x->skip)
		record_int(rec, STR("offset"), (int64_t)x->skip);
	record_int(rec, STR("openings"), f->openings);
}

/* What can be verified has its range first, by a checkpoint over all there is; its header then goes
 * into the record, and so under the log's signature. */
static bool open_proven(struct request *r, struct core *core, struct export *x,
			uint8_t header[static SHA256_LEN], struct err *e)
{
	struct audit_export_options o = { .folder = r->site->service->folder,
					  .filter = x->filter,
					  .alloc = &mem_system };
	struct buf note;

	if (x->format != &format_jsonl)
		return true;
	buf_in_arena(&note, r->call->arena, NOTE_MAX);
	o.vkey = buf_str(&x->vkey);
	return audit_checkpoint(core->audit, &note, e) && audit_export_open(&o, &x->proven, e) &&
	       audit_export_manifest(x->proven, header, e);
}

/* Cut the range to what was cosigned. */
static bool end_witnessed(struct request *r, struct audit_filter *f, struct err *e)
{
	struct buf note;
	uint64_t size;

	buf_in_arena(&note, r->call->arena, NOTE_MAX);
	if (!cosigned_read(r->site->service->folder, &note, &size, e))
		return e->class != ERR_NONE
			       ? false
			       : err_code(e, ERR_NOT_FOUND, "not_cosigned",
					  "no checkpoint was cosigned yet; `writ audit witness "
					  "status` says why");
	if (!f->to || f->to > size)
		f->to = size;
	return true;
}

static bool end_stamped(struct request *r, struct audit_filter *f, struct err *e)
{
	uint64_t size = timestamp_newest(r->site->service->folder);

	if (!size)
		return err_code(e, ERR_NOT_FOUND, "not_stamped",
				"no checkpoint has a time stamp yet; see `writ audit timestamp`");
	if (!f->to || f->to > size)
		f->to = size;
	return true;
}

static bool end_where_asked(struct request *r, struct export *x, struct err *e)
{
	return (!x->witnessed || end_witnessed(r, &x->filter, e)) &&
	       (!x->stamped || end_stamped(r, &x->filter, e));
}

/* An export is an act: it is on record, with what was asked for, before a byte leaves. */
static void act_export(struct request *r, struct control *c)
{
	struct export *x = r->user;
	uint8_t header[SHA256_LEN] = { 0 };
	struct act_record rec;
	struct buf note;

	buf_in_arena(&x->vkey, r->call->arena, 1024);
	audit_vkey(c->core->audit, &x->vkey);
	if (end_where_asked(r, x, &r->failed) && open_proven(r, c->core, x, header, &r->failed)) {
		act_record_begin(&rec);
		record_filter(&rec.job.record, x, header);
		record_str(&rec.job.record, STR("pep"), r->caller.id);
		if (x->filter.to)
			record_int(&rec.job.record, STR("to"), (int64_t)x->filter.to);
		buf_in_arena(&note, r->call->arena, NOTE_MAX);
		if (act_record_append(c, &rec, &r->failed))
			(void)!audit_checkpoint(c->core->audit, &note, &r->failed);
	}
	if (r->failed.class == ERR_NONE)
		return;
	audit_export_close(x->proven);
	x->proven = NULL;
}

static bool more_export(struct call *c, struct buf *out, struct err *e)
{
	struct request *r = c->user;
	struct export *x = r->user;
	size_t before = out->n, made;
	bool done = false, ok;

	ok = x->rows ? export_rows_next(x->rows, out, &done, e)
		     : audit_export_next(x->proven, out, &done, e);
	if (!ok)
		return false;
	made = out->n - before;
	if (x->skip && x->skip >= made) {
		out->n = before;
		x->skip -= made;
	} else if (x->skip) {
		memmove(out->p + before, out->p + before + x->skip, made - x->skip);
		out->n -= x->skip;
		x->skip = 0;
	}
	return !done;
}

static void done_export(struct call *c)
{
	struct request *r = c->user;
	struct export *x = r->user;

	audit_export_close(x->proven);
	export_rows_close(x->rows);
	x->proven = NULL;
	x->rows = NULL;
}

static bool open_rows(struct request *r, struct export *x, struct err *e)
{
	struct export_rows_options rows = { .folder = r->site->service->folder,
					    .format = x->format,
					    .filter = x->filter };
	struct str rest;

	/* The origin is the name in the verifier key. */
	(void)str_cut(buf_str(&x->vkey), '+', &rows.origin, &rest);
	return export_rows_open(&rows, &x->rows, e);
}

static void reply_export(struct request *r)
{
	struct export *x = r->user;
	struct err e = { 0 };

	if (!x->proven && !open_rows(r, x, &e)) {
		request_fail(r, &e);
		return;
	}
	call_reply(r->call, 200, x->format->media_type, 0);
	r->call->user = r;
	r->call->reply.more = more_export;
	r->call->reply.done = done_export;
	call_finish(r->call);
}

/* A parameter that is yes or no; without it @out stays as it is. */
static bool query_yes(struct request *r, const char *name, bool *out, struct err *e)
{
	struct str text;

	if (!request_query(r, str_c(name), &text, e))
		return e->class == ERR_NONE;
	*out = str_eq(text, STR("yes"));
	return *out || str_eq(text, STR("no")) ||
	       err_code(e, ERR_INVALID, "invalid_request", "%s must be yes or no", name);
}

/* Openings are part of an export unless it is meant for long keeping: openings=no. Other formats
 * have no place for them. */
static bool query_openings(struct request *r, struct export *x, struct err *e)
{
	bool jsonl = x->format == &format_jsonl;
	struct str openings;

	x->filter.openings = jsonl;
	if (!request_query(r, STR("openings"), &openings, e))
		return e->class == ERR_NONE;
	x->filter.openings = str_eq(openings, STR("yes"));
	if (!x->filter.openings && !str_eq(openings, STR("no")))
		return err_code(e, ERR_INVALID, "invalid_request",
				"openings must be yes or no, not \"%.*s\"",
				STR_FMT(str_first(openings, 40)));
	return !x->filter.openings || jsonl ||
	       err_code(e, ERR_INVALID, "invalid_request",
			"openings are in jsonl only: format %s has no place for them, leave "
			"openings out",
			x->format->name);
}

static bool query_export(struct request *r, struct export *x, struct err *e)
{
	struct str format = STR("jsonl");
	bool given;

	(void)request_query(r, STR("format"), &format, e);
	if (e->class != ERR_NONE)
		return false;
	x->format = audit_format_find(format, e);
	return x->format && query_openings(r, x, e) &&
	       query_yes(r, "witnessed", &x->witnessed, e) &&
	       query_yes(r, "timestamped", &x->stamped, e) && query_log_filter(r, &x->filter, e) &&
	       query_u64(r, "offset", INT64_MAX, &x->skip, &given, e);
}

void handle_export(struct request *r)
{
	static const char *const known[] = { "agent",	  "decision",	 "format", "from", "kind",
					     "offset",	  "openings",	 "since",  "to",   "until",
					     "witnessed", "timestamped", NULL };
	struct export *x;
	struct err e = { 0 };

	if (!request_query_only(r, known))
		return;
	x = request_alloc(r, sizeof(*x));
	if (!x)
		return;
	if (!query_export(r, x, &e)) {
		request_fail(r, &e);
		return;
	}
	r->user = x;
	request_on_control(r, act_export, reply_export);
}
