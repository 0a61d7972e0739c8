#include "authz/base/digest.h"

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>

#include "authz/base/mem.h"

#define POOL_LEN 1024

struct sha256 {
	EVP_MD *md;
	EVP_MD_CTX *ctx;
	uint8_t pool[POOL_LEN];
	size_t pooled; /* bytes of the pool not yet given out: its first */
};

struct sha256 *sha256_new(struct err *e)
{
	struct sha256 *s = calloc(1, sizeof(*s));

	if (s) {
		s->md = EVP_MD_fetch(NULL, "SHA256", NULL);
		s->ctx = EVP_MD_CTX_new();
	}
	if (!s || !s->md || !s->ctx || !EVP_DigestInit_ex2(s->ctx, s->md, NULL)) {
		sha256_free(s);
		err_set(e, ERR_INTERNAL, "OpenSSL offers no SHA-256");
		return NULL;
	}
	return s;
}

void sha256_free(struct sha256 *s)
{
	if (!s)
		return;
	EVP_MD_CTX_free(s->ctx);
	EVP_MD_free(s->md);
	mem_wipe(s->pool, sizeof(s->pool));
	free(s);
}

void sha256_parts(struct sha256 *s, const struct str *parts, size_t n,
		  uint8_t out[static SHA256_LEN])
{
	bool ok = EVP_DigestInit_ex2(s->ctx, NULL, NULL) == 1;

	for (size_t i = 0; i < n; i++)
		ok = ok && EVP_DigestUpdate(s->ctx, parts[i].p, parts[i].n) == 1;
	if (!ok || EVP_DigestFinal_ex(s->ctx, out, NULL) != 1)
		abort();
}

void sha256_begin(struct sha256 *s)
{
	if (EVP_DigestInit_ex2(s->ctx, NULL, NULL) != 1)
		abort();
}

void sha256_add(struct sha256 *s, struct str piece)
{
	if (EVP_DigestUpdate(s->ctx, piece.p, piece.n) != 1)
		abort();
}

void sha256_end(struct sha256 *s, uint8_t out[static SHA256_LEN])
{
	if (EVP_DigestFinal_ex(s->ctx, out, NULL) != 1)
		abort();
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
