/* policy explain: a recorded decision, or one that was never made, rule by rule. */
#include <inttypes.h>
#include <stdlib.h>

#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/policy_data.h"
#include "authz/cli/print.h"
#include "authz/decide/replay.h"

#define REQUEST_MAX ((size_t)LIMIT_BODY)
#define ATTRIBUTES_MAX 64
#define EXPLAIN_MAX ((size_t)64 * 1024 * 1024)

/* What is explained, beside the trace. */
struct subject {
	const char *id;			    /* evaluation id; NULL: a dry run */
	const char *policies;		    /* which */
	const char *verdict;		    /* of replay, or NULL */
	struct str request, facts;	    /* JSON */
	const struct replay_shadow *shadow; /* NULL: no roll-out decided it as well */
};

static const char *const decisions[] = {
	[DECISION_DENY] = "deny", [DECISION_ASK] = "ask", [DECISION_PERMIT] = "permit"
};

static void add_conditions(struct buf *b, const struct trace_rule *r)
{
	buf_lit(b, ",\"on\":[");
	for (size_t i = 0; i < r->nconditions; i++) {
		buf_add(b, i ? STR(",{\"condition\":") : STR("{\"condition\":"));
		buf_json(b, r->conditions[i].text);
		buf_printf(b, ",\"met\":%s}", r->conditions[i].met ? "true" : "false");
	}
	buf_char(b, ']');
}

static void add_shadow(struct buf *b, const struct replay_shadow *w)
{
	buf_lit(b, ",\"shadow\":{\"decision\":");
	buf_json(b, w->decision);
	buf_lit(b, ",\"reason\":");
	buf_json(b, w->reason);
	buf_lit(b, ",\"rule\":");
	buf_json(b, w->rule);
	buf_printf(b, ",\"generation\":%" PRIu64 ",\"rollout\":%" PRIu64 "}", w->generation,
		   w->rollout);
}

static void write_json(struct buf *b, const struct subject *s, const struct policy_trace *t,
		       bool all)
{
	buf_lit(b, "{\"evaluation\":");
	buf_json(b, str_c(s->id ? s->id : ""));
	buf_lit(b, ",\"policies\":");
	buf_json(b, str_c(s->policies));
	buf_printf(b, ",\"decision\":\"%s\",\"reason\":", decisions[t->result.decision]);
	buf_json(b, t->result.reason);
	buf_lit(b, ",\"rule\":");
	buf_json(b, t->result.rule);
	buf_lit(b, ",\"message\":");
	buf_json(b, t->result.message);
	buf_lit(b, ",\"error\":");
	buf_json(b, t->result.error);
	buf_printf(b, ",\"replay\":\"%s\",\"instructions\":%u,\"reached_rules\":%s",
		   s->verdict ? s->verdict : "", t->result.instructions,
		   t->reached ? "true" : "false");
	if (s->shadow)
		add_shadow(b, s->shadow);
	buf_lit(b, ",\"request\":");
	buf_add(b, s->request);
	buf_lit(b, ",\"facts\":");
	buf_add(b, s->facts);
	buf_printf(b, ",\"rules_in_all\":%zu,\"rules\":[", t->n);
	for (size_t i = 0; i < (all ? t->n : t->napply); i++) {
		const struct trace_rule *r = &t->rules[i];

		buf_add(b, i ? STR(",{\"rule\":") : STR("{\"rule\":"));
		buf_json(b, r->rule);
		buf_printf(b, ",\"effect\":\"%s\",\"file\":", r->effect);
		buf_json(b, r->file);
		buf_printf(b, ",\"line\":%d,\"applies\":%s,\"decides\":%s,\"when\":\"%s\"", r->line,
			   r->applies ? "true" : "false", r->decides ? "true" : "false",
			   trace_when_names[r->when]);
		if (r->error.n) {
			buf_lit(b, ",\"error\":");
			buf_json(b, r->error);
		}
		add_conditions(b, r);
		buf_char(b, '}');
	}
	buf_lit(b, "]}\n");
}

static void put_named(struct buf *b, const char *name, struct str value)
{
	if (!value.n)
		return;
	buf_printf(b, "%s: ", name);
	print_safe(b, value);
	buf_char(b, '\n');
}

