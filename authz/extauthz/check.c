/*
 * The order: who the agent is, what it asks for, how often it may ask, then each action. Actions of
 * one request are decided in one turn of the loop, so by one policy set; each is a record of its
 * own, and the verdict leaves when the last of them is on disk.
 */
#include "authz/extauthz/check.h"

#include "authz/base/json_order.h"
#include "authz/base/text.h"
#include "authz/extauthz/check_agent.h"
#include "authz/extauthz/denial.h"
#include "authz/extauthz/list_filter.h"
#include "authz/extauthz/parts.h"
#include "authz/policy/definition.h"

/* How long one request may keep its loop, as a batch of evaluations may. */
#define CHECK_NS 50000000

struct asked {
	struct evaluation d;
	struct run *run;
	const struct decision_answer *answer;
};

struct run {
	struct check *c;
	struct traffic traffic;
	struct check_agent agent;
	struct asked *asked;
	size_t n, waiting;
	int64_t retry_ms;
	struct str remove[CHECK_REMOVE_MAX]; /* headers that must not reach the upstream */
	size_t nremove;
	struct str list, server;	    /* of check_verdict; empty: the answer is no list */
	const struct header_index *headers; /* until keep_texts */
	struct err refused;		    /* why, if it was; last: see begin */
};

struct check *check_new(struct worker *w, struct arena *a, struct arena *scratch)
{
	struct check *c = arena_zero(a, sizeof(*c));

	if (c) {
		c->worker = w;
		c->arena = a;
		c->scratch = scratch;
	}
	return c;
}

static bool header_name_ok(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!(s.p[i] >= 'a' && s.p[i] <= 'z') && !(s.p[i] >= '0' && s.p[i] <= '9') &&
		    s.p[i] != '-')
			return false;
	return s.n && s.n <= 64;
}

bool check_setting(struct check *c, struct str name, struct str value, struct err *e)
{
	if (str_eq(name, STR("peer"))) {
		/* These are the agent's own words. */
		if (!header_name_ok(value) || str_eq(value, STR("authorization")))
			return err_code(e, ERR_INVALID, "invalid_route",
					"setting peer must be the name of a header in lower case");
		c->peer_header = value;
		return true;
	}
	if (str_eq(name, STR("audience"))) {
		if (!text_is_printable(value) || !text_is_utf8(value) || !value.n ||
		    value.n > JWT_AUDIENCE_MAX)
			return err_code(e, ERR_INVALID, "invalid_route",
					"setting audience must be a text of 1 to %d bytes",
					JWT_AUDIENCE_MAX);
		c->audience = value;
		return true;
	}
	if (str_eq(name, STR("definition_digest"))) {
		if (!definition_digest_ok(value))
			return err_code(e, ERR_INVALID, "invalid_route",
					"setting definition_digest must be \"sha256:\" and 64 "
					"hexadecimal digits in lower case");
		c->definition = value;
		return true;
	}
	return traffic_route_set(&c->request.route, name, value, e);
}

/* ---- the verdict ---- */

static void set(struct check_verdict *v, const char *name, struct str value)
{
	if (value.n && v->nheaders < CHECK_HEADERS_MAX)
		v->headers[v->nheaders++] = (struct http_header){ str_c(name), value };
}

static void take_off(struct run *r, struct str name)
{
	for (size_t i = 0; i < r->nremove; i++)
		if (str_eq(r->remove[i], name))
			return;
	if (r->nremove < CHECK_REMOVE_MAX)
		r->remove[r->nremove++] = name;
}

#define STRIP_OWN 3 /* authorization, the peer header, x-forwarded-client-cert */

/* What a client could have forged, and what would serve the upstream as a proof to writ. Found
 * before the decision: when its record is on disk, the headers have left the processor's cache. */
