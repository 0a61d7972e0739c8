/* bench_registry [ENTRIES]: finding, changing and loading in a registry of that size (100,000). */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "authz/base/clock.h"
#include "spiffe/registry_match.h"

static void die(const struct err *e)
{
	fprintf(stderr, "bench_registry: %s\n", e->msg);
	exit(1);
}

static double ms_since(int64_t start)
{
	return (double)(clock_mono_ns(&clock_system) - start) / 1e6;
}

static void id_of(char out[static 64], long i)
{
	snprintf(out, 64, "spiffe://example.org/team/%ld/agent/%ld", i % 97, i);
}

/* Each agent is known by its user, its group, and a cgroup of its own. */
static void cgroup_of(char out[static 64], const char *id)
{
	snprintf(out, 64, "cgroup:/agents.slice/%s", strrchr(id, '/') + 1);
}

static struct registry_change change(const char *id)
{
	static const struct registry_attribute attributes[] = {
		{ STR_INIT("team"), STR_INIT("finance") }, { STR_INIT("tier"), STR_INIT("2") }
	};
	static struct registry_selector selectors[] = { { STR_INIT("unix"), STR_INIT("uid:1000") },
							{ STR_INIT("unix"), STR_INIT("gid:1000") },
							{ STR_INIT("unix"), { NULL, 0 } } };
	static char cgroup[64];

	cgroup_of(cgroup, id);
	selectors[2].value = str_c(cgroup);
	return (struct registry_change){
		.verb = REGISTRY_REGISTER,
		.spec = { .id = str_c(id),
			  .owner = STR("ann"),
			  .attributes = attributes,
			  .nattributes = 2,
			  .selectors = selectors,
			  .nselectors = 3 },
		.by = STR("bench"),
		.now_ms = 1700000000000,
	};
}

static void open_registry(const char *path, struct db **db, struct registry **r, struct slot *slot)
{
	struct db_options o = { .create = true };
	struct registry_config c = { .trust_domain = STR("example.org"),
				     .slot = slot,
				     .alloc = &mem_system };
	struct err e = { 0 };

	if (!db_open(path, &o, db, &e))
		die(&e);
	c.db = *db;
	if (!registry_open(&c, r, &e))
		die(&e);
}

static void measure_find(struct slot *slot, long n)
{
	AUTO_REGISTRY_VIEW *v = (void *)slot_acquire(slot);
	char(*ids)[64] = calloc(1024, 64);
	long found = 0, rounds = 2000000;
	int64_t start;

	if (!ids)
		return;
	for (long i = 0; i < 1024; i++)
		id_of(ids[i], (long)((unsigned long)i * 2654435761u % (unsigned long)n));
	start = clock_mono_ns(&clock_system);
	for (long i = 0; i < rounds; i++)
		found += registry_find(v, str_c(ids[i & 1023])) != NULL;
	printf("find          %8.0f ns (%ld of %ld found)\n",
	       ms_since(start) * 1e6 / (double)rounds, found, rounds);
	free(ids);
}

/* What attest_unix gives for a caller, 64 different callers in turn; the same in a registry of any
 * size, so that the ratio of two sizes is that of the look-ups. */
