/* POST /v1/audit/outcome and /v1/usage: PEPs say what became of what was permitted. GET
 * /v1/audit/open: of what nobody said anything yet. */
#include <inttypes.h>

#include "authz/audit/read.h"
#include "authz/base/text.h"
#include "authz/decide/outcome.h"
#include "authz/server/handlers.h"
#include "authz/server/service.h"

#define OPEN_DEFAULT 100
#define OPEN_MAX 1000
#define OPEN_SCAN 100000 /* records looked at for one answer */
#define OPEN_OLDER 60	 /* seconds: a call may take that long before it looks forgotten */

/* ---- reports ---- */

static void answer(struct outcome_report *o)
{
	struct request *r = o->user;
	struct buf *b;

	if (o->failed.class != ERR_NONE) {
		request_fail(r, &o->failed);
		return;
	}
	b = request_reply(r, 200);
	buf_printf(b, "{\"evaluation_id\":\"ev_%s_%" PRIu64 "\",\"record\":{\"seq\":%" PRIu64,
		   r->worker->core->log_key_id, o->seq, o->record);
	if (!o->repeated) {
		buf_lit(b, ",\"leaf\":\"");
		buf_hex(b, o->leaf, sizeof(o->leaf));
		buf_char(b, '"');
	}
	buf_printf(b, "},\"repeated\":%s}", o->repeated ? "true" : "false");
	request_send(r);
}

static void handle_report(struct request *r, enum closing_kind kind, const char *const *known)
{
	const struct json *body = request_json(r);
	struct outcome_report *o;
	struct err e = { 0 };

	if (!body || !members_only(r, body, known))
		return;
	o = request_alloc(r, sizeof(*o));
	if (!o)
		return;
	o->worker = r->worker;
	o->caller = &r->caller;
	o->arena = r->call->arena;
	o->folder = r->site->service->folder;
	o->trace_id = r->trace_id;
	o->kind = kind;
	o->done = answer;
	o->user = r;
	if (outcome_read(o, body, &e))
		outcome_report(o);
	else
		request_fail(r, &e);
}

void handle_outcome(struct request *r)
{
	static const char *const known[] = { "evaluation_id", "outcome", "detail", "duration_ms",
					     NULL };

	handle_report(r, CLOSING_OUTCOME, known);
}

void handle_usage(struct request *r)
{
	static const char *const known[] = { "evaluation_id", "input_tokens", "output_tokens",
					     "cost_micros", NULL };

	handle_report(r, CLOSING_USAGE, known);
}

/* ---- what is open ---- */

struct open_ask {
	uint64_t limit, after, older_s;
	bool has_after;
};

static bool query_number(struct request *r, const char *name, uint64_t least, uint64_t most,
			 uint64_t *out, bool *given, struct err *e)
{
	struct str text;
	bool there = request_query(r, str_c(name), &text, e);

	if (given)
		*given = there;
	if (!there)
		return e->class == ERR_NONE;
	if (!text_u64(text, most, out) || *out < least)
		return err_code(e, ERR_INVALID, "invalid_request",
				"%s must be a number from %" PRIu64 " to %" PRIu64, name, least,
				most);
	return true;
}

static void add_open(struct request *r, struct buf *b, const struct audit_row *row)
{
	static const char *const texts[] = { "agent", "model", "pep", "rule", "tool" };
	char at[CLOCK_RFC3339_MAX];

	buf_printf(b, "{\"evaluation_id\":\"ev_%s_%" PRIu64 "\",\"seq\":%" PRIu64,
		   r->worker->core->log_key_id, row->seq, row->seq);
	clock_rfc3339(row->leaf.time_ms, at);
	buf_printf(b, ",\"at\":\"%s\"", at);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct str v = leaf_text(row->text, str_c(texts[i]), r->call->arena);

		if (!v.n)
			continue;
		buf_printf(b, ",\"%s\":", texts[i]);
		buf_json(b, v);
	}
	buf_char(b, '}');
}

/* One answer looks at OPEN_SCAN records at most; `next` says where the following one goes on. */
static bool list_open(struct request *r, struct audit_reader *reader, struct closings *closings,
		      const struct open_ask *ask, struct buf *b, struct err *e)
{
	uint64_t n = 0, from, to, began;
	struct audit_row row;
	bool got = true, closed;

	audit_reader_left(reader, &began, &to);
	buf_lit(b, "{\"open\":[");
	do {
		audit_reader_left(reader, &from, &to);
		if (from - began >= OPEN_SCAN || n >= ask->limit)
			break;
		if (!audit_reader_next(reader, OPEN_SCAN, &row, &got, e))
			return false;
		if (!got)
			break;
		if (!closings_has_outcome(closings, row.seq, &closed, e))
			return false;
		if (closed)
			continue;
		if (n++)
			buf_char(b, ',');
		add_open(r, b, &row);
	} while (got);
	audit_reader_left(reader, &from, &to);
	buf_char(b, ']');
	if (from < to && from)
		buf_printf(b, ",\"next\":%" PRIu64, from - 1);
	if (audit_reader_pruned(reader))
		buf_printf(b, ",\"pruned\":%" PRIu64, audit_reader_pruned(reader));
	buf_char(b, '}');
	return true;
}

static bool open_and_list(struct request *r, const struct open_ask *ask, struct buf *b,
			  struct err *e)
{
	struct audit_filter filter = { .kind = STR("authz.decision"), .decision = STR("permit") };
	struct audit_reader *reader = NULL;
	struct closings *closings = worker_closings(r->worker, r->site->service->folder, e);
	bool ok;

	filter.from = ask->has_after ? ask->after + 1 : 0;
	filter.until_ms = clock_wall_ms(r->worker->core->clock) - (int64_t)ask->older_s * 1000;
	ok = closings && audit_reader_open(r->site->service->folder, &mem_system, &reader, e) &&
	     audit_reader_start(reader, &filter, e) && list_open(r, reader, closings, ask, b, e);
	audit_reader_close(reader);
	return ok;
}

void handle_open(struct request *r)
{
	static const char *const known[] = { "after", "limit", "older", NULL };
	struct open_ask ask = { .limit = OPEN_DEFAULT, .older_s = OPEN_OLDER };
	struct err e = { 0 };

	if (!request_query_only(r, known))
		return;
	if (!query_number(r, "limit", 1, OPEN_MAX, &ask.limit, NULL, &e) ||
	    !query_number(r, "older", 0, 366 * 86400, &ask.older_s, NULL, &e) ||
	    !query_number(r, "after", 0, (uint64_t)INT64_MAX - 1, &ask.after, &ask.has_after, &e) ||
	    !open_and_list(r, &ask, request_reply(r, 200), &e)) {
		request_fail(r, &e);
		return;
	}
	request_send(r);
}
