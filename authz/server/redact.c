/* POST /v1/audit/redact: openings are erased for good. /v1/audit/holds: what may not be. */
#include <inttypes.h>

#include "authz/base/text.h"
#include "authz/decide/erase.h"
#include "authz/decide/outcome.h"
#include "authz/server/handlers.h"
#include "authz/server/service.h"

#define RECORDS_MAX 100 /* named in one request */
#define FIELDS_MAX 16
#define PERSON_MAX 2048

struct redaction {
	struct erase_ask ask;
	uint64_t seqs[RECORDS_MAX];
	struct erase_found found;
	struct erase_act act;
	int64_t at_ms;
};

/* ---- reading ---- */

static bool text_of(const struct json *body, const char *name, size_t max, struct str *out,
		    struct err *e)
{
	const struct json *v = json_get(body, str_c(name));

	if (!v)
		return true;
	if (v->type != JSON_STRING || !v->s.n || v->s.n > max)
		return err_code(e, ERR_INVALID, "invalid_request",
				"%s must be a string of 1 to %zu bytes", name, max);
	*out = v->s;
	return true;
}

static bool reason_of(const struct json *body, struct str *out, struct err *e)
{
	if (!text_of(body, "reason", ERASE_REASON_MAX, out, e))
		return false;
	return out->n ? true
		      : err_code(e, ERR_INVALID, "invalid_request",
				 "reason is missing: why, in a few words and without personal data "
				 "(a case number)");
}

static bool number_of(const struct json *body, const char *name, uint64_t *out, struct err *e)
{
	const struct json *v = json_get(body, str_c(name));

	if (v && (v->type != JSON_INT || v->i < 0))
		return err_code(e, ERR_INVALID, "invalid_request",
				"%s must be the number of a record", name);
	*out = v ? (uint64_t)v->i : 0;
	return true;
}

static bool time_of(const struct json *body, const char *name, int64_t *ms, struct err *e)
{
	const struct json *v = json_get(body, str_c(name));

	*ms = 0;
	if (!v)
		return true;
	if (v->type == JSON_INT && v->i > 0) {
		*ms = v->i;
		return true;
	}
	if (v->type != JSON_STRING || !clock_parse_rfc3339(v->s, ms))
		return err_code(e, ERR_INVALID, "invalid_request",
				"%s must be a time like 2026-11-21T10:00:00Z", name);
	return true;
}

/* Evaluation ids and numbers. */
static bool read_records(struct request *r, struct redaction *x, const struct json *list,
			 struct err *e)
{
	if (list->type != JSON_ARRAY || !list->n || list->n > RECORDS_MAX)
		return err_code(e, ERR_INVALID, "invalid_request",
				"records must be an array of 1 to %d evaluation ids or numbers",
				RECORDS_MAX);
	for (uint32_t i = 0; i < list->n; i++) {
		const struct json *v = &list->items[i];

		if (v->type == JSON_INT && v->i >= 0)
			x->seqs[i] = (uint64_t)v->i;
		else if (v->type != JSON_STRING)
			return err_code(e, ERR_INVALID, "invalid_request",
					"records[%" PRIu32 "] must be an evaluation id or a number",
					i);
		else if (!evaluation_seq(r->worker->core, v->s, &x->seqs[i], e))
			return false;
	}
	x->ask.seqs = x->seqs;
	x->ask.nseqs = list->n;
	return true;
}

static bool read_fields(struct redaction *x, const struct json *list, struct err *e)
{
	x->ask.which = list ? 0 : ERASE_ALL;
	if (list && (list->type != JSON_ARRAY || !list->n || list->n > FIELDS_MAX))
		return err_code(e, ERR_INVALID, "invalid_request",
				"fields must be an array of 1 to %d paths", FIELDS_MAX);
	for (uint32_t i = 0; list && i < list->n; i++) {
		enum opening o;

		if (list->items[i].type != JSON_STRING || !erase_opening_of(list->items[i].s, &o))
			return err_code(e, ERR_INVALID, "invalid_request",
					"fields[%" PRIu32 "] is nothing a record has: expected "
					"input, facts or answer, or a path in one of them, such as "
					"args.password",
					i);
		x->ask.which |= 1u << o;
	}
	return true;
}

static bool is_code(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= '0' && s.p[i] <= '9') ||
		      s.p[i] == '_' || s.p[i] == '-' || s.p[i] == '.'))
			return false;
	return true;
}

