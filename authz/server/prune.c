/* /v1/audit/prune: GET says what could go and why no more, POST lets it go. */
#include <inttypes.h>

#include "authz/audit/index.h"
#include "authz/audit/sink.h"
#include "authz/base/text.h"
#include "authz/decide/prune.h"
#include "authz/server/handlers.h"
#include "authz/server/service.h"

#define REASON_MAX 1000

struct pruning {
	int64_t before_ms;
	struct hold *holds;
	size_t nholds;
	struct prune_plan plan;
	char limit[120]; /* what keeps more from going; "": nothing */
	struct prune_act act;
};

/* ---- what could go ---- */

/* What is younger than audit.retain stays, whatever is asked for. */
static bool read_before(struct request *r, struct pruning *x, struct err *e)
{
	int64_t retain = r->site->service->retain_s, youngest;

	if (retain == INT64_MAX)
		return err_code(
			e, ERR_CONFLICT, "retained",
			"records stay for ever: set audit.retain to how long they must stay "
			"at least, such as \"400d\"");
	youngest = clock_wall_ms(r->site->core->clock) - retain * 1000;
	if (!x->before_ms)
		x->before_ms = youngest;
	if (x->before_ms > youngest)
		return err_code(e, ERR_CONFLICT, "retained",
				"records of the last %" PRId64
				" s stay (audit.retain); name an earlier time",
				retain);
	return true;
}

static void limit_to(struct pruning *x, uint64_t *most, uint64_t at, const char *fmt,
		     const char *name)
{
	if (at >= *most)
		return;
	*most = at;
	snprintf(x->limit, sizeof(x->limit), fmt, name);
}

/* Who still needs a record: the index, each sink, a legal hold. */
static bool find_limit(struct request *r, struct pruning *x, uint64_t *most, struct err *e)
{
	const struct service *s = r->site->service;
	struct index_status index;
	struct sink_status sink;
	uint64_t held;

	*most = INT64_MAX;
	if (s->index) {
		index_status(s->index, &index);
		limit_to(x, most, index.indexed, "the index has not reached them%s", "");
	}
	for (size_t i = 0; i < sinks_count(s->sinks); i++) {
		sinks_status(s->sinks, i, &sink);
		limit_to(x, most, sink.next, "sink %s has not sent them", sink.name);
	}
	if (!holds_first(x->holds, x->nholds, s->folder, 0, *most, &held, e))
		return false;
	limit_to(x, most, held, "a legal hold is on them%s", "");
	return true;
}

/* Beside the control thread: looking for what they hold reads records. */
static bool list_holds(struct request *r, struct pruning *x, struct err *e)
{
	const struct db_options o = { .read_only = true, .autocheckpoint = -1, .busy_ms = 1000 };
	char path[4200];
	AUTO_DB *db = NULL;

	if (snprintf(path, sizeof(path), "%s/writ.db", r->site->service->folder) >=
	    (int)sizeof(path))
		return err_set(e, ERR_INVALID, "the data folder's path is too long");
	return db_open(path, &o, &db, e) &&
	       holds_list(db, r->call->arena, &x->holds, &x->nholds, e);
}

static bool find(struct request *r, struct pruning *x, struct err *e)
{
	struct prune_plan all;
	uint64_t most;

	if (!list_holds(r, x, e) || !read_before(r, x, e) || !find_limit(r, x, &most, e) ||
	    !prune_find(r->site->service->folder, x->before_ms, most, &x->plan, e) ||
	    !prune_find(r->site->service->folder, x->before_ms, INT64_MAX, &all, e))
		return false;
	if (all.to == x->plan.to)
		x->limit[0] = '\0';
	return true;
}

static void reply_plan(struct request *r, const struct pruning *x)
{
	struct buf *b = request_reply(r, 200);

	buf_printf(b,
		   "{\"from\":%" PRIu64 ",\"to\":%" PRIu64 ",\"records\":%" PRIu64
		   ",\"size\":%" PRIu64 ",\"covered\":%" PRIu64,
		   x->plan.from, x->plan.to, x->plan.to - x->plan.from, x->plan.size,
		   x->plan.covered);
	if (x->plan.going)
		buf_printf(b, ",\"going\":%" PRIu64, x->plan.going);
	if (x->limit[0]) {
		buf_lit(b, ",\"limit\":");
		buf_json(b, str_c(x->limit));
	}
	buf_char(b, '}');
	request_send(r);
}

