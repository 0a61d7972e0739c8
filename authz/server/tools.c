/* Tools and the pins of their definitions: /v1/tools. */
#include "authz/decide/definitions.h"

#include <inttypes.h>

#include "authz/policy/definition.h"
#include "authz/server/handlers.h"

#define LIST_BYTES (32 * 1024 * 1024)
#define CHUNK 64	     /* tools fetched at a time */
#define DIFFERENCES_MAX 1000 /* told of one tool */
#define FINDINGS_MAX 20	     /* tools named to the doctor */

static void put_text(struct buf *b, const char *name, struct str text)
{
	if (!text.n)
		return;
	buf_printf(b, ",\"%s\":", name);
	buf_json(b, text);
}

static void put_time(struct buf *b, const char *name, int64_t ms)
{
	char text[CLOCK_RFC3339_MAX];

	if (!ms)
		return;
	clock_rfc3339(ms, text);
	buf_printf(b, ",\"%s\":\"%s\"", name, text);
}

static const char *state_of(const struct policy_pin *pin, const struct policy_definition *known,
			    const struct definition_standing *standing)
{
	if (!pin)
		return "unpinned";
	if (!known || !known->observed.n)
		return "unseen";
	if (str_eq(known->observed, pin->digest))
		return "reviewed";
	if (policy_definition_holds(pin, known, known->observed))
		return "accepted";
	return standing && str_eq(standing->proposed, known->observed) ? "proposed" : "changed";
}

/* Members of an object, without its braces. */
static void put_tool(struct buf *b, struct str tool, const struct policy_pin *pin,
		     const struct policy_definition *known,
		     const struct definition_standing *standing)
{
	buf_lit(b, "\"tool\":");
	buf_json(b, tool);
	buf_printf(b, ",\"state\":\"%s\"", state_of(pin, known, standing));
	if (!pin)
		return;
	put_text(b, "pinned", pin->digest);
	buf_lit(b, ",\"at\":\"");
	buf_printf(b, "%.*s:%d\"", STR_FMT(pin->file), pin->line);
	if (!known)
		return;
	put_text(b, "observed", known->observed);
	put_text(b, "changes", known->changes);
	put_time(b, "seen_at", standing->seen_ms);
	put_text(b, "seen_by", standing->seen_by);
	put_text(b, "proposed", standing->proposed);
	put_text(b, "proposed_by", standing->proposed_by);
	put_time(b, "proposed_at", standing->proposed_ms);
	put_text(b, "accepted", known->accepted);
	if (!known->accepted.n)
		return;
	buf_lit(b, ",\"accepted_by\":[");
	buf_json(b, standing->accepted_first);
	buf_char(b, ',');
	buf_json(b, standing->accepted_by);
	buf_char(b, ']');
	put_time(b, "accepted_at", standing->accepted_ms);
}

/* ---- all of them ---- */

static void put_listed(struct request *r, struct buf *b, struct str tool)
{
	const struct definition_view *v = worker_definitions(r->worker);
	size_t i = definition_find(v, tool);
	bool known = v && i < v->n;

	buf_add(b, b->p[b->n - 1] == '[' ? STR("{") : STR(",{"));
	put_tool(b, tool, policy_set_pin(worker_policy(r->worker), tool),
		 known ? &v->known[i] : NULL, known ? &v->standing[i] : NULL);
	buf_char(b, '}');
}

void handle_tools(struct request *r)
{
	static const char *const known[] = { NULL };
	struct policy_set *set = worker_policy(r->worker);
	struct str names[CHUNK], after = { NULL, 0 };
	struct buf *b;
	size_t n;

	if (!request_query_only(r, known))
		return;
	call_reply(r->call, 200, "application/json", LIST_BYTES);
	b = &r->call->reply.body;
	buf_lit(b, "{\"tools\":[");
	do {
		n = set ? policy_set_names(set, POLICY_TOOLS, after, names, CHUNK) : 0;
		for (size_t i = 0; i < n && buf_ok(b); i++)
			put_listed(r, b, after = names[i]);
	} while (n == CHUNK && buf_ok(b));
	buf_lit(b, "]}");
	request_send(r);
}

/* ---- one of them ---- */

struct tool_act {
	struct str tool, digest, by;
	const struct json *body;
	bool accepted;
	struct buf out;
};

struct differences {
	struct buf *b;
	size_t n;
};

static bool put_difference(void *ctx, const struct definition_change *c)
{
	struct differences *d = ctx;

	if (d->n++ == DIFFERENCES_MAX)
		return false;
	buf_add(d->b, d->n == 1 ? STR("{\"path\":") : STR(",{\"path\":"));
	buf_json(d->b, c->path);
	buf_printf(d->b, ",\"change\":\"%s\"", c->how);
	if (c->was) {
		buf_lit(d->b, ",\"was\":");
		json_canonical(d->b, c->was);
	}
	if (c->is) {
		buf_lit(d->b, ",\"is\":");
		json_canonical(d->b, c->is);
	}
	buf_char(d->b, '}');
	return true;
}

static void put_report(struct buf *b, const struct definition_report *d)
{
	struct differences differences = { b, 0 };

	buf_char(b, '{');
	put_tool(b, d->pin.tool, &d->pin, &d->known, &d->standing);
	if (d->was) {
		buf_lit(b, ",\"pinned_definition\":");
		json_canonical(b, d->was);
	}
	if (d->is) {
		buf_lit(b, ",\"observed_definition\":");
		json_canonical(b, d->is);
	}
	if (d->was && d->is) {
		buf_lit(b, ",\"differences\":[");
		definition_compare(d->was, d->is, put_difference, &differences);
		buf_printf(b, "],\"all_differences\":%s",
			   differences.n > DIFFERENCES_MAX ? "false" : "true");
	}
	buf_char(b, '}');
}