static bool read_ask(struct request *r, struct redaction *x, const struct json *body, struct err *e)
{
	const struct json *records = json_get(body, STR("records"));
	const struct json *all = json_get_type(body, STR("all"), JSON_BOOL);

	x->act.skip_held = all && all->b;
	if (x->act.skip_held + (records != NULL) + (json_get(body, STR("agent")) != NULL) +
		    (json_get(body, STR("person")) != NULL) !=
	    1)
		return err_code(e, ERR_INVALID, "invalid_request",
				"say what is to be erased by one of records, agent, person and "
				"\"all\":true");
	if ((records && !read_records(r, x, records, e)) ||
	    !text_of(body, "agent", PERSON_MAX, &x->ask.agent, e) ||
	    !text_of(body, "person", PERSON_MAX, &x->ask.person, e) ||
	    !read_fields(x, json_get(body, STR("fields")), e) ||
	    !time_of(body, "since", &x->ask.since_ms, e) ||
	    !time_of(body, "until", &x->ask.until_ms, e) ||
	    !number_of(body, "from", &x->ask.from, e) || !reason_of(body, &x->act.reason, e) ||
	    !text_of(body, "basis", 64, &x->act.basis, e))
		return false;
	if (x->act.skip_held && !x->ask.until_ms)
		return err_code(e, ERR_INVALID, "invalid_request",
				"with all, until must say before which time everything goes");
	if (!is_code(x->act.basis))
		return err_code(e, ERR_INVALID, "invalid_request",
				"basis is a code of a-z, 0-9, '_', '-' and '.', such as gdpr-17");
	return true;
}

/* ---- erasing ---- */

static void act_redact(struct request *r, struct control *c)
{
	struct redaction *x = r->user;

	x->at_ms = clock_wall_ms(c->core->clock);
	if (x->found.n)
		(void)!erase_do(c, &x->act, &r->failed);
	else
		x->act.forgotten = true;
}

static void put_time(struct buf *b, const char *name, int64_t ms)
{
	char at[CLOCK_RFC3339_MAX];

	clock_rfc3339(ms, at);
	buf_printf(b, ",\"%s\":\"%s\"", name, at);
}

static void reply_redact(struct request *r)
{
	const struct redaction *x = r->user;
	struct buf *b = request_reply(r, 200);
	bool first = true;

	buf_printf(b, "{\"records\":%" PRIu64 ",\"openings\":%" PRIu64 ",\"fields\":[",
		   x->act.records, x->act.openings);
	for (enum opening o = OPENING_ANSWER; o < OPENING_COUNT; o++) {
		if (!(x->act.which & 1u << o))
			continue;
		buf_printf(b, "%s\"%.*s\"", first ? "" : ",", STR_FMT(record_opening_name(o)));
		first = false;
	}
	buf_lit(b, "],\"redactions\":[");
	for (size_t i = 0; i < x->act.nparts; i++) {
		buf_printf(b, "%s{\"seq\":%" PRIu64 ",\"leaf\":\"", i ? "," : "",
			   x->act.parts[i].seq);
		buf_hex(b, x->act.parts[i].leaf, sizeof(x->act.parts[i].leaf));
		buf_lit(b, "\",\"records\":");
		buf_json(b, x->act.parts[i].records);
		buf_char(b, '}');
	}
	buf_printf(b, "],\"forgotten\":%s", x->act.forgotten ? "true" : "false");
	if (x->act.held)
		buf_printf(b, ",\"held\":%" PRIu64, x->act.held);
	if (x->found.next)
		buf_printf(b, ",\"next\":%" PRIu64, x->found.next);
	put_time(b, "at", x->at_ms);
	buf_lit(b, ",\"by\":");
	buf_json(b, r->caller.id);
	buf_char(b, '}');
	request_send(r);
}

/* What is there is looked for on this door's thread, a bounded number of records at a time; whether
 * it may go is asked where it goes. */
void handle_redact(struct request *r)
{
	static const char *const known[] = { "records", "agent", "all",	  "person",
					     "fields",	"since", "until", "from",
					     "reason",	"basis", NULL };
	const struct json *body = request_json(r);
	struct redaction *x;
	struct err e = { 0 };

	if (!body || !members_only(r, body, known))
		return;
	x = request_alloc(r, sizeof(*x));
	if (!x)
		return;
	if (!read_ask(r, x, body, &e) ||
	    !erase_find(r->site->service->folder, &x->ask, r->call->arena, &x->found, &e)) {
		request_fail(r, &e);
		return;
	}
	x->act.found = &x->found;
	x->act.which = x->ask.which;
	x->act.by = r->caller.id;
	x->act.arena = r->call->arena;
	r->user = x;
	request_on_control(r, act_redact, reply_redact);
}

/* ---- holds ---- */

struct holding {
	struct hold hold, *list;
	size_t n;
};