static void strip(struct run *r)
{
	const struct traffic_request *q = &r->c->request;
	bool xfcc = r->headers->there & HEADER_BIT(HEADER_X_FORWARDED_CLIENT_CERT);

	if (r->agent.token_for_writ)
		take_off(r, STR("authorization"));
	for (size_t i = 0; (r->c->peer_header.n || xfcc) && i < q->nheaders; i++)
		if (str_eq(q->headers[i].name, r->c->peer_header) ||
		    str_eq(q->headers[i].name, header_names[HEADER_X_FORWARDED_CLIENT_CERT]))
			take_off(r, q->headers[i].name);
	for (size_t i = 0; r->headers->forged && i < q->nheaders; i++)
		if (header_is_forged(q->headers[i].name))
			take_off(r, q->headers[i].name);
}

/* There is room for all that strip takes off, or the request does not pass: a long row of headers
 * must not push the one that matters out of the list. */
static bool can_strip(const struct run *r, struct err *e)
{
	size_t n = r->headers->forged;

	return n <= CHECK_REMOVE_MAX - STRIP_OWN ||
	       err_code(e, ERR_INVALID, "forged_headers",
			"%zu headers begin with x-writ-; they are writ's own, and a client has no "
			"business sending them",
			n);
}

/* ---- what is left of the request ---- */

/* What must be known of the request when its answer comes. */
static void find_list(struct run *r)
{
	for (size_t i = 0; i < r->n && r->traffic.protocol == TRAFFIC_MCP; i++) {
		struct str name = r->traffic.actions[i].name;

		if (!list_kind_of(name) && !str_eq(name, STR("stream/open")))
			continue;
		r->list = r->traffic.batch ? STR("batch") : name;
		r->server = r->c->request.route.server;
	}
}

static bool keep(struct arena *a, struct str *s)
{
	size_t n = s->n;

	if (n)
		*s = arena_dup(a, *s);
	return s->n == n;
}

/* The verdict comes when the request is gone. */
static bool keep_texts(struct run *r)
{
	struct arena *a = r->c->arena;
	struct str *const texts[] = { &r->agent.id, &r->list, &r->server, &r->traffic.rpc_id,
				      &r->traffic.version };
	bool ok = true;

	/* All of them, also when one fails: what has no copy is empty, and never what is gone. */
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		ok = keep(a, texts[i]) && ok;
	for (size_t i = 0; i < r->nremove; i++)
		ok = keep(a, &r->remove[i]) && ok;
	r->traffic.actions = NULL;
	r->c->request.index = r->headers = NULL;
	r->traffic.http = NULL;
	r->agent.delegation = NULL;
	r->c->scratch = a;
	return ok;
}

/* ---- the answer ---- */

static void put_list(const struct run *r, struct check_verdict *v)
{
	if (!r->list.n)
		return;
	v->list = r->list;
	v->server = r->server;
	v->rpc_id = r->traffic.rpc_id;
	if (r->traffic.style != TRAFFIC_STYLE_HTTP)
		v->style = STR("jsonrpc");
}

static void allow(struct run *r, struct check_verdict *v)
{
	v->allow = true;
	v->status = 200;
	v->reason = r->asked[0].answer->result.reason;
	set(v, "x-writ-agent", r->agent.id.n ? r->agent.id : STR("anonymous"));
	set(v, "x-writ-decision-id", v->evaluation_ids);
	put_list(r, v);
	for (size_t i = 0; i < r->nremove; i++)
		v->remove[v->nremove++] = r->remove[i];
	r->c->done(r->c, v);
}

static void deny(struct run *r, struct check_verdict *v, const struct denial *d)
{
	v->agent = r->agent.id;
	if (d->status == 429) {
		v->retry_s = r->retry_ms / 1000 + 1;
		set(v, "retry-after", arena_printf(r->c->arena, "%lld", (long long)v->retry_s));
	}
	denial_write(r->c, &r->traffic, d, v);
	r->c->done(r->c, v);
}

