/* bench_sign: raw P-256 signing against JWT-SVIDs and X.509-SVIDs through the signer process, by a
 * client that keeps 64 requests in flight; the same with keys in a token of SoftHSM, where it is
 * installed; and verification with and without the cache. */
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

/* ---- keys in a token ---- */

#define MODULE "/usr/lib/softhsm/libsofthsm2.so"

static bool make_token(const char *folder)
{
	char text[512];
	FILE *f;

	snprintf(text, sizeof(text), "%s/softhsm2.conf", folder);
	setenv("SOFTHSM2_CONF", text, 1);
	f = fopen(text, "we");
	if (!f)
		return false;
	fprintf(f, "directories.tokendir = %s\n", folder);
	fclose(f);
	snprintf(text, sizeof(text),
		 "umask 077; echo 4711 >%s/pin; softhsm2-util --init-token --free --label bench "
		 "--so-pin 12345678 --pin 4711 >%s/said",
		 folder, folder);
	return system(text) == 0; // NOLINT(cert-env33-c): our own words
}

/* As rotation does it: made in the token, then taken into hand. */
static bool move_to_token(enum authority_kind kind, struct err *e)
{
	struct signer_job job = { .op = SIGNER_MAKE_KEY, .make = kind };
	struct signer_made made;
	struct buf answer, none;
	bool ok;

	buf_init(&answer, mem_system, 65536);
	buf_init(&none, mem_system, 64);
	job.out = &answer;
	ok = signer_call(client, &job, e) && signer_made_read(buf_str(&answer), &made, e);
	if (ok) {
		job = (struct signer_job){ .op = SIGNER_USE_KEY,
					   .use = { kind, made.id, made.sealed },
					   .out = &none };
		ok = signer_call(client, &job, e);
	}
	buf_clear(&answer);
	buf_clear(&none);
	return ok;
}

static bool with_token(const struct signer_config *of, const char *folder,
		       const struct signer_job *jwt, const struct signer_job *x509, double base,
		       struct err *e)
{
	struct signer_config config = *of;
	char keys[128], pin[128];
	struct signer *s;
	double r;

	snprintf(keys, sizeof(keys), "%s/token-keys", folder);
	snprintf(pin, sizeof(pin), "%s/pin", folder);
	config.folder = keys;
	config.token = (struct signer_token_config){ .module = MODULE,
						     .pin_file = pin,
						     .uris = { "pkcs11:token=bench",
							       "pkcs11:token=bench" } };
	if (!make_token(folder))
		return err_set(e, ERR_IO, "no token could be made");
	if (!signer_start(&config, &s, e) || !(client = signer_client_new(s, e)) ||
	    !move_to_token(AUTHORITY_JWT, e) || !move_to_token(AUTHORITY_X509, e))
		return false;
	r = through(jwt);
	printf("%-36s %9.0f /s  ratio %.2f\n", "JWT-SVIDs, key in SoftHSM", r, r / base);
	r = through(x509);
	printf("%-36s %9.0f /s  ratio %.2f\n", "X.509-SVIDs, key in SoftHSM", r, r / base);
	signer_client_free(client);
	signer_stop(s);
	return true;
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
	if (access(MODULE, R_OK) == 0 && !with_token(&config, folder, &jwt, &x509, base, &e)) {
		fprintf(stderr, "bench_sign: %s\n", e.msg);
		return 1;
	}
	bundle_set_release(set);
	buf_clear(&token);
	buf_clear(&spki);
	EVP_PKEY_free(key);
	snprintf(path, sizeof(path), "rm -rf %s", folder);
	return system(path); // NOLINT(cert-env33-c): our own temporary folder
}
