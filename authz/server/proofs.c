/* Proofs of single records and sizes, and the log as tiles (C2SP tlog-tiles). */
#include <inttypes.h>

#include "authz/audit/cosigned.h"
#include "authz/audit/proof.h"
#include "authz/audit/read.h"
#include "authz/audit/tiles.h"
#include "authz/audit/timestamp.h"
#include "authz/base/text.h"
#include "authz/decide/outcome.h"
#include "authz/server/handlers.h"
#include "authz/server/service.h"

#define PROOF_REPLY_MAX (4 * PROOF_FILE_MAX)

/* --- what is asked for --- */

struct number {
	const char *name;
	uint64_t v;
	bool given;
};

static bool read_number(struct request *r, struct number *n, struct err *e)
{
	struct str text;

	n->given = request_query(r, str_c(n->name), &text, e);
	if (!n->given)
		return e->class == ERR_NONE;
	if (!text_u64(text, (uint64_t)TREE_SIZE_MAX - 1, &n->v))
		return err_code(e, ERR_INVALID, "invalid_request", "%s must be a number", n->name);
	return true;
}

/* seq or id: inclusion; old: consistency; first and count: range. */
static bool read_ask(struct request *r, struct proof_ask *ask, struct err *e)
{
	struct number seq = { .name = "seq" }, old = { .name = "old" }, first = { .name = "first" },
		      count = { .name = "count" }, size = { .name = "size" };
	struct number *const all[] = { &seq, &old, &first, &count, &size };
	struct str text;

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (!read_number(r, all[i], e))
			return false;
	if (request_query(r, STR("record"), &text, e)) {
		ask->record = str_eq(text, STR("yes"));
		if (!ask->record && !str_eq(text, STR("no")))
			return err_code(e, ERR_INVALID, "invalid_request",
					"record must be yes or no");
	}
	if (e->class == ERR_NONE && !seq.given && request_query(r, STR("id"), &text, e)) {
		if (!evaluation_seq(r->worker->core, text, &seq.v, e))
			return false;
		seq.given = true;
	}
	if (e->class != ERR_NONE)
		return false;
	if (seq.given + old.given + first.given != 1 || first.given != count.given)
		return err_code(e, ERR_INVALID, "invalid_request",
				"ask for one proof: seq or id (a record), old (the log goes on "
				"from that many records), or first and count (a range)");
	ask->kind = seq.given ? PROOF_INCLUSION : old.given ? PROOF_CONSISTENCY : PROOF_RANGE;
	ask->a = seq.given ? seq.v : old.given ? old.v : first.v;
	ask->b = count.v > (uint64_t)TREE_SIZE_MAX - first.v ? (uint64_t)TREE_SIZE_MAX
							     : first.v + count.v;
	ask->size = size.v;
	return true;
}

/* --- the answer --- */

static void put_hashes(struct buf *b, const struct tree_proof *p)
{
	buf_lit(b, "\"hashes\":[");
	for (size_t i = 0; i < p->n; i++) {
		buf_add(b, i ? STR(",\"") : STR("\""));
		text_base64(b, BASE64_STD, p->hash[i], SHA256_LEN);
		buf_char(b, '"');
	}
	buf_lit(b, "],");
}

static void put_file(struct request *r, struct buf *b, const struct proof_ask *ask,
		     const struct log_proof *p)
{
	struct proof_file f = { .index = ask->a, .path = p->hashes, .note = buf_str(&p->note) };
	struct buf extra, text;

	buf_in_arena(&extra, r->call->arena, PROOF_FILE_MAX);
	buf_in_arena(&text, r->call->arena, PROOF_FILE_MAX);
	if (ask->record)
		text_base64(&extra, BASE64_STD, p->record.p, p->record.n);
	f.extra = buf_str(&extra);
	proof_file_format(&f, &text);
	b->failed |= !buf_ok(&extra) || !buf_ok(&text);
	buf_lit(b, ",\"tlog_proof\":");
	buf_json(b, buf_str(&text));
}

static void put_proof(struct request *r, struct buf *b, const struct proof_ask *ask,
		      const struct log_proof *p)
{
	static const char *const kinds[] = { [PROOF_INCLUSION] = "inclusion",
					     [PROOF_CONSISTENCY] = "consistency",
					     [PROOF_RANGE] = "range" };

	buf_char(b, '{');
	if (p->covered) {
		buf_lit(b, "\"checkpoint\":");
		buf_json(b, buf_str(&p->note));
		buf_char(b, ',');
	}
	if (ask->kind == PROOF_RANGE)
		buf_printf(b, "\"count\":%" PRIu64 ",", ask->b - ask->a);
	buf_printf(b, "\"covered\":%s,", p->covered ? "true" : "false");
	if (ask->kind == PROOF_RANGE)
		buf_printf(b, "\"first\":%" PRIu64 ",", ask->a);
	if (p->covered)
		put_hashes(b, &p->hashes);
	buf_printf(b, "\"kind\":\"%s\"", kinds[ask->kind]);
	if (ask->kind == PROOF_INCLUSION) {
		buf_lit(b, ",\"leaf\":\"");
		buf_hex(b, p->leaf, SHA256_LEN);
		buf_char(b, '"');
	}
	if (ask->kind == PROOF_CONSISTENCY)
		buf_printf(b, ",\"old\":%" PRIu64, ask->a);
	if (ask->kind == PROOF_INCLUSION && ask->record) {
		buf_lit(b, ",\"record\":");
		buf_json(b, buf_str(&p->record));
	}
	if (ask->kind == PROOF_INCLUSION)
		buf_printf(b, ",\"seq\":%" PRIu64, ask->a);
	if (p->covered)
		buf_printf(b, ",\"size\":%" PRIu64, p->size);
	if (p->covered && ask->kind == PROOF_INCLUSION)
		put_file(r, b, ask, p);
	buf_char(b, '}');
}