#define CALLERS 64
static double measure_match(struct slot *slot, long n)
{
	AUTO_REGISTRY_VIEW *v = (void *)slot_acquire(slot);
	static char cgroups[CALLERS][80];
	struct str held[] = {
		STR("unix:uid:1000"),
		STR("unix:user:agent"),
		STR("unix:gid:1000"),
		STR("unix:group:agent"),
		STR("unix:supplementary_gid:100"),
		STR("unix:supplementary_group:users"),
		STR("unix:path:/usr/bin/python3.11"),
		STR("unix:sha256:"
		    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
		STR("systemd:id:agents.service"),
		{ NULL, 0 }
	};
	const struct registry_entry *out[16];
	size_t found = 0, rounds = 200000;
	int64_t start;

	for (long i = 0; i < CALLERS; i++) {
		char id[64];

		id_of(id, (long)((unsigned long)i * 2654435761u % (unsigned long)n));
		snprintf(cgroups[i], sizeof(cgroups[i]), "unix:");
		cgroup_of(cgroups[i] + 5, id);
	}
	start = clock_mono_ns(&clock_system);
	for (size_t i = 0; i < rounds; i++) {
		held[ARRAY_LEN(held) - 1] = str_c(cgroups[i % CALLERS]);
		found += registry_view_match(v, held, ARRAY_LEN(held), 1700000000000, out,
					     ARRAY_LEN(out));
	}
	if (found != rounds) {
		fprintf(stderr, "bench_registry: %zu of %zu callers matched\n", found, rounds);
		exit(1);
	}
	return ms_since(start) * 1e6 / (double)rounds;
}

static long resident_kib(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	char line[128] = "", *second;

	if (f && !fgets(line, sizeof(line), f))
		line[0] = '\0';
	if (f)
		fclose(f);
	second = strchr(line, ' ');
	return second ? strtol(second, NULL, 10) * (sysconf(_SC_PAGESIZE) / 1024) : 0;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void measure_changes(struct registry *r, long n)
{
	double took[200], sum = 0;
	struct err e = { 0 };
	char id[64];

	for (long i = 0; i < 200; i++) {
		struct registry_change c;
		int64_t start = clock_mono_ns(&clock_system);

		id_of(id, n + i);
		c = change(id);
		if (!registry_apply(r, &c, &e))
			die(&e);
		took[i] = ms_since(start);
	}
	qsort(took, 200, sizeof(*took), by_size);
	printf("register      %8.3f ms median, %.3f least, each with its own fsync\n", took[100],
	       took[0]);
	for (long i = 0; i < 200; i++) {
		struct registry_change c;
		int64_t start = clock_mono_ns(&clock_system);

		id_of(id, n + 1000 + i);
		c = change(id);
		if (!registry_prepare(r, &c, &e))
			die(&e);
		sum += ms_since(start);
		registry_abort(r);
	}
	printf("prepare       %8.3f ms mean, no fsync\n", sum / 200);
}

static void measure_list(struct slot *slot)
{
	AUTO_REGISTRY_VIEW *v = (void *)slot_acquire(slot);
	const struct registry_entry *page[100];
	struct registry_filter f = { 0 };
	int64_t start = clock_mono_ns(&clock_system);

	registry_list(v, &f, page, 100);
	printf("list of 100   %8.3f ms\n", ms_since(start));
}

static void register_all(struct registry *r, long from, long n)
{
	struct err e = { 0 };
	char id[64];

	for (long i = from; i < n; i++) {
		struct registry_change c;

		id_of(id, i);
		c = change(id);
		if (!registry_prepare(r, &c, &e))
			die(&e);
	}
	if (!registry_commit(r, &e))
		die(&e);
}

int main(int argc, char **argv)
{
	long n = argc > 1 ? strtol(argv[1], NULL, 10) : 100000, few = n < 100 ? n : 100, kib;
	char dir[] = "/tmp/bench-registry-XXXXXX", path[64];
	struct registry *r = NULL;
	struct db *db = NULL;
	struct slot slot;
	double among_few, among_all;
	int64_t start;

	if (n < 1 || !mkdtemp(dir))
		return 2;
	snprintf(path, sizeof(path), "%s/writ.db", dir);
	slot_init(&slot);
	open_registry(path, &db, &r, &slot);
	register_all(r, 0, few);
	among_few = measure_match(&slot, few);
	kib = resident_kib();
	start = clock_mono_ns(&clock_system);
	register_all(r, few, n);
	printf("import        %8.0f ms for %ld in one commit\n", ms_since(start), n - few);
	printf("memory        %8ld KiB for %ld entries of three selectors\n", resident_kib() - kib,
	       n - few);
	among_all = measure_match(&slot, n);
	printf("match         %8.0f ns for a caller of ten selectors; among %ld: %.0f ns; ratio "
	       "%.2f\n",
	       among_all, few, among_few, among_all / among_few);
	measure_find(&slot, n);
	measure_changes(r, n);
	measure_list(&slot);
	registry_close(r);
	db_close(db);
	start = clock_mono_ns(&clock_system);
	open_registry(path, &db, &r, &slot);
	printf("load          %8.0f ms\n", ms_since(start));
	registry_close(r);
	db_close(db);
	slot_clear(&slot);
	for (size_t i = 0; i < 3; i++) {
		static const char *const ends[] = { "", "-wal", "-shm" };

		snprintf(path, sizeof(path), "%s/writ.db%s", dir, ends[i]);
		unlink(path);
	}
	rmdir(dir);
	return 0;
}
