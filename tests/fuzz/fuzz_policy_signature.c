/* A statement that is read is one that was written, byte for byte; keys that are read are written
 * back as keys; and nothing without a good signature by a pinned key is ever opened. */
#include <stdint.h>
#include <stdlib.h>

#include "authz/decide/signing.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str in = { (const char *)p, n };
	struct signing_statement s;
	struct signing_keys keys;
	const struct note_key *by;
	struct err e;
	AUTO_BUF out;

	buf_init(&out, mem_system, 1 << 20);
	if (signing_parse(in, &s, &e)) {
		signing_format(&out, &s);
		if (!s.version || !str_eq(buf_str(&out), in))
			abort();
	}
	buf_reset(&out);
	if (signing_keys_parse(in, &keys, &e)) {
		for (size_t i = 0; i < keys.n; i++) {
			buf_char(&out, ' ');
			note_key_format(&keys.keys[i], &out);
		}
		if (!keys.n || keys.n > SIGNING_KEYS ||
		    !signing_keys_parse(buf_str(&out), &keys, &e))
			abort();
	}
	/* A key of no known private half: whatever opens is forged. */
	keys = (struct signing_keys){ .n = 1 };
	if (note_key_make(STR("policies"), (const uint8_t[32]){ 9, 8, 7 }, &keys.keys[0], &e) &&
	    signing_open(in, &keys, (const uint8_t[SHA256_LEN]){ 0 }, &s, &by, &e))
		abort();
	return 0;
}
