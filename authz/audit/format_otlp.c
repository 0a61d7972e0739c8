/*
 * OTLP logs in JSON (audit-log sheet 18.4): lowerCamelCase, 64-bit integers as decimal strings,
 * trace ids in hex. A line is a whole LogsData, as collectors' file exporters write it. The names
 * of OpenTelemetry are not settled ("Development"), so they stand in one table.
 */
#include "authz/audit/format.h"
#include "authz/base/text.h"

static const struct {
	const char *member, *attribute;
} names[] = {
	{ "agent", "gen_ai.agent.id" },	     { "tool", "gen_ai.tool.name" },
	{ "model", "gen_ai.request.model" }, { "seq", "writ.log.index" },
	{ "boot", "service.instance.id" },   { "node", "host.name" },
};

static const struct {
	int number;
	const char *text;
} severities[] = {
	[GRAVITY_INFO] = { 9, "INFO" },
	[GRAVITY_LOW] = { 9, "INFO" },
	[GRAVITY_MEDIUM] = { 13, "WARN" },
	[GRAVITY_HIGH] = { 17, "ERROR" },
};

static void attribute(struct buf *out, struct str prefix, struct str name, struct str text,
		      bool is_string)
{
	if (buf_ok(out) && out->p[out->n - 1] != '[')
		buf_char(out, ',');
	buf_lit(out, "{\"key\":\"");
	buf_add(out, prefix);
	buf_add(out, name);
	buf_lit(out, "\",\"value\":{\"");
	buf_add(out, is_string ? STR("stringValue") : STR("intValue"));
	buf_lit(out, "\":");
	buf_json(out, text); /* integers are strings as well */
	buf_lit(out, "}}");
}

static void attributes(const struct format_record *r, struct buf *out)
{
	if (format_text(r, "tool").n)
		attribute(out, (struct str){ 0 }, STR("gen_ai.operation.name"), STR("execute_tool"),
			  true);
	for (size_t i = 0; i < r->n; i++) {
		const struct format_member *m = &r->members[i];
		size_t j = 0;

		if (str_eq(m->name, STR("time")) || str_eq(m->name, STR("v")) ||
		    str_eq(m->name, STR("trace_id")))
			continue;
		while (j < ARRAY_LEN(names) && !str_eq(m->name, str_c(names[j].member)))
			j++;
		if (j < ARRAY_LEN(names))
			attribute(out, (struct str){ 0 }, str_c(names[j].attribute), m->text,
				  m->is_string);
		else
			attribute(out, STR("writ."), m->name, m->text, m->is_string);
	}
	attribute(out, (struct str){ 0 }, STR("writ.log.origin"), r->origin, true);
	attribute(out, (struct str){ 0 }, STR("writ.log.leaf_hash"), r->leaf_hash, true);
}

static void otlp_row(const struct format_record *r, struct buf *out)
{
	struct str kind = format_text(r, "kind"), trace = format_text(r, "trace_id");
	bool denied = format_text(r, "decision").n && !format_succeeded(r);
	enum format_gravity g = denied ? GRAVITY_MEDIUM : format_gravity(r);
	uint8_t id[16];
	struct buf message;

	buf_printf(out,
		   "{\"timeUnixNano\":\"%lld000000\",\"observedTimeUnixNano\":\"%lld000000\","
		   "\"severityNumber\":%d,\"severityText\":\"%s\",\"eventName\":",
		   (long long)r->time_ms, (long long)r->time_ms, severities[g].number,
		   severities[g].text);
	buf_init(&message, out->alloc, FORMAT_ROW_MAX);
	buf_lit(&message, "writ.");
	buf_add(&message, kind);
	buf_json(out, buf_str(&message));
	buf_reset(&message);
	format_message(r, &message);
	buf_lit(out, ",\"body\":{\"stringValue\":");
	buf_json(out, buf_str(&message));
	buf_lit(out, "},\"attributes\":[");
	attributes(r, out);
	buf_char(out, ']');
	if (text_unhex(trace, id, sizeof(id)))
		format_json_str(out, "traceId", trace);
	buf_char(out, '}');
	if (!buf_ok(&message))
		out->failed = true;
	buf_clear(&message);
}

#define OPEN                                                                                     \
	"{\"resourceLogs\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":" \
	"{\"stringValue\":\"writ\"}}]},\"scopeLogs\":[{\"scope\":{\"name\":\"writ.audit\","      \
	"\"version\":\"1\"},\"logRecords\":["
#define CLOSE "]}]}]}"

const struct audit_format format_otlp = {
	.name = "otlp",
	.media_type = "application/x-ndjson",
	.help = "OpenTelemetry logs, OTLP in JSON",
	.row = otlp_row,
	.line_open = OPEN,
	.line_close = CLOSE,
	.line_end = "\n",
	.batch_type = "application/json",
	.batch_open = OPEN,
	.batch_between = ",",
	.batch_close = CLOSE,
};
