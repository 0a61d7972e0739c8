/*
 * The records for those who may read them: lists and searches in pages, one record with its
 * openings, and the index that makes searches fast. Who searched and who opened a record is on
 * record before the answer leaves. The same search of the same caller is noted once in ten minutes,
 * so that pages, and a tail that reads the record of its own reading, do not feed on themselves.
 */
#include <inttypes.h>

#include "authz/audit/index_search.h"
#include "authz/audit/read.h"
#include "authz/base/text.h"
#include "authz/decide/admin.h"
#include "authz/decide/outcome.h"
#include "authz/server/handlers.h"
#include "authz/server/page_token.h"
#include "authz/server/service.h"

#define RECORDS_DEFAULT 100
#define RECORDS_MAX 1000
#define NOTED_MS 600000
#define PAGE_BYTES (2 * LIMIT_BODY) /* a page ends with the record that passes them */
#define ASKED_MAX 16384		    /* bytes of a search in JSON */
#define PLACE 16		    /* bytes in a page token: what is left, as two numbers */

struct inquiry {
	struct index_filter filter;
	uint64_t limit;
	struct buf values;	     /* escaped */
	struct buf asked;	     /* what is searched for, as JSON */
	uint8_t noted[SHA256_LEN];   /* caller and asked */
	uint8_t request[SHA256_LEN]; /* and order and range: what a page token belongs to */
};

/* ---- what is asked for ---- */

/* As it stands in a leaf: escaped, without quotes. */
static struct str escape(struct inquiry *q, struct str value)
{
	size_t at = q->values.n;

	buf_json(&q->values, value);
	return buf_ok(&q->values) ? (struct str){ q->values.p + at + 1, q->values.n - at - 2 }
				  : value;
}

static bool check_value(struct str name, struct str value, struct err *e)
{
	uint64_t n;

	if (!value.n)
		return err_code(e, ERR_INVALID, "invalid_request",
				"%.*s is empty: leave it out to search for any", STR_FMT(name));
	if (str_eq(name, STR("decision")) && !str_eq(value, STR("permit")) &&
	    !str_eq(value, STR("deny")) && !str_eq(value, STR("ask")))
		return err_code(e, ERR_INVALID, "invalid_request",
				"decision must be permit, deny or ask, not \"%.*s\"",
				STR_FMT(str_first(value, 40)));
	if ((str_eq(name, STR("generation")) || str_eq(name, STR("rollout"))) &&
	    !text_u64(value, INT64_MAX, &n))
		return err_code(e, ERR_INVALID, "invalid_request", "%.*s must be a number",
				STR_FMT(name));
	return true;
}

/* Room for all values at once, so that none of them moves. */
static bool read_members(struct request *r, struct inquiry *q, struct err *e)
{
	struct str value;

	buf_in_arena(&q->values, r->call->arena, (size_t)8 * LIMIT_URL);
	if (!buf_room(&q->values, (size_t)7 * LIMIT_URL))
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	for (size_t i = 0; index_members[i]; i++) {
		struct str name = str_c(index_members[i]);

		if (request_query(r, name, &value, e)) {
			if (!check_value(name, value, e))
				return false;
			q->filter.is[q->filter.n++] = (struct index_wanted){ name,
									     escape(q, value) };
		} else if (e->class != ERR_NONE) {
			return false;
		}
	}
	return true;
}

/* Oldest first from a place on, else newest first, unless order says it. */
static bool read_order(struct request *r, struct inquiry *q, bool placed, struct err *e)
{
	struct str order;

	q->filter.newest_first = !placed;
	if (!request_query(r, STR("order"), &order, e))
		return e->class == ERR_NONE;
	q->filter.newest_first = str_eq(order, STR("newest"));
	if (!q->filter.newest_first && !str_eq(order, STR("oldest")))
		return err_code(e, ERR_INVALID, "invalid_request",
				"order must be newest or oldest, not \"%.*s\"",
				STR_FMT(str_first(order, 40)));
	return true;
}

static bool read_range(struct request *r, struct inquiry *q, struct err *e)
{
	struct index_filter *f = &q->filter;
	uint64_t after = 0;
	bool given, has_from, has_after;

	q->limit = RECORDS_DEFAULT;
	if (query_u64(r, "limit", RECORDS_MAX, &q->limit, &given, e) && !q->limit)
		err_code(e, ERR_INVALID, "invalid_request", "limit must be 1 to %d", RECORDS_MAX);
	if (e->class != ERR_NONE || !query_time(r, "since", &f->since_ms, e) ||
	    !query_time(r, "until", &f->until_ms, e) ||
	    !query_u64(r, "from", INT64_MAX, &f->from, &has_from, e) ||
	    !query_u64(r, "to", INT64_MAX, &f->to, &given, e) ||
	    !query_u64(r, "after", INT64_MAX - 1, &after, &has_after, e))
		return false;
	if (has_after && after + 1 > f->from)
		f->from = after + 1;
	return read_order(r, q, has_from || has_after, e);
}

