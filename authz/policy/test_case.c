/* One case of a test: its request, three evaluations, and whether they are what was expected. */
#include <stdio.h>

#include "authz/base/text.h"
#include "authz/policy/findings.h"
#include "authz/policy/rules.h"
#include "authz/policy/test_inside.h"
#include "authz/policy/value.h"

#define DAY_MS INT64_C(86400000)

static const char *const keys[] = { "agent",	   "call",    "model", "action",    "resource",
				    "args",	   "context", "now",   "pep",	    "subject",
				    "server",	   "expect",  "rule",  "reason",    "message",
				    "obligations", "name",    "skip",  "approvers", "http",
				    "user",	   "chain",   NULL };
static const char *const decisions[] = { "deny", "ask", "permit", NULL };

struct asked {
	struct test_run *run;
	const struct test_fields *base, *own;
	const char *expect; /* of t.permit and its like, or NULL */
	int line;
	struct str name;
	struct policy_request q;
	struct str text[2]; /* of the request, in two orders */
};

static const struct json *in(const struct test_fields *f, const char *name)
{
	for (uint32_t i = 0; i < f->n; i++)
		if (str_eq(f->items[i].name, str_c(name)))
			return &f->items[i];
	return NULL;
}

static const struct json *get(const struct asked *c, const char *name)
{
	const struct json *v = in(c->own, name);

	return v ? v : in(c->base, name);
}

static bool check_keys(const struct test_fields *f, struct err *e)
{
	char near[100];

	for (uint32_t i = 0; i < f->n; i++) {
		struct str name = f->items[i].name;
		bool known = false;

		for (size_t k = 0; keys[k] && !known; k++)
			known = str_eq(name, str_c(keys[k]));
		if (!known)
			return err_set(e, ERR_INVALID, "a test has no \"%.*s\"%s",
				       STR_FMT(str_first(name, 100)),
				       did_you_mean(name, keys, near));
	}
	return true;
}

/* A member that is a text, or @otherwise. */
static bool get_text(const struct asked *c, const char *name, struct str *out, struct err *e)
{
	const struct json *v = get(c, name);

	if (v && v->type != JSON_STRING)
		return err_set(e, ERR_INVALID, "%s is a text, not %s", name,
			       json_type_name(v->type));
	if (v)
		*out = v->s;
	return true;
}

/* "2026-03-04T20:00:00+01:00", or milliseconds. */
static bool get_now(struct asked *c, struct err *e)
{
	const struct json *v = get(c, "now");
	struct str s = v && v->type == JSON_STRING ? v->s : STR("");
	int64_t offset = 0;
	uint64_t h, m;
	char sign = 'Z';

	c->q.now_ms = POLICY_TEST_NOW;
	if (!v)
		return true;
	if (v->type == JSON_INT) {
		c->q.now_ms = v->i;
		return true;
	}
	if (s.n > 6 && s.n < 40 && s.p[s.n - 3] == ':' &&
	    (s.p[s.n - 6] == '+' || s.p[s.n - 6] == '-')) {
		struct str zone = { s.p + s.n - 6, 6 };

		sign = zone.p[0];
		if (zone.p[1] > '2' || zone.p[4] > '5' ||
		    !text_u64(str_first(str_from(zone, zone.p[1] == '0' ? 2 : 1),
					zone.p[1] == '0' ? 1 : 2),
			      23, &h) ||
		    !text_u64(str_from(zone, zone.p[4] == '0' ? 5 : 4), 59, &m))
			sign = 0;
		else
			offset = (int64_t)(h * 60 + m) * 60000;
		s = arena_printf(&c->run->scratch, "%.*sZ", (int)s.n - 6, s.p);
	}
	if (!sign || !clock_parse_rfc3339(s, &c->q.now_ms))
		return err_set(
			e, ERR_INVALID,
			"now is a time such as \"2026-03-04T09:30:00+01:00\" (or milliseconds)");
	c->q.now_ms -= sign == '-' ? -offset : offset;
	return true;
}

