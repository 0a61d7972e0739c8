/* Discovery documents of issuers: whatever is taken names the issuer that was asked for, and both
 * it and the URL stand in the text. */
#include <stdlib.h>
#include <string.h>

#include "spiffe/attest_source.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const char issuer[] = "https://a.b";
	struct str text = { (const char *)p, n };
	char url[FETCH_URL_MAX + 1];
	struct err e;

	if (!attest_discovery_read(text, STR("https://a.b"), url, &e))
		return 0;
	/* Both stand there, unless a name or text is escaped. */
	if (!memchr(p, '\\', n) && (!memmem(p, n, issuer, sizeof(issuer) - 1) ||
				    !memmem(p, n, url, strlen(url)) || !memmem(p, n, "issuer", 6)))
		abort();
	return 0;
}