static void write_rule(struct buf *b, const struct trace_rule *r)
{
	bool first = true;

	buf_printf(b, "\n%s %-6s ", r->decides ? "->" : "  ", r->effect);
	print_safe(b, r->rule);
	buf_lit(b, "  ");
	print_safe(b, r->file);
	buf_printf(b, ":%d\n     on: ", r->line);
	for (size_t i = 0; i < r->nconditions; i++) {
		if (!first)
			buf_lit(b, ", ");
		first = false;
		if (!r->conditions[i].met)
			buf_lit(b, "NOT MET ");
		print_safe(b, r->conditions[i].text);
	}
	if (!r->nconditions)
		buf_lit(b, "everything");
	buf_char(b, '\n');
	if (r->when == TRACE_NOT_ASKED)
		return;
	buf_printf(b, "     when: %s\n",
		   r->when == TRACE_NONE ? "none, on decides" : trace_when_names[r->when]);
	if (r->error.n) {
		buf_lit(b, "     ");
		print_safe(b, r->error);
		buf_char(b, '\n');
	}
}

/* "permit, rule, by finance/payments" */
static void put_verdict(struct buf *b, struct str decision, struct str reason, struct str rule)
{
	print_safe(b, decision);
	buf_lit(b, ", ");
	print_safe(b, reason);
	if (rule.n) {
		buf_lit(b, ", by ");
		print_safe(b, rule);
	}
}

static void write_text(struct buf *b, const struct subject *s, const struct policy_trace *t,
		       bool all)
{
	const struct policy_result *r = &t->result;

	if (s->id)
		put_named(b, "evaluation", str_c(s->id));
	put_named(b, "policies", str_c(s->policies));
	buf_lit(b, "decision: ");
	put_verdict(b, str_c(decisions[r->decision]), r->reason, r->rule);
	buf_char(b, '\n');
	if (s->shadow) {
		buf_lit(b, "beside it: ");
		put_verdict(b, s->shadow->decision, s->shadow->reason, s->shadow->rule);
		buf_printf(b, " (generation %" PRIu64 " in roll-out %" PRIu64 ", without effect)\n",
			   s->shadow->generation, s->shadow->rollout);
	}
	if (s->verdict && strcmp(s->verdict, replay_verdict_names[REPLAY_SAME]) != 0)
		buf_printf(b, "this is NOT what is on record (%s): see writ policy replay\n",
			   s->verdict);
	put_named(b, "message", r->message);
	put_named(b, "obligations", r->obligations);
	put_named(b, "error", r->error);
	put_named(b, "request", s->request);
	put_named(b, "facts", s->facts);
	if (!t->reached)
		buf_lit(b, "\nno rule was asked: the catalogue or the arguments refused it\n");
	else
		buf_printf(b, "\nrules that apply: %zu of %zu\n", t->napply, t->n);
	for (size_t i = 0; t->reached && i < t->napply; i++)
		write_rule(b, &t->rules[i]);
	if (all && t->n > t->napply)
		buf_lit(b, "\nrules that do not apply:\n");
	for (size_t i = t->reached ? t->napply : 0; all && i < t->n; i++)
		write_rule(b, &t->rules[i]);
}

static int put_trace(struct cli *c, const struct subject *s, const struct policy_trace *t)
{
	struct err e = { 0 };
	AUTO_BUF b;

	buf_init(&b, mem_system, EXPLAIN_MAX);
	if (c->json)
		write_json(&b, s, t, cli_flag(c, "--all"));
	else
		write_text(&b, s, t, cli_flag(c, "--all"));
	if (!buf_ok(&b)) {
		err_set(&e, ERR_NOMEM, "the explanation is too long");
		return cli_fail(c, &e);
	}
	fwrite(b.p, 1, b.n, c->out);
	return CLI_DONE;
}

/* ---- recorded ---- */

/* "ev_<key id>_12" or "12". */
static bool read_id(const char *text, uint64_t *seq)
{
	const char *last = strrchr(text, '_');

	return text_u64(str_c(last && strncmp(text, "ev_", 3) == 0 ? last + 1 : text), INT64_MAX,
			seq);
}

