/*
 * bench_audit [FOLDER [SECONDS]]: what the log costs. Appending by in-process producers at
 * several batch sizes beside the disk's own flush, then export and verification of what was written
 * beside raw SHA-256 of the same bytes.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "authz/audit/audit.h"
#include "authz/audit/export.h"
#include "authz/audit/note.h"
#include "authz/audit/proof.h"
#include "authz/audit/verify.h"
#include "authz/store/db.h"

#define ORIGIN "bench.example/writ"

static double now_s(void)
{
	return (double)clock_mono_ns(&clock_system) / 1e9;
}

static double cpu_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void die(const struct err *e)
{
	fprintf(stderr, "bench_audit: %s\n", e->msg);
	exit(1);
}

/* --- the disk --- */

static void bench_flush(const char *folder)
{
	enum { N = 400 };
	static double t[N];
	static char block[8192];
	char path[4200];
	int fd;

	snprintf(path, sizeof(path), "%s/flush", folder);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
	for (int i = 0; i < N; i++) {
		double from = now_s();

		if (write(fd, block, sizeof(block)) < 0 || fdatasync(fd) != 0)
			exit(1);
		t[i] = now_s() - from;
	}
	close(fd);
	unlink(path);
	qsort(t, N, sizeof(*t), compare);
	printf("fdatasync of 8 KiB appended: p50 %.3f ms, p99 %.3f ms\n", t[N / 2] * 1e3,
	       t[N * 99 / 100] * 1e3);
}

/* --- appending --- */

static EVP_PKEY *key;

static bool sign(void *ctx, struct str text, uint8_t signature[static 64], struct err *e)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	size_t n = 64;
	bool ok = EVP_DigestSignInit(c, NULL, NULL, NULL, key) == 1 &&
		  EVP_DigestSign(c, signature, &n, (const unsigned char *)text.p, text.n) == 1;

	(void)ctx;
	EVP_MD_CTX_free(c);
	return ok || err_set(e, ERR_INTERNAL, "cannot sign");
}

static void fatal(void *ctx, const struct err *e)
{
	(void)ctx;
	die(e);
}

struct parcel {
	struct audit_job job;
	struct buf text;
	double sent;
};

static void nothing(struct task *t)
{
	(void)t;
}

static char input[760];

/* About what a decision's record is: a leaf of 800 bytes, openings of 1,000. */
static void draft(struct parcel *p, struct sha256 *sha, unsigned i)
{
	struct record *r = &p->job.record;
	uint8_t hash[32] = { (uint8_t)i };

	buf_reset(&p->text);
	record_begin(r, &p->text);
	record_str(r, STR("action"), STR("tools/call"));
	record_str(r, STR("agent"), STR("spiffe://acme.example/agent/finance/billing-7"));
	record_commit(r, OPENING_ANSWER, STR("{\"message\":\"the rule permits it\"}"), sha);
	record_int(r, STR("cost_us"), i % 100);
	record_str(r, STR("decision"), i % 3 ? STR("permit") : STR("deny"));
	record_str(r, STR("engine"), STR("writ-1"));
	record_commit(
		r, OPENING_FACTS,
		STR("{\"agent\":{\"owner\":\"finance\",\"state\":\"active\",\"team\":\"billing\"},"
		    "\"now\":1760000000000}"),
		sha);
	record_int(r, STR("generation"), 12);
	record_commit(r, OPENING_INPUT, (struct str){ input, sizeof(input) }, sha);
	record_str(r, STR("kind"), STR("authz.decision"));
	record_str(r, STR("pep"), STR("spiffe://acme.example/gateway/1"));
	record_hash(r, STR("policy_sha256"), hash);
	record_str(r, STR("reason"), STR("permitted"));
	record_str(r, STR("rule"), STR("finance/payments"));
	record_str(r, STR("tool"), STR("files/read"));
	record_str(r, STR("trace_id"), STR("4bf92f3577b34da6a3ce929d0e0e4736"));
}

