#include "tests/policy/policy_help.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char policy_help_catalogue[] =
	"tool 'payments/create' { effect = 'spend', destructive = true, tags = { 'money', 'out' },\n"
	"  args = { amount = 'number', to = 'string', note = 'string?' } }\n"
	"tool 'ledger/query' { effect = 'read', data = 'internal' }\n"
	"tool 'files/write' { effect = 'write', level = 3, data = 'public' }\n"
	"model 'gpt-large' { tier = 3, price = { input = 5, output = 15 }, max_tokens = 16384 }\n"
	"model 'gpt-small' { tier = 1, max_tokens = 4096 }\n";

static void die(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	abort();
}

struct policy_set *policy_help_load(struct policy_findings *findings, ...)
{
	struct policy_file files[32];
	struct policy_sources src;
	struct policy_set *set = NULL;
	struct err e = { 0 };
	size_t n = 0;
	va_list ap;

	va_start(ap, findings);
	for (const char *path; n < ARRAY_LEN(files) && (path = va_arg(ap, const char *)); n++)
		files[n] = (struct policy_file){ str_c(path), str_c(va_arg(ap, const char *)) };
	va_end(ap);
	if (!policy_sources_from(&src, files, n, &e))
		die("sources", e.msg);
	if (!policy_set_load(&src, NULL, &set, findings, &e) && !findings)
		die("load", e.msg);
	policy_sources_clear(&src);
	return set;
}

struct policy_set *policy_help_rules(const char *rules)
{
	return policy_help_load(NULL, "rules.lua", rules, "catalogue/all.lua",
				policy_help_catalogue, NULL);
}

static int by_name(const void *pa, const void *pb)
{
	return str_cmp(((const struct policy_attribute *)pa)->name,
		       ((const struct policy_attribute *)pb)->name);
}

static void take_agent(const struct json *agent, struct arena *a, struct policy_request *q)
{
	struct policy_attribute *list = arena_alloc(a, (agent->n + 1) * sizeof(*list));

	for (uint32_t i = 0; i < agent->n; i++) {
		const struct json *v = &agent->items[i];

		if (str_eq(v->name, STR("id")))
			q->agent_id = v->s;
		else if (str_eq(v->name, STR("owner")))
			q->agent_owner = v->s;
		else if (str_eq(v->name, STR("state")))
			q->agent_state = v->s;
		else
			list[q->nattributes++] = (struct policy_attribute){ v->name, v->s };
	}
	if (q->nattributes)
		qsort(list, q->nattributes, sizeof(*list), by_name);
	q->attributes = list;
	if (!q->agent_id.p)
		q->agent_id = STR("spiffe://acme.example/agent/7");
}

/* {"user","issuer","scope","chain":[..]} */
static void take_delegation(const struct json *v, struct arena *a, struct policy_request *q)
{
	struct policy_delegation *d = arena_zero(a, sizeof(*d));
	const struct json *user = json_get(v, STR("user")), *chain = json_get(v, STR("chain"));
	struct str *ids = arena_alloc(a, (chain->n + 1) * sizeof(*ids));

	for (uint32_t i = 0; i < chain->n; i++)
		ids[i] = chain->items[i].s;
	d->scope = json_get(v, STR("scope"))->s;
	d->chain = ids;
	d->nchain = chain->n;
	if (user) {
		d->user = user->s;
		d->user_issuer = json_get(v, STR("issuer"))->s;
	}
	q->delegation = d;
}

void policy_help_request(const char *text, struct arena *a, struct policy_request *q)
{
	const struct json *v = NULL, *part;
	struct err e = { 0 };

	if (!json_parse(arena_dup(a, str_c(text)), &json_default_limits, a, &v, &e))
		die(text, e.msg);
	*q = (struct policy_request){ .subject = json_get(v, STR("subject")),
				      .action = json_get(v, STR("action")),
				      .resource = json_get(v, STR("resource")),
				      .context = json_get(v, STR("context")),
				      .http = json_get(v, STR("http")),
				      .pep = STR("spiffe://acme.example/gateway"),
				      .now_ms = POLICY_HELP_NOW };
	if ((part = json_get_type(v, STR("agent"), JSON_OBJECT)))
		take_agent(part, a, q);
	if ((part = json_get_type(v, STR("delegation"), JSON_OBJECT)))
		take_delegation(part, a, q);
	if ((part = json_get_type(v, STR("pep"), JSON_STRING)))
		q->pep = part->s;
	if ((part = json_get_type(v, STR("now"), JSON_INT)))
		q->now_ms = part->i;
}

struct policy_result policy_help_ask(struct policy_state *st, const char *json, struct arena *a)
{
	struct policy_request q;
	struct policy_result r;

	policy_help_request(json, a, &q);
	policy_evaluate(st, &q, a, &r);
	return r;
}

const char *policy_help_text(const struct policy_result *r, struct arena *a)
{
	static const char *const names[] = { "deny", "ask", "permit" };

	return arena_printf(a, "%s %.*s%s%.*s", names[r->decision], STR_FMT(r->reason),
			    r->rule.n ? " " : "", STR_FMT(r->rule))
		.p;
}

const struct policy_finding *policy_help_finding(const struct policy_findings *f, const char *file,
						 const char *part)
{
	for (size_t i = 0; i < f->n; i++)
		if ((!file || str_eq(f->items[i].file, str_c(file))) &&
		    strstr(f->items[i].message.p, part))
			return &f->items[i];
	return NULL;
}

static void *counting(void *ctx, void *p, size_t old, size_t n)
{
	struct policy_help_alloc *a = ctx;
	void *q;

	if (n == 0) {
		if (p)
			a->live -= old;
		free(p);
		return NULL;
	}
	a->calls++;
	if (a->fail_at && a->calls >= a->fail_at)
		return NULL;
	q = realloc(p, n);
	if (q) {
		a->live = a->live - (p ? old : 0) + n;
		a->peak = a->live > a->peak ? a->live : a->peak;
	}
	return q;
}

void policy_help_alloc_init(struct policy_help_alloc *a)
{
	*a = (struct policy_help_alloc){ .alloc = { counting, a } };
}
