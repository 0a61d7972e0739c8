/*
 * CEF 0 (ArcSight Common Event Format), audit-log sheet 18.3: in the header \ and | are escaped and
 * there are no line ends, in values \ and = are escaped and line ends are \n and \r. Values are cut
 * to what the dictionary gives each key; a leaf hash does not fit into externalId.
 */
#include "authz/audit/format.h"
#include "authz/base/text.h"
#include "include/writ/words.h"

static const int severities[] = {
	[GRAVITY_INFO] = 1, [GRAVITY_LOW] = 4, [GRAVITY_MEDIUM] = 6, [GRAVITY_HIGH] = 9
};

static bool is_control(char c)
{
	return (unsigned char)c < 0x20 || c == 0x7f;
}

static void in_header(struct buf *out, struct str text)
{
	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] == '\\' || text.p[i] == '|')
			buf_char(out, '\\');
		buf_char(out, is_control(text.p[i]) ? ' ' : text.p[i]);
	}
}

static void value(struct buf *out, struct str text, size_t max)
{
	size_t n = text.n;

	if (n > max) /* not within a character */
		for (n = max; n && ((unsigned char)text.p[n] & 0xc0) == 0x80;)
			n--;
	for (size_t i = 0; i < n; i++) {
		if (text.p[i] == '\n') {
			buf_lit(out, "\\n");
			continue;
		}
		if (text.p[i] == '\r') {
			buf_lit(out, "\\r");
			continue;
		}
		if (text.p[i] == '\\' || text.p[i] == '=')
			buf_char(out, '\\');
		buf_char(out, is_control(text.p[i]) ? ' ' : text.p[i]);
	}
}

static void pair(struct buf *out, const char *key, struct str text, size_t max)
{
	if (!text.n)
		return;
	buf_printf(out, " %s=", key);
	value(out, text, max);
}

/* cs1Label=rule cs1=finance/payments: a custom key never goes without its label. */
static void custom(struct buf *out, const char *key, const char *label, struct str text)
{
	if (!text.n)
		return;
	buf_printf(out, " %sLabel=%s %s=", key, label, key);
	value(out, text, 4000);
}

static const char *name_of(const struct format_record *r)
{
	static const struct {
		const char *start, *name;
	} names[] = {
		{ "authz.search", "Search for what is permitted" },
		{ "request.", "Request refused" },
		{ "log.", "Event of the log" },
		{ "policy.", "Policies changed" },
		{ "identity.issue", "Identity issued" },
		{ "identity.", "Identity refused" },
		{ "token.issue", "Delegated token issued" },
		{ "token.refuse", "Delegated token refused" },
		{ "token.", "Delegated tokens revoked" },
		{ "key.", "Key changed" },
		{ "admin.", "Act of an administrator" },
		{ "tool.", "Tool described otherwise" },
	};
	struct str kind = format_text(r, "kind"), decision = format_text(r, "decision");

	if (str_eq(kind, STR("authz.decision"))) {
		bool model = format_text(r, "model").n;

		if (str_eq(decision, STR("permit")))
			return model ? "Model call permitted" : "Tool call permitted";
		if (str_eq(decision, STR("ask")))
			return model ? "Model call needs approval" : "Tool call needs approval";
		return model ? "Model call denied" : "Tool call denied";
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_starts(kind, str_c(names[i].start)))
			return names[i].name;
	return "Record";
}

/* What the extension says under a key of its own. */
static const char *const mapped[] = {
	"kind",	 "seq",	   "time", "v",	   "prev", "decision", "reason",     "agent",	"tool",
	"model", "action", "node", "rule", "pep",  "trace_id", "generation", "cost_us", NULL,
};

static void extension(const struct format_record *r, struct buf *out)
{
	struct str decision = format_text(r, "decision"), target = format_text(r, "tool");
	struct str act = decision.n ? decision : format_text(r, "act");
	char number[TEXT_U64_MAX];
	struct str seq = { number, text_put_u64(r->seq, number) };
	struct buf text;

	buf_printf(out, "rt=%lld", (long long)r->time_ms);
	pair(out, "act", act, 63);
	pair(out, "outcome", format_succeeded(r) ? STR("success") : STR("failure"), 63);
	pair(out, "reason", format_text(r, "reason"), 1023);
	pair(out, "suid", format_text(r, "agent"), 1023);
	pair(out, "request", target.n ? target : format_text(r, "model"), 1023);
	pair(out, "requestMethod", format_text(r, "action"), 1023);
	pair(out, "cat", format_text(r, "kind"), 1023);
	pair(out, "externalId", seq, 40);
	pair(out, "deviceExternalId", format_text(r, "node"), 255);
	pair(out, "dvchost", format_text(r, "node"), 100);
	buf_init(&text, out->alloc, FORMAT_ROW_MAX);
	format_message(r, &text);
	pair(out, "msg", buf_str(&text), 1023);
	custom(out, "cs1", "rule", format_text(r, "rule"));
	custom(out, "cs2", "leafHash", r->leaf_hash);
	custom(out, "cs3", "caller", format_text(r, "pep"));
	custom(out, "cs4", "traceId", format_text(r, "trace_id"));
	buf_reset(&text);
	(void)format_others(r, mapped, &text);
	custom(out, "cs5", "other", buf_str(&text));
	custom(out, "cs6", "log", r->origin);
	custom(out, "cn1", "index", seq);
	custom(out, "cn2", "generation", format_text(r, "generation"));
	custom(out, "cn3", "costMicroseconds", format_text(r, "cost_us"));
	if (!buf_ok(&text))
		out->failed = true;
	buf_clear(&text);
}

static void cef_row(const struct format_record *r, struct buf *out)
{
	buf_lit(out, "CEF:0|writ|writ|" WRIT_VERSION "|");
	in_header(out, format_text(r, "kind"));
	buf_printf(out, "|%s|%d|", name_of(r), severities[format_gravity(r)]);
	extension(r, out);
}

const struct audit_format format_cef = {
	.name = "cef",
	.media_type = "text/plain; charset=utf-8",
	.help = "ArcSight Common Event Format, version 0",
	.row = cef_row,
	.line_end = "\n",
	.batch_type = "text/plain; charset=utf-8",
	.batch_between = "\n",
	.batch_close = "\n",
};
