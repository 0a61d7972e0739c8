/* Nobody forges: the verifier trusts one key that signed one delegated token and one JWT-SVID and
 * was thrown away. Whatever else is accepted as the first is a break, and so is either that passes
 * for the other. Half of the inputs are a change to the token, half are bytes as they come; a
 * verifier with a memory must agree with one without. */
#include <stdlib.h>

#include "spiffe/crypto.h"
#include "spiffe/delegated_token.h"

#define NOW 1800000000
#define US STR_INIT("us")

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct bundle_set *set;
static struct jwt_verifier *plain, *caching;
static struct buf good, svid;
static struct arena arena;
static const struct str us = US;
static const struct delegated_token token = {
	.issuer = STR_INIT("https://a.example"),
	.subject = STR_INIT("alice"),
	.subject_issuer = STR_INIT("https://idp.example"),
	.audience = US,
	.scope = STR_INIT("a b"),
	.chain = { STR_INIT("spiffe://a.example/agent/1"), STR_INIT("spiffe://a.example/agent/2") },
	.nchain = 2,
	.id = STR_INIT("AAAAAAAAAAAAAAAAAAAAAA"),
	.line = { STR_INIT("BBBBBBBBBBBBBBBBBBBBBA") },
	.nline = 1,
	.issued_s = NOW,
	.expires_s = NOW + 300,
};
static const struct jwt_request request = { .spiffe_id = STR_INIT("spiffe://a.example/agent/2"),
					    .audience = { US },
					    .naudience = 1,
					    .issued_s = NOW,
					    .expires_s = NOW + 300,
					    .issuer = STR_INIT("https://a.example") };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	EVP_PKEY *key = NULL;
	struct jwt_signer *s;
	struct bundle *b;
	struct buf spki;
	struct err e;

	(void)argc;
	(void)argv;
	buf_init(&spki, mem_system, 4096);
	buf_init(&good, mem_system, 1 << 16);
	buf_init(&svid, mem_system, 1 << 16);
	arena_init(&arena, &mem_system, 1 << 22);
	set = bundle_set_new(1, &e);
	if (!set || !crypto_generate(&key, &e) || !crypto_spki(key, &spki, &e) ||
	    !bundle_set_add(set, STR("a.example"), 1, 300, &b, &e) ||
	    !bundle_add_jwt_key(b, STR("k"), buf_str(&spki), &e))
		abort();
	s = jwt_signer_new(key, STR("k"), &e);
	plain = jwt_verifier_new(&mem_system, 0, &e);
	caching = jwt_verifier_new(&mem_system, 64, &e);
	if (!s || !plain || !caching || !delegated_token_issue(s, &token, &good, &e) ||
	    !jwt_svid_issue(s, &request, &svid, &e))
		abort();
	jwt_signer_free(s);
	EVP_PKEY_free(key);
	buf_clear(&spki);
	return 0;
}

static void try(struct str text)
{
	const struct delegated_expected x = { .trust_domain = STR("a.example"),
					      .issuer = token.issuer,
					      .audience = &us,
					      .naudience = 1,
					      .now_s = NOW };
	struct delegated_token a, b;
	struct jwt_svid as_svid;
	struct err e = { 0 };
	bool one, two, three;

	arena_reset(&arena);
	one = delegated_token_verify(plain, set, text, &x, &arena, &a, &e);
	if (!one && (e.class != ERR_UNAUTHENTICATED || !e.msg[0]))
		abort();
	two = delegated_token_verify(caching, set, text, &x, &arena, &b, &e);
	three = jwt_svid_verify(caching, set, text, us, NOW, &arena, &as_svid, &e);
	if (one != two || one != str_eq(text, buf_str(&good)) ||
	    three != str_eq(text, buf_str(&svid)))
		abort();
	if (one && (!delegated_token_claimed(text, &arena) || !str_eq(a.subject, token.subject) ||
		    a.nchain != 2 || !str_eq(delegated_actor(&a), token.chain[1]) ||
		    !str_eq(b.id, token.id) || a.expires_s != token.expires_s))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	const struct buf *from;
	struct buf text;
	size_t at, cut;

	if (n < 4)
		return 0;
	if (p[0] & 1) {
		try((struct str){ (const char *)p + 1, n - 1 });
		return 0;
	}
	/* replace a piece of a good one by ours */
	from = p[0] & 2 ? &svid : &good;
	at = ((size_t)p[1] << 8 | p[2]) % (from->n + 1);
	cut = p[3] % (from->n - at + 1);
	buf_init(&text, mem_system, 1 << 20);
	buf_add(&text, str_first(buf_str(from), at));
	buf_add(&text, (struct str){ (const char *)p + 4, n - 4 });
	buf_add(&text, str_from(buf_str(from), at + cut));
	if (buf_ok(&text))
		try(buf_str(&text));
	buf_clear(&text);
	return 0;
}
