/*
 * bench_index [--quick] [FOLDER]: searches among 10 million records (1 million) of 1,000 agents and
 * 30 days: how long the index takes to make, how large it is, and what a search takes from opening
 * both files to the last of its hits, as the server does it. The index covers all records; the log
 * beside it holds the day that is searched, since a search by day reads no other. One JSON line.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/audit/index_build.h"
#include "authz/audit/index_search.h"
#include "authz/audit/rows.h"
#include "authz/base/clock.h"

#define AGENTS 1000
#define TOOLS 250
#define DAYS 30
#define DAY_MS INT64_C(86400000)
#define START_MS INT64_C(1760000000000)
#define SEARCHED 20 /* the day */
#define ROUNDS 200
#define BATCH 20000
#define MARGIN 2048 /* records of the days beside it, for the last steps of a bisection */

static uint64_t records = 10000000;
static char folder[4000];

static void die(const char *what, const struct err *e)
{
	fprintf(stderr, "bench_index: %s: %s\n", what, e->msg);
	exit(1);
}

static double now_ms(void)
{
	return (double)clock_mono_ns(&clock_system) / 1e6;
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd);
	return (x ^ x >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
}

static int64_t time_at(uint64_t seq)
{
	return START_MS + (int64_t)((double)seq / (double)records * (double)(DAYS * DAY_MS));
}

static uint64_t seq_at(int64_t ms)
{
	return (uint64_t)((double)(ms - START_MS) / (double)(DAYS * DAY_MS) * (double)records);
}

/* A leaf as the service writes it. */
static struct str leaf_at(uint64_t seq, char out[static 1200])
{
	uint64_t r = mix(seq + 1);
	bool deny = r % 16 == 0;
	int n = snprintf(
		out, 1200,
		"{\"action\":\"tools/call\",\"agent\":\"spiffe://example.org/team/%" PRIu64
		"/agent/%" PRIu64 "\",\"answer_commit\":\"%064" PRIx64
		"\",\"boot\":\"0123456789abcdef\",\"cost_us\":17,\"decision\":\"%s\","
		"\"engine\":\"writ-1\",\"facts_commit\":\"%064" PRIx64 "\",\"generation\":%" PRIu64
		",\"input_commit\":\"%064" PRIx64
		"\",\"kind\":\"authz.decision\",\"node\":\"n1\",\"pep\":\"spiffe://example.org/mesh/"
		"gw-%" PRIu64 "\",\"policy_sha256\":\"%064" PRIx64 "\",\"prev\":\"%064" PRIx64
		"\",\"reason\":\"%s\",\"rule\":\"bench/%" PRIu64 "\",\"seq\":%" PRIu64
		",\"time\":%" PRId64 ",\"tool\":\"bench/pay-%" PRIu64
		"\",\"trace_id\":\"%016" PRIx64 "%016" PRIx64 "\",\"v\":1}",
		r % AGENTS % 37, r % AGENTS, r, deny ? "deny" : "permit", r, 1 + seq / 1000000, r,
		r / AGENTS % 8, r, r, deny ? "no_rule" : "permitted", r / 7 % 1000, seq,
		time_at(seq), r / 11 % TOOLS, r, mix(r));

	return (struct str){ out, (size_t)n };
}

static void make_index(void)
{
	struct index_posts posts;
	struct index_memo memo = { 0 };
	struct index_mark marks[BATCH / INDEX_MARK_EVERY + 1];
	struct index_head head = { 0 };
	struct index_store *s;
	struct err e = { 0 };
	char text[1200];

	if (!index_posts_init(&posts, (size_t)BATCH * INDEX_TERMS_MAX, &e) ||
	    !index_store_open(folder, NULL, &s, &e))
		die("index.db", &e);
	while (head.next < records) {
		size_t nmarks = 0, got;
		uint64_t end = head.next + BATCH < records ? head.next + BATCH : records;

		index_posts_reset(&posts);
		for (uint64_t seq = head.next; seq < end; seq++) {
			struct index_term terms[INDEX_TERMS_MAX];

			if (!index_terms(leaf_at(seq, text), &memo, terms, &got))
				die("a leaf is not flat", &e);
			for (size_t i = 0; i < got; i++)
				if (!index_posts_add(&posts, terms[i], seq, &e))
					die("terms", &e);
			if (seq % INDEX_MARK_EVERY == 0)
				marks[nmarks++] = (struct index_mark){ seq, time_at(seq) };
		}
		head.next = end;
		if (!index_store_add(s, &posts, marks, nmarks, &head, &e))
			die("adding", &e);
	}
	index_store_close(s);
	index_posts_clear(&posts);
}

/* The leaves of the searched day, in a log whose tree says that it holds all. */
static void make_log(void)
{
	const struct db_options o = { .create = true, .page_size = ROWS_PAGE };
	uint64_t from = seq_at(START_MS + SEARCHED * DAY_MS) - MARGIN;
	uint64_t to = seq_at(START_MS + (SEARCHED + 1) * DAY_MS) + MARGIN;
	char path[4200], text[1200];
	AUTO_TX tx = { 0 };
	struct db_stmt *put;
	struct db *db;
	struct err e = { 0 };

	snprintf(path, sizeof(path), "%s/" ROWS_FILE, folder);
	if (!db_open(path, &o, &db, &e) || !rows_migrate(db, &e) ||
	    !db_exec(db, "PRAGMA synchronous=OFF", &e) ||
	    !db_prepare(db, "INSERT INTO leaf(seq, body) VALUES (?1, ?2)", &put, &e) ||
	    !db_begin(db, &tx, &e))
		die("log.db", &e);
	for (uint64_t seq = from; seq < to; seq++) {
		struct str leaf = leaf_at(seq, text);

		db_bind_int(put, 1, (int64_t)seq);
		db_bind_blob(put, 2, leaf.p, leaf.n);
		if (!db_run(put, &e))
			die("a leaf", &e);
	}
	snprintf(text, sizeof(text), "UPDATE tree SET size = %" PRIu64, records);
	db_finish(put);
	if (!db_exec(db, text, &e) || !db_commit(&tx, &e))
		die("log.db", &e);
	db_close(db);
}

