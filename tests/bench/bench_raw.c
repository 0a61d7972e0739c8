/*
 * What the machine itself can do, for the ratios of the benchmark:
 *   bench_raw fsync DIR [N]    append 8 KiB and fdatasync, N times: latencies
 *   bench_raw sha256 FILE      SHA-256 of each line of FILE: lines and bytes per second
 *   bench_raw sign [SECONDS]   P-256 signatures per second with one parsed key
 * One line of JSON on stdout.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "include/writ/str.h"

#define BLOCK 8192
#define FSYNCS_MAX 100000

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int fail(const char *what)
{
	fprintf(stderr, "bench_raw: %s: %s\n", what, strerror(errno));
	return 1;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int bench_fsync(const char *dir, const char *times)
{
	static char block[BLOCK];
	unsigned long n = times ? strtoul(times, NULL, 10) : 1000;
	char path[4096];
	double *us;
	int fd;

	if (n < 1 || n > FSYNCS_MAX)
		n = 1000;
	us = calloc(n, sizeof(*us));
	snprintf(path, sizeof(path), "%s/bench_raw.XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0 || !us) {
		free(us);
		return fail(path);
	}
	unlink(path);
	memset(block, 'x', sizeof(block));
	for (unsigned long i = 0; i < n; i++) {
		double t = now();

		if (write(fd, block, sizeof(block)) != sizeof(block) || fdatasync(fd) != 0) {
			close(fd);
			free(us);
			return fail(path);
		}
		us[i] = (now() - t) * 1e6;
	}
	close(fd);
	qsort(us, n, sizeof(*us), ascending);
	printf("{\"count\":%lu,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f}\n",
	       n, us[n / 2], us[n * 9 / 10], us[n * 99 / 100], us[n - 1]);
	free(us);
	return 0;
}

/* Hash each line by itself, as a verifier must: one context, one fetched algorithm. */
static int bench_sha256(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	EVP_MD *md = EVP_MD_fetch(NULL, "SHA256", NULL);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char digest[32], all = 0;
	struct str text, line, rest;
	struct stat st;
	size_t lines = 0;
	double t;

	if (fd < 0 || fstat(fd, &st) != 0 || st.st_size == 0)
		return fail(path);
	text.n = (size_t)st.st_size;
	text.p = mmap(NULL, text.n, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (text.p == MAP_FAILED || !md || !ctx)
		return fail(path);
	t = now();
	for (rest = text; str_cut(rest, '\n', &line, &rest); lines++) {
		if (!EVP_DigestInit_ex2(ctx, md, NULL) || !EVP_DigestUpdate(ctx, line.p, line.n) ||
		    !EVP_DigestFinal_ex(ctx, digest, NULL))
			return fail("SHA-256");
		all ^= digest[0];
	}
	t = now() - t;
	printf("{\"lines\":%zu,\"bytes\":%zu,\"seconds\":%.4f,\"lines_per_s\":%.0f,"
	       "\"mb_per_s\":%.1f,\"mix\":%d}\n",
	       lines, text.n, t, (double)lines / t, (double)text.n / t / 1e6, all);
	EVP_MD_CTX_free(ctx);
	EVP_MD_free(md);
	close(fd);
	return 0;
}

static int bench_sign(const char *seconds)
{
	double span = seconds ? strtod(seconds, NULL) : 1, t = now(), end;
	EVP_PKEY *key = EVP_EC_gen("P-256");
	EVP_PKEY_CTX *ctx = key ? EVP_PKEY_CTX_new(key, NULL) : NULL;
	unsigned char digest[32] = { 1 }, signature[128];
	unsigned long n = 0;

	if (!ctx || EVP_PKEY_sign_init(ctx) != 1)
		return fail("P-256");
	if (!(span > 0 && span < 60))
		span = 1;
	for (end = t + span; now() < end; n++) {
		size_t len = sizeof(signature);

		memcpy(digest, &n, sizeof(n));
		if (EVP_PKEY_sign(ctx, signature, &len, digest, sizeof(digest)) != 1)
			return fail("sign");
	}
	printf("{\"signatures\":%lu,\"seconds\":%.3f,\"per_s\":%.0f}\n", n, now() - t,
	       (double)n / (now() - t));
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(key);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (strcmp(what, "fsync") == 0 && argc > 2)
		return bench_fsync(argv[2], argc > 3 ? argv[3] : NULL);
	if (strcmp(what, "sha256") == 0 && argc > 2)
		return bench_sha256(argv[2]);
	if (strcmp(what, "sign") == 0)
		return bench_sign(argc > 2 ? argv[2] : NULL);
	fputs("usage: bench_raw fsync DIR [N] | sha256 FILE | sign [SECONDS]\n", stderr);
	return 2;
}
