/* Whatever is accepted is made of two parts that hold every byte, parses again to the same, matches
 * itself, and is matched by the pattern that stands for all of its trust domain. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "authz/base/pattern.h"
#include "spiffe/id.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str text = { (const char *)p, n }, name;
	struct spiffe_id id, again;
	struct err e;
	char all[SPIFFE_TRUST_DOMAIN_MAX + 16];

	if (!spiffe_id_parse(text, &id, &e)) {
		if (!e.msg[0] || pattern_match(STR("spiffe://a/*"), text))
			abort();
		(void)!pattern_check(text, &e);
		(void)!spiffe_trust_domain_parse(text, &name, &e);
		return 0;
	}
	if (strlen("spiffe://") + id.trust_domain.n + id.path.n != n || n > SPIFFE_ID_MAX)
		abort();
	for (size_t i = 0; i < n; i++)
		if (p[i] <= 0x20 || p[i] >= 0x7f || strchr("%?#@*[]\\", p[i]))
			abort();
	if (id.path.n && (id.path.p[0] != '/' || id.path.p[id.path.n - 1] == '/'))
		abort();
	if (!spiffe_id_parse(text, &again, &e) || !spiffe_id_equal(&id, &again) ||
	    !pattern_check(text, &e) || !pattern_match(text, text))
		abort();
	snprintf(all, sizeof(all), "spiffe://%.*s/*", STR_FMT(id.trust_domain));
	if (pattern_match(str_c(all), text) != (id.path.n > 0))
		abort();
	return 0;
}
