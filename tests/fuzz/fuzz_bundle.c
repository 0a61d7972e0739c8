/* Whatever an endpoint serves: a bundle that is accepted can be published, and is read back to the
 * same keys; a refusal says why. */
#include <stdint.h>
#include <stdlib.h>

#include "spiffe/federation_read.h"

static void publish(const struct bundle_set *set, struct buf *out)
{
	buf_init(out, mem_system, (size_t)4 * 1024 * 1024);
	bundle_json(set->items[0], out);
	if (!buf_ok(out))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct bundle_set *set = bundle_set_new(0, NULL), *again = bundle_set_new(0, NULL);
	struct federation_document d = { 0 };
	struct str text = { (const char *)p, n };
	struct err e = { 0 };
	struct buf once, twice;

	if (!set || !again)
		abort();
	if (federation_read(text, STR("a.example"), set, &d, &e)) {
		publish(set, &once);
		if (!federation_read(buf_str(&once), STR("a.example"), again, &d, &e))
			abort();
		publish(again, &twice);
		if (!str_eq(buf_str(&once), buf_str(&twice)))
			abort();
		buf_clear(&once);
		buf_clear(&twice);
	} else if (e.class == ERR_NONE || !e.msg[0]) {
		abort();
	}
	bundle_set_release(set);
	bundle_set_release(again);
	return 0;
}