/* @depth records are in flight, each sent again as soon as it is on disk. */
static void bench_depth(struct audit *a, struct queue *done, struct parcel *parcels, unsigned depth,
			double seconds, struct sha256 *sha)
{
	enum { KEEP = 1 << 20 };
	static double lat[KEEP];
	struct audit_status s0, s1;
	struct chain c;
	size_t n = 0, flying = 0;
	double from = now_s(), cpu = cpu_s(), spent_drafting = 0, wall;
	struct err e;

	audit_status(a, &s0);
	chain_init(&c);
	for (unsigned i = 0; i < depth; i++) {
		draft(&parcels[i], sha, i);
		parcels[i].job.task.run = nothing;
		parcels[i].job.reply_to = done;
		parcels[i].sent = now_s();
		chain_add(&c, &parcels[i].job.task.link);
	}
	flying = c.n;
	if (!audit_submit(a, &c, &e))
		die(&e);
	while (flying) {
		struct chain back, again;
		struct timespec t0, t1;
		double at;

		if (!queue_wait(done, &back, -1))
			continue;
		at = now_s();
		chain_init(&again);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t0);
		for (struct link *l = back.first, *next; l; l = next) {
			struct parcel *p = LINK_OF(l, struct parcel, job.task.link);

			next = l->next;
			if (!p->job.ok)
				die(&p->job.err);
			lat[n % KEEP] = at - p->sent;
			n++;
			flying--;
			if (at - from < seconds) {
				draft(p, sha, (unsigned)n);
				p->sent = at;
				chain_add(&again, &p->job.task.link);
			}
		}
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t1);
		spent_drafting += (double)(t1.tv_sec - t0.tv_sec) +
				  (double)(t1.tv_nsec - t0.tv_nsec) / 1e9;
		flying += again.n;
		if (again.n && !audit_submit(a, &again, &e))
			die(&e);
	}
	wall = now_s() - from;
	cpu = cpu_s() - cpu - spent_drafting;
	audit_status(a, &s1);
	if (n > KEEP)
		n = KEEP;
	qsort(lat, n, sizeof(*lat), compare);
	printf("in flight %4u: %7.0f records/s, %5.1f records a batch, %5.2f us CPU a record "
	       "(drafting apart: %.2f), p50 %.3f ms, p99 %.3f ms, p99/p50 %.1f\n",
	       depth, (double)(s1.size - s0.size) / wall,
	       (double)(s1.size - s0.size) / (double)(s1.batches - s0.batches),
	       cpu * 1e6 / (double)(s1.size - s0.size),
	       spent_drafting * 1e6 / (double)(s1.size - s0.size), lat[n / 2] * 1e3,
	       lat[n * 99 / 100] * 1e3, lat[n * 99 / 100] / lat[n / 2]);
	fflush(stdout);
}

static void bench_append(const char *folder, double seconds, const uint8_t pub[static 32])
{
	static const unsigned depths[] = { 1, 8, 32, 128, 512 };
	struct audit_config c = { .folder = folder,
				  .origin = ORIGIN,
				  .node = "bench",
				  .clock = &clock_system,
				  .sign = sign,
				  .fatal = fatal };
	struct parcel *parcels = calloc(512, sizeof(*parcels));
	struct sha256 *sha = sha256_new(NULL);
	struct queue *done = queue_new(4096, true, NULL);
	struct audit *a;
	struct err e;

	memcpy(c.public_key, pub, 32);
	if (!parcels || !sha || !done || !audit_open(&c, &a, &e))
		die(&e);
	for (int i = 0; i < 512; i++)
		buf_init(&parcels[i].text, mem_system, 65536);
	for (size_t i = 0; i < ARRAY_LEN(depths); i++)
		bench_depth(a, done, parcels, depths[i], seconds, sha);
	audit_close(a);
	for (int i = 0; i < 512; i++)
		buf_clear(&parcels[i].text);
	free(parcels);
	queue_free(done);
	sha256_free(sha);
}

/* --- export and verification --- */

/* The rows that an export reads, and nothing else: what SQLite itself needs for them. */
static double read_rows(const char *folder, uint64_t *bytes)
{
	const struct db_options o = { .read_only = true, .autocheckpoint = -1, .busy_ms = 1000 };
	double from = cpu_s();
	AUTO_STMT *s = NULL;
	AUTO_DB *db = NULL;
	char path[4200];
	bool row = true;
	struct err e;

	snprintf(path, sizeof(path), "%s/log.db", folder);
	if (!db_open(path, &o, &db, &e) ||
	    !db_prepare(db,
			"SELECT l.seq, l.body, o.answer, o.facts, o.input FROM leaf l "
			"LEFT JOIN opening o ON o.seq = l.seq ORDER BY l.seq",
			&s, &e))
		die(&e);
	for (*bytes = 0;;) {
		if (!db_step(s, &row, &e))
			die(&e);
		if (!row)
			break;
		for (int i = 1; i < 5; i++)
			*bytes += db_column_blob(s, i).n;
	}
	db_finish(s);
	s = NULL;
	return cpu_s() - from;
}

