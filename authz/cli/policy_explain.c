/* policy explain: a recorded decision rule by rule. One that was never made: policy_explain_dry.c.
 */
#include "authz/cli/policy_explain.h"

#include <inttypes.h>

#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"

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

static void write_json(struct buf *b, const struct explained *s, const struct policy_trace *t,
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

static void write_text(struct buf *b, const struct explained *s, const struct policy_trace *t,
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

int explain_put(struct cli *c, const struct explained *s, const struct policy_trace *t)
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
	struct explained s = { .id = text };
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
		exit_code = explain_put(c, &s, &t);
	}
	replay_close(r);
	policy_data_close(&d);
	return exit_code;
}

int run_policy_explain(struct cli *c)
{
	static const char *const of_dry[] = { "--set", "--user", "--issuer", "--scope", "--via" };
	struct policy_data d = { 0 };
	struct err e = { 0 };
	int exit_code;

	if (!cli_value(c, "--dry")) {
		for (size_t i = 0; i < ARRAY_LEN(of_dry); i++)
			if (cli_flag(c, of_dry[i]))
				return cli_misuse(c, "%s belongs to --dry", of_dry[i]);
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