static void act_show(struct request *r, struct control *c)
{
	struct tool_act *t = r->user;
	struct definition_report d;

	buf_in_arena(&t->out, r->call->arena, LIST_BYTES);
	if (definition_report(c, t->tool, r->call->arena, &d, &r->failed))
		put_report(&t->out, &d);
}

static void reply_made(struct request *r)
{
	request_send_made(r, &((struct tool_act *)r->user)->out);
}

void handle_tool(struct request *r)
{
	static const char *const known[] = { "tool", NULL };
	struct tool_act *t = request_alloc(r, sizeof(*t));
	struct err e = { 0 };

	if (!t || !request_query_only(r, known))
		return;
	r->user = t;
	if (request_query(r, STR("tool"), &t->tool, &e)) {
		request_on_control(r, act_show, reply_made);
		return;
	}
	if (e.class == ERR_NONE)
		err_code(&e, ERR_INVALID, "invalid_request", "tool=SERVER/TOOL is missing");
	request_fail(r, &e);
}

/* ---- acts ---- */

static void act_accept(struct request *r, struct control *c)
{
	struct tool_act *t = r->user;

	if (!definition_accept(c, t->tool, t->digest, t->by, &t->accepted, &r->failed))
		return;
	buf_in_arena(&t->out, r->call->arena, LIMIT_BODY);
	buf_lit(&t->out, "{\"tool\":");
	buf_json(&t->out, t->tool);
	put_text(&t->out, "digest", t->digest);
	put_text(&t->out, "by", t->by);
	buf_printf(&t->out, ",\"state\":\"%s\"}", t->accepted ? "accepted" : "proposed");
}

static void act_withdraw(struct request *r, struct control *c)
{
	struct tool_act *t = r->user;

	if (!definition_withdraw(c, t->tool, t->by, &r->failed))
		return;
	buf_in_arena(&t->out, r->call->arena, LIMIT_BODY);
	buf_lit(&t->out, "{\"tool\":");
	buf_json(&t->out, t->tool);
	buf_lit(&t->out, ",\"state\":\"withdrawn\"}");
}

static bool read_act(struct request *r, const char *const *members)
{
	struct tool_act *t = request_alloc(r, sizeof(*t));
	const struct json *body = t ? request_json(r) : NULL, *tool;

	if (!body || !members_only(r, body, members))
		return false;
	tool = request_member(r, body, "tool", JSON_STRING);
	if (!tool)
		return false;
	t->tool = tool->s;
	t->by = r->caller.id;
	t->body = body;
	r->user = t;
	return true;
}

void handle_tool_accept(struct request *r)
{
	static const char *const members[] = { "tool", "digest", NULL };
	const struct json *digest;
	struct tool_act *t;
	struct err e = { 0 };

	if (!read_act(r, members))
		return;
	t = r->user;
	digest = request_member(r, t->body, "digest", JSON_STRING);
	if (!digest)
		return;
	t->digest = digest->s;
	if (definition_digest_ok(digest->s)) {
		request_on_control(r, act_accept, reply_made);
		return;
	}
	err_code(&e, ERR_INVALID, "invalid_request",
		 "digest must be \"sha256:\" and 64 hexadecimal digits in lower case, as "
		 "`writ tool diff` shows it");
	request_fail(r, &e);
}

void handle_tool_withdraw(struct request *r)
{
	static const char *const members[] = { "tool", NULL };

	if (read_act(r, members))
		request_on_control(r, act_withdraw, reply_made);
}

/* ---- operation ---- */

/* Tools in force whose calls are denied because of their definition: the first so many, and how
 * many in all. */
static size_t changed(struct request *r, struct str *names, size_t max)
{
	const struct definition_view *v = worker_definitions(r->worker);
	const struct policy_set *set = worker_policy(r->worker);
	size_t n = 0;

	for (size_t i = 0; set && v && i < v->n; i++) {
		const struct policy_pin *pin = policy_set_pin(set, v->known[i].tool);

		if (!pin || policy_definition_holds(pin, &v->known[i], v->known[i].observed))
			continue;
		if (n++ < max)
			names[n - 1] = v->known[i].tool;
	}
	return n;
}

void tools_add_metrics(struct request *r, struct buf *b)
{
	buf_printf(b,
		   "# HELP writ_tools_changed Pinned tools whose definition is not as reviewed.\n"
		   "# TYPE writ_tools_changed gauge\nwrit_tools_changed %zu\n",
		   changed(r, NULL, 0));
}

void tools_add_findings(struct request *r, struct buf *b)
{
	struct str names[FINDINGS_MAX];
	size_t n = changed(r, names, FINDINGS_MAX);
	struct str text;

	for (size_t i = 0; i < n && i < FINDINGS_MAX; i++) {
		text = arena_printf(
			r->call->arena,
			"%.*s is described otherwise than it was reviewed, so its calls "
			"are denied; see `writ tool diff %.*s`",
			STR_FMT(names[i]), STR_FMT(names[i]));
		buf_printf(b,
			   "%s{\"name\":\"tool_definition_changed\",\"severity\":\"warning\","
			   "\"message\":",
			   b->n && b->p[b->n - 1] == '[' ? "" : ",");
		buf_json(b, text);
		buf_char(b, '}');
	}
}
