/*
 * doctor_envoy - what weakens ext_authz and ext_proc in an Envoy configuration.
 *
 * Purpose    `writ doctor --envoy FILE`: names what would let a request pass unasked, hide from
 *            writ what the request is, or let a client say who it is. Bootstraps, listeners and
 *            single filters, in snake_case or camelCase.
 * Ownership  Borrows the values; texts given to `find` live until it returns.
 * Threads    One owner.
 */
#ifndef WRIT_CLI_DOCTOR_ENVOY_H
#define WRIT_CLI_DOCTOR_ENVOY_H

#include "authz/base/json.h"

struct envoy_finding {
	const char *severity; /* "error", "warning", "info" */
	const char *name, *message;
};

/* Call @find for each weakness in @root. @body_limit: limits.body of writ, in bytes. */
void doctor_envoy(const struct json *root, size_t body_limit,
		  void (*find)(void *ctx, const struct envoy_finding *f), void *ctx);

#endif
