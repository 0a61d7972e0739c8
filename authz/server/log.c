/* The log for those who may read it: records, checkpoint, key. export.c has the export. */
#include <inttypes.h>
#include <stdlib.h>

#include "authz/audit/read.h"
#include "authz/base/text.h"
#include "authz/decide/admin.h"
#include "authz/server/handlers.h"
#include "authz/server/service.h"

#define RECORDS_DEFAULT 100
#define RECORDS_MAX 1000
#define RECORDS_SCAN 100000 /* rows looked at for one answer */

bool query_u64(struct request *r, const char *name, uint64_t max, uint64_t *out, bool *given,
	       struct err *e)
{
	struct str text;

	*given = request_query(r, str_c(name), &text, e);
	if (!*given)
		return e->class == ERR_NONE;
	if (!text_u64(text, max, out))
		return err_code(e, ERR_INVALID, "invalid_request",
				"%s must be a number from 0 to %" PRIu64, name, max);
	return true;
}

/* RFC 3339 in UTC, or milliseconds since 1970. */
static bool query_time(struct request *r, const char *name, int64_t *ms, struct err *e)
{
	struct str text;
	uint64_t v;

	if (!request_query(r, str_c(name), &text, e))
		return e->class == ERR_NONE;
	if (text_u64(text, INT64_MAX, &v)) {
		*ms = (int64_t)v;
		return true;
	}
	if (!clock_parse_rfc3339(text, ms))
		return err_code(e, ERR_INVALID, "invalid_request",
				"%s must be a time like 2026-11-21T10:00:00Z", name);
	return true;
}

/* agent, decision, kind, since, until, from, to. */
bool query_log_filter(struct request *r, struct audit_filter *f, struct err *e)
{
	bool given;

	(void)request_query(r, STR("agent"), &f->agent, e);
	(void)request_query(r, STR("decision"), &f->decision, e);
	(void)request_query(r, STR("kind"), &f->kind, e);
	if (f->decision.p && !str_eq(f->decision, STR("permit")) &&
	    !str_eq(f->decision, STR("deny")) && !str_eq(f->decision, STR("ask")))
		return err_code(e, ERR_INVALID, "invalid_request",
				"decision must be permit, deny or ask, not \"%.*s\"",
				STR_FMT(str_first(f->decision, 40)));
	if (e->class != ERR_NONE || !query_time(r, "since", &f->since_ms, e) ||
	    !query_time(r, "until", &f->until_ms, e))
		return false;
	return query_u64(r, "from", INT64_MAX, &f->from, &given, e) &&
	       query_u64(r, "to", INT64_MAX, &f->to, &given, e);
}

struct page {
	uint64_t limit, after;
	bool has_after;
	struct audit_filter filter;
};

static bool write_page(struct request *r, struct page *p, struct buf *b, struct err *e)
{
	struct audit_reader *reader;
	uint64_t size, n = 0, left_from, left_to;
	struct audit_row row;
	bool got = true, ok;

	if (!audit_reader_open(r->site->service->folder, &mem_system, &reader, e))
		return false;
	ok = audit_reader_size(reader, &size, e);
	if (ok && p->has_after)
		p->filter.from = p->after + 1;
	ok = ok && audit_reader_start(reader, &p->filter, e);
	buf_lit(b, "{\"records\":[");
	while (ok && n < p->limit) {
		ok = audit_reader_next(reader, RECORDS_SCAN, &row, &got, e);
		if (!ok || !got)
			break;
		if (n++)
			buf_char(b, ',');
		buf_add(b, row.text);
	}
	if (ok) {
		audit_reader_left(reader, &left_from, &left_to);
		buf_printf(b, "],\"next\":%" PRIu64 ",\"size\":%" PRIu64 "}",
			   left_from ? left_from - 1 : 0, size);
	}
	audit_reader_close(reader);
	return ok;
}

void handle_records(struct request *r)
{
	static const char *const known[] = { "after", "limit", "agent", "decision", "kind",
					     "since", "until", "from",	"to",	    NULL };
	struct page p = { .limit = RECORDS_DEFAULT };
	struct err e = { 0 };
	bool given;

	if (!request_query_only(r, known))
		return;
	if (query_u64(r, "limit", RECORDS_MAX, &p.limit, &given, &e) && !p.limit)
		err_code(&e, ERR_INVALID, "invalid_request", "limit must be 1 to %d", RECORDS_MAX);
	if (e.class != ERR_NONE ||
	    !query_u64(r, "after", INT64_MAX - 1, &p.after, &p.has_after, &e) ||
	    !query_log_filter(r, &p.filter, &e) || !write_page(r, &p, request_reply(r, 200), &e)) {
		request_fail(r, &e);
		return;
	}
	request_send(r);
}

/* ---- checkpoint and key ---- */

static void act_checkpoint(struct request *r, struct control *c)
{
	struct buf *note = arena_zero(r->call->arena, sizeof(*note));

	r->user = note;
	if (!note) {
		err_set(&r->failed, ERR_UNAVAILABLE, "memory is short; try again later");
		return;
	}
	buf_in_arena(note, r->call->arena, 8192);
	/* Who asked is on record before what it covers is signed. */
	if (admin_record(c, "log.checkpoint", r->caller.id, &r->failed))
		(void)!audit_checkpoint(c->core->audit, note, &r->failed);
}

static void reply_checkpoint(struct request *r)
{
	const struct buf *note = r->user;

	call_reply(r->call, 200, "text/plain; charset=utf-8", 8192);
	buf_add(&r->call->reply.body, buf_str(note));
	request_send(r);
}

void handle_checkpoint(struct request *r)
{
	request_on_control(r, act_checkpoint, reply_checkpoint);
}

void handle_log_key(struct request *r)
{
	struct buf *b = request_reply(r, 200), vkey;

	buf_in_arena(&vkey, r->call->arena, 1024);
	audit_vkey(r->worker->core->audit, &vkey);
	buf_lit(b, "{\"vkey\":");
	buf_json(b, buf_str(&vkey));
	buf_char(b, '}');
	request_send(r);
}
