/*
 * command - what a command is made of, and what it finds when it runs.
 *
 * Purpose    A command is a row: name, operands, help, options, and a function. The parser fills
 *            a struct cli and calls the function; a command asks it for its options by name.
 * Ownership  Everything borrows argv and static tables.
 * Threads    One owner.
 */
#ifndef WRIT_CLI_COMMAND_H
#define WRIT_CLI_COMMAND_H

#include <stdio.h>

#include "authz/base/buf.h"
#include "authz/base/json.h"
#include "include/writ/err.h"

#define CLI_OPERANDS 64 /* operands of one command */
#define CLI_OPTIONS 256 /* options given to one command */

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

struct option {
	const char *name;  /* "--owner"; NULL ends a table */
	const char *value; /* "OWNER": what help calls its value; NULL: a flag */
	const char *help;
	char letter; /* 'f' for -f, or 0 */
	bool many;   /* may be given more than once */
};

struct cli;

struct command {
	const char *name;		   /* NULL ends a table */
	const char *operands;		   /* "SPIFFE_ID [FILE]", for help; NULL: none */
	int least, most;		   /* how many operands */
	const char *help;		   /* one line */
	const char *more;		   /* further lines of --help, or NULL */
	const char *rest;		   /* headline of what stands at its end, */
	void (*put_rest)(struct buf *out); /* ... or NULL */
	const struct option *options;
	const struct command *sub; /* a command has either this or run */
	bool connects;		   /* talks to a server: has the options for that */
	int (*run)(struct cli *c);
};

struct cli {
	FILE *out, *err;
	const struct command *commands; /* the top of the table */
	const struct command *command;	/* the one that was found so far, */
	char words[48];			/* ... and how it is typed: "audit tail" */
	bool json;			/* --json was given */
	const char *operands[CLI_OPERANDS];
	size_t noperands;
	struct {
		const struct option *option;
		const char *value; /* "" for a flag */
	} given[CLI_OPTIONS];
	size_t ngiven;
};

/* Options that every command has, and those of every command that connects. */
extern const struct option cli_common[], cli_connect[];

/* Read argv[1...] by @c->commands. True: c->command is to be run. False: *exit_code is final,
 * and help or an error has been printed. */
bool cli_parse(struct cli *c, int argc, char **argv, int *exit_code);

/* The value of an option, or NULL if it was not given; "" for a flag. */
const char *cli_value(const struct cli *c, const char *name);
bool cli_flag(const struct cli *c, const char *name);

/* The file that --output names; NULL for standard output, which - is too. */
const char *cli_output(const struct cli *c);

/* The next value of an option that may be repeated, from *at (start at 0) on; NULL at the end. */
const char *cli_next(const struct cli *c, const char *name, size_t *at);

/* "writ: agent show: <message>" on stderr, or with --json the error as an object.
 * Return CLI_FAILED (CLI_USAGE for the code "wrong_usage") and CLI_USAGE. */
int cli_fail(struct cli *c, const struct err *e);
int cli_misuse(struct cli *c, const char *fmt, ...) PRINTF(2, 3);

#endif
