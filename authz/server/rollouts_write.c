/* Roll-outs as JSON and as metrics. */
#include <inttypes.h>
#include <stdlib.h>

#include "authz/decide/rollout_store.h"
#include "authz/server/handlers.h"

static void add_time(struct buf *b, const char *name, int64_t ms)
{
	char at[CLOCK_RFC3339_MAX];

	clock_rfc3339(ms, at);
	buf_printf(b, ",\"%s\":\"%s\"", name, at);
}

static void add_rate(struct buf *b, const char *name, int64_t ppm)
{
	if (ppm < 0)
		return;
	buf_printf(b, "\"%s\":", name);
	json_number(b, (double)ppm / 1000000);
	buf_char(b, ',');
}

static void add_gates(struct buf *b, const struct rollout_gates *g)
{
	buf_lit(b, ",\"gates\":{");
	add_rate(b, "max_deny_increase", g->max_deny_increase);
	add_rate(b, "max_deny_rate", g->max_deny);
	add_rate(b, "max_error_rate", g->max_error);
	if (g->max_p99_us >= 0)
		buf_printf(b, "\"max_p99_us\":%" PRId64 ",", g->max_p99_us);
	buf_printf(b, "\"min_sample\":%" PRId64 "}", g->min_sample);
}

void add_rollout(struct buf *b, const struct rollout_row *row)
{
	buf_printf(b,
		   "\"rollout\":%" PRIu64
		   ",\"kind\":\"%s\",\"state\":\"%s\",\"generation\":%" PRIu64 ",\"base\":%" PRIu64,
		   row->id, rollout_kind_names[row->kind], rollout_state_names[row->state],
		   row->candidate, row->base);
	if (row->kind == ROLLOUT_CANARY)
		buf_printf(b, ",\"percent\":%u", row->percent);
	add_gates(b, &row->gates);
	add_time(b, "started_at", row->started_ms);
	buf_lit(b, ",\"by\":");
	buf_json(b, row->by);
	buf_lit(b, ",\"message\":");
	buf_json(b, row->message);
	if (row->state == ROLLOUT_RUNNING)
		return;
	add_time(b, "ended_at", row->ended_ms);
	buf_lit(b, ",\"ended_by\":");
	buf_json(b, row->ended_by);
	buf_lit(b, ",\"reason\":");
	buf_json(b, row->reason);
	buf_lit(b, ",\"detail\":");
	buf_json(b, row->detail);
}

/* ---- what changed ---- */

static void add_side(struct buf *b, const char *name, const struct rollout_counts *c,
		     enum rollout_side side)
{
	const uint64_t *n = c->sides[side].decisions;

	buf_printf(b,
		   ",\"%s\":{\"permit\":%" PRIu64 ",\"ask\":%" PRIu64 ",\"deny\":%" PRIu64
		   ",\"errors\":%" PRIu64 ",\"p99_us\":%" PRId64 "}",
		   name, n[DECISION_PERMIT], n[DECISION_ASK], n[DECISION_DENY],
		   c->sides[side].errors, rollout_p99_us(c, side));
}

static void add_verdict(struct buf *b, const char *name, const struct rollout_verdict *v)
{
	buf_printf(b, "\"%s\":{\"decision\":\"%.*s\",\"reason\":", name,
		   STR_FMT(decision_names[v->decision]));
	buf_json(b, str_c(v->reason));
	if (v->rule[0]) {
		buf_lit(b, ",\"rule\":");
		buf_json(b, str_c(v->rule));
	}
	buf_lit(b, "},");
}

/* Most frequent first, then the newest. */
static int compare_groups(const void *left, const void *right)
{
	const struct rollout_group *const *a = left, *const *b = right;
	uint64_t la = (*a)->nsamples ? (*a)->samples[(*a)->nsamples - 1] : 0;
	uint64_t lb = (*b)->nsamples ? (*b)->samples[(*b)->nsamples - 1] : 0;

	if ((*a)->count != (*b)->count)
		return (*a)->count < (*b)->count ? 1 : -1;
	return (la < lb) - (la > lb);
}

