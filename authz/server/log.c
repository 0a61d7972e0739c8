/* The log for those who may read it: filters, checkpoint, key. Records are in records.c, the export
 * in export.c. */
#include <inttypes.h>
#include <stdlib.h>

#include "authz/audit/cosigned.h"
#include "authz/audit/read.h"
#include "authz/base/text.h"
#include "authz/decide/admin.h"
#include "authz/decide/log_key.h"
#include "authz/server/handlers.h"
#include "authz/server/service.h"

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
bool query_time(struct request *r, const char *name, int64_t *ms, struct err *e)
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

/* ---- checkpoint and key ---- */

static void act_checkpoint(struct request *r, struct control *c)
{
	struct buf *note = arena_zero(r->call->arena, sizeof(*note));

	r->user = note;
	if (!note) {
		err_set(&r->failed, ERR_UNAVAILABLE, "memory is short; try again later");
		return;
	}
	buf_in_arena(note, r->call->arena, NOTE_MAX);
	/* Who asked is on record before what it covers is signed. */
	if (admin_record(c, "log.checkpoint", r->caller.id, &r->failed))
		(void)!audit_checkpoint(c->core->audit, note, &r->failed);
}

static void reply_checkpoint(struct request *r)
{
	const struct buf *note = r->user;

	call_reply(r->call, 200, "text/plain; charset=utf-8", NOTE_MAX);
	buf_add(&r->call->reply.body, buf_str(note));
	request_send(r);
}

void handle_checkpoint(struct request *r)
{
	request_on_control(r, act_checkpoint, reply_checkpoint);
}

static void add_vkey(struct request *r, struct buf *b, const struct note_key *k)
{
	struct buf vkey;

	buf_in_arena(&vkey, r->call->arena, 1024);
	note_key_format(k, &vkey);
	buf_lit(b, "\"vkey\":");
	buf_json(b, buf_str(&vkey));
}

/* The current one, and all with the sizes of the checkpoints they sign. */
static void add_keys(struct request *r, struct buf *b)
{
	struct key_history *h = arena_alloc(r->call->arena, sizeof(*h));

	if (!h) {
		b->failed = true;
		return;
	}
	audit_keys(r->site->core->audit, h);
	add_vkey(r, b, &h->current);
	buf_lit(b, ",\"keys\":[");
	for (size_t i = 0; i <= h->past.n; i++) {
		uint64_t from = i ? h->past.at[i - 1].size + 1 : 0;
		struct note_key k = key_history_at(h, from ? from : 1);

		buf_printf(b, "%s{\"from\":%" PRIu64, i ? "," : "", from);
		if (i)
			buf_printf(b, ",\"record\":%" PRIu64, from - 2);
		if (i < h->past.n)
			buf_printf(b, ",\"to\":%" PRIu64, h->past.at[i].size);
		buf_char(b, ',');
		add_vkey(r, b, &k);
		buf_char(b, '}');
	}
	buf_char(b, ']');
}

void handle_log_key(struct request *r)
{
	struct buf *b = request_reply(r, 200);

	buf_char(b, '{');
	add_keys(r, b);
	witness_add_key(r, b);
	buf_char(b, '}');
	request_send(r);
}

/* ---- another key ---- */

static void act_rotate(struct request *r, struct control *c)
{
	(void)!log_key_rotate(c, r->caller.id, r->user, &r->failed);
}

static void reply_rotate(struct request *r)
{
	const uint64_t *seq = r->user;
	struct buf *b = request_reply(r, 200);

	buf_printf(b, "{\"record\":%" PRIu64 ",", *seq);
	add_keys(r, b);
	buf_char(b, '}');
	request_send(r);
}

void handle_log_key_rotate(struct request *r)
{
	static const char *const none[] = { NULL };
	const struct json *body = request_json(r);

	if (!body || !members_only(r, body, none))
		return;
	r->user = request_alloc(r, sizeof(uint64_t));
	if (r->user)
		request_on_control(r, act_rotate, reply_rotate);
}
