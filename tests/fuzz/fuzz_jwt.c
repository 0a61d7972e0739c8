/* Nobody forges: the verifier trusts one key whose private half was thrown away after signing one
 * token. Whatever else is accepted is a break. Half of the inputs are a change to the good token,
 * half are bytes as they come; a verifier with a cache must agree with one without. */
#include <stdlib.h>

#include "spiffe/crypto.h"
#include "spiffe/jwt_svid.h"

#define NOW 1800000000

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct bundle_set *set;
static struct jwt_verifier *plain, *caching;
static struct buf good;
static struct arena arena;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct jwt_request r = { .spiffe_id = STR("spiffe://a.example/agent/7"),
				       .audience = { STR("us") },
				       .naudience = 1,
				       .issued_s = NOW,
				       .expires_s = NOW + 300 };
	EVP_PKEY *key = NULL;
	struct jwt_signer *s;
	struct bundle *b;
	struct buf spki;
	struct err e;

	(void)argc;
	(void)argv;
	buf_init(&spki, mem_system, 4096);
	buf_init(&good, mem_system, 1 << 16);
	arena_init(&arena, &mem_system, 1 << 22);
	set = bundle_set_new(1, &e);
	if (!set || !crypto_generate(&key, &e) || !crypto_spki(key, &spki, &e) ||
	    !bundle_set_add(set, STR("a.example"), 1, 300, &b, &e) ||
	    !bundle_add_jwt_key(b, STR("k"), buf_str(&spki), &e))
		abort();
	s = jwt_signer_new(key, STR("k"), &e);
	plain = jwt_verifier_new(&mem_system, 0, &e);
	caching = jwt_verifier_new(&mem_system, 64, &e);
	if (!s || !plain || !caching || !jwt_svid_issue(s, &r, &good, &e))
		abort();
	jwt_signer_free(s);
	EVP_PKEY_free(key);
	buf_clear(&spki);
	return 0;
}

static void try(struct str token)
{
	struct jwt_svid a, b;
	struct err e = { 0 };
	bool one, two;

	arena_reset(&arena);
	one = jwt_svid_verify(plain, set, token, STR("us"), NOW, &arena, &a, &e);
	two = jwt_svid_verify(caching, set, token, STR("us"), NOW, &arena, &b, &e);
	if (one != two || one != str_eq(token, buf_str(&good)))
		abort();
	if (one && (!str_eq(a.text, STR("spiffe://a.example/agent/7")) || !str_eq(a.text, b.text) ||
		    a.expires_s != b.expires_s))
		abort();
	if (!one && (e.class != ERR_UNAUTHENTICATED || !e.msg[0]))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct buf token;
	size_t at, cut;

	if (n < 4)
		return 0;
	if (p[0] & 1) {
		try((struct str){ (const char *)p + 1, n - 1 });
		return 0;
	}
	/* replace a piece of the good token by ours */
	at = ((size_t)p[1] << 8 | p[2]) % (good.n + 1);
	cut = p[3] % (good.n - at + 1);
	buf_init(&token, mem_system, 1 << 20);
	buf_add(&token, str_first(buf_str(&good), at));
	buf_add(&token, (struct str){ (const char *)p + 4, n - 4 });
	buf_add(&token, str_from(buf_str(&good), at + cut));
	if (buf_ok(&token))
		try(buf_str(&token));
	buf_clear(&token);
	return 0;
}
