/* Policies over HTTP: put a set into force, look at those that were, go back to one. */
#include <inttypes.h>

#include "authz/base/text.h"
#include "authz/decide/generation_acts.h"
#include "authz/server/handlers.h"

#define LIST_DEFAULT 100
#define LIST_MAX 1000

bool members_only(struct request *r, const struct json *body, const char *const *known)
{
	struct err e = { 0 };

	for (uint32_t i = 0; i < body->n; i++) {
		const char *const *k = known;

		while (*k && !str_eq(body->items[i].name, str_c(*k)))
			k++;
		if (*k)
			continue;
		err_code(&e, ERR_INVALID, "unknown_member", "\"%.*s\" is not a member here",
			 STR_FMT(str_first(body->items[i].name, 64)));
		request_fail(r, &e);
		return false;
	}
	return true;
}

/* ---- acts ---- */

struct policy_change {
	struct policy_sources sources; /* apply */
	uint64_t number;	       /* activate; 0: the one before */
	struct str message, if_match;
	bool allow_older;
	struct generation_outcome outcome;
	struct err refused; /* answered with more than an error object */
};

bool read_if_match(struct request *r, struct str *hash, struct err *e)
{
	struct str v = call_header(r->call, STR("if-match"));

	*hash = (struct str){ NULL, 0 };
	if (!v.p || str_eq(v, STR("*")))
		return true;
	if (call_header_count(r->call, STR("if-match")) != 1 || v.n != 66 || v.p[0] != '"' ||
	    v.p[65] != '"')
		return err_code(e, ERR_INVALID, "invalid_request",
				"If-Match must be one ETag of /v1/policies: the hash in quotes");
	*hash = (struct str){ v.p + 1, 64 };
	return true;
}

/* Only relative paths of Lua files: what a folder could hold. */
static bool path_ok(struct str path)
{
	struct str rest = path, part;

	if (!str_ends(path, STR(".lua")) || path.n > 500 || !text_is_utf8(path) ||
	    !text_is_printable(path))
		return false;
	do {
		part = rest;
		if (!str_cut(rest, '/', &part, &rest))
			rest.n = 0;
		if (!part.n || part.p[0] == '.')
			return false;
	} while (rest.n);
	return path.p[path.n - 1] != '/';
}

bool read_files(const struct json *list, struct arena *a, struct policy_sources *out, struct err *e)
{
	struct policy_file *files = arena_alloc(a, (list->n + 1) * sizeof(*files));

	if (!files)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	for (uint32_t i = 0; i < list->n; i++) {
		const struct json *path = json_get_type(&list->items[i], STR("path"), JSON_STRING);
		const struct json *text = json_get_type(&list->items[i], STR("text"), JSON_STRING);

		if (!path || !text)
			return err_code(e, ERR_INVALID, "invalid_request",
					"files[%u] must be {\"path\":\"...\",\"text\":\"...\"}", i);
		if (!path_ok(path->s))
			return err_code(e, ERR_INVALID, "invalid_request",
					"files[%u].path must be relative and end in .lua, with no "
					"part that is empty or begins with a dot",
					i);
		files[i] = (struct policy_file){ path->s, text->s };
	}
	return policy_sources_from(out, files, list->n, e);
}

bool read_signature(const struct json *body, struct policy_sources *out, struct err *e)
{
	const struct json *text = json_get(body, STR("signature"));

	if (text && (text->type != JSON_STRING || text->s.n > POLICY_SIGNATURE_MAX))
		return err_code(e, ERR_INVALID, "invalid_request",
				"signature must be a string of at most %d bytes",
				POLICY_SIGNATURE_MAX);
	if (text)
		out->signature = text->s;
	return true;
}

static bool read_older(const struct json *body, struct policy_change *p, struct err *e)
{
	const struct json *older = json_get(body, STR("allow_older"));

	if (older && older->type != JSON_BOOL)
		return err_code(e, ERR_INVALID, "invalid_request",
				"allow_older must be true or false");
	p->allow_older = older && older->b;
	return true;
}

static struct policy_change *new_change(struct request *r)
{
	struct policy_change *p = arena_zero(r->call->arena, sizeof(*p));
	struct err e = { 0 };

	r->user = p;
	if (!p)
		err_set(&e, ERR_UNAVAILABLE, "memory is short; try again later");
	if (p && read_if_match(r, &p->if_match, &e))
		return p;
	request_fail(r, &e);
	return NULL;
}

/* A refusal with findings or a status of its own is answered here; others as usual. */
static void keep_refusal(struct request *r, struct policy_change *p)
{
	if (!p->outcome.findings.errors &&
	    (r->failed.class != ERR_CONFLICT || strcmp(r->failed.code, GENERATION_CONFLICT) != 0)) {
		policy_findings_clear(&p->outcome.findings);
		return;
	}
	p->refused = r->failed;
	r->failed = (struct err){ 0 };
}

