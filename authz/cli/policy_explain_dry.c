/* policy explain --dry: a decision that was never made, rule by rule. */
#include "authz/cli/policy_explain.h"

#include <inttypes.h>
#include <stdlib.h>

#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/print.h"
#include "spiffe/id.h"

#define REQUEST_MAX ((size_t)LIMIT_BODY)
#define ATTRIBUTES_MAX 64
#define VIA_MAX 16

/* The policies in force, from the server. */
static bool set_in_force(struct cli *c, const struct policy_limits *limits, struct policy_set **out,
			 char *what, size_t nwhat, int *exit_code)
{
	const struct json *sources, *number;
	struct policy_sources s;
	struct policy_file *files;
	AUTO_ANSWER a = { 0 };
	struct err e = { 0 };
	bool ok;

	if (!api_call(c, API_ADMIN, "GET", "/v1/policies/generation?sources=yes", (struct str){ 0 },
		      &a, exit_code))
		return false;
	sources = json_get_type(a.value, STR("sources"), JSON_ARRAY);
	number = json_get_type(a.value, STR("generation"), JSON_INT);
	files = arena_alloc(&a.arena, ((sources ? sources->n : 0) + 1) * sizeof(*files));
	for (uint32_t i = 0; files && sources && i < sources->n; i++) {
		const struct json *path = json_get_type(&sources->items[i], STR("path"),
							JSON_STRING);
		const struct json *text = json_get_type(&sources->items[i], STR("text"),
							JSON_STRING);

		files[i] = (struct policy_file){ path ? path->s : STR(""),
						 text ? text->s : STR("") };
	}
	ok = files && policy_sources_from(&s, files, sources ? sources->n : 0, &e);
	if (ok) {
		ok = policy_set_load(&s, limits, out, NULL, &e);
		policy_sources_clear(&s);
	}
	if (!ok)
		*exit_code = cli_fail(c, &e);
	snprintf(what, nwhat, "generation %" PRId64 ", in force", number ? number->i : 0);
	return ok;
}

struct dry {
	struct arena arena;
	struct policy_request request;
	struct policy_attribute attributes[ATTRIBUTES_MAX];
	struct answer agent, tools;
	struct policy_definition definition;
	struct policy_delegation delegation;
	struct str chain[VIA_MAX + 1];
	struct buf facts;
};

static int by_name(const void *pa, const void *pb)
{
	return str_cmp(((const struct policy_attribute *)pa)->name,
		       ((const struct policy_attribute *)pb)->name);
}

/* --set team=finance ... */
static bool given_agent(struct cli *c, struct dry *d, struct err *e)
{
	struct policy_request *q = &d->request;
	const char *value;
	size_t at = 0;

	while ((value = cli_next(c, "--set", &at))) {
		struct policy_attribute *a = &d->attributes[q->nattributes];

		if (q->nattributes == ATTRIBUTES_MAX ||
		    !str_cut(str_c(value), '=', &a->name, &a->value) || !a->name.n)
			return err_code(e, ERR_INVALID, "wrong_usage",
					"--set %.60s: expected NAME=VALUE, at most %d of them",
					value, ATTRIBUTES_MAX);
		q->nattributes++;
	}
	qsort(d->attributes, q->nattributes, sizeof(d->attributes[0]), by_name);
	q->agent_owner = STR("");
	return true;
}

/* --user, --issuer, --scope, --via: as a verified token would say it. */
static bool given_delegation(struct cli *c, struct dry *d, struct err *e)
{
	const char *user = cli_value(c, "--user"), *issuer = cli_value(c, "--issuer"), *value;
	struct policy_delegation *g = &d->delegation;
	struct spiffe_id id;
	struct buf scope;
	size_t at = 0;

	if (!user != !issuer)
		return err_code(e, ERR_INVALID, "wrong_usage",
				"--user and --issuer belong together: two issuers may each have "
				"an alice");
	if (!user && !cli_flag(c, "--scope") && !cli_flag(c, "--via"))
		return true;
	if (!d->request.agent_id.p)
		return err_code(e, ERR_INVALID, "wrong_usage",
				"the request is about no agent, so nobody acts for a user");
	buf_in_arena(&scope, &d->arena, 64 * 1024);
	while ((value = cli_next(c, "--scope", &at))) {
		if (!*value || strchr(value, ' '))
			return err_code(e, ERR_INVALID, "wrong_usage",
					"--scope %.60s: expected one name without blanks", value);
		buf_printf(&scope, "%s%s", scope.n ? " " : "", value);
	}
	for (at = 0; (value = cli_next(c, "--via", &at));) {
		if (!spiffe_id_parse(str_c(value), &id, e))
			return err_code(e, ERR_INVALID, "wrong_usage", "--via %.200s: %.200s",
					value, e->msg);
		if (g->nchain == VIA_MAX)
			return err_code(e, ERR_INVALID, "wrong_usage", "--via: at most %d of them",
					VIA_MAX);
		d->chain[g->nchain++] = str_c(value);
	}
	d->chain[g->nchain++] = d->request.agent_id;
	g->chain = d->chain;
	g->scope = buf_str(&scope);
	if (user) {
		g->user = str_c(user);
		g->user_issuer = str_c(issuer);
	}
	d->request.delegation = g;
	return buf_ok(&scope) || err_set(e, ERR_TOO_LARGE, "--scope: too many names");
}

