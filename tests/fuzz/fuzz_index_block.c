/* A block of index.db: what is read is in order, within bounds, and what it was written from. */
#include <stdlib.h>

#include "authz/audit/index_store.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct index_term want = { .mark = 0x1234 };
	uint64_t out[INDEX_BLOCK_ENTRIES], first = 0;
	int got;

	if (n < 9)
		return 0;
	want.marked = p[0] & 1;
	memcpy(&first, p + 1, 8);
	first &= INT64_MAX;
	got = index_block_decode((struct str){ (const char *)p + 9, n - 9 }, first, want, out);
	if (got > INDEX_BLOCK_ENTRIES || got < -1)
		abort();
	for (int i = 0; i < got; i++)
		if (out[i] < first || out[i] > INT64_MAX ||
		    (i && (want.marked ? out[i] < out[i - 1] : out[i] <= out[i - 1])))
			abort();
	return 0;
}
