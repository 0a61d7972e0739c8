#include "authz/audit/index_pace.h"

#define WINDOW_NS INT64_C(50000000) /* a shorter one would take one batch for a flood */

bool index_pace_waits(struct index_pace *p, uint64_t size, uint64_t indexed, int64_t now_ns)
{
	int64_t passed = now_ns - p->at_ns;

	if (!p->at_ns || size < p->size) { /* or another log */
		p->busy = false;
		p->size = size;
		p->at_ns = now_ns;
	} else if (passed >= WINDOW_NS) {
		/* In floating point: a log that was found long is no overflow. */
		p->busy = (double)(size - p->size) * 1e9 > (double)passed * INDEX_BUSY_PER_S;
		p->size = size;
		p->at_ns = now_ns;
	}
	return p->busy && size > indexed && size - indexed < p->lag_max;
}
