/* A body of add-checkpoint that is accepted means its bytes, and only them; nothing that a stranger
 * sends is judged to go on from a tree without a proof of it. */
#include <stdint.h>
#include <stdlib.h>

#include "authz/audit/cosign.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const struct cosign_held held = { .found = true, .size = 3, .root = { 1, 2, 3 } };
	struct str in = { (const char *)p, n };
	struct cosign_request r;
	struct checkpoint c;
	struct note note;
	struct sha256 *sha;
	struct err e = { 0 };
	struct buf out;
	uint64_t size;

	if (cosign_size_parse(in, &size) && size > INT64_MAX)
		abort();
	if (!cosign_request_parse(in, &r, &e)) {
		if (e.class != ERR_INVALID && e.class != ERR_TOO_LARGE)
			abort();
		return 0;
	}
	buf_init(&out, mem_system, 2 * COSIGN_REQUEST_MAX);
	cosign_request_format(&r, &out);
	if (!str_eq(buf_str(&out), in))
		abort();
	buf_clear(&out);
	sha = sha256_new(&e);
	if (sha && note_parse(r.note, &note, &e) && checkpoint_parse(note.text, &c, &e) &&
	    cosign_judge(sha, &held, &r, &c) == COSIGN_FOLLOWS &&
	    (c.size < held.size || r.old != held.size ||
	     (c.size == held.size && memcmp(c.root, held.root, SHA256_LEN) != 0)))
		abort();
	sha256_free(sha);
	return 0;
}
