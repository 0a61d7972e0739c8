/*
 * Agent Audit Trail, draft-sharif-agent-audit-trail-06 (audit-log sheet 18.5): one session a file,
 * each row with the hash of the whole row before it. What the draft wants and the log does not know
 * is stated as least: agent_version 0.0.0, trust_level L0, no parent. A decision is a record of
 * type `decision` before execution; what became of it (kind `authz.outcome`) one after; all else is
 * lifecycle.
 */
#include "authz/audit/format.h"
#include "authz/base/clock.h"
#include "authz/base/text.h"

#define DRAFT "draft-sharif-agent-audit-trail-06"

static const char *outcome(const struct format_record *r)
{
	if (str_eq(format_text(r, "decision"), STR("ask")))
		return "escalated";
	if (format_succeeded(r))
		return "success";
	if (str_eq(format_text(r, "outcome"), STR("timeout")))
		return "timeout";
	return format_refused(r) ? "denied" : "failure";
}

/* A UUID of version 4 in form, made of a hash so that the same record has the same one always. */
static void uuid(struct buf *out, struct str hex)
{
	for (size_t i = 0; i < 32; i++) {
		if (i == 8 || i == 12 || i == 16 || i == 20)
			buf_char(out, '-');
		buf_char(out, i == 12	? '4'
			      : i == 16 ? "89ab"[(unsigned char)hex.p[i] & 3]
					: hex.p[i]);
	}
}

/* All members but action_detail and action_type, which come first; canonical order. */
static void rest(const struct format_record *r, const char *how, const char *phase, struct str id,
		 struct buf *out)
{
	char at[CLOCK_RFC3339_MAX];

	clock_rfc3339(r->time_ms, at);
	buf_lit(out, ",\"agent_id\":");
	format_principal(r, out);
	buf_printf(out, ",\"agent_version\":\"0.0.0\",\"outcome\":\"%s\"", how);
	buf_lit(out, ",\"parent_record_id\":null,\"prev_hash\":");
	if (r->chain->begun)
		buf_json(out, format_chain_hash(r->chain));
	else
		buf_lit(out, "null");
	buf_lit(out, ",\"record_id\":\"");
	uuid(out, id);
	buf_printf(out, "\",\"record_phase\":\"%s\",\"session_id\":\"", phase);
	uuid(out, (struct str){ r->chain->session, sizeof(r->chain->session) });
	buf_printf(out, "\",\"timestamp\":\"%s\",\"trust_level\":\"L0\"}", at);
}

/* The row that the draft wants first: no record of the log, and says so by having no index. */
static void session_start(const struct format_record *r, struct buf *out)
{
	AUTO_BUF name = { 0 };
	size_t from = out->n;

	buf_init(&name, out->alloc, 1024);
	buf_lit(&name, DRAFT "\n");
	buf_add(&name, r->leaf_hash);
	if (!buf_ok(&name)) {
		out->failed = true;
		return;
	}
	format_chain_name(r->chain, buf_str(&name));
	buf_lit(out, "{\"action_detail\":{\"event\":\"session_start\",\"format\":\"" DRAFT
		     "\",\"origin\":");
	buf_json(out, r->origin);
	buf_lit(out, "},\"action_type\":\"lifecycle\"");
	rest(r, "success", "concurrent",
	     (struct str){ r->chain->session, sizeof(r->chain->session) }, out);
	if (buf_ok(out))
		format_chain_add(r->chain, str_from(buf_str(out), from));
}

static void detail(const struct format_record *r, bool decision, struct buf *out)
{
	static const char *const names[] = { "generation", "input_commit",  "leaf_hash",
					     "model",	   "policy_sha256", "reason",
					     "rule",	   "tool_name",	    "trace_id",
					     NULL };

	buf_lit(out, "{\"action_detail\":{");
	if (decision)
		buf_lit(out, "\"decision_type\":\"authorization\"");
	else
		format_json_str(out, "event", format_text(r, "kind"));
	for (size_t i = 0; names[i]; i++) {
		struct str text = format_text(r, names[i]);

		if (i == 1) { /* generation < index < input_commit */
			buf_printf(out, ",\"index\":\"%llu\"", (unsigned long long)r->seq);
		} else if (str_eq(str_c(names[i]), STR("leaf_hash"))) {
			text = r->leaf_hash;
		} else if (str_eq(str_c(names[i]), STR("tool_name"))) {
			text = format_text(r, "tool");
		}
		format_json_str(out, names[i], text);
	}
	buf_char(out, '}');
}

static void aat_row(const struct format_record *r, struct buf *out)
{
	struct str kind = format_text(r, "kind");
	bool decision = format_text(r, "decision").n > 0;
	bool after = str_eq(kind, STR("authz.outcome"));
	size_t from = out->n;

	detail(r, decision, out);
	buf_printf(out, ",\"action_type\":\"%s\"",
		   decision			  ? "decision"
		   : str_eq(kind, STR("log.gap")) ? "error"
						  : "lifecycle");
	rest(r, outcome(r),
	     decision ? "pre_execution"
	     : after  ? "post_execution"
		      : "concurrent",
	     r->leaf_hash, out);
	if (buf_ok(out))
		format_chain_add(r->chain, str_from(buf_str(out), from));
}

const struct audit_format format_aat = {
	.name = "aat",
	.media_type = "application/jsonl",
	.help = "Agent Audit Trail (" DRAFT "), chained within the file",
	.begin = session_start,
	.row = aat_row,
	.line_end = "\n",
	.chained = true,
};