void add_findings(struct buf *b, const struct policy_findings *f)
{
	buf_lit(b, "\"findings\":[");
	for (size_t i = 0; i < f->n; i++) {
		buf_printf(b, "%s{\"severity\":\"%s\",\"file\":", i ? "," : "",
			   f->items[i].error ? "error" : "warning");
		buf_json(b, f->items[i].file);
		buf_printf(b, ",\"line\":%d,\"message\":", f->items[i].line);
		buf_json(b, f->items[i].message);
		buf_char(b, '}');
	}
	buf_char(b, ']');
}

static void write_refused(struct request *r, const struct policy_change *p)
{
	struct buf *b;

	if (!p->outcome.findings.errors) {
		call_fail_as(r->call, 412, &p->refused);
		return;
	}
	b = request_reply(r, 400);
	buf_lit(b, "{\"error\":{\"status\":400,\"code\":\"policy_refused\",\"message\":");
	buf_json(b, str_c(p->refused.msg));
	buf_lit(b, "},");
	add_findings(b, &p->outcome.findings);
	buf_char(b, '}');
}

static void write_outcome(struct request *r, const struct generation_outcome *o)
{
	struct buf *b = request_reply(r, 200);

	put_etag(r, o->hash);
	buf_printf(b, "{\"generation\":%" PRIu64 ",\"hash\":\"", o->number);
	buf_hex(b, o->hash, sizeof(o->hash));
	buf_printf(b, "\",\"before\":%" PRIu64 ",\"changed\":%s,\"pinned\":%s,", o->before,
		   o->changed ? "true" : "false", o->pinned ? "true" : "false");
	buf_printf(b, "\"rules\":%zu,", o->rules);
	if (o->rollout)
		buf_printf(b, "\"aborted_rollout\":%" PRIu64 ",", o->rollout);
	add_findings(b, &o->findings);
	buf_char(b, '}');
}

static void reply_change(struct request *r)
{
	struct policy_change *p = r->user;

	if (p->refused.class != ERR_NONE)
		write_refused(r, p);
	else
		write_outcome(r, &p->outcome);
	policy_findings_clear(&p->outcome.findings); /* before the answer: then all of it is gone */
	request_send(r);
}

static void act_apply(struct request *r, struct control *c)
{
	struct policy_change *p = r->user;

	if (!generation_apply(c, &p->sources, r->caller.id, p->message, p->if_match, p->allow_older,
			      &p->outcome, &r->failed))
		keep_refusal(r, p);
	policy_sources_clear(&p->sources);
}

void handle_policies_apply(struct request *r)
{
	static const char *const known[] = { "allow_older", "files", "message", "signature", NULL };
	const struct json *body = request_json(r), *files, *message;
	struct policy_change *p;
	struct err e = { 0 };

	if (!body || !members_only(r, body, known))
		return;
	files = request_member(r, body, "files", JSON_ARRAY);
	if (!files)
		return;
	message = json_get(body, STR("message"));
	if (message && (message->type != JSON_STRING || message->s.n > MESSAGE_MAX)) {
		err_code(&e, ERR_INVALID, "invalid_request",
			 "message must be a string of at most %d bytes", MESSAGE_MAX);
		request_fail(r, &e);
		return;
	}
	p = new_change(r);
	if (!p)
		return;
	if (message)
		p->message = message->s;
	if (!read_files(files, r->call->arena, &p->sources, &e) ||
	    !read_signature(body, &p->sources, &e) || !read_older(body, p, &e)) {
		policy_sources_clear(&p->sources);
		request_fail(r, &e);
		return;
	}
	if (!request_on_control(r, act_apply, reply_change))
		policy_sources_clear(&p->sources);
}

static void act_activate(struct request *r, struct control *c)
{
	struct policy_change *p = r->user;

	if (!generation_activate(c, p->number, r->caller.id, p->if_match, &p->outcome, &r->failed))
		keep_refusal(r, p);
}

void handle_policies_activate(struct request *r)
{
	static const char *const known[] = { "generation", NULL };
	const struct json *body = request_json(r), *number;
	struct policy_change *p;
	struct err e = { 0 };

	if (!body || !members_only(r, body, known))
		return;
	number = json_get(body, STR("generation"));
	if (number && (number->type != JSON_INT || number->i < 1)) {
		err_code(&e, ERR_INVALID, "invalid_request",
			 "generation must be a number from 1 on; without it, the one that was in "
			 "force before");
		request_fail(r, &e);
		return;
	}
	p = new_change(r);
	if (!p)
		return;
	p->number = number ? (uint64_t)number->i : 0;
	request_on_control(r, act_activate, reply_change);
}

/* ---- looking ---- */

struct look {
	uint64_t before, limit, number;
	bool sources;
	struct generation_active active;
	struct buf out;
	size_t n;
	uint64_t last;
};

static void add_generation(struct look *l, const struct generation *g)
{
	struct buf *b = &l->out;
	char at[CLOCK_RFC3339_MAX];

	clock_rfc3339(g->stored_ms, at);
	buf_printf(b, "\"generation\":%" PRIu64 ",\"hash\":\"", g->number);
	buf_hex(b, g->hash, sizeof(g->hash));
	buf_printf(b, "\",\"files\":%zu,\"stored_at\":\"%s\",\"by\":", g->files, at);
	buf_json(b, g->by);
	buf_lit(b, ",\"message\":");
	buf_json(b, g->message);
	if (g->number == l->active.number) {
		clock_rfc3339(l->active.since_ms, at);
		buf_printf(b, ",\"active\":true,\"since\":\"%s\",\"pinned\":%s", at,
			   l->active.pinned ? "true" : "false");
	} else {
		buf_lit(b, ",\"active\":false");
	}
}