/* What the registry knows of the agent. */
static bool live_agent(struct cli *c, struct dry *d, int *exit_code)
{
	struct policy_request *q = &d->request;
	const struct json *list, *agent, *attributes, *owner;
	AUTO_BUF path;

	buf_init(&path, mem_system, 16384);
	buf_lit(&path, "/v1/agents?id=");
	client_encode(&path, q->agent_id);
	buf_char(&path, '\0');
	if (!buf_ok(&path) ||
	    !api_call(c, API_ADMIN, "GET", path.p, (struct str){ 0 }, &d->agent, exit_code))
		return false;
	list = json_get_type(d->agent.value, STR("agents"), JSON_ARRAY);
	agent = list && list->n ? &list->items[0] : NULL;
	attributes = json_get_type(agent, STR("attributes"), JSON_OBJECT);
	owner = json_get_type(agent, STR("owner"), JSON_STRING);
	q->agent_owner = owner ? owner->s : STR("");
	for (uint32_t i = 0; attributes && i < attributes->n && i < ATTRIBUTES_MAX; i++)
		d->attributes[q->nattributes++] = (struct policy_attribute){
			attributes->items[i].name, attributes->items[i].s
		};
	return true;
}

/* What is known of the tool's definition, if it is pinned. */
static bool live_definition(struct cli *c, struct dry *d, int *exit_code)
{
	const struct json *id = json_get_type(d->request.resource, STR("id"), JSON_STRING);
	const struct json *list;

	if (!id || !str_eq(answer_text(d->request.resource, "type"), STR("tool")))
		return true;
	if (!api_call(c, API_ADMIN, "GET", "/v1/tools", (struct str){ 0 }, &d->tools, exit_code))
		return false;
	list = json_get_type(d->tools.value, STR("tools"), JSON_ARRAY);
	for (uint32_t i = 0; list && i < list->n; i++) {
		const struct json *t = &list->items[i];

		if (!str_eq(answer_text(t, "tool"), id->s) || !json_get(t, STR("observed")))
			continue;
		d->definition = (struct policy_definition){ .tool = id->s,
							    .observed = answer_text(t, "observed"),
							    .pinned = answer_text(t, "pinned"),
							    .accepted = answer_text(t, "accepted"),
							    .changes = answer_text(t, "changes") };
		d->request.definitions = &d->definition;
		d->request.ndefinitions = 1;
	}
	return true;
}

/* As delegation_write_facts, without what only a token has. */
static void write_delegation(struct buf *b, const struct policy_delegation *g)
{
	buf_lit(b, "\"delegation\":{\"chain\":[");
	for (size_t i = 0; i < g->nchain; i++) {
		if (i)
			buf_char(b, ',');
		buf_json(b, g->chain[i]);
	}
	buf_lit(b, "],\"scope\":");
	buf_json(b, g->scope);
	if (g->user.p) {
		buf_lit(b, ",\"user\":{\"id\":");
		buf_json(b, g->user);
		buf_lit(b, ",\"issuer\":");
		buf_json(b, g->user_issuer);
		buf_char(b, '}');
	}
	buf_lit(b, "},");
}

