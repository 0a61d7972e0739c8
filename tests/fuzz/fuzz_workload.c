/* Requests of the Workload API and of SDS: what is accepted keeps its promises. */
#include <stdint.h>
#include <stdlib.h>

#include "authz/base/text.h"
#include "spiffe/workload_api_sds_wire.h"
#include "spiffe/workload_api_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str in = { (const char *)p, n };
	struct workload_validate_request v;
	struct workload_jwt_request j;
	struct sds_request s;
	struct spiffe_id id;
	struct err e;

	if (workload_read_jwt(in, &j, &e)) {
		if (!j.naudience || j.naudience > JWT_AUDIENCES_MAX)
			abort();
		for (size_t i = 0; i < j.naudience; i++)
			if (!j.audience[i].n || !text_is_utf8(j.audience[i]))
				abort();
		if (j.spiffe_id.n && !spiffe_id_parse_workload(j.spiffe_id, &id, &e))
			abort();
	}
	if (workload_read_validate(in, &v, &e) && (!v.audience.n || !v.svid.n))
		abort();
	if (sds_read(in, &s, &e)) {
		if (s.nnames > SDS_NAMES_MAX)
			abort();
		for (size_t i = 0; i < s.nnames; i++)
			if (!s.names[i].n || memchr(s.names[i].p, '\n', s.names[i].n) ||
			    (i && str_cmp(s.names[i - 1], s.names[i]) >= 0))
				abort();
	}
	return 0;
}