static void put_hold(struct buf *b, const struct hold *h)
{
	buf_printf(b, "{\"hold\":%" PRIu64, h->id);
	if (h->agent.n) {
		buf_lit(b, ",\"agent\":");
		buf_json(b, h->agent);
	}
	if (h->from)
		buf_printf(b, ",\"from\":%" PRIu64, h->from);
	if (h->to)
		buf_printf(b, ",\"to\":%" PRIu64, h->to);
	if (h->since_ms)
		put_time(b, "since", h->since_ms);
	if (h->until_ms)
		put_time(b, "until", h->until_ms);
	buf_lit(b, ",\"reason\":");
	buf_json(b, h->reason);
	buf_lit(b, ",\"by\":");
	buf_json(b, h->by);
	put_time(b, "at", h->at_ms);
	buf_char(b, '}');
}

static void act_holds(struct request *r, struct control *c)
{
	struct holding *x = r->user;

	(void)!holds_list(c->db, r->call->arena, &x->list, &x->n, &r->failed);
}

static void reply_holds(struct request *r)
{
	const struct holding *x = r->user;
	struct buf *b = request_reply(r, 200);

	buf_lit(b, "{\"holds\":[");
	for (size_t i = 0; i < x->n; i++) {
		if (i)
			buf_char(b, ',');
		put_hold(b, &x->list[i]);
	}
	buf_lit(b, "]}");
	request_send(r);
}

void handle_holds(struct request *r)
{
	static const char *const known[] = { NULL };

	if (!request_query_only(r, known))
		return;
	r->user = request_alloc(r, sizeof(struct holding));
	if (r->user)
		request_on_control(r, act_holds, reply_holds);
}

static void act_hold_add(struct request *r, struct control *c)
{
	struct holding *x = r->user;

	x->hold.at_ms = clock_wall_ms(c->core->clock);
	(void)!hold_put_on(c, &x->hold, &r->failed);
}

static void reply_hold(struct request *r)
{
	const struct holding *x = r->user;

	put_hold(request_reply(r, 200), &x->hold);
	request_send(r);
}

static struct holding *begin_hold(struct request *r, const struct json *body,
				  const char *const *known)
{
	struct holding *x;

	if (!body || !members_only(r, body, known))
		return NULL;
	x = request_alloc(r, sizeof(*x));
	if (!x)
		return NULL;
	x->hold.by = r->caller.id;
	r->user = x;
	return x;
}

void handle_hold_add(struct request *r)
{
	static const char *const known[] = { "agent", "from",	"to",  "since",
					     "until", "reason", "all", NULL };
	const struct json *body = request_json(r);
	struct holding *x = begin_hold(r, body, known);
	struct hold *h;
	struct err e = { 0 };
	bool all;

	if (!x)
		return;
	h = &x->hold;
	if (!text_of(body, "agent", PERSON_MAX, &h->agent, &e) ||
	    !number_of(body, "from", &h->from, &e) || !number_of(body, "to", &h->to, &e) ||
	    !time_of(body, "since", &h->since_ms, &e) ||
	    !time_of(body, "until", &h->until_ms, &e) || !reason_of(body, &h->reason, &e)) {
		request_fail(r, &e);
		return;
	}
	all = json_get_type(body, STR("all"), JSON_BOOL) && json_get(body, STR("all"))->b;
	if (all == (h->agent.n || h->from || h->to || h->since_ms || h->until_ms)) {
		err_code(&e, ERR_INVALID, "invalid_request",
			 "say what is held by agent, from, to, since or until, or \"all\":true "
			 "alone");
		request_fail(r, &e);
		return;
	}
	request_on_control(r, act_hold_add, reply_hold);
}

static void act_hold_remove(struct request *r, struct control *c)
{
	struct holding *x = r->user;

	(void)!hold_take_off(c, x->hold.id, x->hold.by, x->hold.reason, &r->failed);
}

static void reply_hold_removed(struct request *r)
{
	const struct holding *x = r->user;

	buf_printf(request_reply(r, 200), "{\"hold\":%" PRIu64 ",\"removed\":true}", x->hold.id);
	request_send(r);
}

void handle_hold_remove(struct request *r)
{
	static const char *const known[] = { "hold", "reason", NULL };
	const struct json *body = request_json(r);
	struct holding *x = begin_hold(r, body, known);
	struct err e = { 0 };

	if (!x)
		return;
	if (!number_of(body, "hold", &x->hold.id, &e) || !reason_of(body, &x->hold.reason, &e)) {
		request_fail(r, &e);
		return;
	}
	request_on_control(r, act_hold_remove, reply_hold_removed);
}