/* The members in ascending order: canonical JSON. */
static void write_asked(struct inquiry *q)
{
	const struct index_filter *f = &q->filter;
	struct str last = { NULL, 0 };
	struct buf *b = &q->asked;

	buf_char(b, '{');
	for (size_t n = 0; n < f->n; n++) {
		const struct index_wanted *next = NULL;

		for (size_t i = 0; i < f->n; i++)
			if (str_cmp(f->is[i].name, last) > 0 &&
			    (!next || str_cmp(f->is[i].name, next->name) < 0))
				next = &f->is[i];
		if (!next)
			break;
		last = next->name;
		buf_printf(b, "%s\"%.*s\":\"", n ? "," : "", STR_FMT(last));
		buf_add(b, next->value);
		buf_char(b, '"');
	}
	buf_char(b, '}');
}

/* {"search":{...},"since":ms,"until":ms}: the opening of the record, and what pages share. */
static bool write_digests(struct request *r, struct inquiry *q, struct err *e)
{
	const struct index_filter *f = &q->filter;
	struct buf b;

	buf_in_arena(&q->asked, r->call->arena, ASKED_MAX);
	buf_lit(&q->asked, "{\"search\":");
	write_asked(q);
	if (f->since_ms)
		buf_printf(&q->asked, ",\"since\":%" PRId64, f->since_ms);
	if (f->until_ms)
		buf_printf(&q->asked, ",\"until\":%" PRId64, f->until_ms);
	buf_char(&q->asked, '}');
	buf_in_arena(&b, r->call->arena, (size_t)2 * ASKED_MAX);
	buf_json(&b, r->caller.id);
	buf_add(&b, buf_str(&q->asked));
	if (buf_ok(&b))
		sha256_of(r->worker->sha, buf_str(&b), q->noted);
	buf_printf(&b, "%d %" PRIu64 " %" PRIu64, f->newest_first, f->from, f->to);
	if (!buf_ok(&b) || !buf_ok(&q->asked))
		return err_set(e, ERR_INVALID, "the search is longer than %d bytes", ASKED_MAX);
	sha256_of(r->worker->sha, buf_str(&b), q->request);
	return true;
}

static bool read_page(struct request *r, struct inquiry *q, struct err *e)
{
	const struct core *core = r->site->core;
	struct page_token t;
	struct str text;
	uint64_t at[2];

	if (!request_query(r, STR("page"), &text, e))
		return e->class == ERR_NONE;
	if (!page_token_read(text, core->search_key, q->request, r->worker->sha,
			     clock_wall_ms(core->clock), r->call->arena, &t, e))
		return false;
	if (t.after.n != PLACE)
		return err_code(e, ERR_INVALID, "invalid_page_token", "page is none of ours");
	memcpy(at, t.after.p, PLACE);
	q->filter.from = at[0];
	q->filter.to = at[1];
	return true;
}

/* ---- the answer ---- */

static void write_end(struct request *r, const struct inquiry *q, const struct index_left *left,
		      struct buf *b)
{
	const struct core *core = r->site->core;
	uint64_t at[2] = { left->from, left->to };
	struct page_token next = { .expires_ms = clock_wall_ms(core->clock) + PAGE_TOKEN_MS,
				   .limit = (uint32_t)q->limit,
				   .after = { (const char *)at, PLACE } };
	bool newest = q->filter.newest_first;

	/* Oldest first there will be more one day: after=next asks for that. */
	buf_printf(b, "],\"indexed\":%" PRIu64 ",\"key_id\":\"%s\"", left->indexed,
		   core->log_key_id);
	if (!newest)
		buf_printf(b, ",\"next\":%" PRIu64, left->from ? left->from - 1 : 0);
	if (left->pruned)
		buf_printf(b, ",\"pruned\":%" PRIu64, left->pruned);
	if (left->from < left->to) {
		buf_lit(b, ",\"next_page\":\"");
		page_token_write(b, &next, core->search_key, q->request, r->worker->sha);
		buf_char(b, '"');
	}
	buf_printf(b, ",\"order\":\"%s\",\"size\":%" PRIu64 "}", newest ? "newest" : "oldest",
		   left->size);
}

