/*
 * CloudEvents 1.0 in JSON. id + source name one event for ever, so receivers drop what comes twice.
 * The record is the data, byte for byte: its leaf hash can be computed from it.
 */
#include "authz/audit/format.h"
#include "authz/base/clock.h"

static void cloudevents_row(const struct format_record *r, struct buf *out)
{
	struct str agent = format_text(r, "agent");
	char at[CLOCK_RFC3339_MAX];
	struct buf b;

	clock_rfc3339(r->time_ms, at);
	buf_init(&b, out->alloc, FORMAT_ROW_MAX);
	buf_add(&b, r->origin);
	buf_printf(&b, "/%llu", (unsigned long long)r->seq);
	buf_lit(out, "{\"specversion\":\"1.0\"");
	format_json_str(out, "id", buf_str(&b));
	format_json_str(out, "source", r->origin);
	buf_reset(&b);
	buf_lit(&b, "writ.");
	buf_add(&b, format_text(r, "kind"));
	format_json_str(out, "type", buf_str(&b));
	format_json_str(out, "subject", agent.n ? agent : format_text(r, "pep"));
	format_json_str(out, "time", str_c(at));
	buf_printf(out, ",\"logindex\":\"%llu\"", (unsigned long long)r->seq);
	format_json_str(out, "leafhash", r->leaf_hash);
	buf_lit(out, ",\"datacontenttype\":\"application/json\",\"data\":");
	buf_add(out, r->leaf);
	buf_char(out, '}');
	if (!buf_ok(&b))
		out->failed = true;
	buf_clear(&b);
}

const struct audit_format format_cloudevents = {
	.name = "cloudevents",
	.media_type = "application/x-ndjson",
	.help = "CloudEvents 1.0, one JSON event a line",
	.row = cloudevents_row,
	.line_end = "\n",
	.batch_type = "application/cloudevents-batch+json",
	.batch_open = "[",
	.batch_between = ",",
	.batch_close = "]",
};
