/*
 * pins_file - a file of the catalogue that holds the pins of one server's tools.
 *
 * Purpose    Writes what `writ tool pin` found out so that people can review it line by line in a
 *            diff and the loader reads it: the digest, and the definition as JSON with its members
 *            in order. A file is written whole; one that somebody else wrote is never touched.
 * Ownership  Texts live in the caller's arena or buf.
 * Threads    No state.
 */
#ifndef WRIT_CLI_PINS_FILE_H
#define WRIT_CLI_PINS_FILE_H

#include "authz/policy/definition.h"
#include "authz/policy/policy.h"

#define PINS_FILE_MAX (256 * 1024) /* bytes of one file of a policy set */

struct pins_tool {
	struct definition definition;
	const struct json *value;
};

/* The text of the file. Without @full the digests alone. */
void pins_write(struct buf *out, struct str server, const struct pins_tool *tools, size_t n,
		bool full);

/* Was this text written for @server by pins_write? */
bool pins_are_ours(struct str text, struct str server);

/* Read a file of pins by the loader itself. The pins are those of *set. */
MUST_USE bool pins_read(struct str text, struct policy_set **set, struct err *e);

#endif
