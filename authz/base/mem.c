#include "authz/base/mem.h"

#include <stdlib.h>
#include <string.h>

static void *system_alloc(void *ctx, void *p, size_t old, size_t n)
{
	(void)ctx;
	(void)old;
	if (n == 0) {
		free(p);
		return NULL;
	}
	return realloc(p, n);
}

const struct alloc mem_system = { system_alloc, NULL };

void *mem_zero(const struct alloc *a, size_t n)
{
	void *p = mem_new(a, n);

	if (p)
		memset(p, 0, n);
	return p;
}

void mem_wipe(void *p, size_t n)
{
	if (n)
		explicit_bzero(p, n);
}
