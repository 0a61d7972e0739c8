/*
 * table - the parts of the table of commands.
 *
 * Purpose    A large subject has its rows in a file of its own; table.c puts them together.
 * Threads    Constants.
 */
#ifndef WRIT_CLI_TABLE_H
#define WRIT_CLI_TABLE_H

#include "authz/cli/command.h"

#define END_OPTIONS                        \
	{                                  \
		NULL, NULL, NULL, 0, false \
	}

#define END_COMMANDS         \
	{                    \
		.name = NULL \
	}

extern const struct command cli_policy_commands[]; /* table_policy.c */
extern const struct command cli_audit_commands[];  /* table_audit.c */
extern const struct command cli_tool_commands[];   /* table_tool.c */

#endif
