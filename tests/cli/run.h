/* Run one command line in the process and keep what it printed. */
#ifndef WRIT_TESTS_CLI_RUN_H
#define WRIT_TESTS_CLI_RUN_H

#include "authz/cli/cli.h"

struct run {
	char *out, *err;
	size_t nout, nerr;
	int exit_code;
};

/* Words of @line are separated by single spaces. */
struct run run_line(const struct command *commands, const char *line);
void run_free(struct run *r);

#define AUTO_RUN __attribute__((cleanup(run_free))) struct run

#endif