static bool write_records(struct request *r, struct inquiry *q, struct buf *b, struct err *e)
{
	struct service *service = r->site->service;
	struct index_search *s = open_log_search(&service->log, service->folder, e);
	struct index_hit hit;
	struct index_left left;
	bool got = true, ok;

	if (!s)
		return false;
	ok = index_search_start(s, &q->filter, e);
	buf_lit(b, "{\"records\":[");
	for (uint64_t n = 0; ok && n < q->limit && b->n < PAGE_BYTES; n++) {
		ok = index_search_next(s, &hit, &got, e);
		if (!ok || !got)
			break;
		if (n)
			buf_char(b, ',');
		buf_add(b, hit.text);
	}
	index_search_left(s, &left);
	index_search_end(s);
	if (left.damaged && service->index)
		index_rebuild(service->index);
	if (ok)
		write_end(r, q, &left, b);
	else
		open_log_close(&service->log);
	return ok;
}

static void reply_records(struct request *r)
{
	struct inquiry *q = r->user;
	struct err e = { 0 };

	if (write_records(r, q, request_reply(r, 200), &e))
		request_send(r);
	else
		request_fail(r, &e);
}

/* It is on record now. */
static void reply_recorded(struct request *r)
{
	const struct inquiry *q = r->user;

	readers_note(&r->site->service->readers, q->noted,
		     clock_wall_ms(r->site->core->clock) + NOTED_MS);
	reply_records(r);
}

static void act_search(struct request *r, struct control *c)
{
	struct inquiry *q = r->user;
	struct act_record rec;

	act_record_begin(&rec);
	record_commit(&rec.job.record, OPENING_INPUT, buf_str(&q->asked), c->sha);
	record_str(&rec.job.record, STR("kind"), STR("log.search"));
	record_str(&rec.job.record, STR("pep"), r->caller.id);
	(void)!act_record_append(c, &rec, &r->failed);
}

void handle_records(struct request *r)
{
	static const char *const known[] = { "after",	 "limit",    "page",	   "order",
					     "since",	 "until",    "from",	   "to",
					     "trace_id", "agent",    "rule",	   "tool",
					     "model",	 "reason",   "pep",	   "generation",
					     "action",	 "rollout",  "decision",   "kind",
					     "user",	 "delegate", "delegation", NULL };
	struct inquiry *q;
	struct err e = { 0 };

	if (!request_query_only(r, known))
		return;
	q = request_alloc(r, sizeof(*q));
	if (!q)
		return;
	if (!read_members(r, q, &e) || !read_range(r, q, &e) || !write_digests(r, q, &e) ||
	    !read_page(r, q, &e)) {
		request_fail(r, &e);
		return;
	}
	r->user = q;
	if (readers_noted(&r->site->service->readers, q->noted,
			  clock_wall_ms(r->site->core->clock)))
		reply_records(r);
	else
		request_on_control(r, act_search, reply_recorded);
}

/* ---- one record ---- */

struct show {
	uint64_t seq;
};

static void write_openings(struct buf *b, const struct audit_row *row)
{
	bool first = true;

	buf_lit(b, ",\"openings\":{");
	for (enum opening o = OPENING_ANSWER; o < OPENING_COUNT; o++) {
		if (!row->openings[o].held)
			continue;
		buf_printf(b, "%s\"%.*s\":", first ? "" : ",", STR_FMT(record_opening_name(o)));
		buf_add(b, row->openings[o].value);
		first = false;
	}
	/* What a record commits to and is not there: erased, or masked from the start. */
	buf_lit(b, "},\"erased\":[");
	first = true;
	for (enum opening o = OPENING_ANSWER; o < OPENING_COUNT; o++) {
		if (row->openings[o].held || !row->leaf.commits[o].n)
			continue;
		buf_printf(b, "%s\"%.*s\"", first ? "" : ",", STR_FMT(record_opening_name(o)));
		first = false;
	}
	buf_char(b, ']');
}

static bool write_show(struct request *r, uint64_t seq, struct buf *b, struct err *e)
{
	const struct audit_filter f = { .from = seq, .to = seq + 1, .openings = true };
	uint8_t hash[SHA256_LEN];
	struct audit_reader *reader;
	struct audit_row row;
	bool got = false, ok;

	if (!audit_reader_open(r->site->service->folder, &mem_system, &reader, e))
		return false;
	ok = audit_reader_start(reader, &f, e) && audit_reader_next(reader, 1, &row, &got, e);
	if (ok && !got && seq < audit_reader_pruned(reader))
		ok = audit_reader_gone(reader, seq, e);
	else if (ok && !got)
		ok = err_code(e, ERR_NOT_FOUND, "not_found",
			      "the log has no record %" PRIu64 " yet", seq);
	if (ok) {
		tree_leaf_hash(r->worker->sha, row.text, hash);
		buf_printf(b, "{\"id\":\"ev_%s_%" PRIu64 "\",\"leaf\":\"",
			   r->site->core->log_key_id, seq);
		buf_hex(b, hash, SHA256_LEN);
		buf_char(b, '"');
		write_openings(b, &row);
		buf_lit(b, ",\"record\":");
		buf_add(b, row.text);
		buf_char(b, '}');
	}
	audit_reader_close(reader);
	return ok;
}