static bool get_agent(struct asked *c, struct err *e)
{
	const struct json *v = get(c, "agent");
	struct policy_attribute *list;

	if (!v || (v->type == JSON_BOOL && !v->b))
		return true;
	c->q.agent_id = STR("spiffe://acme.example/agent/test");
	c->q.agent_owner = STR("owner@acme.example");
	c->q.agent_state = STR("active");
	if (v->type == JSON_STRING) {
		c->q.agent_id = v->s;
		return true;
	}
	if (v->type != JSON_OBJECT)
		return err_set(e, ERR_INVALID,
			       "agent is a table of attributes, a SPIFFE ID, or false for none");
	list = arena_zero(&c->run->scratch, (v->n + 1) * sizeof(*list));
	if (!list)
		return err_set(e, ERR_NOMEM, "no memory for this test");
	for (uint32_t i = 0; i < v->n; i++) {
		const struct json *a = &v->items[i];

		if (a->type != JSON_STRING)
			return err_set(e, ERR_INVALID,
				       "attributes of agents are texts; agent.%.*s is %s",
				       STR_FMT(str_first(a->name, 100)), json_type_name(a->type));
		if (str_eq(a->name, STR("id")))
			c->q.agent_id = a->s;
		else if (str_eq(a->name, STR("owner")))
			c->q.agent_owner = a->s;
		else if (str_eq(a->name, STR("state")))
			c->q.agent_state = a->s;
		else
			list[c->q.nattributes++] = (struct policy_attribute){ a->name, a->s };
	}
	c->q.attributes = list;
	return true;
}

/* --- on whose behalf --- */

static bool get_user(const struct json *v, struct policy_delegation *d, struct arena *a,
		     struct err *e)
{
	const struct json *scope = json_get(v, STR("scope"));
	struct buf names;

	d->user_issuer = STR("https://login.acme.example");
	if (v->type == JSON_STRING) {
		d->user = v->s;
		return true;
	}
	for (uint32_t i = 0; i < v->n && v->type == JSON_OBJECT; i++) {
		const struct json *m = &v->items[i];

		if (str_eq(m->name, STR("id")) && m->type == JSON_STRING)
			d->user = m->s;
		else if (str_eq(m->name, STR("issuer")) && m->type == JSON_STRING)
			d->user_issuer = m->s;
		else if (m != scope || m->type != JSON_ARRAY)
			d = NULL;
		if (!d)
			break;
	}
	if (!d || v->type != JSON_OBJECT)
		return err_set(e, ERR_INVALID,
			       "user is a name, or { id = , issuer = , scope = { ... } }");
	buf_in_arena(&names, a, 64 * 1024);
	for (uint32_t i = 0; scope && i < scope->n; i++) {
		if (scope->items[i].type != JSON_STRING || !scope->items[i].s.n ||
		    memchr(scope->items[i].s.p, ' ', scope->items[i].s.n))
			return err_set(e, ERR_INVALID, "user.scope is a list of names");
		if (i)
			buf_char(&names, ' ');
		buf_add(&names, scope->items[i].s);
	}
	d->scope = buf_str(&names);
	return buf_ok(&names) || err_set(e, ERR_NOMEM, "no memory for this test");
}

/* A chain that is not given has the agent alone, who acts in any case. */
static bool get_chain(const struct asked *c, const struct json *v, struct policy_delegation *d,
		      struct err *e)
{
	uint32_t n = v && v->type == JSON_ARRAY ? v->n : 0;
	struct str *chain = arena_zero(&c->run->scratch, (n + 1) * sizeof(*chain));

	if (!chain)
		return err_set(e, ERR_NOMEM, "no memory for this test");
	for (uint32_t i = 0; i < n; i++) {
		chain[i] = v->items[i].s;
		if (v->items[i].type != JSON_STRING)
			n = 0;
	}
	if (v && !n)
		return err_set(e, ERR_INVALID,
			       "chain is a list of SPIFFE IDs, who acted first in front");
	if (!v && c->q.agent_id.p)
		chain[n++] = c->q.agent_id;
	d->chain = chain;
	d->nchain = n;
	return true;
}

/* As a verified token would say it: user = "alice", chain = { "spiffe://..." }. */
static bool get_delegation(struct asked *c, struct err *e)
{
	const struct json *user = get(c, "user"), *chain = get(c, "chain");
	struct policy_delegation *d;

	if (!user && !chain)
		return true;
	d = arena_zero(&c->run->scratch, sizeof(*d));
	if (!d)
		return err_set(e, ERR_NOMEM, "no memory for this test");
	c->q.delegation = d;
	return (!user || get_user(user, d, &c->run->scratch, e)) && get_chain(c, chain, d, e);
}

/* The request as JSON */