/* Every log has a record 12: an id that names another log's key is not about ours. */
static bool of_our_log(const struct policy_data *d, const char *text, struct err *e)
{
	struct str key, seq;
	char ours[9];

	if (!str_starts(str_c(text), STR("ev_")))
		return true;
	policy_data_key_id(d, ours);
	if (str_cut(str_from(str_c(text), 3), '_', &key, &seq) &&
	    (!ours[0] || str_eq(key, str_c(ours))))
		return true;
	return err_code(e, ERR_NOT_FOUND, "unknown_evaluation",
			"%.80s is of another log: the key of the one in %s is %s; name the server "
			"that decided with --config",
			text, d->config->data, ours);
}

static bool explain_row(struct replay *r, uint64_t seq, struct replay_row *row,
			struct policy_trace *t, struct err *e)
{
	bool got = false;

	if (!replay_next(r, row, &got, e))
		return false;
	if (!got)
		return err_code(e, ERR_NOT_FOUND, "unknown_evaluation",
				"record %" PRIu64
				" is no decision, or there is none of this number",
				seq);
	if (row->verdict == REPLAY_SETTLED)
		return err_code(e, ERR_NOT_FOUND, "not_computable",
				"record %" PRIu64
				" was denied before the policies were asked: %.*s",
				seq, STR_FMT(row->was.reason));
	if (row->verdict != REPLAY_SAME && row->verdict != REPLAY_CHANGED)
		return err_code(e, ERR_NOT_FOUND, "not_computable",
				"record %" PRIu64 " cannot be computed again: %s", seq,
				replay_verdict_names[row->verdict]);
	return replay_explain(r, t, e);
}

static int explain_recorded(struct cli *c, const char *text)
{
	struct replay_config rc = { .alloc = &mem_system };
	struct policy_data d = { 0 };
	struct policy_trace t;
	struct replay_row row;
	struct replay *r = NULL;
	struct subject s = { .id = text };
	struct err e = { 0 };
	char policies[64];
	uint64_t seq;
	int exit_code;

	if (!read_id(text, &seq))
		return cli_misuse(c,
				  "%.80s: expected an evaluation id like ev_0a1b2c3d_12, or the "
				  "number of its record",
				  text);
	if (!policy_data_open(c, &d, &e))
		return cli_fail(c, &e);
	rc.folder = d.config->data;
	rc.limits = d.limits;
	rc.from = seq;
	rc.to = seq + 1;
	if (!of_our_log(&d, text, &e) || !replay_open(&rc, &r, &e) ||
	    !explain_row(r, seq, &row, &t, &e)) {
		exit_code = cli_fail(c, &e);
	} else {
		snprintf(policies, sizeof(policies), "generation %" PRIu64, row.generation);
		s.policies = policies;
		s.verdict = replay_verdict_names[row.verdict];
		s.request = replay_opening(r, OPENING_INPUT);
		s.facts = replay_opening(r, OPENING_FACTS);
		s.shadow = row.shadow.decision.n ? &row.shadow : NULL;
		exit_code = put_trace(c, &s, &t);
	}
	replay_close(r);
	policy_data_close(&d);
	return exit_code;
}

/* ---- dry ---- */

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
	struct subject s = { .policies = policies, .request = text };
	struct policy_state *st;
	struct policy_trace t;
	struct err e = { 0 };
	int exit_code;

	write_facts(d);
	s.facts = buf_str(&d->facts);
	st = policy_state_new(set, &mem_system, &clock_system, &e);
	exit_code = st && policy_explain(st, &d->request, &d->arena, &t, &e) ? put_trace(c, &s, &t)
									     : cli_fail(c, &e);
	policy_state_free(st);
	return exit_code;
}

static int explain_dry(struct cli *c, const struct policy_data *data)
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
	ok = read_request(c, &d, &text, &e) && given_agent(c, &d, &e);
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

int run_policy_explain(struct cli *c)
{
	struct policy_data d = { 0 };
	struct err e = { 0 };
	int exit_code;

	if (!cli_value(c, "--dry")) {
		if (cli_value(c, "--set"))
			return cli_misuse(c, "--set belongs to --dry");
		if (!c->noperands)
			return cli_misuse(c, "name an evaluation, or a request with --dry FILE");
		return explain_recorded(c, c->operands[0]);
	}
	if (!api_config(c, &d.config, &e))
		return cli_fail(c, &e);
	d.limits = (struct policy_limits){ d.config->limits.policy_instructions,
					   d.config->limits.policy_ms,
					   d.config->limits.policy_memory };
	exit_code = explain_dry(c, &d);
	policy_data_close(&d);
	return exit_code;
}
