/*
 * policy_data - the data folder of a server on this machine, read beside it.
 *
 * Purpose    Replay and explain compute from log.db and writ.db themselves, so that a long run
 *            costs the server nothing. Both are opened for reading only.
 * Ownership  Cleared by policy_data_close. A set is a reference of the caller's.
 * Threads    One owner.
 */
#ifndef WRIT_CLI_POLICY_DATA_H
#define WRIT_CLI_POLICY_DATA_H

#include "authz/cli/command.h"
#include "authz/config.h"
#include "authz/policy/policy.h"

struct policy_data {
	struct config *config;
	struct policy_limits limits;
};

MUST_USE bool policy_data_open(const struct cli *c, struct policy_data *d, struct err *e);
void policy_data_close(struct policy_data *d);

/* A number is a stored generation, anything else a folder. @what says which, for people. */
MUST_USE bool policy_data_set(const struct policy_data *d, const char *text,
			      struct policy_set **out, char *what, size_t nwhat, struct err *e);

/* The log key's id, as it stands in evaluation ids; empty if nothing was signed yet. */
void policy_data_key_id(const struct policy_data *d, char out[static 9]);

#endif