static struct json text(const char *name, struct str s)
{
	return (struct json){ .type = JSON_STRING, .name = str_c(name), .s = s };
}

static struct json object(const char *name, const struct json *items, uint32_t n)
{
	return (struct json){ .type = JSON_OBJECT, .name = str_c(name), .n = n, .items = items };
}

/* What the case is about: the innermost of call, model, or action with resource. */
static bool get_target(const struct asked *c, const char **action, const char **type,
		       struct str *id, struct err *e)
{
	const struct test_fields *from[] = { c->own, c->base };

	for (size_t i = 0; i < ARRAY_LEN(from); i++) {
		const struct json *call = in(from[i], "call"), *model = in(from[i], "model");

		if ((call && model) || ((call || model) && in(from[i], "resource")))
			return err_set(e, ERR_INVALID,
				       "one of call, model and resource was expected, not two");
		if (call || model) {
			const struct json *v = call ? call : model;

			if (v->type != JSON_STRING)
				return err_set(e, ERR_INVALID, "%s is a text",
					       call ? "call" : "model");
			*action = call ? "tools/call" : "models/invoke";
			*type = call ? "tool" : "model";
			*id = v->s;
			return true;
		}
		if (in(from[i], "resource"))
			return true;
	}
	return true;
}

/* "document:handbook" or a table. */
static bool get_resource(const struct asked *c, struct json *out, struct json room[2],
			 struct err *e)
{
	const struct json *v = get(c, "resource");
	struct str type, id;

	if (v && v->type == JSON_OBJECT) {
		*out = *v;
		return true;
	}
	if (!v || v->type != JSON_STRING || !str_cut(v->s, ':', &type, &id))
		return err_set(e, ERR_INVALID,
			       "call = \"SERVER/TOOL\", model = \"ID\" or resource = \"TYPE:ID\" "
			       "was expected");
	room[0] = text("id", id);
	room[1] = text("type", type);
	*out = object("resource", room, 2);
	return true;
}

/* @given is nothing, a name or a whole action; the arguments are its properties. */
static bool make_action(const struct asked *c, const char *name, struct json *out, struct err *e)
{
	const struct json *given = get(c, "action"), *args = get(c, "args");
	uint32_t n = given && given->type == JSON_OBJECT ? given->n : 0, at = 0;
	struct json *items = arena_zero(&c->run->scratch, (n + 2) * sizeof(*items));

	if (!items)
		return err_set(e, ERR_NOMEM, "no memory for this test");
	if (args && args->type != JSON_OBJECT)
		return err_set(e, ERR_INVALID, "args is a table of arguments, not %s",
			       json_type_name(args->type));
	if (!given && !name)
		return err_set(e, ERR_INVALID, "action = \"NAME\" was expected beside resource");
	if (given && given->type != JSON_OBJECT && given->type != JSON_STRING)
		return err_set(e, ERR_INVALID, "action is a name or a table");
	for (uint32_t i = 0; i < n; i++)
		if (!args || !str_eq(given->items[i].name, STR("properties")))
			items[at++] = given->items[i];
	if (!given || given->type == JSON_STRING)
		items[at++] = text("name", given ? given->s : str_c(name));
	if (args) {
		items[at] = *args;
		items[at++].name = STR("properties");
	}
	*out = object("action", items, at);
	return true;
}

static void put(struct buf *b, const struct json *v, bool reversed)
{
	bool list = v->type == JSON_ARRAY;

	if (!list && v->type != JSON_OBJECT) {
		json_canonical(b, v);
		return;
	}
	buf_char(b, list ? '[' : '{');
	for (uint32_t i = 0; i < v->n; i++) {
		const struct json *item = &v->items[!list && reversed ? v->n - 1 - i : i];

		if (i)
			buf_char(b, ',');
		if (!list) {
			buf_json(b, item->name);
			buf_char(b, ':');
		}
		put(b, item, reversed); /* NOLINT(misc-no-recursion): depth was bounded */
	}
	buf_char(b, list ? ']' : '}');
}

