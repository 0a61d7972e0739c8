/*
 * witnesses - the wiring between the settings and those who watch each other's logs.
 *
 * Purpose    From `audit.witnesses` the cosigner with its thread, from `witness.logs` what the
 *            control thread cosigns.
 * Ownership  What is made borrows from the configuration and lives in the arena, but the cosigner.
 * Threads    Start-up.
 */
#ifndef WRIT_WITNESSES_H
#define WRIT_WITNESSES_H

#include "authz/audit/cosigner.h"
#include "authz/config.h"
#include "authz/decide/witnessing.h"

/* *out NULL: there are no witnesses; then what they signed before is not shown any longer. */
MUST_USE bool witnesses_start(struct config *c, const char *folder, struct audit *audit,
			      struct arena *arena, struct cosigner **out, struct err *e);

/* In @arena; NULL with ERR_NONE: no log is witnessed. */
const struct witnessing_config *witnesses_of(const struct config *c,
					     const uint8_t public_key[static 32],
					     struct arena *arena, struct err *e);

#endif