static void list_one(void *ctx, const struct generation *g)
{
	struct look *l = ctx;

	buf_add(&l->out, l->n++ ? STR(",{") : STR("{"));
	add_generation(l, g);
	buf_char(&l->out, '}');
	l->last = g->number;
}

static void act_list(struct request *r, struct control *c)
{
	struct look *l = r->user;

	buf_in_arena(&l->out, r->call->arena, (size_t)4 * LIMIT_BODY);
	buf_lit(&l->out, "{\"generations\":[");
	if (!generations_active(c->generations, &l->active, &r->failed) ||
	    !generations_list(c->generations, l->before, l->limit, list_one, l, &r->failed))
		return;
	buf_char(&l->out, ']');
	if (l->n == l->limit && l->last > 1)
		buf_printf(&l->out, ",\"next\":%" PRIu64, l->last);
	buf_char(&l->out, '}');
}

static void reply_look(struct request *r)
{
	struct look *l = r->user;

	request_send_made(r, &l->out);
}

static bool look_number(struct request *r, const char *name, uint64_t max, uint64_t *out,
			struct err *e)
{
	struct str text;

	if (!request_query(r, str_c(name), &text, e))
		return e->class == ERR_NONE;
	if (!text_u64(text, max, out) || !*out)
		return err_code(e, ERR_INVALID, "invalid_request",
				"%s must be a number from 1 to %" PRIu64, name, max);
	return true;
}

static struct look *new_look(struct request *r)
{
	struct look *l = arena_zero(r->call->arena, sizeof(*l));
	struct err e = { 0 };

	r->user = l;
	if (!l) {
		err_set(&e, ERR_UNAVAILABLE, "memory is short; try again later");
		request_fail(r, &e);
	}
	return l;
}

void handle_generations(struct request *r)
{
	static const char *const known[] = { "before", "limit", NULL };
	struct look *l;
	struct err e = { 0 };

	if (!request_query_only(r, known))
		return;
	l = new_look(r);
	if (!l)
		return;
	l->limit = LIST_DEFAULT;
	if (!look_number(r, "limit", LIST_MAX, &l->limit, &e) ||
	    !look_number(r, "before", INT64_MAX, &l->before, &e)) {
		request_fail(r, &e);
		return;
	}
	request_on_control(r, act_list, reply_look);
}

static void add_sources(struct buf *b, const struct policy_sources *s, bool text)
{
	buf_lit(b, ",\"sources\":[");
	for (size_t i = 0; i < s->n; i++) {
		buf_add(b, i ? STR(",{\"path\":") : STR("{\"path\":"));
		buf_json(b, s->files[i].path);
		buf_printf(b, ",\"bytes\":%zu", s->files[i].text.n);
		if (text) {
			buf_lit(b, ",\"text\":");
			buf_json(b, s->files[i].text);
		}
		buf_char(b, '}');
	}
	buf_char(b, ']');
}

/* The rules come from the sources: a generation is loaded anew to be shown. */
static void act_show(struct request *r, struct control *c)
{
	struct look *l = r->user;
	struct rules_listing rules = { &l->out, true };
	struct policy_sources s;
	struct policy_set *set = NULL;
	struct generation g;

	if (!generations_active(c->generations, &l->active, &r->failed))
		return;
	if (!l->number)
		l->number = l->active.number;
	if (!l->number) {
		err_code(&r->failed, ERR_NOT_FOUND, REASON_NO_POLICY, "no policies are in force");
		return;
	}
	if (!generations_get(c->generations, l->number, r->call->arena, &g, &r->failed) ||
	    !generations_load(c->generations, l->number, &s, &r->failed))
		return;
	buf_in_arena(&l->out, r->call->arena, (size_t)4 * LIMIT_BODY);
	buf_char(&l->out, '{');
	add_generation(l, &g);
	add_sources(&l->out, &s, l->sources);
	if (policy_set_load(&s, &c->config.limits, &set, NULL, &r->failed)) {
		buf_lit(&l->out, ",\"rules\":[");
		policy_set_rules(set, add_rule_json, &rules);
		buf_lit(&l->out, "]}");
		shared_release(&set->shared);
	}
	policy_sources_clear(&s);
}

void handle_generation(struct request *r)
{
	static const char *const known[] = { "number", "sources", NULL };
	struct look *l;
	struct str sources;
	struct err e = { 0 };

	if (!request_query_only(r, known))
		return;
	l = new_look(r);
	if (!l)
		return;
	l->sources = request_query(r, STR("sources"), &sources, &e) && str_eq(sources, STR("yes"));
	if (e.class != ERR_NONE || !look_number(r, "number", INT64_MAX, &l->number, &e)) {
		request_fail(r, &e);
		return;
	}
	request_on_control(r, act_show, reply_look);
}
