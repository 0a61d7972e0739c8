/*
 * The functions of SHA-256 itself, which OpenSSL 3 calls deprecated. EVP puts a call through a
 * provider in front of the same code, and allocates, wipes and frees a context for every digest:
 * for the short texts of records, a fifth of the time.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "authz/base/digest.h"

#include <assert.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdlib.h>

#include "authz/base/mem.h"

#define POOL_LEN 1024

struct sha256 {
	SHA256_CTX ctx;
	uint8_t pool[POOL_LEN];
	size_t pooled; /* bytes of the pool not yet given out: its first */
};

struct sha256 *sha256_new(struct err *e)
{
	struct sha256 *s = calloc(1, sizeof(*s));

	if (!s)
		err_set(e, ERR_NOMEM, "no memory for a digest");
	return s;
}

void sha256_free(struct sha256 *s)
{
	if (!s)
		return;
	mem_wipe(s, sizeof(*s));
	free(s);
}

void sha256_begin(struct sha256 *s)
{
	if (SHA256_Init(&s->ctx) != 1)
		abort();
}

void sha256_add(struct sha256 *s, struct str piece)
{
	if (SHA256_Update(&s->ctx, piece.p, piece.n) != 1)
		abort();
}

void sha256_end(struct sha256 *s, uint8_t out[static SHA256_LEN])
{
	if (SHA256_Final(out, &s->ctx) != 1)
		abort();
}

void sha256_parts(struct sha256 *s, const struct str *parts, size_t n,
		  uint8_t out[static SHA256_LEN])
{
	sha256_begin(s);
	for (size_t i = 0; i < n; i++)
		sha256_add(s, parts[i]);
	sha256_end(s, out);
}

void sha256_of(struct sha256 *s, struct str text, uint8_t out[static SHA256_LEN])
{
	sha256_parts(s, &text, 1, out);
}

void sha256_salt(struct sha256 *s, void *out, size_t n)
{
	assert(n <= 64);
	if (s->pooled < n) {
		random_bytes(s->pool, sizeof(s->pool));
		s->pooled = sizeof(s->pool);
	}
	s->pooled -= n;
	memcpy(out, s->pool + s->pooled, n);
	mem_wipe(s->pool + s->pooled, n);
}

void random_bytes(void *out, size_t n)
{
	if (n > INT32_MAX || RAND_bytes(out, (int)n) != 1)
		abort();
}
