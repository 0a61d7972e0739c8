/* POST /v1/audit/timestamp: an RFC 3161 time stamp of one of our checkpoints, to be kept beside it.
 * Whoever brings it has checked its authority; here it must be over what this log signed. */
#include "authz/audit/timestamp.h"

#include <inttypes.h>

#include "authz/audit/read.h"
#include "authz/base/text.h"
#include "authz/server/handlers.h"
#include "authz/server/service.h"

struct stamp {
	struct str checkpoint, token; /* token: in DER */
	uint64_t size;
	int64_t at_s;
};

/* Is @text that of a checkpoint which was signed and stored? */
static bool is_ours(const char *folder, struct str text, uint64_t size, struct err *e)
{
	struct audit_reader *reader = NULL;
	struct tree_range range = { 0 };
	struct note stored = { .n = 0 };
	bool found = false, ok;
	AUTO_BUF note;

	buf_init(&note, mem_system, NOTE_MAX);
	ok = audit_reader_open(folder, &mem_system, &reader, e) &&
	     audit_reader_checkpoint(reader, size, &note, &range, &found, e);
	audit_reader_close(reader);
	if (!ok)
		return false;
	if (!found || !note_parse(buf_str(&note), &stored, e) || !str_eq(stored.text, text))
		return err_code(e, ERR_NOT_FOUND, "not_found",
				"no such checkpoint over %" PRIu64 " records was signed here",
				size);
	return true;
}

static bool record_stamp(struct request *r, struct control *c, const struct stamp *s, struct err *e)
{
	struct act_record rec;
	struct str parts[] = { s->token };
	uint8_t hash[SHA256_LEN];

	sha256_parts(c->sha, parts, 1, hash);
	act_record_begin(&rec);
	record_str(&rec.job.record, STR("kind"), STR("log.timestamp"));
	record_str(&rec.job.record, STR("pep"), r->caller.id);
	record_int(&rec.job.record, STR("size"), (int64_t)s->size);
	record_int(&rec.job.record, STR("stamped_at"), s->at_s);
	record_hash(&rec.job.record, STR("token_sha256"), hash);
	return act_record_append(c, &rec, e);
}

static void act_stamp(struct request *r, struct control *c)
{
	struct stamp *s = r->user;
	struct checkpoint cp = { .size = 0 };
	struct note note = { .n = 0 };

	if (!note_parse(s->checkpoint, &note, &r->failed) ||
	    !checkpoint_parse(note.text, &cp, &r->failed) ||
	    !is_ours(r->site->service->folder, note.text, cp.size, &r->failed) ||
	    !timestamp_verify(s->token, note.text, (struct str){ 0 }, &s->at_s, &r->failed))
		return;
	s->size = cp.size;
	if (timestamp_store(r->site->service->folder, s->size, s->token, &r->failed))
		(void)!record_stamp(r, c, s, &r->failed);
}

static void reply_stamp(struct request *r)
{
	const struct stamp *s = r->user;
	struct buf *b = request_reply(r, 200);
	char at[CLOCK_RFC3339_MAX];

	clock_rfc3339(s->at_s * 1000, at);
	buf_printf(b, "{\"size\":%" PRIu64 ",\"stamped_at\":\"%s\"}", s->size, at);
	request_send(r);
}

void handle_timestamp(struct request *r)
{
	static const char *const known[] = { "checkpoint", "token", NULL };
	const struct json *body = request_json(r), *checkpoint, *token;
	struct err e = { 0 };
	struct stamp *s;
	uint8_t *der;
	size_t n = 0;

	if (!body || !members_only(r, body, known) ||
	    !(checkpoint = request_member(r, body, "checkpoint", JSON_STRING)) ||
	    !(token = request_member(r, body, "token", JSON_STRING)) ||
	    !(s = request_alloc(r, sizeof(*s))) ||
	    !(der = request_alloc(r, 3 * token->s.n / 4 + 3)))
		return;
	if (!text_unbase64(token->s, BASE64_STD, der, &n) || !n || n > TIMESTAMP_MAX) {
		err_code(&e, ERR_INVALID, "invalid_request",
			 "token must be base64 of 1 to %d bytes: an RFC 3161 token in DER",
			 TIMESTAMP_MAX);
		request_fail(r, &e);
		return;
	}
	s->checkpoint = checkpoint->s;
	s->token = (struct str){ (const char *)der, n };
	r->user = s;
	request_on_control(r, act_stamp, reply_stamp);
}