/* A malformed or unproven request: as on record. */
static void refused(void *owner, const struct recorded *done)
{
	struct run *r = owner;
	struct check_verdict v = { .allow = false };
	int status = err_status(r->refused.class);
	struct denial d = { .status = status >= 500 ? 403 : status,
			    .reason = str_c(r->refused.code),
			    .message = str_c(r->refused.msg),
			    .bad_token = strcmp(r->refused.code, "unauthenticated") != 0 };

	(void)done; /* denied either way */
	deny(r, &v, &d);
}

static void refuse_run(struct run *r)
{
	(void)keep_texts(r); /* without memory the denial says less */
	worker_count(&r->c->worker->counters.refused);
	worker_refuse(r->c->worker, r->c->caller, &r->refused, refused, r);
}

static void no_memory(struct run *r)
{
	err_set(&r->refused, ERR_UNAVAILABLE, "memory is short; try again later");
	refuse_run(r);
}

/* The step-up that a denial asks for: its acr_value, or nothing. */
static struct str step_up(struct run *r, struct str obligations)
{
	const struct json *list = NULL;
	struct err ignored;

	if (!obligations.n ||
	    !json_parse(obligations, &json_default_limits, r->c->arena, &list, &ignored))
		return (struct str){ NULL, 0 };
	for (uint32_t i = 0; i < list->n; i++) {
		const struct json *type = json_get_type(&list->items[i], STR("type"), JSON_STRING);
		const struct json *acr = json_get_type(json_get(&list->items[i], STR("properties")),
						       STR("acr_value"), JSON_STRING);

		if (type && acr && str_eq(type->s, STR("step-up")) && text_is_printable(acr->s) &&
		    !memchr(acr->s.p, '"', acr->s.n) && !memchr(acr->s.p, '\\', acr->s.n))
			return acr->s;
	}
	return (struct str){ NULL, 0 };
}

static void put_ids(struct run *r, const struct asked *first, struct check_verdict *v)
{
	struct buf b;

	buf_in_arena(&b, r->c->arena, 64 * (r->n + 1));
	buf_add(&b, str_c(first->answer->evaluation_id));
	for (size_t i = 0; i < r->n; i++) {
		if (&r->asked[i] == first || !r->asked[i].answer->evaluation_id[0])
			continue;
		if (b.n)
			buf_char(&b, ',');
		buf_add(&b, str_c(r->asked[i].answer->evaluation_id));
	}
	if (buf_ok(&b))
		v->evaluation_ids = buf_str(&b);
	v->rule = first->answer->result.rule;
	v->generation = first->answer->generation;
}

/* MCP's own codes where they say more than "denied": a tool that is hidden looks like one that is
 * not there. 0: the usual one. */
static int mcp_code(const struct decision_answer *a)
{
	if (!a->recorded)
		return -32603; /* writ's trouble, not the caller's */
	if (str_eq(a->result.reason, STR(REASON_UNKNOWN_TOOL)) ||
	    str_eq(a->result.reason, STR(REASON_INVALID_ARGUMENTS)))
		return -32602;
	return 0;
}

/* Why this action keeps the request from passing; false: it does not. */
static bool stops(struct run *r, const struct asked *a, struct denial *d)
{
	const struct policy_result *p = &a->answer->result;

	if (a->answer->refused.class != ERR_NONE) {
		*d = (struct denial){ .status = 403,
				      .reason = str_c(a->answer->refused.code),
				      .message = str_c(a->answer->refused.msg) };
		return true;
	}
	if (p->decision != DECISION_PERMIT) {
		if (r->traffic.protocol == TRAFFIC_MCP)
			r->traffic.rpc_code = mcp_code(a->answer);
		*d = (struct denial){ .status = 403,
				      .policy = true,
				      .reason = p->reason,
				      .message = p->message,
				      .acr = step_up(r, p->obligations) };
		return true;
	}
	return false;
}