static void write_facts(struct dry *d)
{
	const struct policy_request *q = &d->request;
	struct buf *b = &d->facts;

	buf_in_arena(b, &d->arena, LIMIT_BODY);
	buf_char(b, '{');
	if (q->agent_id.p) {
		buf_lit(b, "\"agent\":{\"attributes\":{");
		for (size_t i = 0; i < q->nattributes; i++) {
			if (i)
				buf_char(b, ',');
			buf_json(b, q->attributes[i].name);
			buf_char(b, ':');
			buf_json(b, q->attributes[i].value);
		}
		buf_lit(b, "},\"id\":");
		buf_json(b, q->agent_id);
		buf_lit(b, ",\"owner\":");
		buf_json(b, q->agent_owner);
		buf_lit(b, ",\"state\":\"active\"},");
	}
	if (q->ndefinitions)
		policy_definition_write(b, &d->definition);
	if (q->delegation)
		write_delegation(b, q->delegation);
	buf_printf(b, "\"now\":%" PRId64 "}", q->now_ms);
}

static bool read_request(struct cli *c, struct dry *d, struct buf *text, struct err *e)
{
	struct policy_request *q = &d->request;
	const struct json *body, *type, *id;

	if (!api_read_file(cli_value(c, "--dry"), REQUEST_MAX, text, e) ||
	    !json_parse(buf_str(text), &json_default_limits, &d->arena, &body, e))
		return false;
	q->subject = json_get_type(body, STR("subject"), JSON_OBJECT);
	q->action = json_get_type(body, STR("action"), JSON_OBJECT);
	q->resource = json_get_type(body, STR("resource"), JSON_OBJECT);
	q->context = json_get_type(body, STR("context"), JSON_OBJECT);
	q->http = json_get_type(body, STR("http"), JSON_OBJECT);
	if (!q->subject || !q->action || !q->resource)
		return err_set(e, ERR_INVALID,
			       "subject, action and resource must be there, each an object");
	type = json_get_type(q->subject, STR("type"), JSON_STRING);
	id = json_get_type(q->subject, STR("id"), JSON_STRING);
	if (type && (str_eq(type->s, STR("identity")) || str_eq(type->s, STR("user"))))
		id = json_get_type(q->context, STR("agent"), JSON_STRING);
	else if (!type || !str_eq(type->s, STR("agent")))
		id = NULL;
	if (id)
		q->agent_id = id->s;
	q->agent_state = STR("active");
	q->attributes = d->attributes;
	q->now_ms = clock_wall_ms(&clock_system);
	q->pep = STR("dry");
	return true;
}

static int decide_dry(struct cli *c, struct dry *d, struct policy_set *set, const char *policies,
		      struct str text)
{
	struct explained s = { .policies = policies, .request = text };
	struct policy_state *st;
	struct policy_trace t;
	struct err e = { 0 };
	int exit_code;

	write_facts(d);
	s.facts = buf_str(&d->facts);
	st = policy_state_new(set, &mem_system, &clock_system, &e);
	exit_code = st && policy_explain(st, &d->request, &d->arena, &t, &e)
			    ? explain_put(c, &s, &t)
			    : cli_fail(c, &e);
	policy_state_free(st);
	return exit_code;
}

int explain_dry(struct cli *c, const struct policy_data *data)
{
	struct dry d = { 0 };
	struct policy_set *set = NULL;
	struct err e = { 0 };
	char policies[300];
	AUTO_BUF text;
	int exit_code = CLI_FAILED;
	bool ok;

	buf_init(&text, mem_system, REQUEST_MAX + 1);
	arena_init(&d.arena, &mem_system, EXPLAIN_MAX);
	ok = read_request(c, &d, &text, &e) && given_agent(c, &d, &e) &&
	     given_delegation(c, &d, &e);
	if (ok && c->noperands)
		ok = policy_data_set(data, c->operands[0], &set, policies, sizeof(policies), &e);
	if (!ok)
		exit_code = cli_fail(c, &e);
	if (ok && d.request.agent_id.p && !cli_value(c, "--set"))
		ok = live_agent(c, &d, &exit_code);
	/* Not where nothing else is asked of the server either. */
	if (ok && !cli_value(c, "--set") && (d.request.agent_id.p || !set))
		ok = live_definition(c, &d, &exit_code);
	if (ok && !set)
		ok = set_in_force(c, &data->limits, &set, policies, sizeof(policies), &exit_code);
	if (ok)
		exit_code = decide_dry(c, &d, set, policies, buf_str(&text));
	if (set)
		shared_release(&set->shared);
	answer_clear(&d.agent);
	answer_clear(&d.tools);
	arena_clear(&d.arena);
	return exit_code;
}
