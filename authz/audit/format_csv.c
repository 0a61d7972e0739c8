/*
 * CSV by RFC 4180: CRLF, a header row, quotes where they are needed. A cell that a spreadsheet
 * would run as a formula gets an apostrophe in front; control characters, which RFC 4180 has no
 * place for, become U+FFFD. Columns are fixed; what has none is in "other", as JSON.
 */
#include "authz/audit/format.h"
#include "authz/base/clock.h"

static const char *const columns[] = {
	"kind",	   "node",  "boot",    "agent",	   "pep",	 "decision",	  "action",
	"tool",	   "model", "reason",  "rule",	   "generation", "policy_sha256", "engine",
	"cost_us", "act",   "outcome", "trace_id", NULL,
};

/* Members with a column of another name, or that only a verifier reads. */
static const char *const not_other[] = {
	"seq",		 "time",     "v",	"prev", "kind",	   "node",     "boot", "agent",
	"pep",		 "decision", "action",	"tool", "model",   "reason",   "rule", "generation",
	"policy_sha256", "engine",   "cost_us", "act",	"outcome", "trace_id", NULL,
};

enum { PLAIN, QUOTED, CONTROL };

/* What a byte wants of the cell it stands in. */
static int kind_of(char c)
{
	unsigned char u = (unsigned char)c;

	if (c == ',' || c == '"' || c == '\r' || c == '\n' || c == '\t')
		return QUOTED;
	return u < 0x20 || u == 0x7f ? CONTROL : PLAIN;
}

static void quoted_cell(struct buf *out, struct str text, bool formula)
{
	buf_char(out, '"');
	if (formula)
		buf_char(out, '\'');
	for (size_t i = 0; i < text.n; i++) {
		if (kind_of(text.p[i]) == CONTROL)
			buf_lit(out, "\xef\xbf\xbd");
		else
			buf_char(out, text.p[i]);
		if (text.p[i] == '"')
			buf_char(out, '"');
	}
	buf_char(out, '"');
}

static void cell(struct buf *out, struct str text)
{
	bool formula = text.n && memchr("=+-@\t\r\n", text.p[0], 7), quoted = formula;

	for (size_t i = 0; i < text.n && !quoted; i++)
		quoted = kind_of(text.p[i]) != PLAIN;
	if (quoted)
		quoted_cell(out, text, formula);
	else
		buf_add(out, text);
}

static void csv_row(const struct format_record *r, struct buf *out)
{
	char at[CLOCK_RFC3339_MAX];
	struct buf other;

	clock_rfc3339(r->time_ms, at);
	buf_printf(out, "%llu,%s", (unsigned long long)r->seq, at);
	for (size_t i = 0; columns[i]; i++) {
		buf_char(out, ',');
		cell(out, format_text(r, columns[i]));
	}
	buf_char(out, ',');
	buf_init(&other, out->alloc, FORMAT_ROW_MAX);
	buf_char(&other, '{');
	if (format_others(r, not_other, &other)) {
		buf_char(&other, '}');
		cell(out, buf_str(&other));
	}
	if (!buf_ok(&other))
		out->failed = true;
	buf_clear(&other);
	buf_char(out, ',');
	buf_add(out, r->leaf_hash);
}

const struct audit_format format_csv = {
	.name = "csv",
	.media_type = "text/csv; charset=utf-8; header=present",
	.help = "RFC 4180; no cell is a formula",
	.head = "index,time,kind,node,boot,agent,pep,decision,action,tool,model,reason,rule,"
		"generation,policy_sha256,engine,cost_us,act,outcome,trace_id,other,leaf_hash\r\n",
	.row = csv_row,
	.line_end = "\r\n",
	.batch_type = "text/csv; charset=utf-8; header=absent",
	.batch_between = "\r\n",
	.batch_close = "\r\n",
};
