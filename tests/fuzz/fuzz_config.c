/* Any bytes as writ.lua: refused with a message, or taken, and then safe: plaintext on loopback
 * only, a fixed caller on such a listener only, everything within its bounds, twice the same. */
#include <stdint.h>
#include <stdlib.h>

#include "authz/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void must_not_happen(void *ctx, const char *name, bool restart)
{
	(void)ctx;
	(void)name;
	(void)restart;
	abort();
}

static void check_listeners(const struct config *c)
{
	for (size_t i = 0; i < c->nlisteners; i++) {
		const struct config_listener *l = &c->listeners[i];

		if (!l->tls && !l->loopback)
			abort();
		if ((l->caller_roles || l->caller_id) && (l->tls || !l->loopback))
			abort();
		if (l->unix_socket && l->address[0] != '/')
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str text = { (const char *)p, n };
	struct config *a = NULL, *b = NULL;
	struct err e = { 0 };

	if (!config_parse(text, "writ.lua", "/etc/writ", &a, &e)) {
		if (e.class == ERR_NONE || !e.msg[0] || a)
			abort();
		return 0;
	}
	check_listeners(a);
	for (size_t i = 0; i < a->ncallers; i++)
		if (!a->callers[i].roles)
			abort();
	if (a->limits.in_flight < a->limits.body || a->data[0] != '/' || !a->trust_domain[0])
		abort();
	if (!config_parse(text, "writ.lua", "/etc/writ", &b, &e))
		abort();
	config_diff(a, b, must_not_happen, NULL);
	config_free(a);
	config_free(b);
	return 0;
}