static void finish(struct run *r)
{
	struct check_verdict v = { .agent = r->agent.id };
	struct denial d;

	for (size_t i = 0; i < r->n; i++)
		if (stops(r, &r->asked[i], &d)) {
			put_ids(r, &r->asked[i], &v);
			deny(r, &v, &d);
			return;
		}
	put_ids(r, &r->asked[0], &v);
	allow(r, &v);
}

static void one_less(struct run *r)
{
	if (--r->waiting == 0)
		finish(r);
}

static void decided(struct evaluation *d, const struct decision_answer *a)
{
	struct asked *k = d->user;

	k->answer = a;
	one_less(k->run);
}

/* ---- the questions ---- */

static const struct json *pair(struct arena *a, struct field_name first, struct str v,
			       struct field_name second, struct str w)
{
	struct fields f;

	fields_begin(&f, a, 2);
	field_str(&f, first, v);
	field_str(&f, second, w);
	return fields_object(&f);
}

/* With the body as its text, so that the memory of rules grows with what they are given. */
static const struct json *action_of(struct run *r, const struct traffic_action *t)
{
	struct fields f;
	struct json *v;

	fields_begin(&f, r->c->scratch, 2);
	field_str(&f, FIELD("name"), t->name);
	field_json(&f, FIELD("properties"), t->args);
	v = fields_object(&f);
	if (v)
		v->raw = r->c->request.body;
	return v;
}

/* The body's digest joins q.http where the arguments do not hold all of it: what is approved or
 * found in the log is this body and no other. */
static const struct json *with_digest(struct run *r)
{
	const struct json *http = r->traffic.http;
	const struct check *c = r->c;
	struct json *from = arena_alloc(c->scratch, 2 * (http->n + 1) * sizeof(*from));
	struct json *whole = arena_zero(c->scratch, sizeof(*whole));
	char *hex = arena_alloc(c->scratch, 2 * SHA256_LEN);
	uint8_t hash[SHA256_LEN];

	if (!from || !whole || !hex)
		return NULL;
	sha256_of(c->worker->sha, c->request.body, hash);
	text_hex(hash, sizeof(hash), hex);
	memcpy(from, http->items, http->n * sizeof(*from));
	from[http->n] = (struct json){ .type = JSON_STRING,
				       .s = { hex, 2 * SHA256_LEN },
				       .name = STR("body_sha256") };
	*whole = (struct json){ .type = JSON_OBJECT,
				.n = http->n + 1,
				.items = from + http->n + 1 };
	return json_order(from, whole->n, from + http->n + 1) ? NULL : whole;
}

/* With what the proxy says of the tool's definition. */
static const struct json *resource_of(struct run *r, const struct traffic_action *t)
{
	struct arena *a = r->c->scratch;
	struct fields said, f;
	const struct json *properties;

	if (!r->c->definition.n || !str_eq(t->type, STR("tool")))
		return pair(a, FIELD("id"), t->id, FIELD("type"), t->type);
	fields_begin(&said, a, 1);
	field_str(&said, FIELD("definition_digest"), r->c->definition);
	properties = fields_object(&said);
	if (!properties)
		return NULL;
	fields_begin(&f, a, 3);
	field_str(&f, FIELD("id"), t->id);
	field_json(&f, FIELD("properties"), properties);
	field_str(&f, FIELD("type"), t->type);
	return fields_object(&f);
}

static bool ask(struct run *r, struct asked *k, const struct traffic_action *t,
		const struct json *subject)
{
	struct check *c = r->c;

	k->run = r;
	k->d = (struct evaluation){ .caller = c->caller,
				    .arena = c->arena,
				    .admitted = true,
				    .bare = true,
				    .done = decided,
				    .user = k };
	k->d.request = (struct decision_request){ .subject = subject,
						  .action = action_of(r, t),
						  .resource = resource_of(r, t),
						  .http = r->traffic.http,
						  .delegation = r->agent.delegation,
						  .request_id = c->request_id,
						  .trace_id = c->trace_id };
	return k->d.request.action && k->d.request.resource;
}

