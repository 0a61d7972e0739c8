#include "authz/decide/rollout_report.h"

#include <inttypes.h>
#include <stdio.h>

#include "authz/base/arena.h"

#define MILLION 1000000
#define FIRST_BITS 8 /* bucket 0 ends at 2^8 ns */

/* ---- times ---- */

size_t rollout_bucket(int64_t ns)
{
	uint64_t t = ns > 0 ? (uint64_t)ns : 0;
	unsigned bits;
	size_t i;

	if (t < 1u << FIRST_BITS)
		return 0;
	bits = 63u - (unsigned)__builtin_clzll(t); /* 2^bits <= t */
	i = (bits - FIRST_BITS) * 4 + ((t >> (bits - 2)) & 3) + 1;
	return i < ROLLOUT_BUCKETS ? i : ROLLOUT_BUCKETS - 1;
}

int64_t rollout_bucket_ns(size_t bucket)
{
	if (!bucket)
		return 1 << FIRST_BITS;
	return (int64_t)(4 + (bucket - 1) % 4 + 1) << (FIRST_BITS - 2 + (bucket - 1) / 4);
}

uint64_t rollout_evaluations(const struct rollout_counts *c, enum rollout_side side)
{
	const uint64_t *n = c->sides[side].decisions;

	return n[DECISION_DENY] + n[DECISION_ASK] + n[DECISION_PERMIT];
}

int64_t rollout_p99_us(const struct rollout_counts *c, enum rollout_side side)
{
	const uint64_t *buckets = c->sides[side].buckets;
	uint64_t all = 0, seen = 0;

	for (size_t i = 0; i < ROLLOUT_BUCKETS; i++)
		all += buckets[i];
	if (!all)
		return 0;
	for (size_t i = 0; i < ROLLOUT_BUCKETS; i++) {
		seen += buckets[i];
		if (seen * 100 >= all * 99)
			return (rollout_bucket_ns(i) + 999) / 1000;
	}
	return 0;
}

void rollout_counts_since(const struct rollout_counts *now, const struct rollout_counts *before,
			  struct rollout_counts *out)
{
	for (size_t s = 0; s < ROLLOUT_SIDES; s++) {
		for (size_t i = 0; i < 3; i++)
			out->sides[s].decisions[i] = now->sides[s].decisions[i] -
						     before->sides[s].decisions[i];
		out->sides[s].errors = now->sides[s].errors - before->sides[s].errors;
		for (size_t i = 0; i < ROLLOUT_BUCKETS; i++)
			out->sides[s].buckets[i] = now->sides[s].buckets[i] -
						   before->sides[s].buckets[i];
	}
}

/* ---- groups ---- */

static bool same(const struct rollout_verdict *a, const struct rollout_verdict *b)
{
	return a->decision == b->decision && !strcmp(a->reason, b->reason) &&
	       !strcmp(a->rule, b->rule);
}

/* The newest stay. */
static void add_sample(struct rollout_group *g, uint64_t seq)
{
	if (g->nsamples == ROLLOUT_SAMPLES) {
		memmove(g->samples, g->samples + 1, (ROLLOUT_SAMPLES - 1) * sizeof(*g->samples));
		g->nsamples--;
	}
	g->samples[g->nsamples++] = seq;
}

void rollout_report_group(struct rollout_report *r, const struct rollout_verdict *was,
			  const struct rollout_verdict *is, uint64_t n, const uint64_t *samples,
			  size_t nsamples)
{
	struct rollout_group *g = r->groups;
	struct rollout_group *end = g + r->ngroups;

	while (g < end && (!same(&g->was, was) || !same(&g->is, is)))
		g++;
	if (g == r->groups + ROLLOUT_GROUPS) {
		r->ungrouped += n;
		return;
	}
	if (g == end) {
		*g = (struct rollout_group){ .was = *was, .is = *is };
		r->ngroups++;
	}
	g->count += n;
	for (size_t i = 0; i < nsamples; i++)
		add_sample(g, samples[i]);
}