static bool make_request(struct asked *c, struct err *e)
{
	const char *action = NULL, *type = NULL;
	struct json parts[5], room[2], who[2];
	const struct json *v;
	struct str id = { NULL, 0 };
	uint32_t n = 3;

	if (!get_target(c, &action, &type, &id, e) || !make_action(c, action, &parts[1], e))
		return false;
	if (type) {
		room[0] = text("id", id);
		room[1] = text("type", str_c(type));
		parts[2] = object("resource", room, 2);
	} else if (!get_resource(c, &parts[2], room, e)) {
		return false;
	}
	who[0] = text("id", c->q.agent_id.p ? c->q.agent_id : STR("nobody"));
	who[1] = text("type", c->q.agent_id.p ? STR("agent") : STR("user"));
	parts[0] = object("subject", who, 2);
	v = get(c, "subject");
	if (v)
		parts[0] = *v;
	v = get(c, "context");
	if (v)
		parts[n++] = *v;
	v = get(c, "http");
	if (v)
		parts[n++] = *v;
	for (uint32_t i = 0; i < n; i++)
		if (parts[i].type != JSON_OBJECT)
			return err_set(e, ERR_INVALID, "%.*s is a table", STR_FMT(parts[i].name));
	for (size_t order = 0; order < 2; order++) {
		const struct json whole = object("", parts, n);
		struct buf b;

		buf_in_arena(&b, &c->run->scratch, 1024 * 1024);
		put(&b, &whole, order == 1);
		if (!buf_ok(&b))
			return err_set(e, ERR_TOO_LARGE, "the request is larger than 1 MiB");
		c->text[order] = buf_str(&b);
	}
	return true;
}

/* Through the reader of foreign JSON, as a request would come. */
static bool read_request(struct asked *c, size_t order, struct err *e)
{
	const struct json *v = NULL;

	if (!json_parse(c->text[order], &json_default_limits, &c->run->scratch, &v, e))
		return err_prefix(e, "the request");
	c->q.subject = json_get(v, STR("subject"));
	c->q.action = json_get(v, STR("action"));
	c->q.resource = json_get(v, STR("resource"));
	c->q.context = json_get(v, STR("context"));
	c->q.http = json_get(v, STR("http"));
	return true;
}

static bool prepare(struct asked *c, struct err *e)
{
	struct str expect = str_c(c->expect);
	bool known = false;

	c->q.pep = STR("spiffe://acme.example/gateway");
	if (!check_keys(c->base, e) || !check_keys(c->own, e) ||
	    !get_text(c, "name", &c->name, e) || !get_text(c, "pep", &c->q.pep, e) ||
	    !get_text(c, "server", &c->q.server, e) || !get_now(c, e) || !get_agent(c, e) ||
	    !get_delegation(c, e) || (!c->expect && !get_text(c, "expect", &expect, e)))
		return false;
	for (size_t i = 0; decisions[i] && !known; i++)
		if (str_eq(expect, str_c(decisions[i]))) {
			c->expect = decisions[i];
			known = true;
		}
	if (!known)
		return err_set(e, ERR_INVALID, "expect is \"permit\", \"ask\" or \"deny\"");
	return make_request(c, e);
}

/* Evaluation */

static bool same(const struct policy_result *a, const struct policy_result *b)
{
	return a->decision == b->decision && str_eq(a->reason, b->reason) &&
	       str_eq(a->rule, b->rule) && str_eq(a->message, b->message) &&
	       str_eq(a->obligations, b->obligations) && str_eq(a->approvers, b->approvers);
}

/* What the evaluation showed, added to what others showed. */
static void cover(struct test_run *run, uint8_t *total)
{
	const struct set *s = set_of(run->set);

	for (uint32_t i = 0; i < s->nrules; i++) {
		total[i] |= run->watch.seen[i];
		if (run->watch.ran && !s->rules[i].has_when && !run->watch.seen[i])
			total[i] |= WATCH_FALSE;
	}
}

static bool evaluate(struct asked *c, struct policy_result out[3], struct err *e)
{
	struct test_run *run = c->run;
	struct policy_state *fresh;
	size_t n = set_of(run->set)->nrules;

	fresh = policy_state_new(run->set, &mem_system, &run->clock, e);
	if (!fresh || !read_request(c, 1, e)) {
		policy_state_free(fresh);
		return false;
	}
	policy_evaluate(run->reused, &c->q, &run->scratch, &out[2]);
	if (!read_request(c, 0, e)) {
		policy_state_free(fresh);
		return false;
	}
	policy_evaluate(fresh, &c->q, &run->scratch, &out[0]);
	policy_state_free(fresh);
	if (run->watch.seen) {
		memset(run->watch.seen, 0, n);
		run->watch.ran = false;
	}
	policy_evaluate(run->reused, &c->q, &run->scratch, &out[1]);
	if (run->watch.seen)
		cover(run, run->watch.seen + n);
	if (run->o->request)
		run->o->request(run->o->ctx, &c->q);
	return true;
}