static void export_file(const char *folder, int fd)
{
	struct audit_export_options o = { .folder = folder,
					  .filter = { .from = 0, .openings = true } };
	struct audit_export *x;
	uint64_t bytes = 0, rows;
	double from, spent = 0, raw;
	bool done = false;
	AUTO_BUF out;
	struct err e;

	buf_init(&out, mem_system, 1 << 26);
	(void)read_rows(folder, &rows); /* once to warm the cache */
	raw = read_rows(folder, &rows);
	from = cpu_s();
	if (!audit_export_open(&o, &x, &e))
		die(&e);
	while (!done) {
		if (!audit_export_next(x, &out, &done, &e))
			die(&e);
		spent += cpu_s() - from;
		bytes += out.n;
		if (write(fd, out.p, out.n) != (ssize_t)out.n)
			exit(1);
		buf_reset(&out);
		from = cpu_s();
	}
	audit_export_close(x);
	printf("export: %.0f MB/s of JSON Lines, the same rows raw from SQLite %.0f MB/s, ratio "
	       "%.2f\n",
	       (double)bytes / spent / 1e6, (double)rows / raw / 1e6,
	       ((double)bytes / spent) / ((double)rows / raw));
}

static double hash_file(int fd)
{
	static char piece[256 * 1024];
	EVP_MD *md = EVP_MD_fetch(NULL, "SHA256", NULL);
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	uint8_t hash[32];
	double from;
	ssize_t n;

	lseek(fd, 0, SEEK_SET);
	from = cpu_s();
	EVP_DigestInit_ex2(c, md, NULL);
	while ((n = read(fd, piece, sizeof(piece))) > 0)
		EVP_DigestUpdate(c, piece, (size_t)n);
	EVP_DigestFinal_ex(c, hash, NULL);
	EVP_MD_CTX_free(c);
	EVP_MD_free(md);
	return cpu_s() - from;
}

static void bench_verify(const char *folder, const uint8_t pub[static 32])
{
	struct verify_options o = { 0 };
	struct verify_report r;
	struct note_key k;
	AUTO_BUF vkey;
	FILE *file = tmpfile();
	double raw, verify;
	struct err e;

	buf_init(&vkey, mem_system, 1000);
	if (!file || !note_key_make(STR(ORIGIN), pub, &k, &e))
		die(&e);
	note_key_format(&k, &vkey);
	o.vkey = buf_str(&vkey);
	export_file(folder, fileno(file));
	(void)hash_file(fileno(file)); /* once to warm the cache */
	for (int i = 0; i < 3; i++) {
		double wall[3];

		raw = hash_file(fileno(file));
		for (o.threads = 1; o.threads <= 2; o.threads++) {
			lseek(fileno(file), 0, SEEK_SET);
			wall[o.threads] = now_s();
			verify = cpu_s();
			if (!verify_fd(fileno(file), &o, &r, &e))
				die(&e);
			verify = cpu_s() - verify;
			wall[o.threads] = now_s() - wall[o.threads];
			if (r.result != VERIFY_HOLDS)
				die(&r.why);
			if (o.threads == 1)
				printf("verify: %.0f records/s, raw SHA-256 of the same bytes "
				       "%.0f records/s, ratio %.2f\n",
				       (double)r.count / verify, (double)r.count / raw,
				       raw / verify);
		}
		printf("verify on two cores: %.0f records/s, %.2f times one core\n",
		       (double)r.count / wall[2], wall[1] / wall[2]);
	}
	fclose(file);
}

/* One record's proof: the first makes the tiles of the whole log, the others find them. */
static void bench_proofs(const char *folder)
{
	struct proof_ask ask = { .kind = PROOF_INCLUSION };
	double first = 0, from;
	uint64_t size = 1;
	struct log_proof p;
	struct err e;
	int n;

	from = now_s();
	if (!proof_make(folder, NULL, &ask, &p, &e))
		die(&e);
	first = now_s() - from;
	size = p.size;
	proof_clear(&p);
	from = now_s();
	for (n = 0; n < 200; n++) {
		ask.a = (uint64_t)n * 104729 % size;
		if (!proof_make(folder, NULL, &ask, &p, &e))
			die(&e);
		proof_clear(&p);
	}
	printf("proof of one of %llu records: the first %.0f ms, then %.2f ms each\n",
	       (unsigned long long)size, first * 1e3, (now_s() - from) / n * 1e3);
}

int main(int argc, char **argv)
{
	const char *folder = argc > 1 ? argv[1] : "bench-audit";
	double seconds = argc > 2 ? strtod(argv[2], NULL) : 2.0;
	uint8_t seed[32] = { 1 }, pub[32];
	size_t n = 32;

	memset(input, 'x', sizeof(input));
	memcpy(input, "{\"path\":\"", 9);
	memcpy(input + sizeof(input) - 2, "\"}", 2);
	mkdir(folder, 0700);
	key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
	EVP_PKEY_get_raw_public_key(key, pub, &n);
	bench_flush(folder);
	bench_append(folder, seconds, pub);
	bench_verify(folder, pub);
	bench_proofs(folder);
	EVP_PKEY_free(key);
	return 0;
}