void handle_proof(struct request *r)
{
	static const char *const known[] = { "seq",   "id",   "old",	"first",
					     "count", "size", "record", NULL };
	struct proof_ask ask = { 0 };
	struct log_proof p;
	struct err e = { 0 };

	if (!request_query_only(r, known))
		return;
	if (!read_ask(r, &ask, &e)) {
		request_fail(r, &e);
		return;
	}
	if (proof_make(r->site->service->folder, &mem_system, &ask, &p, &e)) {
		call_reply(r->call, 200, "application/json", PROOF_REPLY_MAX);
		put_proof(r, &r->call->reply.body, &ask, &p);
		request_send(r);
	} else {
		request_fail(r, &e);
	}
	proof_clear(&p);
}

/* --- tiles --- */

/* What is not there for this caller, or not yet, is not there. */
static bool find_tile(struct request *r, struct tile *t, struct err *e)
{
	struct service *service = r->site->service;
	struct audit_reader *reader;
	struct tree_range range = { 0 };
	bool found = false, ok;

	if (!tile_path_parse(str_from(r->call->path, 1), t))
		return err_code(e, ERR_NOT_FOUND, "not_found",
				"%.*s names no tile; expected /tile/<level>/<index>[.p/<width>] or "
				"/tile/entries/<index>[.p/<width>]",
				STR_FMT(str_first(r->call->path, 100)));
	reader = open_log_reader(&service->log, service->folder, e);
	ok = reader && audit_reader_checkpoint(reader, 0, NULL, &range, &found, e);
	if (!ok)
		open_log_close(&service->log);
	if (ok && tile_width(t->level, t->index, found ? range.n : 0) < t->width)
		return err_code(e, ERR_NOT_FOUND, "not_found",
				"a tree of %" PRIu64 " records has no such tile", range.n);
	return ok;
}

/* The log is not public by itself: what a shared cache may keep is what somebody publishes
 * (`writ audit publish`). */
void handle_tile(struct request *r)
{
	static const char *const known[] = { NULL };
	struct service *service = r->site->service;
	struct tiles *tiles;
	struct tile t;
	struct err e = { 0 };

	if (!request_query_only(r, known))
		return;
	if (!find_tile(r, &t, &e)) {
		request_fail(r, &e);
		return;
	}
	call_reply(r->call, 200, "application/octet-stream", TILES_BUNDLE_MAX);
	tiles = open_log_tiles(&service->log, service->folder, &e);
	if (!tiles || !tiles_read(tiles, &t, &r->call->reply.body, &e)) {
		open_log_close(&service->log);
		request_fail(r, &e);
		return;
	}
	call_reply_header(r->call, STR("cache-control"),
			  STR("private, max-age=31536000, immutable"));
	request_send(r);
}

void handle_last_checkpoint(struct request *r)
{
	static const char *const known[] = { NULL };
	struct service *service = r->site->service;
	struct audit_reader *reader;
	struct tree_range range;
	struct err e = { 0 };
	bool found, ok;
	uint64_t size;

	if (!request_query_only(r, known))
		return;
	call_reply(r->call, 200, "text/plain; charset=utf-8", NOTE_MAX);
	/* With witnesses, what they have signed is what others see. */
	found = service->cosigner &&
		cosigned_read(service->folder, &r->call->reply.body, &size, &e);
	if (found) {
		timestamp_add(service->folder, &r->call->reply.body);
		call_reply_header(r->call, STR("cache-control"), STR("private, max-age=1"));
		request_send(r);
		return;
	}
	err_none(&e);
	reader = open_log_reader(&service->log, service->folder, &e);
	ok = reader && audit_reader_checkpoint(reader, 0, &r->call->reply.body, &range, &found, &e);
	if (!ok)
		open_log_close(&service->log);
	if (ok && !found)
		ok = err_code(&e, ERR_NOT_FOUND, "not_found",
			      "no checkpoint has been signed yet; ask again in a second");
	if (!ok) {
		request_fail(r, &e);
		return;
	}
	call_reply_header(r->call, STR("cache-control"), STR("private, max-age=1"));
	request_send(r);
}
