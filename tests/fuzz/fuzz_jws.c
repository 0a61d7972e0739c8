/* Tokens and key sets of issuers: whatever is taken, every byte of the token belongs to one part,
 * and a set has keys. Nothing random verifies under a key that is not the fuzzer's. */
#include <stdlib.h>

#include "spiffe/jws.h"

#define KEY                                                \
	"{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\"," \
	"\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}" /* RFC 8037 A.2 */

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct jwks *own;
	struct str text = { (const char *)p, n };
	struct jwks *keys = NULL;
	struct arena arena;
	struct err e;
	struct jws j;

	if (!own && !jwks_read(STR(KEY), &own, &e))
		abort();
	arena_init(&arena, &mem_system, 1 << 22);
	if (jws_read(text, &arena, &j, &e)) {
		if (j.signing_input.p != text.p || j.signing_input.n >= n ||
		    p[j.signing_input.n] != '.' || !j.header || !j.claims)
			abort();
		if (jws_verify(&j, own, &e))
			abort();
	}
	if (jwks_read(text, &keys, &e) && !jwks_count(keys))
		abort();
	jwks_free(keys);
	arena_clear(&arena);
	return 0;
}