/* ---- kept over a restart ---- */

static void write_numbers(struct buf *b, const uint64_t *n, size_t count)
{
	buf_char(b, '[');
	for (size_t i = 0; i < count; i++)
		buf_printf(b, "%s%" PRIu64, i ? "," : "", n[i]);
	buf_char(b, ']');
}

static void write_verdict(struct buf *b, const struct rollout_verdict *v)
{
	buf_printf(b, "[%d,", (int)v->decision);
	buf_json(b, str_c(v->reason));
	buf_char(b, ',');
	buf_json(b, str_c(v->rule));
	buf_char(b, ']');
}

void rollout_report_write(struct buf *b, const struct rollout_report *r)
{
	buf_lit(b, "{\"sides\":[");
	for (size_t s = 0; s < ROLLOUT_SIDES; s++) {
		buf_add(b, s ? STR(",{\"decisions\":") : STR("{\"decisions\":"));
		write_numbers(b, r->counts.sides[s].decisions, 3);
		buf_printf(b, ",\"errors\":%" PRIu64 ",\"buckets\":", r->counts.sides[s].errors);
		write_numbers(b, r->counts.sides[s].buckets, ROLLOUT_BUCKETS);
		buf_char(b, '}');
	}
	buf_printf(b, "],\"changed\":%" PRIu64 ",\"ungrouped\":%" PRIu64 ",\"groups\":[",
		   r->changed, r->ungrouped);
	for (size_t i = 0; i < r->ngroups; i++) {
		const struct rollout_group *g = &r->groups[i];

		buf_printf(b, "%s{\"count\":%" PRIu64 ",\"was\":", i ? "," : "", g->count);
		write_verdict(b, &g->was);
		buf_lit(b, ",\"is\":");
		write_verdict(b, &g->is);
		buf_lit(b, ",\"samples\":");
		write_numbers(b, g->samples, g->nsamples);
		buf_char(b, '}');
	}
	buf_lit(b, "]}");
}

static bool read_number(const struct json *v, uint64_t *out)
{
	if (!v || v->type != JSON_INT || v->i < 0)
		return false;
	*out = (uint64_t)v->i;
	return true;
}

static bool read_numbers(const struct json *list, uint64_t *out, size_t count)
{
	if (!list || list->n != count)
		return false;
	for (size_t i = 0; i < count; i++)
		if (!read_number(&list->items[i], &out[i]))
			return false;
	return true;
}

static bool read_text(const struct json *v, char *out, size_t size)
{
	if (v->type != JSON_STRING || v->s.n >= size)
		return false;
	if (v->s.n)
		memcpy(out, v->s.p, v->s.n);
	out[v->s.n] = '\0';
	return true;
}

static bool read_verdict(const struct json *list, struct rollout_verdict *v)
{
	uint64_t decision;

	if (!list || list->n != 3 || !read_number(&list->items[0], &decision) ||
	    decision > DECISION_PERMIT)
		return false;
	v->decision = (enum decision)decision;
	return read_text(&list->items[1], v->reason, sizeof(v->reason)) &&
	       read_text(&list->items[2], v->rule, sizeof(v->rule));
}

static bool read_group(const struct json *v, struct rollout_group *g)
{
	const struct json *samples = json_get_type(v, STR("samples"), JSON_ARRAY);

	g->nsamples = samples ? samples->n : 0;
	return samples && g->nsamples <= ROLLOUT_SAMPLES &&
	       read_number(json_get(v, STR("count")), &g->count) &&
	       read_verdict(json_get_type(v, STR("was"), JSON_ARRAY), &g->was) &&
	       read_verdict(json_get_type(v, STR("is"), JSON_ARRAY), &g->is) &&
	       read_numbers(samples, g->samples, g->nsamples);
}

