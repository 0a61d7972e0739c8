/* A proxy's configuration, as `writ doctor --envoy` reads it: no text makes it fail in another way
 * than by an error. */
#include <stdint.h>
#include <stdlib.h>

#include "authz/cli/doctor_envoy.h"
#include "authz/cli/yaml.h"

static void found(void *ctx, const struct envoy_finding *f)
{
	(void)ctx;
	if (!f->severity || !f->name || !f->message[0])
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	const struct json *v = NULL;
	struct arena a;
	struct err e;

	arena_init(&a, &mem_system, 64 << 20);
	if (yaml_read((struct str){ (const char *)p, n }, &a, &v, &e))
		doctor_envoy(v, 1 << 20, found, NULL);
	else if (e.class == ERR_NONE || !e.msg[0])
		abort();
	arena_clear(&a);
	return 0;
}
