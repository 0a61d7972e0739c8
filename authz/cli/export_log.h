/*
 * export_log - what `writ audit export` shares with its neighbours.
 *
 * Purpose    The range of an export that can be resumed is fixed before it begins; one that follows
 *            the log has no end.
 */
#ifndef WRIT_CLI_EXPORT_LOG_H
#define WRIT_CLI_EXPORT_LOG_H

#include "authz/cli/api.h"

/* How many records there are: by status, else by a fresh checkpoint. False: an error has been
 * printed, *exit_code is set. */
bool audit_log_size(struct cli *c, uint64_t *size, int *exit_code);

/* export_follow.c: print records as they come, until something ends it. Options are checked. */
int audit_export_follow(struct cli *c);

#endif
