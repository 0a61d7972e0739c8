/*
 * MCP proposal SEP-3004, "Tamper-Evident Audit Record Contract", as of its draft of July 2026
 * (audit-log sheet 18.6). Each row holds the hash of the one before, so it is a format of whole
 * files; the chain begins with the file. Values are strings: text that is not plain ASCII, or has a
 * space at an end, is percent-encoded, which makes it NFC and trimmed whatever it was.
 */
#include <stdio.h>

#include "authz/audit/format.h"
#include "authz/base/clock.h"
#include "authz/base/text.h"

#define DRAFT "SEP-3004 draft 2026-07"
#define UNITS_MAX 8192 /* code units of one string */

static bool is_plain(struct str text, size_t i)
{
	char c = text.p[i];

	return c != '%' && c >= 0x20 && c < 0x7f && (c != ' ' || (i > 0 && i + 1 < text.n));
}

static void text_value(struct buf *out, struct str text)
{
	AUTO_BUF plain = { 0 };
	struct str shown;

	buf_init(&plain, out->alloc, 3 * FORMAT_LEAF_MAX);
	for (size_t i = 0; i < text.n; i++)
		if (is_plain(text, i))
			buf_char(&plain, text.p[i]);
		else
			buf_printf(&plain, "%%%02X", (unsigned)(unsigned char)text.p[i]);
	shown = str_first(buf_str(&plain), UNITS_MAX);
	while (shown.n && shown.p[shown.n - 1] == ' ') /* a cut may end at one */
		shown.n--;
	buf_json(out, shown);
	if (!buf_ok(&plain))
		out->failed = true;
}

static void member(struct buf *out, const char *name, struct str text)
{
	if (!text.n)
		return;
	if (out->n && out->p[out->n - 1] != '{')
		buf_char(out, ',');
	buf_printf(out, "\"%s\":", name);
	text_value(out, text);
}

static const char *outcome(const struct format_record *r)
{
	if (str_eq(format_text(r, "decision"), STR("ask")))
		return "deferred";
	return format_succeeded(r) ? "allowed" : format_refused(r) ? "denied" : "error";
}

/* The names are in order (canonical form), those of the leaf are writ's own. */
static void extension(const struct format_record *r, struct buf *out)
{
	static const char *const names[] = { "model", "policy_sha256", "reason",
					     "rule",  "trace_id",      NULL };
	char number[24];

	buf_lit(out, ",\"extensions\":{\"writ\":{");
	member(out, "contract", STR(DRAFT));
	member(out, "generation", format_text(r, "generation"));
	snprintf(number, sizeof(number), "%llu", (unsigned long long)r->seq);
	member(out, "index", str_c(number));
	member(out, "leaf_hash", r->leaf_hash);
	for (size_t i = 0; names[i]; i++)
		member(out, names[i], format_text(r, names[i]));
	buf_lit(out, "}}");
}

/* The canonical form but for event_hash, which stands first. */
static void preimage(const struct format_record *r, struct buf *out)
{
	char at[CLOCK_RFC3339_MAX];
	struct str tool = format_text(r, "tool");

	clock_rfc3339(r->time_ms, at);
	buf_lit(out, "{\"event_id\":\"");
	buf_add(out, r->origin);
	buf_printf(out, "/%llu\"", (unsigned long long)r->seq);
	member(out, "event_type", format_text(r, "kind"));
	extension(r, out);
	member(out, "occurred_at", str_c(at));
	member(out, "outcome", str_c(outcome(r)));
	if (r->chain->begun)
		member(out, "previous_hash", format_chain_hash(r->chain));
	else
		buf_lit(out, ",\"previous_hash\":null");
	buf_lit(out, ",\"principal_id\":");
	format_principal(r, out);
	if (tool.n)
		member(out, "tool_name", tool);
	else
		buf_lit(out, ",\"tool_name\":null");
	buf_char(out, '}');
}

static void sep3004_row(const struct format_record *r, struct buf *out)
{
	AUTO_BUF text = { 0 };

	buf_init(&text, out->alloc, FORMAT_ROW_MAX);
	preimage(r, &text);
	if (!buf_ok(&text)) {
		out->failed = true;
		return;
	}
	format_chain_add(r->chain, buf_str(&text));
	buf_lit(out, "{\"event_hash\":\"");
	buf_add(out, format_chain_hash(r->chain));
	buf_lit(out, "\",");
	buf_add(out, str_from(buf_str(&text), 1));
}

const struct audit_format format_sep3004 = {
	.name = "sep-3004",
	.media_type = "application/jsonl",
	.help = "MCP's proposed audit record contract (" DRAFT "), chained within the file",
	.row = sep3004_row,
	.line_end = "\n",
	.chained = true,
};
