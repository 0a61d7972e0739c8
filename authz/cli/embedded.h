/*
 * embedded - the files of policies/, inside the program.
 *
 * Purpose    `writ init` works from the binary alone. The table is written by scripts/embed at
 *            build time from what is in policies/.
 * Ownership  Constants only.
 */
#ifndef WRIT_CLI_EMBEDDED_H
#define WRIT_CLI_EMBEDDED_H

#include <stddef.h>

struct embedded_file {
	const char *path; /* "policies/finance.lua"; NULL ends the table */
	const unsigned char *text;
	size_t n;
};

extern const struct embedded_file embedded_files[];

#endif
