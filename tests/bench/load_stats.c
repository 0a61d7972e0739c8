/* Latencies and counts of the load generator. */
#include <inttypes.h>

#include "tests/bench/load.h"

/* Below 64 ns exact; above, 64 buckets to each power of two: an error of at most 1.6 %. */
static size_t bucket(int64_t ns)
{
	uint64_t v = ns < 1 ? 1 : (uint64_t)ns;
	unsigned shift;
	size_t i;

	if (v < STATS_SUB)
		return (size_t)v;
	shift = (unsigned)(63 - __builtin_clzll(v)) - 6;
	i = (size_t)(shift + 1) * STATS_SUB + (size_t)((v >> shift) - STATS_SUB);
	return i < STATS_BUCKETS ? i : STATS_BUCKETS - 1;
}

static double middle_ns(size_t i)
{
	size_t shift;

	if (i < STATS_SUB)
		return (double)i;
	shift = i / STATS_SUB - 1;
	return ((double)(i % STATS_SUB + STATS_SUB) + 0.5) * (double)(1ULL << shift);
}

void load_stats_add(struct stats *s, int64_t latency_ns)
{
	s->buckets[bucket(latency_ns)]++;
	s->requests++;
	s->sum_ns += latency_ns;
	if (latency_ns > s->max_ns)
		s->max_ns = latency_ns;
}

double load_stats_us(const struct stats *s, double quantile)
{
	uint64_t rank = (uint64_t)(quantile * (double)s->requests), seen = 0;

	for (size_t i = 0; i < STATS_BUCKETS; i++) {
		seen += s->buckets[i];
		if (seen > rank)
			return middle_ns(i) / 1000;
	}
	return (double)s->max_ns / 1000;
}

static void print_statuses(const struct stats *s, FILE *to)
{
	const char *comma = "";

	for (size_t i = 0; i < ARRAY_LEN(s->statuses); i++) {
		if (!s->statuses[i])
			continue;
		fprintf(to, "%s\"%zu\":%" PRIu64, comma, i, s->statuses[i]);
		comma = ",";
	}
}

void load_stats_print(const struct stats *s, const struct options *o)
{
	double seconds = (double)(s->ended_ns - s->began_ns) / 1e9;
	double rps = seconds > 0 ? (double)s->requests / seconds : 0;
	double mean = s->requests ? (double)s->sum_ns / (double)s->requests / 1000 : 0;

	if (!o->quiet) {
		fprintf(stderr, "%s, %u connections", o->to, o->connections);
		if (o->streams)
			fprintf(stderr, " x %u streams", o->streams);
		fprintf(stderr,
			": %.0f requests/s (%" PRIu64 " in %.2f s)\n"
			"latency us: p50 %.1f  p90 %.1f  p99 %.1f  max %.1f  mean %.1f\n"
			"not 2xx %" PRIu64 ", wrong answers %" PRIu64 ", broken %" PRIu64
			", reopened %" PRIu64 "\n",
			rps, s->requests, seconds, load_stats_us(s, 0.5), load_stats_us(s, 0.9),
			load_stats_us(s, 0.99), (double)s->max_ns / 1000, mean, s->non_2xx,
			s->wrong, s->broken, s->reopened);
	}
	printf("{\"rps\":%.1f,\"requests\":%" PRIu64 ",\"seconds\":%.3f,\"p50_us\":%.1f,"
	       "\"p90_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,\"mean_us\":%.1f,"
	       "\"non_2xx\":%" PRIu64 ",\"wrong\":%" PRIu64 ",\"broken\":%" PRIu64
	       ",\"reopened\":%" PRIu64 ",\"statuses\":{",
	       rps, s->requests, seconds, load_stats_us(s, 0.5), load_stats_us(s, 0.9),
	       load_stats_us(s, 0.99), (double)s->max_ns / 1000, mean, s->non_2xx, s->wrong,
	       s->broken, s->reopened);
	print_statuses(s, stdout);
	puts("}}");
}