/* Milliseconds; @hits is how many were found. */
static double search(const struct index_filter *f, uint64_t most, uint64_t *hits)
{
	struct index_search *s;
	struct index_hit hit;
	struct err e = { 0 };
	double start = now_ms();
	bool got = true;

	*hits = 0;
	if (!index_search_open(folder, &s, &e) || !index_search_start(s, f, &e))
		die("search", &e);
	while (*hits < most && got) {
		if (!index_search_next(s, &hit, &got, &e))
			die("search", &e);
		*hits += got;
	}
	index_search_close(s);
	return now_ms() - start;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Have the kernel forget the files: what a search takes after a start. */
static void forget(void)
{
	static const char *const names[] = { "index.db", "index.db-wal", "log.db", "log.db-wal" };
	char path[4200];

	sync();
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
}

static struct index_filter by_day(void)
{
	return (struct index_filter){ .since_ms = START_MS + SEARCHED * DAY_MS,
				      .until_ms = START_MS + (SEARCHED + 1) * DAY_MS,
				      .newest_first = true };
}

static void measure(const char *name, uint64_t most, bool agent, bool deny, bool cold)
{
	static double t[ROUNDS];
	uint64_t found = 0, hits;
	int rounds = cold ? 9 : ROUNDS;

	for (int i = 0; i < rounds; i++) {
		struct index_filter f = by_day();
		uint64_t n = mix((uint64_t)i + 77) % AGENTS;
		char id[100], tool[40];

		snprintf(id, sizeof(id), "spiffe://example.org/team/%" PRIu64 "/agent/%" PRIu64,
			 n % 37, n);
		snprintf(tool, sizeof(tool), "bench/pay-%" PRIu64, n % TOOLS);
		f.is[f.n++] = agent ? (struct index_wanted){ STR("agent"), str_c(id) }
				    : (struct index_wanted){ STR("tool"), str_c(tool) };
		if (deny)
			f.is[f.n++] = (struct index_wanted){ STR("decision"), STR("deny") };
		if (cold)
			forget();
		t[i] = search(&f, most, &hits);
		found += hits;
	}
	qsort(t, (size_t)rounds, sizeof(t[0]), compare);
	printf(",\"%s\":{\"p50_ms\":%.3f,\"max_ms\":%.3f,\"hits\":%.0f}", name, t[rounds / 2],
	       t[rounds - 1], (double)found / rounds);
}

/* One trace among all of them. */
static void measure_trace(void)
{
	static double t[ROUNDS];
	uint64_t first = seq_at(START_MS + SEARCHED * DAY_MS), hits, found = 0;

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t r = mix(first + (uint64_t)i * 37 + 1);
		struct index_filter f = { .newest_first = true };
		char id[40];

		snprintf(id, sizeof(id), "%016" PRIx64 "%016" PRIx64, r, mix(r));
		f.is[f.n++] = (struct index_wanted){ STR("trace_id"), str_c(id) };
		t[i] = search(&f, 100, &hits);
		found += hits;
	}
	qsort(t, ROUNDS, sizeof(t[0]), compare);
	printf(",\"trace\":{\"p50_ms\":%.3f,\"max_ms\":%.3f,\"hits\":%.0f}", t[ROUNDS / 2],
	       t[ROUNDS - 1], (double)found / ROUNDS);
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "index.db", "index.db-wal", "index.db-shm",
					     "log.db",	 "log.db-wal",	 "log.db-shm" };
	char path[4200];
	struct stat st = { 0 };
	double start, seconds;

	if (argc > 1 && strcmp(argv[1], "--quick") == 0) {
		records = 1000000;
		argc--;
		argv++;
	}
	snprintf(folder, sizeof(folder), "%s/bench-index-XXXXXX", argc > 1 ? argv[1] : "/tmp");
	if (!mkdtemp(folder)) {
		perror(folder);
		return 1;
	}
	start = now_ms();
	make_index();
	seconds = (now_ms() - start) / 1e3;
	make_log();
	snprintf(path, sizeof(path), "%s/index.db", folder);
	(void)stat(path, &st);
	printf("{\"records\":%" PRIu64 ",\"seconds\":%.2f,\"per_s\":%.0f,\"bytes_per_record\":%.1f",
	       records, seconds, (double)records / seconds, (double)st.st_size / (double)records);
	measure("agent_day_page", 100, true, false, false);
	measure("agent_day_all", 1000, true, false, false);
	measure("agent_day_cold", 100, true, false, true);
	measure("agent_deny_day", 100, true, true, false);
	measure("tool_deny_day", 100, false, true, false);
	measure_trace();
	printf("}\n");
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		(void)unlink(path);
	}
	return rmdir(folder) == 0 ? 0 : 1;
}