static void add_group(struct buf *b, const struct rollout_group *g, const char *log_key_id)
{
	buf_printf(b, "{\"count\":%" PRIu64 ",", g->count);
	add_verdict(b, "was", &g->was);
	add_verdict(b, "is", &g->is);
	buf_lit(b, "\"evaluations\":[");
	for (size_t i = g->nsamples; i > 0; i--)
		buf_printf(b, "%s\"ev_%s_%" PRIu64 "\"", i < g->nsamples ? "," : "", log_key_id,
			   g->samples[i - 1]);
	buf_lit(b, "]}");
}

void add_compared(struct buf *b, const struct rollout_report *report, const char *log_key_id)
{
	const struct rollout_group *sorted[ROLLOUT_GROUPS] = { NULL };

	buf_printf(b, "\"evaluations\":%" PRIu64 ",\"changed\":%" PRIu64,
		   rollout_evaluations(&report->counts, ROLLOUT_CANDIDATE), report->changed);
	add_side(b, "in_force", &report->counts, ROLLOUT_BASE);
	add_side(b, "candidate", &report->counts, ROLLOUT_CANDIDATE);
	for (size_t i = 0; i < report->ngroups; i++)
		sorted[i] = &report->groups[i];
	qsort(sorted, report->ngroups, sizeof(struct rollout_group *), compare_groups);
	buf_lit(b, ",\"changes\":[");
	for (size_t i = 0; i < report->ngroups; i++) {
		if (i)
			buf_char(b, ',');
		add_group(b, sorted[i], log_key_id);
	}
	buf_printf(b, "],\"ungrouped\":%" PRIu64, report->ungrouped);
}

/* ---- the one that runs ---- */

void add_rollout_status(struct buf *b, struct request *r)
{
	const struct rollout *run = worker_rollout(r->worker);
	struct rollout_counts n;

	if (!run)
		return;
	rollout_total_counts(run, &n);
	buf_printf(b,
		   ",\"rollout\":{\"rollout\":%" PRIu64 ",\"kind\":\"%s\",\"generation\":%" PRIu64
		   ",\"base\":%" PRIu64,
		   run->id, rollout_kind_names[run->kind], run->candidate->generation, run->base);
	if (run->kind == ROLLOUT_CANARY)
		buf_printf(b, ",\"percent\":%u", run->percent);
	add_time(b, "started_at", run->started_ms);
	buf_printf(b, ",\"evaluations\":%" PRIu64 ",\"changed\":%" PRIu64 "}",
		   rollout_evaluations(&n, ROLLOUT_CANDIDATE), rollout_total_changed(run));
}

static void gauge(struct buf *b, const char *name, const char *help)
{
	buf_printf(b, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name);
}

/* Gauges, not counters: each roll-out begins at zero. */
void add_rollout_metrics(struct buf *b, struct request *r)
{
	static const char *const sides[] = {
		[ROLLOUT_BASE] = "in_force", [ROLLOUT_CANDIDATE] = "candidate"
	};
	const struct rollout *run = worker_rollout(r->worker);
	struct rollout_counts n = { 0 };

	gauge(b, "writ_rollout", "Number of the roll-out that runs; 0: none.");
	buf_printf(b, "writ_rollout %" PRIu64 "\n", run ? run->id : 0);
	if (!run)
		return;
	rollout_total_counts(run, &n);
	gauge(b, "writ_rollout_generation", "Number of its candidate.");
	buf_printf(b, "writ_rollout_generation{kind=\"%s\"} %" PRIu64 "\n",
		   rollout_kind_names[run->kind], run->candidate->generation);
	gauge(b, "writ_rollout_decisions", "Its decisions, by the set that made them.");
	for (size_t s = 0; s < ROLLOUT_SIDES; s++)
		for (size_t d = 0; d < 3; d++)
			buf_printf(b,
				   "writ_rollout_decisions{set=\"%s\",decision=\"%.*s\"} %" PRIu64
				   "\n",
				   sides[s], STR_FMT(decision_names[d]), n.sides[s].decisions[d]);
	gauge(b, "writ_rollout_errors", "Of them denials because a rule failed or ran too long.");
	for (size_t s = 0; s < ROLLOUT_SIDES; s++)
		buf_printf(b, "writ_rollout_errors{set=\"%s\"} %" PRIu64 "\n", sides[s],
			   n.sides[s].errors);
	gauge(b, "writ_rollout_changed", "Its decisions that came out otherwise.");
	buf_printf(b, "writ_rollout_changed %" PRIu64 "\n", rollout_total_changed(run));
}
