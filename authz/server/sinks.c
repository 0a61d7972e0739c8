/* The sinks' part of /v1/status, /metrics and /v1/doctor. */
#include <inttypes.h>
#include <stdio.h>

#include "authz/audit/audit.h"
#include "authz/audit/sink.h"
#include "authz/server/handlers.h"
#include "authz/server/service.h"

static uint64_t log_size(struct request *r)
{
	struct audit_status log;

	audit_status(r->worker->core->audit, &log);
	return log.size;
}

static uint64_t lag(uint64_t size, const struct sink_status *s)
{
	return size > s->next ? size - s->next : 0;
}

void sinks_add_status(struct request *r, struct buf *b)
{
	struct sinks *sinks = r->site->service->sinks;
	uint64_t size = log_size(r);

	buf_lit(b, ",\"sinks\":[");
	for (size_t i = 0; i < sinks_count(sinks); i++) {
		char since[CLOCK_RFC3339_MAX];
		struct sink_status s;

		sinks_status(sinks, i, &s);
		buf_printf(b,
			   "%s{\"name\":\"%s\",\"type\":\"%s\",\"format\":\"%s\",\"next\":%" PRIu64
			   ",\"lag\":%" PRIu64 ",\"sent\":%" PRIu64 ",\"failures\":%" PRIu64
			   ",\"rejected\":%" PRIu64 ",\"ok\":%s",
			   i ? "," : "", s.name, s.type, s.format, s.next, lag(size, &s), s.sent,
			   s.failures, s.rejected, s.in_row ? "false" : "true");
		if (s.in_row) {
			clock_rfc3339(s.since_ms, since);
			buf_printf(b, ",\"failing_since\":\"%s\",\"why\":", since);
			buf_json(b, str_c(s.why.msg));
		}
		buf_char(b, '}');
	}
	buf_char(b, ']');
}

void sinks_add_metrics(struct request *r, struct buf *b)
{
	static const struct {
		const char *name, *type, *help;
		size_t offset;
	} metrics[] = {
		{ "writ_sink_sent_total", "counter", "Records a sink has taken.",
		  offsetof(struct sink_status, sent) },
		{ "writ_sink_failures_total", "counter", "Pages a sink could not take.",
		  offsetof(struct sink_status, failures) },
		{ "writ_sink_rejected_total", "counter", "Records a collector refused.",
		  offsetof(struct sink_status, rejected) },
		{ "writ_sink_lag_records", "gauge", "Records a sink has not taken yet.", 0 },
	};
	struct sinks *sinks = r->site->service->sinks;
	uint64_t size = log_size(r);

	for (size_t m = 0; m < ARRAY_LEN(metrics) && sinks_count(sinks); m++) {
		buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", metrics[m].name, metrics[m].help,
			   metrics[m].name, metrics[m].type);
		for (size_t i = 0; i < sinks_count(sinks); i++) {
			struct sink_status s;
			uint64_t v;

			sinks_status(sinks, i, &s);
			v = metrics[m].offset ? *(const uint64_t *)(const void *)((const char *)&s +
										  metrics[m].offset)
					      : lag(size, &s);
			buf_printf(b, "%s{sink=\"%s\",type=\"%s\"} %" PRIu64 "\n", metrics[m].name,
				   s.name, s.type, v);
		}
	}
}

void sinks_add_findings(struct request *r, struct buf *b)
{
	struct sinks *sinks = r->site->service->sinks;
	uint64_t size = log_size(r);

	for (size_t i = 0; i < sinks_count(sinks); i++) {
		char since[CLOCK_RFC3339_MAX], text[800];
		struct sink_status s;

		sinks_status(sinks, i, &s);
		if (!s.in_row)
			continue;
		clock_rfc3339(s.since_ms, since);
		snprintf(text, sizeof(text),
			 "sink %s has taken nothing since %s, and %" PRIu64
			 " records wait for it (none is lost): %s",
			 s.name, since, lag(size, &s), s.why.msg);
		buf_printf(b, "%s{\"name\":\"sink_failing\",\"severity\":\"warning\",\"message\":",
			   b->n && b->p[b->n - 1] == '[' ? "" : ",");
		buf_json(b, str_c(text));
		buf_char(b, '}');
	}
}