static bool prepare(struct run *r)
{
	struct check *c = r->c;
	bool known = r->agent.id.n != 0;
	const struct json *subject = pair(c->scratch, FIELD("id"),
					  known ? r->agent.id : STR("anonymous"), FIELD("type"),
					  known ? STR("agent") : STR("anonymous"));

	r->n = r->traffic.n;
	r->asked = arena_zero(c->arena, r->n * sizeof(*r->asked));
	if (r->traffic.protocol != TRAFFIC_MCP && c->request.body.n)
		r->traffic.http = with_digest(r);
	if (!subject || !r->asked || !r->traffic.http)
		return false;
	for (size_t i = 0; i < r->n; i++)
		if (!ask(r, &r->asked[i], &r->traffic.actions[i], subject))
			return false;
	find_list(r);
	return keep_texts(r);
}

/* All of them, though the first denial settles it: what was attempted is on record. */
static void run(struct run *r)
{
	static const struct decision_answer too_slow = {
		.refused = { ERR_UNAVAILABLE, "check_too_slow",
			     "the policies took too long over the actions before; send fewer" }
	};
	const struct clock *clock = r->c->worker->core->clock;
	int64_t until = r->n > 1 ? clock_mono_ns(clock) + CHECK_NS : 0;

	r->waiting = r->n + 1; /* ours: one may be done before the next has begun */
	for (size_t i = 0; i < r->n; i++) {
		if (i && clock_mono_ns(clock) > until) {
			r->asked[i].answer = &too_slow;
			one_less(r);
			continue;
		}
		decide(r->c->worker, &r->asked[i].d);
	}
	one_less(r);
}

static struct run *begin(struct check *c)
{
	struct run *r = arena_alloc(c->arena, sizeof(*r));

	if (!r) { /* no record can be made either; the denial needs no memory */
		struct check_verdict v = { .status = 403, .reason = STR("out_of_memory") };

		c->done(c, &v);
		return NULL;
	}
	memset(r, 0, offsetof(struct run, refused));
	err_none(&r->refused);
	r->c = c;
	r->traffic.protocol = c->request.route.protocol;
	r->traffic.style = c->request.route.style;
	return r;
}

/* Nobody proved who the agent is. What is public before any proof is for the policies to say. */
static bool proven(struct run *r, bool readable)
{
	if (r->agent.id.n || (readable && r->traffic.discovery))
		return true;
	return err_set(&r->refused, ERR_UNAUTHENTICATED,
		       "nobody says which agent this is: present an X.509-SVID to the proxy, or "
		       "\"Authorization: Bearer <JWT-SVID>\"");
}

void check_run(struct check *c)
{
	struct run *r = begin(c);
	struct header_index *index = arena_alloc(c->scratch, sizeof(*index));
	struct err e;
	bool ok;

	if (!r)
		return;
	if (!index) {
		no_memory(r);
		return;
	}
	header_index(index, c->request.headers, c->request.nheaders);
	c->request.index = r->headers = index;
	if (!can_strip(r, &r->refused) || !check_agent_find(c, &r->agent, &r->refused)) {
		refuse_run(r);
		return;
	}
	strip(r);
	if (!c->request.route.server.n)
		c->request.route.server = c->caller->server;
	ok = traffic_read(&c->request, &c->worker->core->json, c->scratch, &r->traffic, &e);
	if (!proven(r, ok)) {
		refuse_run(r);
		return;
	}
	if (!ok) {
		r->refused = e;
		refuse_run(r);
		return;
	}
	if (!decide_admit(c->worker, c->caller, (uint32_t)r->traffic.n, &r->retry_ms,
			  &r->refused)) {
		refuse_run(r);
		return;
	}
	if (!prepare(r)) {
		no_memory(r);
		return;
	}
	run(r);
}

void check_refuse(struct check *c, const struct err *e)
{
	struct run *r = begin(c);

	if (!r)
		return;
	r->refused = *e;
	refuse_run(r);
}