static struct str describe(const struct asked *c, const struct policy_result *r)
{
	const struct set *s = set_of(c->run->set);
	struct arena *a = &c->run->scratch;
	struct str policy, name;
	int64_t rule = -1;

	if (str_cut(r->rule, '/', &policy, &name))
		rule = rules_find(s, policy, name);
	if (rule < 0)
		return arena_printf(a, "%s (%.*s%s%.*s)", decisions[r->decision],
				    STR_FMT(r->reason), r->message.n ? ": " : "",
				    STR_FMT(r->message));
	return arena_printf(a, "%s (%.*s) by %.*s (%.*s:%d)%s%.*s", decisions[r->decision],
			    STR_FMT(r->reason), STR_FMT(r->rule),
			    STR_FMT(s->files[s->rules[rule].file].path), s->rules[rule].line,
			    r->error.n ? ": " : "", STR_FMT(r->error));
}

/* The first expectation that does not hold; its name, and what was expected of it. */
static const char *differs(const struct asked *c, const struct policy_result *r, struct str *want)
{
	const struct {
		const char *name;
		struct str got;
		bool data;
	} rows[] = { { "rule", r->rule, false },
		     { "reason", r->reason, false },
		     { "message", r->message, false },
		     { "obligations", r->obligations, true },
		     { "approvers", r->approvers, true } };

	*want = str_c(c->expect);
	if (strcmp(c->expect, decisions[r->decision]) != 0)
		return "";
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct json *v = get(c, rows[i].name);
		struct json one;

		if (!v)
			continue;
		one = (struct json){ .type = JSON_ARRAY, .n = 1, .items = v };
		if (rows[i].data && v->type == JSON_OBJECT && v->n == 0)
			*want = STR(""); /* {}: none */
		else if (rows[i].data)
			*want = value_canonical(v->type == JSON_ARRAY ? v : &one, &c->run->scratch);
		else
			*want = v->type == JSON_STRING ? v->s : STR("?");
		if (!str_eq(*want, rows[i].got))
			return rows[i].name;
	}
	return NULL;
}

static void judge(const struct asked *c, const struct policy_result out[3], int64_t ns)
{
	static const char *const others[] = { "in a state that saw other cases before",
					      "with the members of its JSON in another order" };
	uint32_t number = c->run->cases;
	const char *what;
	struct str want;

	for (size_t i = 0; i < 2; i++)
		if (!same(&out[0], &out[i + 1])) {
			test_say(c->run, POLICY_TEST_FAILED, c->line, number, c->name, ns,
				 "the answer differs %s: %.*s, not %.*s", others[i],
				 STR_FMT(describe(c, &out[i + 1])), STR_FMT(describe(c, &out[0])));
			return;
		}
	what = differs(c, &out[0], &want);
	if (!what)
		test_say(c->run, POLICY_TEST_PASSED, c->line, number, c->name, ns, "passed");
	else
		test_say(c->run, POLICY_TEST_FAILED, c->line, number, c->name, ns,
			 "expected %s%s\"%.*s\", got %.*s", what, *what ? " " : "", STR_FMT(want),
			 STR_FMT(describe(c, &out[0])));
}

void test_case(struct test_run *run, const struct test_fields *base, const struct test_fields *own,
	       const char *expect, int line, struct policy_result *out)
{
	struct asked c = { .run = run, .base = base, .own = own, .expect = expect, .line = line };
	int64_t start = clock_mono_ns(&clock_system);
	struct policy_result results[3];
	const struct json *skip = get(&c, "skip");
	struct err e = { 0 };

	run->cases++;
	if (skip && !(skip->type == JSON_BOOL && !skip->b)) {
		test_say(run, POLICY_TEST_SKIPPED, line, run->cases, c.name, 0, "%.*s",
			 STR_FMT(skip->type == JSON_STRING ? skip->s : STR("skipped")));
		return;
	}
	if (!prepare(&c, &e) || !evaluate(&c, results, &e)) {
		test_say(run, POLICY_TEST_FAILED, line, run->cases, c.name, 0, "%s", e.msg);
		return;
	}
	*out = results[0];
	judge(&c, results, clock_mono_ns(&clock_system) - start);
}
