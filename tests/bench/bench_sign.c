/* bench_sign: raw P-256 signing against JWT-SVIDs and X.509-SVIDs through the signer process, by a
 * client that keeps 64 requests in flight; and verification with and without the cache. */
#include <openssl/evp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "authz/base/clock.h"
#include "spiffe/crypto.h"
#include "spiffe/signer.h"

#define IN_FLIGHT 64
#define RUN_NS 1000000000LL

static int64_t now_s;

static double per_second(size_t n, int64_t ns)
{
	return (double)n * 1e9 / (double)ns;
}

static double raw(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	uint8_t hash[32] = { 1 }, sig[80];
	int64_t start = clock_mono_ns(&clock_system), end = start;
	size_t count = 0;

	EVP_PKEY_sign_init(ctx);
	for (; end - start < RUN_NS; end = clock_mono_ns(&clock_system))
		for (int i = 0; i < 100; i++, count++) {
			size_t n = sizeof(sig);

			if (EVP_PKEY_sign(ctx, sig, &n, hash, sizeof(hash)) != 1)
				abort();
		}
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(key);
	return per_second(count, end - start);
}

struct in_flight {
	struct signer_job job;
	struct buf out;
};

static size_t finished;
static struct signer_client *client;
static bool stopping;

static void again(struct signer_job *j)
{
	if (!j->ok) {
		fprintf(stderr, "bench_sign: %s\n", j->err.msg);
		exit(1);
	}
	finished++;
	buf_reset(j->out);
	if (!stopping && !signer_send(client, j, &j->err))
		exit(1);
}

static double through(const struct signer_job *what)
{
	static struct in_flight slots[IN_FLIGHT];
	int64_t start = clock_mono_ns(&clock_system), end = start;

	finished = 0;
	stopping = false;
	for (int i = 0; i < IN_FLIGHT; i++) {
		buf_init(&slots[i].out, mem_system, 16384);
		slots[i].job = *what;
		slots[i].job.done = again;
		slots[i].job.out = &slots[i].out;
		if (!signer_send(client, &slots[i].job, &slots[i].job.err))
			exit(1);
	}
	while (signer_pending(client)) {
		struct pollfd p = { .fd = signer_client_fd(client), .events = POLLIN };

		signer_flush(client);
		poll(&p, 1, 1000);
		end = clock_mono_ns(&clock_system);
		stopping = end - start >= RUN_NS;
		signer_readable(client);
	}
	for (int i = 0; i < IN_FLIGHT; i++)
		buf_clear(&slots[i].out);
	return per_second(finished, end - start);
}

static double verify(struct bundle_set *set, struct str token, size_t cache)
{
	struct jwt_verifier *v = jwt_verifier_new(&mem_system, cache, NULL);
	int64_t start = clock_mono_ns(&clock_system), end = start;
	struct jwt_svid svid;
	struct arena a;
	struct err e;
	size_t count = 0;

	arena_init(&a, &mem_system, 1 << 20);
	for (; end - start < RUN_NS; end = clock_mono_ns(&clock_system))
		for (int i = 0; i < 100; i++, count++) {
			arena_reset(&a);
			if (!jwt_svid_verify(v, set, token, STR("aud"), now_s, &a, &svid, &e)) {
				fprintf(stderr, "bench_sign: %s\n", e.msg);
				exit(1);
			}
		}
	arena_clear(&a);
	jwt_verifier_free(v);
	return per_second(count, end - start);
}

int main(void)
{
	char folder[] = "/tmp/bench_sign_XXXXXX", path[64];
	struct signer_config config = { .folder = path,
					.trust_domain = STR("bench"),
					.channels = 1 };
	struct signer_job jwt = { .op = SIGNER_JWT_SVID }, x509 = { .op = SIGNER_X509_SVID };
	struct bundle_set *set = bundle_set_new(1, NULL);
	struct signer *s;
	struct bundle *b;
	struct buf spki, token;
	struct err e = { 0 };
	EVP_PKEY *key;
	double base, r;

	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof(path), "%s/keys", folder);
	now_s = clock_wall_ms(&clock_system) / 1000;
	if (!signer_start(&config, &s, &e) || !(client = signer_client_new(s, &e)) ||
	    !crypto_generate(&key, &e)) {
		fprintf(stderr, "bench_sign: %s\n", e.msg);
		return 1;
	}
	buf_init(&spki, mem_system, 4096);
	if (!crypto_spki(key, &spki, &e))
		return 1;
	jwt.jwt = (struct jwt_request){ .spiffe_id = STR("spiffe://bench/agent/7"),
					.audience = { STR("aud") },
					.naudience = 1,
					.issued_s = now_s,
					.expires_s = now_s + 300 };
	x509.x509 = (struct x509_request){ .spiffe_id = STR("spiffe://bench/agent/7"),
					   .spki = buf_str(&spki),
					   .not_before_s = now_s,
					   .not_after_s = now_s + 300 };
	base = raw();
	printf("%-36s %9.0f /s\n", "raw P-256 signatures, one core", base);
	r = through(&jwt);
	printf("%-36s %9.0f /s  ratio %.2f\n", "JWT-SVIDs through the signer", r, r / base);
	r = through(&x509);
	printf("%-36s %9.0f /s  ratio %.2f\n", "X.509-SVIDs through the signer", r, r / base);

	buf_init(&token, mem_system, 8192);
	jwt.out = &token;
	if (!signer_call(client, &jwt, &e) || !bundle_set_add(set, STR("bench"), 1, 300, &b, &e) ||
	    !bundle_add_jwt_key(b, signer_public(s)->jwt_kid, signer_public(s)->jwt_spki, &e))
		return 1;
	printf("%-36s %9.0f /s\n", "JWT-SVIDs verified", verify(set, buf_str(&token), 0));
	printf("%-36s %9.0f /s\n", "JWT-SVIDs verified before (cache)",
	       verify(set, buf_str(&token), 16));
	signer_client_free(client);
	signer_stop(s);
	bundle_set_release(set);
	buf_clear(&token);
	buf_clear(&spki);
	EVP_PKEY_free(key);
	snprintf(path, sizeof(path), "rm -rf %s", folder);
	return system(path); // NOLINT(cert-env33-c): our own temporary folder
}
