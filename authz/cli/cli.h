/*
 * cli - the command line: one table of commands, and the loop over it.
 *
 * Purpose    `writ COMMAND [SUB] [OPTIONS] [OPERANDS]`. Parsing, the usage texts and the look-up
 *            of a near name all read the same table, so none of them can be out of date.
 *            What a person reads goes to stdout, errors to stderr as "writ: what: why; what next".
 *            Exit codes: 0 done, 1 failed or denied, 2 wrong usage; `audit verify` adds 3 and 4.
 * Ownership  Borrows argv.
 * Threads    One at a time; meant for main().
 */
#ifndef WRIT_CLI_CLI_H
#define WRIT_CLI_CLI_H

#include <stdio.h>

#include "authz/cli/command.h"

/* The commands of writ; ends with an entry without a name. */
extern const struct command cli_commands[];

/* What main() calls. */
int cli_main(int argc, char **argv);

/* The same with streams and a table of its own, for tests. */
int cli_run(const struct command *commands, FILE *out, FILE *err, int argc, char **argv);

#endif