void handle_prune_plan(struct request *r)
{
	static const char *const known[] = { "before", NULL };
	struct pruning *x;
	struct err e = { 0 };

	if (!request_query_only(r, known))
		return;
	x = request_alloc(r, sizeof(*x));
	if (!x)
		return;
	if (query_time(r, "before", &x->before_ms, &e) && find(r, x, &e))
		reply_plan(r, x);
	else
		request_fail(r, &e);
}

/* ---- letting go ---- */

static bool number_of(const struct json *body, const char *name, uint64_t *out, struct err *e)
{
	const struct json *v = json_get_type(body, str_c(name), JSON_INT);

	if (!v || v->i < 0)
		return err_code(e, ERR_INVALID, "invalid_request",
				"%s must be the number of a record, as GET gave it", name);
	*out = (uint64_t)v->i;
	return true;
}

static bool text_of(const struct json *body, const char *name, size_t max, bool required,
		    struct str *out, struct err *e)
{
	const struct json *v = json_get(body, str_c(name));

	if (!v && !required)
		return true;
	if (!v || v->type != JSON_STRING || !v->s.n || v->s.n > max)
		return err_code(e, ERR_INVALID, "invalid_request",
				"%s must be a string of 1 to %zu bytes", name, max);
	*out = v->s;
	return true;
}

static bool read_act(struct request *r, struct pruning *x, const struct json *body, struct err *e)
{
	struct str hash = { 0 }, before = { 0 };

	if (!number_of(body, "from", &x->act.order.from, e) ||
	    !number_of(body, "to", &x->act.order.to, e) ||
	    !text_of(body, "archive", PRUNE_ARCHIVE_MAX, true, &x->act.order.archive, e) ||
	    !text_of(body, "archive_sha256", 64, true, &hash, e) ||
	    !text_of(body, "before", 64, false, &before, e) ||
	    !text_of(body, "reason", REASON_MAX, false, &x->act.reason, e))
		return false;
	if (hash.n != 64 || !text_unhex(hash, x->act.archive_sha256, SHA256_LEN))
		return err_code(e, ERR_INVALID, "invalid_request",
				"archive_sha256 must be SHA-256 of the archive in hexadecimal");
	if (before.n && !clock_parse_rfc3339(before, &x->before_ms))
		return err_code(e, ERR_INVALID, "invalid_request",
				"before must be a time like 2026-11-21T10:00:00Z");
	x->act.by = r->caller.id;
	return true;
}

static void act_prune(struct request *r, struct control *c)
{
	(void)!prune_do(c, &((struct pruning *)r->user)->act, &r->failed);
}

static void reply_prune(struct request *r)
{
	const struct pruning *x = r->user;
	struct buf *b = request_reply(r, 200);

	buf_printf(b, "{\"record\":%" PRIu64 ",\"from\":%" PRIu64 ",\"to\":%" PRIu64 ",\"root\":\"",
		   x->act.seq, x->act.order.from, x->act.order.to);
	buf_hex(b, x->act.root, SHA256_LEN);
	buf_lit(b, "\"}");
	request_send(r);
}

/* The same look as for GET, now with what was asked for in its bounds. */
static bool check(struct request *r, struct pruning *x, struct err *e)
{
	if (!find(r, x, e))
		return false;
	x->act.holds = prune_holds_mark(x->holds, x->nholds);
	if (x->act.order.from != x->plan.from || x->act.order.to > x->plan.to ||
	    x->act.order.to <= x->plan.from || x->act.order.to % ROWS_TILE)
		return err_code(e, ERR_CONFLICT, "prune_changed",
				"records %" PRIu64 " to %" PRIu64 " cannot go: now it is %" PRIu64
				" to %" PRIu64 ", in steps of %d%s%s; look again",
				x->act.order.from, x->act.order.to, x->plan.from, x->plan.to,
				ROWS_TILE, x->limit[0] ? ": " : "", x->limit);
	return prune_root(r->site->service->folder, x->act.order.to, x->act.root, e);
}

void handle_prune(struct request *r)
{
	static const char *const known[] = { "from",	       "to",	 "before", "archive",
					     "archive_sha256", "reason", NULL };
	const struct json *body = request_json(r);
	struct pruning *x;
	struct err e = { 0 };

	if (!body || !members_only(r, body, known))
		return;
	x = request_alloc(r, sizeof(*x));
	if (!x)
		return;
	if (!read_act(r, x, body, &e) || !check(r, x, &e)) {
		request_fail(r, &e);
		return;
	}
	r->user = x;
	request_on_control(r, act_prune, reply_prune);
}