static bool read_report(const struct json *v, struct rollout_report *r)
{
	const struct json *sides = json_get_type(v, STR("sides"), JSON_ARRAY);
	const struct json *groups = json_get_type(v, STR("groups"), JSON_ARRAY);

	if (!sides || sides->n != ROLLOUT_SIDES || !groups || groups->n > ROLLOUT_GROUPS ||
	    !read_number(json_get(v, STR("changed")), &r->changed) ||
	    !read_number(json_get(v, STR("ungrouped")), &r->ungrouped))
		return false;
	for (size_t s = 0; s < ROLLOUT_SIDES; s++) {
		const struct json *side = &sides->items[s];

		if (!read_numbers(json_get_type(side, STR("decisions"), JSON_ARRAY),
				  r->counts.sides[s].decisions, 3) ||
		    !read_number(json_get(side, STR("errors")), &r->counts.sides[s].errors) ||
		    !read_numbers(json_get_type(side, STR("buckets"), JSON_ARRAY),
				  r->counts.sides[s].buckets, ROLLOUT_BUCKETS))
			return false;
	}
	for (size_t i = 0; i < groups->n; i++)
		if (!read_group(&groups->items[i], &r->groups[i]))
			return false;
	r->ngroups = groups->n;
	return true;
}

bool rollout_report_read(struct str text, struct rollout_report *r)
{
	const struct json *v = NULL;
	struct arena a;
	struct err ignored;
	bool ok;

	memset(r, 0, sizeof(*r));
	arena_init(&a, &mem_system, LIMIT_BODY);
	ok = json_parse(text, &json_default_limits, &a, &v, &ignored) && read_report(v, r);
	arena_clear(&a);
	if (!ok)
		memset(r, 0, sizeof(*r));
	return ok;
}

/* ---- gates ---- */

bool rollout_judgeable(const struct rollout_gates *g, const struct rollout_counts *c)
{
	return rollout_evaluations(c, ROLLOUT_CANDIDATE) >= (uint64_t)g->min_sample;
}

static int64_t per_million(uint64_t part, uint64_t all)
{
	return all ? (int64_t)(part * MILLION / all) : 0;
}

/* "12.34 %" or "1500 us" */
static void put_bound(char out[static 32], int64_t v, bool rate)
{
	if (rate)
		snprintf(out, 32, "%" PRId64 ".%02" PRId64 " %%", v / 10000, v % 10000 / 100);
	else
		snprintf(out, 32, "%" PRId64 " us", v);
}

const char *rollout_tripped(const struct rollout_gates *g, const struct rollout_counts *c,
			    char why[static 200])
{
	uint64_t n = rollout_evaluations(c, ROLLOUT_CANDIDATE);
	int64_t denied = per_million(c->sides[ROLLOUT_CANDIDATE].decisions[DECISION_DENY], n);
	int64_t before = per_million(c->sides[ROLLOUT_BASE].decisions[DECISION_DENY],
				     rollout_evaluations(c, ROLLOUT_BASE));
	const struct {
		const char *name, *what;
		int64_t is, max;
		bool rate;
	} gates[] = {
		{ "max_error_rate", "errors of the candidate",
		  per_million(c->sides[ROLLOUT_CANDIDATE].errors, n), g->max_error, true },
		{ "max_deny_rate", "denials by the candidate", denied, g->max_deny, true },
		{ "max_deny_increase", "denials by the candidate beyond those of the set in force",
		  denied - before, g->max_deny_increase, true },
		{ "max_p99_us", "99th percentile of the candidate's evaluations",
		  rollout_p99_us(c, ROLLOUT_CANDIDATE), g->max_p99_us, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(gates); i++) {
		char is[32], max[32];

		if (gates[i].max < 0 || gates[i].is <= gates[i].max)
			continue;
		put_bound(is, gates[i].is, gates[i].rate);
		put_bound(max, gates[i].max, gates[i].rate);
		snprintf(why, 200, "%s: %s; allowed: %s; evaluations: %" PRIu64, gates[i].what, is,
			 max, n);
		return gates[i].name;
	}
	return NULL;
}