static void act_show(struct request *r, struct control *c)
{
	const struct show *s = r->user;
	struct act_record rec;

	act_record_begin(&rec);
	record_str(&rec.job.record, STR("kind"), STR("log.show"));
	record_str(&rec.job.record, STR("pep"), r->caller.id);
	record_int(&rec.job.record, STR("record"), (int64_t)s->seq);
	(void)!act_record_append(c, &rec, &r->failed);
}

static void reply_show(struct request *r)
{
	const struct show *s = r->user;
	struct err e = { 0 };

	/* Openings hold whole requests. */
	call_reply(r->call, 200, "application/json", (size_t)64 * LIMIT_BODY);
	if (write_show(r, s->seq, &r->call->reply.body, &e))
		request_send(r);
	else
		request_fail(r, &e);
}

void handle_record(struct request *r)
{
	static const char *const known[] = { "id", "seq", NULL };
	struct audit_status status;
	struct show *s;
	struct str id;
	struct err e = { 0 };
	bool given;

	if (!request_query_only(r, known))
		return;
	s = request_alloc(r, sizeof(*s));
	if (!s)
		return;
	if (!query_u64(r, "seq", (uint64_t)TREE_SIZE_MAX - 1, &s->seq, &given, &e)) {
		request_fail(r, &e);
		return;
	}
	audit_status(r->worker->core->audit, &status);
	if (request_query(r, STR("id"), &id, &e)) {
		if (given)
			err_code(&e, ERR_INVALID, "invalid_request", "give id or seq, not both");
		else
			(void)!evaluation_seq(r->worker->core, id, &s->seq, &e);
	} else if (e.class == ERR_NONE && !given) {
		err_code(&e, ERR_INVALID, "invalid_request",
			 "which record? Give id (an evaluation id) or seq (its number)");
	}
	if (e.class == ERR_NONE && s->seq >= status.size)
		err_code(&e, ERR_NOT_FOUND, "not_found", "the log has no record %" PRIu64 " yet",
			 s->seq);
	if (e.class != ERR_NONE) {
		request_fail(r, &e);
		return;
	}
	r->user = s;
	request_on_control(r, act_show, reply_show);
}

/* ---- the index ---- */

static void act_reindex(struct request *r, struct control *c)
{
	if (admin_record(c, "log.reindex", r->caller.id, &r->failed))
		index_rebuild(r->site->service->index);
}

static void reply_reindex(struct request *r)
{
	struct audit_status log;

	audit_status(r->worker->core->audit, &log);
	buf_printf(request_reply(r, 202), "{\"size\":%" PRIu64 "}", log.size);
	request_send(r);
}

void handle_reindex(struct request *r)
{
	request_on_control(r, act_reindex, reply_reindex);
}

void add_index_status(struct buf *b, struct request *r)
{
	struct audit_status log;
	struct index_status x;

	audit_status(r->worker->core->audit, &log);
	index_status(r->site->service->index, &x);
	buf_printf(b,
		   ",\"index\":{\"indexed\":%" PRIu64 ",\"size\":%" PRIu64 ",\"lag\":%" PRIu64
		   ",\"rebuilds\":%" PRIu64,
		   x.indexed, log.size, log.size > x.indexed ? log.size - x.indexed : 0,
		   x.rebuilds);
	if (x.failing) {
		buf_lit(b, ",\"why\":");
		buf_json(b, str_c(x.trouble));
	}
	buf_char(b, '}');
}

void add_index_metrics(struct buf *b, struct request *r)
{
	struct audit_status log;
	struct index_status x;

	audit_status(r->worker->core->audit, &log);
	index_status(r->site->service->index, &x);
	buf_printf(b,
		   "# HELP writ_index_records Records that searches find by the index.\n"
		   "# TYPE writ_index_records gauge\n"
		   "writ_index_records %" PRIu64 "\n"
		   "# HELP writ_index_lag_records Records not in the index yet; searches read them "
		   "from the log.\n"
		   "# TYPE writ_index_lag_records gauge\n"
		   "writ_index_lag_records %" PRIu64 "\n"
		   "# HELP writ_index_rebuilds_total Times the index was begun anew.\n"
		   "# TYPE writ_index_rebuilds_total counter\n"
		   "writ_index_rebuilds_total %" PRIu64 "\n"
		   "# HELP writ_index_failures_total Tries to read the log or write the index that "
		   "failed.\n"
		   "# TYPE writ_index_failures_total counter\n"
		   "writ_index_failures_total %" PRIu64 "\n",
		   x.indexed, log.size > x.indexed ? log.size - x.indexed : 0, x.rebuilds,
		   x.failures);
}
